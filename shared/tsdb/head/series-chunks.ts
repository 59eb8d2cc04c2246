// Every series' samples: its record, its chain of chunks, appending in and out of order, reading back. The hot half of a head.
//
// Invariants
//   H1  A chunk holds samples of one segment. Within a segment the chunks written in order rise in time and do not overlap.
//   H2  Within a segment the greatest of the samples with one time shows (L11), whatever the order and the repeats of arrival; a
//       sample that changes nothing stores nothing.
//   H3  A record's last time is that of the newest sample written in order in the newest segment: a later one in that segment is new.
//
// Hot kernel: a record is one cache line of 16 words (8 floats), so an append in order touches the record, the chunk's bytes and the
// segment's sums, and calls nothing that allocates. Words 0 to 7 are the XOR writer's (chunk/xor.ts), then those below.

import type { Histogram } from '../../model/histogram.ts'
import { compareValueBits } from '../../model/sample.ts'
import { grownLength } from '../chunk/growth.ts'
import { HistogramChunkReader, HistogramChunkWriter } from '../chunk/histogram.ts'
import {
  BITS,
  BITS_EMPTY,
  decodeXorWords,
  encodeXor,
  PACKED,
  PACKED_EMPTY,
  putXorCount,
  SAMPLE_BITS_MAX,
  VALUE_HIGH,
  VALUE_LOW,
  wordsOf,
  xorAppend,
  xorBytesMax,
} from '../chunk/xor.ts'
import { SampleColumns } from '../columns.ts'
import { canonicalBytes, compareHistograms } from '../histogram-order.ts'
import {
  ChunkTable,
  FINISHED_FLOAT_HISTOGRAM,
  FINISHED_HISTOGRAM,
  FINISHED_XOR,
  LATE_FLOATS,
  LATE_HISTOGRAMS,
  OPEN_HISTOGRAM,
  OPEN_XOR,
} from './chunk-table.ts'
import { hashBytes, tally } from './digest.ts'

/** What an append did: a new time; nothing, the same bits stood there; took the place of a lesser; nothing, a greater stood there. */
export const APPENDED_NEW = 0
export const APPENDED_EQUAL = 1
export const APPENDED_REPLACED = 2
export const APPENDED_KEPT = 3

/** Slab address of the open float chunk. */
const ADDRESS = 8
/** Slot + 1 of the open float chunk, 0 when none is open. */
const OPEN = 9
/** The newest segment + 1 that this series has samples of in order; 0: none yet. */
const SEGMENT = 10
/** Bits of room in the open float chunk's block. */
const ROOM_BITS = 11
/** The hash of the label texts. */
const HASH_A = 12
const HASH_B = 13
/** Slot + 1 of the newest chunk in the chain. */
const FIRST = 14
/** 1 when samples came out of order. */
const LATE = 15

const RECORD_WORDS = 16
const RECORD_FLOATS = 8
const OPEN_BYTES_MIN = 48
const LATE_BYTES_MIN = 64
/** Late histograms wait as objects; this many become chunks. */
const LATE_HISTOGRAMS_MAX = 32
/** A histogram chunk is cut when it passes this, whatever its count. */
const HISTOGRAM_CHUNK_BYTES_MAX = 48 * 1024

/** The state of a segment. */
export interface Segment {
  readonly number: number
  readonly sums: Int32Array
  sampleCount: number
}

interface LateHistograms {
  readonly times: number[]
  readonly histograms: Histogram[]
}

export interface Range {
  readonly startMs: number
  readonly endMs: number
}

export type ChunkVisitor = (
  encoding: number,
  bytes: Uint8Array,
  minTime: number,
  maxTime: number,
  count: number,
  segment: number,
) => void

const timeScratch = new Float64Array(1)
const timeWords = new Uint32Array(timeScratch.buffer)

const NOTHING = 0
const FLOAT = 1
const HISTOGRAM = 2

