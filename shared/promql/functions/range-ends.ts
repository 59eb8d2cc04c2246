// Where a range with a modifier begins and ends among the samples of its window.

import { firstAfter } from '../exec/seek.ts'

export interface Ends {
  /** The last sample at or before the start of the range, or the first one after it. */
  first: number
  /** The last sample of the window; smoothed: the first one at or after the end of the range. */
  last: number
}

/** Where the range begins and ends among samples [lo, hi); undefined when none of them bears on it. */
export function endsOf(
  times: Float64Array,
  { lo, hi }: { lo: number; hi: number },
  { startMs, endMs }: { startMs: number; endMs: number },
  isSmoothed: boolean,
): Ends | undefined {
  let last = hi - 1
  let first = lo
  first = Math.min(last, firstAfter(times, first, startMs))
  first = Math.max(lo, first - 1)
  if (isSmoothed) {
    const past = firstAfter(times, lo, endMs)
    last = Math.min(last, past > lo && times[past - 1] === endMs ? past - 1 : past)
  }
  if (times[last]! <= startMs) return undefined
  return { first, last }
}
