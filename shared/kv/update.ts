// Read, change, write by compare-and-set: again when another was first, a bounded number of times.
import { type Clock, sleep } from '../base/clock.ts'
import { ConflictError, CorruptError } from '../base/errors.ts'
import type { KvBucket } from '../bus/port.ts'
import type { RecordContract, RecordParams } from '../bus/record.ts'
import type { Told } from './passed-over.ts'
import { readRecord } from './read-records.ts'

const TRIES_MAX = 10
const PAUSE_MS_FIRST = 10
const PAUSE_MS_MAX = 500

export interface Update<P extends string, T> extends Told {
  readonly bucket: KvBucket
  readonly clock: Clock
  readonly record: RecordContract<P, T>
  readonly params: RecordParams<P>
  /** What cannot be read is no reason to write anew: it is refused. Otherwise it is written over, as if nothing stood there. */
  readonly mustBeReadable?: boolean
  /** `before` is undefined where nothing stands. undefined or `before` itself: it stays as it is. May be called often. */
  readonly change: (before: T | undefined) => T | undefined | Promise<T | undefined>
}

/** Resolves with what stands afterwards. ConflictError `kv-storm` when others were first each time; CorruptError `newer-version` where a newer
 *  version's record stands, `unreadable` where it must be readable. */
export async function updateRecord<P extends string, T>(update: Update<P, T>): Promise<T | undefined> {
  const { bucket, clock, record, params, change, mustBeReadable = false } = update
  for (let tries = 1; ; tries++) {
    const found = await readRecord(update, record, params)
    if (found.kind === 'newer-version' || (found.kind === 'unreadable' && mustBeReadable))
      throw new CorruptError(found.kind, `key "${found.key}" of the bucket "${record.bucket}": ${found.reason}`)
    const before = found.kind === 'value' ? found.value : undefined
    const next = await change(before)
    if (next === undefined || next === before) return before
    try {
      const bytes = record.format.encode(next)
      if (found.kind === 'gone') await bucket.create(found.key, bytes)
      else await bucket.update(found.key, bytes, found.revision)
      return next
    } catch (cause) {
      if (!(cause instanceof ConflictError)) throw cause
      if (tries === TRIES_MAX)
        throw new ConflictError('kv-storm', `${record.name} ${found.key} was changed by others ${tries} times`, {
          cause,
        })
    }
    await sleep(clock, Math.min(PAUSE_MS_MAX, PAUSE_MS_FIRST * 2 ** (tries - 1)))
  }
}
