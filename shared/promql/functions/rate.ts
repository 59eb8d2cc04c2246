// rate, increase, delta, irate, idelta over floats. Extrapolation towards the ends of the range is Prometheus', float operation by
// float operation. Hot kernels: a window without counter resets costs the same however many samples it holds.
import { inPieces } from '../../base/breathing.ts'
import { labelOf, METRIC_NAME } from '../../model/labels.ts'
import { TEXTS } from '../exec/annotations.ts'
import { ABSENT, FLOAT, HISTOGRAM } from '../exec/column.ts'
import type { KernelFactory, RangeCall, RangeSeries } from '../exec/range.ts'
import type { Kernel, Kind, Window } from '../exec/slide.ts'
import { extendedRate } from './extended-range.ts'
import { add, scale } from './histogram-math.ts'
import { histogramRate, instantHistogram } from './histogram-rate.ts'
import { type HistogramNotes, IncompatibleSchemas } from './histogram-shape.ts'
import { isStartReset, startsOverlap } from './start-times.ts'
import { distancesAt } from './window-distances.ts'

export interface RateKind {
  readonly isCounter: boolean
  readonly isRate: boolean
}

export function rateKernel(kind: RateKind): KernelFactory {
  return (series, call) => {
    if (call.modifier !== undefined) return extendedRate(series, call, kind)
    const resets: number[] = []
    const name = labelOf(series.labels, METRIC_NAME)
    let firstReset = 0
    const prepare = () =>
      inPieces(series.values.length, 4, call.breath, (from, to) => findResets(series, Math.max(1, from), to, resets))
    const value = (window: Window): Kind | Promise<Kind> => {
      const hasHistograms = window.histogramHi > window.histogramLo
      const hasFloats = window.hi > window.lo
      if (hasHistograms && hasFloats) {
        call.annotations.warn(TEXTS.mixedFloatsHistograms(name), call.firstPosition)
        return ABSENT
      }
      if (hasHistograms) return rateOfHistograms(window, series, call, kind)
      while (firstReset < resets.length && resets[firstReset]! <= window.lo) firstReset++
      if (series.startTimes === undefined && series.windows === undefined) {
        if (window.hi - window.lo < 2) return ABSENT
        window.value = rateOfPlainFloats(window, series, call.rangeMs, kind, resets, firstReset)
        return FLOAT
      }
      return rateOfFloats(window, series, call, kind, resets, firstReset)
    }
    return kind.isCounter ? { prepare, value } : { value }
  }
}

/** Where a counter falls below the sample before it, or its start timestamp says that it began anew. */
function findResets({ times, values, startTimes }: RangeSeries, from: number, to: number, resets: number[]): void {
  for (let i = from; i < to; i++) {
    const isReset =
      values[i]! < values[i - 1]! ||
      (startTimes !== undefined && isStartReset(startTimes[i - 1]!, times[i - 1]!, startTimes[i]!, times[i]!))
    if (isReset) resets.push(i)
  }
}

function warnOfOverlap(window: Window, series: RangeSeries, call: RangeCall): void {
  const { lo, hi } = window
  const { times, startTimes } = series
  if (startTimes === undefined) return
  window.work += 3 * (hi - lo)
  for (let i = lo + 1; i < hi; i++) {
    if (!startsOverlap(startTimes[i - 1]!, times[i - 1]!, startTimes[i]!)) continue
    call.annotations.startOverlap(labelOf(series.labels, METRIC_NAME), call.firstPosition)
    return
  }
}

