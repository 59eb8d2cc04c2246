// topk, bottomk, limitk and limit_ratio: aggregations that keep some of their series, step by step.
import type { Breath } from '../../base/breathing.ts'
import { sortLong } from '../../base/long-sort.ts'
import type { Labels } from '../../model/labels.ts'
import { formatShort } from '../format-float.ts'
import { labelsHash } from '../functions/labels-hash.ts'
import type { PlanAggregation } from '../plan/plan.ts'
import { TEXTS } from './annotations.ts'
import { ABSENT, type Column, chargedColumn, FLOAT, filledOf, type Grid, HISTOGRAM, setHistogram } from './column.ts'
import { ExecutionError } from './errors.ts'
import type { Evaluation } from './query-state.ts'

export function isSelection(op: string): boolean {
  return op === 'topk' || op === 'bottomk' || op === 'limitk' || op === 'limit_ratio'
}

/** Columns that are aggregated together, and the labels of what comes out. */
export interface Group {
  readonly labels: Labels
  readonly columns: Column[]
}

/** Chooses among the columns of a group at one step: indexes into the group, in the order of the answer. */
type Choose = (group: Group, step: number) => Promise<readonly number[]>

export async function evaluateSelection(
  node: PlanAggregation,
  groups: readonly Group[],
  columns: readonly Column[],
  param: Float64Array,
  grid: Grid,
  state: Evaluation,
): Promise<Column[]> {
  const isRatio = node.op === 'limit_ratio'
  if (isRatio ? isAllZero(param) : isBelowOne(param)) return []
  checkParam(param, node, state)
  const choose = chooser(node, param, columns.length, state)
  const kept = new Map<Column, Column>()
  for (const group of groups) {
    for (let step = 0; step < grid.steps; step++) {
      if (state.isDue(LOOK_WORK * group.columns.length)) await state.breathe()
      for (const index of await choose(group, step)) {
        const from = group.columns[index]!
        let to = kept.get(from)
        if (to === undefined) {
          to = chargedColumn(state.memory, from.labels, grid.steps, from.dropsName)
          kept.set(from, to)
          if (state.isDue(grid.steps)) await state.breathe()
        }
        if (from.kinds[step] === HISTOGRAM) setHistogram(to, step, from.histograms![step]!)
        else {
          to.values[step] = from.values[step]!
          to.kinds[step] = FLOAT
        }
      }
    }
  }
  return filledOf([...kept.values()], state)
}

function isBelowOne(param: Float64Array): boolean {
  let max = -Number.MAX_VALUE
  for (const k of param) max = Math.max(max, k)
  return max < 1
}

function isAllZero(param: Float64Array): boolean {
  return param.every((ratio) => ratio === 0)
}

const INT64_MAX = 2 ** 63

function checkParam(param: Float64Array, node: PlanAggregation, state: Evaluation): void {
  let min = Infinity
  let max = -Infinity
  for (const value of param) {
    if (Number.isNaN(value)) {
      throw new ExecutionError(node.op === 'limit_ratio' ? 'Ratio value is NaN' : 'Parameter value is NaN')
    }
    min = Math.min(min, value)
    max = Math.max(max, value)
  }
  if (node.op === 'limit_ratio') {
    if (max > 1) state.annotations.warn(TEXTS.invalidRatio(max, 1), node.param!.position)
    if (min < -1) state.annotations.warn(TEXTS.invalidRatio(min, -1), node.param!.position)
    return
  }
  if (min <= -INT64_MAX) throw new ExecutionError(`Scalar value ${formatShort(min)} underflows int64`)
  if (max >= INT64_MAX) throw new ExecutionError(`Scalar value ${formatShort(max)} overflows int64`)
}

function chooser(node: PlanAggregation, param: Float64Array, seriesCount: number, state: Evaluation): Choose {
  const kAt = (step: number) => Math.min(Math.trunc(param[step]!), seriesCount)
  switch (node.op) {
    case 'limitk':
      return ({ columns }, step) => firstPresent(columns, step, kAt(step), state)
    case 'limit_ratio':
      return ratioChooser(param, state)
    default: {
      const isTop = node.op === 'topk'
      const onHistogram = () => state.annotations.inform(TEXTS.ignoredInAggregation(node.op), node.position)
      return ({ columns }, step) => best(columns, step, { k: kAt(step), isTop, onHistogram }, state)
    }
  }
}

