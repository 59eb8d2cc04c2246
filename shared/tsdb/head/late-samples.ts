// Samples that came out of order: per series and segment one sorted buffer of floats, one of floats with start times and one of histograms, which become chunks when
// they are full. Chains are given and returned by their first link (slot + 1, 0 for none).
import type { Histogram } from '../../model/histogram.ts'
import { HistogramChunkWriter } from '../chunk/histogram.ts'
import { encodeXor, xorBytesMax } from '../chunk/xor.ts'
import { ENCODING_XOR2, encodeXor2 } from '../chunk/xor2.ts'
import { hasStarts, type SampleColumns, type SampleRun } from '../columns.ts'
import {
  type ChunkTable,
  FINISHED_HISTOGRAM,
  FINISHED_XOR,
  FINISHED_XOR2,
  LATE_FLOATS,
  LATE_HISTOGRAMS,
  LATE_STARTED,
} from './chunk-table.ts'

const LATE_BYTES_MIN = 64
/** Late histograms wait as objects; this many become chunks. */
const LATE_HISTOGRAMS_MAX = 32
/** A histogram chunk is cut when it passes this, whatever its count. */
export const HISTOGRAM_CHUNK_BYTES_MAX = 48 * 1024

let encodeBytes = new Uint8Array(0)

/** Floats that a sample takes in a late buffer. */
const strideOf = (kind: number): number => (kind === LATE_STARTED ? 3 : 2)

/** Stores a float, over the one of the same time in the buffer if there is one. Returns the chain's first link. */
export function putLateFloat(
  table: ChunkTable,
  first: number,
  segment: number,
  samplesMax: number,
  time: number,
  low: number,
  high: number,
  startTime: number,
  scratch: SampleColumns,
): number {
  const kind = startTime === 0 ? LATE_FLOATS : LATE_STARTED
  const stride = strideOf(kind)
  let link = first
  let slot = lateSlot(table, first, segment, kind)
  if (slot >= 0 && table.count[slot]! >= samplesMax) {
    finishLateFloats(table, slot, scratch)
    slot = -1
  }
  if (slot < 0) {
    slot = addLate(table, first, segment, kind, time)
    table.allocate(slot, LATE_BYTES_MIN)
    link = slot + 1
  }
  const count = table.count[slot]!
  const bytes = stride * 8
  if ((count + 1) * bytes > table.room(slot)) table.resize(slot, count * bytes, table.room(slot) * 2)
  const floats = table.floats(slot)
  const start = table.floatStart(slot)
  let i = count
  while (i > 0 && floats[start + stride * (i - 1)]! >= time) i--
  const at = start + stride * i
  if (i === count || floats[at] !== time) {
    floats.copyWithin(at + stride, at, start + stride * count)
    table.count[slot] = count + 1
  }
  floats[at] = time
  const words = table.words(slot)
  words[2 * (at + 1)] = low
  words[2 * (at + 1) + 1] = high
  if (kind === LATE_STARTED) floats[at + 2] = startTime
  table.byteLength[slot] = table.count[slot]! * bytes
  widen(table, slot, time)
  return link
}

/** The same for a histogram. */
export function putLateHistogram(
  table: ChunkTable,
  first: number,
  segment: number,
  time: number,
  histogram: Histogram,
  startTime: number,
): number {
  let link = first
  let slot = lateSlot(table, first, segment, LATE_HISTOGRAMS)
  if (slot >= 0 && table.count[slot]! >= LATE_HISTOGRAMS_MAX) {
    link = finishLateHistograms(table, first, slot)
    slot = -1
  }
  if (slot < 0) {
    slot = addLate(table, link, segment, LATE_HISTOGRAMS, time)
    table.lateHistograms.set(slot, { times: [], histograms: [], startTimes: [] })
    link = slot + 1
  }
  const { times, histograms, startTimes } = table.lateHistograms.get(slot)!
  let i = times.length
  while (i > 0 && times[i - 1]! >= time) i--
  const replacedCount = times[i] === time ? 1 : 0
  times.splice(i, replacedCount, time)
  histograms.splice(i, replacedCount, histogram)
  startTimes.splice(i, replacedCount, startTime)
  table.count[slot] = times.length
  widen(table, slot, time)
  return link
}

/** The chunk that a buffer of floats would be now: a view, valid until the next call. `scratch` is overwritten. */
export function encodeLateFloats(table: ChunkTable, slot: number, scratch: SampleColumns): Uint8Array {
  scratch.clear()
  readLateFloats(table, slot, scratch)
  return encodeFloats(scratch.asRun(), scratch.words).bytes
}

