// Elections: of the replicas of an HA pair, the one whose samples are stored (LOG-22). The record of each (tenant, cluster) stands in a
// bucket that all distributors watch, and is changed by compare-and-set alone.
//
// Invariants
//   HA-1  A replica is taken by what is known here only within `haKvGraceMs` of the start of the own last renewal that succeeded.
//   HA-2  No sample is taken beyond the record's bound, which is raised before (contract, ELECTION-1). So however long a push stands still between
//       the decision and the log, it overlaps nothing of the next reign.
//   HA-3  A takeover wants `haTakeoverMs` of silence by the own monotonic clock since the record was seen to change, and samples newer than
//       the bound. Silence that may be the bucket's own is none: then challengers are told to come again (503), not dropped.
//   HA-4  One change of an election at a time, each by the revision it was decided on; whoever loses the race reads and judges again, by what stands
//       there, also at a lower revision: the bucket lost its newest writes.
//   HA-5  An election is remembered while it has a record or a push has a claim on it: at most `haClustersMax` of a tenant are begun, and of what is
//       refused nothing stays.
//   HA-6  A record that cannot be read is written over: by what was known before, else by a new election. One of a newer version is not: its cluster
//       gets 503 here.
import type { Clock } from '../../../shared/base/clock.ts'
import { ConflictError, RefusedError, textOf, UnavailableError } from '../../../shared/base/errors.ts'
import type { Subscription } from '../../../shared/base/listeners.ts'
import type { Random } from '../../../shared/base/random.ts'
import type { Bus, KvBucket } from '../../../shared/bus/port.ts'
import {
  clusterToken,
  ELECTIONS_BUCKET,
  type ElectionNewsReply,
  type ElectionRecord,
  electionRecord,
} from '../../../shared/contracts/elections.ts'
import { capOf, firstElected, renewed, takenOver } from '../../../shared/elections/changes.ts'
import { readRecord } from '../../../shared/kv/read-records.ts'
import { on, type Shown, watchRecords } from '../../../shared/kv/watch-records.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import type { Metrics } from '../../../shared/telemetry/metrics.ts'
import type { DistributorConfig } from '../config.ts'
import { Claim, Election, type ElectionName } from './election.ts'

export interface ElectionsDeps {
  readonly bus: Bus
  readonly clock: Clock
  readonly random: Random
  readonly config: DistributorConfig
  readonly log: Log
  readonly metrics: Metrics
  /** Parts of the protocol left out, only for the simulation's counter-proofs. */
  readonly without?: ReadonlySet<string>
}

/** Lost races in a row after which a push is told to come again. */
const ATTEMPTS_MAX = 8

export class Elections {
  private readonly deps: ElectionsDeps
  private readonly byKey = new Map<string, Election>()
  /** Elections in `byKey`, by tenant. */
  private readonly counts = new Map<string, number>()
  private readonly counted: ReturnType<typeof electionMetrics>
  private bucket: KvBucket | undefined
  private readonly opened: Subscription[] = []

  constructor(deps: ElectionsDeps) {
    this.deps = deps
    this.counted = electionMetrics(deps.metrics, () => this.heldCount())
  }

  /** Resolves when every present record is known. */
  async start(): Promise<void> {
    const { bus, config } = this.deps
    if (config.haTakeoverMs < config.haKvGraceMs || config.haKvGraceMs < config.haRenewMs) {
      const text = '--ha-renew must not exceed --ha-kv-grace, nor that --ha-takeover'
      throw new RefusedError('err-carillon-settings', text)
    }
    this.bucket = await bus.bucket(ELECTIONS_BUCKET)
    const doubtAll = (isConnected: boolean) => {
      if (!isConnected) for (const election of this.byKey.values()) election.doubt()
    }
    const { log, metrics } = this.deps
    const { promise: isKnown, resolve: known } = Promise.withResolvers<void>()
    const ears = [on(electionRecord, (shown) => this.hear(shown))] as const
    this.opened.push(bus.onConnection(doubtAll))
    this.opened.push(watchRecords({ bucket: this.bucket, filter: '>', ears, log, metrics }, known))
    await isKnown
  }

  stop(): void {
    for (const each of this.opened.splice(0)) each.stop()
  }

