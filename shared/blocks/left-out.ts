// Rules of deletions that the simulation leaves out, one at a time, to show that each is needed. Everywhere else all of them hold.

/** By name, with the rule (delete-rules.ts) that it is a part of. */
export const DELETE_RULES = {
  ring: 'D1',
  append: 'D2',
  'exact-mark': 'D3',
  'lost-end': 'D3',
  floor: 'D4',
  'first-wins': 'D4',
  'all-placed': 'D4',
  abandoned: 'D5',
  'same-id': 'D6',
  'as-of-version': 'D6',
  'asked-since': 'D6',
  overtakes: 'D6',
  'hole-cut': 'D7',
  'view-rev': 'D8',
  'placing-joins': 'D9',
  compare: 'D9',
  'digest-listed': 'D10',
  'jump-compare': 'D10',
  'sup-joins-ended': 'D11',
  forgotten: 'D11',
  removing: 'D12',
  drained: 'D12',
  commit: 'D12',
  history: 'D13',
  'merge-same': 'D14',
  tombstone: 'D15',
  'as-of': 'D15',
  fresh: 'D16',
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
