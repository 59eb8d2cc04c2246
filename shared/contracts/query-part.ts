// query_part: some of the steps of a range query, asked by the querier that answers the whole of any querier.
//
// query_part.{tenant}   question, queue `querier`. The steps from partStartMs, which is one of them, to partEndMs.
// The reply holds what the whole query has for these steps, bit by bit. Bound: `replyBytesMax`.
// Errors: as of `query`, but thrown: RefusedError with the codes of PromQL and of limits, UnavailableError, CorruptError.
import { cbor, question } from '../bus/contract.ts'
import { aCount, aFlag, aNumber, anObject, aText, ifThere, listOf, orNull } from '../bus/shape.ts'
import type { StepCounts } from '../promql/engine.ts'
import type { Annotation } from '../promql/exec/annotations.ts'

export interface QueryPartRequest {
  readonly query: string
  /** Of the whole query, ms: what start(), end() and range() mean. */
  readonly startMs: number
  readonly endMs: number
  readonly stepMs: number
  readonly partStartMs: number
  readonly partEndMs: number
  readonly lookbackMs: number
  /** Per partition what to wait for (LOG-20); null where nothing has to be waited for. */
  readonly places: readonly ({ readonly minSeq: number; readonly incarnation: string } | null)[]
  readonly allowsPartial: boolean
  /** Of the longest windows that may stand for samples, ms; 0: none; absent: by the step. */
  readonly windowMaxMs?: number
  /** Samples are counted per step. */
  readonly countsSamples?: boolean
}

/** One series of the part. */
export interface PartSeries {
  readonly labels: readonly string[]
  /** Milliseconds; absent: every step of the part. */
  readonly times?: Float64Array
  readonly values: Float64Array
  /** Only with native histograms: canonical ones, end offsets per value (equal to the one before: a float). */
  readonly histogramEnds?: Uint32Array
  readonly histograms?: Uint8Array
}

export interface QueryPartReply {
  readonly series: readonly PartSeries[]
  readonly annotations: readonly Annotation[]
  /** With `countsSamples`. */
  readonly counts?: StepCounts
  /** What reading warned of. */
  readonly warnings: readonly string[]
  readonly read: {
    readonly series: number
    readonly samples: number
    readonly bytes: number
    readonly blockBytes: number
  }
  /** A hash of all blocks and deletions that the part was read from; '' when owners held something of it, or views changed (LOG-21). */
  readonly state: string
}

export const queryPart = question({
  name: 'queryPart',
  subject: 'query_part.{tenant}',
  servedBy: 'querier',
  askedBy: ['querier'],
  queue: 'querier',
  request: cbor<QueryPartRequest>({
    query: aText,
    startMs: aNumber,
    endMs: aNumber,
    stepMs: aNumber,
    partStartMs: aNumber,
    partEndMs: aNumber,
    lookbackMs: aNumber,
    places: listOf(orNull(anObject({ minSeq: aCount, incarnation: aText }))),
    allowsPartial: aFlag,
    windowMaxMs: ifThere(aNumber),
    countsSamples: ifThere(aFlag),
  }),
  reply: cbor<QueryPartReply>(),
  timeoutMs: 130_000,
  requestBytesMax: 10 * 1024 * 1024,
  replyBytesMax: 256 * 1024 * 1024,
  doc: 'some steps of a range query',
})