  /** False: it is one more than the tenant may have (HA-5). */
  mayClaim({ tenant, key }: ElectionName): boolean {
    return this.byKey.has(key) || (this.counts.get(tenant) ?? 0) < this.deps.config.haClustersMax
  }

  /** What a push brings for a cluster of which it may. To be let go when the push is through. */
  claim(name: ElectionName, replica: string): Claim {
    const election = this.byKey.get(name.key) ?? this.remember(name)
    election.claims++
    return new Claim(election, replica)
  }

  letGo({ election }: Claim): void {
    election.claims--
    this.forgetIdle(election)
  }

  private remember({ tenant, cluster, key }: ElectionName): Election {
    const election = new Election({ tenant, cluster, key }, this.deps.clock.monotonic())
    this.byKey.set(key, election)
    this.counts.set(tenant, (this.counts.get(tenant) ?? 0) + 1)
    return election
  }

  private forgetIdle(election: Election): void {
    if (election.claims > 0 || election.record !== undefined || election.busy !== undefined) return // HA-5
    if (this.byKey.get(election.key) !== election) return
    this.byKey.delete(election.key)
    const count = this.counts.get(election.tenant)! - 1
    if (count === 0) this.counts.delete(election.tenant)
    else this.counts.set(election.tenant, count)
  }

  /** Decides by what is known here, if that does. */
  judge(claim: Claim): void {
    const { clock, config } = this.deps
    const { election, replica } = claim
    const { record } = election
    const now = clock.monotonic()
    claim.verdict = 'ask'
    if (record === undefined) return
    if (record.replica === replica) {
      if (now - election.renewedAtMs > config.haKvGraceMs) return // HA-1
      claim.verdict = 'take'
      claim.floorMs = record.guardMs === undefined ? Number.NEGATIVE_INFINITY : record.guardMs + 1
      claim.ceilingMs = record.newestSampleMs
      return
    }
    if (record.frozen || now - election.changedAtMs < config.haTakeoverMs) claim.verdict = 'drop'
  }

