// The answer of one owner for one partition: frames as they come are turned into series with columns, at once and without an object
// per sample. Hot kernel.
//
// Invariants
//   A1  Label strings are decoded once per answer; label sets share them.
//   A2  Value bits reach the columns as they stand in the chunk.
//   A3  Chunks that overlap in time are merged by the total order (L11); what comes out lies within the asked range and rises strictly.
//   A4  A frame that contradicts itself throws CorruptError: another owner is asked.
import { CorruptError } from '../../shared/base/errors.ts'
import type { SelectFrame } from '../../shared/contracts/read.ts'
import type { Histogram } from '../../shared/model/histogram.ts'
import type { Labels } from '../../shared/model/labels.ts'
import type { SeriesSamples } from '../../shared/promql/source.ts'
import { HistogramChunkReader } from '../../shared/tsdb/chunk/histogram.ts'
import { decodeXorWords, ENCODING_XOR, wordsOf, xorCount } from '../../shared/tsdb/chunk/xor.ts'
import { SampleColumns, type SampleRun } from '../../shared/tsdb/columns.ts'
import { mergeRuns } from '../../shared/tsdb/merge.ts'
import { decodeCanonical } from '../../shared/wire/histogram.ts'
import { decodeUtf8 } from '../../shared/wire/utf8.ts'

const ARENA_SAMPLES = 64 * 1024
const NO_TIMES = new Float64Array(0)

export interface AnswerRange {
  readonly startMs: number
  readonly endMs: number
}

export interface FrameSize {
  readonly series: number
  readonly samples: number
  readonly bytes: number
}

/** Counted from the frame's own tables, before anything is decoded. */
export function sizeOf(frame: SelectFrame): FrameSize {
  let samples = frame.times?.length ?? 0
  const counts = frame.chunkSamples
  if (counts !== undefined) for (let i = 0; i < counts.length; i++) samples += counts[i]!
  const { strings, labels, times, chunks, histograms } = frame
  const own = (frame.sets?.byteLength ?? 0) + (frame.hashes?.byteLength ?? 0)
  const bytes =
    own +
    strings.length +
    labels.byteLength +
    (times?.length ?? 0) * 16 +
    (chunks?.length ?? 0) +
    (histograms?.length ?? 0)
  return { series: countOf(frame), samples, bytes }
}

function countOf({ sets, labelCounts }: SelectFrame): number {
  return sets?.length ?? labelCounts.length
}

/** Samples [from, to) of columns that many series share. The views are made when they are asked for: a query over everything would
 *  otherwise hold, and the garbage collector move, two of them per series. */
class SharedColumnSeries implements SeriesSamples {
  readonly labels: Labels
  private readonly columns: { readonly times: Float64Array; readonly values: Float64Array }
  private readonly from: number
  private readonly to: number

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

export class OwnerAnswer {
  readonly series: SeriesSamples[] = []
  /** One per series, equal for equal label sets of any answer; empty unless asked for. */
  readonly hashes: number[] = []
  /** With `isHashed` and `isProjected`: the other halves of the hashes. */
  readonly otherHashes: number[] = []
  /** With `isProjected`: the label sets told so far. */
  private readonly sets: Labels[] = []
  private readonly isProjected: boolean
  private readonly strings: string[] = []
  private readonly stringHashes: number[] = []
  private readonly range: AnswerRange
  private readonly isHashed: boolean
  private times = NO_TIMES
  private values = NO_TIMES
  private words = wordsOf(NO_TIMES)
  private columns = { times: NO_TIMES, values: NO_TIMES }
  private filled = 0
  private readonly scratch = new SampleColumns(256)

  /** @param options.isHashed false when this is the only answer, which then needs no uniting, and the order of its series does not show
   *  @param options.isProjected some labels were asked for, not all */
  constructor(range: AnswerRange, options: { isHashed: boolean; isProjected: boolean }) {
    this.range = range
    this.isHashed = options.isHashed
    this.isProjected = options.isProjected
  }

