// Whatever bytes come, the readers answer or refuse: never another error, never an endless loop, never a byte out of range.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { CorruptError, RefusedError } from '../../shared/base/errors.ts'
import { encodeTenant } from '../../shared/model/tenant.ts'
import { mergeExpositions } from '../../shared/wire/exposition.ts'
import { decodeCanonical, decodeHistogram, encodeCanonical } from '../../shared/wire/histogram.ts'
import { readWriteV1, readWriteV2 } from '../../shared/wire/remote-write.ts'
import { encodeProto, encodeWriteV1, encodeWriteV2 } from '../../shared/wire/remote-write-encode.ts'
import { compress, createDecompressor } from '../../shared/wire/snappy.ts'
import { Writer } from '../../shared/wire/varint.ts'
import { expectedOf, histogram, recorder, writeRequest } from '../shared/wire/write-requests.ts'

const RUNS = { numRuns: Number(process.env['FUZZ_RUNS'] ?? 300) }

/** Runs `read`; true when it refused. Any other error fails the test. */
function refuses(read: () => unknown): boolean {
  try {
    read()
    return false
  } catch (error) {
    if (error instanceof RefusedError || error instanceof CorruptError) return true
    throw error
  }
}

/** A valid encoding with some of its bytes changed, cut off, doubled or taken out. */
function mutated(valid: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Uint8Array> {
  const change = fc.record({ at: fc.nat(), byte: fc.nat(255), kind: fc.constantFrom('set', 'cut', 'insert', 'remove') })
  return fc.tuple(valid, fc.array(change, { minLength: 1, maxLength: 4 })).map(([bytes, changes]) => {
    let list = [...bytes]
    for (const { at, byte, kind } of changes) {
      const index = at % (list.length + 1)
      if (kind === 'set') list[index] = byte
      else if (kind === 'cut') list = list.slice(0, index)
      else list.splice(index, kind === 'insert' ? 0 : 1, ...(kind === 'insert' ? [byte] : []))
    }
    return Uint8Array.from(list)
  })
}

const canonical = histogram.map((value) => {
  const writer = new Writer()
  encodeCanonical(value, writer)
  return writer.finish()
})

const readers: [string, (bytes: Uint8Array) => unknown, fc.Arbitrary<Uint8Array>][] = [
  ['remote write 1.0', (bytes) => readWriteV1(bytes, recorder().sink), writeRequest.map(encodeWriteV1)],
  ['remote write 2.0', (bytes) => readWriteV2(bytes, recorder().sink), writeRequest.map(encodeWriteV2)],
  [
    'snappy',
    (bytes) => createDecompressor().decompress(bytes, 1 << 20),
    writeRequest.map((r) => compress(encodeWriteV1(r))),
  ],
  ['a histogram', (b) => decodeHistogram(b, 0, b.length), histogram.map((h) => encodeProto(h, 1).finish())],
  ['a canonical histogram', decodeCanonical, canonical],
]

test.each(readers)('%s: random bytes are read or refused', (_, read) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      refuses(() => read(bytes))
    }),
    RUNS,
  )
})

test.each(readers)('%s: a changed encoding is read or refused', (_, read, valid) => {
  fc.assert(
    fc.property(mutated(valid), (bytes) => {
      refuses(() => read(bytes))
    }),
    RUNS,
  )
})

test.each([
  ['1.0', 1, encodeWriteV1, readWriteV1],
  ['2.0', 2, encodeWriteV2, readWriteV2],
] as const)('remote write %s: a valid request is told as it was meant', (_, version, encode, read) => {
  fc.assert(
    fc.property(writeRequest, fc.nat(40), (request, padding) => {
      const raw = encode(request)
      const shifted = new Uint8Array(padding + raw.length + 9).subarray(padding, padding + raw.length)
      shifted.set(raw)
      const { told, sink } = recorder()
      read(shifted, sink)
      expect(told).toEqual(expectedOf(request, version))
    }),
    RUNS,
  )
})

test('every cut of a request is refused or ends between two fields', () => {
  fc.assert(
    fc.property(writeRequest, (request) => {
      const raw = encodeWriteV1(request)
      const whole = recorder()
      readWriteV1(raw, whole.sink)
      for (let end = 0; end < raw.length; end++) {
        const part = recorder()
        if (refuses(() => readWriteV1(raw.subarray(0, end), part.sink))) continue
        expect(part.told).toEqual(whole.told.slice(0, part.told.length))
      }
    }),
    { numRuns: 15 },
  )
})

test('pages: any text can be merged', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: 'grapheme' })), (lines) => {
      mergeExpositions([{ labels: { role: 'x' }, text: lines.join('\n') }])
    }),
    RUNS,
  )
})

test('tenants: tokens are legal and injective', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', minLength: 1 }), fc.string({ unit: 'binary', minLength: 1 }), (a, b) => {
      expect(encodeTenant(a)).toMatch(/^[A-Za-z0-9_-]+$/)
      expect(encodeTenant(a) === encodeTenant(b)).toBe(a === b)
    }),
    RUNS,
  )
})
