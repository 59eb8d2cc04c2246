// The *_over_time family and its neighbours (changes, resets, deriv, predict_linear), over floats; where a window also holds
// histograms, over-time-histograms.ts takes over. Hot kernels: counting ones use prefix sums, sums of whole numbers too (exact, as
// compensated addition of whole numbers loses nothing below 2^53), extremes keep the candidates of the moving window, quantiles its order
// (order-over-time.ts); everything else rescans the window in Prometheus' order, a piece at a time.
import { inPieces } from '../../base/breathing.ts'
import { labelOf, METRIC_NAME } from '../../model/labels.ts'
import { TEXTS } from '../exec/annotations.ts'
import { ABSENT, FLOAT, HISTOGRAM } from '../exec/column.ts'
import { ExecutionError } from '../exec/errors.ts'
import type { KernelFactory, RangeCall, RangeSeries } from '../exec/range.ts'
import type { Fold, Kind, Window } from '../exec/slide.ts'
import { anchoredCounts } from './extended-range.ts'
import { madOverTime, quantileOverTime } from './order-over-time.ts'
import { averageOfHistograms, changesOfMixed, resetsOfMixed, sumOfHistograms } from './over-time-histograms.ts'
import { isStartReset } from './start-times.ts'
import { averageFold, type FloatKernel, Regression, smoothingFold, sumFold, varianceFold } from './window-folds.ts'

const nameOf = (series: RangeSeries) => labelOf(series.labels, METRIC_NAME)
const hasFloats = (window: Window) => window.hi > window.lo
const hasHistograms = (window: Window) => window.histogramHi > window.histogramLo

type MakeFloatKernel = (series: RangeSeries, call: RangeCall) => FloatKernel

/** A function that only looks at floats, and says so when histograms stand among them; `least`: of floats that it needs. */
function floatsOnly(make: MakeFloatKernel, least = 1): KernelFactory {
  return (series, call) => {
    const { prepare, fold, of } = make(series, call)
    return {
      prepare,
      fold,
      value(window, step) {
        if (!hasFloats(window)) return ABSENT
        if (hasHistograms(window)) call.annotations.inform(TEXTS.ignoredInRange(nameOf(series)), call.firstPosition)
        if (window.hi - window.lo < least) return ABSENT
        window.value = of(window, step)
        return FLOAT
      },
    }
  }
}

/** A function of floats or of histograms, which refuses a mix. */
function eitherKind(
  floats: MakeFloatKernel,
  histograms: (window: Window, series: RangeSeries, call: RangeCall) => Kind | Promise<Kind>,
): KernelFactory {
  return (series, call) => {
    const { prepare, fold, of } = floats(series, call)
    return {
      prepare,
      fold,
      value(window, step) {
        if (hasHistograms(window)) {
          if (!hasFloats(window)) return histograms(window, series, call)
          call.annotations.warn(TEXTS.mixedFloatsHistograms(nameOf(series)), call.firstPosition)
          return ABSENT
        }
        window.value = of(window, step)
        return FLOAT
      },
    }
  }
}

/** Sums over windows of whole numbers, no sum of which can lose a bit: by prefix sums. Undefined: some value is not whole, or too large.
 *  For one window a sum is cheaper. */
function wholePrefix({ values }: RangeSeries, { steps, working }: RangeCall): Float64Array | undefined {
  if (steps === 1 || values.length > PREFIX_LENGTH_MAX || !Number.isInteger(values[0])) return undefined
  working.charge(8 * values.length)
  const prefix = new Float64Array(values.length + 1)
  let size = 0
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!
    size += Math.abs(value)
    if (!Number.isInteger(value) || size > Number.MAX_SAFE_INTEGER) return undefined
    prefix[i + 1] = prefix[i]! + value
  }
  return prefix
}

/** Made at once. */
const PREFIX_LENGTH_MAX = 4_000_000

/** The samples in a window, or that those in it stand for. */
function countIn(window: Window, { counts, histogramCounts }: RangeSeries): number {
  const { lo, hi, histogramLo, histogramHi } = window
  if (counts === undefined && histogramCounts === undefined) return hi - lo + (histogramHi - histogramLo)
  window.work += hi - lo + (histogramHi - histogramLo)
  let count = 0
  for (let i = lo; i < hi; i++) count += counts?.[i] ?? 1
  for (let i = histogramLo; i < histogramHi; i++) count += histogramCounts?.[i] ?? 1
  return count
}

