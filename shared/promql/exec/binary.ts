// Binary operators. Two vectors are joined by signature once, for all steps: every pair of series that share a signature becomes a
// column operation. What Prometheus refuses at a step (two matches where one is allowed) is looked for only where a signature has
// several series.
import type { Breath } from '../../base/breathing.ts'
import { type Labels, labelOf, labelsKey } from '../../model/labels.ts'
import type { VectorMatching } from '../ast.ts'
import { histogramListBytes } from '../memory.ts'
import type { PlanBinary } from '../plan/plan.ts'
import {
  ABSENT,
  COLUMN_WORK,
  type Column,
  chargedColumn,
  columnBytes,
  FLOAT,
  filledOf,
  type Grid,
  isEmpty,
  mergeSameLabels,
  newColumn,
} from './column.ts'
import { elementOperation, LastNotes, type Operands } from './element.ts'
import { ExecutionError } from './errors.ts'
import {
  describeLabels,
  dropMetadata,
  keyIgnoring,
  keyOn,
  metadataDropper,
  onlyLabels,
  stayDistinct,
  withLabel,
  withoutLabels,
} from './labels.ts'
import type { Evaluation } from './query-state.ts'
import { combineSets, isSetOperator } from './sets.ts'

const CHANGES_METRIC = new Set(['+', '-', '*', '/', '^', '%', 'atan2'])
const COMPARISONS = new Set(['==', '!=', '>', '<', '>=', '<='])

export async function evaluateBinary(node: PlanBinary, grid: Grid, state: Evaluation): Promise<Column[]> {
  const { left, right } = node
  if (left.type === 'scalar') {
    const scalars = await state.scalar(left, grid)
    return withScalar(node, await state.vector(right, grid), scalars, true, state)
  }
  if (right.type === 'scalar') {
    const columns = await state.vector(left, grid)
    return withScalar(node, columns, await state.scalar(right, grid), false, state)
  }
  const leftColumns = await state.vector(left, grid)
  const rightColumns = await state.vector(right, grid)
  const matching = node.matching!
  if (isSetOperator(node.op)) {
    return combineSets(node.op, leftColumns, rightColumns, signatureOf(matching), grid.steps, state)
  }
  return join(node, matching, leftColumns, rightColumns, grid, state)
}

async function withScalar(
  node: PlanBinary,
  columns: Column[],
  scalars: Float64Array,
  isSwapped: boolean,
  state: Evaluation,
): Promise<Column[]> {
  const changesMetric = CHANGES_METRIC.has(node.op) || node.returnBool
  const notes = new LastNotes()
  const operate = elementOperation(node, notes, { keepsVector: isSwapped && COMPARISONS.has(node.op) })
  const mayMeet = changesMetric && !state.delaysNameRemoval && !(await stayDistinct(columns, state))
  const dropName = metadataDropper()
  const results: Column[] = []
  const operands: Operands = { a: columns[0]!, b: columns[0]!, scalarA: undefined, scalarB: undefined }
  if (isSwapped) operands.scalarA = scalars
  else operands.scalarB = scalars
  for (const column of columns) {
    operands.a = column
    operands.b = column
    const slow = operate(operands, column, undefined, state)
    if (slow !== undefined) await slow
    if (changesMetric) {
      if (!state.delaysNameRemoval) column.labels = dropName(column.labels)
      column.dropsName = true
    }
    if (!isEmpty(column)) results.push(column)
    if (state.isDue(COLUMN_WORK + 3 * column.kinds.length)) await state.breathe()
  }
  notes.tell(state.annotations, node.position)
  return mayMeet ? mergeSameLabels(results, state) : results
}

/** What two series must share to be matched. */
export function signatureOf({ isOn, labels }: VectorMatching): (labels: Labels) => string {
  if (isOn) return (set) => keyOn(set, labels)
  const ignored = new Set([...labels, '__name__'])
  return (set) => keyIgnoring(set, ignored)
}

function matchedLabels(labels: Labels, matching: VectorMatching): Labels {
  const names = new Set(matching.labels)
  if (matching.isOn) return onlyLabels(labels, names)
  names.add('__name__')
  return withoutLabels(labels, names)
}

/** The series of one signature: `many` is the left side, unless the right one is grouped. */
interface MatchGroup {
  readonly many: Column[]
  readonly one: Column[]
  readonly pairs: Pair[]
}

interface Pair {
  readonly result: Column
  /** Per step: 1 where the two met, also when a comparison let nothing through. */
  readonly met: Uint8Array
}

