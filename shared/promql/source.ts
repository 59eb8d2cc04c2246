// What PromQL asks for: the port that a service joins to reality (owners, blocks, a test's own table).
import type { Histogram } from '../model/histogram.ts'
import type { Labels } from '../model/labels.ts'
import type { Matcher } from '../model/matcher.ts'

export interface SelectHints {
  /** The inclusive times, ms, that the evaluation can look at. */
  readonly startMs: number
  readonly endMs: number
  /** `last`: only the newest sample at or before `endMs` of each series matters (an instant selector asked for one time). */
  readonly mode: 'all' | 'last'
}

/** One series' samples in time order, no timestamp twice, stale markers included (test them by bits). */
export interface SeriesSamples {
  readonly labels: Labels
  /** Milliseconds. */
  readonly times: Float64Array
  /** One per time; meaningless where a histogram stands. */
  readonly values: Float64Array
  /** Only when the series holds native histograms: per time, the histogram or undefined for a float. */
  readonly histograms?: readonly (Histogram | undefined)[]
  /** Only when start timestamps are kept: per sample, when what it counts began, in milliseconds; 0 where unknown. */
  readonly startTimes?: Float64Array
}

export interface SeriesSource {
  /** Rejects with the errors of the base room; what passes through `warn` is shown to the asker as a warning.
   *  The series come in no particular order, each label set once. */
  select(matchers: readonly Matcher[], hints: SelectHints, context: QueryContext): Promise<SeriesSamples[]>
}

export interface QueryContext {
  readonly signal: AbortSignal
  warn(text: string): void
}
