// Native histograms on the wire: Prometheus' protobuf in, and our own canonical bytes for logs and the order of equal timestamps.
//
//   canonical = version(1) flags schema:zigzag zeroThreshold:f64 sum:f64 count zeroCount
//               spans(positive) spans(negative) buckets(positive) buckets(negative) n:uvarint n×f64 (custom bounds)
//   flags     = bit 0 float, bits 1-2 reset hint     spans = n:uvarint n×(offset:zigzag length:uvarint)
//   counts and buckets: integer histograms as uvarint, and zigzag differences between buckets; float ones as f64
//
// Invariants
//   HISTOGRAM-1  Equal histograms have equal canonical bytes: spans are joined and empty ones dropped, NaN sums take one of two forms.
//   HISTOGRAM-2  A decoded histogram keeps Prometheus' rules: as many buckets as spans say, no negative counts, counts that add up, bounds in
//       order. Whatever breaks them is refused, never repaired. Schemas finer than 8 are reduced to it.
//   HISTOGRAM-3  Counts of integer histograms are whole numbers up to HISTOGRAM_COUNT_MAX; larger ones are refused.
import { CorruptError } from '../base/errors.ts'
import type { Histogram, ResetHint, Span } from '../model/histogram.ts'
import { atKeptResolution } from '../model/histogram-resolution.ts'
import { HISTOGRAM_COUNT_MAX, settleNaN } from '../model/sample.ts'
import { invalidHistogram, validateHistogram } from './histogram-rules.ts'
import {
  cursor,
  FIXED64,
  LENGTH,
  readInt64,
  readLength,
  readSint,
  readTag,
  readUvarint,
  skipField,
  truncated,
  VARINT,
  wrongWireType,
} from './protobuf.ts'
import { Reader, type Writer } from './varint.ts'

/** In the order of their wire numbers. */
const HINTS: readonly ResetHint[] = ['unknown', 'reset', 'no-reset', 'gauge']
const CANONICAL_VERSION = 1

const float = new Float64Array(1)
const floatBytes = new Uint8Array(float.buffer)
const floatWords = new Uint32Array(float.buffer)

export interface DecodedHistogram {
  readonly histogram: Histogram
  /** Milliseconds. */
  readonly time: number
  /** Milliseconds; 0 when unknown. */
  readonly startTime: number
}

/** The fields of a Histogram message as they come. */
interface Fields {
  isFloat: boolean
  countInt: number
  countFloat: number
  zeroInt: number
  zeroFloat: number
  sum: number
  schema: number
  zeroThreshold: number
  hint: number
  time: number
  startTime: number
  readonly positiveSpans: Span[]
  readonly negativeSpans: Span[]
  readonly positiveDeltas: number[]
  readonly negativeDeltas: number[]
  readonly positiveCounts: number[]
  readonly negativeCounts: number[]
  readonly customValues: number[]
}

/** A Histogram message of either protocol, validated. Throws RefusedError: `err-carillon-protobuf`, `…-histogram-invalid`. */
export function decodeHistogram(bytes: Uint8Array, start: number, end: number): DecodedHistogram {
  const fields = readFields(bytes, start, end)
  const { isFloat, time, startTime } = fields
  const histogram: Histogram = {
    isFloat,
    resetHint: HINTS[fields.hint] ?? 'unknown',
    schema: fields.schema,
    zeroThreshold: fields.zeroThreshold,
    zeroCount: isFloat ? fields.zeroFloat : wholeCount(fields.zeroInt),
    count: isFloat ? fields.countFloat : wholeCount(fields.countInt),
    sum: fields.sum,
    positiveSpans: fields.positiveSpans,
    positiveBuckets: isFloat ? fields.positiveCounts : absolute(fields.positiveDeltas),
    negativeSpans: fields.negativeSpans,
    negativeBuckets: isFloat ? fields.negativeCounts : absolute(fields.negativeDeltas),
    customValues: fields.customValues,
  }
  validateHistogram(histogram)
  return { histogram: atKeptResolution(histogram), time, startTime }
}

/** Writes the canonical form. */
export function encodeCanonical(histogram: Histogram, writer: Writer): void {
  const { isFloat } = histogram
  writer.u8(CANONICAL_VERSION)
  writer.u8((isFloat ? 1 : 0) | (HINTS.indexOf(histogram.resetHint) << 1))
  writer.zigzag(histogram.schema)
  writeNumber(writer, histogram.zeroThreshold)
  writeNumber(writer, histogram.sum)
  writeCount(writer, histogram.count, isFloat)
  writeCount(writer, histogram.zeroCount, isFloat)
  writeSpans(writer, histogram.positiveSpans)
  writeSpans(writer, histogram.negativeSpans)
  writeBuckets(writer, histogram.positiveBuckets, isFloat)
  writeBuckets(writer, histogram.negativeBuckets, isFloat)
  writer.uvarint(histogram.customValues.length)
  for (const bound of histogram.customValues) writeNumber(writer, bound)
}