export class SeriesChunks {
  readonly chunks = new ChunkTable()
  readonly segments = new Map<number, Segment>()
  private readonly samplesPerChunkMax: number
  private floats = new Float64Array(RECORD_FLOATS * 8)
  private words = new Uint32Array(this.floats.buffer)
  private count = 0
  private current: Segment = { number: -1, sums: new Int32Array(2), sampleCount: 0 }
  private readonly openHistograms = new Map<number, { slot: number; writer: HistogramChunkWriter }>()
  private readonly lateHistograms = new Map<number, LateHistograms>()
  private histogramBytes = 0
  /** The column that the last float came from: batches bring many from one. */
  private column = new Float64Array(0) as Float64Array
  private columnWords = new Uint32Array(0) as Uint32Array

  /** What `find` found. */
  private foundKind = NOTHING
  private foundLow = 0
  private foundHigh = 0
  private foundHistogram: Histogram | undefined
  private readonly scratch = new SampleColumns(256)
  private encodeBytes = new Uint8Array(0)

  constructor(samplesPerChunkMax: number) {
    this.samplesPerChunkMax = samplesPerChunkMax
  }

  /** Makes the record of the next series. */
  addSeries(hashA: number, hashB: number): void {
    const ref = this.count++
    if ((ref + 1) * RECORD_FLOATS > this.floats.length) {
      const wider = new Float64Array(grownLength(this.floats.length / RECORD_FLOATS, ref + 1) * RECORD_FLOATS)
      const words = new Uint32Array(wider.buffer)
      words.set(this.words)
      this.floats = wider
      this.words = words
    }
    this.words[ref * RECORD_WORDS + HASH_A] = hashA
    this.words[ref * RECORD_WORDS + HASH_B] = hashB
  }

  /** Applies element `index` of `values`. */
  appendFloat(ref: number, segment: number, time: number, values: Float64Array, index: number): number {
    if (values !== this.column) {
      this.column = values
      this.columnWords = wordsOf(values)
    }
    return this.appendBits(ref, segment, time, this.columnWords[2 * index]!, this.columnWords[2 * index + 1]!)
  }

  /** Applies a float given as its two words. */
  appendBits(ref: number, segment: number, time: number, low: number, high: number): number {
    const { floats, words } = this
    const f = ref * RECORD_FLOATS
    const w = ref * RECORD_WORDS
    if (words[w + OPEN] === 0 || words[w + SEGMENT] !== segment + 1 || !(time > floats[f]!)) {
      return this.appendFloatSlowly(ref, segment, time, low, high)
    }
    if (words[w + PACKED]! >>> 16 >= this.samplesPerChunkMax) {
      this.closeOpen(ref)
      this.openFloats(ref, segment, time)
    } else if (words[w + BITS]! + SAMPLE_BITS_MAX > words[w + ROOM_BITS]!) {
      this.widenOpen(w)
    }
    const address = words[w + ADDRESS]!
    xorAppend(this.chunks.slab.pages[address >>> 16]!, (address & 0xffff) << 4, floats, f, words, w, time, low, high)
    const held = this.current.number === segment ? this.current : this.segmentOf(segment)
    held.sampleCount++
    timeScratch[0] = time
    tally(held.sums, 1, words[w + HASH_A]!, words[w + HASH_B]!, timeWords[0]!, timeWords[1]!, low, high, 0)
    return APPENDED_NEW
  }

  appendHistogram(ref: number, segment: number, time: number, histogram: Histogram): number {
    const { floats, words } = this
    const w = ref * RECORD_WORDS
    if (
      segment + 1 > words[w + SEGMENT]! ||
      (segment + 1 === words[w + SEGMENT]! && time > floats[ref * RECORD_FLOATS]!)
    ) {
      this.appendHistogramInOrder(ref, segment, time, histogram)
      this.tallyHistogram(ref, segment, time, histogram, 1)
      this.segmentOf(segment).sampleCount++
      return APPENDED_NEW
    }
    this.find(ref, segment, time)
    if (this.foundKind === HISTOGRAM) {
      const order = compareHistograms(histogram, this.foundHistogram!)
      if (order <= 0) return order === 0 ? APPENDED_EQUAL : APPENDED_KEPT
    }
    return this.putLate(ref, segment, time, () => {
      this.insertLateHistogram(ref, segment, time, histogram)
      this.tallyHistogram(ref, segment, time, histogram, 1)
    })
  }

