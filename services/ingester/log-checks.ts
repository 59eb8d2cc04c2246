// What is looked at in single messages of a log when it is checked.
import { RefusedError } from '../../shared/base/errors.ts'
import type { LogMessage } from '../../shared/bus/port.ts'
import { decodeMark, markSubject } from '../../shared/contracts/log.ts'
import { crc32c } from '../../shared/wire/crc32c.ts'
import { checksumOf } from '../../shared/wire/log-batch.ts'

/** A batch that its writer knows to be stored (its high-water mark). */
export interface StoredBatch {
  readonly writer: string
  readonly seq: number
  readonly messageId: string
  readonly incarnation: string
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