async function join(
  node: PlanBinary,
  matching: VectorMatching,
  left: readonly Column[],
  right: readonly Column[],
  grid: Grid,
  state: Evaluation,
): Promise<Column[]> {
  const isSwapped = matching.cardinality === 'one-to-many'
  const many = isSwapped ? right : left
  const one = isSwapped ? left : right
  const groups = await matchGroups(many, one, signatureOf(matching), state)
  await refuseDuplicates(groups, { many, one }, matching, isSwapped, grid.steps, state)
  const notes = new LastNotes()
  const operate = elementOperation(node, notes, { keepsVector: false })
  const labelsFor = resultLabels(node, matching, state)
  const results: Column[] = []
  const pair = async (group: MatchGroup, a: Column, b: Column) => {
    state.memory.charge(grid.steps) // where the two met
    const result = chargedColumn(state.memory, labelsFor(a.labels, b.labels), grid.steps, node.returnBool)
    const met = new Uint8Array(grid.steps)
    const operands = { a: isSwapped ? b : a, b: isSwapped ? a : b, scalarA: undefined, scalarB: undefined }
    const slow = operate(operands, result, met, state)
    if (slow !== undefined) await slow
    if (result.histograms !== undefined) state.memory.charge(histogramListBytes(result.histograms))
    group.pairs.push({ result, met })
    results.push(result)
    if (state.isDue(COLUMN_WORK + 4 * grid.steps)) await state.breathe()
  }
  const groupOf = new Map<Column, MatchGroup>()
  for (const group of groups) {
    for (const column of group.many) groupOf.set(column, group)
    if (state.isDue(COLUMN_WORK * (1 + group.many.length))) await state.breathe()
  }
  for (const column of many) {
    const group = groupOf.get(column)!
    for (const other of group.one) await pair(group, column, other)
    if (matching.fillRight !== undefined) {
      state.memory.charge(columnBytes(grid.steps))
      await pair(group, column, await filling(column, group.one, matching.fillRight, matching, state))
    }
  }
  if (matching.fillLeft !== undefined) {
    const fill = matching.fillLeft
    state.memory.charge(one.length * columnBytes(grid.steps))
    for (const group of groups) {
      const unmatched = await unmatchedSteps(group, grid.steps, state)
      for (const column of group.one) await pair(group, fillingAt(column, unmatched, fill, matching), column)
    }
  }
  for (const group of groups) await refuseSeveralMatches(group, matching, grid.steps, state)
  notes.tell(state.annotations, node.position)
  return mergeSameLabels(await filledOf(results, state), state)
}

async function matchGroups(
  many: readonly Column[],
  one: readonly Column[],
  keyOf: (labels: Labels) => string,
  breath: Breath,
): Promise<MatchGroup[]> {
  const byKey = new Map<string, MatchGroup>()
  const groupFor = (labels: Labels) => {
    const key = keyOf(labels)
    let group = byKey.get(key)
    if (group === undefined) {
      group = { many: [], one: [], pairs: [] }
      byKey.set(key, group)
    }
    return group
  }
  for (const column of many) {
    groupFor(column.labels).many.push(column)
    if (breath.isDue(COLUMN_WORK)) await breath.breathe()
  }
  for (const column of one) {
    groupFor(column.labels).one.push(column)
    if (breath.isDue(COLUMN_WORK)) await breath.breathe()
  }
  return [...byKey.values()]
}

/** Two series of one signature on the "one" side, at a step where the other side has anything at all. */
async function refuseDuplicates(
  groups: readonly MatchGroup[],
  { many, one }: { readonly many: readonly Column[]; readonly one: readonly Column[] },
  matching: VectorMatching,
  isSwapped: boolean,
  steps: number,
  breath: Breath,
): Promise<void> {
  const several = groups.filter((group) => group.one.length > 1)
  if (several.length === 0) return
  const isFilled = matching.fillLeft !== undefined || matching.fillRight !== undefined
  for (let step = 0; step < steps; step++) {
    if (!isFilled && !(await hasSome(many, step, breath))) continue
    for (const group of several) {
      let count = 0
      for (const { kinds } of group.one) {
        if (kinds[step] !== ABSENT) count++
        if (breath.isDue(5)) await breath.breathe()
      }
      if (count > 1) throw firstDuplicate(several, one, matching, isSwapped, step)
    }
  }
}

async function hasSome(columns: readonly Column[], step: number, breath: Breath): Promise<boolean> {
  for (const { kinds } of columns) {
    if (kinds[step] !== ABSENT) return true
    if (breath.isDue(5)) await breath.breathe()
  }
  return false
}

