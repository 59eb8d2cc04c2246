// Quantiles: of plain values, and of classic histograms made of cumulative buckets.
import type { Breath } from '../../base/breathing.ts'
import { sortLongFloats } from '../../base/long-sort.ts'

/** Sorts `values` ascending, NaNs first. */
function sortNaNFirst(values: Float64Array): void {
  values.sort() // NaNs last
  let nanCount = 0
  while (nanCount < values.length && Number.isNaN(values[values.length - 1 - nanCount]!)) nanCount++
  if (nanCount === 0) return
  values.copyWithin(nanCount, 0, values.length - nanCount)
  values.fill(Number.NaN, 0, nanCount)
}

/** Between which of so many sorted values the `q` quantile lies, and how near to the upper one. */
export function placesOf(q: number, count: number): { lower: number; upper: number; weight: number } {
  const rank = q * (count - 1)
  const lower = Math.max(0, Math.floor(rank))
  return { lower, upper: Math.min(count - 1, lower + 1), weight: rank - Math.floor(rank) }
}

/** The `q` quantile, interpolated between neighbours. Reorders `values`. */
export function quantileOf(q: number, values: Float64Array): number {
  if (values.length === 0 || Number.isNaN(q)) return Number.NaN
  if (q < 0) return -Infinity
  if (q > 1) return Infinity
  sortNaNFirst(values)
  const { lower, upper, weight } = placesOf(q, values.length)
  return values[lower]! * (1 - weight) + values[upper]! * weight
}

/** `quantileOf` for any number of values, breathing. */
export async function quantileOfMany(q: number, values: Float64Array, breath: Breath): Promise<number> {
  if (values.length <= SORTED_LENGTH_MAX) {
    if (breath.isDue(SORT_WORK * values.length)) await breath.breathe()
    return quantileOf(q, values)
  }
  if (Number.isNaN(q)) return Number.NaN
  if (q < 0) return -Infinity
  if (q > 1) return Infinity
  let numberCount = 0
  for (let i = 0; i < values.length; i++) if (!Number.isNaN(values[i]!)) values[numberCount++] = values[i]!
  const sorted = await sortLongFloats(values.subarray(0, numberCount), breath)
  const nanCount = values.length - numberCount
  const at = (place: number) => (place < nanCount ? Number.NaN : sorted[place - nanCount]!)
  const { lower, upper, weight } = placesOf(q, values.length)
  return at(lower) * (1 - weight) + at(upper) * weight
}

/** Sorted at once, and what that takes of each, in units of work. */
const SORTED_LENGTH_MAX = 16_384
const SORT_WORK = 30

export interface Bucket {
  readonly upper: number
  /** Observations up to `upper`. */
  count: number
}

interface Repair {
  readonly minBucket: number
  readonly maxBucket: number
  readonly maxDiff: number
}

/** Differences relative to the sum of two counts that are taken for float noise. */
const NOISE = 1e-12

/** The quantile of a classic histogram, and what had to be repaired for it (undefined: nothing). Reorders `buckets`. */
export function bucketQuantile(q: number, buckets: Bucket[]): { value: number; repair: Repair | undefined } {
  if (Number.isNaN(q)) return { value: Number.NaN, repair: undefined }
  if (q < 0) return { value: -Infinity, repair: undefined }
  if (q > 1) return { value: Infinity, repair: undefined }
  sortBuckets(buckets)
  if (buckets[buckets.length - 1]!.upper !== Infinity) return { value: Number.NaN, repair: undefined }
  const merged = mergeEqualBounds(buckets)
  const repair = forceMonotonic(merged)
  const last = merged.length - 1
  const observations = merged[last]!.count
  if (merged.length < 2 || observations === 0) return { value: Number.NaN, repair }
  const rank = q * observations
  const at = firstReaching(merged, rank)
  if (at === last) return { value: merged[last - 1]!.upper, repair }
  if (at === 0 && merged[0]!.upper <= 0) return { value: merged[0]!.upper, repair }
  const { upper, count } = merged[at]!
  if (at === 0) return { value: 0 + (upper - 0) * (rank / count), repair }
  const below = merged[at - 1]!
  return { value: below.upper + (upper - below.upper) * ((rank - below.count) / (count - below.count)), repair }
}

