// Aggregations: groups of columns become one column each. Sums are compensated (Neumaier) in the order of the series, as in
// Prometheus. Hot kernels: a plain loop over steps per series, with the state of a group in typed arrays.
import { compareBytes, type Labels } from '../../model/labels.ts'
import { formatPlain } from '../format-float.ts'
import { aggregateHistograms } from '../functions/aggregate-histograms.ts'
import { describeHistogram } from '../functions/histogram-buckets.ts'
import { quantileOf } from '../functions/quantile.ts'
import type { PlanAggregation } from '../plan/plan.ts'
import { evaluateSelection, isSelection } from './aggregate-k.ts'
import { TEXTS } from './annotations.ts'
import { ABSENT, type Column, FLOAT, type Grid, HISTOGRAM, isEmpty, mergeSameLabels, newColumn } from './column.ts'
import { ExecutionError } from './errors.ts'
import { keyIgnoring, keyOn, NO_LABELS, onlyLabels, quote, sortedByLabels, withLabel, withoutLabels } from './labels.ts'
import type { Evaluation } from './query-state.ts'

export interface Group {
  readonly labels: Labels
  readonly columns: Column[]
}

export async function evaluateAggregation(node: PlanAggregation, grid: Grid, state: Evaluation): Promise<Column[]> {
  const heldBefore = state.held()
  if (node.op === 'count_values') return countValues(node, grid, state)
  const param = node.param === undefined ? undefined : await state.scalar(node.param, grid)
  const columns = await state.vector(node.expr, grid)
  if (isSelection(node.op)) return evaluateSelection(node, groupBy(columns, node), columns, param!, grid, state)
  if (node.op === 'quantile') warnOfQuantiles(param!, node, state)
  const results: Column[] = []
  for (const group of groupBy(columns, node)) {
    await state.breathe()
    const result = newColumn(group.labels, grid.steps)
    result.dropsName = group.columns.some((column) => column.dropsName)
    aggregate(node, group, result, param, state)
    if (!isEmpty(result)) results.push(result)
  }
  state.release(state.held() - heldBefore)
  state.hold(results.length * grid.steps)
  return [...sortedByLabels(results)]
}

export function groupBy(columns: readonly Column[], { grouping, isWithout }: PlanAggregation): Group[] {
  const names = isWithout ? new Set([...grouping, '__name__']) : new Set(grouping)
  const sorted = [...grouping].sort(compareBytes)
  const byKey = new Map<string, Group>()
  const byLabels = new Map<Labels, Group>() // projected series share label sets
  for (const column of columns) {
    const known = byLabels.get(column.labels)
    if (known !== undefined) {
      known.columns.push(column)
      continue
    }
    const key = isWithout ? keyIgnoring(column.labels, names) : keyOn(column.labels, sorted)
    let group = byKey.get(key)
    if (group === undefined) {
      group = { labels: groupLabels(column.labels, names, isWithout), columns: [] }
      byKey.set(key, group)
    }
    group.columns.push(column)
    byLabels.set(column.labels, group)
  }
  return [...byKey.values()]
}

function groupLabels(labels: Labels, names: ReadonlySet<string>, isWithout: boolean): Labels {
  if (isWithout) return withoutLabels(labels, names)
  return names.size === 0 ? NO_LABELS : onlyLabels(labels, names)
}

function aggregate(
  node: PlanAggregation,
  group: Group,
  result: Column,
  param: Float64Array | undefined,
  state: Evaluation,
): void {
  const hasHistograms = group.columns.some((column) => column.histograms !== undefined)
  switch (node.op) {
    case 'sum':
      if (!hasHistograms) return sum(group, result)
      return aggregateHistograms(node, group, result, state, (floats) => sum(group, floats))
    case 'avg':
      if (!hasHistograms) return average(group, result)
      return aggregateHistograms(node, group, result, state, (floats) => average(group, floats))
    case 'count':
    case 'group':
      return count(group, result, node.op === 'group')
  }
  if (hasHistograms) {
    const isIgnored = group.columns.some((column) => column.kinds.includes(HISTOGRAM))
    if (isIgnored) state.annotations.inform(TEXTS.ignoredInAggregation(node.op), node.expr.position)
  }
  switch (node.op) {
    case 'min':
      return extreme(group, result, false)
    case 'max':
      return extreme(group, result, true)
    case 'stdvar':
      return deviation(group, result, false)
    case 'stddev':
      return deviation(group, result, true)
    case 'quantile':
      return quantile(group, result, param!)
    default:
      throw new ExecutionError(`unknown aggregation ${node.op}`)
  }
}

function sum({ columns }: Group, { values: sums, kinds: seen }: Column): void {
  const lost = new Float64Array(sums.length)
  for (const { values, kinds } of columns) {
    for (let i = 0; i < sums.length; i++) {
      if (kinds[i] !== FLOAT) continue
      const value = values[i]!
      if (seen[i] === ABSENT) {
        seen[i] = FLOAT
        sums[i] = value
        continue
      }
      const before = sums[i]!
      const next = before + value
      if (next === Infinity || next === -Infinity) lost[i] = 0
      else if (Math.abs(before) >= Math.abs(value)) lost[i]! += before - next + value
      else lost[i]! += value - next + before
      sums[i] = next
    }
  }
  for (let i = 0; i < sums.length; i++) sums[i]! += lost[i]!
}

