// Blocks in memory, random samples, and a merge that is too simple to be wrong.
import fc from 'fast-check'
import { mergeBlocks } from '../../../services/compactor/merge/merge-blocks.ts'
import type { MergeJob, MergeReport, MergeSource, OutputName } from '../../../services/compactor/worker/merge-job.ts'
import type { Histogram } from '../../../shared/model/histogram.ts'
import { compareLabels, type Labels, labelsFrom, labelsKey } from '../../../shared/model/labels.ts'
import { compareValueBits, STALE_HIGH, STALE_LOW } from '../../../shared/model/sample.ts'
import { decodeBlockChunk } from '../../../shared/tsdb/block/chunk-samples.ts'
import { memoryFiles } from '../../../shared/tsdb/block/files.ts'
import { type BlockMeta, blockMeta } from '../../../shared/tsdb/block/meta.ts'
import { BlockReader } from '../../../shared/tsdb/block/reader.ts'
import { BlockWriter } from '../../../shared/tsdb/block/writer.ts'
import { SampleColumns } from '../../../shared/tsdb/columns.ts'
import { canonicalBytes, compareHistograms } from '../../../shared/tsdb/histogram-order.ts'

/** A float as its two words, or a histogram. */
export type Value = { readonly low: number; readonly high: number } | Histogram
export interface Sample {
  readonly time: number
  readonly value: Value
  /** 0 or left out: unknown. */
  readonly startTime?: number
}
export type SeriesMap = Map<string, { readonly labels: Labels; readonly samples: readonly Sample[] }>

export interface TestBlock {
  readonly meta: BlockMeta
  readonly files: Map<string, Uint8Array>
}

const float = new Float64Array(1)
const words = new Uint32Array(float.buffer)

export function floatValue(value: number): Value {
  float[0] = value
  return { low: words[0]!, high: words[1]! }
}
export const stale: Value = { low: STALE_LOW, high: STALE_HIGH }

export const isHistogram = (value: Value): value is Histogram => 'schema' in value

export async function writeBlock(series: SeriesMap, segment = 1): Promise<TestBlock> {
  const files = new Map<string, Uint8Array>()
  const writer = new BlockWriter({ onFile: (name, bytes) => void files.set(name, bytes), chunkFileBytesMax: 4096 })
  const sorted = [...series.values()].sort((a, b) => compareLabels(a.labels, b.labels))
  for (const { labels, samples } of sorted) {
    const columns = new SampleColumns(16)
    for (const { time, value, startTime } of samples) {
      if (isHistogram(value)) columns.pushHistogram(time, value, startTime)
      else columns.pushBits(time, value.low, value.high, startTime)
    }
    writer.addSeries(labels, columns.asRun())
  }
  const stats = await writer.finish()
  const meta = blockMeta({ tenant: 'acme', stats, origin: { kind: 'flush', partition: 0, segment }, level: 1 })
  return { meta, files }
}

/** What a block holds, by the labels' key. */
export async function readBlock({ meta, files }: TestBlock): Promise<SeriesMap> {
  const reader = await BlockReader.open(memoryFiles(files), meta)
  const found: SeriesMap = new Map()
  for await (const batch of reader.allSeries()) {
    for (const { labels, chunks } of batch) {
      const columns = new SampleColumns(128)
      for (const chunk of chunks) decodeBlockChunk(chunk, columns)
      const samples = Array.from({ length: columns.count }, (_, i): Sample => {
        const value = columns.histograms?.[i] ?? { low: columns.words[2 * i]!, high: columns.words[2 * i + 1]! }
        const startTime = columns.startTimes?.[i] ?? 0
        return { time: columns.times[i]!, value, ...(startTime !== 0 && { startTime }) }
      })
      found.set(labelsKey(labels), { labels, samples })
    }
  }
  return found
}

/** Values as text, reset hints left out: those are computed again by whoever merges. */
export function textOf(value: Value): string {
  if (!isHistogram(value)) return `${value.high}:${value.low}`
  const resetHint = value.resetHint === 'gauge' ? 'gauge' : 'unknown'
  return Buffer.from(canonicalBytes({ ...value, resetHint })).toString('hex')
}

export function plainOf(series: SeriesMap): Record<string, string[]> {
  const rows = [...series].map(([key, { samples }]) => [
    key,
    samples.map(({ time, value, startTime = 0 }) => `${time} from ${startTime} ${textOf(value)}`),
  ])
  return Object.fromEntries(rows.sort(([a], [b]) => ((a as string) < (b as string) ? -1 : 1)))
}

export function naiveMerge(blocks: readonly SeriesMap[]): SeriesMap {
  const merged: SeriesMap = new Map()
  for (const block of blocks) {
    for (const [key, { labels, samples }] of block) {
      const byTime = new Map((merged.get(key)?.samples ?? []).map((sample) => [sample.time, sample]))
      for (const sample of samples) {
        const before = byTime.get(sample.time)
        if (before === undefined || isGreater(sample, before)) byTime.set(sample.time, sample)
      }
      merged.set(key, { labels, samples: [...byTime.values()].sort((a, b) => a.time - b.time) })
    }
  }
  return merged
}

