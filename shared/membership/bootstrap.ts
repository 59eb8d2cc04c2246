// Makes what has to exist before actors start: one log per partition, the buckets, the number of partitions. And adds partitions later.
//
// Invariants
//   BOOTSTRAP-1  A log exists before the number of partitions says so.
//   BOOTSTRAP-2  Partitions are never taken away: asking for fewer than there are changes nothing.
//   BOOTSTRAP-3  A number that stands there and cannot be read is never taken for none: nothing is changed until a person has put it right.
//   BOOTSTRAP-4  Where there are members, added partitions only exist; the members open them for reading and then for writing (membership.ts, MEMBER-4).
//   BOOTSTRAP-5  A log that is made anew begins behind all that may still be purged of the one before: a purge names no incarnation, and one that was asked
//       for before may arrive after.
import { CorruptError, RefusedError } from '../base/errors.ts'
import type { Bus, KvBucket } from '../bus/port.ts'
import { keysFor } from '../bus/record.ts'
import { BLOCKS_BUCKET } from '../contracts/blocks.ts'
import { ELECTIONS_BUCKET } from '../contracts/elections.ts'
import { LIMITS_BUCKET } from '../contracts/limits.ts'
import { LOG_BUCKET, logConfig, logName } from '../contracts/log.ts'
import {
  memberRecord,
  PARTITIONS_NONE,
  type PartitionsRecord,
  partitionsRecord,
  RING_BUCKET,
} from '../contracts/member.ts'
import { UPLOADS_BUCKET } from '../contracts/uploads.ts'
import { readRecord } from '../kv/read-records.ts'
import { updateRecord } from '../kv/update.ts'
import { PARTITIONS_MAX } from '../ring/pie.ts'

export interface LogOptions {
  /** Bytes of one partition's log. */
  readonly logBytesMax: number
  /** Copies of streams and buckets that the NATS servers keep: 1 or 3. */
  readonly logReplicas: number
  /** Where the log of a partition begins if it does not exist (BOOTSTRAP-5); 1 unless told. */
  readonly originSeqOf?: ((partition: number) => number) | undefined
}

export interface BootstrapOptions extends LogOptions {
  readonly partitions: number
  readonly replicationFactor: number
}

/** Idempotent; resolves with what is there now. */
export async function bootstrap(bus: Bus, options: BootstrapOptions): Promise<PartitionsRecord> {
  const ring = await bus.bucket(RING_BUCKET, { replicas: options.logReplicas })
  const replicas = options.logReplicas
  const names = [LOG_BUCKET, ELECTIONS_BUCKET, BLOCKS_BUCKET, UPLOADS_BUCKET, LIMITS_BUCKET]
  for (const name of names) await bus.bucket(name, { replicas })
  return grow(bus, ring, options, ({ count }) => ({
    count: Math.max(count, options.partitions), // BOOTSTRAP-2
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

/** The number of partitions as it stands; zeroes before the system was set up. CorruptError `err-carillon-partitions-unreadable` (BOOTSTRAP-3). */
export async function readPartitions(bus: Bus): Promise<PartitionsRecord> {
  const found = await readRecord({ bucket: await bus.bucket(RING_BUCKET) }, partitionsRecord, {})
  if (found.kind === 'value') return found.value
  if (found.kind === 'gone') return PARTITIONS_NONE
  const text = `key "${found.key}" of the bucket "${RING_BUCKET}", which says how many partitions there are, cannot be read: ${found.reason}`
  throw new CorruptError('err-carillon-partitions-unreadable', text)
}

async function grow(
  bus: Bus,
  ring: KvBucket,
  options: LogOptions,
  next: (before: PartitionsRecord) => { count: number; replicationFactor: number; ensureFrom: number },
): Promise<PartitionsRecord> {
  const change = async (found: PartitionsRecord | undefined): Promise<PartitionsRecord> => {
    const before = found ?? PARTITIONS_NONE
    const { count, replicationFactor, ensureFrom } = next(before)
    for (let partition = ensureFrom; partition < count; partition++) {
      const originSeq = options.originSeqOf?.(partition) ?? 1 // BOOTSTRAP-5
      const made = { bytesMax: options.logBytesMax, replicas: options.logReplicas, originSeq }
      await bus.logs.ensure(logConfig(partition, made)) // BOOTSTRAP-1
    }
    const isAlone = before.count === 0 || (count > before.count && !(await hasMembers(ring)))
    const open = isAlone
      ? { readable: count, writable: count }
      : { readable: before.readable, writable: before.writable }
    const isSame = count === before.count && replicationFactor === before.replicationFactor
    return isSame ? before : { v: 1, count, ...open, replicationFactor }
  }
  const place = { bucket: ring, clock: bus.clock, record: partitionsRecord, params: {}, mustBeReadable: true } // BOOTSTRAP-3
  return (await updateRecord({ ...place, change }))!
}

async function hasMembers(ring: KvBucket): Promise<boolean> {
  const members = await ring.newest([keysFor(memberRecord, {})]) // a watch may be behind: those that it does not show yet are there
  return members.some(({ value }) => value !== undefined)
}
