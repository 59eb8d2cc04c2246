// The compactor's turns: one tenant after the other, under the tenant's lease. A turn merges what waits, then deletes what nobody reads any more.
//
// Invariants
//   COMPACTOR-1  What is done next is decided anew before each step, from the manifest that the step before left (plan.ts).
//   COMPACTOR-3  A tenant whose manifest or blocks are damaged holds up no other.
import { AssertionError } from '../../shared/base/assert.ts'
import { backoffMs } from '../../shared/base/backoff.ts'
import type { Clock } from '../../shared/base/clock.ts'
import { RefusedError, textOf } from '../../shared/base/errors.ts'
import type { Random } from '../../shared/base/random.ts'
import type { Blocks } from '../../shared/blocks/port.ts'
import type { HandlerContext } from '../../shared/bus/actor.ts'
import type { Manifest } from '../../shared/contracts/blocks.ts'
import type { CompactionRequest, CompactNowReply } from '../../shared/contracts/compaction.ts'
import type { Lease, Leases } from '../../shared/kv/leases.ts'
import type { Log } from '../../shared/telemetry/log.ts'
import type { ClockWitness } from './clock-witness.ts'
import type { CompactorConfig } from './config.ts'
import type { StepRunner } from './merge/steps.ts'
import type { CompactorMeasures } from './metrics.ts'
import { isDoneInTime } from './patience.ts'
import type { Planner } from './plan/planner.ts'
import type { StoreSweep } from './retire/store-sweep.ts'
import type { Sweep } from './retire/sweep.ts'
import type { TenantStates } from './tenant-state.ts'

/** Steps of one tenant before the next tenant has its turn. */
const STEPS_PER_TURN = 32
const RETRY_MS_MAX = 3_600_000

export interface TurnsDeps {
  readonly id: string
  readonly blocks: Blocks
  readonly leases: Leases
  readonly planner: Planner
  readonly steps: StepRunner
  readonly sweep: Sweep
  readonly storeSweep: StoreSweep
  readonly states: TenantStates
  readonly witness: Pick<ClockWitness, 'fault'>
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly measures: Pick<CompactorMeasures, 'leaseLost'>
  readonly config: Pick<CompactorConfig, 'compactEveryMs' | 'sweepEveryMs'>
  /** Aborts when the compactor stops. */
  readonly stopping: AbortSignal
}

export interface Turn {
  readonly steps: number
  readonly note: string
}

/** What a turn is for, or in words why there is none. */
type Due =
  | { readonly kind: 'work'; readonly manifest: Manifest; readonly isSweepDue: boolean }
  | { readonly kind: 'none'; readonly note: string }

export class Turns {
  readonly #deps: TurnsDeps
  /** One tenant at a time: whoever wants a turn waits for the one before. */
  #last: Promise<unknown> = Promise.resolve()
  #isLooking = false

  constructor(deps: TurnsDeps) {
    this.#deps = deps
  }

