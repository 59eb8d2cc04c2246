// Constants of the files of a block (docs/formats/block.md).

export const INDEX_MAGIC = 0xbaaad700
export const INDEX_VERSION = 2
export const INDEX_HEADER_BYTES = 5
/** Six positions of eight bytes and a checksum at the end of the index. */
export const TOC_BYTES = 52
/** Series begin at multiples of this; a series' ref is its position divided by it. */
export const SERIES_ALIGN = 16
export const POSTINGS_ALIGN = 4
/** Symbols and values of a name that are looked up together: readers keep the first of each group. */
export const GROUP = 32

export const CHUNKS_MAGIC = 0x85bd40dd
export const CHUNKS_VERSION = 1
export const CHUNKS_HEADER_BYTES = 8
/** Behind a chunk's length: its encoding; behind its bytes: the checksum of both. */
export const CHUNK_ENCODING_BYTES = 1
export const CRC_BYTES = 4

export interface Toc {
  readonly symbols: number
  readonly series: number
  readonly labelIndices: number
  readonly labelIndicesTable: number
  readonly postings: number
  readonly postingsTable: number
}

export const TWO_32 = 2 ** 32
