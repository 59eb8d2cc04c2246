// The chunks of a block by position: neighbours come in one read, every checksum is looked at.
import { crc32c } from '../../wire/crc32c.ts'
import { chunkCount } from '../chunk/histogram.ts'
import { ByteReader, u32At } from './bytes.ts'
import { isKnownEncoding } from './chunk-cutting.ts'
import { type BlockFiles, CHUNKS_FOLDER, chunkFileName, corruptAt, readExactly } from './files.ts'
import { CHUNK_ENCODING_BYTES, CHUNKS_HEADER_BYTES, CHUNKS_MAGIC, CHUNKS_VERSION, CRC_BYTES, TWO_32 } from './layout.ts'
import type { BlockFile } from './meta.ts'
import { type Piece, readPlaces } from './ranges.ts'
import { ReadChunk } from './series.ts'
import { PLACE, type Places } from './series-entries.ts'

/** Most chunks of 120 floats are shorter; what is longer is read again. */
export const CHUNK_BYTES_GUESS = 2048
/** A chunk that says it is longer is damage. */
const CHUNK_BYTES_MAX = 64 * 1024 * 1024
const FILES_AT_ONCE_MAX = 4
/** So many files of a block are told of ahead. */
const FILES_AHEAD_MAX = 16

export class ChunkFiles {
  private readonly files: BlockFiles
  private readonly sizes = new Map<string, number>()
  private lastHeader = ''
  private isAhead = false
  private readonly isThorough: boolean
  /** Where the chunk that was read last ends, of a thorough reader. */
  private lastEnd = 0

  /** `listed`: the files of meta.json, when it lists them. `isThorough`: all chunks will be read, in the order of series. */
  constructor(files: BlockFiles, listed: readonly BlockFile[], isThorough: boolean) {
    this.files = files
    this.isThorough = isThorough
    for (const { name, size } of listed) this.sizes.set(name, size)
  }

  /** The chunks at the given places, in the order of their positions or nearly so. */
  async read(places: Places, signal?: AbortSignal): Promise<ReadChunk[]> {
    const count = places.length / PLACE
    const chunks: ReadChunk[] = new Array(count)
    let reading: Promise<void>[] = []
    for (let from = 0; from < count; ) {
      const fileIndex = fileOfRef(places[PLACE * from]!)
      let to = from + 1
      while (to < count && fileOfRef(places[PLACE * to]!) === fileIndex) to++
      if (reading.length === FILES_AT_ONCE_MAX) {
        await Promise.all(reading)
        reading = []
      }
      reading.push(this.readFile(chunkFileName(fileIndex), { places, from, to }, chunks, signal))
      from = to
    }
    await Promise.all(reading)
    if (this.isThorough) this.checkOrder(places, chunks)
    return chunks
  }

  /** Chunks stand in the order of series and times, and no two share a byte: else few bytes could say that they are many. */
  private checkOrder(places: Places, chunks: readonly ReadChunk[]): void {
    for (const [i, { start, end }] of chunks.entries()) {
      const ref = places[PLACE * i]!
      if (ref < this.lastEnd) {
        const text = 'a chunk does not stand behind that of the series or time before'
        throw corruptAt(chunkFileName(fileOfRef(ref)), ref % TWO_32, text)
      }
      this.lastEnd = ref + frameBytes(end - start)
    }
  }

  /** Puts the chunks [from, to), which stand in one file. */
  private async readFile(
    file: string,
    { places, from, to }: { readonly places: Places; readonly from: number; readonly to: number },
    chunks: ReadChunk[],
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (this.isThorough) await this.checkHeader(file, signal)
    const size = await this.sizeOf(file, signal)
    const starts: number[] = []
    for (let i = from; i < to; i++) starts.push(places[PLACE * i]! % TWO_32)
    const ends = starts.map((start, i) => {
      if (start >= size) throw corruptAt(file, start, `ends at byte ${size}, before a chunk that the index names`)
      const next = starts[i + 1]
      return Math.min(
        size,
        next !== undefined && next > start ? next : start + CHUNK_BYTES_GUESS,
        start + CHUNK_BYTES_GUESS,
      )
    })
    const pieces = await readPlaces(this.files, file, starts, ends, signal)
    for (let i = from; i < to; i++) {
      const start = starts[i - from]!
      let piece = pieces[i - from]!
      let frame = frameAt(file, piece, start - piece.base)
      if (start - piece.base + frame.bytes > piece.bytes.length) {
        const end = start + frame.bytes
        if (end > size) throw corruptAt(file, start, `a chunk reaches behind the end of the file at byte ${size}`)
        piece = { base: start, bytes: await readExactly(this.files, file, start, end, signal) }
        frame = frameAt(file, piece, 0)
      }
      const times = { minTime: places[PLACE * i + 1]!, maxTime: places[PLACE * i + 2]! }
      chunks[i] = decodeChunk(file, piece, frame, times)
    }
  }

