// Functions over ranges: for each series a window of samples moves from step to step, and a kernel turns it into a value.
//
// Invariants
//   WINDOW-1  A window holds the samples in (start, end], without stale markers, floats and histograms apart.
import { type Breath, inPieces } from '../../base/breathing.ts'
import type { Histogram } from '../../model/histogram.ts'
import { type Labels, labelOf, METRIC_NAME } from '../../model/labels.ts'
import { isStaleAt } from '../../model/sample.ts'
import type { Position } from '../ast.ts'
import type { HeldMemory } from '../memory.ts'
import type { PlanCall, PlanMatrix, PlanSubquery } from '../plan/plan.ts'
import type { SeriesSamples, WindowSpan } from '../source.ts'
import type { Annotations } from './annotations.ts'
import { TEXTS } from './annotations.ts'
import { ABSENT, COLUMN_WORK, type Column, type ColumnSink, FLOAT, type Grid, HISTOGRAM } from './column.ts'
import { metadataDropper, stayDistinct } from './labels.ts'
import type { Evaluation, QueryState } from './query-state.ts'
import { isStaleHistogram, samplesOf, wordsOf } from './selector.ts'
import { type Kernel, newWindow, Slide, type Windows } from './slide.ts'

/** The samples of one series, ready for windows (WINDOW-1). */
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
  /** Where samples stand for windows, whose length is their distance; in order of time. */
  readonly windows?: readonly WindowSpan[] | undefined
}

export interface RangeCall {
  readonly name: string
  readonly rangeMs: number
  /** Windows to come, and from one to the next. */
  readonly steps: number
  readonly stepMs: number
  readonly modifier: 'anchored' | 'smoothed' | undefined
  readonly lookbackMs: number
  /** Where the range stands in the query, and where the first argument and all of them do. */
  readonly rangePosition: Position
  readonly firstPosition: Position
  readonly argsPosition: Position
  /** The other arguments, one number per step each. */
  readonly args: readonly Float64Array[]
  readonly annotations: Annotations
  readonly working: Working
  readonly breath: Breath
}

/** What the kernels of one call work with, one after the other. */
export class Working {
  private readonly memory: HeldMemory
  private bytes = 0
  private held = new Int32Array(0)

  constructor(memory: HeldMemory) {
    this.memory = memory
  }

  /** Charges what one kernel keeps. */
  charge(bytes: number): void {
    this.memory.charge(bytes)
    this.bytes += bytes
  }

  /** The kernel is no longer needed. */
  end(): void {
    this.memory.release(this.bytes)
    this.bytes = 0
  }

  /** So many integers, of any values; the next kernel gets the same ones. */
  integers(count: number): Int32Array {
    if (this.held.length >= count) return this.held
    const wanted = Math.max(count, 2 * this.held.length)
    this.memory.charge(4 * (wanted - this.held.length))
    this.held = new Int32Array(wanted)
    return this.held
  }
}

/** Start timestamps count only where they are asked for, and only for these functions. */
const START_FUNCTIONS = new Set(['rate', 'irate', 'increase', 'resets'])

export type KernelFactory = (series: RangeSeries, call: RangeCall) => Kernel

const NO_TIMES = new Float64Array(0)
const NO_HISTOGRAMS: readonly Histogram[] = []

/** How many of the values [from, to) are stale markers. Only NaNs can be, so bits are looked at only where there is one. */
function countStale(values: Float64Array, from: number, to: number): number {
  let at = from
  while (at < to && !Number.isNaN(values[at]!)) at++
  if (at === to) return 0
  const words = wordsOf(values)
  let count = 0
  for (; at < to; at++) if (isStaleAt(words, at)) count++
  return count
}

/** Looked through at once. */
const SHORT_LENGTH = 16_384

/** At once where the series is short and has neither histograms nor stale markers. */
export function rangeSeriesOf(samples: SeriesSamples, breath: Breath): RangeSeries | Promise<RangeSeries> {
  const { values, histograms } = samples
  if (histograms !== undefined) return splitSamples(samples, histograms, breath)
  if (values.length <= SHORT_LENGTH && countStale(values, 0, values.length) === 0) return floatsOnly(samples)
  return withoutStale(samples, breath)
}

