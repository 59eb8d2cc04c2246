// Aggregations: groups of columns become one column each. Sums are compensated (Neumaier) in the order of the series, as in
// Prometheus. Hot kernels: a plain loop over steps per series, with the state of a group in typed arrays.
import { type Breath, inPieces } from '../../base/breathing.ts'
import { compareBytes, type Labels, labelsKey } from '../../model/labels.ts'
import { formatPlain } from '../format-float.ts'
import { aggregateHistograms } from '../functions/aggregate-histograms.ts'
import { describeHistogram } from '../functions/histogram-buckets.ts'
import { quantileOfMany } from '../functions/quantile.ts'
import { textBytes } from '../memory.ts'
import type { PlanAggregation } from '../plan/plan.ts'
import { evaluateSelection, type Group, isSelection } from './aggregate-k.ts'
import { TEXTS } from './annotations.ts'
import {
  ABSENT,
  COLUMN_WORK,
  type Column,
  chargedColumn,
  columnBytes,
  FLOAT,
  filledOf,
  type Grid,
  HISTOGRAM,
  isEmpty,
  mergeSameLabels,
} from './column.ts'
import { ExecutionError } from './errors.ts'
import { keyIgnoring, keyOn, NO_LABELS, onlyLabels, quote, sortedByLabels, withLabel, withoutLabels } from './labels.ts'
import type { Evaluation } from './query-state.ts'

export async function evaluateAggregation(node: PlanAggregation, grid: Grid, state: Evaluation): Promise<Column[]> {
  const heldBefore = state.held()
  if (node.op === 'count_values') return countValues(node, grid, state)
  const streamed = await aggregateStream(node, grid, state)
  if (streamed !== undefined) {
    state.release(state.held() - heldBefore)
    state.hold(streamed.length * grid.steps)
    return [...(await sortedByLabels(streamed, state))]
  }
  const param = node.param === undefined ? undefined : await state.scalar(node.param, grid)
  const columns = await state.vector(node.expr, grid)
  const groups = await groupBy(columns, node, state)
  if (isSelection(node.op)) return evaluateSelection(node, groups, columns, param!, grid, state)
  if (node.op === 'quantile') warnOfQuantiles(param!, node, state)
  const results: Column[] = []
  for (const group of groups) {
    const result = chargedColumn(state.memory, group.labels, grid.steps)
    result.dropsName = group.columns.some((column) => column.dropsName)
    await aggregate(node, group, result, param, state)
    if (!isEmpty(result)) results.push(result)
    if (state.isDue(COLUMN_WORK + grid.steps)) await state.breathe()
  }
  state.release(state.held() - heldBefore)
  state.hold(results.length * grid.steps)
  return [...(await sortedByLabels(results, state))]
}

/** Adds each column to its group as it comes; undefined when the operand's columns must stand side by side. */
async function aggregateStream(node: PlanAggregation, grid: Grid, state: Evaluation): Promise<Column[] | undefined> {
  const newAccumulator = ACCUMULATORS[node.op]
  if (newAccumulator === undefined) return undefined
  const results: Column[] = []
  const groups: Accumulator[] = []
  const numberOf = groupNumbers(node, (labels) => {
    state.memory.charge(3 * columnBytes(grid.steps)) // what an accumulator keeps
    const result = chargedColumn(state.memory, labels, grid.steps)
    groups.push(newAccumulator(result))
    return results.push(result) - 1
  })
  const isDone = await state.stream(node.expr, grid, (column) => {
    const group = numberOf(column.labels)
    if (column.dropsName) results[group]!.dropsName = true
    groups[group]!.add(column)
  })
  if (!isDone) return undefined
  for (const group of groups) {
    group.end()
    if (state.isDue(COLUMN_WORK + 3 * grid.steps)) await state.breathe()
  }
  return filledOf(results, state)
}