  /** Chunks will be read: which ones is not known yet. Once. */
  ahead(): void {
    if (this.isAhead) return
    this.isAhead = true
    const names = [...this.sizes.keys()].filter((name) => name.startsWith(CHUNKS_FOLDER))
    if (names.length <= FILES_AHEAD_MAX) for (const name of names) this.files.ahead?.(name)
  }

  private async checkHeader(file: string, signal: AbortSignal | undefined): Promise<void> {
    if (file === this.lastHeader) return
    this.lastHeader = file
    const header = await readExactly(this.files, file, 0, CHUNKS_HEADER_BYTES, signal)
    if (u32At(header, 0) !== CHUNKS_MAGIC) throw corruptAt(file, 0, 'does not begin as a chunk file')
    if (header[4] !== CHUNKS_VERSION)
      throw corruptAt(file, 4, `has version ${header[4]}, only ${CHUNKS_VERSION} is read`)
    if (header.subarray(5).some((byte) => byte !== 0)) throw corruptAt(file, 5, 'the header does not end in zeros')
  }

  private async sizeOf(file: string, signal: AbortSignal | undefined): Promise<number> {
    const known = this.sizes.get(file)
    if (known !== undefined) return known
    const size = await this.files.size(file, signal)
    this.sizes.set(file, size)
    return size
  }
}

function fileOfRef(ref: number): number {
  return Math.floor(ref / TWO_32)
}

/** A chunk with length, encoding and checksum. */
interface Frame {
  readonly start: number
  /** Where its encoding stands. */
  readonly from: number
  readonly length: number
  /** In all. */
  readonly bytes: number
}

function frameAt(file: string, { base, bytes }: Piece, start: number): Frame {
  let length = bytes[start]!
  let from = start + 1
  const second = length < 128 ? 0 : bytes[from]!
  if (length >= 128 && second < 128) {
    length += 128 * (second - 1) // most lengths have two bytes
    from++
  } else if (!(length < 128)) {
    const reader = new ByteReader(bytes, start, bytes.length, file, base)
    length = reader.uvarint()
    from = reader.at
    if (length > CHUNK_BYTES_MAX) reader.fail(`a chunk says that it has ${length} bytes`)
  }
  return { start, from, length, bytes: from - start + CHUNK_ENCODING_BYTES + length + CRC_BYTES }
}

/** Of a chunk with its length, encoding and checksum, as it is usually written. */
function frameBytes(length: number): number {
  let lengthBytes = 1
  for (let left = length; left >= 128; left /= 128) lengthBytes++
  return lengthBytes + CHUNK_ENCODING_BYTES + length + CRC_BYTES
}

function decodeChunk(
  file: string,
  { base, bytes }: Piece,
  { start, from, length }: Frame,
  times: { readonly minTime: number; readonly maxTime: number },
): ReadChunk {
  const end = from + CHUNK_ENCODING_BYTES + length
  if (crc32c(bytes, from, end) !== u32At(bytes, end)) {
    throw corruptAt(file, base + start, 'a chunk does not match its checksum')
  }
  const encoding = bytes[from]!
  if (!isKnownEncoding(encoding)) throw corruptAt(file, base + start, `a chunk has the encoding ${encoding}`)
  if (length < 2) throw corruptAt(file, base + start, 'a chunk is too short')
  const first = from + CHUNK_ENCODING_BYTES
  return new ReadChunk({
    ...times,
    encoding,
    source: bytes,
    start: first,
    end,
    count: chunkCount(encoding, bytes, first),
  })
}
