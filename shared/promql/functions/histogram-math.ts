// Arithmetic on native histograms. Histograms are never changed: every operation makes a new one, with empty buckets left out.
//
// Two histograms are brought to one shape first: the coarser schema, and a zero bucket that swallows what either calls zero; custom
// buckets to the bounds that both know. Mixing exponential and custom buckets is refused.
import type { Histogram } from '../../model/histogram.ts'
import { exponentialBound } from './histogram-bounds.ts'
import {
  fractionBelow,
  type NativeBucket,
  negativeBuckets,
  positiveBuckets,
  type Side,
  sideOf,
  spansOf,
  usesCustomBuckets,
  zeroBucket,
} from './histogram-buckets.ts'
import { atSchema, commonBounds, customIndex, type HistogramNotes, sameNumbers } from './histogram-shape.ts'
import { HistogramSum } from './histogram-sum.ts'

function mapCounts(histogram: Histogram, change: (count: number) => number, isNegative: boolean): Histogram {
  return {
    ...histogram,
    isFloat: true,
    resetHint: isNegative ? 'gauge' : histogram.resetHint,
    zeroCount: change(histogram.zeroCount),
    count: change(histogram.count),
    sum: change(histogram.sum),
    positiveBuckets: histogram.positiveBuckets.map(change),
    negativeBuckets: histogram.negativeBuckets.map(change),
  }
}

export function scale(histogram: Histogram, factor: number): Histogram {
  return mapCounts(histogram, (count) => count * factor, factor < 0)
}

/** Division by zero leaves no buckets. */
export function scaleDown(histogram: Histogram, divisor: number): Histogram {
  const result = mapCounts(histogram, (count) => count / divisor, divisor < 0)
  if (divisor !== 0) return result
  return { ...result, positiveSpans: [], positiveBuckets: [], negativeSpans: [], negativeBuckets: [] }
}

/** Empty buckets left out. */
export function compact(histogram: Histogram): Histogram {
  const positive = spansOf(sideOf(histogram.positiveSpans, histogram.positiveBuckets))
  const negative = spansOf(sideOf(histogram.negativeSpans, histogram.negativeBuckets))
  return {
    ...histogram,
    positiveSpans: positive.spans,
    positiveBuckets: positive.buckets,
    negativeSpans: negative.spans,
    negativeBuckets: negative.buckets,
  }
}

export function add(a: Histogram, b: Histogram, notes: HistogramNotes): Histogram {
  return combine(a, b, 1, notes)
}

export function subtract(a: Histogram, b: Histogram, notes: HistogramNotes): Histogram {
  return combine(a, b, -1, notes)
}

function combine(a: Histogram, b: Histogram, sign: 1 | -1, notes: HistogramNotes): Histogram {
  const sum = new HistogramSum(a)
  sum.add(b, notes, sign, false)
  return sum.plain()
}

/** Equal in every bit that counts; spans may differ in how they describe the same layout. */
export function equals(a: Histogram, b: Histogram): boolean {
  if (a.schema !== b.schema || !Object.is(a.count, b.count) || !Object.is(a.sum, b.sum)) return false
  if (a.zeroThreshold !== b.zeroThreshold || !Object.is(a.zeroCount, b.zeroCount)) return false
  if (usesCustomBuckets(a) && !sameNumbers(a.customValues, b.customValues)) return false
  return (
    sameSide(sideOf(a.positiveSpans, a.positiveBuckets), sideOf(b.positiveSpans, b.positiveBuckets)) &&
    sameSide(sideOf(a.negativeSpans, a.negativeBuckets), sideOf(b.negativeSpans, b.negativeBuckets))
  )
}

function sameSide(a: Side, b: Side): boolean {
  return sameNumbers(a.indexes, b.indexes) && sameNumbers(a.counts, b.counts)
}

