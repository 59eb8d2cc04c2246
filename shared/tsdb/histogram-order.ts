// The order of histograms at one timestamp (L11): by count, then sum, then bytes. It is a function of what a chunk can keep, so the
// reset hint counts only as far as it tells gauges from counters, and a stale histogram is nothing but its marker.
import type { Histogram } from '../model/histogram.ts'
import { compareValueBits, STALE } from '../model/sample.ts'
import { BitWriter, isStaleNumber, split, splitFloat } from './chunk/bits.ts'

const writer = new BitWriter(1024)

/** What is left of a histogram whose sum is the stale marker. */
export function staleHistogram(isFloat: boolean): Histogram {
  return {
    isFloat,
    resetHint: 'unknown',
    schema: 0,
    zeroThreshold: 0,
    zeroCount: 0,
    count: 0,
    sum: STALE[0]!,
    positiveSpans: [],
    positiveBuckets: [],
    negativeSpans: [],
    negativeBuckets: [],
    customValues: [],
  }
}

/** The bytes that equal histograms share and others do not: a view, valid until the next call. */
export function canonicalBytes(histogram: Histogram): Uint8Array {
  writer.reset()
  if (isStaleNumber(histogram.sum)) {
    writer.bits(histogram.isFloat ? 0xff : 0xfe, 8)
    return writer.bytes.subarray(0, writer.byteCount)
  }
  writer.bits((histogram.isFloat ? 1 : 0) | (histogram.resetHint === 'gauge' ? 2 : 0), 8)
  writer.varbitInt(histogram.schema)
  writer.float(histogram.zeroThreshold)
  writer.float(histogram.zeroCount)
  writer.float(histogram.count)
  writer.float(histogram.sum)
  for (const spans of [histogram.positiveSpans, histogram.negativeSpans]) {
    writer.varbitUint(spans.length)
    for (const span of spans) {
      writer.varbitInt(span.offset)
      writer.varbitUint(span.length)
    }
  }
  for (const list of [histogram.positiveBuckets, histogram.negativeBuckets, histogram.customValues]) {
    writer.varbitUint(list.length)
    for (const value of list) writer.float(value)
  }
  return writer.bytes.subarray(0, writer.byteCount)
}

/** Positive when `a` is the greater; 0 exactly for the same canonical bytes. */
export function compareHistograms(a: Histogram, b: Histogram): number {
  const isStaleA = isStaleNumber(a.sum)
  const isStaleB = isStaleNumber(b.sum)
  const byCount = compareFloats(isStaleA ? 0 : a.count, isStaleB ? 0 : b.count)
  if (byCount !== 0) return byCount
  const bySum = compareFloats(a.sum, b.sum)
  if (bySum !== 0) return bySum
  const bytesA = canonicalBytes(a).slice()
  return Buffer.compare(bytesA, canonicalBytes(b))
}

function compareFloats(a: number, b: number): number {
  splitFloat(a)
  const low = split[0]!
  const high = split[1]!
  splitFloat(b)
  return compareValueBits(high, low, split[1]!, split[0]!)
}
