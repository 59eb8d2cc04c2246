import fc from 'fast-check'
import { expect, test } from 'vitest'
import { RefusedError } from '../../../shared/base/errors.ts'
import { compress, createDecompressor, declaredLength } from '../../../shared/wire/snappy.ts'

const MAX = 1 << 22
const CORRUPT = new RefusedError('err-carillon-snappy', 'snappy: corrupt input')

test('what was compressed comes back, whatever it is', () => {
  const decompressor = createDecompressor()
  const words = fc.array(fc.constantFrom('__name__', 'instance', 'a', 'ab', 'x'.repeat(70), '0.005'), {
    maxLength: 500,
  })
  const body = fc.oneof(
    fc.uint8Array({ maxLength: 2000 }),
    words.map((list) => Uint8Array.from(Buffer.from(list.join('')))),
  )
  fc.assert(
    fc.property(body, (raw) => {
      expect(Buffer.compare(decompressor.decompress(compress(raw), MAX), raw)).toBe(0)
    }),
  )
})

test('long literals, long and overlapping copies, every kind of tag', () => {
  const decode = (...bytes: number[]) => [...createDecompressor().decompress(Uint8Array.from(bytes), MAX)]
  expect(decode(0)).toEqual([])
  expect(decode(5, 0, 7, 0b000_000_01, 1)).toEqual([7, 7, 7, 7, 7])
  expect(decode(9, 2 << 2, 1, 2, 3, (5 << 2) | 2, 3, 0)).toEqual([1, 2, 3, 1, 2, 3, 1, 2, 3])
  expect(decode(4, 1 << 2, 1, 2, (1 << 2) | 3, 2, 0, 0, 0)).toEqual([1, 2, 1, 2])
  expect(decode(3, 60 << 2, 2, 1, 2, 3)).toEqual([1, 2, 3])
  expect(decode(3, 61 << 2, 2, 0, 1, 2, 3)).toEqual([1, 2, 3])
  expect(decode(3, 62 << 2, 2, 0, 0, 1, 2, 3)).toEqual([1, 2, 3])
  expect(decode(3, 63 << 2, 2, 0, 0, 0, 1, 2, 3)).toEqual([1, 2, 3])
})

test('copies at every distance and length equal a copy byte by byte', () => {
  const decompressor = createDecompressor()
  const seed = Array.from({ length: 40 }, (_, i) => i)
  for (let offset = 1; offset <= 40; offset++) {
    for (let length = 1; length <= 64; length++) {
      const body = Uint8Array.from([40 + length, 39 << 2, ...seed, ((length - 1) << 2) | 2, offset, 0])
      const expected = [...seed]
      for (let i = 0; i < length; i++) expected.push(expected[expected.length - offset]!)
      expect([...decompressor.decompress(body, MAX)]).toEqual(expected)
    }
  }
})

test.each([
  ['nothing at all', []],
  ['a length without end', [255, 255, 255, 255, 255, 255]],
  ['a length above 32 bits', [255, 255, 255, 255, 31]],
  ['an output that ends early', [9, 0, 7]],
  ['a body that is only a header', [3]],
  ['a literal longer than the body', [9, 5 << 2, 1, 2]],
  ['a literal longer than the output', [1, 1 << 2, 1, 2]],
  ['a literal whose length is cut off', [9, 61 << 2, 1]],
  ['a literal of 4 GB', [9, 63 << 2, 255, 255, 255, 255, 1]],
  ['a copy before anything was written', [4, 1, 1]],
  ['a copy from before the start', [5, 0, 7, 1, 2]],
  ['a copy from a distance of zero', [5, 0, 7, 1, 0]],
  ['a copy beyond the end', [4, 0, 7, 1, 1]],
  ['a copy whose distance is cut off', [5, 0, 7, 2, 1]],
  ['a far copy whose distance is cut off', [5, 0, 7, 3, 1, 0, 0]],
])('SNAPPY-3: %s is refused', (_, bytes) => {
  expect(() => createDecompressor().decompress(Uint8Array.from(bytes), MAX)).toThrow(CORRUPT)
})

test('SNAPPY-1: a declared length above the limit is refused with the text of Prometheus', () => {
  const body = Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0x0f, 0)
  expect(declaredLength(body)).toBe(4294967295)
  const text = 'snappy: decoded length 4294967295 exceeds limit 33554432'
  expect(() => createDecompressor().decompress(body, 33554432)).toThrow(new RefusedError('err-carillon-snappy', text))
  expect(() => createDecompressor().decompress(compress(new Uint8Array(100)), 99)).toThrow('exceeds limit 99')
  expect(createDecompressor().decompress(compress(new Uint8Array(100)), 100).length).toBe(100)
})

test('SNAPPY-2: nothing of an earlier body shows through', () => {
  const decompressor = createDecompressor()
  decompressor.decompress(compress(new Uint8Array(1000).fill(65)), MAX)
  expect(() => decompressor.decompress(Uint8Array.of(100, 0, 7), MAX)).toThrow(CORRUPT)
  const second = decompressor.decompress(compress(Uint8Array.of(1, 2, 3)), MAX)
  expect([...second]).toEqual([1, 2, 3])
})
