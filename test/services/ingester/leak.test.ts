// OWNER-6: a partition that moves away, or that could not be followed, leaves nothing behind; and what is held is told.
import v8 from 'node:v8'
import vm from 'node:vm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ingesterSettings } from '../../../services/ingester/config.ts'
import { Owner } from '../../../services/ingester/log/owner.ts'
import { ownerMetrics } from '../../../services/ingester/log/owner-metrics.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { createMemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import { connectNats } from '../../../shared/bus/nats/nats-bus.ts'
import type { Bus, KvBucket } from '../../../shared/bus/port.ts'
import { defaultsOf } from '../../../shared/config/settings.ts'
import { batchSubject, LOG_BUCKET, logConfig, logName, markSubject } from '../../../shared/contracts/log.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { createMetrics } from '../../../shared/telemetry/metrics.ts'
import { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import { findNatsServer, startNatsServer } from '../../cluster/nats-server.ts'
import { until } from '../../suites/bus-ground.ts'
import { changed, FlushGround } from './flush-ground.ts'
import { LogWriter } from './log-writer.ts'

v8.setFlagsFromString('--expose-gc')
const gc = vm.runInNewContext('gc') as () => void

/** How many of these are still reachable, once what is on its way has arrived. */
async function reachable(refs: readonly WeakRef<object>[], waitMs = 10_000): Promise<number> {
  const untilMs = performance.now() + waitMs
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 50)) // a WeakRef that was read holds until the turn is over
    gc()
    const count = refs.filter((ref) => ref.deref() !== undefined).length
    if (count === 0 || performance.now() >= untilMs) return count
  }
}

const grounds = {
  async memory() {
    const bus = createMemoryHub({ clock: systemClock, random: seededRandom(1) }).connect('i1')
    return { bus, close: () => bus.close() }
  },
  async 'a real nats-server'() {
    const server = await startNatsServer()
    const bus = await connectNats({ servers: server.url, name: 'i1', clock: systemClock })
    const close = async () => {
      await bus.close()
      await server.stop()
    }
    return { bus, close }
  },
}

const SERIES = 20_000

