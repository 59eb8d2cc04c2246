// HEAD-2: the state of a segment is a function of the set of samples applied in it; checked against a plain map.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Histogram, ResetHint } from '../../../../shared/model/histogram.ts'
import { compareValueBits, STALE_HIGH, STALE_LOW } from '../../../../shared/model/sample.ts'
import { SampleColumns, type SampleRun } from '../../../../shared/tsdb/columns.ts'
import { decodeChunk } from '../../../../shared/tsdb/decode.ts'
import { Head } from '../../../../shared/tsdb/head/head.ts'
import { APPENDED_EQUAL, APPENDED_NEW } from '../../../../shared/tsdb/head/series-chunks.ts'
import { StringTable } from '../../../../shared/tsdb/head/string-table.ts'
import { compareHistograms, storedHistogram } from '../../../../shared/tsdb/histogram-order.ts'
import { mergeRuns } from '../../../../shared/tsdb/merge.ts'

interface Sample {
  readonly series: number
  readonly segment: number
  readonly time: number
  readonly high: number
  readonly low: number
  readonly histogram?: Histogram
  /** 0 or left out: unknown. */
  readonly start?: number
}

const EVERYTHING = { startMs: Number.NEGATIVE_INFINITY, endMs: Number.POSITIVE_INFINITY }

const valueWords = fc.oneof(
  fc.double().map((value) => {
    const [low, high] = new Uint32Array(Float64Array.of(value).buffer)
    return { high: high!, low: low! }
  }),
  fc.constant({ high: STALE_HIGH, low: STALE_LOW }),
  fc.record({ high: fc.constantFrom(0x7ff80000, 0xfff80000, 0x7ff00000), low: fc.integer({ min: 1, max: 9 }) }),
  fc.constantFrom({ high: 0, low: 0 }, { high: 0x80000000, low: 0 }, { high: 0x3ff00000, low: 0 }),
)

function histogramOf(isFloat: boolean, hint: ResetHint, counts: readonly number[], sum: number): Histogram {
  return {
    isFloat,
    resetHint: hint,
    schema: 1,
    zeroThreshold: 2 ** -128,
    zeroCount: 0,
    count: counts.reduce((a, b) => a + b, 0),
    sum,
    positiveSpans: counts.length > 0 ? [{ offset: 0, length: counts.length }] : [],
    positiveBuckets: counts,
    negativeSpans: [],
    negativeBuckets: [],
    customValues: [],
  }
}

const histogram = fc
  .record({
    isFloat: fc.boolean(),
    hint: fc.constantFrom<ResetHint>('unknown', 'gauge', 'reset'),
    counts: fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 3 }),
    sum: fc.constantFrom(0, 1, 2.5),
  })
  .map(({ isFloat, hint, counts, sum }) => histogramOf(isFloat, hint, counts, sum))

const times = fc.oneof(
  fc.integer({ min: 0, max: 30 }),
  fc.integer({ min: -50, max: 400 }).map((n) => n * 15_000),
  fc.integer({ min: -(2 ** 51), max: 2 ** 51 }),
)

const sample: fc.Arbitrary<Sample> = fc
  .tuple(
    fc.integer({ min: 0, max: 1 }),
    fc.integer({ min: 3, max: 5 }),
    times,
    valueWords,
    fc.option(histogram, { freq: 4 }),
    fc.constantFrom(0, 0, 0, 7, 15_000, -3),
  )
  .map(([series, segment, time, words, h, start]) => ({
    series,
    segment,
    time,
    start,
    ...words,
    ...(h === null ? {} : { histogram: h }),
  }))

function headOf(samples: readonly Sample[], samplesPerChunkMax: number): Head {
  const strings = new StringTable()
  const head = new Head(strings, { samplesPerChunkMax })
  for (const one of samples) apply(head, strings, one)
  return head
}

function apply(head: Head, strings: StringTable, one: Sample): number {
  const ref = head.series([strings.intern('__name__'), strings.intern(`series_${one.series}`)])
  const { segment, time, low, high, histogram, start = 0 } = one
  if (histogram !== undefined) return head.appendHistogram(ref, segment, time, histogram, start)
  if (start !== 0) return head.appendStarted(ref, segment, time, low, high, start)
  const column = new Float64Array(Uint32Array.of(one.low, one.high).buffer)
  return head.appendFloat(ref, one.segment, one.time, column, 0)
}

