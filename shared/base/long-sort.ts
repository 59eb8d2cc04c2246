// Sorting lists of any length a little at a time: short runs by the engine's own sort, then merged, with looks at the time between. Stable,
// like the engine's own.
import type { Breath } from './breathing.ts'

/** Sorted at once. */
const RUN_LENGTH = 2_048
/** Of a comparison by a function, in units of work. */
const COMPARE_WORK = 20

export async function sortLong<T>(list: T[], compare: (a: T, b: T) => number, breath: Breath): Promise<T[]> {
  if (list.length <= RUN_LENGTH) return list.sort(compare)
  let from: T[] = []
  for (let at = 0; at < list.length; at += RUN_LENGTH) {
    for (const item of list.slice(at, at + RUN_LENGTH).sort(compare)) from.push(item)
    if (breath.isDue(11 * RUN_LENGTH * COMPARE_WORK)) await breath.breathe()
  }
  let to = new Array<T>(list.length)
  for (let width = RUN_LENGTH; width < list.length; width *= 2) {
    for (let at = 0; at < list.length; at += 2 * width) {
      const middle = Math.min(at + width, list.length)
      const end = Math.min(at + 2 * width, list.length)
      let a = at
      let b = middle
      for (let i = at; i < end; i++) {
        const takesA = a < middle && (b >= end || compare(from[a]!, from[b]!) <= 0)
        to[i] = takesA ? from[a++]! : from[b++]!
        if (breath.isDue(COMPARE_WORK)) await breath.breathe()
      }
    }
    ;[from, to] = [to, from]
  }
  return from
}

const FLOATS_RUN_LENGTH = 16_384
const FLOATS_PIECE = 4_096

/** Ascending, as `Float64Array.sort` does it; no NaNs. */
export async function sortLongFloats(values: Float64Array, breath: Breath): Promise<Float64Array> {
  if (values.length <= FLOATS_RUN_LENGTH) return values.sort()
  for (let at = 0; at < values.length; at += FLOATS_RUN_LENGTH) {
    values.subarray(at, at + FLOATS_RUN_LENGTH).sort()
    if (breath.isDue(20 * FLOATS_RUN_LENGTH)) await breath.breathe()
  }
  let from: Float64Array = values
  let to: Float64Array = new Float64Array(values.length)
  for (let width = FLOATS_RUN_LENGTH; width < values.length; width *= 2) {
    for (let at = 0; at < values.length; at += 2 * width) {
      const middle = Math.min(at + width, values.length)
      const end = Math.min(at + 2 * width, values.length)
      const merge = { from, to, a: at, middle, b: middle, end, at }
      while (merge.at < end) {
        mergeSome(merge)
        if (breath.isDue(FLOATS_PIECE * 4)) await breath.breathe()
      }
    }
    ;[from, to] = [to, from]
  }
  return settleZeros(from)
}

/** Merging takes both zeros for equal; in order the negative ones come first. */
function settleZeros(sorted: Float64Array): Float64Array {
  const start = firstNotBelow(sorted, 0)
  const end = firstNotBelow(sorted, Number.MIN_VALUE)
  let negativeCount = 0
  for (let i = start; i < end; i++) if (Object.is(sorted[i], -0)) negativeCount++
  sorted.fill(-0, start, start + negativeCount)
  sorted.fill(0, start + negativeCount, end)
  return sorted
}

/** The first index whose value is not below `value`; sorted. */
export function firstNotBelow(sorted: Float64Array, value: number): number {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (sorted[middle]! < value) low = middle + 1
    else high = middle
  }
  return low
}

interface Merge {
  readonly from: Float64Array
  readonly to: Float64Array
  a: number
  readonly middle: number
  b: number
  readonly end: number
  at: number
}

function mergeSome(merge: Merge): void {
  const { from, to, middle, end } = merge
  let { a, b } = merge
  const until = Math.min(end, merge.at + FLOATS_PIECE)
  for (let i = merge.at; i < until; i++) {
    to[i] = a < middle && (b >= end || from[a]! <= from[b]!) ? from[a++]! : from[b++]!
  }
  merge.a = a
  merge.b = b
  merge.at = until
}
