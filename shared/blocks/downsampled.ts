// Reading windows in place of samples (docs/formats/downsampled.md): which days have windows that may be read, which window length suits a
// question, and what a function over a range is, from windows. All of it pure.
//
// A window is taken whole when its last sample lies in the range (start, end], so the ends of a range are off by up to one window each:
//   count, sum             by the samples of one window at either end
//   min, max, avg, last    as if the range began and ended up to one window earlier
//   increase, rate         the average rate between the last sample before the range and the last one in it, over the range's length; when
//                          the rate is steady that is exact, else off by at most what the counter grew in two windows
import type { Aggregate, BlockEntry, Manifest } from '../contracts/blocks.ts'
import { hidersOf } from '../contracts/deletes.ts'
import type { SampleRun } from '../tsdb/columns.ts'

/** Windows are made for whole aligned days. */
export const WINDOW_RANGE_MS = 24 * 3_600_000
/** Window lengths, the longest first. */
const WINDOWS_MS = [3_600_000, 300_000]
/** Windows in the range of a function, at least: the ends are off by one each. */
const WINDOWS_PER_RANGE_MIN = 5

export interface WindowDay {
  readonly startMs: number
  readonly endMs: number
  readonly resolutionMs: number
  readonly blocks: ReadonlyMap<Aggregate, BlockEntry>
}

/** The window length for a question, 0 for none: steps must not be shorter than windows, ranges at least five times as long. */
export function windowFor({ stepMs, rangeMs }: { stepMs: number; rangeMs?: number | undefined }): number {
  const fits = (windowMs: number) => stepMs >= windowMs && (rangeMs ?? Infinity) >= WINDOWS_PER_RANGE_MIN * windowMs
  return WINDOWS_MS.find(fits) ?? 0
}

/** Days whose windows hold all that the raw blocks hold now (L21): no raw block of the day that they were not made of, no deletion. */
export function windowDays({ blocks, deletes }: Manifest, resolutionMs: number): WindowDay[] {
  const days = new Map<number, Map<Aggregate, BlockEntry>>()
  for (const block of blocks) {
    if (block.resolutionMs !== resolutionMs || block.aggregate === undefined) continue
    const startMs = Math.floor(block.minTime / WINDOW_RANGE_MS) * WINDOW_RANGE_MS
    const day = days.get(startMs) ?? new Map<Aggregate, BlockEntry>()
    days.set(startMs, day.set(block.aggregate, block))
  }
  const raw = blocks.filter((block) => block.resolutionMs === 0)
  const found: WindowDay[] = []
  for (const [startMs, byAggregate] of days) {
    const endMs = startMs + WINDOW_RANGE_MS
    const beneath = raw.filter((block) => reachesInto(block, startMs, endMs))
    const all = [...byAggregate.values()]
    const isWhole = all.every((block) => isMadeOf(block, beneath))
    const isHidden = [...beneath, ...all].some(({ ulid }) => hidersOf(deletes, ulid).length > 0)
    if (isWhole && !isHidden) found.push({ startMs, endMs, resolutionMs, blocks: byAggregate })
  }
  return found.sort((a, b) => a.startMs - b.startMs)
}

/** Whether every raw block is among those that the downsampled one was made of. */
export function isMadeOf({ rawUlids = [] }: BlockEntry, raw: readonly BlockEntry[]): boolean {
  return raw.every(({ ulid }) => rawUlids.includes(ulid))
}

export function reachesInto({ minTime, maxTime }: BlockEntry, startMs: number, endMs: number): boolean {
  return minTime < endMs && maxTime > startMs
}

// ---- functions over windows ----

export type WindowFunction = 'count' | 'sum' | 'min' | 'max' | 'avg' | 'last' | 'increase' | 'rate'

