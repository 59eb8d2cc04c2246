// elections: which replica of an HA pair is stored (L22), and what distributors know beside it.
//
// Bucket `elections`:  {tenant}.{cluster}   JSON ElectionRecord; changed by compare-and-set only (create, update and delete of a
//                                           known revision), by distributors and, by hand, through a gateway; watched by all distributors
// electionNews   addressed   distributor.{id}.elections   what that distributor has heard and dropped; lost when it ends
//
// Invariants of a record, which every change here keeps
//   E1  Every accepted sample of the elected replica is newer than `guardMs` and at most `newestSampleMs`: distributors raise that bound
//       before they accept beyond it. So the reigns of two replicas share no time, whatever clocks and pauses do.
//   E2  At a takeover the new guard is the old bound. Where that lies ahead of the clocks (`capOf`), the elected replica's clock was wrong,
//       or ours are slow: a challenger that has sent at the pace of time for as long as a takeover takes is not behind, so it is the former,
//       and must not be kept out. One that sends an old backlog is.
import { addressed, cbor } from '../bus/contract.ts'
import { jsonRecord, keyFor, record } from '../bus/record.ts'
import { aFlag, aName, aTenant, aWhole, ifThere } from '../bus/shape.ts'
import { encodeTenant } from '../model/tenant.ts'
import { sha256Of } from '../wire/sha256.ts'

export const ELECTIONS_BUCKET = 'elections'
const CLUSTER_TOKEN_MAX = 200

export interface ElectionRecord {
  readonly v: 1
  readonly cluster: string
  readonly replica: string
  /** Wall clock of the distributor (or gateway) that wrote it; for people, and for `capOf`. */
  readonly electedAtMs: number
  readonly renewedAtMs: number
  /** No accepted sample is newer; up to a few seconds ahead of the newest one. */
  readonly newestSampleMs: number
  /** Samples up to this time are the former replicas'. Absent: there was none. */
  readonly guardMs?: number
  /** Only a person changes the replica. */
  readonly frozen?: boolean
  readonly takeovers: number
}

/** A name too long for a subject stands there as its hash; the record holds the name itself. */
export function clusterToken(cluster: string): string {
  const token = encodeTenant(cluster)
  return token.length <= CLUSTER_TOKEN_MAX ? token : `__${sha256Of(cluster)}` // no encoded name has two `_` in a row
}

export const electionRecord = record({
  name: 'election',
  bucket: ELECTIONS_BUCKET,
  key: '{tenant}.{cluster}',
  format: jsonRecord<ElectionRecord>(1, {
    ...{ cluster: aName, replica: aName, electedAtMs: aWhole, renewedAtMs: aWhole, newestSampleMs: aWhole },
    ...{ guardMs: ifThere(aWhole), frozen: ifThere(aFlag), takeovers: aWhole },
  }),
  isSound: ({ cluster }, params) => clusterToken(cluster) === params.cluster,
  unreadable: 'what a distributor knew before holds and is written over it; where none did, a replica is elected anew',
  newer: 'pushes of that cluster are 503 err-carillon-election-unavailable at this version',
  doc: 'the elected replica of an HA pair, its bounds in sample time, takeovers',
})

export const electionKey = (tenant: string, cluster: string): string =>
  keyFor(electionRecord, { tenant, cluster: clusterToken(cluster) })

interface Moment {
  readonly nowMs: number
  /** The bound of E1 for what is about to be accepted. */
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

/** E2: what can have been live while the last renewal was believed, by the later of two clocks: one that is slow does no harm. */
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

export interface ElectionNewsRequest {
  /** Absent: of all tenants. */
  readonly tenant?: string
}

/** One replica as one distributor knows it. */
export interface HeardReplica {
  readonly replica: string
  /** Since it last sent something to this distributor. */
  readonly silentMs: number
  /** Its samples that were dropped here, since this distributor started. */
  readonly dropped: number
}

export interface ElectionNews {
  readonly elections: readonly {
    readonly tenant: string
    readonly cluster: string
    readonly replicas: readonly HeardReplica[]
  }[]
}

export const electionNews = addressed({
  name: 'electionNews',
  subject: 'distributor.{id}.elections',
  request: cbor<ElectionNewsRequest>({ tenant: ifThere(aTenant) }),
  reply: cbor<ElectionNews>(),
  timeoutMs: 5_000,
  requestBytesMax: 4 * 1024,
  replyBytesMax: 16 * 1024 * 1024,
  doc: 'which replicas of HA pairs one distributor has heard, and what it dropped of them',
})
