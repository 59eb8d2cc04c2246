import protobuf from 'protobufjs'
import { expect, test } from 'vitest'
import { RefusedError } from '../../../shared/base/errors.ts'
import type { Histogram } from '../../../shared/model/histogram.ts'
import { STALE } from '../../../shared/model/sample.ts'
import { decodeHistogram } from '../../../shared/wire/histogram.ts'
import { decodeLabels, forEachLabel, hashBytes } from '../../../shared/wire/label-region.ts'
import { readWriteV1, readWriteV2 } from '../../../shared/wire/remote-write.ts'
import { encodeProto, encodeWriteV1, encodeWriteV2, type PlainWrite } from '../../../shared/wire/remote-write-encode.ts'
import { Writer } from '../../../shared/wire/varint.ts'
import { defaultWriteLimits, type MetricType } from '../../../shared/wire/write-sink.ts'
import { bitsOf, expectedOf, recorder } from './write-requests.ts'

const HISTOGRAM_PROTO = `
  message BucketSpan { sint32 offset = 1; uint32 length = 2; }
  message Histogram {
    oneof count { uint64 count_int = 1; double count_float = 2; }
    double sum = 3; sint32 schema = 4; double zero_threshold = 5;
    oneof zero_count { uint64 zero_count_int = 6; double zero_count_float = 7; }
    repeated BucketSpan negative_spans = 8; repeated sint64 negative_deltas = 9; repeated double negative_counts = 10;
    repeated BucketSpan positive_spans = 11; repeated sint64 positive_deltas = 12; repeated double positive_counts = 13;
    int32 reset_hint = 14; int64 timestamp = 15; repeated double custom_values = 16; int64 start_timestamp = 17;
  }`

const V1 = protobuf
  .parse(`syntax = "proto3"; package prometheus;
  message WriteRequest { repeated TimeSeries timeseries = 1; int32 source = 2; repeated MetricMetadata metadata = 3; }
  message TimeSeries { repeated Label labels = 1; repeated Sample samples = 2; repeated Exemplar exemplars = 3; repeated Histogram histograms = 4; }
  message Label { string name = 1; string value = 2; }
  message Sample { double value = 1; int64 timestamp = 2; }
  message Exemplar { repeated Label labels = 1; double value = 2; int64 timestamp = 3; }
  message MetricMetadata { int32 type = 1; string metric_family_name = 2; string help = 4; string unit = 5; }
  ${HISTOGRAM_PROTO}`)
  .root.lookupType('prometheus.WriteRequest')

const V2 = protobuf
  .parse(`syntax = "proto3"; package v2;
  message Request { repeated string symbols = 4; repeated TimeSeries timeseries = 5; }
  message TimeSeries { repeated uint32 labels_refs = 1; repeated Sample samples = 2; repeated Histogram histograms = 3; repeated Exemplar exemplars = 4; Metadata metadata = 5; int64 created_timestamp = 6; }
  message Exemplar { repeated uint32 labels_refs = 1; double value = 2; int64 timestamp = 3; }
  message Sample { double value = 1; int64 timestamp = 2; int64 start_timestamp = 3; }
  message Metadata { int32 type = 1; uint32 help_ref = 3; uint32 unit_ref = 4; }
  ${HISTOGRAM_PROTO}`)
  .root.lookupType('v2.Request')

const NOW = 1_780_000_000_000
const histogram: Histogram = {
  isFloat: false,
  resetHint: 'no-reset',
  schema: 3,
  zeroThreshold: 0.001,
  zeroCount: 2,
  count: 20,
  sum: 12.5,
  positiveSpans: [
    { offset: -3, length: 2 },
    { offset: 4, length: 1 },
  ],
  positiveBuckets: [5, 1, 9],
  negativeSpans: [{ offset: 0, length: 1 }],
  negativeBuckets: [3],
  customValues: [],
}

const request: PlainWrite = {
  series: [
    {
      labels: ['__name__', 'up', 'instance', 'é', 'long', 'x'.repeat(300)],
      samples: [
        { time: NOW, value: 1, startTime: NOW - 5 },
        { time: NOW + 1, value: STALE },
        { time: NOW + 2, value: 0 },
        { time: -7, value: -0 },
        { time: 0, value: Number.NaN },
      ],
      exemplars: [{ labels: ['trace_id', 'abc'], time: NOW, value: 0.25 }],
      metadata: { type: 'gauge', help: 'Whether it is up.', unit: 'ratio' },
    },
    { labels: ['__name__', 'latency'], histograms: [{ time: NOW, histogram, startTime: 9 }] },
  ],
  metadata: [{ name: 'up', type: 'gauge', help: 'Whether it is up.', unit: '' }],
}

