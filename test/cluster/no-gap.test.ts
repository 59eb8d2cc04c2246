// LOG-15, LOG-16, LOG-18: while segments go from logs and memory into blocks, and blocks into larger ones whose sources are deleted at once, every read
// has everything, once, and none fails.
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../shared/base/clock.ts'
import { seededRandom, systemRandom } from '../../shared/base/random.ts'
import { openBlocks } from '../../shared/blocks/open.ts'
import { askStream } from '../../shared/bus/ask.ts'
import { logName } from '../../shared/contracts/log.ts'
import { select } from '../../shared/contracts/read.ts'
import { memoryObjects } from '../../shared/objects/memory-objects.ts'
import { silentLog } from '../../shared/telemetry/log.ts'
import { until } from '../waiting.ts'
import { partitionsOf, withBus } from './check.ts'
import { ask, pushUntilTaken } from './client.ts'
import { findNatsServer } from './nats-server.ts'
import { killOne } from './processes.ts'
import { startActor } from './ring.ts'
import { pidOf, type System, startSystem } from './system.ts'

const found = findNatsServer()
if ('reason' in found) console.warn(`skipped: reads while segments are flushed: ${found.reason}`)
const isSkipped = 'reason' in found && process.env['CARILLON_CI'] !== '1'

const PARTITIONS = 2
const SERIES = 12
const STEP_MS = 250
/** Flushed segments of each partition after which there is enough to believe. */
const SEGMENTS_MIN = 12
const LOAD_MS_MAX = 40_000

/** What was sent, by series: the value at T0 + i × STEP_MS is valueAt(i). */
interface Sent {
  readonly tenant: string
  readonly t0: number
  /** Samples below this index of every series are acknowledged; those below `sent` may be there. */
  acknowledged: number
  sent: number
}

const valueAt = (i: number) => i * 3 + 0.5
const nameOf = (s: number) => `s${s}`

/** Rows of samples, each acknowledged before the next: half of the series get every pair of samples in the wrong order, in two writes. */
async function write(url: string, sent: Sent, isOver: () => boolean): Promise<void> {
  const row = (i: number, isLate: boolean) =>
    Array.from({ length: SERIES }, (_, s) => s)
      .filter((s) => s % 2 === (isLate ? 1 : 0))
      .map((s) => ({
        labels: ['__name__', 'nogap', 's', nameOf(s)],
        samples: [{ time: sent.t0 + i * STEP_MS, value: valueAt(i) }],
      }))
  const { tenant } = sent
  while (!isOver()) {
    const i = sent.sent
    sent.sent += 2
    await pushUntilTaken(url, { series: [...row(i, false), ...row(i + 1, true)] }, { tenant })
    await sleep(20)
    await pushUntilTaken(url, { series: [...row(i + 1, false), ...row(i, true)] }, { tenant })
    sent.acknowledged = sent.sent
    await sleep(20)
  }
}

interface Reads {
  count: number
  readonly faults: string[]
}

type Row = { metric: { s: string }; values: [number, string][] }

/** Every read must have all that was acknowledged before it began, nothing twice, nothing that was not sent. */
function faultsOf(rows: readonly Row[], least: number, sent: Sent): string[] {
  const faults: string[] = []
  if (rows.length !== SERIES && least > 0) faults.push(`${rows.length} series`)
  for (const { metric, values } of rows) {
    const indexes = values.map(([time]) => Math.round((time * 1000 - sent.t0) / STEP_MS))
    const isRising = indexes.every((index, k) => k === 0 || index > indexes[k - 1]!)
    const missing = Array.from({ length: least }, (_, i) => i).filter((i) => !indexes.includes(i))
    const wrong = values.filter(([, value], k) => Number(value) !== valueAt(indexes[k]!))
    if (!isRising) faults.push(`${metric.s}: a time stands twice`)
    if (missing.length > 0)
      faults.push(`${metric.s}: of ${least} there is no ${missing.slice(0, 5)} (${missing.length})`)
    if (wrong.length > 0) faults.push(`${metric.s}: ${wrong.slice(0, 3)}`)
    if (indexes.at(-1)! >= sent.sent) faults.push(`${metric.s}: ${indexes.at(-1)} was never sent`)
  }
  return faults
}