  /** Everything that is not "the next sample of an open float chunk". */
  private appendFloatSlowly(ref: number, segment: number, time: number, low: number, high: number): number {
    const { floats, words } = this
    const f = ref * RECORD_FLOATS
    const w = ref * RECORD_WORDS
    const isNewSegment = segment + 1 > words[w + SEGMENT]!
    if (isNewSegment || (segment + 1 === words[w + SEGMENT]! && time > floats[f]!)) {
      this.closeOpen(ref)
      words[w + SEGMENT] = segment + 1
      this.openFloats(ref, segment, time)
      const address = words[w + ADDRESS]!
      xorAppend(this.chunks.slab.pages[address >>> 16]!, (address & 0xffff) << 4, floats, f, words, w, time, low, high)
      this.segmentOf(segment).sampleCount++
      this.tallyFloat(ref, segment, time, low, high, 1)
      return APPENDED_NEW
    }
    if (time === floats[f]! && words[w + LATE] === 0 && words[w + OPEN] !== 0 && segment + 1 === words[w + SEGMENT]!) {
      if (low === words[w + VALUE_LOW] && high === words[w + VALUE_HIGH]) return APPENDED_EQUAL // most resent batches end here
    }
    this.find(ref, segment, time)
    if (this.foundKind === HISTOGRAM) return APPENDED_KEPT
    if (this.foundKind === FLOAT) {
      const order = compareValueBits(high, low, this.foundHigh, this.foundLow)
      if (order <= 0) return order === 0 ? APPENDED_EQUAL : APPENDED_KEPT
    }
    return this.putLate(ref, segment, time, () => {
      this.insertLateFloat(ref, segment, time, low, high)
      this.tallyFloat(ref, segment, time, low, high, 1)
    })
  }

  /** Stores a late sample that is new or greater than the one `find` found. */
  private putLate(ref: number, segment: number, time: number, insert: () => void): number {
    this.words[ref * RECORD_WORDS + LATE] = 1
    const wasKind = this.foundKind
    if (wasKind === FLOAT) this.tallyFloat(ref, segment, time, this.foundLow, this.foundHigh, -1)
    else if (wasKind === HISTOGRAM) this.tallyHistogram(ref, segment, time, this.foundHistogram!, -1)
    else this.segmentOf(segment).sampleCount++
    insert()
    return wasKind === NOTHING ? APPENDED_NEW : APPENDED_REPLACED
  }

  private openFloats(ref: number, segment: number, time: number): void {
    const { chunks, words } = this
    const w = ref * RECORD_WORDS
    const slot = chunks.add(OPEN_XOR, segment, words[w + FIRST]!)
    chunks.allocate(slot, OPEN_BYTES_MIN)
    chunks.minTime[slot] = time
    words[w + FIRST] = slot + 1
    words[w + OPEN] = slot + 1
    words[w + ADDRESS] = chunks.address[slot]!
    words[w + ROOM_BITS] = chunks.room(slot) * 8
    words[w + PACKED] = PACKED_EMPTY
    words[w + BITS] = BITS_EMPTY
  }

  private widenOpen(w: number): void {
    const { chunks, words } = this
    const slot = words[w + OPEN]! - 1
    const used = (words[w + BITS]! + 7) >>> 3
    const room = words[w + ROOM_BITS]! >>> 3
    chunks.resize(slot, used, room < 96 ? room * 2 : room + (room >>> 1))
    words[w + ADDRESS] = chunks.address[slot]!
    words[w + ROOM_BITS] = chunks.room(slot) * 8
  }

