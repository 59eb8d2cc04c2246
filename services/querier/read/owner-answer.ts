// The answer of one owner for one partition: frames as they come are turned into series with columns (series-columns.ts), at once. Hot
// kernel.
//
// Invariants
//   ANSWER-1  Label strings are decoded once per answer; label sets share them.
//   ANSWER-2, ANSWER-3 stand in series-columns.ts.
//   ANSWER-4  A frame that contradicts itself throws CorruptError: another owner is asked.
import { CorruptError } from '../../../shared/base/errors.ts'
import type { SelectFrame } from '../../../shared/contracts/read.ts'
import type { Interval } from '../../../shared/model/interval.ts'
import type { Labels } from '../../../shared/model/labels.ts'
import { SAMPLE_BYTES } from '../../../shared/promql/memory.ts'
import type { SeriesSamples } from '../../../shared/promql/source.ts'
import { HASH_A_EMPTY, hashText, mixA } from '../../../shared/tsdb/label-hash.ts'
import { decodeCanonical } from '../../../shared/wire/histogram.ts'
import { decodeUtf8 } from '../../../shared/wire/utf8.ts'
import { type ChunkList, NO_TIMES, SeriesColumns, SharedColumnSeries } from './series-columns.ts'

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

/** A label set as an array of strings, and what else stands for a series. */
const SERIES_BYTES = 160
const STRING_BYTES = 48

/** The memory that a frame takes for good once it is added, samples of chunks aside, and while it is. */
export function memoryOf(frame: SelectFrame): { keptBytes: number; passingBytes: number } {
  const { strings, stringEnds, labels, times, histograms, chunks } = frame
  const texts = strings.length + STRING_BYTES * stringEnds.length
  const series = SERIES_BYTES * countOf(frame) + 2 * labels.byteLength
  const samples = SAMPLE_BYTES * (times?.length ?? 0) + 16 * (histograms?.length ?? 0)
  return {
    keptBytes: texts + series + samples,
    passingBytes: strings.length + labels.byteLength + (chunks?.length ?? 0),
  }
}

function countOf({ sets, labelCounts }: SelectFrame): number {
  return sets?.length ?? labelCounts.length
}

/** The chunks of a frame, where they stand in it. */
class FrameChunks implements ChunkList {
  private readonly encodings: Uint8Array
  private readonly samples: Uint16Array
  private readonly ends: Uint32Array
  private readonly bytes: Uint8Array

  constructor(frame: SelectFrame) {
    this.encodings = frame.chunkEncodings!
    this.samples = frame.chunkSamples!
    this.ends = frame.chunkEnds!
    this.bytes = frame.chunks!
  }

  encodingAt(chunk: number): number {
    return this.encodings[chunk]!
  }

  countAt(chunk: number): number {
    return this.samples[chunk]!
  }

  bytesAt(): Uint8Array {
    return this.bytes
  }

  startAt(chunk: number): number {
    return chunk === 0 ? 0 : this.ends[chunk - 1]!
  }

  endAt(chunk: number): number {
    return this.ends[chunk]!
  }
}

export class OwnerAnswer {
  readonly series: SeriesSamples[] = []
  /** One per series, equal for equal label sets of any answer (label-hash.ts); empty unless asked for. */
  readonly hashes: number[] = []
  /** With `isHashed` and `isProjected`: the other halves of the hashes. */
  readonly otherHashes: number[] = []
  /** With `isProjected`: the label sets told so far. */
  private readonly sets: Labels[] = []
  private readonly isProjected: boolean
  private readonly strings: string[] = []
  private readonly stringHashes: number[] = []
  private readonly hash = new Uint32Array(2)
  private readonly isHashed: boolean
  private readonly columns: SeriesColumns

  /** @param options.isHashed false when this is the only answer, which then needs no uniting, and the order of its series does not show
   *  @param options.isProjected some labels were asked for, not all
   *  @param options.hold told of memory for samples before it is taken */
  constructor(range: Interval, options: { isHashed: boolean; isProjected: boolean; hold?: (bytes: number) => void }) {
    this.columns = new SeriesColumns(range, options.hold)
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
      if (this.isHashed && !this.isProjected) {
        hashText(string, this.hash, 0)
        this.stringHashes.push(this.hash[0]!)
      }
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
    let hash = HASH_A_EMPTY
    for (let i = 0; i < count; i++) hash = mixA(hash, stringHashes[ids[at + i]!]!)
    this.hashes.push(hash >>> 0)
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
    const { startTimes } = frame
    const columns = { times, values }
    let at = 0
    let histogramStart = 0
    for (let s = 0; s < times.length; s++) {
      const labels = this.labelsOf(frame, s, at)
      at += labelCounts[s]! * 2
      const histogramEnd = histogramEnds?.[s] ?? histogramStart
      const hasStart = startTimes !== undefined && startTimes[s] !== 0
      if (histogramEnd === histogramStart && !hasStart) {
        this.series.push(new SharedColumnSeries(labels, columns, s, s + 1)) // ANSWER-2: not even copied
      } else {
        const start = hasStart && { startTimes: startTimes.subarray(s, s + 1) }
        const one = { labels, times: times.subarray(s, s + 1), values: values.subarray(s, s + 1), ...start }
        const isFloat = histogramEnd === histogramStart
        if (isFloat) this.series.push(one)
        else {
          const histogram = decodeCanonical(histograms!.subarray(histogramStart, histogramEnd))
          this.series.push({ ...one, histograms: [histogram] })
        }
        histogramStart = histogramEnd
      }
    }
  }

  private addChunked(frame: SelectFrame): void {
    const { labelCounts } = frame
    const chunkCounts = frame.chunkCounts!
    const chunks = new FrameChunks(frame)
    let at = 0
    let chunk = 0
    for (let s = 0; s < chunkCounts.length; s++) {
      const count = chunkCounts[s]!
      const labels = this.labelsOf(frame, s, at)
      at += labelCounts[s]! * 2
      const series = this.columns.decode(labels, chunks, chunk, chunk + count)
      chunk += count
      if (series !== undefined) this.series.push(series)
      else if (this.isHashed) {
        this.hashes.pop()
        if (this.isProjected) this.otherHashes.pop()
      }
    }
  }
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
  if (frame.startTimes !== undefined && frame.startTimes.length !== times?.length) {
    throw corrupt('start times are not as many as samples')
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

function areAscii(bytes: Uint8Array): boolean {
  let highBits = 0
  for (let i = 0; i < bytes.length; i++) highBits |= bytes[i]!
  return highBits < 128
}

function corrupt(text: string): CorruptError {
  return new CorruptError('err-carillon-bad-frame', `frame of an owner: ${text}`)
}
