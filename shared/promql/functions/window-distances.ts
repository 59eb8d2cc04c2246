// How far samples lie apart at either end of a range that is read from windows and samples, or from windows of two lengths. PromQL's extrapolation
// asks whether a series began inside the range by the average distance of all samples in it: of a mixture that says nothing of either end.
import { firstAfter } from '../exec/seek.ts'
import type { WindowSpan } from '../source.ts'

/** Of the samples [lo, hi), s; absent where one distance holds for all, or where too few samples are there to tell. */
export function distancesAt(
  times: Float64Array,
  lo: number,
  hi: number,
  windows: readonly WindowSpan[] | undefined,
): { atStart?: number | undefined; atEnd?: number | undefined } {
  if (windows === undefined || hi - lo < 2) return {}
  const firstMs = times[lo]!
  const lastMs = times[hi - 1]!
  const within = windows.filter(({ startMs, endMs }) => startMs <= lastMs && endMs > firstMs)
  if (within.length === 0) return {}
  const [first, last] = [within[0]!, within.at(-1)!]
  const atStart =
    first.startMs <= firstMs
      ? first.lengthMs
      : average(times, lo, Math.min(hi, firstAfter(times, lo, first.startMs - 1)))
  const atEnd = last.endMs > lastMs ? last.lengthMs : average(times, firstAfter(times, lo, last.endMs - 1), hi)
  return { atStart: atStart && atStart / 1000, atEnd: atEnd && atEnd / 1000 }
}

function average(times: Float64Array, from: number, to: number): number | undefined {
  return to - from < 2 ? undefined : (times[to - 1]! - times[from]!) / (to - from - 1)
}
