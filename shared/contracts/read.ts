// read: what queriers ask owners. All addressed: the answer of one owner is never mixed with another's (LOG-18).
//
// select       streamed    ingester.{id}.select        series with their samples, as frames
// series       streamed    ingester.{id}.series        label sets only
// labelNames   addressed   ingester.{id}.label_names
// labelValues  addressed   ingester.{id}.label_values
// metadata     addressed   ingester.{id}.metadata
// exemplars    addressed   ingester.{id}.exemplars
// headStats    addressed   ingester.{id}.head_stats    how much an owner holds in memory
// fill         streamed    ingester.{id}.fill          what another owner misses (LOG-10)
// Errors: UnavailableError `err-carillon-owner-behind` (not caught up, position not reached in time), `err-carillon-not-owner`;
//         RefusedError `err-carillon-dropped` (the segment is in a block by now: read the watermark again, LOG-18).
import { addressed, cbor, streamed, topic } from '../bus/contract.ts'
import {
  aCount,
  aFlag,
  aLimit,
  aName,
  aNumber,
  anObject,
  aTenant,
  aText,
  aWhole,
  ifThere,
  listOf,
  oneOf,
  someMatchers,
  someSelectors,
  someWords,
} from '../bus/shape.ts'
import type { Labels } from '../model/labels.ts'
import type { Matcher } from '../model/matcher.ts'

export const FRAME_BYTES_MAX = 1024 * 1024
export const FRAME_BYTES_TARGET = 256 * 1024
const REPLY_BYTES_MAX = 64 * 1024 * 1024

export const WHATEVER_IS_HELD = -1

/** What every question to an owner says. */
export interface OwnerRequest {
  readonly partition: number
  readonly tenant: string
  /** Segments up to this one, it included, are read from blocks: the owner answers later ones only, and refuses with
   *  `err-carillon-dropped` when it does not hold all of those any more. 0: none are. */
  readonly watermark: number
  /** The version of the tenant's manifest that the asker goes by: what the owner hides is said by that one or a newer one (DELETE-8). 0: the asker
   *  knows of none. */
  readonly manifestVersion: number
  /** Wait until this sequence is applied (LOG-20); 0: no wait. */
  readonly minSeq: number
  /** The life of the log that `minSeq` counts in; '' with minSeq 0. */
  readonly incarnation: string
  readonly waitMs: number
}

/** What every answer of an owner carries (LOG-18). */
export interface OwnerStamp {
  readonly incarnation: string
  readonly appliedSeq: number
  readonly firstSegment: number
  /** Damage that is named and not filled: shown as a warning. */
  readonly warnings: readonly string[]
}

export interface SelectRequest extends OwnerRequest {
  readonly matchers: readonly Matcher[]
  /** Inclusive, ms. */
  readonly startMs: number
  readonly endMs: number
  /** `last`: only the newest sample at or before endMs of each series. */
  readonly mode: 'all' | 'last'
  readonly seriesMax: number
  /** Only these labels are asked for, sorted by bytes: the answer numbers label sets (`sets`). */
  readonly names?: readonly string[]
  /** With `names`: each series comes with the hash of its full label set (`hashes`). */
  readonly wantsHashes?: boolean
}

/** One frame of series. Label strings are numbered across the frames of one answer: `strings` adds to the table, `labels` holds
 *  numbers into it. Samples come as chunks (mode `all`) or as one sample a series (mode `last`).
 *  Where `names` were asked for, label sets are numbered across the frames in the same way: `labelCounts` and `labels` tell the new ones,
 *  `sets` says which of all each series has. */
export interface SelectFrame {
  readonly stamp?: OwnerStamp
  /** New strings: UTF-8 bytes, one after the other. */
  readonly strings: Uint8Array
  /** End of each new string in `strings`, bytes. */
  readonly stringEnds: Uint32Array
  /** Count of labels (pairs) of each series. */
  readonly labelCounts: Uint16Array
  /** name#, value#, name#, value#, … of all series. */
  readonly labels: Uint32Array
  /** The label set of each series. */
  readonly sets?: Uint32Array
  /** 64 bits for each series, as two words: the same wherever and whenever a label set is hashed. */
  readonly hashes?: Uint32Array
  /** mode `all`: count of chunks of each series. */
  readonly chunkCounts?: Uint32Array
  /** mode `all`: encoding of each chunk (1 XOR, 2 integer histogram, 3 float histogram; 4, 5, 6: the same with start times). */
  readonly chunkEncodings?: Uint8Array
  /** mode `all`: samples in each chunk. */
  readonly chunkSamples?: Uint16Array
  /** mode `all`: end of each chunk in `chunks`, bytes. */
  readonly chunkEnds?: Uint32Array
  readonly chunks?: Uint8Array
  /** Only in fills: the sequence of the log at which the part of the segment begins that each chunk belongs to. */
  readonly chunkSeqs?: Float64Array
  /** mode `last`: one each per series. */
  readonly times?: Float64Array
  readonly values?: Float64Array
  /** mode `last`: the start time of each sample, 0: unknown; absent when all are. */
  readonly startTimes?: Float64Array
  /** mode `last`: canonical histograms of the series whose sample is one: end offsets (equal to the one before: a float). */
  readonly histogramEnds?: Uint32Array
  readonly histograms?: Uint8Array
}

