// Admission recognises most series by the bytes that followed the last time; that must never take one series for another.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { admit } from '../../../services/distributor/admit/admit.ts'
import { Staged } from '../../../services/distributor/admit/staged.ts'
import { type DistributorConfig, distributorSettings } from '../../../services/distributor/config.ts'
import { Dictionary } from '../../../services/distributor/log/dictionary.ts'
import { defaultsOf } from '../../../shared/config/settings.ts'
import { staleHistogram } from '../../../shared/tsdb/histogram-order.ts'
import { encodeWriteV1, encodeWriteV2, type PlainWrite } from '../../../shared/wire/remote-write-encode.ts'
import { compress } from '../../../shared/wire/snappy.ts'
import { Writer } from '../../../shared/wire/varint.ts'

/** Sorted labels without the name; some are the beginning of others. */
const labelSets = [
  [],
  ['a', '1'],
  ['a', '1', 'b', '2'],
  ['a', '1', 'b', '22'],
  ['a', '12'],
  ['b', '2'],
  ['b', '22', 'c', '3'],
]

function admission(changes: Partial<DistributorConfig> = {}) {
  const dictionary = new Dictionary()
  const nobody = () => {
    throw new Error('no series takes part in an election')
  }
  const context = {
    dictionary,
    tenant: 'acme',
    config: defaultsOf(distributorSettings, changes),
    nowMs: 1_000_000,
    keepMs: Number.POSITIVE_INFINITY,
    partitionOf: () => 0,
    haLabels: { cluster: 'cluster', replica: '__replica__' },
    elections: { mayClaim: nobody, claim: nobody, judge: nobody },
  }
  return { dictionary, context }
}

function message(fill: (out: Writer) => void): Uint8Array {
  const out = new Writer(256)
  fill(out)
  return out.finish()
}

function field(out: Writer, tag: number, bytes: Uint8Array): void {
  out.u8(tag)
  out.uvarint(bytes.length)
  out.bytes(bytes)
}

const labelBytes = (name: string, value: string) =>
  message((label) => {
    field(label, 0x0a, Buffer.from(name))
    field(label, 0x12, Buffer.from(value))
  })

/** One sample each, its time tells which one it is; with `areLate` the last label stands behind the sample. */
function bodyOf(series: readonly { labels: readonly string[]; areLate: boolean }[]): Uint8Array {
  const body = message((out) => {
    for (const [time, { labels, areLate }] of series.entries()) {
      const parts: Uint8Array[] = []
      for (let i = 0; i < labels.length; i += 2) parts.push(labelBytes(labels[i]!, labels[i + 1]!))
      const late = areLate ? parts.pop()! : undefined
      const sample = message((inner) => {
        inner.u8(0x10)
        inner.uvarint(time + 1)
      })
      const whole = message((inner) => {
        for (const part of parts) field(inner, 0x0a, part)
        field(inner, 0x12, sample)
        if (late) field(inner, 0x0a, late)
      })
      field(out, 0x0a, whole)
    }
  })
  return compress(body)
}

test('DICTIONARY-1: whatever followed what before, a sample is staged under the labels that it came with', () => {
  const one = fc.record({ index: fc.nat(labelSets.length - 1), areLate: fc.boolean() })
  const series = one.map(({ index, areLate }) => ({ labels: ['__name__', 'm', ...labelSets[index]!], areLate }))
  fc.assert(
    fc.property(fc.array(fc.array(series, { minLength: 1, maxLength: 12 }), { maxLength: 8 }), (bodies) => {
      const { dictionary, context } = admission()
      for (const body of bodies) {
        const staged = new Staged()
        const sent = body.map(({ labels, areLate }) => ({ labels, areLate: areLate && labels.length > 2 }))
        admit(1, bodyOf(sent), staged, context)
        expect(staged.discarded.size).toBe(0)
        expect(Array.from(staged.refs.subarray(0, staged.count), (ref) => dictionary.labelsOf(ref))).toEqual(
          sent.map(({ labels }) => labels),
        )
      }
    }),
  )
})

test('start times are staged where the setting keeps them, also behind those that an election takes out', () => {
  const samples = Array.from({ length: 10_000 }, (_, i) => ({ time: i, value: i, startTime: i < 3 ? 0 : i - (i % 5) }))
  const histogram = { ...staleHistogram(false), sum: 1 }
  const histograms = [0, 7, 2 ** 52].map((startTime) => ({ time: 9, histogram, startTime }))
  const body = compress(
    encodeWriteV2({
      series: [
        { labels: ['__name__', 'a'], samples },
        { labels: ['__name__', 'b'], histograms },
      ],
    }),
  )
  const kept = new Staged()
  admit(2, body, kept, admission({ startTimestamps: true }).context)
  expect([...kept.startTimes!.subarray(0, kept.count)]).toEqual(samples.map(({ startTime }) => startTime))
  expect(kept.histograms.map(({ startTime }) => startTime)).toEqual([0, 7, 0]) // the last is out of this world
  kept.remove((_, time) => time < 5_000)
  expect([...kept.startTimes!.subarray(0, 2)]).toEqual([5_000, 5_000])
  const left = new Staged()
  admit(2, body, left, admission().context)
  expect(left.startTimes).toBeUndefined()
  expect(left.histograms.map(({ startTime }) => startTime)).toEqual([0, 0, 0])
})

