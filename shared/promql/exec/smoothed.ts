// Instant selectors with `smoothed`: at each step the straight line between the sample before and the one after.
import { labelOf, METRIC_NAME } from '../../model/labels.ts'
import { interpolateHistograms } from '../functions/extended-histograms.ts'
import { interpolate } from '../functions/extended-range.ts'
import { usesCustomBuckets } from '../functions/histogram-buckets.ts'
import { IncompatibleSchemas } from '../functions/histogram-shape.ts'
import type { PlanSelector } from '../plan/plan.ts'
import { TEXTS } from './annotations.ts'
import {
  COLUMN_WORK,
  type Column,
  chargedColumn,
  FLOAT,
  type Grid,
  HISTOGRAM_WORK,
  isEmpty,
  setHistogram,
} from './column.ts'
import type { QueryState } from './query-state.ts'
import { type RangeSeries, rangeSeriesOf } from './range.ts'
import { firstAfter } from './seek.ts'
import { samplesOf } from './selector.ts'

export async function evaluateSmoothed(node: PlanSelector, grid: Grid, state: QueryState): Promise<Column[]> {
  const columns: Column[] = []
  for (const samples of await samplesOf(node, state)) {
    const series = await rangeSeriesOf(samples, state)
    const column = chargedColumn(state.memory, series.labels, grid.steps)
    for (let step = 0; step < grid.steps; step++) {
      if (state.isDue(series.histograms.length > 0 ? 3 * HISTOGRAM_WORK : COLUMN_WORK)) await state.breathe()
      const atMs = (node.atMs ?? grid.startMs + step * grid.stepMs) - node.offsetMs
      const floats = around(series.times, atMs, state.lookbackMs)
      const histograms = around(series.histogramTimes, atMs, state.lookbackMs)
      if (floats !== undefined && histograms !== undefined) {
        state.annotations.warn(TEXTS.mixedFloatsHistograms(labelOf(series.labels, METRIC_NAME)), node.position)
      } else if (floats !== undefined) smoothFloat(column, step, series, floats, atMs)
      else if (histograms !== undefined) smoothHistogram(column, step, series, histograms, atMs, node, state)
    }
    if (isEmpty(column)) continue
    state.hold(grid.steps)
    columns.push(column)
  }
  return columns
}

interface Around {
  /** The first sample at or after the moment, and the bounds of the window. */
  readonly at: number
  readonly lo: number
  readonly hi: number
}

/** undefined when no sample lies within the lookback on either side. */
function around(times: Float64Array, atMs: number, lookbackMs: number): Around | undefined {
  const lo = firstAfter(times, 0, atMs - lookbackMs)
  const past = firstAfter(times, lo, atMs)
  const at = past > lo && times[past - 1] === atMs ? past - 1 : past
  const hi = firstAfter(times, at, atMs + lookbackMs)
  return lo === hi ? undefined : { at, lo, hi }
}

function smoothFloat(column: Column, step: number, series: RangeSeries, { at, lo, hi }: Around, atMs: number): void {
  const { times, values } = series
  if (at < hi && times[at] === atMs) column.values[step] = values[at]!
  else if (at === lo)
    return // nothing before
  else if (at < hi) column.values[step] = interpolate(series, at - 1, atMs, false)
  else column.values[step] = values[at - 1]!
  column.kinds[step] = FLOAT
}

function smoothHistogram(
  column: Column,
  step: number,
  { histogramTimes: times, histograms, labels }: RangeSeries,
  { at, lo, hi }: Around,
  atMs: number,
  { position }: PlanSelector,
  { annotations }: QueryState,
): void {
  if (at < hi && times[at] === atMs) return setHistogram(column, step, histograms[at]!)
  if (at === lo) return
  const before = histograms[at - 1]!
  if (at >= hi) return setHistogram(column, step, { ...before, resetHint: 'unknown' })
  const after = histograms[at]!
  const isCounter = before.resetHint !== 'gauge' || after.resetHint !== 'gauge'
  try {
    if (usesCustomBuckets(before) !== usesCustomBuckets(after)) throw new IncompatibleSchemas()
    const ends = [
      { timeMs: times[at - 1]!, histogram: before },
      { timeMs: times[at]!, histogram: after },
    ] as const
    setHistogram(column, step, interpolateHistograms(...ends, atMs, isCounter, { annotations, position }))
  } catch (error) {
    if (!(error instanceof IncompatibleSchemas)) throw error
    annotations.warn(TEXTS.mixedSchemas(labelOf(labels, METRIC_NAME)), position)
  }
}
