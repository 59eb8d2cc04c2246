// Chunks are Prometheus' own, byte for byte: test/golden/chunks holds what its chunkenc package wrote.
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CorruptError } from '../../../../shared/base/errors.ts'
import type { Histogram, ResetHint, Span } from '../../../../shared/model/histogram.ts'
import { isStaleHistogram } from '../../../../shared/model/histogram.ts'
import { STALE } from '../../../../shared/model/sample.ts'
import { HistogramChunkReader, HistogramChunkWriter } from '../../../../shared/tsdb/chunk/histogram.ts'
import { decodeXor, encodeXor, wordsOf, xorBytesMax } from '../../../../shared/tsdb/chunk/xor.ts'
import { canonicalBytes } from '../../../../shared/tsdb/histogram-order.ts'

interface XorCase {
  readonly name: string
  readonly times: number[]
  readonly bits: string[]
  readonly bytes: string
}

interface HistogramCase {
  readonly name: string
  readonly encoding: number
  readonly bytes: string
  readonly histograms: (Record<string, unknown> & { time: number; stale: boolean })[]
}

const golden = JSON.parse(
  readFileSync(new URL('../../../golden/chunks/prometheus-chunks.json', import.meta.url), 'utf8'),
) as {
  readonly xor: XorCase[]
  readonly histogram: HistogramCase[]
}

function encode(times: readonly number[], words: Uint32Array): Uint8Array {
  const out = new Uint8Array(xorBytesMax(times.length) + 5).fill(0xa5) // memory that was used before
  return out.subarray(3, 3 + encodeXor(Float64Array.from(times), words, 0, times.length, out, 3))
}

describe('float chunks', () => {
  test.each(golden.xor)('$name', ({ times, bits, bytes }) => {
    const words = new Uint32Array(2 * bits.length)
    bits.forEach((text, i) => {
      words[2 * i + 1] = Number.parseInt(text.slice(0, 8), 16)
      words[2 * i] = Number.parseInt(text.slice(8), 16)
    })
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

describe('histogram chunks', () => {
  test.each(golden.histogram)('$name', ({ encoding, bytes, histograms }) => {
    const samples = histograms.map((fields) => ({ time: fields.time, histogram: histogramOf(fields, encoding === 3) }))
    const writer = new HistogramChunkWriter(samples[0]!.time, samples[0]!.histogram)
    for (const { time, histogram } of samples.slice(1)) {
      expect(writer.accepts(histogram)).toBe(true)
      writer.append(time, histogram)
    }
    expect(writer.encoding).toBe(encoding)
    expect(Buffer.from(writer.finish()).toString('hex')).toBe(bytes)

    const chunk = Buffer.from(bytes, 'hex')
    const reader = new HistogramChunkReader(encoding, chunk, 0, chunk.length)
    for (const { time, histogram } of samples) {
      expect(reader.next()).toBe(true)
      expect(reader.time).toBe(time)
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
