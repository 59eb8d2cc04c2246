// Chunks of any encoding to columns: times, values, histograms and start times.
import { CorruptError } from '../base/errors.ts'
import { chunkCount, HistogramChunkReader, isHistogramEncoding } from './chunk/histogram.ts'
import { decodeXorWords, ENCODING_XOR } from './chunk/xor.ts'
import { ENCODING_XOR2, Xor2ChunkReader } from './chunk/xor2.ts'
import type { SampleColumns } from './columns.ts'

export interface ChunkBytes {
  readonly encoding: number
  /** The chunk is bytes [start, end) of this. */
  readonly bytes: Uint8Array
  readonly start: number
  readonly end: number
}

export function isFloatEncoding(encoding: number): boolean {
  return encoding === ENCODING_XOR || encoding === ENCODING_XOR2
}

/** Appends all samples of a chunk to a sink. Throws CorruptError. */
export function decodeChunk({ encoding, bytes, start, end }: ChunkBytes, sink: SampleColumns): void {
  if (encoding === ENCODING_XOR) {
    const count = end - start < 2 ? 0 : chunkCount(encoding, bytes, start)
    sink.reserve(count)
    decodeXorWords(bytes, start, end, sink.times, sink.words, sink.count)
    sink.advance(count)
  } else if (encoding === ENCODING_XOR2) {
    const reader = new Xor2ChunkReader(bytes, start, end)
    while (reader.next()) sink.pushBits(reader.time, reader.low, reader.high, reader.start)
  } else if (isHistogramEncoding(encoding)) {
    const reader = new HistogramChunkReader(encoding, bytes, start, end)
    while (reader.next()) sink.pushHistogram(reader.time, reader.histogram(), reader.start)
  } else throw new CorruptError('err-carillon-corrupt', `a chunk has encoding ${encoding}, which is none`)
}