/** Of several, the pair that is met first in the order of the series. */
function firstDuplicate(
  several: readonly MatchGroup[],
  one: readonly Column[],
  matching: VectorMatching,
  isSwapped: boolean,
  step: number,
): ExecutionError {
  const groupOf = new Map(several.flatMap((group) => group.one.map((column) => [column, group] as const)))
  const seen = new Map<MatchGroup, Column>()
  for (const column of one) {
    const group = groupOf.get(column)
    if (group === undefined || column.kinds[step] === ABSENT) continue
    const before = seen.get(group)
    if (before !== undefined) return duplicateSeries(before.labels, column.labels, matching, isSwapped)
    seen.set(group, column)
  }
  throw new TypeError('no duplicate')
}

function duplicateSeries(a: Labels, b: Labels, matching: VectorMatching, isSwapped: boolean): ExecutionError {
  const group = describeLabels(matchedLabels(b, matching))
  const [first, second] = [describeLabels(a), describeLabels(b)].sort()
  const side = isSwapped ? 'left' : 'right'
  return new ExecutionError(
    `found duplicate series for the match group ${group} on the ${side} hand-side of the operation: [${first}, ${second}];many-to-many matching not allowed: matching labels must be unique on one side`,
  )
}

/** The labels of a pair's result; `a` is the "many" side. */
function resultLabels(node: PlanBinary, matching: VectorMatching, state: Evaluation) {
  const dropsName = CHANGES_METRIC.has(node.op) || (node.returnBool && !state.delaysNameRemoval)
  const names = new Set(matching.labels)
  return (a: Labels, b: Labels): Labels => {
    let labels = dropsName ? dropMetadata(a) : a
    if (matching.cardinality === 'one-to-one') {
      labels = matching.isOn ? onlyLabels(labels, names) : withoutLabels(labels, names)
    }
    for (const name of matching.include) labels = withLabel(labels, name, labelOf(b, name))
    return labels
  }
}

/** Two pairs of one signature that meet at one step: too many matches, unless their results differ and grouping was asked for. */
async function refuseSeveralMatches(
  { pairs }: MatchGroup,
  matching: VectorMatching,
  steps: number,
  breath: Breath,
): Promise<void> {
  if (pairs.length < 2) return
  const isOneToOne = matching.cardinality === 'one-to-one'
  const metBy = new Map<string, Uint8Array>()
  for (const { result, met } of pairs) {
    const key = isOneToOne ? '' : labelsKey(result.labels)
    if (breath.isDue(COLUMN_WORK + 2 * steps)) await breath.breathe()
    const before = metBy.get(key)
    if (before === undefined) {
      metBy.set(key, met.slice())
      continue
    }
    for (let step = 0; step < steps; step++) {
      if (met[step] === 0) continue
      if (before[step] === 1) {
        throw new ExecutionError(
          isOneToOne
            ? 'multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)'
            : 'multiple matches for labels: grouping labels must ensure unique matches',
        )
      }
      before[step] = 1
    }
  }
}

/** Stands in on the "one" side wherever `column` has a value and no partner. */
async function filling(
  column: Column,
  partners: readonly Column[],
  fill: number,
  matching: VectorMatching,
  breath: Breath,
): Promise<Column> {
  const steps = column.kinds.length
  const filled = newColumn(matchedLabels(column.labels, matching), steps)
  for (let step = 0; step < steps; step++) {
    if (breath.isDue(5 * (1 + partners.length))) await breath.breathe()
    if (column.kinds[step] === ABSENT || partners.some((partner) => partner.kinds[step] !== ABSENT)) continue
    filled.kinds[step] = FLOAT
    filled.values[step] = fill
  }
  return filled
}

async function unmatchedSteps({ pairs }: MatchGroup, steps: number, breath: Breath): Promise<Uint8Array> {
  const unmatched = new Uint8Array(steps).fill(1)
  for (const { met } of pairs) {
    for (let step = 0; step < steps; step++) if (met[step] === 1) unmatched[step] = 0
    if (breath.isDue(steps)) await breath.breathe()
  }
  return unmatched
}

function fillingAt(column: Column, at: Uint8Array, fill: number, matching: VectorMatching): Column {
  const filled = newColumn(matchedLabels(column.labels, matching), at.length)
  for (let step = 0; step < at.length; step++) {
    if (at[step] === 0 || column.kinds[step] === ABSENT) continue
    filled.kinds[step] = FLOAT
    filled.values[step] = fill
  }
  return filled
}