async function readWhole(url: string, sent: Sent, reads: Reads, isOver: () => boolean): Promise<void> {
  while (!isOver()) {
    const least = sent.acknowledged
    const time = String(sent.t0 / 1000 + 3_000)
    const { status, body } = await ask(
      url,
      '/api/v1/query',
      { query: 'nogap[1h]', time },
      { tenant: sent.tenant, consistency: 'strong' },
    )
    reads.count++
    if (status !== 200) reads.faults.push(`${status} ${body.error}`)
    else if (body.warnings !== undefined) reads.faults.push(`warnings: ${body.warnings}`)
    else reads.faults.push(...faultsOf(body.data.result, least, sent))
  }
}

/** Other kinds of reads, each with what must hold of it. */
async function readOtherwise(url: string, sent: Sent, reads: Reads, isOver: () => boolean): Promise<void> {
  const random = seededRandom(7)
  const time = String(sent.t0 / 1000 + 3_000)
  while (!isOver()) {
    const least = sent.acknowledged
    const kind = random.below(4)
    reads.count++
    if (kind === 0) {
      const query = 'min(count_over_time(nogap[1h]))'
      const { status, body } = await ask(
        url,
        '/api/v1/query',
        { query, time },
        { tenant: sent.tenant, consistency: 'strong' },
      )
      const count = Number(body.data?.result[0]?.value[1] ?? 0)
      if (status !== 200 || count < least) reads.faults.push(`${query}: ${status} ${body.error} ${count} of ${least}`)
    } else if (kind === 1) {
      const params = {
        query: 'sum(nogap)',
        start: String(sent.t0 / 1000),
        end: String(sent.t0 / 1000 + (least * STEP_MS) / 1000),
        step: '1',
      }
      const { status, body } = await ask(url, '/api/v1/query_range', params, {
        tenant: sent.tenant,
        consistency: 'strong',
      })
      const values: [number, string][] = body.data?.result[0]?.values ?? []
      const isWhole = values.every(([at, value]) => {
        const i = Math.round((at * 1000 - sent.t0) / STEP_MS)
        return i >= least || Number(value) === SERIES * valueAt(i)
      })
      if (status !== 200 || !isWhole)
        reads.faults.push(`sum: ${status} ${body.error ?? JSON.stringify(values.slice(0, 4))}`)
    } else if (kind === 2) {
      const { status, body } = await ask(
        url,
        '/api/v1/label/s/values',
        {},
        { tenant: sent.tenant, consistency: 'strong' },
      )
      if (status !== 200 || (least > 0 && body.data.length !== SERIES))
        reads.faults.push(`values: ${status} ${body.error ?? body.data}`)
    } else {
      const { status, body } = await ask(
        url,
        '/api/v1/series',
        { 'match[]': 'nogap' },
        { tenant: sent.tenant, consistency: 'strong' },
      )
      if (status !== 200 || (least > 0 && body.data.length !== SERIES))
        reads.faults.push(`series: ${status} ${body.error}`)
    }
    await sleep(20)
  }
}

const segments = ['--segment', '1s', '--segment-min', '300ms', '--flush', '50ms', '--drop-after', '300ms']
/** So that one is back, and its segments flushed, before the next dies. */
const BETWEEN_KILLS_MS = 2_500

type Disturb = (isOver: () => boolean) => Promise<void>

