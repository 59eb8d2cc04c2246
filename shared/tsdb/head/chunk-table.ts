// The chunks of a head as a table of columns, their bytes in a slab. Each series has a chain of its chunks, the newest first.
import type { Histogram } from '../../model/histogram.ts'
import { grownF64, grownU8, grownU32 } from '../chunk/growth.ts'
import { ENCODING_HISTOGRAM, type HistogramChunkWriter } from '../chunk/histogram.ts'
import { Slab } from '../chunk/slab.ts'
import { ENCODING_XOR } from '../chunk/xor.ts'
import { ENCODING_XOR2, type Xor2ChunkWriter } from '../chunk/xor2.ts'

/** What a chunk is now. A finished one has the number of its encoding: 1 to 6. */
export const FINISHED_XOR = ENCODING_XOR
export const FINISHED_XOR2 = ENCODING_XOR2
export const FINISHED_HISTOGRAM = ENCODING_HISTOGRAM
/** Being written in time order; the series' record holds the writer's state. */
export const OPEN_XOR = 8
/** Being written in time order; a writer outside the slab holds it: histograms, or floats of which some have start times. */
export const OPEN_HISTOGRAM = 9
export const OPEN_XOR2 = 10
/** Samples that came out of order, sorted: a block of (time, value) floats. */
export const LATE_FLOATS = 11
/** The same of (time, value, start time). */
export const LATE_STARTED = 12
/** The same for histograms, outside the slab. */
export const LATE_HISTOGRAMS = 13

/** A sorted buffer of histograms that came out of order. */
export interface LateHistograms {
  readonly times: number[]
  readonly histograms: Histogram[]
  readonly startTimes: number[]
}

/** What a chunk's writer or a late histogram takes as objects, roughly. */
const OPEN_HISTOGRAM_BYTES = 3000
const OPEN_XOR2_BYTES = 2000
const LATE_HISTOGRAM_BYTES = 1000

export class ChunkTable {
  readonly slab = new Slab()
  /** Slot + 1 of the series' next older chunk, 0 at the end; of a free slot: the next free one. */
  next = new Uint32Array(16)
  kind = new Uint8Array(16)
  segment = new Uint32Array(16)
  sizeClass = new Uint8Array(16)
  address = new Uint32Array(16)
  byteLength = new Uint32Array(16)
  count = new Uint32Array(16)
  minTime = new Float64Array(16)
  /** This, count and byteLength of an open chunk lag behind until SeriesChunks.sync. */
  maxTime = new Float64Array(16)
  /** The writers of open histogram chunks, by slot. */
  readonly openHistograms = new Map<number, HistogramChunkWriter>()
  /** Those of open chunks of floats with start times. */
  readonly openStarted = new Map<number, Xor2ChunkWriter>()
  readonly lateHistograms = new Map<number, LateHistograms>()
  private slotCount = 0
  private firstFree = 0
  usedCount = 0

  /** A new slot without bytes, in front of `next`. */
  add(kind: number, segment: number, next: number): number {
    let slot = this.firstFree - 1
    if (slot >= 0) this.firstFree = this.next[slot]!
    else slot = this.slotCount++
    if (slot === this.next.length) this.grow(slot + 1)
    this.usedCount++
    this.next[slot] = next
    this.kind[slot] = kind
    this.segment[slot] = segment
    this.byteLength[slot] = 0
    this.count[slot] = 0
    return slot
  }

  /** Frees slot and bytes; the caller has unlinked it. */
  remove(slot: number): void {
    const kind = this.kind[slot]!
    if (kind === OPEN_HISTOGRAM) this.openHistograms.delete(slot)
    else if (kind === OPEN_XOR2) this.openStarted.delete(slot)
    else if (kind === LATE_HISTOGRAMS) this.lateHistograms.delete(slot)
    else this.slab.release(this.address[slot]!, this.sizeClass[slot]!)
    this.kind[slot] = 0
    this.next[slot] = this.firstFree
    this.firstFree = slot + 1
    this.usedCount--
  }

