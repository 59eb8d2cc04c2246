// Remote write from plain objects, for tests and the bench: clear rather than fast.
import type { Histogram, Span } from '../model/histogram.ts'
import type { Labels } from '../model/labels.ts'
import * as fields from './protobuf-encode.ts'
import { putMessage } from './protobuf-encode.ts'
import { Writer } from './varint.ts'
import { METRIC_TYPES, type MetricType } from './write-sink.ts'

/** A one-element Float64Array where the bits matter (stale markers), a number elsewhere. */
export type PlainValue = number | Float64Array

export interface PlainSeries {
  readonly labels: Labels
  readonly samples?: readonly { readonly time: number; readonly value: PlainValue; readonly startTime?: number }[]
  readonly histograms?: readonly {
    readonly time: number
    readonly histogram: Histogram
    readonly startTime?: number
  }[]
  readonly exemplars?: readonly { readonly labels: Labels; readonly time: number; readonly value: PlainValue }[]
  /** 2.0 only: metadata of the series. */
  readonly metadata?: PlainMetadata
}

export interface PlainMetadata {
  readonly type: MetricType
  readonly help: string
  readonly unit: string
}

export interface PlainWrite {
  readonly series: readonly PlainSeries[]
  /** 1.0 only: metadata of metric families. */
  readonly metadata?: readonly (PlainMetadata & { readonly name: string })[]
}

/** A prometheus.WriteRequest. As Prometheus itself does, fields that are zero are left out. */
export function encodeWriteV1(request: PlainWrite): Uint8Array<ArrayBuffer> {
  const out = new Writer()
  for (const series of request.series) {
    const part = new Writer()
    putLabels(part, series.labels)
    for (const sample of series.samples ?? []) putMessage(part, 2, encodeSample(sample, false))
    for (const exemplar of series.exemplars ?? []) {
      const message = new Writer()
      putLabels(message, exemplar.labels)
      putDouble(message, 2, exemplar.value)
      putInt(message, 3, exemplar.time)
      putMessage(part, 3, message)
    }
    for (const { histogram, time } of series.histograms ?? []) putMessage(part, 4, encodeProto(histogram, time))
    putMessage(out, 1, part)
  }
  for (const { name, type, help, unit } of request.metadata ?? []) {
    const message = new Writer()
    putInt(message, 1, METRIC_TYPES.indexOf(type))
    putText(message, 2, name)
    putText(message, 4, help)
    putText(message, 5, unit)
    putMessage(out, 3, message)
  }
  return out.finish()
}

/** An io.prometheus.write.v2.Request with a symbol table. */
export function encodeWriteV2(request: PlainWrite): Uint8Array<ArrayBuffer> {
  const symbols = new Map<string, number>([['', 0]])
  const refOf = (text: string) => {
    const ref = symbols.get(text) ?? symbols.size
    symbols.set(text, ref)
    return ref
  }
  const parts = request.series.map((series) => encodeSeriesV2(series, refOf))
  const out = new Writer()
  for (const symbol of symbols.keys()) putText(out, 4, symbol, true)
  for (const part of parts) putMessage(out, 5, part)
  return out.finish()
}

/** A Histogram message of either protocol (`startTime` is 2.0's). */
export function encodeProto(histogram: Histogram, time: number, startTime = 0): Writer {
  const out = new Writer()
  const { isFloat } = histogram
  if (isFloat) putDouble(out, 2, histogram.count, true)
  else putInt(out, 1, histogram.count, true)
  putDouble(out, 3, histogram.sum)
  putSint(out, 4, histogram.schema)
  putDouble(out, 5, histogram.zeroThreshold)
  if (isFloat) putDouble(out, 7, histogram.zeroCount, true)
  else putInt(out, 6, histogram.zeroCount, true)
  putSpans(out, 8, histogram.negativeSpans)
  putBuckets(out, 9, histogram.negativeBuckets, isFloat)
  putSpans(out, 11, histogram.positiveSpans)
  putBuckets(out, 12, histogram.positiveBuckets, isFloat)
  putInt(out, 14, ['unknown', 'reset', 'no-reset', 'gauge'].indexOf(histogram.resetHint))
  putInt(out, 15, time)
  if (histogram.customValues.length > 0) {
    const packed = new Writer()
    for (const bound of histogram.customValues) packed.number(bound)
    putMessage(out, 16, packed)
  }
  putInt(out, 17, startTime)
  return out
}

function encodeSeriesV2(series: PlainSeries, refOf: (text: string) => number): Writer {
  const part = new Writer()
  putRefs(part, series.labels, refOf)
  for (const sample of series.samples ?? []) putMessage(part, 2, encodeSample(sample, true))
  for (const { histogram, time, startTime } of series.histograms ?? []) {
    putMessage(part, 3, encodeProto(histogram, time, startTime))
  }
  for (const exemplar of series.exemplars ?? []) {
    const message = new Writer()
    putRefs(message, exemplar.labels, refOf)
    putDouble(message, 2, exemplar.value)
    putInt(message, 3, exemplar.time)
    putMessage(part, 4, message)
  }
  if (series.metadata) {
    const message = new Writer()
    putInt(message, 1, METRIC_TYPES.indexOf(series.metadata.type))
    putInt(message, 3, refOf(series.metadata.help))
    putInt(message, 4, refOf(series.metadata.unit))
    putMessage(part, 5, message)
  }
  return part
}

function encodeSample(sample: { time: number; value: PlainValue; startTime?: number }, hasStart: boolean): Writer {
  const message = new Writer()
  putDouble(message, 1, sample.value)
  putInt(message, 2, sample.time)
  if (hasStart) putInt(message, 3, sample.startTime ?? 0)
  return message
}

function putLabels(out: Writer, labels: Labels): void {
  for (let i = 0; i < labels.length; i += 2) {
    const message = new Writer()
    putText(message, 1, labels[i]!)
    putText(message, 2, labels[i + 1]!)
    putMessage(out, 1, message)
  }
}

function putRefs(out: Writer, labels: Labels, refOf: (text: string) => number): void {
  if (labels.length === 0) return
  const packed = new Writer()
  for (const text of labels) packed.uvarint(refOf(text))
  putMessage(out, 1, packed)
}

function putSpans(out: Writer, field: number, spans: readonly Span[]): void {
  for (const { offset, length } of spans) {
    const message = new Writer()
    putSint(message, 1, offset)
    putInt(message, 2, length)
    putMessage(out, field, message)
  }
}

/** Differences in `field`, or counts in the field after it. */
function putBuckets(out: Writer, field: number, buckets: readonly number[], isFloat: boolean): void {
  if (buckets.length === 0) return
  const packed = new Writer()
  let before = 0
  for (const count of buckets) {
    if (isFloat) packed.number(count)
    else packed.zigzag(count - before)
    before = count
  }
  putMessage(out, isFloat ? field + 1 : field, packed)
}

// Proto3 leaves out what is zero or empty, but for members of a oneof and elements of a list.

function putText(out: Writer, field: number, text: string, isKept = false): void {
  if (text !== '' || isKept) fields.putText(out, field, text)
}

/** Left out when its bits are those of +0. */
function putDouble(out: Writer, field: number, value: PlainValue, isKept = false): void {
  if (isKept || !Object.is(typeof value === 'number' ? value : value[0], 0)) fields.putDouble(out, field, value)
}

function putSint(out: Writer, field: number, value: number): void {
  if (value !== 0) fields.putSint(out, field, value)
}

function putInt(out: Writer, field: number, value: number, isKept = false): void {
  if (value !== 0 || isKept) fields.putInt(out, field, value)
}
