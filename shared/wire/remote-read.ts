// Remote read as Prometheus speaks it: the request, and the two shapes of an answer.
//
//   SAMPLES              ReadResponse { results 1: { timeseries 1: TimeSeries } }, compressed with snappy as a whole
//   STREAMED_XOR_CHUNKS  frames of [uvarint length][CRC-32C of the message, big endian][message], each message a
//                        ChunkedReadResponse { chunked_series 1: { labels 1, chunks 2 }, query_index 2 } of one series
//
// Rules: Prometheus' remote.proto, types.proto and chunked.go. Value bits stay as they are.
import { RefusedError } from '../base/errors.ts'
import type { Histogram } from '../model/histogram.ts'
import type { Labels } from '../model/labels.ts'
import type { Matcher, MatchOperator } from '../model/matcher.ts'
import { crc32c } from './crc32c.ts'
import {
  cursor,
  LENGTH,
  malformed,
  readInt64,
  readLength,
  readTag,
  readUvarint,
  skipField,
  VARINT,
} from './protobuf.ts'
import { putInt, putInt64, putMessage } from './protobuf-encode.ts'
import { encodeProto } from './remote-write-encode.ts'
import { decodeUtf8 } from './utf8.ts'
import { Writer } from './varint.ts'

export type ReadShape = 'samples' | 'chunks'

export interface ReadQuery {
  readonly matchers: readonly Matcher[]
  /** Inclusive, ms. */
  readonly startMs: number
  readonly endMs: number
}

export interface ReadRequest {
  readonly queries: readonly ReadQuery[]
  /** The first of those that the asker takes and that exist. */
  readonly shape: ReadShape
}

/** Series with samples, as an answer takes them. */
export interface ReadSeries {
  readonly labels: Labels
  readonly times: Float64Array
  readonly values: Float64Array
  readonly histograms?: readonly (Histogram | undefined)[]
}

export interface ReadChunk {
  /** 1 XOR, 2 integer histogram, 3 float histogram. */
  readonly encoding: number
  readonly bytes: Uint8Array
  readonly minTime: number
  readonly maxTime: number
}

const OPERATORS: readonly MatchOperator[] = ['=', '!=', '=~', '!~']
const SHAPES: readonly ReadShape[] = ['samples', 'chunks']

/** Refuses what is not a ReadRequest with `err-carillon-protobuf`, and one whose shapes are all unknown. */
export function decodeReadRequest(
  bytes: Uint8Array,
  { queriesMax, matchersMax }: { queriesMax: number; matchersMax: number },
): ReadRequest {
  const queries: ReadQuery[] = []
  const accepted: number[] = []
  let matcherCount = 0
  eachField(bytes, 0, bytes.length, (field, type, start, end) => {
    if (field === 1 && type === LENGTH) {
      if (queries.length === queriesMax) {
        throw new RefusedError('err-carillon-read-queries', `a remote read has at most ${queriesMax} queries`)
      }
      const query = decodeQuery(bytes, start, end, matchersMax - matcherCount)
      matcherCount += query.matchers.length
      queries.push(query)
    } else if (field === 2 && type === VARINT) accepted.push(readUvarint(bytes, start, end))
    else if (field === 2 && type === LENGTH) {
      for (let at = start; at < end; at = cursor.at) accepted.push(readUvarint(bytes, at, end))
    }
  })
  const shape = accepted.length === 0 ? 'samples' : accepted.map((number) => SHAPES[number]).find((known) => known)
  if (shape !== undefined) return { queries, shape }
  const text = `server does not support any of the requested response types: [${accepted.join(' ')}]; supported: map[SAMPLES:{} STREAMED_XOR_CHUNKS:{}]`
  throw new RefusedError('err-carillon-read-shape', text)
}

function decodeQuery(bytes: Uint8Array, start: number, end: number, matchersMax: number): ReadQuery {
  const matchers: Matcher[] = []
  let startMs = 0
  let endMs = 0
  eachField(bytes, start, end, (field, type, from, to) => {
    if (field === 1 && type === VARINT) startMs = readInt64(bytes, from, to)
    else if (field === 2 && type === VARINT) endMs = readInt64(bytes, from, to)
    else if (field === 3 && type === LENGTH) {
      if (matchers.length === matchersMax) {
        throw new RefusedError('err-carillon-read-queries', 'the queries of a remote read have too many matchers')
      }
      matchers.push(decodeMatcher(bytes, from, to))
    }
  })
  return { matchers, startMs, endMs }
}

function decodeMatcher(bytes: Uint8Array, start: number, end: number): Matcher {
  let operator: MatchOperator | undefined = '='
  let name = ''
  let value = ''
  eachField(bytes, start, end, (field, type, from, to) => {
    if (field === 1 && type === VARINT) operator = OPERATORS[readUvarint(bytes, from, to)]
    else if (field === 2 && type === LENGTH) name = textIn(bytes, from, to)
    else if (field === 3 && type === LENGTH) value = textIn(bytes, from, to)
  })
  if (operator === undefined) throw malformed('invalid matcher type')
  return { name, operator, value }
}

