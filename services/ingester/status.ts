// What an ingester says of itself: in metrics, to distributors (INGESTER-3), and in its status.
import { textOf } from '../../shared/base/errors.ts'
import { tell } from '../../shared/bus/ask.ts'
import type { PartitionStatus } from '../../shared/contracts/member.ts'
import { ownerCounted } from '../../shared/contracts/read.ts'
import type { ServiceDeps } from '../../shared/membership/deps.ts'
import type { StringTable } from '../../shared/tsdb/head/string-table.ts'
import type { IngesterConfig } from './config.ts'
import { unflushedAgeMs } from './flush/flush.ts'
import type { Owner } from './log/owner.ts'
import type { Ownership } from './ownership.ts'
import { describe } from './state/damage.ts'
import type { Stores } from './stores.ts'

export type IngesterStatusDeps = Pick<ServiceDeps, 'bus' | 'clock' | 'log' | 'metrics' | 'id' | 'incarnation'> & {
  readonly config: IngesterConfig
  readonly strings: StringTable
  readonly ownership: Ownership
  readonly stores: Stores
}

const COUNTED_TENANTS_MAX = 5_000

export class IngesterStatus {
  readonly #deps: IngesterStatusDeps

  constructor(deps: IngesterStatusDeps) {
    this.#deps = deps
    this.#showTotals()
    this.#showPartitions()
  }

  partitions(): readonly PartitionStatus[] {
    return this.#deps.ownership.owners().map((owner) => this.#statusOf(owner))
  }

  /** INGESTER-3 */
  tellCounts(): void {
    const { bus, config, id, incarnation, log, ownership } = this.#deps
    const series = ownership.owners().flatMap((owner) =>
      [...owner.state.heads].map(([tenant, head]) => ({
        partition: owner.partition,
        tenant,
        count: head.seriesCount,
      })),
    )
    const value = { id, incarnation, bytes: this.#bytesHeld(), bytesMax: config.memoryBytesMax, series }
    try {
      tell(bus, ownerCounted, {}, { ...value, series: series.slice(0, COUNTED_TENANTS_MAX) })
    } catch (error) {
      log.debug({ reason: textOf(error) }, 'counts not told')
    }
  }

  #showTotals(): void {
    const { metrics } = this.#deps
    metrics.gaugeOf('carillon_ingester_series', 'Series in memory.', () => this.#sumOf(seriesOf))
    metrics.gaugeOf(
      'carillon_ingester_memory_bytes',
      'Bytes of heads, dictionaries and strings, as estimated: all that is held.',
      () => this.#bytesHeld(),
    )
    metrics.gaugeOf('carillon_ingester_samples_applied', 'Samples applied since start.', () =>
      this.#sumOf((owner) => owner.state.samplesApplied),
    )
  }

  #showPartitions(): void {
    const { metrics, ownership, stores, clock } = this.#deps
    const perPartition = (read: (owner: Owner) => number) => () =>
      ownership.owners().map((owner) => [{ partition: String(owner.partition) }, read(owner)] as const)
    metrics.gaugeOf(
      'carillon_ingester_applied_sequence',
      'Newest applied sequence of each partition log.',
      perPartition(({ appliedSeq }) => appliedSeq),
      ['partition'],
    )
    metrics.gaugeOf(
      'carillon_flush_flushed_segment',
      'The newest segment of each partition that is in blocks.',
      perPartition(({ partition }) => stores.blocks.flushed(partition)),
      ['partition'],
    )
    metrics.gaugeOf(
      'carillon_flush_unflushed_age_seconds',
      'Time since the oldest segment that is closed and not in blocks was closed; 0 where there is none.',
      perPartition((owner) => unflushedAgeMs(owner, stores.blocks, clock.monotonic()) / 1000),
      ['partition'],
    )
  }

  #statusOf(owner: Owner): PartitionStatus {
    const { ownership, stores } = this.#deps
    const segments = owner.state.segments()
    return {
      partition: owner.partition,
      state: owner.isCaughtUp ? 'caught-up' : 'replaying',
      isLeader: ownership.leads(owner.partition),
      incarnation: owner.incarnation,
      appliedSeq: owner.appliedSeq,
      endSeq: owner.end?.lastSeq ?? 0,
      mark: owner.state.segment,
      flushed: stores.blocks.flushed(owner.partition),
      segments,
      digests: segments.map((segment) => owner.state.digest(segment)),
      seriesCount: seriesOf(owner),
      sampleCount: [...owner.state.heads.values()].reduce((sum, head) => sum + head.sampleCount, 0),
      damage: owner.damages.map(describe),
      aside: stores.asides.named(owner.partition),
    }
  }

  #sumOf(read: (owner: Owner) => number): number {
    return this.#deps.ownership.owners().reduce((sum, owner) => sum + read(owner), 0)
  }

  #bytesHeld(): number {
    return this.#deps.strings.bytes + this.#deps.ownership.bytes()
  }
}

function seriesOf(owner: Owner): number {
  return [...owner.state.heads.values()].reduce((sum, head) => sum + head.seriesCount, 0)
}
