// Which of the samples of one time a head keeps, and what its digests say of them: one case for each thing that makes a difference. That
// the order of arrival makes none, for any samples, is what head-set.test.ts checks.
import { describe, expect, it } from 'vitest'
import type { Histogram } from '../../../../shared/model/histogram.ts'
import { STALE_HIGH, STALE_LOW } from '../../../../shared/model/sample.ts'
import { SampleColumns } from '../../../../shared/tsdb/columns.ts'
import { Head } from '../../../../shared/tsdb/head/head.ts'
import { StringTable } from '../../../../shared/tsdb/head/string-table.ts'

interface Sample {
  readonly time: number
  readonly value: readonly [high: number, low: number] | Histogram
  readonly start?: number
  readonly segment?: number
  readonly name?: string
}

const one = [0x3ff00000, 0] as const
const justAbove = [0x3ff00000, 1] as const
const stale = [STALE_HIGH, STALE_LOW] as const
const histogramOf = (count: number): Histogram => ({
  ...{ isFloat: false, resetHint: 'unknown', schema: 1, zeroThreshold: 0.001, zeroCount: count, count, sum: 1 },
  ...{ positiveSpans: [], positiveBuckets: [], negativeSpans: [], negativeBuckets: [], customValues: [] },
})

function headOf(samples: readonly Sample[]): Head {
  const strings = new StringTable()
  const head = new Head(strings)
  for (const { time, value, start = 0, segment = 1, name = 'm' } of samples) {
    const ref = head.series([strings.intern('__name__'), strings.intern(name)])
    if ('count' in value) head.appendHistogram(ref, segment, time, value, start)
    else if (start !== 0) head.appendStarted(ref, segment, time, value[1], value[0], start)
    else head.appendFloat(ref, segment, time, new Float64Array(Uint32Array.of(value[1], value[0]).buffer), 0)
  }
  return head
}

const digestOf = (...samples: Sample[]) => headOf(samples).digest(1)

function held(...samples: Sample[]): { start: number; value: Sample['value'] }[] {
  const sink = new SampleColumns()
  headOf(samples).readInto(0, { startMs: 0, endMs: 100 }, sink)
  return Array.from({ length: sink.count }, (_, i) => ({
    start: sink.startTimes?.[i] ?? 0,
    value: sink.histograms?.[i] ?? ([sink.words[2 * i + 1]!, sink.words[2 * i]!] as const),
  }))
}

describe('LOG-11: of two samples at one time the greater stays, whichever came first', () => {
  const cases: readonly (readonly [what: string, less: Omit<Sample, 'time'>, greater: Omit<Sample, 'time'>])[] = [
    ['floats by value', { value: one }, { value: justAbove }],
    ['a stale marker and another NaN that is less by its bits', { value: stale }, { value: [STALE_HIGH, 1] }],
    ['equal floats by start time', { value: one, start: 5 }, { value: one, start: 6 }],
    ['equal floats, of one the start is unknown', { value: one }, { value: one, start: 6 }],
    ['a float and a histogram', { value: justAbove }, { value: histogramOf(1) }],
    ['histograms by count', { value: histogramOf(1) }, { value: histogramOf(2) }],
    ['equal histograms by start time', { value: histogramOf(1), start: 5 }, { value: histogramOf(1), start: 6 }],
  ]
  for (const last of [[], [{ time: 50, value: one }]]) {
    it.each(cases)(`%s (${last.length === 0 ? 'the newest' : 'late'})`, (_, less, greater) => {
      const [a, b] = [
        { ...less, time: 10 },
        { ...greater, time: 10 },
      ]
      const wanted = held(...last, b)
      const digest = digestOf(...last, b)
      for (const order of [
        [a, b],
        [b, a],
        [a, b, a],
        [b, a, b],
      ]) {
        expect(held(...last, ...order)).toEqual(wanted)
        expect(digestOf(...last, ...order)).toBe(digest)
      }
    })
  }
})

describe('LOG-10: a digest tells apart', () => {
  it.each<[what: string, a: Sample, b: Sample]>([
    ['times', { time: 10, value: one }, { time: 11, value: one }],
    ['times that are far', { time: 10, value: one }, { time: 2 ** 40 + 10, value: one }],
    ['values in their last bit', { time: 10, value: one }, { time: 10, value: justAbove }],
    ['values in their sign', { time: 10, value: one }, { time: 10, value: [0xbff00000, 0] }],
    ['start times', { time: 10, value: one, start: 5 }, { time: 10, value: one, start: 6 }],
    ['known and unknown start times', { time: 10, value: one, start: 5 }, { time: 10, value: one }],
    ['series', { time: 10, value: one }, { time: 10, value: one, name: 'n' }],
    ['histograms', { time: 10, value: histogramOf(1) }, { time: 10, value: histogramOf(2) }],
    [
      'start times of histograms',
      { time: 10, value: histogramOf(1), start: 5 },
      { time: 10, value: histogramOf(1), start: 6 },
    ],
  ])('%s', (_, a, b) => {
    expect(digestOf(a)).not.toBe(digestOf(b))
  })

  it('segments, each of which has its own', () => {
    const [a, b] = [
      { time: 10, value: one },
      { time: 20, value: justAbove },
    ]
    const head = headOf([
      { ...a, segment: 1 },
      { ...b, segment: 2 },
    ])
    expect([head.digest(1), head.digest(2)]).toEqual([
      headOf([{ ...a, segment: 1 }]).digest(1),
      headOf([{ ...b, segment: 2 }]).digest(2),
    ])
  })
})
