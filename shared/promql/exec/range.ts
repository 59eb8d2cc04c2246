// Functions over ranges: for each series a window of samples moves from step to step, and a kernel turns it into a value.
//
// Invariants
//   W1  A window holds the samples in (start, end], without stale markers, floats and histograms apart.
//   W2  Windows of one series only move forward, so a kernel may keep positions from step to step.
import type { Histogram } from '../../model/histogram.ts'
import { type Labels, labelOf, METRIC_NAME } from '../../model/labels.ts'
import { isStaleAt } from '../../model/sample.ts'
import type { Position } from '../ast.ts'
import type { PlanCall, PlanMatrix, PlanSubquery } from '../plan/plan.ts'
import type { SeriesSamples } from '../source.ts'
import type { Annotations } from './annotations.ts'
import { TEXTS } from './annotations.ts'
import { ABSENT, type Column, type ColumnSink, FLOAT, type Grid, HISTOGRAM, setHistogram } from './column.ts'
import { metadataDropper, stayDistinct } from './labels.ts'
import type { Evaluation, QueryState } from './query-state.ts'
import { isStaleHistogram, samplesOf, wordsOf } from './selector.ts'

/** The samples of one series, ready for windows (W1). */
export interface RangeSeries {
  readonly labels: Labels
  readonly dropsName: boolean
  readonly times: Float64Array
  readonly values: Float64Array
  readonly histogramTimes: Float64Array
  readonly histograms: readonly Histogram[]
  /** Start timestamps, where they are kept and asked for. */
  readonly startTimes: Float64Array | undefined
  readonly histogramStartTimes: Float64Array | undefined
  /** How many samples each one stands for; absent: one. */
  readonly counts?: Float64Array | undefined
  readonly histogramCounts?: Float64Array | undefined
}

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
}

/** Says what it left in the window: ABSENT, FLOAT or HISTOGRAM. */
export type Kernel = (window: Window, step: number) => 0 | 1 | 2

export interface RangeCall {
  readonly name: string
  readonly rangeMs: number
  readonly modifier: 'anchored' | 'smoothed' | undefined
  readonly lookbackMs: number
  /** Where the range stands in the query, and where the first argument and all of them do. */
  readonly rangePosition: Position
  readonly firstPosition: Position
  readonly argsPosition: Position
  /** The other arguments, one number per step each. */
  readonly args: readonly Float64Array[]
  readonly annotations: Annotations
}

/** Start timestamps count only where they are asked for, and only for these functions. */
const START_FUNCTIONS = new Set(['rate', 'irate', 'increase', 'resets'])

export type KernelFactory = (series: RangeSeries, call: RangeCall) => Kernel

const NO_TIMES = new Float64Array(0)
const NO_HISTOGRAMS: readonly Histogram[] = []

/** How many of the values are stale markers. Only NaNs can be, so bits are looked at only where there is one. */
function countStale(values: Float64Array): number {
  let first = 0
  while (first < values.length && !Number.isNaN(values[first]!)) first++
  if (first === values.length) return 0
  const words = wordsOf(values)
  let count = 0
  for (let i = first; i < values.length; i++) if (isStaleAt(words, i)) count++
  return count
}

export function rangeSeriesOf(samples: SeriesSamples): RangeSeries {
  const { labels, times, values, histograms, startTimes, counts } = samples
  if (histograms !== undefined) return { labels, dropsName: false, ...splitSamples(samples, histograms) }
  const staleCount = countStale(values)
  if (staleCount === 0) return floatsOnly(labels, times, values, startTimes, counts)
  const words = wordsOf(values)
  const keptTimes = new Float64Array(times.length - staleCount)
  const keptValues = new Float64Array(times.length - staleCount)
  const keptStarts = startTimes === undefined ? undefined : new Float64Array(keptTimes.length)
  const keptCounts = counts === undefined ? undefined : new Float64Array(keptTimes.length)
  for (let i = 0, to = 0; i < times.length; i++) {
    if (isStaleAt(words, i)) continue
    keptTimes[to] = times[i]!
    if (keptStarts !== undefined) keptStarts[to] = startTimes![i]!
    if (keptCounts !== undefined) keptCounts[to] = counts![i]!
    keptValues[to++] = values[i]!
  }
  return floatsOnly(labels, keptTimes, keptValues, keptStarts, keptCounts)
}

