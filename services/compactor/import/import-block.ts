// Takes in a block that was made elsewhere: looks at every byte of it, then writes it anew, in chunk files of our size, cut at aligned times.
//
// Invariants
//   IMPORT-1  Nothing is written before the whole block was found sound.
//   IMPORT-2  Every sample comes out once, unless a tombstone of the block takes it; chunks go over as they are where they may.
//   IMPORT-3  Every output lies within one aligned range, so that compaction never has to cut one.
//   IMPORT-4  What comes out is bounded by what came: GROWTH_MAX times as much, and FREE_BYTES for each output.
import { assert } from '../../../shared/base/assert.ts'
import { RefusedError } from '../../../shared/base/errors.ts'
import { assertNotTooOld } from '../../../shared/blocks/upload-age.ts'
import { checkLabels } from '../../../shared/model/label-rules.ts'
import type { Labels } from '../../../shared/model/labels.ts'
import { isStorableTime } from '../../../shared/model/sample.ts'
import { decodeBlockChunk } from '../../../shared/tsdb/block/chunk-samples.ts'
import { type BlockFiles, META_FILE, readExactly, TOMBSTONES_FILE } from '../../../shared/tsdb/block/files.ts'
import { type BlockMeta, parseMeta, windowMsOf } from '../../../shared/tsdb/block/meta.ts'
import { BlockReader } from '../../../shared/tsdb/block/reader.ts'
import type { BlockChunk, BlockSeries } from '../../../shared/tsdb/block/series.ts'
import { readTombstones, type Tombstone } from '../../../shared/tsdb/block/tombstones.ts'
import { type BlockProblem, verifyBlock } from '../../../shared/tsdb/block/verify.ts'
import { BlockWriter } from '../../../shared/tsdb/block/writer.ts'
import { SampleColumns } from '../../../shared/tsdb/columns.ts'
import { isFloatEncoding } from '../../../shared/tsdb/decode.ts'
import { pushVisible, reachOf } from '../../../shared/tsdb/delete-filter.ts'
import { passable } from '../merge/merge-series.ts'
import type { ImportIo, ImportJob, ImportReport } from '../worker/import-job.ts'
import { externalLabelsOf, LabelAdder, withExternal } from './external-labels.ts'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
/** Widths of aligned ranges: the first that holds all of a block, else days, else four weeks. */
const WIDTHS_MS = [2 * HOUR_MS, 12 * HOUR_MS, DAY_MS]
const WIDE_MS = 28 * DAY_MS
/** Outputs that are written at the same time: each holds a chunk file and an index in memory. */
const OUTPUTS_MAX = 64
const PROBLEMS_TOLD = 10
/** Labels stand in every output: series with a sample an hour, cut into days, grow five times. */
const GROWTH_MAX = 8
const FREE_BYTES = 256 * 1024

const NO_STONES: readonly Tombstone[] = []

export async function importBlock(job: ImportJob, io: ImportIo, signal: AbortSignal): Promise<ImportReport> {
  const cpuBefore = process.threadCpuUsage()
  const files: BlockFiles = {
    size: (file) => io.size(job.ulid, file),
    read: (file, start, end) => io.read(job.ulid, file, start, end),
  }
  await assertSound(files, signal) // IMPORT-1
  const metaJson = await readExactly(files, META_FILE, 0, await files.size(META_FILE))
  const meta = parseMeta(metaJson)
  assertFits(meta, metaJson, job)
  const external = externalLabelsOf(metaJson)
  const stones = job.hasTombstones ? await stonesOf(files) : new Map<number, Tombstone[]>()
  const reader = await BlockReader.open(files, meta, { signal })
  await assertLabels(reader, external, job, signal) // IMPORT-1
  const widthMs = widthOf(meta)
  const cut = new Cut(widthMs, GROWTH_MAX * job.bytes + FREE_BYTES * rangesIn(meta, widthMs), io)
  const adder = LabelAdder.of<BlockSeries>(external, (series) => cut.add(series, stones.get(series.ref) ?? NO_STONES))
  for await (const batch of reader.allSeries({ signal })) {
    for (const series of batch) {
      adder.add(series)
      const backlog = cut.backlog()
      if (backlog !== undefined) await backlog
    }
    signal.throwIfAborted()
  }
  adder.end()
  const outputs = await cut.finish()
  const { user, system } = process.threadCpuUsage(cpuBefore)
  const { samplesIn, removed } = cut
  return { meta, outputs, samplesIn, removed, cpuSeconds: (user + system) / 1e6 }
}

