// histogram_quantile and histogram_fraction (on classic and native histograms), and what native histograms tell of themselves.
import type { Histogram } from '../../model/histogram.ts'
import { type Labels, labelOf, labelsKey, METRIC_NAME } from '../../model/labels.ts'
import type { Position } from '../ast.ts'
import { TEXTS } from '../exec/annotations.ts'
import {
  ABSENT,
  COLUMN_WORK,
  type Column,
  chargedColumn,
  FLOAT,
  type Grid,
  HISTOGRAM,
  HISTOGRAM_WORK,
  isEmpty,
  mergeSameLabels,
} from '../exec/column.ts'
import { dropMetadata, withLabel, withoutLabels } from '../exec/labels.ts'
import type { Evaluation } from '../exec/query-state.ts'
import { formatOpenMetrics } from '../format-float.ts'
import type { PlanCall } from '../plan/plan.ts'
import { allBuckets, usesCustomBuckets } from './histogram-buckets.ts'
import { fractionOf, quantileOfHistogram } from './histogram-quantile.ts'
import { type Bucket, bucketFraction, bucketQuantile } from './quantile.ts'

type VectorFunction = (node: PlanCall, grid: Grid, state: Evaluation) => Promise<Column[]>

const NATIVE: Readonly<Record<string, (histogram: Histogram) => number>> = {
  histogram_count: ({ count }) => count,
  histogram_sum: ({ sum }) => sum,
  histogram_avg: ({ sum, count }) => sum / count,
  histogram_stdvar: varianceOf,
  histogram_stddev: (histogram) => Math.sqrt(varianceOf(histogram)),
}

/** A function of native histograms alone: floats fall out. */
export function nativeFunction(name: string): VectorFunction | undefined {
  const compute = NATIVE[name]
  if (compute === undefined) return undefined
  return async (node, grid, state) => {
    const columns = await state.vector(node.args[0]!, grid)
    const results: Column[] = []
    for (const column of columns) {
      const { kinds, values, histograms } = column
      for (let i = 0; i < grid.steps; i++) {
        if (kinds[i] === HISTOGRAM) {
          values[i] = compute(histograms![i]!)
          kinds[i] = FLOAT
          if (state.isDue(HISTOGRAM_WORK)) await state.breathe()
        } else kinds[i] = ABSENT
      }
      column.histograms = undefined
      if (state.isDue(COLUMN_WORK + grid.steps)) await state.breathe()
      if (isEmpty(column)) continue
      column.dropsName = true
      if (!state.delaysNameRemoval) column.labels = withoutLabels(column.labels, new Set([METRIC_NAME]))
      results.push(column)
    }
    return mergeSameLabels(results, state)
  }
}

/** Around the mean, each bucket taken at its middle: arithmetic for custom ones, geometric for the others. */
function varianceOf(histogram: Histogram): number {
  const mean = histogram.sum / histogram.count
  const isCustom = usesCustomBuckets(histogram)
  let sum = 0
  let lost = 0
  for (const { lower, upper, count } of allBuckets(histogram)) {
    if (count === 0) continue
    let middle = 0
    if (isCustom) middle = (upper + lower) / 2
    else if (!(lower <= 0 && upper >= 0)) middle = Math.sqrt(upper * lower) * (upper < 0 ? -1 : 1)
    const delta = middle - mean
    const value = count * delta * delta
    const next = sum + value
    if (next === Infinity || next === -Infinity) lost = 0
    else if (Math.abs(sum) >= Math.abs(value)) lost += sum - next + value
    else lost += value - next + sum
    sum = next
  }
  return (sum + lost) / histogram.count
}

/** The classic buckets of one histogram: one column per upper bound. */
interface Classic {
  readonly labels: Labels
  readonly bounds: { readonly upper: number; readonly column: Column }[]
}

interface Sorted {
  readonly natives: Column[]
  readonly classics: Classic[]
}

const LE = new Set(['le'])

