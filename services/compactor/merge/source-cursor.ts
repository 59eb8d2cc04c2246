// Walks the series of one source block in order, one batch ahead of whoever reads.
import { CorruptError } from '../../../shared/base/errors.ts'
import { BlockReader } from '../../../shared/tsdb/block/reader.ts'
import type { BlockSeries } from '../../../shared/tsdb/block/series.ts'
import { DamagedSourceError, type MergeIo, type MergeSource } from '../worker/merge-job.ts'

export class SourceCursor {
  /** The series that it stands on; undefined behind the last. */
  series: BlockSeries | undefined
  samplesRead = 0
  private readonly source: MergeSource
  private readonly batches: AsyncIterator<BlockSeries[]>
  private coming: Promise<IteratorResult<BlockSeries[]>>
  private batch: readonly BlockSeries[] = []
  private at = 0

  private constructor(source: MergeSource, batches: AsyncIterator<BlockSeries[]>) {
    this.source = source
    this.batches = batches
    this.coming = this.ahead()
  }

  static async open(
    source: MergeSource,
    io: Pick<MergeIo, 'size' | 'read'>,
    signal: AbortSignal,
  ): Promise<SourceCursor> {
    const { ulid, meta } = source
    const files = {
      size: (file: string) => io.size(ulid, file),
      read: (file: string, start: number, end: number) => io.read(ulid, file, start, end),
    }
    try {
      const reader = await BlockReader.open(files, meta, { signal })
      const cursor = new SourceCursor(source, reader.allSeries({ signal })[Symbol.asyncIterator]())
      await cursor.nextBatch()
      return cursor
    } catch (error) {
      throw named(ulid, error)
    }
  }

  get ulid(): string {
    return this.source.ulid
  }

  /** Moves to the next series; a promise where a batch has to be waited for. */
  advance(): Promise<void> | undefined {
    this.at++
    this.series = this.batch[this.at]
    return this.series === undefined ? this.nextBatch() : undefined
  }

  /** Gives up what is being read. */
  async close(): Promise<void> {
    await this.coming.catch(() => {}) // what it would say was said, or no longer matters
    await this.batches.return?.()
  }

  private async nextBatch(): Promise<void> {
    try {
      do {
        const { done, value } = await this.coming
        if (done) return this.end()
        this.batch = value
        this.at = 0
        this.coming = this.ahead()
      } while (this.batch.length === 0)
    } catch (error) {
      throw named(this.source.ulid, error)
    }
    this.series = this.batch[0]
    for (const { chunks } of this.batch) for (const { count } of chunks) this.samplesRead += count
  }

  private end(): void {
    this.batch = []
    this.series = undefined
    const { ulid, sampleCount } = this.source
    if (this.samplesRead !== sampleCount) {
      throw new DamagedSourceError(ulid, `it holds ${this.samplesRead} samples where ${sampleCount} are listed`)
    }
  }

  private ahead(): Promise<IteratorResult<BlockSeries[]>> {
    const coming = this.batches.next()
    coming.catch(() => {}) // heard by whoever awaits it
    return coming
  }
}

/** Damage of a source, named. */
export function named(ulid: string, error: unknown): unknown {
  if (error instanceof DamagedSourceError || !(error instanceof CorruptError)) return error
  return new DamagedSourceError(ulid, error.message, { cause: error })
}
