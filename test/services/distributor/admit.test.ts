// Admission recognises most series by the bytes that followed the last time; that must never take one series for another.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { admit, Staged } from '../../../services/distributor/admit.ts'
import { type DistributorConfig, distributorSettings } from '../../../services/distributor/config.ts'
import { Dictionary } from '../../../services/distributor/dictionary.ts'
import { defaultsOf } from '../../../shared/config/settings.ts'
import { staleHistogram } from '../../../shared/tsdb/histogram-order.ts'
import { encodeWriteV2 } from '../../../shared/wire/remote-write-encode.ts'
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

test('X1: whatever followed what before, a sample is staged under the labels that it came with', () => {
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
