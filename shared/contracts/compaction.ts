// compaction: who compacts a tenant's blocks, and how far it is.
//
// compactionStatus   addressed   compactor.{id}.status   what that compactor does and did since it started
// compactNow         question    compaction.now          merge what can be merged, complete ranges or not; any compactor answers
//
// Bucket `blocks`:  lease.{tenant}   JSON LeaseRecord; changed by compare-and-set only (shared/kv/leases.ts)
import { addressed, cbor, question } from '../bus/contract.ts'
import { record } from '../bus/record.ts'
import { aTenant, ifThere } from '../bus/shape.ts'
import { BLOCKS_BUCKET } from './blocks.ts'
import { leaseFallback, leaseFormat } from './leases.ts'

export const compactionLease = record({
  name: 'lease',
  bucket: BLOCKS_BUCKET,
  key: 'lease.{tenant}',
  format: leaseFormat,
  ...leaseFallback,
  doc: 'who may compact, and the fence that its manifest changes must carry',
})

export interface CompactionRequest {
  /** One tenant's; absent: all. */
  readonly tenant?: string
}

/** A step that is under way or done. */
export interface CompactionStep {
  readonly tenant: string
  /** small, late, delete, retention, downsample, age, size, settle, retired, garbage */
  readonly why: string
  readonly startedAtMs: number
  /** Milliseconds; absent while it is under way. */
  readonly tookMs?: number
  /** done; nothing: what it would have changed was not there; overtaken: another was first; failed. */
  readonly outcome?: 'done' | 'nothing' | 'overtaken' | 'failed'
  readonly sources: readonly string[]
  readonly results: readonly string[]
  readonly samplesIn: number
  readonly samplesOut: number
  readonly duplicates: number
  readonly removed: number
  readonly bytesIn: number
  readonly bytesOut: number
  /** Of the sources' bytes, while it is under way. */
  readonly bytesRead: number
  readonly error?: string
}

export interface CompactionTenant {
  readonly tenant: string
  readonly blocks: number
  readonly bytes: number
  readonly retired: number
  readonly pendingDeletes: number
  /** Steps that could be done now. */
  readonly waitingSteps: number
  readonly waitingBytes: number
  readonly holder: string
  readonly fence: number
  readonly error?: string
}

export interface CompactionStatusReply {
  readonly id: string
  readonly tenants: readonly CompactionTenant[]
  readonly current: readonly CompactionStep[]
  /** Newest first. */
  readonly history: readonly CompactionStep[]
  /** Blocks that cannot be read as they should. */
  readonly aside: readonly { readonly tenant: string; readonly ulid: string; readonly reason: string }[]
}

export interface CompactNowReply {
  readonly id: string
  /** Per tenant: steps done, or why none could be. */
  readonly tenants: readonly { readonly tenant: string; readonly steps: number; readonly note: string }[]
  /** False: it goes on; the status shows how far it is. */
  readonly isDone: boolean
}

export const compactionStatus = addressed({
  name: 'compactionStatus',
  subject: 'compactor.{id}.status',
  servedBy: 'compactor',
  askedBy: ['gateway', 'command'],
  timeoutMs: 5_000,
  requestBytesMax: 1024,
  replyBytesMax: 16 * 1024 * 1024,
  request: cbor<CompactionRequest>({ tenant: ifThere(aTenant) }),
  reply: cbor<CompactionStatusReply>(),
  doc: 'what one compactor does and did',
})
export const compactNow = question({
  name: 'compactNow',
  subject: 'compaction.now',
  servedBy: 'compactor',
  askedBy: ['gateway', 'command'],
  queue: 'compactor',
  timeoutMs: 60_000,
  requestBytesMax: 1024,
  replyBytesMax: 4 * 1024 * 1024,
  request: cbor<CompactionRequest>({ tenant: ifThere(aTenant) }),
  reply: cbor<CompactNowReply>(),
  doc: 'merge blocks now, whether their ranges are complete or not',
})
