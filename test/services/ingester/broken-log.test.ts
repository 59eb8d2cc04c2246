// OWNERSHIP-1: a log that does not answer delays nothing but itself.
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ingesterSettings } from '../../../services/ingester/config.ts'
import { ingester } from '../../../services/ingester/ingester.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import type { RunningActor } from '../../../shared/bus/actor.ts'
import { createMemoryHub, type MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { runActor } from '../../../shared/bus/run-actor.ts'
import { defaultsOf } from '../../../shared/config/settings.ts'
import { logName } from '../../../shared/contracts/log.ts'
import { bootstrap } from '../../../shared/membership/bootstrap.ts'
import { asMember } from '../../../shared/membership/member-actor.ts'
import { joinRing, type Membership } from '../../../shared/membership/membership.ts'
import { memoryObjects } from '../../../shared/objects/memory-objects.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { createMetrics } from '../../../shared/telemetry/metrics.ts'
import { VirtualClock } from '../../sim/virtual-clock.ts'
import { changed } from './flush-ground.ts'

const PARTITIONS = 4
const random = seededRandom(1)
let clock: VirtualClock
let hub: MemoryHub
let isOver: boolean

beforeEach(async () => {
  clock = new VirtualClock()
  hub = createMemoryHub({ clock, random })
  isOver = false
  void clock.run(() => isOver, Number.POSITIVE_INFINITY)
  const options = { partitions: PARTITIONS, replicationFactor: 1, logBytesMax: 1 << 24, logReplicas: 1 }
  await soon(bootstrap(hub.connect('admin'), options))
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

/** A bus on which some logs have no leader: their state is refused at once, or never answered. */
function without(bus: Bus, broken: ReadonlySet<string>, how: 'refuses' | 'is silent'): Bus {
  const away = async (log: string) => {
    if (how === 'is silent') await new Promise<void>((resolve) => clock.after(60_000, resolve))
    throw new UnavailableError('bus-timeout', `${log} has no leader`)
  }
  return changed(bus, { state: (log) => (broken.has(log) ? away(log) : bus.logs.state(log)) })
}

interface Started {
  readonly actor: RunningActor
  readonly membership: Membership
  readonly follows: () => number[]
  /** Nothing: its process says that it is ACTIVE (OWNERSHIP-3). */
  readonly lacks: () => Promise<readonly string[]>
}

async function start(bus: Bus): Promise<Started> {
  const membership = await soon(
    joinRing({
      ...{ bus, clock, onError: () => {} },
      self: { id: 'i1', role: 'ingester', zone: 'a', incarnation: 'x', version: 't', capacity: 0 },
      options: { heartbeatMs: 500, unhealthyAfterMs: 2_000, forgetAfterMs: 20_000 },
    }),
  )
  const facts = { bus, clock, random, log: silentLog, metrics: createMetrics(), id: 'i1', incarnation: 'x', membership }
  const deps = { ...facts, objects: memoryObjects({ clock }) }
  const made = ingester({ ...deps, config: defaultsOf(ingesterSettings, {}) })
  const actor = runActor(asMember(made, { ...deps, role: 'ingester' }), { bus, clock, random, log: silentLog })
  const follows = () => made.owners().flatMap((owner) => (owner.isCaughtUp ? [owner.partition] : []))
  return { actor, membership, follows, lacks: async () => (await made.lacks?.()) ?? [] }
}

const me = ({ membership }: Started) => membership.members().find(({ id }) => id === 'i1')

test.each([
  [0, 'refuses'],
  [3, 'refuses'],
  [0, 'is silent'],
  [3, 'is silent'],
] as const)(
  'log %i %s: the others are followed, marked and told, and the ingester is ready',
  async (partition, how) => {
    const broken = new Set([logName(partition)])
    const started = await start(without(hub.connect('i1'), broken, how))
    const whole = [0, 1, 2, 3].filter((each) => each !== partition)
    await soon(started.actor.ready, 15_000)
    await pass(65_000)
    expect(started.actor.state).toBe('running')
    expect(started.follows()).toEqual(whole)
    expect(me(started)).toMatchObject({ holds: whole })
    expect(await started.lacks()).toEqual([])
    broken.clear()
    await pass(120_000)
    expect(me(started)?.holds, 'it is followed as soon as it answers').toEqual([0, 1, 2, 3])
  },
)

test('INGESTER-5: a log that stops answering later is not told any more, the others are', async () => {
  const broken = new Set<string>()
  const started = await start(without(hub.connect('i1'), broken, 'is silent'))
  await soon(started.actor.ready)
  await pass(5_000)
  expect(me(started)?.holds).toEqual([0, 1, 2, 3])
  broken.add(logName(1))
  await pass(30_000)
  expect(me(started)?.holds).toEqual([0, 2, 3])
  broken.clear()
  await pass(90_000)
  expect(me(started)?.holds).toEqual([0, 1, 2, 3])
})

test('OWNERSHIP-3: where no log answers it runs, and is not ACTIVE until one does', async () => {
  const broken = new Set([0, 1, 2, 3].map(logName))
  const started = await start(without(hub.connect('i1'), broken, 'refuses'))
  await soon(started.actor.ready, 15_000)
  await pass(60_000)
  expect(me(started)).toMatchObject({ holds: [] })
  expect(await started.lacks()).toEqual(
    [0, 1, 2, 3].map((partition) => `partition ${partition}: its log does not answer`),
  )
  broken.clear()
  await pass(10_000)
  expect(me(started)).toMatchObject({ holds: [0, 1, 2, 3] })
  expect(await started.lacks()).toEqual([])
})

test('it stops while a log is silent', async () => {
  const started = await start(without(hub.connect('i1'), new Set([logName(2)]), 'is silent'))
  await soon(started.actor.ready, 15_000)
  const startedMs = clock.monotonic()
  await soon(started.actor.stop())
  expect(clock.monotonic() - startedMs).toBeLessThan(20_000)
})
