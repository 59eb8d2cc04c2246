// Series of which some days are windows: counts beside sums, and counters that run through.
//
// Within a day of windows the counter only grows. Between two days, and between windows and samples, the last real value before tells of a
// reset. What is lost there is added to all that follows; a series without resets keeps every bit.
import type { Breath } from '../../../shared/base/breathing.ts'
import { type Histogram, isStaleHistogram } from '../../../shared/model/histogram.ts'
import { add, isHistogramReset, subtract } from '../../../shared/promql/functions/histogram-math.ts'
import type { SeriesSamples, WindowSpan, WindowsWanted } from '../../../shared/promql/source.ts'
import { type Answer, unite } from '../read/merge-series.ts'

export interface WindowAnswers {
  /** Samples, and windows that become samples. */
  readonly main: readonly Answer[]
  /** What is looked up beside them. */
  readonly beside: readonly Answer[]
}

/** Of a series, a sample and a histogram, in units of work. */
const SERIES_WORK = 500
const SAMPLE_WORK = 10
const HISTOGRAM_WORK = 1_000

/** One list of series, as the use wants them. `hold` is told of memory before it is taken. */
export async function uniteWindows(
  { main, beside }: WindowAnswers,
  use: WindowsWanted['use'],
  spans: readonly WindowSpan[],
  breath: Breath,
  hold: (bytes: number) => void,
): Promise<Answer> {
  const united = await unite(main, breath, hold)
  if (spans.length === 0 || (use !== 'count' && use !== 'avg' && use !== 'counter')) return united
  const find = await lookup(await unite(beside, breath, hold), breath)
  const series: SeriesSamples[] = []
  for (const [i, each] of united.series.entries()) {
    const other = find(united, i)
    hold(2 * each.times.byteLength)
    series.push(use === 'counter' ? runningThrough(each, other, spans) : withCounts(each, other))
    const weight = each.histograms === undefined ? SAMPLE_WORK : HISTOGRAM_WORK
    if (breath.isDue(SERIES_WORK + weight * each.times.length)) await breath.breathe()
  }
  return { ...united, series }
}

/** Says of series where their samples are windows. */
export function withSpans(series: SeriesSamples[], spans: readonly WindowSpan[]): SeriesSamples[] {
  return spans.length === 0 ? series : series.map((each) => ({ ...partsOf(each), windows: spans }))
}

/** Series may have their columns behind getters. */
function partsOf({ labels, times, values, histograms }: SeriesSamples): SeriesSamples {
  return histograms === undefined ? { labels, times, values } : { labels, times, values, histograms }
}

/** Finds the series with the same full label set. */
async function lookup(
  answer: Answer,
  breath: Breath,
): Promise<(of: Answer, index: number) => SeriesSamples | undefined> {
  const byHash = new Map<number, number[]>()
  for (const [i, hash] of answer.hashes.entries()) {
    const same = byHash.get(hash)
    if (same === undefined) byHash.set(hash, [i])
    else same.push(i)
    if (breath.isDue(SERIES_WORK)) await breath.breathe()
  }
  return (of, index) => {
    const { labels } = of.series[index]!
    const found = byHash.get(of.hashes[index]!)?.find((i) => {
      if (answer.otherHashes[i] !== of.otherHashes[index]) return false
      const own = answer.series[i]!.labels
      return own.length === labels.length && own.every((text, at) => text === labels[at])
    })
    return found === undefined ? undefined : answer.series[found]
  }
}

function withCounts(series: SeriesSamples, beside: SeriesSamples | undefined): SeriesSamples {
  const { times } = series
  const counts = new Float64Array(times.length).fill(1)
  if (beside !== undefined) {
    const { times: windowTimes, values: windowCounts } = beside
    for (let i = 0, at = 0; i < times.length; i++) {
      while (at < windowTimes.length && windowTimes[at]! < times[i]!) at++
      if (windowTimes[at] === times[i]) counts[i] = windowCounts[at]!
    }
  }
  return { ...partsOf(series), counts }
}

