// `flushed.<p>`: raised by one at a time, by compare-and-set, after every tenant's blocks are committed (LOG-15).
import { ConflictError, CorruptError, UnavailableError } from '../base/errors.ts'
import type { KvBucket } from '../bus/port.ts'
import { type Flushed, flushedKey } from '../contracts/blocks.ts'
import { decodeFlushed, encodeFlushed } from './codec.ts'

type Decode = (bytes: Uint8Array, key: string) => Flushed | undefined

interface Standing {
  /** 0: nothing stands there. */
  readonly revision: number
  readonly flushed: Flushed | undefined
}

/** Done when it stands at `next.segment` or beyond afterwards, whoever wrote it. */
export async function advanceFlushed(bucket: KvBucket, partition: number, next: Flushed): Promise<void> {
  const key = flushedKey(partition)
  const standing = await read(bucket, key)
  const { flushed } = standing
  const segment = flushed?.segment ?? 0
  if (segment >= next.segment) return
  // The first segment of a log that was made anew has whatever number the bucket remembered (LOG-8).
  if (flushed !== undefined && segment < next.segment - 1) {
    const text = `${key} stands at ${segment}, segment ${next.segment} cannot follow`
    throw new ConflictError('flushed-elsewhere', text)
  }
  await write(bucket, key, { standing, next: { ...next, digests: { ...flushed?.digests, ...next.digests } } })
}

/** Writes again what stood there once and the bucket has lost, or where something stands that nobody can read: all of it is in blocks, and may be
 *  purged. Done as `advanceFlushed` is. What a newer version has written is a CorruptError `newer-version`. */
export async function restoreFlushed(bucket: KvBucket, partition: number, known: Flushed): Promise<void> {
  const key = flushedKey(partition)
  const standing = await readIfAny(bucket, key)
  if ((standing.flushed?.segment ?? 0) < known.segment) await write(bucket, key, { standing, next: known })
}

async function read(bucket: KvBucket, key: string, decode = decodeFlushed as Decode): Promise<Standing> {
  const [entry] = await bucket.newest([key])
  const bytes = entry?.value
  return { revision: bytes === undefined ? 0 : entry!.revision, flushed: bytes && decode(bytes, key) }
}

/** Of what cannot be read there is nothing but its revision. */
function readIfAny(bucket: KvBucket, key: string): Promise<Standing> {
  return read(bucket, key, (bytes) => {
    try {
      return decodeFlushed(bytes, key)
    } catch (error) {
      if (!(error instanceof CorruptError) || error.code === 'newer-version') throw error
      return undefined
    }
  })
}

async function write(
  bucket: KvBucket,
  key: string,
  { standing, next }: { readonly standing: Standing; readonly next: Flushed },
): Promise<void> {
  const value = encodeFlushed(next)
  try {
    await (standing.revision === 0 ? bucket.create(key, value) : bucket.update(key, value, standing.revision))
  } catch (error) {
    if (!(error instanceof ConflictError) && !(error instanceof UnavailableError)) throw error
    const after = await readIfAny(bucket, key) // the winner may be this process, or another that did the same
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
