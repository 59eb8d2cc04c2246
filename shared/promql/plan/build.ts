// From the syntax tree to the plan, in one walk per pass:
//
//   fold      start(), end(), range() and step() become numbers
//   resolve   offsets, @, ranges and steps become milliseconds; parentheses go
//   mark      the largest parts that are the same at every step are wrapped, to be computed once
//   select    each selector gets the exact times it can look at; equal questions become one
import type { Expr, MatrixSelector, Subquery, ValueType, VectorSelector } from '../ast.ts'
import { ExecutionError } from '../exec/errors.ts'
import type { WindowsWanted } from '../source.ts'
import { durationMs } from './durations.ts'
import type {
  Plan,
  PlanAggregation,
  PlanCall,
  PlanMatrix,
  PlanNode,
  PlannedSelect,
  PlanSelector,
  PlanSubquery,
  PlanTimes,
} from './plan.ts'
import { nameless, projectedNames, serveBoth, type Wanted, wantedBy, wantedThrough } from './project.ts'

const SCALAR_FUNCTIONS = new Set(['time', 'pi', 'scalar', 'max_of', 'min_of'])

/** Functions whose result moves with the evaluation time even when their arguments stand still. */
const MOVING_FUNCTIONS = new Set([
  'days_in_month',
  'day_of_month',
  'day_of_week',
  'day_of_year',
  'hour',
  'minute',
  'month',
  'year',
  'predict_linear',
  'time',
  'timestamp',
])

export function buildPlan(expr: Expr, times: PlanTimes): Plan {
  const startMs = times.stepMs === 0 ? times.endMs : times.startMs
  const query: PlanTimes = { ...times, startMs }
  const marked = mark(resolve(fold(expr, query), query))
  const root = marked.shouldWrap ? wrap(marked.node) : marked.node
  const selects: Selects = { list: [], known: new Map() }
  const around: Surroundings = {
    span: times.part ?? { startMs, endMs: times.endMs },
    readsTotals: false,
    needsBuckets: false,
    isOrdered: true,
    wanted: undefined,
    stepMs: times.stepMs,
    call: '',
  }
  return { root: planSelects(root, around, query, selects), selects: selects.list }
}

// fold

function fold(expr: Expr, times: PlanTimes): Expr {
  switch (expr.kind) {
    case 'call': {
      const value = expr.args.length === 0 ? contextValue(expr.name, times) : undefined
      if (value !== undefined) return { kind: 'number', value, isDuration: false, position: expr.position }
      return { ...expr, args: expr.args.map((arg) => fold(arg, times)) }
    }
    case 'binary':
      return { ...expr, left: fold(expr.left, times), right: fold(expr.right, times) }
    case 'aggregation':
      return { ...expr, expr: fold(expr.expr, times), param: expr.param && fold(expr.param, times) }
    case 'unary':
    case 'paren':
    case 'subquery':
      return { ...expr, expr: fold(expr.expr, times) }
    default:
      return expr
  }
}

function contextValue(name: string, { startMs, endMs, stepMs }: PlanTimes): number | undefined {
  if (name === 'start') return startMs / 1000
  if (name === 'end') return endMs / 1000
  if (name === 'range') return (endMs - startMs) / 1000
  if (name === 'step') return startMs === endMs ? 0 : stepMs / 1000
  return undefined
}

// resolve

