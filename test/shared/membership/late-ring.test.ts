// Members whose watch over the ring is late, deaf for a while, or met by others in the middle of a change.
import { expect, test } from 'vitest'
import { type Clock, sleep } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { createMemoryHub, type MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { keyFor } from '../../../shared/bus/record.ts'
import { memberRecord, partitionsRecord, RING_BUCKET } from '../../../shared/contracts/member.ts'
import { addPartitions, bootstrap, readPartitions } from '../../../shared/membership/bootstrap.ts'
import { joinRing, type Membership } from '../../../shared/membership/membership.ts'
import { withBuckets, withLateWatches } from '../../altered-bus.ts'
import { VirtualClock } from '../../sim/virtual-clock.ts'

const options = { heartbeatMs: 5_000, unhealthyAfterMs: 15_000, forgetAfterMs: 600_000 }

interface Ground {
  readonly clock: VirtualClock
  readonly hub: MemoryHub
  join(id: string, view?: (bus: Bus) => Bus, through?: (clock: Clock) => Clock): Promise<Membership>
  wait(ms: number): Promise<void>
}

/** Runs a story in virtual time. */
async function story(partitions: number, tell: (ground: Ground) => Promise<void>): Promise<void> {
  const clock = new VirtualClock()
  const hub = createMemoryHub({ clock, random: seededRandom(1), faults: { delayMs: { minMs: 1, maxMs: 3 } } })
  const join: Ground['join'] = (id, view = (bus) => bus, through = (own) => own) => {
    const bus = view(hub.connect(id))
    const self = { id, role: 'ingester' as const, zone: '', incarnation: `${id}@1`, version: 'test', capacity: 0 }
    return joinRing({ bus, clock: through(bus.clock), self, options, onError: () => {} })
  }
  let isOver = false
  const whole = (async () => {
    const logs = { logBytesMax: 1 << 20, logReplicas: 1 }
    await bootstrap(hub.connect('setup'), { ...logs, partitions, replicationFactor: 1 })
    await tell({ clock, hub, join, wait: (ms) => sleep(clock, ms) })
  })().finally(() => {
    isOver = true
  })
  whole.catch(() => {}) // awaited below
  await clock.run(() => isOver, 7_200_000)
  await whole
}

/** The bus whose watches tell nothing of these keys while that is so. */
const deafTo = (bus: Bus, isDeafTo: (key: string) => boolean): Bus =>
  withBuckets(bus, (bucket) => ({
    watch: (filter, onEntry, ...rest) =>
      bucket.watch(filter, (entry) => (isDeafTo(entry.key) ? undefined : onEntry(entry)), ...rest),
  }))

test('MEMBER-2: who stood still and hears itself before it hears the others judges nobody by the time that it missed', async () => {
  await story(1, async ({ hub, join, wait }) => {
    let isDeaf = false
    const a = await join('a', (bus) => deafTo(bus, (key) => isDeaf && key === keyFor(memberRecord, { id: 'b' })))
    await join('b')
    await wait(6_000)
    hub.pause('a')
    isDeaf = true
    await wait(120_000)
    hub.resume('a')
    for (let i = 0; i < 16; i++) {
      await wait(500)
      expect(a.members().map(({ id, isHealthy }) => [id, isHealthy])).toEqual([
        ['a', true],
        ['b', true],
      ])
    }
  })
})

test('MEMBER-3: heartbeats that come back late confirm nothing newer than when they were sent', async () => {
  await story(1, async ({ clock, hub, join, wait }) => {
    let lateMs = 0
    const late = () => sleep(clock, lateMs)
    const a = await join('a', (bus) => withLateWatches(bus, late))
    await wait(10_000)
    expect(a.isConfirmed()).toBe(true)
    lateMs = options.unhealthyAfterMs + 1_000
    await wait(120_000)
    expect(a.isConfirmed()).toBe(false)
    await addPartitions(hub.connect('admin'), 2)
    for (let i = 0; i < 40; i++) {
      a.setHolds([0, 1, 2].slice(0, a.partitionCount()))
      await wait(5_000)
    }
    expect(a.partitionCount()).toBe(3)
    expect(await readPartitions(hub.connect('looker')), 'MEMBER-4: nothing is opened by such a view').toMatchObject({
      ...{ count: 3, readable: 1, writable: 1 },
    })
  })
})

test('MEMBER-1: the record of a member that is back is not deleted by who has not heard of it', async () => {
  await story(1, async ({ hub, join, wait }) => {
    let isDeaf = false
    const a = await join('a', (bus) => deafTo(bus, (key) => isDeaf && key === keyFor(memberRecord, { id: 'b' })))
    await join('b')
    const bucket = await hub.connect('looker').bucket(RING_BUCKET)
    let goneCount = 0
    bucket.watch(
      keyFor(memberRecord, { id: 'b' }),
      ({ value }) => {
        if (value === undefined) goneCount++
      },
      () => {},
    )
    await wait(6_000)
    isDeaf = true
    await wait(options.forgetAfterMs + 60_000)
    expect(a.members().find(({ id }) => id === 'b')?.isHealthy).toBe(false)
    expect(goneCount).toBe(0)
  })
})

test('MEMBER-3: who wakes after its machine was suspended is not confirmed until a heartbeat has come back', async () => {
  await story(1, async ({ clock, hub, join, wait }) => {
    let stoodMs = 0
    let sinceMs: number | undefined
    const sleeper = (own: Clock): Clock => ({
      ...{ now: () => own.now(), uptime: () => own.uptime() },
      after: (ms, fn) => own.after(ms, fn),
      turn: (fn) => own.turn(fn),
      monotonic: () => (sinceMs ?? own.monotonic()) - stoodMs,
    })
    const [a, b] = [await join('a'), await join('b', (bus) => bus, sleeper)]
    a.setHolds([0])
    b.setHolds([0])
    await wait(6_000)
    sinceMs = clock.monotonic()
    hub.pause('b')
    await wait(20_000)
    await addPartitions(hub.connect('admin'), 7)
    await wait(1_000)
    a.setHolds([0, 1, 2, 3, 4, 5, 6, 7])
    await wait(20_000)
    expect([a.readableCount(), a.writableCount()], 'others write to them').toEqual([8, 8])
    stoodMs = clock.monotonic() - sinceMs
    sinceMs = undefined
    hub.resume('b')
    expect([b.readableCount(), b.isConfirmed()]).toEqual([1, false])
    await wait(6_000)
    expect([b.readableCount(), b.isConfirmed()]).toEqual([8, true])
  })
})

test('MEMBER-4: partitions that are added while others are being opened are not lost', async () => {
  await story(1, async ({ hub, join, wait }) => {
    const admin = hub.connect('admin')
    let isMet = false
    const meet = async (key: string) => {
      if (key !== keyFor(partitionsRecord, {}) || isMet) return
      isMet = true
      await addPartitions(admin, 1)
    }
    const a = await join('a', (bus) =>
      withBuckets(bus, (bucket) => ({
        update: (key, ...rest) => meet(key).then(() => bucket.update(key, ...rest)),
        put: (key, ...rest) => meet(key).then(() => bucket.put(key, ...rest)),
      })),
    )
    await addPartitions(admin, 1)
    for (let i = 0; i < 20; i++) {
      a.setHolds([0, 1, 2].slice(0, a.partitionCount()))
      await wait(5_000)
    }
    expect(isMet).toBe(true)
    expect(await readPartitions(admin)).toMatchObject({ count: 3, readable: 3, writable: 3 })
  })
})

test('MEMBER-6: after the bucket lost its newest writes members find back, over what stood there before them', async () => {
  await story(1, async ({ hub, join, wait }) => {
    const former = {
      v: 1,
      id: 'b',
      role: 'ingester',
      zone: '',
      incarnation: 'b@0',
      version: 'test',
      capacity: 0,
    } as const
    const record = {
      ...former,
      state: 'ACTIVE',
      startedAtMs: 0,
      holds: [],
      damageCount: 0,
      ringRevision: 0,
      beat: 1,
    } as const
    await (await hub.connect('former').bucket(RING_BUCKET)).put(
      keyFor(memberRecord, { id: 'b' }),
      memberRecord.format.encode(record),
    )
    const bucket = hub.bucket(RING_BUCKET)!
    const a = await join('a')
    await wait(6_000)
    const { revision } = bucket
    const b = await join('b')
    await wait(6_000)
    bucket.cutTail(revision)
    await wait(options.unhealthyAfterMs + 1_000)
    for (const member of [a, b]) {
      expect(member.isConfirmed()).toBe(true)
      expect(member.members().map(({ id, incarnation, isHealthy }) => [id, incarnation, isHealthy])).toEqual([
        ['a', 'a@1', true],
        ['b', 'b@1', true],
      ])
    }
  })
})