  /** Finishes what is open in order, floats or histograms. */
  private closeOpen(ref: number): void {
    const { chunks, words } = this
    const w = ref * RECORD_WORDS
    const slot = words[w + OPEN]! - 1
    if (slot >= 0) {
      this.syncOpen(ref, slot)
      chunks.kind[slot] = FINISHED_XOR
      chunks.resize(slot, chunks.byteLength[slot]!, chunks.byteLength[slot]!)
      words[w + OPEN] = 0
      return
    }
    const open = this.openHistograms.get(ref)
    if (open === undefined) return
    this.openHistograms.delete(ref)
    this.histogramBytes -= open.writer.byteCount
    chunks.maxTime[open.slot] = this.floats[ref * RECORD_FLOATS]!
    this.finishHistograms(open.slot, open.writer)
  }

  private finishHistograms(slot: number, writer: HistogramChunkWriter): void {
    const { chunks } = this
    const bytes = writer.finish()
    chunks.allocate(slot, bytes.length)
    chunks.page(slot).set(bytes, chunks.start(slot))
    chunks.kind[slot] = writer.encoding
    chunks.byteLength[slot] = bytes.length
    chunks.count[slot] = writer.count
  }

  /** Brings an open float chunk's header and table row up to its record. */
  private syncOpen(ref: number, slot: number): void {
    const { chunks, words } = this
    const w = ref * RECORD_WORDS
    const count = words[w + PACKED]! >>> 16
    putXorCount(chunks.page(slot), chunks.start(slot), count)
    chunks.count[slot] = count
    chunks.byteLength[slot] = (words[w + BITS]! + 7) >>> 3
    chunks.maxTime[slot] = this.floats[ref * RECORD_FLOATS]!
  }

  private appendHistogramInOrder(ref: number, segment: number, time: number, histogram: Histogram): void {
    const { words } = this
    const w = ref * RECORD_WORDS
    const open = this.openHistograms.get(ref)
    const continues =
      open !== undefined &&
      words[w + SEGMENT] === segment + 1 &&
      open.writer.count < this.samplesPerChunkMax &&
      open.writer.byteCount < HISTOGRAM_CHUNK_BYTES_MAX &&
      open.writer.accepts(histogram)
    if (continues) {
      this.histogramBytes -= open.writer.byteCount
      open.writer.append(time, histogram)
      this.histogramBytes += open.writer.byteCount
    } else {
      this.closeOpen(ref)
      words[w + SEGMENT] = segment + 1
      const slot = this.chunks.add(OPEN_HISTOGRAM, segment, words[w + FIRST]!)
      words[w + FIRST] = slot + 1
      this.chunks.minTime[slot] = time
      const writer = new HistogramChunkWriter(time, histogram)
      this.openHistograms.set(ref, { slot, writer })
      this.histogramBytes += writer.byteCount
    }
    this.floats[ref * RECORD_FLOATS] = time
  }

  /** Finds the greatest sample of a series at one time within one segment, into the found fields. */
  private find(ref: number, segment: number, time: number): void {
    const { chunks } = this
    this.foundKind = NOTHING
    this.foundHistogram = undefined
    for (let at = this.words[ref * RECORD_WORDS + FIRST]!; at !== 0; at = chunks.next[at - 1]!) {
      const slot = at - 1
      if (chunks.segment[slot] !== segment || time < chunks.minTime[slot]! || time > this.maxTimeOf(ref, slot)) continue
      const kind = chunks.kind[slot]!
      if (kind === FINISHED_XOR || kind === OPEN_XOR || kind === LATE_FLOATS) {
        const { scratch } = this
        scratch.clear()
        this.decodeFloats(ref, slot, scratch)
        const i = indexOf(scratch.times, scratch.count, time)
        if (i >= 0) this.offerFloat(scratch.words[2 * i]!, scratch.words[2 * i + 1]!)
      } else {
        this.eachHistogram(ref, slot, (at, histogram) => {
          if (at === time) this.offerHistogram(histogram())
          return at < time
        })
      }
    }
  }

