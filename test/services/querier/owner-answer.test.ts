import { describe, expect, it } from 'vitest'
import { sortedByHashes, unite } from '../../../services/querier/read/merge-series.ts'
import { OwnerAnswer } from '../../../services/querier/read/owner-answer.ts'
import { UNHURRIED } from '../../../shared/base/breathing.ts'
import { CorruptError } from '../../../shared/base/errors.ts'
import { cbor } from '../../../shared/bus/contract.ts'
import type { SelectFrame } from '../../../shared/contracts/read.ts'
import type { Histogram } from '../../../shared/model/histogram.ts'
import { STALE } from '../../../shared/model/sample.ts'
import { ENCODING_HISTOGRAM, HistogramChunkWriter } from '../../../shared/tsdb/chunk/histogram.ts'
import { ENCODING_XOR, encodeXor, wordsOf, xorBytesMax } from '../../../shared/tsdb/chunk/xor.ts'
import { ENCODING_XOR2, encodeXor2 } from '../../../shared/tsdb/chunk/xor2.ts'
import { encodeCanonical } from '../../../shared/wire/histogram.ts'
import { Writer } from '../../../shared/wire/varint.ts'
import { FrameEncoder } from './stub-ingester.ts'

const range = { startMs: 100, endMs: 200 }
const histogram = (count: number): Histogram => ({
  isFloat: false,
  resetHint: 'unknown',
  schema: 1,
  zeroThreshold: 0.001,
  zeroCount: 0,
  count,
  sum: 2.5,
  positiveSpans: [{ offset: 0, length: 1 }],
  positiveBuckets: [count],
  negativeSpans: [],
  negativeBuckets: [],
  customValues: [],
})

/** As it comes over the bus. */
function received(frame: SelectFrame): SelectFrame {
  return cbor<SelectFrame>().decode(cbor<SelectFrame>().encode(frame))
}

function answerOf(...frames: SelectFrame[]): OwnerAnswer {
  const answer = new OwnerAnswer(range, { isHashed: true, isProjected: false })
  for (const frame of frames) answer.add(received(frame))
  return answer
}

const series = (job: string, ...chunks: [number, number][][]) => ({ labels: { __name__: 'up', job }, chunks })
const columnsOf = ({ series: all }: OwnerAnswer) => all.map(({ times, values }) => [[...times], [...values]])

