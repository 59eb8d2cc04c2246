// `flushed.<p>`: raised by one at a time, by compare-and-set, after every tenant's blocks are committed (L15).
import { ConflictError, CorruptError, UnavailableError } from '../base/errors.ts'
import type { KvBucket } from '../bus/port.ts'
import { type Flushed, flushedKey } from '../contracts/blocks.ts'
import { decodeFlushed, encodeFlushed } from './codec.ts'

/** Done when it stands at `next.segment` or beyond afterwards, whoever wrote it. */
export async function advanceFlushed(bucket: KvBucket, partition: number, next: Flushed): Promise<void> {
  const key = flushedKey(partition)
  const read = async () => {
    const [entry] = await bucket.newest([key])
    return { revision: entry?.revision ?? 0, flushed: entry?.value && decodeFlushed(entry.value, key) }
  }
  const { revision, flushed } = await read()
  const segment = flushed?.segment ?? 0
  if (segment >= next.segment) return
  // The first segment of a log that was made anew has whatever number the bucket remembered (L8).
  if (flushed !== undefined && segment < next.segment - 1) {
    const text = `${key} stands at ${segment}, segment ${next.segment} cannot follow`
    throw new ConflictError('flushed-elsewhere', text)
  }
  const value = encodeFlushed({ ...next, digests: { ...flushed?.digests, ...next.digests } })
  try {
    await (flushed === undefined ? bucket.create(key, value) : bucket.update(key, value, revision))
  } catch (error) {
    if (!(error instanceof ConflictError) && !(error instanceof UnavailableError)) throw error
    const after = await read() // the winner may be this process, or another that did the same
    if ((after.flushed?.segment ?? 0) < next.segment) throw error
  }
}

/** Per partition the sequence behind the mark of its newest flushed segment: of its log, whichever it was, only what lies before is ever purged. */
export async function purgeBoundaries(bucket: KvBucket): Promise<ReadonlyMap<number, number>> {
  const boundaries = new Map<number, number>()
  for (const { key, value } of await bucket.newest([flushedKey('*')])) {
    if (value === undefined) continue
    try {
      boundaries.set(Number(key.slice(key.indexOf('.') + 1)), decodeFlushed(value, key).mark.seq + 1)
    } catch (error) {
      if (!(error instanceof CorruptError)) throw error // nothing is purged by it either, and whoever follows the partition names it
    }
  }
  return boundaries
}