async function assertSound(files: BlockFiles, signal: AbortSignal): Promise<void> {
  const problems: BlockProblem[] = []
  let count = 0
  for await (const problem of verifyBlock(files, { signal, mustBeStorable: true })) {
    count++
    if (problems.length < PROBLEMS_TOLD) problems.push(problem)
  }
  if (count === 0) return
  const told = problems.map(({ file, offset, text }) => `${file || 'block'} at byte ${offset}: ${text}`).join('; ')
  const more = count > problems.length ? `; and ${count - problems.length} more` : ''
  const isOutOfOrder = problems.every(({ text }) => /overlaps the one before|out of order|is not behind/.test(text))
  throw new RefusedError(isOutOfOrder ? 'err-carillon-upload-out-of-order' : 'err-carillon-upload-damaged', told + more)
}

function assertFits(meta: BlockMeta, metaJson: Uint8Array, { ulid, latestMs, earliestMs }: ImportJob): void {
  if (meta.ulid !== ulid)
    throw new RefusedError(
      'err-carillon-upload-ulid',
      `meta.json is that of block ${meta.ulid}, the upload is of ${ulid}`,
    )
  if ((meta.stats.numSamples ?? 0) === 0)
    throw new RefusedError('err-carillon-upload-empty', 'the block holds no samples')
  if (windowMsOf(meta, metaJson) > 0) {
    const text = 'the block holds windows instead of samples: upload the blocks that it was made of'
    throw new RefusedError('err-carillon-upload-downsampled', text)
  }
  const { minTime, maxTime } = meta
  if (!isStorableTime(minTime) || !isStorableTime(maxTime - 1))
    throw new RefusedError('err-carillon-upload-times', `times from ${minTime} to ${maxTime} are no dates`)
  if (maxTime - 1 > latestMs) {
    const text = `the block reaches to ${new Date(maxTime).toISOString()}, which is too far ahead`
    throw new RefusedError('err-carillon-upload-times', text)
  }
  assertNotTooOld(meta, earliestMs)
  if (rangesIn(meta, WIDE_MS) > OUTPUTS_MAX) {
    const text = `the block spans ${Math.round((maxTime - minTime) / DAY_MS)} days, at most ${(OUTPUTS_MAX * WIDE_MS) / DAY_MS} are taken`
    throw new RefusedError('err-carillon-upload-times', text)
  }
}

async function assertLabels(
  reader: BlockReader,
  external: Labels,
  { limits }: ImportJob,
  signal: AbortSignal,
): Promise<void> {
  const everything = { startMs: Number.NEGATIVE_INFINITY, endMs: Number.POSITIVE_INFINITY }
  for await (const batch of reader.series([], everything, { signal })) {
    for (const { labels } of batch) {
      const fault = checkLabels(withExternal(labels, external), limits)
      if (fault !== undefined) throw new RefusedError(fault.code, fault.text)
    }
  }
}

/** By series, each rising in time and apart from the next. */
async function stonesOf(files: BlockFiles): Promise<Map<number, Tombstone[]>> {
  const bytes = await readExactly(files, TOMBSTONES_FILE, 0, await files.size(TOMBSTONES_FILE))
  return Map.groupBy(readTombstones(bytes), ({ ref }) => ref)
}

const startOf = (time: number, widthMs: number): number => Math.floor(time / widthMs) * widthMs

function rangesIn({ minTime, maxTime }: BlockMeta, widthMs: number): number {
  return (startOf(Math.max(minTime, maxTime - 1), widthMs) - startOf(minTime, widthMs)) / widthMs + 1
}

function widthOf(meta: BlockMeta): number {
  const whole = WIDTHS_MS.find((widthMs) => rangesIn(meta, widthMs) === 1)
  return whole ?? (rangesIn(meta, DAY_MS) <= OUTPUTS_MAX ? DAY_MS : WIDE_MS)
}

