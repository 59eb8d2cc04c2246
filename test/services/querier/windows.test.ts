// Long ranges from windows that a compactor made, against the same questions answered from samples: docs/formats/downsampled.md.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { compactor } from '../../../services/compactor/compactor.ts'
import { compactorSettings } from '../../../services/compactor/config.ts'
import { inlineMerger } from '../../../services/compactor/worker/inline-worker.ts'
import { sleep, systemClock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { windowDays } from '../../../shared/blocks/downsampled.ts'
import { runActor } from '../../../shared/bus/run-actor.ts'
import { defaultsOf } from '../../../shared/config/settings.ts'
import type { QueryParams } from '../../../shared/contracts/query.ts'
import type { Membership } from '../../../shared/membership/membership.ts'
import type { Histogram } from '../../../shared/model/histogram.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { createMetrics } from '../../../shared/telemetry/metrics.ts'
import { type Harness, metricOf, startQuerier } from './harness.ts'
import { openStore, type Store, type StoredSeries } from './stored.ts'
import { fixedMembership, memoryHub, type StubSeries, stubIngester } from './stub-ingester.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
const today = Math.floor(Date.now() / DAY) * DAY
/** Ages of days: with windows of an hour, of five minutes only, and without. */
const AGES = [13, 12, 11, 10, 4, 3, 2, 1]
const startOf = (age: number) => today - age * DAY

function nativeOf(i: number): Histogram {
  const buckets = [i, 2 * i, 3 * i + 1]
  return {
    ...{ isFloat: false, resetHint: 'unknown', schema: 1, zeroThreshold: 0.001, zeroCount: i, sum: i * 4 },
    count: i + buckets.reduce((a, b) => a + b, 0),
    positiveSpans: [{ offset: 0, length: 3 }],
    positiveBuckets: buckets,
    ...{ negativeSpans: [], negativeBuckets: [], customValues: [] },
  }
}

/** What is scraped each minute, seven seconds into it: whole numbers, so that sums are exact in any order. */
class Scraped {
  private readonly random = seededRandom(11)
  private readonly totals = [0, 0, 0, 0]
  private observed = 0

  day(age: number): StoredSeries[] {
    const gauges: [number, number][][] = [[], [], []]
    const counters: [number, number][][] = [[], [], [], []]
    const natives: [number, Histogram][] = []
    for (let time = startOf(age) + 7_000; time < startOf(age) + DAY; time += MINUTE) {
      for (const [g, samples] of gauges.entries()) {
        if (g !== 1 || this.random.below(9) !== 0) samples.push([time, this.random.below(200) - 100])
      }
      for (const [c, samples] of counters.entries()) {
        const begins = c > 0 && this.random.below([0, 400, 3_000, 1_500][c]!) === 0
        this.totals[c] = (begins ? 0 : this.totals[c]!) + (c === 0 ? 3 : this.random.below(20))
        samples.push([time, this.totals[c]!])
      }
      this.observed = this.random.below(2_000) === 0 ? 1 : this.observed + this.random.below(4)
      natives.push([time, nativeOf(this.observed)])
    }
    const named = (name: string, list: [number, number][][]) =>
      list.map((samples, i) => ({ labels: { __name__: name, instance: `i${i}`, job: `j${i % 2}` }, samples }))
    const latency = { labels: { __name__: 'latency', instance: 'i0' }, samples: natives }
    return [...named('load', gauges), ...named('requests_total', counters), latency]
  }
}

interface Ground {
  readonly hub: ReturnType<typeof memoryHub>
  readonly store: Store
  readonly owned: StubSeries[]
  readonly querier: Harness
  readonly ends: (() => Promise<void>)[]
}

let ground: Ground

let compactorCount = 0

/** A compactor, until there are windows of all days that are old enough. */
async function compacted(store: Store, hub: ReturnType<typeof memoryHub>): Promise<void> {
  const bus = hub.connect(`compactor ${++compactorCount}`)
  const deps = {
    ...{ bus, clock: systemClock, random: seededRandom(3), log: silentLog, metrics: createMetrics() },
    ...{ id: 'c', incarnation: 'c-1', objects: store.objects, merger: inlineMerger },
    membership: { partitionCount: () => 1, live: (): [] => [] } as unknown as Membership,
  }
  const settings = { compactEveryMs: 20, compactDelayMs: 0, retiredDelayMs: HOUR, downsample: true, scrubEveryMs: 0 }
  const running = runActor(compactor({ ...deps, config: defaultsOf(compactorSettings, settings) }), {
    ...deps,
    metrics: undefined,
  })
  await running.ready
  const wanted = AGES.filter((age) => age > 10).length + AGES.filter((age) => age > 2).length
  while ((await windowsIn(store)).size < wanted) await sleep(systemClock, 50)
  await running.stop()
}

/** Days and lengths of windows that may be read. */
async function windowsIn({ blocks }: Store): Promise<Set<string>> {
  const { manifest } = await blocks.update('anonymous', () => undefined)
  const days = [HOUR, 5 * MINUTE].flatMap((lengthMs) => windowDays(manifest, lengthMs))
  return new Set(days.map(({ startMs, resolutionMs }) => `${startMs / DAY} ${resolutionMs}`))
}

beforeAll(async () => {
  const hub = memoryHub()
  const store = await openStore(hub)
  const owned: StubSeries[] = []
  const ingester = await stubIngester({ hub, id: 'a', data: { 0: owned } })
  const scraped = new Scraped()
  const entries = []
  for (const [i, age] of AGES.entries()) entries.push(await store.upload(scraped.day(age), { segment: i + 1 }))
  await store.commit(entries, { partition: 0, segment: AGES.length })
  await compacted(store, hub)
  const querier = await startQuerier(hub, fixedMembership([['a']]), {}, store.objects)
  const ends = [querier.stop, ingester.stop, async () => store.blocks.close()]
  ground = { hub, store, owned, querier, ends }
})

afterAll(async () => {
  for (const end of ground.ends) await end()
})

type Row = { metric: Record<string, string>; values: [number, string][]; histograms?: [number, { count: string }][] }

interface Found {
  readonly rows: Map<string, Map<number, number>>
  /** Samples read from owners and blocks. */
  readonly read: number
  readonly warnings: readonly string[]
}

const samplesRead = () => metricOf(ground.querier, 'carillon_querier_samples_read_total')

/** Of histograms their counts of observations. `read` is right where nothing else is asked meanwhile. */
async function ask(query: string, params: QueryParams, resolution?: string): Promise<Found> {
  const asked = { query, ...params, ...(resolution && { max_source_resolution: resolution }) }
  const readBefore = await samplesRead()
  const body = await ground.querier.ask(params.step === undefined ? 'instant' : 'range', asked)
  if (body.status !== 'success') throw new Error(`${body.errorType}: ${body.error}`)
  const { result } = body.data as { result: Row[] }
  const rows = new Map<string, Map<number, number>>()
  for (const { metric, values, value, histograms } of result as (Row & { value?: [number, string] })[]) {
    const points = [...(values ?? (value === undefined ? [] : [value]))].map(
      ([time, text]) => [time, Number(text)] as const,
    )
    const natives = (histograms ?? []).map(([time, { count }]) => [time, Number(count)] as const)
    rows.set(JSON.stringify(metric), new Map([...points, ...natives]))
  }
  return { rows, read: (await samplesRead()) - readBefore, warnings: body.warnings ?? [] }
}

const seconds = (ms: number) => String(ms / 1000)
/** All days, steps on the edges of windows. */
const everything = (stepMs: number, shiftMs = 0): QueryParams => ({
  ...{ start: seconds(startOf(13) + stepMs + shiftMs), end: seconds(today + shiftMs), step: seconds(stepMs) },
})

async function both(query: string, params: QueryParams) {
  return { raw: await ask(query, params, 'raw'), found: await ask(query, params) }
}

function eachPoint(
  { raw, found }: { raw: Found; found: Found },
  check: (found: number, raw: number) => void,
  missingMax = 0,
): void {
  expect([...found.rows.keys()].sort()).toEqual([...raw.rows.keys()].sort())
  expect(raw.rows.size).toBeGreaterThan(0)
  for (const [key, points] of raw.rows) {
    const other = found.rows.get(key)!
    const missing = [...points.keys()].filter((time) => !other.has(time))
    expect(missing.length).toBeLessThanOrEqual(missingMax)
    expect(other.size).toBe(points.size - missing.length)
    for (const [time, value] of other) check(value, points.get(time)!)
  }
}

const inRange = [
  'count_over_time(load[R])',
  'sum_over_time(load[R])',
  'min_over_time(load[R])',
  'max_over_time(load[R])',
]
const exact = [
  ...inRange,
  'avg_over_time(load[R])',
  'sum by (job) (count_over_time(load[R]))',
  'sum by (job) (avg_over_time(load[R]))',
  'count_over_time(latency[R])',
  'present_over_time(load[R])',
]

describe('whole windows', () => {
  it.each(exact)('%s is what the samples give', async (query) => {
    for (const [range, stepMs] of [
      ['6h', 5 * HOUR],
      ['1d', 6 * HOUR],
      ['30m', 25 * MINUTE],
      ['2h', 8 * HOUR],
    ] as const) {
      const { raw, found } = await both(query.replace('R', range), everything(stepMs))
      eachPoint({ raw, found }, (a, b) => expect(a).toBeCloseTo(b, 9))
      expect(found.read).toBeLessThan(raw.read / 1.7) // two days in eight have no windows, and avg reads two
    }
  })

  it('sums and averages of histograms are what the samples give', async () => {
    for (const query of ['sum_over_time(latency[6h])', 'avg_over_time(latency[6h])']) {
      eachPoint(await both(query, everything(5 * HOUR)), (a, b) => expect(a / b).toBeCloseTo(1, 9))
    }
  })

  it('a steady counter has its exact rate', async () => {
    for (const minutes of [0, 11, 50]) {
      const startMs = startOf(13) + 7 * HOUR + minutes * MINUTE
      const params = { start: seconds(startMs), end: seconds(startOf(10) - HOUR), step: '5h' }
      const { found } = await both('rate(requests_total{instance="i0"}[6h])', params)
      expect(found.rows.size).toBe(1)
      for (const rate of [...found.rows.values()][0]!.values()) expect(rate).toBeCloseTo(3 / 60, 12)
    }
  })
})

describe('a steady counter has its exact rate', () => {
  it.each([
    ['25m', 25 * MINUTE],
    ['30m', 30 * MINUTE],
    ['1h', 30 * MINUTE],
    ['5h', 5 * HOUR],
    ['6h', 6 * HOUR],
    ['1d', 5 * HOUR],
  ])(
    'over %s, also where windows of an hour meet those of five minutes, and those meet samples',
    async (range, stepMs) => {
      for (const [from, to] of [
        [11, 9],
        [3, 1],
      ] as const) {
        for (let shiftMs = 0; shiftMs < stepMs; shiftMs += 10 * MINUTE) {
          const startMs = startOf(from) + DAY + shiftMs + 1_000 - 6 * HOUR
          const params = { start: seconds(startMs), end: seconds(startOf(to) - 2 * MINUTE), step: seconds(stepMs) }
          const { rows } = await ask(`rate(requests_total{instance="i0"}[${range}])`, params)
          const rates = [...rows.values()].flatMap((points) => [...points])
          expect(rates.length).toBeGreaterThan(0)
          for (const [time, rate] of rates)
            expect(rate / (3 / 60), `${time - startOf(from) / 1000} s`).toBeCloseTo(1, 9)
        }
      }
    },
  )
})

describe('ranges that cut through windows', () => {
  it('count, sum, min, max and avg are off by the samples of one window at either end', async () => {
    for (const [lengthMs, stepMs] of [
      [HOUR, 5 * HOUR],
      [5 * MINUTE, 50 * MINUTE],
    ] as const) {
      const perWindow = lengthMs / MINUTE
      const shifted = everything(stepMs, 23 * MINUTE + 11_000)
      const range = `${(6 * stepMs) / 5 / 1000}s`
      const of = (query: string) => both(query.replace('R', range), shifted)
      eachPoint(await of('count_over_time(load[R])'), (a, b) => expect(Math.abs(a - b)).toBeLessThanOrEqual(perWindow))
      eachPoint(await of('sum_over_time(load[R])'), (a, b) =>
        expect(Math.abs(a - b)).toBeLessThanOrEqual(2 * perWindow * 100),
      )
      const wide = await ask(`max_over_time(load[${(6 * stepMs) / 5 / 1000 + lengthMs / 1000}s])`, shifted, 'raw')
      const { found } = await of('max_over_time(load[R])')
      for (const [key, points] of found.rows)
        for (const [time, value] of points) expect(value).toBeLessThanOrEqual(wide.rows.get(key)!.get(time)!)
    }
  })

  it('increase and rate are off by what the counter grew in two windows, resets and midnight included', async () => {
    for (const [lengthMs, stepMs] of [
      [HOUR, 5 * HOUR],
      [5 * MINUTE, 50 * MINUTE],
    ] as const) {
      for (const shiftMs of [0, 17 * MINUTE + 3_000]) {
        const rangeS = (6 * stepMs) / 5 / 1000
        const offBy = async (query: string, bound: number) => {
          const asked = await both(query.replace('R', `${rangeS}s`), everything(stepMs, shiftMs))
          // at the beginning of days without a day before, less than two windows give no rate
          eachPoint(asked, (a, b) => expect(Math.abs(a - b)).toBeLessThanOrEqual(bound), 2)
        }
        const grown = (2 * lengthMs * 20) / MINUTE
        await offBy('increase(requests_total[R])', grown)
        await offBy('rate(requests_total[R])', grown / rangeS)
        await offBy('increase(latency[R])', (2 * lengthMs * 4 * 7) / MINUTE)
      }
    }
  })

  it('a plain selector has a real sample, up to a window older', async () => {
    const shifted = everything(5 * HOUR, 23 * MINUTE + 11_000)
    const { raw, found } = await both('requests_total{instance="i0"}', shifted)
    eachPoint({ raw, found }, (a, b) => {
      expect(a).toBeLessThanOrEqual(b)
      expect(b - a).toBeLessThanOrEqual(3 * 60)
      expect(a % 3).toBe(0)
    })
    expect(found.read).toBeLessThan(raw.read / 2.5) // two days in eight have no windows
  })
})

describe('choosing', () => {
  const total = async (query: string, params: QueryParams, resolution?: string) =>
    (await ask(query, params, resolution)).read

  it('short steps and ranges, and functions without windows, read samples', async () => {
    const day = { start: seconds(startOf(12)), end: seconds(startOf(11)) }
    for (const [query, step] of [
      ['sum_over_time(load[1d])', '5m'],
      ['rate(requests_total[5m])', '6h'],
      ['quantile_over_time(0.5, load[6h])', '6h'],
      ['load', '10m'],
    ] as const) {
      const params = { ...day, step }
      expect(await total(query, params)).toBe(await total(query, params, 'raw'))
    }
    const inner = 'max_over_time(rate(requests_total[6h])[1d:5h])'
    expect(await total(inner, { ...day, step: '1m' })).toBeLessThan(
      (await total(inner, { ...day, step: '1m' }, 'raw')) / 3,
    )
  })

  it('an instant query reads windows in ranges of a hundred of them and more', async () => {
    const time = seconds(startOf(10))
    const once = async (range: string) => {
      const query = `sum_over_time(load{instance="i0"}[${range}])`
      return { raw: await ask(query, { time }, 'raw'), found: await ask(query, { time }) }
    }
    const short = await once('8h')
    expect(short.found).toEqual(short.raw)
    const long = await once('2d')
    expect(long.found.rows).toEqual(long.raw.rows)
    expect(long.found.read).toBeLessThan(long.raw.read / 3)
  })

  it('the asker decides: 1h, 5m, raw; anything else is refused', async () => {
    const day = { start: seconds(startOf(12) + HOUR), end: seconds(startOf(11)), step: '1h' }
    const query = 'sum_over_time(load{instance="i0"}[5h])'
    const byStep = await total(query, day)
    const [hours, minutes, raw] = [
      await total(query, day, '1h'),
      await total(query, day, '5m'),
      await total(query, day, 'raw'),
    ]
    expect([byStep, hours < minutes, minutes < raw]).toEqual([minutes, true, true])
    const body = await ground.querier.ask('range', { query, ...day, max_source_resolution: 'coarse' })
    expect(body).toMatchObject({ status: 'error', errorType: 'bad_data' })
  })

  it('QUERY-12: split or not, the answer is the same', async () => {
    const whole = await startQuerier(ground.hub, fixedMembership([['a']]), { queryPartMs: 0 }, ground.store.objects)
    const params = everything(2 * HOUR, 13 * MINUTE)
    for (const query of [
      ...exact.map((text) => text.replace('R', '5h')),
      'rate(requests_total[5h])',
      'load',
      'rate(latency[5h])',
    ]) {
      const answers = await Promise.all([whole, ground.querier].map((each) => each.ask('range', { query, ...params })))
      expect(JSON.stringify(answers[1]!.data)).toBe(JSON.stringify(answers[0]!.data))
    }
    await whole.stop()
  })

  it('parts that are kept are told apart by what was asked for', async () => {
    const params = { start: seconds(startOf(13) + HOUR), end: seconds(startOf(11)), step: '1h' }
    const query = 'last_over_time(load{instance="i0"}[5h])'
    for (let i = 0; i < 2; i++) {
      const answers = await Promise.all(['raw', '5m', '1h'].map((resolution) => ask(query, params, resolution)))
      const fresh = { ...params, no_store: 'true' }
      for (const [at, resolution] of ['raw', '5m', '1h'].entries())
        expect(answers[at]!.rows).toEqual((await ask(query, fresh, resolution)).rows)
    }
  })
})

describe('a tenant without windows', () => {
  it('is answered byte by byte as from samples', async () => {
    const { manifest } = await ground.store.blocks.update('anonymous', () => undefined)
    const windows = manifest.blocks.filter(({ resolutionMs }) => resolutionMs > 0)
    const without = manifest.blocks.filter(({ resolutionMs }) => resolutionMs === 0)
    const queries = [...exact.map((query) => query.replace('R', '6h')), 'load', 'rate(requests_total[6h])', 'latency']
    const params = { ...everything(5 * HOUR), no_store: 'true' }
    const all = (more: QueryParams) =>
      Promise.all(queries.map((query) => ground.querier.ask('range', { query, ...params, ...more })))
    const raw = JSON.stringify(await all({ max_source_resolution: 'raw' }))
    expect(JSON.stringify(await all({}))).not.toBe(raw)
    await ground.store.change((now) => ({ ...now, blocks: without }))
    await expect.poll(async () => JSON.stringify(await all({})), { timeout: 5_000 }).toBe(raw)
    await ground.store.change((now) => ({ ...now, blocks: [...without, ...windows] }))
    await expect.poll(async () => JSON.stringify(await all({})), { timeout: 5_000 }).not.toBe(raw)
  })
})

describe('what changes a day', () => {
  const params = everything(5 * HOUR)
  const query = 'count_over_time(load{instance="i0"}[6h])'
  const same = async () => {
    const { raw, found } = await both(query, { ...params, no_store: 'true' })
    expect(found.rows).toEqual(raw.rows)
    return found
  }

  it('QUERY-13, LOG-21: late samples in memory, and then in a block, switch its windows off', async () => {
    const before = await same()
    const late = {
      labels: { __name__: 'load', instance: 'i0', job: 'j0' },
      samples: [[startOf(12) + 3_000, 5]] as [number, number][],
    }
    ground.owned.push({ labels: late.labels, chunks: [late.samples], segment: AGES.length + 1 })
    const inMemory = await same()
    expect(inMemory.read).toBeGreaterThan(before.read + 1_000)
    await ground.store.commit([await ground.store.upload([late], { segment: 99 })], {
      partition: 0,
      segment: AGES.length + 1,
    })
    await expect.poll(async () => (await same()).read, { timeout: 5_000 }).toBeGreaterThan(before.read + 1_000)
    await ground.store.change((manifest) => ({
      ...manifest,
      blocks: manifest.blocks.filter(({ sampleCount, resolutionMs }) => sampleCount !== 1 || resolutionMs > 0),
    }))
    ground.owned.pop()
    await expect.poll(async () => (await same()).read, { timeout: 5_000 }).toBe(before.read)
  })

  it('without raw blocks the best windows there are answer, with a warning where they are too long', async () => {
    const before = await same()
    const { manifest } = await ground.store.blocks.update('anonymous', () => undefined)
    const gone = manifest.blocks.filter(({ resolutionMs, minTime }) => resolutionMs === 0 && minTime < startOf(10))
    await ground.store.change((now) => ({
      ...now,
      blocks: now.blocks.filter(({ ulid }) => !gone.some((each) => each.ulid === ulid)),
    }))
    const fresh = { ...params, no_store: 'true' }
    await expect.poll(async () => (await ask(query, fresh, 'raw')).rows, { timeout: 5_000 }).not.toEqual(before.rows)
    const long = await ask(query, fresh)
    expect(long).toMatchObject({ rows: before.rows, warnings: [] })
    const short = { start: seconds(startOf(12)), end: seconds(startOf(11)), step: '1m', no_store: 'true' }
    const selected = await ask('requests_total{instance="i0"}', short)
    expect(selected.rows.values().next().value!.size).toBe(1441)
    expect(selected.warnings).toEqual(['of some of the time only windows of 5m are left, which stand for the samples'])
    await ground.store.change((now) => ({ ...now, blocks: [...now.blocks, ...gone] }))
    await expect.poll(async () => (await same()).rows, { timeout: 5_000 }).toEqual(before.rows)
  })

  it('deletions hide in windows too, which are made again without what was deleted', async () => {
    const { manifest } = await ground.store.blocks.update('anonymous', () => undefined)
    const blocks = manifest.blocks.filter(({ minTime }) => minTime >= startOf(12) && minTime < startOf(11))
    const before = await same()
    await ground.store.change((now) => ({
      ...now,
      deletes: [
        {
          ...{
            id: 'd1',
            kind: 'series',
            state: 'active',
            askedAtMs: 0,
            askedBy: 'test',
            undoUntilMs: Date.now() + DAY,
          },
          selectors: [[{ name: 'instance', operator: '=', value: 'i0' }]],
          ...{ startMs: startOf(12), endMs: startOf(12) + 12 * HOUR, positions: {} },
          blocks: blocks.map(({ ulid }) => ulid),
        },
      ],
    }))
    await expect.poll(async () => (await same()).rows, { timeout: 5_000 }).not.toEqual(before.rows)
    const hidden = await same()
    expect(hidden.read).toBeGreaterThan(before.read + 500)
    await ground.store.change((now) => ({
      ...now,
      deletes: now.deletes.map((each) => ({ ...each, state: 'removing' })),
    }))
    await compacted(ground.store, ground.hub)
    await expect.poll(async () => (await same()).read, { timeout: 5_000 }).toBeLessThanOrEqual(before.read)
    expect((await same()).rows).toEqual(hidden.rows)
  })
})
