// How many samples each step looked at, as Prometheus counts them (`stats=all`): a native histogram counts as its bytes in sixteens, and a range
// counts again at every step whose window it is in, but is read once.
import { type Breath, inPieces } from '../../base/breathing.ts'
import type { Histogram } from '../../model/histogram.ts'
import { ABSENT, COLUMN_WORK, type Column, type Grid, HISTOGRAM } from './column.ts'
import { firstAfter } from './seek.ts'

/** Of a histogram as Prometheus lays it out, bytes. */
const HISTOGRAM_BYTES = 168
const SAMPLE_BYTES = 16

function weightOf(histogram: Histogram): number {
  const { positiveSpans, positiveBuckets, negativeSpans, negativeBuckets, customValues } = histogram
  const buckets = positiveBuckets.length + negativeBuckets.length + customValues.length
  const bytes = HISTOGRAM_BYTES + 8 * (positiveSpans.length + negativeSpans.length + buckets)
  return Math.floor((bytes + 8) / SAMPLE_BYTES)
}

/** What a range call slides over. */
export interface CountedRange {
  readonly times: Float64Array
  readonly histogramTimes: Float64Array
  readonly histograms: readonly Histogram[]
}

/** Where the window of a step lies. */
export interface CountedWindows {
  readonly atMs: number | undefined
  readonly offsetMs: number
  /** From the moment looked at to the first excluded sample, and to the last included one, ms. */
  readonly beforeMs: number
  readonly afterMs: number
  /** Samples that a subquery made are not read again. */
  readonly isMade: boolean
}

export class SampleCounts {
  /** Per step of the grid. */
  readonly seen: Float64Array
  /** The same, but a sample that the step before looked at is not counted. */
  readonly read: Float64Array
  private readonly grid: Grid
  /** No step came before the first one. */
  private readonly isWhole: boolean

  constructor(grid: Grid, isWhole: boolean) {
    this.grid = grid
    this.isWhole = isWhole
    this.seen = new Float64Array(grid.steps)
    this.read = new Float64Array(grid.steps)
  }

  /** One sample for each value that an instant selector found. */
  addColumn({ kinds, histograms }: Column): void {
    for (let step = 0; step < kinds.length; step++) {
      if (kinds[step] === ABSENT) continue
      const weight = kinds[step] === HISTOGRAM ? weightOf(histograms![step]!) : 1
      this.seen[step]! += weight
      this.read[step]! += weight
    }
  }

  /** The samples of a range that stands for itself. */
  addRange(count: number, histograms: readonly (Histogram | undefined)[] = []): void {
    let weight = count
    for (const histogram of histograms) if (histogram !== undefined) weight += weightOf(histogram) - 1
    this.seen[0]! += weight
    this.read[0]! += weight
  }

  /** The windows of one series. */
  async addWindows(
    { times, histogramTimes, histograms }: CountedRange,
    windows: CountedWindows,
    breath: Breath,
  ): Promise<void> {
    if (times.length > 0) this.slide(times, undefined, windows)
    if (breath.isDue(COLUMN_WORK + 10 * this.grid.steps)) await breath.breathe()
    if (histogramTimes.length === 0) return
    const sums = new Float64Array(histograms.length + 1)
    await inPieces(histograms.length, 20, breath, (from, to) => {
      for (let i = from; i < to; i++) sums[i + 1] = sums[i]! + weightOf(histograms[i]!)
    })
    this.slide(histogramTimes, sums, windows)
  }

  private slide(times: Float64Array, sums: Float64Array | undefined, windows: CountedWindows): void {
    const { atMs, offsetMs, beforeMs, afterMs, isMade } = windows
    const { startMs, stepMs, steps } = this.grid
    let lo = 0
    let hi = 0
    let fresh = 0 // the first sample that no step before reached
    for (let step = 0; step < steps; step++) {
      const nowMs = (atMs ?? startMs + step * stepMs) - offsetMs
      hi = firstAfter(times, hi, nowMs + afterMs)
      lo = Math.min(hi, firstAfter(times, lo, nowMs - beforeMs))
      this.seen[step]! += sums === undefined ? hi - lo : sums[hi]! - sums[lo]!
      if (isMade || (atMs !== undefined && (step > 0 || !this.isWhole))) continue
      if (step > 0 || !this.isWhole) {
        fresh = Math.min(hi, firstAfter(times, fresh, nowMs + afterMs - stepMs))
      }
      const from = Math.max(lo, fresh)
      this.read[step]! += sums === undefined ? hi - from : sums[hi]! - sums[from]!
    }
  }

  /** The counts of a stretch of the steps, which begins at step `from`. */
  put({ seen, read }: SampleCounts, from: number): void {
    this.seen.set(seen, from)
    this.read.set(read, from)
  }

  /** What is the same at every step was looked at by each, and read by the first. */
  addInvariant({ seen, read }: SampleCounts): void {
    for (let step = 0; step < this.seen.length; step++) this.seen[step]! += seen[0]!
    if (this.isWhole) this.read[0]! += read[0]!
  }

  /** A subquery that is the whole query. */
  async addSubquery(inner: SampleCounts, breath: Breath): Promise<void> {
    await inPieces(inner.seen.length, 3, breath, (from, to) => {
      for (let k = from; k < to; k++) {
        this.seen[0]! += inner.seen[k]!
        this.read[0]! += inner.read[k]!
      }
    })
  }

  /** What a subquery read goes to the first step that looks at it.
   *  @param windows.rangeMs of each step's window; what lies between windows does not count */
  async readSubquery(
    inner: SampleCounts,
    windows: { readonly offsetMs: number; readonly rangeMs: number },
    breath: Breath,
  ): Promise<void> {
    await inPieces(inner.read.length, 10, breath, (from, to) => this.readSome(inner, windows, from, to))
  }

  private readSome(
    inner: SampleCounts,
    windows: { readonly offsetMs: number; readonly rangeMs: number },
    from: number,
    to: number,
  ): void {
    const { startMs, stepMs, steps } = this.grid
    for (let k = from; k < to; k++) {
      const timeMs = inner.grid.startMs + k * inner.grid.stepMs + windows.offsetMs
      if (steps <= 1 && this.isWhole) {
        this.read[0]! += inner.read[k]!
        continue
      }
      if (!this.isWhole && timeMs <= startMs - stepMs) continue
      const step = Math.min(steps - 1, Math.max(0, Math.ceil((timeMs - startMs) / stepMs)))
      if (timeMs > startMs + step * stepMs - windows.rangeMs) this.read[step]! += inner.read[k]!
    }
  }
}
