// Chunks are Prometheus' own, byte for byte: test/golden/chunks holds what its chunkenc package wrote.
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CorruptError } from '../../../../shared/base/errors.ts'
import type { Histogram, ResetHint, Span } from '../../../../shared/model/histogram.ts'
import { isStaleHistogram } from '../../../../shared/model/histogram.ts'
import { STALE } from '../../../../shared/model/sample.ts'
import {
  ENCODING_FLOAT_HISTOGRAM,
  ENCODING_FLOAT_HISTOGRAM_STARTS,
  HistogramChunkReader,
  HistogramChunkWriter,
} from '../../../../shared/tsdb/chunk/histogram.ts'
import { decodeXor, encodeXor, wordsOf, xorBytesMax } from '../../../../shared/tsdb/chunk/xor.ts'
import { encodeXor2, Xor2ChunkReader, Xor2ChunkWriter } from '../../../../shared/tsdb/chunk/xor2.ts'
import { SampleColumns } from '../../../../shared/tsdb/columns.ts'
import { decodeChunk } from '../../../../shared/tsdb/decode.ts'
import { canonicalBytes } from '../../../../shared/tsdb/histogram-order.ts'

interface XorCase {
  readonly name: string
  readonly times: number[]
  readonly bits: string[]
  readonly bytes: string
}

interface Xor2Case extends XorCase {
  readonly starts: number[]
}

interface HistogramCase {
  readonly name: string
  readonly encoding: number
  readonly bytes: string
  readonly histograms: (Record<string, unknown> & { time: number; start?: number; stale: boolean })[]
}

const golden = JSON.parse(
  readFileSync(new URL('../../../golden/chunks/prometheus-chunks.json', import.meta.url), 'utf8'),
) as {
  readonly xor: XorCase[]
  readonly histogram: HistogramCase[]
  readonly xor2: Xor2Case[]
}

function encode(times: readonly number[], words: Uint32Array): Uint8Array {
  const out = new Uint8Array(xorBytesMax(times.length) + 5).fill(0xa5) // memory that was used before
  return out.subarray(3, 3 + encodeXor(Float64Array.from(times), words, 0, times.length, out, 3))
}

describe('float chunks', () => {
  test.each(golden.xor)('$name', ({ times, bits, bytes }) => {
    const words = wordsIn(bits)
    expect(Buffer.from(encode(times, words)).toString('hex')).toBe(bytes)
    const read = { times: new Float64Array(times.length + 2), values: new Float64Array(times.length + 2) }
    const chunk = Buffer.from(bytes, 'hex')
    expect(decodeXor(chunk, 0, chunk.length, read.times, read.values, 2)).toBe(times.length + 2)
    expect([...read.times.subarray(2)]).toEqual(times)
    expect(wordsOf(read.values.subarray(2))).toEqual(words)
  })

  test('any rising times and any bits come back', () => {
    const step = fc.oneof(
      fc.constant(15_000),
      fc.integer({ min: 1, max: 2_000_000 }),
      fc.integer({ min: 1, max: 2 ** 45 }),
    )
    const word = fc.oneof(
      fc.integer({ min: 0, max: 0xffffffff }),
      fc.constantFrom(0, 1, 0x80000000, 0x7ff00000, 0x40000000),
    )
    fc.assert(
      fc.property(
        fc.integer({ min: -(2 ** 50), max: 2 ** 50 }),
        fc.array(fc.tuple(step, word, word), { minLength: 1, maxLength: 60 }),
        (start, rows) => {
          let time = start
          const times = rows.map(([delta]) => (time += delta))
          const words = Uint32Array.from(rows.flatMap(([, low, high]) => [low, high]))
          const bytes = encode(times, words)
          const values = new Float64Array(rows.length)
          const timesOut = new Float64Array(rows.length)
          decodeXor(bytes, 0, bytes.length, timesOut, values, 0)
          expect([...timesOut]).toEqual(times)
          expect(wordsOf(values)).toEqual(words)
        },
      ),
      { numRuns: 500 },
    )
  })

  test('a chunk that is cut short or says more samples than its reader was told is corrupt', () => {
    const bytes = encode([1000, 2000, 3500], Uint32Array.of(1, 2, 3, 4, 5, 6))
    const decode = (end: number, room: number) => () =>
      decodeXor(bytes, 0, end, new Float64Array(room), new Float64Array(room), 0)
    expect(decode(bytes.length - 1, 3)).toThrow(CorruptError)
    expect(decode(bytes.length, 2)).toThrow(CorruptError)
    expect(decode(bytes.length, 3)()).toBe(3)
  })
})

