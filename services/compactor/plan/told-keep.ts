// Tells the doors how long tenants keep samples (contracts/keep.ts): when a compactor starts, and when its policy file changes. Compactors are
// given the same settings; of different ones the last that had something to tell is believed.

import type { Clock } from '../../../shared/base/clock.ts'
import { ConflictError, CorruptError, textOf, UnavailableError } from '../../../shared/base/errors.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { type KeepRecord, keepRecord } from '../../../shared/contracts/keep.ts'
import { DEFAULT_LIMITS_KEY, limitsKey } from '../../../shared/contracts/limits.ts'
import { readRecords } from '../../../shared/kv/read-records.ts'
import { updateRecord } from '../../../shared/kv/update.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import type { Metrics } from '../../../shared/telemetry/metrics.ts'
import { longestKeepMs, type Policies } from './retention-policy.ts'

const READ_MS_MAX = 10_000

export interface ToldKeepDeps {
  readonly bus: Bus
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly id: string
  readonly policies: Pick<Policies, 'of' | 'tenants' | 'others'>
}

export class ToldKeep {
  private readonly deps: ToldKeepDeps
  private isTold = false

  constructor(deps: ToldKeepDeps) {
    this.deps = deps
  }

  /** Other policies hold. */
  changed(): void {
    this.isTold = false
  }

  /** To be called often: does something only when there is something to tell. */
  async tell(): Promise<void> {
    if (this.isTold) return
    this.isTold = true // unless it changes meanwhile
    try {
      await this.write()
    } catch (error) {
      this.isTold = false
      if (!(error instanceof UnavailableError || error instanceof ConflictError || error instanceof CorruptError))
        throw error
      this.deps.log.warn({ reason: textOf(error) }, 'the doors are not told yet how long samples are kept')
    }
  }

  private async write(): Promise<void> {
    const { bus, clock, policies, log, metrics } = this.deps
    const bucket = await bus.bucket(keepRecord.bucket)
    const wanted = new Map([[DEFAULT_LIMITS_KEY, finite(longestKeepMs(policies.others))]])
    for (const tenant of policies.tenants) wanted.set(limitsKey(tenant), finite(longestKeepMs(policies.of(tenant))))
    const rows = await readRecords({ bucket, clock, timeoutMs: READ_MS_MAX, log, metrics }, keepRecord)
    for (const { key, params, revision, kind } of rows)
      if (!wanted.has(params.whose) && kind !== 'newer-version') await bucket.delete(key, revision)
    for (const [whose, keepMs] of wanted) {
      const change = (before: KeepRecord | undefined): KeepRecord | undefined =>
        before?.keepMs === keepMs ? before : { v: 1, keepMs, toldBy: this.deps.id }
      await updateRecord({ bucket, clock, log, metrics, record: keepRecord, params: { whose }, change })
    }
  }
}

/** As records say for ever. */
const finite = (keepMs: number): number => (Number.isFinite(keepMs) ? keepMs : 0)
