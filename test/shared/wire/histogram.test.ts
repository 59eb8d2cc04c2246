import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Histogram, isStaleHistogram } from '../../../shared/model/histogram.ts'
import { STALE } from '../../../shared/model/sample.ts'
import { decodeCanonical, decodeHistogram, encodeCanonical } from '../../../shared/wire/histogram.ts'
import { encodeProto } from '../../../shared/wire/remote-write-encode.ts'
import { Writer } from '../../../shared/wire/varint.ts'
import { histogram as anyHistogram } from './write-requests.ts'

const plain: Histogram = {
  isFloat: false,
  resetHint: 'unknown',
  schema: 0,
  zeroThreshold: 0.5,
  zeroCount: 1,
  count: 6,
  sum: 2.5,
  positiveSpans: [{ offset: 1, length: 2 }],
  positiveBuckets: [2, 3],
  negativeSpans: [],
  negativeBuckets: [],
  customValues: [],
}
const custom: Histogram = {
  ...plain,
  schema: -53,
  zeroThreshold: 0,
  zeroCount: 0,
  count: 5,
  positiveSpans: [{ offset: 0, length: 2 }],
  customValues: [0.1, 1],
}

function canonical(histogram: Histogram): Uint8Array {
  const writer = new Writer()
  encodeCanonical(histogram, writer)
  return writer.finish()
}

function decoded(histogram: Histogram): Histogram {
  const bytes = encodeProto(histogram, 1).finish()
  return decodeHistogram(bytes, 0, bytes.length).histogram
}

test('any valid histogram comes through protobuf and the canonical form', () => {
  fc.assert(
    fc.property(anyHistogram, (histogram) => {
      expect(decoded(histogram)).toEqual(histogram)
      expect(decodeCanonical(canonical(histogram))).toEqual(histogram)
    }),
  )
})

test('the canonical bytes are these', () => {
  expect(Buffer.from(canonical(plain)).toString('hex')).toBe(
    '010000' + '000000000000e03f' + '0000000000000440' + '0601' + '010202' + '00' + '0402' + '00',
  )
})

test('HISTOGRAM-1: spans that say the same give the same bytes', () => {
  const one = canonical(plain)
  const spans = [
    { offset: 1, length: 1 },
    { offset: 0, length: 0 },
    { offset: 0, length: 1 },
    { offset: 7, length: 0 },
  ]
  expect(canonical({ ...plain, positiveSpans: spans })).toEqual(one)
})

test('HISTOGRAM-1: a stale histogram stays stale, whatever became of its signalling bit', () => {
  const stale: Histogram = { ...plain, count: 0, zeroCount: 0, sum: STALE[0]!, positiveSpans: [], positiveBuckets: [] }
  const quiet = new Float64Array(BigUint64Array.of(0x7ff8000000000002n).buffer)[0]!
  expect(isStaleHistogram(decoded(stale))).toBe(true)
  expect(canonical({ ...stale, sum: quiet })).toEqual(canonical(stale))
  expect(isStaleHistogram(decodeCanonical(canonical(stale)))).toBe(true)
  expect(isStaleHistogram({ ...plain, sum: Number.NaN })).toBe(false)
  expect(isStaleHistogram(plain)).toBe(false)
})

test.each<[string, Histogram, string]>([
  ['buckets without spans', { ...plain, positiveSpans: [] }, 'positive side: spans need 0 buckets, have 2 buckets'],
  [
    'spans that go back',
    {
      ...plain,
      positiveSpans: [
        { offset: 1, length: 1 },
        { offset: -1, length: 1 },
      ],
    },
    'span number 2 with offset -1',
  ],
  [
    'a negative bucket',
    { ...plain, positiveBuckets: [6, -1] },
    'positive side: bucket number 2 has observation count of -1',
  ],
  [
    'a negative bucket below zero',
    { ...plain, count: 0, negativeSpans: [{ offset: 0, length: 1 }], negativeBuckets: [-6] },
    'negative side: bucket number 1',
  ],
  ['a count that is too small', { ...plain, count: 5 }, '6 observations found in buckets, but the Count field is 5'],
  ['a count that is too large', { ...plain, count: 7 }, 'should equal the number of observations'],
  [
    'too small a count beside NaN',
    { ...plain, sum: Number.NaN, count: 5 },
    'should be at least the number of observations',
  ],
  [
    'a schema of 53',
    { ...plain, schema: 53 },
    'between -4 and 8 for exponential buckets, or -53 for custom buckets, got schema 53',
  ],
  ['bounds beside a schema', { ...plain, customValues: [1] }, 'must not have custom bounds'],
  ['a negative float count', { ...plain, isFloat: true, count: -1 }, 'observation count is -1'],
  ['a negative zero bucket', { ...plain, isFloat: true, zeroCount: -1 }, 'zero bucket has observation count of -1'],
  ['bounds out of order', { ...custom, customValues: [1, 1] }, 'strictly increasing order'],
  ['an infinite bound', { ...custom, customValues: [1, Infinity] }, 'must be finite'],
  ['a bound that is NaN', { ...custom, customValues: [Number.NaN] }, 'must not be NaN'],
  ['too few bounds', { ...custom, customValues: [] }, 'custom bounds are too few'],
  ['a zero bucket beside bounds', { ...custom, zeroCount: 1, count: 6 }, 'must have zero count of 0'],
  ['a zero threshold beside bounds', { ...custom, zeroThreshold: 1 }, 'must have zero threshold of 0'],
  [
    'negative spans beside bounds',
    { ...custom, negativeSpans: [{ offset: 0, length: 0 }] },
    'must not have negative spans',
  ],
  [
    'a first span that starts below the bounds',
    { ...custom, positiveSpans: [{ offset: -1, length: 2 }] },
    'span number 1 with offset -1',
  ],
])('HISTOGRAM-2: %s are refused', (_, histogram, text) => {
  expect(() => decoded(histogram)).toThrow(text)
  expect(() => decoded(histogram)).toThrow(expect.objectContaining({ code: 'err-carillon-histogram-invalid' }))
})

test('HISTOGRAM-2: more observations than buckets hold are right beside a sum that is NaN, and float counts need not add up', () => {
  expect(decoded({ ...plain, sum: Number.NaN, count: 9 }).count).toBe(9)
  expect(decoded({ ...plain, isFloat: true, count: 9.5 }).count).toBe(9.5)
  expect(decoded(custom)).toEqual(custom)
})

test('canonical bytes of another version, cut or longer are corrupt', () => {
  const bytes = canonical(plain)
  expect(() => decodeCanonical(bytes.with(0, 2))).toThrow('histogram has version 2, known is 1')
  expect(() => decodeCanonical(bytes.subarray(0, -1))).toThrow('histogram ends too early')
  expect(() => decodeCanonical(Uint8Array.of(...bytes, 0))).toThrow('1 bytes too many')
})