async function withoutStale(samples: SeriesSamples, breath: Breath): Promise<RangeSeries> {
  const { labels, times, values, startTimes, counts, windows } = samples
  let staleCount = 0
  await inPieces(values.length, 1, breath, (from, to) => {
    staleCount += countStale(values, from, to)
  })
  if (staleCount === 0) return floatsOnly(samples)
  const words = wordsOf(values)
  const keptTimes = new Float64Array(times.length - staleCount)
  const keptValues = new Float64Array(keptTimes.length)
  const keptStarts = startTimes === undefined ? undefined : new Float64Array(keptTimes.length)
  const keptCounts = counts === undefined ? undefined : new Float64Array(keptTimes.length)
  let at = 0
  await inPieces(times.length, 4, breath, (from, to) => {
    for (let i = from; i < to; i++) {
      if (isStaleAt(words, i)) continue
      keptTimes[at] = times[i]!
      if (keptStarts !== undefined) keptStarts[at] = startTimes![i]!
      if (keptCounts !== undefined) keptCounts[at] = counts![i]!
      keptValues[at++] = values[i]!
    }
  })
  const kept = { startTimes: keptStarts, counts: keptCounts, windows }
  return floatsOnly({ labels, times: keptTimes, values: keptValues, ...kept })
}

type Floats = Omit<RangeSeries, 'dropsName' | 'histogramTimes' | 'histograms' | 'histogramStartTimes' | 'startTimes'> &
  Pick<Partial<RangeSeries>, 'startTimes'>

function floatsOnly({ labels, times, values, startTimes, counts, windows }: Floats): RangeSeries {
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
    windows,
  }
}

async function splitSamples(
  { labels, times, values, startTimes, counts, windows }: SeriesSamples,
  mixed: readonly (Histogram | undefined)[],
  breath: Breath,
): Promise<RangeSeries> {
  const words = wordsOf(values)
  const floats: number[] = []
  const natives: number[] = []
  const histograms: Histogram[] = []
  await inPieces(times.length, 20, breath, (from, to) => {
    for (let i = from; i < to; i++) {
      const histogram = mixed[i]
      if (histogram === undefined) {
        if (!isStaleAt(words, i)) floats.push(i)
      } else if (!isStaleHistogram(histogram)) {
        natives.push(i)
        histograms.push(histogram)
      }
    }
  })
  const picked = async (column: Float64Array, indexes: readonly number[]) => {
    const kept = new Float64Array(indexes.length)
    await inPieces(kept.length, 2, breath, (from, to) => {
      for (let i = from; i < to; i++) kept[i] = column[indexes[i]!]!
    })
    return kept
  }
  return {
    labels,
    dropsName: false,
    times: await picked(times, floats),
    values: await picked(values, floats),
    startTimes: startTimes && (await picked(startTimes, floats)),
    histogramTimes: await picked(times, natives),
    histograms,
    histogramStartTimes: startTimes && (await picked(startTimes, natives)),
    counts: counts && (await picked(counts, floats)),
    histogramCounts: counts && (await picked(counts, natives)),
    windows,
  }
}

/** A subquery's column as samples. Reset hints no longer say anything about what lies between two of its steps. */
async function rangeSeriesOfColumn(column: Column, gridTimes: Float64Array, breath: Breath): Promise<RangeSeries> {
  const { labels, dropsName, values, kinds } = column
  let staleCount = 0
  let isFull = true
  await inPieces(kinds.length, 3, breath, (from, to) => {
    for (let i = from; i < to && isFull; i++) isFull = kinds[i] === FLOAT
    if (isFull) staleCount += countStale(values, from, to)
  })
  if (isFull && staleCount === 0) return { ...floatsOnly({ labels, times: gridTimes, values }), dropsName }
  return { ...(await rangeSeriesOf(await compact(column, gridTimes, breath), breath)), dropsName }
}

async function compact(column: Column, gridTimes: Float64Array, breath: Breath): Promise<SeriesSamples> {
  const { labels, values, kinds, histograms } = column
  let count = 0
  await inPieces(kinds.length, 1, breath, (from, to) => {
    for (let i = from; i < to; i++) if (kinds[i] !== ABSENT) count++
  })
  const times = new Float64Array(count)
  const kept = new Float64Array(count)
  const keptHistograms: (Histogram | undefined)[] = []
  let at = 0
  await inPieces(kinds.length, histograms === undefined ? 2 : 50, breath, (from, to) => {
    for (let i = from; i < to; i++) {
      if (kinds[i] === ABSENT) continue
      times[at] = gridTimes[i]!
      kept[at++] = values[i]!
      if (histograms === undefined) continue
      const histogram = kinds[i] === HISTOGRAM ? histograms[i] : undefined
      const isHinted = histogram?.resetHint === 'reset' || histogram?.resetHint === 'no-reset'
      keptHistograms.push(isHinted ? { ...histogram, resetHint: 'unknown' } : histogram)
    }
  })
  return { labels, times, values: kept, ...(histograms === undefined ? {} : { histograms: keptHistograms }) }
}

