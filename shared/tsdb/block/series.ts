// What goes into and comes out of blocks.
import type { Breath } from '../../base/breathing.ts'
import type { Labels } from '../../model/labels.ts'

export interface BlockChunk {
  /** 1 floats, 2 histograms, 3 float histograms (docs/formats/chunk.md). */
  readonly encoding: number
  /** The chunk itself, without length, encoding and checksum. From a reader: a view that is valid as long as it is held. */
  readonly bytes: Uint8Array
  /** Milliseconds, both inclusive. */
  readonly minTime: number
  readonly maxTime: number
  /** Samples. */
  readonly count: number
}

/** A chunk that was read: `bytes` are those from `start` to `end` of what many chunks were read in, and a view of them is made when it is asked
 *  for. */
export class ReadChunk implements BlockChunk {
  readonly encoding: number
  readonly source: Uint8Array
  readonly start: number
  readonly end: number
  readonly minTime: number
  readonly maxTime: number
  readonly count: number

  constructor(at: { encoding: number; source: Uint8Array; start: number; end: number; count: number } & Times) {
    this.encoding = at.encoding
    this.source = at.source
    this.start = at.start
    this.end = at.end
    this.minTime = at.minTime
    this.maxTime = at.maxTime
    this.count = at.count
  }

  get bytes(): Uint8Array {
    return this.source.subarray(this.start, this.end)
  }
}

interface Times {
  readonly minTime: number
  readonly maxTime: number
}

/** One series of a block, with those of its chunks that were asked for: in time order, never overlapping. */
export interface BlockSeries {
  readonly labels: Labels
  /** The two words of label-hash.ts, unsigned. */
  readonly hashA: number
  readonly hashB: number
  /** The series' number in this block's index and tombstones. */
  readonly ref: number
  readonly chunks: readonly BlockChunk[]
}

/** The same as a reader gives it. */
export interface ReadSeries extends BlockSeries {
  readonly chunks: readonly ReadChunk[]
}

/** The same without chunks. */
export interface BlockSeriesLabels {
  readonly labels: Labels
  readonly hashA: number
  readonly hashB: number
  readonly ref: number
}

export interface ReadCall {
  readonly signal?: AbortSignal
  /** Of who reads; absent: nobody waits behind. */
  readonly breath?: Breath
}
