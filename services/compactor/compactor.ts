// The compactor merges small and overlapping blocks, removes what was deleted or is too old, adds windows for long ranges, and deletes
// what nobody reads any more: one tenant after the other, under the tenant's lease. It also takes in blocks that were uploaded (uploads.ts).
//
// Invariants
//   K1  What is done next is decided anew before each step, from the manifest that the step before left (plan.ts).
//   K2  The compactor keeps nothing that matters: its death costs the step under way, whose files are deleted later (sweep.ts).
//   K3  A tenant whose manifest or blocks are damaged holds up no other.
//   L1-L3, P1-P5, C1-C4, S1-S3, W1-W5, V1-V3, T1 and T2 stand where they are kept: shared/kv/leases.ts, plan.ts, commit.ts, steps.ts, sweep.ts,
//   uploads.ts, clock-witness.ts.
import { AssertionError, present } from '../../shared/base/assert.ts'
import { backoffMs } from '../../shared/base/backoff.ts'
import { ConflictError, CorruptError, RefusedError, textOf } from '../../shared/base/errors.ts'
import { openBlocks } from '../../shared/blocks/open.ts'
import type { Blocks } from '../../shared/blocks/port.ts'
import { type Actor, every, type HandlerContext, serve } from '../../shared/bus/actor.ts'
import type { Manifest } from '../../shared/contracts/blocks.ts'
import {
  type CompactionRequest,
  type CompactionStatusReply,
  type CompactionTenant,
  type CompactNowReply,
  compactionLease,
  compactionStatus,
  compactNow,
} from '../../shared/contracts/compaction.ts'
import * as deletes from '../../shared/contracts/deletes.ts'
import { scrubNow, scrubStatus } from '../../shared/contracts/scrubbing.ts'
import { KnownEnds } from '../../shared/kv/known-ends.ts'
import { type Lease, Leases } from '../../shared/kv/leases.ts'
import type { ServiceDeps } from '../../shared/membership/deps.ts'
import { type ObjectStore, SWEEP_AGE_MS_MIN } from '../../shared/objects/port.ts'
import { ClockWitness } from './clock-witness.ts'
import type { CompactorConfig } from './config.ts'
import { Uploads } from './import/upload-worker.ts'
import { stepRunner } from './merge/steps.ts'
import { compactorMeasures } from './metrics.ts'
import { isDoneInTime } from './patience.ts'
import { plan } from './plan/plan.ts'
import { longestKeepMs, Policies } from './plan/retention-policy.ts'
import { ToldKeep } from './plan/told-keep.ts'
import type { PlanInput, Step } from './plan-types.ts'
import { Deletions } from './retire/deletions.ts'
import { Aside } from './retire/quarantine.ts'
import { History } from './retire/step-history.ts'
import { Sweep } from './retire/sweep.ts'
import { scrubMeasures } from './scrub/scrub-metrics.ts'
import { Scrubber } from './scrub/scrubber.ts'
import { openSecondStore } from './scrub/second-store.ts'
import type { Importer } from './worker/import-job.ts'
import type { Merger } from './worker/merge-job.ts'
import { threadMerger } from './worker/thread-worker.ts'

const HOUR_MS = 3_600_000
/** The ranges of blocks. */
export const RANGES_MS: readonly number[] = [2 * HOUR_MS, 12 * HOUR_MS, 24 * HOUR_MS]
/** Steps of one tenant before the next tenant has its turn. */
const STEPS_PER_TURN = 32
/** Downsampled data of one range is made again at most this often: each late block asks for it. */
const DOWNSAMPLE_GAP_MS = 6 * HOUR_MS
const STORE_SWEEP_MS_MAX = 5 * 60_000
const RETRY_MS_MAX = HOUR_MS
const HALF_DONE_MS = 5_000
const UPLOADS_LOOK_MS = 500
const TOLD_KEEP_MS = 1_000
/** How old the newest sample of all tenants may be as it is known here. */
const NEWEST_MS = 60_000
const SCRUB_LOOK_MS = 30_000
/** Renewals of a lease within the time after which it is lost. */
const RENEWALS = 4

export interface CompactorDeps extends ServiceDeps {
  readonly config: CompactorConfig
  /** Where merges and imports run; a thread by default. */
  readonly merger?: Merger & Importer
  /** In place of the one that the settings name. */
  readonly second?: ObjectStore
}

