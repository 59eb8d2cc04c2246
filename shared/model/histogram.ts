// Native histograms: the one shape that wire, chunks and PromQL share.
import { HISTOGRAM_COUNT_MAX, isStale } from './sample.ts'

/** `gauge` histograms may go down; `unknown` means that a counter reset must be looked for. */
export type ResetHint = 'unknown' | 'reset' | 'no-reset' | 'gauge'

/** Buckets `offset` further on than the end of the span before (the first: absolute), `length` of them in a row. */
export interface Span {
  readonly offset: number
  readonly length: number
}

export const CUSTOM_BUCKETS_SCHEMA = -53

export interface Histogram {
  /** True: counts are floats. False: whole numbers (an integer histogram as scraped); both are held as plain counts. */
  readonly isFloat: boolean
  readonly resetHint: ResetHint
  /** −4…8 for exponential buckets, −53 for custom bounds. */
  readonly schema: number
  readonly zeroThreshold: number
  readonly zeroCount: number
  readonly count: number
  readonly sum: number
  readonly positiveSpans: readonly Span[]
  /** Absolute count of each bucket, in the order of the spans (never deltas). */
  readonly positiveBuckets: readonly number[]
  readonly negativeSpans: readonly Span[]
  readonly negativeBuckets: readonly number[]
  /** Upper bounds with schema −53, ascending, without +Inf. */
  readonly customValues: readonly number[]
}

/** False where chunks could not keep it exactly: whole counts beyond HISTOGRAM_COUNT_MAX, spans beyond 32 bits. The doors let none in. */
export function isStorableHistogram({ isFloat, schema, count, zeroCount, ...sides }: Histogram): boolean {
  const areSpans = (spans: readonly Span[]) =>
    spans.every(({ offset, length }) => offset === (offset | 0) && length <= 0xffffffff)
  if (schema !== (schema | 0) || !areSpans(sides.positiveSpans) || !areSpans(sides.negativeSpans)) return false
  const isWhole = (number: number) => number >= 0 && number <= HISTOGRAM_COUNT_MAX && Number.isInteger(number)
  if (isFloat) return true
  return (
    isWhole(count) && isWhole(zeroCount) && sides.positiveBuckets.every(isWhole) && sides.negativeBuckets.every(isWhole)
  )
}

/** A stale marker among histograms is one whose sum is the stale marker. */
export function isStaleHistogram(histogram: Histogram): boolean {
  return isStale(histogram.sum)
}
