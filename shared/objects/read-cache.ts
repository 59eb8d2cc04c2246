// A cache before an object store, for small ranges: it holds pieces of PART_BYTES, so that neighbours of what was read are there already.
// In memory, and below that, if wanted, in a folder of this process alone.
//
// Invariants
//   CACHE-1  Whatever was read before, a read gives the bytes of the object, or the store's error.
//   CACHE-2  Pieces are known by the SHA-256 of their object: what a folder kept from an earlier run is never taken for something else.
//   CACHE-3  Errors are not kept. Readers of one piece wait for one load, each no longer than it wants to.
//   CACHE-4  Ranges above RANGE_BYTES_MAX pass by: who reads everything once must not push out what others read often.
//   CACHE-5  Who may share what it reads gets views of pieces instead of copies, where the range lies within one piece.
//
// That an object was deleted is noticed when this cache deleted it, or has forgotten it; readers learn of deletions from their manifest. A name
// that is given to other bytes meanwhile must not be read through a cache: those of blocks hold a hash of their content.
import { LRUCache } from 'lru-cache'
import { type Clock, systemClock } from '../base/clock.ts'
import { textOf } from '../base/errors.ts'
import { Deadline } from './deadline.ts'
import { damaged, missing, PART_BYTES } from './layout.ts'
import type { CreateCall, ObjectCall, ObjectInfo, ObjectStore, ReadCall, Swept } from './port.ts'
import { FolderCache } from './read-cache-folder.ts'

export const RANGE_BYTES_MAX = 4 * PART_BYTES
/** Infos remembered. */
const INFOS_MAX = 16_384
/** A load's own time: it may serve others than the one who began it. */
const LOAD_MS_MAX = 30_000
/** What a piece costs beside its bytes. */
const PIECE_OVERHEAD = 256

export interface ReadCacheMetrics {
  /** Bytes that a read asked of a piece which was there. */
  hit(where: 'memory' | 'folder', bytes: number): void
  /** Bytes fetched from the store. */
  miss(bytes: number): void
  /** A file of the folder was damaged or could not be used. */
  failed(reason: string): void
}

export interface ReadCacheOptions {
  readonly memoryBytesMax: number
  /** Emptied of what does not belong there; survives restarts. */
  readonly directory?: { readonly path: string; readonly bytesMax: number }
  readonly metrics?: ReadCacheMetrics
  readonly clock?: Clock
}

const noMetrics: ReadCacheMetrics = { hit() {}, miss() {}, failed() {} }

export function cachedObjects(store: ObjectStore, options: ReadCacheOptions): ObjectStore {
  return new CachedObjects(store, options)
}

class CachedObjects implements ObjectStore {
  readonly kind
  readonly pieceBytes = PART_BYTES
  readonly #store: ObjectStore
  readonly #clock: Clock
  readonly #metrics: ReadCacheMetrics
  readonly #infos = new LRUCache<string, ObjectInfo>({ maxSize: INFOS_MAX, sizeCalculation: () => 1 }) // grows as it fills
  readonly #pieces: LRUCache<string, Uint8Array>
  readonly #folder: FolderCache | undefined
  readonly #loads = new Map<string, Promise<unknown>>()