describe('OwnerAnswer', () => {
  it('ANSWER-1: strings are numbered across frames; series outside the range are left out', () => {
    const encoder = new FrameEncoder()
    const answer = answerOf(
      encoder.encode([series('a', [[100, 1]]), series('b', [[99, 1]], [[201, 2]])], 'all'),
      encoder.encode([series('ü', [[150, 3]])], 'all'),
    )
    expect(answer.series.map((each) => each.labels)).toEqual([
      ['__name__', 'up', 'job', 'a'],
      ['__name__', 'up', 'job', 'ü'],
    ])
    expect(answer.hashes).toHaveLength(2)
  })

  it('ANSWER-3: samples are cut to the range, and chunks that overlap are merged (LOG-11)', () => {
    const encoder = new FrameEncoder()
    const answer = answerOf(
      encoder.encode(
        [
          series(
            'ordered',
            [
              [90, 1],
              [100, 2],
            ],
            [
              [150, 3],
              [201, 4],
            ],
          ),
          series(
            'overlapping',
            [
              [100, 5],
              [120, 1],
              [200, 3],
            ],
            [
              [110, 7],
              [120, 2],
            ],
            [[120, -1]],
          ),
        ],
        'all',
      ),
    )
    expect(columnsOf(answer)).toEqual([
      [
        [100, 150],
        [2, 3],
      ],
      [
        [100, 110, 120, 200],
        [5, 7, 2, 3],
      ],
    ])
  })

  it('ANSWER-2: the stale marker keeps its bits, from chunks, as last sample and through merging', async () => {
    const times = Float64Array.of(110, 120)
    const out = new Uint8Array(xorBytesMax(2))
    const values = new Float64Array(2)
    values.set(STALE, 1)
    const bytes = out.slice(0, encodeXor(times, wordsOf(values), 0, 2, out, 0))
    const bare = (job: string) => new FrameEncoder().encode([series(job)], 'bare')
    const chunked = (job: string, count: number): SelectFrame => ({
      ...bare(job),
      chunkCounts: Uint32Array.of(count),
      chunkEncodings: new Uint8Array(count).fill(ENCODING_XOR),
      chunkSamples: new Uint16Array(count).fill(2),
      chunkEnds: Uint32Array.from({ length: count }, (_, i) => (i + 1) * bytes.length),
      chunks: Buffer.concat(Array.from({ length: count }, () => bytes)),
    })
    const last: SelectFrame = { ...bare('c'), times: times.slice(1), values: values.slice(1) }
    const answers = [answerOf(chunked('a', 1)), answerOf(chunked('b', 2)), answerOf(last), answerOf(chunked('a', 1))]
    const united = (await unite(answers, UNHURRIED)).series
    expect(united).toHaveLength(3)
    for (const { values } of united) expect([...wordsOf(values.slice(-1))]).toEqual([2, 0x7ff00000])
  })

  it('ANSWER-3: histogram chunks stand beside float chunks', () => {
    const writer = new HistogramChunkWriter(150, histogram(1))
    writer.append(160, histogram(3))
    const native = writer.finish()
    const { chunks, ...floats } = new FrameEncoder().encode(
      [
        series('a', [
          [100, 1],
          [155, 2],
        ]),
      ],
      'all',
    )
    const answer = answerOf({
      ...floats,
      chunkCounts: Uint32Array.of(2),
      chunkEncodings: Uint8Array.of(ENCODING_XOR, ENCODING_HISTOGRAM),
      chunkSamples: Uint16Array.of(2, 2),
      chunkEnds: Uint32Array.of(chunks!.length, chunks!.length + native.length),
      chunks: Buffer.concat([chunks!, native]),
    })
    const { times, values, histograms } = answer.series[0]!
    expect([...times]).toEqual([100, 150, 155, 160])
    expect([values[0], values[2]]).toEqual([1, 2])
    expect(histograms).toEqual([undefined, histogram(1), undefined, histogram(3)])
  })

  it('the last sample may be a histogram', () => {
    const encoder = new FrameEncoder()
    const writer = new Writer()
    encodeCanonical(histogram(3), writer)
    const bare = encoder.encode([series('float'), series('native')], 'bare')
    const answer = answerOf({
      ...bare,
      times: Float64Array.of(150, 160),
      values: Float64Array.of(7, 0),
      histogramEnds: Uint32Array.of(0, writer.length),
      histograms: writer.finish(),
    })
    expect(answer.series[0]).not.toHaveProperty('histograms')
    expect(answer.series[1]!.histograms).toEqual([histogram(3)])
  })

  it('LOG-11: start times come with last samples and chunks; of equal samples the later start time stays', async () => {
    const encoder = new FrameEncoder()
    const last: SelectFrame = {
      ...encoder.encode([series('a'), series('b')], 'bare'),
      times: Float64Array.of(150, 160),
      values: Float64Array.of(7, 8),
      startTimes: Float64Array.of(0, 140),
    }
    const bytes = encodeXor2(Float64Array.of(110, 160), wordsOf(Float64Array.of(1, 8)), Float64Array.of(0, 150), 0, 2)
    const chunked: SelectFrame = {
      ...new FrameEncoder().encode([series('b')], 'bare'),
      chunkCounts: Uint32Array.of(1),
      chunkEncodings: Uint8Array.of(ENCODING_XOR2),
      chunkSamples: Uint16Array.of(2),
      chunkEnds: Uint32Array.of(bytes.length),
      chunks: bytes,
    }
    const [a, b] = (await unite([answerOf(last), answerOf(chunked)], UNHURRIED)).series
    expect(a!.startTimes).toBeUndefined()
    expect([...b!.times]).toEqual([110, 160])
    expect([...b!.startTimes!]).toEqual([0, 150])
  })

  const whole = () => new FrameEncoder().encode([series('a', [[100, 1]])], 'all')
  it.each<[string, Partial<SelectFrame>]>([
    ['a label beyond the table', { labels: Uint32Array.of(0, 1, 2, 9) }],
    ['labels that do not add up', { labelCounts: Uint16Array.of(3) }],
    ['strings that end elsewhere', { stringEnds: Uint32Array.of(8, 10, 13, 99) }],
    ['a chunk of another size', { chunkSamples: Uint16Array.of(2) }],
    ['chunks that end elsewhere', { chunkEnds: Uint32Array.of(1) }],
    ['chunks that do not add up', { chunkCounts: Uint32Array.of(2) }],
    ['an unknown encoding', { chunkEncodings: Uint8Array.of(9) }],
    ['a missing column', { chunkEncodings: undefined as never }],
    ['samples without series', { times: Float64Array.of(1, 2), values: Float64Array.of(1, 2) }],
    [
      'bytes that are no UTF-8',
      { strings: Buffer.from('__name__up\xffobxx', 'latin1'), stringEnds: Uint32Array.of(8, 10, 13, 15) },
    ],
  ])('ANSWER-4: %s is corruption', (_, changes) => {
    expect(() => answerOf({ ...whole(), ...changes })).toThrow(CorruptError)
  })
})

it('numbered label sets are shared, and what their hashes tell apart is ordered by them', async () => {
  const encoder = new FrameEncoder(['job'])
  const rows = ['1', '2', '3', '4'].map((pod) => ({
    labels: { job: pod === '4' ? 'b' : 'a', pod },
    chunks: [[[1, Number(pod)]] as [number, number][]],
  }))
  const answerOf = (...picked: number[]) => {
    const answer = new OwnerAnswer({ startMs: 0, endMs: 10 }, { isHashed: true, isProjected: true })
    const own = new FrameEncoder(['job'])
    for (const i of picked) answer.add(own.encode([rows[i]!], 'all'))
    return answer
  }
  const whole = answerOf(0, 1, 2, 3)
  expect(whole.series[0]!.labels).toBe(whole.series[1]!.labels)
  expect(whole.series[3]!.labels).toEqual(['job', 'b'])
  const valuesOf = async (...answers: OwnerAnswer[]) => {
    const sorted = await sortedByHashes(await unite(answers, UNHURRIED), UNHURRIED)
    return sorted.map(({ values }) => values[0])
  }
  expect(await valuesOf(answerOf(3, 1), answerOf(0, 2, 1))).toEqual(await valuesOf(whole))
  expect(() => whole.add(new FrameEncoder().encode(rows, 'all'))).toThrow('not numbered')
  expect(() => whole.add({ ...encoder.encode(rows, 'all'), sets: Uint32Array.of(0, 1, 2, 9) })).toThrow(
    'beyond those told',
  )
})
