// Merges blocks into one, or into one per aggregate of windows: series by series in the order of labels, so that memory holds one series,
// a few reads per source, and the index of what is being written.
//
// Invariants
//   MERGE-1  Every sample of every source comes out, unless another source has one of the same time that is greater or equal (LOG-11), or it is
//       left out by a removal or a keep; the counts of the report add up to what was read.
//   MERGE-2  What is written depends on the sources' samples and the job alone.
import { assert } from '../../../shared/base/assert.ts'
import type { Interval } from '../../../shared/model/interval.ts'
import { compareLabels, type Labels } from '../../../shared/model/labels.ts'
import type { BlockChunk, BlockSeries } from '../../../shared/tsdb/block/series.ts'
import { BlockWriter } from '../../../shared/tsdb/block/writer.ts'
import { SampleColumns } from '../../../shared/tsdb/columns.ts'
import { pushVisible, reachOf } from '../../../shared/tsdb/delete-filter.ts'
import type { MergeIo, MergeJob, MergeOutput, MergeReport, OutputName } from '../worker/merge-job.ts'
import { windowsOf } from './downsample.ts'
import { passable, SeriesMerger } from './merge-series.ts'
import { leftOut } from './sample-filter.ts'
import { SourceCursor } from './source-cursor.ts'

const NOTHING: readonly Interval[] = []

export async function mergeBlocks(job: MergeJob, io: MergeIo, signal: AbortSignal): Promise<MergeReport> {
  const cpuBefore = process.threadCpuUsage()
  const merge = new Merge(job, io)
  const cursors: SourceCursor[] = []
  try {
    for (const source of job.sources) cursors.push(await SourceCursor.open(source, io, signal))
    let live = cursors.filter(({ series }) => series !== undefined)
    while (live.length > 0) {
      signal.throwIfAborted()
      const found = smallest(live)
      merge.add(found)
      const backlog = merge.backlog()
      if (backlog !== undefined) await backlog
      for (const cursor of found) {
        const waiting = cursor.advance()
        if (waiting !== undefined) await waiting
      }
      if (found.some(({ series }) => series === undefined)) live = live.filter(({ series }) => series !== undefined)
    }
    const { user, system } = process.threadCpuUsage(cpuBefore)
    return await merge.finish((user + system) / 1e6)
  } finally {
    await Promise.all(cursors.map((cursor) => cursor.close()))
  }
}

/** The cursors that stand on the first series in the order of labels. */
function smallest(cursors: readonly SourceCursor[]): SourceCursor[] {
  let found: SourceCursor[] = [cursors[0]!]
  let best = cursors[0]!.series!
  for (let i = 1; i < cursors.length; i++) {
    const cursor = cursors[i]!
    const series = cursor.series!
    const order = isSameSeries(series, best) ? 0 : compareLabels(series.labels, best.labels)
    if (order > 0) continue
    if (order < 0) {
      found = []
      best = series
    }
    found.push(cursor)
  }
  return found
}

/** Label sets are mostly the same ones: told by the hash, then made sure. */
function isSameSeries(a: BlockSeries, b: BlockSeries): boolean {
  if (a.hashA !== b.hashA || a.hashB !== b.hashB || a.labels.length !== b.labels.length) return false
  for (let i = 0; i < a.labels.length; i++) if (a.labels[i] !== b.labels[i]) return false
  return true
}

class Merge {
  private readonly job: MergeJob
  private readonly io: MergeIo
  /** Made with their first series: a block without any is none. */
  private readonly writers = new Map<OutputName, BlockWriter>()
  private readonly spansOf: (labels: Labels) => readonly Interval[]
  private readonly merger = new SeriesMerger()
  private readonly kept = new SampleColumns(1024)
  private samplesIn = 0
  private samplesOut = 0
  private duplicates = 0
  private removed = 0
  private seriesCount = 0
  private chunksIn = 0
  private chunksPassed = 0