function average({ columns }: Group, { values: sums, kinds: seen }: Column): void {
  const steps = sums.length
  const lost = new Float64Array(steps)
  const counts = new Float64Array(steps)
  const isMean = new Uint8Array(steps) // the sum no longer fits: `sums` holds a moving mean
  for (const { values, kinds } of columns) {
    for (let i = 0; i < steps; i++) {
      if (kinds[i] !== FLOAT) continue
      let value = values[i]!
      const n = ++counts[i]!
      if (seen[i] === ABSENT) {
        seen[i] = FLOAT
        sums[i] = value
        continue
      }
      let before = sums[i]!
      let next = before + value
      if (isMean[i] === 0 && (next === Infinity || next === -Infinity)) {
        isMean[i] = 1
        before /= n - 1
        lost[i]! /= n - 1
      }
      if (isMean[i] === 1) {
        const keep = (n - 1) / n
        before *= keep
        lost[i]! *= keep
        value /= n
        next = before + value
      }
      if (next === Infinity || next === -Infinity) lost[i] = 0
      else if (Math.abs(before) >= Math.abs(value)) lost[i]! += before - next + value
      else lost[i]! += value - next + before
      sums[i] = next
    }
  }
  for (let i = 0; i < steps; i++) {
    sums[i] = isMean[i] === 1 ? sums[i]! + lost[i]! : sums[i]! / counts[i]! + lost[i]! / counts[i]!
  }
}

function count({ columns }: Group, { values: counts, kinds: seen }: Column, isGroup: boolean): void {
  for (const { kinds } of columns) {
    for (let i = 0; i < counts.length; i++) {
      if (kinds[i] === ABSENT) continue
      seen[i] = FLOAT
      if (isGroup) counts[i] = 1
      else counts[i]!++
    }
  }
}

function extreme({ columns }: Group, { values: best, kinds: seen }: Column, isMax: boolean): void {
  for (const { values, kinds } of columns) {
    for (let i = 0; i < best.length; i++) {
      if (kinds[i] !== FLOAT) continue
      const value = values[i]!
      const held = best[i]!
      if (seen[i] === ABSENT || (isMax ? held < value : held > value) || Number.isNaN(held)) best[i] = value
      seen[i] = FLOAT
    }
  }
}

/** Welford's moving variance, not compensated, as in Prometheus. */
function deviation({ columns }: Group, { values: squares, kinds: seen }: Column, isRoot: boolean): void {
  const means = new Float64Array(squares.length)
  const counts = new Float64Array(squares.length)
  for (const { values, kinds } of columns) {
    for (let i = 0; i < squares.length; i++) {
      if (kinds[i] !== FLOAT) continue
      const value = values[i]!
      const n = ++counts[i]!
      if (seen[i] === ABSENT) {
        seen[i] = FLOAT
        means[i] = value
        squares[i] = Number.isFinite(value) ? 0 : Number.NaN
        continue
      }
      const delta = value - means[i]!
      means[i]! += delta / n
      squares[i]! += delta * (value - means[i]!)
    }
  }
  for (let i = 0; i < squares.length; i++) {
    const spread = squares[i]! / counts[i]!
    squares[i] = isRoot ? Math.sqrt(spread) : spread
  }
}

function quantile({ columns }: Group, { values: results, kinds: seen }: Column, param: Float64Array): void {
  const buffer = new Float64Array(columns.length)
  for (let i = 0; i < results.length; i++) {
    let size = 0
    for (const { values, kinds } of columns) if (kinds[i] === FLOAT) buffer[size++] = values[i]!
    if (size === 0) continue
    seen[i] = FLOAT
    results[i] = quantileOf(param[i]!, buffer.subarray(0, size))
  }
}

function warnOfQuantiles(param: Float64Array, node: PlanAggregation, state: Evaluation): void {
  const { position } = node.param!
  let min = Infinity
  let max = -Infinity
  for (const q of param) {
    if (Number.isNaN(q)) state.annotations.warn(TEXTS.invalidQuantile(q), position)
    if (q < min) min = q
    if (q > max) max = q
  }
  if (max > 1) state.annotations.warn(TEXTS.invalidQuantile(max), position)
  if (min < 0) state.annotations.warn(TEXTS.invalidQuantile(min), position)
}

async function countValues(node: PlanAggregation, grid: Grid, state: Evaluation): Promise<Column[]> {
  if (node.param?.kind !== 'string') throw new ExecutionError('count_values wants the name of a label')
  const name = node.param.value
  if (name === '' || !name.isWellFormed()) throw new ExecutionError(`invalid label name ${quote(name)}`)
  const columns = await state.vector(node.expr, grid)
  const grouping = node.isWithout ? node.grouping : [...node.grouping, name]
  const names = node.isWithout ? new Set([...grouping, '__name__']) : new Set(grouping)
  const byKey = new Map<string, Column>()
  for (const column of columns) {
    const texts = new Map<string, Column>() // of this series: one lookup by its whole labels per distinct value
    for (let i = 0; i < grid.steps; i++) {
      if (column.kinds[i] === ABSENT) continue
      const isHistogram = column.kinds[i] === HISTOGRAM
      const text = isHistogram ? describeHistogram(column.histograms![i]!) : formatPlain(column.values[i]!)
      let counts = texts.get(text)
      if (counts === undefined) {
        const labels = groupLabels(withLabel(column.labels, name, text), names, node.isWithout)
        const key = labels.join('\xff')
        counts = byKey.get(key) ?? newColumn(labels, grid.steps)
        byKey.set(key, counts)
        texts.set(text, counts)
      }
      counts.kinds[i] = FLOAT
      counts.values[i]!++
    }
  }
  return mergeSameLabels([...sortedByLabels([...byKey.values()])])
}
