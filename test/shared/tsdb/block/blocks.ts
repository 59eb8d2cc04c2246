// Blocks for tests: made in memory, read back as plain samples.
import type { Histogram } from '../../../../shared/model/histogram.ts'
import { compareLabels, type Labels } from '../../../../shared/model/labels.ts'
import { decodeBlockChunk } from '../../../../shared/tsdb/block/chunk-samples.ts'
import { type BlockFiles, META_FILE, memoryFiles } from '../../../../shared/tsdb/block/files.ts'
import { type BlockMeta, type BlockStats, blockMeta, metaBytes } from '../../../../shared/tsdb/block/meta.ts'
import { BlockReader } from '../../../../shared/tsdb/block/reader.ts'
import type { BlockSeries } from '../../../../shared/tsdb/block/series.ts'
import { BlockWriter } from '../../../../shared/tsdb/block/writer.ts'
import { SampleColumns } from '../../../../shared/tsdb/columns.ts'

export const TENANT = 'team-a'
export const EVER = { startMs: Number.NEGATIVE_INFINITY, endMs: Number.POSITIVE_INFINITY }

export interface Sample {
  readonly time: number
  readonly low: number
  readonly high: number
  readonly histogram?: Histogram | undefined
  readonly startTime?: number
}

export interface Series {
  readonly labels: Labels
  readonly samples: readonly Sample[]
}

export interface Block {
  readonly bytes: ReadonlyMap<string, Uint8Array>
  readonly files: BlockFiles
  readonly meta: BlockMeta
  readonly stats: BlockStats
}

const scratch = new Float64Array(1)
const scratchWords = new Uint32Array(scratch.buffer)

export function floatAt(time: number, value: number): Sample {
  scratch[0] = value
  return { time, low: scratchWords[0]!, high: scratchWords[1]! }
}

export function columnsOf(samples: readonly Sample[]): SampleColumns {
  const columns = new SampleColumns()
  for (const { time, low, high, histogram, startTime } of samples) {
    if (histogram === undefined) columns.pushBits(time, low, high, startTime)
    else columns.pushHistogram(time, histogram, startTime)
  }
  return columns
}

export async function buildBlock(series: readonly Series[], chunkFileBytesMax?: number): Promise<Block> {
  const bytes = new Map<string, Uint8Array>()
  const writer = new BlockWriter({
    onFile: (name, file) => void bytes.set(name, file),
    ...(chunkFileBytesMax === undefined ? {} : { chunkFileBytesMax }),
  })
  const sorted = [...series].sort((a, b) => compareLabels(a.labels, b.labels))
  for (const { labels, samples } of sorted) writer.addSeries(labels, columnsOf(samples).asRun())
  const stats = await writer.finish()
  return finished(bytes, stats)
}

export function finished(bytes: Map<string, Uint8Array>, stats: BlockStats): Block {
  const meta = blockMeta({ tenant: TENANT, stats, origin: { kind: 'flush', partition: 3, segment: 7 }, level: 1 })
  bytes.set(META_FILE, metaBytes(meta))
  return { bytes, files: memoryFiles(bytes), meta, stats }
}

export function samplesOf({ chunks }: BlockSeries): Sample[] {
  const columns = new SampleColumns()
  for (const chunk of chunks) decodeBlockChunk(chunk, columns)
  return Array.from({ length: columns.count }, (_, i) => ({
    time: columns.times[i]!,
    low: columns.words[2 * i]!,
    high: columns.words[2 * i + 1]!,
    histogram: columns.histograms?.[i],
  }))
}

export async function allOf(batches: AsyncIterable<BlockSeries[]>): Promise<Series[]> {
  const all: Series[] = []
  for await (const batch of batches) for (const one of batch) all.push({ labels: one.labels, samples: samplesOf(one) })
  return all
}

export async function readBlock({ files, meta }: Pick<Block, 'files' | 'meta'>): Promise<Series[]> {
  return allOf((await BlockReader.open(files, meta)).allSeries())
}

/** A histogram with counts from bucket `offset` on. */
export function histogram(counts: readonly number[], over: Partial<Histogram> & { offset?: number } = {}): Histogram {
  const { offset = 0, ...rest } = over
  return {
    isFloat: false,
    resetHint: 'unknown',
    schema: 1,
    zeroThreshold: 2 ** -128,
    zeroCount: 0,
    count: counts.reduce((a, b) => a + b, 0),
    sum: counts.length * 1.5,
    positiveSpans: counts.length > 0 ? [{ offset, length: counts.length }] : [],
    positiveBuckets: counts,
    negativeSpans: [],
    negativeBuckets: [],
    customValues: [],
    ...rest,
  }
}
