// Membership on the memory bus, in virtual time.
import { expect, test } from 'vitest'
import { sleep } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { createMemoryHub, type MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { Bus, KvBucket } from '../../../shared/bus/port.ts'
import { keyFor } from '../../../shared/bus/record.ts'
import { memberRecord, partitionsRecord, RING_BUCKET, type Role } from '../../../shared/contracts/member.ts'
import { addPartitions, bootstrap, readPartitions } from '../../../shared/membership/bootstrap.ts'
import { joinRing, type Membership } from '../../../shared/membership/membership.ts'
import { valueIn } from '../../records.ts'
import { VirtualClock } from '../../sim/virtual-clock.ts'

const options = { heartbeatMs: 5_000, unhealthyAfterMs: 15_000, forgetAfterMs: 600_000 }
const logs = { logBytesMax: 1 << 20, logReplicas: 3 }

interface Ground {
  readonly clock: VirtualClock
  readonly hub: MemoryHub
  join(id: string, role?: Role): Promise<Membership>
  wait(ms: number): Promise<void>
}

/** Runs a story in virtual time. */
async function story(partitions: number, tell: (ground: Ground) => Promise<void>): Promise<void> {
  const clock = new VirtualClock()
  const hub = createMemoryHub({ clock, random: seededRandom(1), faults: { delayMs: { minMs: 1, maxMs: 3 } } })
  const join = (id: string, role: Role = 'ingester') => {
    const bus = hub.connect(id)
    const self = { id, role, zone: '', incarnation: `${id}@${clock.monotonic()}`, version: 'test', capacity: 0 }
    return joinRing({ bus, clock: bus.clock, self, options, onError: () => {} })
  }
  let isOver = false
  const whole = (async () => {
    await bootstrap(hub.connect('setup'), { ...logs, partitions, replicationFactor: 1 })
    await tell({ clock, hub, join, wait: (ms) => sleep(clock, ms) })
  })().finally(() => {
    isOver = true
  })
  whole.catch(() => {}) // awaited below
  await clock.run(() => isOver, 3_600_000)
  await whole
}

const health = (membership: Membership) =>
  membership.members().map(({ id, isHealthy }) => `${id}${isHealthy ? '' : ' silent'}`)

test('MEMBER-1: a member that is killed is silent after 15 s and forgotten after 10 minutes; others take its partitions', async () => {
  await story(4, async ({ hub, join, wait }) => {
    const a = await join('a')
    await join('b')
    await wait(6_000)
    expect(new Set([0, 1, 2, 3].flatMap((p) => a.owners(p)))).toEqual(new Set(['a', 'b']))
    hub.crash('b')
    await wait(9_000)
    expect(health(a)).toEqual(['a', 'b'])
    await wait(10_000)
    expect(health(a)).toEqual(['a', 'b silent'])
    expect([0, 1, 2, 3].flatMap((p) => a.owners(p))).toEqual(['a', 'a', 'a', 'a'])
    await wait(620_000)
    expect(health(a)).toEqual(['a'])
  })
})

test('MEMBER-2: while the bucket is away for 30 s nobody is judged, nor right after; MEMBER-3: the view stops being confirmed, and is again', async () => {
  await story(1, async ({ hub, join, wait }) => {
    const a = await join('a')
    const b = await join('b', 'querier')
    await wait(7_000)
    hub.faults.bucketsDown = true
    for (let i = 0; i < 30; i++) {
      await wait(1_000)
      expect(health(a)).toEqual(['a', 'b'])
      expect(a.owners(0)).toEqual(['a'])
    }
    expect(b.isConfirmed()).toBe(false)
    hub.faults.bucketsDown = false
    for (let i = 0; i < 30; i++) {
      await wait(500)
      expect(health(a)).toEqual(['a', 'b'])
    }
    expect(b.isConfirmed()).toBe(true)
  })
})

test('MEMBER-2: a pause as long as a change of leader (9 s) neither makes anybody silent nor a view unconfirmed', async () => {
  await story(1, async ({ hub, join, wait }) => {
    const a = await join('a')
    await join('b', 'querier')
    await wait(9_900)
    hub.faults.bucketsDown = true
    for (let i = 0; i < 40; i++) {
      if (i === 18) hub.faults.bucketsDown = false
      await wait(500)
      expect(health(a)).toEqual(['a', 'b'])
      expect(a.isConfirmed()).toBe(true)
    }
  })
})

test('who has missed heartbeats is no heir any more, long before it counts as silent', async () => {
  await story(1, async ({ hub, join, wait }) => {
    const a = await join('a')
    await join('b')
    await wait(6_000)
    const freshOf = () => a.members().map(({ id, isFresh }) => `${id}${isFresh ? '' : ' late'}`)
    expect(freshOf()).toEqual(['a', 'b'])
    hub.crash('b')
    await wait(11_000)
    expect([freshOf(), health(a)]).toEqual([
      ['a', 'b late'],
      ['a', 'b'],
    ])
  })
})

test('MEMBER-2: who was suspended for minutes judges nobody when it goes on', async () => {
  await story(1, async ({ hub, join, wait }) => {
    const a = await join('a')
    await join('b')
    await wait(6_000)
    hub.pause('a')
    await wait(120_000)
    expect(a.isConfirmed()).toBe(false)
    hub.resume('a')
    for (let i = 0; i < 40; i++) {
      await wait(500)
      expect(health(a)).toEqual(['a', 'b'])
    }
    expect(a.isConfirmed()).toBe(true)
  })
})

test('LOG-19: who has caught up is read first: the former owner until the new one says so, LEAVING or not', async () => {
  await story(1, async ({ join, wait }) => {
    const watcher = await join('querier-1', 'querier')
    const members = [await join('a'), await join('b')]
    await wait(100)
    const owner = members.find(({ id }) => watcher.owners(0)[0] === id)!
    const other = members.find(({ id }) => id !== owner.id)!
    other.setHolds([0])
    await wait(100)
    expect(watcher.readers(0)).toEqual([other.id, owner.id])
    expect(watcher.ring().partitions[0]).toMatchObject({ state: 'moving', alsoHeldBy: [other.id] })
    owner.setHolds([0])
    await wait(100)
    expect(watcher.readers(0)).toEqual([owner.id, other.id])
    await owner.setState('LEAVING')
    await wait(100)
    expect(watcher.owners(0)).toEqual([other.id])
    expect(watcher.holders(0)).toEqual([other.id, owner.id])
    await owner.setState('ACTIVE')
    await wait(100)
    expect(watcher.owners(0), 'who leaves does not come back').toEqual([other.id])
    await owner.leave()
    await wait(100)
    expect(watcher.readers(0)).toEqual([other.id])
  })
})

test('BOOTSTRAP-4, MEMBER-4: added partitions are read once followed, and take series once every live member has heard; a paused one is waited for', async () => {
  await story(2, async ({ hub, join, wait }) => {
    const ingester = await join('a')
    const querier = await join('q', 'querier')
    ingester.setHolds([0, 1])
    await wait(6_000)
    const admin = hub.connect('admin')
    hub.pause('q')
    expect(await addPartitions(admin, 2)).toMatchObject({ count: 4, readable: 2, writable: 2 })
    expect(await admin.logs.state('log-3'), 'as the first one is').toMatchObject({ bytesMax: 1 << 20, replicas: 3 })
    await wait(1_000)
    expect(await readPartitions(admin), 'nobody follows them yet').toMatchObject({ readable: 2, writable: 2 })
    ingester.setHolds([0, 1, 2, 3])
    await wait(8_000)
    expect(await readPartitions(admin), 'the querier has not heard').toMatchObject({ readable: 4, writable: 2 })
    expect(querier.readableCount(), 'as the paused one sees it').toBe(2)
    await wait(12_000)
    expect(querier.isConfirmed(), 'before others stop waiting for it, it refuses').toBe(false)
    expect(await readPartitions(admin)).toMatchObject({ writable: 4 })
    hub.resume('q')
    await wait(7_000)
    expect([querier.isConfirmed(), querier.readableCount()]).toEqual([true, 4])
  })
})

test('MEMBER-4: a member that hears at once lets partitions open at once; asking for fewer changes nothing', async () => {
  await story(1, async ({ hub, join, wait }) => {
    const ingester = await join('a')
    await join('q', 'querier')
    const admin = hub.connect('admin')
    ingester.setHolds([0, 1])
    await addPartitions(admin, 1)
    await wait(1_000)
    expect(await readPartitions(admin)).toMatchObject({ count: 2, readable: 2, writable: 2 })
    await bootstrap(admin, { ...logs, partitions: 1, replicationFactor: 1 })
    expect(await readPartitions(admin)).toMatchObject({ count: 2 })
    await expect(addPartitions(admin, 2000)).rejects.toMatchObject({
      code: 'err-carillon-partitions',
    })
  })
})

test('MEMBER-4: a server that is behind, and shows no members yet, opens no partitions for writing before they are followed', async () => {
  await story(1, async ({ hub, join }) => {
    const ingester = await join('a')
    ingester.setHolds([0])
    const admin = hub.connect('admin')
    const behind = async (...of: Parameters<Bus['bucket']>): Promise<KvBucket> => ({
      ...(await admin.bucket(...of)),
      watch: (_filter, _onEntry, onReady) => {
        onReady()
        return { stop() {} }
      },
    })
    const view = { bucket: behind, logs: admin.logs, clock: admin.clock } as unknown as Bus
    await addPartitions(view, 1)
    expect(await readPartitions(admin)).toMatchObject({ count: 2, readable: 1, writable: 1 })
  })
})

const facts = { id: 'a', role: 'querier', zone: '', state: 'ACTIVE', incarnation: 'i', version: '1', capacity: 0 }
const JUNK = ['junk', 'null', '{}', '{"v":1,"id":"ghost"}', '{"v":2}', '']

test.each(JUNK)(
  'MEMBER-5: "%s" in the place of members: everybody goes on past every bound, and whoever starts comes up',
  async (junk) => {
    await story(2, async ({ hub, join, wait }) => {
      const a = await join('a')
      const bucket = await hub.connect('hand').bucket(RING_BUCKET)
      for (const key of ['member.ghost', 'member.x.y', 'member', 'else']) await bucket.put(key, Buffer.from(junk))
      await bucket.put('member.a', Buffer.from(junk))
      await wait(40_000)
      expect(a.isConfirmed()).toBe(true)
      const b = await join('b')
      await wait(40_000)
      for (const each of [a, b]) {
        expect(each.isConfirmed()).toBe(true)
        expect(health(each)).toEqual(['a', 'b'])
        expect(each.partitionCount()).toBe(2)
      }
      await b.leave()
      await wait(1_000)
      expect(health(a)).toEqual(['a'])
    })
  },
)

test('MEMBER-5: junk over a member that is gone is forgotten with it; of a newer version it does not count, and stays', async () => {
  await story(1, async ({ hub, join, wait }) => {
    const a = await join('a')
    await join('b')
    await join('c')
    const bucket = await hub.connect('hand').bucket(RING_BUCKET)
    hub.crash('b')
    hub.crash('c')
    await bucket.put('member.b', Buffer.from('junk'))
    await bucket.put('member.c', Buffer.from('{"v":2}'))
    await wait(1_000)
    expect(health(a)).toEqual(['a', 'b'])
    await wait(20_000)
    expect(health(a)).toEqual(['a', 'b silent'])
    await wait(620_000)
    expect(health(a)).toEqual(['a'])
    expect((await bucket.get('member.b'))?.value).toBeUndefined()
    expect((await bucket.get('member.c'))?.value).toBeDefined()
  })
})

test.each([
  ['junk'],
  ['null'],
  ['{}'],
  ['{"v":1,"count":1000000000,"replicationFactor":1}'],
  ['{"v":1,"count":2,"readable":3,"replicationFactor":1}'],
  ['{"v":1,"count":0,"replicationFactor":1}'],
])(
  'MEMBER-5: %s in the place of the partitions: what was heard before holds, whoever heard nothing is not confirmed',
  async (junk) => {
    await story(3, async ({ hub, join, wait }) => {
      const admin = hub.connect('admin')
      const a = await join('a')
      const bucket = await admin.bucket(RING_BUCKET)
      const before = (await bucket.get('partitions'))!.value!
      await bucket.put('partitions', Buffer.from(junk))
      await wait(40_000)
      expect([a.isConfirmed(), a.partitionCount()]).toEqual([true, 3])
      const b = await join('b')
      await wait(40_000)
      expect([b.isConfirmed(), b.isConfirmed(100), b.partitionCount()]).toEqual([false, false, 0])
      const unreadable = { kind: 'corrupt', message: expect.stringContaining('"partitions"') }
      await expect(readPartitions(admin)).rejects.toMatchObject(unreadable)
      await expect(addPartitions(admin, 1)).rejects.toMatchObject(unreadable)
      await expect(bootstrap(admin, { ...logs, partitions: 3, replicationFactor: 1 })).rejects.toMatchObject(unreadable)
      expect(Buffer.from((await bucket.get('partitions'))!.value!).toString()).toBe(junk)
      await bucket.put('partitions', before)
      await wait(1_000)
      expect([b.isConfirmed(), b.partitionCount()]).toEqual([true, 3])
    })
  },
)

test('MEMBER-5: partitions of a newer version: nobody of this one is confirmed', async () => {
  await story(1, async ({ hub, join, wait }) => {
    const a = await join('a')
    const bucket = await hub.connect('hand').bucket(RING_BUCKET)
    await bucket.put('partitions', Buffer.from('{"v":2,"count":1}'))
    await wait(1_000)
    expect(a.isConfirmed(100)).toBe(false)
  })
})

test('records without the newer fields are read', () => {
  const partitions = valueIn(partitionsRecord, Buffer.from('{"v":1,"count":3,"replicationFactor":2}'))
  expect(partitions).toEqual({ v: 1, count: 3, readable: 3, writable: 3, replicationFactor: 2 })
  const member = valueIn(memberRecord, Buffer.from(JSON.stringify({ v: 1, ...facts, startedAtMs: 1 })))
  expect(member).toMatchObject({ ...facts, holds: [], damageCount: 0, ringRevision: 0, beat: 0 })
  expect([RING_BUCKET, keyFor(memberRecord, { id: 'a' }), keyFor(partitionsRecord, {})]).toEqual([
    ...['ring', 'member.a', 'partitions'],
  ])
})
