// Who owns what: pure functions that every actor computes alike from the same membership.
//
// Every (partition, member) has a score by hash, and each partition wants the members with the highest. Where that would give a member
// too much, it gets a price, which is taken off all its scores; prices rise and fall until loads are even. Since prices hardly depend on
// any one member, a member that comes or goes leaves most partitions where they are. What prices leave uneven is moved one by one.
// Only +, -, * and / of doubles: the same on every machine.
//
// Invariants
//   RING-1  The same members give the same owners, whatever order they are listed in.
//   RING-2  A partition has min(replicationFactor, members) owners, in different zones as long as zones last.
//   RING-3  Members own equally many partitions, one more or less, as far as zones allow; the same holds for leading (being first).
import { hashText, mix } from './hash.ts'
import { evenOut, type Placement } from './placement.ts'

export interface RingMember {
  readonly id: string
  readonly zone: string
}

/** The owners of each partition, first the leader.
 *  @param options.partitionCount partitions are numbered 0 … partitionCount − 1 */
export function ownersOf(
  members: readonly RingMember[],
  options: { partitionCount: number; replicationFactor: number },
): readonly (readonly string[])[] {
  const { partitionCount } = options
  if (members.length === 0) return Array.from({ length: partitionCount }, () => [])
  const sorted = [...members].sort((a, b) => (a.id < b.id ? -1 : 1))
  const zones = zonesOf(sorted)
  const ownerCount = Math.min(options.replicationFactor, sorted.length)
  const scores = scoresOf(sorted, partitionCount)
  const owners = evenOut({
    partitionCount,
    memberCount: sorted.length,
    scores,
    targets: targetsOf(zones, sorted.length, { partitionCount, ownerCount }),
    choose: (values) => chooseOwners(values, zones, ownerCount),
    mayMove: (chosen, from, to) => keepsZones(chosen, zones, from, to),
  })
  const leaders = leadersOf(owners, scores, sorted.length)
  return owners.map((chosen, partition) => {
    const rank = (member: number) =>
      scores[partition * sorted.length + member]! + (leaders[partition] === member ? 1 : 0)
    return [...chosen].sort((a, b) => rank(b) - rank(a)).map((member) => sorted[member]!.id)
  })
}

/** Which of the owners leads each partition. */
function leadersOf(owners: Placement, scores: Float64Array, memberCount: number): readonly number[] {
  const partitionCount = owners.length
  const leaders = evenOut({
    partitionCount,
    memberCount,
    scores,
    targets: new Float64Array(memberCount).fill(partitionCount / memberCount),
    choose: (values, partition) => [
      owners[partition]!.reduce((best, each) => (values[each]! > values[best]! ? each : best)),
    ],
    mayMove: (_, __, to, partition) => owners[partition]!.includes(to),
  })
  return leaders.map(([leader]) => leader!)
}

/** 0 ≤ score < 1, at partition × members + member. No two members have the same score of a partition unless their ids collide. */
function scoresOf(members: readonly RingMember[], partitionCount: number): Float64Array {
  const scores = new Float64Array(partitionCount * members.length)
  const hashes = members.map(({ id }) => hashText(id))
  for (let partition = 0; partition < partitionCount; partition++) {
    const salt = mix(Math.imul(partition + 1, 0x9e3779b1))
    for (let m = 0; m < members.length; m++) {
      scores[partition * members.length + m] = mix(mix(hashes[m]! ^ salt) + 0x7f4a7c15) / 4294967296
    }
  }
  return scores
}

// ---- zones ----

interface Zones {
  /** The zone's number, per member. */
  readonly of: readonly number[]
  /** Members per zone. */
  readonly sizes: readonly number[]
}

function zonesOf(members: readonly RingMember[]): Zones {
  const names = [...new Set(members.map(({ zone }) => zone))]
  const of = members.map(({ zone }) => names.indexOf(zone))
  return { of, sizes: names.map((_, zone) => of.filter((each) => each === zone).length) }
}

/** The best members, first one of each zone, then whoever is best (RING-2). */
function chooseOwners(values: Float64Array, zones: Zones, count: number): number[] {
  const chosen: number[] = []
  while (chosen.length < count) {
    const wantsNewZone = chosen.length < zones.sizes.length
    let best = -1
    for (let m = 0; m < values.length; m++) {
      if (best >= 0 && values[m]! <= values[best]!) continue
      if (chosen.some((other) => other === m || (wantsNewZone && zones.of[other] === zones.of[m]))) continue
      best = m
    }
    chosen.push(best)
  }
  return chosen
}

/** Whether as many zones hold the partition when `to` takes the place of `from`. */
function keepsZones(chosen: readonly number[], zones: Zones, from: number, to: number): boolean {
  if (chosen.includes(to)) return false
  const isIn = (zone: number) => chosen.some((member) => member !== from && zones.of[member] === zone)
  return !isIn(zones.of[to]!) || isIn(zones.of[from]!)
}

/** How many partitions each member should own: the same for all, but for zones too small to take their share or too needed to be spared. */
function targetsOf(
  { of, sizes }: Zones,
  memberCount: number,
  { partitionCount, ownerCount }: { partitionCount: number; ownerCount: number },
): Float64Array {
  const extraMax = Math.max(1, ownerCount - sizes.length + 1)
  const least = sizes.length <= ownerCount ? partitionCount : 0
  const zoneLoad = (size: number, each: number) =>
    Math.min(Math.max(size * each, least), partitionCount * Math.min(size, extraMax))
  let low = 0
  let high = partitionCount
  for (let round = 0; round < 60; round++) {
    const each = (low + high) / 2
    const total = sizes.reduce((sum, size) => sum + zoneLoad(size, each), 0)
    if (total < partitionCount * ownerCount) low = each
    else high = each
  }
  return Float64Array.from({ length: memberCount }, (_, m) => zoneLoad(sizes[of[m]!]!, high) / sizes[of[m]!]!)
}

// ---- senders ----

/** Picks one of `ids` for a key so that most keys keep theirs when ids come and go (rendezvous hashing). */
export function pickFor(key: string, ids: readonly string[]): string | undefined {
  let best: string | undefined
  let bestScore = -1
  for (const id of ids) {
    const score = hashText(`${key}\u0000${id}`)
    if (score > bestScore || (score === bestScore && id < best!)) {
      best = id
      bestScore = score
    }
  }
  return best
}