  add(frame: SelectFrame): void {
    checkShape(frame)
    if (this.isProjected !== (frame.sets !== undefined)) throw corrupt('label sets are not numbered as was asked for')
    if (this.isProjected && this.isHashed && frame.hashes === undefined) throw corrupt('hashes are missing')
    this.addStrings(frame)
    if (frame.sets !== undefined) this.addSets(frame)
    if (frame.times !== undefined) this.addLast(frame)
    else if (frame.chunkCounts !== undefined) this.addChunked(frame)
    else this.addBare(frame)
  }

  private addStrings({ strings, stringEnds }: SelectFrame): void {
    if (stringEnds.length === 0) return
    const table = this.strings
    const isAscii = areAscii(strings)
    const text = isAscii ? Buffer.from(strings.buffer, strings.byteOffset, strings.length).toString('latin1') : ''
    let start = 0
    for (let i = 0; i < stringEnds.length; i++) {
      const end = stringEnds[i]!
      const string = isAscii ? text.slice(start, end) : decodeUtf8(strings, start, end)
      if (string === undefined) throw corrupt('a label is not UTF-8')
      table.push(string)
      if (this.isHashed && !this.isProjected) this.stringHashes.push(hashOf(strings, start, end))
      start = end
    }
  }

  private addSets({ labels: ids, labelCounts }: SelectFrame): void {
    let at = 0
    for (let s = 0; s < labelCounts.length; s++) {
      this.sets.push(this.textsAt(ids, at, labelCounts[s]! * 2))
      at += labelCounts[s]! * 2
    }
  }

  private textsAt(ids: Uint32Array, at: number, count: number): string[] {
    const { strings } = this
    const labels = new Array<string>(count)
    for (let i = 0; i < count; i++) {
      const id = ids[at + i]!
      if (id >= strings.length) throw corrupt('a label is numbered beyond the string table')
      labels[i] = strings[id]!
    }
    return labels
  }

  /** The label set of the series `s` of the frame, which is the next; its pairs begin at `at` unless sets are numbered. */
  private labelsOf({ labels: ids, labelCounts, sets, hashes }: SelectFrame, s: number, at: number): Labels {
    if (sets !== undefined) {
      const labels = this.sets[sets[s]!]
      if (labels === undefined) throw corrupt('a label set is numbered beyond those told')
      if (!this.isHashed) return labels
      this.hashes.push(hashes![2 * s]!)
      this.otherHashes.push(hashes![2 * s + 1]!)
      return labels
    }
    const count = labelCounts[s]! * 2
    const labels = this.textsAt(ids, at, count)
    if (!this.isHashed) return labels
    const { stringHashes } = this
    let hash = count
    for (let i = 0; i < count; i++) hash = Math.imul(hash, 0x01000193) ^ stringHashes[ids[at + i]!]!
    this.hashes.push(hash)
    return labels
  }

  private addBare(frame: SelectFrame): void {
    let at = 0
    for (let s = 0; s < frame.labelCounts.length; s++) {
      this.series.push({ labels: this.labelsOf(frame, s, at), times: NO_TIMES, values: NO_TIMES })
      at += frame.labelCounts[s]! * 2
    }
  }

  private addLast(frame: SelectFrame): void {
    const { labelCounts, histogramEnds, histograms } = frame
    const times = frame.times!
    const values = frame.values!
    const columns = { times, values }
    let at = 0
    let histogramStart = 0
    for (let s = 0; s < times.length; s++) {
      const labels = this.labelsOf(frame, s, at)
      at += labelCounts[s]! * 2
      const histogramEnd = histogramEnds?.[s] ?? histogramStart
      if (histogramEnd === histogramStart) {
        this.series.push(new SharedColumnSeries(labels, columns, s, s + 1)) // A2: not even copied
      } else {
        const histogram = decodeCanonical(histograms!.subarray(histogramStart, histogramEnd))
        const one = { times: times.subarray(s, s + 1), values: values.subarray(s, s + 1) }
        this.series.push({ labels, ...one, histograms: [histogram] })
        histogramStart = histogramEnd
      }
    }
  }