function resolve(expr: Expr, times: PlanTimes): PlanNode {
  const { position } = expr
  switch (expr.kind) {
    case 'number':
      return { kind: 'number', type: 'scalar', value: expr.value, position }
    case 'string':
      return { kind: 'string', type: 'string', value: expr.value, position }
    case 'paren':
      return resolve(expr.expr, times)
    case 'unary': {
      const inner = resolve(expr.expr, times)
      return { kind: 'unary', type: inner.type, isNegation: expr.op === '-', expr: inner, position }
    }
    case 'selector':
      return resolveSelector(expr, times)
    case 'matrix':
      return resolveMatrix(expr, times)
    case 'subquery':
      return resolveSubquery(expr, times)
    case 'call': {
      const args = expr.args.map((arg) => resolve(arg, times))
      const type: ValueType = SCALAR_FUNCTIONS.has(expr.name) ? 'scalar' : 'vector'
      return { kind: 'call', type, name: expr.name, args, position }
    }
    case 'aggregation': {
      const { op, grouping, isWithout } = expr
      const param = expr.param && resolve(expr.param, times)
      return {
        kind: 'aggregation',
        type: 'vector',
        op,
        expr: resolve(expr.expr, times),
        param,
        grouping,
        isWithout,
        position,
      }
    }
    case 'binary': {
      const left = resolve(expr.left, times)
      const right = resolve(expr.right, times)
      const type: ValueType = left.type === 'scalar' && right.type === 'scalar' ? 'scalar' : 'vector'
      const { op, returnBool, matching } = expr
      return { kind: 'binary', type, op, left, right, returnBool, matching, position }
    }
    case 'duration':
      throw new ExecutionError('a duration expression stands where a value is wanted')
  }
}

function resolveAt(at: VectorSelector['at'], times: PlanTimes): number | undefined {
  if (at === undefined) return undefined
  if (at.kind === 'time') return at.timeMs
  return at.kind === 'start' ? times.startMs : times.endMs
}

function resolveSelector(selector: VectorSelector, times: PlanTimes): PlanSelector {
  return {
    kind: 'selector',
    type: 'vector',
    matchers: selector.matchers,
    offsetMs: durationMs(selector.offset, times, true),
    atMs: resolveAt(selector.at, times),
    modifier: selector.modifier,
    readsTotals: false,
    select: -1, // set, like readsTotals, by planSelects
    position: selector.position,
  }
}

function resolveMatrix(matrix: MatrixSelector, times: PlanTimes): PlanMatrix {
  const selector = resolveSelector(matrix.selector, times)
  const rangeMs = durationMs(matrix.range, times, false)
  return { kind: 'matrix', type: 'matrix', selector, rangeMs, position: matrix.position }
}

function resolveSubquery(subquery: Subquery, times: PlanTimes): PlanSubquery {
  const step = subquery.step === undefined ? 0 : durationMs(subquery.step, times, false)
  return {
    kind: 'subquery',
    type: 'matrix',
    expr: resolve(subquery.expr, times),
    rangeMs: durationMs(subquery.range, times, false),
    stepMs: step === 0 ? times.defaultStepMs : step,
    offsetMs: durationMs(subquery.offset, times, true),
    atMs: resolveAt(subquery.at, times),
    position: subquery.position,
  }
}

// mark

interface Marked {
  readonly node: PlanNode
  readonly isInvariant: boolean
  /** False for what is never worth wrapping alone: literals, and ranges, which their function reads itself. */
  readonly shouldWrap: boolean
}

function wrap(expr: PlanNode): PlanNode {
  return { kind: 'invariant', type: expr.type, expr, position: expr.position }
}

function mark(node: PlanNode): Marked {
  switch (node.kind) {
    case 'number':
    case 'string':
      return { node, isInvariant: true, shouldWrap: false }
    case 'selector':
      return { node, isInvariant: node.atMs !== undefined, shouldWrap: node.atMs !== undefined }
    case 'matrix':
      return { node, isInvariant: node.selector.atMs !== undefined, shouldWrap: false }
    case 'subquery': {
      const inner = mark(node.expr)
      const expr = inner.isInvariant ? wrap(inner.node) : inner.node
      return { node: { ...node, expr }, isInvariant: node.atMs !== undefined, shouldWrap: false }
    }
    case 'unary': {
      const inner = mark(node.expr)
      return { ...inner, node: { ...node, expr: inner.node } }
    }
    case 'aggregation':
      return markAggregation(node)
    case 'binary': {
      const left = mark(node.left)
      const right = mark(node.right)
      if (left.isInvariant && right.isInvariant) {
        return { node: { ...node, left: left.node, right: right.node }, isInvariant: true, shouldWrap: true }
      }
      return { node: { ...node, left: settle(left), right: settle(right) }, isInvariant: false, shouldWrap: false }
    }
    case 'call':
      return markCall(node)
    case 'invariant':
      return { node, isInvariant: true, shouldWrap: false }
  }
}

