// Evaluates a plan: one function per kind of node, each giving the columns (or the numbers) of all steps at once.

import { labelsKey } from '../../model/labels.ts'
import { callScalar, callVector, streamCall } from '../functions/call.ts'
import { scale } from '../functions/histogram-math.ts'
import { histogramListBytes } from '../memory.ts'
import { subqueryStartMs } from '../plan/build.ts'
import type { PlanInvariant, PlanNode, PlanSubquery, PlanUnary } from '../plan/plan.ts'
import { evaluateAggregation } from './aggregate.ts'
import { scalarOperation } from './arithmetic.ts'
import { evaluateBinary } from './binary.ts'
import {
  broadcast,
  bytesOfColumns,
  COLUMN_WORK,
  type Column,
  ColumnStream,
  chargedColumn,
  type Grid,
  gridOf,
  HISTOGRAM,
  HISTOGRAM_WORK,
  mergeSameLabels,
  setHistogram,
} from './column.ts'
import { ExecutionError, TooManySamplesError } from './errors.ts'
import { metadataDropper, sortedByLabels, stayDistinct } from './labels.ts'
import type { EvaluatedSubquery, Evaluation, Invariant, QueryState } from './query-state.ts'
import { SampleCounts } from './sample-counts.ts'
import { evaluateSelector, holdsHistograms, lookUp, samplesOf } from './selector.ts'
import { evaluateSmoothed } from './smoothed.ts'

/** Ties the operators to the evaluator that they call for their operands. */
export function newEvaluation(state: QueryState): Evaluation {
  const evaluation: Evaluation = {
    ...state,
    vector: (node, grid) => evaluateVector(node, grid, evaluation),
    stream: (node, grid, visit) => streamVector(node, grid, evaluation, visit),
    scalar: (node, grid) => evaluateScalar(node, grid, evaluation),
    subquery: (node, grid) => evaluateSubquery(node, grid, evaluation),
  }
  return evaluation
}

/** Of the memory that was taken meanwhile only the columns are still held afterwards. */
async function evaluateVector(node: PlanNode, grid: Grid, state: Evaluation): Promise<Column[]> {
  await state.breathe()
  if (grid.steps === 0) return []
  const { memory } = state
  const heldBefore = memory.bytes
  const columns = await columnsOf(node, grid, state)
  memory.settle(heldBefore + (await bytesOfColumns(columns, state)))
  return columns
}

function columnsOf(node: PlanNode, grid: Grid, state: Evaluation): Promise<Column[]> {
  switch (node.kind) {
    case 'selector':
      if (node.modifier === 'smoothed') return evaluateSmoothed(node, grid, state)
      return evaluateSelector(node, grid, state)
    case 'call':
      return callVector(node, grid, state)
    case 'aggregation':
      return evaluateAggregation(node, grid, state)
    case 'binary':
      return evaluateBinary(node, grid, state)
    case 'unary':
      return evaluateUnary(node, grid, state)
    case 'invariant':
      return evaluateInvariant(node, grid, state)
    default:
      throw new ExecutionError(`a ${node.kind} stands where an instant vector is wanted`)
  }
}

async function streamVector(
  node: PlanNode,
  grid: Grid,
  state: Evaluation,
  visit: (column: Column) => void,
): Promise<boolean> {
  await state.breathe()
  if (grid.steps === 0) return true
  if (node.kind === 'call') return streamCall(node, grid, state, new ColumnStream(grid.steps, visit))
  if (node.kind !== 'selector' || node.modifier === 'smoothed' || (await holdsHistograms(node, state))) return false
  await lookUp(
    await samplesOf(node, state),
    { ...node, take: 'value' },
    grid,
    state,
    new ColumnStream(grid.steps, visit),
  )
  return true
}

/** One number per step. */
async function evaluateScalar(node: PlanNode, grid: Grid, state: Evaluation): Promise<Float64Array> {
  await state.breathe()
  switch (node.kind) {
    case 'number':
      return new Float64Array(grid.steps).fill(node.value)
    case 'call':
      return callScalar(node, grid, state)
    case 'unary': {
      const values = await evaluateScalar(node.expr, grid, state)
      if (node.isNegation) for (let i = 0; i < values.length; i++) values[i] = -values[i]!
      return values
    }
    case 'binary': {
      const left = await evaluateScalar(node.left, grid, state)
      const right = await evaluateScalar(node.right, grid, state)
      const operate = scalarOperation(node.op)
      for (let i = 0; i < left.length; i++) left[i] = operate(left[i]!, right[i]!)
      return left
    }
    case 'invariant': {
      const [value] = await once(grid, state, (first, inner) => evaluateScalar(node.expr, first, inner))
      return new Float64Array(grid.steps).fill(value!)
    }
    default:
      throw new ExecutionError(`a ${node.kind} stands where a scalar is wanted`)
  }
}

function firstStep(grid: Grid): Grid {
  return { startMs: grid.startMs, endMs: grid.startMs, stepMs: grid.stepMs, steps: 1 }
}

