// The layout that all histograms of one chunk share, as Prometheus writes it at the chunk's start (docs/formats/chunk.md).
import { CorruptError } from '../../base/errors.ts'
import { CUSTOM_BUCKETS_SCHEMA, type Histogram, type Span } from '../../model/histogram.ts'
import type { BitReader, BitWriter } from './bits.ts'

/** The buckets that one side of a chunk's layout may declare; more is damage. */
const BUCKETS_MAX = 1 << 20

export interface HistogramLayout {
  readonly schema: number
  readonly zeroThreshold: number
  readonly positiveSpans: readonly Span[]
  readonly negativeSpans: readonly Span[]
  readonly customValues: readonly number[]
}

export function sameLayout(a: HistogramLayout, b: Histogram): boolean {
  return (
    a.schema === b.schema &&
    a.zeroThreshold === b.zeroThreshold &&
    sameSpans(a.positiveSpans, b.positiveSpans) &&
    sameSpans(a.negativeSpans, b.negativeSpans) &&
    a.customValues.length === b.customValues.length &&
    a.customValues.every((value, i) => value === b.customValues[i])
  )
}

function sameSpans(a: readonly Span[], b: readonly Span[]): boolean {
  if (a === b) return true
  if (a.length !== b.length) return false
  return a.every((span, i) => span.offset === b[i]!.offset && span.length === b[i]!.length)
}

export function bucketCount(spans: readonly Span[]): number {
  let count = 0
  for (const span of spans) count += span.length
  return count
}

export function writeLayout(writer: BitWriter, layout: HistogramLayout): void {
  writeZeroThreshold(writer, layout.zeroThreshold)
  writer.varbitInt(layout.schema)
  writeSpans(writer, layout.positiveSpans)
  writeSpans(writer, layout.negativeSpans)
  if (layout.schema !== CUSTOM_BUCKETS_SCHEMA) return
  writer.varbitUint(layout.customValues.length)
  for (const bound of layout.customValues) writeBound(writer, bound)
}

export function readLayout(reader: BitReader): HistogramLayout {
  const zeroThreshold = readZeroThreshold(reader)
  const schema = reader.varbitInt()
  const positiveSpans = readSpans(reader)
  const negativeSpans = readSpans(reader)
  const customValues: number[] = []
  if (schema === CUSTOM_BUCKETS_SCHEMA) {
    const count = reader.varbitUint()
    for (let i = 0; i < count; i++) customValues.push(readBound(reader))
  }
  return { schema, zeroThreshold, positiveSpans, negativeSpans, customValues }
}

function writeSpans(writer: BitWriter, spans: readonly Span[]): void {
  writer.varbitUint(spans.length)
  for (const span of spans) {
    writer.varbitUint(span.length)
    writer.varbitInt(span.offset)
  }
}

function readSpans(reader: BitReader): Span[] {
  const count = reader.varbitUint()
  const spans: Span[] = []
  let buckets = 0
  for (let i = 0; i < count; i++) {
    const length = reader.varbitUint()
    spans.push({ offset: reader.varbitInt(), length })
    buckets += length
    if (buckets > BUCKETS_MAX)
      throw new CorruptError('err-carillon-corrupt', 'a histogram chunk declares too many buckets')
  }
  return spans
}

/** One byte for 0 and for powers of two from 2^-243 to 2^10, nine for anything else. */
function writeZeroThreshold(writer: BitWriter, threshold: number): void {
  const exponent = Math.round(Math.log2(threshold))
  if (threshold === 0) {
    writer.bits(0, 8)
  } else if (threshold > 0 && exponent >= -243 && exponent <= 10 && threshold === 2 ** exponent) {
    writer.bits(exponent + 244, 8)
  } else {
    writer.bits(255, 8)
    writer.float(threshold)
  }
}

function readZeroThreshold(reader: BitReader): number {
  const byte = reader.bits(8)
  if (byte === 0) return 0
  return byte === 255 ? reader.float() : 2 ** (byte - 244)
}

/** Thousandths up to 33554.430 as a bucketed integer + 1, anything else as a 0 bit and the float. */
function writeBound(writer: BitWriter, bound: number): void {
  const thousandths = bound * 1000
  const rounded = Math.round(thousandths)
  if (thousandths < 0 || thousandths > 33554430 || rounded / 1000 !== bound) {
    writer.bits(0, 1)
    writer.float(bound)
  } else {
    writer.varbitUint(rounded + 1)
  }
}

function readBound(reader: BitReader): number {
  const number = reader.varbitUint()
  return number === 0 ? reader.float() : (number - 1) / 1000
}
