// How two histograms are brought to one shape: reset hints, schemas, custom bounds.
import type { ResetHint } from '../../model/histogram.ts'
import { indexAtSchema } from './histogram-bounds.ts'
import type { Side } from './histogram-buckets.ts'

/** One histogram has exponential buckets and the other custom ones. */
export class IncompatibleSchemas extends Error {}

/** What an operation had to overlook. */
export interface HistogramNotes {
  /** One side says "reset", the other "no reset". */
  collided: boolean
  /** Custom bounds differed and were reduced to the common ones. */
  reconciled: boolean
}

export function joinHints(a: ResetHint, b: ResetHint, notes: HistogramNotes): ResetHint {
  if (a === b) return a
  if (a === 'gauge' || b === 'gauge') return 'gauge'
  if (a !== 'unknown' && b !== 'unknown') notes.collided = true
  return 'unknown'
}

export function sameNumbers(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((value, i) => Object.is(value, b[i]))
}

/** Buckets merged into those of a coarser schema. */
export function atSchema(side: Side, schema: number, lower: number): Side {
  if (schema === lower) return side
  const merged: Side = { indexes: [], counts: [] }
  for (let i = 0; i < side.indexes.length; i++) {
    const index = indexAtSchema(side.indexes[i]!, schema, lower)
    const last = merged.indexes.length - 1
    if (merged.indexes[last] === index) merged.counts[last]! += side.counts[i]!
    else {
      merged.indexes.push(index)
      merged.counts.push(side.counts[i]!)
    }
  }
  return merged
}

export function commonBounds(a: readonly number[], b: readonly number[]): number[] {
  const known = new Set(b)
  return a.filter((bound) => known.has(bound))
}

/** The bucket among `common` (or past their end) that takes what bucket `index` of `bounds` held. */
export function customIndex(index: number, bounds: readonly number[], common: readonly number[]): number {
  if (index >= bounds.length) return common.length
  const bound = bounds[index]!
  let at = 0
  while (at < common.length && common[at]! < bound) at++
  return at
}