test('what protobufjs reads of our encodings is what was meant', () => {
  const v1 = V1.toObject(V1.decode(encodeWriteV1(request)), { longs: Number })
  expect(v1['timeseries'][0].labels[1]).toEqual({ name: 'instance', value: 'é' })
  expect(v1['timeseries'][0].samples.map((s: { timestamp?: number }) => s.timestamp)).toEqual([
    NOW,
    NOW + 1,
    NOW + 2,
    -7,
    undefined,
  ])
  expect(v1['timeseries'][1].histograms[0]).toMatchObject({ countInt: 20, schema: 3, positiveDeltas: [5, -4, 8] })
  expect(v1['metadata']).toEqual([{ type: 2, metricFamilyName: 'up', help: 'Whether it is up.' }])
  const v2 = V2.toObject(V2.decode(encodeWriteV2(request)), { longs: Number })
  const text = (ref: number) => v2['symbols'][ref]
  expect(v2['timeseries'][1].labelsRefs.map(text)).toEqual(['__name__', 'latency'])
  expect(v2['timeseries'][0].samples[0]).toEqual({ value: 1, timestamp: NOW, startTimestamp: NOW - 5 })
  expect(text(v2['timeseries'][0].metadata.helpRef)).toBe('Whether it is up.')
})

test('what protobufjs writes is told as it was meant', () => {
  const v1 = recorder()
  readWriteV1(V1.encode(V1.decode(encodeWriteV1(request))).finish(), v1.sink)
  const v2 = recorder()
  readWriteV2(V2.encode(V2.decode(encodeWriteV2(request))).finish(), v2.sink)
  const withoutBits = (told: unknown[]) => JSON.stringify(told).replaceAll(/7ff[08]00000000000[02]/g, 'NaN') // an object's NaN
  expect(withoutBits(v1.told)).toEqual(withoutBits(expectedOf(request, 1)))
  expect(withoutBits(v2.told)).toEqual(withoutBits(expectedOf(request, 2)))
})

test('REMOTE-3: stale markers keep their bits', () => {
  for (const [encode, read] of [
    [encodeWriteV1, readWriteV1],
    [encodeWriteV2, readWriteV2],
  ] as const) {
    const { told, sink } = recorder()
    read(encode(request), sink)
    expect(told).toContainEqual(['float', NOW + 1, '7ff0000000000002', 0])
  }
})

/** Protobuf by hand: [field, wire type 0 number | wire type 1 eight bytes | text or message]. */
function message(...fields: [number, number | Uint8Array | string | Float64Array][]): Uint8Array {
  const out = new Writer()
  for (const [field, value] of fields) {
    out.uvarint(field * 8 + (typeof value === 'number' ? 0 : value instanceof Float64Array ? 1 : 2))
    if (typeof value === 'number') out.uvarint(value)
    else if (value instanceof Float64Array) out.f64(value)
    else if (typeof value === 'string') out.text(value)
    else {
      out.uvarint(value.length)
      out.bytes(value)
    }
  }
  return out.finish()
}

const label = (name: string, value: string) => message([1, name], [2, value])
const sample = (value: number, time: number) => message([1, Float64Array.of(value)], [2, time])

/** What is told of a 1.0 series with these fields. */
function toldOf(...fields: Parameters<typeof message>): unknown[] {
  const { told, sink } = recorder()
  readWriteV1(message([1, message(...fields)]), sink)
  return told
}

const usual = [['series', ['a', 'b', 'c', 'd']], ['float', NOW, bitsOf(4), 0], ['end']]

test.each<[string, Parameters<typeof message>]>([
  [
    'labels first',
    [
      [1, label('a', 'b')],
      [1, label('c', 'd')],
      [2, sample(4, NOW)],
    ],
  ],
  [
    'labels last',
    [
      [2, sample(4, NOW)],
      [1, label('a', 'b')],
      [1, label('c', 'd')],
    ],
  ],
  [
    'labels apart',
    [
      [1, label('a', 'b')],
      [2, sample(4, NOW)],
      [1, label('c', 'd')],
    ],
  ],
  [
    'value before name',
    [
      [1, message([2, 'b'], [1, 'a'])],
      [1, label('c', 'd')],
      [2, sample(4, NOW)],
    ],
  ],
  [
    'a name given twice',
    [
      [1, message([1, 'x'], [2, 'b'], [1, 'a'])],
      [1, label('c', 'd')],
      [2, sample(4, NOW)],
    ],
  ],
  [
    'unknown fields everywhere',
    [
      [9, 1],
      [1, message([7, 'y'], [1, 'a'], [2, 'b'])],
      [8, 'x'],
      [1, label('c', 'd')],
      [2, message([2, NOW], [5, 'z'], [1, Float64Array.of(4)], [6, 3])],
    ],
  ],
  [
    'start times of 2.0 in 1.0',
    [
      [1, label('a', 'b')],
      [1, label('c', 'd')],
      [2, message([1, Float64Array.of(4)], [2, NOW], [3, 99])],
    ],
  ],
])('REMOTE-2: %s', (_, fields) => {
  expect(toldOf(...fields)).toEqual(usual)
})

