// One family of metrics in the protobuf that Prometheus scrapes: io.prometheus.client.MetricFamily, behind its length.
//
// Rules: client_model's metrics.proto. Native histograms travel as float histograms, those with custom buckets as classic ones.
import { type Breath, forEach } from '../../../shared/base/breathing.ts'
import { CUSTOM_BUCKETS_SCHEMA, type Histogram, type Span } from '../../../shared/model/histogram.ts'
import { putDouble, putInt, putMessage, putSint, putText } from '../../../shared/wire/protobuf-encode.ts'
import { Writer } from '../../../shared/wire/varint.ts'

/** Of encoding one, in units of work. */
const METRIC_WORK = 5_000

export const FAMILY_TYPES = { untyped: 3, histogram: 4, gaugeHistogram: 5 } as const
export type FamilyType = keyof typeof FAMILY_TYPES

export interface FamilyMetric {
  /** Names and values by turns. */
  readonly labels: readonly string[]
  readonly timeMs: number
  readonly value: Float64Array
  readonly histogram: Histogram | undefined
  /** Of a classic histogram: how many samples are at most as large as each bound. */
  readonly cumulative: readonly number[]
}

export async function encodeFamily(
  name: string,
  type: FamilyType,
  metrics: readonly FamilyMetric[],
  breath: Breath,
): Promise<Uint8Array> {
  const family = new Writer(1024)
  putText(family, 1, name)
  putInt(family, 3, FAMILY_TYPES[type])
  await forEach(metrics, METRIC_WORK, breath, (metric) => putMessage(family, 4, encodeMetric(metric)))
  const out = new Writer(family.length + 8)
  out.uvarint(family.length)
  out.bytes(family.view())
  return out.finish()
}

function encodeMetric({ labels, timeMs, value, histogram, cumulative }: FamilyMetric): Writer {
  const metric = new Writer(256)
  for (let i = 0; i < labels.length; i += 2) {
    const pair = new Writer(64)
    putText(pair, 1, labels[i]!)
    putText(pair, 2, labels[i + 1]!)
    putMessage(metric, 1, pair)
  }
  if (histogram === undefined) {
    const untyped = new Writer(16)
    putDouble(untyped, 1, value)
    putMessage(metric, 5, untyped)
  }
  putInt(metric, 6, timeMs)
  if (histogram === undefined) return metric
  const isClassic = histogram.schema === CUSTOM_BUCKETS_SCHEMA
  putMessage(metric, 7, isClassic ? encodeClassic(histogram, cumulative) : encodeNative(histogram))
  return metric
}

function encodeNative(histogram: Histogram): Writer {
  const out = new Writer(256)
  putDouble(out, 2, histogram.sum)
  putDouble(out, 4, histogram.count)
  putSint(out, 5, histogram.schema)
  putDouble(out, 6, histogram.zeroThreshold)
  putDouble(out, 8, histogram.zeroCount)
  putSpans(out, 9, histogram.negativeSpans)
  for (const count of histogram.negativeBuckets) putDouble(out, 11, count)
  putSpans(out, 12, histogram.positiveSpans)
  for (const count of histogram.positiveBuckets) putDouble(out, 14, count)
  return out
}

function encodeClassic({ sum, count, customValues }: Histogram, cumulative: readonly number[]): Writer {
  const out = new Writer(256)
  putDouble(out, 2, sum)
  for (const [i, bound] of customValues.entries()) {
    const bucket = new Writer(32)
    putDouble(bucket, 2, bound)
    putDouble(bucket, 4, cumulative[i]!)
    putMessage(out, 3, bucket)
  }
  putDouble(out, 4, count)
  return out
}

function putSpans(out: Writer, field: number, spans: readonly Span[]): void {
  for (const { offset, length } of spans) {
    const span = new Writer(16)
    putSint(span, 1, offset)
    putInt(span, 2, length)
    putMessage(out, field, span)
  }
}
