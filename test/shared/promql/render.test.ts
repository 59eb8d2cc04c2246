import { describe, expect, it } from 'vitest'
import type { Histogram } from '../../../shared/model/histogram.ts'
import { formatJsonFloat, formatPlain, formatShort } from '../../../shared/promql/format-float.ts'
import { exponentialBound } from '../../../shared/promql/functions/histogram-bounds.ts'
import { xxHash64 } from '../../../shared/promql/functions/labels-hash.ts'
import { renderJson, renderText, renderTime } from '../../../shared/promql/render.ts'

const value = (float: number) => renderJson({ value: { type: 'scalar', timeMs: 1_500, value: float } })

it.each([
  [0, '0'],
  [-0, '-0'],
  [1e-6, '0.000001'],
  [1.5e-7, '1.5e-07'],
  [123_456_789, '123456789'],
  [1e20, '100000000000000000000'],
  [1e21, '1e+21'],
  [-1.25e300, '-1.25e+300'],
  [5e-324, '5e-324'],
  [Infinity, '+Inf'],
  [-Infinity, '-Inf'],
  [Number.NaN, 'NaN'],
])('a JSON float: %d is %s', (float, text) => {
  expect(formatJsonFloat(float)).toBe(text)
  expect(value(float)).toBe(`{"resultType":"scalar","result":[1.500,"${text}"]}`)
})

it.each([
  [1e21, '1000000000000000000000'],
  [1.5e-7, '0.00000015'],
  [0.1, '0.1'],
])('a float as label value: %d is %s', (float, text) => expect(formatPlain(float)).toBe(text))

it.each<[number, number | undefined, string]>([
  [1e6, undefined, '1e+06'],
  [123_456, undefined, '123456'],
  [0.0001, undefined, '0.0001'],
  [0.00001, undefined, '1e-05'],
  [2.5, 2, '2.5'],
  [100, 2, '1e+02'],
  [12, 2, '12'],
])('a float in an annotation: %d (%s digits) is %s', (float, digits, text) => {
  expect(formatShort(float, digits)).toBe(text)
})

it.each([
  [0, '0'],
  [1_435_781_451_781, '1435781451.781'],
  [12_500, '12.500'],
  [-5, '-0.005'],
])('the time %d ms is %s', (ms, text) => expect(renderTime(ms)).toBe(text))

it.each([
  ['plain', '"plain"'],
  ['a<b>&c', '"a\\u003cb\\u003e\\u0026c"'],
  ['tab\tquote"back\\slash\n', '"tab\\tquote\\"back\\\\slash\\n"'],
  ['\\b is not a backspace, \b is', '"\\\\b is not a backspace, \\u0008 is"'],
  ['ünï', '"ünï"'],
])('the text %j', (text, json) => {
  expect(renderText(text)).toBe(json)
  expect(JSON.parse(renderText(text))).toBe(text)
})

describe('native histograms', () => {
  const histogram: Histogram = {
    isFloat: true,
    resetHint: 'unknown',
    schema: 0,
    zeroThreshold: 0.25,
    zeroCount: 3,
    count: 42,
    sum: 34593.34,
    positiveSpans: [
      { offset: -1, length: 3 },
      { offset: 1, length: 1 },
    ],
    positiveBuckets: [12, 21, 0, 6],
    negativeSpans: [],
    negativeBuckets: [],
    customValues: [],
  }

  it('show their populated buckets, with the bounds that belong to them', () => {
    const json = renderJson({
      value: { type: 'vector', timeMs: 0, samples: [{ labels: ['a', 'b'], value: 0, histogram }] },
    })
    expect(json).toBe(
      '{"resultType":"vector","result":[{"metric":{"a":"b"},"histogram":[0,{"count":"42","sum":"34593.34","buckets":[[3,"-0.25","0.25","3"],[0,"0.25","0.5","12"],[0,"0.5","1","21"],[0,"4","8","6"]]}]}]}',
    )
  })

  it.each([
    [0, 0, 1],
    [1, 0, 2],
    [1, 2, 1.189207115002721],
    [3, 2, 1.6817928305074288],
    [1, 8, 1.0027112750502025],
    [-3, 0, 0.125],
    [1, -1, 4],
    [1024, 0, Number.MAX_VALUE],
    [1025, 0, Infinity],
  ])('bucket %i of schema %i ends at %d', (index, schema, bound) => expect(exponentialBound(index, schema)).toBe(bound))
})

it.each([
  ['', 0xef46db3751d8e999n],
  ['a', 0xd24ec4f1a98c6e5bn],
  ['as', 0x1c330fb2d66be179n],
  ['asdf', 0x415872f599cea71en],
  ['Call me Ishmael. Some years ago--never mind how long precisely-', 0x02a2e85470d6fd96n],
])('xxHash64 of %j', (text, hash) => expect(xxHash64(Buffer.from(text))).toBe(hash))
