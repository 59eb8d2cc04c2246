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
export const WINDOWS_MS = [3_600_000, 300_000] as const
/** Windows from step to step, and in the range of a function, at least: the ends are off by one each. */
const WINDOWS_MIN = 5
/** In the range of what is looked at only once. */
const WINDOWS_OF_ONE_MIN = 100

export interface WindowDay {
  readonly startMs: number
  readonly endMs: number
  readonly resolutionMs: number
  readonly blocks: ReadonlyMap<Aggregate, BlockEntry>
}

/** The window length for a question, 0 for none. `stepMs` 0: it is looked at once; `rangeMs` absent: an instant selector. With `longestMs`
 *  the asker has decided, and the step does not matter. */
export function windowFor({ stepMs, rangeMs }: { stepMs: number; rangeMs?: number }, longestMs?: number): number {
  const rangeFor = rangeMs ?? (stepMs === 0 ? 0 : Number.POSITIVE_INFINITY)
  const fits = (windowMs: number) => {
    if (longestMs !== undefined) return windowMs <= longestMs && rangeFor >= WINDOWS_MIN * windowMs
    if (stepMs === 0) return rangeFor >= WINDOWS_OF_ONE_MIN * windowMs
    return stepMs >= WINDOWS_MIN * windowMs && rangeFor >= WINDOWS_MIN * windowMs
  }
  return WINDOWS_MS.find(fits) ?? 0
}

/** Days whose windows hold all that the raw blocks hold now (L21): no raw block of the day that they were not made of, no deletion. */
export function windowDays(
  { blocks, deletes }: Pick<Manifest, 'blocks' | 'deletes'>,
  resolutionMs: number,
): WindowDay[] {
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

/** What one series has in one day, by aggregate. */
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
      return increaseOf(floats, days, range)
    case 'rate': {
      const increase = increaseOf(floats, days, range)
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

/** What increases are made of: floats, or native histograms (downsampled-histograms.ts). */
export interface Amounts<T> {
  readonly at: (run: SampleRun, index: number) => T | undefined
  readonly isReset: (value: T, before: T) => boolean
  readonly minus: (value: T, before: T) => T
  readonly plus: (a: T, b: T) => T
  readonly times: (value: T, factor: number) => T
}

const floats: Amounts<number> = {
  at: (run, index) => (Number.isNaN(run.values[index]!) ? undefined : run.values[index]!),
  isReset: (value, before) => value < before,
  minus: (value, before) => value - before,
  plus: (a, b) => a + b,
  times: (value, factor) => value * factor,
}

/** Walks the counters of all days as one: within a day they only grow; between two days the raw values tell of a reset. */
export function increaseOf<T>(
  amounts: Amounts<T>,
  days: readonly DayRuns[],
  { startMs, endMs, resolutionMs }: WindowRange,
): T | undefined {
  let total: T | undefined
  let fromMs: number | undefined
  let toMs = Number.NaN
  let rawBefore: T | undefined
  for (const { counter, last } of days) {
    if (counter === undefined || counter.start >= counter.end) continue
    let before: T | undefined
    for (let i = counter.start; i < counter.end && counter.times[i]! <= endMs; i++) {
      const time = counter.times[i]!
      const value = amounts.at(counter, i)
      if (value === undefined) continue
      const gain = before === undefined ? acrossDays(amounts, value, rawBefore) : amounts.minus(value, before)
      before = value
      // What lies before the range only says where the counter stood; too long ago, it says nothing.
      if (time <= startMs) fromMs = time > startMs - 2 * resolutionMs ? time : undefined
      else {
        if (fromMs !== undefined && gain !== undefined) total = total === undefined ? gain : amounts.plus(total, gain)
        fromMs ??= time
        toMs = time
      }
    }
    rawBefore = lastOf(amounts, last) ?? rawBefore
  }
  if (fromMs === undefined || !(toMs > fromMs) || total === undefined) return undefined
  return amounts.times(total, Math.min(endMs - startMs, toMs - fromMs + resolutionMs) / (toMs - fromMs))
}

function acrossDays<T>(amounts: Amounts<T>, value: T, rawBefore: T | undefined): T | undefined {
  if (rawBefore === undefined) return undefined
  return amounts.isReset(value, rawBefore) ? value : amounts.minus(value, rawBefore)
}

function lastOf<T>(amounts: Amounts<T>, run: SampleRun | undefined): T | undefined {
  for (let i = (run?.end ?? 0) - 1; run !== undefined && i >= run.start; i--) {
    const value = amounts.at(run, i)
    if (value !== undefined) return value
  }
  return undefined
}
