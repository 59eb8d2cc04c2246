// A range selector as the whole query (`up[5m]`): the samples themselves.
import type { Histogram } from '../../model/histogram.ts'
import type { Labels } from '../../model/labels.ts'
import { boundedFloats } from '../functions/extended-range.ts'
import { type HeldMemory, histogramListBytes, SERIES_BYTES } from '../memory.ts'
import type { PlanMatrix } from '../plan/plan.ts'
import { COLUMN_WORK, type Grid } from './column.ts'
import { ExecutionError } from './errors.ts'
import type { QueryState } from './query-state.ts'
import { type RangeSeries, rangeSeriesOf } from './range.ts'
import { firstAfter } from './seek.ts'
import { samplesOf } from './selector.ts'

interface RawSeries {
  readonly labels: Labels
  readonly times: Float64Array
  readonly values: Float64Array
  readonly histograms?: readonly (Histogram | undefined)[]
}

export async function rawRange(node: PlanMatrix, grid: Grid, state: QueryState): Promise<RawSeries[]> {
  const { selector, rangeMs } = node
  const endMs = (selector.atMs ?? grid.startMs) - selector.offsetMs
  const startMs = endMs - rangeMs
  const raw: RawSeries[] = []
  for (const samples of await samplesOf(selector, state)) {
    const series = await rangeSeriesOf(samples, state)
    if (selector.modifier !== undefined && series.histograms.length > 0) {
      throw new ExecutionError(`${selector.modifier} modifier is not supported with histograms`)
    }
    const cut =
      selector.modifier === undefined
        ? within(series, startMs, endMs, state.memory)
        : { labels: series.labels, ...boundedFloats(series, { startMs, endMs }, selector.modifier, state.lookbackMs) }
    state.hold(cut.times.length)
    state.counts?.addRange(cut.times.length, cut.histograms)
    state.memory.charge(SERIES_BYTES)
    if (cut.times.length === 0) continue
    if (cut.histograms !== undefined) state.memory.charge(histogramListBytes(cut.histograms))
    raw.push(cut)
    if (state.isDue(COLUMN_WORK + 4 * cut.times.length)) await state.breathe()
  }
  return raw
}

function within(series: RangeSeries, startMs: number, endMs: number, memory: HeldMemory): RawSeries {
  const floats = bounds(series.times, startMs, endMs)
  const histograms = bounds(series.histogramTimes, startMs, endMs)
  const { labels } = series
  if (histograms.lo === histograms.hi) {
    return {
      labels,
      times: copied(series.times, floats, memory),
      values: copied(series.values, floats, memory),
    }
  }
  return merged(series, floats, histograms)
}

function copied(column: Float64Array, { lo, hi }: Bounds, memory: HeldMemory): Float64Array {
  const copy = memory.floats(hi - lo)
  copy.set(column.subarray(lo, hi))
  return copy
}

interface Bounds {
  readonly lo: number
  readonly hi: number
}

function bounds(times: Float64Array, startMs: number, endMs: number): Bounds {
  const lo = firstAfter(times, 0, startMs)
  return { lo, hi: firstAfter(times, lo, endMs) }
}

function merged(series: RangeSeries, floats: Bounds, at: Bounds): RawSeries {
  const count = floats.hi - floats.lo + (at.hi - at.lo)
  const times = new Float64Array(count)
  const values = new Float64Array(count)
  const histograms: (Histogram | undefined)[] = []
  let f = floats.lo
  let h = at.lo
  for (let i = 0; i < count; i++) {
    if (h >= at.hi || (f < floats.hi && series.times[f]! <= series.histogramTimes[h]!)) {
      times[i] = series.times[f]!
      values[i] = series.values[f++]!
      histograms.push(undefined)
    } else {
      times[i] = series.histogramTimes[h]!
      histograms.push(series.histograms[h++])
    }
  }
  return { labels: series.labels, times, values, histograms }
}
