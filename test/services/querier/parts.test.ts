// QUERY-12: range queries in parts, by one querier or by two, with results kept or not, answer what one evaluation answers, bit by bit.
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { QuerierConfig } from '../../../services/querier/config.ts'
import type { QueryParams } from '../../../shared/contracts/query.ts'
import type { Membership } from '../../../shared/membership/membership.ts'
import type { Histogram } from '../../../shared/model/histogram.ts'
import { type Harness, metricOf, startQuerier } from './harness.ts'
import { deletionOf, openStore, type Store, type StoredSeries } from './stored.ts'
import { fixedMembership, memoryHub, type StubIngester, type StubSeries, stubIngester } from './stub-ingester.ts'

const T0 = 1_700_000_400 // not a multiple of the parts' length
const PART_S = 1_500
const HOUR_S = 3_600
const SCRAPE_S = 20

/** What a series has at T0 + second: counters, gauges with fractions, gaps. */
function valueAt(series: number, second: number): number | undefined {
  const i = second / SCRAPE_S
  if ((i + series * 7) % 53 < 4) return undefined
  if (series % 3 === 0) return ((i * (series + 1)) % 97) + 0.1 * series
  return Math.sin(i / 9 + series) * 10 ** (series % 5)
}

const labelsOf = (series: number) => ({
  __name__: series % 3 === 0 ? 'requests_total' : 'load',
  job: `j${series % 4}`,
  instance: `i${series}`,
})

function samplesOf(series: number, fromS: number, toS: number): [number, number][] {
  const samples: [number, number][] = []
  for (let second = fromS; second < toS; second += SCRAPE_S) {
    const value = valueAt(series, second)
    if (value !== undefined) samples.push([(T0 + second) * 1000, value])
  }
  return samples
}

const enableFeature = ['promql-experimental-functions', 'promql-duration-expr', 'promql-delayed-name-removal']

/** Native histograms that grow, and begin anew now and then. */
function histogramsOf(series: number, fromS: number, toS: number): [number, Histogram][] {
  return samplesOf(series, fromS, toS).map(([time]) => {
    const i = Math.round(time / 1000 / SCRAPE_S) % 90
    const buckets = [i + series, 2 * i, 3 * i + 1]
    return [
      time,
      {
        ...{ isFloat: false, resetHint: 'unknown', schema: 1, zeroThreshold: 0.001, zeroCount: i, sum: i / 3 },
        count: i + buckets.reduce((a, b) => a + b, 0),
        positiveSpans: [{ offset: 0, length: 3 }],
        positiveBuckets: buckets,
        negativeSpans: [],
        negativeBuckets: [],
        customValues: [],
      },
    ]
  })
}

const all = Array.from({ length: 17 }, (_, series) => series)

const queries = [
  'load',
  'sum(load)',
  'sum by (job) (rate(requests_total[2m]))',
  'rate(load[1m])',
  'avg_over_time(load[100s]) - load offset 1m',
  'topk(2, load)',
  'load @ start() + on (instance) load @ end()',
  'load * range() + step()',
  'max_over_time(sum(load)[2m:15s])',
  'quantile(0.9, load) or absent(load{job="j9"})',
  'count_values("v", floor(load))',
  'absent(load{instance="i1"})',
  'time() - timestamp(requests_total)',
  'stddev by (job) (load) > bool 1',
  'label_replace(load, "x", "$1", "job", "j(.)")',
  'requests_total and on (job) load > 5',
  'histogram_quantile(0.5, load)',
  'deriv(load[90s])',
  'rate(load[step() * 2])',
  'latency',
  'histogram_quantile(0.9, sum(rate(latency[2m])))',
  'sum by (job) (latency) or load',
  'histogram_count(increase(latency[3m]))',
  'sum by (job) ({__name__=~"load|latency"})',
]

interface Ground {
  readonly hub: ReturnType<typeof memoryHub>
  readonly store: Store
  readonly ingester: StubIngester
  readonly owned: StubSeries[]
  /** What the owner warns of. */
  readonly warnings: string[]
  readonly ends: (() => Promise<void>)[]
}