  private offerFloat(low: number, high: number): void {
    if (this.foundKind === HISTOGRAM) return
    if (this.foundKind === FLOAT && compareValueBits(high, low, this.foundHigh, this.foundLow) <= 0) return
    this.foundKind = FLOAT
    this.foundLow = low
    this.foundHigh = high
  }

  private offerHistogram(histogram: Histogram): void {
    if (this.foundKind === HISTOGRAM && compareHistograms(histogram, this.foundHistogram!) <= 0) return
    this.foundKind = HISTOGRAM
    this.foundHistogram = histogram
  }

  private maxTimeOf(ref: number, slot: number): number {
    const kind = this.chunks.kind[slot]!
    return kind === OPEN_XOR || kind === OPEN_HISTOGRAM ? this.floats[ref * RECORD_FLOATS]! : this.chunks.maxTime[slot]!
  }

  private insertLateFloat(ref: number, segment: number, time: number, low: number, high: number): void {
    const { chunks } = this
    let slot = this.lateSlot(ref, segment, LATE_FLOATS)
    if (slot >= 0 && chunks.count[slot]! >= this.samplesPerChunkMax) {
      this.finishLateFloats(ref, slot)
      slot = -1
    }
    if (slot < 0) {
      slot = this.addLate(ref, segment, LATE_FLOATS, time)
      chunks.allocate(slot, LATE_BYTES_MIN)
    }
    const count = chunks.count[slot]!
    if ((count + 1) * 16 > chunks.room(slot)) chunks.resize(slot, count * 16, chunks.room(slot) * 2)
    const floats = chunks.floats(slot)
    const start = chunks.floatStart(slot)
    let i = count
    while (i > 0 && floats[start + 2 * i - 2]! >= time) i--
    const isSame = i < count && floats[start + 2 * i] === time
    if (!isSame) {
      floats.copyWithin(start + 2 * i + 2, start + 2 * i, start + 2 * count)
      chunks.count[slot] = count + 1
    }
    floats[start + 2 * i] = time
    chunks.words(slot)[2 * (start + 2 * i + 1)] = low
    chunks.words(slot)[2 * (start + 2 * i + 1) + 1] = high
    chunks.byteLength[slot] = chunks.count[slot]! * 16
    chunks.minTime[slot] = Math.min(chunks.minTime[slot]!, time)
    chunks.maxTime[slot] = Math.max(chunks.maxTime[slot]!, time)
  }

  private insertLateHistogram(ref: number, segment: number, time: number, histogram: Histogram): void {
    const { chunks } = this
    let slot = this.lateSlot(ref, segment, LATE_HISTOGRAMS)
    if (slot >= 0 && chunks.count[slot]! >= LATE_HISTOGRAMS_MAX) {
      this.finishLateHistograms(ref, slot)
      slot = -1
    }
    if (slot < 0) {
      slot = this.addLate(ref, segment, LATE_HISTOGRAMS, time)
      this.lateHistograms.set(slot, { times: [], histograms: [] })
    }
    const { times, histograms } = this.lateHistograms.get(slot)!
    let i = times.length
    while (i > 0 && times[i - 1]! >= time) i--
    const isSame = times[i] === time
    times.splice(i, isSame ? 1 : 0, time)
    histograms.splice(i, isSame ? 1 : 0, histogram)
    chunks.count[slot] = times.length
    chunks.minTime[slot] = Math.min(chunks.minTime[slot]!, time)
    chunks.maxTime[slot] = Math.max(chunks.maxTime[slot]!, time)
  }

  private addLate(ref: number, segment: number, kind: number, time: number): number {
    const w = ref * RECORD_WORDS
    const slot = this.chunks.add(kind, segment, this.words[w + FIRST]!)
    this.words[w + FIRST] = slot + 1
    this.chunks.minTime[slot] = time
    this.chunks.maxTime[slot] = time
    return slot
  }

  private lateSlot(ref: number, segment: number, kind: number): number {
    const { chunks } = this
    for (let at = this.words[ref * RECORD_WORDS + FIRST]!; at !== 0; at = chunks.next[at - 1]!) {
      if (chunks.kind[at - 1] === kind && chunks.segment[at - 1] === segment) return at - 1
    }
    return -1
  }