/** Reads a canonical form that fills `bytes`. Throws CorruptError. */
export function decodeCanonical(bytes: Uint8Array): Histogram {
  const reader = new Reader(bytes)
  const version = reader.u8()
  if (version !== CANONICAL_VERSION) {
    throw new CorruptError('err-carillon-corrupt', `histogram has version ${version}, known is ${CANONICAL_VERSION}`)
  }
  const flags = reader.u8()
  if (flags > 7) reader.fail('has unknown flags')
  const isFloat = (flags & 1) === 1
  const schema = reader.zigzag()
  const zeroThreshold = reader.number()
  const sum = reader.number()
  const count = isFloat ? reader.number() : reader.uvarint()
  const zeroCount = isFloat ? reader.number() : reader.uvarint()
  const positiveSpans = readSpans(reader)
  const negativeSpans = readSpans(reader)
  const positiveBuckets = readBuckets(reader, positiveSpans, isFloat)
  const negativeBuckets = readBuckets(reader, negativeSpans, isFloat)
  const customValues: number[] = []
  for (let n = reader.count(); n > 0 && !reader.failed; n--) customValues.push(reader.number())
  reader.end('histogram')
  return {
    isFloat,
    resetHint: HINTS[flags >>> 1]!,
    schema,
    zeroThreshold,
    zeroCount,
    count,
    sum,
    positiveSpans,
    positiveBuckets,
    negativeSpans,
    negativeBuckets,
    customValues,
  }
}

const TOO_MANY = 'counts beyond 2^51 are not supported'

function wholeCount(count: number): number {
  if (count > HISTOGRAM_COUNT_MAX) throw invalidHistogram(TOO_MANY) // HISTOGRAM-3
  return count
}

function absolute(deltas: number[]): number[] {
  let count = 0
  for (let i = 0; i < deltas.length; i++) {
    count += deltas[i]!
    if (Math.abs(count) > HISTOGRAM_COUNT_MAX) throw invalidHistogram(`bucket ${TOO_MANY}`)
    deltas[i] = count
  }
  return deltas
}

function readFields(bytes: Uint8Array, start: number, end: number): Fields {
  const fields: Fields = {
    isFloat: false,
    countInt: 0,
    countFloat: 0,
    zeroInt: 0,
    zeroFloat: 0,
    sum: 0,
    schema: 0,
    zeroThreshold: 0,
    hint: 0,
    time: 0,
    startTime: 0,
    positiveSpans: [],
    negativeSpans: [],
    positiveDeltas: [],
    negativeDeltas: [],
    positiveCounts: [],
    negativeCounts: [],
    customValues: [],
  }
  for (let at = start; at < end; ) {
    const tag = readTag(bytes, at, end)
    at = readField(fields, tag, bytes, cursor.at, end)
  }
  return fields
}

/** Reads the value of one field and returns the position after it. */
function readField(fields: Fields, tag: number, bytes: Uint8Array, at: number, end: number): number {
  switch (tag >>> 3) {
    case 1:
      fields.isFloat = false
      fields.countInt = readUvarint(bytes, typed(tag, VARINT, at), end)
      return cursor.at
    case 2:
      fields.isFloat = true
      fields.countFloat = readDouble(bytes, typed(tag, FIXED64, at), end)
      return cursor.at
    case 3:
      fields.sum = readDouble(bytes, typed(tag, FIXED64, at), end)
      return cursor.at
    case 4:
      fields.schema = readSint(bytes, typed(tag, VARINT, at), end)
      return cursor.at
    case 5:
      fields.zeroThreshold = readDouble(bytes, typed(tag, FIXED64, at), end)
      return cursor.at
    case 6:
      fields.zeroInt = readUvarint(bytes, typed(tag, VARINT, at), end)
      return cursor.at
    case 7:
      fields.zeroFloat = readDouble(bytes, typed(tag, FIXED64, at), end)
      return cursor.at
    case 8:
      return readSpan(fields.negativeSpans, tag, bytes, at, end)
    case 9:
      return readList(fields.negativeDeltas, readSint, VARINT, tag, bytes, at, end)
    case 10:
      return readList(fields.negativeCounts, readDouble, FIXED64, tag, bytes, at, end)
    case 11:
      return readSpan(fields.positiveSpans, tag, bytes, at, end)
    case 12:
      return readList(fields.positiveDeltas, readSint, VARINT, tag, bytes, at, end)
    case 13:
      return readList(fields.positiveCounts, readDouble, FIXED64, tag, bytes, at, end)
    case 14:
      fields.hint = readUvarint(bytes, typed(tag, VARINT, at), end)
      return cursor.at
    case 15:
      fields.time = readInt64(bytes, typed(tag, VARINT, at), end)
      return cursor.at
    case 16:
      return readList(fields.customValues, readDouble, FIXED64, tag, bytes, at, end)
    case 17:
      fields.startTime = readInt64(bytes, typed(tag, VARINT, at), end)
      return cursor.at
    default:
      return skipField(tag, bytes, at, end)
  }
}

