// Makes what has to exist before actors start: one log per partition, the buckets, the number of partitions. And adds partitions later.
//
// Invariants
//   B1  A log exists before the number of partitions says so.
//   B2  Partitions are never taken away: asking for fewer than there are changes nothing.
//   B3  Where there are members, added partitions only exist; the members open them for reading and then for writing (membership.ts, M4).
import { ConflictError, RefusedError } from '../base/errors.ts'
import type { Bus, KvBucket } from '../bus/port.ts'
import { BLOCKS_BUCKET } from '../contracts/blocks.ts'
import { ELECTIONS_BUCKET } from '../contracts/elections.ts'
import { LIMITS_BUCKET } from '../contracts/limits.ts'
import { LOG_BUCKET, logConfig, logName } from '../contracts/log.ts'
import {
  MEMBER_PREFIX,
  PARTITIONS_KEY,
  PARTITIONS_NONE,
  type PartitionsRecord,
  partitionsIn,
  RING_BUCKET,
  RING_FILTER,
} from '../contracts/member.ts'
import { UPLOADS_BUCKET } from '../contracts/uploads.ts'
import { PARTITIONS_MAX } from '../ring/pie.ts'

export interface LogOptions {
  /** Bytes of one partition's log. */
  readonly logBytesMax: number
  /** Copies of streams and buckets that the NATS servers keep: 1 or 3. */
  readonly logReplicas: number
}

export interface BootstrapOptions extends LogOptions {
  readonly partitions: number
  readonly replicationFactor: number
}

const TRIES_MAX = 20

/** Idempotent; resolves with what is there now. */
export async function bootstrap(bus: Bus, options: BootstrapOptions): Promise<PartitionsRecord> {
  const ring = await bus.bucket(RING_BUCKET, { replicas: options.logReplicas })
  const replicas = options.logReplicas
  const names = [LOG_BUCKET, ELECTIONS_BUCKET, BLOCKS_BUCKET, UPLOADS_BUCKET, LIMITS_BUCKET]
  for (const name of names) await bus.bucket(name, { replicas })
  return grow(bus, ring, options, ({ count }) => ({
    count: Math.max(count, options.partitions), // B2
    replicationFactor: options.replicationFactor,
    ensureFrom: 0,
  }))
}

/** Adds `more` partitions to a system that was set up, with logs like the first one; resolves with what is there now. */
export async function addPartitions(bus: Bus, more: number): Promise<PartitionsRecord> {
  const ring = await bus.bucket(RING_BUCKET)
  const { count: before } = await readPartitions(bus)
  if (before === 0) throw new RefusedError('err-carillon-not-set-up', 'there are no partitions yet: run setup first')
  const wanted = before + more
  if (wanted > PARTITIONS_MAX) {
    throw new RefusedError(
      'err-carillon-partitions',
      `${before} partitions and ${more} more are above ${PARTITIONS_MAX}`,
    )
  }
  const { bytesMax, replicas } = await bus.logs.state(logName(0))
  return grow(bus, ring, { logBytesMax: bytesMax, logReplicas: replicas }, ({ count, replicationFactor }) => {
    return { count: Math.max(count, wanted), replicationFactor, ensureFrom: count }
  })
}

/** The number of partitions as it stands; zeroes before the system was set up. */
export async function readPartitions(bus: Bus): Promise<PartitionsRecord> {
  const entry = await (await bus.bucket(RING_BUCKET)).get(PARTITIONS_KEY)
  return entry?.value ? partitionsIn(entry.value) : PARTITIONS_NONE
}

async function grow(
  bus: Bus,
  ring: KvBucket,
  options: LogOptions,
  next: (before: PartitionsRecord) => { count: number; replicationFactor: number; ensureFrom: number },
): Promise<PartitionsRecord> {
  for (let tries = 1; ; tries++) {
    const entry = await ring.get(PARTITIONS_KEY)
    const before = entry?.value ? partitionsIn(entry.value) : PARTITIONS_NONE
    const { count, replicationFactor, ensureFrom } = next(before)
    for (let partition = ensureFrom; partition < count; partition++) {
      await bus.logs.ensure(logConfig(partition, { bytesMax: options.logBytesMax, replicas: options.logReplicas })) // B1
    }
    const isAlone = before.count === 0 || (count > before.count && !(await hasMembers(ring)))
    const open = isAlone
      ? { readable: count, writable: count }
      : { readable: before.readable, writable: before.writable }
    const record: PartitionsRecord = { v: 1, count, ...open, replicationFactor }
    const isSame = record.count === before.count && record.replicationFactor === before.replicationFactor
    if (isSame) return before
    const bytes = Buffer.from(JSON.stringify(record))
    try {
      if (entry?.value) await ring.update(PARTITIONS_KEY, bytes, entry.revision)
      else await ring.create(PARTITIONS_KEY, bytes)
      return record
    } catch (error) {
      if (!(error instanceof ConflictError) || tries === TRIES_MAX) throw error
    }
  }
}

async function hasMembers(ring: KvBucket): Promise<boolean> {
  let isAnybodyThere = false
  const { promise, resolve } = Promise.withResolvers<void>()
  const onEntry = ({ key, value }: { key: string; value: Uint8Array | undefined }) => {
    if (key.startsWith(MEMBER_PREFIX) && value !== undefined) isAnybodyThere = true
  }
  const watch = ring.watch(RING_FILTER, onEntry, resolve)
  await promise
  watch.stop()
  return isAnybodyThere
}