  /** A full buffer of late floats becomes a chunk in its slot. */
  private finishLateFloats(ref: number, slot: number): void {
    const { chunks } = this
    const bytes = this.encodeLateFloats(ref, slot)
    chunks.slab.release(chunks.address[slot]!, chunks.sizeClass[slot]!)
    chunks.allocate(slot, bytes.length)
    chunks.page(slot).set(bytes, chunks.start(slot))
    chunks.kind[slot] = FINISHED_XOR
    chunks.byteLength[slot] = bytes.length
  }

  private encodeLateFloats(ref: number, slot: number): Uint8Array {
    const { scratch } = this
    scratch.clear()
    this.decodeFloats(ref, slot, scratch)
    const bytesMax = xorBytesMax(scratch.count)
    if (this.encodeBytes.length < bytesMax) this.encodeBytes = new Uint8Array(bytesMax)
    const byteCount = encodeXor(scratch.times, scratch.words, 0, scratch.count, this.encodeBytes, 0)
    return this.encodeBytes.subarray(0, byteCount)
  }

  /** A full buffer of late histograms becomes one chunk or, where layouts change, several. */
  private finishLateHistograms(ref: number, slot: number): void {
    const { chunks } = this
    const w = ref * RECORD_WORDS
    let target = slot
    this.eachLateWriter(slot, (writer, minTime, maxTime) => {
      if (target < 0) {
        target = chunks.add(FINISHED_HISTOGRAM, chunks.segment[slot]!, this.words[w + FIRST]!)
        this.words[w + FIRST] = target + 1
      }
      chunks.minTime[target] = minTime
      chunks.maxTime[target] = maxTime
      this.finishHistograms(target, writer)
      target = -1
    })
    this.lateHistograms.delete(slot)
  }

  private eachLateWriter(
    slot: number,
    fn: (writer: HistogramChunkWriter, minTime: number, maxTime: number) => void,
  ): void {
    const { times, histograms } = this.lateHistograms.get(slot)!
    let first = 0
    while (first < times.length) {
      const writer = new HistogramChunkWriter(times[first]!, histograms[first]!)
      let i = first + 1
      while (i < times.length && writer.byteCount < HISTOGRAM_CHUNK_BYTES_MAX && writer.accepts(histograms[i]!)) {
        writer.append(times[i]!, histograms[i]!)
        i++
      }
      fn(writer, times[first]!, times[i - 1]!)
      first = i
    }
  }

  /** Appends all floats of a chunk to a sink. */
  private decodeFloats(ref: number, slot: number, sink: SampleColumns): void {
    const { chunks } = this
    const kind = chunks.kind[slot]!
    if (kind === OPEN_XOR) this.syncOpen(ref, slot)
    const count = chunks.count[slot]!
    sink.reserve(count)
    if (kind === LATE_FLOATS) {
      const floats = chunks.floats(slot)
      const words = chunks.words(slot)
      const start = chunks.floatStart(slot)
      for (let i = 0; i < count; i++) {
        sink.times[sink.count + i] = floats[start + 2 * i]!
        sink.words[2 * (sink.count + i)] = words[2 * (start + 2 * i + 1)]!
        sink.words[2 * (sink.count + i) + 1] = words[2 * (start + 2 * i + 1) + 1]!
      }
    } else {
      const start = chunks.start(slot)
      decodeXorWords(chunks.page(slot), start, start + chunks.byteLength[slot]!, sink.times, sink.words, sink.count)
    }
    sink.advance(count)
  }

  /** Calls back for the histograms of a chunk in time order until the callback returns false. */
  private eachHistogram(ref: number, slot: number, fn: (time: number, histogram: () => Histogram) => boolean): void {
    const { chunks } = this
    const kind = chunks.kind[slot]!
    if (kind === LATE_HISTOGRAMS) {
      const { times, histograms } = this.lateHistograms.get(slot)!
      for (let i = 0; i < times.length; i++) if (!fn(times[i]!, () => histograms[i]!)) return
      return
    }
    const reader = this.histogramReader(ref, slot)
    while (reader.next()) if (!fn(reader.time, () => reader.histogram())) return
  }

