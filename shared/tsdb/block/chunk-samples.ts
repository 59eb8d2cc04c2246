// Decodes a chunk of a block: as a check of its times, or for its samples.
import { CorruptError } from '../../base/errors.ts'
import { isStorableHistogram } from '../../model/histogram.ts'
import { SampleColumns } from '../columns.ts'
import { decodeChunk } from '../decode.ts'
import type { BlockChunk } from './series.ts'

/** Appends all samples of a chunk to the sink. Throws CorruptError. */
export function decodeBlockChunk({ encoding, bytes }: BlockChunk, sink: SampleColumns): void {
  decodeChunk({ encoding, bytes, start: 0, end: bytes.length }, sink)
}

const columns = new SampleColumns(128)

/** What is wrong with a chunk's samples, if anything: they cannot be decoded, do not rise, or do not have the times that the index says; or they
 *  are what no chunk of ours could keep (model/sample.ts), where that is asked. */
export function chunkFault(chunk: BlockChunk, mustBeStorable = false): string | undefined {
  columns.clear()
  try {
    decodeBlockChunk(chunk, columns)
  } catch (error) {
    if (error instanceof CorruptError) return `cannot be read: ${error.message}`
    throw error
  }
  const { times, count, histograms } = columns
  if (count === 0) return 'holds no samples'
  for (let i = 1; i < count; i++) if (!(times[i]! > times[i - 1]!)) return 'holds samples that do not rise in time'
  if (mustBeStorable && histograms?.some((each) => each !== undefined && !isStorableHistogram(each)))
    return 'holds a histogram whose counts or spans are beyond what can be kept'
  if (times[0] === chunk.minTime && times[count - 1] === chunk.maxTime) return undefined
  return `has other times than the index says: ${times[0]} to ${times[count - 1]}`
}
