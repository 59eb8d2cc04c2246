// Quantiles and fractions of native histograms. Within exponential buckets observations are taken to be spread evenly on a logarithmic
// scale; within custom ones and the zero bucket, on a linear one.
import type { Histogram } from '../../model/histogram.ts'
import type { Position } from '../ast.ts'
import { type Annotations, TEXTS } from '../exec/annotations.ts'
import { binaryLog, powerOfTwo } from './go-math.ts'
import { allBuckets, fractionBelow, type NativeBucket, usesCustomBuckets } from './histogram-buckets.ts'

export interface Place {
  readonly name: string
  readonly position: Position
  readonly annotations: Annotations
}

/** A zero bucket reaches only to where there are observations: not below 0 when all others are positive, and the reverse. */
function narrowZero(bucket: NativeBucket, histogram: Histogram): void {
  const hasNegative = histogram.negativeBuckets.length > 0
  const hasPositive = histogram.positiveBuckets.length > 0
  if (!hasNegative && hasPositive) bucket.lower = 0
  else if (!hasPositive && hasNegative) bucket.upper = 0
}

export function quantileOfHistogram(q: number, histogram: Histogram, place: Place): number {
  if (q < 0) return -Infinity
  if (q > 1) return Infinity
  if (histogram.count === 0 || Number.isNaN(q)) return Number.NaN
  const isCustom = usesCustomBuckets(histogram)
  const mayHoldNaN = Number.isNaN(histogram.sum)
  const isForward = mayHoldNaN || q < 0.5
  const buckets = allBuckets(histogram)
  if (!isForward) buckets.reverse()
  let rank = (isForward ? q : 1 - q) * histogram.count
  let bucket: NativeBucket = { lower: 0, upper: 0, lowerInclusive: false, upperInclusive: false, count: 0 }
  let count = 0
  let next = 0
  while (next < buckets.length) {
    bucket = buckets[next++]!
    if (bucket.count === 0) continue
    count += bucket.count
    if (count >= rank) break
  }
  if (!isCustom && bucket.lower < 0 && bucket.upper > 0) narrowZero(bucket, histogram)
  else if (isCustom && bucket.lower === -Infinity) {
    if (bucket.upper <= 0) return bucket.upper
    bucket.lower = 0
  } else if (isCustom && bucket.upper === Infinity) return bucket.lower
  if (count > histogram.count) count = histogram.count
  if (count < rank) {
    if (!mayHoldNaN) return bucket.upper
    place.annotations.inform(TEXTS.quantileOfNaN(place.name), place.position)
    return Number.NaN
  }
  rank = isForward ? rank - (count - bucket.count) : count - rank
  if (mayHoldNaN) {
    for (; next < buckets.length; next++) count += buckets[next]!.count
    if (count < histogram.count) place.annotations.inform(TEXTS.quantileSkewed(place.name), place.position)
  }
  return interpolate(bucket, rank / bucket.count, isCustom)
}

function interpolate({ lower, upper }: NativeBucket, fraction: number, isCustom: boolean): number {
  if (isCustom || (lower <= 0 && upper >= 0)) return lower + (upper - lower) * fraction
  const logLower = binaryLog(Math.abs(lower))
  const logUpper = binaryLog(Math.abs(upper))
  if (lower > 0) return powerOfTwo(logLower + (logUpper - logLower) * fraction)
  return -powerOfTwo(logUpper + (logLower - logUpper) * (1 - fraction))
}

/** The share of observations between two bounds. */
export function fractionOf(
  { lower, upper }: { lower: number; upper: number },
  histogram: Histogram,
  place: Place,
): number {
  if (histogram.count === 0 || Number.isNaN(lower) || Number.isNaN(upper)) return Number.NaN
  if (lower >= upper) return 0
  const buckets = allBuckets(histogram)
  const isZero = buckets.map((bucket) => bucket.lower <= 0 && bucket.upper >= 0)
  buckets.forEach((bucket, i) => {
    if (isZero[i]) narrowZero(bucket, histogram)
  })
  let { count } = histogram
  if (Number.isNaN(histogram.sum)) {
    count = buckets.reduce((sum, bucket) => sum + bucket.count, 0)
    if (count < histogram.count) place.annotations.inform(TEXTS.fractionOfNaN(place.name), place.position)
  }
  const isCustom = usesCustomBuckets(histogram)
  const rankOf = (bound: number): number => {
    let rank = 0
    for (let i = 0; i < buckets.length; i++) {
      const bucket = buckets[i]!
      if (bucket.lower >= bound) return Math.min(rank, count)
      if (bucket.upper > bound) {
        const isLinear = isCustom || isZero[i]!
        if (isLinear && bucket.lower === -Infinity) return Math.min(bucket.count, count)
        return Math.min(rank + bucket.count * fractionBelow(bucket, bound, isLinear), count)
      }
      rank += bucket.count
    }
    return count
  }
  return (rankOf(upper) - rankOf(lower)) / histogram.count
}
