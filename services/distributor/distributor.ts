// The distributor takes in what a tenant writes, refuses what breaks the tenant's limits, and appends everything else to the logs of
// the partitions that own it.
//
// Invariants
//   D1  A write is acknowledged only when every batch made from it is stored where every owner can read it (L5, L6).
//   D2  A refused series never holds back an accepted one from the same write.
//   D3  The distributor keeps nothing that matters: killing it loses only writes not yet acknowledged.
//   D4  Overload and a full log answer 503, never 429: a sender drops what got 429.
//   D5  Of an HA pair one replica is stored at a time (elections.ts, L22).
//   D6  Nobody writes by a view of the ring that has not been confirmed for long (L19): longer than queriers bear, for what lands by an
//       old view is read all the same, and several elections in a row must not stop writes.
//   D7  A log that does not answer, or is full, delays and refuses only pushes with something that goes there.
import { sleep } from '../../shared/base/clock.ts'
import { RefusedError, textOf, UnavailableError } from '../../shared/base/errors.ts'
import { Lanes } from '../../shared/base/lanes.ts'
import type { Subscription } from '../../shared/base/listeners.ts'
import { every, type HandlerContext, hear, serve } from '../../shared/bus/actor.ts'
import { ask } from '../../shared/bus/ask.ts'
import type { KvBucket } from '../../shared/bus/port.ts'
import { type ElectionNewsReply, electionNews } from '../../shared/contracts/elections.ts'
import { LOG_BUCKET, logName, markSubject } from '../../shared/contracts/log.ts'
import { known, ownerCounted } from '../../shared/contracts/read.ts'
import { type LogPosition, type PushReply, type PushRequest, push, pushTo } from '../../shared/contracts/write.ts'
import { KnownEnds } from '../../shared/kv/known-ends.ts'
import { watchKeep } from '../../shared/limits/keep.ts'
import type { ServiceDeps } from '../../shared/membership/deps.ts'
import type { MemberActor } from '../../shared/membership/member-actor.ts'
import { type Refusal, refusal } from '../../shared/model/label-rules.ts'
import { decodeTenant } from '../../shared/model/tenant.ts'
import { type Pie, partitionOf, pieOf } from '../../shared/ring/pie.ts'
import { type AdmitContext, admit, applyClaims, Staged } from './admit/admit.ts'
import { OwnerNews, RateLimiter } from './admit/write-limits.ts'
import type { DistributorConfig } from './config.ts'
import type { Claim } from './ha/election.ts'
import { Elections } from './ha/elections.ts'
import { haLabelsOf } from './ha/ha-labels.ts'
import { Dictionary } from './log/dictionary.ts'
import { HighWaterMarks } from './log/high-water.ts'
import { createLogProbe } from './log/log-probe.ts'
import { PartitionWriter } from './log/partition-writer.ts'
import { writerMetrics } from './log/writer-metrics.ts'

/** D6: this many times as long as others bear a view that is not confirmed. */
const UNCONFIRMED_TIMES_MAX = 2

export type DistributorDeps = ServiceDeps & {
  readonly config: DistributorConfig
  /** Parts of the protocol left out; only the simulation's counter-proofs set it. */
  readonly without?: ReadonlySet<string>
}

const CONFIRM_MS_MAX = 2_000
const CONFIRM_STEP_MS = 25
const OWNER_NEWS_FRESH_MS = 20_000
const LOG_STATE_MS = 5_000
const ELECTIONS_REVIEW_MS = 60_000
const DICTIONARY_REVIEW_MS = 600_000
const DICTIONARY_SMALL = 50_000
/** How long the start waits while no log has a leader. */
const START_MS_MAX = 30_000
const FIRST_MARKS_WAIT_MS = 5_000
const FIRST_MARKS_STEP_MS = 50
const STAGED_SPARES_MAX = 16
/** Elections of one push that are settled at the same time. */
const SETTLING_MAX = 64
const NEW_SERIES_PRESSURE = 0.9
const WRITE_PRESSURE = 0.97

