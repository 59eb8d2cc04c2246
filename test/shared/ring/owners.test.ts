import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ownersOf, type RingMember } from '../../../shared/ring/owners.ts'

const partitionCounts = [1, 4, 16, 50, 128, 512]

interface Ring {
  readonly members: readonly RingMember[]
  readonly partitionCount: number
  readonly replicationFactor: number
}

const rings = fc
  .record({
    memberCount: fc.oneof(fc.integer({ min: 3, max: 30 }), fc.integer({ min: 31, max: 300 })),
    zoneCount: fc.integer({ min: 1, max: 3 }),
    replicationFactor: fc.integer({ min: 1, max: 3 }),
    partitionCount: fc.constantFrom(...partitionCounts),
    salt: fc.nat({ max: 1e6 }),
  })
  .map(
    ({ memberCount, zoneCount, salt, ...rest }): Ring => ({
      ...rest,
      members: membersOf(memberCount, zoneCount, salt),
    }),
  )

function membersOf(count: number, zoneCount: number, salt: number): RingMember[] {
  return Array.from({ length: count }, (_, i) => ({
    id: `ingester-${(salt + i * 7919).toString(36)}`,
    zone: `zone-${i % zoneCount}`,
  }))
}

function loadsOf(members: readonly RingMember[], lists: readonly (readonly string[])[]): Map<string, number> {
  const loads = new Map(members.map(({ id }) => [id, 0]))
  for (const list of lists) for (const id of list) loads.set(id, loads.get(id)! + 1)
  return loads
}

function spread(loads: Iterable<number>): { least: number; most: number } {
  const all = [...loads]
  return { least: Math.min(...all), most: Math.max(...all) }
}

function movedBetween(before: readonly (readonly string[])[], after: readonly (readonly string[])[]): number {
  return after.reduce((sum, owners, p) => sum + owners.filter((id) => !before[p]!.includes(id)).length, 0)
}

test('RING-1: the order in which members are listed does not matter', () => {
  fc.assert(
    fc.property(rings, fc.nat(), ({ members, ...options }, turn) => {
      const at = turn % members.length
      const turned = [...members.slice(at), ...members.slice(0, at)].reverse()
      expect(ownersOf(turned, options)).toEqual(ownersOf(members, options))
    }),
    { numRuns: 20 },
  )
})

test('RING-2: every partition has as many owners as asked for, all different, in different zones while zones last', () => {
  fc.assert(
    fc.property(rings, ({ members, ...options }) => {
      const zoneOf = new Map(members.map(({ id, zone }) => [id, zone]))
      const zoneCount = new Set(zoneOf.values()).size
      for (const owners of ownersOf(members, options)) {
        expect(new Set(owners).size).toBe(options.replicationFactor)
        expect(owners).toHaveLength(options.replicationFactor)
        const zones = new Set(owners.map((id) => zoneOf.get(id)))
        expect(zones.size).toBe(Math.min(zoneCount, options.replicationFactor))
      }
    }),
    { numRuns: 40 },
  )
})

test('RING-3: within a zone owners hold equally many partitions, one more or less; so do leaders over all', () => {
  fc.assert(
    fc.property(rings, ({ members, ...options }) => {
      const owners = ownersOf(members, options)
      const loads = loadsOf(members, owners)
      for (const zone of new Set(members.map((member) => member.zone))) {
        const inZone = spread(members.filter((member) => member.zone === zone).map(({ id }) => loads.get(id)!))
        expect(inZone.most - inZone.least).toBeLessThanOrEqual(1)
      }
      const leads = spread(
        loadsOf(
          members,
          owners.map((list) => list.slice(0, 1)),
        ).values(),
      )
      expect(leads.most - leads.least).toBeLessThanOrEqual(Math.max(1, 0.1 * leads.most))
    }),
    { numRuns: 60 },
  )
})

test('RING-3: zones of one size, or zones that need not all be used, load all members alike', () => {
  for (const [count, zoneCount, replicationFactor] of [
    [3, 3, 2],
    [6, 3, 3],
    [9, 3, 2],
    [10, 3, 2],
    [100, 3, 1],
    [8, 2, 3],
  ] as const) {
    const members = membersOf(count, zoneCount, count)
    const { least, most } = spread(
      loadsOf(members, ownersOf(members, { partitionCount: 64, replicationFactor })).values(),
    )
    expect(most - least, `${count} members`).toBeLessThanOrEqual(1)
  }
})

test('one zone that is too small owns as much as it can and spoils nobody else’s share', () => {
  const members = [...membersOf(10, 1, 1), { id: 'lonely', zone: 'far' }]
  const owners = ownersOf(members, { partitionCount: 40, replicationFactor: 2 })
  const loads = loadsOf(members, owners)
  expect(loads.get('lonely')).toBe(40)
  expect(spread(members.slice(0, 10).map(({ id }) => loads.get(id)!))).toEqual({ least: 4, most: 4 })
})

// What must move at least is what the new member gets. Even loads cost more where a member has very few partitions: there, moving
// one of them is already a large part of its load. The bounds are the worst of some thousand rings, with room.
test('a member that joins takes its share, and little else moves', () => {
  fc.assert(
    fc.property(rings, ({ members, ...options }) => {
      const before = ownersOf(members.slice(1), options)
      const after = ownersOf(members, options)
      const least = after.filter((owners) => owners.includes(members[0]!.id)).length
      const pairs = options.partitionCount * options.replicationFactor
      const perMember = pairs / members.length
      const noise = perMember > 8 ? 0.08 : perMember > 2 ? 0.2 : 0.4
      expect(movedBetween(before, after)).toBeLessThanOrEqual(2 * least + Math.max(8, noise * pairs))
    }),
    { numRuns: 60 },
  )
})

test('no members, no owners; one member owns all', () => {
  expect(ownersOf([], { partitionCount: 2, replicationFactor: 2 })).toEqual([[], []])
  expect(ownersOf([{ id: 'a', zone: '' }], { partitionCount: 2, replicationFactor: 2 })).toEqual([['a'], ['a']])
})