test('REMOTE-2: a label without a value has an empty one, and the region says so', () => {
  expect(toldOf([1, message([1, 'a'])], [2, sample(4, NOW)])[0]).toEqual(['series', ['a', '']])
  expect(toldOf([1, message([2, 'b'])], [2, sample(4, NOW)])[0]).toEqual(['series', ['', 'b']])
  expect(toldOf([1, new Uint8Array(0)])[0]).toEqual(['series', ['', '']])
})

test('REMOTE-2: lengths written longer than needed give the same region', () => {
  const wasteful = Uint8Array.of(0x0a, 0x8c, 0, 0x0a, 0x89, 0, 0x0a, 0x81, 0, 97, 0x12, 0x81, 0x80, 0, 98)
  const regions: string[] = []
  for (const bytes of [wasteful, message([1, message([1, label('a', 'b')])])]) {
    readWriteV1(bytes, {
      ...recorder().sink,
      series: (labels, start, end) => regions.push(Buffer.from(labels.subarray(start, end)).toString('hex')) > 0,
    })
  }
  expect(regions).toEqual(['0a060a0161120162', '0a060a0161120162'])
})

test('REMOTE-2: symbols after series, references unpacked, start time of rc.3', () => {
  const series = message([1, 1], [1, 2], [2, sample(4, NOW)], [6, 77])
  const { told, sink } = recorder()
  readWriteV2(message([5, series], [4, ''], [4, 'a'], [4, 'b']), sink)
  expect(told).toEqual([['series', ['a', 'b']], ['float', NOW, bitsOf(4), 77], ['end']])
})

test('REMOTE-1: of a series that is not wanted the samples are counted, and not read', () => {
  const { told, sink } = recorder((labels) => labels[1] !== 'up')
  const skipped: number[][] = []
  readWriteV1(encodeWriteV1(request), { ...sink, skipped: (...counts) => skipped.push(counts) })
  expect(told.map((line) => (line as string[])[0])).toEqual(['series', 'series', 'histogram', 'end', 'metadata'])
  const up = request.series.find(({ labels }) => labels[1] === 'up')!
  expect(skipped).toEqual([[up.samples?.length ?? 0, up.histograms?.length ?? 0, up.exemplars?.length ?? 0]])
  const cut = message([1, Buffer.concat([message([1, label('__name__', 'up')]), Uint8Array.of(0x12, 9, 1)])])
  expect(() => readWriteV1(cut, sink)).toThrow('unexpected EOF')
})

test('2.0: exemplars may come in a series without samples, as Prometheus sends them', () => {
  const exemplar = message([1, Uint8Array.of(1, 2)], [2, Float64Array.of(1.5)], [3, NOW])
  const series = message([1, Uint8Array.of(1, 2)], [4, exemplar])
  const { told, sink } = recorder()
  readWriteV2(message([4, ''], [4, 'a'], [4, 'b'], [5, series]), sink)
  expect(told.map((line) => (line as string[])[0])).toEqual(['series', 'exemplar', 'end'])
})

test('field 2 of a 1.0 request is nobody’s business', () => {
  const { told, sink } = recorder()
  readWriteV1(message([2, 1], [2, 'anything']), sink)
  expect(told).toEqual([])
})

const ten = Uint8Array.of(0x10, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1) // timestamp −1

test('times may be negative, and beyond ±2^53 they are told about: whoever knows the item judges it, the body is not at fault', () => {
  expect(toldOf([2, ten])[1]).toEqual(['float', -1, '0', 0])
  expect(toldOf([2, message([2, Number.MAX_SAFE_INTEGER])])[1]).toEqual(['float', Number.MAX_SAFE_INTEGER, '0', 0])
  const minimum = Uint8Array.of(0x10, 128, 128, 128, 128, 128, 128, 128, 128, 128, 1)
  expect(toldOf([2, minimum])[1]).toEqual(['float', -(2 ** 63), '0', 0])
  const above = Uint8Array.of(0x10, 128, 128, 128, 128, 128, 128, 128, 16)
  expect(toldOf([2, above])[1]).toEqual(['float', 2 ** 53, '0', 0])
})

