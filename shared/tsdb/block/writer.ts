// Writes a block, series by series: chunk files leave as soon as they are full, the index comes last.
//
// Invariants
//   BLOCK-1  The same series and samples give the same bytes, whatever the machine, the time and the batches in which they came.
//   BLOCK-2  What is held is one chunk file and the numbers of the index (index-builder.ts), never samples of series already added.
import { assert } from '../../base/assert.ts'
import { compareLabels, formatLabels, type Labels } from '../../model/labels.ts'
import { crc32c } from '../../wire/crc32c.ts'
import { isHistogramEncoding } from '../chunk/histogram.ts'
import type { SampleRun } from '../columns.ts'
import { ByteWriter } from './bytes.ts'
import { cutChunks, isKnownEncoding } from './chunk-cutting.ts'
import { chunkFileName, INDEX_FILE } from './files.ts'
import { IndexBuilder } from './index-builder.ts'
import { CHUNKS_HEADER_BYTES, CHUNKS_MAGIC, CHUNKS_VERSION, CRC_BYTES, TWO_32 } from './layout.ts'
import { type BlockFile, type BlockStats, fileOf } from './meta.ts'
import type { BlockChunk } from './series.ts'

const CHUNK_FILE_BYTES_MAX = 1024 * 1024
/** Chunk files on their way to where they are kept, before `backlog` asks to wait. */
const FILES_WAITING_MAX = 4
/** The most that length, encoding and checksum add to a chunk. */
const CHUNK_FRAME_BYTES_MAX = 5 + 1 + CRC_BYTES

export interface BlockWriterOptions {
  /** Takes a finished file: chunk files one after the other, the index last. The bytes are the callee's. */
  readonly onFile: (name: string, bytes: Uint8Array<ArrayBuffer>) => void | Promise<void>
  /** A chunk file is closed before it passes this, unless one chunk does. */
  readonly chunkFileBytesMax?: number
}

interface ChunkPlace {
  /** File index · 2^32 + position. */
  readonly ref: number
  readonly minTime: number
  readonly maxTime: number
}

export class BlockWriter {
  private readonly onFile: BlockWriterOptions['onFile']
  private readonly chunkFileBytesMax: number
  private readonly index = new IndexBuilder()
  private readonly files: BlockFile[] = []
  private readonly waiting = new Set<Promise<void>>()
  private failure: { readonly error: unknown } | undefined
  private chunkFile = new ByteWriter(64)
  private fileIndex = 0
  private lastLabels: Labels | undefined
  private places: ChunkPlace[] = []
  private minTime = Number.POSITIVE_INFINITY
  private maxTime = Number.NEGATIVE_INFINITY
  private chunkCount = 0
  private floatSampleCount = 0
  private histogramSampleCount = 0

  constructor({ onFile, chunkFileBytesMax = CHUNK_FILE_BYTES_MAX }: BlockWriterOptions) {
    this.onFile = onFile
    this.chunkFileBytesMax = chunkFileBytesMax
  }

  /** A series and its samples, cut into chunks canonically. Series come strictly in the order of compareLabels, times rise strictly.
   *  A series without samples is left out. */
  addSeries(labels: Labels, run: SampleRun): void {
    if (run.start >= run.end) return
    this.begin(labels)
    cutChunks(run, this.putChunk)
    this.end(labels)
  }

  /** A series and its chunks as they are: in time order, not overlapping. */
  addChunks(labels: Labels, chunks: readonly BlockChunk[]): void {
    if (chunks.length === 0) return
    this.begin(labels)
    for (const { encoding, bytes, minTime, maxTime, count } of chunks) {
      if (!isKnownEncoding(encoding)) assert(false, `a chunk of ${formatLabels(labels)} has the encoding ${encoding}`)
      this.putChunk(encoding, bytes, minTime, maxTime, count)
    }
    this.end(labels)
  }

