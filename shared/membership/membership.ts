// Membership: who is here, kept in the `ring` bucket and watched by every actor.
//
// Each member writes its own record at every heartbeat. Everyone measures silence on its own monotonic clock since it saw a record
// change, never by comparing wall clocks. The number of partitions stands in the same bucket and comes through the same watch, so whoever
// has heard its own heartbeat has heard every change before it.
//
// Invariants
//   MEMBER-1  A member is unhealthy after `unhealthyAfterMs` without a change of its record, forgotten (its record deleted) after `forgetAfterMs`.
//   MEMBER-2  Silence of the whole bucket (NATS away, a leader change) means "unknown", not "all dead": time counts against others only while
//       this actor's own heartbeats come back through the watch, and anew after a gap.
//   MEMBER-3  A view is confirmed as long as a heartbeat that was sent less than `unhealthyAfterMs` ago has come back. Nobody judges this actor
//       dead before that, so whoever waits until all live members know something need not wait for one that is not confirmed (LOG-19). While a machine
//       is suspended that time passes: others go on without it.
//   MEMBER-4  Added partitions are opened in two steps (LOG-19): readable when all their owners follow them, writable when every live member has
//       heard that they are to be read.
//   MEMBER-5  A record that cannot be read is no news: its member grows silent, the partitions stay as they were (no step of MEMBER-4 passes it). Whoever does
//       not know how many partitions there are, because that record cannot be read or a newer version wrote it, is not confirmed.
//   MEMBER-6  A record is written by the process that wrote it last, or by one that follows a former process: by compare-and-set. Whose record
//       another process has written meanwhile is not this member any more: it writes nothing, and says so once. A bucket that lost its newest
//       writes shows the record at a lower revision: no news by another process, and written over.
import type { Clock } from '../base/clock.ts'
import type { UnavailableError } from '../base/errors.ts'
import type { Subscription } from '../base/listeners.ts'
import { patiently } from '../base/patience.ts'
import type { Bus, KvBucket } from '../bus/port.ts'
import {
  type MemberState,
  memberRecord,
  partitionsRecord,
  RING_BUCKET,
  RING_FILTER,
  type RingReply,
  type Role,
} from '../contracts/member.ts'
import type { Told } from '../kv/passed-over.ts'
import { on, watchRecords } from '../kv/watch-records.ts'
import { Hearing, type MembershipOptions } from './hearing.ts'
import { Heartbeat, type Self } from './heartbeat.ts'
import { Opening } from './opening.ts'
import { Rounds } from './rounds.ts'
import { liveIn, type Member, ringReplyOf } from './view.ts'

export type { Member } from './view.ts'

/** What everybody may know; the member's own part is `Membership`. */
export interface Membership {
  readonly id: string
  readonly incarnation: string
  /** All members that are not forgotten, sorted by id. */
  members(): readonly Member[]
  /** Healthy, not leaving members of a role, sorted by id. */
  live(role: Role): readonly Member[]
  /** Partitions that exist and are followed. */
  partitionCount(): number
  /** Partitions that must be read: the first ones. Fewer than exist while owners of added ones are about to follow them. */
  readableCount(): number
  /** Partitions that take series: the first ones. Fewer than exist while some are being added. */
  writableCount(): number
  replicationFactor(): number
  /** Owners of a partition, the leader first; [] when no ingester is known. */
  owners(partition: number): readonly string[]
  /** Who has caught up with a partition: owners first. */
  holders(partition: number): readonly string[]
  /** Ingesters to ask about a partition, best first. */
  readers(partition: number): readonly string[]
  /** Resolves when a heartbeat that was sent after this call has come back: the ring as it was then is known. UnavailableError
   *  `err-carillon-ring-unconfirmed` after `withinMs`. */
  confirm(withinMs: number): Promise<void>
  /** False when changes of the ring may have passed unheard for too long (MEMBER-3), or for so many times as long. */
  isConfirmed(times?: number): boolean
  ring(): RingReply
  /** Called after each news of the ring, until it is stopped. */
  onChange(listener: () => void): Subscription
  setState(state: MemberState): Promise<void>
  /** Says which partitions this member has caught up with; told at once when that has changed. */
  setHolds(partitions: readonly number[]): void
  /** How much damage of its logs an ingester knows of that is not filled. */
  setDamage(count: number): void
  /** Ends heartbeats and deletes the own record. */
  leave(): Promise<void>
}