/** The encoding of the chunk that a buffer of floats would be. */
export const lateEncoding = (kind: number): number => (kind === LATE_STARTED ? FINISHED_XOR2 : FINISHED_XOR)

/** The first `end` floats of a run as one chunk: a view, valid until the next call. */
export function encodeFloats(run: SampleRun, words: Uint32Array): { bytes: Uint8Array; encoding: number } {
  const { times, startTimes, end: count } = run
  if (hasStarts(run, 0, count)) {
    return { bytes: encodeXor2(times, words, startTimes!, 0, count), encoding: ENCODING_XOR2 }
  }
  const bytesMax = xorBytesMax(count)
  if (encodeBytes.length < bytesMax) encodeBytes = new Uint8Array(bytesMax)
  const bytes = encodeBytes.subarray(0, encodeXor(times, words, 0, count, encodeBytes, 0))
  return { bytes, encoding: FINISHED_XOR }
}

/** The chunks that a buffer of histograms would be now: one, or several where layouts change. */
export function eachLateChunk(
  table: ChunkTable,
  slot: number,
  fn: (writer: HistogramChunkWriter, minTime: number, maxTime: number) => void,
): void {
  const { times, histograms, startTimes } = table.lateHistograms.get(slot)!
  eachHistogramChunk({ times, histograms, startTimes }, times.length, (writer, first, end) =>
    fn(writer, times[first]!, times[end - 1]!),
  )
}

/** Histograms as chunks: one, or several where layouts change or bytes are many. Calls back with the indexes [first, end) of each. */
export function eachHistogramChunk(
  {
    times,
    histograms,
    startTimes,
  }: { times: ArrayLike<number>; histograms: readonly Histogram[]; startTimes?: ArrayLike<number> | undefined },
  count: number,
  fn: (writer: HistogramChunkWriter, first: number, end: number) => void,
): void {
  const startOf = (i: number): number => startTimes?.[i] ?? 0
  let first = 0
  while (first < count) {
    const start = startOf(first) === 0 ? undefined : startOf(first)
    const writer = new HistogramChunkWriter(times[first]!, histograms[first]!, { start })
    let i = first + 1
    while (i < count && writer.byteCount < HISTOGRAM_CHUNK_BYTES_MAX && writer.accepts(histograms[i]!, startOf(i))) {
      writer.append(times[i]!, histograms[i]!, startOf(i))
      i++
    }
    fn(writer, first, i)
    first = i
  }
}

/** Appends a buffer's floats to a sink. */
export function readLateFloats(table: ChunkTable, slot: number, sink: SampleColumns): void {
  const count = table.count[slot]!
  sink.reserve(count)
  const floats = table.floats(slot)
  const words = table.words(slot)
  const isStarted = table.kind[slot] === LATE_STARTED
  const stride = strideOf(table.kind[slot]!)
  let at = table.floatStart(slot)
  for (let i = 0; i < count; i++, at += stride) {
    sink.pushBits(floats[at]!, words[2 * (at + 1)]!, words[2 * (at + 1) + 1]!, isStarted ? floats[at + 2]! : 0)
  }
}

function finishLateFloats(table: ChunkTable, slot: number, scratch: SampleColumns): void {
  const bytes = encodeLateFloats(table, slot, scratch)
  table.slab.release(table.address[slot]!, table.sizeClass[slot]!)
  table.fill(slot, lateEncoding(table.kind[slot]!), bytes)
}

function finishLateHistograms(table: ChunkTable, first: number, slot: number): number {
  let link = first
  let target = slot
  eachLateChunk(table, slot, (writer, minTime, maxTime) => {
    if (target < 0) {
      target = table.add(FINISHED_HISTOGRAM, table.segment[slot]!, link)
      link = target + 1
    }
    table.minTime[target] = minTime
    table.maxTime[target] = maxTime
    table.count[target] = writer.count
    table.fill(target, writer.encoding, writer.finish())
    target = -1
  })
  table.lateHistograms.delete(slot)
  return link
}

function lateSlot(table: ChunkTable, first: number, segment: number, kind: number): number {
  for (let link = first; link !== 0; link = table.next[link - 1]!) {
    if (table.kind[link - 1] === kind && table.segment[link - 1] === segment) return link - 1
  }
  return -1
}

function addLate(table: ChunkTable, first: number, segment: number, kind: number, time: number): number {
  const slot = table.add(kind, segment, first)
  table.minTime[slot] = time
  table.maxTime[slot] = time
  return slot
}

function widen(table: ChunkTable, slot: number, time: number): void {
  if (time < table.minTime[slot]!) table.minTime[slot] = time
  if (time > table.maxTime[slot]!) table.maxTime[slot] = time
}