function rateOfFloats(
  window: Window,
  series: RangeSeries,
  call: RangeCall,
  kind: RateKind,
  resets: readonly number[],
  firstReset: number,
): 0 | 1 {
  const { values, times, startTimes } = series
  const { lo, hi } = window
  let increase = values[hi - 1]! - values[lo]!
  if (kind.isCounter) {
    warnOfOverlap(window, series, call)
    let r = firstReset
    for (; r < resets.length && resets[r]! < hi; r++) increase += values[resets[r]! - 1]!
    if (r > firstReset) window.work += 2 * (r - firstReset)
  }
  const span = {
    firstMs: times[lo]!,
    lastMs: times[hi - 1]!,
    gaps: hi - lo - 1,
    startMs: startTimes?.[lo],
    first: values[lo]!,
    isCounter: kind.isCounter,
    ...distancesAt(times, lo, hi, series.windows),
  }
  const startsInside = startsInRange(span, window)
  if (!startsInside && span.gaps === 0) return ABSENT
  if (startsInside) increase += span.first
  let factor = stretch(span, window, startsInside, increase > 0 && span.first >= 0 ? increase : undefined)
  if (kind.isRate) factor /= call.rangeMs / 1000
  window.value = increase * factor
  return FLOAT
}

/** `rateOfFloats` where no start timestamps are known: the same operations, without an object per window. */
function rateOfPlainFloats(
  window: Window,
  { times, values }: RangeSeries,
  rangeMs: number,
  { isCounter, isRate }: RateKind,
  resets: readonly number[],
  firstReset: number,
): number {
  const { lo, hi, startMs, endMs } = window
  const first = values[lo]!
  let increase = values[hi - 1]! - first
  let r = firstReset
  for (; r < resets.length && resets[r]! < hi; r++) increase += values[resets[r]! - 1]!
  if (r > firstReset) window.work += 2 * (r - firstReset)
  const firstMs = times[lo]!
  const lastMs = times[hi - 1]!
  const sampled = (lastMs - firstMs) / 1000
  const average = sampled / (hi - lo - 1)
  const threshold = average * 1.1
  let toStart = (firstMs - startMs) / 1000
  let toEnd = (endMs - lastMs) / 1000
  if (toStart >= threshold) toStart = average / 2
  if (isCounter && increase > 0 && first >= 0) {
    const toZero = sampled * (first / increase)
    if (toZero < toStart) toStart = toZero
  }
  if (toEnd >= threshold) toEnd = average / 2
  let factor = sampled === 0 ? 1 : (sampled + toStart + toEnd) / sampled
  if (isRate) factor /= rangeMs / 1000
  return increase * factor
}

interface Span {
  readonly firstMs: number
  readonly lastMs: number
  readonly gaps: number
  /** Start timestamp of the first sample, 0 or undefined when unknown. */
  readonly startMs: number | undefined
  /** The first sample: its value, or its count of observations. */
  readonly first: number
  readonly isCounter: boolean
  /** How far samples lie apart where the range begins and ends, s; absent: the average of all. */
  readonly atStart?: number | undefined
  readonly atEnd?: number | undefined
}

/** The counter began inside the range: there was a zero at its start timestamp. */
function startsInRange({ isCounter, startMs, firstMs }: Span, window: Window): boolean {
  return isCounter && startMs !== undefined && startMs !== 0 && startMs > window.startMs && startMs < firstMs
}

/** By how much the increase between the samples grows when it is stretched to the range. `slope` is the increase when a zero point
 *  of the counter can be worked out from it. */
function stretch(span: Span, window: Window, startsInside: boolean, slope: number | undefined): number {
  const { firstMs, lastMs, gaps, first, isCounter } = span
  let toStart = (firstMs - window.startMs) / 1000
  let toEnd = (window.endMs - lastMs) / 1000
  let sampled = (lastMs - firstMs) / 1000
  const average = gaps > 0 ? sampled / gaps : 0
  const { atStart = average, atEnd = average } = span
  if (startsInside) {
    toStart = 0
    sampled = (lastMs - span.startMs!) / 1000
  } else {
    if (toStart >= atStart * 1.1) toStart = atStart / 2
    if (isCounter && slope !== undefined) {
      const toZero = sampled * (first / slope)
      if (toZero < toStart) toStart = toZero
    }
  }
  if (toEnd >= atEnd * 1.1) toEnd = atEnd / 2
  return sampled === 0 ? 1 : (sampled + toStart + toEnd) / sampled
}

