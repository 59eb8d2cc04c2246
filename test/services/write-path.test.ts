// Distributor and ingester together on the memory bus, in real time: what a push meets when memory, series or the log run out.
import { afterEach, expect, test } from 'vitest'
import { distributorSettings } from '../../services/distributor/config.ts'
import { distributor } from '../../services/distributor/distributor.ts'
import { ingesterSettings } from '../../services/ingester/config.ts'
import { ingester } from '../../services/ingester/ingester.ts'
import { systemClock } from '../../shared/base/clock.ts'
import { seededRandom } from '../../shared/base/random.ts'
import type { RunningActor } from '../../shared/bus/actor.ts'
import { ask } from '../../shared/bus/ask.ts'
import { subjectFilter } from '../../shared/bus/contract.ts'
import { createMemoryHub, type MemoryHub } from '../../shared/bus/memory/memory-bus.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { runActor } from '../../shared/bus/run-actor.ts'
import { type ConfigOf, defaultsOf } from '../../shared/config/settings.ts'
import type { Role } from '../../shared/contracts/member.ts'
import { ownerCounted } from '../../shared/contracts/read.ts'
import { type PushReply, push } from '../../shared/contracts/write.ts'
import { bootstrap } from '../../shared/membership/bootstrap.ts'
import { asMember } from '../../shared/membership/member-actor.ts'
import { joinRing } from '../../shared/membership/membership.ts'
import { memoryObjects } from '../../shared/objects/memory-objects.ts'
import { silentLog } from '../../shared/telemetry/log.ts'
import { createMetrics } from '../../shared/telemetry/metrics.ts'
import { encodeWriteV1 } from '../../shared/wire/remote-write-encode.ts'
import { compress } from '../../shared/wire/snappy.ts'

interface Options {
  readonly unhealthyAfterMs?: number
  readonly distributor?: Partial<ConfigOf<typeof distributorSettings>>
  readonly ingester?: Partial<ConfigOf<typeof ingesterSettings>>
  readonly logBytesMax?: number
}

const running: RunningActor[] = []
let hub: MemoryHub
afterEach(async () => {
  for (const actor of running.splice(0)) await actor.stop()
})

/** The two actors, ready to be written to, and the sender's bus. */
async function writePath(options: Options): Promise<Bus> {
  hub = createMemoryHub({ clock: systemClock, random: seededRandom(1) })
  const bus = hub.connect('sender')
  await bootstrap(bus, {
    partitions: 2,
    replicationFactor: 1,
    logBytesMax: options.logBytesMax ?? 64 << 20,
    logReplicas: 1,
  })
  const objects = memoryObjects()
  const depsOf = async (role: Role) => {
    const own = hub.connect(role)
    const self = { id: `${role}-1`, role, zone: '', incarnation: role, version: 'test', capacity: 0 }
    const unhealthyAfterMs = options.unhealthyAfterMs ?? 15_000
    const times = { heartbeatMs: unhealthyAfterMs / 15, unhealthyAfterMs, forgetAfterMs: 600_000 }
    const membership = await joinRing({ bus: own, clock: systemClock, self, options: times, onError: () => {} })
    return {
      bus: own,
      objects,
      clock: systemClock,
      random: seededRandom(2),
      log: silentLog,
      metrics: createMetrics(),
      ...self,
      membership,
    }
  }
  const ingesterDeps = await depsOf('ingester')
  const ingesterConfig = defaultsOf(ingesterSettings, { countedMs: 50, ...options.ingester })
  const distributorDeps = await depsOf('distributor')
  const distributorConfig = defaultsOf(distributorSettings, options.distributor)
  for (const [actor, deps] of [
    [ingester({ ...ingesterDeps, config: ingesterConfig }), ingesterDeps],
    [distributor({ ...distributorDeps, config: distributorConfig }), distributorDeps],
  ] as const) {
    const { bus: own, clock, random, log } = deps
    running.push(runActor(asMember(actor, deps), { bus: own, clock, random, log }))
  }
  await Promise.all(running.map((actor) => actor.ready))
  return bus
}

let timeMs = Date.now() - 60_000

/** Pushes one sample of each named series. */
function pushSeries(bus: Bus, names: readonly string[], tenant = 'acme'): Promise<PushReply> {
  timeMs += 1000
  const series = names.map((name) => ({ labels: ['__name__', name], samples: [{ time: timeMs, value: 1 }] }))
  return ask(bus, push, { tenant }, { protocol: 1, body: compress(encodeWriteV1({ series })) }, {})
}

const names = (count: number, prefix = 'm') =>
  Array.from({ length: count }, (_, i) => `${prefix}_${i}_${'x'.repeat(50)}`)

/** Resolves when the ingester has told of so many series, or, without a number, twice from now on; the distributor hears it then, too. */
async function told(bus: Bus, seriesMin = 0): Promise<void> {
  const isTold = Promise.withResolvers<void>()
  let count = 0
  const heard = bus.subscribe(subjectFilter(ownerCounted, {}), {}, ({ payload }) => {
    const sum = ownerCounted.value.decode(payload).series.reduce((held, each) => held + each.count, 0)
    if (sum >= seriesMin && ++count === 2) isTold.resolve() // who heard the first has taken it in by the second
  })
  await isTold.promise
  heard.stop()
  await new Promise((resolve) => setTimeout(resolve, 10))
}

