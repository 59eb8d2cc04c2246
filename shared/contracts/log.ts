// log: the partition logs and the keys that stand beside them.
//
// batch   log.{p}.batch   written by distributors, applied by the owners of p     (wire/log-batch.ts; docs/formats/log-batch.md)
// mark    log.{p}.mark    written by the leader of p by compare-and-set; opens the next segment
// Kept until flushed; at least once, so applying is idempotent. Bound: BATCH_BYTES_MAX a message.
//
// Bucket `log`:  mark.{p}                     the number of the newest mark (an empty stream would accept number 1 again: L8)
//                highwater.{p}.{distributor}  the newest batch that a distributor knows to be stored
//                checkpoint.{p}.{owner}       an owner's newest applied (sequence, checksum)

import { RefusedError } from '../base/errors.ts'
import type { LogConfig } from '../bus/port.ts'

export const BATCH_BYTES_MAX = 512 * 1024
/** Heads keep segment numbers in 32 bits; at one segment a second it lasts for 60 years. */
const MARK_NUMBER_MAX = 2 ** 31 - 2
export const LOG_BUCKET = 'log'
export const DUPLICATE_WINDOW_MS = 120_000

export const logName = (partition: number): string => `log-${partition}`
export const batchSubject = (partition: number): string => `log.${partition}.batch`
export const markSubject = (partition: number | '*'): string => `log.${partition}.mark`

export const markKey = (partition: number): string => `mark.${partition}`
export const highWaterKey = (partition: number, distributor: string): string => `highwater.${partition}.${distributor}`
export const highWaterFilter = (partition: number): string => `highwater.${partition}.*`
export const checkpointKey = (partition: number, owner: string): string => `checkpoint.${partition}.${owner}`

export function logConfig(partition: number, options: { bytesMax: number; replicas: number }): LogConfig {
  return {
    name: logName(partition),
    subjects: [`log.${partition}.>`],
    bytesMax: options.bytesMax,
    replicas: options.replicas,
    duplicateWindowMs: DUPLICATE_WINDOW_MS,
  }
}

/** M(number): opens segment `number`, which is also epoch `number` (L8). */
export interface Mark {
  readonly number: number
  readonly writer: string
  /** 32 hex digits of chance: tells this mark from any other with its number. */
  readonly nonce: string
}

export function encodeMark(mark: Mark): Uint8Array {
  return encodeRecord({ v: 1, ...mark })
}

export function decodeMark(bytes: Uint8Array): Mark {
  const value = parseRecord(bytes, 'mark')
  const number = value['number']
  if (Number.isSafeInteger(value['v']) && (value['v'] as number) > 1)
    throw new RefusedError('newer-version', `mark of version ${value['v']}, known is 1`)
  const isNumber = Number.isSafeInteger(number) && (number as number) > 0 && (number as number) <= MARK_NUMBER_MAX
  if (value['v'] !== 1 || !isNumber || typeof value['nonce'] !== 'string') {
    throw new RefusedError(
      'err-carillon-bad-mark',
      `a mark holds v 1, a number up to ${MARK_NUMBER_MAX}, a writer and a nonce`,
    )
  }
  return { number: number as number, writer: String(value['writer']), nonce: value['nonce'] }
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

export function encodeRecord(value: object): Uint8Array {
  return Buffer.from(JSON.stringify(value))
}

export function parseRecord(bytes: Uint8Array, what: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString())
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
  } catch (cause) {
    throw new RefusedError('err-carillon-bad-record', `${what}: not JSON`, { cause })
  }
  throw new RefusedError('err-carillon-bad-record', `${what}: not a JSON object`)
}