/** By prefix sums where there are some, else by `fold`. */
function byPrefix(prefix: Float64Array | undefined, fold: Fold, ofFold: FloatKernel['of']) {
  if (prefix === undefined) return { fold, sumIn: ofFold }
  return { fold: undefined, sumIn: ({ lo, hi }: Window) => prefix[hi]! - prefix[lo]! }
}

function sumOfFloats(series: RangeSeries, call: RangeCall): FloatKernel {
  const { fold, of } = sumFold(series)
  const by = byPrefix(wholePrefix(series, call), fold, of)
  return { fold: by.fold, of: by.sumIn }
}

function averageOfFloats(series: RangeSeries, call: RangeCall): FloatKernel {
  if (series.counts !== undefined) {
    const { fold, of } = sumOfFloats(series, call)
    return { fold, of: (window, step) => of(window, step) / countIn(window, series) }
  }
  const prefix = wholePrefix(series, call)
  if (prefix !== undefined) return { of: ({ lo, hi }) => (prefix[hi]! - prefix[lo]!) / (hi - lo) }
  return averageFold(series)
}

interface Extreme {
  readonly isMax: boolean
  /** When it was, the last time of several; else the value, the first of equal ones. */
  readonly takesTime: boolean
}

/** Any number is better than NaN. */
function extreme(what: Extreme): KernelFactory {
  return floatsOnly((series, call) =>
    hasFewInWindow(series, call) ? scannedExtreme(series, what) : movingExtreme(series, call, what),
  )
}

/** Windows of so few samples are cheaper to scan than to follow. */
const SCANNED_MAX = 32
const SCANNED_LENGTH_MAX = 4_096

function hasFewInWindow({ times }: RangeSeries, { rangeMs }: RangeCall): boolean {
  const { length } = times
  if (length < 2 || length > SCANNED_LENGTH_MAX) return length < 2
  return (rangeMs / (times[length - 1]! - times[0]!)) * length < SCANNED_MAX
}

function scannedExtreme({ values, times }: RangeSeries, { isMax, takesTime }: Extreme): FloatKernel {
  return {
    of({ lo, hi }) {
      let at = lo
      let best = values[lo]!
      for (let i = lo + 1; i < hi; i++) {
        const value = values[i]!
        const isBetter = (isMax ? value > best : value < best) || (takesTime && value === best)
        if (!isBetter && !Number.isNaN(best)) continue
        best = value
        at = i
      }
      return takesTime ? times[at]! / 1000 : best
    },
  }
}

/** The samples of the moving window that could still become the best one stand in a row, the best first. */
function movingExtreme({ values, times }: RangeSeries, { working }: RangeCall, what: Extreme): FloatKernel {
  const { isMax, takesTime } = what
  const row = working.integers(values.length)
  let head = 0
  let tail = 0
  const take = (from: number, to: number) => {
    let end = tail
    for (let i = from; i < to; i++) {
      const value = values[i]!
      if (Number.isNaN(value)) continue
      while (end > head) {
        const last = values[row[end - 1]!]!
        if (isMax ? value < last : value > last) break
        if (value === last && !takesTime) break
        end--
      }
      row[end++] = i
    }
    tail = end
  }
  return {
    fold: { isSliding: true, weight: 5, take },
    of({ lo, hi }) {
      while (head < tail && row[head]! < lo) head++
      const at = head < tail ? row[head]! : hi - 1
      return takesTime ? times[at]! / 1000 : values[at]!
    },
  }
}

const smoothed = floatsOnly(smoothingFold, 2)

const checkedSmoothing: KernelFactory = (series, call) => {
  const { fold, value } = smoothed(series, call)
  return {
    fold,
    value(window, step) {
      const factor = call.args[0]![step]!
      const trend = call.args[1]![step]!
      const wrong = (what: string, bound: string, got: number) =>
        new ExecutionError(`invalid ${what} factor. Expected: 0 < ${bound} < 1, got: ${got.toFixed(6)}`)
      if (factor <= 0 || factor >= 1) throw wrong('smoothing', 'sf', factor)
      if (trend <= 0 || trend >= 1) throw wrong('trend', 'tf', trend)
      return value(window, step)
    },
  }
}

