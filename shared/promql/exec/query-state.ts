// What one running query carries along: its samples, its limits, its annotations, and the pauses that let others run.
import type { Breath } from '../../base/breathing.ts'
import type { Clock } from '../../base/clock.ts'
import type { Matcher } from '../../model/matcher.ts'
import type { HeldMemory } from '../memory.ts'
import type { PlanInvariant, PlanNode, PlanSubquery } from '../plan/plan.ts'
import type { SelectHints, SeriesSamples } from '../source.ts'
import type { Annotations, newAnnotations } from './annotations.ts'
import type { Column, Grid } from './column.ts'
import { QueryCancelledError, QueryTimeoutError, TooManySamplesError } from './errors.ts'
import type { SampleCounts } from './sample-counts.ts'

/** Its breath: throws when the query was cancelled or is out of time. */
export interface QueryState extends Breath {
  /** Steps of a subquery that are evaluated at once. */
  readonly stretchSteps: number
  readonly lookbackMs: number
  readonly delaysNameRemoval: boolean
  readonly usesStartTimestamps: boolean
  readonly usesTypeLabels: boolean
  readonly patternSizeMax: number
  readonly annotations: Annotations
  readonly memory: HeldMemory
  /** Of the grid that is evaluated; absent: nobody wants to know. */
  readonly counts: SampleCounts | undefined
  /** Where the steps are evaluated a stretch at a time: what was found out with the stretches before. */
  readonly invariants: Map<PlanInvariant, Invariant> | undefined
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
}

/** What an expression gives that is the same at every step. */
export interface Invariant {
  readonly columns: readonly Column[]
  readonly counts: SampleCounts | undefined
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
  readonly breath: Breath
  readonly stretchSteps: number
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
  const { breath, stretchSteps, lookbackMs, samplesMax, enabledFeatures, series, select } = deps
  const { annotations, counts, memory } = deps
  let heldCount = 0
  let heldMax = 0
  return {
    stretchSteps,
    lookbackMs,
    delaysNameRemoval: enabledFeatures.has('promql-delayed-name-removal'),
    usesStartTimestamps: enabledFeatures.has('use-start-timestamps'),
    usesTypeLabels: enabledFeatures.has('type-and-unit-labels'),
    patternSizeMax: deps.patternSizeMax,
    annotations,
    counts,
    invariants: undefined,
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
    isDue: breath.isDue,
    breathe: breath.breathe,
  }
}

export function refuseWhenOver(signal: AbortSignal, clock: Clock, deadlineMs: number): void {
  if (clock.monotonic() >= deadlineMs) throw new QueryTimeoutError()
  if (signal.aborted) throw new QueryCancelledError()
}
