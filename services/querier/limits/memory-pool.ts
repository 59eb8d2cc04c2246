// The memory that all queries of this process take together, and each of them: charged before it is taken, given back when it is let go.
//
// What is charged is what queries hold. What they let go stays resident until it is collected, so the pool also looks at the process itself:
// where that comes near the bound, garbage is collected, and where it stays there, queries that hold much are refused.
//
// Invariants
//   MEMORY-1  What is charged is never more than there is room for: the bound, less what the process takes by itself and what caches keep.
//   MEMORY-2  An account that was closed holds nothing, and is charged nothing any more: whatever its query left running fails.
//   MEMORY-3  Nobody waits for memory, so nobody can wait for ever: who asks for more than there is, is refused. The last of the room is kept for
//       queries that hold little, so those are answered beside ones that want everything.
import type { Clock } from '../../../shared/base/clock.ts'
import { RefusedError } from '../../../shared/base/errors.ts'
import { QueryCancelledError } from '../../../shared/promql/exec/errors.ts'
import type { QueryMemory } from '../../../shared/promql/memory.ts'
import type { ProcessMemory } from './process-memory.ts'

export interface MemoryPoolOptions {
  /** Of the whole process. */
  readonly bytesMax: number
  /** Of one query. */
  readonly queryBytesMax: number
  readonly clock: Clock
  /** Without it only what is charged counts. */
  readonly process?: ProcessMemory | undefined
  /** What caches keep at the moment. */
  cachedBytes(): number
  onRefusal(limit: 'query' | 'querier'): void
  onCollection(): void
}

const MIB = 1024 * 1024
/** Of a process that is not looked at, and of a share of the bound for what no account can tell. */
const PROCESS_BYTES = 96 * MIB
const SLACK_SHARE = 1 / 10
/** A query that holds no more than this share of the room holds little. */
const LITTLE_SHARE = 1 / 32
/** Of the room, for the others. */
const MUCH_SHARE = 7 / 8
/** Charged before the process is looked at again. */
const LOOK_EVERY_BYTES = 2 * MIB
/** Of the bound: above this garbage is collected. */
const COLLECT_SHARE = 4 / 5
/** Of the heap that V8 allows: above this garbage is collected, and queries that hold much are refused. */
const HEAP_SHARE_MAX = 3 / 4
/** Of the room that is left whatever the allocator keeps. */
const ROOM_SHARE_MIN = 1 / 2
/** Collecting may take one part in so many of the time. */
const COLLECT_SELDOM = 10
const COLLECT_OFTEN = 3

export class MemoryPool {
  private readonly options: MemoryPoolOptions
  /** What the process took before any query came. */
  private readonly ownBytes: number
  /** Of that: code and other things that V8 does not count. */
  private readonly uncountedBytes: number
  /** Freed, and kept by the allocator: resident, and of use for small pieces alone. */
  private unusedBytes = 0
  private charged = 0
  private sinceLookBytes = 0
  private collectedMs = Number.NEGATIVE_INFINITY
  private collectionMs = 0

  constructor(options: MemoryPoolOptions) {
    this.options = options
    const { process } = options
    this.ownBytes = process?.rss() ?? PROCESS_BYTES
    this.uncountedBytes = process === undefined ? 0 : Math.max(0, this.ownBytes - process.held())
  }

  /** Bytes that queries hold. */
  get bytes(): number {
    return this.charged
  }

  /** Bytes that queries may hold together. */
  get roomBytes(): number {
    const bytes = this.wholeRoomBytes
    return Math.max(bytes * ROOM_SHARE_MIN, bytes - this.unusedBytes)
  }

  /** With what the allocator keeps: queries that hold little find a place in it, also while others hold more than is left of the room now. */
  private get wholeRoomBytes(): number {
    const { bytesMax, cachedBytes } = this.options
    return Math.max(0, bytesMax * (1 - SLACK_SHARE) - this.ownBytes - cachedBytes())
  }

  open(): MemoryAccount {
    return new MemoryAccount(this)
  }