const ordered = ['__name__', 'up', 'app', 'b', 'job', 'x', 'zone', 'c']
const pairsOf = (labels: readonly string[]) =>
  Array.from({ length: labels.length / 2 }, (_, i) => labels.slice(2 * i, 2 * i + 2))
const admitted = (protocol: 1 | 2, write: PlainWrite, changes: Partial<DistributorConfig> = {}) => {
  const staged = new Staged()
  const { context, dictionary } = admission(changes)
  admit(protocol, compress((protocol === 1 ? encodeWriteV1 : encodeWriteV2)(write)), staged, context)
  return { staged, dictionary }
}

test.each([1, 2] as const)('labels in any order are one series, stored sorted (%i.0)', (protocol) => {
  const orders = fc.array(fc.shuffledSubarray(pairsOf(ordered), { minLength: 4 }), { minLength: 1, maxLength: 6 })
  fc.assert(
    fc.property(orders, (all) => {
      const series = all.map((pairs, time) => ({ labels: pairs.flat(), samples: [{ time: time + 1, value: time }] }))
      const { staged, dictionary } = admitted(protocol, { series })
      expect([...staged.discarded]).toEqual([])
      expect(staged.count).toBe(all.length)
      const hashes = new Set<number>()
      for (const ref of staged.refs.subarray(0, staged.count)) {
        expect(dictionary.labelsOf(ref)).toEqual(ordered)
        hashes.add(dictionary.seriesHashes[ref]!)
      }
      expect(hashes.size).toBe(1)
    }),
  )
})

test.each([
  ['a name twice, apart', ['a', '1', '__name__', 'up', 'a', '2'], 'err-carillon-duplicate-label-name'],
  [
    'a name twice with one value',
    ['b', '1', 'a', '1', 'b', '1', '__name__', 'up'],
    'err-carillon-duplicate-label-name',
  ],
  ['an empty label name', ['a', '1', '', 'x', '__name__', 'up'], 'err-carillon-label-invalid'],
  ['no name', ['b', '1', 'a', '1'], 'err-carillon-missing-metric-name'],
  [
    'too many, which are not sorted for that',
    ['z', '1', '__name__', 'up', ...Array.from({ length: 200_000 }, (_, i) => [`l${i}`, 'v']).flat()],
    'err-carillon-max-label-names-per-series',
  ],
])('labels in disorder with %s are refused, in both protocols', (_, labels, code) => {
  for (const protocol of [1, 2] as const) {
    const series = [{ labels, samples: [{ time: 1, value: 1 }] }]
    const { staged } = admitted(protocol, { series })
    expect({ code: staged.firstRefusal?.code, count: staged.count }).toEqual({ code, count: 0 })
  }
})

test('labels are sorted by bytes: a capital before the underscore, surrogates behind all', () => {
  const labels = ['__name__', 'up', '\u{1f600}', '2', '\uffee', '1', 'DC', 'x']
  const { staged, dictionary } = admitted(1, { series: [{ labels, samples: [{ time: 1, value: 1 }] }] })
  expect(dictionary.labelsOf(staged.refs[0]!)).toEqual(['DC', 'x', '__name__', 'up', '\uffee', '1', '\u{1f600}', '2'])
})

const up = { labels: ['__name__', 'up'], samples: [{ time: 1, value: 1 }] }

test.each([1, 2] as const)(
  'an exemplar that breaks a limit is left out and counted; nobody is refused (%i.0)',
  (protocol) => {
    const exemplars = [
      { labels: ['trace_id', 'x'.repeat(200)], time: 1, value: 1 },
      { labels: ['trace_id', 'x'.repeat(120)], time: 1, value: 1 },
    ]
    const { staged } = admitted(protocol, { series: [{ ...up, exemplars }] })
    expect({ refusal: staged.firstRefusal, count: staged.count, exemplars: staged.exemplars.length }).toEqual({
      ...{ refusal: undefined, count: 1, exemplars: 1 },
    })
    expect([...staged.leftOut.exemplars]).toEqual([['labels_too_long', 1]])
  },
)

test('exemplars whose labels come in another order are the same', () => {
  const exemplars = [
    { labels: ['trace_id', 'x', 'span_id', 'y'], time: 1, value: 1 },
    { labels: ['span_id', 'y', 'trace_id', 'x'], time: 1, value: 1 },
  ]
  const { staged } = admitted(1, { series: [{ ...up, exemplars }] })
  expect(staged.exemplars.map(({ labels }) => labels)).toEqual([exemplars[1]!.labels, exemplars[1]!.labels])
})

test('ADMIT-2: metadata that break a limit are left out and counted; nobody is refused', () => {
  const metadata = (name: string, unit = '') => ({ name, type: 'gauge', help: 'h'.repeat(5000), unit }) as const
  const long = 'x'.repeat(1025)
  const list = [metadata(''), metadata(long), metadata('a', long), metadata('b', 'seconds')]
  const { staged } = admitted(1, { series: [up], metadata: list })
  expect({ refusal: staged.firstRefusal, count: staged.count }).toEqual({ refusal: undefined, count: 1 })
  expect(staged.metadata.map(({ metric, help }) => [metric, help.length])).toEqual([['b', 1024]])
  expect([...staged.leftOut.metadata]).toEqual([
    ['missing_metric_name', 1],
    ['metric_name_too_long', 1],
    ['unit_too_long', 1],
  ])
})
