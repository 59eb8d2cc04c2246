// LOG-11: of the samples at one time the greatest stays, whichever run it comes from and in whatever order the runs are given.
import fc from 'fast-check'
import { expect, it, test } from 'vitest'
import type { Histogram } from '../../../shared/model/histogram.ts'
import { STALE_HIGH, STALE_LOW } from '../../../shared/model/sample.ts'
import { SampleColumns } from '../../../shared/tsdb/columns.ts'
import { mergeRuns } from '../../../shared/tsdb/merge.ts'

interface Sample {
  readonly time: number
  /** What it is, by its place in `VALUES`. */
  readonly rank: number
  /** 0: unknown. */
  readonly start: number
}

const bits = (value: number): readonly [high: number, low: number] => {
  const [low, high] = new Uint32Array(Float64Array.of(value).buffer)
  return [high!, low!]
}
const histogramOf = (count: number, sum: number): Histogram => ({
  ...{ isFloat: false, resetHint: 'unknown', schema: 1, zeroThreshold: 0.001, zeroCount: count, count, sum },
  ...{ positiveSpans: [], positiveBuckets: [], negativeSpans: [], negativeBuckets: [], customValues: [] },
})

/** All kinds of value, each greater than those before. */
const VALUES: readonly (readonly [high: number, low: number] | Histogram)[] = [
  [STALE_HIGH, STALE_LOW],
  [STALE_HIGH, 1], // less by its bits
  [0x7ff80000, 0],
  [0x7ff80000, 1],
  [0xfff80000, 0],
  ...[Number.NEGATIVE_INFINITY, -2, -1, -0, 0, 1, 2, Number.POSITIVE_INFINITY].map(bits),
  histogramOf(1, 1),
  histogramOf(1, 2),
  histogramOf(2, 0),
]

const sample: fc.Arbitrary<Sample> = fc.record({
  time: fc.nat(6),
  rank: fc.nat(VALUES.length - 1),
  start: fc.constantFrom(0, 0, 1, 5),
})
/** Rising strictly in time, as a run does. */
const run = fc.uniqueArray(sample, { selector: ({ time }) => time, maxLength: 7 }).map((samples) => {
  return samples.sort((a, b) => a.time - b.time)
})

function columnsOf(samples: readonly Sample[]): SampleColumns {
  const columns = new SampleColumns(1)
  for (const { time, rank, start } of samples) {
    const value = VALUES[rank]!
    if ('count' in value) columns.pushHistogram(time, value, start)
    else columns.pushBits(time, value[1], value[0], start)
  }
  return columns
}

function merged(runs: readonly (readonly Sample[])[]): Sample[] {
  const sink = new SampleColumns(1)
  const rankOf = (i: number) =>
    VALUES.findIndex((value) => {
      const histogram = sink.histograms?.[i]
      if ('count' in value) return histogram?.count === value.count && histogram.sum === value.sum
      return histogram === undefined && sink.words[2 * i + 1] === value[0] && sink.words[2 * i] === value[1]
    })
  mergeRuns(
    runs.map((samples) => columnsOf(samples).asRun()),
    sink,
  )
  return Array.from({ length: sink.count }, (_, i) => {
    return { time: sink.times[i]!, rank: rankOf(i), start: sink.startTimes?.[i] ?? 0 }
  })
}

function expected(runs: readonly (readonly Sample[])[]): Sample[] {
  const greatest = new Map<number, Sample>()
  for (const next of runs.flat()) {
    const known = greatest.get(next.time)
    if (known === undefined || next.rank > known.rank || (next.rank === known.rank && next.start > known.start))
      greatest.set(next.time, next)
  }
  return [...greatest.values()].sort((a, b) => a.time - b.time)
}

test('LOG-11: a merge is what a table of greatest samples gives, for runs of all kinds of value', () => {
  fc.assert(
    fc.property(fc.array(run, { maxLength: 4 }), (runs) => {
      expect(merged(runs)).toEqual(expected(runs))
      expect(merged([...runs].reverse())).toEqual(expected(runs))
    }),
    { numRuns: 2_000 },
  )
})

it.each(VALUES.map((_, rank) => [rank]))(
  'LOG-11: of two equal samples the one with the later start stays (value %d)',
  (rank) => {
    const [early, late] = [
      { time: 1, rank, start: 3 },
      { time: 1, rank, start: 4 },
    ] as const
    expect(merged([[early], [late]])).toEqual([late])
    expect(merged([[late], [early]])).toEqual([late])
  },
)

test('long stretches of one run beside another come over as they are', () => {
  const long = Array.from({ length: 300 }, (_, i): Sample => ({ time: 10 * i, rank: 5, start: i % 7 === 0 ? i : 0 }))
  const short = [55, 1_490, 1_490.5, 2_990].map((time): Sample => ({ time, rank: 6, start: 0 }))
  expect(merged([long, short])).toEqual(expected([long, short]))
})