/** The counter began anew between `before` and `histogram`: a hint says so, or something that only grows became smaller. */
export function isHistogramReset(histogram: Histogram, before: Histogram): boolean {
  if (histogram.resetHint === 'reset') return true
  if (histogram.resetHint === 'no-reset') return false
  if (histogram.count < before.count) return true
  if (usesCustomBuckets(histogram)) {
    if (!usesCustomBuckets(before)) return true
    return isCustomReset(histogram, before)
  }
  if (usesCustomBuckets(before) || histogram.schema > before.schema) return true
  if (histogram.zeroThreshold < before.zeroThreshold) return true
  const widened = new HistogramSum(before)
  widened.widenZero(histogram.zeroThreshold)
  if (widened.zeroThreshold !== histogram.zeroThreshold) return true // inside a populated bucket
  if (histogram.zeroCount < widened.zeroCount) return true
  const { schema, zeroThreshold } = histogram
  return (
    hasShrunk(
      aboveZero(sideOf(histogram.positiveSpans, histogram.positiveBuckets), schema, zeroThreshold),
      aboveZero(
        atSchema(sideOf(before.positiveSpans, before.positiveBuckets), before.schema, schema),
        schema,
        zeroThreshold,
      ),
    ) ||
    hasShrunk(
      aboveZero(sideOf(histogram.negativeSpans, histogram.negativeBuckets), schema, zeroThreshold),
      aboveZero(
        atSchema(sideOf(before.negativeSpans, before.negativeBuckets), before.schema, schema),
        schema,
        zeroThreshold,
      ),
    )
  )
}

function aboveZero({ indexes, counts }: Side, schema: number, zeroThreshold: number): Side {
  let from = 0
  if (zeroThreshold > 0)
    while (from < indexes.length && exponentialBound(indexes[from]!, schema) <= zeroThreshold) from++
  return from === 0 ? { indexes, counts } : { indexes: indexes.slice(from), counts: counts.slice(from) }
}

/** Some populated bucket of `before` is missing or holds less now. */
function hasShrunk(now: Side, before: Side): boolean {
  let at = 0
  for (let i = 0; i < before.indexes.length; i++) {
    const index = before.indexes[i]!
    const count = before.counts[i]!
    while (at < now.indexes.length && now.indexes[at]! < index) at++
    const current = at < now.indexes.length && now.indexes[at] === index ? now.counts[at]! : undefined
    if (current === undefined ? count !== 0 : current < count) return true
  }
  return false
}

/** Of custom buckets: compared between the bounds that both know. */
function isCustomReset(histogram: Histogram, before: Histogram): boolean {
  const common = sameNumbers(histogram.customValues, before.customValues)
    ? histogram.customValues
    : commonBounds(histogram.customValues, before.customValues)
  const now = onBounds(sideOf(histogram.positiveSpans, histogram.positiveBuckets), histogram.customValues, common)
  const then = onBounds(sideOf(before.positiveSpans, before.positiveBuckets), before.customValues, common)
  return then.some((count, i) => now[i]! < count)
}

function onBounds(side: Side, bounds: readonly number[], common: readonly number[]): number[] {
  const counts = new Array<number>(common.length + 1).fill(0)
  for (let i = 0; i < side.indexes.length; i++)
    counts[customIndex(side.indexes[i]!, bounds, common)]! += side.counts[i]!
  return counts
}

/** What remains of the observations at or below `bound` (upper) or above it. The sum becomes an estimate from bucket midpoints. */
export function trim(histogram: Histogram, bound: number, isUpper: boolean): Histogram {
  const isCustom = usesCustomBuckets(histogram)
  let count = 0
  let sum = 0
  let isTrimmed = false
  const trimSide = (buckets: NativeBucket[], isPositive: boolean): number[] =>
    buckets.map((bucket) => {
      if (bucket.count === 0) return 0
      const { kept, midpoint } = trimBucket(bucket, bound, { isUpper, isPositive, isCustom })
      count += kept
      sum += kept === 0 && !Number.isFinite(midpoint) ? 0 : midpoint * kept
      if (kept !== bucket.count) isTrimmed = true
      return kept
    })
  const positive = trimSide(positiveBuckets(histogram), true)
  const negative = trimSide(negativeBuckets(histogram), false)
  let { zeroCount } = histogram
  if (zeroCount > 0) {
    const { kept, midpoint } = trimZero(histogram, bound, isUpper)
    if (kept !== zeroCount) isTrimmed = true
    sum += midpoint * kept
    count += kept
    zeroCount = kept
  }
  if (!isTrimmed) return histogram
  return compact({
    ...histogram,
    isFloat: true,
    count,
    sum,
    zeroCount,
    positiveBuckets: positive,
    negativeBuckets: negative,
  })
}

