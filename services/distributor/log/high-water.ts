// High-water marks: the newest batch of each partition that this distributor knows to be stored, written down in KV, so that a log that lost
// it is noticed by the owners (services/ingester/log/stored-batches.ts) and, at its next start, here.
import type { KvBucket } from '../../../shared/bus/port.ts'
import { keyFor } from '../../../shared/bus/record.ts'
import { type HighWater, highWaterRecord } from '../../../shared/contracts/log.ts'
import { readRecord } from '../../../shared/kv/read-records.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import type { Counter, Metrics } from '../../../shared/telemetry/metrics.ts'
import type { PartitionWriter } from './partition-writer.ts'

export interface HighWaterDeps {
  readonly bucket: KvBucket
  readonly id: string
  readonly log: Log
  readonly metrics: Metrics
  readonly rewinds: Counter
}

export class HighWaterMarks {
  private readonly deps: HighWaterDeps
  /** Per partition the batch that was written down last; '' before the first. */
  private readonly saved = new Map<number, string>()
  /** Per partition the sequence that stood there at the start: nothing lower takes its place. */
  private readonly found = new Map<number, number>()

  constructor(deps: HighWaterDeps) {
    this.deps = deps
  }

  /** Once for each partition: a log that ends before what was known to be stored has been rewound. */
  async check({ partition, incarnation }: PartitionWriter, lastSeq: number): Promise<void> {
    if (this.saved.has(partition)) return
    const { id, log, rewinds } = this.deps
    const found = await readRecord(this.deps, highWaterRecord, { partition, distributor: id })
    const stored = found.kind === 'value' && found.value.incarnation === incarnation ? found.value.seq : undefined
    if (stored !== undefined && stored > lastSeq) {
      rewinds.inc()
      log.error({ partition, lastSeq, stored }, 'the log ends before a batch that was stored')
    }
    this.saved.set(partition, '')
    if (stored !== undefined) this.found.set(partition, stored)
  }

  async save({ partition, newestSession, incarnation }: PartitionWriter): Promise<void> {
    if (!newestSession || newestSession.lastSeq === 0) return
    if (!this.saved.has(partition)) return // what stands there was not compared yet, and may be evidence
    const { idText, lastCounter, lastSeq, mark } = newestSession
    const key = `${idText}/${lastCounter}`
    if (this.saved.get(partition) === key) return
    if (lastSeq <= (this.found.get(partition) ?? 0)) return // a mark that a rewound log has not reached again is evidence
    const record: HighWater = { session: idText, counter: lastCounter, seq: lastSeq, epoch: mark.number, incarnation }
    const place = keyFor(highWaterRecord, { partition, distributor: this.deps.id })
    await this.deps.bucket.put(place, highWaterRecord.format.encode(record))
    this.saved.set(partition, key)
  }
}
