import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Histogram } from '../../../shared/model/histogram.ts'
import { STALE } from '../../../shared/model/sample.ts'
import { compareHistograms } from '../../../shared/tsdb/histogram-order.ts'
import { histogram } from '../wire/write-requests.ts'

const compare = (a: Histogram, b: Histogram): number => Math.sign(compareHistograms(a, b))

test('LOG-11: histograms have a total order', () => {
  fc.assert(
    fc.property(histogram, histogram, histogram, (a, b, c) => {
      expect(compare(a, a)).toBe(0)
      expect(compare(a, b) + compare(b, a)).toBe(0)
      const [low, middle, high] = [a, b, c].sort(compare)
      expect(compare(low!, middle!) <= 0 && compare(middle!, high!) <= 0 && compare(low!, high!) <= 0).toBe(true)
    }),
  )
})

const empty: Histogram = {
  isFloat: true,
  resetHint: 'unknown',
  schema: 0,
  zeroThreshold: 0,
  zeroCount: 0,
  count: 1,
  sum: 0,
  positiveSpans: [],
  positiveBuckets: [],
  negativeSpans: [],
  negativeBuckets: [],
  customValues: [],
}

test('LOG-11: the stale marker lowest, then by count, sum and bytes', () => {
  const rising: Histogram[] = [
    { ...empty, count: 7, sum: STALE[0]! },
    { ...empty, count: 0, sum: 99 },
    { ...empty, sum: Number.NaN },
    { ...empty, sum: -Infinity },
    { ...empty, sum: -0 },
    empty,
    { ...empty, schema: 1 },
    { ...empty, sum: 1 },
    { ...empty, count: 2, sum: -5 },
  ]
  for (let i = 1; i < rising.length; i++) expect(compare(rising[i - 1]!, rising[i]!)).toBe(-1)
})

test('LOG-11: what a chunk does not keep does not count', () => {
  expect(compare({ ...empty, resetHint: 'no-reset' }, empty)).toBe(0)
  expect(compare({ ...empty, sum: STALE[0]! }, { ...empty, count: 9, schema: 3, sum: STALE[0]! })).toBe(0)
  expect(compare({ ...empty, resetHint: 'gauge' }, empty)).not.toBe(0)
})
