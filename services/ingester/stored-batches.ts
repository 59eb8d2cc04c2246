// The newest batches that distributors know to be stored in a partition's log (their high-water marks): a log that ends before one of them,
// or holds another message in its place, was rewound.
import type { BusSubscription, KvBucket, LogMessage } from '../../shared/bus/port.ts'
import { highWaterFilter, parseRecord } from '../../shared/contracts/log.ts'

export interface StoredBatch {
  readonly writer: string
  readonly seq: number
  readonly messageId: string
  readonly incarnation: string
}

export class StoredBatches {
  private readonly bucket: KvBucket
  private readonly partition: number
  /** Bound: one per distributor that ever wrote. */
  private readonly byKey = new Map<string, StoredBatch>()
  private watch: BusSubscription | undefined

  constructor(bucket: KvBucket, partition: number) {
    this.bucket = bucket
    this.partition = partition
  }

  /** Resolves when all that stand in the bucket are known. */
  start(): Promise<void> {
    return new Promise((ready) => {
      const hear = ({ key, value }: { key: string; value: Uint8Array | undefined }) => this.hear(key, value)
      this.watch = this.bucket.watch(highWaterFilter(this.partition), hear, ready)
    })
  }

  stop(): void {
    this.watch?.stop()
  }

  newest(): StoredBatch | undefined {
    let newest: StoredBatch | undefined
    for (const stored of this.byKey.values()) if (stored.seq > (newest?.seq ?? 0)) newest = stored
    return newest
  }

  /** Those in whose place this message of the log stands. */
  replacedBy({ seq, messageId }: LogMessage, incarnation: string): StoredBatch[] {
    const replaced: StoredBatch[] = []
    for (const stored of this.byKey.values()) {
      if (stored.seq === seq && stored.incarnation === incarnation && stored.messageId !== messageId)
        replaced.push(stored)
    }
    return replaced
  }

  private hear(key: string, value: Uint8Array | undefined): void {
    if (!value) return
    const { session, counter, seq, incarnation } = parseRecord(value, 'high-water mark')
    this.byKey.set(key, {
      writer: key.split('.')[2]!,
      seq: Number(seq),
      messageId: `${String(session)}-${String(counter)}`,
      incarnation: String(incarnation),
    })
  }
}