interface Turn {
  readonly steps: number
  readonly note: string
}

export function compactor(deps: CompactorDeps): Actor {
  const { clock, config, id, log } = deps
  const policies = new Policies(config, config.policyFile)
  const toldKeep = new ToldKeep({ ...deps, policies })
  const merger = deps.merger ?? threadMerger({ heapBytesMax: config.mergeHeapBytesMax })
  const measures = compactorMeasures(deps.metrics)
  const scrubbing = scrubMeasures(deps.metrics, { records: () => scrubber?.known() ?? [], clock })
  const history = new History(clock)
  const witness = new ClockWitness(deps)
  const stopping = new AbortController()
  const aside = new Aside(clock, config.damagedRetryMs)
  /** When downsampled data was last made, monotonic. Bound: what was made within DOWNSAMPLE_GAP_MS. */
  const downsampledAt = new Map<string, number>()
  /** These four: one per tenant. */
  const sweptAt = new Map<string, number>()
  const startedAt = clock.monotonic()
  /** Steps that waited when a tenant was last looked at. */
  const waiting = new Map<string, number>()
  const errors = new Map<string, string>()
  const failures = new Map<string, { count: number; until: number }>()
  let opened: Blocks | undefined
  let leases: Leases
  let sweep: Sweep
  let scrubber: Scrubber | undefined
  let second: ObjectStore | undefined
  let uploads: Uploads
  let run: ReturnType<typeof stepRunner>
  const deletions = new Deletions({
    ...{ bus: deps.bus, membership: deps.membership, clock, log, config, blocks: blocksOf },
    ...{ random: deps.random, ends: new KnownEnds(deps) },
    onCleaned: (tenant) => void turn(tenant, false),
  })
  /** One tenant at a time: whoever wants a turn waits for the one before. */
  let turns: Promise<unknown> = Promise.resolve()
  let isLooking = false
  let newest: { readonly ms: number | undefined; readonly atMs: number } | undefined
  let storeSweptAt = startedAt

  deps.metrics.gaugeOf(
    'carillon_compactor_waiting_steps',
    'Steps of compaction that could be done when their tenants were last looked at.',
    () => waiting.values().reduce((sum, count) => sum + count, 0),
  )
  deps.metrics.gaugeOf(
    'carillon_compactor_aside_blocks',
    'Damaged blocks that are set aside.',
    () => aside.list().length,
  )

  deps.metrics.gaugeOf(
    'carillon_compactor_clock_apart_seconds',
    "How far the clock of the farthest nats-server is ahead of the compactor's; beyond 10 minutes either way nothing is merged or removed.",
    () => witness.apartMs / 1000,
  )

  return {
    name: 'compactor',
    serves: [
      serve(compactionStatus, onStatus, { id }),
      serve(compactNow, onCompactNow),
      serve(scrubStatus, async ({ tenant }) => scrubberOf().status(tenant), { id }),
      serve(scrubNow, (asked, context) => scrubberOf().now(asked, context)),
      serve(deletes.remove, (asked) => deletions.remove(asked)),
      serve(deletes.undo, (asked) => deletions.undo(asked)),
      serve(deletes.clean, (asked) => deletions.clean(asked)),
      serve(deletes.list, (asked) => deletions.list(asked)),
    ],
    hears: [],
    every: [
      every(config.compactEveryMs, 'look for blocks to merge', look),
      every(config.compactEveryMs, 'read the policy file again', async () => {
        if (!policies.look()) return
        log.info({ file: config.policyFile }, 'other policies hold')
        toldKeep.changed()
      }),
      every(TOLD_KEEP_MS, 'tell the doors how long samples are kept', () => toldKeep.tell()),
      every(config.leaseMs / RENEWALS, 'renew leases', () => leases.renew()),
      every(HALF_DONE_MS, 'complete deletions that were left half done', () => deletions.completeAbandoned()),
      every(UPLOADS_LOOK_MS, 'look for uploads to validate', () => uploads.look()),
      every(config.leaseMs / RENEWALS, 'say which uploads are validated here', () => uploads.beat()),
      every(config.sweepEveryMs, 'forget old uploads', async () => {
        if ((await witness.fault()) === undefined) await uploads.sweep()
      }),
      every(SCRUB_LOOK_MS, 'look for tenants to re-read', () => scrubberOf().look()),
      every(config.leaseMs / RENEWALS, 'renew leases of scrubs', () => scrubberOf().renew()),
      every(config.secondStoreEveryMs, 'fill the second store', () => scrubberOf().fill()),
    ],
    start,
    stop,
  }

  async function start(): Promise<void> {
    const blocks = await openBlocks(deps)
    opened = blocks
    leases = new Leases({ ...deps, bucket: blocks.bucket, record: compactionLease, leaseMs: config.leaseMs })
    await leases.start()
    const setAside = (tenant: string, ulid: string, reason: string) => {
      measures.damaged()
      log.error({ tenant, ulid, reason }, 'a damaged block is set aside: it is not merged, the others are')
      aside.add({ tenant, ulid, reason })
    }
    const keepMsOf = (tenant: string) => longestKeepMs(policies.of(tenant))
    uploads = new Uploads({ ...deps, blocks, importer: merger, measures, keepMsOf })
    await uploads.start()
    second = deps.second ?? (await openSecondStore(config.secondStore, clock))
    scrubber = new Scrubber({ ...deps, blocks, second, witness, measures: scrubbing, signal: stopping.signal })
    await scrubber.start()
    sweep = new Sweep({
      ...deps,
      blocks,
      measures,
      now: () => witness.now(),
      partitionCount: () => deps.membership.partitionCount(),
    })
    run = stepRunner({ blocks, merger, clock, log, history, measures, sweep, setAside })
  }

  async function stop(): Promise<void> {
    stopping.abort(new ConflictError('compactor-stopping', 'the compactor stops'))
    await turns
    await uploads.stop()
    await scrubber?.stop()
    if (deps.second === undefined) await second?.close()
    await leases.stop()
    opened?.close()
  }

  function blocksOf(): Blocks {
    return present(opened, 'what start opened')
  }

  function scrubberOf(): Scrubber {
    return present(scrubber, 'what start opened')
  }

  // ---- turns ----

  /** Begins a round over all tenants, unless one is under way; a round may take longer than an interval. */
  function look(): void {
    if (isLooking) return
    isLooking = true
    void lookAtAll().finally(() => {
      isLooking = false
    })
  }

  async function lookAtAll(): Promise<void> {
    await sweepStore()
    for (const tenant of shuffled(blocksOf().tenants())) {
      if (stopping.signal.aborted) return
      await turn(tenant, false)
    }
  }

  /** What broken writes have left in the store, of all tenants. */
  async function sweepStore(): Promise<void> {
    if (clock.monotonic() - storeSweptAt < config.sweepEveryMs) return
    storeSweptAt = clock.monotonic()
    try {
      if ((await witness.fault()) !== undefined) return
      const olderThanMs = Math.max(config.orphanGraceMs, SWEEP_AGE_MS_MIN)
      const { count, bytes } = await deps.objects.sweep(olderThanMs, { timeoutMs: STORE_SWEEP_MS_MAX })
      if (count > 0) log.info({ count, bytes }, 'removed what broken writes had left in the store')
    } catch (error) {
      if (error instanceof AssertionError) throw error
      log.warn({ reason: textOf(error) }, 'the store was not swept')
    }
  }

  /** Others begin elsewhere, so that several compactors seldom want the same lease. */
  function shuffled(tenants: readonly string[]): string[] {
    const order = [...tenants]
    for (let i = order.length - 1; i > 0; i--) {
      const j = deps.random.below(i + 1)
      ;[order[i], order[j]] = [order[j]!, order[i]!]
    }
    return order
  }

  function turn(tenant: string, isForced: boolean): Promise<Turn> {
    const taken = turns.then(() => takeTurn(tenant, isForced))
    turns = taken.catch(() => {}) // whoever asked for it hears it
    return taken
  }

  /** K3: everything but a bug ends as a note. */
  async function takeTurn(tenant: string, isForced: boolean): Promise<Turn> {
    let lease: Lease | undefined
    let steps = 0
    try {
      const isPutOff = !isForced && (failures.get(tenant)?.until ?? 0) > clock.monotonic()
      if (isPutOff) return { steps, note: errors.get(tenant) ?? '' }
      const stored = blocksOf().manifest(tenant)
      if (stored === undefined || stopping.signal.aborted) return { steps, note: 'nothing there' }
      const isSweepDue = clock.monotonic() - (sweptAt.get(tenant) ?? startedAt) >= config.sweepEveryMs
      const hasRetired = sweep.dueRetired(stored.manifest).length > 0
      const waitingCount = waitingOf(tenant, isForced).length
      waiting.set(tenant, waitingCount)
      if (!isSweepDue && !hasRetired && waitingCount === 0) {
        errors.delete(tenant)
        return { steps, note: 'nothing to do' }
      }
      const clockFault = await witness.fault() // T1
      if (clockFault !== undefined) {
        errors.set(tenant, clockFault)
        return { steps, note: clockFault }
      }
      lease = await leases.take(tenant, stored.manifest.fence)
      if (lease === undefined) return { steps, note: `${leases.holderOf(tenant)?.holder ?? 'another'} holds the lease` }
      const signal = AbortSignal.any([lease.signal, stopping.signal])
      const raised = await blocksOf().update(
        tenant,
        (manifest) => (manifest.fence < lease!.fence ? { ...manifest } : undefined),
        { fence: lease.fence, signal },
      )
      steps = await work(lease, raised.manifest, isForced, signal)
      await clean(lease, isSweepDue, signal)
      errors.delete(tenant)
      failures.delete(tenant)
      return { steps, note: 'done' }
    } catch (error) {
      if (error instanceof AssertionError) throw error
      const note = textOf(lease?.signal.aborted ? lease.signal.reason : error)
      if (lease?.signal.aborted) measures.leaseLost()
      if (!stopping.signal.aborted) {
        errors.set(tenant, note)
        if (!lease?.signal.aborted) putOff(tenant)
        log.warn({ tenant, reason: note }, 'a turn of compaction ended early')
      }
      return { steps, note }
    } finally {
      if (lease !== undefined && !lease.signal.aborted) await leases.release(lease)
    }
  }

  /** What failed is tried again ever more slowly: a merge that breaks off has read and written a lot for nothing. */
  function putOff(tenant: string): void {
    const count = failures.get(tenant)?.count ?? 0
    const waitMs = backoffMs(count, { firstMs: config.compactEveryMs, maxMs: RETRY_MS_MAX }, deps.random)
    failures.set(tenant, { count: count + 1, until: clock.monotonic() + waitMs })
  }

  async function work(lease: Lease, first: Manifest, isForced: boolean, signal: AbortSignal): Promise<number> {
    let manifest = first
    let steps = 0
    for (let attempt = 0; attempt < STEPS_PER_TURN; attempt++) {
      signal.throwIfAborted()
      const step = stepsOf(manifest, isForced)[0] // K1
      if (step === undefined) break
      const outcome = await run(lease, step, signal)
      noteDownsampled(lease.tenant, step)
      if (outcome === 'done') steps++
      manifest = (await blocksOf().update(lease.tenant, () => undefined, { fence: lease.fence, signal })).manifest
    }
    return steps
  }

  async function clean(lease: Lease, isSweepDue: boolean, signal: AbortSignal): Promise<void> {
    const { tenant, fence } = lease
    const { manifest } = await blocksOf().update(tenant, () => undefined, { fence, signal })
    const due = sweep.dueRetired(manifest)
    if (due.length > 0) await sweep.deleteRetired(lease, due, signal)
    if (!isSweepDue) return
    await sweep.deleteGarbage(lease, manifest, signal)
    sweptAt.set(tenant, clock.monotonic())
  }

  // ---- planning ----

  function waitingOf(tenant: string, isForced = false): Step[] {
    try {
      const stored = blocksOf().manifest(tenant)
      return stored === undefined ? [] : stepsOf(stored.manifest, isForced)
    } catch (error) {
      errors.set(tenant, textOf(error)) // a damaged manifest: shown, and complained about at each turn
      return []
    }
  }

  function stepsOf(manifest: Manifest, isForced: boolean): Step[] {
    const { tenant } = manifest
    const input: PlanInput = {
      manifest,
      nowMs: witness.now(),
      newestMs: newestMs(),
      settings: {
        rangesMs: RANGES_MS,
        delayMs: config.compactDelayMs,
        lateRatio: config.lateRatio,
        sourcesMax: config.mergeSourcesMax,
        mergeBytesMax: config.mergeBytesMax,
      },
      policy: policies.of(tenant),
      flushed: (partition) => blocksOf().flushed(partition),
      isAside: (ulid) => aside.has(ulid) || scrubber?.isDamaged(tenant, ulid) === true,
      isForced,
      mayDownsample({ startMs, resolutionMs }) {
        const madeAt = downsampledAt.get(`${tenant} ${startMs} ${resolutionMs}`) ?? Number.NEGATIVE_INFINITY
        return isForced || clock.monotonic() - madeAt >= DOWNSAMPLE_GAP_MS
      },
    }
    return plan(input)
  }

  /** Of all tenants (P5); looked for again after a while. */
  function newestMs(): number | undefined {
    if (newest !== undefined && clock.monotonic() - newest.atMs < NEWEST_MS) return newest.ms
    let ms: number | undefined
    for (const tenant of blocksOf().tenants()) {
      for (const { maxTime } of listedOf(tenant)) ms = Math.max(ms ?? maxTime, maxTime)
    }
    newest = { ms, atMs: clock.monotonic() }
    return ms
  }

  function listedOf(tenant: string): Manifest['blocks'] {
    try {
      return blocksOf().manifest(tenant)?.manifest.blocks ?? []
    } catch (error) {
      if (error instanceof CorruptError) return [] // told by its own turn
      throw error
    }
  }

  function noteDownsampled(tenant: string, step: Step): void {
    if (step.kind !== 'downsample') return
    const nowMs = clock.monotonic()
    for (const [key, madeAt] of downsampledAt) if (nowMs - madeAt >= DOWNSAMPLE_GAP_MS) downsampledAt.delete(key)
    downsampledAt.set(`${tenant} ${step.startMs} ${step.resolutionMs}`, nowMs)
  }

  // ---- questions ----

  async function onStatus({ tenant }: CompactionRequest): Promise<CompactionStatusReply> {
    const tenants =
      tenant === undefined
        ? blocksOf().tenants()
        : blocksOf()
            .tenants()
            .filter((each) => each === tenant)
    return {
      id,
      tenants: tenants.map(statusOf),
      current: history.current(tenant),
      history: history.list(tenant),
      aside: onceEach([...aside.list(tenant), ...scrubberOf().damaged(tenant)]),
    }
  }

  function statusOf(tenant: string): CompactionTenant {
    const error = errors.get(tenant)
    const holder = leases.holderOf(tenant)
    const none = { blocks: 0, bytes: 0, retired: 0, pendingDeletes: 0 }
    const steps = waitingOf(tenant)
    const waitingBytes = steps
      .flatMap((step) => (step.kind === 'settle' ? [] : step.sources))
      .reduce((sum, { bytes }) => sum + bytes, 0)
    const rest = { waitingSteps: steps.length, waitingBytes, holder: holder?.holder ?? '', fence: holder?.fence ?? 0 }
    try {
      const manifest = blocksOf().manifest(tenant)?.manifest
      if (manifest === undefined) return { tenant, ...none, ...rest }
      return {
        tenant,
        blocks: manifest.blocks.length,
        bytes: manifest.blocks.reduce((sum, { bytes }) => sum + bytes, 0),
        retired: manifest.retired.length,
        pendingDeletes: manifest.deletes.filter((entry) => entry.blocks.length > 0).length,
        ...rest,
        ...(error === undefined ? {} : { error }),
      }
    } catch (damage) {
      return { tenant, ...none, ...rest, error: textOf(damage) }
    }
  }

  async function onCompactNow({ tenant }: CompactionRequest, context: HandlerContext): Promise<CompactNowReply> {
    const known = blocksOf().tenants()
    if (tenant !== undefined && !known.includes(tenant))
      throw new RefusedError('err-carillon-not-found', `tenant "${tenant}" has no blocks`, { status: 404 })
    const tenants = tenant === undefined ? known : [tenant]
    const answers: CompactNowReply['tenants'][number][] = []
    const working = (async () => {
      for (const each of tenants) answers.push({ tenant: each, ...(await turn(each, true)) })
    })()
    const isDone = await isDoneInTime(working, context, clock)
    return { id, tenants: [...answers], isDone }
  }
}

/** A damaged block stands there once, whoever met it, and however often. */
function onceEach(blocks: CompactionStatusReply['aside']): CompactionStatusReply['aside'] {
  return [...new Map(blocks.map((block) => [`${block.tenant} ${block.ulid}`, block])).values()]
}