  private histogramReader(ref: number, slot: number): HistogramChunkReader {
    const { chunks } = this
    if (chunks.kind[slot] === OPEN_HISTOGRAM) {
      const { writer } = this.openHistograms.get(ref)!
      const bytes = writer.finish()
      return new HistogramChunkReader(writer.encoding, bytes, 0, bytes.length)
    }
    const start = chunks.start(slot)
    return new HistogramChunkReader(chunks.kind[slot]!, chunks.page(slot), start, start + chunks.byteLength[slot]!)
  }

  /** Whether any chunk of the series overlaps the range. */
  overlaps(ref: number, { startMs, endMs }: Range): boolean {
    const { chunks } = this
    for (let at = this.words[ref * RECORD_WORDS + FIRST]!; at !== 0; at = chunks.next[at - 1]!) {
      if (chunks.minTime[at - 1]! <= endMs && this.maxTimeOf(ref, at - 1) >= startMs) return true
    }
    return false
  }

  /** The slots that overlap the range, by min time. */
  overlapping(ref: number, { startMs, endMs }: Range): number[] {
    const { chunks } = this
    const slots: number[] = []
    for (let at = this.words[ref * RECORD_WORDS + FIRST]!; at !== 0; at = chunks.next[at - 1]!) {
      if (chunks.minTime[at - 1]! <= endMs && this.maxTimeOf(ref, at - 1) >= startMs) slots.push(at - 1)
    }
    if (slots.length > 1) slots.reverse().sort((a, b) => chunks.minTime[a]! - chunks.minTime[b]!)
    return slots
  }

  minTimeOf(slot: number): number {
    return this.chunks.minTime[slot]!
  }

  endOf(ref: number, slot: number): number {
    return this.maxTimeOf(ref, slot)
  }

  /** Appends the samples of a chunk that lie in the range to a sink. */
  decode(ref: number, slot: number, { startMs, endMs }: Range, sink: SampleColumns): void {
    const kind = this.chunks.kind[slot]!
    if (kind === FINISHED_XOR || kind === OPEN_XOR || kind === LATE_FLOATS) {
      const before = sink.count
      this.decodeFloats(ref, slot, sink)
      sink.clip(before, startMs, endMs)
      return
    }
    this.eachHistogram(ref, slot, (time, histogram) => {
      if (time >= startMs && time <= endMs) sink.pushHistogram(time, histogram())
      return time < endMs
    })
  }

  /** The newest sample of the series if it is a float of an open chunk that no other chunk reaches and the range allows it: no
   *  decoding needed. */
  lastOpenInto(ref: number, { startMs, endMs }: Range, sink: SampleColumns): boolean {
    const { chunks, floats, words } = this
    const w = ref * RECORD_WORDS
    const time = floats[ref * RECORD_FLOATS]!
    if (words[w + OPEN] === 0 || time > endMs || time < startMs) return false
    for (let at = words[w + FIRST]!; at !== 0; at = chunks.next[at - 1]!) {
      if (at !== words[w + OPEN] && this.maxTimeOf(ref, at - 1) >= time) return false
    }
    sink.pushBits(time, words[w + VALUE_LOW]!, words[w + VALUE_HIGH]!)
    return true
  }

