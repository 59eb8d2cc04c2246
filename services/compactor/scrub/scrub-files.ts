// The files of a block as they lie in a store, read at a bounded pace, with the place where something is wrong.
import { type Clock, sleep } from '../../../shared/base/clock.ts'
import { CorruptError } from '../../../shared/base/errors.ts'
import { blockPrefix } from '../../../shared/contracts/blocks.ts'
import { encodeTenant } from '../../../shared/model/tenant.ts'
import { PART_BYTES } from '../../../shared/objects/layout.ts'
import type { ObjectStore } from '../../../shared/objects/port.ts'
import { BlockCorruptError, type BlockFiles, corruptAt } from '../../../shared/tsdb/block/files.ts'

export const READ_TIMEOUT_MS = 30_000
/** What may be read at once after a pause. */
const BURST_MS = 1_000

/** Bytes per second, over all that one scrubber reads. */
export class Pace {
  private readonly clock: Clock
  private readonly bytesPerSecond: number
  private freeAt = 0

  constructor(clock: Clock, bytesPerSecond: number) {
    this.clock = clock
    this.bytesPerSecond = bytesPerSecond
  }

  /** Waits until these bytes may be read. */
  async take(bytes: number, signal?: AbortSignal): Promise<void> {
    const nowMs = this.clock.monotonic()
    const startMs = Math.max(this.freeAt, nowMs - BURST_MS)
    this.freeAt = startMs + (bytes / this.bytesPerSecond) * 1_000
    if (this.freeAt > nowMs) await sleep(this.clock, this.freeAt - nowMs, signal)
  }
}

export interface PacedReads {
  readonly store: ObjectStore
  readonly pace: Pace
  /** Told of all bytes read. */
  readonly count: (bytes: number) => void
  readonly signal: AbortSignal
}

/** Damage is told as BlockCorruptError, with the file and the first part that is wrong. */
export function filesIn(reads: PacedReads, tenant: string, ulid: string): BlockFiles {
  const { store, pace, count, signal } = reads
  const prefix = blockPrefix(encodeTenant(tenant), ulid)
  const call = { timeoutMs: READ_TIMEOUT_MS, signal }

  async function read(file: string, start: number, end: number): Promise<Uint8Array> {
    await pace.take(end - start, signal)
    count(end - start)
    return store.read(prefix + file, { start, end }, call)
  }

  /** The range shrinks to the part that cannot be read. */
  async function placed(file: string, start: number, end: number, whole: CorruptError): Promise<BlockCorruptError> {
    for (let at = start; at < end; ) {
      const next = Math.min(end, (Math.floor(at / PART_BYTES) + 1) * PART_BYTES)
      try {
        await read(file, at, next)
      } catch (error) {
        if (!(error instanceof CorruptError)) throw error
        return new BlockCorruptError(file, at, error.message, { cause: error })
      }
      at = next
    }
    return new BlockCorruptError(file, start, whole.message, { cause: whole }) // it can be read by now
  }

  return {
    async size(file) {
      try {
        const info = await store.info(prefix + file, call)
        if (info === undefined) throw corruptAt(file, 0, 'is not there')
        return info.size
      } catch (error) {
        if (error instanceof BlockCorruptError || !(error instanceof CorruptError)) throw error
        throw new BlockCorruptError(file, 0, error.message, { cause: error })
      }
    },
    async read(file, start, end) {
      try {
        return await read(file, start, end)
      } catch (error) {
        if (error instanceof CorruptError) throw await placed(file, start, end, error)
        throw error
      }
    },
  }
}

/** All of a file, if it is what it should be; undefined when it is missing or damaged. */
export async function soundFile(
  files: BlockFiles,
  name: string,
  isRight: (bytes: Uint8Array) => boolean,
): Promise<Uint8Array | undefined> {
  try {
    const bytes = await files.read(name, 0, await files.size(name))
    return isRight(bytes) ? bytes : undefined
  } catch (error) {
    if (error instanceof CorruptError) return undefined
    throw error
  }
}
