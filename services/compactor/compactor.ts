// The compactor merges small and overlapping blocks, removes what was deleted or is too old, adds windows for long ranges, and deletes
// what nobody reads any more: one tenant after the other, under the tenant's lease. It also takes in blocks that were uploaded (uploads.ts).
//
// Invariants
//   COMPACTOR-2  The compactor keeps nothing that matters: its death costs the step under way, whose files are deleted later (sweep.ts).
//
// Others stand where they are kept: turns.ts, shared/kv/leases.ts, plan.ts, commit.ts, steps.ts, sweep.ts, uploads.ts, clock-witness.ts.
import { present } from '../../shared/base/assert.ts'
import { ConflictError } from '../../shared/base/errors.ts'
import { openBlocks } from '../../shared/blocks/open.ts'
import { type Actor, type Every, every, type Serve, serve } from '../../shared/bus/actor.ts'
import { compactionLease, compactionStatus, compactNow } from '../../shared/contracts/compaction.ts'
import * as deletes from '../../shared/contracts/deletes.ts'
import { type ScrubRecord, scrubNow, scrubStatus } from '../../shared/contracts/scrubbing.ts'
import { KnownEnds } from '../../shared/kv/known-ends.ts'
import { Leases } from '../../shared/kv/leases.ts'
import type { ServiceDeps } from '../../shared/membership/deps.ts'
import type { ObjectStore } from '../../shared/objects/port.ts'
import { ClockWitness } from './clock-witness.ts'
import type { CompactorConfig } from './config.ts'
import { Uploads } from './import/upload-worker.ts'
import { StepRunner } from './merge/steps.ts'
import { compactorMeasures } from './metrics.ts'
import { Planner } from './plan/planner.ts'
import { longestKeepMs, Policies } from './plan/retention-policy.ts'
import { ToldKeep } from './plan/told-keep.ts'
import { Deletions } from './retire/deletions.ts'
import { Aside } from './retire/quarantine.ts'
import { History } from './retire/step-history.ts'
import { StoreSweep } from './retire/store-sweep.ts'
import { Sweep } from './retire/sweep.ts'
import { scrubMeasures } from './scrub/scrub-metrics.ts'
import { Scrubber } from './scrub/scrubber.ts'
import { openSecondStore } from './scrub/second-store.ts'
import { statusOf } from './status.ts'
import { TenantStates } from './tenant-state.ts'
import { Turns } from './turns.ts'
import type { Importer } from './worker/import-job.ts'
import type { Merger } from './worker/merge-job.ts'
import { threadMerger } from './worker/thread-worker.ts'

const HALF_DONE_MS = 5_000
const UPLOADS_LOOK_MS = 500
const TOLD_KEEP_MS = 1_000
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

export function compactor(deps: CompactorDeps): Actor {
  let opened: Opened | undefined
  const parts = partsOf(deps, () => opened?.scrubber.known() ?? [])
  const open = () => present(opened, 'what start opened')
  return {
    name: 'compactor',
    serves: answers(deps, open),
    hears: [],
    every: timers(deps, parts, open),
    async start() {
      opened = await openAll(deps, parts)
    },
    stop: () => closeAll(deps, parts, open()),
  }
}

function answers({ id }: CompactorDeps, open: () => Opened): readonly Serve[] {
  return [
    serve(compactionStatus, async (asked) => statusOf(asked, open()), { id }),
    serve(compactNow, (asked, context) => open().turns.now(asked, context)),
    serve(scrubStatus, async ({ tenant }) => open().scrubber.status(tenant), { id }),
    serve(scrubNow, (asked, context) => open().scrubber.now(asked, context)),
    serve(deletes.remove, (asked) => open().deletions.remove(asked)),
    serve(deletes.undo, (asked) => open().deletions.undo(asked)),
    serve(deletes.clean, (asked) => open().deletions.clean(asked)),
    serve(deletes.list, (asked) => open().deletions.list(asked)),
  ]
}