async function rateOfHistograms(window: Window, series: RangeSeries, call: RangeCall, kind: RateKind): Promise<0 | 2> {
  const { histogramTimes: times, histograms, histogramStartTimes: startTimes } = series
  const { histogramLo: lo, histogramHi: hi } = window
  const name = labelOf(series.labels, METRIC_NAME)
  const first = histograms[lo]!
  let result = hi - lo > 1 ? await histogramRate(window, series, call, kind.isCounter) : undefined
  if (hi - lo > 1 && result === undefined) return ABSENT
  const span = {
    firstMs: times[lo]!,
    lastMs: times[hi - 1]!,
    gaps: hi - lo - 1,
    startMs: startTimes?.[lo],
    first: first.count,
    isCounter: kind.isCounter,
    ...distancesAt(times, lo, hi, series.windows),
  }
  const startsInside = startsInRange(span, window)
  if (!startsInside && span.gaps === 0) return ABSENT
  if (startsInside) {
    if (result === undefined) result = first
    else {
      const notes: HistogramNotes = { collided: false, reconciled: false }
      try {
        result = add(result, first, notes)
      } catch (error) {
        if (!(error instanceof IncompatibleSchemas)) throw error
        call.annotations.warn(TEXTS.mixedSchemas(name), call.firstPosition)
        return ABSENT
      }
      if (notes.reconciled) call.annotations.inform(TEXTS.boundsReconciled('addition'), call.firstPosition)
    }
  }
  const slope = result!.count > 0 && first.count >= 0 ? result!.count : undefined
  let factor = stretch(span, window, startsInside, slope)
  if (kind.isRate) factor /= call.rangeMs / 1000
  window.histogram = scale(result!, factor)
  return HISTOGRAM
}

/** irate and idelta: the last two samples of the window, whatever they are. */
export function instantKernel(isRate: boolean): KernelFactory {
  return (series, call): Kernel => {
    const name = labelOf(series.labels, METRIC_NAME)
    const value = (window: Window): Kind => {
      const { lo, hi, histogramLo, histogramHi } = window
      const { times, values, startTimes } = series
      const floats = hi - lo
      const histograms = histogramHi - histogramLo
      if (floats + histograms < 2) return ABSENT
      if (histograms > 0) return instantOfMixed(window, series, call, isRate, name)
      const intervalMs = times[hi - 1]! - times[hi - 2]!
      if (intervalMs === 0) return ABSENT
      const last = values[hi - 1]!
      const before = values[hi - 2]!
      const isReset =
        isRate &&
        (last < before ||
          (startTimes !== undefined &&
            isStartReset(startTimes[hi - 2]!, times[hi - 2]!, startTimes[hi - 1]!, times[hi - 1]!)))
      const change = isReset ? last : last - before
      window.value = isRate ? change / (intervalMs / 1000) : change
      return FLOAT
    }
    return { value }
  }
}

function instantOfMixed(
  window: Window,
  series: RangeSeries,
  call: RangeCall,
  isRate: boolean,
  name: string,
): 0 | 1 | 2 {
  const lastFloatMs = window.hi > window.lo ? series.times[window.hi - 1]! : -Infinity
  const beforeFloatMs = window.hi - 1 > window.lo ? series.times[window.hi - 2]! : -Infinity
  const { histogramHi: hi, histogramLo: lo } = window
  const beforeHistogramMs = hi - 1 > lo ? series.histogramTimes[hi - 2]! : -Infinity
  if (beforeHistogramMs > lastFloatMs) return instantHistogram(window, series, call, isRate)
  if (beforeFloatMs > series.histogramTimes[hi - 1]!) {
    // Both of the newest are floats: the histograms are older and do not matter.
    const intervalMs = lastFloatMs - beforeFloatMs
    const last = series.values[window.hi - 1]!
    const before = series.values[window.hi - 2]!
    const change = isRate && last < before ? last : last - before
    window.value = isRate ? change / (intervalMs / 1000) : change
    return FLOAT
  }
  call.annotations.warn(TEXTS.mixedFloatsHistograms(name), call.firstPosition)
  return ABSENT
}