interface TrimOptions {
  readonly isUpper: boolean
  readonly isPositive: boolean
  readonly isCustom: boolean
}

function trimBucket(bucket: NativeBucket, bound: number, options: TrimOptions): { kept: number; midpoint: number } {
  const { lower, upper, count } = bucket
  const { isUpper, isPositive, isCustom } = options
  const isWhole = isUpper ? upper <= bound : lower >= bound
  if (isWhole) return { kept: count, midpoint: midpointOf(lower, upper, isPositive, isCustom) }
  if (isUpper ? lower >= bound : upper <= bound) return { kept: 0, midpoint: 0 }
  if (lower === -Infinity || upper === Infinity) return trimInfinite(bucket, bound, isUpper)
  const below = count * fractionBelow(bucket, bound, isCustom)
  if (isUpper) return { kept: below, midpoint: midpointOf(lower, bound, isPositive, isCustom) }
  return { kept: count - below, midpoint: midpointOf(bound, upper, isPositive, isCustom) }
}

/** A bucket without an end says nothing about where in it the observations lie. */
function trimInfinite({ lower, upper, count }: NativeBucket, bound: number, isUpper: boolean) {
  const finite = (value: number) => (Number.isFinite(value) ? value : 0)
  if (lower === -Infinity) {
    if (isUpper) {
      if (bound > 0 && upper > 0 && upper !== Infinity) return { kept: (count * bound) / upper, midpoint: bound / 2 }
      if (upper <= 0) return { kept: count, midpoint: bound }
      return { kept: 0, midpoint: finite(upper) }
    }
    if (bound >= 0 && upper > bound && upper !== Infinity) {
      return { kept: count * (1 - bound / upper), midpoint: (bound + upper) / 2 }
    }
    return { kept: 0, midpoint: finite(upper) }
  }
  if (!isUpper && bound >= lower) return { kept: count, midpoint: bound }
  return { kept: 0, midpoint: finite(lower) }
}

function midpointOf(lower: number, upper: number, isPositive: boolean, isLinear: boolean): number {
  if (!Number.isFinite(lower)) {
    if (!Number.isFinite(upper)) return 0
    return upper > 0 ? upper / 2 : upper
  }
  if (!Number.isFinite(upper)) return lower
  if (isLinear) return (lower + upper) / 2
  const mean = Math.sqrt(Math.abs(lower * upper))
  return isPositive ? mean : -mean
}

function trimZero(histogram: Histogram, bound: number, isUpper: boolean): { kept: number; midpoint: number } {
  const { count, ...zero } = zeroBucket(histogram)
  const hasPositive = histogram.positiveBuckets.some((bucket) => bucket !== 0)
  const hasNegative = histogram.negativeBuckets.some((bucket) => bucket !== 0)
  const upper = hasNegative && !hasPositive ? 0 : zero.upper
  const lower = hasPositive && !hasNegative ? 0 : zero.lower
  const whole = { kept: count, midpoint: (lower + upper) / 2 }
  const nothing = { kept: 0, midpoint: 0 }
  if (bound <= lower) return isUpper ? nothing : whole
  if (bound >= upper) return isUpper ? whole : nothing
  if (isUpper) return { kept: count * ((bound - lower) / (upper - lower)), midpoint: (lower + bound) / 2 }
  return { kept: count * ((upper - bound) / (upper - lower)), midpoint: (bound + upper) / 2 }
}
