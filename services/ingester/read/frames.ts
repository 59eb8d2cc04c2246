// Frames: series and samples of one head on their way to a querier or another owner. A hot kernel: columns are filled, no object per
// series or sample is made.
import { FRAME_BYTES_TARGET, type OwnerStamp, type SelectFrame } from '../../../shared/contracts/read.ts'
import type { Interval } from '../../../shared/model/interval.ts'
import { grownU32 } from '../../../shared/tsdb/chunk/growth.ts'
import { SampleColumns } from '../../../shared/tsdb/columns.ts'
import type { ChunkVisitor } from '../../../shared/tsdb/head/chunk-reading.ts'
import type { Head } from '../../../shared/tsdb/head/head.ts'
import type { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import { canonicalBytes } from '../../../shared/tsdb/histogram-order.ts'
import { Writer } from '../../../shared/wire/varint.ts'
import { LabelSets } from './label-sets.ts'

/** What a frame says of each series. */
export type FrameMode = 'all' | 'last' | 'labels'

/** As in SelectRequest. */
export interface LabelsAsked {
  readonly watermark?: number
  readonly names?: readonly string[]
  readonly wantsHashes?: boolean
}

/** A column of numbers that grows and is used again. */
class Column {
  private numbers = new Uint32Array(1024)
  length = 0

  push(value: number): void {
    if (this.length === this.numbers.length) this.numbers = grownU32(this.numbers, this.length * 2)
    this.numbers[this.length++] = value
  }

  taken(): Uint32Array {
    const copy = this.numbers.slice(0, this.length)
    this.length = 0
    return copy
  }
}

export class FrameBuilder {
  private readonly head: Head
  private readonly table: StringTable
  private readonly mode: FrameMode
  /** By string number: number in this answer + 1, 0 when not told yet. */
  private told: Uint32Array
  private toldCount = 0
  private readonly strings = new Writer(16 * 1024)
  private readonly stringEnds = new Column()
  private readonly labelCounts = new Column()
  private readonly labels = new Column()
  private readonly chunkCounts = new Column()
  private readonly chunkEncodings = new Column()
  private readonly chunkSamples = new Column()
  private readonly chunkEnds = new Column()
  private readonly chunks = new Writer(64 * 1024)
  private readonly samples = new SampleColumns(1024)
  private readonly histogramEnds = new Column()
  private readonly histograms = new Writer(1024)
  /** Chunks of segments up to this one are read from blocks. */
  private readonly watermark: number
  private chunkSeqs: number[] = []
  private readonly names: LabelSets | undefined
  private readonly wantsHashes: boolean
  private readonly sets = new Column()
  private readonly hashes = new Column()
  private readonly hash = new Uint32Array(2)

  constructor(
    head: Head,
    table: StringTable,
    mode: FrameMode,
    { names, wantsHashes = false, watermark = -1 }: LabelsAsked = {},
  ) {
    this.watermark = watermark
    this.head = head
    this.table = table
    this.mode = mode
    this.told = new Uint32Array(table.count)
    this.names = names && new LabelSets(table, names)
    this.wantsHashes = wantsHashes
  }

  /** Adds a series; one without samples in the range is left out. `stored` keeps the chunks of that segment, whole and with
   *  what deletions hide, and says of each where its part begins. */
  add(ref: number, range: Interval, stored?: number): void {
    if (this.mode === 'all') {
      if (!this.addChunks(ref, range, stored)) return
    } else if (this.mode === 'last' && !this.addLast(ref, range)) return
    this.head.withLabelRefs(ref, this.addLabels)
    if (!this.wantsHashes) return
    this.head.hashInto(ref, this.hash, 0)
    this.hashes.push(this.hash[0]!)
    this.hashes.push(this.hash[1]!)
  }

  private readonly addLabels = (runs: Uint32Array, start: number, end: number): void => {
    if (this.names === undefined) this.tellLabels(runs, start, end)
    else this.sets.push(this.names.numberOf(runs, start, end, this.tellSet))
  }

  private readonly tellSet = (pairs: readonly number[]): void => this.tellLabels(pairs, 0, pairs.length)

  private tellLabels(pairs: Uint32Array | readonly number[], start: number, end: number): void {
    this.labelCounts.push((end - start) / 2)
    for (let i = start; i < end; i++) this.labels.push(this.tell(pairs[i]!))
  }

  get isFull(): boolean {
    return (
      this.chunks.length +
        this.strings.length +
        4 * (this.labels.length + this.sets.length + this.hashes.length) +
        16 * this.samples.count >=
      FRAME_BYTES_TARGET
    )
  }

  /** The frame of what was added since the last one. */
  take(stamp?: OwnerStamp): SelectFrame {
    const frame = {
      ...(stamp ? { stamp } : {}),
      strings: this.strings.finish(),
      stringEnds: this.stringEnds.taken(),
      labelCounts: Uint16Array.from(this.labelCounts.taken()),
      labels: this.labels.taken(),
      ...(this.names && { sets: this.sets.taken() }),
      ...(this.wantsHashes && { hashes: this.hashes.taken() }),
      ...(this.mode === 'all' ? this.takeChunks() : {}),
      ...(this.mode === 'last' ? this.takeLast() : {}),
    }
    this.strings.reset()
    return frame
  }

  private addChunks(ref: number, range: Interval, stored: number | undefined): boolean {
    const before = this.chunkEnds.length
    if (stored === undefined) this.head.chunksOf(ref, range, this.addChunk)
    else this.head.storedChunksOf(ref, stored, this.addStored)
    const count = this.chunkEnds.length - before
    if (count > 0) this.chunkCounts.push(count)
    return count > 0
  }

  private readonly addStored: ChunkVisitor = (encoding, bytes, minTime, maxTime, sampleCount, segment, seq) => {
    this.chunkSeqs.push(seq)
    this.addChunk(encoding, bytes, minTime, maxTime, sampleCount, segment, seq)
  }

  private readonly addChunk: ChunkVisitor = (encoding, bytes, _minTime, _maxTime, sampleCount, segment) => {
    if (segment <= this.watermark) return
    this.chunks.bytes(bytes)
    this.chunkEncodings.push(encoding)
    this.chunkSamples.push(sampleCount)
    this.chunkEnds.push(this.chunks.length)
  }

  private addLast(ref: number, range: Interval): boolean {
    if (!this.head.lastInto(ref, range, this.samples)) return false
    const histogram = this.samples.histograms?.[this.samples.count - 1]
    if (histogram !== undefined) this.histograms.bytes(canonicalBytes(histogram))
    this.histogramEnds.push(this.histograms.length)
    return true
  }

  private takeChunks() {
    const taken = {
      chunkCounts: this.chunkCounts.taken(),
      chunkEncodings: Uint8Array.from(this.chunkEncodings.taken()),
      chunkSamples: Uint16Array.from(this.chunkSamples.taken()),
      chunkEnds: this.chunkEnds.taken(),
      ...(this.chunkSeqs.length > 0 && { chunkSeqs: Float64Array.from(this.chunkSeqs) }),
      chunks: this.chunks.finish(),
    }
    this.chunks.reset()
    this.chunkSeqs = []
    return taken
  }

  private takeLast() {
    const taken = {
      times: this.samples.times.slice(0, this.samples.count),
      values: this.samples.values.slice(0, this.samples.count),
      ...(this.samples.startTimes && { startTimes: this.samples.startTimes.slice(0, this.samples.count) }),
      histogramEnds: this.histogramEnds.taken(),
      histograms: this.histograms.finish(),
    }
    this.samples.clear()
    this.histograms.reset()
    return taken
  }

  private tell(string: number): number {
    if (string >= this.told.length) this.told = grownU32(this.told, Math.max(this.told.length * 2, string + 1))
    const known = this.told[string]!
    if (known !== 0) return known - 1
    this.told[string] = ++this.toldCount
    this.appendText(this.table.text(string))
    this.stringEnds.push(this.strings.length)
    return this.toldCount - 1
  }

  private appendText(text: string): void {
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i)
      if (unit > 127) {
        this.strings.bytes(Buffer.from(text.slice(i)))
        return
      }
      this.strings.u8(unit)
    }
  }
}
