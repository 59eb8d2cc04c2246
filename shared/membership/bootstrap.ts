// Makes what has to exist before actors start: one log per partition, the buckets, the number of partitions.
import { ConflictError, RefusedError } from '../base/errors.ts'
import type { Bus } from '../bus/port.ts'
import { LOG_BUCKET, logConfig } from '../contracts/log.ts'
import { PARTITIONS_KEY, type PartitionsRecord, RING_BUCKET } from '../contracts/member.ts'

export interface BootstrapOptions {
  readonly partitions: number
  readonly replicationFactor: number
  /** Bytes of one partition's log. */
  readonly logBytesMax: number
  /** Copies of streams and buckets that the NATS servers keep: 1 or 3. */
  readonly logReplicas: number
}

/** Idempotent. Rejects with RefusedError `err-carillon-partitions` when the system was set up with more partitions than asked for. */
export async function bootstrap(bus: Bus, options: BootstrapOptions): Promise<void> {
  const ring = await bus.bucket(RING_BUCKET, { replicas: options.logReplicas })
  await bus.bucket(LOG_BUCKET, { replicas: options.logReplicas })
  for (let partition = 0; partition < options.partitions; partition++) {
    await bus.logs.ensure(logConfig(partition, { bytesMax: options.logBytesMax, replicas: options.logReplicas }))
  }
  const record: PartitionsRecord = { v: 1, count: options.partitions, replicationFactor: options.replicationFactor }
  const bytes = Buffer.from(JSON.stringify(record))
  try {
    await ring.create(PARTITIONS_KEY, bytes)
  } catch (error) {
    if (!(error instanceof ConflictError)) throw error
    const entry = await ring.get(PARTITIONS_KEY)
    if (!entry?.value) throw error
    const before = JSON.parse(Buffer.from(entry.value).toString()) as PartitionsRecord
    if (before.count > options.partitions) {
      throw new RefusedError(
        'err-carillon-partitions',
        `the system was set up with ${before.count} partitions, ${options.partitions} were asked for: partitions cannot be taken away`,
      )
    }
    if (before.count !== record.count || before.replicationFactor !== record.replicationFactor) {
      await ring.update(PARTITIONS_KEY, bytes, entry.revision)
    }
  }
}
