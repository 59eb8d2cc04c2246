// and, or, unless: the right side's presence per signature and step decides.
import type { Labels } from '../../model/labels.ts'
import { ABSENT, type Column, isEmpty, mergeSameLabels } from './column.ts'

export function isSetOperator(op: string): boolean {
  return op === 'and' || op === 'or' || op === 'unless'
}

export function combineSets(
  op: string,
  left: Column[],
  right: Column[],
  keyOf: (labels: Labels) => string,
  steps: number,
): Column[] {
  if (op === 'or') {
    const taken = presence(left, keyOf, steps)
    for (const column of right) mask(column, taken.get(keyOf(column.labels)), false)
    return mergeSameLabels([...left, ...right].filter((column) => !isEmpty(column)))
  }
  const there = presence(right, keyOf, steps)
  for (const column of left) mask(column, there.get(keyOf(column.labels)), op === 'and')
  return left.filter((column) => !isEmpty(column))
}

/** Per signature, 1 at each step where some series of it has a value. */
function presence(
  columns: readonly Column[],
  keyOf: (labels: Labels) => string,
  steps: number,
): Map<string, Uint8Array> {
  const byKey = new Map<string, Uint8Array>()
  for (const { labels, kinds } of columns) {
    const key = keyOf(labels)
    let there = byKey.get(key)
    if (there === undefined) {
      there = new Uint8Array(steps)
      byKey.set(key, there)
    }
    for (let i = 0; i < steps; i++) if (kinds[i] !== ABSENT) there[i] = 1
  }
  return byKey
}

/** Removes the values at steps where the other side's presence is not `wanted`. */
function mask({ kinds }: Column, there: Uint8Array | undefined, wanted: boolean): void {
  for (let i = 0; i < kinds.length; i++) if ((there?.[i] === 1) !== wanted) kinds[i] = ABSENT
}