/** Deals series out to one writer per aligned range. */
class Cut {
  samplesIn = 0
  removed = 0
  private readonly widthMs: number
  private readonly io: ImportIo
  private readonly writers = new Map<number, BlockWriter>()
  private readonly decoded = new SampleColumns(1024)
  private readonly kept = new SampleColumns(1024)
  private samplesOut = 0
  private readonly bytesMax: number
  private bytesOut = 0

  constructor(widthMs: number, bytesMax: number, io: ImportIo) {
    this.widthMs = widthMs
    this.bytesMax = bytesMax
    this.io = io
  }

  add({ labels, chunks }: BlockSeries, stones: readonly Tombstone[]): void {
    for (const { count } of chunks) this.samplesIn += count
    const last = startOf(chunks.at(-1)!.maxTime, this.widthMs)
    const hasOneRange = startOf(chunks[0]!.minTime, this.widthMs) === last
    for (const startMs of hasOneRange ? [last] : this.startsOf(chunks)) {
      const endMs = startMs + this.widthMs
      const own = hasOneRange ? chunks : chunks.filter(({ minTime, maxTime }) => minTime < endMs && maxTime >= startMs)
      const isWhole = own[0]!.minTime >= startMs && own.at(-1)!.maxTime < endMs
      const isTouched = own.some(({ minTime, maxTime }) => reachOf(stones, minTime, maxTime) !== 'none')
      const isFirst = own[0] === chunks[0]
      const mayPass = isWhole && !isTouched && (isFirst || isFloatEncoding(own[0]!.encoding))
      const passed = mayPass ? passable([own]) : undefined
      if (passed === undefined) this.addSamples(labels, own, { startMs, endMs }, stones)
      else {
        this.writerOf(startMs).addChunks(labels, passed)
        for (const { count } of passed) this.samplesOut += count
      }
    }
  }

  private startsOf(chunks: readonly BlockChunk[]): number[] {
    const starts = new Set<number>()
    for (const { minTime, maxTime } of chunks) {
      const last = startOf(maxTime, this.widthMs)
      for (let at = startOf(minTime, this.widthMs); at <= last; at += this.widthMs) starts.add(at)
    }
    return [...starts].sort((a, b) => a - b)
  }

  private addSamples(
    labels: BlockSeries['labels'],
    chunks: readonly BlockChunk[],
    { startMs, endMs }: { startMs: number; endMs: number },
    stones: readonly Tombstone[],
  ): void {
    const { decoded, kept } = this
    decoded.clear()
    for (const chunk of chunks) decodeBlockChunk(chunk, decoded)
    decoded.clip(0, startMs, endMs - 1)
    let left = decoded
    if (stones.length > 0) {
      kept.clear()
      pushVisible(decoded.asRun(), stones, kept)
      this.removed += decoded.count - kept.count
      left = kept
    }
    this.samplesOut += left.count
    if (left.count > 0) this.writerOf(startMs).addSeries(labels, left.asRun())
  }

  private writerOf(startMs: number): BlockWriter {
    let writer = this.writers.get(startMs)
    if (writer === undefined) {
      writer = new BlockWriter({ onFile: (file, bytes) => this.write(startMs, file, bytes) })
      this.writers.set(startMs, writer)
    }
    return writer
  }

  private write(startMs: number, file: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    this.bytesOut += bytes.length
    if (this.bytesOut > this.bytesMax) {
      const text = `cut into days or weeks the block becomes more than ${this.bytesMax} bytes, which is too much for what came: upload blocks that span less`
      throw new RefusedError('err-carillon-upload-grows', text) // IMPORT-4
    }
    return this.io.write(String(startMs), file, bytes)
  }

  backlog(): Promise<unknown> | undefined {
    for (const writer of this.writers.values()) {
      const waiting = writer.backlog()
      if (waiting !== undefined) return waiting
    }
    return undefined
  }

  async finish(): Promise<ImportReport['outputs']> {
    const outputs: ImportReport['outputs'][number][] = []
    for (const [startMs, writer] of this.writers) outputs.push({ startMs, stats: await writer.finish() })
    const written = outputs.reduce((sum, { stats }) => sum + stats.sampleCount, 0)
    assert(this.samplesIn === this.samplesOut + this.removed, 'samples came in that did not come out') // IMPORT-2
    assert(written === this.samplesOut, `${this.samplesOut} samples were given to the writers, they wrote ${written}`)
    return outputs.sort((a, b) => a.startMs - b.startMs)
  }
}
