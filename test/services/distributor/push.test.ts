// A push and its answer, with logs that fail and a ring that says what a test wants: the distributor alone, on a memory bus.
import { afterEach, expect, it } from 'vitest'
import { distributorSettings } from '../../../services/distributor/config.ts'
import { distributor } from '../../../services/distributor/distributor.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { type Actor, type RunningActor, serve } from '../../../shared/bus/actor.ts'
import { ask, tell } from '../../../shared/bus/ask.ts'
import { createMemoryHub, type MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { keyFor } from '../../../shared/bus/record.ts'
import { runActor } from '../../../shared/bus/run-actor.ts'
import { type ConfigOf, defaultsOf } from '../../../shared/config/settings.ts'
import { keepRecord } from '../../../shared/contracts/keep.ts'
import { batchSubject, encodeMark, logConfig, logName, markSubject } from '../../../shared/contracts/log.ts'
import { known, ownerCounted } from '../../../shared/contracts/read.ts'
import { type PushReply, push } from '../../../shared/contracts/write.ts'
import { memoryObjects } from '../../../shared/objects/memory-objects.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { createMetrics } from '../../../shared/telemetry/metrics.ts'
import { decodeLogBatch } from '../../../shared/wire/log-batch.ts'
import { encodeWriteV1, type PlainSeries } from '../../../shared/wire/remote-write-encode.ts'
import { compress } from '../../../shared/wire/snappy.ts'
import { until } from '../../waiting.ts'
import { fixedMembership } from '../querier/stub-ingester.ts'

const PARTITIONS = 2
const DAY_MS = 86_400_000
const running: RunningActor[] = []
afterEach(async () => {
  for (const actor of running.splice(0)) await actor.stop()
})

interface Ground {
  readonly hub: MemoryHub
  readonly bus: Bus
  readonly ring: { writable: number }
  push(names: readonly string[]): Promise<PushReply>
  sendSeries(series: readonly PlainSeries[], tenant?: string): Promise<PushReply>
  lastSeqs(): Promise<number[]>
}

async function ground(
  changes: Partial<ConfigOf<typeof distributorSettings>> = {},
  keepMsOf: Readonly<Record<string, number>> = {},
): Promise<Ground> {
  const hub = createMemoryHub({ clock: systemClock, random: seededRandom(1) })
  const bus = hub.connect('sender')
  for (let partition = 0; partition < PARTITIONS; partition++) {
    await bus.logs.ensure(logConfig(partition, { bytesMax: 1 << 24, replicas: 1 }))
    const mark = encodeMark({ number: 1, writer: 'test', nonce: 'n' })
    await bus.logs.append(logName(partition), markSubject(partition), mark, { timeoutMs: 1_000 })
  }
  const kept = await bus.bucket(keepRecord.bucket)
  for (const [whose, keepMs] of Object.entries(keepMsOf))
    await kept.put(keyFor(keepRecord, { whose }), keepRecord.format.encode({ v: 1, keepMs, toldBy: 'compactor-1' }))
  const ring = { writable: PARTITIONS }
  const membership = {
    ...fixedMembership(Array.from({ length: PARTITIONS }, () => ['ingester-1'])),
    writableCount: () => ring.writable,
  }
  const base = { bus: hub.connect('distributor-1'), clock: systemClock, random: seededRandom(2), log: silentLog }
  const config = defaultsOf(distributorSettings, { pushTimeoutMs: 400, appendTimeoutMs: 100, ...changes })
  const own = { ...base, objects: memoryObjects(), metrics: createMetrics(), id: 'distributor-1', incarnation: 'x' }
  const actor = runActor(distributor({ ...own, membership, config }), { ...base, drainMs: 50 })
  running.push(actor)
  await actor.ready
  const sendSeries = (series: readonly PlainSeries[], tenant = 'acme') =>
    ask(bus, push, { tenant }, { protocol: 1, body: compress(encodeWriteV1({ series })) }, {})
  return {
    ...{ hub, bus, ring, sendSeries },
    push: (names) =>
      sendSeries(names.map((name) => ({ labels: ['__name__', name], samples: [{ time: Date.now(), value: 1 }] }))),
    lastSeqs: () => Promise.all([0, 1].map(async (partition) => (await bus.logs.state(logName(partition))).lastSeq)),
  }
}

const many = (prefix = 'm', count = 40) => Array.from({ length: count }, (_, i) => `${prefix}_${i}`)

it('WRITE-1, LOG-6: a push is not acknowledged while one of the logs that it goes to has not stored it', async () => {
  const { hub, push: send, lastSeqs } = await ground()
  hub.faults.onAppend = ({ subject }) => (subject === batchSubject(1) ? 'drop-before-store' : undefined)
  await expect(send(many())).rejects.toMatchObject({ kind: 'unavailable' })
  expect(await lastSeqs()).toEqual([2, 1])
  hub.faults.onAppend = undefined
  expect(await send(many())).toMatchObject({ samplesWritten: 40, position: [{ partition: 0 }, { partition: 1 }] })
})

it('LOG-6: an answer that asks for a repeat beats one that does not: a refused series beside a log that fails', async () => {
  const { hub, push: send } = await ground()
  hub.faults.onAppend = ({ subject }) => (subject === batchSubject(1) ? 'drop-before-store' : undefined)
  await expect(send([...many(), '\u0000'])).rejects.toMatchObject({ kind: 'unavailable' })
  hub.faults.onAppend = undefined
})

it('APPEND-5: after an interruption of the connection a log is told anew what its series are', async () => {
  const { hub, bus, push: send, lastSeqs } = await ground()
  for (let i = 0; i < 2; i++) expect(await send(many())).not.toHaveProperty('refusal')
  hub.disconnect('distributor-1')
  hub.reconnect('distributor-1')
  expect(await send(many())).not.toHaveProperty('refusal')
  for (const [partition, lastSeq] of (await lastSeqs()).entries()) {
    const { payload } = (await bus.logs.get(logName(partition), lastSeq, 1_000))!
    expect(decodeLogBatch(payload).definitions.length).toBeGreaterThan(0)
  }
})

it('LOG-19: added partitions take nothing before the ring says that they may', async () => {
  const { push: send, ring, lastSeqs } = await ground({}) // both exist, and are writable at first
  expect((await send(many())).position.map(({ partition }) => partition)).toEqual([0, 1])
  ring.writable = 1
  const touched = async () => (await send(many())).position.map(({ partition }) => partition)
  await expect.poll(touched, { timeout: 10_000 }).toEqual([0]) // it looks every second
  const before = await lastSeqs()
  await send(many('later'))
  expect((await lastSeqs())[1]).toBe(before[1])
})

it('LOG-23: where owners are silent about what they hold, series are let in', async () => {
  const { bus, push: send } = await ground({ seriesPerTenantMax: 10 })
  const series = [{ partition: 0, tenant: 'acme', count: 10 }]
  tell(bus, ownerCounted, {}, { id: 'ingester-1', incarnation: 'x', bytes: 1, bytesMax: 1_000, series })
  await new Promise((resolve) => setTimeout(resolve, 50))
  expect(await send(many())).toMatchObject({ samplesWritten: 40 }) // nobody answers for ingester-1
})

it('LOG-23: at the limit series that an owner holds already go on, though this distributor meets them for the first time', async () => {
  const { bus, hub, push: send } = await ground({ seriesPerTenantMax: 10 })
  const owner: Actor = {
    ...{ name: 'ingester', hears: [], every: [], start: async () => {}, stop: async () => {} },
    serves: [
      serve(known, async ({ hashes }) => ({ known: new Uint8Array(hashes.length).fill(1) }), { id: 'ingester-1' }),
    ],
  }
  const deps = { bus: hub.connect('ingester-1'), clock: systemClock, random: seededRandom(3), log: silentLog }
  running.push(runActor(owner, { ...deps, drainMs: 50 }))
  await running.at(-1)!.ready
  const series = [{ partition: 0, tenant: 'acme', count: 10 }]
  tell(bus, ownerCounted, {}, { id: 'ingester-1', incarnation: 'x', bytes: 1, bytesMax: 1_000, series })
  await new Promise((resolve) => setTimeout(resolve, 50))
  expect(await send(many())).toMatchObject({ samplesWritten: 40 })
})

it('WRITE-4: beyond queuedBytesMax pushes are told to come again, and what waits is not dropped', async () => {
  const { hub, push: send } = await ground({ queuedBytesMax: 2_000, pushTimeoutMs: 3_000, batchesInFlightMax: 1 })
  hub.faults.onAppend = ({ subject }) => (subject.endsWith('.batch') ? 'drop-before-store' : undefined)
  const first: Promise<PushReply>[] = []
  for (const name of ['a', 'b']) {
    first.push(send(many(name, 2_000)))
    first.at(-1)!.catch(() => {})
    await new Promise((resolve) => setTimeout(resolve, 50)) // the first is under way by then, the others wait
  }
  await expect(send(many('d'))).rejects.toMatchObject({ kind: 'unavailable', code: 'err-carillon-overloaded' })
  hub.faults.onAppend = undefined
  for (const each of await Promise.all(first)) expect(each.samplesWritten).toBeGreaterThan(0)
  expect((await send(many('d'))).samplesWritten).toBe(40)
})

it('WRITE-2: what is older than its tenant keeps is refused, with what that is; the rest of the push is stored', async () => {
  const { bus, sendSeries } = await ground({}, { acme: 3 * DAY_MS })
  const at = (name: string, ageMs: number) => ({
    ...{ labels: ['__name__', name], samples: [{ time: Date.now() - ageMs, value: 1 }] },
  })
  const series = [at('old', 3 * DAY_MS + 60_000), at('newer', 3 * DAY_MS - 60_000), at('new', 0)]
  const reply = await sendSeries(series)
  expect(reply).toMatchObject({ samplesWritten: 2, refusal: { status: 400, code: 'err-carillon-sample-too-old' } })
  expect(reply.refusal!.text).toContain('the tenant keeps samples for 3d')
  expect(await sendSeries([at('old', 400 * DAY_MS)], 'globex')).toMatchObject({ samplesWritten: 1 })
  const bucket = await bus.bucket(keepRecord.bucket)
  await bucket.put(keyFor(keepRecord, { whose: 'acme' }), keepRecord.format.encode({ v: 1, keepMs: 0, toldBy: 'c' }))
  await until('it is kept for ever', async () => (await sendSeries(series)).samplesWritten === 3)
})

it('of --past and what the tenant keeps, the nearer one counts', async () => {
  const { sendSeries } = await ground({ pastMs: DAY_MS }, { acme: 3 * DAY_MS, globex: DAY_MS / 2 })
  const old = [{ labels: ['__name__', 'old'], samples: [{ time: Date.now() - DAY_MS - 60_000, value: 1 }] }]
  expect((await sendSeries(old)).refusal!.text).toContain('set --past')
  expect((await sendSeries(old, 'globex')).refusal!.text).toContain('keeps samples for 12h')
})
