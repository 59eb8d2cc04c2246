// blocks: what the KV bucket `blocks` and the object store hold of blocks. One bucket, so that one watch sees all changes in the order
// in which they were made (LOG-15).
//
// manifest.{tenant}   the tenant's live blocks, changed only by compare-and-set on the revision read; `version` and `previous` chain it; every
//                     version is also kept as the object `{tenant}/manifest/{version}` (LOG-14)
// tenant.{tenant}     the registry: says that a manifest must exist, and its newest version known; written before the first manifest
// flushed.{p}         the newest segment of partition p of which every tenant's blocks are committed (LOG-15); written after the manifests
// aside.{tenant}.{p}.{segment}   samples of that tenant's segment that could not be brought into blocks, while those of the others were: as
//                     objects `{tenant}/aside/{p}-{segment}/…`, tried again from there
// lease.{tenant}      who may compact, and the fence that its manifest changes must carry
//
// Objects of a block: {tenant}/{ulid}/meta.json, index, chunks/000001, …, tombstones. {tenant} is the token of shared/model/tenant.ts. Bound:
// MANIFEST_BYTES_MAX a manifest.
import { jsonRecord, record, recordKey } from '../bus/record.ts'
import { aCount, aFlag, aName, anObject, aText, ifThere, listOf, oneOf } from '../bus/shape.ts'
import type { Matcher } from '../model/matcher.ts'
import type { Place } from '../model/place.ts'

export const BLOCKS_BUCKET = 'blocks'
export const MANIFEST_BYTES_MAX = 4 * 1024 * 1024

export const manifestKey = (tenantToken: string): string => `manifest.${tenantToken}`
export const tenantKey = (tenantToken: string): string => `tenant.${tenantToken}`
export const flushedKey = (partition: number | '*'): string => `flushed.${partition}`

const damaged = (what: string) => ({
  unreadable: `it is damage, told by name and never taken for none: ${what}`,
  newer: 'the same, and nothing is repaired over it: start a newer version',
})

/** Read by shared/blocks/codec.ts. */
export const manifestPlace = recordKey({
  ...{ name: 'manifest', bucket: BLOCKS_BUCKET, key: 'manifest.{tenant}', version: 2 },
  ...damaged('queries of that tenant are errors and its flushes wait, until the scrubber makes it anew from a copy'),
  doc: 'the live blocks of a tenant',
})
export const registryPlace = recordKey({
  ...{ name: 'registry', bucket: BLOCKS_BUCKET, key: 'tenant.{tenant}', version: 1 },
  ...damaged('as with a manifest'),
  doc: 'that a tenant has a manifest, and its newest version known',
})
export const flushedPlace = recordKey({
  ...{ name: 'flushed', bucket: BLOCKS_BUCKET, key: 'flushed.{partition}', version: 1 },
  ...damaged('queries are errors and that partition is not flushed, until it is put right by hand'),
  doc: 'the newest segment of a partition that is in blocks',
})
/** What stands there says nothing; it is the writing that counts (DELETE-16). */
export const fencePlace = recordKey({
  ...{ name: 'fence', bucket: BLOCKS_BUCKET, key: 'fence', version: 1 },
  ...{ unreadable: 'nobody reads it', newer: 'the same' },
  doc: 'written to learn how far a watch must come to have shown all that was there',
})

/** What one owner held of a segment of one tenant that could not be brought into blocks. */
export interface AsideCopy {
  /** Of its samples (tsdb/head/digest.ts): owners that hold the same need set nothing aside. */
  readonly digest: string
  readonly sampleCount: number
  readonly bytes: number
  /** Names of the objects below `asidePrefix`, in the order in which they are read. */
  readonly objects: readonly string[]
  readonly by: string
  /** Wall clock, ms. */
  readonly atMs: number
  readonly reason: string
}

export interface Aside {
  /** done: nothing of it is needed any more; it is being taken away. */
  readonly state: 'waiting' | 'done'
  /** No more copies than owners; of more than ASIDE_COPIES_MAX none is taken. */
  readonly copies: readonly AsideCopy[]
}
export const ASIDE_COPIES_MAX = 8

