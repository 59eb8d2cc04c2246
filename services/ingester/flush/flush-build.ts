// Builds the blocks of one tenant's share of one segment: a pure function of its samples (LOG-13). No clock, host, version or setting enters,
// and neither does the order in which the samples came: two owners make the same bytes.
//
// Invariants
//   BUILD-1  Every sample of the segment is in exactly one of its blocks, once, merged by LOG-11. Each part into which the segment is cut has blocks of its
//       own (DELETE-7): the frames say of each chunk where its part begins, so that one walk over the head is enough for however many.
//   BUILD-2  Every block lies within one aligned range of time, so that compaction never straddles one: 2 h; 24 h where that would make more than
//       SHORT_RANGES_MAX blocks; 28 d where those would be more than LONG_RANGES_MAX; where even those are more, one block holds all.
import { CorruptError } from '../../../shared/base/errors.ts'
import { entryOf } from '../../../shared/blocks/entry.ts'
import type { BlockEntry, BlockOrigin } from '../../../shared/contracts/blocks.ts'
import type { SelectFrame } from '../../../shared/contracts/read.ts'
import { compareLabels, type Labels } from '../../../shared/model/labels.ts'
import { META_FILE } from '../../../shared/tsdb/block/files.ts'
import { blockMeta, metaBytes, type Origin } from '../../../shared/tsdb/block/meta.ts'
import { BlockWriter } from '../../../shared/tsdb/block/writer.ts'
import { SampleColumns, type SampleRun } from '../../../shared/tsdb/columns.ts'
import { decodeChunk } from '../../../shared/tsdb/decode.ts'
import { mergeRuns } from '../../../shared/tsdb/merge.ts'

export type FlushOrigin = Extract<BlockOrigin, { kind: 'flush' }>

export interface BuildRequest {
  readonly tenant: string
  /** Of all parts: the `cut` of each comes with the frames. */
  readonly origin: Omit<FlushOrigin, 'cut'>
}

/** A block on its way to the object store. */
export interface BuiltBlock {
  readonly entry: BlockEntry
  /** In the order in which they are written, meta.json last. */
  readonly files: readonly { readonly name: string; readonly bytes: Uint8Array<ArrayBuffer> }[]
}

const HOUR_MS = 3_600_000
const SHORT_MS = 2 * HOUR_MS
const LONG_MS = 24 * HOUR_MS
const LONGEST_MS = 28 * 24 * HOUR_MS
const SHORT_RANGES_MAX = 24
const LONG_RANGES_MAX = 400
const LONGEST_RANGES_MAX = 400

/** One series of a part: its labels, and where its chunks stand in the frame. */
interface FramedSeries {
  readonly labels: Labels
  readonly frame: SelectFrame
  readonly chunks: number[]
}

/** The blocks of these frames (mode `all`, one answer's string table), by part, then by time. */
export async function buildBlocks(
  { tenant, origin }: BuildRequest,
  frames: readonly SelectFrame[],
): Promise<BuiltBlock[]> {
  const built: BuiltBlock[] = []
  for (const [cut, series] of [...partsIn(frames)].sort(([a], [b]) => a - b))
    built.push(...(await buildPart(tenant, { ...origin, cut }, series)))
  return built
}

async function buildPart(tenant: string, origin: FlushOrigin, series: FramedSeries[]): Promise<BuiltBlock[]> {
  series.sort((a, b) => compareLabels(a.labels, b.labels))
  const reader = new SeriesReader()
  const widthMs = rangeWidth(series, reader)
  const ranges = new Map<number, RangeBlock>()
  for (const one of series) {
    const run = reader.read(one)
    for (let start = run.start; start < run.end; ) {
      const range = Math.floor(run.times[start]! / widthMs)
      const end = endOfRange(run, start, range, widthMs)
      let block = ranges.get(range)
      if (block === undefined) {
        block = new RangeBlock()
        ranges.set(range, block)
      }
      block.writer.addSeries(one.labels, { ...run, start, end })
      start = end
    }
  }
  const sorted = [...ranges].sort(([a], [b]) => a - b)
  const built: BuiltBlock[] = []
  for (const [, block] of sorted) built.push(await block.finish(tenant, origin))
  return built
}

class RangeBlock {
  private readonly files: { name: string; bytes: Uint8Array<ArrayBuffer> }[] = []
  readonly writer = new BlockWriter({
    onFile: (name, bytes) => {
      this.files.push({ name, bytes })
    },
  })

