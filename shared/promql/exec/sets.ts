// and, or, unless: the right side's presence per signature and step decides.
import type { Breath } from '../../base/breathing.ts'
import type { Labels } from '../../model/labels.ts'
import { ABSENT, COLUMN_WORK, type Column, filledOf, mergeSameLabels } from './column.ts'

export function isSetOperator(op: string): boolean {
  return op === 'and' || op === 'or' || op === 'unless'
}

export async function combineSets(
  op: string,
  left: Column[],
  right: Column[],
  keyOf: (labels: Labels) => string,
  steps: number,
  breath: Breath,
): Promise<Column[]> {
  if (op === 'or') {
    const taken = await presence(left, keyOf, steps, breath)
    for (const column of right) {
      mask(column, taken.get(keyOf(column.labels)), false)
      if (breath.isDue(COLUMN_WORK + steps)) await breath.breathe()
    }
    return mergeSameLabels(await filledOf([...left, ...right], breath), breath)
  }
  const there = await presence(right, keyOf, steps, breath)
  for (const column of left) {
    mask(column, there.get(keyOf(column.labels)), op === 'and')
    if (breath.isDue(COLUMN_WORK + steps)) await breath.breathe()
  }
  return filledOf(left, breath)
}

/** Per signature, 1 at each step where some series of it has a value. */
async function presence(
  columns: readonly Column[],
  keyOf: (labels: Labels) => string,
  steps: number,
  breath: Breath,
): Promise<Map<string, Uint8Array>> {
  const byKey = new Map<string, Uint8Array>()
  for (const { labels, kinds } of columns) {
    const key = keyOf(labels)
    let there = byKey.get(key)
    if (there === undefined) {
      there = new Uint8Array(steps)
      byKey.set(key, there)
    }
    for (let i = 0; i < steps; i++) if (kinds[i] !== ABSENT) there[i] = 1
    if (breath.isDue(COLUMN_WORK + steps)) await breath.breathe()
  }
  return byKey
}

/** Removes the values at steps where the other side's presence is not `wanted`. */
function mask({ kinds }: Column, there: Uint8Array | undefined, wanted: boolean): void {
  for (let i = 0; i < kinds.length; i++) if ((there?.[i] === 1) !== wanted) kinds[i] = ABSENT
}
