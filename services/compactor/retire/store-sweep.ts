// Removes what broken writes have left in the store, of all tenants, once in a while.
import { AssertionError } from '../../../shared/base/assert.ts'
import type { Clock } from '../../../shared/base/clock.ts'
import { textOf } from '../../../shared/base/errors.ts'
import { type ObjectStore, SWEEP_AGE_MS_MIN } from '../../../shared/objects/port.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import type { ClockWitness } from '../clock-witness.ts'
import type { CompactorConfig } from '../config.ts'

const STORE_SWEEP_MS_MAX = 5 * 60_000

export interface StoreSweepDeps {
  readonly objects: ObjectStore
  readonly clock: Clock
  readonly log: Log
  readonly witness: Pick<ClockWitness, 'fault'>
  readonly config: Pick<CompactorConfig, 'sweepEveryMs' | 'orphanGraceMs'>
}

export class StoreSweep {
  readonly #deps: StoreSweepDeps
  /** Monotonic; at first when this process began. */
  #sweptAt: number

  constructor(deps: StoreSweepDeps) {
    this.#deps = deps
    this.#sweptAt = deps.clock.monotonic()
  }

  /** To be called often. */
  async look(): Promise<void> {
    const { objects, clock, config, log, witness } = this.#deps
    if (clock.monotonic() - this.#sweptAt < config.sweepEveryMs) return
    this.#sweptAt = clock.monotonic()
    try {
      if ((await witness.fault()) !== undefined) return
      const olderThanMs = Math.max(config.orphanGraceMs, SWEEP_AGE_MS_MIN)
      const { count, bytes } = await objects.sweep(olderThanMs, { timeoutMs: STORE_SWEEP_MS_MAX })
      if (count > 0) log.info({ count, bytes }, 'removed what broken writes had left in the store')
    } catch (error) {
      if (error instanceof AssertionError) throw error
      log.warn({ reason: textOf(error) }, 'the store was not swept')
    }
  }
}
