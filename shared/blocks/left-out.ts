// Rules of deletions that the simulation leaves out, one at a time, to show that each is needed. Everywhere else all of them hold.

/** By name, with the rule (delete-rules.ts) that it is a part of. */
export const DELETE_RULES = {
  ring: 'DELETE-1',
  append: 'DELETE-2',
  'exact-mark': 'DELETE-3',
  'lost-end': 'DELETE-3',
  floor: 'DELETE-4',
  'first-wins': 'DELETE-4',
  'all-placed': 'DELETE-4',
  abandoned: 'DELETE-5',
  'same-id': 'DELETE-6',
  'as-of-version': 'DELETE-6',
  'asked-since': 'DELETE-6',
  overtakes: 'DELETE-6',
  'hole-cut': 'DELETE-7',
  'view-rev': 'DELETE-8',
  'placing-joins': 'DELETE-9',
  compare: 'DELETE-9',
  'digest-listed': 'DELETE-10',
  'jump-compare': 'DELETE-10',
  'sup-joins-ended': 'DELETE-11',
  forgotten: 'DELETE-11',
  removing: 'DELETE-12',
  drained: 'DELETE-12',
  commit: 'DELETE-12',
  history: 'DELETE-13',
  'merge-same': 'DELETE-14',
  tombstone: 'DELETE-15',
  'as-of': 'DELETE-15',
  fresh: 'DELETE-16',
} as const

export type DeleteRule = keyof typeof DELETE_RULES

const leftOut = new Set<string>()

export function isLeftOut(rule: DeleteRule): boolean {
  return leftOut.has(rule)
}

/** Only for the simulation: from now on these rules do not hold in this process, and all others do. */
export function leaveOut(rules: Iterable<string>): void {
  leftOut.clear()
  for (const rule of rules) leftOut.add(rule)
}