function floatsOnly(
  labels: Labels,
  times: Float64Array,
  values: Float64Array,
  startTimes?: Float64Array,
  counts?: Float64Array,
): RangeSeries {
  return {
    labels,
    dropsName: false,
    times,
    values,
    histogramTimes: NO_TIMES,
    histograms: NO_HISTOGRAMS,
    startTimes,
    histogramStartTimes: undefined,
    counts,
  }
}

function splitSamples({ times, values, startTimes, counts }: SeriesSamples, mixed: readonly (Histogram | undefined)[]) {
  const words = wordsOf(values)
  const floats: number[] = []
  const natives: number[] = []
  for (let i = 0; i < times.length; i++) {
    const histogram = mixed[i]
    if (histogram === undefined) {
      if (!isStaleAt(words, i)) floats.push(i)
    } else if (!isStaleHistogram(histogram)) natives.push(i)
  }
  const picked = (column: Float64Array, indexes: readonly number[]) => Float64Array.from(indexes, (i) => column[i]!)
  return {
    times: picked(times, floats),
    values: picked(values, floats),
    startTimes: startTimes && picked(startTimes, floats),
    histogramTimes: picked(times, natives),
    histograms: natives.map((i) => mixed[i]!),
    histogramStartTimes: startTimes && picked(startTimes, natives),
    counts: counts && picked(counts, floats),
    histogramCounts: counts && picked(counts, natives),
  }
}

/** A subquery's column as samples. Reset hints no longer say anything about what lies between two of its steps. */
function rangeSeriesOfColumn(column: Column, grid: Grid, gridTimes: Float64Array): RangeSeries {
  const { labels, dropsName, values, kinds } = column
  const plain = { labels, dropsName, startTimes: undefined, histogramStartTimes: undefined }
  const none = { histogramTimes: NO_TIMES, histograms: NO_HISTOGRAMS }
  let isFull = true
  for (let i = 0; i < kinds.length && isFull; i++) isFull = kinds[i] === FLOAT
  if (isFull && countStale(values) === 0) return { ...plain, ...none, times: gridTimes, values }
  const samples: SeriesSamples = compact(column, grid, gridTimes)
  return { ...rangeSeriesOf(samples), dropsName }
}

function compact({ labels, values, kinds, histograms }: Column, grid: Grid, gridTimes: Float64Array): SeriesSamples {
  let count = 0
  for (let i = 0; i < grid.steps; i++) if (kinds[i] !== ABSENT) count++
  const times = new Float64Array(count)
  const kept = new Float64Array(count)
  const keptHistograms: (Histogram | undefined)[] = []
  for (let i = 0, to = 0; i < grid.steps; i++) {
    if (kinds[i] === ABSENT) continue
    times[to] = gridTimes[i]!
    kept[to++] = values[i]!
    if (histograms === undefined) continue
    const histogram = kinds[i] === HISTOGRAM ? histograms[i] : undefined
    const isHinted = histogram?.resetHint === 'reset' || histogram?.resetHint === 'no-reset'
    keptHistograms.push(isHinted ? { ...histogram, resetHint: 'unknown' } : histogram)
  }
  return { labels, times, values: kept, ...(histograms === undefined ? {} : { histograms: keptHistograms }) }
}

export interface RangeInput {
  /** The label sets of the series, in order. */
  readonly sets: readonly { readonly labels: Labels }[]
  /** One of the series; asked for once. */
  seriesAt(index: number): RangeSeries
  readonly atMs: number | undefined
  readonly offsetMs: number
  readonly rangeMs: number
  readonly modifier: 'anchored' | 'smoothed' | undefined
  readonly position: Position
  /** Of a subquery. */
  readonly isMade?: boolean
}

