// What memory a query takes: the port behind which a service keeps its accounts, and what things weigh.
import type { Histogram } from '../model/histogram.ts'

export interface QueryMemory {
  /** Called before the memory is taken. Throws RefusedError when the query may not have it; then nothing is charged. */
  charge(bytes: number): void
  release(bytes: number): void
}

/** Of a label set with its array, of a typed array's object: what V8 has on its heap beside the numbers themselves. */
export const SERIES_BYTES = 400
export const STEP_BYTES = 9
export const SAMPLE_BYTES = 16

/** A histogram as an object with its arrays. */
export function histogramBytes(histogram: Histogram): number {
  const { positiveSpans, positiveBuckets, negativeSpans, negativeBuckets, customValues } = histogram
  const numbers = positiveBuckets.length + negativeBuckets.length + customValues.length
  return 200 + 40 * (positiveSpans.length + negativeSpans.length) + 8 * numbers
}

export function histogramListBytes(list: readonly (Histogram | undefined)[] | undefined): number {
  if (list === undefined) return 0
  let bytes = 8 * list.length
  for (const histogram of list) if (histogram !== undefined) bytes += histogramBytes(histogram)
  return bytes
}

/** A text of so many characters that a query made, and the keys that it becomes part of. */
export function textBytes(length: number): number {
  return 4 * length
}

/** Drawn from the account at once: evaluation counts by the column, the account is asked seldom. */
const QUANTUM_BYTES = 64 * 1024

/** Small columns are cut from shared buffers: many small ones would leave holes in the process' memory that it never gives back. */
const SLAB_BYTES_FIRST = 4 * 1024
const SLAB_BYTES_MAX = 256 * 1024
/** What is larger than this share of a slab has a buffer of its own. */
const SLAB_SHARE_MAX = 1 / 4

/** What evaluation holds at the moment, drawn from an account in large pieces. */
export class HeldMemory {
  private readonly account: QueryMemory | undefined
  private heldBytes = 0
  private keptBytes = 0
  private drawnBytes = 0
  private slab = new ArrayBuffer(0)
  private slabUsedBytes = 0

  /** @param account undefined: memory without a bound */
  constructor(account: QueryMemory | undefined) {
    this.account = account
  }

  get bytes(): number {
    return this.heldBytes
  }

  /** Throws what the account throws. */
  charge(bytes: number): void {
    this.heldBytes += bytes
    if (this.heldBytes + this.keptBytes > this.drawnBytes) this.draw()
  }

  /** Charges what stays until the query has ended. */
  keep(bytes: number): void {
    this.keptBytes += bytes
    if (this.heldBytes + this.keptBytes > this.drawnBytes) this.draw()
  }

  /** Lets go of what was charged. */
  release(bytes: number): void {
    this.heldBytes -= bytes
  }

  /** From now on so much is held, beside what is kept: the rest has been let go. */
  settle(bytes: number): void {
    this.heldBytes = bytes
    const wanted = rounded(bytes + this.keptBytes)
    if (wanted > this.drawnBytes) return this.draw()
    if (wanted === this.drawnBytes) return
    this.account?.release(this.drawnBytes - wanted)
    this.drawnBytes = wanted
  }

  /** Zeros, charged. Multiples of eight bytes; `at` is where they begin in the buffer. */
  cut(bytes: number): { buffer: ArrayBuffer; at: number } {
    this.charge(bytes)
    if (bytes > SLAB_BYTES_MAX * SLAB_SHARE_MAX) return { buffer: new ArrayBuffer(bytes), at: 0 }
    if (this.slabUsedBytes + bytes > this.slab.byteLength) {
      const wanted = Math.min(SLAB_BYTES_MAX, Math.max(SLAB_BYTES_FIRST, 2 * this.slab.byteLength))
      this.slab = new ArrayBuffer(Math.max(wanted, bytes))
      this.slabUsedBytes = 0
    }
    const at = this.slabUsedBytes
    this.slabUsedBytes += bytes
    return { buffer: this.slab, at }
  }

  /** Zeros, charged. */
  floats(count: number): Float64Array {
    const { buffer, at } = this.cut(8 * count)
    return new Float64Array(buffer, at, count)
  }

  private draw(): void {
    const wanted = rounded(this.heldBytes + this.keptBytes)
    this.account?.charge(wanted - this.drawnBytes)
    this.drawnBytes = wanted
  }
}

function rounded(bytes: number): number {
  return Math.ceil(bytes / QUANTUM_BYTES) * QUANTUM_BYTES
}
