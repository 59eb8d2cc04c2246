// The syntax tree of PromQL: what the parser makes, the printer prints and the planner reads. Plain data.
import type { Matcher } from '../model/matcher.ts'

export type ValueType = 'scalar' | 'vector' | 'matrix' | 'string'

/** Byte offsets into the query text: `start` inclusive, `end` exclusive. */
export interface Position {
  readonly start: number
  readonly end: number
}

/** `offset`, `@` and ranges hold milliseconds, or an expression of durations (a scalar, in seconds) still to be computed. */
export type DurationValue = number | Expr

export type AtModifier =
  | { readonly kind: 'time'; readonly timeMs: number }
  | { readonly kind: 'start' }
  | { readonly kind: 'end' }

export type RangeModifier = 'anchored' | 'smoothed'

export interface NumberLiteral {
  readonly kind: 'number'
  readonly value: number
  /** True when it was written as a duration (`5m` as a number of seconds): the printer prints it so. */
  readonly isDuration: boolean
  readonly position: Position
}

export interface StringLiteral {
  readonly kind: 'string'
  /** A byte that is not UTF-8 (`"\xff"`) stands as the lone surrogate U+DC00 + byte. */
  readonly value: string
  readonly position: Position
}

export interface VectorSelector {
  readonly kind: 'selector'
  /** The metric name written before the braces, or ''. It also stands in `matchers`. */
  readonly name: string
  readonly matchers: readonly Matcher[]
  readonly offset: DurationValue
  readonly at: AtModifier | undefined
  readonly modifier: RangeModifier | undefined
  readonly position: Position
}

export interface MatrixSelector {
  readonly kind: 'matrix'
  readonly selector: VectorSelector
  readonly range: DurationValue
  readonly position: Position
}

export interface Subquery {
  readonly kind: 'subquery'
  readonly expr: Expr
  readonly range: DurationValue
  /** undefined: the default evaluation interval. */
  readonly step: DurationValue | undefined
  readonly offset: DurationValue
  readonly at: AtModifier | undefined
  readonly position: Position
}

export interface Call {
  readonly kind: 'call'
  /** The function's name as in Prometheus, e.g. `rate`. */
  readonly name: string
  readonly args: readonly Expr[]
  readonly position: Position
}

export interface Aggregation {
  readonly kind: 'aggregation'
  /** `sum`, `topk`, … */
  readonly op: string
  readonly expr: Expr
  readonly param: Expr | undefined
  readonly grouping: readonly string[]
  readonly isWithout: boolean
  readonly position: Position
}

export interface Unary {
  readonly kind: 'unary'
  readonly op: '+' | '-'
  readonly expr: Expr
  readonly position: Position
}

export interface Paren {
  readonly kind: 'paren'
  readonly expr: Expr
  readonly position: Position
}

export type Cardinality = 'one-to-one' | 'many-to-one' | 'one-to-many' | 'many-to-many'

export interface VectorMatching {
  readonly cardinality: Cardinality
  readonly labels: readonly string[]
  /** True: `on (labels)`; false: `ignoring (labels)`, also when nothing was written. */
  readonly isOn: boolean
  /** Labels carried over from the "one" side. */
  readonly include: readonly string[]
  /** `fill`, `fill_left`, `fill_right` values, where written. */
  readonly fillLeft: number | undefined
  readonly fillRight: number | undefined
}

export interface Binary {
  readonly kind: 'binary'
  /** + - * / % ^ atan2 == != > < >= <= and or unless, and the trim operators `</` `>/` */
  readonly op: string
  readonly left: Expr
  readonly right: Expr
  readonly returnBool: boolean
  /** Present when both sides are vectors. */
  readonly matching: VectorMatching | undefined
  readonly position: Position
}

/** step(), range() and arithmetic inside a duration: only ever found inside a DurationValue. */
export interface DurationCall {
  readonly kind: 'duration'
  readonly op: 'step' | 'range' | 'min' | 'max' | '+' | '-' | '*' | '/' | '%' | '^'
  /** None for step and range, one for a sign, otherwise two. */
  readonly args: readonly Expr[]
  /** True when it was written in parentheses: the printer prints them. */
  readonly isWrapped?: boolean
  readonly position: Position
}

export type Expr =
  | NumberLiteral
  | StringLiteral
  | VectorSelector
  | MatrixSelector
  | Subquery
  | Call
  | Aggregation
  | Unary
  | Paren
  | Binary
  | DurationCall