/** The aggregates that a function reads. */
export const AGGREGATES_OF: Readonly<Record<WindowFunction, readonly Aggregate[]>> = {
  count: ['count'],
  sum: ['sum'],
  min: ['min'],
  max: ['max'],
  avg: ['sum', 'count'],
  last: ['last'],
  increase: ['counter', 'last'],
  rate: ['counter', 'last'],
}

/** The floats of one series in one day, by aggregate. */
export type DayRuns = Readonly<Partial<Record<Aggregate, SampleRun>>>

export interface WindowRange {
  /** Exclusive and inclusive, ms. */
  readonly startMs: number
  readonly endMs: number
  readonly resolutionMs: number
}

/** The value of a function over a range; undefined when there is none. `days` in the order of time, with the day before the range for
 *  increase and rate. */
export function overWindows(name: WindowFunction, days: readonly DayRuns[], range: WindowRange): number | undefined {
  switch (name) {
    case 'count':
    case 'sum':
      return folded(days, name, range, (a, b) => a + b)
    case 'min':
      return folded(days, name, range, (a, b) => (b < a || Number.isNaN(a) ? b : a))
    case 'max':
      return folded(days, name, range, (a, b) => (b > a || Number.isNaN(a) ? b : a))
    case 'last':
      return folded(days, name, range, (_, b) => b)
    case 'avg': {
      const count = folded(days, 'count', range, (a, b) => a + b)
      const sum = folded(days, 'sum', range, (a, b) => a + b)
      return count === undefined || sum === undefined ? undefined : sum / count
    }
    case 'increase':
      return increaseOver(days, range)
    case 'rate': {
      const increase = increaseOver(days, range)
      return increase === undefined ? undefined : increase / ((range.endMs - range.startMs) / 1000)
    }
  }
}

function folded(
  days: readonly DayRuns[],
  aggregate: Aggregate,
  { startMs, endMs }: WindowRange,
  fold: (a: number, b: number) => number,
): number | undefined {
  let result: number | undefined
  for (const { [aggregate]: run } of days) {
    if (run === undefined) continue
    for (let i = run.start; i < run.end; i++) {
      const time = run.times[i]!
      if (time <= startMs || time > endMs) continue
      result = result === undefined ? run.values[i]! : fold(result, run.values[i]!)
    }
  }
  return result
}

/** Walks the counters of all days as one: within a day they only grow; between two days the raw values tell of a reset. */
function increaseOver(days: readonly DayRuns[], { startMs, endMs, resolutionMs }: WindowRange): number | undefined {
  let total = 0
  let fromMs: number | undefined
  let toMs = Number.NaN
  let rawBefore: number | undefined
  for (const { counter, last } of days) {
    if (counter === undefined || counter.start >= counter.end) continue
    let before: number | undefined
    for (let i = counter.start; i < counter.end; i++) {
      const time = counter.times[i]!
      const value = counter.values[i]!
      if (time > endMs) break
      const gain = gainOf(value, before, rawBefore)
      before = value
      if (fromMs !== undefined && time > startMs) total += gain
      // What lies before the range only says where the counter stood; too long ago, it says nothing.
      if (time <= startMs) fromMs = time > startMs - 2 * resolutionMs ? time : undefined
      else {
        fromMs ??= time
        toMs = time
      }
    }
    rawBefore = lastFloat(last) ?? rawBefore
  }
  if (fromMs === undefined || !(toMs > fromMs)) return undefined
  const rangeMs = endMs - startMs
  return (total * Math.min(rangeMs, toMs - fromMs + resolutionMs)) / (toMs - fromMs)
}

function gainOf(value: number, before: number | undefined, rawBefore: number | undefined): number {
  if (before !== undefined) return value - before
  if (rawBefore === undefined) return 0
  return value < rawBefore ? value : value - rawBefore
}

function lastFloat(run: SampleRun | undefined): number | undefined {
  if (run === undefined) return undefined
  for (let i = run.end - 1; i >= run.start; i--) if (!Number.isNaN(run.values[i]!)) return run.values[i]!
  return undefined
}
