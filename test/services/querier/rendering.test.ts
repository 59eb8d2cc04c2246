// A large answer is rendered a piece at a time, and others have their turn between the pieces.
import { describe, expect, it } from 'vitest'
import { exemplarsBody, metadataBody, seriesBody, textsBody } from '../../../services/querier/api/label-bodies.ts'
import { rawBody, successBody } from '../../../services/querier/api/response.ts'
import { resultBody } from '../../../services/querier/api/result-body.ts'
import { packed, united } from '../../../services/querier/split/part-result.ts'
import type { Breath } from '../../../shared/base/breathing.ts'
import type { QueryPartReply } from '../../../shared/contracts/query-part.ts'
import type { Histogram } from '../../../shared/model/histogram.ts'
import { type Labels, labelsFrom } from '../../../shared/model/labels.ts'
import type { MatrixSeries, QueryResult } from '../../../shared/promql/engine.ts'
import { renderJson } from '../../../shared/promql/render.ts'

/** A piece of text takes some ms at most. */
const PIECE_CHARACTERS_MAX = 1024 * 1024
const WORK_BETWEEN_LOOKS = 10_000

/** Is due after so much work, as a real one looks at the clock. */
function counted() {
  let work = 0
  const seen = { pauses: 0 }
  const breath: Breath = {
    isDue(done) {
      work += done
      return work >= WORK_BETWEEN_LOOKS
    },
    async breathe() {
      work = 0
      seen.pauses++
    },
  }
  return { breath, seen }
}

const labelsOf = (i: number): Labels => labelsFrom({ __name__: 'wide', pod: `pod-${i}`, job: `job-${i % 7}` })
const times = (count: number) => Float64Array.from({ length: count }, (_, i) => i * 1_000)
const values = (count: number) => Float64Array.from({ length: count }, (_, i) => Math.sqrt(i))
const buckets = Array.from({ length: 160 }, (_, i) => 1 + (i % 3))
const histogram: Histogram = {
  ...{ isFloat: false, resetHint: 'unknown', schema: 3, zeroThreshold: 0, zeroCount: 0, count: 320, sum: 1.5 },
  ...{ positiveSpans: [{ offset: 0, length: buckets.length }], positiveBuckets: buckets },
  ...{ negativeSpans: [], negativeBuckets: [], customValues: [] },
}
const floats = (i: number, count: number): MatrixSeries => ({
  ...{ labels: labelsOf(i), times: times(count), values: values(count) },
})
const natives: MatrixSeries = {
  ...floats(0, 2_000),
  histograms: Array.from({ length: 2_000 }, (_, i) => (i % 10 === 0 ? undefined : histogram)),
}

describe('others have their turn while is rendered', () => {
  it.each<[string, QueryResult['value']]>([
    [
      'a vector',
      {
        ...{ type: 'vector', timeMs: 1_000 },
        samples: Array.from({ length: 30_000 }, (_, i) => ({ labels: labelsOf(i), value: i / 3 })),
      },
    ],
    [
      'a vector of native histograms',
      {
        ...{ type: 'vector', timeMs: 1_000 },
        samples: Array.from({ length: 1_000 }, (_, i) => ({ labels: labelsOf(i), value: 0, histogram })),
      },
    ],
    ['a matrix', { type: 'matrix', series: Array.from({ length: 2_000 }, (_, i) => floats(i, 60)) }],
    ['one long series', { type: 'matrix', series: [floats(0, 300_000)] }],
    ['a series of native histograms', { type: 'matrix', series: [natives] }],
  ])('%s', async (_, value) => {
    const { breath, seen } = counted()
    let sincePause = 0
    let pauses = 0
    let most = 0
    const hold = (characters: number) => {
      if (seen.pauses > pauses) sincePause = 0
      pauses = seen.pauses
      sincePause += characters
      most = Math.max(most, sincePause)
    }
    const parts = await resultBody({ value }, undefined, { hold }, breath)
    const bytes = parts.reduce((sum, part) => sum + part.length, 0)
    expect(bytes).toBeGreaterThan(2 * PIECE_CHARACTERS_MAX)
    expect(most).toBeLessThan(PIECE_CHARACTERS_MAX)
    expect(parts.map(String).join('')).toBe(renderJson({ value }))
  })

  const texts = Array.from({ length: 20_000 }, (_, i) => `value-${i}`)
  it.each<[string, (breath: Breath) => Promise<unknown>]>([
    ['a list of texts', (breath) => textsBody(texts, breath)],
    [
      'a list of series',
      (breath) =>
        seriesBody(
          texts.map((_, i) => labelsOf(i)),
          breath,
        ),
    ],
    [
      'metadata',
      (breath) =>
        metadataBody(
          texts.map((text) => [text, [{ metric: text, type: 'gauge', help: '', unit: '' }]]),
          breath,
        ),
    ],
    [
      'exemplars',
      (breath) =>
        exemplarsBody(
          texts.map((_, i) => ({ labels: labelsOf(i), exemplars: [{ labels: [], value: 1, time: 1 }] })),
          breath,
        ),
    ],
    [
      'the whole of many parts',
      (breath) =>
        successBody(
          texts.map((text) => Buffer.from(text)),
          { warnings: [] },
          breath,
        ),
    ],
    [
      'a part of native histograms, and what unites such',
      async (breath) => {
        const steps = { startMs: 0, endMs: 1_999_000, stepMs: 1_000 }
        const value = { type: 'matrix', series: [natives] } as const
        const rest = { warnings: [], infos: [], annotations: [], sourceWarnings: [] }
        const whole = counted()
        const series = await packed({ value, ...rest }, steps, breath)
        const reply = { series, annotations: [], warnings: [] } as unknown as QueryPartReply
        const again = await united([{ steps, reply }], '', whole.breath)
        expect(renderJson(again)).toBe(renderJson({ value }))
        expect(whole.seen.pauses).toBeGreaterThan(50)
      },
    ],
    ['a body of few large parts', (breath) => rawBody([new Uint8Array(8e6), new Uint8Array(8e6)], breath)],
  ])('%s', async (_, make) => {
    const { breath, seen } = counted()
    await make(breath)
    expect(seen.pauses).toBeGreaterThan(15)
  })
})

it('a series of floats and histograms reads the same, however many it has', () => {
  const some = (count: number): MatrixSeries => ({
    ...floats(1, count),
    histograms: natives.histograms!.slice(0, count),
  })
  const short = JSON.parse(renderJson({ value: { type: 'matrix', series: [some(20)] } }))
  const long = JSON.parse(renderJson({ value: { type: 'matrix', series: [some(60)] } }))
  const [a, b] = [short.result[0], long.result[0]]
  expect(Object.keys(b)).toEqual(Object.keys(a))
  expect([b.values.slice(0, 2), b.histograms.slice(0, 18)]).toEqual([a.values, a.histograms])
})
