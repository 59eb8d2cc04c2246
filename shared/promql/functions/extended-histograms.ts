// `anchored` and `smoothed` over native histograms.
import type { Breath } from '../../base/breathing.ts'
import type { Histogram } from '../../model/histogram.ts'
import { labelOf, METRIC_NAME } from '../../model/labels.ts'
import type { Position } from '../ast.ts'
import { type Annotations, TEXTS } from '../exec/annotations.ts'
import { ABSENT, HISTOGRAM, HISTOGRAM_WORK } from '../exec/column.ts'
import type { RangeCall, RangeSeries } from '../exec/range.ts'
import type { Window } from '../exec/slide.ts'
import { usesCustomBuckets } from './histogram-buckets.ts'
import { add, compact, isHistogramReset, scale, scaleDown, subtract } from './histogram-math.ts'
import { type HistogramNotes, IncompatibleSchemas } from './histogram-shape.ts'
import { type Ends, endsOf } from './range-ends.ts'

interface Told {
  readonly annotations: Annotations
  readonly position: Position
}

function combined(operate: typeof add, operation: 'addition' | 'subtraction', told: Told) {
  return (a: Histogram, b: Histogram): Histogram => {
    const notes: HistogramNotes = { collided: false, reconciled: false }
    const result = operate(a, b, notes)
    if (notes.reconciled) told.annotations.inform(TEXTS.boundsReconciled(operation), told.position)
    return result
  }
}

interface TimedHistogram {
  readonly timeMs: number
  readonly histogram: Histogram
}

/** The straight line between two histograms; a counter that was reset is taken to have started from nothing. */
export function interpolateHistograms(
  a: TimedHistogram,
  b: TimedHistogram,
  atMs: number,
  isCounter: boolean,
  told: Told,
): Histogram {
  if (atMs === a.timeMs) return a.histogram
  if (atMs === b.timeMs) return b.histogram
  const fraction = (atMs - a.timeMs) / (b.timeMs - a.timeMs)
  if (isCounter && isHistogramReset(b.histogram, a.histogram)) return scale(b.histogram, fraction)
  const difference = combined(subtract, 'subtraction', told)(b.histogram, a.histogram)
  return combined(add, 'addition', told)(scale(difference, fraction), a.histogram)
}

interface RateKind {
  readonly isCounter: boolean
  readonly isRate: boolean
}

export async function extendedHistogramRate(
  window: Window,
  series: RangeSeries,
  call: RangeCall,
  kind: RateKind,
): Promise<0 | 2> {
  const { histogramTimes: times } = series
  const isSmoothed = call.modifier === 'smoothed'
  const ends = endsOf(times, { lo: window.histogramLo, hi: window.histogramHi }, window, isSmoothed)
  if (ends === undefined || (isSmoothed && times[ends.first]! > window.endMs)) return ABSENT
  const name = labelOf(series.labels, METRIC_NAME)
  try {
    window.histogram = await increaseBetween(ends, window, series, call, kind)
  } catch (error) {
    if (!(error instanceof IncompatibleSchemas)) throw error
    call.annotations.warn(TEXTS.mixedSchemas(name), call.firstPosition)
    return ABSENT
  }
  return HISTOGRAM
}

async function increaseBetween(
  ends: Ends,
  window: Window,
  series: RangeSeries,
  call: RangeCall,
  { isCounter, isRate }: RateKind,
): Promise<Histogram> {
  const { histograms, histogramTimes: times, labels } = series
  const { first, last } = ends
  const told: Told = { annotations: call.annotations, position: call.firstPosition }
  const name = labelOf(labels, METRIC_NAME)
  const isSmoothed = call.modifier === 'smoothed'
  for (let i = first; i <= last; i++) {
    if (usesCustomBuckets(histograms[i]!) !== usesCustomBuckets(histograms[first]!)) throw new IncompatibleSchemas()
    if (isCounter && histograms[i]!.resetHint === 'gauge') told.annotations.warn(TEXTS.notCounter(name), told.position)
  }
  const timed = (i: number): TimedHistogram => ({ timeMs: times[i]!, histogram: histograms[i]! })
  const between = (i: number, atMs: number) => interpolateHistograms(timed(i), timed(i + 1), atMs, isCounter, told)
  const left = isSmoothed && times[first]! < window.startMs ? between(first, window.startMs) : histograms[first]!
  const right =
    isSmoothed && last > window.histogramLo && times[last]! > window.endMs
      ? between(last - 1, window.endMs)
      : histograms[last]!
  if (!isCounter && (left.resetHint !== 'gauge' || right.resetHint !== 'gauge')) {
    told.annotations.warn(TEXTS.notGauge(name), told.position)
  }
  let result = combined(subtract, 'subtraction', told)(right, left)
  if (isCounter) {
    const startsLate = isSmoothed && times[first]! < window.startMs
    const correction = await resetCorrection(histograms, ends, { left, right, startsLate }, told, call.breath)
    if (correction !== undefined) result = combined(add, 'addition', told)(result, correction)
  }
  if (isRate) result = scaleDown(result, call.rangeMs / 1000)
  return compact({ ...result, resetHint: 'gauge' })
}

/** What resets between the ends took away; undefined when there was none. */
async function resetCorrection(
  histograms: readonly Histogram[],
  { first, last }: Ends,
  { left, right, startsLate }: { left: Histogram; right: Histogram; startsLate: boolean },
  told: Told,
  breath: Breath,
): Promise<Histogram | undefined> {
  let from = first + 1
  let before = left
  if (startsLate && isHistogramReset(histograms[from]!, histograms[first]!)) {
    // The value at the start was drawn across this reset already.
    before = histograms[from]!
    from++
  }
  if (from > last) return undefined
  let correction: Histogram | undefined
  const plus = combined(add, 'addition', told)
  for (const histogram of [...histograms.slice(from, last), right]) {
    if (isHistogramReset(histogram, before)) correction = correction === undefined ? before : plus(correction, before)
    before = histogram
    if (breath.isDue(HISTOGRAM_WORK)) await breath.breathe()
  }
  return correction
}
