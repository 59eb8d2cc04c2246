import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Histogram } from '../../../shared/model/histogram.ts'
import { compareHistograms } from '../../../shared/model/histogram-order.ts'
import { STALE } from '../../../shared/model/sample.ts'
import { encodeCanonical } from '../../../shared/wire/histogram.ts'
import { Writer } from '../../../shared/wire/varint.ts'
import { histogram } from '../wire/write-requests.ts'

function compare(a: Histogram, b: Histogram): number {
  const [first, second] = [a, b].map((one) => {
    const writer = new Writer()
    encodeCanonical(one, writer)
    return writer.finish()
  })
  return Math.sign(compareHistograms(a, first!, b, second!))
}

test('L11: histograms have a total order', () => {
  fc.assert(
    fc.property(histogram, histogram, histogram, (a, b, c) => {
      expect(compare(a, a)).toBe(0)
      expect(compare(a, b) + compare(b, a)).toBe(0)
      const [low, middle, high] = [a, b, c].sort(compare)
      expect(compare(low!, middle!) <= 0 && compare(middle!, high!) <= 0 && compare(low!, high!) <= 0).toBe(true)
    }),
  )
})

test('L11: by count, then sum with the stale marker lowest, then bytes', () => {
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
  const rising: Histogram[] = [
    { ...empty, count: 0, sum: 99 },
    { ...empty, sum: STALE[0]! },
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
