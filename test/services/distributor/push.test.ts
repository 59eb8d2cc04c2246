// A push and its answer, with logs that fail and a ring that says what a test wants: the distributor alone, on a memory bus.
import { afterEach, expect, it } from 'vitest'
import { distributorSettings } from '../../../services/distributor/config.ts'
import { distributor } from '../../../services/distributor/distributor.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { type Actor, type RunningActor, runActor, serve } from '../../../shared/bus/actor.ts'
import { ask, tell } from '../../../shared/bus/ask.ts'
import { createMemoryHub, type MemoryHub } from '../../../shared/bus/memory-bus.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { type ConfigOf, defaultsOf } from '../../../shared/config/settings.ts'
import { batchSubject, encodeMark, logConfig, logName, markSubject } from '../../../shared/contracts/log.ts'
import { known, ownerCounted } from '../../../shared/contracts/read.ts'
import { type PushReply, push } from '../../../shared/contracts/write.ts'
import { memoryObjects } from '../../../shared/objects/memory-objects.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { createMetrics } from '../../../shared/telemetry/metrics.ts'
import { encodeWriteV1 } from '../../../shared/wire/remote-write-encode.ts'
import { compress } from '../../../shared/wire/snappy.ts'
import { fixedMembership } from '../querier/stub-ingester.ts'

const PARTITIONS = 2
const running: RunningActor[] = []
afterEach(async () => {
  for (const actor of running.splice(0)) await actor.stop()
})

interface Ground {
  readonly hub: MemoryHub
  readonly bus: Bus
  readonly ring: { writable: number }
  push(names: readonly string[]): Promise<PushReply>
  lastSeqs(): Promise<number[]>
}

async function ground(changes: Partial<ConfigOf<typeof distributorSettings>> = {}): Promise<Ground> {
  const hub = createMemoryHub({ clock: systemClock, random: seededRandom(1) })
  const bus = hub.connect('sender')
  for (let partition = 0; partition < PARTITIONS; partition++) {
    await bus.logs.ensure(logConfig(partition, { bytesMax: 1 << 24, replicas: 1 }))
    const mark = encodeMark({ number: 1, writer: 'test', nonce: 'n' })
    await bus.logs.append(logName(partition), markSubject(partition), mark, { timeoutMs: 1_000 })
  }
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
  return {
    ...{ hub, bus, ring },
    push: (names) => {
      const series = names.map((name) => ({ labels: ['__name__', name], samples: [{ time: Date.now(), value: 1 }] }))
      return ask(bus, push, { tenant: 'acme' }, { protocol: 1, body: compress(encodeWriteV1({ series })) }, {})
    },
    lastSeqs: () => Promise.all([0, 1].map(async (partition) => (await bus.logs.state(logName(partition))).lastSeq)),
  }
}

const many = (prefix = 'm', count = 40) => Array.from({ length: count }, (_, i) => `${prefix}_${i}`)

it('D1, L6: a push is not acknowledged while one of the logs that it goes to has not stored it', async () => {
  const { hub, push: send, lastSeqs } = await ground()
  hub.faults.onAppend = ({ subject }) => (subject === batchSubject(1) ? 'drop-before-store' : undefined)
  await expect(send(many())).rejects.toMatchObject({ kind: 'unavailable' })
  expect(await lastSeqs()).toEqual([2, 1])
  hub.faults.onAppend = undefined
  expect(await send(many())).toMatchObject({ samplesWritten: 40, position: [{ partition: 0 }, { partition: 1 }] })
})

it('L6: an answer that asks for a repeat beats one that does not: a refused series beside a log that fails', async () => {
  const { hub, push: send } = await ground()
  hub.faults.onAppend = ({ subject }) => (subject === batchSubject(1) ? 'drop-before-store' : undefined)
  await expect(send([...many(), '\u0000'])).rejects.toMatchObject({ kind: 'unavailable' })
  hub.faults.onAppend = undefined
})

it('L19: added partitions take nothing before the ring says that they may', async () => {
  const { push: send, ring, lastSeqs } = await ground({}) // both exist, and are writable at first
  expect((await send(many())).position.map(({ partition }) => partition)).toEqual([0, 1])
  ring.writable = 1
  const touched = async () => (await send(many())).position.map(({ partition }) => partition)
  await expect.poll(touched, { timeout: 10_000 }).toEqual([0]) // it looks every second
  const before = await lastSeqs()
  await send(many('later'))
  expect((await lastSeqs())[1]).toBe(before[1])
})

it('L23: where owners are silent about what they hold, series are let in', async () => {
  const { bus, push: send } = await ground({ seriesPerTenantMax: 10 })
  const series = [{ partition: 0, tenant: 'acme', count: 10 }]
  tell(bus, ownerCounted, {}, { id: 'ingester-1', incarnation: 'x', bytes: 1, bytesMax: 1_000, series })
  await new Promise((resolve) => setTimeout(resolve, 50))
  expect(await send(many())).toMatchObject({ samplesWritten: 40 }) // nobody answers for ingester-1
})

it('L23: at the limit series that an owner holds already go on, though this distributor meets them for the first time', async () => {
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

it('D4: beyond queuedBytesMax pushes are told to come again, and what waits is not dropped', async () => {
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