  private addChunked(frame: SelectFrame): void {
    const { labelCounts } = frame
    const chunkCounts = frame.chunkCounts!
    let at = 0
    let chunk = 0
    for (let s = 0; s < chunkCounts.length; s++) {
      const count = chunkCounts[s]!
      const labels = this.labelsOf(frame, s, at)
      at += labelCounts[s]! * 2
      const series = this.decodeSeries(labels, frame, chunk, chunk + count)
      chunk += count
      if (series !== undefined) this.series.push(series)
      else if (this.isHashed) {
        this.hashes.pop()
        if (this.isProjected) this.otherHashes.pop()
      }
    }
  }

  /** Chunks [from, to) of a frame as one series; undefined when none of their samples lies in the range. */
  private decodeSeries(labels: Labels, frame: SelectFrame, from: number, to: number): SeriesSamples | undefined {
    const encodings = frame.chunkEncodings!
    let sampleCount = 0
    for (let c = from; c < to; c++) {
      if (encodings[c] !== ENCODING_XOR) return this.decodeMixed(labels, frame, from, to)
      sampleCount += frame.chunkSamples![c]!
    }
    this.reserve(sampleCount)
    const { times, words, filled } = this
    let end = filled
    for (let c = from; c < to; c++) {
      const start = c === 0 ? 0 : frame.chunkEnds![c - 1]!
      const before = end
      checkCount(frame, c, start)
      end = decodeXorWords(frame.chunks!, start, frame.chunkEnds![c]!, times, words, end)
      if (before > filled && end > before && times[before]! <= times[before - 1]!) {
        return this.decodeMixed(labels, frame, from, to)
      }
    }
    return this.keep(labels, filled, end)
  }

  /** Makes room for `count` samples behind those that are kept. */
  private reserve(count: number): void {
    if (this.filled + count <= this.times.length) return
    const capacity = Math.max(ARENA_SAMPLES, count)
    this.times = new Float64Array(capacity)
    this.values = new Float64Array(capacity)
    this.words = wordsOf(this.values)
    this.columns = { times: this.times, values: this.values }
    this.filled = 0
  }

  /** Cuts samples [from, to) of the arena to the range and keeps the rest as a series. */
  private keep(labels: Labels, from: number, to: number): SeriesSamples | undefined {
    const { times, words } = this
    let low = from
    let high = to
    while (low < high && times[low]! < this.range.startMs) low++
    while (high > low && times[high - 1]! > this.range.endMs) high--
    if (low === high) return undefined
    if (low > from) {
      for (let i = low, to = from; i < high; i++, to++) {
        times[to] = times[i]!
        words[2 * to] = words[2 * i]!
        words[2 * to + 1] = words[2 * i + 1]!
      }
    }
    this.filled = from + high - low
    return new SharedColumnSeries(labels, this.columns, from, this.filled)
  }