  /** Begins a round over all tenants, unless one is under way; a round may take longer than an interval. */
  look(): void {
    if (this.#isLooking) return
    this.#isLooking = true
    void this.#lookAtAll().finally(() => {
      this.#isLooking = false
    })
  }

  /** Resolves when the turns that were asked for are over. */
  async stop(): Promise<void> {
    await this.#last
  }

  turn(tenant: string, isForced: boolean): Promise<Turn> {
    const taken = this.#last.then(() => this.#take(tenant, isForced))
    this.#last = taken.catch(() => {}) // whoever asked for it hears it
    return taken
  }

  /** Turns of one tenant, or of all, one after the other, whether ranges are complete or not. */
  async now({ tenant }: CompactionRequest, context: HandlerContext): Promise<CompactNowReply> {
    const { blocks, clock, id } = this.#deps
    const known = blocks.tenants()
    if (tenant !== undefined && !known.includes(tenant))
      throw new RefusedError('err-carillon-not-found', `tenant "${tenant}" has no blocks`, { status: 404 })
    const tenants = tenant === undefined ? known : [tenant]
    const answers: CompactNowReply['tenants'][number][] = []
    const working = (async () => {
      for (const each of tenants) answers.push({ tenant: each, ...(await this.turn(each, true)) })
    })()
    const isDone = await isDoneInTime(working, context, clock)
    return { id, tenants: [...answers], isDone }
  }

  async #lookAtAll(): Promise<void> {
    const { blocks, stopping, storeSweep } = this.#deps
    await storeSweep.look()
    for (const tenant of this.#shuffled(blocks.tenants())) {
      if (stopping.aborted) return
      await this.turn(tenant, false)
    }
  }

  /** Others begin elsewhere, so that several compactors seldom want the same lease. */
  #shuffled(tenants: readonly string[]): string[] {
    const order = [...tenants]
    for (let i = order.length - 1; i > 0; i--) {
      const j = this.#deps.random.below(i + 1)
      ;[order[i], order[j]] = [order[j]!, order[i]!]
    }
    return order
  }

  // ---- one turn ----

  /** COMPACTOR-3: everything but a bug ends as a note. */
  async #take(tenant: string, isForced: boolean): Promise<Turn> {
    const { leases, states, stopping } = this.#deps
    let lease: Lease | undefined
    let steps = 0
    try {
      const due = await this.#dueOf(tenant, isForced)
      if (due.kind === 'none') return { steps, note: due.note }
      lease = await leases.take(tenant, due.manifest.fence)
      if (lease === undefined) return { steps, note: `${leases.holderOf(tenant)?.holder ?? 'another'} holds the lease` }
      const signal = AbortSignal.any([lease.signal, stopping])
      const manifest = await this.#fenced(lease, signal)
      steps = await this.#work(lease, manifest, isForced, signal)
      await this.#clean(lease, due.isSweepDue, signal)
      states.succeeded(tenant)
      return { steps, note: 'done' }
    } catch (error) {
      return { steps, note: this.#failed(tenant, lease, error) }
    } finally {
      if (lease !== undefined && !lease.signal.aborted) await leases.release(lease)
    }
  }

  async #dueOf(tenant: string, isForced: boolean): Promise<Due> {
    const { blocks, clock, config, planner, states, stopping, sweep, witness } = this.#deps
    const state = states.of(tenant)
    if (!isForced && state.putOffUntil > clock.monotonic()) return { kind: 'none', note: state.error ?? '' }
    const stored = blocks.manifest(tenant)
    if (stored === undefined || stopping.aborted) return { kind: 'none', note: 'nothing there' }
    const { manifest } = stored
    const isSweepDue = clock.monotonic() - state.sweptAt >= config.sweepEveryMs
    const hasRetired = sweep.dueRetired(manifest).length > 0
    state.waitingSteps = planner.waitingOf(tenant, isForced).length
    if (!isSweepDue && !hasRetired && state.waitingSteps === 0) {
      state.error = undefined
      return { kind: 'none', note: 'nothing to do' }
    }
    const clockFault = await witness.fault() // CLOCK-1
    if (clockFault === undefined) return { kind: 'work', manifest, isSweepDue }
    state.error = clockFault
    return { kind: 'none', note: clockFault }
  }

  /** The manifest, once it holds the fence of the lease. */
  async #fenced({ tenant, fence }: Lease, signal: AbortSignal): Promise<Manifest> {
    const raised = await this.#deps.blocks.update(
      tenant,
      (manifest) => (manifest.fence < fence ? { ...manifest } : undefined),
      { fence, signal },
    )
    return raised.manifest
  }

  /** The steps that were done. */
  async #work(lease: Lease, first: Manifest, isForced: boolean, signal: AbortSignal): Promise<number> {
    const { blocks, planner, steps } = this.#deps
    const { tenant, fence } = lease
    let manifest = first
    let doneCount = 0
    for (let attempt = 0; attempt < STEPS_PER_TURN; attempt++) {
      signal.throwIfAborted()
      const step = planner.stepsOf(manifest, isForced)[0] // COMPACTOR-1
      if (step === undefined) break
      const outcome = await steps.run(lease, step, signal)
      planner.ran(tenant, step)
      if (outcome === 'done') doneCount++
      manifest = (await blocks.update(tenant, () => undefined, { fence, signal })).manifest
    }
    return doneCount
  }

  async #clean(lease: Lease, isSweepDue: boolean, signal: AbortSignal): Promise<void> {
    const { blocks, clock, states, sweep } = this.#deps
    const { tenant, fence } = lease
    const { manifest } = await blocks.update(tenant, () => undefined, { fence, signal })
    const due = sweep.dueRetired(manifest)
    if (due.length > 0) await sweep.deleteRetired(lease, due, signal)
    if (!isSweepDue) return
    await sweep.deleteGarbage(lease, manifest, signal)
    states.of(tenant).sweptAt = clock.monotonic()
  }

  /** Why a turn ended early, in words. */
  #failed(tenant: string, lease: Lease | undefined, error: unknown): string {
    const { log, measures, states, stopping } = this.#deps
    if (error instanceof AssertionError) throw error
    const isLost = lease?.signal.aborted === true
    const note = textOf(isLost ? lease.signal.reason : error)
    if (isLost) measures.leaseLost()
    if (stopping.aborted) return note
    states.of(tenant).error = note
    if (!isLost) this.#putOff(tenant)
    log.warn({ tenant, reason: note }, 'a turn of compaction ended early')
    return note
  }

  /** What failed is tried again ever more slowly: a merge that breaks off has read and written a lot for nothing. */
  #putOff(tenant: string): void {
    const { clock, config, random, states } = this.#deps
    const state = states.of(tenant)
    const waitMs = backoffMs(state.failureCount, { firstMs: config.compactEveryMs, maxMs: RETRY_MS_MAX }, random)
    state.failureCount++
    state.putOffUntil = clock.monotonic() + waitMs
  }
}