export interface JoinDeps extends Told {
  readonly bus: Bus
  readonly clock: Clock
  readonly self: Self
  readonly options: MembershipOptions
  readonly onError: (text: string) => void
  /** MEMBER-6: another process has taken this one for dead, and its id. */
  readonly onTaken?: (error: UnavailableError) => void
}

/** How long the first heartbeat is tried: no leader may be there yet. */
const JOIN_MS_MAX = 30_000

/** Joins the ring: resolves when the present members are known and the own record has come back through the watch. */
export async function joinRing(deps: JoinDeps): Promise<Membership> {
  const { bus, clock, self, options, onError, onTaken, ...told } = deps
  const bucket: KvBucket = await bus.bucket(RING_BUCKET)
  const hearing = new Hearing({ bucket, clock, self, options })
  const heartbeat = new Heartbeat({
    ...{ bucket, clock, self, onError, onTaken, ...told },
    ringRevision: () => hearing.partitions?.revision ?? 0,
    stopHearing: () => watch.stop(),
  })
  const isConfirmed = (times = 1) =>
    !hearing.arePartitionsUnknown && heartbeat.isConfirmedWithin(times * options.unhealthyAfterMs)
  const opening = new Opening({ bucket, self, hearing, isConfirmed, hasLeft: () => heartbeat.hasLeft, onError })
  const { promise: isKnown, resolve: known } = Promise.withResolvers<void>()
  const ears = earsOf({ hearing, heartbeat, opening })
  const watch = watchRecords({ bucket, filter: RING_FILTER, ears, ...told }, known)
  await isKnown
  try {
    await patiently(() => heartbeat.beat(), {
      clock,
      withinMs: JOIN_MS_MAX,
      onFailure: ({ message }) => onError(`heartbeat: ${message}`),
    })
  } catch (error) {
    watch.stop()
    throw error
  }
  new Rounds({ clock, heartbeatMs: options.heartbeatMs, heartbeat, hearing, opening }).start()
  await heartbeat.cameBack
  return membershipOf({ self, hearing, heartbeat, isConfirmed })
}

interface Parts {
  readonly hearing: Hearing
  readonly heartbeat: Heartbeat
  readonly opening: Opening
}

function earsOf({ hearing, heartbeat, opening }: Parts) {
  function news(): void {
    hearing.tell()
    opening.openSoon()
  }
  return [
    on(partitionsRecord, (shown) => {
      if (shown.kind === 'gone') return
      if (hearing.hearPartitions(shown)) heartbeat.beatSoon() // everyone waits for everyone's word (MEMBER-4)
      news()
    }),
    on(memberRecord, (shown) => {
      heartbeat.hear(shown)
      hearing.hearMember(shown)
      news()
    }),
  ] as const
}

function membershipOf({
  self,
  hearing,
  heartbeat,
  isConfirmed,
}: Pick<JoinDeps, 'self'> & Omit<Parts, 'opening'> & Pick<Membership, 'isConfirmed'>): Membership {
  const view = () => hearing.view()
  return {
    id: self.id,
    incarnation: self.incarnation,
    members: () => view().members,
    live: (role) => liveIn(view(), role),
    partitionCount: () => view().partitions.count,
    readableCount: () => view().partitions.readable,
    writableCount: () => view().partitions.writable,
    replicationFactor: () => view().partitions.replicationFactor,
    owners: (partition) => view().owners(partition),
    holders: (partition) => view().holders(partition),
    readers: (partition) => view().readers(partition),
    confirm: (withinMs) => heartbeat.confirm(withinMs),
    isConfirmed,
    ring: () => ringReplyOf(view(), { by: self.id, isConfirmed: isConfirmed() }),
    onChange: (listener) => hearing.onChange(listener),
    setState: (state) => heartbeat.setState(state),
    setHolds: (partitions) => heartbeat.setHolds(partitions),
    setDamage: (count) => heartbeat.setDamage(count),
    leave: () => heartbeat.leave(),
  }
}