  /** Undefined, or a promise to await before more is added: too many chunk files are still on their way. Throws what `onFile` did. */
  backlog(): Promise<void> | undefined {
    if (this.failure !== undefined) throw this.failure.error
    return this.waiting.size < FILES_WAITING_MAX ? undefined : this.untilFewer(FILES_WAITING_MAX)
  }

  /** Writes the index; throws the first error of `onFile`. */
  async finish(): Promise<BlockStats> {
    this.closeChunkFile()
    this.give(INDEX_FILE, this.index.finish())
    await this.untilFewer(1)
    const isEmpty = this.chunkCount === 0
    return {
      minTime: isEmpty ? 0 : this.minTime,
      maxTime: isEmpty ? 0 : this.maxTime + 1,
      sampleCount: this.floatSampleCount + this.histogramSampleCount,
      floatSampleCount: this.floatSampleCount,
      histogramSampleCount: this.histogramSampleCount,
      seriesCount: this.index.seriesCount,
      chunkCount: this.chunkCount,
      bytes: this.files.reduce((sum, file) => sum + file.size, 0),
      files: this.files.toSorted((a, b) => (a.name < b.name ? -1 : 1)),
    }
  }

  private begin(labels: Labels): void {
    const { lastLabels } = this
    if (lastLabels !== undefined && compareLabels(lastLabels, labels) >= 0) {
      assert(false, `series come in order: ${formatLabels(labels)} is not behind ${formatLabels(lastLabels)}`)
    }
    this.lastLabels = labels
    this.places = []
  }

  private end(labels: Labels): void {
    const { index, places } = this
    index.addSeries(labels, places.length)
    for (const { minTime, maxTime, ref } of places) index.addChunk(minTime, maxTime, ref)
  }

  private readonly putChunk = (
    encoding: number,
    bytes: Uint8Array,
    minTime: number,
    maxTime: number,
    count: number,
  ): void => {
    const before = this.places.at(-1)
    assert(minTime <= maxTime && count > 0, 'a chunk holds samples, and its times are in order')
    assert(before === undefined || before.maxTime < minTime, 'chunks of a series rise and do not overlap')
    if (this.chunkFile.length + bytes.length + CHUNK_FRAME_BYTES_MAX > this.chunkFileBytesMax) this.closeChunkFile()
    const { chunkFile } = this
    if (chunkFile.length === 0) {
      chunkFile.u32(CHUNKS_MAGIC)
      chunkFile.u8(CHUNKS_VERSION)
      chunkFile.pad(CHUNKS_HEADER_BYTES)
    }
    this.places.push({ minTime, maxTime, ref: this.fileIndex * TWO_32 + chunkFile.length })
    chunkFile.uvarint(bytes.length)
    const start = chunkFile.length
    chunkFile.u8(encoding)
    chunkFile.bytes(bytes)
    chunkFile.u32(crc32c(chunkFile.buffer, start, chunkFile.length))
    this.minTime = Math.min(this.minTime, minTime)
    this.maxTime = Math.max(this.maxTime, maxTime)
    this.chunkCount++
    if (isHistogramEncoding(encoding)) this.histogramSampleCount += count
    else this.floatSampleCount += count
  }

  private closeChunkFile(): void {
    if (this.chunkFile.length === 0) return
    const name = chunkFileName(this.fileIndex++)
    this.give(name, this.chunkFile.take())
  }

  private give(name: string, bytes: Uint8Array<ArrayBuffer>): void {
    this.files.push(fileOf(name, bytes))
    const kept = this.onFile(name, bytes)
    if (kept === undefined) return
    const done: Promise<void> = kept
      .catch((error: unknown) => {
        this.failure ??= { error }
      })
      .finally(() => this.waiting.delete(done))
    this.waiting.add(done)
  }

  private async untilFewer(count: number): Promise<void> {
    while (this.waiting.size >= count) await Promise.race(this.waiting)
    if (this.failure !== undefined) throw this.failure.error
  }
}