/** `at`, once the tag has the wire type that its field needs. */
function typed(tag: number, wireType: number, at: number): number {
  if ((tag & 7) !== wireType) throw wrongWireType(tag, `${tag >>> 3} of a histogram`)
  return at
}

type ReadNumber = (bytes: Uint8Array, at: number, end: number) => number

function readDouble(bytes: Uint8Array, at: number, end: number): number {
  if (at + 8 > end) throw truncated()
  for (let i = 0; i < 8; i++) floatBytes[i] = bytes[at + i]!
  cursor.at = at + 8
  return float[0]!
}

/** A repeated number, packed or single. */
function readList(
  into: number[],
  read: ReadNumber,
  wireType: number,
  tag: number,
  bytes: Uint8Array,
  at: number,
  end: number,
): number {
  if ((tag & 7) !== LENGTH) {
    into.push(read(bytes, typed(tag, wireType, at), end))
    return cursor.at
  }
  const next = readLength(bytes, at, end) + cursor.at
  for (let from = cursor.at; from < next; from = cursor.at) into.push(read(bytes, from, next))
  return next
}

function readSpan(into: Span[], tag: number, bytes: Uint8Array, at: number, end: number): number {
  const next = readLength(bytes, typed(tag, LENGTH, at), end) + cursor.at
  let offset = 0
  let length = 0
  for (let from = cursor.at; from < next; ) {
    const spanTag = readTag(bytes, from, next)
    if (spanTag === 0x08) {
      offset = readSint(bytes, cursor.at, next)
      from = cursor.at
    } else if (spanTag === 0x10) {
      length = readUvarint(bytes, cursor.at, next)
      from = cursor.at
    } else from = skipField(spanTag, bytes, cursor.at, next)
  }
  if (offset !== (offset | 0) || length > 0xffffffff) throw invalidHistogram('histogram has a span beyond 32 bits')
  into.push({ offset, length })
  return next
}

function writeNumber(writer: Writer, value: number): void {
  float[0] = value
  if (Number.isNaN(value)) settleNaN(floatWords, 0)
  writer.f64(float)
}

function writeCount(writer: Writer, count: number, isFloat: boolean): void {
  if (isFloat) writeNumber(writer, count)
  else writer.uvarint(count)
}

function writeSpans(writer: Writer, spans: readonly Span[]): void {
  const joined = joinSpans(spans)
  writer.uvarint(joined.length)
  for (const { offset, length } of joined) {
    writer.zigzag(offset)
    writer.uvarint(length)
  }
}

/** The same buckets with the fewest spans. */
function joinSpans(spans: readonly Span[]): Span[] {
  const joined: Span[] = []
  let gap = 0
  for (const { offset, length } of spans) {
    gap += offset
    if (length === 0) continue
    const last = joined.at(-1)
    if (last && gap === 0) joined[joined.length - 1] = { offset: last.offset, length: last.length + length }
    else joined.push({ offset: gap, length })
    gap = 0
  }
  return joined
}

function writeBuckets(writer: Writer, buckets: readonly number[], isFloat: boolean): void {
  let before = 0
  for (let i = 0; i < buckets.length; i++) {
    const count = buckets[i]!
    if (isFloat) writeNumber(writer, count)
    else writer.zigzag(count - before)
    before = count
  }
}

function readSpans(reader: Reader): Span[] {
  const spans: Span[] = []
  for (let n = reader.count(); n > 0 && !reader.failed; n--) {
    spans.push({ offset: reader.zigzag(), length: reader.uvarint() })
  }
  return spans
}

function readBuckets(reader: Reader, spans: readonly Span[], isFloat: boolean): number[] {
  const count = spans.reduce((sum, { length }) => sum + length, 0)
  if (count > reader.remaining) reader.fail('has spans for more buckets than it holds')
  const buckets: number[] = []
  let bucket = 0
  for (let i = 0; i < count && !reader.failed; i++) {
    bucket = isFloat ? reader.number() : bucket + reader.zigzag()
    buckets.push(bucket)
  }
  return buckets
}