  /** Called by accounts. Throws RefusedError; then nothing is charged. */
  charge(heldBytes: number, bytes: number): void {
    const { queryBytesMax } = this.options
    const wanted = heldBytes + bytes
    if (wanted > queryBytesMax) throw this.refusalOfQuery()
    const room = this.roomBytes
    const holdsLittle = wanted <= room * LITTLE_SHARE
    if (this.charged + bytes > (holdsLittle ? this.wholeRoomBytes : room * MUCH_SHARE))
      throw this.refusal(wanted, holdsLittle)
    this.sinceLookBytes += bytes
    if (this.sinceLookBytes >= LOOK_EVERY_BYTES) {
      this.sinceLookBytes = 0
      if (this.isFull() && !holdsLittle) throw this.refusal(wanted, holdsLittle)
    }
    this.charged += bytes
  }

  release(bytes: number): void {
    this.charged -= bytes
  }

  /** Whether the process has come to its bound, and collecting did not help. */
  private isFull(): boolean {
    const { process, bytesMax } = this.options
    if (process === undefined) return false
    const rss = process.rss()
    const isHeapFull = () => process.heapShare() > HEAP_SHARE_MAX
    if (rss <= bytesMax * COLLECT_SHARE && !isHeapFull()) return false
    this.collectUnlessJustDone(process, rss > bytesMax ? COLLECT_OFTEN : COLLECT_SELDOM)
    // Freed pages may stay with the allocator, which uses them again: resident, and yet nobody's.
    return isHeapFull() || Math.min(process.rss(), process.held() + this.uncountedBytes) > bytesMax
  }

  private collectUnlessJustDone(process: ProcessMemory, seldom: number): void {
    const { clock, onCollection } = this.options
    const startedMs = clock.monotonic()
    if (startedMs - this.collectedMs < seldom * this.collectionMs) return
    process.collect()
    this.collectedMs = clock.monotonic()
    this.collectionMs = this.collectedMs - startedMs
    this.unusedBytes = Math.max(0, process.rss() - process.held() - this.uncountedBytes)
    onCollection()
  }

  private refusalOfQuery(): RefusedError {
    this.options.onRefusal('query')
    const code = 'err-carillon-query-memory'
    const text = `the query needs more than ${inMiB(this.options.queryBytesMax)} of memory (--query-memory-max)`
    return new RefusedError(code, `${text}; ${ADVICE} (${code})`, { status: 422 })
  }

  private refusal(wantedBytes: number, holdsLittle: boolean): RefusedError {
    this.options.onRefusal('querier')
    const code = 'err-carillon-querier-memory'
    const bound = `${inMiB(this.options.bytesMax)} (--querier-memory-max)`
    if (holdsLittle) {
      const text = `the queries that run take all memory of the querier, which has ${bound}; try again (${code})`
      return new RefusedError(code, text, { status: 429, retryAfterS: 1 })
    }
    const text = `the query needs ${inMiB(wantedBytes)} of memory, more than is left of the querier's ${bound}`
    return new RefusedError(code, `${text}; ${ADVICE} (${code})`, { status: 422 })
  }
}

const ADVICE = 'select fewer series, a shorter range or a longer step'

function inMiB(bytes: number): string {
  return `${Math.ceil(bytes / MIB)} MiB`
}

/** What a part of a query holds of what its query does. */
export class MemoryShare implements QueryMemory {
  private readonly whole: QueryMemory
  private held = 0
  private isClosed = false

  constructor(whole: QueryMemory) {
    this.whole = whole
  }

  charge(bytes: number): void {
    if (this.isClosed) throw new QueryCancelledError() // MEMORY-2
    this.whole.charge(bytes)
    this.held += bytes
  }

  release(bytes: number): void {
    if (this.isClosed) return
    this.held -= bytes
    this.whole.release(bytes)
  }

  close(): void {
    if (!this.isClosed) this.release(this.held)
    this.isClosed = true
  }
}

/** What one query holds. */
export class MemoryAccount implements QueryMemory {
  private readonly pool: MemoryPool
  private held = 0
  private isClosed = false

  constructor(pool: MemoryPool) {
    this.pool = pool
  }

  get bytes(): number {
    return this.held
  }

  charge(bytes: number): void {
    if (this.isClosed) throw new QueryCancelledError() // MEMORY-2
    this.pool.charge(this.held, bytes)
    this.held += bytes
  }

  release(bytes: number): void {
    if (this.isClosed) return
    this.held -= bytes
    this.pool.release(bytes)
  }

  /** The query has ended. */
  close(): void {
    if (this.isClosed) return
    this.pool.release(this.held)
    this.held = 0
    this.isClosed = true
  }
}
