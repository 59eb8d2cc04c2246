// Which samples of a series a deletion hides: selectors made ready, times as intervals. Used by heads, queries and compaction alike.
import type { Interval } from '../model/interval.ts'
import type { Labels } from '../model/labels.ts'
import { labelOf } from '../model/labels.ts'
import type { Matcher } from '../model/matcher.ts'
import type { SampleColumns, SampleRun } from './columns.ts'
import { type CompiledMatcher, compileMatchers } from './matcher-set.ts'

/** What is deleted: a series that any selector takes, between two times, both included, ms. */
export interface Deletion {
  readonly selectors: readonly (readonly Matcher[])[]
  readonly startMs: number
  readonly endMs: number
}

export class DeleteFilter {
  readonly interval: Interval
  readonly selectors: readonly (readonly Matcher[])[]
  private readonly compiled: readonly (readonly CompiledMatcher[])[]

  /** Throws RefusedError `err-carillon-bad-matcher` for a pattern that RE2 does not take. */
  constructor({ selectors, startMs, endMs }: Deletion) {
    this.interval = { startMs, endMs }
    this.selectors = selectors
    this.compiled = selectors.map(compileMatchers)
  }

  takes(labels: Labels): boolean {
    return this.compiled.some((matchers) => matchers.every(({ name, matches }) => matches(labelOf(labels, name))))
  }
}

/** The times at which a series' samples are hidden, by start, apart from each other; empty: none is. */
export function hiddenIntervals(filters: readonly DeleteFilter[], labels: Labels): Interval[] {
  return joined(filters.filter((filter) => filter.takes(labels)).map(({ interval }) => interval))
}

/** Intervals by start, those that overlap made one. */
export function joined(intervals: readonly Interval[]): Interval[] {
  const sorted = intervals.filter(({ startMs, endMs }) => startMs <= endMs).sort((a, b) => a.startMs - b.startMs)
  const apart: Interval[] = []
  for (const next of sorted) {
    const last = apart.at(-1)
    if (last === undefined || next.startMs > last.endMs) apart.push(next)
    else if (next.endMs > last.endMs) apart[apart.length - 1] = { startMs: last.startMs, endMs: next.endMs }
  }
  return apart
}

/** How intervals that are apart lie to the times of a chunk, [minTime, maxTime]: do they hide all of it, some of it perhaps, or nothing? */
export function reachOf(intervals: readonly Interval[], minTime: number, maxTime: number): 'all' | 'some' | 'none' {
  let reach: 'some' | 'none' = 'none'
  for (const { startMs, endMs } of intervals) {
    if (startMs > maxTime || endMs < minTime) continue
    if (startMs <= minTime && endMs >= maxTime) return 'all'
    reach = 'some'
  }
  return reach
}

/** Appends what the intervals, which are apart, leave of a run to the sink. */
export function pushVisible(run: SampleRun, intervals: readonly Interval[], sink: SampleColumns): void {
  let from = run.start
  let next = 0
  for (let i = run.start; i < run.end; i++) {
    const time = run.times[i]!
    while (next < intervals.length && intervals[next]!.endMs < time) next++
    if (next === intervals.length) break
    if (time < intervals[next]!.startMs) continue
    if (i > from) sink.pushRange(run, from, i)
    from = i + 1
  }
  if (from < run.end) sink.pushRange(run, from, run.end)
}
