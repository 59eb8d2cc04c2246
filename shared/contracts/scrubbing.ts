// scrubbing: re-reading everything that is stored, naming what is damaged, and making it right where something sound is left.
//
// scrubStatus   addressed   compactor.{id}.scrubs     what that compactor re-reads now, and what was found in each tenant
// scrubNow      question    scrub.now                 re-read now; any compactor answers
// rebuild       addressed   ingester.{id}.rebuild     files of a flushed block are stored anew by an owner that still holds the segment
//
// Bucket `blocks`:  scrub.{tenant}       JSON ScrubRecord: how far it is and what was found; written by who holds the lease
//                   scrubbing.{tenant}   JSON LeaseRecord: who re-reads the tenant (shared/kv/leases.ts)
import { addressed, cbor, question } from '../bus/contract.ts'
import { jsonRecord, record } from '../bus/record.ts'
import { aCount, aName, aNumber, anObject, aTenant, aText, aWhole, ifThere, listOf, oneOf } from '../bus/shape.ts'
import { BLOCKS_BUCKET } from './blocks.ts'
import { leaseFallback, leaseFormat } from './leases.ts'

/** Findings that a record keeps; more are counted. */
export const FINDINGS_MAX = 200

export interface ScrubFinding {
  /** block: of a listed one · manifest: of the bucket's, its copies or the registry · second: in the second store · unlisted: files that no
   *  manifest lists. */
  readonly what: 'block' | 'manifest' | 'second' | 'unlisted'
  /** damaged: it stays so, whoever reads it is told · repaired: it was, and is right again · told: nothing that is read is wrong. */
  readonly state: 'damaged' | 'repaired' | 'told'
  /** The block's name; '' where it is about none. */
  readonly ulid: string
  /** As in the block, or the object's name; '' for all of it. */
  readonly file: string
  /** The byte where it was noticed. */
  readonly offset: number
  readonly text: string
  /** Where the right bytes came from. */
  readonly from?: string
}

/** `scrub.{tenant}` */
export interface ScrubRecord {
  readonly v: 1
  readonly tenant: string
  /** Who read it last. */
  readonly by: string
  /** Wall clock, ms. */
  readonly beganAtMs: number
  /** Absent until all of it was read. */
  readonly endedAtMs?: number
  /** Blocks up to this name were read: whoever goes on begins behind it. */
  readonly cursor: string
  readonly blocks: number
  readonly bytes: number
  readonly findings: readonly ScrubFinding[]
  /** Also those that are not kept. */
  readonly findingCount: number
  /** Why it did not go on. */
  readonly error?: string
  /** The end of the last one that read everything. */
  readonly lastEndedAtMs?: number
}

const finding = anObject<ScrubFinding>({
  ...{ what: aName, state: oneOf('damaged', 'repaired', 'told'), ulid: aText, file: aText, offset: aNumber },
  ...{ text: aText, from: ifThere(aText) },
})

export const scrubRecord = record({
  name: 'scrub',
  bucket: BLOCKS_BUCKET,
  key: 'scrub.{tenant}',
  format: jsonRecord<ScrubRecord>(1, {
    ...{ tenant: aName, by: aText, beganAtMs: aNumber, endedAtMs: ifThere(aNumber), cursor: aText },
    ...{ blocks: aCount, bytes: aCount, findings: listOf(finding), findingCount: aCount, error: ifThere(aText) },
    lastEndedAtMs: ifThere(aNumber),
  }),
  isSound: ({ tenant }, params) => tenant === params.tenant,
  unreadable: 'as if nothing had been re-read: the next scrub begins at once, and writes it anew',
  newer: 'the tenant is left to compactors of that version',
  doc: 'how far the re-reading of what is stored is, and what was found',
})

export const scrubLease = record({
  name: 'scrubbing',
  bucket: BLOCKS_BUCKET,
  key: 'scrubbing.{tenant}',
  format: leaseFormat,
  ...leaseFallback,
  doc: 'who re-reads what is stored of a tenant',
})

export interface ScrubRequest {
  /** One tenant's; absent: all. */
  readonly tenant?: string
}

export interface ScrubStatusReply {
  readonly id: string
  /** What is re-read now. */
  readonly current?: {
    readonly tenant: string
    readonly blocks: number
    readonly blocksLeft: number
    readonly bytes: number
  }
  readonly tenants: readonly ScrubRecord[]
  /** '' when there is none. */
  readonly secondStore: string
  /** Blocks that are not in the second store yet. */
  readonly notCopied: number
}

export interface ScrubNowReply {
  readonly id: string
  readonly tenants: readonly ScrubRecord[]
  /** False: it goes on; the status shows how far it is. */
  readonly isDone: boolean
  /** Tenants that another compactor reads at the moment. */
  readonly elsewhere: readonly string[]
}

export interface RebuildRequest {
  readonly tenant: string
  readonly partition: number
  readonly segment: number
  readonly ulid: string
  readonly metaSha256: string
  /** Which of the block's files are wrong: they are deleted and made again. */
  readonly files: readonly string[]
}

export interface RebuildReply {
  /** not-held: the segment is not in memory any more · differs: what is held makes another block. */
  readonly outcome: 'stored' | 'not-held' | 'differs'
}

export const scrubStatus = addressed({
  name: 'scrubStatus',
  subject: 'compactor.{id}.scrubs',
  servedBy: 'compactor',
  askedBy: ['gateway', 'command'],
  timeoutMs: 5_000,
  requestBytesMax: 1024,
  replyBytesMax: 16 * 1024 * 1024,
  request: cbor<ScrubRequest>({ tenant: ifThere(aTenant) }),
  reply: cbor<ScrubStatusReply>(),
  doc: 'what one compactor re-reads, and what was found',
})
export const scrubNow = question({
  name: 'scrubNow',
  subject: 'scrub.now',
  servedBy: 'compactor',
  askedBy: ['gateway', 'command'],
  queue: 'compactor',
  timeoutMs: 60_000,
  requestBytesMax: 1024,
  replyBytesMax: 16 * 1024 * 1024,
  request: cbor<ScrubRequest>({ tenant: ifThere(aTenant) }),
  reply: cbor<ScrubNowReply>(),
  doc: 're-read everything that is stored, now',
})
export const rebuild = addressed({
  name: 'rebuild',
  subject: 'ingester.{id}.rebuild',
  servedBy: 'ingester',
  askedBy: ['compactor'],
  timeoutMs: 120_000,
  requestBytesMax: 1024 * 1024,
  replyBytesMax: 1024,
  request: cbor<RebuildRequest>({
    tenant: aTenant,
    partition: aWhole,
    segment: aWhole,
    ulid: aText,
    metaSha256: aText,
    files: listOf(aText),
  }),
  reply: cbor<RebuildReply>(),
  doc: 'store damaged files of a flushed block anew, from memory',
})
