// One series out of the sources that hold it: its chunks as they are where that is as good, else its samples, merged.
//
// Chunks go over untouched when none overlaps another and they are about as few as 120 samples in each would need; then nothing is
// decoded. Otherwise all samples are, merge by the total order (LOG-11), and are cut into chunks anew by the writer.
import { SAMPLES_PER_CHUNK } from '../../../shared/tsdb/block/chunk-cutting.ts'
import { decodeBlockChunk } from '../../../shared/tsdb/block/chunk-samples.ts'
import type { BlockChunk } from '../../../shared/tsdb/block/series.ts'
import { counterFlagOf } from '../../../shared/tsdb/chunk/histogram.ts'
import { SampleColumns } from '../../../shared/tsdb/columns.ts'
import { isFloatEncoding } from '../../../shared/tsdb/decode.ts'
import { mergeRuns } from '../../../shared/tsdb/merge.ts'
import { DamagedSourceError } from '../worker/merge-job.ts'
import { named } from './source-cursor.ts'

/** Chunks above what full ones would need, before a series is cut anew. */
const LOOSE = 1.2
/** The two bits in a histogram chunk's header; 0 is unknown, 3 a gauge. */
const HINT_NO_RESET = 1
const HINT_RESET = 2

interface Placed {
  readonly chunk: BlockChunk
  readonly source: number
}

/** All chunks in time order when they may stay as they are; undefined when the samples have to be merged. */
export function passable(chunksOf: readonly (readonly BlockChunk[])[]): readonly BlockChunk[] | undefined {
  const all: Placed[] = []
  for (let source = 0; source < chunksOf.length; source++)
    for (const chunk of chunksOf[source]!) all.push({ chunk, source })
  if (!isTight(all)) return undefined
  all.sort((a, b) => a.chunk.minTime - b.chunk.minTime)
  const seen = new Set<number>()
  for (let i = 0; i < all.length; i++) {
    const { chunk, source } = all[i]!
    const before = all[i - 1]
    if (before !== undefined) {
      if (chunk.minTime <= before.chunk.maxTime) return undefined
      if (before.source !== source && isHintWrong(chunk, seen.has(source))) return undefined
    }
    seen.add(source)
  }
  return all.map(({ chunk }) => chunk)
}

function isTight(all: readonly Placed[]): boolean {
  let floats = 0
  let chunksOfFloats = 0
  for (const { chunk } of all) {
    if (!isFloatEncoding(chunk.encoding)) continue // histograms are cut where their layout changes
    floats += chunk.count
    chunksOfFloats++
  }
  return chunksOfFloats <= Math.max(1, Math.ceil(floats / SAMPLES_PER_CHUNK) * LOOSE)
}

/** What a chunk says of the sample before it is said of its own source's, which is not the one that comes before it now. A reset at the
 *  start of a source is said of what that source does not hold, and stays. */
function isHintWrong({ encoding, bytes }: BlockChunk, hasBegun: boolean): boolean {
  if (isFloatEncoding(encoding)) return false
  const hint = counterFlagOf(encoding, bytes, 0)
  return hint === HINT_NO_RESET || (hint === HINT_RESET && hasBegun)
}

/** Decodes and merges series; keeps its columns between calls. A result is valid until the next. */
export class SeriesMerger {
  /** One for each row of sources that follow each other in time. */
  private readonly rows: SampleColumns[] = []
  private readonly merged = new SampleColumns(1024)

  /** Of each source the chunks in time order. Throws DamagedSourceError. */
  merge(chunksOf: readonly (readonly BlockChunk[])[], ulids: readonly string[]): SampleColumns {
    const used: SampleColumns[] = []
    for (const index of byStart(chunksOf)) {
      const chunks = chunksOf[index]!
      if (chunks.length === 0) continue
      const row = this.rowFor(used, chunks[0]!.minTime)
      decodeSource(chunks, row, ulids[index]!)
    }
    this.merged.clear()
    if (used.length < 2) return used[0] ?? this.merged
    mergeRuns(
      used.map((row) => row.asRun()),
      this.merged,
    )
    return this.merged
  }

  /** A row that ends before this time, else a new one. */
  private rowFor(used: SampleColumns[], startMs: number): SampleColumns {
    for (const row of used) if (row.times[row.count - 1]! < startMs) return row
    this.rows[used.length] ??= new SampleColumns(1024)
    const row = this.rows[used.length]!
    row.clear()
    used.push(row)
    return row
  }
}

/** The sources in the order of their first samples. */
function byStart(chunksOf: readonly (readonly BlockChunk[])[]): number[] {
  const startOf = (index: number): number => chunksOf[index]![0]?.minTime ?? 0
  return chunksOf.map((_, index) => index).sort((a, b) => startOf(a) - startOf(b))
}

function decodeSource(chunks: readonly BlockChunk[], row: SampleColumns, ulid: string): void {
  const from = row.count
  try {
    for (const chunk of chunks) decodeBlockChunk(chunk, row)
  } catch (error) {
    throw named(ulid, error)
  }
  const { times, count } = row
  for (let i = Math.max(1, from); i < count; i++) {
    if (times[i]! <= times[i - 1]!) throw new DamagedSourceError(ulid, 'the times of a series do not rise')
  }
}
