// Values over steps: what every operator takes and gives. One column per series, one element per step, no object per sample.
//
// Invariants
//   COLUMN-1  All columns of one evaluation have as many elements as its grid has steps.
//   COLUMN-2  An operator owns the columns it was given and may overwrite them; nobody else looks at them again.
//   COLUMN-3  Between operators no two columns hold a value for one step under one label set; below an aggregation whose selectors are
//       projected, under one full label set, of which the columns show a part.
import type { Breath } from '../../base/breathing.ts'
import type { Histogram } from '../../model/histogram.ts'
import { type Labels, labelsKey } from '../../model/labels.ts'
import { type HeldMemory, histogramListBytes, SERIES_BYTES, STEP_BYTES } from '../memory.ts'
import { sameLabelset } from './errors.ts'

/** The moments an expression is evaluated at. */
export interface Grid {
  readonly startMs: number
  readonly endMs: number
  readonly stepMs: number
  readonly steps: number
}

export function gridOf(startMs: number, endMs: number, stepMs: number): Grid {
  return { startMs, endMs, stepMs, steps: endMs < startMs ? 0 : Math.floor((endMs - startMs) / stepMs) + 1 }
}

export const ABSENT = 0
export const FLOAT = 1
export const HISTOGRAM = 2

export interface Column {
  labels: Labels
  /** The name goes when the query ends (only with delayed name removal; otherwise it is gone already). */
  dropsName: boolean
  /** Meaningful where kinds says FLOAT. */
  values: Float64Array
  /** Per step: ABSENT, FLOAT or HISTOGRAM. */
  kinds: Uint8Array
  /** Only when some kind is HISTOGRAM. */
  histograms: (Histogram | undefined)[] | undefined
}

/** COLUMN-1: `steps` are those of the grid. */
export function newColumn(labels: Labels, steps: number, dropsName = false): Column {
  return { labels, dropsName, values: new Float64Array(steps), kinds: new Uint8Array(steps), histograms: undefined }
}

/** A column, charged before it is made. */
export function chargedColumn(memory: HeldMemory, labels: Labels, steps: number, dropsName = false): Column {
  memory.charge(SERIES_BYTES)
  const { buffer, at } = memory.cut(Math.ceil((STEP_BYTES * steps) / 8) * 8)
  const values = new Float64Array(buffer, at, steps)
  return { labels, dropsName, values, kinds: new Uint8Array(buffer, at + 8 * steps, steps), histograms: undefined }
}

/** Where an operator that makes one column after the other gets them from and puts them. */
export interface ColumnSink {
  /** A column without a value. */
  make(labels: Labels, steps: number, dropsName?: boolean): Column
  /** Takes the column made last; one that is not taken is forgotten. */
  take(column: Column): void
}

/** Of looking at a column beside its steps, and at its label set, in units of work (base/breathing.ts). */
export const COLUMN_WORK = 200
/** Of making something of a native histogram. */
export const HISTOGRAM_WORK = 1_000

/** What a column takes that holds no histogram. */
export function columnBytes(steps: number): number {
  return SERIES_BYTES + STEP_BYTES * steps
}

export async function bytesOfColumns(columns: readonly Column[], breath: Breath): Promise<number> {
  let bytes = 0
  for (const { values, histograms } of columns) {
    bytes += columnBytes(values.length) + histogramListBytes(histograms)
    if (breath.isDue(10 + 20 * (histograms?.length ?? 0))) await breath.breathe()
  }
  return bytes
}

/** Keeps the columns, each charged before it is made. */
export class ColumnList implements ColumnSink {
  readonly columns: Column[] = []
  private readonly memory: HeldMemory
  /** Made and not taken: it has no value, so it serves again. */
  private spare: Column | undefined

  constructor(memory: HeldMemory) {
    this.memory = memory
  }

  make(labels: Labels, steps: number, dropsName = false): Column {
    const { spare } = this
    if (spare === undefined) {
      this.spare = chargedColumn(this.memory, labels, steps, dropsName)
      return this.spare
    }
    spare.labels = labels
    spare.dropsName = dropsName
    return spare
  }