  /** Decides for good, through the bucket where it must. Rejects with UnavailableError when that cannot be reached. */
  async settle(claim: Claim): Promise<void> {
    const { election } = claim
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      while (election.busy !== undefined) await election.busy
      this.judge(claim)
      if (claim.verdict === 'drop') return
      if (election.newer !== undefined) throw unavailable(election, election.newer) // HA-6
      if (claim.verdict === 'take' && (claim.newestMs <= claim.ceilingMs || this.isBoundless())) return // HA-2
      if (claim.newestMs === Number.NEGATIVE_INFINITY) {
        claim.verdict = 'drop' // nothing in it to elect a replica by, and nothing to lose
        return
      }
      const step = this.stepFor(claim)
      if (step === undefined) return
      await this.exclusively(election, step)
    }
    throw unavailable(election, 'other distributors keep changing it')
  }

  /** Renews without being waited for, when it is time. */
  renewSoon(claim: Claim): void {
    const { clock, log } = this.deps
    const { election } = claim
    const { record } = election
    if (election.busy !== undefined || record?.replica !== claim.replica) return
    if (clock.monotonic() - election.renewedAtMs < election.renewAfterMs) return
    this.exclusively(election, () => this.renew(election, record, claim.newestMs)).catch((error: unknown) => {
      log.debug({ election: election.key, reason: textOf(error) }, 'an election could not be renewed ahead of time')
    })
  }

  /** What came of a claim, once its push is through. */
  note({ election, replica, dropped }: Claim): void {
    const samples = dropped.samples + dropped.histograms
    election.hear(replica, this.deps.clock.monotonic(), samples)
    if (samples > 0) this.counted.dropped.inc(samples)
  }

  /** Deletes records of clusters that have been silent for long; a new sample elects anew. */
  async cleanUp(): Promise<void> {
    const { clock, config, log } = this.deps
    for (const election of [...this.byKey.values()]) {
      const { record, revision } = election
      const isIdle = clock.monotonic() - election.lastSignMs() >= config.haIdleMs
      if (!isIdle || record?.frozen || election.busy !== undefined) continue
      if (record === undefined) {
        this.forgetIdle(election)
        continue
      }
      await this.exclusively(election, async () => {
        await this.bucket!.delete(election.key, revision)
        log.info({ tenant: election.tenant, cluster: election.cluster }, 'an idle election was deleted')
      })
    }
  }

  news(tenant: string | undefined): ElectionNewsReply {
    const now = this.deps.clock.monotonic()
    const elections = [...this.byKey.values()]
      .filter((election) => election.heard.size > 0 && (tenant === undefined || election.tenant === tenant))
      .map((election) => ({
        tenant: election.tenant,
        cluster: election.cluster,
        replicas: [...election.heard].map(([replica, { atMs, dropped }]) => ({
          replica,
          silentMs: Math.round(now - atMs),
          dropped,
        })),
      }))
    return { elections }
  }

  /** The change that would decide a claim; undefined when it is decided: dropped or refused. */
  private stepFor(claim: Claim): (() => Promise<void>) | undefined {
    const { clock, config } = this.deps
    const { election, replica, newestMs } = claim
    const { record } = election
    if (record === undefined) {
      if (this.counts.get(election.tenant)! <= config.haClustersMax) return () => this.create(election, claim)
      claim.verdict = 'refuse'
      return undefined
    }
    if (record.replica === replica) return () => this.renew(election, record, newestMs)
    if (election.isUnsure && !this.isSureAgain(election)) return () => this.probe(election)
    const seenAtMs = clock.now() - (clock.monotonic() - election.changedAtMs)
    const capMs = capOf(record, { seenAtMs, believedMs: config.haKvGraceMs })
    claim.verdict = 'drop'
    const boundMs = record.newestSampleMs
    if (newestMs > boundMs) return () => this.takeOver(election, record, { replica, newestMs, guardMs: boundMs })
    const watched = { nowMs: clock.monotonic(), forMs: config.haTakeoverMs }
    if (newestMs <= capMs || !election.isSteady(replica, newestMs, watched)) return undefined // HA-3, ELECTION-2
    return () => this.takeOver(election, record, { replica, newestMs, guardMs: capMs })
  }

  private isSureAgain({ reachableSinceMs }: Election): boolean {
    const { clock, config } = this.deps
    return reachableSinceMs !== undefined && clock.monotonic() - reachableSinceMs >= config.haTakeoverMs
  }

  /** HA-3: the bucket is asked until it has answered for as long as a takeover wants; meanwhile the challenger comes again. */
  private async probe(election: Election): Promise<void> {
    const before = election.revision
    await this.read(election)
    if (election.revision !== before) return
    election.reachableSinceMs ??= this.deps.clock.monotonic()
    throw unavailable(election, 'the elected replica may only have been unable to renew; it is given time')
  }

  private async create(election: Election, claim: Claim): Promise<void> {
    const { replica, newestMs } = claim
    const record = firstElected(election.cluster, replica, this.momentOf(newestMs))
    const bytes = electionRecord.format.encode(record)
    const { key, unread } = election
    await this.write(election, record, () =>
      unread === undefined ? this.bucket!.create(key, bytes) : this.bucket!.update(key, bytes, unread),
    )
    this.deps.log.info({ tenant: election.tenant, cluster: election.cluster, replica }, 'a replica was elected')
  }

  private async renew(election: Election, record: ElectionRecord, newestMs: number): Promise<void> {
    const { revision } = election
    const next = renewed(record, this.momentOf(newestMs))
    await this.write(election, next, () =>
      this.bucket!.update(election.key, electionRecord.format.encode(next), revision),
    )
    this.counted.renewals.inc()
  }

  private async takeOver(
    election: Election,
    record: ElectionRecord,
    { replica, newestMs, guardMs }: { replica: string; newestMs: number; guardMs: number },
  ): Promise<void> {
    const { revision, tenant, cluster } = election
    const next = takenOver(record, replica, { ...this.momentOf(newestMs), guardMs })
    await this.write(election, next, () =>
      this.bucket!.update(election.key, electionRecord.format.encode(next), revision),
    )
    this.counted.takeovers.inc()
    this.deps.log.warn({ tenant, cluster, from: record.replica, to: replica }, 'another replica took over')
  }

  /** The bound reaches ahead as far as a renewal is believed, so that a live replica needs no more writes than its renewals. */
  private momentOf(newestMs: number): { nowMs: number; newestSampleMs: number } {
    const { clock, config } = this.deps
    const aheadMs = this.isBoundless() ? 0 : config.haKvGraceMs
    const newestSampleMs = Number.isFinite(newestMs) ? newestMs + aheadMs : Number.MIN_SAFE_INTEGER
    return { nowMs: Math.round(clock.now()), newestSampleMs }
  }

  private isBoundless(): boolean {
    return this.deps.without?.has('election-bound') ?? false
  }

  private async write(election: Election, record: ElectionRecord, call: () => Promise<number>): Promise<void> {
    const { clock, config, random } = this.deps
    const startMs = clock.monotonic()
    const revision = await call()
    const isNewest = revision >= election.revision // else another change has been heard of meanwhile
    election.learn(record, revision, clock.monotonic())
    if (!isNewest) return
    election.renewedAtMs = startMs // HA-1
    election.renewAfterMs = config.haRenewMs * (0.8 + 0.2 * random.next())
  }

  private async exclusively(election: Election, step: () => Promise<void>): Promise<void> {
    const working = this.carryOut(election, step)
    election.busy = working.catch(() => {}) // whoever waits for its turn judges anew; `working` itself tells the failure
    try {
      await working
    } finally {
      election.busy = undefined
      this.forgetIdle(election) // HA-5: it may have been shown as gone meanwhile
    }
  }

  private async carryOut(election: Election, step: () => Promise<void>): Promise<void> {
    try {
      await step()
    } catch (error) {
      if (error instanceof ConflictError) return await this.read(election) // HA-4
      if (error instanceof UnavailableError && error.code !== UNAVAILABLE) {
        this.counted.failures.inc()
        election.doubt()
        throw unavailable(election, textOf(error), error)
      }
      throw error
    }
  }

  private async read(election: Election): Promise<void> {
    const { log, metrics } = this.deps
    const { tenant, cluster } = election
    try {
      const params = { tenant, cluster: clusterToken(cluster) }
      const before = election.revision
      const standing = await readRecord({ bucket: this.bucket!, log, metrics }, electionRecord, params)
      if (standing.revision < before && election.revision === before) election.lostFrom(standing.revision)
      this.hear(standing)
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error
      election.doubt()
      throw unavailable(election, textOf(error), error)
    }
  }

  private hear(shown: Shown<'tenant' | 'cluster', ElectionRecord>): void {
    const { key, params, revision } = shown
    const known = this.byKey.get(key)
    const nowMs = this.deps.clock.monotonic()
    if (shown.kind === 'value') {
      const election = known ?? this.remember({ tenant: params.tenant, cluster: shown.value.cluster, key })
      election.learn(shown.value, revision, nowMs)
    } else if (known === undefined) return
    else if (shown.kind === 'gone') known.learn(undefined, revision, nowMs)
    else known.learnUnread(revision, shown.kind === 'newer-version' ? shown.reason : undefined, nowMs)
    if (known !== undefined) this.forgetIdle(known)
  }

  private heldCount(): number {
    let count = 0
    for (const election of this.byKey.values()) if (election.record) count++
    return count
  }
}

const UNAVAILABLE = 'err-carillon-election-unavailable'

function unavailable({ cluster }: Election, why: string, cause?: unknown): UnavailableError {
  const text = `the election of cluster "${cluster.slice(0, 200)}" cannot be settled now: ${why}`
  return new UnavailableError(UNAVAILABLE, text, { cause })
}

function electionMetrics(metrics: Metrics, held: () => number) {
  metrics.gaugeOf('carillon_ha_elections', 'Elections that have a replica.', held)
  return {
    dropped: metrics.counter(
      'carillon_ha_dropped_samples_total',
      'Samples of replicas that are not elected, or older than the last takeover.',
    ),
    takeovers: metrics.counter('carillon_ha_takeovers_total', 'Replicas that took over through this distributor.'),
    renewals: metrics.counter('carillon_ha_renewals_total', 'Renewals of elections by this distributor.'),
    failures: metrics.counter(
      'carillon_ha_bucket_failures_total',
      'Changes of elections that the bucket did not take.',
    ),
  }
}
