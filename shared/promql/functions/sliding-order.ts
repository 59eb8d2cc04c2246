// Which value stands where in the sorted window of a series, while the window moves: each sample is put in once and taken out once, and asking
// takes the logarithm of the samples of the series, however long windows are. Hot kernel.
//
// Sorted means as `Float64Array.sort` has it, but NaNs come first: -Infinity … -0, 0 … Infinity, equal values in any order.
import { type Breath, inPieces } from '../../base/breathing.ts'
import { firstNotBelow, sortLongFloats } from '../../base/long-sort.ts'

/** Of sorting, of finding a place, and of moving in or out, each for one sample: in units of work. */
const SORT_WORK = 40
export const MOVE_WORK = 60

export class SlidingOrder {
  /** Of the whole series, without NaNs. */
  private sorted: Float64Array = new Float64Array(0)
  /** Of each sample: where it would stand in `sorted`, equal ones at one place; -1: NaN. */
  private readonly places: Int32Array
  /** A Fenwick tree: how many samples of the window stand in the places below. */
  private readonly tree: Int32Array
  private readonly values: Float64Array
  private topWidth = 1
  private firstZero = 0
  private nanCount = 0
  private lo = 0
  private hi = 0

  /** What it takes beside the samples themselves, bytes. */
  static bytesFor(count: number): number {
    return 24 * count
  }

  constructor(values: Float64Array) {
    this.values = values
    this.places = new Int32Array(values.length)
    this.tree = new Int32Array(values.length + 1)
  }

  async prepare(breath: Breath): Promise<void> {
    const { values, places } = this
    const copy = new Float64Array(values.length)
    let count = 0
    await inPieces(values.length, 2, breath, (from, to) => {
      for (let i = from; i < to; i++) if (!Number.isNaN(values[i]!)) copy[count++] = values[i]!
    })
    this.sorted = await sortLongFloats(copy.subarray(0, count), breath)
    while (2 * this.topWidth <= count) this.topWidth *= 2
    this.firstZero = firstNotBelow(this.sorted, 0)
    while (this.firstZero < count && Object.is(this.sorted[this.firstZero], -0)) this.firstZero++
    await inPieces(values.length, SORT_WORK, breath, (from, to) => {
      for (let i = from; i < to; i++) places[i] = this.placeOf(values[i]!)
    })
  }

  /** The window becomes [lo, hi), which lies no further back than the one before. At most `most` samples move; false: more have to. */
  moveTo(lo: number, hi: number, most: number): boolean {
    let left = most
    for (; this.lo < lo && this.lo < this.hi && left > 0; left--) this.count(this.places[this.lo++]!, -1)
    if (left === 0) return false
    if (this.lo < lo) {
      this.lo = lo
      this.hi = lo
    }
    for (; this.hi < hi && left > 0; left--) this.count(this.places[this.hi++]!, 1)
    return this.hi === hi
  }

  get size(): number {
    return this.hi - this.lo
  }

  get hasNaN(): boolean {
    return this.nanCount > 0
  }

  /** The value at place `at` of the sorted window. */
  at(at: number): number {
    if (at < this.nanCount) return Number.NaN
    return this.sorted[this.find(at - this.nanCount)]!
  }

  /** How many values of the window are below, of those that are numbers. */
  countBelow(value: number): number {
    let count = 0
    for (let place = firstNotBelow(this.sorted, value); place > 0; place &= place - 1) count += this.tree[place]!
    return count
  }

  private placeOf(value: number): number {
    if (Number.isNaN(value)) return -1
    if (Object.is(value, 0)) return this.firstZero
    return firstNotBelow(this.sorted, value)
  }

  private count(place: number, one: 1 | -1): void {
    if (place < 0) {
      this.nanCount += one
      return
    }
    const { tree } = this
    for (let i = place + 1; i < tree.length; i += i & -i) tree[i]! += one
  }

  /** The place below which `rank` samples of the window stand, and at which one does. */
  private find(rank: number): number {
    const { tree } = this
    const count = this.sorted.length
    let place = 0
    let left = rank
    for (let width = this.topWidth; width > 0; width >>= 1) {
      const next = place + width
      if (next > count || tree[next]! > left) continue
      place = next
      left -= tree[next]!
    }
    return place
  }
}
