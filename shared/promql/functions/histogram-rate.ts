// What rate and its kin do with windows of native histograms.
import type { Histogram } from '../../model/histogram.ts'
import { labelOf, METRIC_NAME } from '../../model/labels.ts'
import { TEXTS } from '../exec/annotations.ts'
import { ABSENT, HISTOGRAM, HISTOGRAM_WORK } from '../exec/column.ts'
import type { RangeCall, RangeSeries } from '../exec/range.ts'
import type { Window } from '../exec/slide.ts'
import { sideOf, spansOf, usesCustomBuckets } from './histogram-buckets.ts'
import { add, compact, isHistogramReset, scaleDown, subtract } from './histogram-math.ts'
import { atSchema, type HistogramNotes, IncompatibleSchemas } from './histogram-shape.ts'
import { isStartReset, startsOverlap } from './start-times.ts'

const newNotes = (): HistogramNotes => ({ collided: false, reconciled: false })

/** The increase over a window of two histograms or more, resets added back; undefined when they do not go together. */
export async function histogramRate(
  window: Window,
  series: RangeSeries,
  call: RangeCall,
  isCounter: boolean,
): Promise<Histogram | undefined> {
  const name = labelOf(series.labels, METRIC_NAME)
  const points = series.histograms.slice(window.histogramLo, window.histogramHi)
  try {
    return isCounter
      ? await counterIncrease(points, series, window, call, name)
      : gaugeIncrease(points[0]!, points[points.length - 1]!, call, name)
  } catch (error) {
    if (!(error instanceof IncompatibleSchemas)) throw error
    call.annotations.warn(TEXTS.mixedSchemas(name), call.firstPosition)
    return undefined
  }
}

function gaugeIncrease(first: Histogram, last: Histogram, call: RangeCall, name: string): Histogram {
  const notes = newNotes()
  const result = subtract(last, first, notes)
  if (notes.reconciled) call.annotations.inform(TEXTS.boundsReconciled('subtraction'), call.firstPosition)
  if (first.resetHint !== 'gauge' || last.resetHint !== 'gauge') {
    call.annotations.warn(TEXTS.notGauge(name), call.firstPosition)
  }
  return { ...result, resetHint: 'gauge' }
}

async function counterIncrease(
  points: readonly Histogram[],
  series: RangeSeries,
  window: Window,
  call: RangeCall,
  name: string,
): Promise<Histogram> {
  const { breath } = call
  const last = points[points.length - 1]!
  const isReset = resetTest(points, series, window, call, name)
  // A first sample that is reset away need not have the layout of the others.
  const first = isReset(1, points[0]!) ? emptyLike(points[1]!) : points[0]!
  if (points[0]!.resetHint === 'gauge' || last.resetHint === 'gauge') {
    call.annotations.warn(TEXTS.notCounter(name), call.firstPosition)
  }
  const isCustom = usesCustomBuckets(first)
  if (usesCustomBuckets(last) !== isCustom) throw new IncompatibleSchemas()
  let schema = Math.min(first.schema, last.schema)
  for (const point of points.slice(1, -1)) {
    if (point.resetHint === 'gauge') call.annotations.warn(TEXTS.notCounter(name), call.firstPosition)
    schema = Math.min(schema, point.schema)
    if (breath.isDue(20)) await breath.breathe()
    if (usesCustomBuckets(point) !== isCustom) throw new IncompatibleSchemas()
  }
  const notes = newNotes()
  let result = subtract(isCustom ? last : reducedTo(last, schema), first, notes)
  if (notes.reconciled) call.annotations.inform(TEXTS.boundsReconciled('subtraction'), call.firstPosition)
  let before = first
  for (let i = 1; i < points.length; i++) {
    if (isReset(i, before)) {
      const addNotes = newNotes()
      result = add(result, before, addNotes)
      if (addNotes.reconciled) call.annotations.inform(TEXTS.boundsReconciled('addition'), call.firstPosition)
    }
    before = points[i]!
    if (breath.isDue(HISTOGRAM_WORK)) await breath.breathe()
  }
  return compact({ ...result, resetHint: 'gauge' })
}

function resetTest(
  points: readonly Histogram[],
  { histogramTimes: times, histogramStartTimes: starts }: RangeSeries,
  { histogramLo: lo }: Window,
  call: RangeCall,
  name: string,
): (index: number, before: Histogram) => boolean {
  if (starts === undefined) return (index, before) => isHistogramReset(points[index]!, before)
  for (let i = lo + 1; i < lo + points.length; i++) {
    if (!startsOverlap(starts[i - 1]!, times[i - 1]!, starts[i]!)) continue
    call.annotations.startOverlap(name, call.firstPosition)
    break
  }
  return (index, before) => {
    const at = lo + index
    if (isStartReset(starts[at - 1]!, times[at - 1]!, starts[at]!, times[at]!)) return true
    return isHistogramReset(points[index]!, before)
  }
}

function emptyLike({ schema, customValues }: Histogram): Histogram {
  return {
    isFloat: true,
    resetHint: 'unknown',
    schema,
    zeroThreshold: 0,
    zeroCount: 0,
    count: 0,
    sum: 0,
    positiveSpans: [],
    positiveBuckets: [],
    negativeSpans: [],
    negativeBuckets: [],
    customValues,
  }
}

function reducedTo(histogram: Histogram, schema: number): Histogram {
  if (schema === histogram.schema) return histogram
  const { positiveSpans, positiveBuckets, negativeSpans, negativeBuckets } = histogram
  const positive = spansOf(atSchema(sideOf(positiveSpans, positiveBuckets), histogram.schema, schema))
  const negative = spansOf(atSchema(sideOf(negativeSpans, negativeBuckets), histogram.schema, schema))
  return {
    ...histogram,
    schema,
    positiveSpans: positive.spans,
    positiveBuckets: positive.buckets,
    negativeSpans: negative.spans,
    negativeBuckets: negative.buckets,
  }
}

/** irate and idelta of the last two histograms of the window. */
export function instantHistogram(window: Window, series: RangeSeries, call: RangeCall, isRate: boolean): 0 | 2 {
  const { histogramTimes: times, histograms, histogramStartTimes: starts, labels } = series
  const at = window.histogramHi - 1
  const [before, last] = [histograms[at - 1]!, histograms[at]!]
  const intervalMs = times[at]! - times[at - 1]!
  if (intervalMs === 0) return ABSENT
  const name = labelOf(labels, METRIC_NAME)
  const isAnyGauge = before.resetHint === 'gauge' || last.resetHint === 'gauge'
  const areGauges = before.resetHint === 'gauge' && last.resetHint === 'gauge'
  if (isRate && isAnyGauge) call.annotations.warn(TEXTS.notCounter(name), call.argsPosition)
  if (!isRate && !areGauges) call.annotations.warn(TEXTS.notGauge(name), call.argsPosition)
  const startsAnew = starts !== undefined && isStartReset(starts[at - 1]!, times[at - 1]!, starts[at]!, times[at]!)
  let result = last
  if (!isRate || (!startsAnew && !isHistogramReset(last, before))) {
    const notes = newNotes()
    try {
      result = subtract(last, before, notes)
    } catch (error) {
      if (!(error instanceof IncompatibleSchemas)) throw error
      call.annotations.warn(TEXTS.mixedSchemas(name), call.argsPosition)
      return ABSENT
    }
    if (notes.reconciled) call.annotations.inform(TEXTS.boundsReconciled('subtraction'), call.argsPosition)
  }
  result = compact({ ...result, resetHint: 'gauge' })
  window.histogram = isRate ? scaleDown(result, intervalMs / 1000) : result
  return HISTOGRAM
}