describe.skipIf(isSkipped)('two owners of each partition, segments of a second', () => {
  let system: System
  let tenantCount = 0
  beforeAll(async () => {
    system = await startSystem({
      args: [
        ...['--ingesters', '2', '--replication-factor', '2', '--queriers', '2', '--partitions', String(PARTITIONS)],
        ...segments,
        ...[
          '--compact-every',
          '300ms',
          '--compact-delay',
          '0ms',
          '--retired-delay',
          '0ms',
          '--late-ratio',
          '0.01',
          '--lease',
          '2s',
        ],
      ],
    })
  })
  afterAll(() => system?.stop())

  test('no gap, no double, no failed query, while segments are flushed, purged and dropped, and blocks merged', async () => {
    await writeAndRead(async () => {})
    await withBus(system.ready, async (bus) => {
      for (let partition = 0; partition < PARTITIONS; partition++) {
        expect((await bus.logs.state(logName(partition))).firstSeq).toBeGreaterThan(1) // purged
        await expect(refusalOf(bus, partition)).resolves.toBe('err-carillon-dropped')
      }
    })
  })

  test('the same while owners and compactors are killed, and an owner joins and leaves', async () => {
    await writeAndRead(async (isOver) => {
      const joins = startActor('ingester', { nats: system.ready, id: 'ingester-joins', args: segments })
      for (const id of ['ingester-1', 'compactor-1', 'ingester-2', 'compactor-1']) {
        await ownersAreBack()
        if (isOver()) break
        const before = pidOf(system, id)
        killOne(system, id)
        await sleep(BETWEEN_KILLS_MS)
        await until(`${id} runs again`, () => pidOf(system, id) !== before)
      }
      await ownersAreBack()
      await joins.stop()
    })
  })

  /** Whoever is killed next is not the only one that holds a partition. */
  async function ownersAreBack(): Promise<void> {
    await until('all owners have caught up', async () => {
      const { partitions } = await partitionsOf(system.url)
      return partitions.every(({ assignedTo, owners }) =>
        assignedTo.every((id) => owners.some((owner) => owner.id === id && owner.state === 'caught-up')),
      )
    })
  }

  /** Writes and reads until enough segments were flushed, and `disturb` is over. */
  async function writeAndRead(disturb: Disturb): Promise<void> {
    const tenant = `tenant-${++tenantCount}`
    const t0 = Math.floor(Date.now() / 1000) * 1000 - 5 * 3_600_000 // old enough for blocks to be merged
    const sent: Sent = { tenant, t0, acknowledged: 0, sent: 0 }
    const reads: Reads = { count: 0, faults: [] }
    let isDone = false
    const isOver = () => isDone || reads.faults.length > 0
    const work = [
      write(system.url, sent, isOver),
      readWhole(system.url, sent, reads, isOver),
      readOtherwise(system.url, sent, reads, isOver),
    ]
    await withBus(system.ready, async (bus) => {
      const deps = { bus, objects: memoryObjects(), clock: systemClock, random: systemRandom, log: silentLog }
      const blocks = await openBlocks(deps)
      const partitions = Array.from({ length: PARTITIONS }, (_, partition) => partition)
      const before = partitions.map((partition) => blocks.flushed(partition))
      const isEnough = () => partitions.every((p) => blocks.flushed(p) >= before[p]! + SEGMENTS_MIN)
      try {
        await disturb(isOver)
        const endMs = Date.now() + LOAD_MS_MAX
        while (!isOver() && !isEnough() && Date.now() < endMs) await sleep(100)
      } finally {
        isDone = true
        await Promise.all(work)
      }
      expect(reads.faults.slice(0, 10)).toEqual([])
      expect(isEnough()).toBe(true)
      const { manifest } = blocks.manifest(tenant)!
      expect(manifest.blocks.some(({ origin }) => origin.kind === 'compaction')).toBe(true)
      blocks.close()
    })
    expect(reads.count).toBeGreaterThan(50)
    const last: Reads = { count: 0, faults: [] }
    await readWhole(system.url, sent, last, () => last.count > 0)
    expect(last.faults).toEqual([])
  }

  /** What an owner says when it is asked for everything since the beginning. */
  async function refusalOf(bus: Parameters<typeof askStream>[0], partition: number): Promise<string> {
    const { partitions } = await partitionsOf(system.url)
    const id = partitions[partition]!.assignedTo[0]!
    const everything = {
      manifestVersion: 0,
      matchers: [],
      startMs: 0,
      endMs: 9e15,
      mode: 'all' as const,
      seriesMax: 1e6,
    }
    const asked = { partition, tenant: 'tenant-1', watermark: 0, minSeq: 0, incarnation: '', waitMs: 0, ...everything }
    try {
      for await (const _ of askStream(bus, select, { id }, asked)) return 'answered'
    } catch (error) {
      return (error as { code: string }).code
    }
    return 'nothing'
  }
})
