// The series of an index: label symbols and chunk positions, by ref or all in a row. Every entry has its checksum.
import { crc32c } from '../../wire/crc32c.ts'
import { ByteReader, u32At } from './bytes.ts'
import { type BlockFiles, corruptAt, INDEX_FILE, readExactly } from './files.ts'
import { CRC_BYTES, SERIES_ALIGN, type Toc } from './layout.ts'
import { readPlaces } from './ranges.ts'
import { SectionStream } from './section-stream.ts'

/** Most entries are shorter; what is longer is read again. */
const ENTRY_BYTES = 512
/** An entry that says it is longer is damage. */
const ENTRY_BYTES_MAX = 64 * 1024 * 1024

export interface SeriesEntry {
  readonly ref: number
  /** Numbers of the symbols: name, value, name, value, … */
  readonly symbols: readonly number[]
  readonly places: Places
}

/** Where chunks are, PLACE numbers each: ref (file index · 2^32 + position), minTime, maxTime. One list of numbers takes a third of the memory of objects. */
export type Places = readonly number[]
export const PLACE = 3

export class SeriesEntries {
  private readonly files: BlockFiles
  private readonly toc: Toc

  constructor(files: BlockFiles, toc: Toc) {
    this.files = files
    this.toc = toc
  }

  /** The entries of rising refs. */
  async read(refs: Uint32Array, signal?: AbortSignal): Promise<SeriesEntry[]> {
    const end = this.toc.labelIndices
    const starts: number[] = []
    const ends: number[] = []
    for (const ref of refs) {
      const start = ref * SERIES_ALIGN
      if (start < this.toc.series || start >= end)
        throw corruptAt(INDEX_FILE, start, 'a posting points outside the series')
      starts.push(start)
      ends.push(Math.min(end, start + ENTRY_BYTES))
    }
    const pieces = await readPlaces(this.files, INDEX_FILE, starts, ends, signal)
    const entries: SeriesEntry[] = []
    for (let i = 0; i < refs.length; i++) {
      const { base, bytes } = pieces[i]!
      const at = starts[i]! - base
      const size = entrySize(bytes, at, base)
      if (at + size <= bytes.length) {
        entries.push(decodeEntry(bytes, at, base))
        continue
      }
      if (starts[i]! + size > end) throw corruptAt(INDEX_FILE, starts[i]!, 'a series reaches behind the last one')
      const whole = await readExactly(this.files, INDEX_FILE, starts[i]!, starts[i]! + size, signal)
      entries.push(decodeEntry(whole, 0, starts[i]!))
    }
    return entries
  }

  /** All entries in a row, in lists of up to `countMax`. */
  async *walk(countMax: number, signal?: AbortSignal): AsyncGenerator<SeriesEntry[]> {
    const stream = new SectionStream(this.files, INDEX_FILE, this.toc.series, this.toc.labelIndices, signal)
    let entries: SeriesEntry[] = []
    for (;;) {
      if (!stream.has(SERIES_ALIGN + 8)) await stream.fill(SERIES_ALIGN + 8)
      skipPadding(stream)
      if (stream.isAtEnd) break
      const size = entrySize(stream.reader.source, stream.reader.at, stream.offset - stream.reader.at)
      if (!stream.has(size)) await stream.fill(size)
      const { reader } = stream
      if (reader.at + size > reader.end) reader.fail('the last series ends too early')
      entries.push(decodeEntry(reader.source, reader.at, reader.offset - reader.at))
      reader.at += size
      if (entries.length < countMax) continue
      yield entries
      entries = []
    }
    if (entries.length > 0) yield entries
  }
}

function skipPadding(stream: SectionStream): void {
  const { reader } = stream
  while (reader.offset % SERIES_ALIGN !== 0 && reader.at < reader.end) {
    if (reader.u8() !== 0) reader.fail('there is something between two series')
  }
}

/** Bytes of the entry at `at`, with length and checksum. */
function entrySize(bytes: Uint8Array, at: number, base: number): number {
  const reader = new ByteReader(bytes, at, bytes.length, INDEX_FILE, base)
  const length = reader.uvarint()
  if (length > ENTRY_BYTES_MAX) reader.fail(`a series says that it has ${length} bytes`)
  return reader.at - at + length + CRC_BYTES
}

function decodeEntry(bytes: Uint8Array, start: number, base: number): SeriesEntry {
  const lengthReader = new ByteReader(bytes, start, bytes.length, INDEX_FILE, base)
  const length = lengthReader.uvarint()
  const from = lengthReader.at
  const end = from + length
  if (crc32c(bytes, from, end) !== u32At(bytes, end)) {
    throw corruptAt(INDEX_FILE, base + start, 'a series does not match its checksum')
  }
  const reader = new ByteReader(bytes, from, end, INDEX_FILE, base)
  const symbols: number[] = []
  for (let left = 2 * reader.uvarint(); left > 0; left--) symbols.push(reader.uvarint())
  const places = decodePlaces(reader)
  if (reader.at !== end) reader.fail('a series has bytes too many')
  return { ref: (base + start) / SERIES_ALIGN, symbols, places }
}

function decodePlaces(reader: ByteReader): Places {
  const places: number[] = []
  let ref = 0
  let maxTime = 0
  const count = reader.uvarint()
  for (let i = 0; i < count; i++) {
    const minTime = i === 0 ? reader.varint() : maxTime + reader.uvarint()
    maxTime = minTime + reader.uvarint()
    ref = i === 0 ? reader.uvarint() : ref + reader.varint()
    if (ref < 0) reader.fail('a chunk stands before the first file')
    places.push(ref, minTime, maxTime)
  }
  return places
}
