// A histogram that others are added to, with the bits that each addition lost kept aside (Neumaier), per count.
//
// The only place where a histogram changes: it is made from one, added to, and turned into a new one.
import { CUSTOM_BUCKETS_SCHEMA, type Histogram, type ResetHint } from '../../model/histogram.ts'
import { exponentialBound, indexAtSchema } from './histogram-bounds.ts'
import { sideOf, spansOf, usesCustomBuckets } from './histogram-buckets.ts'
import {
  commonBounds,
  customIndex,
  type HistogramNotes,
  IncompatibleSchemas,
  joinHints,
  sameNumbers,
} from './histogram-shape.ts'

/** A number and what additions to it have lost. */
interface Cell {
  value: number
  lost: number
}

/** One sign: ascending indexes, one cell each. */
interface Cells {
  indexes: number[]
  cells: Cell[]
}

function addTo(cell: Cell, value: number, isCompensated: boolean): void {
  const next = cell.value + value
  if (isCompensated) {
    if (next === Infinity || next === -Infinity) cell.lost = 0
    else if (Math.abs(cell.value) >= Math.abs(value)) cell.lost += cell.value - next + value
    else cell.lost += value - next + cell.value
  }
  cell.value = next
}

function cellsOf(spans: Histogram['positiveSpans'], buckets: readonly number[]): Cells {
  const { indexes, counts } = sideOf(spans, buckets)
  return { indexes, cells: counts.map((value) => ({ value, lost: 0 })) }
}

export class HistogramSum {
  zeroThreshold: number
  private schema: number
  private resetHint: ResetHint
  private customValues: readonly number[]
  private zero: Cell
  private count: Cell
  private sum: Cell
  private positive: Cells
  private negative: Cells

  constructor(histogram: Histogram) {
    this.schema = histogram.schema
    this.resetHint = histogram.resetHint
    this.customValues = histogram.customValues
    this.zeroThreshold = histogram.zeroThreshold
    this.zero = { value: histogram.zeroCount, lost: 0 }
    this.count = { value: histogram.count, lost: 0 }
    this.sum = { value: histogram.sum, lost: 0 }
    this.positive = cellsOf(histogram.positiveSpans, histogram.positiveBuckets)
    this.negative = cellsOf(histogram.negativeSpans, histogram.negativeBuckets)
  }

  get zeroCount(): number {
    return this.zero.value
  }

  /** Adds (or with sign −1 subtracts) another; throws IncompatibleSchemas before anything has changed. */
  add(other: Histogram, notes: HistogramNotes, sign: 1 | -1, isCompensated: boolean): void {
    const isCustom = this.schema === CUSTOM_BUCKETS_SCHEMA
    if (isCustom !== usesCustomBuckets(other)) throw new IncompatibleSchemas()
    this.resetHint = joinHints(this.resetHint, other.resetHint, notes)
    const addend = new HistogramSum(other)
    if (isCustom) this.meetBounds(addend, notes)
    else {
      this.meetZero(addend)
      if (addend.schema < this.schema) this.reduceTo(addend.schema, isCompensated)
      else addend.reduceTo(this.schema, isCompensated)
      addTo(this.zero, sign * addend.zero.value, isCompensated)
    }
    addTo(this.count, sign * other.count, isCompensated)
    addTo(this.sum, sign * other.sum, isCompensated)
    this.positive = joined(this.positive, addend.positive, sign, isCompensated)
    this.negative = joined(this.negative, addend.negative, sign, isCompensated)
  }

  private meetZero(other: HistogramSum): void {
    while (this.zeroThreshold !== other.zeroThreshold) {
      if (this.zeroThreshold > other.zeroThreshold) other.widenZero(this.zeroThreshold)
      else this.widenZero(other.zeroThreshold)
    }
  }

  /** Lets the zero bucket grow to `threshold`, or further when that lies inside a populated bucket. */
  widenZero(threshold: number): void {
    if (threshold <= this.zeroThreshold) return
    let reach = threshold
    for (let before = -1; before !== reach; ) {
      before = reach
      reach = reachOf(this.negative, this.schema, reachOf(this.positive, this.schema, reach))
    }
    this.zeroThreshold = reach
    for (const side of [this.positive, this.negative]) this.swallow(side)
  }

  /** Moves what lies below the threshold into the zero bucket. */
  private swallow(side: Cells): void {
    let taken = 0
    while (
      taken < side.indexes.length &&
      exponentialBound(side.indexes[taken]! - 1, this.schema) < this.zeroThreshold
    ) {
      addTo(this.zero, side.cells[taken]!.value, true)
      addTo(this.zero, side.cells[taken]!.lost, true)
      taken++
    }
    side.indexes.splice(0, taken)
    side.cells.splice(0, taken)
  }

