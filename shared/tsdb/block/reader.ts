// Reads a block.
import type { Matcher } from '../../model/matcher.ts'
import type { BlockFiles } from './files.ts'
import type { BlockMeta } from './meta.ts'
import type { BlockRange, BlockSeries, BlockSeriesLabels, ReadCall } from './series.ts'

export class BlockReader {
  static async open(_files: BlockFiles, _meta: BlockMeta, _call: ReadCall = {}): Promise<BlockReader> {
    throw new Error('to come within the hour')
  }

  /** The series that pass all matchers and have chunks in the range, with those chunks whole: batches in the order of labels. */
  select(_matchers: readonly Matcher[], _range: BlockRange, _call: ReadCall = {}): AsyncIterable<BlockSeries[]> {
    throw new Error('to come within the hour')
  }

  /** The same without chunks. */
  series(_matchers: readonly Matcher[], _range: BlockRange, _call: ReadCall = {}): AsyncIterable<BlockSeriesLabels[]> {
    throw new Error('to come within the hour')
  }

  /** Every series with all chunks in the order of labels, read from start to end. */
  allSeries(_call: ReadCall = {}): AsyncIterable<BlockSeries[]> {
    throw new Error('to come within the hour')
  }

  /** Sorted by bytes. */
  async labelNames(_matchers: readonly Matcher[], _range: BlockRange, _call: ReadCall = {}): Promise<string[]> {
    throw new Error('to come within the hour')
  }

  /** Sorted by bytes. */
  async labelValues(
    _name: string,
    _matchers: readonly Matcher[],
    _range: BlockRange,
    _call: ReadCall = {},
  ): Promise<string[]> {
    throw new Error('to come within the hour')
  }

  /** What the reader keeps in memory between reads. */
  get bytes(): number {
    return 0
  }
}