  constructor(store: ObjectStore, { memoryBytesMax, directory, metrics = noMetrics, clock }: ReadCacheOptions) {
    this.kind = store.kind
    this.#store = store
    this.#clock = clock ?? systemClock
    this.#metrics = metrics
    this.#pieces = new LRUCache({
      maxSize: Math.max(1, memoryBytesMax),
      sizeCalculation: (piece) => piece.length + PIECE_OVERHEAD,
    })
    if (directory !== undefined) this.#folder = new FolderCache(directory, (error) => metrics.failed(textOf(error)))
  }

  async read(name: string, range: { start: number; end: number }, call: ReadCall): Promise<Uint8Array> {
    const { start, end } = range
    if (end - start > RANGE_BYTES_MAX) return this.#store.read(name, range, call) // CACHE-4
    const deadline = new Deadline(this.#clock, call, `read of ${name}`)
    const info = await this.#infoOf(name, deadline)
    if (!(start >= 0 && start <= end && end <= info.size)) {
      throw damaged(name, `bytes ${start} to ${end} were asked for, it has ${info.size}`)
    }
    const first = start - (start % PART_BYTES)
    if (call.mayShare && end > start && end <= first + PART_BYTES) {
      return (await this.#piece(info, first, end - start, deadline)).subarray(start - first, end - first) // CACHE-5
    }
    const bytes = new Uint8Array(end - start)
    const copy = async (pieceStart: number) => {
      const from = Math.max(start, pieceStart)
      const to = Math.min(end, pieceStart + PART_BYTES)
      const piece = await this.#piece(info, pieceStart, to - from, deadline)
      bytes.set(piece.subarray(from - pieceStart, to - pieceStart), from - start)
    }
    const copies: Promise<void>[] = []
    for (let at = first; at < end; at += PART_BYTES) copies.push(copy(at))
    await Promise.all(copies)
    return bytes
  }

  async #piece(info: ObjectInfo, start: number, wantedBytes: number, deadline: Deadline): Promise<Uint8Array> {
    const key = `${info.sha256} ${start}` // CACHE-2
    const known = this.#pieces.get(key)
    if (known !== undefined) {
      this.#metrics.hit('memory', wantedBytes)
      return known
    }
    return this.#once(key, deadline, async () => {
      const kept = await this.#folder?.get(key)
      if (kept !== undefined) this.#metrics.hit('folder', wantedBytes)
      const piece = kept ?? (await this.#fetch(info, start))
      this.#pieces.set(key, piece)
      if (kept === undefined) this.#folder?.put(key, piece)
      return piece
    })
  }

  async #fetch({ name, size, sha256 }: ObjectInfo, start: number): Promise<Uint8Array> {
    const end = Math.min(size, start + PART_BYTES)
    try {
      const piece = await this.#store.read(name, { start, end }, { timeoutMs: LOAD_MS_MAX })
      this.#metrics.miss(piece.length)
      return piece
    } catch (error) {
      if (this.#infos.get(name)?.sha256 === sha256) this.#infos.delete(name) // it may be gone, or another by now
      throw error
    }
  }

  async #infoOf(name: string, deadline: Deadline): Promise<ObjectInfo> {
    return (
      this.#infos.get(name) ??
      this.#once(`info ${name}`, deadline, async () => {
        const info = await this.#store.info(name, { timeoutMs: LOAD_MS_MAX })
        if (info === undefined) throw missing(name)
        this.#infos.set(name, info)
        return info
      })
    )
  }

  /** CACHE-3 */
  #once<T>(key: string, deadline: Deadline, load: () => Promise<T>): Promise<T> {
    let loading = this.#loads.get(key) as Promise<T> | undefined
    if (loading === undefined) {
      loading = load().finally(() => this.#loads.delete(key))
      this.#loads.set(key, loading)
    }
    return deadline.within(loading)
  }

  async info(name: string, call: ObjectCall): Promise<ObjectInfo | undefined> {
    const known = this.#infos.get(name)
    if (known !== undefined) return known
    const info = await this.#store.info(name, call)
    if (info !== undefined) this.#infos.set(name, info)
    return info
  }

  create(name: string, bytes: Uint8Array, call: CreateCall): Promise<ObjectInfo> {
    return this.#store.create(name, bytes, call)
  }

  list(prefix: string, call: ObjectCall): Promise<ObjectInfo[]> {
    return this.#store.list(prefix, call)
  }

  async delete(name: string, call: ObjectCall): Promise<void> {
    await this.#store.delete(name, call)
    this.#infos.delete(name)
  }

  sweep(olderThanMs: number, call: ObjectCall): Promise<Swept> {
    return this.#store.sweep(olderThanMs, call)
  }

  /** The cache only: whoever opened the store closes it. */
  async close(): Promise<void> {
    await this.#folder?.close()
    this.#pieces.clear()
  }
}
