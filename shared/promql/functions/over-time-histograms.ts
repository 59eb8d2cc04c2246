// Functions over ranges that know native histograms: sums, averages, and counts of changes and resets among mixed samples.
import type { Breath } from '../../base/breathing.ts'
import type { Histogram } from '../../model/histogram.ts'
import { labelOf, METRIC_NAME } from '../../model/labels.ts'
import { TEXTS } from '../exec/annotations.ts'
import { ABSENT, HISTOGRAM, HISTOGRAM_WORK } from '../exec/column.ts'
import type { RangeCall, RangeSeries } from '../exec/range.ts'
import type { Window } from '../exec/slide.ts'
import { averageHistogram, sumHistogram } from './histogram-average.ts'
import { equals, isHistogramReset, scaleDown } from './histogram-math.ts'
import { type HistogramNotes, IncompatibleSchemas } from './histogram-shape.ts'
import { isStartReset } from './start-times.ts'

type Reduce = (histograms: readonly Histogram[], notes: HistogramNotes, breath: Breath) => Promise<Histogram>

async function reduced(window: Window, series: RangeSeries, call: RangeCall, reduce: Reduce): Promise<0 | 2> {
  const histograms = series.histograms.slice(window.histogramLo, window.histogramHi)
  const notes: HistogramNotes = { collided: false, reconciled: false }
  const { annotations, firstPosition } = call
  try {
    window.histogram = await reduce(histograms, notes, call.breath)
  } catch (error) {
    if (!(error instanceof IncompatibleSchemas)) throw error
    annotations.warn(TEXTS.mixedSchemas(labelOf(series.labels, METRIC_NAME)), firstPosition)
    return ABSENT
  }
  if (haveBothHints(histograms)) annotations.warn(TEXTS.resetCollision('aggregation'), firstPosition)
  if (notes.reconciled) annotations.inform(TEXTS.boundsReconciled('aggregation'), firstPosition)
  return HISTOGRAM
}

/** Some say that there was a reset, others that there was none. */
export function haveBothHints(histograms: readonly Histogram[]): boolean {
  return histograms.some((one) => one.resetHint === 'reset') && histograms.some((one) => one.resetHint === 'no-reset')
}

export function sumOfHistograms(window: Window, series: RangeSeries, call: RangeCall): Promise<0 | 2> {
  return reduced(window, series, call, sumHistogram)
}

export async function averageOfHistograms(window: Window, series: RangeSeries, call: RangeCall): Promise<0 | 2> {
  const { histogramCounts: counts } = series
  if (counts === undefined) return reduced(window, series, call, averageHistogram)
  const kind = await reduced(window, series, call, sumHistogram)
  if (kind === ABSENT) return kind
  let count = 0
  for (let i = window.histogramLo; i < window.histogramHi; i++) count += counts[i]!
  window.histogram = scaleDown(window.histogram!, count)
  return kind
}

interface Sample {
  readonly timeMs: number
  readonly startMs: number
  readonly value: number
  readonly histogram: Histogram | undefined
}

/** Counts neighbours, floats and histograms in the order of their times, for which `counts` holds. */
async function countNeighbours(
  window: Window,
  series: RangeSeries,
  { breath }: RangeCall,
  counts: (before: Sample, now: Sample) => boolean,
): Promise<number> {
  let f = window.lo
  let h = window.histogramLo
  let before: Sample | undefined
  let count = 0
  while (f < window.hi || h < window.histogramHi) {
    const takesFloat = h >= window.histogramHi || (f < window.hi && series.times[f]! < series.histogramTimes[h]!)
    const now = takesFloat ? floatAt(series, f++) : histogramAt(series, h++)
    if (before !== undefined && counts(before, now)) count++
    before = now
    if (breath.isDue(HISTOGRAM_WORK / 4)) await breath.breathe()
  }
  return count
}

function floatAt({ times, values, startTimes }: RangeSeries, at: number): Sample {
  return { timeMs: times[at]!, startMs: startTimes?.[at] ?? 0, value: values[at]!, histogram: undefined }
}

function histogramAt({ histogramTimes, histograms, histogramStartTimes }: RangeSeries, at: number): Sample {
  return { timeMs: histogramTimes[at]!, startMs: histogramStartTimes?.[at] ?? 0, value: 0, histogram: histograms[at] }
}

export function changesOfMixed(window: Window, series: RangeSeries, call: RangeCall): Promise<number> {
  return countNeighbours(window, series, call, (before, now) => {
    if ((before.histogram === undefined) !== (now.histogram === undefined)) return true
    if (now.histogram !== undefined) return !equals(now.histogram, before.histogram!)
    return now.value !== before.value && !(Number.isNaN(now.value) && Number.isNaN(before.value))
  })
}

export function resetsOfMixed(window: Window, series: RangeSeries, call: RangeCall): Promise<number> {
  return countNeighbours(window, series, call, (before, now) => {
    if ((before.histogram === undefined) !== (now.histogram === undefined)) return true
    if (isStartReset(before.startMs, before.timeMs, now.startMs, now.timeMs)) return true
    return now.histogram === undefined ? now.value < before.value : isHistogramReset(now.histogram, before.histogram!)
  })
}
