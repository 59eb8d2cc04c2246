// Instant selectors: for each step the newest sample that is younger than the lookback and not stale.
import type { Breath } from '../../base/breathing.ts'
import type { Histogram } from '../../model/histogram.ts'
import { isStale, isStaleAt } from '../../model/sample.ts'
import { isHistogramReset } from '../functions/histogram-math.ts'
import type { PlanSelector } from '../plan/plan.ts'
import type { SeriesSamples, WindowSpan } from '../source.ts'
import {
  COLUMN_WORK,
  type Column,
  ColumnList,
  type ColumnSink,
  FLOAT,
  type Grid,
  HISTOGRAM_WORK,
  setHistogram,
} from './column.ts'
import type { QueryState } from './query-state.ts'
import { firstAfter } from './seek.ts'

/** What a step is given of the sample found for it: its value, or the moment it was taken or started. */
export type Take = 'value' | 'seconds' | 'millis' | 'start-seconds'

export async function evaluateSelector(
  node: PlanSelector,
  grid: Grid,
  state: QueryState,
  take: Take = 'value',
): Promise<Column[]> {
  const list = new ColumnList(state.memory)
  await lookUp(await samplesOf(node, state), { ...node, take }, grid, state, list)
  return list.columns
}

/** The series of a selector. */
export async function samplesOf(node: PlanSelector, state: QueryState): Promise<readonly SeriesSamples[]> {
  const series = state.series(node.select)
  if (!node.readsTotals) return series
  const found: SeriesSamples[] = []
  for (const one of series) found.push(await withFoundResets(one, state))
  return found
}

const NO_BUCKETS = {
  zeroThreshold: 0,
  zeroCount: 0,
  positiveSpans: [],
  positiveBuckets: [],
  negativeSpans: [],
  negativeBuckets: [],
  customValues: [],
}

/** Native histograms without their buckets. Those that say nothing of resets are compared with the one before. */
async function withFoundResets(samples: SeriesSamples, breath: Breath): Promise<SeriesSamples> {
  if (samples.histograms === undefined) return samples
  let before: Histogram | undefined
  const reset = (histogram: Histogram | undefined): Histogram | undefined => {
    if (histogram === undefined || isStaleHistogram(histogram)) return histogram
    const isUnknown = histogram.resetHint === 'unknown' && before !== undefined
    const resetHint = isUnknown ? (isHistogramReset(histogram, before!) ? 'reset' : 'no-reset') : histogram.resetHint
    before = histogram
    return { ...histogram, ...NO_BUCKETS, resetHint }
  }
  const histograms: (Histogram | undefined)[] = []
  for (const histogram of samples.histograms) {
    histograms.push(reset(histogram))
    if (breath.isDue(HISTOGRAM_WORK)) await breath.breathe()
  }
  return { ...samples, histograms }
}

export async function lookUp(
  series: readonly SeriesSamples[],
  { offsetMs, atMs, take }: { offsetMs: number; atMs: number | undefined; take: Take },
  grid: Grid,
  state: QueryState,
  sink: ColumnSink,
): Promise<void> {
  const look = { offsetMs, atMs, lookbackMs: state.lookbackMs, take }
  for (let i = 0; i < series.length; i++) {
    const column = sink.make(series[i]!.labels, grid.steps)
    const count = fill(column, series[i]!, grid, look)
    if (state.isDue(COLUMN_WORK + 5 * grid.steps)) await state.breathe()
    if (count === 0) continue
    state.hold(count)
    state.counts?.addColumn(column)
    sink.take(column)
  }
}

/** Some series of the selector has native histograms. */
export async function holdsHistograms(node: PlanSelector, state: QueryState): Promise<boolean> {
  for (const { histograms } of state.series(node.select)) {
    if (histograms !== undefined) return true
    if (state.isDue(5)) await state.breathe()
  }
  return false
}

/** The bits of a column of values. */
export function wordsOf(values: Float64Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, 2 * values.length)
}

/** The histogram is a stale marker: its sum has the marker's bits. */
export function isStaleHistogram(histogram: Histogram): boolean {
  return isStale(histogram.sum)
}

function fill(
  column: Column,
  { times, values, histograms, startTimes, windows }: SeriesSamples,
  grid: Grid,
  { offsetMs, atMs, lookbackMs, take }: { offsetMs: number; atMs: number | undefined; lookbackMs: number; take: Take },
): number {
  let words: Uint32Array | undefined
  let count = 0
  let next = 0 // the first sample after the moment looked at
  let stepMs = atMs === undefined ? grid.startMs - offsetMs : atMs - offsetMs
  const strideMs = atMs === undefined ? grid.stepMs : 0
  for (let step = 0; step < grid.steps; step++, stepMs += strideMs) {
    next = firstAfter(times, next, stepMs)
    const at = next - 1
    if (at < 0 || times[at]! <= stepMs - lookbackMs) {
      if (at < 0 || windows === undefined || times[at]! <= stepMs - lookbackMs - lengthAt(windows, times[at]!)) continue
    }
    const histogram = histograms?.[at]
    if (histogram !== undefined) {
      if (isStaleHistogram(histogram)) continue
    } else if (Number.isNaN(values[at]!)) {
      words ??= wordsOf(values)
      if (isStaleAt(words, at)) continue
    }
    count++
    if (take !== 'value' || histogram === undefined) {
      if (take === 'value') column.values[step] = values[at]!
      else if (take === 'start-seconds') column.values[step] = (startTimes?.[at] ?? 0) / 1000
      else column.values[step] = take === 'seconds' ? times[at]! / 1000 : times[at]!
      column.kinds[step] = FLOAT
    } else setHistogram(column, step, histogram)
  }
  return count
}

/** The length of the window that a sample at this time stands for. */
function lengthAt(windows: readonly WindowSpan[], timeMs: number): number {
  return windows.find(({ startMs, endMs }) => startMs <= timeMs && timeMs < endMs)?.lengthMs ?? 0
}
