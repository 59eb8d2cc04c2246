// Moves the window of a range function over one series, from step to step. Hot kernel: what can be done without waiting runs in plain loops
// that leave off after some work, and go on where they were.
//
// Invariants
//   WINDOW-2  Windows of one series only move forward, so a kernel may keep positions from step to step.
//   WINDOW-3  Between two looks at the time no more is done than a few thousand samples take, however long windows are.
import type { Histogram } from '../../model/histogram.ts'
import { ABSENT, type Column, FLOAT, type Grid, setHistogram } from './column.ts'
import type { QueryState } from './query-state.ts'
import type { RangeSeries } from './range.ts'
import { firstAfter } from './seek.ts'

/** Floats at [lo, hi) and histograms at [histogramLo, histogramHi). The kernel leaves its result in `value` or `histogram`. */
export interface Window {
  lo: number
  hi: number
  histogramLo: number
  histogramHi: number
  /** Bounds of the range as asked for: exclusive, inclusive. */
  startMs: number
  endMs: number
  /** The evaluation time. */
  nowMs: number
  value: number
  histogram: Histogram | undefined
  /** What was done for it, in units of work, where that is more than a look. */
  work: number
}

/** ABSENT, FLOAT or HISTOGRAM. */
export type Kind = 0 | 1 | 2

/** Turns windows of one series into values. */
export interface Kernel {
  /** Called once, before the first window; what it answers is waited for. */
  readonly prepare?: (() => Promise<void> | undefined) | undefined
  readonly fold?: Fold | undefined
  /** Says what it left in the window. Where it must breathe it answers a promise. */
  value(window: Window, step: number): Kind | Promise<Kind>
}

/** Takes in the floats of a window before `value` is asked, in order and in pieces. */
export interface Fold {
  /** It is given each sample once, with the first window that has it: what has left the window is its own business. */
  readonly isSliding: boolean
  /** Of one sample, in units of work. */
  readonly weight: number
  /** @param isFirst this piece is the first of its window */
  take(from: number, to: number, isFirst: boolean, window: Window, step: number): void
}

/** Where windows lie. */
export interface Windows {
  readonly atMs: number | undefined
  readonly offsetMs: number
  readonly rangeMs: number
  /** Samples count beyond the range, too: so far before and after it. */
  readonly isExtended: boolean
  readonly beforeMs: number
  readonly afterMs: number
}

export function newWindow(): Window {
  return {
    lo: 0,
    hi: 0,
    histogramLo: 0,
    histogramHi: 0,
    startMs: 0,
    endMs: 0,
    nowMs: 0,
    value: 0,
    histogram: undefined,
    work: 0,
  }
}

/** Samples that are passed one by one: loops as plain as these are what is fast. */
const NEAR = 16

/** Done before the slide is left to look at the time, in units of work. */
const LEAVE_WORK = 10_000
/** Of a step beside its samples. */
const STEP_WORK = 15

export class Slide {
  count = 0
  hasFloats = false
  /** Done since it was last left. */
  work = 0
  private step = 0
  /** The window of `step` stands, and its floats are taken in up to here (WINDOW-2). */
  private takenTo: number | undefined
  private heldMax = 0

  private readonly column: Column
  private readonly series: RangeSeries
  private readonly kernel: Kernel
  private readonly window: Window
  private readonly windows: Windows
  private readonly grid: Grid
  private readonly state: QueryState

  constructor(slide: {
    column: Column
    series: RangeSeries
    kernel: Kernel
    window: Window
    windows: Windows
    grid: Grid
    state: QueryState
  }) {
    this.column = slide.column
    this.series = slide.series
    this.kernel = slide.kernel
    this.window = slide.window
    this.windows = slide.windows
    this.grid = slide.grid
    this.state = slide.state
    const { window } = this
    window.lo = 0
    window.hi = 0
    window.histogramLo = 0
    window.histogramHi = 0
  }

  get isDone(): boolean {
    return this.step >= this.grid.steps
  }

  /** Goes on until it is done, or the time is to be looked at, or a value is to be waited for. */
  run(): Promise<Kind> | undefined {
    this.work = 0
    const isPlain = this.series.histogramTimes.length === 0 && !this.windows.isExtended && this.takenTo === undefined
    return isPlain ? this.runPlain() : this.runMixed()
  }

  /** The value that `run` left to be waited for. */
  settle(kind: Kind): void {
    this.put(kind)
    this.step++
  }

  end(): void {
    this.state.release(this.heldMax)
  }