/** Counts pairs of neighbours for which `counts` holds, by prefix sums; mixed windows are walked. */
function countPairs(
  counts: (series: RangeSeries, at: number) => boolean,
  mixed: (window: Window, series: RangeSeries, call: RangeCall) => Promise<number>,
): KernelFactory {
  return (series, call) => {
    const { length } = series.values
    call.working.charge(4 * length)
    const prefix = new Int32Array(length + 1)
    const count = (from: number, to: number) => {
      for (let i = Math.max(1, from); i < to; i++) prefix[i + 1] = prefix[i]! + (counts(series, i) ? 1 : 0)
    }
    const ofMixed = async (window: Window): Promise<Kind> => {
      window.value = await mixed(window, series, call)
      return FLOAT
    }
    return {
      prepare: () => inPieces(length, 5, call.breath, count),
      value(window) {
        if (call.modifier !== undefined && !anchoredCounts(window, series)) return ABSENT
        if (hasHistograms(window)) return ofMixed(window)
        window.value = prefix[window.hi]! - prefix[window.lo + 1]!
        return FLOAT
      },
    }
  }
}

function isReset({ values, times, startTimes }: RangeSeries, at: number): boolean {
  if (values[at]! < values[at - 1]!) return true
  if (startTimes === undefined) return false
  return isStartReset(startTimes[at - 1]!, times[at - 1]!, startTimes[at]!, times[at]!)
}

function isChange({ values }: RangeSeries, at: number): boolean {
  const value = values[at]!
  const before = values[at - 1]!
  return value !== before && !(Number.isNaN(value) && Number.isNaN(before))
}

function firstOrLast(isFirst: boolean): KernelFactory {
  return ({ times, values, histogramTimes, histograms }) => ({
    value(window) {
      const at = isFirst ? window.lo : window.hi - 1
      const histogramAt = isFirst ? window.histogramLo : window.histogramHi - 1
      const takesFloat =
        !hasHistograms(window) ||
        (hasFloats(window) &&
          (isFirst ? times[at]! < histogramTimes[histogramAt]! : times[at]! > histogramTimes[histogramAt]!))
      if (takesFloat) {
        window.value = values[at]!
        return FLOAT
      }
      window.histogram = histograms[histogramAt]!
      return HISTOGRAM
    },
  })
}

function timeOf(isFirst: boolean): KernelFactory {
  return ({ times, histogramTimes }) => ({
    value(window) {
      const timeMs = hasFloats(window) ? times[isFirst ? window.lo : window.hi - 1]! : undefined
      const other = hasHistograms(window)
        ? histogramTimes[isFirst ? window.histogramLo : window.histogramHi - 1]!
        : undefined
      const pick = isFirst ? Math.min : Math.max
      window.value = pick(timeMs ?? other!, other ?? timeMs!) / 1000
      return FLOAT
    },
  })
}

const present: KernelFactory = () => ({
  value(window) {
    window.value = 1
    return FLOAT
  },
})

export const OVER_TIME: Readonly<Record<string, KernelFactory>> = {
  sum_over_time: eitherKind(sumOfFloats, sumOfHistograms),
  avg_over_time: eitherKind(averageOfFloats, averageOfHistograms),
  count_over_time: (series) => ({
    value(window) {
      window.value = countIn(window, series)
      return FLOAT
    },
  }),
  min_over_time: extreme({ isMax: false, takesTime: false }),
  max_over_time: extreme({ isMax: true, takesTime: false }),
  ts_of_min_over_time: extreme({ isMax: false, takesTime: true }),
  ts_of_max_over_time: extreme({ isMax: true, takesTime: true }),
  stdvar_over_time: floatsOnly(varianceFold),
  stddev_over_time: floatsOnly((series) => {
    const { fold, of } = varianceFold(series)
    return { fold, of: () => Math.sqrt(of()) }
  }),
  mad_over_time: madOverTime,
  quantile_over_time: quantileOverTime,
  first_over_time: firstOrLast(true),
  last_over_time: firstOrLast(false),
  ts_of_first_over_time: timeOf(true),
  ts_of_last_over_time: timeOf(false),
  present_over_time: present,
  absent_over_time: present,
  changes: countPairs(isChange, changesOfMixed),
  resets: countPairs(isReset, resetsOfMixed),
  deriv: floatsOnly((series) => {
    const fold = new Regression(series, { countsFromNow: false })
    return { fold, of: (window) => fold.lineOf(window).slope }
  }, 2),
  predict_linear: floatsOnly((series, call) => {
    const fold = new Regression(series, { countsFromNow: true })
    return {
      fold,
      of(window, step) {
        const { slope, intercept } = fold.lineOf(window)
        return slope * call.args[0]![step]! + intercept
      },
    }
  }, 2),
  double_exponential_smoothing: checkedSmoothing,
}