test.each<[string, Uint8Array, string]>([
  ['a truncated series', Uint8Array.of(0x0a, 5, 1), 'unexpected EOF'],
  ['a tag without value', Uint8Array.of(0x0a), 'unexpected EOF'],
  ['a label longer than its series', message([1, Uint8Array.of(0x0a, 9, 0x0a, 1)]), 'unexpected EOF'],
  ['a value that is cut off', message([1, message([2, Uint8Array.of(9, 1, 2)])]), 'unexpected EOF'],
  ['a time that is cut off', message([1, message([2, Uint8Array.of(0x10, 255)])]), 'unexpected EOF'],
  ['field zero', Uint8Array.of(2, 0), 'illegal tag 2'],
  ['a group', Uint8Array.of(0x7b), 'unsupported wire type 3'],
  ['series as a number', message([1, 5]), 'wrong wire type 0 for field timeseries'],
  ['labels as a number', message([1, message([1, 5])]), 'wrong wire type 0 for field labels'],
  ['a value as a number', message([1, message([2, message([1, 5])])]), 'wrong wire type 0 for field value'],
  ['a number without end', message([1, message([2, new Uint8Array(13).fill(255).with(0, 0x10)])]), 'integer overflow'],
])('1.0: %s is refused', (_, bytes, text) => {
  expect(() => readWriteV1(bytes, recorder().sink)).toThrow(new RefusedError('err-carillon-protobuf', text))
})

const symbols: [number, string][] = [
  [4, ''],
  [4, '__name__'],
  [4, 'up'],
]
const refs = (...list: number[]) => Uint8Array.from(list)
const v2 = (...fields: Parameters<typeof message>) => message(...symbols, [5, message(...fields)])

test.each<[string, Uint8Array, string]>([
  ['a 1.0 body', encodeWriteV1(request), 'symbols must start with an empty string'],
  ['an empty body', new Uint8Array(0), 'symbols must start with an empty string'],
  ['a first symbol that says something', message([4, 'a']), 'symbols must start with an empty string'],
  ['truncation', v2([1, refs(1, 2)], [2, sample(1, 1)]).subarray(0, -1), 'unexpected EOF'],
])('2.0: %s is refused', (_, bytes, text) => {
  expect(() => readWriteV2(bytes, recorder().sink)).toThrow(new RefusedError('err-carillon-protobuf', text))
})

const told = (bytes: Uint8Array) => {
  const { told: list, sink } = recorder()
  readWriteV2(bytes, sink)
  return list
}
const good: Parameters<typeof message>[number] = [5, message([1, refs(1, 2)], [2, sample(1, 1)])]
const goodTold = [['series', ['__name__', 'up']], ['float', 1, '3ff0000000000000', 0], ['end']]

test.each<[string, Uint8Array, string, string, number]>([
  [
    'an odd number of references',
    message([1, refs(1)], [2, sample(1, 1)]),
    'references',
    'invalid labels_refs length 1',
    1,
  ],
  [
    'a reference to nowhere',
    message([1, refs(1, 3)], [2, sample(1, 1)], [2, sample(2, 1)]),
    'references',
    'labels_refs 1 (name) = 3 (value) outside of symbols table (size 3)',
    2,
  ],
  [
    'a help to nowhere',
    message([1, refs(1, 2)], [2, sample(1, 1)], [5, message([3, 3])]),
    'references',
    'metadata help_ref 3 outside of symbols table (size 3)',
    1,
  ],
  [
    'a unit to nowhere',
    message([1, refs(1, 2)], [3, encodeProto(histogram, 1).finish()], [5, message([4, 9])]),
    'references',
    'metadata unit_ref 9 outside of symbols table (size 3)',
    1,
  ],
  [
    'a series without anything',
    message([1, refs(1, 2)]),
    'no-samples',
    'TimeSeries must contain at least one sample or histogram for series up',
    0,
  ],
])('REMOTE-5: 2.0: %s costs its series, and no neighbour', (_, series, kind, text, samples) => {
  const list = told(message(...symbols, good, [5, series], good))
  expect(list).toEqual([...goodTold, ['refused', kind, text, samples], ...goodTold])
})