export async function rangeInput(node: PlanMatrix | PlanSubquery, grid: Grid, state: Evaluation): Promise<RangeInput> {
  if (node.kind === 'matrix') {
    const { selector, rangeMs, position } = node
    const samples = samplesOf(selector, state)
    const series = { sets: samples, seriesAt: (i: number) => rangeSeriesOf(samples[i]!) }
    return {
      ...series,
      atMs: selector.atMs,
      offsetMs: selector.offsetMs,
      rangeMs,
      modifier: selector.modifier,
      position,
    }
  }
  const inner = await state.subquery(node, grid)
  if (inner.counts !== undefined) state.counts?.readSubquery(inner.counts, node)
  const times = new Float64Array(inner.grid.steps)
  for (let i = 0; i < times.length; i++) times[i] = inner.grid.startMs + i * inner.grid.stepMs
  return {
    sets: inner.columns,
    seriesAt: (i) => rangeSeriesOfColumn(inner.columns[i]!, inner.grid, times),
    atMs: node.atMs,
    offsetMs: node.offsetMs,
    rangeMs: node.rangeMs,
    modifier: undefined,
    isMade: true,
    position: { start: 0, end: node.position.end }, // as Prometheus has it: a subquery's result has no place of its own
  }
}

/** With more steps than these one series alone may take long. */
const LONG_STEPS = 256

export async function evaluateRangeCall(
  node: PlanCall,
  input: RangeInput,
  args: readonly Float64Array[],
  factory: KernelFactory,
  grid: Grid,
  state: Evaluation,
  sink: ColumnSink,
): Promise<void> {
  const call = rangeCallOf(node, input, args, state)
  const keepsName = node.name === 'last_over_time' || node.name === 'first_over_time'
  const isRate = node.name === 'rate' || node.name === 'increase'
  const usesStarts = state.usesStartTimestamps && START_FUNCTIONS.has(node.name)
  const dropName = metadataDropper()
  const window = newWindow()
  for (let i = 0; i < input.sets.length; i++) {
    if ((i & 15) === 0 || grid.steps > LONG_STEPS) await state.breathe()
    const series = usesStarts ? input.seriesAt(i) : withoutStarts(input.seriesAt(i))
    const dropsName = !keepsName || series.dropsName
    const labels = dropsName && !state.delaysNameRemoval ? dropName(series.labels) : series.labels
    const column = sink.make(labels, grid.steps, dropsName)
    if (state.counts !== undefined) state.counts.addWindows(series, countedWindows(input, state))
    const seen = slide(column, series, factory(series, call), window, input, grid, state)
    if (seen.count === 0) continue
    if (isRate && seen.hasFloats) informOfNonCounter(series.labels, call, state)
    state.hold(seen.count)
    sink.take(column)
  }
}

/** Without their names some series of the input could be alike. */
export function mayMeet(input: RangeInput, { delaysNameRemoval }: QueryState): boolean {
  return !delaysNameRemoval && !stayDistinct(input.sets)
}

function countedWindows({ atMs, offsetMs, rangeMs, modifier, isMade = false }: RangeInput, { lookbackMs }: QueryState) {
  const beforeMs = rangeMs + (modifier === undefined ? 0 : lookbackMs)
  return { atMs, offsetMs, beforeMs, afterMs: modifier === 'smoothed' ? lookbackMs : 0, isMade }
}

function withoutStarts(series: RangeSeries): RangeSeries {
  if (series.startTimes === undefined && series.histogramStartTimes === undefined) return series
  return { ...series, startTimes: undefined, histogramStartTimes: undefined }
}

function rangeCallOf(node: PlanCall, input: RangeInput, args: readonly Float64Array[], state: QueryState): RangeCall {
  const first = node.args[0]!
  const isRange = (arg: { kind: string }) => arg.kind === 'matrix' || arg.kind === 'subquery'
  const last = node.args[node.args.length - 1]!
  const firstPosition = isRange(first) ? input.position : first.position
  return {
    name: node.name,
    rangeMs: input.rangeMs,
    modifier: input.modifier,
    lookbackMs: state.lookbackMs,
    rangePosition: input.position,
    firstPosition,
    argsPosition: { start: firstPosition.start, end: last.position.end },
    args,
    annotations: state.annotations,
  }
}

