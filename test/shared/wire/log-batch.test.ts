// The log batch: what was written is read back bit for bit, its bytes never change, and no damage passes for a batch.
import fs from 'node:fs'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { CorruptError } from '../../../shared/base/errors.ts'
import { decodeMark, encodeMark } from '../../../shared/contracts/log.ts'
import { checksumOf, decodeLogBatch, encodeLogBatch, type LogBatch } from '../../../shared/wire/log-batch.ts'
import { StartsColumn, StartsReader } from '../../../shared/wire/starts-column.ts'
import { Writer } from '../../../shared/wire/varint.ts'
import { newerBatch } from './newer-batch.ts'

const nonce = '00112233445566778899aabbccddeeff'

const small: LogBatch = {
  session: Uint8Array.from({ length: 16 }, (_, i) => i),
  epoch: 7,
  nonce,
  counter: 3,
  lastCounter: 2,
  lastSeq: 40,
  strings: column((w) => {
    for (const [number, text] of ['acme', '__name__', 'up', 'job', 'api'].entries()) {
      w.uvarint(number)
      w.text(text)
    }
  }),
  definitions: column((w) => [0, 0, 2, 1, 2, 3, 4].forEach((number) => void w.uvarint(number))),
  sampleCount: 2,
  ids: column((w) => [0, 0].forEach((id) => void w.zigzag(id))),
  times: column((w) => [1_700_000_000_000, 15_000].forEach((time) => void w.zigzag(time))),
  values: valuesOf([0, 0x3ff00000, 2, 0x7ff00000]),
  histograms: new Uint8Array(0),
  exemplars: column((w) => {
    w.uvarint(0)
    w.zigzag(1_700_000_000_000)
    w.f64(Float64Array.of(0.5))
    w.uvarint(1)
    w.text('trace_id')
    w.text('abc')
  }),
  metadata: column((w) =>
    ['acme', 'up', 'gauge', '1 when the target answers', ''].forEach((text) => void w.text(text)),
  ),
}

function column(fill: (writer: Writer) => void): Uint8Array {
  const writer = new Writer(64)
  fill(writer)
  return writer.finish()
}

/** A column of values from low and high words, which keep every bit. */
function valuesOf(words: readonly number[]): Float64Array {
  return new Float64Array(Uint32Array.from(words).buffer)
}