  /** Makes the slot a finished chunk of a kind with these bytes. It has no block yet, or none any more. */
  fill(slot: number, kind: number, bytes: Uint8Array): void {
    this.allocate(slot, bytes.length)
    this.page(slot).set(bytes, this.start(slot))
    this.kind[slot] = kind
    this.byteLength[slot] = bytes.length
  }

  /** Gives the slot a block of at least `bytes`. */
  allocate(slot: number, bytes: number): void {
    this.address[slot] = this.slab.allocate(bytes)
    this.sizeClass[slot] = this.slab.classOf(bytes)
  }

  /** Moves the slot's first `used` bytes into a block of at least `bytes`, unless it has one of that class. */
  resize(slot: number, used: number, bytes: number): void {
    const oldClass = this.sizeClass[slot]!
    if (this.slab.classOf(bytes) === oldClass) return
    const oldAddress = this.address[slot]!
    this.allocate(slot, bytes)
    const from = this.slab.pages[oldAddress >>> 16]!
    const at = offsetOf(oldAddress)
    const to = this.page(slot)
    const start = offsetOf(this.address[slot]!)
    if (used < 64) for (let i = 0; i < used; i++) to[start + i] = from[at + i]!
    else to.set(from.subarray(at, at + used), start)
    this.slab.release(oldAddress, oldClass)
  }

  room(slot: number): number {
    return this.slab.roomOf(this.address[slot]!, this.sizeClass[slot]!)
  }

  page(slot: number): Uint8Array<ArrayBuffer> {
    return this.slab.pages[this.address[slot]! >>> 16]!
  }

  /** The block's page as words; its first is 2 × `floatStart`. */
  words(slot: number): Uint32Array<ArrayBuffer> {
    return this.slab.pageWords[this.address[slot]! >>> 16]!
  }

  /** The block's page as floats and, by `floatStart`, its first element there. */
  floats(slot: number): Float64Array<ArrayBuffer> {
    return this.slab.pageFloats[this.address[slot]! >>> 16]!
  }

  floatStart(slot: number): number {
    return (this.address[slot]! & 0xffff) << 1
  }

  start(slot: number): number {
    return offsetOf(this.address[slot]!)
  }

  get bytes(): number {
    let bytes = this.slab.bytes + this.next.length * (6 * 4 + 2 + 16)
    for (const { histograms } of this.lateHistograms.values()) bytes += histograms.length * LATE_HISTOGRAM_BYTES
    return bytes + this.openHistograms.size * OPEN_HISTOGRAM_BYTES + this.openStarted.size * OPEN_XOR2_BYTES
  }

  stats(): { chunkCount: number; times?: { minMs: number; maxMs: number } } {
    let minMs = Number.POSITIVE_INFINITY
    let maxMs = Number.NEGATIVE_INFINITY
    for (let slot = 0; slot < this.slotCount; slot++) {
      if (this.kind[slot] === 0) continue
      minMs = Math.min(minMs, this.minTime[slot]!)
      maxMs = Math.max(maxMs, this.maxTime[slot]!)
    }
    const chunkCount = this.usedCount
    return chunkCount === 0 ? { chunkCount } : { chunkCount, times: { minMs, maxMs } }
  }

  private grow(needed: number): void {
    this.next = grownU32(this.next, needed)
    this.kind = grownU8(this.kind, needed)
    this.segment = grownU32(this.segment, needed)
    this.sizeClass = grownU8(this.sizeClass, needed)
    this.address = grownU32(this.address, needed)
    this.byteLength = grownU32(this.byteLength, needed)
    this.count = grownU32(this.count, needed)
    this.minTime = grownF64(this.minTime, needed)
    this.maxTime = grownF64(this.maxTime, needed)
  }
}

function offsetOf(address: number): number {
  return (address & 0xffff) << 4
}
