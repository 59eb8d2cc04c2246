// The steps that a tenant waits for, from all that this compactor knows: the manifest, the clock, the policy, what is set aside.
import type { Clock } from '../../../shared/base/clock.ts'
import { CorruptError, textOf } from '../../../shared/base/errors.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import type { Manifest } from '../../../shared/contracts/blocks.ts'
import type { ClockWitness } from '../clock-witness.ts'
import type { CompactorConfig } from '../config.ts'
import type { Step } from '../plan-types.ts'
import type { Aside } from '../retire/quarantine.ts'
import type { Scrubber } from '../scrub/scrubber.ts'
import type { TenantStates } from '../tenant-state.ts'
import { plan } from './plan.ts'
import type { Policies } from './retention-policy.ts'

const HOUR_MS = 3_600_000
/** The ranges of blocks. */
const RANGES_MS: readonly number[] = [2 * HOUR_MS, 12 * HOUR_MS, 24 * HOUR_MS]
/** Downsampled data of one range is made again at most this often: each late block asks for it. */
const DOWNSAMPLE_GAP_MS = 6 * HOUR_MS
/** How old the newest sample of all tenants may be as it is known here. */
const NEWEST_MS = 60_000

export interface PlannerDeps {
  readonly blocks: Blocks
  readonly clock: Clock
  readonly config: CompactorConfig
  readonly witness: Pick<ClockWitness, 'now'>
  readonly policies: Pick<Policies, 'of'>
  readonly aside: Pick<Aside, 'has'>
  readonly scrubber: Pick<Scrubber, 'isDamaged'>
  readonly states: TenantStates
}

export class Planner {
  readonly #deps: PlannerDeps
  /** When downsampled data was last made, monotonic. Bound: what was made within DOWNSAMPLE_GAP_MS. */
  readonly #downsampledAt = new Map<string, number>()
  #newest: { readonly ms: number | undefined; readonly atMs: number } | undefined

  constructor(deps: PlannerDeps) {
    this.#deps = deps
  }

  /** Those of the newest manifest that is known here. */
  waitingOf(tenant: string, isForced = false): Step[] {
    const { blocks, states } = this.#deps
    try {
      const stored = blocks.manifest(tenant)
      return stored === undefined ? [] : this.stepsOf(stored.manifest, isForced)
    } catch (error) {
      states.of(tenant).error = textOf(error) // a damaged manifest: shown, and complained about at each turn
      return []
    }
  }

  stepsOf(manifest: Manifest, isForced: boolean): Step[] {
    const { aside, blocks, clock, config, policies, scrubber, witness } = this.#deps
    const { tenant } = manifest
    return plan({
      manifest,
      nowMs: witness.now(),
      newestMs: this.#newestMs(),
      settings: {
        rangesMs: RANGES_MS,
        delayMs: config.compactDelayMs,
        lateRatio: config.lateRatio,
        sourcesMax: config.mergeSourcesMax,
        mergeBytesMax: config.mergeBytesMax,
      },
      policy: policies.of(tenant),
      flushed: (partition) => blocks.flushed(partition),
      isAside: (ulid) => aside.has(ulid) || scrubber.isDamaged(tenant, ulid),
      isForced,
      mayDownsample: ({ startMs, resolutionMs }) => {
        const madeAt = this.#downsampledAt.get(`${tenant} ${startMs} ${resolutionMs}`) ?? Number.NEGATIVE_INFINITY
        return isForced || clock.monotonic() - madeAt >= DOWNSAMPLE_GAP_MS
      },
    })
  }

  /** A step was carried out. */
  ran(tenant: string, step: Step): void {
    if (step.kind !== 'downsample') return
    const nowMs = this.#deps.clock.monotonic()
    for (const [key, madeAt] of this.#downsampledAt)
      if (nowMs - madeAt >= DOWNSAMPLE_GAP_MS) this.#downsampledAt.delete(key)
    this.#downsampledAt.set(`${tenant} ${step.startMs} ${step.resolutionMs}`, nowMs)
  }

  /** Of all tenants (PLAN-5); looked for again after a while. */
  #newestMs(): number | undefined {
    const { blocks, clock } = this.#deps
    if (this.#newest !== undefined && clock.monotonic() - this.#newest.atMs < NEWEST_MS) return this.#newest.ms
    let ms: number | undefined
    for (const tenant of blocks.tenants()) {
      for (const { maxTime } of this.#listedOf(tenant)) ms = Math.max(ms ?? maxTime, maxTime)
    }
    this.#newest = { ms, atMs: clock.monotonic() }
    return ms
  }

  #listedOf(tenant: string): Manifest['blocks'] {
    try {
      return this.#deps.blocks.manifest(tenant)?.manifest.blocks ?? []
    } catch (error) {
      if (error instanceof CorruptError) return [] // told by its own turn
      throw error
    }
  }
}
