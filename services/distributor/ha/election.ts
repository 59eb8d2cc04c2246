// One election as this distributor knows it: the record, when it saw that change, how long it may be believed, and what it heard and
// dropped of each replica. All times but those of the record are the distributor's own monotonic clock.
import type { ElectionRecord } from '../../../shared/contracts/elections.ts'
import type { UnwantedLabels } from '../../../shared/wire/unwanted.ts'

const REPLICAS_MAX = 32
/** Samples of a challenger may come that much sooner than time passes, as a share of the time it is watched. */
const STEADY_SLACK = 1 / 6

/** A challenger whose samples lie within the bound, and how long it has been sending at the pace of time. */
interface Challenge {
  readonly replica: string
  readonly sinceMs: number
  atMs: number
  newestMs: number
}

export interface ElectionName {
  readonly tenant: string
  readonly cluster: string
  /** Of its record. */
  readonly key: string
}

export class Election implements ElectionName {
  readonly tenant: string
  readonly cluster: string
  readonly key: string
  /** undefined: nobody is elected. */
  record: ElectionRecord | undefined
  revision = 0
  /** Why the record cannot be read, where a newer version wrote it. */
  newer: string | undefined
  /** The revision of what stands there and cannot be read, where no record is known. */
  unread: number | undefined
  /** Pushes under way that bring something for it. */
  claims = 0
  /** When the revision was seen to change. */
  changedAtMs: number
  /** The start of the own last renewal that succeeded, of the replica elected now. */
  renewedAtMs = Number.NEGATIVE_INFINITY
  /** Age at which the next renewal starts, drawn anew for each. */
  renewAfterMs = 0
  /** The one change that is under way. */
  busy: Promise<unknown> | undefined
  /** The bucket could not be reached, so silence may be its own; since when it can be again. */
  isUnsure = false
  reachableSinceMs: number | undefined
  private challenge: Challenge | undefined
  readonly heard = new Map<string, { atMs: number; dropped: number }>()

  constructor({ tenant, cluster, key }: ElectionName, nowMs: number) {
    this.tenant = tenant
    this.cluster = cluster
    this.key = key
    this.changedAtMs = nowMs
  }

  /** A record as the bucket gave it; older news are none. */
  learn(record: ElectionRecord | undefined, revision: number, nowMs: number): void {
    if (revision <= this.revision) return
    if (record?.replica !== this.record?.replica) this.renewedAtMs = Number.NEGATIVE_INFINITY
    this.record = record
    this.revision = revision
    this.newer = undefined
    this.unread = undefined
    this.changedAtMs = nowMs
    this.isUnsure = false
    this.challenge = undefined
  }

  /** What stands there now cannot be read: what is known holds, and the next change is made on this revision. `newer`: of a newer version. */
  learnUnread(revision: number, newer: string | undefined, nowMs: number): void {
    if (revision <= this.revision) return
    this.revision = revision
    this.newer = newer
    if (newer !== undefined) {
      this.record = undefined
      this.changedAtMs = nowMs
    }
    if (this.record === undefined) this.unread = revision
  }

  /** The bucket lost what it held from this revision on: what stands there now is news. */
  lostFrom(revision: number): void {
    this.revision = revision - 1
  }

  doubt(): void {
    this.isUnsure = true
    this.reachableSinceMs = undefined
  }

  /** ELECTION-2: whether a replica has sent at the pace of time for so long. One that sends what it could not send before is faster, until it has
   *  caught up; who was not watched meanwhile (a pause of this process) is watched anew. */
  isSteady(replica: string, newestMs: number, at: { nowMs: number; forMs: number }): boolean {
    const { nowMs, forMs } = at
    const last = this.challenge
    const passedMs = last === undefined ? 0 : nowMs - last.atMs
    if (
      last?.replica !== replica ||
      passedMs > forMs / 2 ||
      newestMs - last.newestMs > passedMs + forMs * STEADY_SLACK
    ) {
      this.challenge = { replica, newestMs, sinceMs: nowMs, atMs: nowMs }
      return false
    }
    last.atMs = nowMs
    last.newestMs = Math.max(last.newestMs, newestMs)
    return nowMs - last.sinceMs >= forMs
  }

  hear(replica: string, nowMs: number, dropped: number): void {
    const known = this.heard.get(replica)
    if (known === undefined && this.heard.size >= REPLICAS_MAX) this.heard.delete(this.heard.keys().next().value!)
    else this.heard.delete(replica) // so that the one silent for longest stands first
    this.heard.set(replica, { atMs: nowMs, dropped: (known?.dropped ?? 0) + dropped })
  }

  /** When anything was last heard of this cluster, from its replicas or through the bucket. */
  lastSignMs(): number {
    let last = this.changedAtMs
    for (const { atMs } of this.heard.values()) last = Math.max(last, atMs)
    return last
  }
}

/** What one push brings for one (election, replica), and what becomes of it. */
export class Claim {
  readonly election: Election
  readonly replica: string
  /** `ask`: what is known here does not decide. */
  verdict: 'take' | 'drop' | 'ask' | 'refuse'
  /** Times from `floorMs` to `ceilingMs` may be taken as they are: behind the guard, below the bound (ELECTION-1). */
  floorMs = Number.NEGATIVE_INFINITY
  ceilingMs = Number.NEGATIVE_INFINITY
  /** A sample beyond the ceiling is staged: the bound has to be raised first. */
  isBeyond = false
  newestMs = Number.NEGATIVE_INFINITY
  dropped = { samples: 0, histograms: 0, exemplars: 0 }
  /** What the dropped series of this claim are known by, once it was asked for. */
  unwanted: UnwantedLabels | undefined

  constructor(election: Election, replica: string) {
    this.election = election
    this.replica = replica
    this.verdict = 'ask'
  }
}
