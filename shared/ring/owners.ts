// Who owns what: pure functions that every actor computes alike from the same membership.
//
// Invariants
//   R1  The same members give the same owners, whatever order they are listed in.
//   R2  A partition has min(replicationFactor, members) owners, in different zones as long as zones last.
//   R3  No member owns more than one partition above another's count plus what zones force on it.
//   R4  A series has one partition; adding partitions moves only series that go to the new ones.

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
  const sorted = [...members].sort((a, b) => (a.id < b.id ? -1 : 1))
  const loads = new Map(sorted.map((member) => [member.id, 0]))
  const leads = new Map(sorted.map((member) => [member.id, 0]))
  const owners: string[][] = []
  for (let partition = 0; partition < options.partitionCount; partition++) {
    const chosen: RingMember[] = []
    while (chosen.length < Math.min(options.replicationFactor, sorted.length)) {
      chosen.push(nextOwner(sorted, chosen, { loads, leads, partition }))
    }
    for (const member of chosen) loads.set(member.id, loads.get(member.id)! + 1)
    if (chosen[0]) leads.set(chosen[0].id, leads.get(chosen[0].id)! + 1)
    owners.push(chosen.map((member) => member.id))
  }
  return owners
}

/** The least loaded member outside the zones already chosen; equal ones are told apart by a hash of (partition, id). */
function nextOwner(
  members: readonly RingMember[],
  chosen: readonly RingMember[],
  state: { loads: Map<string, number>; leads: Map<string, number>; partition: number },
): RingMember {
  const free = members.filter((member) => !chosen.includes(member))
  const elsewhere = free.filter((member) => !chosen.some((other) => other.zone === member.zone))
  const candidates = elsewhere.length > 0 ? elsewhere : free
  const rank = (member: RingMember) => [
    state.loads.get(member.id)!,
    chosen.length === 0 ? state.leads.get(member.id)! : 0,
    hashText(`${state.partition}/${member.id}`),
  ]
  return candidates.reduce((best, member) => (compareRanks(rank(member), rank(best)) < 0 ? member : best))
}

function compareRanks(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!
  return 0
}

/** The partition of a series, from the 32-bit hash of its tenant and label set: rendezvous by a jump over partitions, so that a
 *  growing count moves only what goes to the new partitions (R4). Source: Lamping and Veach, "A Fast, Minimal Memory, Consistent
 *  Hash Algorithm" (2014), with a 32-bit generator. */
export function partitionOf(seriesHash: number, partitionCount: number): number {
  if (partitionCount <= 1) return 0
  let key = seriesHash >>> 0
  let bucket = -1
  let next = 0
  while (next < partitionCount) {
    bucket = next
    key = (Math.imul(key, 0x9e3779b1) + 0x7f4a7c15) >>> 0
    const mixed = mix(key)
    next = Math.floor((bucket + 1) * (4294967296 / (mixed + 1)))
  }
  return bucket
}

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

/** 32-bit FNV-1a over UTF-16 units, then mixed. */
export function hashText(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return mix(hash >>> 0)
}

function mix(value: number): number {
  let h = value
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
