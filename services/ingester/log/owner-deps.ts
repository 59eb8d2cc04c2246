// What an owner is given, and what it leaves behind.
import type { Clock } from '../../../shared/base/clock.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import type { Bus, KvBucket } from '../../../shared/bus/port.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import type { Metrics } from '../../../shared/telemetry/metrics.ts'
import type { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import type { IngesterConfig } from '../config.ts'
import type { Asides } from '../flush/asides.ts'
import type { Gaps } from '../flush/gaps.ts'
import type { PartitionState } from '../state/partition-state.ts'
import type { OwnerMetrics } from './owner-metrics.ts'

export interface OwnerDeps {
  readonly partition: number
  readonly id: string
  readonly bus: Bus
  readonly bucket: KvBucket
  readonly clock: Clock
  readonly log: Log
  readonly config: IngesterConfig
  readonly metrics: OwnerMetrics
  /** Where unreadable records are counted. */
  readonly registry?: Metrics
  readonly strings: StringTable
  readonly without: ReadonlySet<string>
  /** What is in blocks by now; absent where nothing is ever flushed. */
  readonly blocks?: Pick<Blocks, 'flushedRecord' | 'refresh'>
  readonly asides?: Pick<Asides, 'named'>
  readonly gaps?: Pick<Gaps, 'names' | 'told'>
}

/** What an owner held when it had to begin again: nothing more is applied to it. */
export interface LeftBehind {
  readonly partition: number
  readonly state: PartitionState
  readonly incarnation: string
}
