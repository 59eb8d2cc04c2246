// Chunks to columns: the samples of many series are decoded one behind the other into few large columns, without an object per sample.
// Hot kernel, shared by what owners answer and what blocks hold.
//
// Invariants
//   ANSWER-2  Value bits reach the columns as they stand in the chunk.
//   ANSWER-3  Chunks that overlap in time are merged by the total order (LOG-11); what comes out lies within the asked range and rises strictly.
import type { Breath } from '../../../shared/base/breathing.ts'
import { CorruptError } from '../../../shared/base/errors.ts'
import type { Histogram } from '../../../shared/model/histogram.ts'
import type { Interval } from '../../../shared/model/interval.ts'
import type { Labels } from '../../../shared/model/labels.ts'
import { histogramListBytes, SAMPLE_BYTES, SERIES_BYTES } from '../../../shared/promql/memory.ts'
import type { SeriesSamples } from '../../../shared/promql/source.ts'
import { chunkCount } from '../../../shared/tsdb/chunk/histogram.ts'
import { decodeXorWords, ENCODING_XOR, wordsOf } from '../../../shared/tsdb/chunk/xor.ts'
import { SampleColumns, type SampleRun } from '../../../shared/tsdb/columns.ts'
import { decodeChunk } from '../../../shared/tsdb/decode.ts'
import { mergeRuns } from '../../../shared/tsdb/merge.ts'

/** The first of an answer, and the largest: each is twice the one before, unless one series needs more. */
const ARENA_SAMPLES_FIRST = 2 * 1024
const ARENA_SAMPLES = 64 * 1024
/** Samples of one series that are decoded at once: floats alone, and others. */
const SHORT_XOR = 8_192
const SHORT_MIXED = 512
/** Of one of them, in units of work. */
const XOR_WORK = 10
const MIXED_WORK = 500

export const NO_TIMES = new Float64Array(0)

/** Chunks by number, wherever their bytes stand. */
export interface ChunkList {
  encodingAt(chunk: number): number
  /** Samples, as whoever sent it says. */
  countAt(chunk: number): number
  /** The chunk is bytes [startAt, endAt) of this. */
  bytesAt(chunk: number): Uint8Array
  startAt(chunk: number): number
  endAt(chunk: number): number
}

/** Samples [from, to) of columns that many series share. The views are made when they are asked for: a query over everything would
 *  otherwise hold, and the garbage collector move, two of them per series. */
export class SharedColumnSeries implements SeriesSamples {
  readonly labels: Labels
  private readonly columns: { readonly times: Float64Array; readonly values: Float64Array }
  readonly from: number
  readonly to: number

  constructor(labels: Labels, columns: { times: Float64Array; values: Float64Array }, from: number, to: number) {
    this.labels = labels
    this.columns = columns
    this.from = from
    this.to = to
  }

  get times(): Float64Array {
    return this.columns.times.subarray(this.from, this.to)
  }

  get values(): Float64Array {
    return this.columns.values.subarray(this.from, this.to)
  }
}

export class SeriesColumns {
  private readonly range: Interval
  private times = NO_TIMES
  private values = NO_TIMES
  private words = wordsOf(NO_TIMES)
  private columns = { times: NO_TIMES, values: NO_TIMES }
  private filled = 0
  private readonly scratch = new SampleColumns(256)
  private readonly hold: (bytes: number) => void
  private arenaSamples = ARENA_SAMPLES_FIRST / 2

  /** @param hold told of memory before it is taken; may throw */
  constructor(range: Interval, hold: (bytes: number) => void = () => {}) {
    this.range = range
    this.hold = hold
  }

  /** Chunks [from, to) of a list as one series, without what `hidden` covers; undefined when none of their samples is left. */
  decode(
    labels: Labels,
    chunks: ChunkList,
    from: number,
    to: number,
    hidden: readonly Interval[] = NO_INTERVALS,
  ): SeriesSamples | undefined {
    let sampleCount = 0
    for (let c = from; c < to; c++) {
      if (chunks.encodingAt(c) !== ENCODING_XOR) return this.decodeMixed(labels, chunks, from, to, hidden)
      sampleCount += chunks.countAt(c)
    }
    this.reserve(sampleCount)
    const { filled } = this
    let end: number | undefined = filled
    for (let c = from; c < to; c++) {
      end = this.decodeXor(chunks, c, end)
      if (end === undefined) return this.decodeMixed(labels, chunks, from, to, hidden)
    }
    return this.keep(labels, filled, end, hidden)
  }

