// Collects series and makes the index of a block of them: symbols, series, postings, postings offset table, table of contents.
//
// Series wait as numbers: 4 bytes a label text and about 10 bytes a chunk. Symbols are numbered as they come and get their final
// numbers, those of their order, when all are known. So a block of 200 000 series needs some ten MB here, whatever its samples.
import { assert } from '../../base/assert.ts'
import { compareBytes, type Labels } from '../../model/labels.ts'
import { crc32c } from '../../wire/crc32c.ts'
import { grownU32 } from '../chunk/growth.ts'
import { ByteWriter } from './bytes.ts'
import { INDEX_MAGIC, INDEX_VERSION, POSTINGS_ALIGN, SERIES_ALIGN, TWO_32 } from './layout.ts'

export class IndexBuilder {
  private readonly numbers = new Map<string, number>()
  private readonly texts: string[] = []
  /** Symbols of all series: name, value, name, value, … */
  private labels = new Uint32Array(1024)
  private labelCount = 0
  /** Per series where its labels and its chunk table end. */
  private labelEnds = new Uint32Array(256)
  private tableEnds = new Uint32Array(256)
  private readonly tables = new ByteWriter(4096)
  seriesCount = 0
  private chunksLeft = 0
  private lastMaxTime = 0
  private lastRef = 0
  private isFirstChunk = true

  /** Begins the next series; exactly `chunkCount` calls of addChunk follow. */
  addSeries(labels: Labels, chunkCount: number): void {
    assert(this.chunksLeft === 0, 'every chunk of the series before was added')
    const index = this.seriesCount++
    if (this.labelCount + labels.length > this.labels.length) {
      this.labels = grownU32(this.labels, this.labelCount + labels.length)
    }
    if (index === this.labelEnds.length) {
      this.labelEnds = grownU32(this.labelEnds, index + 1)
      this.tableEnds = grownU32(this.tableEnds, index + 1)
    }
    for (const text of labels) this.labels[this.labelCount++] = this.symbol(text)
    this.labelEnds[index] = this.labelCount
    this.tables.uvarint(chunkCount)
    this.tableEnds[index] = this.tables.length
    this.chunksLeft = chunkCount
    this.isFirstChunk = true
  }

  /** `ref`: file index · 2^32 + position of the chunk in its file. */
  addChunk(minTime: number, maxTime: number, ref: number): void {
    const { tables } = this
    if (this.isFirstChunk) tables.varint(minTime)
    else tables.uvarint(minTime - this.lastMaxTime)
    tables.uvarint(maxTime - minTime)
    if (this.isFirstChunk) tables.uvarint(ref)
    else tables.varint(ref - this.lastRef)
    this.isFirstChunk = false
    this.lastMaxTime = maxTime
    this.lastRef = ref
    this.chunksLeft--
    this.tableEnds[this.seriesCount - 1] = tables.length
  }

  /** The bytes of the index. */
  finish(): Uint8Array<ArrayBuffer> {
    assert(this.chunksLeft === 0, 'every chunk of the last series was added')
    const out = new ByteWriter(this.tables.length + this.labelCount * 8 + 4096)
    out.u32(INDEX_MAGIC)
    out.u8(INDEX_VERSION)
    const sorted = this.sortSymbols()
    const symbols = out.length
    this.writeSymbols(out, sorted)
    const series = out.length
    const refs = this.writeSeries(out)
    const postings = out.length
    const offsets = this.writePostings(out, refs, sorted.length)
    const postingsTable = out.length
    this.writePostingsTable(out, offsets, sorted)
    const toc = out.length
    // label indices are written by no Prometheus of today; their positions are those of what follows
    for (const position of [symbols, series, postings, postingsTable, postings, postingsTable]) out.u64(position)
    out.u32(crc32c(out.buffer, toc, out.length))
    return out.take()
  }

  private symbol(text: string): number {
    const known = this.numbers.get(text)
    if (known !== undefined) return known
    const number = this.texts.length
    this.numbers.set(text, number)
    this.texts.push(text)
    return number
  }

  /** Renumbers the symbols of all series by the order of their texts, and returns the texts in it. */
  private sortSymbols(): string[] {
    const { texts, labels } = this
    const order = new Uint32Array(texts.length)
    for (let i = 0; i < order.length; i++) order[i] = i
    order.sort((a, b) => compareBytes(texts[a]!, texts[b]!))
    const numbers = new Uint32Array(texts.length)
    for (let i = 0; i < order.length; i++) numbers[order[i]!] = i
    for (let i = 0; i < this.labelCount; i++) labels[i] = numbers[labels[i]!]!
    return Array.from(order, (number) => texts[number]!)
  }

  private writeSymbols(out: ByteWriter, sorted: readonly string[]): void {
    const start = beginSection(out)
    out.u32(sorted.length)
    for (const text of sorted) out.text(text)
    endSection(out, start)
  }

