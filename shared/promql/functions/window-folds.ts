// What is made of the floats of a window that Prometheus walks through from its first sample to its last: sums, means, variances, lines. Hot kernels;
// each takes a window in pieces, so that a long one does not keep others waiting, and does the same float operations however it is cut.
import type { RangeCall, RangeSeries } from '../exec/range.ts'
import type { Fold, Kernel, Window } from '../exec/slide.ts'

/** What is made of the floats of a window. */
export interface FloatKernel {
  readonly prepare?: Kernel['prepare']
  readonly fold?: Fold | undefined
  of(window: Window, step: number): number
}

/** Compensated addition of a window (Neumaier). */
export function sumFold({ values }: RangeSeries): { fold: Fold; of: FloatKernel['of'] } {
  const state = { sum: 0, lost: 0 }
  const take = (from: number, to: number, isFirst: boolean) => {
    let sum = isFirst ? 0 : state.sum
    let lost = isFirst ? 0 : state.lost
    for (let i = from; i < to; i++) {
      const value = values[i]!
      const next = sum + value
      if (next === Infinity || next === -Infinity) lost = 0
      else if (Math.abs(sum) >= Math.abs(value)) lost += sum - next + value
      else lost += value - next + sum
      sum = next
    }
    state.sum = sum
    state.lost = lost
  }
  const of = () => (state.sum === Infinity || state.sum === -Infinity ? state.sum : state.sum + state.lost)
  return { fold: { isSliding: false, weight: 3, take }, of }
}

/** By the sum, and as a moving mean from where that no longer fits. */
export function averageFold({ values }: RangeSeries): FloatKernel {
  const state = { sum: 0, lost: 0, count: 0, isMean: false }
  const add = (from: number, to: number): number => {
    let { sum, lost } = state
    let i = from
    for (; i < to; i++) {
      const value = values[i]!
      const next = sum + value
      if (next === Infinity || next === -Infinity) break
      if (Math.abs(sum) >= Math.abs(value)) lost += sum - next + value
      else lost += value - next + sum
      sum = next
    }
    state.sum = sum
    state.lost = lost
    state.count += i - from
    return i
  }
  const move = (from: number, to: number): void => {
    let { sum: mean, lost, count } = state
    for (let i = from; i < to; i++) {
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
    state.sum = mean
    state.lost = lost
    state.count = count
  }
  const take = (first: number, to: number, isFirst: boolean) => {
    let from = first
    if (isFirst) {
      state.sum = values[from]!
      state.lost = 0
      state.count = 1
      state.isMean = false
      from++
    }
    if (!state.isMean) {
      from = add(from, to)
      if (from === to) return
      state.isMean = true
      state.sum /= state.count
      state.lost /= state.count
    }
    move(from, to)
  }
  const of = () => {
    if (state.isMean) return state.sum + state.lost
    return state.sum / state.count + state.lost / state.count
  }
  return { fold: { isSliding: false, weight: 4, take }, of }
}

/** Welford's moving variance, compensated. */
export function varianceFold({ values }: RangeSeries): { fold: Fold; of: () => number } {
  const state = { count: 0, mean: 0, meanLost: 0, squares: 0, squaresLost: 0 }
  const take = (from: number, to: number, isFirst: boolean) => {
    let count = isFirst ? 0 : state.count
    let mean = isFirst ? 0 : state.mean
    let meanLost = isFirst ? 0 : state.meanLost
    let squares = isFirst ? 0 : state.squares
    let squaresLost = isFirst ? 0 : state.squaresLost
    for (let i = from; i < to; i++) {
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
    state.count = count
    state.mean = mean
    state.meanLost = meanLost
    state.squares = squares
    state.squaresLost = squaresLost
  }
  return { fold: { isSliding: false, weight: 10, take }, of: () => (state.squares + state.squaresLost) / state.count }
}

/** Compensated addition for the sums below, which are few enough not to be written out. */
class Sum {
  total = 0
  lost = 0
  clear(): void {
    this.total = 0
    this.lost = 0
  }
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

/** Least squares over the window, with times in seconds from the first sample or from the moment of evaluation. */
export class Regression implements Fold {
  readonly isSliding = false
  readonly weight = 20
  private readonly series: RangeSeries
  private readonly x = new Sum()
  private readonly y = new Sum()
  private readonly xy = new Sum()
  private readonly x2 = new Sum()
  private first = 0
  private firstAt = 0
  private isConstant = true
  private readonly countsFromNow: boolean

  constructor(series: RangeSeries, { countsFromNow }: { countsFromNow: boolean }) {
    this.series = series
    this.countsFromNow = countsFromNow
  }

  take(from: number, to: number, isFirst: boolean, { nowMs }: Window): void {
    const { values, times } = this.series
    const { x, y, xy, x2 } = this
    if (isFirst) {
      for (const sum of [x, y, xy, x2]) sum.clear()
      this.first = values[from]!
      this.firstAt = from
      this.isConstant = true
    }
    const { first, firstAt } = this
    const interceptMs = this.countsFromNow ? nowMs : times[firstAt]!
    for (let i = from; i < to; i++) {
      const value = values[i]!
      if (value !== first && i > firstAt) this.isConstant = false
      const seconds = (times[i]! - interceptMs) / 1000
      x.add(seconds)
      y.add(value)
      xy.add(seconds * value)
      x2.add(seconds * seconds)
    }
  }

  /** The slope per second, and the value where the times count from. */
  lineOf({ lo, hi }: Window): { slope: number; intercept: number } {
    const { x, y, xy, x2, first } = this
    if (this.isConstant) {
      const isInfinite = first === Infinity || first === -Infinity
      return isInfinite ? { slope: Number.NaN, intercept: Number.NaN } : { slope: 0, intercept: first }
    }
    const n = hi - lo
    const covariance = xy.value - (x.value * y.value) / n
    const spread = x2.value - (x.value * x.value) / n
    const slope = covariance / spread
    return { slope, intercept: y.value / n - (slope * x.value) / n }
  }
}
/** Holt and Winters: each sample moves the level and the trend a little. */
export function smoothingFold({ values }: RangeSeries, call: RangeCall): FloatKernel {
  const [factors, trends] = call.args
  const state = { count: 0, before: 0, smoothed: 0, slope: 0 }
  const take = (from: number, to: number, isFirst: boolean, _: Window, step: number) => {
    const factor = factors![step]!
    const trend = trends![step]!
    let before = isFirst ? 0 : state.before
    let smoothed = isFirst ? values[from]! : state.smoothed
    let slope = isFirst ? 0 : state.slope
    const count = isFirst ? 0 : state.count
    for (let i = count === 0 ? from + 1 : from; i < to; i++) {
      if (count + i - from === 1) slope = values[i]! - values[i - 1]!
      else slope = trend * (smoothed - before) + (1 - trend) * slope
      const level = factor * values[i]!
      const carried = (1 - factor) * (smoothed + slope)
      before = smoothed
      smoothed = level + carried
    }
    state.count = count + to - from
    state.before = before
    state.smoothed = smoothed
    state.slope = slope
  }
  return { fold: { isSliding: false, weight: 5, take }, of: () => state.smoothed }
}
