// Membership: who is here, kept in the `ring` bucket and watched by every actor.
//
// Each member writes its own record at every heartbeat. Everyone measures silence on its own monotonic clock since it saw a record
// change, never by comparing wall clocks.
//
// Invariants
//   M1  A member is unhealthy after `unhealthyAfterMs` without a change of its record, forgotten (its record deleted) after `forgetAfterMs`.
//   M2  Silence of the whole bucket (NATS away, a leader change) means "unknown", not "all dead": while this actor's own heartbeats do
//       not come back through the watch, nobody is judged.
//   M3  Views are immutable snapshots; two views with the same revision are the same.
import type { Clock } from '../base/clock.ts'
import { textOf } from '../base/errors.ts'
import type { Bus, BusSubscription, KvBucket, KvEntry } from '../bus/port.ts'
import {
  MEMBER_FILTER,
  type MemberRecord,
  type MemberState,
  memberKey,
  PARTITIONS_KEY,
  type PartitionsRecord,
  RING_BUCKET,
  type Role,
} from '../contracts/member.ts'
import { ownersOf } from '../ring/owners.ts'

export interface MembershipOptions {
  readonly heartbeatMs: number
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

export interface Member extends MemberRecord {
  readonly isHealthy: boolean
  /** Milliseconds since this actor saw the record change. */
  readonly silentMs: number
}

/** What everybody may know; the member's own part is `Membership`. */
export interface Membership {
  readonly id: string
  readonly incarnation: string
  /** All members that are not forgotten, sorted by id. */
  members(): readonly Member[]
  /** Healthy, not leaving members of a role, sorted by id. */
  live(role: Role): readonly Member[]
  partitionCount(): number
  replicationFactor(): number
  /** Owners of a partition, the leader first; [] when no ingester is known. */
  owners(partition: number): readonly string[]
  onChange(listener: () => void): void
  setState(state: MemberState): Promise<void>
  /** Ends heartbeats and deletes the own record. */
  leave(): Promise<void>
}

interface Heard {
  record: MemberRecord
  revision: number
  atMs: number
}

export interface JoinDeps {
  readonly bus: Bus
  readonly clock: Clock
  readonly self: Self
  readonly options: MembershipOptions
  readonly onError: (text: string) => void
}

/** Joins the ring: resolves when the present members are known and the own record is written. */
export async function joinRing({ bus, clock, self, options, onError }: JoinDeps): Promise<Membership> {
  const bucket: KvBucket = await bus.bucket(RING_BUCKET)
  const heard = new Map<string, Heard>()
  const listeners: (() => void)[] = []
  const startedAtMs = clock.now()
  let partitions: PartitionsRecord | undefined
  let state: MemberState = 'JOINING'
  let selfHeardAtMs = clock.monotonic()
  let hasLeft = false
  let ownersCache: { key: string; owners: readonly (readonly string[])[] } | undefined

  const watches: BusSubscription[] = []
  await new Promise<void>((resolve) => watches.push(bucket.watch(PARTITIONS_KEY, onPartitions, resolve)))
  await new Promise<void>((resolve) => watches.push(bucket.watch(MEMBER_FILTER, onMember, resolve)))
  await beat()
  scheduleBeat()

  return {
    id: self.id,
    incarnation: self.incarnation,
    members,
    live: (role) =>
      members().filter((member) => member.role === role && member.isHealthy && member.state !== 'LEAVING'),
    partitionCount: () => partitions?.count ?? 0,
    replicationFactor: () => partitions?.replicationFactor ?? 1,
    owners: (partition) => owners()[partition] ?? [],
    onChange: (listener) => void listeners.push(listener),
    async setState(next) {
      state = next
      await beat()
    },
    async leave() {
      hasLeft = true
      for (const watch of watches) watch.stop()
      await bucket.delete(memberKey(self.id))
    },
  }

  function onPartitions(entry: KvEntry): void {
    if (!entry.value) return
    partitions = JSON.parse(Buffer.from(entry.value).toString()) as PartitionsRecord
    tell()
  }

  function onMember(entry: KvEntry): void {
    const id = entry.key.slice('member.'.length)
    if (entry.value) {
      const record = JSON.parse(Buffer.from(entry.value).toString()) as MemberRecord
      heard.set(id, { record, revision: entry.revision, atMs: clock.monotonic() })
      if (record.incarnation === self.incarnation) selfHeardAtMs = clock.monotonic()
    } else heard.delete(id)
    tell()
  }

  function members(): readonly Member[] {
    const now = clock.monotonic()
    const isBucketSilent = now - selfHeardAtMs > options.heartbeatMs * 2 // M2
    return [...heard.values()]
      .sort((a, b) => (a.record.id < b.record.id ? -1 : 1))
      .map(({ record, atMs }) => {
        const silentMs = now - atMs
        return { ...record, silentMs, isHealthy: isBucketSilent || silentMs <= options.unhealthyAfterMs }
      })
  }

  function owners(): readonly (readonly string[])[] {
    const ingesters = members().filter(
      (member) => member.role === 'ingester' && member.isHealthy && member.state !== 'LEAVING',
    )
    const count = partitions?.count ?? 0
    const replicationFactor = partitions?.replicationFactor ?? 1
    const key = `${count}/${replicationFactor}/${ingesters.map((member) => `${member.id}@${member.zone}`).join()}`
    if (ownersCache?.key !== key) {
      ownersCache = { key, owners: ownersOf(ingesters, { partitionCount: count, replicationFactor }) }
    }
    return ownersCache.owners
  }

  async function beat(): Promise<void> {
    const record: MemberRecord = { v: 1, ...self, state, startedAtMs }
    await bucket.put(memberKey(self.id), Buffer.from(JSON.stringify(record)))
  }

  function scheduleBeat(): void {
    clock.after(options.heartbeatMs, () => {
      if (hasLeft) return
      beat()
        .catch((error: unknown) => onError(`heartbeat: ${textOf(error)}`))
        .then(forget)
        .catch((error: unknown) => onError(`forget: ${textOf(error)}`))
        .then(() => {
          tell()
          scheduleBeat()
        }, onError)
    })
  }

  /** M1: whoever sees it first deletes the record of a member that has been silent for long. */
  async function forget(): Promise<void> {
    const now = clock.monotonic()
    if (now - selfHeardAtMs > options.heartbeatMs * 2) return
    for (const [id, { atMs }] of heard) if (now - atMs > options.forgetAfterMs) await bucket.delete(memberKey(id))
  }

  function tell(): void {
    for (const listener of listeners) listener()
  }
}