/** Numbers the groups of label sets; `newGroup` is told the labels of each new one and gives it its number. */
function groupNumbers({ grouping, isWithout }: PlanAggregation, newGroup: (labels: Labels) => number) {
  const names = isWithout ? new Set([...grouping, '__name__']) : new Set(grouping)
  const sorted = [...grouping].sort(compareBytes)
  const byKey = new Map<string, number>()
  const byLabels = new Map<Labels, number>() // projected series share label sets
  return (labels: Labels): number => {
    let group = byLabels.get(labels)
    if (group !== undefined) return group
    const key = isWithout ? keyIgnoring(labels, names) : keyOn(labels, sorted)
    group = byKey.get(key)
    if (group === undefined) {
      group = newGroup(groupLabels(labels, names, isWithout))
      byKey.set(key, group)
    }
    byLabels.set(labels, group)
    return group
  }
}

async function groupBy(columns: readonly Column[], node: PlanAggregation, breath: Breath): Promise<Group[]> {
  const groups: Group[] = []
  const numberOf = groupNumbers(node, (labels) => groups.push({ labels, columns: [] }) - 1)
  for (const column of columns) {
    groups[numberOf(column.labels)]!.columns.push(column)
    if (breath.isDue(COLUMN_WORK)) await breath.breathe()
  }
  return groups
}

function groupLabels(labels: Labels, names: ReadonlySet<string>, isWithout: boolean): Labels {
  if (isWithout) return withoutLabels(labels, names)
  return names.size === 0 ? NO_LABELS : onlyLabels(labels, names)
}

async function aggregate(
  node: PlanAggregation,
  group: Group,
  result: Column,
  param: Float64Array | undefined,
  state: Evaluation,
): Promise<void> {
  const hasHistograms = group.columns.some((column) => column.histograms !== undefined)
  switch (node.op) {
    case 'sum':
      if (!hasHistograms) break
      return aggregateHistograms(node, group, result, state, (floats) => accumulate(group, sum(floats), state))
    case 'avg':
      if (!hasHistograms) break
      return aggregateHistograms(node, group, result, state, (floats) => accumulate(group, average(floats), state))
  }
  if (hasHistograms && node.op !== 'count' && node.op !== 'group') {
    const isIgnored = await holdsHistogram(group.columns, state)
    if (isIgnored) state.annotations.inform(TEXTS.ignoredInAggregation(node.op), node.expr.position)
  }
  if (node.op === 'quantile') return quantile(group, result, param!, state)
  const newAccumulator = ACCUMULATORS[node.op]
  if (newAccumulator === undefined) throw new ExecutionError(`unknown aggregation ${node.op}`)
  return accumulate(group, newAccumulator(result), state)
}

async function holdsHistogram(columns: readonly Column[], breath: Breath): Promise<boolean> {
  for (const { kinds } of columns) {
    if (kinds.includes(HISTOGRAM)) return true
    if (breath.isDue(20 + kinds.length)) await breath.breathe()
  }
  return false
}

/** Takes the float columns of a group one after the other; `result` is right once `end` was called. */
interface Accumulator {
  add(column: Column): void
  end(): void
}

type NewAccumulator = (result: Column) => Accumulator

const ACCUMULATORS: Readonly<Record<string, NewAccumulator>> = {
  sum,
  avg: average,
  count: (result) => count(result, false),
  group: (result) => count(result, true),
  min: (result) => extreme(result, false),
  max: (result) => extreme(result, true),
  stdvar: (result) => deviation(result, false),
  stddev: (result) => deviation(result, true),
}

async function accumulate({ columns }: Group, accumulator: Accumulator, breath: Breath): Promise<void> {
  for (const column of columns) {
    accumulator.add(column)
    if (breath.isDue(20 + 3 * column.kinds.length)) await breath.breathe()
  }
  accumulator.end()
}

const nothing = () => {}

