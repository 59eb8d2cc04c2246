// What one running query carries along: its samples, its limits, its annotations, and the pauses that let others run.
import type { Clock } from '../../base/clock.ts'
import type { Matcher } from '../../model/matcher.ts'
import type { HeldMemory } from '../memory.ts'
import type { PlanNode, PlanSubquery } from '../plan/plan.ts'
import type { SelectHints, SeriesSamples } from '../source.ts'
import type { Annotations, newAnnotations } from './annotations.ts'
import type { Column, Grid } from './column.ts'
import { QueryCancelledError, QueryTimeoutError, TooManySamplesError } from './errors.ts'
import type { SampleCounts } from './sample-counts.ts'

/** How long evaluation may keep the event loop for itself. */
const PAUSE_EVERY_MS = 20

export interface QueryState {
  readonly lookbackMs: number
  readonly delaysNameRemoval: boolean
  readonly usesStartTimestamps: boolean
  readonly usesTypeLabels: boolean
  readonly patternSizeMax: number
  readonly annotations: Annotations
  readonly memory: HeldMemory
  /** Of the grid that is evaluated; absent: nobody wants to know. */
  readonly counts: SampleCounts | undefined
  /** Series of planned select number `index`, sorted by labels. */
  series(index: number): readonly SeriesSamples[]
  /** A select that only evaluation can ask (info). Sorted by labels. */
  select(matchers: readonly Matcher[], hints: SelectHints): Promise<readonly SeriesSamples[]>
  /** Counts samples as held; refuses past the maximum. */
  hold(count: number): void
  release(count: number): void
  held(): number
  /** The most that was held at a time. */
  heldMax(): number
  /** Throws when the query was cancelled or is out of time; now and then gives way to other work. */
  breathe(): Promise<void>
}

/** The state, with the way back to the evaluator: what an operator is given to evaluate its operands. */
export interface Evaluation extends QueryState {
  vector(node: PlanNode, grid: Grid): Promise<Column[]>
  /** The same columns, shown one after the other, floats only, in a column that is used again. False when the expression does not allow
   *  it: then nothing was shown. */
  stream(node: PlanNode, grid: Grid, visit: (column: Column) => void): Promise<boolean>
  /** One number per step. */
  scalar(node: PlanNode, grid: Grid): Promise<Float64Array>
  /** The inner expression over the subquery's own grid, which covers the ranges of all steps of `grid`. */
  subquery(node: PlanSubquery, grid: Grid): Promise<EvaluatedSubquery>
}

export interface EvaluatedSubquery {
  readonly columns: Column[]
  readonly grid: Grid
  readonly counts: SampleCounts | undefined
}

export interface QueryStateDeps {
  readonly counts: SampleCounts | undefined
  readonly clock: Clock
  readonly signal: AbortSignal
  readonly deadlineMs: number
  readonly lookbackMs: number
  readonly samplesMax: number
  readonly enabledFeatures: ReadonlySet<string>
  readonly patternSizeMax: number
  readonly memory: HeldMemory
  readonly series: readonly (readonly SeriesSamples[])[]
  readonly annotations: ReturnType<typeof newAnnotations>
  select(matchers: readonly Matcher[], hints: SelectHints): Promise<readonly SeriesSamples[]>
}

export function newQueryState(deps: QueryStateDeps): QueryState {
  const { clock, signal, deadlineMs, lookbackMs, samplesMax, enabledFeatures, series, select } = deps
  const { annotations, counts, memory } = deps
  let heldCount = 0
  let heldMax = 0
  let pausedMs = clock.monotonic()
  return {
    lookbackMs,
    delaysNameRemoval: enabledFeatures.has('promql-delayed-name-removal'),
    usesStartTimestamps: enabledFeatures.has('use-start-timestamps'),
    usesTypeLabels: enabledFeatures.has('type-and-unit-labels'),
    patternSizeMax: deps.patternSizeMax,
    annotations,
    counts,
    memory,
    select,
    series: (index) => series[index]!,
    hold(count) {
      heldCount += count
      if (heldCount > heldMax) heldMax = heldCount
      if (heldCount > samplesMax) throw new TooManySamplesError()
    },
    release(count) {
      heldCount -= count
    },
    held: () => heldCount,
    heldMax: () => heldMax,
    async breathe() {
      refuseWhenOver(signal, clock, deadlineMs)
      if (clock.monotonic() - pausedMs < PAUSE_EVERY_MS) return
      await new Promise<void>((resolve) => clock.after(0, resolve))
      pausedMs = clock.monotonic()
      refuseWhenOver(signal, clock, deadlineMs)
    },
  }
}

export function refuseWhenOver(signal: AbortSignal, clock: Clock, deadlineMs: number): void {
  if (clock.monotonic() >= deadlineMs) throw new QueryTimeoutError()
  if (signal.aborted) throw new QueryCancelledError()
}
