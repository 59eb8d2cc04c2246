// Reading a head's chunks by slot, whatever state they are in. The rows of open chunks are up to date (SeriesChunks.sync).
import type { Histogram } from '../../model/histogram.ts'
import type { Interval } from '../../model/interval.ts'
import type { Place } from '../../model/place.ts'
import { HistogramChunkReader } from '../chunk/histogram.ts'
import { decodeXorWords, wordsOf } from '../chunk/xor.ts'
import type { SampleColumns, SampleRun } from '../columns.ts'
import { decodeChunk } from '../decode.ts'
import {
  type ChunkTable,
  FINISHED_XOR,
  FINISHED_XOR2,
  LATE_FLOATS,
  LATE_HISTOGRAMS,
  LATE_STARTED,
  OPEN_HISTOGRAM,
  OPEN_XOR,
  OPEN_XOR2,
} from './chunk-table.ts'
import {
  eachHistogramChunk,
  eachLateChunk,
  encodeFloats,
  encodeLateFloats,
  lateEncoding,
  readLateFloats,
} from './late-samples.ts'

export type ChunkVisitor = (
  encoding: number,
  bytes: Uint8Array,
  minTime: number,
  maxTime: number,
  count: number,
  segment: number,
  /** Where in the segment its part begins (parts.ts). */
  seq: number,
) => void

export function holdsFloats(table: ChunkTable, slot: number): boolean {
  const kind = table.kind[slot]!
  return kind === FINISHED_XOR || kind === OPEN_XOR || kind === LATE_FLOATS || holdsStarted(kind)
}

function holdsStarted(kind: number): boolean {
  return kind === FINISHED_XOR2 || kind === OPEN_XOR2 || kind === LATE_STARTED
}

/** Appends all floats of a chunk to a sink. */
export function readFloats(table: ChunkTable, slot: number, sink: SampleColumns): void {
  const kind = table.kind[slot]!
  if (kind === LATE_FLOATS || kind === LATE_STARTED) {
    readLateFloats(table, slot, sink)
    return
  }
  if (kind === OPEN_XOR2) {
    const bytes = table.openStarted.get(slot)!.finish()
    decodeChunk({ encoding: FINISHED_XOR2, bytes, start: 0, end: bytes.length }, sink)
    return
  }
  const count = table.count[slot]!
  const start = table.start(slot)
  if (kind === FINISHED_XOR2) {
    decodeChunk({ encoding: kind, bytes: table.page(slot), start, end: start + table.byteLength[slot]! }, sink)
    return
  }
  sink.reserve(count)
  decodeXorWords(table.page(slot), start, start + table.byteLength[slot]!, sink.times, sink.words, sink.count)
  sink.advance(count)
}

/** Calls back for the histograms of a chunk in time order until the callback returns false. */
export function eachHistogram(
  table: ChunkTable,
  slot: number,
  fn: (time: number, histogram: () => Histogram, startTime: number) => boolean,
): void {
  if (table.kind[slot] === LATE_HISTOGRAMS) {
    const { times, histograms, startTimes } = table.lateHistograms.get(slot)!
    for (let i = 0; i < times.length; i++) if (!fn(times[i]!, () => histograms[i]!, startTimes[i]!)) return
    return
  }
  const reader = histogramReader(table, slot)
  while (reader.next()) if (!fn(reader.time, () => reader.histogram(), reader.start)) return
}

function histogramReader(table: ChunkTable, slot: number): HistogramChunkReader {
  if (table.kind[slot] === OPEN_HISTOGRAM) {
    const writer = table.openHistograms.get(slot)!
    const bytes = writer.finish()
    return new HistogramChunkReader(writer.encoding, bytes, 0, bytes.length)
  }
  const start = table.start(slot)
  return new HistogramChunkReader(table.kind[slot]!, table.page(slot), start, start + table.byteLength[slot]!)
}

/** Appends the samples of a chunk that lie in the range to a sink. */
export function readChunk(table: ChunkTable, slot: number, { startMs, endMs }: Interval, sink: SampleColumns): void {
  if (holdsFloats(table, slot)) {
    const before = sink.count
    readFloats(table, slot, sink)
    sink.clip(before, startMs, endMs)
    return
  }
  eachHistogram(table, slot, (time, histogram, startTime) => {
    if (time >= startMs && time <= endMs) sink.pushHistogram(time, histogram(), startTime)
    return time < endMs
  })
}

/** Shows the bytes of a chunk, or those that it would have if it were finished now: views that are valid during the call. A buffer of
 *  late histograms may be several chunks. `scratch` is overwritten. */
export function showChunk(
  table: ChunkTable,
  slot: number,
  { scratch, place }: { scratch: SampleColumns; place: Place },
  fn: ChunkVisitor,
): void {
  const kind = table.kind[slot]!
  const { segment, seq } = place
  if (kind === LATE_HISTOGRAMS) {
    eachLateChunk(table, slot, (writer, minTime, maxTime) =>
      fn(writer.encoding, writer.finish(), minTime, maxTime, writer.count, segment, seq),
    )
    return
  }
  const minTime = table.minTime[slot]!
  const maxTime = table.maxTime[slot]!
  const count = table.count[slot]!
  if (kind === OPEN_HISTOGRAM || kind === OPEN_XOR2) {
    const writer = (kind === OPEN_XOR2 ? table.openStarted : table.openHistograms).get(slot)!
    fn(writer.encoding, writer.finish(), minTime, maxTime, count, segment, seq)
  } else if (kind === LATE_FLOATS || kind === LATE_STARTED) {
    fn(lateEncoding(kind), encodeLateFloats(table, slot, scratch), minTime, maxTime, count, segment, seq)
  } else {
    const start = table.start(slot)
    const bytes = table.page(slot).subarray(start, start + table.byteLength[slot]!)
    fn(kind === OPEN_XOR ? FINISHED_XOR : kind, bytes, minTime, maxTime, count, segment, seq)
  }
}

/** Encodes a run anew: floats as one chunk, histograms as one or more. Calls back with bytes that are valid during the call. */
export function encodeRun(
  run: SampleRun,
  fn: (bytes: Uint8Array, encoding: number, first: number, end: number) => void,
): void {
  const { times, histograms, startTimes, end } = run
  if (histograms === undefined) {
    const { bytes, encoding } = encodeFloats(run, wordsOf(run.values))
    fn(bytes, encoding, 0, end)
    return
  }
  const all = { times, histograms: histograms as readonly Histogram[], startTimes }
  eachHistogramChunk(all, end, (writer, first, after) => fn(writer.finish(), writer.encoding, first, after))
}
