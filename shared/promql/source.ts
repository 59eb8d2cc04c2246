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
  /** Only asked of a source that projects. */
  readonly projection?: Projection
  /** Only asked of a source that has windows. */
  readonly windows?: WindowsWanted
}

/** What may stand in place of the samples: per window of time one sample, made of all in it, at the time of the last of them. */
export interface WindowsWanted {
  /** last: the last sample · count, sum, min, max · avg: the sum, with `counts` · counter: one that grows by all increases, resets taken out. */
  readonly use: 'last' | 'count' | 'sum' | 'min' | 'max' | 'avg' | 'counter'
  /** Of the longest windows that may be read, ms; 0: none, unless the samples are gone. */
  readonly lengthMs: number
}

/** Samples in [startMs, endMs) stand for windows of this length. */
export interface WindowSpan {
  readonly startMs: number
  readonly endMs: number
  readonly lengthMs: number
}

/** What an aggregation by names needs of its series: these labels, and nothing else. */
export interface Projection {
  /** Sorted by bytes. */
  readonly names: readonly string[]
  /** The order of the series shows, be it in the last bits of a sum. */
  readonly isOrdered: boolean
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
  /** Only with windows of use count or avg: how many samples each one stands for. */
  readonly counts?: Float64Array
  /** Only with windows of use last or counter: where they are, in order of time. Instant selectors look back for them by their length more;
   *  rates take it for the distance of samples. */
  readonly windows?: readonly WindowSpan[]
}

export interface SeriesSource {
  /** Answers a question with a projection in its way: each series has only the labels named (several series may share one label set,
   *  and then best one array), and where `isOrdered` the series stand in an order that depends on nothing but their full label sets. */
  readonly projects?: true
  /** Has windows: the length of those that would do for a selector with this range (absent: an instant selector), looked at every `stepMs`
   *  (0: once), or 0 for none. */
  readonly windowFor?: (question: { stepMs: number; rangeMs?: number }) => number
  /** Rejects with the errors of the base room; what passes through `warn` is shown to the asker as a warning.
   *  The series come in no particular order, each label set once; but see `projects`. */
  select(matchers: readonly Matcher[], hints: SelectHints, context: QueryContext): Promise<SeriesSamples[]>
}

export interface QueryContext {
  readonly signal: AbortSignal
  warn(text: string): void
}
