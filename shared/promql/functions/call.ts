// Calls: finds the function and gives it what it wants: scalars, columns, or a range.
import type { Breath } from '../../base/breathing.ts'
import type { Matcher } from '../../model/matcher.ts'
import {
  ABSENT,
  COLUMN_WORK,
  type Column,
  ColumnList,
  type ColumnSink,
  FLOAT,
  filledOf,
  type Grid,
  isEmpty,
  mergeSameLabels,
  newColumn,
  refuseSameLabels,
} from '../exec/column.ts'
import { ExecutionError } from '../exec/errors.ts'
import { metadataDropper, NO_LABELS, stayDistinct, withLabel, withoutLabels } from '../exec/labels.ts'
import type { Evaluation } from '../exec/query-state.ts'
import { evaluateRangeCall, type KernelFactory, mayMeet, rangeInput } from '../exec/range.ts'
import { evaluateSelector, holdsHistograms } from '../exec/selector.ts'
import type { PlanCall, PlanMatrix, PlanNode, PlanSubquery } from '../plan/plan.ts'
import { DATE_FUNCTIONS, FLOAT_FUNCTIONS } from './elementwise.ts'
import { refuseModifier } from './extended-range.ts'
import { maxOf, minOf } from './go-math.ts'
import { histogramFraction, histogramQuantile, histogramQuantiles, nativeFunction } from './histogram-functions.ts'
import { evaluateInfo } from './info.ts'
import { labelJoin, labelReplace } from './label-functions.ts'
import { OVER_TIME } from './over-time.ts'
import { instantKernel, rateKernel } from './rate.ts'
import { sortByLabel, sortByValue } from './sort.ts'

const RANGE_FUNCTIONS: Readonly<Record<string, KernelFactory>> = {
  ...OVER_TIME,
  rate: rateKernel({ isCounter: true, isRate: true }),
  increase: rateKernel({ isCounter: true, isRate: false }),
  delta: rateKernel({ isCounter: false, isRate: false }),
  irate: instantKernel(true),
  idelta: instantKernel(false),
}

type VectorFunction = (node: PlanCall, grid: Grid, state: Evaluation) => Promise<Column[]>

const VECTOR_FUNCTIONS: Readonly<Record<string, VectorFunction>> = {
  absent,
  clamp: (node, grid, state) => clamp(node, grid, state, 1, 2),
  clamp_min: (node, grid, state) => clamp(node, grid, state, 1, undefined),
  clamp_max: (node, grid, state) => clamp(node, grid, state, undefined, 1),
  round,
  vector,
  timestamp,
  start_timestamp: startTimestamp,
  sort: sortByValue(false),
  sort_desc: sortByValue(true),
  sort_by_label: sortByLabel(false),
  sort_by_label_desc: sortByLabel(true),
  label_replace: labelReplace,
  label_join: labelJoin,
  histogram_quantile: histogramQuantile,
  histogram_quantiles: histogramQuantiles,
  histogram_fraction: histogramFraction,
  info: evaluateInfo,
}

export async function callVector(node: PlanCall, grid: Grid, state: Evaluation): Promise<Column[]> {
  const floatFunction = FLOAT_FUNCTIONS[node.name]
  if (floatFunction !== undefined) return mapFloats(await state.vector(node.args[0]!, grid), floatFunction, state)
  const dateFunction = DATE_FUNCTIONS[node.name]
  if (dateFunction !== undefined) return dates(node, dateFunction, grid, state)
  const kernel = RANGE_FUNCTIONS[node.name]
  if (kernel !== undefined) return callRange(node, kernel, grid, state)
  const native = nativeFunction(node.name)
  if (native !== undefined) return native(node, grid, state)
  const vectorFunction = VECTOR_FUNCTIONS[node.name]
  if (vectorFunction === undefined) throw new ExecutionError(`unknown function with name "${node.name}"`)
  return vectorFunction(node, grid, state)
}

/** One number per step. */
export async function callScalar(node: PlanCall, grid: Grid, state: Evaluation): Promise<Float64Array> {
  const values = new Float64Array(grid.steps)
  switch (node.name) {
    case 'time':
      for (let i = 0; i < values.length; i++) values[i] = (grid.startMs + i * grid.stepMs) / 1000
      return values
    case 'pi':
      return values.fill(Math.PI)
    case 'max_of':
    case 'min_of': {
      const a = await state.scalar(node.args[0]!, grid)
      const b = await state.scalar(node.args[1]!, grid)
      const pick = node.name === 'max_of' ? maxOf : minOf
      for (let i = 0; i < values.length; i++) values[i] = pick(a[i]!, b[i]!)
      return values
    }
    case 'scalar':
      return onlyValue(await state.vector(node.args[0]!, grid), values, state)
    default:
      throw new ExecutionError(`unknown function with name "${node.name}"`)
  }
}

