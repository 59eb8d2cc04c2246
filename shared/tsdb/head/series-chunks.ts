// Every series' samples: its record, its chain of chunks, appending in and out of order, reading back. The hot half of a head.
//
// Invariants
//   HEAD-1  A chunk holds samples of one segment. Within a segment the chunks written in order rise in time and do not overlap.
//   HEAD-2  Within a segment the greatest of the samples with one time shows (LOG-11), whatever the order and the repeats of arrival; a
//       sample that changes nothing stores nothing.
//   HEAD-3  A record's last time is that of the newest sample written in order in the newest segment: a later one in that segment is new.
//   HEAD-4  What is compared and hashed of a histogram is what a chunk gives back of it, so storing does not change it.
//   HEAD-5  A chunk lies wholly before or wholly behind the place of each deletion in the log. What a deletion hides is left out by all that
//       reads, but not by digests and `storedChunksOf`.
//
// What is called a segment here is a part of one (parts.ts): a number that grows with each new one.
//
// Floats with start times have chunks of their own, which a writer outside the slab holds while they are open. Those without one join such a
// chunk where it is open, so that none of both is cut at every change.
//
// Hot kernel: a record is one cache line of 16 words (8 floats), so an append in order touches the record, the chunk's bytes and the
// segment's sums, and calls nothing that allocates. Words 0 to 7 are the XOR writer's (chunk/xor.ts), then those below.

import { assert } from '../../base/assert.ts'
import type { Histogram } from '../../model/histogram.ts'
import { ALL_TIME, type Interval } from '../../model/interval.ts'
import type { Place } from '../../model/place.ts'
import { compareValueBits } from '../../model/sample.ts'
import { grownLength } from '../chunk/growth.ts'
import { HistogramChunkWriter } from '../chunk/histogram.ts'
import {
  BITS,
  BITS_EMPTY,
  PACKED,
  PACKED_EMPTY,
  putXorCount,
  SAMPLE_BITS_MAX,
  VALUE_HIGH,
  VALUE_LOW,
  wordsOf,
  xorAppend,
} from '../chunk/xor.ts'
import { Xor2ChunkWriter } from '../chunk/xor2.ts'
import { SampleColumns } from '../columns.ts'
import { pushVisible } from '../delete-filter.ts'
import { canonicalBytes, compareHistograms } from '../histogram-order.ts'
import {
  type ChunkVisitor,
  eachHistogram,
  encodeRun,
  holdsFloats,
  readChunk,
  readFloats,
  showChunk,
} from './chunk-reading.ts'
import { ChunkTable, FINISHED_XOR, OPEN_HISTOGRAM, OPEN_XOR, OPEN_XOR2 } from './chunk-table.ts'
import { digestsOfHistogram, kindOf, tally } from './digest.ts'
import { HISTOGRAM_CHUNK_BYTES_MAX, putLateFloat, putLateHistogram } from './late-samples.ts'
import { DEAD } from './series-table.ts'

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

