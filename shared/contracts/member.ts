// member: what every actor answers about itself, whatever its role, and the keys of the membership.
//
// metrics   addressed   member.{id}.metrics   the actor's metrics, Prometheus text format
// status    addressed   member.{id}.status    the actor's state as JSON, for people and for the status pages
// identity  addressed   member.{id}.identity  which process runs under this id, answered from before it joins the ring until it has left
// readiness addressed   member.{id}.readiness what keeps the actor from its work now; asked often, so cheap to answer
//
// ring      question    ring.view              the ring as one member sees it; any member answers
//
// Bucket `ring`:  member.{id}   JSON MemberRecord; written by the member itself at each heartbeat and when it has something new to say
//                 partitions    JSON PartitionsRecord; written by `carillon setup`, `carillon partitions add`, and by a member when added
//                               partitions become writable
import { addressed, cbor, question } from '../bus/contract.ts'
import { jsonRecord, record } from '../bus/record.ts'
import { aCount, aName, aNumber, aText, listOf } from '../bus/shape.ts'
import type { Role } from '../model/role.ts'
import { PARTITIONS_MAX } from '../ring/pie.ts'

export const RING_BUCKET = 'ring'
/** One watch for all of it: what is heard in it is in the order in which it was written. */
export const RING_FILTER = '>'

export type { Role } from '../model/role.ts'
export type MemberState = 'JOINING' | 'ACTIVE' | 'LEAVING'

/** `member.{id}` */
export interface MemberRecord {
  readonly v: 1
  readonly id: string
  readonly role: Role
  readonly zone: string
  readonly state: MemberState
  /** Random per process: a member that came back is another incarnation. */
  readonly incarnation: string
  readonly startedAtMs: number
  readonly version: string
  /** Bytes of memory the member may use, 0 when it does not say. */
  readonly capacity: number
  /** Partitions that it has caught up with, rising; ingesters only. */
  readonly holds: readonly number[]
  /** Damage of logs that nobody could fill; ingesters only. */
  readonly damageCount: number
  /** The revision of `partitions` that it goes by. */
  readonly ringRevision: number
  /** Counts the records that this incarnation has written. */
  readonly beat: number
}

/** Roles and states are not checked against those that are known here: a newer version may have more. */
export const memberRecord = record({
  name: 'member',
  bucket: RING_BUCKET,
  key: 'member.{id}',
  format: jsonRecord<MemberRecord>(
    1,
    {
      ...{ id: aName, role: aName, zone: aText, state: aName, incarnation: aName, version: aText },
      ...{ startedAtMs: aNumber, capacity: aNumber, holds: listOf(aCount) },
      ...{ damageCount: aCount, ringRevision: aCount, beat: aCount },
    },
    ({ holds = [], damageCount = 0, ringRevision = 0, beat = 0 }) => ({ holds, damageCount, ringRevision, beat }),
  ),
  isSound: ({ id }, params) => id === params.id,
  unreadable: 'no news of that member: it counts as gone once it has been silent for --unhealthy-after',
  newer: 'that member does not count here',
  doc: "a member's record, written at each heartbeat",
})

/** `partitions` */
export interface PartitionsRecord {
  readonly v: 1
  /** Partitions that exist and are followed by their owners: 0 … count − 1. */
  readonly count: number
  /** Partitions that are read: 0 … readable − 1. */
  readonly readable: number
  /** Partitions that take series: 0 … writable − 1. */
  readonly writable: number
  readonly replicationFactor: number
}

export const PARTITIONS_NONE: PartitionsRecord = { v: 1, count: 0, readable: 0, writable: 0, replicationFactor: 1 }

export const partitionsRecord = record({
  name: 'partitions',
  bucket: RING_BUCKET,
  key: 'partitions',
  format: jsonRecord<PartitionsRecord>(
    1,
    { count: aCount, readable: aCount, writable: aCount, replicationFactor: aCount },
    ({ count, readable = count, writable = readable }) => ({ readable, writable }),
  ),
  isSound: ({ count, readable, writable, replicationFactor }) =>
    replicationFactor >= 1 && writable >= 1 && writable <= readable && readable <= count && count <= PARTITIONS_MAX,
  unreadable:
    'what it said before holds; whoever has not heard that answers nothing: 503 err-carillon-ring-unconfirmed',
  newer: 'nothing is read or written by this version: 503 err-carillon-ring-unconfirmed',
  doc: 'number of partitions, owners per partition',
})

