// sort and its kin. Only the answer to an instant query has an order; a range is always answered in the order of the labels.
import { sortLong } from '../../base/long-sort.ts'
import { compareLabels, labelOf } from '../../model/labels.ts'
import { TEXTS } from '../exec/annotations.ts'
import { ABSENT, type Column, FLOAT, filledOf, type Grid, HISTOGRAM } from '../exec/column.ts'
import type { Evaluation } from '../exec/query-state.ts'
import type { PlanCall } from '../plan/plan.ts'

type VectorFunction = (node: PlanCall, grid: Grid, state: Evaluation) => Promise<Column[]>

function warnInRange(node: PlanCall, grid: Grid, state: Evaluation): void {
  if (grid.startMs !== grid.endMs) state.annotations.warn(TEXTS.sortInRange, node.position)
}

/** By value, NaN last either way. Histograms fall out. */
export function sortByValue(isDescending: boolean): VectorFunction {
  return async (node, grid, state) => {
    const columns = await state.vector(node.args[0]!, grid)
    warnInRange(node, grid, state) // of nested sorts the outer one is named
    for (const { kinds, histograms } of columns) {
      if (histograms === undefined) continue
      for (let i = 0; i < kinds.length; i++) if (kinds[i] === HISTOGRAM) kinds[i] = ABSENT
      if (state.isDue(kinds.length)) await state.breathe()
    }
    const floats = await filledOf(columns, state)
    if (grid.steps !== 1) return floats
    const compare = (a: Column, b: Column) => {
      const x = a.kinds[0] === FLOAT ? a.values[0]! : Number.NaN
      const y = b.kinds[0] === FLOAT ? b.values[0]! : Number.NaN
      if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(x)) - Number(Number.isNaN(y))
      if (x === y) return 0
      return x < y === isDescending ? 1 : -1
    }
    return sortLong(floats, compare, state)
  }
}

export function sortByLabel(isDescending: boolean): VectorFunction {
  const direction = isDescending ? -1 : 1
  return async (node, grid, state) => {
    const columns = await state.vector(node.args[0]!, grid)
    warnInRange(node, grid, state) // of nested sorts the outer one is named
    const names = node.args.slice(1).map((arg) => (arg.kind === 'string' ? arg.value : ''))
    const compare = (a: Column, b: Column) => {
      for (const name of names) {
        const x = labelOf(a.labels, name)
        const y = labelOf(b.labels, name)
        if (x !== y) return isBeforeNaturally(x, y) ? -direction : direction
      }
      return direction * compareLabels(a.labels, b.labels)
    }
    return sortLong(columns, compare, state)
  }
}

const CHUNK = /\d+|\D+/g

/** `a` before `b`, with runs of digits compared as numbers. */
function isBeforeNaturally(a: string, b: string): boolean {
  const as = a.match(CHUNK) ?? []
  const bs = b.match(CHUNK) ?? []
  for (let i = 0; ; i++) {
    const x = as[i]
    const y = bs[i]
    if (x === undefined || y === undefined) return y !== undefined
    const areNumbers = /^\d/.test(x) && /^\d/.test(y)
    if (areNumbers) {
      const difference = BigInt(x) - BigInt(y)
      if (difference !== 0n) return difference < 0n
      if (x.length !== y.length) return x.length < y.length
    } else if (x !== y) return x < y
  }
}
