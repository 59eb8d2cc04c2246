// Where a range with a modifier begins and ends among the samples of its window.

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
  while (first < last && times[first]! <= startMs) first++
  first = Math.max(lo, first - 1)
  if (isSmoothed) {
    let at = lo
    while (at < last && times[at]! < endMs) at++
    last = at
  }
  if (times[last]! <= startMs) return undefined
  return { first, last }
}
