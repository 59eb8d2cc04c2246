// Membership: who is here, kept in the `ring` bucket and watched by every actor.
//
// Each member writes its own record at every heartbeat. Everyone measures silence on its own monotonic clock since it saw a record
// change, never by comparing wall clocks. The number of partitions stands in the same bucket and comes through the same watch, so whoever
// has heard its own heartbeat has heard every change before it.
//
// Invariants
//   M1  A member is unhealthy after `unhealthyAfterMs` without a change of its record, forgotten (its record deleted) after `forgetAfterMs`.
//   M2  Silence of the whole bucket (NATS away, a leader change) means "unknown", not "all dead": time counts against others only while
//       this actor's own heartbeats come back through the watch, and anew after a gap.
//   M3  A view is confirmed as long as a heartbeat that was sent less than `unhealthyAfterMs` ago has come back. Nobody judges this actor
//       dead before that, so whoever waits until all live members know something need not wait for one that is not confirmed (L19). While a machine
//       is suspended that time passes: others go on without it.
//   M4  Added partitions are opened in two steps (L19): readable when all their owners follow them, writable when every live member has
//       heard that they are to be read.
//   M5  A record that cannot be read is no news: its member grows silent, the partitions stay as they were (no step of M4 passes it). Whoever does
//       not know how many partitions there are, because that record cannot be read or a newer version wrote it, is not confirmed.
//   M6  A record is written by the process that wrote it last, or by one that follows a former process: by compare-and-set. Whose record
//       another process has written meanwhile is not this member any more: it writes nothing, and says so once. A bucket that lost its newest
//       writes shows the record at a lower revision: no news by another process, and written over.
import { type Clock, sleep } from '../base/clock.ts'
import { ConflictError, textOf, UnavailableError } from '../base/errors.ts'
import { Listeners, type Subscription } from '../base/listeners.ts'
import { patiently } from '../base/patience.ts'
import type { Bus, KvBucket } from '../bus/port.ts'
import { keyFor } from '../bus/record.ts'
import {
  type MemberRecord,
  type MemberState,
  memberRecord,
  type PartitionsRecord,
  partitionsRecord,
  RING_BUCKET,
  RING_FILTER,
  type RingReply,
  type Role,
} from '../contracts/member.ts'
import type { Told } from '../kv/passed-over.ts'
import { readRecord } from '../kv/read-records.ts'
import { on, type Shown, watchRecords } from '../kv/watch-records.ts'
import { taken } from './claim.ts'
import { liveIn, type Member, type OwnersCache, ringReplyOf, type View, viewOf } from './view.ts'

export type { Member } from './view.ts'

export interface MembershipOptions {
  readonly heartbeatMs: number
  /** At least three heartbeats. */
  readonly unhealthyAfterMs: number
  readonly forgetAfterMs: number
}

export interface Self {
  readonly id: string
  readonly role: Role
  readonly zone: string
  readonly incarnation: string
  readonly version: string
  readonly capacity: number
}

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
  /** False when changes of the ring may have passed unheard for too long (M3), or for so many times as long. */
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

interface Heard {
  record: MemberRecord
  revision: number
  atMs: number
}

export interface JoinDeps extends Told {
  readonly bus: Bus
  readonly clock: Clock
  readonly self: Self
  readonly options: MembershipOptions
  readonly onError: (text: string) => void
  /** M6: another process has taken this one for dead, and its id. */
  readonly onTaken?: (error: UnavailableError) => void
}

/** A view is computed again after news, and when it is this old. */
const VIEW_MS = 200
const BEAT_RETRY_MS = 500
/** Between two looks for a heartbeat that is waited for. */
const CONFIRM_STEP_MS = 5
/** A bucket whose leader hangs does not answer, and the next one comes after 4 to 9 s: it is to hear the first heartbeat then. */
const BEAT_MS_MAX = 1_500
/** How long the first heartbeat is tried: no leader may be there yet. */
const JOIN_MS_MAX = 30_000