  private reduceTo(schema: number, isCompensated: boolean): void {
    if (schema === this.schema) return
    this.positive = mapped(this.positive, (index) => indexAtSchema(index, this.schema, schema), isCompensated)
    this.negative = mapped(this.negative, (index) => indexAtSchema(index, this.schema, schema), isCompensated)
    this.schema = schema
  }

  private meetBounds(other: HistogramSum, notes: HistogramNotes): void {
    if (sameNumbers(this.customValues, other.customValues)) return
    notes.reconciled = true
    const common = commonBounds(this.customValues, other.customValues)
    for (const one of [this, other]) {
      one.positive = mapped(one.positive, (index) => customIndex(index, one.customValues, common), true)
      one.customValues = common
    }
  }

  /** Some number no longer fits into a float. */
  hasOverflow(): boolean {
    const isInfinite = ({ value }: Cell) => value === Infinity || value === -Infinity
    return [this.zero, this.count, this.sum, ...this.positive.cells, ...this.negative.cells].some(isInfinite)
  }

  clone(): HistogramSum {
    const copy = new HistogramSum(this.plain())
    copy.zero = { ...this.zero }
    copy.count = { ...this.count }
    copy.sum = { ...this.sum }
    copy.positive = { indexes: [...this.positive.indexes], cells: this.positive.cells.map((cell) => ({ ...cell })) }
    copy.negative = { indexes: [...this.negative.indexes], cells: this.negative.cells.map((cell) => ({ ...cell })) }
    return copy
  }

  /** Multiplies every number, and what was lost from it. */
  change(of: (value: number) => number): void {
    for (const cell of [this.zero, this.count, this.sum, ...this.positive.cells, ...this.negative.cells]) {
      cell.value = of(cell.value)
      cell.lost = of(cell.lost)
    }
  }

  /** The sum, without what was lost on the way. */
  plain(): Histogram {
    return this.read(({ value }) => value)
  }

  /** The sum, with what was lost on the way added again. */
  compensated(): Histogram {
    return this.read(({ value, lost }) => value + lost)
  }

  private read(numberOf: (cell: Cell) => number): Histogram {
    const positive = spansOf({ indexes: this.positive.indexes, counts: this.positive.cells.map(numberOf) })
    const negative = spansOf({ indexes: this.negative.indexes, counts: this.negative.cells.map(numberOf) })
    return {
      isFloat: true,
      resetHint: this.resetHint,
      schema: this.schema,
      zeroThreshold: this.zeroThreshold,
      zeroCount: numberOf(this.zero),
      count: numberOf(this.count),
      sum: numberOf(this.sum),
      positiveSpans: positive.spans,
      positiveBuckets: positive.buckets,
      negativeSpans: negative.spans,
      negativeBuckets: negative.buckets,
      customValues: this.customValues,
    }
  }
}

/** How far the zero bucket must reach so that it ends in no populated bucket of this side. */
function reachOf({ indexes, cells }: Cells, schema: number, threshold: number): number {
  for (let i = 0; i < indexes.length; i++) {
    if (exponentialBound(indexes[i]! - 1, schema) >= threshold) break
    const upper = exponentialBound(indexes[i]!, schema)
    if (upper > threshold) return cells[i]!.value === 0 ? threshold : upper
  }
  return threshold
}

function mapped({ indexes, cells }: Cells, to: (index: number) => number, isCompensated: boolean): Cells {
  const result: Cells = { indexes: [], cells: [] }
  for (let i = 0; i < indexes.length; i++) {
    const index = to(indexes[i]!)
    const last = result.indexes.length - 1
    const { value, lost } = cells[i]!
    if (result.indexes[last] !== index) {
      result.indexes.push(index)
      result.cells.push({ value, lost })
      continue
    }
    addTo(result.cells[last]!, value, isCompensated)
    if (lost !== 0) addTo(result.cells[last]!, lost, isCompensated)
  }
  return result
}

function joined(a: Cells, b: Cells, sign: 1 | -1, isCompensated: boolean): Cells {
  const result: Cells = { indexes: [], cells: [] }
  let i = 0
  let j = 0
  while (i < a.indexes.length || j < b.indexes.length) {
    const x = a.indexes[i] ?? Infinity
    const y = b.indexes[j] ?? Infinity
    const cell = x <= y ? a.cells[i++]! : { value: 0, lost: 0 }
    if (y <= x) {
      const { value, lost } = b.cells[j++]!
      addTo(cell, sign * value, isCompensated)
      if (lost !== 0) addTo(cell, sign * lost, isCompensated)
    }
    result.indexes.push(Math.min(x, y))
    result.cells.push(cell)
  }
  return result
}