function textIn(bytes: Uint8Array, start: number, end: number): string {
  const text = decodeUtf8(bytes, start, end)
  if (text === undefined) throw malformed('a string is not UTF-8')
  return text
}

type OnField = (field: number, type: number, start: number, end: number) => void

/** Each field with the place of its value (of a length-delimited one: of what it holds). */
function eachField(bytes: Uint8Array, start: number, end: number, onField: OnField): void {
  for (let at = start; at < end; ) {
    const tag = readTag(bytes, at, end)
    const valueAt = cursor.at
    const next = skipField(tag, bytes, valueAt, end)
    cursor.at = valueAt
    if ((tag & 7) === LENGTH) readLength(bytes, valueAt, end)
    onField(tag >>> 3, tag & 7, cursor.at, next)
    at = next
  }
}

/** Of a series, samples that become one piece. */
const PIECE_SAMPLES = 1_024

/** The fields of one TimeSeries, in pieces of moderate length, each made when it is asked for. */
export function* timeSeriesPieces(series: ReadSeries): Generator<Uint8Array> {
  const head = new Writer(256)
  putLabels(head, series.labels)
  yield head.finish()
  const size = series.histograms === undefined ? PIECE_SAMPLES : PIECE_SAMPLES / 16
  for (let from = 0; from < series.times.length; from += size) {
    const piece = new Writer(20 * size)
    putSamples(piece, series, from, Math.min(series.times.length, from + size))
    yield piece.finish()
  }
}

/** What stands before so many bytes of a message: a TimeSeries in a QueryResult, or a QueryResult in a ReadResponse. */
export function messageHead(length: number): Uint8Array {
  const head = new Writer(16)
  head.u8(0x0a) // both are field 1
  head.uvarint(length)
  return head.finish()
}

function putSamples(out: Writer, { times, values, histograms }: ReadSeries, from: number, to: number): void {
  for (let i = from; i < to; i++) {
    const time = times[i]!
    const histogram = histograms?.[i]
    if (histogram !== undefined) {
      putMessage(out, 4, encodeProto(histogram, time))
      continue
    }
    const hasValue = !Object.is(values[i], 0) // left out as there, but with its sign zero is written
    out.u8(0x12) // samples 2
    out.u8((hasValue ? 10 : 1) + int64Bytes(time))
    if (hasValue) {
      out.u8(0x09) // value 1
      out.f64(values, i)
    }
    out.u8(0x10) // timestamp 2
    putInt64(out, time)
  }
}

/** Yields the frames of one series; a new one begins when the chunks of one pass `bytesMax`. */
export function* chunkFrames(
  { labels, chunks }: { labels: Labels; chunks: readonly ReadChunk[] },
  { queryIndex, bytesMax }: { queryIndex: number; bytesMax: number },
): Generator<Uint8Array> {
  const head = new Writer(256)
  putLabels(head, labels)
  const series = new Writer(1024)
  const part = new Writer(512)
  series.bytes(head.view())
  for (let i = 0; i < chunks.length; i++) {
    const { minTime, maxTime, encoding, bytes } = chunks[i]!
    part.reset()
    putUnlessZero(part, 1, minTime)
    putUnlessZero(part, 2, maxTime)
    putUnlessZero(part, 3, encoding)
    part.u8(0x22) // data 4
    part.uvarint(bytes.length)
    part.bytes(bytes)
    putMessage(series, 2, part)
    if (series.length < bytesMax && i < chunks.length - 1) continue
    yield frameOf(series, queryIndex)
    series.reset()
    series.bytes(head.view())
  }
}

function frameOf(series: Writer, queryIndex: number): Uint8Array {
  const message = new Writer(series.length + 16)
  putMessage(message, 1, series)
  putUnlessZero(message, 2, queryIndex)
  const out = new Writer(message.length + 16)
  out.uvarint(message.length)
  const sum = crc32c(message.view())
  for (let shift = 24; shift >= 0; shift -= 8) out.u8((sum >>> shift) & 255)
  out.bytes(message.view())
  return out.finish()
}

function putLabels(out: Writer, labels: Labels): void {
  for (let i = 0; i < labels.length; i += 2) {
    const name = Buffer.byteLength(labels[i]!)
    const value = Buffer.byteLength(labels[i + 1]!)
    out.u8(0x0a) // labels 1
    out.uvarint(2 + uvarintBytes(name) + name + uvarintBytes(value) + value)
    out.u8(0x0a)
    out.text(labels[i]!)
    out.u8(0x12)
    out.text(labels[i + 1]!)
  }
}

/** As Prometheus does. */
function putUnlessZero(out: Writer, field: number, value: number): void {
  if (value !== 0) putInt(out, field, value)
}

const int64Bytes = (value: number): number => (value < 0 ? 10 : uvarintBytes(value))

function uvarintBytes(value: number): number {
  let count = 1
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) count++
  return count
}
