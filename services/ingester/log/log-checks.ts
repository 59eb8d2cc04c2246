// What is looked at in single messages of a log when it is checked.
import { RefusedError } from '../../../shared/base/errors.ts'
import type { LogMessage } from '../../../shared/bus/port.ts'
import { deletePrefix, undeletePrefix } from '../../../shared/contracts/deletes.ts'
import { batchSubject, decodeMark, fenceSubject, markSubject } from '../../../shared/contracts/log.ts'
import { crc32c } from '../../../shared/wire/crc32c.ts'
import { checksumOf } from '../../../shared/wire/log-batch.ts'

/** A mark that was applied. */
export interface SeenMark {
  readonly seq: number
  readonly nonce: string
  /** Monotonic. */
  readonly seenMs: number
}

/** What of the state applies each kind of message. */
export const APPLIED_BY = {
  mark: 'applyMark',
  batch: 'applyBatch',
  delete: 'applyDelete',
  undelete: 'passOver',
} as const

/** The kind of a message of a partition's log; undefined: none that is known. A fence changes nothing. */
export function kindOf({ subject }: LogMessage, partition: number): keyof typeof APPLIED_BY | 'fence' | undefined {
  if (subject === batchSubject(partition)) return 'batch'
  if (subject === markSubject(partition)) return 'mark'
  if (subject === fenceSubject(partition)) return 'fence'
  if (subject.startsWith(deletePrefix(partition))) return 'delete'
  return subject.startsWith(undeletePrefix(partition)) ? 'undelete' : undefined
}

/** Whether the message is the mark with this nonce. */
export function isMark({ subject, payload }: LogMessage, partition: number, nonce: string): boolean {
  if (subject !== markSubject(partition)) return false
  try {
    return decodeMark(payload).nonce === nonce
  } catch (error) {
    if (error instanceof RefusedError) return false
    throw error
  }
}

/** A batch states its checksum; a mark is small. */
export function checkOf({ payload }: LogMessage): number {
  return payload[0] === 0x43 && payload[1] === 0x42 ? checksumOf(payload) : crc32c(payload)
}
