// The `anchored` and `smoothed` modifiers: the range's ends get values of their own instead of being extrapolated to.
//
// The window reaches further than the range (by the lookback): `anchored` takes the last sample before the start for the value there;
// `smoothed` draws straight lines between the samples on both sides of each end.
import type { Histogram } from '../../model/histogram.ts'
import { labelOf, METRIC_NAME } from '../../model/labels.ts'
import { TEXTS } from '../exec/annotations.ts'
import { ABSENT, FLOAT } from '../exec/column.ts'
import { ExecutionError } from '../exec/errors.ts'
import type { RangeCall, RangeSeries } from '../exec/range.ts'
import { firstAfter } from '../exec/seek.ts'
import type { Kernel, Kind, Window } from '../exec/slide.ts'
import { extendedHistogramRate } from './extended-histograms.ts'
import { endsOf } from './range-ends.ts'

const ANCHORED = ['changes', 'delta', 'increase', 'rate', 'resets']
const SMOOTHED = ['delta', 'increase', 'rate']

export function refuseModifier(name: string, modifier: 'anchored' | 'smoothed' | undefined): void {
  if (modifier === undefined) return
  const allowed = modifier === 'anchored' ? ANCHORED : SMOOTHED
  if (allowed.includes(name)) return
  throw new ExecutionError(`${modifier} modifier can only be used with: ${allowed.join(', ')} - not with ${name}`)
}

/** The straight line between two samples at `atMs`; a counter that fell is taken to have started from 0. */
export function interpolate(
  { times, values }: Pick<RangeSeries, 'times' | 'values'>,
  at: number,
  atMs: number,
  isCounter: boolean,
): number {
  const last = values[at + 1]!
  const first = isCounter && last < values[at]! ? 0 : values[at]!
  return first + ((last - first) * (atMs - times[at]!)) / (times[at + 1]! - times[at]!)
}

interface RateKind {
  readonly isCounter: boolean
  readonly isRate: boolean
}

export function extendedRate(series: RangeSeries, call: RangeCall, kind: RateKind): Kernel {
  const name = labelOf(series.labels, METRIC_NAME)
  const value = (window: Window): Kind | Promise<Kind> => {
    const hasHistograms = window.histogramHi > window.histogramLo
    if (hasHistograms && window.hi > window.lo) {
      call.annotations.warn(TEXTS.mixedFloatsHistograms(name), call.firstPosition)
      return ABSENT
    }
    if (hasHistograms) return extendedHistogramRate(window, series, call, kind)
    return rateOfFloats(window, series, call, kind)
  }
  return { value }
}

function rateOfFloats(window: Window, series: RangeSeries, call: RangeCall, { isCounter, isRate }: RateKind): 0 | 1 {
  const { times, values } = series
  const { startMs, endMs } = window
  const isSmoothed = call.modifier === 'smoothed'
  const ends = endsOf(times, window, window, isSmoothed)
  if (ends === undefined || (isSmoothed && times[ends.first]! > endMs)) return ABSENT
  let { first, last } = ends
  const left = leftValue(series, first, startMs, isSmoothed, isCounter)
  const right = rightValue(series, last, window, isSmoothed, isCounter)
  let change = right - left
  if (isCounter) {
    if (times[first]! <= startMs) first++
    if (times[last]! >= endMs) last--
    let correction = 0
    let before = left
    window.work += 2 * Math.max(0, last - first)
    for (let i = first; i <= last; i++) {
      if (values[i]! < before) correction += before
      before = values[i]!
    }
    if (right < before) correction += before
    change += correction
  }
  window.value = isRate ? change / (call.rangeMs / 1000) : change
  return FLOAT
}

function leftValue(
  series: RangeSeries,
  first: number,
  startMs: number,
  isSmoothed: boolean,
  isCounter: boolean,
): number {
  if (isSmoothed && series.times[first]! < startMs) return interpolate(series, first, startMs, isCounter)
  return series.values[first]!
}

function rightValue(
  series: RangeSeries,
  last: number,
  { lo, endMs }: { lo: number; endMs: number },
  isSmoothed: boolean,
  isCounter: boolean,
): number {
  if (isSmoothed && last > lo && series.times[last]! > endMs) return interpolate(series, last - 1, endMs, isCounter)
  return series.values[last]!
}

/** Moves the window's lower ends (anchored) so that it begins with the newest sample at or before the range's start.
 *  False when no sample follows the start. */
export function anchoredCounts(window: Window, { times, histogramTimes }: RangeSeries): boolean {
  const { lo, hi, histogramLo, histogramHi, startMs } = window
  const float = Math.min(hi, firstAfter(times, lo, startMs))
  const histogram = Math.min(histogramHi, firstAfter(histogramTimes, histogramLo, startMs))
  if (float >= hi && histogram >= histogramHi) return false
  const floatMs = float > lo ? times[float - 1]! : -Infinity
  const histogramMs = histogram > histogramLo ? histogramTimes[histogram - 1]! : -Infinity
  window.lo = floatMs >= histogramMs && float > lo ? float - 1 : float
  window.histogramLo = histogramMs > floatMs ? histogram - 1 : histogram
  return true
}

/** The samples of a range as a whole query, with values of their own at its ends. */
export function boundedFloats(
  series: RangeSeries,
  range: { startMs: number; endMs: number },
  modifier: 'anchored' | 'smoothed',
  lookbackMs: number,
): { times: Float64Array; values: Float64Array; histograms?: readonly (Histogram | undefined)[] } {
  const { times, values } = series
  const { startMs, endMs } = range
  const isSmoothed = modifier === 'smoothed'
  const lo = firstAfter(times, 0, startMs - lookbackMs)
  const hi = firstAfter(times, lo, isSmoothed ? endMs + lookbackMs : endMs)
  const none = { times: new Float64Array(0), values: new Float64Array(0) }
  const ends = lo === hi ? undefined : endsOf(times, { lo, hi }, range, isSmoothed)
  if (ends === undefined) return none
  let { first, last } = ends
  const left = leftValue(series, first, startMs, isSmoothed, false)
  const right = rightValue(series, last, { lo, endMs }, isSmoothed, false)
  if (times[first]! <= startMs) first++
  if (times[last]! >= endMs) last--
  const count = Math.max(last - first + 1, 0)
  const boundedTimes = new Float64Array(count + 2)
  const boundedValues = new Float64Array(count + 2)
  boundedTimes.set(times.subarray(first, first + count), 1)
  boundedValues.set(values.subarray(first, first + count), 1)
  boundedTimes[0] = startMs
  boundedValues[0] = left
  boundedTimes[count + 1] = endMs
  boundedValues[count + 1] = right
  return { times: boundedTimes, values: boundedValues }
}
