import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Histogram, ResetHint } from '../../../../shared/model/histogram.ts'
import { compareBytes, compareLabels, labelOf, labelsFrom } from '../../../../shared/model/labels.ts'
import type { Matcher } from '../../../../shared/model/matcher.ts'
import { STALE_HIGH, STALE_LOW } from '../../../../shared/model/sample.ts'
import { BlockReader } from '../../../../shared/tsdb/block/reader.ts'
import { verifyBlock } from '../../../../shared/tsdb/block/verify.ts'
import { BlockWriter } from '../../../../shared/tsdb/block/writer.ts'
import { Head } from '../../../../shared/tsdb/head/head.ts'
import { StringTable } from '../../../../shared/tsdb/head/string-table.ts'
import { storedHistogram } from '../../../../shared/tsdb/histogram-order.ts'
import {
  allOf,
  type Block,
  buildBlock,
  columnsOf,
  EVER,
  finished,
  floatAt,
  histogram,
  readBlock,
  type Sample,
  type Series,
} from './blocks.ts'

const words = fc.oneof(
  fc.double().map((value) => floatAt(0, value)),
  fc.constant({ high: STALE_HIGH, low: STALE_LOW }),
  fc.record({ high: fc.constantFrom(0x7ff80000, 0xfff80000, 0x7ff00000), low: fc.integer({ min: 1, max: 9 }) }),
)
const someHistogram: fc.Arbitrary<Histogram> = fc
  .record({
    isFloat: fc.boolean(),
    resetHint: fc.constantFrom<ResetHint>('unknown', 'unknown', 'gauge', 'reset'),
    counts: fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 3 }),
    offset: fc.integer({ min: -2, max: 2 }),
    isCustom: fc.boolean(),
  })
  .map(({ isFloat, resetHint, counts, offset, isCustom }) =>
    isCustom
      ? histogram(counts, { isFloat, resetHint, schema: -53, zeroThreshold: 0, customValues: [0.1, 2.5, 1e9] })
      : histogram(counts, { isFloat, resetHint, offset }),
  )
const value = fc.oneof(
  { weight: 6, arbitrary: words },
  { weight: 1, arbitrary: someHistogram.map((h) => ({ histogram: h })) },
)
const samples: fc.Arbitrary<Sample[]> = fc
  .tuple(
    fc.integer({ min: -1000, max: 1e6 }),
    fc.array(fc.tuple(fc.integer({ min: 1, max: 40 }), value), { minLength: 1, maxLength: 400, size: 'large' }),
  )
  .map(([start, steps]) => {
    let time = start
    return steps.map(([step, given]) => {
      time += step
      return { low: 0, high: 0, histogram: undefined, ...given, time }
    })
  })
const texts = ['a', 'b', 'ab', 'é', '\u{1f600}', '￿', 'x'.repeat(300)]
const labels = fc
  .dictionary(fc.constantFrom('__name__', 'job', 'pod', 'zürich.日本'), fc.constantFrom(...texts), { maxKeys: 4 })
  .map(labelsFrom)
const seriesSet: fc.Arbitrary<Series[]> = fc.uniqueArray(fc.record({ labels, samples }), {
  maxLength: 40,
  selector: ({ labels }) => labels.join('\0'),
})
const matcher: fc.Arbitrary<Matcher> = fc.record({
  name: fc.constantFrom('__name__', 'job', 'pod', 'none'),
  operator: fc.constantFrom('=', '!=', '=~', '!~'),
  value: fc.constantFrom('', 'a', 'b', 'é', 'a|b', 'a.*', '.+', '.*', '[ab]+', '|b', 'zzz'),
})

function passes({ labels }: Series, { name, operator, value }: Matcher): boolean {
  const text = labelOf(labels, name)
  if (operator === '=' || operator === '!=') return (text === value) === (operator === '=')
  return new RegExp(`^(?:${value})$`, 'su').test(text) === (operator === '=~')
}

const pieces = fc.constantFrom(undefined, 97, 4096)

/** The same files, of which ranges within multiples of this are the cheapest. */
const inPieces = (block: Block, pieceBytes: number | undefined): Block =>
  pieceBytes === undefined ? block : { ...block, files: { ...block.files, pieceBytes } }

const inOrder = (series: readonly Series[]): Series[] =>
  series.map(asStored).sort((a, b) => compareLabels(a.labels, b.labels))

/** Of reset hints only that of a gauge comes back. */
const asStored = ({ labels, samples }: Series): Series => ({
  labels,
  samples: samples.map((one) => ({ ...one, histogram: one.histogram && storedHistogram(one.histogram) })),
})