export const asideRecord = record({
  name: 'aside',
  bucket: BLOCKS_BUCKET,
  key: 'aside.{tenant}.{partition}.{segment}',
  format: jsonRecord<Aside>(1, {
    state: oneOf('waiting', 'done'),
    copies: listOf(
      anObject<AsideCopy>({
        ...{ digest: aName, sampleCount: aCount, bytes: aCount, objects: listOf(aName) },
        ...{ by: aText, atMs: aCount, reason: aText },
      }),
    ),
  }),
  unreadable: 'what it names stays where it is and is not tried again, until it is put right by hand',
  newer: 'the same',
  doc: 'samples of one tenant and segment that no block holds, and why; they are tried again',
})

/** Part of a partition's log that no owner has applied, and that is in no block. */
export interface Gap {
  readonly segment: number
  /** Of the log; the places are its sequences. */
  readonly incarnation: string
  readonly fromSeq: number
  readonly toSeq: number
  /** What was lost lies at no later time, wall clock, ms. */
  readonly untilMs: number
  readonly text: string
  /** All damage of this segment and earlier ones, which is not told apart any more. */
  readonly isRest?: boolean
}
export interface PartitionGaps {
  readonly gaps: readonly Gap[]
}
export const GAPS_KEPT_MAX = 64

export const gapsRecord = record({
  name: 'gaps',
  bucket: BLOCKS_BUCKET,
  key: 'gaps.{partition}',
  format: jsonRecord<PartitionGaps>(1, {
    gaps: listOf(
      anObject<Gap>({
        ...{ segment: aCount, incarnation: aText, fromSeq: aCount, toSeq: aCount, untilMs: aCount, text: aText },
        isRest: ifThere(aFlag),
      }),
    ),
  }),
  unreadable: 'what it named is told by blocks alone; the next damage is written over it',
  newer: 'no segment of that partition with new damage counts as flushed here',
  doc: 'what a partition has lost for good: told to all tenants whose answers may lack it',
})

/** Each object: frames of an owner's answer, CBOR. */
export const asidePrefix = (tenantToken: string, partition: number, segment: number): string =>
  `${tenantToken}/aside/${partition}-${segment}/`

export const blockPrefix = (tenantToken: string, ulid: string): string => `${tenantToken}/${ulid}/`
export const manifestObject = (tenantToken: string, version: number): string => `${tenantToken}/manifest/${version}`

/** Where a block's samples came from. */
export type BlockOrigin =
  /** What arrived in one segment of one partition's log, within one aligned time range. */
  | {
      readonly kind: 'flush'
      readonly partition: number
      readonly segment: number
      /** Set on what an owner held that the block flushed by the leader misses (LOG-10). */
      readonly isSupplement?: true
      /** Where the samples stand in the log: between this sequence and the next place at which a deletion may stand (DELETE-7). Both are absent of
       *  what older versions wrote. */
      readonly incarnation?: string
      readonly cut?: number
    }
  | { readonly kind: 'compaction'; readonly level: number }
  /** `source`: as the uploader named the block that it was cut from; `nonce`: of the upload. */
  | { readonly kind: 'upload'; readonly source?: string; readonly nonce?: string }

/** The values of a window, each in a block of its own. */
export const AGGREGATES = ['count', 'sum', 'min', 'max', 'last', 'counter'] as const
export type Aggregate = (typeof AGGREGATES)[number]

export interface BlockEntry {
  readonly ulid: string
  /** Milliseconds; samples lie in [minTime, maxTime), as in meta.json. */
  readonly minTime: number
  readonly maxTime: number
  readonly seriesCount: number
  readonly sampleCount: number
  readonly chunkCount: number
  /** Of all files as given. */
  readonly bytes: number
  /** SHA-256 of meta.json, which lists every other file with its own (`carillon.files`). */
  readonly metaSha256: string
  readonly origin: BlockOrigin
  /** 0: raw samples. Else the window in milliseconds of downsampled data. */
  readonly resolutionMs: number
  /** Of a downsampled block: which value of each window it holds (docs/formats/downsampled.md). */
  readonly aggregate?: Aggregate
  /** Of a downsampled block: the raw blocks that it was made of (LOG-21). */
  readonly rawUlids?: readonly string[]
  /** Damage of the log that this block misses samples by, in words: shown as warnings. */
  readonly gaps?: readonly string[]
  /** Ids of the retention rules that have been applied to all of it, so that none is applied twice. */
  readonly rules?: readonly string[]
}

/** A block that no query may read any more, kept for those that still do; or (`garbage`) files that were never listed and are being deleted. */
export interface RetiredBlock {
  readonly ulid: string
  /** Wall clock of who retired it, ms. */
  readonly retiredAtMs: number
  readonly reason: 'compacted' | 'retention' | 'deleted' | 'tenant-deleted' | 'replaced' | 'garbage'
}