export interface SeriesRequest extends OwnerRequest {
  /** Each inner list is one selector; a series that matches any is in the answer. */
  readonly selectors: readonly (readonly Matcher[])[]
  readonly startMs: number
  readonly endMs: number
  readonly limit: number
}

export interface LabelNamesRequest extends SeriesRequest {}
export interface LabelValuesRequest extends SeriesRequest {
  readonly name: string
}
export interface StringsReply {
  readonly stamp: OwnerStamp
  readonly values: readonly string[]
}

export interface MetadataRequest extends OwnerRequest {
  /** '' asks for all metrics. */
  readonly metric: string
  readonly limit: number
}
export interface MetricMetadata {
  readonly metric: string
  readonly type: string
  readonly help: string
  readonly unit: string
}
export interface MetadataReply {
  readonly stamp: OwnerStamp
  readonly metadata: readonly MetricMetadata[]
}

export interface ExemplarsReply {
  readonly stamp: OwnerStamp
  readonly series: readonly { labels: Labels; exemplars: readonly ExemplarRow[] }[]
}
export interface ExemplarRow {
  readonly labels: Labels
  readonly time: number
  readonly value: number
}

/** What an owner holds of a tenant in one partition. */
export interface HeadStatsReply {
  readonly stamp: OwnerStamp
  readonly seriesCount: number
  readonly chunkCount: number
  /** Of the oldest and the newest sample; absent where there is none. */
  readonly times?: { readonly minMs: number; readonly maxMs: number }
}

/** Asks for what a position range of the log held, by an owner that cannot read it. */
export interface FillRequest {
  readonly partition: number
  readonly incarnation: string
  /** The segment that has the hole. */
  readonly segment: number
}
/** Series of one tenant with their samples of the asked segment; or series with the ids that a session gave them; or strings of a
 *  session. String numbers of `frame` go on from frame to frame of one answer. */
export interface FillFrame {
  /** On the first frame. Its warnings are what the answering owner itself misses of the segment, its applied sequence the highest ever. */
  readonly stamp?: OwnerStamp
  /** With the stamp: the segments that the answering owner holds. */
  readonly held?: readonly number[]
  /** With the stamp: where its segments are cut. Absent where it cannot say for sure, and of older versions. */
  readonly cuts?: readonly SegmentCut[]
  /** With the stamp: up to where it holds, or has put into blocks, what this life of the log has lost with its end. Absent of older versions. */
  readonly kept?: number
  readonly tenant: string
  readonly frame: SelectFrame
  readonly session?: SessionPart
}
/** What of a segment lies before this sequence, and what behind it, stand in different parts (DELETE-7). */
export interface SegmentCut {
  readonly segment: number
  readonly seq: number
  /** Whose samples are cut; absent: all. */
  readonly tenant?: string | undefined
}
/** Part of a session's dictionary, so that its later batches can be read. */
export interface SessionPart {
  /** 32 hex digits. */
  readonly session: string
  readonly epoch: number
  /** The id of each series in the frame. */
  readonly ids: Uint32Array
  /** The session's numbers of the strings in `texts`. */
  readonly stringNumbers: Uint32Array
  readonly texts: readonly string[]
  /** Batches of the session that the answering owner has seen: counter, sequence, counter, sequence, … */
  readonly batches: Float64Array
}

const addressedTo = { timeoutMs: 20_000, requestBytesMax: 1024 * 1024, replyBytesMax: REPLY_BYTES_MAX }
const framed = {
  kind: 'addressed' as const,
  timeoutMs: 120_000,
  requestBytesMax: 1024 * 1024,
  frameBytesMax: FRAME_BYTES_MAX * 4,
}

const ownerShape = {
  partition: aWhole,
  tenant: aTenant,
  watermark: aLimit,
  manifestVersion: aLimit,
  minSeq: aLimit,
  incarnation: aText,
  waitMs: aNumber,
}
const seriesShape = { ...ownerShape, selectors: someSelectors, startMs: aLimit, endMs: aLimit, limit: aLimit }