describe('BLOCK-4: what is read is what was written', () => {
  test('any series and samples come back bit for bit, and the block is whole', async () => {
    await fc.assert(
      fc.asyncProperty(seriesSet, fc.constantFrom(undefined, 300, 4000), pieces, async (series, fileBytes, piece) => {
        const block = inPieces(await buildBlock(series, fileBytes), piece)
        expect(await readBlock(block)).toEqual(inOrder(series))
        const problems = await Array.fromAsync(verifyBlock(block.files, { tenant: 'team-a' }))
        expect(problems).toEqual([])
      }),
      { numRuns: 60 },
    )
  })

  test('selects, names and values agree with a plain filter', async () => {
    await fc.assert(
      fc.asyncProperty(
        seriesSet,
        fc.array(
          fc.tuple(fc.array(matcher, { maxLength: 3 }), fc.integer({ max: 1e4 }), fc.integer({ min: 0, max: 2e4 })),
          { maxLength: 8 },
        ),
        pieces,
        async (series, questions, piece) => {
          const block = inPieces(await buildBlock(series), piece)
          const reader = await BlockReader.open(block.files, block.meta)
          for (const [matchers, startMs, length] of questions) {
            const range = { startMs, endMs: startMs + length }
            const matching = inOrder(series).filter((one) => matchers.every((m) => passes(one, m)))
            const isIn = ({ time }: Sample): boolean => time >= range.startMs && time <= range.endMs
            const wanted = matching.map((one) => ({ ...one, samples: one.samples.filter(isIn) }))
            const found = await allOf(reader.select(matchers, range))
            const clipped = found.map((one) => ({ ...one, samples: one.samples.filter(isIn) }))
            expect(clipped.filter((one) => one.samples.length > 0)).toEqual(
              wanted.filter((one) => one.samples.length > 0),
            )
            expect(await allOf(reader.select(matchers, EVER))).toEqual(matching)
            const names = new Set(matching.flatMap((one) => one.labels.filter((_, i) => i % 2 === 0)))
            expect(await reader.labelNames(matchers, EVER)).toEqual([...names].sort(compareBytes))
            const pods = new Set(matching.map((one) => labelOf(one.labels, 'pod')).filter((text) => text !== ''))
            expect(await reader.labelValues('pod', matchers, EVER)).toEqual([...pods].sort(compareBytes))
          }
        },
      ),
      { numRuns: 60 },
    )
  })

  test('a block of many values and series is read in batches and windows', async () => {
    const series: Series[] = Array.from({ length: 3000 }, (_, i) => ({
      labels: labelsFrom({
        __name__: `m${i % 7}`,
        id: `id-${i}`,
        shard: String(i % 100),
        long: `${'y'.repeat(5000)}${i % 3}`,
      }),
      samples: Array.from({ length: 1 + (i % 5) * 100 }, (_, k) => ({
        ...floatAt(k * 1000, i * k),
        histogram: undefined,
      })),
    }))
    const block = await buildBlock(series)
    const reader = await BlockReader.open(block.files, block.meta)
    expect(await allOf(reader.allSeries())).toEqual(inOrder(series))
    const ask = (...matchers: Matcher[]): Promise<Series[]> => allOf(reader.select(matchers, EVER))
    const one: Matcher = { name: 'id', operator: '=~', value: 'id-(17|2999|5)' }
    expect((await ask(one)).map(({ labels }) => labelOf(labels, 'id')).sort()).toEqual(['id-17', 'id-2999', 'id-5'])
    expect(
      await ask({ name: 'id', operator: '=~', value: '.*9' }, { name: '__name__', operator: '=', value: 'm3' }),
    ).toEqual(
      inOrder(series).filter(
        ({ labels }) => labelOf(labels, '__name__') === 'm3' && labelOf(labels, 'id').endsWith('9'),
      ),
    )
    expect(
      await ask(
        { name: '__name__', operator: '=~', value: '[mn][0-6]' },
        { name: 'shard', operator: '=~', value: '[0-9]+' },
      ),
    ).toHaveLength(3000)
    expect(await reader.labelValues('id', [], EVER)).toHaveLength(3000)
  })

  test('the label hash is that of heads', async () => {
    const series: Series[] = texts.map((text) => ({
      labels: labelsFrom({ __name__: 'm', text }),
      samples: [floatAt(1, 1)],
    }))
    const block = await buildBlock(series)
    const strings = new StringTable()
    const head = new Head(strings)
    const reader = await BlockReader.open(block.files, block.meta)
    for await (const batch of reader.series([], EVER)) {
      for (const one of batch) {
        const hash = new Uint32Array(2)
        head.hashInto(head.series(one.labels.map((text) => strings.intern(text))), hash, 0)
        expect([one.hashA, one.hashB]).toEqual([...hash])
      }
    }
  })
})

