// What is stored of a tenant, as one state of the bucket `blocks` that really was: which blocks there are, what of them is deleted, and per
// partition the segment up to which owners need not be asked (LOG-15).
import { type Clock, sleep } from '../../../shared/base/clock.ts'
import { CarillonError, textOf, UnavailableError } from '../../../shared/base/errors.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import type { BlockEntry, DeleteEntry } from '../../../shared/contracts/blocks.ts'
import type { Log } from '../../../shared/telemetry/log.ts'

export interface View {
  readonly blocks: readonly BlockEntry[]
  readonly deletes: readonly DeleteEntry[]
  /** Of the manifest; 0: there is none, or none that can be read. */
  readonly version: number
  /** Per partition: segments up to this one stand in `blocks`. */
  readonly watermarks: readonly number[]
}

export interface Views {
  /** Throws CorruptError where a manifest must exist and is missing, older than it was, or damaged; UnavailableError
   *  `err-carillon-blocks-unknown` while the bucket has not been read. */
  take(tenant: string, partitionCount: number, signal: AbortSignal): Promise<View>
  /** Resolves when what is taken next is at least as new as the bucket is now (DELETE-16). At once before the first reading. */
  refresh(): Promise<void>
  /** Why nothing can be taken, in words. */
  lacks(): readonly string[]
  /** What gives the bytes of the blocks of a view that was taken. */
  opened(): Blocks
  /** Begins to open what is stored, in the background, again and again until it succeeds. */
  start(): void
  stop(): void
}

export interface ViewsDeps {
  readonly open: () => Promise<Blocks>
  readonly clock: Clock
  readonly log: Log
}

/** How long a query waits for the first reading of the bucket. */
const FIRST_WAIT_MS = 5_000
const REFRESH_MS = 2_000
const RETRY_MS = 1_000

export function createViews({ open, clock, log }: ViewsDeps): Views {
  let blocks: Blocks | undefined
  let reason = 'its first reading is under way'
  const stopping = new AbortController()
  let opening: Promise<void> | undefined

  return {
    async take(tenant, partitionCount, signal) {
      if (blocks === undefined) await firstReading(signal)
      const stored = opened()
      // No await between these: they are of one state.
      const manifest = stored.manifest(tenant)?.manifest
      const watermarks = Array.from({ length: partitionCount }, (_, partition) => stored.watermark(tenant, partition))
      const { blocks: listed = [], deletes = [], version = 0 } = manifest ?? {}
      return { blocks: listed, deletes, version, watermarks }
    },
    async refresh() {
      await blocks?.refresh(REFRESH_MS)
    },
    lacks: () => (blocks === undefined ? [unknown().message] : []),
    opened,
    start() {
      opening ??= tryToOpen()
    },
    stop() {
      stopping.abort()
      blocks?.close()
    },
  }

  function opened(): Blocks {
    if (blocks !== undefined) return blocks
    throw unknown()
  }

  function unknown(): UnavailableError {
    const text = `this querier does not know what blocks there are: ${reason}`
    return new UnavailableError('err-carillon-blocks-unknown', text)
  }

  async function firstReading(signal: AbortSignal): Promise<void> {
    const waiting = new AbortController()
    const waited = sleep(clock, FIRST_WAIT_MS, AbortSignal.any([signal, waiting.signal, stopping.signal]))
    await Promise.race([opening, waited]).finally(() => waiting.abort())
    signal.throwIfAborted()
  }

  async function tryToOpen(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        const stored = await open()
        if (stopping.signal.aborted) stored.close()
        else blocks = stored
        return
      } catch (error) {
        if (!(error instanceof CarillonError)) throw error
        reason = textOf(error)
        log.warn({ reason }, 'what is stored of blocks cannot be read yet')
        await sleep(clock, RETRY_MS, stopping.signal).catch(() => undefined)
      }
    }
  }
}
