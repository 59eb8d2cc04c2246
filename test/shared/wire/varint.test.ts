import fc from 'fast-check'
import { expect, test } from 'vitest'
import { CorruptError } from '../../../shared/base/errors.ts'
import { STALE } from '../../../shared/model/sample.ts'
import { Reader, Writer } from '../../../shared/wire/varint.ts'

const SAFE = Number.MAX_SAFE_INTEGER
const whole = fc.oneof(fc.maxSafeNat(), fc.nat(300), fc.constantFrom(0, 127, 128, 2 ** 31 - 1, 2 ** 31, 2 ** 32, SAFE))
const signed = fc.tuple(whole, fc.boolean()).map(([n, isNegative]) => (isNegative && n > 0 ? -n : n))

const item = fc.oneof(
  whole.map((value) => ({ kind: 'uvarint', value }) as const),
  signed.map((value) => ({ kind: 'zigzag', value }) as const),
  fc.double().map((value) => ({ kind: 'number', value }) as const),
  fc.nat(255).map((value) => ({ kind: 'u8', value }) as const),
  fc.nat(0xffffffff).map((value) => ({ kind: 'u32le', value }) as const),
  fc.string({ unit: 'grapheme', maxLength: 80 }).map((value) => ({ kind: 'text', value }) as const),
  fc.uint8Array({ maxLength: 80 }).map((value) => ({ kind: 'bytes', value }) as const),
)

function write(writer: Writer, items: readonly (typeof item extends fc.Arbitrary<infer T> ? T : never)[]): void {
  for (const { kind, value } of items) {
    if (kind === 'bytes') writer.bytes(value)
    else if (kind === 'text') writer.text(value)
    else writer[kind](value)
  }
}

test('VARINT-1: what a Writer wrote, a Reader reads back', () => {
  const writer = new Writer(16)
  fc.assert(
    fc.property(fc.array(item, { maxLength: 30 }), (items) => {
      writer.reset()
      write(writer, items)
      const reader = new Reader(writer.finish())
      for (const { kind, value } of items) {
        if (kind === 'bytes') expect(reader.bytes(value.length)).toEqual(value)
        else expect(reader[kind]()).toBe(value)
      }
      reader.end('items')
    }),
  )
})

test('VARINT-1: a stale marker keeps its bits', () => {
  const writer = new Writer()
  writer.f64(STALE)
  const column = new Float64Array(3)
  new Reader(writer.finish()).f64(column, 1)
  expect([...new Uint32Array(column.buffer)]).toEqual([0, 0, 2, 0x7ff00000, 0, 0])
})

test('numbers take the bytes that they should', () => {
  const bytesOf = (put: (writer: Writer) => void) => {
    const writer = new Writer()
    put(writer)
    return [...writer.finish()]
  }
  expect(bytesOf((w) => w.uvarint(300))).toEqual([0xac, 2])
  expect(bytesOf((w) => w.uvarint(SAFE))).toEqual([255, 255, 255, 255, 255, 255, 255, 15])
  expect(bytesOf((w) => w.zigzag(-1))).toEqual([1])
  expect(bytesOf((w) => w.zigzag(64))).toEqual([128, 1])
  expect(bytesOf((w) => w.zigzag(-SAFE))).toEqual([253, 255, 255, 255, 255, 255, 255, 31])
  expect(bytesOf((w) => w.u32le(0xdeadbeef))).toEqual([0xef, 0xbe, 0xad, 0xde])
  expect(() => bytesOf((w) => w.uvarint(2 ** 53))).toThrow()
  expect(() => bytesOf((w) => w.uvarint(-1))).toThrow()
  expect(() => bytesOf((w) => w.uvarint(0.5))).toThrow()
})

test('a place may be filled in later', () => {
  const writer = new Writer(16)
  writer.u32le(0)
  writer.text('a longer text than sixteen bytes')
  writer.patchU32le(0, writer.length)
  expect(new Reader(writer.view()).u32le()).toBe(writer.length)
})

test('VARINT-2: a count is never above what the bytes can hold', () => {
  const reader = new Reader(Uint8Array.of(255, 255, 3, 1, 2))
  expect(reader.count()).toBe(0)
  expect(() => reader.check('list')).toThrow('list counts more than it holds')
})

test('VARINT-3: a Reader keeps its first error and returns zeros after it', () => {
  const reader = new Reader(Uint8Array.of(5, 97, 98))
  expect(reader.text()).toBe('')
  expect([reader.u8(), reader.uvarint(), reader.zigzag(), reader.u32le(), reader.number()]).toEqual([0, 0, 0, 0, 0])
  expect(reader.bytes(1).length).toBe(0)
  expect(() => reader.end('name')).toThrow(new CorruptError('err-carillon-corrupt', 'name ends too early'))
})

test.each([
  ['bytes that nobody reads', [1, 2], (r: Reader) => r.u8(), 'thing has 1 bytes too many'],
  ['a number above 2^53', [255, 255, 255, 255, 255, 255, 255, 31], (r: Reader) => r.uvarint(), 'above 2^53'],
  ['a number without end', Array(20).fill(255), (r: Reader) => r.uvarint(), 'above 2^53'],
  ['text that is not UTF-8', [2, 0xc3, 0x28], (r: Reader) => r.text(), 'not UTF-8'],
])('a Reader refuses %s', (_, bytes, read, text) => {
  const reader = new Reader(Uint8Array.from(bytes as number[]))
  read(reader)
  expect(() => reader.end('thing')).toThrow(text)
})
