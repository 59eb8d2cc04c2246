// What is evaluated: the syntax tree with every time resolved, parentheses gone and constant parts marked. Plain data.

import type { Matcher } from '../../model/matcher.ts'
import type { Position, RangeModifier, ValueType, VectorMatching } from '../ast.ts'
import type { SelectHints, SeriesSource } from '../source.ts'

interface Node {
  readonly type: ValueType
  readonly position: Position
}

export interface PlanNumber extends Node {
  readonly kind: 'number'
  readonly value: number
}

export interface PlanString extends Node {
  readonly kind: 'string'
  readonly value: string
}

/** Looks at `atMs ?? step` minus `offsetMs`. */
export interface PlanSelector extends Node {
  readonly kind: 'selector'
  readonly matchers: readonly Matcher[]
  readonly offsetMs: number
  readonly atMs: number | undefined
  readonly modifier: RangeModifier | undefined
  /** Only counts and sums of native histograms are asked for: resets are looked for sample by sample, as Prometheus does there. */
  readonly readsTotals: boolean
  /** Which of the plan's selects brings the samples. */
  readonly select: number
}

export interface PlanMatrix extends Node {
  readonly kind: 'matrix'
  readonly selector: PlanSelector
  readonly rangeMs: number
}

export interface PlanSubquery extends Node {
  readonly kind: 'subquery'
  readonly expr: PlanNode
  readonly rangeMs: number
  readonly stepMs: number
  readonly offsetMs: number
  readonly atMs: number | undefined
}

export interface PlanCall extends Node {
  readonly kind: 'call'
  readonly name: string
  readonly args: readonly PlanNode[]
}

export interface PlanAggregation extends Node {
  readonly kind: 'aggregation'
  readonly op: string
  readonly expr: PlanNode
  readonly param: PlanNode | undefined
  readonly grouping: readonly string[]
  readonly isWithout: boolean
}

export interface PlanUnary extends Node {
  readonly kind: 'unary'
  readonly isNegation: boolean
  readonly expr: PlanNode
}

export interface PlanBinary extends Node {
  readonly kind: 'binary'
  readonly op: string
  readonly left: PlanNode
  readonly right: PlanNode
  readonly returnBool: boolean
  readonly matching: VectorMatching | undefined
}

/** The same at every step: evaluated once, at the first. */
export interface PlanInvariant extends Node {
  readonly kind: 'invariant'
  readonly expr: PlanNode
}

export type PlanNode =
  | PlanNumber
  | PlanString
  | PlanSelector
  | PlanMatrix
  | PlanSubquery
  | PlanCall
  | PlanAggregation
  | PlanUnary
  | PlanBinary
  | PlanInvariant

/** One question to the source. Selectors that ask the same share it. */
export interface PlannedSelect {
  readonly matchers: readonly Matcher[]
  readonly hints: SelectHints
  /** The order of the series shows in the answer, be it in the last bits of a sum. */
  readonly isOrdered: boolean
  /** The projection stands only while no series has a type or a unit among its labels: dropped like the name, they could leave series
   *  alike that only their full labels tell apart. */
  readonly forbidsMetadata: boolean
}

export interface Plan {
  readonly root: PlanNode
  readonly selects: readonly PlannedSelect[]
}

/** The moments a query is asked for, and the engine's settings that bear on times. */
export interface PlanTimes {
  readonly startMs: number
  readonly endMs: number
  /** 0: an instant query at endMs. */
  readonly stepMs: number
  /** The steps that are evaluated; all of them when absent. */
  readonly part?: { readonly startMs: number; readonly endMs: number }
  readonly lookbackMs: number
  readonly defaultStepMs: number
  /** Subqueries of more steps are evaluated so many at a time: their series must show all labels. Absent: they never are. */
  readonly stretchSteps?: number
  /** Whether the source is asked for no more labels than matter. */
  readonly projects: boolean
  /** Of a source with windows. */
  readonly windowFor?: SeriesSource['windowFor']
}