/** Tells classic from native histograms. Where both stand under the same labels at a step, neither is looked at. */
async function sortOut(columns: readonly Column[], position: Position, grid: Grid, state: Evaluation): Promise<Sorted> {
  const classics = new Map<string, Classic>()
  const natives: Column[] = []
  for (const column of columns) {
    if (column.histograms !== undefined) natives.push(column)
    if (state.isDue(2 * COLUMN_WORK + column.kinds.length)) await state.breathe()
    if (!column.kinds.includes(FLOAT)) continue
    const bound = labelOf(column.labels, 'le')
    const upper = parseBound(bound)
    if (upper === undefined) {
      const name = state.delaysNameRemoval ? labelOf(column.labels, METRIC_NAME) : ''
      state.annotations.warn(TEXTS.badBucketLabel(name, bound), position)
      continue
    }
    const labels = withoutLabels(column.labels, LE)
    const key = labelsKey(labels)
    let classic = classics.get(key)
    if (classic === undefined) {
      classic = { labels, bounds: [] }
      classics.set(key, classic)
    }
    classic.bounds.push({ upper, column })
  }
  for (const native of natives) {
    const classic = classics.get(labelsKey(native.labels))
    if (classic !== undefined) await blankConflicts(native, classic, position, grid, state)
  }
  return { natives, classics: [...classics.values()] }
}

async function blankConflicts(
  native: Column,
  classic: Classic,
  position: Position,
  grid: Grid,
  state: Evaluation,
): Promise<void> {
  for (let i = 0; i < grid.steps; i++) {
    if (state.isDue(10 * (1 + classic.bounds.length))) await state.breathe()
    if (native.kinds[i] !== HISTOGRAM) continue
    if (!classic.bounds.some(({ column }) => column.kinds[i] === FLOAT)) continue
    const name = state.delaysNameRemoval ? labelOf(native.labels, METRIC_NAME) : ''
    state.annotations.warn(TEXTS.mixedClassicNative(name), position)
    native.kinds[i] = ABSENT
    for (const { column } of classic.bounds) column.kinds[i] = ABSENT
  }
}

/** As Go reads floats: no blanks, `Inf` and `NaN` in any case. */
function parseBound(text: string): number | undefined {
  if (/^[+-]?inf(inity)?$/i.test(text)) return text.startsWith('-') ? -Infinity : Infinity
  if (/^nan$/i.test(text)) return Number.NaN
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : undefined
}

/** What the functions below do with one histogram at one step. */
interface Reader {
  native(histogram: Histogram, step: number, name: string): number
  classic(buckets: Bucket[], step: number, labels: Labels): number
}

async function readHistograms(
  { natives, classics }: Sorted,
  reader: Reader,
  grid: Grid,
  state: Evaluation,
): Promise<Column[]> {
  const results: Column[] = []
  const bare = (labels: Labels) => (state.delaysNameRemoval ? labels : dropMetadata(labels))
  for (const { labels, kinds, histograms } of natives) {
    const result = chargedColumn(state.memory, bare(labels), grid.steps, true)
    const name = labelOf(result.labels, METRIC_NAME)
    for (let i = 0; i < grid.steps; i++) {
      if (kinds[i] !== HISTOGRAM) continue
      result.values[i] = reader.native(histograms![i]!, i, name)
      result.kinds[i] = FLOAT
      if (state.isDue(HISTOGRAM_WORK)) await state.breathe()
    }
    if (!isEmpty(result)) results.push(result)
  }
  for (const { labels, bounds } of classics) {
    const result = chargedColumn(state.memory, bare(labels), grid.steps, true)
    for (let i = 0; i < grid.steps; i++) {
      const buckets: Bucket[] = []
      if (state.isDue(COLUMN_WORK + 50 * bounds.length)) await state.breathe()
      for (const { upper, column } of bounds) {
        if (column.kinds[i] === FLOAT) buckets.push({ upper, count: column.values[i]! })
      }
      if (buckets.length === 0) continue
      result.values[i] = reader.classic(buckets, i, labels)
      result.kinds[i] = FLOAT
    }
    if (!isEmpty(result)) results.push(result)
  }
  return results
}

