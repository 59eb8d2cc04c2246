// The chunks of a block by position: neighbours come in one read, every checksum is looked at.
import { crc32c } from '../../wire/crc32c.ts'
import { chunkCount } from '../chunk/histogram.ts'
import { ByteReader, u32At } from './bytes.ts'
import { isKnownEncoding } from './chunk-cutting.ts'
import { type BlockFiles, CHUNKS_FOLDER, chunkFileName, corruptAt, readExactly } from './files.ts'
import { CHUNK_ENCODING_BYTES, CHUNKS_HEADER_BYTES, CHUNKS_MAGIC, CHUNKS_VERSION, CRC_BYTES, TWO_32 } from './layout.ts'
import type { BlockFile } from './meta.ts'
import { type Piece, readPlaces } from './ranges.ts'
import type { BlockChunk } from './series.ts'
import type { ChunkPlace } from './series-entries.ts'

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

  private readonly checksHeaders: boolean

  /** `listed`: the files of meta.json, when it lists them. */
  constructor(files: BlockFiles, listed: readonly BlockFile[], checksHeaders: boolean) {
    this.files = files
    this.checksHeaders = checksHeaders
    for (const { name, size } of listed) this.sizes.set(name, size)
  }

  /** The chunks at the given places, in the order of their positions or nearly so. */
  async read(places: readonly ChunkPlace[], signal?: AbortSignal): Promise<BlockChunk[]> {
    const chunks: BlockChunk[] = new Array(places.length)
    let reading: Promise<void>[] = []
    for (let from = 0; from < places.length; ) {
      const fileIndex = fileOfRef(places[from]!.ref)
      let to = from + 1
      while (to < places.length && fileOfRef(places[to]!.ref) === fileIndex) to++
      if (reading.length === FILES_AT_ONCE_MAX) {
        await Promise.all(reading)
        reading = []
      }
      reading.push(this.readFile(chunkFileName(fileIndex), places.slice(from, to), { chunks, from }, signal))
      from = to
    }
    await Promise.all(reading)
    return chunks
  }

  /** Puts the chunks from `sink.from` on. */
  private async readFile(
    file: string,
    places: readonly ChunkPlace[],
    sink: { readonly chunks: BlockChunk[]; readonly from: number },
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { chunks, from } = sink
    if (this.checksHeaders) await this.checkHeader(file, signal)
    const size = await this.sizeOf(file, signal)
    const starts = places.map(({ ref }) => ref % TWO_32)
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
    for (let i = 0; i < places.length; i++) {
      const at = starts[i]! - pieces[i]!.base
      const needed = frameBytes(file, pieces[i]!, at)
      if (at + needed <= pieces[i]!.bytes.length) {
        chunks[from + i] = decodeChunk(file, pieces[i]!, at, places[i]!)
        continue
      }
      const end = starts[i]! + needed
      if (end > size) throw corruptAt(file, starts[i]!, `a chunk reaches behind the end of the file at byte ${size}`)
      const bytes = await readExactly(this.files, file, starts[i]!, end, signal)
      chunks[from + i] = decodeChunk(file, { base: starts[i]!, bytes }, 0, places[i]!)
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

/** Bytes of the chunk at `at` with length, encoding and checksum. */
export function frameBytes(file: string, { base, bytes }: Piece, at: number): number {
  const reader = new ByteReader(bytes, at, bytes.length, file, base)
  const length = reader.uvarint()
  if (length > CHUNK_BYTES_MAX) reader.fail(`a chunk says that it has ${length} bytes`)
  return reader.at - at + CHUNK_ENCODING_BYTES + length + CRC_BYTES
}

export function decodeChunk(file: string, { base, bytes }: Piece, start: number, place: ChunkPlace): BlockChunk {
  const reader = new ByteReader(bytes, start, bytes.length, file, base)
  const length = reader.uvarint()
  const from = reader.at
  const end = from + CHUNK_ENCODING_BYTES + length
  if (crc32c(bytes, from, end) !== u32At(bytes, end)) {
    throw corruptAt(file, base + start, 'a chunk does not match its checksum')
  }
  const encoding = bytes[from]!
  if (!isKnownEncoding(encoding)) throw corruptAt(file, base + start, `a chunk has the encoding ${encoding}`)
  if (length < 2) throw corruptAt(file, base + start, 'a chunk is too short')
  const chunk = bytes.subarray(from + CHUNK_ENCODING_BYTES, end)
  return {
    encoding,
    bytes: chunk,
    minTime: place.minTime,
    maxTime: place.maxTime,
    count: chunkCount(encoding, chunk, 0),
  }
}