export interface RangeInput {
  /** The label sets of the series, in order. */
  readonly sets: readonly { readonly labels: Labels }[]
  /** One of the series; asked for once. At once, or to be waited for. */
  seriesAt(index: number): RangeSeries | Promise<RangeSeries>
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
    const samples = await samplesOf(selector, state)
    const series = { sets: samples, seriesAt: (i: number) => rangeSeriesOf(samples[i]!, state) }
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
  if (inner.counts !== undefined) await state.counts?.readSubquery(inner.counts, node, state)
  state.memory.charge(8 * inner.grid.steps)
  const times = new Float64Array(inner.grid.steps)
  await inPieces(times.length, 2, state, (from, to) => {
    for (let i = from; i < to; i++) times[i] = inner.grid.startMs + i * inner.grid.stepMs
  })
  return {
    sets: inner.columns,
    seriesAt: (i) => rangeSeriesOfColumn(inner.columns[i]!, times, state),
    atMs: node.atMs,
    offsetMs: node.offsetMs,
    rangeMs: node.rangeMs,
    modifier: undefined,
    isMade: true,
    position: { start: 0, end: node.position.end }, // as Prometheus has it: a subquery's result has no place of its own
  }
}

export async function evaluateRangeCall(
  node: PlanCall,
  input: RangeInput,
  args: readonly Float64Array[],
  factory: KernelFactory,
  grid: Grid,
  state: Evaluation,
  sink: ColumnSink,
): Promise<void> {
  const call = rangeCallOf(node, input, args, grid, state)
  const windows = windowsOf(input, state)
  const keepsName = node.name === 'last_over_time' || node.name === 'first_over_time'
  const isRate = node.name === 'rate' || node.name === 'increase'
  const usesStarts = state.usesStartTimestamps && START_FUNCTIONS.has(node.name)
  const dropName = metadataDropper()
  const window = newWindow()
  for (let i = 0; i < input.sets.length; i++) {
    const made = input.seriesAt(i)
    const given = made instanceof Promise ? await made : made
    const series = usesStarts ? given : withoutStarts(given)
    const dropsName = !keepsName || series.dropsName
    const labels = dropsName && !state.delaysNameRemoval ? dropName(series.labels) : series.labels
    const column = sink.make(labels, grid.steps, dropsName)
    if (state.counts !== undefined) await state.counts.addWindows(series, countedWindows(input, state), state)
    const kernel = factory(series, call)
    const preparing = kernel.prepare?.()
    if (preparing !== undefined) await preparing
    const slide = new Slide({ column, series, kernel, window, windows, grid, state })
    while (!slide.isDone) {
      const kind = slide.run()
      if (kind !== undefined) slide.settle(await kind)
      if (state.isDue(slide.work + COLUMN_WORK)) await state.breathe()
    }
    slide.end()
    call.working.end()
    if (slide.count === 0) continue
    if (isRate && slide.hasFloats) informOfNonCounter(series.labels, call, state)
    state.hold(slide.count)
    sink.take(column)
  }
}

function windowsOf({ atMs, offsetMs, rangeMs, modifier }: RangeInput, { lookbackMs }: QueryState): Windows {
  return {
    ...{ atMs, offsetMs, rangeMs, isExtended: modifier !== undefined },
    beforeMs: modifier === undefined ? 0 : lookbackMs,
    afterMs: modifier === 'smoothed' ? lookbackMs : 0,
  }
}

/** Without their names some series of the input could be alike. */
export async function mayMeet(input: RangeInput, state: QueryState): Promise<boolean> {
  return !state.delaysNameRemoval && !(await stayDistinct(input.sets, state))
}

function countedWindows({ atMs, offsetMs, rangeMs, modifier, isMade = false }: RangeInput, { lookbackMs }: QueryState) {
  const beforeMs = rangeMs + (modifier === undefined ? 0 : lookbackMs)
  return { atMs, offsetMs, beforeMs, afterMs: modifier === 'smoothed' ? lookbackMs : 0, isMade }
}

function withoutStarts(series: RangeSeries): RangeSeries {
  if (series.startTimes === undefined && series.histogramStartTimes === undefined) return series
  return { ...series, startTimes: undefined, histogramStartTimes: undefined }
}

function rangeCallOf(
  node: PlanCall,
  input: RangeInput,
  args: readonly Float64Array[],
  { steps, stepMs }: Grid,
  state: QueryState,
): RangeCall {
  const first = node.args[0]!
  const isRange = (arg: { kind: string }) => arg.kind === 'matrix' || arg.kind === 'subquery'
  const last = node.args[node.args.length - 1]!
  const firstPosition = isRange(first) ? input.position : first.position
  return {
    name: node.name,
    rangeMs: input.rangeMs,
    steps,
    stepMs,
    working: new Working(state.memory),
    breath: state,
    modifier: input.modifier,
    lookbackMs: state.lookbackMs,
    rangePosition: input.position,
    firstPosition,
    argsPosition: { start: firstPosition.start, end: last.position.end },
    args,
    annotations: state.annotations,
  }
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
