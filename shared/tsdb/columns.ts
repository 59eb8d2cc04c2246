// Columns of samples that grow: where decoded chunks and merged runs go.
import type { Histogram } from '../model/histogram.ts'
import { grownF64 } from './chunk/growth.ts'
import { wordsOf } from './chunk/xor.ts'

/** Samples in time order as columns. `values` is meaningless where a histogram stands. */
export interface SampleRun {
  readonly times: Float64Array
  readonly values: Float64Array
  /** Present only when the run holds histograms: per sample one, or undefined for a float. */
  readonly histograms?: readonly (Histogram | undefined)[] | undefined
  /** Present only when the run holds start times: per sample when what it counts began, ms; 0: unknown. */
  readonly startTimes?: Float64Array | undefined
  readonly start: number
  readonly end: number
}

/** A sink with room to grow; only the first `count` elements mean anything. */
export class SampleColumns {
  times: Float64Array
  values: Float64Array
  /** The bytes of `values` as words: [2 i] low, [2 i + 1] high. */
  words: Uint32Array
  /** Made by the first histogram; from then on as long as `count`. */
  histograms: (Histogram | undefined)[] | undefined
  /** Made by the first start time; then it has the room that `times` has. */
  startTimes: Float64Array | undefined
  count = 0

  constructor(capacity = 128) {
    this.times = new Float64Array(capacity)
    this.values = new Float64Array(capacity)
    this.words = wordsOf(this.values)
  }

  clear(): void {
    this.count = 0
    this.histograms = undefined
    this.startTimes = undefined
  }

  /** Makes room for `more` samples behind the present ones. */
  reserve(more: number): void {
    const needed = this.count + more
    if (needed <= this.times.length) return
    this.times = grownF64(this.times, needed)
    this.values = grownF64(this.values, needed)
    this.words = wordsOf(this.values)
    if (this.startTimes !== undefined) this.startTimes = grownF64(this.startTimes, needed)
  }

  /** Takes a float as its two words. */
  pushBits(time: number, low: number, high: number, startTime = 0): void {
    this.reserve(1)
    if (startTime !== 0 || this.startTimes !== undefined) this.putStart(this.count, startTime)
    this.times[this.count] = time
    this.words[2 * this.count] = low
    this.words[2 * this.count + 1] = high
    this.count++
    if (this.histograms !== undefined) this.histograms.push(undefined)
  }

  pushHistogram(time: number, histogram: Histogram, startTime = 0): void {
    this.reserve(1)
    if (startTime !== 0 || this.startTimes !== undefined) this.putStart(this.count, startTime)
    this.histograms ??= new Array<Histogram | undefined>(this.count).fill(undefined)
    this.times[this.count] = time
    this.values[this.count] = 0
    this.count++
    this.histograms.push(histogram)
  }

  /** Takes element `index` of a run, float or histogram. `words` are those of the run's values. */
  pushFrom(run: SampleRun, words: Uint32Array, index: number): void {
    const histogram = run.histograms?.[index]
    const startTime = run.startTimes === undefined ? 0 : run.startTimes[index]!
    if (histogram === undefined) this.pushBits(run.times[index]!, words[2 * index]!, words[2 * index + 1]!, startTime)
    else this.pushHistogram(run.times[index]!, histogram, startTime)
  }

  /** Takes elements [from, to) of a run. */
  pushRange(run: SampleRun, from: number, to: number): void {
    if (run.histograms !== undefined || run.startTimes !== undefined) {
      const words = wordsOf(run.values)
      for (let i = from; i < to; i++) this.pushFrom(run, words, i)
      return
    }
    this.reserve(to - from)
    this.times.set(run.times.subarray(from, to), this.count)
    this.values.set(run.values.subarray(from, to), this.count)
    this.advance(to - from)
  }

  /** Counts in `added` floats that were written directly behind the present samples. */
  advance(added: number): void {
    this.startTimes?.fill(0, this.count, this.count + added)
    this.count += added
    if (this.histograms !== undefined) for (let i = 0; i < added; i++) this.histograms.push(undefined)
  }

  /** Keeps of the elements from `from` on, all floats or all of one run, those with time in [startMs, endMs]. */
  clip(from: number, startMs: number, endMs: number): void {
    const first = lowerBound(this.times, from, this.count, startMs)
    const end = lowerBound(this.times, first, this.count, endMs, true)
    if (first > from) {
      this.times.copyWithin(from, first, end)
      this.values.copyWithin(from, first, end)
      this.startTimes?.copyWithin(from, first, end)
      this.histograms?.splice(from, first - from)
    }
    this.count = from + end - first
    if (this.histograms !== undefined) this.histograms.length = this.count
  }

  asRun(): SampleRun {
    const { times, values, histograms, startTimes, count } = this
    return { times, values, histograms, startTimes, start: 0, end: count }
  }

  private putStart(index: number, startTime: number): void {
    this.startTimes ??= new Float64Array(this.times.length)
    this.startTimes[index] = startTime
  }
}

/** Whether one of the samples [from, to) of a run has a start time. */
export function hasStarts({ startTimes }: SampleRun, from: number, to: number): boolean {
  if (startTimes === undefined) return false
  for (let i = from; i < to; i++) if (startTimes[i] !== 0) return true
  return false
}

/** The first index in [from, to) of a rising column whose time is ≥ `time`, or > it when `isAfter`; `to` when there is none. */
function lowerBound(times: Float64Array, from: number, to: number, time: number, isAfter = false): number {
  let low = from
  let high = to
  while (low < high) {
    const middle = (low + high) >>> 1
    if (times[middle]! < time || (isAfter && times[middle] === time)) low = middle + 1
    else high = middle
  }
  return low
}