  /** `decode`, which breathes where there is much of it: then it must be waited for before anything else is decoded. */
  decodeLong(
    labels: Labels,
    chunks: ChunkList,
    from: number,
    to: number,
    hidden: readonly Interval[],
    breath: Breath,
  ): SeriesSamples | undefined | Promise<SeriesSamples | undefined> {
    let sampleCount = 0
    let isXor = true
    for (let c = from; c < to; c++) {
      isXor &&= chunks.encodingAt(c) === ENCODING_XOR
      sampleCount += chunks.countAt(c)
    }
    if (sampleCount <= (isXor ? SHORT_XOR : SHORT_MIXED)) return this.decode(labels, chunks, from, to, hidden)
    if (isXor) return this.decodeLongXor(labels, chunks, from, to, hidden, sampleCount, breath)
    return this.decodeLongMixed(labels, chunks, from, to, hidden, breath)
  }

  private async decodeLongXor(
    labels: Labels,
    chunks: ChunkList,
    from: number,
    to: number,
    hidden: readonly Interval[],
    sampleCount: number,
    breath: Breath,
  ): Promise<SeriesSamples | undefined> {
    this.reserve(sampleCount)
    const { filled } = this
    let end: number | undefined = filled
    for (let c = from; c < to; c++) {
      end = this.decodeXor(chunks, c, end)
      if (end === undefined) return this.decodeLongMixed(labels, chunks, from, to, hidden, breath)
      if (breath.isDue(XOR_WORK * chunks.countAt(c))) await breath.breathe()
    }
    return this.keep(labels, filled, end, hidden)
  }

  private async decodeLongMixed(
    labels: Labels,
    chunks: ChunkList,
    from: number,
    to: number,
    hidden: readonly Interval[],
    breath: Breath,
  ): Promise<SeriesSamples | undefined> {
    const runs: SampleRun[] = []
    for (let c = from; c < to; c++) {
      checkCount(chunks, c)
      runs.push(decodeRun(chunks, c))
      if (breath.isDue(MIXED_WORK * chunks.countAt(c))) await breath.breathe()
    }
    return this.merged(labels, runs, hidden)
  }

  /** Decodes a chunk to the end of what is there; where that ends then, or undefined: it begins before. */
  private decodeXor(chunks: ChunkList, c: number, before: number): number | undefined {
    const { times, words, filled } = this
    checkCount(chunks, c)
    const end = decodeXorWords(chunks.bytesAt(c), chunks.startAt(c), chunks.endAt(c), times, words, before)
    return before > filled && end > before && times[before]! <= times[before - 1]! ? undefined : end
  }

  /** The newest sample of chunks [from, to), which rise in time and do not overlap, as `decode` would leave it. */
  decodeLast(
    labels: Labels,
    chunks: ChunkList,
    from: number,
    to: number,
    hidden: readonly Interval[] = NO_INTERVALS,
  ): SeriesSamples | undefined {
    for (let c = to - 1; c >= from; c--) {
      const series = this.decode(labels, chunks, c, c + 1, hidden)
      if (series === undefined) continue
      if (!(series instanceof SharedColumnSeries)) return newestOnly(series)
      const { from: start, to: end } = series
      if (end - start === 1) return series
      this.filled = this.move(end - 1, end, start, NO_INTERVALS)
      return new SharedColumnSeries(labels, this.columns, start, this.filled)
    }
    return undefined
  }

  /** Makes room for `count` samples behind those that are kept. */
  private reserve(count: number): void {
    if (this.filled + count <= this.times.length) return
    this.arenaSamples = Math.min(ARENA_SAMPLES, 2 * this.arenaSamples)
    const capacity = Math.max(this.arenaSamples, count)
    this.hold(SAMPLE_BYTES * capacity)
    this.times = new Float64Array(capacity)
    this.values = new Float64Array(capacity)
    this.words = wordsOf(this.values)
    this.columns = { times: this.times, values: this.values }
    this.filled = 0
  }

  /** Cuts samples [from, to) of the arena to the range and keeps the rest as a series. */
  private keep(labels: Labels, from: number, to: number, hidden: readonly Interval[]): SeriesSamples | undefined {
    const { times, range } = this
    const low = firstAtOrAfter(times, from, to, range.startMs)
    const high =
      low < to && times[to - 1]! > range.endMs ? firstAtOrAfter(times, low, to, Math.floor(range.endMs) + 1) : to
    if (low === high) return undefined
    const end = low > from || hidden.length > 0 ? this.move(low, high, from, hidden) : high
    if (end === from) return undefined
    this.filled = end
    return new SharedColumnSeries(labels, this.columns, from, end)
  }

