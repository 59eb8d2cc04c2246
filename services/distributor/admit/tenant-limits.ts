// The limits of a tenant, for what is staged: samples per second, and new series (LOG-23).
import type { Clock } from '../../../shared/base/clock.ts'
import { RefusedError, textOf } from '../../../shared/base/errors.ts'
import { ask } from '../../../shared/bus/ask.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { known } from '../../../shared/contracts/read.ts'
import type { Membership } from '../../../shared/membership/membership.ts'
import { type Refusal, refusal } from '../../../shared/model/label-rules.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import type { Counter } from '../../../shared/telemetry/metrics.ts'
import type { DistributorConfig } from '../config.ts'
import type { Dictionary } from '../log/dictionary.ts'
import type { Staged } from './staged.ts'
import { type OwnerNews, RateLimiter } from './write-limits.ts'

export interface TenantLimitsDeps {
  readonly bus: Bus
  readonly clock: Clock
  readonly config: DistributorConfig
  readonly log: Log
  readonly membership: Pick<Membership, 'live' | 'holders'>
  readonly news: OwnerNews
  /** Samples refused, by reason. */
  readonly discarded: Counter
}

const NEW_SERIES_PRESSURE = 0.9

export class TenantLimits {
  readonly #deps: TenantLimitsDeps
  readonly #rates: RateLimiter

  constructor(deps: TenantLimitsDeps) {
    this.#deps = deps
    this.#rates = new RateLimiter(deps.clock)
  }

  refuseWhenTooFast(tenant: string, staged: Staged): void {
    const { config, membership, discarded } = this.#deps
    const distributorCount = Math.max(1, membership.live('distributor').length)
    const perSecond = config.samplesPerSecondMax / distributorCount
    const burst = config.samplesBurstMax / distributorCount
    const waitS = this.#rates.take(tenant, staged.samples, { perSecond, burst })
    if (waitS === 0) return
    const text = `ingestion rate limit (${config.samplesPerSecondMax}) exceeded while adding ${staged.samples} samples and ${staged.metadata.length} metadata (err-carillon-rate-limited). To adjust the limit, set --samples-per-second-max or ask your administrator`
    discarded.with({ reason: 'rate_limited' }).inc(staged.samples)
    throw new RefusedError('err-carillon-rate-limited', text, { status: 429, retryAfterS: waitS })
  }

  /** New series of a tenant at its limit, as far as the owners do not hold them already (LOG-23); they are left out of the write. */
  async denySeries(tenant: string, staged: Staged, used: Dictionary): Promise<ReadonlySet<number>> {
    const { news, config } = this.#deps
    if (staged.newRefs.length === 0) return NOBODY
    const held = news.seriesOf(tenant)
    const isFull = held + staged.newRefs.length > config.seriesPerTenantMax
    if (!isFull && news.pressure() <= NEW_SERIES_PRESSURE) return NOBODY
    const denied = new Set<number>()
    const byPartition = Map.groupBy(staged.newRefs, (ref) => used.partitions[ref]!)
    for (const [partition, refs] of byPartition) {
      const hashes = Uint32Array.from(refs, (ref) => used.seriesHashes[ref]!)
      const isKnown = await this.#askKnown(tenant, partition, hashes)
      refs.forEach((ref, i) => {
        if (isKnown[i] === 0) denied.add(ref)
      })
    }
    const room = isFull ? Math.max(0, config.seriesPerTenantMax - held) : 0
    for (const ref of [...denied].slice(0, room)) denied.delete(ref)
    return denied
  }

  /** What the sender of a denied series is told. */
  seriesRefusal(): Refusal {
    const { news, config } = this.#deps
    if (news.pressure() > NEW_SERIES_PRESSURE) {
      const text = 'an ingester is near its memory bound and takes no new series'
      return refusal('ingester-memory-new-series', 'ingester_memory', text)
    }
    const text = `per-user series limit of ${config.seriesPerTenantMax} exceeded, please contact administrator to raise it`
    return refusal('max-series-per-tenant', 'per_tenant_series_limit', text, 'series-per-tenant-max')
  }

  async #askKnown(tenant: string, partition: number, hashes: Uint32Array): Promise<Uint8Array> {
    const { bus, log, membership } = this.#deps
    for (const owner of membership.holders(partition)) {
      try {
        return (await ask(bus, known, { id: owner }, { partition, tenant, hashes }, {})).known
      } catch (error) {
        log.debug({ owner, partition, reason: textOf(error) }, 'an owner did not say which series it holds')
      }
    }
    return new Uint8Array(hashes.length).fill(1) // unknown membership admits
  }
}

const NOBODY: ReadonlySet<number> = new Set()