  async finish(tenant: string, origin: FlushOrigin): Promise<BuiltBlock> {
    const stats = await this.writer.finish()
    const meta = blockMeta({ tenant, stats, origin: originText(origin), level: 1 })
    const bytes = metaBytes(meta)
    const entry = entryOf({ ulid: meta.ulid, origin, stats, metaBytes: bytes })
    return { entry, files: [...this.files, { name: META_FILE, bytes }] }
  }
}

/** What meta.json says of the origin. That a block is a supplement is not said there: equal samples stay equal blocks. */
function originText({ kind, partition, segment, cut }: FlushOrigin): Origin {
  return { kind, partition, segment, ...(cut === undefined ? {} : { cut }) }
}

function rangeWidth(series: readonly FramedSeries[], reader: SeriesReader): number {
  const short = new Set<number>()
  const long = new Set<number>()
  const longest = new Set<number>()
  let last = Number.NaN
  for (const one of series) {
    const { times, start, end } = reader.read(one)
    for (let i = start; i < end; i++) {
      const range = Math.floor(times[i]! / SHORT_MS)
      if (range === last) continue
      last = range
      if (short.size <= SHORT_RANGES_MAX) short.add(range)
      if (long.size <= LONG_RANGES_MAX) long.add(Math.floor(times[i]! / LONG_MS))
      if (longest.size <= LONGEST_RANGES_MAX) longest.add(Math.floor(times[i]! / LONGEST_MS))
    }
  }
  if (short.size <= SHORT_RANGES_MAX) return SHORT_MS
  if (long.size <= LONG_RANGES_MAX) return LONG_MS
  return longest.size <= LONGEST_RANGES_MAX ? LONGEST_MS : Number.MAX_VALUE
}

/** The first sample at or after `start` that lies in another range. */
function endOfRange({ times, end }: SampleRun, start: number, range: number, widthMs: number): number {
  if (Math.floor(times[end - 1]! / widthMs) === range) return end
  let at = start + 1
  while (Math.floor(times[at]! / widthMs) === range) at++
  return at
}

/** The series of each part, by where it begins. */
function partsIn(frames: readonly SelectFrame[]): Map<number, FramedSeries[]> {
  const texts: string[] = []
  const parts = new Map<number, FramedSeries[]>()
  for (const frame of frames) {
    let start = 0
    for (const end of frame.stringEnds) {
      texts.push(Buffer.from(frame.strings.buffer, frame.strings.byteOffset + start, end - start).toString())
      start = end
    }
    let label = 0
    let chunk = 0
    frame.labelCounts.forEach((count, i) => {
      const labels: string[] = []
      for (let end = label + 2 * count; label < end; label++) labels.push(texts[frame.labels[label]!]!)
      const endChunk = chunk + (frame.chunkCounts?.[i] ?? 0)
      for (; chunk < endChunk; chunk++) addChunk(parts, { labels, frame, chunk })
    })
  }
  return parts
}

/** Chunks of one series come one after the other. */
function addChunk(
  parts: Map<number, FramedSeries[]>,
  { labels, frame, chunk }: { labels: Labels; frame: SelectFrame; chunk: number },
): void {
  const cut = frame.chunkSeqs?.[chunk] ?? 0
  const series = parts.get(cut) ?? []
  parts.set(cut, series)
  const last = series.at(-1)
  if (last?.labels === labels) last.chunks.push(chunk)
  else series.push({ labels, frame, chunks: [chunk] })
}

/** Reads series one after the other into columns that are used again. */
class SeriesReader {
  private readonly columns: SampleColumns[] = []
  private readonly merged = new SampleColumns()

  /** The samples of a series, rising strictly: valid until the next read. */
  read({ frame, chunks }: FramedSeries): SampleRun {
    const runs: SampleRun[] = []
    for (const chunk of chunks) {
      let columns = this.columns[runs.length]
      if (columns === undefined) this.columns[runs.length] = columns = new SampleColumns()
      columns.clear()
      readChunk(frame, chunk, columns)
      runs.push(columns.asRun())
    }
    if (runs.length === 1) return runs[0]!
    this.merged.clear()
    mergeRuns(runs, this.merged)
    return this.merged.asRun()
  }
}

function readChunk(frame: SelectFrame, chunk: number, sink: SampleColumns): void {
  const { chunks, chunkEnds, chunkEncodings } = frame
  if (!chunks || !chunkEnds || !chunkEncodings) throw new CorruptError('bad-frame', 'no chunks')
  const start = chunk === 0 ? 0 : chunkEnds[chunk - 1]!
  decodeChunk({ encoding: chunkEncodings[chunk]!, bytes: chunks, start, end: chunkEnds[chunk]! }, sink)
}