describe.each(Object.keys(grounds) as (keyof typeof grounds)[])('owners come and go: %s', (kind) => {
  const isAbsent = kind !== 'memory' && 'reason' in findNatsServer()
  let ground: Awaited<ReturnType<(typeof grounds)[typeof kind]>>
  let bus: Bus
  let bucket: KvBucket
  const strings = new StringTable()

  beforeAll(async () => {
    if (isAbsent) return
    ground = await grounds[kind]()
    bus = ground.bus
    bucket = await bus.bucket(LOG_BUCKET)
    await bus.logs.ensure(logConfig(0, { bytesMax: 1 << 28, replicas: 1 }))
    const writer = new LogWriter()
    const append = (subject: string, payload: Uint8Array) =>
      bus.logs.append(logName(0), subject, payload, { timeoutMs: 5_000 })
    await append(markSubject(0), writer.mark(1))
    for (let from = 0; from < SERIES; from += 500) {
      const batch = writer.batch(Array.from({ length: 500 }, (_, i) => [`series_${from + i}`, 1_700_000_000_000, i]))
      writer.session!.markStored(batch, (await append(batchSubject(0), batch.seal())).seq)
    }
  })
  afterAll(() => ground?.close())

  const make = (view: Bus = bus) =>
    new Owner({
      ...{ partition: 0, id: 'i1', bus: view, bucket, clock: systemClock, log: silentLog },
      ...{ config: defaultsOf(ingesterSettings, {}), metrics: ownerMetrics(createMetrics()), strings },
      without: new Set<string>(),
    })

  async function comeAndGo(refs: WeakRef<object>[]): Promise<void> {
    const owner = make()
    await owner.start()
    await until(() => owner.isCaughtUp, 'the end of the log')
    refs.push(
      new WeakRef(owner),
      new WeakRef(owner.state),
      ...[...owner.state.heads.values()].map((head) => new WeakRef(head)),
    )
    await owner.stop()
  }

  async function fail(refs: WeakRef<object>[], change: Parameters<typeof changed>[1]): Promise<void> {
    const owner = make(changed(bus, change))
    const hasStarted = await owner.start().then(
      () => true,
      () => false,
    )
    expect(hasStarted).toBe(false)
    refs.push(new WeakRef(owner), new WeakRef(owner.state))
    await owner.stop()
  }

  test.skipIf(isAbsent)('those that went are reachable by nobody, and their strings are given back', async () => {
    const refs: WeakRef<object>[] = []
    for (let i = 0; i < 10; i++) await comeAndGo(refs)
    expect(await reachable(refs)).toBe(0)
    expect(refs.length).toBeGreaterThanOrEqual(30)
    expect(strings.count, 'the same numbers serve again').toBeLessThan(SERIES + 10)
  })

  test.skipIf(isAbsent)('nor are those that could not start', async () => {
    const refs: WeakRef<object>[] = []
    const away = () => Promise.reject(new UnavailableError('bus-timeout', 'no leader'))
    for (let i = 0; i < 10; i++) await fail(refs, { state: away })
    expect(await reachable(refs)).toBe(0)
  })

  test.skipIf(isAbsent)('what an owner says it holds is most of what its memory grows by', async () => {
    const measured = () => {
      gc()
      const { heapUsed, external } = process.memoryUsage()
      return heapUsed + external
    }
    const warm = make()
    await warm.start()
    await until(() => warm.isCaughtUp, 'the end of the log')
    await warm.stop()
    const before = measured()
    const owner = make()
    await owner.start()
    await until(() => owner.isCaughtUp, 'the end of the log')
    const grown = measured() - before
    const told = owner.bytes + strings.bytes
    expect(told).toBeGreaterThan(grown * 0.5)
    await owner.stop()
  })
})

test('an ingester whose partition moves away and comes back holds one owner of it, and tells of no other', async () => {
  const ground = new FlushGround()
  await ground.open()
  await ground.mark(1)
  for (let from = 0; from < 2_000; from += 500)
    await ground.batch(Array.from({ length: 500 }, (_, i) => [`series_${from + i}`, 1_700_000_000_000, i]))
  const refs: WeakRef<object>[] = []
  const note = () => {
    for (const owner of ground.owners()) refs.push(new WeakRef(owner), new WeakRef(owner.state))
  }
  for (const id of ['i1', 'i2', 'i3']) await ground.start(id)
  const hasTwo = () => ground.owners().length === 2 && ground.owners().every(({ isCaughtUp }) => isCaughtUp)
  await ground.until(hasTwo, 'two owners')
  const memory = async () => {
    const text = await ground.running.get('i1')!.metrics.text()
    return Number(/^carillon_ingester_memory_bytes (\S+)$/m.exec(text)?.[1])
  }
  for (let round = 0; round < 6; round++) {
    note()
    const [id] = ['i2', 'i3'].filter((each) => ground.running.get(each)!.owners().length > 0)
    await ground.soon(ground.running.get(id!)!.actor.stop())
    ground.kill(id!)
    await ground.pass(30_000)
    note()
    await ground.start(id!)
    await ground.until(hasTwo, 'two owners')
  }
  note()
  const held = new Set<object>(ground.owners().flatMap((owner) => [owner, owner.state]))
  const released = refs.filter((ref) => !held.has(ref.deref()!))
  held.clear()
  const count = async () => {
    await ground.pass(10_000)
    return reachable(released, 1_000)
  }
  expect(released.length).toBeGreaterThan(10)
  expect(await count()).toBe(0)
  const owns = ground.running.get('i1')!.owners().length
  expect(await memory())[owns === 1 ? 'toBeGreaterThan' : 'toBe'](owns === 1 ? 50_000 : 0)
  ground.close()
})
