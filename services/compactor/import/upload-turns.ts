// Whose upload is validated next. Pure.
//
// Invariants
//   TURN-1  Tenants take turns: next is one with the fewest uploads being validated, of these the one that was served longest ago. How many a tenant has
//       waiting makes nobody else wait.
import type { UploadRecord } from '../../../shared/contracts/uploads.ts'

export interface Candidate {
  readonly record: Pick<UploadRecord, 'tenant' | 'state' | 'changedAtMs' | 'attempt'>
  /** May be claimed now. */
  readonly isFree: boolean
}

/** Of one tenant what was finished first. */
export function nextInTurn<T extends Candidate>(all: readonly T[]): T | undefined {
  const tenants = new Map<string, { running: number; servedAtMs: number }>() // bounded by the records
  for (const { record, isFree } of all) {
    const { running, servedAtMs } = tenants.get(record.tenant) ?? { running: 0, servedAtMs: Number.NEGATIVE_INFINITY }
    tenants.set(record.tenant, {
      running: running + (record.state === 'validating' && !isFree ? 1 : 0),
      servedAtMs: record.attempt > 0 ? Math.max(servedAtMs, record.changedAtMs) : servedAtMs,
    })
  }
  let next: T | undefined
  for (const one of all) {
    if (!one.isFree) continue
    if (next === undefined || before(one, next)) next = one
  }
  return next

  function before({ record: a }: T, { record: b }: T): boolean {
    const [ofA, ofB] = [tenants.get(a.tenant)!, tenants.get(b.tenant)!]
    if (ofA.running !== ofB.running) return ofA.running < ofB.running
    if (ofA.servedAtMs !== ofB.servedAtMs) return ofA.servedAtMs < ofB.servedAtMs
    return a.changedAtMs < b.changedAtMs
  }
}