function settle(marked: Marked): PlanNode {
  return marked.shouldWrap ? wrap(marked.node) : marked.node
}

/** As in Prometheus, the parameter has no say in whether an aggregation moves. */
function markAggregation(node: PlanAggregation): Marked {
  const inner = mark(node.expr)
  return { ...inner, node: { ...node, expr: inner.node } }
}

function markCall(node: PlanCall): Marked {
  const args = node.args.map(mark)
  const areInvariant = args.every((arg) => arg.isInvariant)
  const isFixedTimestamp = node.name === 'timestamp' && node.args.every((arg) => arg.kind === 'selector')
  if (areInvariant && (!MOVING_FUNCTIONS.has(node.name) || isFixedTimestamp)) {
    return { node: { ...node, args: args.map((arg) => arg.node) }, isInvariant: true, shouldWrap: true }
  }
  return { node: { ...node, args: args.map(settle) }, isInvariant: false, shouldWrap: false }
}

// select

interface Span {
  readonly startMs: number
  readonly endMs: number
}

/** The first multiple of the step after the start of the range. */
export function subqueryStartMs(node: PlanSubquery, startMs: number): number {
  const from = (node.atMs ?? startMs) - node.offsetMs - node.rangeMs
  return Math.floor(from / node.stepMs) * node.stepMs + node.stepMs
}

/** What stands around a selector. */
interface Surroundings {
  readonly span: Span
  /** Some function around reads only counts and sums of native histograms. */
  readonly readsTotals: boolean
  /** Something around needs the buckets. */
  readonly needsBuckets: boolean
  /** The order of the series shows. */
  readonly isOrdered: boolean
  /** The labels that the nearest aggregation looks at, where nothing between looks at others. */
  readonly wanted: Wanted | undefined
  /** From one look to the next; 0: there is one. */
  readonly stepMs: number
  /** The function that a range is an argument of. */
  readonly call: string
}

/** Aggregations that give the same in whatever order the series come. */
const ORDERLESS = new Set(['count', 'group', 'min', 'max', 'quantile', 'count_values'])

const READ_TOTALS = new Set(['histogram_count', 'histogram_sum', 'histogram_avg'])
const NEED_BUCKETS = new Set(['histogram_quantile', 'histogram_quantiles', 'histogram_fraction'])

/** The selects collected so far, and where each question stands in the list. */
interface Selects {
  readonly list: PlannedSelect[]
  readonly known: Map<string, number>
}

function planSelects(node: PlanNode, around: Surroundings, times: PlanTimes, selects: Selects): PlanNode {
  const { span } = around
  const visit = (child: PlanNode, change: Partial<Surroundings> = {}) =>
    planSelects(child, { ...around, ...change }, times, selects)
  switch (node.kind) {
    case 'number':
    case 'string':
      return node
    case 'selector':
      return withSelect(node, 0, around, times, selects)
    case 'matrix':
      return { ...node, selector: withSelect(node.selector, node.rangeMs, around, times, selects) }
    case 'subquery': {
      const inner = { startMs: subqueryStartMs(node, span.startMs), endMs: (node.atMs ?? span.endMs) - node.offsetMs }
      // Columns of one stretch are told from those of another by their labels alone.
      const isLong = (inner.endMs - inner.startMs) / node.stepMs >= (times.stretchSteps ?? Number.POSITIVE_INFINITY)
      const wanted = isLong ? undefined : around.wanted
      return { ...node, expr: visit(node.expr, { span: inner, needsBuckets: true, stepMs: node.stepMs, wanted }) }
    }
    case 'invariant':
      return { ...node, expr: visit(node.expr, { span: { startMs: span.startMs, endMs: span.startMs } }) }
    case 'unary':
      return { ...node, expr: visit(node.expr, { wanted: nameless(around.wanted) }) }
    case 'aggregation': {
      const wanted = times.projects ? wantedBy(node) : undefined
      const expr = visit(node.expr, { isOrdered: !ORDERLESS.has(node.op), wanted })
      return { ...node, expr, param: node.param && visit(node.param, { isOrdered: true, wanted: undefined }) }
    }
    case 'binary': {
      const change = {
        needsBuckets: around.needsBuckets || node.op === '</' || node.op === '>/',
        wanted: wantedThrough(node, around.wanted),
      }
      return { ...node, left: visit(node.left, change), right: visit(node.right, change) }
    }
    case 'call': {
      const change = {
        readsTotals: around.readsTotals || READ_TOTALS.has(node.name),
        needsBuckets: around.needsBuckets || NEED_BUCKETS.has(node.name),
        wanted: wantedThrough(node, around.wanted),
        call: node.name,
      }
      // The second argument of info() names labels; it is not evaluated.
      const evaluated = node.name === 'info' ? 1 : node.args.length
      return { ...node, args: node.args.map((arg, i) => (i < evaluated ? visit(arg, change) : arg)) }
    }
  }
}