export function distributor(deps: DistributorDeps): MemberActor {
  const { bus, clock, config, membership, log, metrics, random, id } = deps
  const writers: PartitionWriter[] = []
  const rates = new RateLimiter(clock)
  const news = new OwnerNews(clock, OWNER_NEWS_FRESH_MS)
  const elections = new Elections(deps)
  const keep = watchKeep(deps)
  const ends = new KnownEnds(deps)
  const probe = createLogProbe({ logs: bus.logs, clock })
  const spares: Staged[] = []
  const haLabelsOfTenant = haLabelsOf(config)
  const lanes = new Lanes({
    clock,
    onFailure: (lane, { code, message }) => log.warn({ lane, code, reason: message }, 'tried again'),
  })
  let dictionary = new Dictionary()
  /** How series go to the partitions that take them. */
  let pie: Pie | undefined
  let writableCount = 0
  let highWater: HighWaterMarks
  let bucket: KvBucket
  let marksHeard: Subscription | undefined
  let connection: Subscription | undefined

  const counted = {
    samples: metrics.counter('carillon_distributor_samples_total', 'Samples acknowledged.', ['kind']),
    discarded: metrics.counter('carillon_discarded_samples_total', 'Samples refused.', ['reason']),
    leftOut: {
      exemplars: metrics.counter('carillon_discarded_exemplars_total', 'Exemplars left out of pushes.', ['reason']),
      metadata: metrics.counter('carillon_discarded_metadata_total', 'Metadata left out of pushes.', ['reason']),
    },
    pushes: metrics.counter('carillon_distributor_pushes_total', 'Pushes answered.', ['outcome']),
    rewinds: metrics.counter(
      'carillon_distributor_log_rewinds_total',
      'Logs found to end before a sequence known to be stored.',
    ),
  }
  const writerCounts = writerMetrics(metrics)
  metrics.gaugeOf('carillon_distributor_dictionary_series', 'Series that the dictionary knows.', () => dictionary.size)
  metrics.gaugeOf('carillon_distributor_dictionary_bytes', 'Bytes that the dictionary holds.', () => dictionary.bytes)
  metrics.gaugeOf('carillon_distributor_queued_bytes', 'Bytes that wait for the log.', queuedBytes)

  return {
    name: 'distributor',
    serves: [
      serve(push, onPush, { queue: 'distributor' }),
      serve(pushTo, onPush, { params: { id } }),
      serve(electionNews, async ({ tenant }): Promise<ElectionNewsReply> => elections.news(tenant), { id }),
    ],
    hears: [hear(ownerCounted, (counts) => news.hear(counts))],
    every: [
      every(LOG_STATE_MS, 'read how full the logs are', async () => readLogStates(writers)),
      every(config.highWaterMs, 'write down the newest stored batch of each session', saveHighWater),
      every(DICTIONARY_REVIEW_MS, 'start the dictionary afresh when most of it is old', reviewDictionary),
      every(ELECTIONS_REVIEW_MS, 'delete elections that have been idle for long', () => elections.cleanUp()),
      every(1_000, 'look for marks and partitions', findMarks),
    ],
    async start() {
      bucket = await bus.bucket(LOG_BUCKET)
      highWater = new HighWaterMarks({ bucket, id, log, metrics, rewinds: counted.rewinds })
      marksHeard = bus.subscribe(markSubject('*'), {}, ({ subject }) => hearMark(subject))
      connection = bus.onConnection(onConnection)
      await elections.start()
      await keep.start()
      await findLogs()
    },
    lacks,
    async stop() {
      marksHeard?.stop()
      connection?.stop()
      keep.stop()
      elections.stop() // D3: nothing else; what is at work in lanes ends by itself
    },
  }

  async function onPush({ protocol, body }: PushRequest, context: HandlerContext): Promise<PushReply> {
    const tenant = decodeTenant(context.params['tenant']!)
    if (!membership.isConfirmed(UNCONFIRMED_TIMES_MAX)) await confirmed(context.signal)
    refuseWhenUnable()
    if (dictionary.size >= config.dictionarySeriesMax) dictionary = new Dictionary()
    const used = dictionary // it may be replaced while this push waits
    const staged = spares.pop() ?? new Staged()
    try {
      const haLabels = haLabelsOfTenant(tenant)
      const admission = {
        dictionary: used,
        tenant,
        config,
        nowMs: clock.now(),
        keepMs: keep.of(tenant),
        partitionOf: place,
        haLabels,
        elections,
      }
      admit(protocol, body, staged, admission)
      refuseWhereUnable(staged, used)
      if (staged.claims.size > 0) await settleClaims(staged, admission) // D5
      refuseWhenTooFast(tenant, staged)
      const denied = await denySeries(tenant, staged, used)
      const { written, commits } = write(staged, denied, used)
      const refused = refusalOf(staged)
      for (const [reason, samples] of staged.discarded) counted.discarded.with({ reason }).inc(samples)
      for (const kind of ['exemplars', 'metadata'] as const)
        for (const [reason, count] of staged.leftOut[kind]) counted.leftOut[kind].with({ reason }).inc(count)
      const position = await acknowledged(commits) // D1
      counted.samples.with({ kind: 'float' }).inc(written.samplesWritten)
      counted.samples.with({ kind: 'histogram' }).inc(written.histogramsWritten)
      counted.pushes.with({ outcome: refused.refusal ? 'partly refused' : 'stored' }).inc()
      return { ...written, ...droppedOf(staged), ...refused, position }
    } catch (error) {
      counted.pushes.with({ outcome: error instanceof RefusedError ? 'refused' : 'unavailable' }).inc()
      if (error instanceof RefusedError) for (const ref of staged.newRefs) used.forget(ref)
      throw error
    } finally {
      for (const claim of staged.claims.values()) elections.letGo(claim)
      staged.clear()
      if (spares.length < STAGED_SPARES_MAX) spares.push(staged)
    }
  }

  async function settleClaims(staged: Staged, admission: AdmitContext): Promise<void> {
    const open = [...staged.claims.values()].filter(({ verdict, newestMs, ceilingMs }) => {
      return verdict !== 'drop' && (verdict !== 'take' || newestMs > ceilingMs)
    })
    try {
      await settleAll(open)
    } catch (error) {
      for (const ref of staged.newRefs) admission.dictionary.counted[ref] = 0 // the series limit is still to be asked
      throw error
    }
    applyClaims(new Set(open), staged, admission)
    for (const claim of staged.claims.values()) if (claim.verdict === 'take') elections.renewSoon(claim)
  }

  /** Some at a time. When it returns or throws, none is at work any more. */
  async function settleAll(claims: readonly Claim[]): Promise<void> {
    let next = 0
    const settleSome = async () => {
      while (next < claims.length) {
        try {
          await elections.settle(claims[next++]!)
        } catch (error) {
          next = claims.length
          throw error
        }
      }
    }
    const workers = Array.from({ length: Math.min(SETTLING_MAX, claims.length) }, settleSome)
    for (const result of await Promise.allSettled(workers)) if (result.status === 'rejected') throw result.reason
  }

  /** What the elections left out of a push that is through. */
  function droppedOf({ claims }: Staged): Pick<PushReply, 'dropped'> {
    const dropped = { samples: 0, histograms: 0, exemplars: 0 }
    for (const claim of claims.values()) {
      elections.note(claim)
      dropped.samples += claim.dropped.samples
      dropped.histograms += claim.dropped.histograms
      dropped.exemplars += claim.dropped.exemplars
    }
    return dropped.samples + dropped.histograms + dropped.exemplars > 0 ? { dropped } : {}
  }

  function place(seriesHash: number): number {
    return partitionOf(seriesHash, pie!)
  }

  /** D6: others hear of this one's return, and hand it pushes, a moment before it hears of that itself. */
  async function confirmed(signal: AbortSignal): Promise<void> {
    const untilMs = clock.monotonic() + CONFIRM_MS_MAX
    while (!membership.isConfirmed(UNCONFIRMED_TIMES_MAX) && clock.monotonic() < untilMs)
      await sleep(clock, CONFIRM_STEP_MS, signal)
  }

  /** D4 */
  function refuseWhenUnable(): void {
    const refusal = refusalNow()
    if (refusal !== undefined) throw refusal
    const refusals = writers.slice(0, writableCount).map((writer) => writer.refusal())
    if (refusals[0] !== undefined && refusals.every((reason) => reason !== undefined)) throw refusals[0]
    const queued = queuedBytes()
    if (queued > config.queuedBytesMax) {
      const text = `${queued} bytes wait for the log, more than ${config.queuedBytesMax}`
      throw new UnavailableError('err-carillon-overloaded', text)
    }
  }

  /** Why no push can be taken, whatever it holds and however few there are. */
  function refusalNow(): UnavailableError | undefined {
    if (pie === undefined) return new UnavailableError('err-carillon-no-partitions', 'the partitions are not known yet')
    if (!membership.isConfirmed(UNCONFIRMED_TIMES_MAX)) {
      const text =
        'this distributor has not heard its own heartbeat for too long: it may not know how partitions take series'
      return new UnavailableError('err-carillon-ring-unconfirmed', text) // D6
    }
    if (news.pressure() > WRITE_PRESSURE)
      return new UnavailableError('err-carillon-ingester-memory', 'an ingester is at its memory bound')
    return undefined
  }

  async function lacks(): Promise<readonly string[]> {
    const refusals = writers.slice(0, writableCount).map((writer) => writer.refusal())
    const refusal = refusalNow() ?? refusals.find((reason) => reason !== undefined)
    return refusal === undefined ? probe.lacks(writableCount) : [`${refusal.message} (${refusal.code})`]
  }

  /** D7: before anything of a push is put into a batch. */
  function refuseWhereUnable({ refs, count, histograms, exemplars, metadata }: Staged, used: Dictionary): void {
    const refusals = writers.map((writer) => writer.refusal())
    if (refusals.every((reason) => reason === undefined)) return
    const refuse = (partition: number) => {
      const reason = refusals[partition]
      if (reason !== undefined) throw reason
    }
    for (let i = 0; i < count; i++) refuse(used.partitions[refs[i]!]!)
    for (const { ref } of histograms) refuse(used.partitions[ref]!)
    for (const { ref } of exemplars) refuse(used.partitions[ref]!)
    for (const { tenant, metric } of metadata) refuse(metadataWriter(tenant, metric).partition)
  }

  function refuseWhenTooFast(tenant: string, staged: Staged): void {
    const distributorCount = Math.max(1, membership.live('distributor').length)
    const perSecond = config.samplesPerSecondMax / distributorCount
    const waitS = rates.take(tenant, staged.samples, { perSecond, burst: config.samplesBurstMax / distributorCount })
    if (waitS === 0) return
    const text = `ingestion rate limit (${config.samplesPerSecondMax}) exceeded while adding ${staged.samples} samples and ${staged.metadata.length} metadata (err-carillon-rate-limited). To adjust the limit, set --samples-per-second-max or ask your administrator`
    counted.discarded.with({ reason: 'rate_limited' }).inc(staged.samples)
    throw new RefusedError('err-carillon-rate-limited', text, { status: 429, retryAfterS: waitS })
  }

  /** New series of a tenant at its limit, as far as the owners do not hold them already (L23); they are left out of the write. */
  async function denySeries(tenant: string, staged: Staged, used: Dictionary): Promise<ReadonlySet<number>> {
    if (staged.newRefs.length === 0) return NOBODY
    const held = news.seriesOf(tenant)
    const isFull = held + staged.newRefs.length > config.seriesPerTenantMax
    if (!isFull && news.pressure() <= NEW_SERIES_PRESSURE) return NOBODY
    const denied = new Set<number>()
    const byPartition = Map.groupBy(staged.newRefs, (ref) => used.partitions[ref]!)
    for (const [partition, refs] of byPartition) {
      const hashes = Uint32Array.from(refs, (ref) => used.seriesHashes[ref]!)
      const isKnown = await askKnown(tenant, partition, hashes)
      refs.forEach((ref, i) => {
        if (isKnown[i] === 0) denied.add(ref)
      })
    }
    const room = isFull ? Math.max(0, config.seriesPerTenantMax - held) : 0
    for (const ref of [...denied].slice(0, room)) denied.delete(ref)
    return denied
  }

  async function askKnown(tenant: string, partition: number, hashes: Uint32Array): Promise<Uint8Array> {
    for (const owner of membership.holders(partition)) {
      try {
        return (await ask(bus, known, { id: owner }, { partition, tenant, hashes }, {})).known
      } catch (error) {
        log.debug({ owner, partition, reason: textOf(error) }, 'an owner did not say which series it holds')
      }
    }
    return new Uint8Array(hashes.length).fill(1) // unknown membership admits
  }

  /** Puts what was staged into the partitions' batches. Nothing awaits in here: a push is in its batches whole, or not at all. */
  function write(staged: Staged, denied: ReadonlySet<number>, used: Dictionary) {
    for (const writer of writers) writer.begin()
    const { partitions } = used
    const { refs, times, words, startTimes, count } = staged
    const isAllIn = denied.size === 0
    let samplesWritten = 0
    for (let i = 0; i < count; i++) {
      const ref = refs[i]!
      if (!isAllIn && denied.has(ref)) {
        staged.refuse(seriesLimitRefusal())
        continue
      }
      const startTime = startTimes === undefined ? 0 : startTimes[i]!
      writers[partitions[ref]!]!.float(used, ref, times[i]!, words, i, startTime)
      samplesWritten++
    }
    const histograms = staged.histograms.filter(({ ref }) => !denied.has(ref))
    const histogramsDenied = staged.histograms.length - histograms.length
    if (histogramsDenied > 0) staged.refuse(seriesLimitRefusal(), histogramsDenied)
    for (const histogram of histograms) writers[partitions[histogram.ref]!]!.histogram(used, histogram)
    const exemplars = staged.exemplars.filter(({ ref }) => !denied.has(ref))
    for (const exemplar of exemplars) writers[partitions[exemplar.ref]!]!.exemplar(used, exemplar)
    for (const metadata of staged.metadata) metadataWriter(metadata.tenant, metadata.metric).metadata(used, metadata)
    for (const ref of denied) used.forget(ref)
    const written = { samplesWritten, histogramsWritten: histograms.length, exemplarsWritten: exemplars.length }
    return { written, commits: writers.map(commit) }
  }

  async function commit(writer: PartitionWriter): Promise<LogPosition | undefined> {
    const seq = await writer.commit()
    return seq === undefined ? undefined : { partition: writer.partition, incarnation: writer.incarnation, seq }
  }

  function seriesLimitRefusal(): Refusal {
    if (news.pressure() > NEW_SERIES_PRESSURE) {
      const text = 'an ingester is near its memory bound and takes no new series'
      return refusal('ingester-memory-new-series', 'ingester_memory', text)
    }
    const text = `per-user series limit of ${config.seriesPerTenantMax} exceeded, please contact administrator to raise it`
    return refusal('max-series-per-tenant', 'per_tenant_series_limit', text, 'series-per-tenant-max')
  }

  /** All metadata of a metric stand in one partition. */
  function metadataWriter(tenant: string, metric: string): PartitionWriter {
    let hash = 0
    const text = `${tenant}\u0000${metric}`
    for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) >>> 0
    return writers[place(hash)]!
  }

  async function acknowledged(commits: readonly Promise<LogPosition | undefined>[]): Promise<LogPosition[]> {
    const results = await Promise.allSettled(commits)
    const failed = results.find((result) => result.status === 'rejected')
    if (failed) throw failed.reason
    return results.flatMap((result) => (result.status === 'fulfilled' && result.value ? [result.value] : []))
  }

  function refusalOf(staged: Staged): Pick<PushReply, 'refusal'> {
    if (!staged.firstRefusal) return {}
    const { status, code, text } = staged.firstRefusal
    return { refusal: { status, code, text } }
  }

  /** A message on the mark subject says that there may be a new mark. It may have been refused by the log, so only the log is believed. */
  function hearMark(subject: string): void {
    const partition = Number(subject.split('.')[1])
    writers[partition]
      ?.refresh()
      .catch((error: unknown) => log.debug({ partition, reason: textOf(error) }, 'mark not read'))
  }

  function onConnection(isConnected: boolean): void {
    for (const writer of writers) writer.doubt()
    if (isConnected) void findMarks()
  }

  /** Opens writers for partitions that have been added, and reads the mark of those that know none. */
  async function findMarks(): Promise<void> {
    while (writers.length < membership.partitionCount()) {
      const without = deps.without ?? NOTHING
      const known = (partition: number) => ends.read(partition)
      const shared = { bus, clock, random, config, metrics: writerCounts, known, without }
      writers.push(new PartitionWriter(writers.length, shared))
    }
    for (const writer of writers) {
      if (!writer.isMarked) void lanes.begin(`find the mark of ${writer.partition}`, () => writer.refresh())
    }
    openPartitions()
  }

  /** Series that move to a new partition are looked up anew: the dictionary holds where each one goes (L19). */
  function openPartitions(): void {
    const count = membership.writableCount()
    if (count === writableCount || count > writers.length) return
    if (writers.slice(0, count).some((writer) => !writer.isMarked) && writableCount > 0) return
    log.info({ partitions: count, before: writableCount }, 'the partitions that take series')
    pie = pieOf(count)
    writableCount = count
    dictionary = new Dictionary()
  }

  /** At a common start the ingesters are about to write the first marks: whoever is told that this actor is ready may push at once. Logs
   *  without a leader are waited for only where that is all of them (D7). */
  async function findLogs(): Promise<void> {
    const startedMs = clock.monotonic()
    const isUnmarked = (writer: PartitionWriter) => !writer.isMarked
    const hasAnswered = (writer: PartitionWriter) => writer.incarnation !== ''
    for (;;) {
      await findMarks()
      readLogStates(writers.filter((writer) => !hasAnswered(writer)))
      if (writers.length > 0 && !writers.some(isUnmarked) && writers.every(hasAnswered)) return
      const waitMs = writers.length === 0 || writers.some(hasAnswered) ? FIRST_MARKS_WAIT_MS : START_MS_MAX
      if (clock.monotonic() - startedMs >= waitMs) return
      await sleep(clock, FIRST_MARKS_STEP_MS)
    }
  }

  function readLogStates(of: readonly PartitionWriter[]): void {
    for (const writer of of) void lanes.begin(`read the state of ${writer.partition}`, () => readLogState(writer))
  }

  async function readLogState(writer: PartitionWriter): Promise<void> {
    const state = await bus.logs.state(logName(writer.partition))
    writer.filled.hear(state)
    writer.incarnation = state.incarnation
    if (writer.mark !== undefined) await writer.refresh()
    await highWater.check(writer, state.lastSeq)
  }

  async function saveHighWater(): Promise<void> {
    for (const writer of writers) {
      void lanes.begin(`write down the newest batch of ${writer.partition}`, () => highWater.save(writer))
    }
  }

  async function reviewDictionary(): Promise<void> {
    const { size } = dictionary
    const usedCount = dictionary.countUsed()
    const isOld = size > DICTIONARY_SMALL && usedCount < size / 2
    if (!isOld && size < config.dictionarySeriesMax) return
    log.info({ series: size, used: usedCount }, 'the dictionary starts afresh')
    dictionary = new Dictionary()
  }

  function queuedBytes(): number {
    return writers.reduce((sum, writer) => sum + writer.queuedBytes, 0)
  }
}

const NOBODY: ReadonlySet<number> = new Set()
const NOTHING: ReadonlySet<string> = new Set()
