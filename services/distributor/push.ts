// Pushes: one body after the other is admitted, elected, limited, written and acknowledged, or refused.
import type { Clock } from '../../shared/base/clock.ts'
import { RefusedError } from '../../shared/base/errors.ts'
import type { HandlerContext } from '../../shared/bus/actor.ts'
import type { LogPosition, PushReply, PushRequest } from '../../shared/contracts/write.ts'
import type { TenantKeep } from '../../shared/limits/keep.ts'
import { decodeTenant } from '../../shared/model/tenant.ts'
import { type AdmitContext, admit } from './admit/admit.ts'
import { droppedOf, settleClaims } from './admit/claims.ts'
import type { Readiness } from './admit/readiness.ts'
import { Staged } from './admit/staged.ts'
import type { TenantLimits } from './admit/tenant-limits.ts'
import { type Written, writeStaged } from './admit/write-staged.ts'
import type { DistributorConfig } from './config.ts'
import type { Elections } from './ha/elections.ts'
import { type HaLabels, haLabelsOf } from './ha/ha-labels.ts'
import type { CurrentDictionary } from './log/current-dictionary.ts'
import type { Dictionary } from './log/dictionary.ts'
import type { Partitions } from './log/partitions.ts'
import type { PushMetrics } from './push-metrics.ts'

export interface PushesDeps {
  readonly clock: Clock
  readonly config: DistributorConfig
  readonly partitions: Partitions
  readonly dictionary: CurrentDictionary
  readonly readiness: Readiness
  readonly limits: TenantLimits
  readonly elections: Elections
  readonly keep: TenantKeep
  readonly counted: PushMetrics
}

const STAGED_SPARES_MAX = 16

export class Pushes {
  readonly #deps: PushesDeps
  readonly #haLabelsOf: (tenant: string) => HaLabels
  readonly #spares: Staged[] = []

  constructor(deps: PushesDeps) {
    this.#deps = deps
    this.#haLabelsOf = haLabelsOf(deps.config)
  }

  async push(request: PushRequest, { params, signal }: HandlerContext): Promise<PushReply> {
    const { readiness, dictionary, elections, counted } = this.#deps
    const tenant = decodeTenant(params['tenant']!)
    if (!readiness.isConfirmed()) await readiness.confirmed(signal)
    readiness.refuseWhenUnable()
    const used = dictionary.forPush() // it may be replaced while this push waits
    const staged = this.#spares.pop() ?? new Staged()
    try {
      return await this.#store(request, staged, this.#admission(tenant, used))
    } catch (error) {
      counted.pushes.with({ outcome: error instanceof RefusedError ? 'refused' : 'unavailable' }).inc()
      if (error instanceof RefusedError) for (const ref of staged.newRefs) used.forget(ref)
      throw error
    } finally {
      for (const claim of staged.claims.values()) elections.letGo(claim)
      staged.clear()
      if (this.#spares.length < STAGED_SPARES_MAX) this.#spares.push(staged)
    }
  }

  #admission(tenant: string, dictionary: Dictionary): AdmitContext {
    const { clock, config, keep, partitions, elections } = this.#deps
    return {
      ...{ dictionary, tenant, config, elections },
      nowMs: clock.now(),
      keepMs: keep.of(tenant),
      partitionOf: (seriesHash) => partitions.place(seriesHash),
      haLabels: this.#haLabelsOf(tenant),
    }
  }

  async #store({ protocol, body }: PushRequest, staged: Staged, admission: AdmitContext): Promise<PushReply> {
    const { readiness, limits, elections, partitions, counted } = this.#deps
    const { tenant, dictionary: used } = admission
    admit(protocol, body, staged, admission)
    readiness.refuseWhereUnable(staged, used)
    if (staged.claims.size > 0) await settleClaims(staged, admission, elections) // WRITE-5
    limits.refuseWhenTooFast(tenant, staged)
    const denied = await limits.denySeries(tenant, staged, used)
    const { written, commits } = writeStaged({ staged, denied, used }, partitions, () => limits.seriesRefusal())
    const refused = refusalOf(staged)
    this.#countLeftOut(staged)
    const position = await acknowledged(commits) // WRITE-1
    counted.samples.with({ kind: 'float' }).inc(written.samplesWritten)
    counted.samples.with({ kind: 'histogram' }).inc(written.histogramsWritten)
    counted.pushes.with({ outcome: refused.refusal ? 'partly refused' : 'stored' }).inc()
    return { ...written, ...droppedOf(staged, elections), ...refused, position }
  }

  #countLeftOut(staged: Staged): void {
    const { counted } = this.#deps
    for (const [reason, samples] of staged.discarded) counted.discarded.with({ reason }).inc(samples)
    for (const kind of ['exemplars', 'metadata'] as const)
      for (const [reason, count] of staged.leftOut[kind]) counted.leftOut[kind].with({ reason }).inc(count)
  }
}

async function acknowledged(commits: Written['commits']): Promise<LogPosition[]> {
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
