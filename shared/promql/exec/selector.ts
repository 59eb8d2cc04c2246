// Instant selectors: for each step the newest sample that is younger than the lookback and not stale.
import type { Histogram } from '../../model/histogram.ts'
import { isStale } from '../../model/sample.ts'
import type { PlanSelector } from '../plan/plan.ts'
import type { SeriesSamples } from '../source.ts'
import { type Column, FLOAT, type Grid, newColumn, setHistogram } from './column.ts'
import type { QueryState } from './query-state.ts'

/** What a step is given of the sample found for it: its value, or the moment it was taken, in seconds or in milliseconds. */
export type Take = 'value' | 'seconds' | 'millis'

export async function evaluateSelector(
  node: PlanSelector,
  grid: Grid,
  state: QueryState,
  take: Take = 'value',
): Promise<Column[]> {
  return lookUp(state.series(node.select), { ...node, take }, grid, state)
}

export async function lookUp(
  series: readonly SeriesSamples[],
  { offsetMs, atMs, take }: { offsetMs: number; atMs: number | undefined; take: Take },
  grid: Grid,
  state: QueryState,
): Promise<Column[]> {
  const columns: Column[] = []
  for (let i = 0; i < series.length; i++) {
    if ((i & 63) === 0) await state.breathe()
    const column = newColumn(series[i]!.labels, grid.steps)
    const count = fill(column, series[i]!, grid, { offsetMs, atMs, lookbackMs: state.lookbackMs, take })
    if (count === 0) continue
    state.hold(count)
    columns.push(column)
  }
  return columns
}

/** The histogram is a stale marker: its sum has the marker's bits. */
export function isStaleHistogram(histogram: Histogram): boolean {
  return isStale(histogram.sum)
}

function fill(
  column: Column,
  { times, values, histograms }: SeriesSamples,
  grid: Grid,
  { offsetMs, atMs, lookbackMs, take }: { offsetMs: number; atMs: number | undefined; lookbackMs: number; take: Take },
): number {
  let count = 0
  let next = 0 // the first sample after the moment looked at
  let stepMs = atMs === undefined ? grid.startMs - offsetMs : atMs - offsetMs
  const strideMs = atMs === undefined ? grid.stepMs : 0
  for (let step = 0; step < grid.steps; step++, stepMs += strideMs) {
    while (next < times.length && times[next]! <= stepMs) next++
    if (next === 0 || times[next - 1]! <= stepMs - lookbackMs) continue
    const histogram = histograms?.[next - 1]
    const value = values[next - 1]!
    if (histogram === undefined ? isStale(value) : isStaleHistogram(histogram)) continue
    count++
    if (take !== 'value' || histogram === undefined) {
      const timeMs = times[next - 1]!
      column.values[step] = take === 'value' ? value : take === 'seconds' ? timeMs / 1000 : timeMs
      column.kinds[step] = FLOAT
    } else setHistogram(column, step, histogram)
  }
  return count
}