/** The first sample of each day of windows only says where the counter began: kept, it would make samples seem closer than they are. */
function runningThrough(
  series: SeriesSamples,
  lasts: SeriesSamples | undefined,
  spans: readonly WindowSpan[],
): SeriesSamples {
  const { labels, times, values, histograms } = series
  if (!hasAnyIn(times, spans)) return series
  const isEnd = endsOf(lasts)
  const kept = { times: new Float64Array(times.length), values: values.slice() } // NaNs keep their bits
  const keptHistograms: (Histogram | undefined)[] = []
  const floats = new Running(floatAmounts, (span) => lastIn(lasts, span, (of, i) => of.values[i]!, Number.isNaN))
  const natives = new Running(histogramAmounts, (span) =>
    lastIn(lasts, span, (of, i) => of.histograms?.[i], isStaleHistogram),
  )
  let count = 0
  for (let i = 0, at = 0; i < times.length; i++) {
    const time = times[i]!
    while (at < spans.length && spans[at]!.endMs <= time) at++
    const span = at < spans.length && spans[at]!.startMs <= time ? spans[at] : undefined
    let histogram = histograms?.[i]
    let isMoved = false
    let value = values[i]!
    if (histogram === undefined) {
      isMoved = !Number.isNaN(value)
      if (isMoved) value = floats.next(value, span)
    } else if (histogram.resetHint !== 'gauge' && !isStaleHistogram(histogram))
      histogram = natives.next(histogram, span)
    if (span !== undefined && !isEnd(time)) continue
    kept.times[count] = time
    kept.values.copyWithin(count, i, i + 1)
    if (isMoved) kept.values[count] = value
    if (histograms !== undefined) keptHistograms.push(histogram)
    count++
  }
  const running = {
    labels,
    times: kept.times.subarray(0, count),
    values: kept.values.subarray(0, count),
    windows: spans,
  }
  return histograms === undefined ? running : { ...running, histograms: keptHistograms }
}

/** Whether a window ends at a time; asked in order of time. */
function endsOf(lasts: SeriesSamples | undefined): (time: number) => boolean {
  const ends = lasts?.times ?? new Float64Array(0)
  let at = 0
  return (time) => {
    while (at < ends.length && ends[at]! < time) at++
    return ends[at] === time
  }
}

function hasAnyIn(times: Float64Array, spans: readonly WindowSpan[]): boolean {
  let at = 0
  for (const { startMs, endMs } of spans) {
    while (at < times.length && times[at]! < startMs) at++
    if (at < times.length && times[at]! < endMs) return true
  }
  return false
}

/** The last value of a day of windows as it was among the samples. */
function lastIn<T>(
  series: SeriesSamples | undefined,
  { startMs, endMs }: WindowSpan,
  valueAt: (series: SeriesSamples, index: number) => T | undefined,
  isNone: (value: T) => boolean,
): T | undefined {
  if (series === undefined) return undefined
  const { times } = series
  for (let i = times.length - 1; i >= 0 && times[i]! >= startMs; i--) {
    const value = times[i]! < endMs ? valueAt(series, i) : undefined
    if (value !== undefined && !isNone(value)) return value
  }
  return undefined
}

interface Amounts<T> {
  readonly isAlike: (a: T, b: T) => boolean
  readonly isEqual: (a: T, b: T) => boolean
  readonly isReset: (value: T, before: T) => boolean
  readonly minus: (value: T, before: T) => T
  readonly plus: (a: T, b: T) => T
}

const floatAmounts: Amounts<number> = {
  isAlike: () => true,
  isEqual: (a, b) => a === b,
  isReset: (value, before) => value < before,
  minus: (value, before) => value - before,
  plus: (a, b) => a + b,
}

const histogramAmounts: Amounts<Histogram> = {
  /** Exponential and custom buckets do not add up. */
  isAlike: (a, b) => a.schema === b.schema || (a.schema >= -4 && b.schema >= -4),
  isEqual: (a, b) => a.count === b.count && a.sum === b.sum,
  isReset: isHistogramReset,
  minus: (value, before) => subtract(value, before, notes()),
  plus: (a, b) => ({ ...add(a, b, notes()), resetHint: 'unknown' }),
}

/** The values of a counter, each with all that was lost by resets before it. */
class Running<T> {
  private readonly amounts: Amounts<T>
  private readonly lastOf: (span: WindowSpan) => T | undefined
  private lost: T | undefined
  private before: T | undefined
  private span: WindowSpan | undefined

  /** `lastOf`: the last sample of a day of windows. */
  constructor(amounts: Amounts<T>, lastOf: (span: WindowSpan) => T | undefined) {
    this.amounts = amounts
    this.lastOf = lastOf
  }

  /** `span`: of the day whose windows the value is of; undefined: it is a sample. */
  next(value: T, span: WindowSpan | undefined): T {
    const { amounts, before, span: spanBefore } = this
    if (before !== undefined && (span === undefined || span !== spanBefore)) this.compare(value, before, spanBefore)
    this.before = value
    this.span = span
    return this.lost === undefined ? value : amounts.plus(value, this.lost)
  }

  private compare(value: T, before: T, spanBefore: WindowSpan | undefined): void {
    const { amounts } = this
    if (!amounts.isAlike(value, before)) {
      this.lost = undefined
      return
    }
    const known = spanBefore && this.lastOf(spanBefore)
    const stood = known !== undefined && amounts.isAlike(known, before) ? known : before
    if (amounts.isReset(value, stood)) this.lose(before)
    else if (!amounts.isEqual(before, stood)) this.lose(amounts.minus(before, stood))
  }

  private lose(amount: T): void {
    this.lost = this.lost === undefined ? amount : this.amounts.plus(this.lost, amount)
  }
}

const notes = () => ({ collided: false, reconciled: false })