function quantileReader(qs: Float64Array, position: Position, grid: Grid, state: Evaluation): Reader {
  const { annotations } = state
  return {
    native: (histogram, step, name) => quantileOfHistogram(qs[step]!, histogram, { name, position, annotations }),
    classic(buckets, step, labels) {
      const { value, repair } = bucketQuantile(qs[step]!, buckets)
      if (repair !== undefined) {
        const name = state.delaysNameRemoval ? labelOf(labels, METRIC_NAME) : ''
        annotations.monotonicity(name, position, { atMs: grid.startMs + step * grid.stepMs, ...repair })
      }
      return value
    },
  }
}

function checkQuantiles(qs: Float64Array, position: Position, state: Evaluation): void {
  for (const q of qs) if (!(q >= 0 && q <= 1)) state.annotations.warn(TEXTS.invalidQuantile(q), position)
}

export const histogramQuantile: VectorFunction = async (node, grid, state) => {
  const qs = await state.scalar(node.args[0]!, grid)
  const columns = await state.vector(node.args[1]!, grid)
  checkQuantiles(qs, node.args[0]!.position, state)
  const { position } = node.args[1]!
  const sorted = await sortOut(columns, position, grid, state)
  return merged(await readHistograms(sorted, quantileReader(qs, position, grid, state), grid, state), state)
}

/** Several quantiles at once, told apart by a label. */
export const histogramQuantiles: VectorFunction = async (node, grid, state) => {
  const columns = await state.vector(node.args[0]!, grid)
  const label = node.args[1]?.kind === 'string' ? node.args[1].value : ''
  const { position } = node.args[0]!
  const sorted = await sortOut(columns, position, grid, state)
  const results: Column[] = []
  for (const arg of node.args.slice(2)) {
    const qs = await state.scalar(arg, grid)
    checkQuantiles(qs, arg.position, state)
    for (const column of await readHistograms(sorted, quantileReader(qs, position, grid, state), grid, state)) {
      results.push(...splitByQuantile(column, qs, label, state))
      if (state.isDue(COLUMN_WORK * grid.steps)) await state.breathe()
    }
  }
  return merged(results, state)
}

/** The quantile may differ from step to step, and with it the label. */
function splitByQuantile(column: Column, qs: Float64Array, label: string, { memory }: Evaluation): Column[] {
  const byText = new Map<string, Column>()
  for (let i = 0; i < qs.length; i++) {
    if (column.kinds[i] === ABSENT) continue
    const text = formatOpenMetrics(qs[i]!)
    let part = byText.get(text)
    if (part === undefined) {
      part = chargedColumn(memory, withLabel(column.labels, label, text), qs.length, true)
      byText.set(text, part)
    }
    part.kinds[i] = FLOAT
    part.values[i] = column.values[i]!
  }
  return [...byText.values()]
}

export const histogramFraction: VectorFunction = async (node, grid, state) => {
  const lowers = await state.scalar(node.args[0]!, grid)
  const uppers = await state.scalar(node.args[1]!, grid)
  const columns = await state.vector(node.args[2]!, grid)
  const { position } = node.args[2]!
  const { annotations } = state
  const reader: Reader = {
    native: (histogram, step, name) =>
      fractionOf({ lower: lowers[step]!, upper: uppers[step]! }, histogram, { name, position, annotations }),
    classic: (buckets, step) => bucketFraction(lowers[step]!, uppers[step]!, buckets),
  }
  const sorted = await sortOut(columns, position, grid, state)
  return merged(await readHistograms(sorted, reader, grid, state), state)
}

async function merged(columns: Column[], state: Evaluation): Promise<Column[]> {
  return state.delaysNameRemoval ? columns : mergeSameLabels(columns, state)
}
