// quantile_over_time and mad_over_time: what stands where in the sorted window. A small window is sorted; where windows overlap much, their order
// moves along (sliding-order.ts).
import { inPieces } from '../../base/breathing.ts'
import { firstNotBelow, sortLongFloats } from '../../base/long-sort.ts'
import { labelOf, METRIC_NAME } from '../../model/labels.ts'
import { TEXTS } from '../exec/annotations.ts'
import { ABSENT, FLOAT } from '../exec/column.ts'
import type { KernelFactory, RangeCall, RangeSeries } from '../exec/range.ts'
import type { Kind, Window } from '../exec/slide.ts'
import { placesOf, quantileOf } from './quantile.ts'
import { MOVE_WORK, SlidingOrder } from './sliding-order.ts'

/** Windows up to this many samples are sorted at once. */
const SORTED_LENGTH_MAX = 1_024
/** Samples that move in and out between two looks at the time. */
const MOVED_MAX = 256
/** Windows of fewer samples are sorted whatever comes. */
const MOVING_LENGTH_MIN = 32

/** Asks for values by their place in the sorted window. */
interface Sorted {
  readonly size: number
  readonly hasNaN: boolean
  at(place: number): number
  /** Of those that are numbers. */
  countBelow(value: number): number
}

/** What is told of a window, by its samples (which may be changed) or by its order. */
interface Statistic {
  ofValues(values: Float64Array, step: number): number
  ofSorted(sorted: Sorted, step: number): number
}

class SortedValues implements Sorted {
  readonly size: number
  private readonly values: Float64Array
  private readonly nanCount: number

  /** @param values numbers in order
   *  @param nanCount come before them */
  constructor(values: Float64Array, nanCount: number) {
    this.values = values
    this.nanCount = nanCount
    this.size = values.length + nanCount
  }

  get hasNaN(): boolean {
    return this.nanCount > 0
  }

  at(place: number): number {
    return place < this.nanCount ? Number.NaN : this.values[place - this.nanCount]!
  }

  countBelow(value: number): number {
    return firstNotBelow(this.values, value)
  }
}

function ofOrder(make: (call: RangeCall) => Statistic): KernelFactory {
  return (series, call) => {
    const statistic = make(call)
    const { values } = series
    const { breath } = call
    let order: SlidingOrder | undefined
    let isDecided = false
    let sortedLength = 0
    return {
      value(window, step) {
        const { lo, hi } = window
        if (hi === lo) return ABSENT
        if (window.histogramHi > window.histogramLo) {
          call.annotations.inform(TEXTS.ignoredInRange(labelOf(series.labels, METRIC_NAME)), call.firstPosition)
        }
        if (!isDecided && hi - lo >= MOVING_LENGTH_MIN) {
          isDecided = true
          if (movingIsLess(series, call, hi - lo, step)) {
            call.working.charge(SlidingOrder.bytesFor(values.length))
            order = new SlidingOrder(values)
            return prepared(order, window, step)
          }
        }
        if (order !== undefined) {
          if (!order.moveTo(lo, hi, MOVED_MAX)) return moved(order, window, step)
          return told(order, window, step)
        }
        if (hi - lo > SORTED_LENGTH_MAX) return sorted(window, step)
        window.work += 20 * (hi - lo)
        window.value = statistic.ofValues(values.slice(lo, hi), step)
        return FLOAT
      },
    }

    async function prepared(order: SlidingOrder, window: Window, step: number): Promise<Kind> {
      await order.prepare(breath)
      return moved(order, window, step)
    }

    async function moved(order: SlidingOrder, window: Window, step: number): Promise<Kind> {
      while (!order.moveTo(window.lo, window.hi, MOVED_MAX)) {
        if (breath.isDue(MOVED_MAX * MOVE_WORK)) await breath.breathe()
      }
      return told(order, window, step)
    }

    function told(order: SlidingOrder, window: Window, step: number): Kind {
      window.work += TOLD_WORK
      window.value = statistic.ofSorted(order, step)
      return FLOAT
    }

    async function sorted(window: Window, step: number): Promise<Kind> {
      const { lo, hi } = window
      if (hi - lo > sortedLength) call.working.charge(16 * (hi - lo - sortedLength))
      sortedLength = Math.max(sortedLength, hi - lo)
      const copy = new Float64Array(hi - lo)
      let count = 0
      await inPieces(hi - lo, 2, breath, (from, to) => {
        for (let i = lo + from; i < lo + to; i++) if (!Number.isNaN(values[i]!)) copy[count++] = values[i]!
      })
      const numbers = await sortLongFloats(copy.subarray(0, count), breath)
      window.value = statistic.ofSorted(new SortedValues(numbers, hi - lo - count), step)
      return FLOAT
    }
  }
}