function withSelect(
  selector: PlanSelector,
  rangeMs: number,
  { span, readsTotals, needsBuckets, isOrdered, wanted, stepMs, call }: Surroundings,
  times: PlanTimes,
  selects: Selects,
): PlanSelector {
  const findsResets = readsTotals && !needsBuckets
  const isExtended = selector.modifier !== undefined
  const backMs = rangeMs === 0 ? times.lookbackMs : isExtended ? rangeMs + times.lookbackMs : rangeMs
  const aheadMs = selector.modifier === 'smoothed' ? times.lookbackMs : 0
  const firstMs = (selector.atMs ?? span.startMs) - selector.offsetMs
  const lastMs = (selector.atMs ?? span.endMs) - selector.offsetMs
  const isOneLook = rangeMs === 0 && firstMs === lastMs && !isExtended && !findsResets
  const names = isExtended ? undefined : projectedNames(selector, wanted)
  const looks = { rangeMs, stepMs: firstMs === lastMs ? 0 : stepMs, call: isExtended ? '' : call }
  const windows = windowsWanted(looks, times)
  const hints = {
    startMs: firstMs - backMs + 1,
    endMs: lastMs + aheadMs,
    mode: isOneLook ? 'last' : 'all',
    ...(names !== undefined && { projection: { names, isOrdered } }),
    ...(windows !== undefined && { windows }),
  } as const
  const forbidsMetadata = names !== undefined && wanted!.losesName
  return {
    ...selector,
    readsTotals: findsResets,
    select: numberOf({ matchers: selector.matchers, hints, isOrdered, forbidsMetadata }, selects),
  }
}

/** What the functions that windows can serve make of them. */
const WINDOW_USES: Readonly<Record<string, WindowsWanted['use']>> = {
  count_over_time: 'count',
  present_over_time: 'count',
  absent_over_time: 'count',
  sum_over_time: 'sum',
  min_over_time: 'min',
  max_over_time: 'max',
  avg_over_time: 'avg',
  last_over_time: 'last',
  rate: 'counter',
  increase: 'counter',
}

function windowsWanted(
  { rangeMs, stepMs, call }: { rangeMs: number; stepMs: number; call: string },
  { windowFor }: PlanTimes,
): WindowsWanted | undefined {
  if (windowFor === undefined) return undefined
  const use = rangeMs === 0 ? 'last' : WINDOW_USES[call]
  if (use === undefined) return { use: 'last', lengthMs: 0 }
  return { use, lengthMs: windowFor(rangeMs === 0 ? { stepMs } : { stepMs, rangeMs }) }
}

function numberOf(select: PlannedSelect, { list, known }: Selects): number {
  const { startMs, endMs, mode, windows } = select.hints
  const key = JSON.stringify([startMs, endMs, mode, windows, select.matchers])
  const same = known.get(key)
  if (same !== undefined) {
    list[same] = serveBoth(list[same]!, select)
    return same
  }
  known.set(key, list.length)
  return list.push(select) - 1
}
