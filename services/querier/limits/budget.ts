// What one query may read, counted over all its selects, partitions and blocks, and the memory that this takes.
import type { RefusedCode } from '../../../shared/base/error-codes.ts'
import { RefusedError } from '../../../shared/base/errors.ts'
import { showDuration } from '../../../shared/config/units.ts'
import type { QueryMemory } from '../../../shared/promql/memory.ts'

export interface BudgetBounds {
  readonly seriesMax: number
  readonly samplesMax: number
  readonly queryBytesMax: number
  readonly blockBytesMax: number
  /** Time between start and end of what is read; absent: any. */
  readonly rangeMaxMs?: number
}

export interface Amount {
  readonly series: number
  readonly samples: number
  readonly bytes: number
  /** Of chunks in blocks. */
  readonly blockBytes?: number
}

/** Where what was read is counted. */
export interface Account {
  /** Series that may still be asked for. */
  readonly seriesLeft: number
  spend(read: Amount): void
  refund(read: Amount): void
  /** Refuses to look at more time than one query may. */
  checkRange(startMs: number, endMs: number): void
  /** Memory for what was read. Throws RefusedError when the query may not have it. */
  hold(bytes: number): void
  /** Memory that was let go. */
  free(bytes: number): void
}

export class Budget implements Account {
  private readonly bounds: BudgetBounds
  readonly memory: QueryMemory | undefined
  seriesCount = 0
  sampleCount = 0
  bytes = 0
  blockBytes = 0

  /** @param memory undefined: without a bound */
  constructor(bounds: BudgetBounds, memory?: QueryMemory) {
    this.bounds = bounds
    this.memory = memory
  }

  /** Series that may still be asked for. */
  get seriesLeft(): number {
    return this.bounds.seriesMax - this.seriesCount
  }

  /** Counts what was read. Throws RefusedError (422) with the name of the limit that was passed. */
  spend(read: Amount): void {
    this.seriesCount += read.series
    this.sampleCount += read.samples
    this.bytes += read.bytes
    this.blockBytes += read.blockBytes ?? 0
    const { seriesMax, samplesMax, queryBytesMax, blockBytesMax } = this.bounds
    if (this.seriesCount > seriesMax) throw tooMuch('err-carillon-query-series', seriesMax, 'series')
    if (this.sampleCount > samplesMax) throw tooMuch('err-carillon-query-samples', samplesMax, 'samples')
    if (this.bytes > queryBytesMax) throw tooMuch('err-carillon-query-bytes', queryBytesMax, 'bytes from owners')
    if (this.blockBytes > blockBytesMax)
      throw tooMuch('err-carillon-query-block-bytes', blockBytesMax, 'bytes of blocks')
  }

  /** Refuses to look at more time than one query may. */
  checkRange(startMs: number, endMs: number): void {
    const { rangeMaxMs = Number.POSITIVE_INFINITY } = this.bounds
    if (endMs - startMs > rangeMaxMs) throw tooLong(rangeMaxMs)
  }

  /** Takes back what an attempt had read that came to nothing. */
  refund(read: Amount): void {
    this.seriesCount -= read.series
    this.sampleCount -= read.samples
    this.bytes -= read.bytes
    this.blockBytes -= read.blockBytes ?? 0
  }

  hold(bytes: number): void {
    this.memory?.charge(bytes)
  }

  free(bytes: number): void {
    this.memory?.release(bytes)
  }
}

/** What one attempt at reading spends of a budget: given back as a whole when the attempt came to nothing. */
export class Share implements Account {
  private readonly budget: Account
  private readonly spent = { series: 0, samples: 0, bytes: 0, blockBytes: 0 }
  private heldBytes = 0
  private isClosed = false
  private holdsNothing = false

  constructor(budget: Account) {
    this.budget = budget
  }

  get seriesLeft(): number {
    return this.budget.seriesLeft
  }

  spend(read: Amount): void {
    this.add(read, 1)
    if (!this.isClosed) this.budget.spend(read)
  }

  refund(read: Amount): void {
    this.add(read, -1)
    if (!this.isClosed) this.budget.refund(read)
  }

  /** Parts of the attempt that still run count nowhere from now on. */
  giveBack(): void {
    if (this.isClosed) return
    this.isClosed = true
    this.budget.refund(this.spent)
    this.letGo()
  }

  checkRange(startMs: number, endMs: number): void {
    this.budget.checkRange(startMs, endMs)
  }

  hold(bytes: number): void {
    if (this.holdsNothing) return
    this.budget.hold(bytes)
    this.heldBytes += bytes
  }

  free(bytes: number): void {
    if (this.holdsNothing) return
    this.heldBytes -= bytes
    this.budget.free(bytes)
  }

  /** What was read is no longer looked at. */
  letGo(): void {
    if (this.holdsNothing) return
    this.holdsNothing = true
    this.budget.free(this.heldBytes)
    this.heldBytes = 0
  }

  private add({ series, samples, bytes, blockBytes = 0 }: Amount, sign: 1 | -1): void {
    if (this.isClosed) return
    this.spent.series += sign * series
    this.spent.samples += sign * samples
    this.spent.bytes += sign * bytes
    this.spent.blockBytes += sign * blockBytes
  }
}

function tooLong(rangeMaxMs: number): RefusedError {
  const text = `the query looks at more time than ${showDuration(rangeMaxMs)}; ask for less at a time`
  return new RefusedError('err-carillon-query-range', `${text} (err-carillon-query-range)`, { status: 422 })
}

function tooMuch(code: RefusedCode, max: number, unit: string): RefusedError {
  const text = `the query reads more than ${max} ${unit}; narrow its matchers or its time range`
  return new RefusedError(code, `${text} (${code})`)
}