/** The state of a segment. */
export interface Segment {
  readonly number: number
  readonly sums: Int32Array
  sampleCount: number
}

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
  /** The column that the last float came from: batches bring many from one. */
  private column = new Float64Array(0) as Float64Array
  private columnWords = new Uint32Array(0) as Uint32Array

  /** What `find` found. */
  private foundKind = NOTHING
  private foundLow = 0
  private foundHigh = 0
  private foundHistogram: Histogram | undefined
  private foundStart = 0
  private readonly scratch = new SampleColumns(256)
  private readonly visible = new SampleColumns(256)

  constructor(samplesPerChunkMax: number) {
    assert(samplesPerChunkMax >= 1 && samplesPerChunkMax <= 0xffff, 'a chunk counts its samples in 16 bits')
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

  /** The hash of the series' label texts: [at] and [at + 1] of the target. */
  hashInto(ref: number, target: Uint32Array, at: number): void {
    target[at] = this.words[ref * RECORD_WORDS + HASH_A]!
    target[at + 1] = this.words[ref * RECORD_WORDS + HASH_B]!
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
      // HEAD-3
      return this.appendFloatSlowly(ref, segment, time, low, high, 0)
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

  /** The same with a start time, which is not 0. */
  appendStarted(ref: number, segment: number, time: number, low: number, high: number, startTime: number): number {
    return this.appendFloatSlowly(ref, segment, time, low, high, startTime)
  }

  appendHistogram(ref: number, segment: number, time: number, histogram: Histogram, startTime: number): number {
    const { floats, words } = this
    const w = ref * RECORD_WORDS
    if (
      segment + 1 > words[w + SEGMENT]! ||
      (segment + 1 === words[w + SEGMENT]! && time > floats[ref * RECORD_FLOATS]!)
    ) {
      this.appendHistogramInOrder(ref, segment, time, histogram, startTime)
      this.tallyHistogram(ref, segment, time, histogram, startTime, 1)
      this.segmentOf(segment).sampleCount++
      return APPENDED_NEW
    }
    this.find(ref, segment, time)
    if (this.foundKind === HISTOGRAM) {
      const order = compareHistograms(histogram, this.foundHistogram!) || startTime - this.foundStart
      if (order <= 0) return order === 0 ? APPENDED_EQUAL : APPENDED_KEPT
    }
    return this.putLate(ref, segment, time, () => {
      words[w + FIRST] = putLateHistogram(this.chunks, words[w + FIRST]!, segment, time, histogram, startTime)
      this.tallyHistogram(ref, segment, time, histogram, startTime, 1)
    })
  }

  /** Everything that is not "the next sample of an open float chunk". */
  private appendFloatSlowly(
    ref: number,
    segment: number,
    time: number,
    low: number,
    high: number,
    startTime: number,
  ): number {
    const { floats, words } = this
    const f = ref * RECORD_FLOATS
    const w = ref * RECORD_WORDS
    const isNewSegment = segment + 1 > words[w + SEGMENT]!
    if (isNewSegment || (segment + 1 === words[w + SEGMENT]! && time > floats[f]!)) {
      const started = this.startedWriter(ref, segment, startTime)
      if (started !== undefined) {
        this.appendToStarted(started, ref, segment, time, low, high, startTime)
      } else {
        this.closeOpen(ref)
        words[w + SEGMENT] = segment + 1
        this.openFloats(ref, segment, time)
        const address = words[w + ADDRESS]!
        const page = this.chunks.slab.pages[address >>> 16]!
        xorAppend(page, (address & 0xffff) << 4, floats, f, words, w, time, low, high)
      }
      this.segmentOf(segment).sampleCount++
      this.tallyFloat(ref, segment, time, low, high, startTime, 1)
      return APPENDED_NEW
    }
    if (
      startTime === 0 &&
      time === floats[f]! &&
      words[w + LATE] === 0 &&
      words[w + OPEN] !== 0 &&
      segment + 1 === words[w + SEGMENT]!
    ) {
      if (low === words[w + VALUE_LOW] && high === words[w + VALUE_HIGH]) return APPENDED_EQUAL // most resent batches end here
    }
    this.find(ref, segment, time)
    if (this.foundKind === HISTOGRAM) return APPENDED_KEPT
    if (this.foundKind === FLOAT) {
      const order = compareValueBits(high, low, this.foundHigh, this.foundLow) || startTime - this.foundStart
      if (order <= 0) return order === 0 ? APPENDED_EQUAL : APPENDED_KEPT
    }
    return this.putLate(ref, segment, time, () => {
      const first = words[w + FIRST]!
      words[w + FIRST] = putLateFloat(
        this.chunks,
        first,
        segment,
        this.samplesPerChunkMax,
        time,
        low,
        high,
        startTime,
        this.scratch,
      )
      this.tallyFloat(ref, segment, time, low, high, startTime, 1)
    })
  }

  /** Stores a late sample that is new or greater than the one `find` found. */
  private putLate(ref: number, segment: number, time: number, insert: () => void): number {
    this.words[ref * RECORD_WORDS + LATE] = 1
    const { foundKind: wasKind, foundStart } = this
    if (wasKind === FLOAT) this.tallyFloat(ref, segment, time, this.foundLow, this.foundHigh, foundStart, -1)
    else if (wasKind === HISTOGRAM) {
      this.tallyHistogram(ref, segment, time, this.foundHistogram!, foundStart, -1)
    } else this.segmentOf(segment).sampleCount++
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

  /** Where a float in order goes that has a start time, or that follows one: the open writer, or undefined for an XOR chunk. */
  private startedWriter(ref: number, segment: number, startTime: number): Xor2ChunkWriter | undefined | 'new' {
    const { chunks, words } = this
    const open = chunks.openStarted.get(this.openWriterSlot(ref))
    const continues =
      open !== undefined && words[ref * RECORD_WORDS + SEGMENT] === segment + 1 && open.count < this.samplesPerChunkMax
    if (continues) return open
    return startTime === 0 ? undefined : 'new'
  }

  private appendToStarted(
    open: Xor2ChunkWriter | 'new',
    ref: number,
    segment: number,
    time: number,
    low: number,
    high: number,
    startTime: number,
  ): void {
    const { chunks, words } = this
    const w = ref * RECORD_WORDS
    let writer = open
    if (writer === 'new') {
      this.closeOpen(ref)
      words[w + SEGMENT] = segment + 1
      const slot = chunks.add(OPEN_XOR2, segment, words[w + FIRST]!)
      words[w + FIRST] = slot + 1
      chunks.minTime[slot] = time
      writer = new Xor2ChunkWriter()
      chunks.openStarted.set(slot, writer)
    }
    writer.append(time, low, high, startTime)
    this.floats[ref * RECORD_FLOATS] = time
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
    this.sync(ref)
    const slot = words[w + OPEN]! - 1
    if (slot >= 0) {
      chunks.kind[slot] = FINISHED_XOR
      chunks.resize(slot, chunks.byteLength[slot]!, chunks.byteLength[slot]!)
      words[w + OPEN] = 0
      return
    }
    const writerSlot = this.openWriterSlot(ref)
    if (writerSlot < 0) return
    const writer = this.writerAt(writerSlot)
    chunks.openHistograms.delete(writerSlot)
    chunks.openStarted.delete(writerSlot)
    chunks.fill(writerSlot, writer.encoding, writer.finish())
  }

  /** The slot of a series' open chunk that a writer holds, −1 when it has none. */
  private openWriterSlot(ref: number): number {
    const { chunks } = this
    if (chunks.openHistograms.size === 0 && chunks.openStarted.size === 0) return -1
    for (let link = this.words[ref * RECORD_WORDS + FIRST]!; link !== 0; link = chunks.next[link - 1]!) {
      const kind = chunks.kind[link - 1]
      if (kind === OPEN_HISTOGRAM || kind === OPEN_XOR2) return link - 1
    }
    return -1
  }

  private writerAt(slot: number): HistogramChunkWriter | Xor2ChunkWriter {
    return (this.chunks.openHistograms.get(slot) ?? this.chunks.openStarted.get(slot))!
  }

  /** Of all series: how many chunks, and from when to when their samples are. */
  stats(): { chunkCount: number; times?: { minMs: number; maxMs: number } } {
    for (let ref = 0; ref < this.count; ref++) this.sync(ref)
    return this.chunks.stats()
  }

  /** Brings the table's row, and the header, of a series' open chunk up to what was appended. */
  private sync(ref: number): void {
    const { chunks, words } = this
    const w = ref * RECORD_WORDS
    const slot = words[w + OPEN]! - 1
    if (slot >= 0) {
      const count = words[w + PACKED]! >>> 16
      putXorCount(chunks.page(slot), chunks.start(slot), count)
      chunks.count[slot] = count
      chunks.byteLength[slot] = (words[w + BITS]! + 7) >>> 3
      chunks.maxTime[slot] = this.floats[ref * RECORD_FLOATS]!
      return
    }
    const writerSlot = this.openWriterSlot(ref)
    if (writerSlot < 0) return
    chunks.count[writerSlot] = this.writerAt(writerSlot).count
    chunks.maxTime[writerSlot] = this.floats[ref * RECORD_FLOATS]!
  }

  private appendHistogramInOrder(
    ref: number,
    segment: number,
    time: number,
    histogram: Histogram,
    startTime: number,
  ): void {
    const { chunks, words } = this
    const w = ref * RECORD_WORDS
    const writer = chunks.openHistograms.get(this.openWriterSlot(ref))
    const continues =
      writer !== undefined &&
      words[w + SEGMENT] === segment + 1 &&
      writer.count < this.samplesPerChunkMax &&
      writer.byteCount < HISTOGRAM_CHUNK_BYTES_MAX &&
      writer.accepts(histogram, startTime)
    if (continues) {
      writer.append(time, histogram, startTime)
    } else {
      this.closeOpen(ref)
      words[w + SEGMENT] = segment + 1
      const slot = chunks.add(OPEN_HISTOGRAM, segment, words[w + FIRST]!)
      words[w + FIRST] = slot + 1
      chunks.minTime[slot] = time
      const start = startTime === 0 ? undefined : startTime
      chunks.openHistograms.set(slot, new HistogramChunkWriter(time, histogram, { start }))
    }
    this.floats[ref * RECORD_FLOATS] = time
  }

  /** Finds the greatest sample of a series at one time within one segment, into the found fields. */
  private find(ref: number, segment: number, time: number): void {
    const { chunks, scratch } = this
    this.foundKind = NOTHING
    this.foundHistogram = undefined
    this.sync(ref)
    for (let link = this.words[ref * RECORD_WORDS + FIRST]!; link !== 0; link = chunks.next[link - 1]!) {
      const slot = link - 1
      if (chunks.segment[slot] !== segment || time < chunks.minTime[slot]! || time > chunks.maxTime[slot]!) continue
      if (holdsFloats(chunks, slot)) {
        scratch.clear()
        readFloats(chunks, slot, scratch)
        const i = indexOf(scratch.times, scratch.count, time)
        if (i >= 0) this.offerFloat(scratch.words[2 * i]!, scratch.words[2 * i + 1]!, scratch.startTimes?.[i] ?? 0)
      } else {
        eachHistogram(chunks, slot, (at, histogram, startTime) => {
          if (at === time) this.offerHistogram(histogram(), startTime)
          return at < time
        })
      }
    }
  }

  private offerFloat(low: number, high: number, startTime: number): void {
    if (this.foundKind === HISTOGRAM) return
    if (this.foundKind === FLOAT) {
      const order = compareValueBits(high, low, this.foundHigh, this.foundLow) || startTime - this.foundStart
      if (order <= 0) return
    }
    this.foundKind = FLOAT
    this.foundLow = low
    this.foundHigh = high
    this.foundStart = startTime
  }

  private offerHistogram(histogram: Histogram, startTime: number): void {
    if (this.foundKind === HISTOGRAM) {
      const order = compareHistograms(histogram, this.foundHistogram!) || startTime - this.foundStart
      if (order <= 0) return
    }
    this.foundKind = HISTOGRAM
    this.foundHistogram = histogram
    this.foundStart = startTime
  }

  /** Whether any chunk of the series overlaps the range. Most often the newest sample tells. */
  overlaps(ref: number, { startMs, endMs }: Interval): boolean {
    const { chunks, floats, words } = this
    const w = ref * RECORD_WORDS
    const newest = floats[ref * RECORD_FLOATS]!
    if (words[w + OPEN] !== 0 && newest >= startMs && newest <= endMs) return true
    this.sync(ref)
    for (let link = words[w + FIRST]!; link !== 0; link = chunks.next[link - 1]!) {
      if (chunks.minTime[link - 1]! <= endMs && chunks.maxTime[link - 1]! >= startMs) return true
    }
    return false
  }

  /** The slots of a series that overlap the range, by min time; their rows in `chunks` are up to date. */
  overlapping(ref: number, { startMs, endMs }: Interval): number[] {
    const { chunks } = this
    this.sync(ref)
    const slots: number[] = []
    for (let link = this.words[ref * RECORD_WORDS + FIRST]!; link !== 0; link = chunks.next[link - 1]!) {
      if (chunks.minTime[link - 1]! <= endMs && chunks.maxTime[link - 1]! >= startMs) slots.push(link - 1)
    }
    if (slots.length > 1) slots.reverse().sort((a, b) => chunks.minTime[a]! - chunks.minTime[b]!)
    return slots
  }

  /** Appends the samples of a slot of `overlapping` that lie in the range to a sink. */
  read(slot: number, range: Interval, sink: SampleColumns): void {
    readChunk(this.chunks, slot, range, sink)
  }

  /** Shows a slot of `overlapping`, which lies at `place`. */
  show(slot: number, place: Place, fn: ChunkVisitor): void {
    showChunk(this.chunks, slot, { scratch: this.scratch, place }, fn)
  }

  /** Shows what intervals that are apart leave of a slot of `overlapping`: nothing, or a chunk or more. */
  showVisible(slot: number, { place, hidden }: { place: Place; hidden: readonly Interval[] }, fn: ChunkVisitor): void {
    const run = this.readVisible(slot, hidden).asRun()
    if (run.end > 0)
      encodeRun(run, (bytes, encoding, first, end) => {
        fn(encoding, bytes, run.times[first]!, run.times[end - 1]!, end - first, place.segment, place.seq)
      })
  }

  /** What intervals that are apart leave of the samples of a slot of `overlapping`; valid until the next call. */
  readVisible(slot: number, hidden: readonly Interval[]): SampleColumns {
    this.scratch.clear()
    this.visible.clear()
    readChunk(this.chunks, slot, ALL_TIME, this.scratch)
    pushVisible(this.scratch.asRun(), hidden, this.visible)
    return this.visible
  }

  /** The newest sample of the series if it is a float of an open chunk that no other chunk reaches and the range allows it: no
   *  decoding needed. */
  lastOpenInto(ref: number, { startMs, endMs }: Interval, sink: SampleColumns): boolean {
    const { chunks, floats, words } = this
    const w = ref * RECORD_WORDS
    const time = floats[ref * RECORD_FLOATS]!
    if (words[w + OPEN] === 0 || time > endMs || time < startMs) return false
    for (let at = words[w + FIRST]!; at !== 0; at = chunks.next[at - 1]!) {
      if (at !== words[w + OPEN] && chunks.maxTime[at - 1]! >= time) return false
    }
    sink.pushBits(time, words[w + VALUE_LOW]!, words[w + VALUE_HIGH]!)
    return true
  }

  /** Whether anything is held of the series. */
  holds(ref: number): boolean {
    return this.words[ref * RECORD_WORDS + FIRST] !== 0
  }

  /** Keeps the records of the series to which `refs` gives a new ref (rising; DEAD: none), `count` in all. The others hold nothing. */
  compact(refs: Uint32Array, count: number): void {
    const { words } = this
    for (let ref = 0; ref < this.count; ref++) {
      if (refs[ref] === DEAD || refs[ref] === ref) continue
      words.copyWithin(refs[ref]! * RECORD_WORDS, ref * RECORD_WORDS, (ref + 1) * RECORD_WORDS)
    }
    this.count = count
    this.words = words.slice(0, Math.max(count, 8) * RECORD_WORDS)
    this.words.fill(0, count * RECORD_WORDS)
    this.floats = new Float64Array(this.words.buffer)
  }

  /** Frees the chunks of these parts. */
  drop(parts: ReadonlySet<number>): void {
    const { chunks, words } = this
    const dropped = [...this.segments.keys()].filter((part) => parts.has(part))
    if (dropped.length === 0) return
    for (let ref = 0; ref < this.count; ref++) {
      const w = ref * RECORD_WORDS
      let before = -1 // the slot that stays in front
      for (let at = words[w + FIRST]!; at !== 0; ) {
        const slot = at - 1
        at = chunks.next[slot]!
        if (!parts.has(chunks.segment[slot]!)) {
          before = slot
          continue
        }
        if (before < 0) words[w + FIRST] = at
        else chunks.next[before] = at
        if (slot === words[w + OPEN]! - 1) words[w + OPEN] = 0
        chunks.remove(slot)
      }
      if (words[w + FIRST] === 0) words[w + LATE] = 0
    }
    for (const part of dropped) this.segments.delete(part)
    if (parts.has(this.current.number)) this.current = { number: -1, sums: new Int32Array(2), sampleCount: 0 }
    chunks.slab.trim()
  }

  get bytes(): number {
    return this.floats.byteLength + this.chunks.bytes
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

  private tallyFloat(
    ref: number,
    segment: number,
    time: number,
    low: number,
    high: number,
    startTime: number,
    sign: number,
  ): void {
    const w = ref * RECORD_WORDS
    const kind = kindOf(0, startTime)
    timeScratch[0] = time
    const { sums } = this.segmentOf(segment)
    tally(sums, sign, this.words[w + HASH_A]!, this.words[w + HASH_B]!, timeWords[0]!, timeWords[1]!, low, high, kind)
  }

  private tallyHistogram(
    ref: number,
    segment: number,
    time: number,
    histogram: Histogram,
    startTime: number,
    sign: number,
  ): void {
    const kind = kindOf(1, startTime)
    const w = ref * RECORD_WORDS
    const [a, b] = digestsOfHistogram(canonicalBytes(histogram)) // HEAD-4
    timeScratch[0] = time
    const { sums } = this.segmentOf(segment)
    tally(sums, sign, this.words[w + HASH_A]!, this.words[w + HASH_B]!, timeWords[0]!, timeWords[1]!, a, b, kind)
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
