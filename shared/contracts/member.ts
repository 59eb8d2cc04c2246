// member: what every actor answers about itself, whatever its role, and the keys of the membership.
//
// metrics   addressed   member.{id}.metrics   the actor's metrics, Prometheus text format
// status    addressed   member.{id}.status    the actor's state as JSON, for people and for the status pages
//
// ring      question    ring.view              the ring as one member sees it; any member answers
//
// Bucket `ring`:  member.{id}   JSON MemberRecord; written by the member itself at each heartbeat and when it has something new to say
//                 partitions    JSON PartitionsRecord; written by `carillon setup`, `carillon partitions add`, and by a member when added
//                               partitions become writable
import { addressed, cbor, question } from '../bus/contract.ts'

export const RING_BUCKET = 'ring'
export const memberKey = (id: string): string => `member.${id}`
export const MEMBER_PREFIX = 'member.'
export const PARTITIONS_KEY = 'partitions'
/** One watch for all of it: what is heard in it is in the order in which it was written. */
export const RING_FILTER = '>'

export type Role = 'gateway' | 'distributor' | 'ingester' | 'querier' | 'compactor'
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

export function memberIn(value: Uint8Array): MemberRecord {
  const record = JSON.parse(Buffer.from(value).toString()) as MemberRecord
  const { holds = [], damageCount = 0, ringRevision = 0, beat = 0 } = record
  return { ...record, holds, damageCount, ringRevision, beat }
}

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

export function partitionsIn(value: Uint8Array): PartitionsRecord {
  const record = JSON.parse(Buffer.from(value).toString()) as PartitionsRecord
  const { readable = record.count, writable = readable } = record
  return { ...record, readable, writable }
}

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
}

export interface StatusReply {
  readonly id: string
  readonly role: Role
  readonly incarnation: string
  /** Ingesters only. */
  readonly partitions: readonly PartitionStatus[]
}

const small = {
  timeoutMs: 5_000,
  requestBytesMax: 1024,
  replyBytesMax: 16 * 1024 * 1024,
  request: cbor<Record<string, never>>(),
}

export const metrics = addressed({
  name: 'metrics',
  subject: 'member.{id}.metrics',
  ...small,
  reply: cbor<MetricsReply>(),
  doc: "one actor's metrics in Prometheus' text format",
})
export const status = addressed({
  name: 'status',
  subject: 'member.{id}.status',
  ...small,
  reply: cbor<StatusReply>(),
  doc: "one actor's state",
})
export const ring = question({
  name: 'ring',
  subject: 'ring.view',
  ...small,
  reply: cbor<RingReply>(),
  doc: 'the ring as the member that answers sees it',
})