  /** Moves samples [low, high) of the arena to `to`, where hidden ones fall out; answers where the last one ends. */
  private move(low: number, high: number, to: number, hidden: readonly Interval[]): number {
    const { times, words } = this
    if (hidden.length === 0) {
      times.copyWithin(to, low, high)
      words.copyWithin(2 * to, 2 * low, 2 * high)
      return to + high - low
    }
    let at = to
    for (let i = low; i < high; i++) {
      if (isHidden(times[i]!, hidden)) continue
      times[at] = times[i]!
      words[2 * at] = words[2 * i]!
      words[2 * at + 1] = words[2 * i + 1]!
      at++
    }
    return at
  }

  /** The general way: histograms or start times among the chunks, or chunks that overlap. */
  private decodeMixed(
    labels: Labels,
    chunks: ChunkList,
    from: number,
    to: number,
    hidden: readonly Interval[],
  ): SeriesSamples | undefined {
    const runs: SampleRun[] = []
    for (let c = from; c < to; c++) {
      checkCount(chunks, c)
      runs.push(decodeRun(chunks, c))
    }
    return this.merged(labels, runs, hidden)
  }

  private merged(labels: Labels, runs: readonly SampleRun[], hidden: readonly Interval[]): SeriesSamples | undefined {
    const { scratch, range } = this
    scratch.clear()
    mergeRuns(runs, scratch)
    if (hidden.length > 0) drop(scratch, hidden)
    let low = 0
    let high = scratch.count
    while (low < high && scratch.times[low]! < range.startMs) low++
    while (high > low && scratch.times[high - 1]! > range.endMs) high--
    if (low === high) return undefined
    const times = scratch.times.slice(low, high)
    const values = scratch.values.slice(low, high)
    const histograms: readonly (Histogram | undefined)[] | undefined = scratch.histograms?.slice(low, high)
    const startTimes = scratch.startTimes?.slice(low, high)
    const startBytes = startTimes?.byteLength ?? 0
    this.hold(SERIES_BYTES + SAMPLE_BYTES * times.length + startBytes + histogramListBytes(histograms))
    return { labels, times, values, ...(histograms && { histograms }), ...(startTimes && { startTimes }) }
  }
}

/** The first of the rising times [from, to) that is not before `ms`. */
function firstAtOrAfter(times: Float64Array, from: number, to: number, ms: number): number {
  if (from === to || times[from]! >= ms) return from
  let low = from // is before
  let high = to
  while (high - low > 1) {
    const middle = (low + high) >>> 1
    if (times[middle]! < ms) low = middle
    else high = middle
  }
  return high
}

/** Cuts the samples of a series down to the newest one. */
export function newestOnly(series: SeriesSamples): SeriesSamples {
  const { labels, times, values, histograms, startTimes } = series
  if (times.length <= 1) return series
  const last = times.length - 1
  const starts = startTimes && { startTimes: startTimes.slice(last) }
  const newest = { labels, times: times.slice(last), values: values.slice(last), ...starts }
  const histogram = histograms?.[last]
  return histogram === undefined ? newest : { ...newest, histograms: [histogram] }
}

const NO_INTERVALS: readonly Interval[] = []

export function isHidden(time: number, hidden: readonly Interval[]): boolean {
  for (const { startMs, endMs } of hidden) if (time >= startMs && time <= endMs) return true
  return false
}

function drop(columns: SampleColumns, hidden: readonly Interval[]): void {
  const { times, words, histograms, startTimes } = columns
  let at = 0
  for (let i = 0; i < columns.count; i++) {
    if (isHidden(times[i]!, hidden)) continue
    times[at] = times[i]!
    words[2 * at] = words[2 * i]!
    words[2 * at + 1] = words[2 * i + 1]!
    if (histograms !== undefined) histograms[at] = histograms[i]
    if (startTimes !== undefined) startTimes[at] = startTimes[i]!
    at++
  }
  columns.count = at
  if (histograms !== undefined) histograms.length = at
}

function decodeRun(chunks: ChunkList, chunk: number): SampleRun {
  const columns = new SampleColumns(Math.max(1, chunks.countAt(chunk)))
  const place = { start: chunks.startAt(chunk), end: chunks.endAt(chunk) }
  decodeChunk({ encoding: chunks.encodingAt(chunk), bytes: chunks.bytesAt(chunk), ...place }, columns)
  return columns.asRun()
}

function checkCount(chunks: ChunkList, chunk: number): void {
  const start = chunks.startAt(chunk)
  const isThere = chunks.endAt(chunk) - start >= 2
  const bytes = chunks.bytesAt(chunk)
  if (isThere && chunkCount(chunks.encodingAt(chunk), bytes, start) === chunks.countAt(chunk)) return
  throw new CorruptError('err-carillon-bad-chunk', 'a chunk does not hold the samples that it is said to hold')
}