function greater(a: Sample, b: Sample): boolean {
  const later = (a.start ?? 0) - (b.start ?? 0)
  if (a.histogram !== undefined) {
    return b.histogram === undefined || (compareHistograms(a.histogram, b.histogram) || later) > 0
  }
  return b.histogram === undefined && (compareValueBits(a.high, a.low, b.high, b.low) || later) > 0
}

/** What must be read of a series: by time, the greatest. */
function model(samples: readonly Sample[], series: number, startMs: number, endMs: number): string[] {
  const best = new Map<number, Sample>()
  for (const one of samples) {
    if (one.series !== series || one.time < startMs || one.time > endMs) continue
    const held = best.get(one.time)
    if (held === undefined || greater(one, held)) best.set(one.time, one)
  }
  return [...best.values()].sort((a, b) => a.time - b.time).map(textOf)
}

function textOf(one: Sample): string {
  const when = `${one.time} from ${one.start ?? 0}`
  if (one.histogram === undefined) return `${when} ${one.high >>> 0}:${one.low >>> 0}`
  return `${when} ${JSON.stringify(storedHistogram(one.histogram))}`
}

function textsOf(sink: SampleColumns): string[] {
  const words = new Uint32Array(sink.values.buffer)
  return Array.from({ length: sink.count }, (_, i) => {
    const h = sink.histograms?.[i]
    return textOf({
      series: 0,
      segment: 0,
      time: sink.times[i]!,
      high: words[2 * i + 1]!,
      low: words[2 * i]!,
      start: sink.startTimes?.[i] ?? 0,
      ...(h && { histogram: h }),
    })
  })
}

function decoded(encoding: number, bytes: Uint8Array): SampleColumns {
  const columns = new SampleColumns(1)
  decodeChunk({ encoding, bytes, start: 0, end: bytes.length }, columns)
  return columns
}

function refOf(head: Head, series: number): number | undefined {
  return head.select([{ name: '__name__', operator: '=', value: `series_${series}` }], EVERYTHING)[0]
}

