// What one actor sees of the ring at one moment: a snapshot, computed from the records it has heard and from nothing else.
//
// Invariants
//   VIEW-1  Views are immutable. Owners depend on ids, zones, states and health alone, so actors that hear the same agree.
//   VIEW-2  Whoever has caught up with a partition is read first: a new owner only once its record says so, a former one until then (LOG-19).
import {
  type MemberRecord,
  PARTITIONS_NONE,
  type PartitionsRecord,
  type RingReply,
  type Role,
} from '../contracts/member.ts'
import { textsKey } from '../model/text-key.ts'
import { ownersOf } from '../ring/owners.ts'

export interface Member extends MemberRecord {
  readonly isHealthy: boolean
  /** It missed no heartbeat that was due, so it lived moments ago: what is left to it is in good hands. */
  readonly isFresh: boolean
  /** Milliseconds since this actor saw the record change. */
  readonly silentMs: number
}

export interface View {
  /** All members that are not forgotten, sorted by id. */
  readonly members: readonly Member[]
  readonly partitions: PartitionsRecord
  owners(partition: number): readonly string[]
  /** Owners that have caught up, the first owner first; then others that still hold the partition. */
  holders(partition: number): readonly string[]
  /** Whom to ask, best first: holders, then owners that replay, then whoever else lives. */
  readers(partition: number): readonly string[]
}

/** Keeps the last owners, which cost most to compute. */
export type OwnersCache = { key: string; owners: readonly (readonly string[])[] }

export function viewOf(members: readonly Member[], partitions: PartitionsRecord | undefined, cache: OwnersCache): View {
  const record = partitions ?? PARTITIONS_NONE
  const ingesters = members.filter((member) => member.role === 'ingester' && member.isHealthy)
  const owners = ownersBy(
    cache,
    ingesters.filter(({ state }) => state !== 'LEAVING'),
    record,
  )
  const held = new Map<number, string[]>()
  for (const { id, holds } of ingesters) {
    for (const partition of holds) {
      const ids = held.get(partition)
      if (ids) ids.push(id)
      else held.set(partition, [id])
    }
  }
  return { members, partitions: record, owners: (partition) => owners[partition] ?? [], holders, readers }

  function holders(partition: number): readonly string[] {
    const ids = held.get(partition) ?? []
    const own = owners[partition] ?? []
    return [...own.filter((id) => ids.includes(id)), ...ids.filter((id) => !own.includes(id))]
  }

  function readers(partition: number): readonly string[] {
    return [...new Set([...holders(partition), ...(owners[partition] ?? []), ...ingesters.map(({ id }) => id)])]
  }
}

function ownersBy(
  cache: OwnersCache,
  ingesters: readonly Member[],
  { count, replicationFactor }: PartitionsRecord,
): readonly (readonly string[])[] {
  const key = `${count}/${replicationFactor}/${textsKey(ingesters.flatMap(({ id, zone }) => [id, zone]))}`
  if (cache.key !== key) {
    cache.owners = ownersOf(ingesters, { partitionCount: count, replicationFactor })
    cache.key = key
  }
  return cache.owners
}

export function liveIn(view: View, role: Role): readonly Member[] {
  return view.members.filter((member) => member.role === role && member.isHealthy && member.state !== 'LEAVING')
}

/** The view as people and programs are told it. */
export function ringReplyOf(view: View, seen: { by: string; isConfirmed: boolean }): RingReply {
  const { partitions, members } = view
  return {
    asSeenBy: seen.by,
    isConfirmed: seen.isConfirmed,
    replicationFactor: partitions.replicationFactor,
    partitionCount: partitions.count,
    writableCount: partitions.writable,
    members: members.map(({ v: _, holds, beat: __, isFresh: ___, silentMs, ...member }) => ({
      ...member,
      heartbeatAgeMs: Math.round(silentMs),
      holdsCount: holds.length,
    })),
    partitions: Array.from({ length: partitions.count }, (_, partition) => {
      const owners = view.owners(partition)
      const holders = view.holders(partition)
      return {
        partition,
        state: stateOf({ isReadable: partition < partitions.readable, owners, holders }),
        isWritable: partition < partitions.writable,
        owners: owners.map((id) => ({ id, hasCaughtUp: holders.includes(id) })),
        alsoHeldBy: holders.filter((id) => !owners.includes(id)),
      }
    }),
  }
}

function stateOf(row: {
  isReadable: boolean
  owners: readonly string[]
  holders: readonly string[]
}): RingReply['partitions'][number]['state'] {
  if (!row.isReadable) return 'opening'
  if (row.holders.length === 0) return 'unserved'
  return row.owners.length > 0 && row.owners.every((id) => row.holders.includes(id)) ? 'served' : 'moving'
}