describe('BLOCK-1: the same series and samples give the same bytes', () => {
  const series: Series[] = Array.from({ length: 20 }, (_, i) => ({
    labels: labelsFrom({ __name__: 'm', i: String(i) }),
    samples: Array.from({ length: 500 }, (_, k) => floatAt(k * 1000, (i * k) % 17)),
  }))

  test('twice the same files, meta.json and ULID; another sample, another ULID', async () => {
    const [a, b] = [await buildBlock(series), await buildBlock([...series].reverse())]
    expect(a.bytes).toEqual(b.bytes)
    const other = await buildBlock([
      ...series.slice(1),
      { ...series[0]!, samples: [floatAt(0, 0), floatAt(499_000, 99)] },
    ])
    expect(other.meta.minTime).toBe(a.meta.minTime)
    expect(other.meta.ulid).not.toBe(a.meta.ulid)
    expect(a.meta.ulid).toMatch(/^0000000000[0-9A-Z]{16}$/)
  })

  test('chunks passed through make the block that their samples made', async () => {
    const block = await buildBlock(series, 2000)
    const bytes = new Map<string, Uint8Array>()
    const writer = new BlockWriter({
      onFile: async (name, file) => void bytes.set(name, file),
      chunkFileBytesMax: 2000,
    })
    const reader = await BlockReader.open(block.files, block.meta)
    for await (const batch of reader.allSeries()) {
      for (const { labels, chunks } of batch) {
        writer.addChunks(labels, chunks)
        await writer.backlog()
      }
    }
    const stats = await writer.finish()
    expect(stats).toEqual(block.stats)
    expect(finished(bytes, stats).bytes).toEqual(block.bytes)
    expect(stats.files.length).toBeGreaterThan(5)
  })

  test('what onFile throws is thrown, and nothing is unhandled', async () => {
    const writer = new BlockWriter({ onFile: () => Promise.reject(new Error('store is full')), chunkFileBytesMax: 100 })
    for (const { labels, samples } of inOrder(series)) writer.addSeries(labels, columnsOf(samples).asRun())
    await expect(writer.finish()).rejects.toThrow('store is full')
  })
})

describe('chunks are cut canonically', () => {
  const cut = async (list: readonly (Histogram | number)[]): Promise<[number, number, number | undefined][]> => {
    const samples = list.map((one, i) =>
      typeof one === 'number' ? floatAt(i, one) : { ...floatAt(i, 0), histogram: one },
    )
    const block = await buildBlock([{ labels: ['a', 'b'], samples }])
    const reader = await BlockReader.open(block.files, block.meta)
    for await (const [one] of reader.allSeries()) {
      return one!.chunks.map(({ encoding, count, bytes }) => [
        encoding,
        count,
        encoding === 1 ? undefined : bytes[2]! >>> 6,
      ])
    }
    return []
  }
  const stale = histogram([], { sum: floatsOf(STALE_LOW, STALE_HIGH) })

  test.each<[string, (Histogram | number)[], [number, number, number | undefined][]]>([
    [
      'floats at 120',
      Array.from({ length: 250 }, () => 1),
      [
        [1, 120, undefined],
        [1, 120, undefined],
        [1, 10, undefined],
      ],
    ],
    [
      'floats and histograms',
      [1, 2, histogram([1]), 3],
      [
        [1, 2, undefined],
        [2, 1, 0],
        [1, 1, undefined],
      ],
    ],
    [
      'whole and float counts',
      [histogram([1]), histogram([1], { isFloat: true })],
      [
        [2, 1, 0],
        [3, 1, 0],
      ],
    ],
    [
      'histograms at 120, which go on without a reset',
      Array.from({ length: 130 }, () => histogram([1])),
      [
        [2, 120, 0],
        [2, 10, 1],
      ],
    ],
    [
      'a new bucket is no reset',
      [histogram([1]), histogram([1, 1])],
      [
        [2, 1, 0],
        [2, 1, 1],
      ],
    ],
    [
      'an empty bucket that goes is no reset',
      [histogram([1, 0]), histogram([1])],
      [
        [2, 1, 0],
        [2, 1, 1],
      ],
    ],
    [
      'a bucket that goes may be one',
      [histogram([1, 1]), histogram([2])],
      [
        [2, 1, 0],
        [2, 1, 0],
      ],
    ],
    [
      'a falling count may be one',
      [histogram([5]), histogram([4])],
      [
        [2, 1, 0],
        [2, 1, 0],
      ],
    ],
    [
      'another schema says nothing',
      [histogram([5]), histogram([5], { schema: 2 })],
      [
        [2, 1, 0],
        [2, 1, 0],
      ],
    ],
    [
      'an announced reset is written',
      [histogram([5]), histogram([6], { resetHint: 'reset' })],
      [
        [2, 1, 0],
        [2, 1, 2],
      ],
    ],
    ['gauges', [histogram([5], { resetHint: 'gauge' }), histogram([4], { resetHint: 'gauge' })], [[2, 2, 3]]],
    [
      'behind a stale one nothing is known',
      [histogram([5]), stale, histogram([6])],
      [
        [2, 2, 0],
        [2, 1, 0],
      ],
    ],
    [
      'other custom bounds',
      [custom([1]), custom([1]), custom([2])],
      [
        [2, 2, 0],
        [2, 1, 0],
      ],
    ],
  ])('%s', async (_, list, wanted) => {
    expect(await cut(list)).toEqual(wanted)
  })
})

function custom(bounds: number[]): Histogram {
  return histogram([3], { schema: -53, zeroThreshold: 0, customValues: bounds })
}

function floatsOf(low: number, high: number): number {
  return new Float64Array(Uint32Array.of(low, high).buffer)[0]!
}