describe('float chunks with start times', () => {
  const read = (bytes: Uint8Array) => {
    const reader = new Xor2ChunkReader(bytes, 0, bytes.length)
    const rows: number[][] = []
    while (reader.next()) rows.push([reader.time, reader.low, reader.high, reader.start])
    return rows
  }

  test.each(golden.xor2)('$name', ({ times, bits, starts, bytes }) => {
    const words = wordsIn(bits)
    const written = encodeXor2(Float64Array.from(times), words, Float64Array.from(starts), 0, times.length)
    expect(Buffer.from(written).toString('hex')).toBe(bytes)
    const rows = times.map((time, i) => [time, words[2 * i], words[2 * i + 1], starts[i]])
    expect(read(Buffer.from(bytes, 'hex'))).toEqual(rows)
  })

  test('any rising times, any bits and any start times come back', () => {
    const step = fc.oneof(fc.constant(15_000), fc.integer({ min: 1, max: 2_000_000 }), fc.nat({ max: 2 ** 44 }))
    const word = fc.oneof(fc.integer({ min: 0, max: 0xffffffff }), fc.constantFrom(0, 2, 0x80000000, 0x7ff00000))
    const start = fc.oneof(fc.constantFrom(0, 1, 1_700_000_000_000), fc.integer({ min: -(2 ** 51), max: 2 ** 51 }))
    const row = fc.tuple(step, word, word, start)
    fc.assert(
      fc.property(
        fc.integer({ min: -(2 ** 50), max: 0 }),
        fc.array(row, { minLength: 1, maxLength: 150 }),
        (at, rows) => {
          let time = at
          const wanted = rows.map(([delta, low, high, from]) => {
            time += delta + 1
            return [time, low, high, from]
          })
          const writer = new Xor2ChunkWriter()
          for (const [when, low, high, from] of wanted) writer.append(when!, low!, high!, from!)
          expect(read(writer.finish())).toEqual(wanted)
        },
      ),
    )
  })

  test('a chunk that is cut short is corrupt', () => {
    const bytes = Buffer.from(golden.xor2[4]!.bytes, 'hex')
    expect(() => read(bytes.subarray(0, bytes.length - 1))).toThrow(CorruptError)
  })
})

describe('histogram chunks', () => {
  test.each(golden.histogram)('$name', ({ encoding, bytes, histograms }) => {
    const isFloat = encoding === ENCODING_FLOAT_HISTOGRAM || encoding === ENCODING_FLOAT_HISTOGRAM_STARTS
    const samples = histograms.map((fields) => ({
      time: fields.time,
      start: fields.start ?? 0,
      histogram: histogramOf(fields, isFloat),
    }))
    const { time: first, start: firstStart, histogram: firstHistogram } = samples[0]!
    const writer = new HistogramChunkWriter(first, firstHistogram, { start: encoding > 3 ? firstStart : undefined })
    for (const { time, histogram, start } of samples.slice(1)) {
      expect(writer.accepts(histogram, start)).toBe(true)
      writer.append(time, histogram, start)
    }
    expect(writer.encoding).toBe(encoding)
    expect(Buffer.from(writer.finish()).toString('hex')).toBe(bytes)

    const chunk = Buffer.from(bytes, 'hex')
    const reader = new HistogramChunkReader(encoding, chunk, 0, chunk.length)
    for (const { time, histogram, start } of samples) {
      expect(reader.next()).toBe(true)
      expect(reader.time).toBe(time)
      expect(reader.start).toBe(start)
      expect(canonicalBytes(reader.histogram())).toEqual(canonicalBytes(histogram))
      expect(isStaleHistogram(reader.histogram())).toBe(isStaleHistogram(histogram))
    }
    expect(reader.next()).toBe(false)
  })

  test('a layout, a kind or a count that a chunk cannot hold is not accepted', () => {
    const [first, second] = golden.histogram[0]!.histograms.map((fields) => histogramOf(fields, false))
    const next = (change: Partial<Histogram>) => new HistogramChunkWriter(1, first!).accepts({ ...second!, ...change })
    expect(next({})).toBe(true)
    expect(next({ schema: 2 })).toBe(false)
    expect(next({ isFloat: true })).toBe(false)
    expect(next({ resetHint: 'gauge' })).toBe(false)
    expect(next({ resetHint: 'reset' })).toBe(false)
    expect(next({ zeroThreshold: 0 })).toBe(false)
    expect(next({ count: 0 })).toBe(false)
    expect(next({ positiveBuckets: [5, 0, 10, 5000, 15] })).toBe(false)
    expect(next({ sum: STALE[0]! })).toBe(true)
  })
})