function golden(name: string): Buffer {
  const text = fs.readFileSync(new URL(`../../golden/log-batch/${name}.hex`, import.meta.url), 'utf8')
  return Buffer.from(text.replaceAll(/#.*|\s/g, ''), 'hex')
}

/** Everything in a batch as plain bytes, so that NaNs are told apart by their bits. */
function bitsOf(batch: LogBatch): unknown {
  const plain = Object.entries(batch).map(([key, value]) =>
    ArrayBuffer.isView(value)
      ? [key, Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')]
      : [key, value],
  )
  return Object.fromEntries(plain)
}

function codeOf(bytes: Uint8Array): string | undefined {
  try {
    decodeLogBatch(bytes)
    return undefined
  } catch (error) {
    expect(error).toBeInstanceOf(CorruptError)
    return (error as CorruptError).code
  }
}

const bytes = fc.uint8Array({ maxLength: 200 })
const count = fc.maxSafeNat()
const anyWord = fc.integer({ min: 0, max: 0xffffffff })
const anyValue = fc.oneof(
  fc.constant([0x00000002, 0x7ff00000]), // the stale marker
  fc.constant([0x00000001, 0x7ff80000]), // the ordinary NaN
  fc.constant([0, 0x80000000]), // −0
  fc.tuple(anyWord, anyWord),
)
/** A column that may be left out, which is the same as an empty one. */
const someBytes = fc.option(fc.uint8Array({ minLength: 1, maxLength: 20 }), { nil: undefined })
const anyBatch: fc.Arbitrary<LogBatch> = fc
  .record({
    session: fc.uint8Array({ minLength: 16, maxLength: 16 }),
    epoch: count,
    nonce: fc.string({ maxLength: 40 }),
    counter: count,
    lastCounter: count,
    lastSeq: count,
    strings: bytes,
    definitions: bytes,
    ids: bytes,
    times: bytes,
    words: fc.array(anyValue, { maxLength: 100 }),
    histograms: bytes,
    exemplars: bytes,
    metadata: bytes,
    starts: someBytes,
    histogramStarts: someBytes,
  })
  .map(({ words, ...rest }) => ({ ...rest, sampleCount: words.length, values: valuesOf(words.flat()) }))

test('a batch is read back as it was written, stale markers and every other NaN by their bits', () => {
  fc.assert(
    fc.property(anyBatch, (batch) => {
      expect(bitsOf(decodeLogBatch(encodeLogBatch(batch)))).toEqual(bitsOf(batch))
    }),
  )
})

test('the bytes of a batch are the golden ones', () => {
  const wanted = golden('batch')
  expect(Buffer.from(encodeLogBatch(small)).toString('hex')).toBe(wanted.toString('hex'))
  expect(bitsOf(decodeLogBatch(wanted))).toEqual(bitsOf(small))
  expect(checksumOf(wanted)).toBe(0xc126e727)
})

test('the bytes of a batch with start times are the golden ones', () => {
  const column = new StartsColumn()
  column.put(1, 1_699_999_000_000)
  const batch = { ...small, starts: column.finish(small.sampleCount) }
  const wanted = golden('batch-starts')
  expect(Buffer.from(encodeLogBatch(batch)).toString('hex')).toBe(wanted.toString('hex'))
  expect(bitsOf(decodeLogBatch(wanted))).toEqual(bitsOf(batch))
})

test('start times of a batch come back, and unknown ones as 0', () => {
  const start = fc.oneof(fc.constantFrom(0, 5, 1_700_000_000_000), fc.integer({ min: -(2 ** 51), max: 2 ** 51 }))
  fc.assert(
    fc.property(fc.array(start), (starts) => {
      const column = new StartsColumn()
      starts.forEach((each, i) => {
        if (each !== 0) column.put(i, each)
      })
      const bytes = column.finish(starts.length)
      expect(bytes === undefined).toBe(starts.every((each) => each === 0))
      const reader = new StartsReader(bytes)
      expect(starts.map(() => reader.next())).toEqual(starts)
      reader.end()
    }),
  )
})

test('the bytes of a mark are the golden ones', () => {
  const mark = { number: 8, writer: 'ingester-1', nonce }
  expect(Buffer.from(encodeMark(mark)).toString('hex')).toBe(golden('mark').toString('hex'))
  expect(decodeMark(golden('mark'))).toEqual(mark)
  const before = Buffer.from(JSON.stringify({ v: 1, ...mark })) // as it was written before it had a checksum
  expect(decodeMark(before)).toEqual(mark)
})

test.each([
  ['', small],
  [' of one with start times', { ...small, starts: Uint8Array.of(1, 1) }],
])('LOG-10: every flipped bit%s is noticed', (_, batch) => {
  const whole = Buffer.from(encodeLogBatch(batch))
  for (let bit = 0; bit < whole.length * 8; bit++) {
    const flipped = Buffer.from(whole)
    flipped[bit >> 3]! ^= 1 << (bit & 7)
    expect(codeOf(flipped), `bit ${bit}`).toMatch(/^bad-/)
  }
})

test('LOG-10: a batch that was cut or continued is noticed', () => {
  const whole = encodeLogBatch(small)
  for (let length = 0; length < whole.length; length++) expect(codeOf(whole.subarray(0, length))).toBeDefined()
  expect(codeOf(Buffer.concat([whole, Buffer.of(0)]))).toBe('bad-checksum')
})

test.each([
  ['a version that is not known, with the fields of one that is', { at: 2, byte: 4 }, 'bad-batch'],
  ['the version with start times, without them', { at: 2, byte: 2 }, 'bad-batch'],
  ['the version with places, without them', { at: 2, byte: 3 }, 'bad-batch'],
  ['a flag that is not known, with fields as if there were none', { at: 3, byte: 1 }, 'bad-batch'],
  ['something else', { at: 0, byte: 0x7b }, 'bad-magic'],
  ['a wrong checksum', { at: 4, byte: 0 }, 'bad-checksum'],
])('%s has a code of its own', (_, { at, byte }, code) => {
  const changed = Buffer.from(encodeLogBatch(small))
  changed[at] = byte
  expect(codeOf(changed)).toBe(code)
})

test.each([4, 9, 255])('version %i, which has another number of fields, is a newer one', (version) => {
  expect(codeOf(newerBatch(version))).toBe('newer-version')
  expect(codeOf(newerBatch(1)), 'unless it says that it is none').toBe('bad-batch')
})

test.each([
  ['fewer values than samples', { sampleCount: 3 }],
  ['a short session', { session: new Uint8Array(15) }],
  ['a negative counter', { counter: -1 }],
  ['an epoch that is no number', { epoch: Number.NaN }],
])('%s behind a good checksum is refused as a batch', (_, change) => {
  expect(codeOf(encodeLogBatch({ ...small, ...change }))).toBe('bad-batch')
})