/** The first bucket but the last whose count reaches `rank`, or the last; by bisection, as counts may hold NaN. */
function firstReaching(buckets: readonly Bucket[], rank: number): number {
  let low = 0
  let high = buckets.length - 1
  while (low < high) {
    const middle = (low + high) >>> 1
    if (buckets[middle]!.count >= rank) high = middle
    else low = middle + 1
  }
  return low
}

function sortBuckets(buckets: Bucket[]): void {
  buckets.sort((a, b) => (a.upper < b.upper ? -1 : a.upper > b.upper ? 1 : 0))
}

function mergeEqualBounds(buckets: readonly Bucket[]): Bucket[] {
  const merged: Bucket[] = []
  for (const bucket of buckets) {
    const last = merged[merged.length - 1]
    if (last !== undefined && last.upper === bucket.upper) last.count += bucket.count
    else merged.push({ ...bucket })
  }
  return merged
}

/** Removes decreases between neighbours, silently where they are float noise. */
function forceMonotonic(buckets: Bucket[]): Repair | undefined {
  let repair: Repair | undefined
  let before = buckets[0]!.count
  for (let i = 1; i < buckets.length; i++) {
    const bucket = buckets[i]!
    const count = bucket.count
    if (count === before) continue
    if (almostEqual(before, count, NOISE)) bucket.count = before
    else if (count < before) {
      bucket.count = before
      repair = {
        minBucket: Math.min(repair?.minBucket ?? Infinity, bucket.upper),
        maxBucket: Math.max(repair?.maxBucket ?? -Infinity, bucket.upper),
        maxDiff: Math.max(repair?.maxDiff ?? 0, before - count),
      }
    } else before = count
  }
  return repair
}

const SMALLEST_NORMAL = 2 ** -1022

/** Equal up to `tolerance` relative to the sum of their sizes. NaNs equal each other. */
export function almostEqual(a: number, b: number, tolerance: number): boolean {
  if (Number.isNaN(a) && Number.isNaN(b)) return true
  if (a === b) return true
  const sum = Math.abs(a) + Math.abs(b)
  const difference = Math.abs(a - b)
  if (a === 0 || b === 0 || sum < SMALLEST_NORMAL) return difference < tolerance * SMALLEST_NORMAL
  return difference / Math.min(sum, Number.MAX_VALUE) < tolerance
}

/** The share of a classic histogram's observations between two bounds. Reorders `buckets`. */
export function bucketFraction(lower: number, upper: number, buckets: Bucket[]): number {
  sortBuckets(buckets)
  if (buckets[buckets.length - 1]!.upper !== Infinity) return Number.NaN
  const merged = mergeEqualBounds(buckets)
  const total = merged[merged.length - 1]!.count
  if (total === 0 || Number.isNaN(lower) || Number.isNaN(upper)) return Number.NaN
  if (lower >= upper) return 0
  const rankOf = (bound: number) => {
    const rank = rankAt(bound, merged)
    return rank === undefined || rank > total ? total : rank
  }
  return (rankOf(upper) - rankOf(lower)) / total
}

/** How many observations lie below `bound`; undefined when no bucket reaches it. */
function rankAt(bound: number, buckets: readonly Bucket[]): number | undefined {
  let below = 0
  let from = buckets[0]!.upper <= 0 ? -Infinity : 0
  for (const { upper, count } of buckets) {
    if (from >= bound) return below
    if (upper > bound) {
      if (from === -Infinity) return count
      return below + ((count - below) * (bound - from)) / (upper - from)
    }
    below = count
    from = upper
  }
  return undefined
}