/** What decodes gives no more samples than it says; what does not is damage, said as such. */
function outcomeOf(encoding: number, bytes: Uint8Array): 'decoded' | 'damaged' {
  const columns = new SampleColumns()
  try {
    decodeChunk({ encoding, bytes, start: 0, end: bytes.length }, columns)
  } catch (error) {
    expect(error).toBeInstanceOf(CorruptError)
    return 'damaged'
  }
  expect(columns.count).toBeLessThanOrEqual(bytes.length < 2 ? 0 : bytes[0]! * 256 + bytes[1]!)
  return 'decoded'
}

describe('damaged chunks', () => {
  const chunks = [
    ...golden.xor.map(({ name, bytes }) => ({ name, encoding: 1, bytes })),
    ...golden.xor2.map(({ name, bytes }) => ({ name, encoding: 4, bytes })),
    ...golden.histogram,
  ]

  test.each(chunks)('$name, encoding $encoding: cut anywhere, any bit flipped', ({ encoding, bytes: text }) => {
    const bytes = Buffer.from(text, 'hex')
    const cut = Array.from(bytes, (_, size) => outcomeOf(encoding, bytes.subarray(0, size)))
    expect(cut.slice(2, -1)).toContain('damaged')
    for (let at = 0; at < bytes.length * 8; at += 1 + Math.floor(bytes.length / 64)) {
      const flipped = Buffer.from(bytes)
      flipped[at >> 3]! ^= 0x80 >> (at & 7)
      outcomeOf(encoding, flipped)
    }
  })

  test('random bytes', () => {
    const encoding = fc.integer({ min: 0, max: 7 })
    fc.assert(fc.property(encoding, fc.uint8Array({ maxLength: 400 }), (id, bytes) => void outcomeOf(id, bytes)))
  })
})

function wordsIn(bits: readonly string[]): Uint32Array {
  const words = new Uint32Array(2 * bits.length)
  bits.forEach((text, i) => {
    words[2 * i + 1] = Number.parseInt(text.slice(0, 8), 16)
    words[2 * i] = Number.parseInt(text.slice(8), 16)
  })
  return words
}

function histogramOf(fields: Record<string, unknown> & { stale: boolean }, isFloat: boolean): Histogram {
  return {
    isFloat,
    resetHint: ((fields['resetHint'] as string) || 'unknown') as ResetHint,
    schema: fields['schema'] as number,
    zeroThreshold: fields['zeroThreshold'] as number,
    zeroCount: fields['zeroCount'] as number,
    count: fields['count'] as number,
    sum: fields.stale ? STALE[0]! : (fields['sum'] as number),
    positiveSpans: (fields['positiveSpans'] ?? []) as Span[],
    positiveBuckets: (fields['positiveBuckets'] ?? []) as number[],
    negativeSpans: (fields['negativeSpans'] ?? []) as Span[],
    negativeBuckets: (fields['negativeBuckets'] ?? []) as number[],
    customValues: (fields['customValues'] ?? []) as number[],
  }
}
