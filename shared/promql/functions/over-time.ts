// The *_over_time family and its neighbours (changes, resets, deriv, predict_linear), over floats; where a window also holds
// histograms, over-time-histograms.ts takes over. Hot kernels: counting ones use prefix sums, sums of whole numbers too (exact, as
// compensated addition of whole numbers loses nothing below 2^53); everything else rescans the window in Prometheus' order.
import { labelOf, METRIC_NAME } from '../../model/labels.ts'
import { TEXTS } from '../exec/annotations.ts'
import { ABSENT, FLOAT, HISTOGRAM } from '../exec/column.ts'
import { ExecutionError } from '../exec/errors.ts'
import type { KernelFactory, RangeCall, RangeSeries, Window } from '../exec/range.ts'
import { anchoredCounts } from './extended-range.ts'
import { averageOfHistograms, changesOfMixed, resetsOfMixed, sumOfHistograms } from './over-time-histograms.ts'
import { quantileOf } from './quantile.ts'
import { isStartReset } from './start-times.ts'

const nameOf = (series: RangeSeries) => labelOf(series.labels, METRIC_NAME)
const hasFloats = (window: Window) => window.hi > window.lo
const hasHistograms = (window: Window) => window.histogramHi > window.histogramLo

/** A function that only looks at floats, and says so when histograms stand among them. */
function floatsOnly(
  make: (series: RangeSeries, call: RangeCall) => (window: Window, step: number) => number,
): KernelFactory {
  return (series, call) => {
    const compute = make(series, call)
    return (window, step) => {
      if (!hasFloats(window)) return ABSENT
      if (hasHistograms(window)) call.annotations.inform(TEXTS.ignoredInRange(nameOf(series)), call.firstPosition)
      window.value = compute(window, step)
      return FLOAT
    }
  }
}

/** A function of floats or of histograms, which refuses a mix. */
function eitherKind(
  floats: (series: RangeSeries) => (window: Window) => number,
  histograms: (window: Window, series: RangeSeries, call: RangeCall) => 0 | 2,
): KernelFactory {
  return (series, call) => {
    const compute = floats(series)
    return (window) => {
      if (hasHistograms(window)) {
        if (!hasFloats(window)) return histograms(window, series, call)
        call.annotations.warn(TEXTS.mixedFloatsHistograms(nameOf(series)), call.firstPosition)
        return ABSENT
      }
      window.value = compute(window)
      return FLOAT
    }
  }
}

