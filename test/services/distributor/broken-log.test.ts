// WRITE-7: a log that does not answer delays and refuses only pushes with something that goes there.
import { afterEach, beforeEach, expect, test } from 'vitest'
import { distributorSettings } from '../../../services/distributor/config.ts'
import { distributor } from '../../../services/distributor/distributor.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import type { RunningActor } from '../../../shared/bus/actor.ts'
import { ask } from '../../../shared/bus/ask.ts'
import { createMemoryHub, type MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { runActor } from '../../../shared/bus/run-actor.ts'
import { defaultsOf } from '../../../shared/config/settings.ts'
import { batchSubject, encodeMark, logName, markSubject } from '../../../shared/contracts/log.ts'
import { push } from '../../../shared/contracts/write.ts'
import { bootstrap } from '../../../shared/membership/bootstrap.ts'
import { joinRing } from '../../../shared/membership/membership.ts'
import { memoryObjects } from '../../../shared/objects/memory-objects.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { createMetrics } from '../../../shared/telemetry/metrics.ts'
import { encodeWriteV1 } from '../../../shared/wire/remote-write-encode.ts'
import { compress } from '../../../shared/wire/snappy.ts'
import { VirtualClock } from '../../sim/virtual-clock.ts'
import { changed } from '../ingester/flush-ground.ts'

const PARTITIONS = 4
const random = seededRandom(1)
let clock: VirtualClock
let hub: MemoryHub
let sender: Bus
let isOver: boolean

beforeEach(async () => {
  clock = new VirtualClock()
  hub = createMemoryHub({ clock, random })
  isOver = false
  void clock.run(() => isOver, Number.POSITIVE_INFINITY)
  sender = hub.connect('sender')
  const options = { partitions: PARTITIONS, replicationFactor: 1, logBytesMax: 1 << 24, logReplicas: 1 }
  await soon(bootstrap(sender, options))
  for (let partition = 0; partition < PARTITIONS; partition++) {
    const mark = encodeMark({ number: 1, writer: 'test', nonce: `nonce-${partition}` })
    await soon(sender.logs.append(logName(partition), markSubject(partition), mark, { timeoutMs: 1_000 }))
  }
})
afterEach(() => {
  isOver = true
})

async function soon<T>(promise: Promise<T>, ms = 600_000): Promise<T> {
  let isSettled = false
  const settled = () => {
    isSettled = true
  }
  promise.then(settled, settled)
  await clock.run(() => isSettled, clock.monotonic() + ms)
  return promise
}
const pass = (ms: number) => soon(new Promise<void>((resolve) => clock.after(ms, resolve)), ms + 1_000)

/** A bus on which some logs answer nothing. */
function without(bus: Bus, broken: ReadonlySet<string>): Bus {
  const unlessBroken =
    <A extends [string, ...never[]], R>(call: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      if (!broken.has(args[0])) return call(...args)
      await new Promise<void>((resolve) => clock.after(5_000, resolve))
      throw new UnavailableError('bus-timeout', `${args[0]} has no leader`)
    }
  const { state, append, lastPerSubject } = bus.logs
  return changed(bus, {
    state: unlessBroken(state),
    append: unlessBroken(append),
    lastPerSubject: unlessBroken(lastPerSubject),
  })
}

async function start(bus: Bus): Promise<RunningActor> {
  const self = { id: 'd1', role: 'distributor' as const, zone: '', incarnation: 'x', version: 't', capacity: 0 }
  const options = { heartbeatMs: 500, unhealthyAfterMs: 2_000, forgetAfterMs: 20_000 }
  const membership = await soon(joinRing({ bus, clock, self, options, onError: () => {} }))
  const facts = { bus, clock, random, log: silentLog, metrics: createMetrics(), ...self, membership }
  const config = defaultsOf(distributorSettings, {})
  return runActor(distributor({ ...facts, objects: memoryObjects({ clock }), config }), {
    bus,
    clock,
    random,
    log: silentLog,
  })
}

/** Of series, each pushed on its own, those that are taken, and how long the slowest of them took. */
async function takenOf(count: number): Promise<{ taken: string[]; slowestMs: number }> {
  const taken: string[] = []
  let slowestMs = 0
  for (let i = 0; i < count; i++) {
    const name = `m_${i}`
    const series = [{ labels: ['__name__', name], samples: [{ time: Math.round(clock.now()), value: i }] }]
    const body = compress(encodeWriteV1({ series }))
    const startMs = clock.monotonic()
    const isTaken = ask(sender, push, { tenant: 'acme' }, { protocol: 1, body }, { timeoutMs: 3_000 }).then(
      () => true,
      () => false,
    )
    if (!(await soon(isTaken))) continue
    taken.push(name)
    slowestMs = Math.max(slowestMs, clock.monotonic() - startMs)
  }
  return { taken, slowestMs }
}

test('a distributor starts while a log is silent, and takes what goes elsewhere', async () => {
  const broken = new Set([logName(0)])
  const actor = await start(without(hub.connect('d1'), broken))
  const startedMs = clock.monotonic()
  await soon(actor.ready)
  expect(clock.monotonic() - startedMs).toBeLessThan(10_000)
  const { taken, slowestMs } = await takenOf(40)
  expect(taken.length).toBeGreaterThan(20)
  expect(taken.length).toBeLessThan(40)
  expect(slowestMs).toBeLessThan(500)
  broken.clear()
  await pass(15_000)
  expect((await takenOf(40)).taken).toHaveLength(40)
})

test.each([0, 3])(
  'log %i falls silent: the fill of the others is known, and what goes there is taken',
  async (partition) => {
    const broken = new Set<string>()
    const actor = await start(without(hub.connect('d1'), broken))
    await soon(actor.ready)
    expect((await takenOf(40)).taken).toHaveLength(40)
    broken.add(logName(partition))
    await pass(60_000)
    const { taken } = await takenOf(40)
    expect(taken.length).toBeGreaterThan(20)
    const fillMax = defaultsOf(distributorSettings, {}).logFullRatio * (1 << 24)
    for (let other = 0; other < PARTITIONS; other++) {
      if (other === partition) continue
      const filler = new Uint8Array(900_000)
      for (let bytes = 0; bytes < fillMax; bytes += filler.length)
        await soon(sender.logs.append(logName(other), batchSubject(other), filler, { timeoutMs: 1_000 }))
    }
    await pass(15_000)
    expect((await takenOf(40)).taken, 'the others are full').toEqual([])
  },
)

test('it starts where no log answers, takes nothing, and everything once they do', async () => {
  const broken = new Set([0, 1, 2, 3].map(logName))
  const actor = await start(without(hub.connect('d1'), broken))
  await soon(actor.ready, 60_000)
  expect((await takenOf(5)).taken).toEqual([])
  broken.clear()
  await pass(15_000)
  expect((await takenOf(5)).taken).toHaveLength(5)
})
