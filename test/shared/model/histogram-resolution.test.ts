// Schemas finer than 8 are merged down to it as Prometheus does. What a real Prometheus makes of the same bodies is compared in
// test/cluster/senders.test.ts.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Histogram, Span } from '../../../shared/model/histogram.ts'
import { atKeptResolution } from '../../../shared/model/histogram-resolution.ts'

const plain: Histogram = {
  isFloat: false,
  resetHint: 'unknown',
  schema: 20,
  zeroThreshold: 0.001,
  zeroCount: 2,
  count: 5,
  sum: 1.5,
  positiveSpans: [{ offset: 0, length: 1 }],
  positiveBuckets: [3],
  negativeSpans: [],
  negativeBuckets: [],
  customValues: [],
}

/** Bucket index → count. */
function bucketsOf(spans: readonly Span[], counts: readonly number[]): Map<number, number> {
  const buckets = new Map<number, number>()
  let index = 0
  let at = 0
  for (const { offset, length } of spans) {
    index += offset
    for (let i = 0; i < length; i++) buckets.set(index++, counts[at++]!)
  }
  return buckets
}

/** Bucket i ends at 2^(i / 2^schema): in the coarser schema it lies in the one that ends there or next. */
const coarseIndex = (index: number, levels: number) => Math.ceil(index / 2 ** levels)

const side = fc
  .tuple(
    fc.integer({ min: -(2 ** 31) + 1, max: 2 ** 30 }),
    fc.array(fc.tuple(fc.integer({ min: 0, max: 70_000 }), fc.integer({ min: 0, max: 5 })), { maxLength: 6 }),
  )
  .map(([first, spans]) => spans.map(([offset, length], i): Span => ({ offset: i === 0 ? first : offset, length })))
  .chain((spans) => {
    const length = spans.reduce((sum, span) => sum + span.length, 0)
    const counts = fc.array(fc.integer({ min: 0, max: 1000 }), { minLength: length, maxLength: length })
    return fc.record({ spans: fc.constant(spans), counts })
  })

test('each bucket of a finer schema goes into the one of schema 8 that holds its range', () => {
  fc.assert(
    fc.property(fc.integer({ min: 9, max: 52 }), side, side, (schema, positive, negative) => {
      const coarse = atKeptResolution({
        ...plain,
        schema,
        ...{ positiveSpans: positive.spans, positiveBuckets: positive.counts },
        ...{ negativeSpans: negative.spans, negativeBuckets: negative.counts },
      })
      const wanted = ({ spans, counts }: typeof positive) => {
        const sums = new Map<number, number>()
        for (const [index, count] of bucketsOf(spans, counts)) {
          const at = coarseIndex(index, schema - 8)
          sums.set(at, (sums.get(at) ?? 0) + count)
        }
        return sums
      }
      expect(bucketsOf(coarse.positiveSpans, coarse.positiveBuckets)).toEqual(wanted(positive))
      expect(bucketsOf(coarse.negativeSpans, coarse.negativeBuckets)).toEqual(wanted(negative))
      for (const spans of [coarse.positiveSpans, coarse.negativeSpans])
        expect(spans.every(({ offset, length }, i) => length > 0 && (i === 0 || offset > 0))).toBe(true)
      const { schema: kept, count, sum, zeroCount, zeroThreshold } = coarse
      expect({ kept, count, sum, zeroCount, zeroThreshold }).toEqual({
        ...{ kept: 8, count: 5, sum: 1.5, zeroCount: 2, zeroThreshold: 0.001 },
      })
    }),
  )
})

test('what is coarse enough stays as it is', () => {
  for (const schema of [-53, -4, 0, 8]) {
    const histogram = { ...plain, schema }
    expect(atKeptResolution(histogram)).toBe(histogram)
  }
})

test('float counts of one bucket are added in their order', () => {
  const positiveBuckets = [0.1, 0.2, 0.3, 1e16, 1, 1]
  const histogram = { ...plain, isFloat: true, schema: 52, positiveSpans: [{ offset: 1, length: 6 }], positiveBuckets }
  expect(atKeptResolution(histogram).positiveBuckets).toEqual([0.1 + 0.2 + 0.3 + 1e16 + 1 + 1])
})