/** Prefix sums, when all values are whole and no sum of them can lose a bit. */
function wholePrefix({ values }: RangeSeries): Float64Array | undefined {
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

/** From the second window of a series on: for one window a sum is cheaper than its prefix sums. */
function lateWholePrefix(series: RangeSeries): () => Float64Array | undefined {
  let windowCount = 0
  let prefix: Float64Array | undefined
  return () => {
    if (windowCount < 2 && ++windowCount === 2) prefix = wholePrefix(series)
    return prefix
  }
}

/** The samples in a window, or that those in it stand for. */
function countIn({ lo, hi, histogramLo, histogramHi }: Window, { counts, histogramCounts }: RangeSeries): number {
  if (counts === undefined && histogramCounts === undefined) return hi - lo + (histogramHi - histogramLo)
  let count = 0
  for (let i = lo; i < hi; i++) count += counts?.[i] ?? 1
  for (let i = histogramLo; i < histogramHi; i++) count += histogramCounts?.[i] ?? 1
  return count
}

function sumOfFloats(series: RangeSeries) {
  const prefixOf = lateWholePrefix(series)
  const { values } = series
  return ({ lo, hi }: Window): number => {
    const prefix = prefixOf()
    if (prefix !== undefined) return prefix[hi]! - prefix[lo]!
    let sum = 0
    let lost = 0
    for (let i = lo; i < hi; i++) {
      const value = values[i]!
      const next = sum + value
      if (next === Infinity || next === -Infinity) lost = 0
      else if (Math.abs(sum) >= Math.abs(value)) lost += sum - next + value
      else lost += value - next + sum
      sum = next
    }
    return sum === Infinity || sum === -Infinity ? sum : sum + lost
  }
}

function averageOfFloats(series: RangeSeries) {
  if (series.counts !== undefined) {
    const sumIn = sumOfFloats(series)
    return (window: Window): number => sumIn(window) / countIn(window, series)
  }
  const prefixOf = lateWholePrefix(series)
  const { values } = series
  return ({ lo, hi }: Window): number => {
    const prefix = prefixOf()
    if (prefix !== undefined) return (prefix[hi]! - prefix[lo]!) / (hi - lo)
    let sum = values[lo]!
    let lost = 0
    for (let i = lo + 1; i < hi; i++) {
      const value = values[i]!
      const next = sum + value
      if (next === Infinity || next === -Infinity) return incrementalAverage(values, { lo, at: i, hi }, sum, lost)
      if (Math.abs(sum) >= Math.abs(value)) lost += sum - next + value
      else lost += value - next + sum
      sum = next
    }
    return sum / (hi - lo) + lost / (hi - lo)
  }
}

/** The average from `at` on as a moving mean, because the sum would no longer fit. */
function incrementalAverage(
  values: Float64Array,
  { lo, at, hi }: { lo: number; at: number; hi: number },
  sum: number,
  sumLost: number,
): number {
  let count = at - lo
  let mean = sum / count
  let lost = sumLost / count
  for (let i = at; i < hi; i++) {
    count++
    const keep = (count - 1) / count
    const step = values[i]! / count
    mean *= keep
    lost *= keep
    const next = mean + step
    if (next === Infinity || next === -Infinity) lost = 0
    else if (Math.abs(mean) >= Math.abs(step)) lost += mean - next + step
    else lost += step - next + mean
    mean = next
  }
  return mean + lost
}

/** The extreme value and when it was: `isBetter(candidate, best)` decides, and any number is better than NaN. */
function extreme(isBetter: (a: number, b: number) => boolean, takesTime: boolean): KernelFactory {
  return floatsOnly(({ values, times }) => ({ lo, hi }) => {
    let best = values[lo]!
    let at = lo
    for (let i = lo; i < hi; i++) {
      const value = values[i]!
      if (!(isBetter(value, best) || Number.isNaN(best))) continue
      best = value
      at = i
    }
    return takesTime ? times[at]! / 1000 : best
  })
}

function variance(values: Float64Array, { lo, hi }: Window): number {
  let count = 0
  let mean = 0
  let meanLost = 0
  let squares = 0
  let squaresLost = 0
  for (let i = lo; i < hi; i++) {
    count++
    const value = values[i]!
    const delta = value - (mean + meanLost)
    let addend = delta / count
    let next = mean + addend
    if (next === Infinity || next === -Infinity) meanLost = 0
    else if (Math.abs(mean) >= Math.abs(addend)) meanLost += mean - next + addend
    else meanLost += addend - next + mean
    mean = next
    addend = delta * (value - (mean + meanLost))
    next = squares + addend
    if (next === Infinity || next === -Infinity) squaresLost = 0
    else if (Math.abs(squares) >= Math.abs(addend)) squaresLost += squares - next + addend
    else squaresLost += addend - next + squares
    squares = next
  }
  return (squares + squaresLost) / count
}

function medianDeviation(values: Float64Array, { lo, hi }: Window): number {
  const window = values.slice(lo, hi)
  for (let i = 0; i < window.length; i++) if (Number.isNaN(window[i]!)) return Number.NaN
  const median = quantileOf(0.5, window)
  for (let i = 0; i < window.length; i++) window[i] = Math.abs(window[i]! - median)
  return quantileOf(0.5, window)
}

/** Compensated addition for the sums below, which are few enough not to be written out. */
class Sum {
  total = 0
  lost = 0
  add(value: number): void {
    const next = this.total + value
    if (next === Infinity || next === -Infinity) this.lost = 0
    else if (Math.abs(this.total) >= Math.abs(value)) this.lost += this.total - next + value
    else this.lost += value - next + this.total
    this.total = next
  }
  get value(): number {
    return this.total + this.lost
  }
}

/** Least squares over the window: the slope per second, and the value at `interceptMs`. */
function regression({ values, times }: RangeSeries, { lo, hi }: Window, interceptMs: number) {
  const first = values[lo]!
  let isConstant = true
  const x = new Sum()
  const y = new Sum()
  const xy = new Sum()
  const x2 = new Sum()
  for (let i = lo; i < hi; i++) {
    const value = values[i]!
    if (isConstant && i > lo && value !== first) isConstant = false
    const seconds = (times[i]! - interceptMs) / 1000
    x.add(seconds)
    y.add(value)
    xy.add(seconds * value)
    x2.add(seconds * seconds)
  }
  if (isConstant) {
    const isInfinite = first === Infinity || first === -Infinity
    return isInfinite ? { slope: Number.NaN, intercept: Number.NaN } : { slope: 0, intercept: first }
  }
  const n = hi - lo
  const covariance = xy.value - (x.value * y.value) / n
  const spread = x2.value - (x.value * x.value) / n
  const slope = covariance / spread
  return { slope, intercept: y.value / n - (slope * x.value) / n }
}

/** A function that needs two floats; one alone beside histograms is worth an info. */
function twoFloats(
  make: (series: RangeSeries, call: RangeCall) => (window: Window, step: number) => number,
): KernelFactory {
  return (series, call) => {
    const compute = make(series, call)
    return (window, step) => {
      const count = window.hi - window.lo
      if (count > 0 && hasHistograms(window)) {
        call.annotations.inform(TEXTS.ignoredInRange(nameOf(series)), call.firstPosition)
      }
      if (count < 2) return ABSENT
      window.value = compute(window, step)
      return FLOAT
    }
  }
}

function smoothing({ values }: RangeSeries, call: RangeCall) {
  const [factors, trends] = call.args
  return ({ lo, hi }: Window, step: number): number => {
    const factor = factors![step]!
    const trend = trends![step]!
    let before = 0
    let smoothed = values[lo]!
    let slope = values[lo + 1]! - values[lo]!
    for (let i = lo + 1; i < hi; i++) {
      const level = factor * values[i]!
      if (i > lo + 1) slope = trend * (smoothed - before) + (1 - trend) * slope
      const carried = (1 - factor) * (smoothed + slope)
      before = smoothed
      smoothed = level + carried
    }
    return smoothed
  }
}

function checkedSmoothing(): KernelFactory {
  const kernel = twoFloats(smoothing)
  return (series, call) => {
    const inner = kernel(series, call)
    return (window, step) => {
      const factor = call.args[0]![step]!
      const trend = call.args[1]![step]!
      const wrong = (what: string, bound: string, got: number) =>
        new ExecutionError(`invalid ${what} factor. Expected: 0 < ${bound} < 1, got: ${got.toFixed(6)}`)
      if (factor <= 0 || factor >= 1) throw wrong('smoothing', 'sf', factor)
      if (trend <= 0 || trend >= 1) throw wrong('trend', 'tf', trend)
      return inner(window, step)
    }
  }
}

/** Counts pairs of neighbours for which `counts` holds, by prefix sums; mixed windows are walked. */
function countPairs(
  counts: (series: RangeSeries, at: number) => boolean,
  mixed: (window: Window, series: RangeSeries) => number,
): KernelFactory {
  return (series, call) => {
    const prefix = new Int32Array(series.values.length + 1)
    for (let i = 1; i < series.values.length; i++) prefix[i + 1] = prefix[i]! + (counts(series, i) ? 1 : 0)
    return (window) => {
      if (call.modifier !== undefined && !anchoredCounts(window, series)) return ABSENT
      if (hasHistograms(window)) window.value = mixed(window, series)
      else window.value = prefix[window.hi]! - prefix[window.lo + 1]!
      return FLOAT
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
  return ({ times, values, histogramTimes, histograms }) =>
    (window) => {
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
    }
}

function timeOf(isFirst: boolean): KernelFactory {
  return ({ times, histogramTimes }) =>
    (window) => {
      const timeMs = hasFloats(window) ? times[isFirst ? window.lo : window.hi - 1]! : undefined
      const other = hasHistograms(window)
        ? histogramTimes[isFirst ? window.histogramLo : window.histogramHi - 1]!
        : undefined
      const pick = isFirst ? Math.min : Math.max
      window.value = pick(timeMs ?? other!, other ?? timeMs!) / 1000
      return FLOAT
    }
}

const present: KernelFactory = () => (window) => {
  window.value = 1
  return FLOAT
}

const quantileOverTime: KernelFactory = floatsOnly(({ values }, call) => ({ lo, hi }, step) => {
  const q = call.args[0]![step]!
  if (!(q >= 0 && q <= 1)) call.annotations.warn(TEXTS.invalidQuantile(q), call.firstPosition)
  return quantileOf(q, values.slice(lo, hi))
})

export const OVER_TIME: Readonly<Record<string, KernelFactory>> = {
  sum_over_time: eitherKind(sumOfFloats, sumOfHistograms),
  avg_over_time: eitherKind(averageOfFloats, averageOfHistograms),
  count_over_time: (series) => (window) => {
    window.value = countIn(window, series)
    return FLOAT
  },
  min_over_time: extreme((a, b) => a < b, false),
  max_over_time: extreme((a, b) => a > b, false),
  ts_of_min_over_time: extreme((a, b) => a <= b, true),
  ts_of_max_over_time: extreme((a, b) => a >= b, true),
  stdvar_over_time: floatsOnly(
    ({ values }) =>
      (window) =>
        variance(values, window),
  ),
  stddev_over_time: floatsOnly(
    ({ values }) =>
      (window) =>
        Math.sqrt(variance(values, window)),
  ),
  mad_over_time: floatsOnly(
    ({ values }) =>
      (window) =>
        medianDeviation(values, window),
  ),
  quantile_over_time: quantileOverTime,
  first_over_time: firstOrLast(true),
  last_over_time: firstOrLast(false),
  ts_of_first_over_time: timeOf(true),
  ts_of_last_over_time: timeOf(false),
  present_over_time: present,
  absent_over_time: present,
  changes: countPairs(isChange, changesOfMixed),
  resets: countPairs(isReset, resetsOfMixed),
  deriv: twoFloats((series) => (window) => regression(series, window, series.times[window.lo]!).slope),
  predict_linear: twoFloats((series, call) => (window, step) => {
    const { slope, intercept } = regression(series, window, window.nowMs)
    return slope * call.args[0]![step]! + intercept
  }),
  double_exponential_smoothing: checkedSmoothing(),
}