test('REMOTE-5: 2.0: an exemplar whose labels are nowhere costs itself', () => {
  const series = message([1, refs(1, 2)], [2, sample(1, 1)], [4, message([1, refs(1, 7)])])
  expect(told(message(...symbols, [5, series]))).toEqual([
    ...goodTold.slice(0, 2),
    ['exemplar refused'],
    goodTold.at(-1),
  ])
})

test('2.0: a series with both kinds of samples is told whole, as in 1.0', () => {
  const list = told(v2([1, refs(1, 2)], [2, sample(1, 1)], [3, encodeProto(histogram, 2).finish()]))
  expect(list.map((each) => (each as string[])[0])).toEqual(['series', 'float', 'histogram', 'end'])
})

test.each<[string, MetricType, readonly string[], boolean, string]>([
  ['lat_bucket', 'histogram', ['le', '1'], false, 'lat'],
  ['lat_count', 'histogram', [], false, 'lat'],
  ['lat_sum', 'histogram', [], false, 'lat'],
  ['lat_sum_sum', 'histogram', [], false, 'lat_sum'],
  ['lat', 'histogram', [], true, 'lat'],
  ['blocks_count', 'histogram', [], true, 'blocks_count'], // native: its own name is the family's
  ['pauses_gcount', 'gaugehistogram', [], false, 'pauses'],
  ['pauses_gsum', 'gaugehistogram', [], false, 'pauses'],
  ['rpc', 'summary', ['quantile', '0.9'], false, 'rpc'],
  ['rpc_sum', 'summary', ['quantile', '0.9'], false, 'rpc_sum'],
  ['rpc_sum', 'summary', [], false, 'rpc'],
  ['rpc_bucket', 'summary', [], false, 'rpc_bucket'],
  ['jobs_total', 'counter', [], false, 'jobs_total'],
  ['jobs_count', 'counter', [], false, 'jobs_count'],
  ['_count', 'summary', [], false, '_count'],
])('2.0: metadata of %s (%s %j) stand under its family, as 1.0 tells them', (name, type, more, isNative, family) => {
  const samples = isNative ? { histograms: [{ time: 1, histogram }] } : { samples: [{ time: 1, value: 1 }] }
  const exemplars = [{ labels: ['quantile', 'no'], time: 1, value: 1 }]
  const metadata = { type, help: 'Said.', unit: '' }
  const list = told(
    encodeWriteV2({ series: [{ labels: ['__name__', name, ...more], ...samples, exemplars, metadata }] }),
  )
  expect(list.filter((each) => (each as string[])[0] === 'metadata')).toEqual([['metadata', family, type, 'Said.', '']])
})

test.each([
  ['seriesMax', 'request has more than 1 series'],
  ['samplesMax', 'request has more than 1 samples'],
  ['symbolsMax', 'request has more than 1 symbols'],
  ['regionBytesMax', 'labels exceed 1 bytes'],
  ['regionBytesTotalMax', 'labels of all series exceed 1 bytes'],
])('REMOTE-4: the bound %s is kept', (name, text) => {
  const limits = { ...defaultWriteLimits, [name]: 1 }
  expect(() => readWriteV2(encodeWriteV2(request), recorder().sink, limits)).toThrow(text)
})

test('regions: labels one by one, and a hash that does not change with the place or the version', () => {
  const region = message([1, label('a', 'b')], [1, label('instance', 'x'.repeat(200))])
  const spans: number[][] = []
  forEachLabel(region, 0, region.length, (...positions) => spans.push(positions))
  expect(spans[0]).toEqual([4, 5, 7, 8])
  expect(decodeLabels(region, 0, region.length)).toEqual(['a', 'b', 'instance', 'x'.repeat(200)])
  const hash = hashBytes(region, 0, region.length)
  const moved = new Uint8Array(region.length + 3)
  moved.set(region, 3)
  expect(hashBytes(moved, 3, moved.length)).toBe(hash)
  expect(hashBytes(region.with(20, 1), 0, region.length)).not.toBe(hash)
  expect(hashBytes(Buffer.from('0123456789'), 0, 10)).toBe(-159595967) // stored bytes depend on it
  const invalid = message([1, message([1, Uint8Array.of(0xff)], [2, 'x'])])
  expect(() => decodeLabels(invalid, 0, invalid.length)).toThrow('label name is not valid UTF-8')
})

test('a histogram of either protocol is decoded with its times', () => {
  const bytes = encodeProto(histogram, NOW, 5).finish()
  expect(decodeHistogram(bytes, 0, bytes.length)).toEqual({ histogram, time: NOW, startTime: 5 })
})