  take(column: Column): void {
    if (column.histograms !== undefined) this.memory.charge(histogramListBytes(column.histograms))
    this.columns.push(column)
    this.spare = undefined
  }
}

/** Shows each column and uses it again for the next: nothing is kept per series. */
export class ColumnStream implements ColumnSink {
  private readonly column: Column
  private readonly visit: (column: Column) => void

  constructor(steps: number, visit: (column: Column) => void) {
    this.column = newColumn([], steps)
    this.visit = visit
  }

  make(labels: Labels, _steps: number, dropsName = false): Column {
    const { column } = this
    column.labels = labels
    column.dropsName = dropsName
    column.histograms = undefined
    for (let i = 0; i < column.kinds.length; i++) column.kinds[i] = ABSENT
    return column
  }

  take(column: Column): void {
    this.visit(column)
  }
}

export function setHistogram(column: Column, step: number, histogram: Histogram): void {
  column.kinds[step] = HISTOGRAM
  column.histograms ??= new Array<Histogram | undefined>(column.kinds.length)
  column.histograms[step] = histogram
}

export function isEmpty(column: Column): boolean {
  const { kinds } = column
  for (let i = 0; i < kinds.length; i++) if (kinds[i] !== ABSENT) return false
  return true
}

/** The columns that have some value. */
export async function filledOf(columns: readonly Column[], breath: Breath): Promise<Column[]> {
  const filled: Column[] = []
  for (const column of columns) {
    if (!isEmpty(column)) filled.push(column)
    if (breath.isDue(10 + column.kinds.length)) await breath.breathe()
  }
  return filled
}

/** Joins columns of one label set that hold values at different steps; refuses when they meet at a step (COLUMN-3). */
export async function mergeSameLabels(columns: Column[], breath: Breath): Promise<Column[]> {
  if (columns.length < 2) return columns
  const byKey = new Map<string, Column>()
  let merged: Column[] | undefined
  for (let i = 0; i < columns.length; i++) {
    const column = columns[i]!
    const key = labelsKey(column.labels)
    if (breath.isDue(COLUMN_WORK + key.length)) await breath.breathe()
    const first = byKey.get(key)
    if (first === undefined) {
      byKey.set(key, column)
      merged?.push(column)
      continue
    }
    merged ??= columns.slice(0, i)
    overlay(first, column)
    if (breath.isDue(column.kinds.length)) await breath.breathe()
  }
  return merged ?? columns
}

function overlay(into: Column, from: Column): void {
  for (let step = 0; step < into.kinds.length; step++) {
    const kind = from.kinds[step]
    if (kind === ABSENT) continue
    if (into.kinds[step] !== ABSENT) throw sameLabelset()
    if (kind === HISTOGRAM) setHistogram(into, step, from.histograms![step]!)
    else {
      into.kinds[step] = FLOAT
      into.values[step] = from.values[step]!
    }
  }
}

/** Refuses two columns of one label set, whether they meet or not. */
export async function refuseSameLabels(columns: readonly Column[], breath: Breath): Promise<void> {
  if (columns.length < 2) return
  const keys = new Set<string>()
  for (const { labels } of columns) {
    const key = labelsKey(labels)
    keys.add(key)
    if (breath.isDue(COLUMN_WORK + key.length)) await breath.breathe()
  }
  if (keys.size !== columns.length) throw sameLabelset()
}

/** One value for every step: what a step-invariant expression becomes. */
export function broadcast(column: Column, steps: number, memory: HeldMemory): Column {
  const wide = chargedColumn(memory, column.labels, steps, column.dropsName)
  wide.kinds.fill(column.kinds[0]!)
  if (column.kinds[0] === HISTOGRAM) {
    wide.histograms = new Array<Histogram | undefined>(steps).fill(column.histograms![0])
  } else wide.values.fill(column.values[0]!)
  return wide
}
