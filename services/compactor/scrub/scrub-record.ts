// What is written down of a scrub: how it begins or goes on, and which of its findings are kept.
import { FINDINGS_MAX, type ScrubFinding, type ScrubRecord } from '../../../shared/contracts/scrubbing.ts'

export type Editable<T> = { -readonly [K in keyof T]: T[K] }

/** The cursor of a scrub that has read the manifest and no block yet: smaller than any name of one. */
export const BEFORE_ALL = '0'

/** From the start when it is asked for, else from where the one before broke off. */
export function recordAfter(
  before: ScrubRecord | undefined,
  { tenant, by, nowMs, isAsked }: { tenant: string; by: string; nowMs: number; isAsked: boolean },
): Editable<ScrubRecord> {
  if (before !== undefined && before.endedAtMs === undefined && before.cursor !== '' && !isAsked) {
    const { error: _, ...kept } = before
    return { ...kept, by }
  }
  const lastEndedAtMs = before?.endedAtMs ?? before?.lastEndedAtMs
  return {
    ...{ v: 1, tenant, by, beganAtMs: nowMs, cursor: '', blocks: 0, bytes: 0 },
    ...{ findings: [], findingCount: 0 },
    ...(lastEndedAtMs === undefined ? {} : { lastEndedAtMs }),
  }
}

const RANK = { damaged: 0, repaired: 1, told: 2 }

/** Those that are kept, the most urgent first. */
export function keptOf(findings: readonly ScrubFinding[]): ScrubFinding[] {
  return [...findings].sort((a, b) => RANK[a.state] - RANK[b.state]).slice(0, FINDINGS_MAX)
}

export function damagedIn(record: ScrubRecord | undefined): ScrubFinding[] {
  return (record?.findings ?? []).filter(({ what, state }) => what === 'block' && state === 'damaged')
}

export function outcomeOf(findings: readonly ScrubFinding[]): 'sound' | 'damaged' | 'repaired' {
  const own = findings.filter(({ what }) => what === 'block')
  if (own.length === 0) return 'sound'
  return own.some(({ state }) => state === 'damaged') ? 'damaged' : 'repaired'
}
