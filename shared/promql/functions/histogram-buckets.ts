// Walks over the buckets of native histograms, with their bounds.
import { CUSTOM_BUCKETS_SCHEMA, type Histogram, type Span } from '../../model/histogram.ts'
import { formatShort } from '../format-float.ts'
import { binaryLog } from './go-math.ts'
import { boundOf } from './histogram-bounds.ts'

export interface NativeBucket {
  lower: number
  upper: number
  readonly lowerInclusive: boolean
  readonly upperInclusive: boolean
  readonly count: number
}

/** One sign of a histogram as a list: ascending indexes, one count each. */
export interface Side {
  readonly indexes: number[]
  readonly counts: number[]
}

export function sideOf(spans: readonly Span[], buckets: readonly number[]): Side {
  const indexes: number[] = []
  let next = 0
  for (const { offset, length } of spans) {
    next += offset
    for (let i = 0; i < length; i++) indexes.push(next++)
  }
  return { indexes: indexes.slice(0, buckets.length), counts: [...buckets] }
}

/** The side with its empty buckets left out, as spans. */
export function spansOf({ indexes, counts }: Side): { spans: Span[]; buckets: number[] } {
  const spans: { offset: number; length: number }[] = []
  const buckets: number[] = []
  let end = 0 // one past the last bucket taken
  for (let i = 0; i < indexes.length; i++) {
    if (counts[i] === 0) continue
    const index = indexes[i]!
    const last = spans[spans.length - 1]
    if (last !== undefined && index === end) last.length++
    else spans.push({ offset: index - end, length: 1 })
    buckets.push(counts[i]!)
    end = index + 1
  }
  return { spans, buckets }
}

export function usesCustomBuckets({ schema }: Histogram): boolean {
  return schema === CUSTOM_BUCKETS_SCHEMA
}

/** The positive buckets in ascending order, empty ones too. */
export function positiveBuckets(histogram: Histogram): NativeBucket[] {
  const { schema, customValues } = histogram
  const side = sideOf(histogram.positiveSpans, histogram.positiveBuckets)
  const isCustom = usesCustomBuckets(histogram)
  return side.indexes.map((index, i) => {
    const lower = boundOf(index - 1, schema, customValues)
    const upper = boundOf(index, schema, customValues)
    const lowerInclusive = isCustom ? index === 0 : lower < 0
    return { lower, upper, lowerInclusive, upperInclusive: isCustom || upper > 0, count: side.counts[i]! }
  })
}

/** The negative buckets, from the one next to zero downwards, empty ones too. */
export function negativeBuckets({ schema, negativeSpans, negativeBuckets: counts }: Histogram): NativeBucket[] {
  const side = sideOf(negativeSpans, counts)
  return side.indexes.map((index, i) => {
    const lower = -boundOf(index, schema, [])
    const upper = -boundOf(index - 1, schema, [])
    return { lower, upper, lowerInclusive: lower < 0, upperInclusive: upper > 0, count: side.counts[i]! }
  })
}

export function zeroBucket({ zeroThreshold, zeroCount }: Histogram): NativeBucket {
  return { lower: -zeroThreshold, upper: zeroThreshold, lowerInclusive: true, upperInclusive: true, count: zeroCount }
}

/** All buckets in ascending order; those that reach into the zero bucket are cut at its threshold. */
export function allBuckets(histogram: Histogram): NativeBucket[] {
  const { zeroThreshold, zeroCount } = histogram
  const buckets = negativeBuckets(histogram).reverse()
  if (zeroCount > 0) buckets.push(zeroBucket(histogram))
  buckets.push(...positiveBuckets(histogram))
  for (const bucket of buckets) {
    if (bucket.upper < 0 && bucket.upper > -zeroThreshold) bucket.upper = -zeroThreshold
    else if (bucket.lower > 0 && bucket.lower < zeroThreshold) bucket.lower = zeroThreshold
  }
  return buckets
}

/** How much of a bucket lies at or below `value`, which is inside it. */
export function fractionBelow({ lower, upper }: NativeBucket, value: number, isLinear: boolean): number {
  if (isLinear) return (value - lower) / (upper - lower)
  const logLower = binaryLog(Math.abs(lower))
  const logUpper = binaryLog(Math.abs(upper))
  const logValue = binaryLog(Math.abs(value))
  if (value > 0) return (logValue - logLower) / (logUpper - logLower)
  return 1 - (logValue - logUpper) / (logLower - logUpper)
}

/** `{count:…, sum:…, (1,2]:3}`, as count_values puts histograms into labels. */
export function describeHistogram(histogram: Histogram): string {
  const parts = [`count:${formatShort(histogram.count)}`, `sum:${formatShort(histogram.sum)}`]
  const buckets = negativeBuckets(histogram).reverse()
  if (histogram.zeroCount !== 0) buckets.push(zeroBucket(histogram))
  for (const bucket of [...buckets, ...positiveBuckets(histogram)]) {
    if (bucket.count === 0) continue
    const open = bucket.lowerInclusive ? '[' : '('
    const close = bucket.upperInclusive ? ']' : ')'
    parts.push(`${open}${formatShort(bucket.lower)},${formatShort(bucket.upper)}${close}:${formatShort(bucket.count)}`)
  }
  return `{${parts.join(', ')}}`
}
