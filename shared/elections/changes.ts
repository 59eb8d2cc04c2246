// How the record of an HA pair's election changes (contracts/elections.ts): pure, each made by one compare-and-set; by distributors, and by hand
// through a gateway.
//
// Invariants of a record, which every change here keeps
//   ELECTION-1  Every accepted sample of the elected replica is newer than `guardMs` and at most `newestSampleMs`: distributors raise that bound
//       before they accept beyond it. So the reigns of two replicas share no time, whatever clocks and pauses do.
//   ELECTION-2  At a takeover the new guard is the old bound. Where that lies ahead of the clocks (`capOf`), the elected replica's clock was wrong,
//       or ours are slow: a challenger that has sent at the pace of time for as long as a takeover takes is not behind, so it is the former,
//       and must not be kept out. One that sends an old backlog is.
import type { ElectionRecord } from '../contracts/elections.ts'

interface Moment {
  readonly nowMs: number
  /** The bound of ELECTION-1 for what is about to be accepted. */
  readonly newestSampleMs: number
}

export function firstElected(cluster: string, replica: string, at: Moment): ElectionRecord {
  const { nowMs, newestSampleMs } = at
  return { v: 1, cluster, replica, electedAtMs: nowMs, renewedAtMs: nowMs, newestSampleMs, takeovers: 0 }
}

export function renewed(record: ElectionRecord, at: Moment): ElectionRecord {
  const newestSampleMs = Math.max(record.newestSampleMs, at.newestSampleMs)
  return { ...record, renewedAtMs: at.nowMs, newestSampleMs }
}

export function takenOver(record: ElectionRecord, replica: string, at: Moment & { guardMs: number }): ElectionRecord {
  const { nowMs, guardMs } = at
  const times = { electedAtMs: nowMs, renewedAtMs: nowMs, guardMs }
  const newestSampleMs = Math.max(guardMs, at.newestSampleMs)
  return { ...record, replica, ...times, newestSampleMs, takeovers: record.takeovers + 1 }
}

/** ELECTION-2: what can have been live while the last renewal was believed, by the later of two clocks: one that is slow does no harm. */
export function capOf(record: ElectionRecord, lastRenewal: { seenAtMs: number; believedMs: number }): number {
  const { seenAtMs, believedMs } = lastRenewal
  return Math.min(record.newestSampleMs, Math.round(Math.max(record.renewedAtMs, seenAtMs)) + believedMs)
}

/** By hand: the bound becomes the guard, so what still arrives by the old election overlaps nothing. */
export function switchedTo(record: ElectionRecord, replica: string, nowMs: number): ElectionRecord {
  if (record.replica === replica) return record
  const guardMs = capOf(record, { seenAtMs: nowMs, believedMs: SWITCH_AHEAD_MS })
  return takenOver(record, replica, { nowMs, newestSampleMs: guardMs, guardMs })
}

/** Bounds reach at most this far ahead of the clock when nothing is wrong with it. */
const SWITCH_AHEAD_MS = 60_000

export function withFrozen(record: ElectionRecord, isFrozen: boolean): ElectionRecord {
  const { frozen: _, ...rest } = record
  return isFrozen ? { ...rest, frozen: true } : rest
}
