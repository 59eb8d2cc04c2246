// The newest batches that distributors know to be stored in a partition's log (their high-water marks): a log that ends before one of them,
// or holds another message in its place, was rewound.
import type { Clock } from '../../../shared/base/clock.ts'
import type { KvBucket, LogMessage } from '../../../shared/bus/port.ts'
import { type HighWater, highWaterRecord } from '../../../shared/contracts/log.ts'
import type { Told } from '../../../shared/kv/passed-over.ts'
import { WatchedTable } from '../../../shared/kv/watched-table.ts'

export interface StoredBatch {
  readonly writer: string
  readonly seq: number
  readonly messageId: string
  readonly incarnation: string
  readonly epoch: number
}

/** The newest stored batch of each life of the log, by incarnation. */
export type NewestStored = ReadonlyMap<string, StoredBatch>

export class StoredBatches {
  /** Bound: one row per distributor that ever wrote. */
  private readonly table: WatchedTable<'partition' | 'distributor', HighWater>

  constructor(deps: Told & { readonly bucket: KvBucket; readonly clock: Clock }, partition: number) {
    const { bucket, clock, log, metrics } = deps
    this.table = new WatchedTable({ bucket, clock, log, metrics, record: highWaterRecord, fixed: { partition } })
  }

  /** Resolves when all that stand in the bucket are known. */
  start(): Promise<void> {
    return this.table.start()
  }

  stop(): void {
    this.table.stop()
  }

  /** Rows of distributors that are gone stay: what they had stored in another life of the log says nothing of this one. */
  newest(): NewestStored {
    const newest = new Map<string, StoredBatch>()
    for (const stored of this.all())
      if (stored.seq > (newest.get(stored.incarnation)?.seq ?? 0)) newest.set(stored.incarnation, stored)
    return newest
  }

  /** Those in whose place this message of the log stands. */
  replacedBy({ seq, messageId }: LogMessage, incarnation: string): StoredBatch[] {
    const replaced: StoredBatch[] = []
    for (const { params, value } of this.table.rows()) {
      if (value?.seq !== seq || value.incarnation !== incarnation) continue
      const stored = storedBatch(params.distributor, value)
      if (stored.messageId !== messageId) replaced.push(stored)
    }
    return replaced
  }

  /** One that can no longer be read says what it said before: a batch that was stored stays stored. */
  private *all(): Iterable<StoredBatch> {
    for (const { params, value } of this.table.rows())
      if (value !== undefined) yield storedBatch(params.distributor, value)
  }
}

function storedBatch(writer: string, { session, counter, seq, incarnation, epoch }: HighWater): StoredBatch {
  return { writer, seq, messageId: `${session}-${counter}`, incarnation, epoch }
}
