// log: the partition logs and the keys that stand beside them.
//
// batch   log.{p}.batch   written by distributors, applied by the owners of p     (wire/log-batch.ts; docs/formats/log-batch.md)
// mark    log.{p}.mark    written by the leader of p by compare-and-set; opens the next segment
// fence   log.{p}.fence   says nothing; its sequence lies behind all that was stored before it was sent (services/querier/read/log-ends.ts)
// Kept until flushed; at least once, so applying is idempotent. Bound: BATCH_BYTES_MAX a message.
//
// Bucket `log`:  mark.{p}                     the number of the newest mark (an empty stream would accept number 1 again: LOG-8)
//                highwater.{p}.{distributor}  the newest batch that a distributor knows to be stored
//                checkpoint.{p}.{owner}       an owner's newest applied (sequence, checksum)

import { RefusedError } from '../base/errors.ts'
import type { LogConfig } from '../bus/port.ts'
import { jsonRecord, numberRecord, record } from '../bus/record.ts'
import { aCount, aName, aText } from '../bus/shape.ts'
import { encodeJson, encodeSealed, parseSealed } from './json.ts'

export const BATCH_BYTES_MAX = 512 * 1024
/** Heads keep segment numbers in 32 bits; at one segment a second it lasts for 60 years. */
const MARK_NUMBER_MAX = 2 ** 31 - 2
export const LOG_BUCKET = 'log'
export const DUPLICATE_WINDOW_MS = 120_000

/** How far a log may be filled, and by whom, as shares of its `max_bytes` (LOG-7, docs/internals/full-logs.md). What stands further down is what those
 *  above need to be got rid of again. New pushes end before all of these (`--log-full-ratio`); marks may take the rest. */
export const FILL_SHARES = {
  /** Batches of pushes that were let in before. */
  batch: 0.85,
  /** Fences of deletions. */
  deletion: 0.9,
  /** Fences of strong reads. */
  read: 0.92,
  /** What is stated again before it is purged. */
  restated: 0.96,
} as const

/** What a message takes beside its payload, at most: subject, headers, the record around it. */
export const MESSAGE_BYTES_EXTRA = 128

/** Whether a payload of so many bytes more leaves the room that others need. */
export function fits(
  who: keyof typeof FILL_SHARES,
  { bytes, bytesMax }: { readonly bytes: number; readonly bytesMax: number },
  more: number,
): boolean {
  return bytesMax <= 0 || bytes + more + MESSAGE_BYTES_EXTRA <= FILL_SHARES[who] * bytesMax
}

export const logName = (partition: number): string => `log-${partition}`
export const batchSubject = (partition: number): string => `log.${partition}.batch`
export const markSubject = (partition: number | '*'): string => `log.${partition}.mark`
export const fenceSubject = (partition: number): string => `log.${partition}.fence`

export function logConfig(
  partition: number,
  options: { bytesMax: number; replicas: number; originSeq?: number },
): LogConfig {
  return {
    name: logName(partition),
    subjects: [`log.${partition}.>`],
    bytesMax: options.bytesMax,
    replicas: options.replicas,
    duplicateWindowMs: DUPLICATE_WINDOW_MS,
    ...(options.originSeq === undefined ? {} : { originSeq: options.originSeq }),
  }
}

/** M(number): opens segment `number`, which is also epoch `number` (LOG-8). */
export interface Mark {
  readonly number: number
  readonly writer: string
  /** 32 hex digits of chance: tells this mark from any other with its number. */
  readonly nonce: string
  /** The number of the mark that was written when the log had last lost its end: what stands in segments below it was written before, whatever its
   *  sequence. Each mark behind it says so, too. Absent: the log has not lost its end. */
  readonly since?: number
}

export function encodeMark(mark: Mark): Uint8Array {
  return encodeSealed({ v: 1, ...mark })
}

/** Throws RefusedError: `newer-version`, of one whose checksum vouches for it, or that it is none. */
export function decodeMark(bytes: Uint8Array): Mark {
  const { value, isSealed } = parseSealed(bytes, 'mark')
  const number = value['number']
  if (isSealed && Number.isSafeInteger(value['v']) && (value['v'] as number) > 1)
    throw new RefusedError('newer-version', `mark of version ${value['v']}, known is 1`)
  const isNumber = Number.isSafeInteger(number) && (number as number) > 0 && (number as number) <= MARK_NUMBER_MAX
  if (value['v'] !== 1 || !isNumber || typeof value['nonce'] !== 'string') {
    throw new RefusedError(
      'err-carillon-bad-mark',
      `a mark holds v 1, a number up to ${MARK_NUMBER_MAX}, a writer and a nonce`,
    )
  }
  const { since } = value
  const isSince = Number.isSafeInteger(since) && (since as number) > 0 && (since as number) <= (number as number)
  return {
    ...{ number: number as number, writer: String(value['writer']), nonce: value['nonce'] },
    ...(isSince && { since: since as number }),
  }
}

/** Bytes that no other message of the log has: whoever compares what stands at a sequence with what stood there must not take one for another. */
export function encodeFence(fence: { readonly writer: string; readonly nonce: string }): Uint8Array {
  return encodeJson({ v: 1, ...fence })
}

/** `highwater.{p}.{distributor}`: the newest batch that it knows to be stored, of whichever of its sessions. */
export interface HighWater {
  readonly session: string
  readonly counter: number
  readonly seq: number
  readonly incarnation: string
  readonly epoch: number
}

/** `checkpoint.{p}.{owner}`: an applied message and its checksum, to notice a log that was rewound. */
export interface Checkpoint {
  readonly seq: number
  readonly crc: number
  readonly incarnation: string
}

/** Below the greatest number of a mark, so that one can follow. */
export const markRecord = record({
  name: 'mark',
  bucket: LOG_BUCKET,
  key: 'mark.{partition}',
  format: numberRecord(MARK_NUMBER_MAX - 1),
  unreadable: 'the next mark is numbered by the log and by what is flushed, and written down here',
  newer: 'this version opens no segment of that partition',
  doc: 'number of the newest mark',
})

export const highWaterRecord = record({
  name: 'highwater',
  bucket: LOG_BUCKET,
  key: 'highwater.{partition}.{distributor}',
  format: jsonRecord<HighWater>(1, {
    ...{ session: aText, counter: aCount, seq: aCount, incarnation: aText },
    epoch: aCount,
  }),
  unreadable: 'as if that distributor had written nothing down; its next batch writes it anew',
  newer: 'the same',
  doc: 'the newest batch that a distributor knows to be stored',
})

export const checkpointRecord = record({
  name: 'checkpoint',
  bucket: LOG_BUCKET,
  key: 'checkpoint.{partition}.{ingester}',
  format: jsonRecord<Checkpoint>(1, { seq: aCount, crc: aCount, incarnation: aName }),
  unreadable: 'as if that owner had written nothing down: at its start it cannot tell a log that was rewound',
  newer: 'the same',
  doc: 'the newest message that an owner applied, and its checksum',
})