/** The value of the only float at each step, NaN where there is none or more than one. */
async function onlyValue(columns: readonly Column[], values: Float64Array, breath: Breath): Promise<Float64Array> {
  const counts = new Uint8Array(values.length)
  for (const column of columns) {
    for (let i = 0; i < values.length; i++) {
      if (column.kinds[i] !== FLOAT) continue
      if (counts[i] === 0) values[i] = column.values[i]!
      if (counts[i]! < 2) counts[i]!++
    }
    if (breath.isDue(COLUMN_WORK + 2 * values.length)) await breath.breathe()
  }
  for (let i = 0; i < values.length; i++) if (counts[i] !== 1) values[i] = Number.NaN
  return values
}

async function dropNames(columns: Column[], state: Evaluation): Promise<Column[]> {
  const cannotMeet = await stayDistinct(columns, state)
  const dropName = metadataDropper()
  for (const column of columns) {
    column.dropsName = true
    if (!state.delaysNameRemoval) column.labels = dropName(column.labels)
    if (state.isDue(COLUMN_WORK)) await state.breathe()
  }
  return state.delaysNameRemoval || cannotMeet ? columns : mergeSameLabels(columns, state)
}

/** Of the slowest of the functions of one float. */
const MAP_WORK = 40

async function mapFloats(columns: Column[], compute: (value: number) => number, state: Evaluation): Promise<Column[]> {
  for (const { values, kinds } of columns) {
    for (let i = 0; i < values.length; i++) {
      if (kinds[i] === FLOAT) values[i] = compute(values[i]!)
      else kinds[i] = ABSENT
    }
    if (state.isDue(COLUMN_WORK + MAP_WORK * values.length)) await state.breathe()
  }
  return dropNames(await withoutHistograms(columns, state), state)
}

async function withoutHistograms(columns: Column[], breath: Breath): Promise<Column[]> {
  const kept: Column[] = []
  for (const column of columns) {
    if (column.histograms === undefined || !isEmpty(column)) kept.push(column)
    if (breath.isDue(column.histograms === undefined ? 2 : column.kinds.length)) await breath.breathe()
  }
  return kept
}

async function callRange(node: PlanCall, kernel: KernelFactory, grid: Grid, state: Evaluation): Promise<Column[]> {
  const { range, input, args, heldByInput } = await rangeOperands(node, grid, state)
  const list = new ColumnList(state.memory)
  await evaluateRangeCall(node, input, args, kernel, grid, state, list)
  state.release(heldByInput)
  if (node.name === 'absent_over_time') return absentOverTime(list.columns, range, grid, state)
  if (await mayMeet(input, state)) await refuseSameLabels(list.columns, state)
  return list.columns
}

/** Shows the columns of a call one after the other. False when they must stand side by side: then nothing was shown. */
export async function streamCall(node: PlanCall, grid: Grid, state: Evaluation, sink: ColumnSink): Promise<boolean> {
  const kernel = RANGE_FUNCTIONS[node.name]
  const over = node.args.find((arg) => arg.kind === 'matrix')
  if (kernel === undefined || over === undefined || node.name === 'absent_over_time') return false
  if (await holdsHistograms(over.selector, state)) return false
  const { input, args, heldByInput } = await rangeOperands(node, grid, state)
  if (await mayMeet(input, state)) return false
  await evaluateRangeCall(node, input, args, kernel, grid, state, sink)
  state.release(heldByInput)
  return true
}

async function rangeOperands(node: PlanCall, grid: Grid, state: Evaluation) {
  const isRange = (arg: PlanNode): arg is PlanMatrix | PlanSubquery => arg.kind === 'matrix' || arg.kind === 'subquery'
  const range = node.args.find(isRange)
  if (range === undefined) throw new ExecutionError(`${node.name} wants a range vector`)
  const args: Float64Array[] = []
  for (const arg of node.args) if (arg !== range) args.push(await state.scalar(arg, grid))
  if (range.kind === 'matrix') refuseModifier(node.name, range.selector.modifier)
  const heldBefore = state.held()
  const input = await rangeInput(range, grid, state)
  return { range, input, args, heldByInput: state.held() - heldBefore }
}

async function absentOverTime(
  columns: readonly Column[],
  range: PlanNode,
  grid: Grid,
  breath: Breath,
): Promise<Column[]> {
  const column = await whereAbsent(columns, absentLabels(range), grid, breath)
  column.dropsName = true
  return isEmpty(column) ? [] : [column]
}

async function whereAbsent(
  columns: readonly Column[],
  labels: readonly string[],
  grid: Grid,
  breath: Breath,
): Promise<Column> {
  const column = newColumn(labels, grid.steps)
  column.kinds.fill(FLOAT)
  column.values.fill(1)
  for (const { kinds } of columns) {
    for (let i = 0; i < grid.steps; i++) if (kinds[i] !== ABSENT) column.kinds[i] = ABSENT
    if (breath.isDue(COLUMN_WORK + grid.steps)) await breath.breathe()
  }
  return column
}

async function absent(node: PlanCall, grid: Grid, state: Evaluation): Promise<Column[]> {
  const columns = await state.vector(node.args[0]!, grid)
  const column = await whereAbsent(columns, absentLabels(node.args[0]!), grid, state)
  return isEmpty(column) ? [] : [column]
}