  /** Shows a chunk's finished bytes: views that are valid during the call only. */
  show(ref: number, slot: number, fn: ChunkVisitor): void {
    const { chunks } = this
    const kind = chunks.kind[slot]!
    const segment = chunks.segment[slot]!
    if (kind === LATE_HISTOGRAMS) {
      this.eachLateWriter(slot, (writer, minTime, maxTime) =>
        fn(writer.encoding, writer.finish(), minTime, maxTime, writer.count, segment),
      )
      return
    }
    const minTime = chunks.minTime[slot]!
    const maxTime = this.maxTimeOf(ref, slot)
    if (kind === OPEN_HISTOGRAM) {
      const { writer } = this.openHistograms.get(ref)!
      fn(writer.encoding, writer.finish(), minTime, maxTime, writer.count, segment)
    } else if (kind === LATE_FLOATS) {
      fn(FINISHED_XOR, this.encodeLateFloats(ref, slot), minTime, maxTime, chunks.count[slot]!, segment)
    } else {
      if (kind === OPEN_XOR) this.syncOpen(ref, slot)
      const start = chunks.start(slot)
      const bytes = chunks.page(slot).subarray(start, start + chunks.byteLength[slot]!)
      const isHistogram = kind === FINISHED_HISTOGRAM || kind === FINISHED_FLOAT_HISTOGRAM
      fn(isHistogram ? kind : FINISHED_XOR, bytes, minTime, maxTime, chunks.count[slot]!, segment)
    }
  }

  /** Frees a segment's chunks. */
  dropSegment(segment: number): void {
    const { chunks, words } = this
    for (let ref = 0; ref < this.count; ref++) {
      const w = ref * RECORD_WORDS
      let before = -1
      for (let at = words[w + FIRST]!; at !== 0; ) {
        const slot = at - 1
        at = chunks.next[slot]!
        if (chunks.segment[slot] !== segment) {
          before = slot
          continue
        }
        if (before < 0) words[w + FIRST] = at
        else chunks.next[before] = at
        this.forget(ref, slot)
      }
      if (words[w + FIRST] === 0) words[w + LATE] = 0
    }
    this.segments.delete(segment)
    if (this.current.number === segment) this.current = { number: -1, sums: new Int32Array(2), sampleCount: 0 }
    chunks.slab.trim()
  }

  private forget(ref: number, slot: number): void {
    const w = ref * RECORD_WORDS
    const kind = this.chunks.kind[slot]!
    if (kind === OPEN_XOR) this.words[w + OPEN] = 0
    if (kind === LATE_HISTOGRAMS) this.lateHistograms.delete(slot)
    if (kind === OPEN_HISTOGRAM) {
      this.histogramBytes -= this.openHistograms.get(ref)!.writer.byteCount
      this.openHistograms.delete(ref)
    }
    this.chunks.remove(slot)
  }

  get bytes(): number {
    return this.floats.byteLength + this.chunks.bytes + this.histogramBytes * 2 + this.openHistograms.size * 1000
  }

  private segmentOf(segment: number): Segment {
    if (this.current.number === segment) return this.current
    let held = this.segments.get(segment)
    if (held === undefined) {
      held = { number: segment, sums: new Int32Array(2), sampleCount: 0 }
      this.segments.set(segment, held)
    }
    this.current = held
    return held
  }

  private tallyFloat(ref: number, segment: number, time: number, low: number, high: number, sign: number): void {
    const w = ref * RECORD_WORDS
    timeScratch[0] = time
    const { sums } = this.segmentOf(segment)
    tally(sums, sign, this.words[w + HASH_A]!, this.words[w + HASH_B]!, timeWords[0]!, timeWords[1]!, low, high, 0)
  }

  private tallyHistogram(ref: number, segment: number, time: number, histogram: Histogram, sign: number): void {
    const w = ref * RECORD_WORDS
    const bytes = canonicalBytes(histogram)
    const a = hashBytes(bytes, 0x811c9dc5)
    const b = hashBytes(bytes, 0x9747b28c)
    timeScratch[0] = time
    const { sums } = this.segmentOf(segment)
    tally(sums, sign, this.words[w + HASH_A]!, this.words[w + HASH_B]!, timeWords[0]!, timeWords[1]!, a, b, 1)
  }
}

/** The index of a time in a rising column, −1 when it is not there. */
function indexOf(times: Float64Array, count: number, time: number): number {
  let low = 0
  let high = count
  while (low < high) {
    const middle = (low + high) >>> 1
    if (times[middle]! < time) low = middle + 1
    else high = middle
  }
  return low < count && times[low] === time ? low : -1
}