  /** The general way: histograms among the chunks, or chunks that overlap. */
  private decodeMixed(labels: Labels, frame: SelectFrame, from: number, to: number): SeriesSamples | undefined {
    const runs: SampleRun[] = []
    for (let c = from; c < to; c++) {
      const start = c === 0 ? 0 : frame.chunkEnds![c - 1]!
      checkCount(frame, c, start)
      runs.push(decodeRun(frame, c, start))
    }
    const { scratch, range } = this
    scratch.clear()
    mergeRuns(runs, scratch)
    let low = 0
    let high = scratch.count
    while (low < high && scratch.times[low]! < range.startMs) low++
    while (high > low && scratch.times[high - 1]! > range.endMs) high--
    if (low === high) return undefined
    const times = scratch.times.slice(low, high)
    const values = scratch.values.slice(low, high)
    const histograms: readonly (Histogram | undefined)[] | undefined = scratch.histograms?.slice(low, high)
    return histograms === undefined ? { labels, times, values } : { labels, times, values, histograms }
  }
}

function decodeRun(frame: SelectFrame, chunk: number, start: number): SampleRun {
  const columns = new SampleColumns(Math.max(1, frame.chunkSamples![chunk]!))
  const encoding = frame.chunkEncodings![chunk]!
  const end = frame.chunkEnds![chunk]!
  if (encoding === ENCODING_XOR) {
    columns.count = decodeXorWords(frame.chunks!, start, end, columns.times, columns.words, 0)
  } else {
    const reader = new HistogramChunkReader(encoding, frame.chunks!, start, end)
    while (reader.next()) columns.pushHistogram(reader.time, reader.histogram())
  }
  return columns.asRun()
}

function checkCount(frame: SelectFrame, chunk: number, start: number): void {
  const end = frame.chunkEnds![chunk]!
  if (end - start >= 2 && xorCount(frame.chunks!, start) === frame.chunkSamples![chunk]) return
  throw corrupt('a chunk does not hold the samples that its frame says')
}

function checkShape(frame: SelectFrame): void {
  const { strings, stringEnds, labelCounts, labels, chunkCounts, chunkEncodings, chunkSamples, chunkEnds, chunks } =
    frame
  const isTyped = strings instanceof Uint8Array && stringEnds instanceof Uint32Array && labels instanceof Uint32Array
  if (!isTyped || !(labelCounts instanceof Uint16Array)) throw corrupt('a column is missing or of another type')
  if (!areEnds(stringEnds, strings.length)) throw corrupt('strings end elsewhere than their table says')
  if (sum(labelCounts) * 2 !== labels.length) throw corrupt('labels are not as many as their counts say')
  const seriesCount = countOf(frame)
  if (frame.hashes !== undefined && frame.hashes.length !== 2 * seriesCount)
    throw corrupt('hashes are not two words a series')
  if (chunkCounts !== undefined) {
    if (chunkEncodings === undefined || chunkSamples === undefined || chunkEnds === undefined || chunks === undefined) {
      throw corrupt('chunks lack a column')
    }
    const count = sum(chunkCounts)
    const isWhole = chunkEncodings.length === count && chunkSamples.length === count && chunkEnds.length === count
    if (chunkCounts.length !== seriesCount || !isWhole) throw corrupt('chunks are not as many as their counts say')
    if (!areEnds(chunkEnds, chunks.length)) throw corrupt('chunks end elsewhere than their table says')
  }
  const { times, values, histogramEnds, histograms } = frame
  if (times !== undefined && (times.length !== seriesCount || values?.length !== seriesCount)) {
    throw corrupt('samples are not as many as series')
  }
  if (histogramEnds !== undefined && histogramEnds.length > 0) {
    if (histogramEnds.length !== seriesCount || !areEnds(histogramEnds, histograms?.length ?? 0)) {
      throw corrupt('histograms end elsewhere than their table says')
    }
  }
}

/** Rising, and the last is `length`. */
function areEnds(ends: Uint32Array, length: number): boolean {
  let before = 0
  for (let i = 0; i < ends.length; i++) {
    if (ends[i]! < before) return false
    before = ends[i]!
  }
  return before === length
}

function sum(counts: Uint16Array | Uint32Array): number {
  let total = 0
  for (let i = 0; i < counts.length; i++) total += counts[i]!
  return total
}

/** 32-bit FNV-1a, mixed. */
function hashOf(bytes: Uint8Array, start: number, end: number): number {
  let hash = 0x811c9dc5
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  return hash ^ (hash >>> 13)
}

function areAscii(bytes: Uint8Array): boolean {
  let highBits = 0
  for (let i = 0; i < bytes.length; i++) highBits |= bytes[i]!
  return highBits < 128
}

function corrupt(text: string): CorruptError {
  return new CorruptError('err-carillon-bad-frame', `frame of an owner: ${text}`)
}