function isGreater({ value: a, startTime: aStart = 0 }: Sample, { value: b, startTime: bStart = 0 }: Sample): boolean {
  const later = aStart - bStart
  if (isHistogram(a)) return !isHistogram(b) || (compareHistograms(a, b) || later) > 0
  return !isHistogram(b) && (compareValueBits(a.high, a.low, b.high, b.low) || later) > 0
}

export async function mergeInMemory(
  blocks: readonly TestBlock[],
  change: Partial<MergeJob> = {},
): Promise<{ report: MergeReport; results: Map<OutputName, TestBlock> }> {
  const sources = blocks.map(
    ({ meta }): MergeSource => ({ ulid: meta.ulid, meta, sampleCount: meta.stats.numSamples ?? 0 }),
  )
  const byName = new Map(blocks.map(({ meta, files }) => [meta.ulid, memoryFiles(files)]))
  const written = new Map<OutputName, Map<string, Uint8Array>>()
  const report = await mergeBlocks(
    { sources, removals: [], keeps: [], resolutionMs: 0, ...change },
    {
      size: (ulid, file) => byName.get(ulid)!.size(file),
      read: (ulid, file, start, end) => byName.get(ulid)!.read(file, start, end),
      async write(output, file, bytes) {
        const files = written.get(output) ?? new Map<string, Uint8Array>()
        written.set(output, files.set(file, bytes))
      },
    },
    new AbortController().signal,
  )
  const results = new Map(
    report.outputs.map(({ name, stats }) => {
      const meta = blockMeta({ tenant: 'acme', stats, origin: { kind: 'compaction' }, level: 2 })
      return [name, { meta, files: written.get(name)! }] as const
    }),
  )
  return { report, results }
}

// ---- random data ----

const anyFloat = fc.oneof(
  fc.double({ noNaN: true }).map(floatValue),
  fc.integer({ min: 0, max: 5 }).map(floatValue),
  fc.constantFrom(stale, floatValue(Number.NaN), floatValue(-0), floatValue(0), floatValue(Number.POSITIVE_INFINITY)),
)

export function histogramOf(counts: readonly number[], change: Partial<Histogram> = {}): Histogram {
  return {
    ...{ isFloat: false, resetHint: 'unknown', schema: 0, zeroThreshold: 0, zeroCount: 0 },
    count: counts.reduce((sum, count) => sum + count, 0),
    sum: counts.length,
    positiveSpans: counts.length === 0 ? [] : [{ offset: 0, length: counts.length }],
    positiveBuckets: counts,
    ...{ negativeSpans: [], negativeBuckets: [], customValues: [] },
    ...change,
  }
}

const anyHistogram = fc
  .record({
    counts: fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 3 }),
    isFloat: fc.boolean(),
    resetHint: fc.constantFrom('unknown', 'unknown', 'reset', 'gauge'),
    schema: fc.constantFrom(0, 1),
  })
  .map(({ counts, ...rest }) => histogramOf(counts, rest as Partial<Histogram>))

/** Mostly of one kind, as series are. */
const anySamples = fc.constantFrom('float', 'float', 'histogram', 'both').chain((kind) => {
  const value = kind === 'float' ? anyFloat : kind === 'histogram' ? anyHistogram : fc.oneof(anyFloat, anyHistogram)
  return fc
    .record({
      start: fc.integer({ min: 0, max: 400 }),
      steps: fc.array(fc.record({ step: fc.integer({ min: 1, max: 3 }), value }), { minLength: 1, maxLength: 300 }),
      startTimes: fc.constantFrom([0], [0], [1_699_999_999_999], [0, 0, 5, 1_700_000_000_000]),
    })
    .map(({ start, steps, startTimes }) => {
      let time = 1_700_000_000_000 + start * 1000
      return steps.map(({ step, value: of }, i): Sample => {
        time += step * 1000
        return { time, value: of, startTime: startTimes[i % startTimes.length]! }
      })
    })
})

const anyLabels = fc
  .uniqueArray(fc.constantFrom('a', 'b', 'é', 'Z', '__name__'), { minLength: 1, maxLength: 3 })
  .chain((names) =>
    fc.tuple(...names.map((name) => fc.constantFrom('1', '2', '𝒳').map((value) => [name, value] as const))),
  )
  .map((pairs) => labelsFrom(pairs))

export const anyBlock: fc.Arbitrary<SeriesMap> = fc
  .array(fc.tuple(anyLabels, anySamples), { minLength: 1, maxLength: 6 })
  .map((list) => new Map(list.map(([labels, samples]) => [labelsKey(labels), { labels, samples }])))