export const select = streamed({
  name: 'select',
  subject: 'ingester.{id}.select',
  servedBy: 'ingester',
  askedBy: ['querier'],
  ...framed,
  request: cbor<SelectRequest>({
    ...ownerShape,
    matchers: someMatchers,
    startMs: aLimit,
    endMs: aLimit,
    mode: oneOf('all', 'last'),
    seriesMax: aLimit,
    names: ifThere(listOf(aText)),
    wantsHashes: ifThere(aFlag),
  }),
  frame: cbor<SelectFrame>(),
  doc: 'series and samples of one partition, as frames',
})
export const series = streamed({
  name: 'series',
  subject: 'ingester.{id}.series',
  servedBy: 'ingester',
  askedBy: ['querier'],
  ...framed,
  request: cbor<SeriesRequest>(seriesShape),
  frame: cbor<SelectFrame>(),
  doc: 'label sets of one partition, as frames',
})
export const labelNames = addressed({
  name: 'labelNames',
  subject: 'ingester.{id}.label_names',
  servedBy: 'ingester',
  askedBy: ['querier'],
  ...addressedTo,
  request: cbor<LabelNamesRequest>(seriesShape),
  reply: cbor<StringsReply>(),
  doc: 'label names of one partition',
})
export const labelValues = addressed({
  name: 'labelValues',
  subject: 'ingester.{id}.label_values',
  servedBy: 'ingester',
  askedBy: ['querier'],
  ...addressedTo,
  request: cbor<LabelValuesRequest>({ ...seriesShape, name: aText }),
  reply: cbor<StringsReply>(),
  doc: 'values of one label in one partition',
})
export const metadata = addressed({
  name: 'metadata',
  subject: 'ingester.{id}.metadata',
  servedBy: 'ingester',
  askedBy: ['querier'],
  ...addressedTo,
  request: cbor<MetadataRequest>({ ...ownerShape, metric: aText, limit: aLimit }),
  reply: cbor<MetadataReply>(),
  doc: 'type, help and unit of metrics in one partition',
})
export const exemplars = addressed({
  name: 'exemplars',
  subject: 'ingester.{id}.exemplars',
  servedBy: 'ingester',
  askedBy: ['querier'],
  ...addressedTo,
  request: cbor<SeriesRequest>(seriesShape),
  reply: cbor<ExemplarsReply>(),
  doc: 'exemplars of one partition',
})
export const headStats = addressed({
  name: 'headStats',
  subject: 'ingester.{id}.head_stats',
  servedBy: 'ingester',
  askedBy: ['querier'],
  ...addressedTo,
  request: cbor<OwnerRequest>(ownerShape),
  reply: cbor<HeadStatsReply>(),
  doc: 'how many series and chunks an owner holds of a tenant, and from when to when',
})
export const fill = streamed({
  name: 'fill',
  subject: 'ingester.{id}.fill',
  servedBy: 'ingester',
  askedBy: ['ingester'],
  ...framed,
  request: cbor<FillRequest>({ partition: aWhole, incarnation: aText, segment: aWhole }),
  frame: cbor<FillFrame>(),
  doc: 'all samples of one segment of one partition, for an owner that misses some',
})

/** Which of these series an owner already holds: asked only by a distributor whose tenant is at its series limit (LOG-23). */
export interface KnownRequest {
  readonly partition: number
  readonly tenant: string
  /** 32-bit hashes of the label sets. */
  readonly hashes: Uint32Array
}
export interface KnownReply {
  /** One byte per hash: 1 when a series with that hash is held. */
  readonly known: Uint8Array
}
export const known = addressed({
  name: 'known',
  subject: 'ingester.{id}.known',
  servedBy: 'ingester',
  askedBy: ['distributor'],
  timeoutMs: 2_000,
  requestBytesMax: 1024 * 1024,
  replyBytesMax: 1024 * 1024,
  request: cbor<KnownRequest>({ partition: aWhole, tenant: aTenant, hashes: someWords }),
  reply: cbor<KnownReply>(),
  doc: 'which series of a tenant an owner already holds',
})

/** News of how full an owner is; told every few seconds, and when it has been silent for long nobody refuses by it (LOG-23). */
export interface OwnerCounted {
  readonly id: string
  readonly incarnation: string
  readonly bytes: number
  readonly bytesMax: number
  /** Series per partition and tenant. */
  readonly series: readonly { partition: number; tenant: string; count: number }[]
}
export const ownerCounted = topic({
  name: 'ownerCounted',
  subject: 'ingester.counted',
  servedBy: 'distributor',
  askedBy: ['ingester'],
  value: cbor<OwnerCounted>({
    id: aName,
    incarnation: aText,
    bytes: aNumber,
    bytesMax: aLimit,
    series: listOf(anObject({ partition: aCount, tenant: aTenant, count: aCount })),
  }),
  bytesMax: 512 * 1024,
  doc: 'how many series and bytes an owner holds',
})
