// A log that comes back without its newest marks, though with its end, as a nats-server gives it that found a wrong byte in a file of its.
import { connect } from '@nats-io/transport-node'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { distributorSettings } from '../../../services/distributor/config.ts'
import { Dictionary, NONE } from '../../../services/distributor/log/dictionary.ts'
import { PartitionWriter } from '../../../services/distributor/log/partition-writer.ts'
import { writerMetrics } from '../../../services/distributor/log/writer-metrics.ts'
import { ingesterSettings } from '../../../services/ingester/config.ts'
import { leadPartition } from '../../../services/ingester/leader.ts'
import { Owner } from '../../../services/ingester/log/owner.ts'
import { ownerMetrics } from '../../../services/ingester/log/owner-metrics.ts'
import { sleep, systemClock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { connectNats } from '../../../shared/bus/nats/nats-bus.ts'
import type { Bus, KvBucket } from '../../../shared/bus/port.ts'
import { defaultsOf } from '../../../shared/config/settings.ts'
import { fenceSubject, LOG_BUCKET, logConfig, logName, markSubject } from '../../../shared/contracts/log.ts'
import { KnownEnds } from '../../../shared/kv/known-ends.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { createMetrics } from '../../../shared/telemetry/metrics.ts'
import { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import { findNatsServer, type NatsServer, startNatsServer } from '../../cluster/nats-server.ts'

const found = findNatsServer()
if ('reason' in found) console.warn(`skipped: lost marks on NATS ${found.reason}`)

const told = { clock: systemClock, log: silentLog }

describe.skipIf('reason' in found)('on a real nats-server', () => {
  let server: NatsServer
  let bus: Bus & { close(): Promise<void> }
  let bucket: KvBucket
  beforeEach(async () => {
    server = await startNatsServer()
    bus = await connectNats({ servers: server.url, name: 'test', clock: systemClock })
    bucket = await bus.bucket(LOG_BUCKET, { replicas: 1 })
    const { name, subjects, bytesMax } = logConfig(0, { bytesMax: 1 << 24, replicas: 1 })
    const config = {
      subjects: subjects.map((each) => `cln.${each}`),
      storage: 'file',
      max_bytes: bytesMax,
      allow_direct: true,
    }
    await api(`STREAM.CREATE.cln-${name}`, { name: `cln-${name}`, ...config }) // as `ensure` makes it, but its messages may be deleted
  })
  afterEach(async () => {
    await bus.close()
    await server.stop()
  })

  async function api(subject: string, asked: object): Promise<void> {
    const nc = await connect({ servers: server.url })
    const reply = await nc.request(`$JS.API.${subject}`, JSON.stringify(asked))
    await nc.close()
    if (reply.json<{ error?: unknown }>().error !== undefined) throw new Error(reply.string())
  }

  function writer(): PartitionWriter {
    const ends = new KnownEnds({ bus, clock: systemClock, log: silentLog, id: 'test' })
    return new PartitionWriter(0, {
      ...{ bus, clock: systemClock, random: seededRandom(2), metrics: writerMetrics(createMetrics()) },
      known: (partition) => ends.read(partition),
      config: defaultsOf(distributorSettings, { lingerMs: 1 }),
      without: new Set<string>(),
    })
  }

  function push(to: PartitionWriter): Promise<number | undefined> {
    const dictionary = new Dictionary()
    const name = Buffer.from('a')
    const region = { bytes: name, start: 0, end: name.length }
    const ref = dictionary.add(
      dictionary.intern('acme'),
      region,
      { labels: ['__name__', 'a'], hash: 1, partition: 0 },
      NONE,
    )
    to.begin()
    to.float(dictionary, ref, 1_000, new Uint32Array(2), 0, 0)
    return to.commit()
  }

  test('APPEND-4, LEADER-3: who starts anew writes nothing that owners skip, and may write as soon as the leader has seen it', async () => {
    const config = defaultsOf(ingesterSettings, { segmentMinMs: 100 })
    const metrics = ownerMetrics(createMetrics())
    const [id, without] = ['i1', new Set<string>()]
    const owner = new Owner({
      ...{ ...told, partition: 0, id, bus, bucket, config, metrics, without },
      strings: new StringTable(),
    })
    await owner.start()
    await expect.poll(() => owner.isCaughtUp).toBe(true)
    const random = seededRandom(3)
    const lead = async () => {
      await owner.readEnd()
      await leadPartition(owner, { ...told, bus, bucket, random, config, metrics, id })
    }
    for (let number = 1; number <= 5; number++) {
      owner.wantsMark = true
      await lead()
      await expect.poll(() => owner.state.segment).toBe(number)
      await sleep(systemClock, 120)
    }
    const fence = await bus.logs.append(logName(0), fenceSubject(0), new Uint8Array(1), { timeoutMs: 1_000 })
    await owner.waitFor(fence.seq, 5_000)

    for (const seq of [3, 4, 5]) await api('STREAM.MSG.DELETE.cln-log-0', { seq })
    const { messages } = await bus.logs.lastPerSubject(logName(0), [markSubject(0)], 1_000)
    expect(messages[0]!.seq, 'the newest mark is the second').toBe(2)
    const anew = writer()
    await anew.refresh()
    expect(anew.refusal()).toMatchObject({ code: 'err-carillon-no-mark' })
    await lead()
    await anew.refresh()
    expect(anew.refusal()).toBeUndefined()
    const seq = (await push(anew))!
    await owner.waitFor(seq, 5_000)
    expect(owner.state.segment).toBe(6)
    expect(owner.state.samplesApplied).toBe(1)
    await owner.stop()
  })
})
