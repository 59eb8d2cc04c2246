// member: what every actor answers about itself, whatever its role, and the keys of the membership.
//
// metrics   addressed   member.{id}.metrics   the actor's metrics, Prometheus text format
// status    addressed   member.{id}.status    the actor's state as JSON, for people and for the status pages
//
// Bucket `ring`:  member.{id}   JSON MemberRecord; written by the member itself at each heartbeat
//                 partitions    JSON PartitionsRecord; written by `carillon setup`
import { addressed, cbor } from '../bus/contract.ts'

export const RING_BUCKET = 'ring'
export const memberKey = (id: string): string => `member.${id}`
export const MEMBER_FILTER = 'member.*'
export const PARTITIONS_KEY = 'partitions'

export type Role = 'gateway' | 'distributor' | 'ingester' | 'querier'
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
}

/** `partitions` */
export interface PartitionsRecord {
  readonly v: 1
  readonly count: number
  readonly replicationFactor: number
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
