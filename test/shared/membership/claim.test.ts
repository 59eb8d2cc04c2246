// One id, one process: on the memory bus, in virtual time.
import { expect, test } from 'vitest'
import { type Clock, sleep } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { createMemoryHub, type MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import { bootstrap } from '../../../shared/membership/bootstrap.ts'
import { claimId } from '../../../shared/membership/claim.ts'
import { joinRing, type Membership } from '../../../shared/membership/membership.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { VirtualClock } from '../../sim/virtual-clock.ts'

const options = { heartbeatMs: 5_000, unhealthyAfterMs: 15_000, forgetAfterMs: 600_000 }

interface Process {
  readonly membership: Membership
  /** What it was told when another one took its id. */
  readonly taken: Error[]
}

interface Ground {
  readonly hub: MemoryHub
  readonly clock: Clock
  /** A process of this id on a connection of this name, as it starts. */
  start(connection: string, id?: string): Promise<Process>
  claim(connection: string, id?: string): Promise<number>
}

/** Runs a story in virtual time. */
async function story(tell: (ground: Ground) => Promise<void>): Promise<void> {
  const clock = new VirtualClock()
  const random = seededRandom(1)
  const hub = createMemoryHub({ clock, random, faults: { delayMs: { minMs: 1, maxMs: 3 } } })
  const selfOf = (incarnation: string, id: string) => {
    return { id, role: 'querier' as const, zone: '', incarnation, version: 'test', capacity: 0 }
  }
  const { signal } = new AbortController()
  const ground: Ground = {
    hub,
    clock,
    async claim(connection, id = 'q') {
      const bus = hub.connect(connection)
      const startedMs = clock.monotonic()
      const self = selfOf(connection, id)
      await claimId({ bus, clock: bus.clock, random, log: silentLog, self, ...options, signal })
      return clock.monotonic() - startedMs
    },
    async start(connection, id = 'q') {
      await ground.claim(connection, id)
      const bus = hub.connect(`${connection}-ring`)
      const taken: Error[] = []
      const onTaken = (error: Error) => taken.push(error)
      const self = selfOf(connection, id)
      const membership = await joinRing({ bus, clock: bus.clock, self, options, onError: () => {}, onTaken })
      return { membership, taken }
    },
  }
  let isOver = false
  const whole = (async () => {
    await bootstrap(hub.connect('setup'), { partitions: 1, replicationFactor: 1, logBytesMax: 1 << 20, logReplicas: 1 })
    await tell(ground)
  })().finally(() => {
    isOver = true
  })
  whole.catch(() => {}) // awaited below
  await clock.run(() => isOver, 3_600_000)
  await whole
}

test('CLAIM-1: a second process is refused by name within seconds, and the first goes on', () =>
  story(async ({ clock, start, claim }) => {
    const first = await start('a')
    const startedMs = clock.monotonic()
    await expect(claim('b')).rejects.toMatchObject({
      code: 'err-carillon-id-taken',
      message: expect.stringMatching(/^the id q is taken by a querier, process \d+ on /),
    })
    expect(clock.monotonic() - startedMs).toBeLessThan(4_000)
    await sleep(clock, 20_000)
    expect(first.taken).toEqual([])
    expect(first.membership.members()).toMatchObject([{ id: 'q', incarnation: 'a', isHealthy: true }])
    expect(await claim('c', 'another')).toBeLessThan(100)
  }))

test('CLAIM-2: after a kill the id is free at once, and the record of the dead is written over', () =>
  story(async ({ hub, clock, start }) => {
    await start('a')
    await sleep(clock, 7_000)
    hub.crash('a')
    hub.crash('a-ring')
    const startedMs = clock.monotonic()
    const second = await start('b')
    expect(clock.monotonic() - startedMs).toBeLessThan(300)
    await sleep(clock, 30_000)
    expect(second.membership.members()).toMatchObject([{ incarnation: 'b', isHealthy: true }])
  }))

test('CLAIM-3, MEMBER-6: one that hangs has its id until it was silent for long; when it wakes it is told, and writes nothing', () =>
  story(async ({ hub, clock, start }) => {
    const first = await start('a')
    await sleep(clock, 7_000)
    hub.pause('a')
    hub.pause('a-ring')
    const startedMs = clock.monotonic()
    const second = await start('b')
    expect(clock.monotonic() - startedMs).toBeGreaterThan(options.unhealthyAfterMs)
    expect(clock.monotonic() - startedMs).toBeLessThan(options.unhealthyAfterMs + 3_000)
    hub.resume('a')
    hub.resume('a-ring')
    await sleep(clock, 30_000)
    expect(first.taken).toMatchObject([{ code: 'err-carillon-id-taken' }])
    expect(second.taken).toEqual([])
    await first.membership.leave()
    await sleep(clock, 30_000)
    expect(second.membership.members()).toMatchObject([{ incarnation: 'b', isHealthy: true }])
  }))

test('CLAIM-1: one that answers late, but writes its heartbeats, keeps its id', () =>
  story(async ({ hub, clock, start, claim }) => {
    const first = await start('a')
    hub.pause('a') // which answers; its heartbeats go another way
    await expect(claim('b')).rejects.toMatchObject({ code: 'err-carillon-id-taken' })
    await sleep(clock, 10_000)
    expect(first.taken).toEqual([])
  }))

test('CLAIM-4: of two that come at once one stays', () =>
  story(async ({ clock, start }) => {
    const both = await Promise.allSettled([start('a'), start('b')])
    await sleep(clock, 20_000)
    const stayed = both.filter((each) => each.status === 'fulfilled' && each.value.taken.length === 0)
    expect(stayed).toHaveLength(1)
  }))