async function firstPresent(columns: readonly Column[], step: number, k: number, breath: Breath): Promise<number[]> {
  const chosen: number[] = []
  for (let i = 0; i < columns.length && chosen.length < k; i++) {
    if (columns[i]!.kinds[step] !== ABSENT) chosen.push(i)
    if ((i & LOOKS) === LOOKS && breath.isDue(LOOK_WORK * LOOKS)) await breath.breathe()
  }
  return chosen
}

/** Each label set has a fixed place in [0, 1]; a ratio takes those below it, a negative one takes the others. */
function ratioChooser(param: Float64Array, breath: Breath): Choose {
  const places = new Map<Column, number>()
  return async ({ columns }, step) => {
    const ratio = Math.max(-1, Math.min(1, param[step]!))
    const chosen: number[] = []
    for (let i = 0; i < columns.length; i++) {
      const column = columns[i]!
      if (column.kinds[step] === ABSENT || ratio === 0) continue
      let place = places.get(column)
      if (breath.isDue(place === undefined ? HASH_WORK : 10 * LOOK_WORK)) await breath.breathe()
      if (place === undefined) {
        place = labelsHash(column.labels)
        places.set(column, place)
      }
      if (ratio > 0 ? place < ratio : place >= 1 + ratio) chosen.push(i)
    }
    return chosen
  }
}

interface Ranking {
  readonly k: number
  readonly isTop: boolean
  onHistogram(): void
}

/** The k best by value, best first, NaN last. The heap of the best so far has the worst of them on top, and a candidate must beat
 *  it: among equals the earlier series stays. */
async function best(
  columns: readonly Column[],
  step: number,
  { k, isTop, onHistogram }: Ranking,
  breath: Breath,
): Promise<number[]> {
  if (k < 1) return []
  const heap: number[] = []
  const valueAt = (index: number) => columns[index]!.values[step]!
  const isWorse = (a: number, b: number) => {
    const value = valueAt(a)
    if (Number.isNaN(value)) return true
    return isTop ? value < valueAt(b) : value > valueAt(b)
  }
  for (let i = 0; i < columns.length; i++) {
    const kind = columns[i]!.kinds[step]
    if ((i & LOOKS) === LOOKS && breath.isDue(LOOK_WORK * LOOKS)) await breath.breathe()
    if (kind === ABSENT) continue
    if (kind === HISTOGRAM) onHistogram()
    else if (heap.length < k) {
      heap.push(i)
      siftUp(heap, isWorse)
      if (breath.isDue(SIFT_WORK)) await breath.breathe()
    } else {
      const value = valueAt(i)
      const worst = valueAt(heap[0]!)
      const isBetter = isTop ? worst < value : worst > value
      if (!isBetter && !(Number.isNaN(worst) && !Number.isNaN(value))) continue
      heap[0] = i
      siftDown(heap, isWorse)
      if (breath.isDue(SIFT_WORK)) await breath.breathe()
    }
  }
  const compare = (a: number, b: number) => {
    const x = valueAt(a)
    const y = valueAt(b)
    if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(x)) - Number(Number.isNaN(y))
    return isTop ? y - x || 0 : x - y || 0
  }
  return sortLong(heap, compare, breath)
}

/** Of looking at one series at one step, of a place in the heap, of hashing labels: in units of work. */
const LOOK_WORK = 5
/** Series looked at between two looks at the time, less one. */
const LOOKS = 255
const SIFT_WORK = 100
const HASH_WORK = 20_000

type IsWorse = (a: number, b: number) => boolean

function siftUp(heap: number[], isWorse: IsWorse): void {
  let at = heap.length - 1
  while (at > 0) {
    const parent = (at - 1) >> 1
    if (!isWorse(heap[at]!, heap[parent]!)) return
    ;[heap[at], heap[parent]] = [heap[parent]!, heap[at]!]
    at = parent
  }
}

function siftDown(heap: number[], isWorse: IsWorse): void {
  let at = 0
  for (;;) {
    let child = 2 * at + 1
    if (child >= heap.length) return
    if (child + 1 < heap.length && isWorse(heap[child + 1]!, heap[child]!)) child++
    if (!isWorse(heap[child]!, heap[at]!)) return
    ;[heap[at], heap[child]] = [heap[child]!, heap[at]!]
    at = child
  }
}