  private writeSeries(out: ByteWriter): Uint32Array {
    const refs = new Uint32Array(this.seriesCount)
    const entry = new ByteWriter(1024)
    let label = 0
    let table = 0
    for (let i = 0; i < this.seriesCount; i++) {
      const labelEnd = this.labelEnds[i]!
      entry.reset()
      entry.uvarint((labelEnd - label) / 2)
      for (; label < labelEnd; label++) entry.uvarint(this.labels[label]!)
      entry.bytes(this.tables.buffer.subarray(table, this.tableEnds[i]!))
      table = this.tableEnds[i]!
      entry.u32(crc32c(entry.buffer, 0, entry.length))
      out.pad(SERIES_ALIGN)
      refs[i] = out.length / SERIES_ALIGN
      out.uvarint(entry.length - 4)
      out.bytes(entry.buffer.subarray(0, entry.length))
    }
    return refs
  }

  /** Writes the posting lists by name and value, that of all series first, and returns [name, value, position] of each but that. */
  private writePostings(out: ByteWriter, refs: Uint32Array, symbolCount: number): PostingOffsets {
    const { labels } = this
    const pairCount = this.labelCount / 2
    const seriesOf = new Uint32Array(pairCount)
    let pair = 0
    for (let i = 0; i < this.seriesCount; i++) for (; 2 * pair < this.labelEnds[i]!; pair++) seriesOf[pair] = i
    const byValue = countingSort(labels, 1, undefined, pairCount, symbolCount)
    const order = countingSort(labels, 0, byValue, pairCount, symbolCount)
    const offsets: PostingOffsets = { pairs: [], all: 0, places: [] }
    offsets.all = writePostingList(out, refs.length, (i) => refs[i]!)
    for (let from = 0; from < pairCount; ) {
      const name = labels[2 * order[from]!]!
      const value = labels[2 * order[from]! + 1]!
      let to = from + 1
      while (to < pairCount && labels[2 * order[to]!] === name && labels[2 * order[to]! + 1] === value) to++
      const first = from
      offsets.pairs.push(order[from]!)
      offsets.places.push(writePostingList(out, to - from, (i) => refs[seriesOf[order[first + i]!]!]!))
      from = to
    }
    return offsets
  }

  private writePostingsTable(out: ByteWriter, { pairs, all, places }: PostingOffsets, sorted: readonly string[]): void {
    const start = beginSection(out)
    out.u32(pairs.length + 1)
    writeOffset(out, '', '', all)
    for (let i = 0; i < pairs.length; i++) {
      const pair = pairs[i]!
      writeOffset(out, sorted[this.labels[2 * pair]!]!, sorted[this.labels[2 * pair + 1]!]!, places[i]!)
    }
    endSection(out, start)
  }
}

interface PostingOffsets {
  /** Per list any pair that has its name and value. */
  readonly pairs: number[]
  readonly places: number[]
  all: number
}

/** The pairs 0 … count − 1, or those of `before`, ordered by their name (`side` 0) or value (1); what is equal keeps its order. */
function countingSort(
  labels: Uint32Array,
  side: number,
  before: Uint32Array | undefined,
  count: number,
  symbolCount: number,
): Uint32Array {
  const starts = new Uint32Array(symbolCount + 1)
  for (let pair = 0; pair < count; pair++) starts[labels[2 * pair + side]! + 1]!++
  for (let i = 1; i <= symbolCount; i++) starts[i]! += starts[i - 1]!
  const order = new Uint32Array(count)
  for (let i = 0; i < count; i++) {
    const pair = before === undefined ? i : before[i]!
    order[starts[labels[2 * pair + side]!]!++] = pair
  }
  return order
}

function writePostingList(out: ByteWriter, count: number, refAt: (i: number) => number): number {
  out.pad(POSTINGS_ALIGN)
  const place = out.length
  out.reserve(12 + 4 * count)
  out.u32(4 + 4 * count)
  out.u32(count)
  for (let i = 0; i < count; i++) out.u32(refAt(i))
  out.u32(crc32c(out.buffer, place + 4, out.length))
  return place
}

function writeOffset(out: ByteWriter, name: string, value: string, place: number): void {
  out.uvarint(2)
  out.text(name)
  out.text(value)
  out.uvarint(place)
}

/** Leaves room for the length; the checksum covers what follows it. */
function beginSection(out: ByteWriter): number {
  out.u32(0)
  return out.length
}

function endSection(out: ByteWriter, start: number): void {
  const length = out.length - start
  assert(length < TWO_32, 'a section of an index is shorter than 4 GiB')
  out.patchU32(start - 4, length)
  out.u32(crc32c(out.buffer, start, out.length))
}