test('a push is answered with the log position of every partition it touched', async () => {
  const bus = await writePath({})
  const { position, samplesWritten } = await pushSeries(bus, names(50))
  expect(samplesWritten).toBe(50)
  expect(position.map(({ partition }) => partition)).toEqual([0, 1])
  for (const { partition, seq } of position)
    expect(seq).toBeLessThanOrEqual((await bus.logs.state(`log-${partition}`)).lastSeq)
})

test('WRITE-6: a distributor whose view of the ring is not confirmed refuses, and takes writes again when it is', async () => {
  const bus = await writePath({ unhealthyAfterMs: 1_500 })
  await pushSeries(bus, names(3))
  hub.faults.bucketsDown = true
  await new Promise((resolve) => setTimeout(resolve, 1_700))
  await pushSeries(bus, names(3)) // writes are borne longer than reads
  await new Promise((resolve) => setTimeout(resolve, 1_500))
  await expect(pushSeries(bus, names(3))).rejects.toMatchObject({ code: 'err-carillon-ring-unconfirmed' })
  hub.faults.bucketsDown = false
  await expect
    .poll(() => pushSeries(bus, names(3)).then(({ samplesWritten }) => samplesWritten, String), { timeout: 3_000 })
    .toBe(3)
})

test('WRITE-6: a push that comes a moment before the view is confirmed again waits for that', async () => {
  const bus = await writePath({ unhealthyAfterMs: 1_500 })
  hub.faults.bucketsDown = true
  await new Promise((resolve) => setTimeout(resolve, 3_200))
  const pushed = pushSeries(bus, names(3))
  await new Promise((resolve) => setTimeout(resolve, 300))
  hub.faults.bucketsDown = false
  expect((await pushed).samplesWritten).toBe(3)
})

test('INGESTER-3: near the memory bound new series are refused and known ones go on; at the bound every write gets 503', async () => {
  const bus = await writePath({ ingester: { memoryBytesMax: 1 << 30 } })
  await pushSeries(bus, names(200))
  await Promise.all(running.splice(0).map((actor) => actor.stop()))

  const held = 200_000 // what 200 series take is less, 400 series take more than 0.9 of it
  const near = await writePath({ ingester: { memoryBytesMax: held } })
  let refused: PushReply | undefined
  for (let i = 0; i < 40 && refused?.refusal === undefined; i++) {
    refused = await pushSeries(near, names(20, `series${i}`))
    await told(near)
  }
  expect(refused?.refusal).toMatchObject({ status: 400, code: 'err-carillon-ingester-memory-new-series' })
  expect((await pushSeries(near, names(20, 'series0'))).refusal, 'known series').toBeUndefined()

  const full = await writePath({ ingester: { memoryBytesMax: 1000 } })
  await pushSeries(full, names(50))
  await told(full, 50)
  await expect(pushSeries(full, names(50))).rejects.toMatchObject({
    kind: 'unavailable',
    code: 'err-carillon-ingester-memory',
  })
})

test('LOG-23: at the series limit new series are refused, known ones go on, other tenants are not touched', async () => {
  const bus = await writePath({ distributor: { seriesPerTenantMax: 100 } })
  expect((await pushSeries(bus, names(90))).refusal).toBeUndefined()
  await told(bus, 90)
  const reply = await pushSeries(bus, [...names(90), ...names(30, 'late')])
  expect(reply.samplesWritten).toBe(100)
  expect(reply.refusal).toMatchObject({ status: 400, code: 'err-carillon-max-series-per-tenant' })
  expect(reply.refusal!.text).toContain('per-user series limit of 100 exceeded')
  await told(bus, 100)
  expect((await pushSeries(bus, names(90))).refusal).toBeUndefined()
  expect((await pushSeries(bus, names(90), 'other')).refusal).toBeUndefined()
  expect((await pushSeries(bus, names(30, 'later'))).samplesWritten, 'denied again, not remembered as known').toBe(0)
})

test('a tenant above its rate gets 429 with the seconds to wait, and nothing of that push is stored', async () => {
  const bus = await writePath({ distributor: { samplesPerSecondMax: 10, samplesBurstMax: 100 } })
  await pushSeries(bus, names(100))
  const before = await bus.logs.state('log-0')
  await expect(pushSeries(bus, names(100))).rejects.toMatchObject({
    status: 429,
    code: 'err-carillon-rate-limited',
    retryAfterS: 10,
  })
  expect((await bus.logs.state('log-0')).lastSeq).toBe(before.lastSeq)
  expect((await pushSeries(bus, names(100), 'other')).refusal).toBeUndefined()
})

test('LOG-7, WRITE-4: above 80 % of a log pushes get 503 with the reason, and marks still fit', async () => {
  const bus = await writePath({ logBytesMax: 200_000 })
  let error: unknown
  for (let i = 0; i < 200 && error === undefined; i++)
    await pushSeries(bus, names(200, `m${i}`)).catch((reason) => (error = reason))
  expect(error).toMatchObject({ kind: 'unavailable', code: 'err-carillon-log-full' })
  const state = await bus.logs.state('log-0')
  expect(state.bytes / state.bytesMax).toBeGreaterThan(0.6)
  expect(state.bytes / state.bytesMax).toBeLessThan(0.95)
})