/** Joins the ring: resolves when the present members are known and the own record has come back through the watch. */
export async function joinRing({
  bus,
  clock,
  self,
  options,
  onError,
  onTaken,
  ...told
}: JoinDeps): Promise<Membership> {
  const bucket: KvBucket = await bus.bucket(RING_BUCKET)
  const heard = new Map<string, Heard>()
  const listeners = new Listeners<void>()
  const startedAtMs = clock.now()
  const cache: OwnersCache = { key: '', owners: [] }
  let partitions: { record: PartitionsRecord; revision: number } | undefined
  /** M5 */
  let arePartitionsUnknown = false
  let state: MemberState = 'JOINING'
  let holds: readonly number[] = []
  let damageCount = 0
  let hasLeft = false
  let isOpening = false
  /** M6: the newest revision of the own record that is known, and whether this process wrote one. */
  const own = { revision: 0, isOurs: false }

  /** Heartbeats sent and not come back, with when they were sent. */
  const sent = new Map<number, number>()
  let beatCount = 0
  let isBeating: Promise<void> | undefined
  let nextBeat: Promise<void> | undefined
  /** M3: by what goes on while the machine is suspended. */
  let confirmedAtMs = Number.NEGATIVE_INFINITY
  /** The number of the newest heartbeat that has come back. */
  let confirmedBeat = 0
  let selfHeardAtMs = clock.monotonic()
  /** M2: silence counts from here on. */
  let trustedSinceMs = selfHeardAtMs
  let seen: { view: View; atMs: number } | undefined

  const cameBack = Promise.withResolvers<void>()
  cameBack.promise.catch(() => {}) // told below, or through onTaken
  const { promise: isKnown, resolve: known } = Promise.withResolvers<void>()
  const ears = [on(partitionsRecord, onPartitions), on(memberRecord, onMember)] as const
  const watch = watchRecords({ bucket, filter: RING_FILTER, ears, ...told }, known)
  await isKnown
  try {
    await patiently(beat, {
      clock,
      withinMs: JOIN_MS_MAX,
      onFailure: ({ message }) => onError(`heartbeat: ${message}`),
    })
  } catch (error) {
    watch.stop()
    throw error
  }
  scheduleBeat(options.heartbeatMs)
  await cameBack.promise

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
    confirm,
    isConfirmed,
    ring: () => ringReplyOf(view(), { by: self.id, isConfirmed: isConfirmed() }),
    onChange: (listener) => listeners.add(listener),
    async setState(next) {
      if (state !== 'LEAVING') state = next // who leaves does not come back
      await beat()
    },
    setHolds(next) {
      if (next.length === holds.length && next.every((partition, i) => partition === holds[i])) return
      holds = [...next]
      beatSoon()
    },
    setDamage(count) {
      if (count === damageCount) return
      damageCount = count
      beatSoon()
    },
    async leave() {
      if (hasLeft) return // M6
      hasLeft = true
      await isBeating?.catch(() => {}) // told where it was sent
      watch.stop()
      await bucket.delete(keyFor(memberRecord, self), own.revision)
    },
  }

  // ---- hearing ----

  function news(): void {
    tell()
    if (partitions !== undefined && partitions.record.writable < partitions.record.count) openSoon()
  }

  function onPartitions(shown: Shown<never, PartitionsRecord>): void {
    if (shown.kind === 'gone') return
    if (shown.kind === 'newer-version' || partitions === undefined) arePartitionsUnknown = true // M5
    if (shown.kind === 'value') {
      arePartitionsUnknown = false
      const isFirst = partitions === undefined
      partitions = { record: shown.value, revision: shown.revision }
      if (!isFirst) beatSoon() // everyone waits for everyone's word (M4)
    }
    news()
  }

  function onMember(shown: Shown<'id', MemberRecord>): void {
    const { id } = shown.params
    const known = heard.get(id)
    if (id === self.id) hearOwn(shown)
    if (shown.kind === 'value') hearMember(id, shown.value, shown.revision)
    else if (shown.kind !== 'unreadable') heard.delete(id)
    else if (known !== undefined) known.revision = shown.revision // so that it can be forgotten (M1)
    news()
  }

  /** M6: what cannot be read (M5), or was deleted, is written over. */
  function hearOwn(shown: Shown<'id', MemberRecord>): void {
    if (shown.revision <= own.revision) return
    own.revision = shown.revision
    if (shown.kind === 'value' && shown.value.incarnation === self.incarnation) own.isOurs = true
    else if (own.isOurs && shown.kind === 'value') endAsTaken()
  }

  function endAsTaken(): void {
    if (hasLeft) return
    hasLeft = true
    watch.stop()
    const error = taken(self.id, 'another process, which took this one for dead')
    cameBack.reject(error)
    onTaken?.(error)
  }

  function hearMember(id: string, record: MemberRecord, revision: number): void {
    const atMs = clock.monotonic()
    heard.set(id, { record, revision, atMs })
    if (record.incarnation !== self.incarnation) return
    if (atMs - selfHeardAtMs > 2 * options.heartbeatMs) trustedSinceMs = atMs // M2
    selfHeardAtMs = atMs
    confirmedAtMs = Math.max(confirmedAtMs, sent.get(record.beat) ?? Number.NEGATIVE_INFINITY)
    confirmedBeat = Math.max(confirmedBeat, record.beat)
    for (const number of [...sent.keys()]) if (number <= record.beat) sent.delete(number)
    cameBack.resolve()
  }

  async function confirm(withinMs: number): Promise<void> {
    const beatNumber = beatCount + 1
    const untilMs = clock.monotonic() + withinMs
    let triedAtMs = Number.NEGATIVE_INFINITY
    while (confirmedBeat < beatNumber) {
      const nowMs = clock.monotonic()
      if (nowMs >= untilMs) {
        const text = `${self.id} has not heard its own heartbeat for ${withinMs} ms: it may not know of all partitions`
        throw new UnavailableError('err-carillon-ring-unconfirmed', text)
      }
      if (nowMs - triedAtMs >= BEAT_RETRY_MS) {
        triedAtMs = nowMs
        beatSoon()
      }
      await sleep(clock, CONFIRM_STEP_MS)
    }
  }

  function isConfirmed(times = 1): boolean {
    return !arePartitionsUnknown && clock.uptime() - confirmedAtMs < times * options.unhealthyAfterMs
  }

  /** M2: how long a record has been silent while it would have been heard. */
  function silenceOf(atMs: number): number {
    const untilMs = Math.min(clock.monotonic(), selfHeardAtMs + options.heartbeatMs)
    return untilMs - Math.max(atMs, trustedSinceMs)
  }

  function view(): View {
    const nowMs = clock.monotonic()
    if (seen !== undefined && nowMs - seen.atMs < VIEW_MS) return seen.view
    const members = [...heard.values()]
      .sort((a, b) => (a.record.id < b.record.id ? -1 : 1))
      .map(({ record, atMs }): Member => {
        const silentMs = nowMs - atMs
        const isFresh = silentMs < 2 * options.heartbeatMs
        return { ...record, silentMs, isFresh, isHealthy: silenceOf(atMs) <= options.unhealthyAfterMs }
      })
    seen = { view: viewOf(members, partitions?.record, cache), atMs: nowMs }
    return seen.view
  }

  function tell(): void {
    seen = undefined
    listeners.tell()
  }

  // ---- telling ----

  /** Writes the own record as it is by then. One write at a time, so that an older record never follows a newer one. */
  function beat(): Promise<void> {
    nextBeat ??= (isBeating ?? Promise.resolve())
      .catch(() => {}) // told to whoever asked for that one
      .then(() => {
        nextBeat = undefined
        isBeating = write()
        return isBeating
      })
    return nextBeat
  }

  async function write(): Promise<void> {
    if (hasLeft) return
    const number = ++beatCount
    sent.set(number, clock.uptime())
    if (sent.size > 100) sent.delete(sent.keys().next().value!)
    const record: MemberRecord = {
      ...{ v: 1, ...self, state, startedAtMs, holds, damageCount },
      ringRevision: partitions?.revision ?? 0,
      beat: number,
    }
    try {
      const written = await writeOver(keyFor(memberRecord, self), memberRecord.format.encode(record))
      own.revision = Math.max(own.revision, written)
      own.isOurs = true
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error
      // Ours, whose answer was lost, or another one's, or the bucket lost some: the next try goes by what stands there.
      await lookAgain()
      throw new UnavailableError('kv-unavailable', `${self.id}: ${error.message}`, { cause: error })
    }
  }

  async function lookAgain(): Promise<void> {
    const standing = await readRecord({ bucket, ...told }, memberRecord, { id: self.id })
    if (standing.revision < own.revision) own.revision = standing.revision
    else hearOwn(standing)
  }

  function writeOver(key: string, value: Uint8Array): Promise<number> {
    if (own.revision === 0) return bucket.create(key, value, BEAT_MS_MAX)
    return bucket.update(key, value, own.revision, BEAT_MS_MAX)
  }

  function beatSoon(): void {
    beat().catch((error: unknown) => {
      if (!hasLeft) onError(`heartbeat: ${textOf(error)}`)
    })
  }

  function openSoon(): void {
    openAdded().catch((error: unknown) => onError(`opening partitions: ${textOf(error)}`)) // the next heartbeat tries again
  }

  function scheduleBeat(afterMs: number): void {
    clock.after(afterMs, () => {
      if (hasLeft) return
      void onBeat().then(scheduleBeat)
    })
  }

  /** Resolves with the pause before the next one. */
  async function onBeat(): Promise<number> {
    try {
      await beat()
      await forget()
      await openAdded()
      return options.heartbeatMs
    } catch (error) {
      if (!hasLeft) onError(`heartbeat: ${textOf(error)}`)
      return Math.min(options.heartbeatMs, BEAT_RETRY_MS)
    } finally {
      tell()
    }
  }

  /** M1: whoever sees it first deletes the record of a member that has been silent for long: the very one it saw, not one that came since. */
  async function forget(): Promise<void> {
    for (const [id, { atMs, revision }] of heard) {
      if (id === self.id || silenceOf(atMs) <= options.forgetAfterMs) continue
      try {
        await bucket.delete(keyFor(memberRecord, { id }), revision)
      } catch (error) {
        if (!(error instanceof ConflictError)) throw error // it is back, or another member was first
      }
    }
  }

  /** M4: the first live member opens what was added; anybody may, the compare-and-set lets one through. */
  async function openAdded(): Promise<void> {
    if (partitions === undefined || isOpening || hasLeft) return
    const { record, revision } = partitions
    const opened = openedBy(view(), record, revision)
    if (opened === undefined || !isConfirmed()) return
    isOpening = true
    try {
      await bucket.update(keyFor(partitionsRecord, {}), partitionsRecord.format.encode(opened), revision)
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error // another one was first, or there are more by now
    } finally {
      isOpening = false
    }
  }

  /** The record after the next step, if it is due and this member's to take. */
  function openedBy(now: View, record: PartitionsRecord, revision: number): PartitionsRecord | undefined {
    const live = now.members.filter((member) => member.isHealthy)
    if (record.writable === record.count || live[0]?.id !== self.id) return undefined
    if (record.readable < record.count) {
      const added = Array.from({ length: record.count - record.readable }, (_, i) => record.readable + i)
      const areFollowed = added.every((partition) => {
        const owners = now.owners(partition)
        return owners.length > 0 && owners.every((id) => now.holders(partition).includes(id))
      })
      return areFollowed ? { ...record, readable: record.count } : undefined
    }
    return live.every((member) => member.ringRevision >= revision)
      ? { ...record, writable: record.readable }
      : undefined
  }
}