/** What was the same at every step of the stretches before is the same at these. */
async function invariantColumns(node: PlanInvariant, grid: Grid, state: Evaluation): Promise<readonly Column[]> {
  const known = state.invariants?.get(node)
  if (known !== undefined) {
    if (known.counts !== undefined) state.counts?.addInvariant(known.counts)
    return known.columns
  }
  let counts: SampleCounts | undefined
  const columns = await once(grid, state, (first, inner) => {
    counts = inner.counts
    return evaluateVector(node.expr, first, newEvaluation({ ...inner, invariants: undefined }))
  })
  state.invariants?.set(node, { columns, counts: state.counts === undefined ? undefined : counts })
  return columns
}

/** Evaluates the first step for all. */
async function once<T>(
  grid: Grid,
  state: Evaluation,
  work: (first: Grid, inner: Evaluation) => Promise<T>,
): Promise<T> {
  const first = firstStep(grid)
  if (state.counts === undefined) return work(first, state)
  const counts = new SampleCounts(first, true)
  const result = await work(first, newEvaluation({ ...state, counts }))
  state.counts.addInvariant(counts)
  return result
}

async function evaluateInvariant(node: PlanInvariant, grid: Grid, state: Evaluation): Promise<Column[]> {
  const columns = await invariantColumns(node, grid, state)
  if (grid.steps === 1 && state.invariants === undefined) return [...columns]
  state.hold(columns.length * (grid.steps - 1))
  const wide: Column[] = []
  for (const column of columns) {
    wide.push(broadcast(column, grid.steps, state.memory))
    if (state.isDue(COLUMN_WORK + grid.steps)) await state.breathe()
  }
  return wide
}

async function evaluateUnary(node: PlanUnary, grid: Grid, state: Evaluation): Promise<Column[]> {
  const columns = await evaluateVector(node.expr, grid, state)
  if (!node.isNegation) return columns
  const cannotMeet = await stayDistinct(columns, state)
  const dropName = metadataDropper()
  for (const column of columns) {
    const { values, kinds } = column
    for (let i = 0; i < values.length; i++) {
      values[i] = -values[i]!
      if (kinds[i] !== HISTOGRAM) continue
      column.histograms![i] = scale(column.histograms![i]!, -1)
      if (state.isDue(HISTOGRAM_WORK)) await state.breathe()
    }
    if (state.isDue(COLUMN_WORK + grid.steps)) await state.breathe()
    column.dropsName = true
    if (!state.delaysNameRemoval) column.labels = dropName(column.labels)
  }
  return state.delaysNameRemoval || cannotMeet ? columns : mergeSameLabels(columns, state)
}

/** What is made per step is made before anybody knows whether there is a sample. */
const SUBQUERY_STEPS_MAX = 10_000_000

async function evaluateSubquery(node: PlanSubquery, grid: Grid, state: Evaluation): Promise<EvaluatedSubquery> {
  const lastMs = grid.startMs + (grid.steps - 1) * grid.stepMs
  const inner = gridOf(subqueryStartMs(node, grid.startMs), (node.atMs ?? lastMs) - node.offsetMs, node.stepMs)
  if (inner.steps > SUBQUERY_STEPS_MAX) throw new TooManySamplesError()
  const counts = state.counts === undefined ? undefined : new SampleCounts(inner, true)
  const within = counts === undefined ? state : newEvaluation({ ...state, counts })
  if (inner.steps <= state.stretchSteps)
    return { columns: await evaluateVector(node.expr, inner, within), grid: inner, counts }
  return { columns: await inStretches(node.expr, inner, within), grid: inner, counts }
}

/** Some steps at a time, so that no operator has more of them before it. */
async function inStretches(node: PlanNode, whole: Grid, state: Evaluation): Promise<Column[]> {
  const { memory, counts, stretchSteps } = state
  const byLabels = new Map<string, Column>()
  const invariants = new Map<PlanInvariant, Invariant>()
  for (let from = 0; from < whole.steps; from += stretchSteps) {
    const steps = Math.min(stretchSteps, whole.steps - from)
    const startMs = whole.startMs + from * whole.stepMs
    const grid = { startMs, endMs: startMs + (steps - 1) * whole.stepMs, stepMs: whole.stepMs, steps }
    const counted = counts === undefined ? undefined : new SampleCounts(grid, from === 0)
    const columns = await evaluateVector(node, grid, newEvaluation({ ...state, counts: counted, invariants }))
    if (counted !== undefined) counts!.put(counted, from)
    for (const column of columns) {
      const key = labelsKey(column.labels)
      const long = byLabels.get(key) ?? chargedColumn(memory, column.labels, whole.steps, column.dropsName)
      byLabels.set(key, long)
      copyInto(long, column, from)
      if (column.histograms !== undefined) memory.charge(histogramListBytes(column.histograms))
      if (state.isDue(COLUMN_WORK + 3 * steps)) await state.breathe()
    }
    memory.release(await bytesOfColumns(columns, state))
  }
  return [...(await sortedByLabels([...byLabels.values()], state))]
}

function copyInto(long: Column, { values, kinds, histograms, dropsName }: Column, from: number): void {
  long.values.set(values, from)
  long.kinds.set(kinds, from)
  long.dropsName ||= dropsName
  if (histograms === undefined) return
  for (let i = 0; i < kinds.length; i++) if (kinds[i] === HISTOGRAM) setHistogram(long, from + i, histograms[i]!)
}