function sum({ values: sums, kinds: seen }: Column): Accumulator {
  const lost = new Float64Array(sums.length)
  const add = ({ values, kinds }: Column) => {
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
  const end = () => {
    for (let i = 0; i < sums.length; i++) sums[i]! += lost[i]!
  }
  return { add, end }
}

function average({ values: sums, kinds: seen }: Column): Accumulator {
  const steps = sums.length
  const lost = new Float64Array(steps)
  const counts = new Float64Array(steps)
  const isMean = new Uint8Array(steps) // the sum no longer fits: `sums` holds a moving mean
  const add = ({ values, kinds }: Column) => {
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
  const end = () => {
    for (let i = 0; i < steps; i++) {
      sums[i] = isMean[i] === 1 ? sums[i]! + lost[i]! : sums[i]! / counts[i]! + lost[i]! / counts[i]!
    }
  }
  return { add, end }
}

function count({ values: counts, kinds: seen }: Column, isGroup: boolean): Accumulator {
  const add = ({ kinds }: Column) => {
    for (let i = 0; i < counts.length; i++) {
      if (kinds[i] === ABSENT) continue
      seen[i] = FLOAT
      if (isGroup) counts[i] = 1
      else counts[i]!++
    }
  }
  return { add, end: nothing }
}

function extreme({ values: best, kinds: seen }: Column, isMax: boolean): Accumulator {
  const add = ({ values, kinds }: Column) => {
    for (let i = 0; i < best.length; i++) {
      if (kinds[i] !== FLOAT) continue
      const value = values[i]!
      const held = best[i]!
      if (seen[i] === ABSENT || (isMax ? held < value : held > value) || Number.isNaN(held)) best[i] = value
      seen[i] = FLOAT
    }
  }
  return { add, end: nothing }
}

/** Welford's moving variance, not compensated, as in Prometheus. */
function deviation({ values: squares, kinds: seen }: Column, isRoot: boolean): Accumulator {
  const means = new Float64Array(squares.length)
  const counts = new Float64Array(squares.length)
  const add = ({ values, kinds }: Column) => {
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
  const end = () => {
    for (let i = 0; i < squares.length; i++) {
      const spread = squares[i]! / counts[i]!
      squares[i] = isRoot ? Math.sqrt(spread) : spread
    }
  }
  return { add, end }
}

async function quantile(
  { columns }: Group,
  { values: results, kinds: seen }: Column,
  param: Float64Array,
  state: Evaluation,
): Promise<void> {
  state.memory.charge(8 * columns.length)
  const buffer = new Float64Array(columns.length)
  for (let i = 0; i < results.length; i++) {
    let size = 0
    const gathering = inPieces(columns.length, 5, state, (from, to) => {
      for (let c = from; c < to; c++) {
        const { values, kinds } = columns[c]!
        if (kinds[i] === FLOAT) buffer[size++] = values[i]!
      }
    })
    if (gathering !== undefined) await gathering
    if (size === 0) continue
    seen[i] = FLOAT
    results[i] = await quantileOfMany(param[i]!, buffer.subarray(0, size), state)
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

/** Of writing a value as text and looking it up, in units of work. */
const TEXT_WORK = 400

async function countValues(node: PlanAggregation, grid: Grid, state: Evaluation): Promise<Column[]> {
  if (node.param?.kind !== 'string') throw new ExecutionError('count_values wants the name of a label')
  const name = node.param.value
  if (name === '' || !name.isWellFormed()) throw new ExecutionError(`invalid label name ${quote(name)}`)
  const columns = await state.vector(node.expr, grid)
  const grouping = node.isWithout ? node.grouping : [...node.grouping, name]
  const names = node.isWithout ? new Set([...grouping, '__name__']) : new Set(grouping)
  const byKey = new Map<string, Column>()
  for (const column of columns) {
    if (state.isDue(COLUMN_WORK)) await state.breathe()
    const texts = new Map<string, Column>() // of this series: one lookup by its whole labels per distinct value
    for (let i = 0; i < grid.steps; i++) {
      if (column.kinds[i] === ABSENT) continue
      if (state.isDue(TEXT_WORK)) await state.breathe()
      const isHistogram = column.kinds[i] === HISTOGRAM
      const text = isHistogram ? describeHistogram(column.histograms![i]!) : formatPlain(column.values[i]!)
      let counts = texts.get(text)
      if (counts === undefined) {
        state.memory.charge(2 * textBytes(text.length)) // while it is looked up
        const labels = groupLabels(withLabel(column.labels, name, text), names, node.isWithout)
        const key = labelsKey(labels)
        counts = byKey.get(key)
        if (counts === undefined) {
          state.memory.keep(textBytes(text.length))
          counts = chargedColumn(state.memory, labels, grid.steps)
          byKey.set(key, counts)
        }
        texts.set(text, counts)
      }
      counts.kinds[i] = FLOAT
      counts.values[i]!++
    }
  }
  return mergeSameLabels([...(await sortedByLabels([...byKey.values()], state))], state)
}