/** The ring as one member sees it. */
export interface RingReply {
  readonly asSeenBy: string
  /** False when that member may have missed changes. */
  readonly isConfirmed: boolean
  readonly replicationFactor: number
  readonly partitionCount: number
  readonly writableCount: number
  readonly members: readonly RingMemberRow[]
  readonly partitions: readonly RingPartitionRow[]
}

export interface RingMemberRow extends Omit<MemberRecord, 'v' | 'holds' | 'beat'> {
  readonly isHealthy: boolean
  readonly heartbeatAgeMs: number
  /** How many partitions it has caught up with. */
  readonly holdsCount: number
}

export interface RingPartitionRow {
  readonly partition: number
  /** `opening`: added, not read yet; `served`: all owners have caught up; `moving`: only some have, or a former owner serves; `unserved`: nobody can answer. */
  readonly state: 'opening' | 'served' | 'moving' | 'unserved'
  readonly isWritable: boolean
  /** The leader first. */
  readonly owners: readonly { readonly id: string; readonly hasCaughtUp: boolean }[]
  /** Former owners that still serve. */
  readonly alsoHeldBy: readonly string[]
}

export interface MetricsReply {
  readonly text: string
}

/** One partition as its owner sees it. */
export interface PartitionStatus {
  readonly partition: number
  readonly state: 'replaying' | 'caught-up'
  readonly isLeader: boolean
  readonly incarnation: string
  readonly appliedSeq: number
  readonly endSeq: number
  readonly mark: number
  /** Segments up to this one are in blocks, as this owner has heard. */
  readonly flushed: number
  readonly segments: readonly number[]
  /** Digest of each held segment's samples, in the order of `segments`. */
  readonly digests: readonly string[]
  readonly seriesCount: number
  readonly sampleCount: number
  readonly damage: readonly string[]
  /** Tenants whose segments could not be flushed, or are set aside, and why; absent before that was known. */
  readonly aside?: readonly string[]
}

export interface StatusReply {
  readonly id: string
  readonly role: Role
  readonly incarnation: string
  /** Ingesters only. */
  readonly partitions: readonly PartitionStatus[]
}

export interface ReadinessReply {
  /** What keeps it from its work now, in words, and whose turn it is; empty when nothing does. */
  readonly lacks: readonly string[]
}

export interface IdentityReply {
  readonly role: Role
  readonly incarnation: string
  readonly host: string
  readonly pid: number
}

const small = {
  timeoutMs: 5_000,
  requestBytesMax: 1024,
  replyBytesMax: 16 * 1024 * 1024,
  request: cbor<Record<string, never>>({}),
}

export const metrics = addressed({
  name: 'metrics',
  subject: 'member.{id}.metrics',
  servedBy: 'member',
  askedBy: ['gateway'],
  ...small,
  reply: cbor<MetricsReply>(),
  doc: "one actor's metrics in Prometheus' text format",
})
export const status = addressed({
  name: 'status',
  subject: 'member.{id}.status',
  servedBy: 'member',
  askedBy: ['gateway'],
  ...small,
  reply: cbor<StatusReply>(),
  doc: "one actor's state",
})
export const readiness = addressed({
  name: 'readiness',
  subject: 'member.{id}.readiness',
  servedBy: 'member',
  askedBy: ['gateway'],
  ...small,
  timeoutMs: 1_000,
  replyBytesMax: 64 * 1024,
  reply: cbor<ReadinessReply>(),
  doc: 'what keeps one actor from its work now',
})
export const identity = addressed({
  name: 'identity',
  subject: 'member.{id}.identity',
  servedBy: 'member',
  askedBy: ['member'],
  ...small,
  timeoutMs: 500,
  replyBytesMax: 1024,
  reply: cbor<IdentityReply>(),
  doc: 'which process runs under an id',
})
export const ring = question({
  name: 'ring',
  subject: 'ring.view',
  servedBy: 'member',
  askedBy: ['command'],
  ...small,
  reply: cbor<RingReply>(),
  doc: 'the ring as the member that answers sees it',
})