/** Of asking a moving order, in units of work. */
const TOLD_WORK = 500

/** Whether moving the order through all windows to come takes less than to sort each of them, by what the first of some size tells. */
function movingIsLess(
  { values, times }: RangeSeries,
  { steps, stepMs, rangeMs }: RangeCall,
  size: number,
  step: number,
) {
  const left = steps - step
  const sorting = left * size * Math.log2(size)
  const passing = Math.min(values.length, size * (1 + (left * stepMs) / rangeMs))
  const moving = (2.5 * values.length + 1.5 * passing) * Math.log2(values.length) + 50 * left
  return times.length > 0 && moving < sorting
}

export const quantileOverTime: KernelFactory = ofOrder((call) => {
  const qAt = (step: number) => {
    const q = call.args[0]![step]!
    if (!(q >= 0 && q <= 1)) call.annotations.warn(TEXTS.invalidQuantile(q), call.firstPosition)
    return q
  }
  return {
    ofValues: (values, step) => quantileOf(qAt(step), values),
    ofSorted: (sorted, step) => quantileOfSorted(qAt(step), sorted.size, (place) => sorted.at(place)),
  }
})

function quantileOfSorted(q: number, size: number, at: (place: number) => number): number {
  if (Number.isNaN(q)) return Number.NaN
  if (q < 0) return -Infinity
  if (q > 1) return Infinity
  const { lower, upper, weight } = placesOf(q, size)
  return at(lower) * (1 - weight) + at(upper) * weight
}

/** The median of the distances from the median. */
export const madOverTime: KernelFactory = ofOrder(() => ({
  ofValues(values) {
    for (let i = 0; i < values.length; i++) if (Number.isNaN(values[i]!)) return Number.NaN
    const median = quantileOf(0.5, values)
    for (let i = 0; i < values.length; i++) values[i] = Math.abs(values[i]! - median)
    return quantileOf(0.5, values)
  },
  ofSorted(sorted) {
    if (sorted.hasNaN) return Number.NaN
    const { size } = sorted
    const median = quantileOfSorted(0.5, size, (place) => sorted.at(place))
    return quantileOfSorted(0.5, size, (place) => distanceAt(place, sorted, median))
  },
}))

/** The distance from the median at a place of all distances in order. Those of the values below rise towards the front, those of the others
 *  towards the end: the place is split between the two. */
function distanceAt(place: number, sorted: Sorted, median: number): number {
  if (Number.isNaN(median)) return Number.NaN
  const { size } = sorted
  if (!Number.isFinite(median)) {
    const end = median < 0 ? sorted.countBelow(-Number.MAX_VALUE) : size - sorted.countBelow(Infinity)
    return place < end ? Number.NaN : Infinity // of a median from itself
  }
  const middle = sorted.countBelow(median)
  const below = (at: number) => Math.abs(sorted.at(middle - 1 - at) - median)
  const above = (at: number) => Math.abs(sorted.at(middle + at) - median)
  // so many of the `place` smaller ones are taken from below, the rest from above
  let low = Math.max(0, place - (size - middle))
  let high = Math.min(place, middle)
  while (low < high) {
    const taken = (low + high) >>> 1
    if (below(taken) < above(place - taken - 1)) low = taken + 1
    else high = taken
  }
  const rest = place - low
  if (low >= middle) return above(rest)
  if (middle + rest >= size) return below(low)
  return Math.min(below(low), above(rest))
}
