// Random write requests, a sink that writes down what it is told, and what it should have been told.
import fc from 'fast-check'
import type { Histogram } from '../../../shared/model/histogram.ts'
import type { Labels } from '../../../shared/model/labels.ts'
import { STALE } from '../../../shared/model/sample.ts'
import { decodeHistogram } from '../../../shared/wire/histogram.ts'
import { decodeLabels } from '../../../shared/wire/label-region.ts'
import type { PlainSeries, PlainValue, PlainWrite } from '../../../shared/wire/remote-write-encode.ts'
import { METRIC_TYPES, type WriteSink } from '../../../shared/wire/write-sink.ts'

/** The 64 bits of a value, in hex. */
export function bitsOf(value: PlainValue): string {
  const column = typeof value === 'number' ? Float64Array.of(value) : value
  return new BigUint64Array(column.buffer, column.byteOffset, 1)[0]!.toString(16)
}

/** Everything that a reader tells, in order. */
export function recorder(isWanted: (labels: Labels) => boolean = () => true): { told: unknown[]; sink: WriteSink } {
  const told: unknown[] = []
  const sink: WriteSink = {
    series(labels, start, end) {
      const list = decodeLabels(labels, start, end)
      told.push(['series', list])
      return isWanted(list)
    },
    refused: ({ kind, text }, samples) => told.push(['refused', kind, text, samples]),
    float: (time, slot, startTime) => told.push(['float', time, bitsOf(slot), startTime]),
    histogram: (time, bytes, start, end, _version, startTime) =>
      told.push(['histogram', time, decodeHistogram(bytes, start, end).histogram, startTime]),
    exemplar: (time, slot, labels, start, end) =>
      told.push(['exemplar', time, bitsOf(slot), decodeLabels(labels, start, end)]),
    exemplarRefused: () => told.push(['exemplar refused']),
    metadata: (name, type, help, unit) => told.push(['metadata', name, type, help, unit]),
    seriesEnd: () => told.push(['end']),
  }
  return { told, sink }
}

/** What a reader should tell of a request. */
export function expectedOf(request: PlainWrite, version: 1 | 2): unknown[] {
  const told: unknown[] = []
  const known = new Map<string, string>()
  for (const series of request.series) {
    told.push(['series', series.labels])
    for (const { time, value, startTime } of series.samples ?? []) {
      told.push(['float', time, bitsOf(value), version === 2 ? (startTime ?? 0) : 0])
    }
    const histograms = (series.histograms ?? []).map(({ time, histogram, startTime }) => [
      'histogram',
      time,
      histogram,
      version === 2 ? (startTime ?? 0) : 0,
    ])
    const exemplars = (series.exemplars ?? []).map(({ time, value, labels }) => [
      'exemplar',
      time,
      bitsOf(value),
      labels,
    ])
    told.push(...(version === 1 ? [...exemplars, ...histograms] : [...histograms, ...exemplars]))
    const name = series.labels[series.labels.indexOf('__name__') + 1]!
    const { type, help, unit } = series.metadata ?? { type: 'unknown', help: '', unit: '' }
    if (version === 2 && (type !== 'unknown' || help !== '' || unit !== '')) {
      const line = JSON.stringify([type, help, unit])
      if (known.get(name) !== line) told.push(['metadata', name, type, help, unit])
      known.set(name, line)
    }
    told.push(['end'])
  }
  if (version === 1) {
    for (const { name, type, help, unit } of request.metadata ?? []) told.push(['metadata', name, type, help, unit])
  }
  return told
}