/** Two and a half hours in blocks of half an hour, some of which overlap; the last ten minutes in an owner's memory. */
async function ground(): Promise<Ground> {
  const hub = memoryHub()
  const store = await openStore(hub)
  const owned: StubSeries[] = []
  const warnings: string[] = []
  const ingester = await stubIngester({ hub, id: 'a', data: { 0: owned }, warnings })
  const entries = []
  for (let k = 0; k < 5; k++) {
    const from = k * 1_800
    const to = from + 1_800 + (k === 2 ? 400 : 0)
    const end = Math.min(to, 8_400)
    const series: StoredSeries[] = all.map((s) => ({ labels: labelsOf(s), samples: samplesOf(s, from, end) }))
    for (const s of [1, 2, 3]) {
      series.push({ labels: { ...labelsOf(s), __name__: 'latency' }, samples: histogramsOf(s, from, end) })
    }
    entries.push(await store.upload(series, { segment: k + 1 }))
  }
  await store.commit(entries, { partition: 0, segment: 5 })
  for (const s of all) owned.push({ labels: labelsOf(s), chunks: [samplesOf(s, 8_400, 9_000)] })
  return { hub, store, ingester, owned, warnings, ends: [async () => store.blocks.close(), ingester.stop] }
}

const twoQueriers = (membership: Membership): Membership => ({
  ...membership,
  live: (role) => (role === 'querier' ? [membership.members()[0]!, membership.members()[0]!] : membership.live(role)),
})

async function querierOn(
  { hub, store, ends }: Ground,
  changes: Partial<QuerierConfig>,
  ring = fixedMembership([['a']]),
): Promise<Harness> {
  const querier = await startQuerier(hub, ring, { enableFeature, ...changes }, store.objects)
  ends.push(querier.stop)
  return querier
}

const partsFrom = (querier: Harness, from: string) =>
  metricOf(querier, 'carillon_querier_parts_total', `from="${from}"`)

/** What `stats=all` says of samples, without what was held at a time, which is less in parts. */
async function samplesPerStep(querier: Harness, asked: QueryParams) {
  const { data } = await querier.ask('range', { ...asked, stats: 'all' })
  const { peakSamples, ...samples } = (data as { stats: { samples: Record<string, unknown> } }).stats.samples
  return samples
}

const rangeOf = (query: string, startS: number, endS: number, step: string): QueryParams => ({
  query,
  start: String(T0 + startS),
  end: String(T0 + endS),
  step,
})

