// Functions over a range from windows of native histograms (downsampled.ts says with which bounds).
import { type Histogram, isStaleHistogram } from '../model/histogram.ts'
import { add, isHistogramReset, scale, scaleDown, subtract } from '../promql/functions/histogram-math.ts'
import type { SampleRun } from '../tsdb/columns.ts'
import { type Amounts, type DayRuns, increaseOf, overWindows, type WindowRange } from './downsampled.ts'

export type HistogramWindowFunction = 'sum' | 'avg' | 'last' | 'increase' | 'rate'

const histograms: Amounts<Histogram> = {
  at(run, index) {
    const histogram = run.histograms?.[index]
    return histogram === undefined || isStaleHistogram(histogram) ? undefined : histogram
  },
  isReset: (value, before) => isHistogramReset(value, before),
  minus: (value, before) => subtract(value, before, notes()),
  plus: (a, b) => add(a, b, notes()),
  times: (value, factor) => scale(value, factor),
}

/** The histogram of a function over a range; undefined when there is none. */
export function overHistogramWindows(
  name: HistogramWindowFunction,
  days: readonly DayRuns[],
  range: WindowRange,
): Histogram | undefined {
  switch (name) {
    case 'sum':
      return folded(days, 'sum', range, histograms.plus)
    case 'last':
      return folded(days, 'last', range, (_, b) => b)
    case 'avg': {
      const sum = folded(days, 'sum', range, histograms.plus)
      const count = overWindows('count', days, range)
      return sum === undefined || count === undefined ? undefined : scaleDown(sum, count)
    }
    case 'increase':
    case 'rate': {
      const increase = increaseOf(histograms, days, range)
      if (increase === undefined) return undefined
      const seconds = (range.endMs - range.startMs) / 1000
      return { ...(name === 'rate' ? scaleDown(increase, seconds) : increase), resetHint: 'gauge' }
    }
  }
}

function folded(
  days: readonly DayRuns[],
  aggregate: 'sum' | 'last',
  { startMs, endMs }: WindowRange,
  fold: (a: Histogram, b: Histogram) => Histogram,
): Histogram | undefined {
  let result: Histogram | undefined
  for (const { [aggregate]: run } of days) {
    if (run !== undefined)
      eachIn(run, startMs, endMs, (value) => (result = result === undefined ? value : fold(result, value)))
  }
  return result
}

function eachIn(run: SampleRun, startMs: number, endMs: number, take: (value: Histogram) => void): void {
  for (let i = run.start; i < run.end; i++) {
    const value = histograms.at(run, i)
    if (value !== undefined && run.times[i]! > startMs && run.times[i]! <= endMs) take(value)
  }
}

const notes = () => ({ collided: false, reconciled: false })
