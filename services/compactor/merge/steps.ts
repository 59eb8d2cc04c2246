// Carries out one step of a plan for a tenant whose lease is held.
//
// Order of a merge: read sources, write the files of the result, write its meta.json, read all of it back, change the manifest. A crash
// before the last leaves files that nobody lists (sweep.ts); after it, sources that are retired.
//
// Invariants
//   STEP-2  A source that cannot be read as it should is named and set aside; the tenant's other blocks go on.
//   STEP-3  Every change carries the fence of the lease.
//
// STEP-1 stands in write-blocks.ts.
import { AssertionError } from '../../../shared/base/assert.ts'
import type { Clock } from '../../../shared/base/clock.ts'
import { ConflictError, CorruptError, UnavailableError } from '../../../shared/base/errors.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import type { BlockEntry } from '../../../shared/contracts/blocks.ts'
import type { Lease } from '../../../shared/kv/leases.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import type { CompactorMeasures } from '../metrics.ts'
import type { DropStep, Step } from '../plan-types.ts'
import type { History, Running } from '../retire/step-history.ts'
import { DamagedSourceError } from '../worker/merge-job.ts'
import { withDropped, withSettled } from './manifest-changes.ts'
import { MergeSteps } from './merge-step.ts'
import { changeManifest, type StepContext } from './step-context.ts'
import { BlockWriter, type BlockWriterDeps, READ_BACK } from './write-blocks.ts'

export interface StepDeps extends BlockWriterDeps {
  readonly blocks: Blocks
  readonly clock: Clock
  readonly log: Log
  readonly history: History
  readonly measures: CompactorMeasures
  readonly setAside: (tenant: string, ulid: string, reason: string) => void
}

export type StepOutcome = 'done' | 'overtaken' | 'damaged'

export class StepRunner {
  readonly #deps: StepDeps
  readonly #merging: MergeSteps

  constructor(deps: StepDeps) {
    this.#deps = deps
    this.#merging = new MergeSteps(deps, new BlockWriter(deps))
  }

  /** Rejects with what the store or the bucket said, or with why the lease was lost. */
  async run(lease: Lease, step: Step, signal: AbortSignal): Promise<StepOutcome> {
    const sources = step.kind === 'settle' ? [] : step.sources
    const why = step.kind === 'settle' ? 'settle' : step.kind === 'downsample' ? 'downsample' : step.why
    const context: StepContext = { lease, signal, running: this.#deps.history.begin(lease.tenant, why, sources) }
    try {
      const hasChanged = await this.#carryOut(step, context)
      this.#finish(context.running, hasChanged ? 'done' : 'nothing')
      return 'done'
    } catch (error) {
      return this.#failed(error, sources, context)
    }
  }

  /** False when there was nothing to change. */
  async #carryOut(step: Step, context: StepContext): Promise<boolean> {
    switch (step.kind) {
      case 'merge':
        return this.#merging.merge(step, context)
      case 'downsample':
        await this.#merging.downsample(step, context)
        return true
      case 'drop':
        await this.#drop(step, context)
        return true
      case 'settle':
        await this.#settle(context)
        return true
    }
  }

  async #drop({ sources }: DropStep, context: StepContext): Promise<void> {
    const { blocks, clock } = this.#deps
    const ulids = sources.map(({ ulid }) => ulid)
    await changeManifest(blocks, context, (manifest) => withDropped(manifest, ulids, clock.now()))
  }

  async #settle(context: StepContext): Promise<void> {
    const { blocks, clock } = this.#deps
    await changeManifest(blocks, context, (manifest) =>
      withSettled(manifest, { nowMs: clock.now(), flushed: (partition) => blocks.flushed(partition) }),
    )
  }

  /** What a step that failed comes to; throws what ends the turn. */
  #failed(error: unknown, sources: readonly BlockEntry[], { lease, running, signal }: StepContext): StepOutcome {
    const { setAside } = this.#deps
    const isOvertaken = error instanceof ConflictError && error.code === 'compaction-overtaken'
    const text = error instanceof Error ? error.message : String(error)
    this.#finish(running, isOvertaken ? 'overtaken' : 'failed', text)
    if (isOvertaken) return 'overtaken'
    if (error instanceof DamagedSourceError) {
      setAside(lease.tenant, error.ulid, error.message) // STEP-2
      return 'damaged'
    }
    const isOurs = error instanceof CorruptError && error.code === READ_BACK // STEP-1
    const mayPass = signal.aborted || isOurs || error instanceof UnavailableError || error instanceof ConflictError
    if (mayPass || error instanceof AssertionError) throw error
    for (const { ulid } of sources) setAside(lease.tenant, ulid, `a merge with it failed: ${text}`)
    return 'damaged'
  }

  #finish(running: Running, outcome: 'done' | 'nothing' | 'overtaken' | 'failed', text?: string): void {
    const { history, log, measures } = this.#deps
    const step = history.end(running, outcome, text)
    measures.step(step)
    const { tenant, why, sources, results, samplesIn, samplesOut, bytesIn, bytesOut, tookMs } = step
    const facts = { tenant, why, outcome, sources: sources.length, results, samplesIn, samplesOut, bytesIn, bytesOut }
    if (outcome === 'failed') log.warn({ ...facts, reason: text }, 'a step of compaction failed')
    else log.info({ ...facts, tookMs: Math.round(tookMs ?? 0) }, 'a step of compaction')
  }
}