describe('HEAD-2: a segment is the set of its samples', () => {
  test('what is read equals a plain map, over any range', () => {
    fc.assert(
      fc.property(
        fc.array(sample, { maxLength: 120 }),
        fc.integer({ min: 2, max: 8 }),
        fc.tuple(times, times).map(([a, b]) => ({ startMs: Math.min(a, b), endMs: Math.max(a, b) })),
        (samples, chunkMax, range) => {
          const head = headOf(samples, chunkMax)
          for (const series of [0, 1]) {
            const ref = refOf(head, series)
            for (const { startMs, endMs } of [EVERYTHING, range]) {
              const sink = new SampleColumns(1)
              const last = new SampleColumns(1)
              if (ref !== undefined) {
                head.readInto(ref, { startMs, endMs }, sink)
                head.lastInto(ref, { startMs, endMs }, last)
              }
              const wanted = model(samples, series, startMs, endMs)
              expect(textsOf(sink)).toEqual(wanted)
              expect(textsOf(last)).toEqual(wanted.slice(-1))
            }
          }
        },
      ),
      { numRuns: 400 },
    )
  })

  test('the chunks shown, decoded and merged, say the same', () => {
    fc.assert(
      fc.property(fc.array(sample, { maxLength: 120 }), fc.integer({ min: 2, max: 8 }), (samples, chunkMax) => {
        const head = headOf(samples, chunkMax)
        for (const series of [0, 1]) {
          const ref = refOf(head, series)
          const runs: SampleRun[] = []
          if (ref !== undefined) {
            head.chunksOf(ref, EVERYTHING, (encoding, bytes, minTime, maxTime, count) => {
              const columns = decoded(encoding, bytes.slice())
              expect([columns.count, columns.times[0], columns.times[count - 1]]).toEqual([count, minTime, maxTime])
              runs.push(columns.asRun())
            })
          }
          const sink = new SampleColumns()
          mergeRuns(runs, sink)
          expect(textsOf(sink)).toEqual(model(samples, series, EVERYTHING.startMs, EVERYTHING.endMs))
        }
      }),
      { numRuns: 200 },
    )
  })

  test('HEAD-5: what is hidden is what stood before the deletion, by reads, chunks and selection alike, until it is shown again', () => {
    const range = fc.tuple(times, times).map(([a, b]) => ({ startMs: Math.min(a, b), endMs: Math.max(a, b) }))
    const before = fc.array(sample, { maxLength: 60 })
    fc.assert(
      fc.property(
        before,
        before,
        fc.integer({ min: 2, max: 8 }),
        range,
        range,
        (first, then, chunkMax, gone, range) => {
          const strings = new StringTable()
          const head = new Head(strings, { samplesPerChunkMax: chunkMax })
          for (const one of first) apply(head, strings, { ...one, segment: 3 })
          const selectors = [[{ name: '__name__', operator: '=' as const, value: 'series_1' }]]
          const place = { incarnation: '', segment: 3, seq: 10 }
          head.hide(1, () => [{ id: 'd', selectors, ...gone, place }])
          head.cut(3, 10)
          for (let segment = 4; segment < 10; segment++) head.cut(segment, 10 * segment)
          for (const one of then) apply(head, strings, { ...one, segment: Math.max(3, one.segment - 1) })
          const isLeft = ({ series, time }: Sample) => series !== 1 || time < gone.startMs || time > gone.endMs
          for (const samples of [
            [...first.filter(isLeft), ...then],
            [...first, ...then],
          ]) {
            for (const series of [0, 1]) {
              const wanted = model(samples, series, range.startMs, range.endMs)
              expect(refOf(head, series) !== undefined).toBe(samples.some((one) => one.series === series))
              const ref = refOf(head, series)
              if (ref === undefined) continue
              const [sink, last, merged] = [new SampleColumns(), new SampleColumns(), new SampleColumns()]
              const runs: SampleRun[] = []
              head.readInto(ref, range, sink)
              head.lastInto(ref, range, last)
              head.chunksOf(ref, EVERYTHING, (encoding, bytes) => runs.push(decoded(encoding, bytes.slice()).asRun()))
              mergeRuns(runs, merged)
              expect(textsOf(sink)).toEqual(wanted)
              expect(textsOf(last)).toEqual(wanted.slice(-1))
              expect(textsOf(merged)).toEqual(model(samples, series, EVERYTHING.startMs, EVERYTHING.endMs))
            }
            head.hide(2, () => [])
          }
        },
      ),
      { numRuns: 300 },
    )
  })

  test('any order with any repeats gives the same digests and counts', () => {
    fc.assert(
      fc.property(
        fc.array(sample, { maxLength: 80 }),
        fc.integer({ min: 2, max: 8 }),
        fc.infiniteStream(fc.nat()),
        (samples, chunkMax, dice) => {
          const head = headOf(samples, chunkMax)
          const shuffled = [...samples, ...samples.filter(() => dice.next().value % 2 === 0)]
            .map((one) => ({ one, at: dice.next().value }))
            .sort((a, b) => a.at - b.at)
            .map(({ one }) => one)
          const other = headOf(shuffled, chunkMax)
          expect(other.segments()).toEqual(head.segments())
          for (const segment of head.segments()) {
            expect(other.digest(segment)).toBe(head.digest(segment))
            expect(other.sampleCountOf(segment)).toBe(head.sampleCountOf(segment))
            const distinct = new Set(
              samples.filter((one) => one.segment === segment).map((one) => `${one.series} ${one.time}`),
            )
            expect(head.sampleCountOf(segment)).toBe(distinct.size)
          }
        },
      ),
      { numRuns: 300 },
    )
  })

  test('a cut that is taken back leaves no trace, whatever stood on both its sides, or comes later', () => {
    const placed = fc.array(fc.tuple(sample, fc.integer({ min: 1, max: 20 }), fc.boolean()), { maxLength: 60 })
    fc.assert(
      fc.property(placed, placed, fc.integer({ min: 2, max: 8 }), (before, after, samplesPerChunkMax) => {
        const heads = [1, 2].map(() => {
          const strings = new StringTable()
          const head = new Head(strings, { samplesPerChunkMax })
          head.cut(3, 1)
          return { head, add: (one: Sample) => apply(head, strings, { ...one, segment: 3 }) }
        })
        const [whole, filled] = heads as [(typeof heads)[number], (typeof heads)[number]]
        const addTo = ({ head, add }: typeof whole, samples: typeof before) => {
          for (const [one, seq, isGivenToo] of samples) {
            head.seek(seq)
            add(one)
            if (isGivenToo) head.seek(1)
            if (isGivenToo) add(one)
          }
          head.seek(Number.POSITIVE_INFINITY)
        }
        filled.head.cut(3, 10)
        addTo(filled, before)
        filled.head.uncut(3, 10)
        addTo(whole, before)
        expect(filled.head.digest(3)).toBe(whole.head.digest(3))
        for (const each of heads) addTo(each, after)
        expect(filled.head.digest(3)).toBe(whole.head.digest(3))
        const seqs = new Set(filled.head.partsOf(3).map(({ seq }) => seq))
        for (const series of [0, 1]) {
          const [ref, sink] = [refOf(filled.head, series), new SampleColumns(1)]
          if (ref !== undefined) filled.head.readInto(ref, EVERYTHING, sink)
          if (ref !== undefined) filled.head.storedChunksOf(ref, 3, (...[, , , , , , seq]) => void seqs.add(seq))
          const samples = [...before, ...after].map(([one]) => one)
          expect(textsOf(sink)).toEqual(model(samples, series, EVERYTHING.startMs, EVERYTHING.endMs))
        }
        expect([...seqs]).toEqual(before.length + after.length === 0 ? [] : [1])
      }),
      { numRuns: 300 },
    )
  })

  test('a cut behind one that was taken back, and the same one again, cut as ever', () => {
    const strings = new StringTable()
    const head = new Head(strings)
    for (const seq of [1, 10, 20]) head.cut(3, seq)
    for (const seq of [1, 10, 20]) {
      head.seek(seq)
      apply(head, strings, { series: 0, segment: 3, time: seq, high: 0, low: 1 })
    }
    const seqs = () => head.partsOf(3).map((part) => part.seq)
    head.uncut(3, 20)
    head.uncut(3, 10)
    expect(seqs()).toEqual([1, 1, 1])
    head.cut(3, 15)
    expect(seqs()).toEqual([1, 1, 15])
    head.cut(3, 10)
    expect(seqs()).toEqual([1, 10, 15])
    head.uncut(3, 1)
    expect(seqs(), 'there is none before it').toEqual([1, 10, 15])
  })

  test('a resent batch changes neither memory nor digest', () => {
    const strings = new StringTable()
    const head = new Head(strings)
    const samples: Sample[] = []
    for (let i = 0; i < 500; i++)
      samples.push({ series: 0, segment: 1, time: 15_000 * (i % 7 === 0 ? i - 30 : i), high: 0x40000000 + i, low: i })
    for (const one of samples) apply(head, strings, one)
    const before = { bytes: head.bytes, digest: head.digest(1), count: head.sampleCount }
    for (const one of samples) expect(apply(head, strings, one)).not.toBe(APPENDED_NEW)
    expect({ bytes: head.bytes, digest: head.digest(1), count: head.sampleCount }).toEqual(before)
    expect(apply(head, strings, samples.at(-1)!)).toBe(APPENDED_EQUAL)
  })

  test('dropped segments take their samples with them and leave the others', () => {
    fc.assert(
      fc.property(fc.array(sample, { maxLength: 80 }), fc.array(sample, { maxLength: 40 }), (samples, later) => {
        const strings = new StringTable()
        const head = new Head(strings, { samplesPerChunkMax: 5 })
        for (const one of samples) apply(head, strings, one)
        head.dropSegments(4)
        expect(head.digest(4)).toBe('0000000000000000')
        for (const one of later) apply(head, strings, one)
        const kept = [...samples.filter((one) => one.segment > 4), ...later]
        for (const series of [0, 1]) {
          const ref = refOf(head, series)
          const sink = new SampleColumns(1)
          if (ref !== undefined) head.readInto(ref, EVERYTHING, sink)
          expect(textsOf(sink)).toEqual(model(kept, series, EVERYTHING.startMs, EVERYTHING.endMs))
        }
      }),
    )
  })

  test('memory of dropped segments serves later ones', () => {
    const strings = new StringTable()
    const head = new Head(strings)
    const bytes: number[] = []
    const column = new Float64Array(1)
    for (let segment = 1; segment <= 16; segment++) {
      for (let i = 0; i < 50 * 200; i++) {
        const ref = head.series([strings.intern('id'), strings.intern(`${i % 50}`)])
        column[0] = Math.sin(i * segment)
        head.appendFloat(ref, segment, segment * 1e6 + Math.floor(i / 50) * (i % 11 === 0 ? -1000 : 1000), column, 0)
      }
      if (segment > 2) head.dropSegments(segment - 2)
      bytes.push(head.bytes)
    }
    expect(head.segments()).toEqual([15, 16])
    expect(Math.max(...bytes)).toBeLessThan(bytes[1]! * 2) // three segments are held when one is dropped
    head.dropSegments(15)
    head.dropSegments(16)
    expect(head.sampleCount).toBe(0)
    expect(head.bytes).toBeLessThan(bytes[0]! / 4)
  })
})