  constructor(job: MergeJob, io: MergeIo) {
    this.job = job
    this.io = io
    const { removals, keeps } = job
    this.spansOf = removals.length + keeps.length === 0 ? () => NOTHING : leftOut(removals, keeps)
  }

  /** One series, on which all of the cursors stand. */
  add(cursors: readonly SourceCursor[]): void {
    const { labels } = cursors[0]!.series!
    const chunksOf = cursors.map(({ series }) => series!.chunks)
    let samples = 0
    let minTime = Number.POSITIVE_INFINITY
    let maxTime = Number.NEGATIVE_INFINITY
    for (const chunks of chunksOf) {
      for (const chunk of chunks) {
        samples += chunk.count
        minTime = Math.min(minTime, chunk.minTime)
        maxTime = Math.max(maxTime, chunk.maxTime)
      }
      this.chunksIn += chunks.length
    }
    this.samplesIn += samples
    const spans = this.spansOf(labels)
    const isTouched = reachOf(spans, minTime, maxTime) !== 'none'
    const chunks = isTouched || this.job.resolutionMs > 0 ? undefined : passable(chunksOf)
    if (chunks === undefined) this.addSamples(labels, this.merged(cursors), samples, isTouched ? spans : NOTHING)
    else if (chunks.length > 0) this.pass(labels, chunks, samples)
  }

  private writerOf(name: OutputName): BlockWriter {
    let writer = this.writers.get(name)
    if (writer === undefined) {
      writer = new BlockWriter({ onFile: (file, bytes) => this.io.write(name, file, bytes) })
      this.writers.set(name, writer)
    }
    return writer
  }

  private merged(cursors: readonly SourceCursor[]): SampleColumns {
    return this.merger.merge(
      cursors.map(({ series }) => series!.chunks),
      cursors.map(({ ulid }) => ulid),
    )
  }

  private pass(labels: Labels, chunks: readonly BlockChunk[], samples: number): void {
    this.writerOf('raw').addChunks(labels, chunks)
    this.chunksPassed += chunks.length
    this.samplesOut += samples
    this.seriesCount++
  }

  private addSamples(labels: Labels, merged: SampleColumns, samples: number, spans: readonly Interval[]): void {
    this.duplicates += samples - merged.count
    let left = merged
    if (spans.length > 0) {
      this.kept.clear()
      pushVisible(merged.asRun(), spans, this.kept)
      left = this.kept
      this.removed += merged.count - left.count
    }
    if (left.count === 0) return
    this.samplesOut += left.count
    this.seriesCount++
    if (this.job.resolutionMs === 0) this.writerOf('raw').addSeries(labels, left.asRun())
    else {
      for (const [aggregate, run] of windowsOf(left.asRun(), this.job.resolutionMs)) {
        if (run.end > run.start) this.writerOf(aggregate).addSeries(labels, run)
      }
    }
  }

  backlog(): Promise<unknown> | undefined {
    let waiting: Promise<void>[] | undefined
    for (const writer of this.writers.values()) {
      const backlog = writer.backlog()
      if (backlog !== undefined) waiting = [...(waiting ?? []), backlog]
    }
    return waiting && Promise.all(waiting)
  }

  async finish(cpuSeconds: number): Promise<MergeReport> {
    const outputs: MergeOutput[] = []
    for (const [name, writer] of this.writers) outputs.push({ name, stats: await writer.finish() })
    const { samplesIn, duplicates, removed, seriesCount, chunksPassed, chunksIn } = this
    assert(samplesIn === this.samplesOut + duplicates + removed, 'samples came in that did not come out') // MERGE-1
    if (this.job.resolutionMs === 0) {
      const written = outputs[0]?.stats.sampleCount ?? 0
      assert(written === this.samplesOut, `${this.samplesOut} samples were given to the writer, it wrote ${written}`)
    }
    return { outputs, samplesIn, duplicates, removed, seriesCount, chunksPassed, chunksIn, cpuSeconds }
  }
}