/** The labels that a selector pins with exactly one equality. */
function absentLabels(node: PlanNode): readonly string[] {
  const matchers: readonly Matcher[] | undefined =
    node.kind === 'selector' ? node.matchers : node.kind === 'matrix' ? node.selector.matchers : undefined
  let labels = NO_LABELS
  const seen = new Set<string>()
  for (const { name, operator, value } of matchers ?? []) {
    if (name === '__name__') continue
    if (operator === '=' && !seen.has(name)) labels = withLabel(labels, name, value)
    else labels = withoutLabels(labels, new Set([name])) // for good: what is pinned again later does not come back
    seen.add(name)
  }
  return labels
}

/** Between the arguments numbered `minAt` and `maxAt`; undefined: no bound. Where the bounds cross, nothing. */
async function clamp(
  node: PlanCall,
  grid: Grid,
  state: Evaluation,
  minAt: number | undefined,
  maxAt: number | undefined,
): Promise<Column[]> {
  const columns = await state.vector(node.args[0]!, grid)
  const open = (bound: number) => new Float64Array(grid.steps).fill(bound)
  const mins = minAt === undefined ? open(-Infinity) : await state.scalar(node.args[minAt]!, grid)
  const maxes = maxAt === undefined ? open(Infinity) : await state.scalar(node.args[maxAt]!, grid)
  for (const { values, kinds } of columns) {
    for (let i = 0; i < values.length; i++) {
      if (kinds[i] !== FLOAT || maxes[i]! < mins[i]!) kinds[i] = ABSENT
      else values[i] = maxOf(mins[i]!, minOf(maxes[i]!, values[i]!))
    }
    if (state.isDue(COLUMN_WORK + MAP_WORK * values.length)) await state.breathe()
  }
  return dropNames(await filledOf(columns, state), state)
}

async function round(node: PlanCall, grid: Grid, state: Evaluation): Promise<Column[]> {
  const columns = await state.vector(node.args[0]!, grid)
  const nearest = node.args[1] === undefined ? undefined : await state.scalar(node.args[1], grid)
  for (const { values, kinds } of columns) {
    for (let i = 0; i < values.length; i++) {
      if (kinds[i] !== FLOAT) {
        kinds[i] = ABSENT
        continue
      }
      const inverse = 1 / (nearest === undefined ? 1 : nearest[i]!)
      values[i] = Math.floor(values[i]! * inverse + 0.5) / inverse
    }
    if (state.isDue(COLUMN_WORK + MAP_WORK * values.length)) await state.breathe()
  }
  return dropNames(await withoutHistograms(columns, state), state)
}

async function vector(node: PlanCall, grid: Grid, state: Evaluation): Promise<Column[]> {
  const column = newColumn(NO_LABELS, grid.steps)
  column.values = await state.scalar(node.args[0]!, grid)
  column.kinds.fill(FLOAT)
  return [column]
}

/** Of a selector: when its samples were taken. Of anything else: when it was evaluated. */
async function timestamp(node: PlanCall, grid: Grid, state: Evaluation): Promise<Column[]> {
  const arg = node.args[0]!
  const selector = arg.kind === 'invariant' && arg.expr.kind === 'selector' ? arg.expr : arg
  if (selector.kind === 'selector') return dropNames(await evaluateSelector(selector, grid, state, 'seconds'), state)
  const columns = await state.vector(arg, grid)
  for (const column of columns) {
    for (let i = 0; i < grid.steps; i++) {
      if (column.kinds[i] === ABSENT) continue
      column.kinds[i] = FLOAT
      column.values[i] = (grid.startMs + i * grid.stepMs) / 1000
    }
    column.histograms = undefined
    if (state.isDue(COLUMN_WORK + 3 * grid.steps)) await state.breathe()
  }
  return dropNames(columns, state)
}

/** When the sample's count began; only of a selector, and only where start timestamps are asked for. */
async function startTimestamp(node: PlanCall, grid: Grid, state: Evaluation): Promise<Column[]> {
  const arg = node.args[0]!
  const selector = arg.kind === 'invariant' ? arg.expr : arg
  if (selector.kind !== 'selector' || !state.usesStartTimestamps) {
    await state.vector(arg, grid)
    return []
  }
  return dropNames(await evaluateSelector(selector, grid, state, 'start-seconds'), state)
}

/** Without an argument: of the evaluation time. */
async function dates(
  node: PlanCall,
  compute: (seconds: number) => number,
  grid: Grid,
  state: Evaluation,
): Promise<Column[]> {
  if (node.args.length > 0) return mapFloats(await state.vector(node.args[0]!, grid), compute, state)
  const column = newColumn(NO_LABELS, grid.steps)
  for (let i = 0; i < grid.steps; i++) column.values[i] = compute((grid.startMs + i * grid.stepMs) / 1000)
  column.kinds.fill(FLOAT)
  return [column]
}