function timers({ config, log }: CompactorDeps, parts: Parts, open: () => Opened): readonly Every[] {
  const { policies, toldKeep, witness } = parts
  return [
    every(config.compactEveryMs, 'look for blocks to merge', () => open().turns.look()),
    every(config.compactEveryMs, 'read the policy file again', async () => {
      if (!policies.look()) return
      log.info({ file: config.policyFile }, 'other policies hold')
      toldKeep.changed()
    }),
    every(TOLD_KEEP_MS, 'tell the doors how long samples are kept', () => toldKeep.tell()),
    every(config.leaseMs / RENEWALS, 'renew leases', () => open().leases.renew()),
    every(HALF_DONE_MS, 'complete deletions that were left half done', () => open().deletions.completeAbandoned()),
    every(UPLOADS_LOOK_MS, 'look for uploads to validate', () => open().uploads.look()),
    every(config.leaseMs / RENEWALS, 'say which uploads are validated here', () => open().uploads.beat()),
    every(config.sweepEveryMs, 'forget old uploads', async () => {
      if ((await witness.fault()) === undefined) await open().uploads.sweep()
    }),
    every(SCRUB_LOOK_MS, 'look for tenants to re-read', () => open().scrubber.look()),
    every(config.leaseMs / RENEWALS, 'renew leases of scrubs', () => open().scrubber.renew()),
    every(config.secondStoreEveryMs, 'fill the second store', () => open().scrubber.fill()),
  ]
}

type Parts = ReturnType<typeof partsOf>

/** What is there from the beginning. */
function partsOf(deps: CompactorDeps, scrubs: () => Iterable<ScrubRecord>) {
  const { clock, config, metrics } = deps
  const policies = new Policies(config, config.policyFile)
  const witness = new ClockWitness(deps)
  const parts = {
    policies,
    witness,
    toldKeep: new ToldKeep({ ...deps, policies }),
    merger: deps.merger ?? threadMerger({ heapBytesMax: config.mergeHeapBytesMax }),
    measures: compactorMeasures(metrics),
    scrubbing: scrubMeasures(metrics, { records: scrubs, clock }),
    history: new History(clock),
    stopping: new AbortController(),
    aside: new Aside(clock, config.damagedRetryMs),
    states: new TenantStates(clock),
    storeSweep: new StoreSweep({ ...deps, witness }),
  }
  metrics.gaugeOf(
    'carillon_compactor_waiting_steps',
    'Steps of compaction that could be done when their tenants were last looked at.',
    () => parts.states.waitingSteps(),
  )
  metrics.gaugeOf(
    'carillon_compactor_aside_blocks',
    'Damaged blocks that are set aside.',
    () => parts.aside.list().length,
  )
  metrics.gaugeOf(
    'carillon_compactor_clock_apart_seconds',
    "How far the clock of the farthest nats-server is ahead of the compactor's; beyond 10 minutes either way nothing is merged or removed.",
    () => witness.apartMs / 1000,
  )
  return parts
}

type Opened = Awaited<ReturnType<typeof openAll>>

async function openAll(deps: CompactorDeps, parts: Parts) {
  const { clock, config, log } = deps
  const { measures, merger, policies, stopping, witness } = parts
  const blocks = await openBlocks(deps)
  const leases = new Leases({ ...deps, bucket: blocks.bucket, record: compactionLease, leaseMs: config.leaseMs })
  await leases.start()
  const keepMsOf = (tenant: string) => longestKeepMs(policies.of(tenant))
  const uploads = new Uploads({ ...deps, blocks, importer: merger, measures, keepMsOf })
  await uploads.start()
  const second = deps.second ?? (await openSecondStore(config.secondStore, clock))
  const scrubbing = { measures: parts.scrubbing, signal: stopping.signal }
  const scrubber = new Scrubber({ ...deps, blocks, second, witness, ...scrubbing })
  await scrubber.start()
  const setAside = (tenant: string, ulid: string, reason: string) => {
    measures.damaged()
    log.error({ tenant, ulid, reason }, 'a damaged block is set aside: it is not merged, the others are')
    parts.aside.add({ tenant, ulid, reason })
  }
  const sweep = new Sweep({
    ...deps,
    blocks,
    measures,
    now: () => witness.now(),
    partitionCount: () => deps.membership.partitionCount(),
  })
  const all = { ...deps, ...parts, blocks, leases, scrubber, sweep, setAside }
  const planner = new Planner(all)
  const steps = new StepRunner(all)
  const turns = new Turns({ ...all, planner, steps, stopping: stopping.signal })
  const deletions = new Deletions({
    ...deps,
    blocks: () => blocks,
    ends: new KnownEnds(deps),
    onCleaned: (tenant) => void turns.turn(tenant, false),
  })
  return { ...all, planner, turns, deletions, uploads, second }
}

async function closeAll(deps: CompactorDeps, { stopping }: Parts, opened: Opened): Promise<void> {
  const { blocks, leases, scrubber, second, turns, uploads } = opened
  stopping.abort(new ConflictError('compactor-stopping', 'the compactor stops'))
  await turns.stop()
  await uploads.stop()
  await scrubber.stop()
  if (deps.second === undefined) await second?.close()
  await leases.stop()
  blocks.close()
}