function newWindow(): Window {
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
  }
}

function slide(
  column: Column,
  series: RangeSeries,
  kernel: Kernel,
  window: Window,
  input: RangeInput,
  grid: Grid,
  state: QueryState,
): { count: number; hasFloats: boolean } {
  const { times, histogramTimes } = series
  if (histogramTimes.length === 0 && input.modifier === undefined) {
    return slideFloats(column, times, kernel, window, input, grid, state)
  }
  const beforeMs = input.modifier === undefined ? 0 : state.lookbackMs
  const afterMs = input.modifier === 'smoothed' ? state.lookbackMs : 0
  window.lo = 0
  window.hi = 0
  window.histogramLo = 0
  window.histogramHi = 0
  let count = 0
  let hasFloats = false
  let heldMax = 0
  for (let step = 0; step < grid.steps; step++) {
    window.nowMs = grid.startMs + step * grid.stepMs
    window.endMs = (input.atMs ?? window.nowMs) - input.offsetMs
    window.startMs = window.endMs - input.rangeMs
    const fromMs = window.startMs - beforeMs
    const toMs = window.endMs + afterMs
    while (window.hi < times.length && times[window.hi]! <= toMs) window.hi++
    while (window.lo < window.hi && times[window.lo]! <= fromMs) window.lo++
    while (window.histogramHi < histogramTimes.length && histogramTimes[window.histogramHi]! <= toMs)
      window.histogramHi++
    while (window.histogramLo < window.histogramHi && histogramTimes[window.histogramLo]! <= fromMs)
      window.histogramLo++
    const size = window.hi - window.lo + (window.histogramHi - window.histogramLo)
    if (size === 0) continue
    if (size > heldMax) {
      state.hold(size - heldMax)
      heldMax = size
    }
    const kind = kernel(window, step)
    if (kind === ABSENT) continue
    count++
    if (kind === FLOAT) {
      hasFloats = true
      column.values[step] = window.value
      column.kinds[step] = FLOAT
    } else setHistogram(column, step, window.histogram!)
  }
  state.release(heldMax)
  return { count, hasFloats }
}

/** `slide` over floats alone. */
function slideFloats(
  column: Column,
  times: Float64Array,
  kernel: Kernel,
  window: Window,
  { atMs, offsetMs, rangeMs }: RangeInput,
  { startMs: gridStartMs, stepMs, steps }: Grid,
  state: QueryState,
): { count: number; hasFloats: boolean } {
  const { values, kinds } = column
  window.histogramLo = 0
  window.histogramHi = 0
  let count = 0
  let heldMax = 0
  let lo = 0
  let hi = 0
  for (let step = 0; step < steps; step++) {
    const nowMs = gridStartMs + step * stepMs
    const endMs = (atMs ?? nowMs) - offsetMs
    const startMs = endMs - rangeMs
    while (hi < times.length && times[hi]! <= endMs) hi++
    while (lo < hi && times[lo]! <= startMs) lo++
    if (hi === lo) continue
    if (hi - lo > heldMax) {
      state.hold(hi - lo - heldMax)
      heldMax = hi - lo
    }
    window.nowMs = nowMs
    window.endMs = endMs
    window.startMs = startMs
    window.lo = lo
    window.hi = hi
    if (kernel(window, step) === ABSENT) continue
    count++
    values[step] = window.value
    kinds[step] = FLOAT
  }
  state.release(heldMax)
  return { count, hasFloats: count > 0 }
}

const COUNTER_NAME = /(_total|_sum|_count|_bucket)$/

function informOfNonCounter(labels: Labels, call: RangeCall, state: QueryState): void {
  const name = labelOf(labels, METRIC_NAME)
  if (name === '') return
  if (state.usesTypeLabels) {
    const type = labelOf(labels, '__type__')
    if (type === 'counter' || type === 'histogram') return
    call.annotations.inform(TEXTS.possibleNonCounterType(type, name), call.firstPosition)
  } else if (!COUNTER_NAME.test(name)) call.annotations.inform(TEXTS.possibleNonCounter(name), call.firstPosition)
}