describe('one querier', () => {
  let on: Ground
  let whole: Harness
  let split: Harness
  beforeAll(async () => {
    // Each on a system of its own: queriers of one bus share questions.
    const other = await ground()
    on = await ground()
    on.ends.push(...other.ends)
    whole = await querierOn(other, { queryPartMs: 0 })
    split = await querierOn(on, { queryPartMs: PART_S * 1000 })
  })
  afterAll(async () => {
    for (const end of on.ends.reverse()) await end()
  })

  it.each(queries)('%s: cold, warm, half full and without a store', async (query) => {
    const asked = rangeOf(query, 100, 2.4 * HOUR_S, '30')
    const wanted = await whole.ask('range', asked)
    expect(wanted.status).toBe('success')
    expect(await split.ask('range', rangeOf(query, 2_200, 7_000, '30'))).toEqual(
      await whole.ask('range', rangeOf(query, 2_200, 7_000, '30')),
    )
    expect(await split.ask('range', asked)).toEqual(wanted) // half full
    expect(await split.ask('range', asked)).toEqual(wanted) // full
    const cachedBefore = await partsFrom(split, 'cache')
    expect(await split.ask('range', { ...asked, no_store: 'true' })).toEqual(wanted)
    expect(await partsFrom(split, 'cache')).toBe(cachedBefore)
  })

  it('any range and step', async () => {
    const times = fc.record({
      query: fc.constantFrom(...queries),
      startS: fc.integer({ min: -300, max: 5_000 }),
      lengthS: fc.integer({ min: 0, max: 9_000 }),
      stepMs: fc.constantFrom(1_000, 7_000, 15_000, 60_000, 61_500, 150_000, 200_000, 700_000),
    })
    await fc.assert(
      fc.asyncProperty(times, async ({ query, startS, lengthS, stepMs }) => {
        const stepS = Math.max(stepMs / 1000, Math.ceil(lengthS / 400))
        const asked = rangeOf(query, startS, startS + lengthS, String(stepS))
        const wanted = await whole.ask('range', asked)
        expect(await split.ask('range', asked)).toEqual(wanted)
        expect(await split.ask('range', asked)).toEqual(wanted)
        if (lengthS % 3 > 0) return
        const samples = await samplesPerStep(whole, asked)
        expect(await samplesPerStep(split, asked)).toEqual(samples)
        expect(await samplesPerStep(split, asked), 'of parts that were kept').toEqual(samples)
      }),
      { numRuns: 60, seed: 11 },
    )
    expect(await partsFrom(split, 'cache')).toBeGreaterThan(100)
  })

  it('LOG-21: parts that only blocks hold are kept; what owners hold, and what is asked with other times, is evaluated', async () => {
    const { ends, ...rest } = await ground()
    const fresh = await querierOn({ ...rest, ends: on.ends }, { queryPartMs: PART_S * 1000 })
    on.ends.push(...ends)
    const asked = rangeOf('sum(load)', 0, 8_900, '30')
    await fresh.ask('range', asked)
    const parts = await partsFrom(fresh, 'evaluation')
    expect(parts).toBe(7)
    await fresh.ask('range', { ...asked, query: 'sum  ( load )' }) // the same expression
    // The last one reaches into what the owner holds.
    expect(await partsFrom(fresh, 'cache')).toBe(parts - 1)
    const cached = await partsFrom(fresh, 'cache')
    await fresh.ask('range', { ...asked, step: '15' })
    expect(await partsFrom(fresh, 'cache')).toBe(cached)
  })

  it('LOG-21: late samples in an owner, a new block and a deletion show at once', async () => {
    const { ends, ...made } = await ground()
    on.ends.push(...ends)
    const fresh = await querierOn({ ...made, ends: on.ends }, { queryPartMs: PART_S * 1000 })
    const asked = rangeOf('sum(load)', 0, 8_900, '100')
    const at = async (second: number) => {
      const body = await fresh.ask('range', asked)
      const { result } = body.data as { result: { values: [number, string][] }[] }
      return Number(result[0]!.values.find(([time]) => time === T0 + second)?.[1])
    }
    await at(0)
    const before = await at(2_500)
    const late = (value: number): [number, number][] => [[(T0 + 2_490) * 1000, value]]
    made.owned.push({ labels: { __name__: 'load', job: 'late' }, chunks: [late(1_000)] })
    expect(await at(2_500)).toBeCloseTo(before + 1_000, 6)
    made.owned.pop()
    expect(await at(2_500)).toBe(before)
    const entry = await made.store.upload([{ labels: { __name__: 'load', job: 'late' }, samples: late(2_000) }], {
      segment: 6,
    })
    await made.store.commit([entry], { partition: 0, segment: 6 })
    await expect.poll(() => at(2_500)).toBeCloseTo(before + 2_000, 6)
    expect(await at(2_500)).toBeCloseTo(before + 2_000, 6)
    await made.store.change((manifest) => ({
      ...manifest,
      deletes: [deletionOf('late', { blocks: [entry.ulid] })],
    }))
    await expect.poll(() => at(2_500)).toBe(before)
  })

  it('QUERY-12, LOG-10: what owners warn of by now is told also where all parts were kept', async () => {
    const { ends, ...made } = await ground()
    on.ends.push(...ends)
    const fresh = await querierOn({ ...made, ends: on.ends }, { queryPartMs: PART_S * 1000 })
    const asked = rangeOf('sum(load)', 0, 7_000, '30')
    expect((await fresh.ask('range', asked)).warnings).toBeUndefined()
    const evaluated = await partsFrom(fresh, 'evaluation')
    made.warnings.push('segment 9 is set aside and in no block yet')
    expect((await fresh.ask('range', asked)).warnings).toEqual(made.warnings)
    expect(await partsFrom(fresh, 'evaluation'), 'all were kept').toBe(evaluated)
  })

  it('limits and refusals are those of the whole query', async () => {
    const asked = rangeOf('load', 0, 8_900, '30')
    const limited = { ...asked, limit: '2' }
    expect(await split.ask('range', limited)).toEqual(await whole.ask('range', limited))
    const wrong = { ...asked, query: 'load + on (job) load' }
    const [is, wanted] = await Promise.all([split.ask('range', wrong), whole.ask('range', wrong)])
    expect(wanted.status).toBe('error')
    expect(is).toMatchObject({ status: 'error', errorType: wanted.errorType! })
  })
})

describe('two queriers', () => {
  it('evaluate each other’s parts', async () => {
    const other = await ground()
    const on = await ground()
    const whole = await querierOn(other, { queryPartMs: 0 })
    const ring = twoQueriers(fixedMembership([['a']]))
    const both = [
      await querierOn(on, { queryPartMs: PART_S * 1000 }, ring),
      await querierOn(on, { queryPartMs: PART_S * 1000 }, ring),
    ]
    for (const query of queries) {
      const asked = rangeOf(query, 0, 8_900, '30')
      expect(await both[0]!.ask('range', asked)).toEqual(await whole.ask('range', asked))
    }
    const evaluated = await Promise.all(both.map((each) => partsFrom(each, 'evaluation')))
    expect(evaluated[0]! + evaluated[1]!).toBeGreaterThan(80)
    for (const end of [...on.ends, ...other.ends].reverse()) await end()
  })
})