const text = fc.oneof(fc.string({ maxLength: 12 }), fc.string({ unit: 'grapheme', maxLength: 200 }))
const time = fc.oneof(fc.integer({ min: 1_600_000_000_000, max: 1_900_000_000_000 }), fc.maxSafeInteger())
const value: fc.Arbitrary<PlainValue> = fc.oneof(
  fc.double(),
  fc.constantFrom<PlainValue>(STALE, 0, -0, Infinity),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((bits) => new Float64Array(BigUint64Array.of(bits).buffer)),
)
const labels = fc
  .tuple(text, fc.array(fc.tuple(text, text), { maxLength: 6 }))
  .map(([name, pairs]): Labels => ['__name__', name, ...pairs.flat()])
const metadata = fc.record({ type: fc.constantFrom(...METRIC_TYPES), help: text, unit: text })
const startTime = fc.constantFrom(0, 1_600_000_000_000)

/** Valid histograms in the shape that decoding gives. */
export const histogram: fc.Arbitrary<Histogram> = fc
  .record({
    isFloat: fc.boolean(),
    resetHint: fc.constantFrom('unknown', 'reset', 'no-reset', 'gauge'),
    isCustom: fc.boolean(),
    schema: fc.integer({ min: -4, max: 8 }),
    zeroThreshold: fc.double({ min: 0, max: 1, noNaN: true }),
    zeroCount: fc.nat(1000),
    sum: fc.double(),
    positive: fc.array(
      fc.record({
        offset: fc.integer({ min: 1, max: 9 }),
        counts: fc.array(fc.nat(9999), { minLength: 1, maxLength: 5 }),
      }),
      { maxLength: 4 },
    ),
    negative: fc.array(
      fc.record({
        offset: fc.integer({ min: 1, max: 9 }),
        counts: fc.array(fc.nat(9999), { minLength: 1, maxLength: 5 }),
      }),
      { maxLength: 4 },
    ),
  })
  .map((parts): Histogram => {
    const { isCustom, positive } = parts
    const negative = isCustom ? [] : parts.negative
    const zeroCount = isCustom ? 0 : parts.zeroCount
    const spansOf = (side: typeof positive) => side.map(({ offset, counts }) => ({ offset, length: counts.length }))
    const bucketsOf = (side: typeof positive) => side.flatMap(({ counts }) => counts)
    const reach = spansOf(positive).reduce((sum, { offset, length }) => sum + offset + length, 0)
    return {
      isFloat: parts.isFloat,
      resetHint: parts.resetHint as Histogram['resetHint'],
      schema: isCustom ? -53 : parts.schema,
      zeroThreshold: isCustom ? 0 : parts.zeroThreshold,
      zeroCount,
      count: [...bucketsOf(positive), ...bucketsOf(negative)].reduce((sum, count) => sum + count, zeroCount),
      sum: parts.sum,
      positiveSpans: spansOf(positive),
      positiveBuckets: bucketsOf(positive),
      negativeSpans: spansOf(negative),
      negativeBuckets: bucketsOf(negative),
      customValues: isCustom ? Array.from({ length: reach }, (_, i) => i * 0.5 - 3) : [],
    }
  })

const sample = fc.record({ time, value, startTime })
const histogramSample = fc.record({ time, histogram, startTime })
const exemplar = fc.record({ time, value, labels })

const series: fc.Arbitrary<PlainSeries> = fc
  .record({
    labels,
    samples: fc.array(sample, { minLength: 1, maxLength: 4 }),
    histograms: fc.array(histogramSample, { minLength: 1, maxLength: 2 }),
    exemplars: fc.array(exemplar, { maxLength: 2 }),
    metadata,
    isHistogram: fc.boolean(),
  })
  .map(({ isHistogram, samples, histograms, ...rest }) => ({
    ...rest,
    samples: isHistogram ? [] : samples,
    histograms: isHistogram ? histograms : [],
  }))

/** Valid in both protocols. */
export const writeRequest: fc.Arbitrary<PlainWrite> = fc.record({
  series: fc.array(series, { maxLength: 6 }),
  metadata: fc.array(
    metadata.chain((rest) => text.map((name) => ({ name, ...rest }))),
    { maxLength: 3 },
  ),
})