/** A deletion by matchers and time. In each partition it affects what lies before its position, and nothing behind it, whatever the times of
 *  the samples. What it means for blocks and heads is said in shared/blocks/delete-rules.ts. */
export interface DeleteEntry {
  readonly id: string
  /** `tenant`: all that the tenant had, metadata and exemplars too. */
  readonly kind: 'series' | 'tenant'
  /** placing: its positions are being found, nothing is hidden · active: hides, and can be taken back · removing: its samples are being
   *  removed · removed: they are, and what comes late still is hidden · undone: taken back. The last two are history. */
  readonly state: 'placing' | 'active' | 'removing' | 'removed' | 'undone'
  /** Each inner list is one selector; a series that matches any is affected. */
  readonly selectors: readonly (readonly Matcher[])[]
  /** Inclusive, ms; safe integers. */
  readonly startMs: number
  readonly endMs: number
  readonly askedAtMs: number
  readonly askedBy: string
  /** When the compactor begins to remove its samples; while it is placing, when that would be if it were placed at once. */
  readonly undoUntilMs: number
  /** When it was taken back, and by whom; or when the last of it was removed. */
  readonly endedAtMs?: number
  readonly endedBy?: string
  /** The id of what was asked for later with the same meaning and came into force first; this one is undone by it. */
  readonly overtakenBy?: string
  /** The version of the manifest that it came with; absent: an older Carillon made it. */
  readonly madeAt?: number
  /** Where it stands in each partition; null: not known yet. Partitions that are not named came later and are not affected. */
  readonly positions: Readonly<Record<string, Place | null>>
  /** The blocks it affects, until they are rewritten. What lies before its position joins when it is listed. */
  readonly blocks: readonly string[]
  /** An older version left no trace of where it stands in some partition: its samples are removed only when somebody says so. */
  readonly isDoubtful?: true
}

/** `flushed.{p}`: where a partition's log and owners' memory begin, and what was flushed last. */
export interface Flushed {
  /** Segments up to this one are in blocks. */
  readonly segment: number
  /** The mark that opened it: replay begins there, nothing from there on is purged (LOG-16). */
  readonly mark: { readonly seq: number; readonly nonce: string; readonly incarnation: string }
  /** What was listed of the flushed segments, of all tenants: 16 hex digits by segment, of the newest FLUSHED_DIGESTS_MAX (DELETE-10). */
  readonly digests: Readonly<Record<string, string>>
}
export const FLUSHED_DIGESTS_MAX = 128

export interface Manifest {
  readonly tenant: string
  /** 1, 2, 3, … */
  readonly version: number
  /** SHA-256 of the bytes of the version before; '' for the first. */
  readonly previous: string
  /** Per partition: the newest segment whose blocks of this tenant are listed, or were merged into ones that are. */
  readonly flushed: Readonly<Record<string, number>>
  readonly blocks: readonly BlockEntry[]
  readonly retired: readonly RetiredBlock[]
  /** The newest version that took something out of `retired`, because its files were gone (blocks/standing.ts). Absent: none has. */
  readonly sweptAt?: number
  /** Per partition: the newest listed segment, and what it held of this tenant when it was listed, as 16 hex digits (DELETE-10). */
  readonly digests?: Readonly<Record<string, { readonly segment: number; readonly digest: string }>>
  /** By age. */
  readonly deletes: readonly DeleteEntry[]
  /** The version that last let deletions go out of `deletes`; absent: none has. */
  readonly historyCut?: number
  /** Per partition: the last position of a deletion that was removed and let go. Nothing of before is listed any more. */
  readonly forgotten?: Readonly<Record<string, Place>>
  /** Per partition: the last position of a tenant deletion that was removed. What was stated before is gone for ever. */
  readonly tomb?: Readonly<Record<string, Place>>
  /** The fence of the newest compaction lease that changed it: one with a lower fence is refused. */
  readonly fence: number
  /** Set when it was made from an object copy of this older version: what lay between is lost. */
  readonly repairedFrom?: number
  /** When the tenant was last deleted. What hides its samples is the entry in `deletes`; what is written later is read as ever. */
  readonly deletedAtMs?: number
  /** Only in memory: an older version wrote it, and where its deletions stand is to be found out before anybody may go by it. */
  readonly isUnsettled?: true
}