  /** Floats alone, in windows that need no pieces. */
  private runPlain(): Promise<Kind> | undefined {
    const { column, kernel, window, state } = this
    const { steps, startMs: gridStartMs, stepMs } = this.grid
    const { atMs, offsetMs, rangeMs } = this.windows
    const { times } = this.series
    const { fold, value } = kernel
    const { values, kinds } = column
    const count = times.length
    const endStep = Math.min(steps, this.step + Math.ceil(LEAVE_WORK / STEP_WORK))
    let { lo, hi } = window
    let heldMax = this.heldMax
    let filledCount = 0
    let work = 0
    let step = this.step
    let pending: Promise<Kind> | undefined
    window.work = 0
    for (; step < endStep && work + window.work < LEAVE_WORK; step++) {
      const nowMs = gridStartMs + step * stepMs
      const endMs = (atMs ?? nowMs) - offsetMs
      const startMs = endMs - rangeMs
      const taken = hi
      const hiNear = Math.min(count, hi + NEAR)
      while (hi < hiNear && times[hi]! <= endMs) hi++
      if (hi === hiNear && hi < count) hi = firstAfter(times, hi, endMs)
      const loNear = Math.min(hi, lo + NEAR)
      while (lo < loNear && times[lo]! <= startMs) lo++
      if (lo === loNear && lo < hi) lo = Math.min(hi, firstAfter(times, lo, startMs))
      if (hi === lo) continue
      if (hi - lo > heldMax) {
        state.hold(hi - lo - heldMax)
        heldMax = hi - lo
        this.heldMax = heldMax
      }
      window.nowMs = nowMs
      window.endMs = endMs
      window.startMs = startMs
      window.lo = lo
      window.hi = hi
      if (fold !== undefined) {
        work += this.takeIn(fold, taken, step)
        if (this.takenTo !== undefined) break
      }
      const kind = value(window, step)
      if (kind === FLOAT) {
        filledCount++
        values[step] = window.value
        kinds[step] = FLOAT
      } else if (kind !== ABSENT) {
        pending = kind as Promise<Kind>
        break
      }
    }
    window.lo = lo
    window.hi = hi
    this.work = work + window.work + STEP_WORK * (step - this.step)
    this.step = step
    this.count += filledCount
    this.hasFloats ||= filledCount > 0
    return pending
  }

  /** What it takes, in units of work; where that is much, it is left to be done in pieces. */
  private takeIn(fold: Fold, taken: number, step: number): number {
    const { window } = this
    const { lo, hi } = window
    const from = fold.isSliding && taken > lo ? taken : lo
    const work = (hi - from) * fold.weight
    if (work > LEAVE_WORK) this.takenTo = from
    else if (from < hi) fold.take(from, hi, true, window, step)
    return work
  }

  private runMixed(): Promise<Kind> | undefined {
    const { kernel, window, grid } = this
    window.work = 0
    for (; this.step < grid.steps; this.step++) {
      if (this.takenTo === undefined && !this.moveTo(this.step)) continue
      if (kernel.fold !== undefined && !this.foldIn(kernel.fold)) return undefined
      this.takenTo = undefined
      const kind = kernel.value(window, this.step)
      if (typeof kind !== 'number') return kind
      this.put(kind)
      this.work += window.work
      window.work = 0
      if (this.work < LEAVE_WORK) continue
      this.step++
      return undefined
    }
    return undefined
  }

  /** False where there is nothing in the window. */
  private moveTo(step: number): boolean {
    const { window, windows, grid, series } = this
    const { times, histogramTimes } = series
    this.work += STEP_WORK
    window.nowMs = grid.startMs + step * grid.stepMs
    window.endMs = (windows.atMs ?? window.nowMs) - windows.offsetMs
    window.startMs = window.endMs - windows.rangeMs
    const fromMs = window.startMs - windows.beforeMs
    const toMs = window.endMs + windows.afterMs
    const takenTo = window.hi
    window.hi = firstAfter(times, window.hi, toMs)
    window.lo = Math.min(window.hi, firstAfter(times, window.lo, fromMs))
    window.histogramHi = firstAfter(histogramTimes, window.histogramHi, toMs)
    window.histogramLo = Math.min(window.histogramHi, firstAfter(histogramTimes, window.histogramLo, fromMs))
    const size = window.hi - window.lo + (window.histogramHi - window.histogramLo)
    if (size === 0) return false
    this.holdWindow(size)
    this.takenTo = this.kernel.fold?.isSliding ? Math.max(takenTo, window.lo) : window.lo
    return true
  }

  /** False when the time is to be looked at before all is taken in. */
  private foldIn(fold: Fold): boolean {
    const { window } = this
    const piece = Math.ceil(LEAVE_WORK / fold.weight)
    let isFirst = this.takenTo === window.lo && !fold.isSliding
    let from = this.takenTo!
    while (from < window.hi) {
      const to = Math.min(window.hi, from + piece)
      fold.take(from, to, isFirst, window, this.step)
      isFirst = false
      this.work += (to - from) * fold.weight
      from = to
      this.takenTo = to
      if (this.work >= LEAVE_WORK && to < window.hi) return false
    }
    return true
  }

  private put(kind: Kind): void {
    const { column, window } = this
    if (kind === ABSENT) return
    this.count++
    if (kind === FLOAT) {
      this.hasFloats = true
      column.values[this.step] = window.value
      column.kinds[this.step] = FLOAT
    } else setHistogram(column, this.step, window.histogram!)
  }

  private holdWindow(size: number): void {
    if (size <= this.heldMax) return
    this.state.hold(size - this.heldMax)
    this.heldMax = size
  }
}
