// What real senders send: bodies in the shapes of Fluent Bit, Telegraf, the Python SDK of OpenTelemetry and others, and a real vmagent, pushed
// into Carillon and into a real Prometheus beside it. Both hold the same series and answer the same.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Histogram } from '../../shared/model/histogram.ts'
import type { PlainSeries, PlainWrite } from '../../shared/wire/remote-write-encode.ts'
import { eventually, WAIT_MS } from '../waiting.ts'
import { ask, type Parameters, pushWrite } from './client.ts'
import { findNatsServer } from './nats-server.ts'
import { findPrometheus, hasHistogramSetting, type Prometheus, startPrometheus } from './prometheus-process.ts'
import { startShop } from './shop-target.ts'
import { type System, startSystem } from './system.ts'
import { findTelegraf, startTelegraf } from './telegraf.ts'
import { buildVmagent, findVmagent, startVmagent, VMAGENT_BUILD_MS_MAX } from './vmagent.ts'

const found = findPrometheus()
const nats = findNatsServer()
const vmagent = findVmagent()
const telegraf = findTelegraf()
const tooOld = 'reason' in found || hasHistogramSetting(found) ? undefined : 'needs Prometheus 3.8 or newer'
const takesNo2 = 'reason' in found || found.major >= 3 ? undefined : 'needs Prometheus 3, which takes remote write 2.0'
const missing = 'reason' in found ? found.reason : 'reason' in nats ? nats.reason : takesNo2
const mustRun = process.env['CARILLON_CI'] === '1' && takesNo2 === undefined
const withoutVmagent = 'reason' in vmagent ? vmagent.reason : undefined
const withoutTelegraf = 'reason' in telegraf ? telegraf.reason : undefined
if (tooOld !== undefined) console.warn(`skipped: two of the senders' tests: ${tooOld}`)
if (missing !== undefined && !mustRun) console.warn(`skipped: senders beside a real Prometheus: ${missing}`)
else {
  if (withoutVmagent !== undefined) console.warn(`skipped: a real vmagent beside a real Prometheus: ${withoutVmagent}`)
  if (withoutTelegraf !== undefined)
    console.warn(`skipped: a real Telegraf beside a real Prometheus: ${withoutTelegraf}`)
}

const SCRAPED_FOR_MS = 12_000

describe.skipIf(missing !== undefined && !mustRun)('senders', () => {
  const running: { stop(): Promise<void> }[] = []
  let system: System
  let prometheus: Prometheus
  const now = Date.now()

  beforeAll(async () => {
    if (missing !== undefined || 'reason' in found) throw new Error(missing)
    system = started(await startSystem())
    const args = ['--web.enable-remote-write-receiver']
    prometheus = started(await startPrometheus(found, { jobs: {}, scrapesItself: false, args }))
  })

  afterAll(async () => {
    for (const each of running.reverse()) await each.stop()
  })

  function started<T extends { stop(): Promise<void> }>(each: T): T {
    running.push(each)
    return each
  }

  /** The same body to both. */
  async function toBoth(write: PlainWrite, protocol: 1 | 2): Promise<readonly [carillon: number, prometheus: number]> {
    const pushed = await pushWrite(system.url, write, { protocol })
    const there = await pushWrite(prometheus.url, write, { protocol, path: '/api/v1/write' })
    return [pushed.status, there.status]
  }

  async function fromBoth(path: string, parameters: Parameters) {
    const here = await ask(system.url, path, parameters, { consistency: 'strong' })
    const there = await ask(prometheus.url, path, parameters)
    return [here.body.data.result ?? here.body.data, there.body.data.result ?? there.body.data] as const
  }

  async function expectSame(path: string, parameters: Parameters): Promise<unknown[]> {
    const [here, there] = await fromBoth(path, parameters)
    const order = (list: unknown[]) => list.map((each) => JSON.stringify(each, sortedKeys)).sort()
    expect(order(here)).toEqual(order(there))
    return there
  }

  const seriesOf = (name: string): Parameters => ({
    'match[]': `{__name__=~"${name}"}`,
    ...{ start: String(now / 1000 - 600), end: String(now / 1000 + 600) },
  })

  test.each([1, 2] as const)('labels in the orders in which senders have them (%i.0)', async (protocol) => {
    const orders: Readonly<Record<string, readonly string[]>> = {
      'Fluent Bit, name last': ['job', 'x', 'app', 'b', '__name__', `shape${protocol}_a`],
      'Telegraf, name first, tags as they come': ['__name__', `shape${protocol}_b`, 'host', 'h', 'cpu', '0', 'dc', 'e'],
      'OpenTelemetry Python, in the order of attributes': [
        'service',
        's',
        '__name__',
        `shape${protocol}_c`,
        'code',
        '1',
      ],
      'gnmic, a capital behind the name': ['__name__', `shape${protocol}_d`, 'DC', 'x', 'app', 'b'],
      'vmagent, further labels last': ['__name__', `shape${protocol}_e`, 'quantile', '0.5', 'instance', 'x'],
      'an empty value in between': ['__name__', `shape${protocol}_f`, 'zone', '', 'a', '1'],
    }
    const series = Object.values(orders).map((labels) => ({ labels, samples: [{ time: now, value: 1 }] }))
    expect(await toBoth({ series }, protocol)).toEqual([204, 204])
    expect(await expectSame('/api/v1/series', seriesOf(`shape${protocol}_.`))).toHaveLength(6)
  })

  test('one set of labels in two orders is one series, in one request and in the next', async () => {
    const at = (time: number, ...labels: string[]): PlainSeries => ({ labels, samples: [{ time, value: time % 7 }] })
    const first = at(now, '__name__', 'two_orders', 'b', '1', 'a', '2')
    const second = at(now + 1000, 'a', '2', '__name__', 'two_orders', 'b', '1')
    expect(await toBoth({ series: [first, second] }, 1)).toEqual([204, 204])
    expect(await toBoth({ series: [at(now + 2000, '__name__', 'two_orders', 'a', '2', 'b', '1')] }, 2)).toEqual([
      204, 204,
    ])
    const [{ values }] = (await expectSame('/api/v1/query', {
      ...{ query: 'two_orders[1m]', time: String(now / 1000 + 3) },
    })) as [{ values: unknown[] }]
    expect(values).toHaveLength(3)
  })

  const histogram: Histogram = {
    ...{ isFloat: false, resetHint: 'unknown', schema: 0, zeroThreshold: 0, zeroCount: 0, count: 0, sum: 1 },
    ...{ positiveSpans: [], positiveBuckets: [], negativeSpans: [], negativeBuckets: [], customValues: [] },
  }

  test.skipIf(tooOld !== undefined)(
    'native histograms of all schemas up to 52 are reduced to the same buckets',
    async () => {
      let seed = 7
      const random = (below: number) => {
        seed = (seed * 48_271) % 2_147_483_647
        return seed % below
      }
      const sideOf = (schema: number) => {
        const spans = Array.from({ length: 1 + random(4) }, (_, i) => {
          const gap = random(2) === 0 ? random(5) : random(2 ** Math.min(20, schema - 4))
          return { offset: i === 0 ? gap - 2 ** Math.min(20, schema - 4) : gap, length: random(12) }
        })
        const buckets = spans.flatMap(({ length }) => Array.from({ length }, () => random(50)))
        return { spans, buckets, sum: buckets.reduce((sum, count) => sum + count, 0) }
      }
      const series = Array.from({ length: 44 * 4 }, (_, i): PlainSeries => {
        const schema = 9 + (i % 44)
        const [positive, negative] = [sideOf(schema), sideOf(schema)]
        const isFloat = i % 2 === 1
        const scaled = (counts: number[]) => (isFloat ? counts.map((count) => count / 7) : counts)
        const one: Histogram = {
          ...{
            ...histogram,
            isFloat,
            schema,
            count: positive.sum + negative.sum + 2,
            zeroCount: 2,
            zeroThreshold: 1e-9,
          },
          ...{ positiveSpans: positive.spans, positiveBuckets: scaled(positive.buckets) },
          ...{ negativeSpans: negative.spans, negativeBuckets: scaled(negative.buckets) },
        }
        return { labels: ['__name__', 'fine', 'at', String(i)], histograms: [{ time: now, histogram: one }] }
      })
      const farOut = [-(2 ** 31) + 1, -5, 2 ** 31 - 9].map((offset, i): PlainSeries => {
        const one = {
          ...histogram,
          schema: 52,
          count: 6,
          positiveSpans: [{ offset, length: 3 }],
          positiveBuckets: [1, 2, 3],
        }
        return { labels: ['__name__', 'fine', 'at', `far ${i}`], histograms: [{ time: now, histogram: one }] }
      })
      for (const protocol of [1, 2] as const) {
        expect(await toBoth({ series: [...series, ...farOut] }, protocol)).toEqual([204, 204])
        const asked = { query: 'fine', time: String(now / 1000) }
        expect(await expectSame('/api/v1/query', asked)).toHaveLength(series.length + farOut.length)
      }
    },
  )

  test.each<[string, readonly [count: number, hint: Histogram['resetHint']][]]>([
    [
      'of another replica',
      [
        [100, 'unknown'],
        [3, 'unknown'],
        [4, 'reset'],
      ],
    ],
    [
      'between two that grow',
      [
        [100, 'unknown'],
        [110, 'reset'],
        [120, 'unknown'],
      ],
    ],
    [
      'that is true',
      [
        [100, 'unknown'],
        [3, 'reset'],
        [5, 'no-reset'],
      ],
    ],
    [
      'that says none where there is one',
      [
        [100, 'unknown'],
        [3, 'no-reset'],
        [5, 'no-reset'],
      ],
    ],
    [
      'at the first sample',
      [
        [5, 'reset'],
        [7, 'unknown'],
        [6, 'unknown'],
      ],
    ],
  ])('a reset hint %s: counts decide', async (name, samples) => {
    const labels = ['__name__', 'hinted', 'case', name]
    const histograms = samples.map(([count, resetHint], i) => ({
      time: now - 60_000 + i * 30_000,
      histogram: {
        ...histogram,
        resetHint,
        count,
        sum: count,
        positiveSpans: [{ offset: 0, length: 1 }],
        positiveBuckets: [count],
      },
    }))
    expect(await toBoth({ series: [{ labels, histograms }] }, 1)).toEqual([204, 204])
    for (const query of ['resets(X[2m])', 'histogram_count(increase(X[2m]))', 'rate(X[2m])', 'X', 'X[2m]'])
      await expectSame('/api/v1/query', {
        ...{ query: query.replace('X', `hinted{case="${name}"}`), time: String(now / 1000 + 1) },
      })
  })

  test('a 2.0 series with both kinds of samples is stored, as 1.0 stores it', async () => {
    for (const protocol of [1, 2] as const) {
      const labels = ['__name__', `both_kinds_${protocol}`]
      const both = {
        ...{ labels, samples: [{ time: now, value: 1 }] },
        histograms: [{ time: now + 1000, histogram: { ...histogram, count: 2, zeroCount: 2 } }],
      }
      expect(await toBoth({ series: [both] }, protocol)).toEqual([204, 204])
      const [one] = (await expectSame('/api/v1/query', {
        ...{ query: `both_kinds_${protocol}[1m]`, time: String(now / 1000 + 2) },
      })) as [{ values: unknown[]; histograms: unknown[] }]
      expect([one.values.length, one.histograms.length]).toEqual([1, 1])
    }
  })

  test.skipIf(tooOld !== undefined)('a 2.0 series without samples costs itself only', async () => {
    const good = { labels: ['__name__', 'beside_empty'], samples: [{ time: now, value: 1 }] }
    expect(await toBoth({ series: [{ labels: ['__name__', 'empty'] }, good] }, 2)).toEqual([400, 400])
    expect(await expectSame('/api/v1/series', seriesOf('beside_empty|empty'))).toHaveLength(1)
  })

  test.each([1, 2] as const)('an exemplar with long labels: the request is taken (%i.0)', async (protocol) => {
    const exemplars = [{ labels: ['trace_id', 'x'.repeat(200)], time: now, value: 1 }]
    const series = [{ labels: ['__name__', 'long_exemplar'], samples: [{ time: now + protocol, value: 1 }], exemplars }]
    expect(await toBoth({ series }, protocol)).toEqual([204, 204])
  })

  test('metadata of 2.0 stand under the name of the family, and all texts that are told of one are listed', async () => {
    const metadata = { type: 'histogram', help: 'Latency.', unit: '' } as const
    const series = ['lat_bucket', 'lat_count', 'lat_sum'].map((name) => ({
      labels: ['__name__', name, ...(name === 'lat_bucket' ? ['le', '+Inf'] : [])],
      ...{ samples: [{ time: now, value: 1 }], metadata },
    }))
    const options = { tenant: 'metadata' }
    expect((await pushWrite(system.url, { series }, { ...options, protocol: 2 })).status).toBe(204)
    for (const [type, help] of [
      ['counter', 'A'],
      ['gauge', 'B'],
      ['counter', 'A'],
    ] as const)
      expect(
        (await pushWrite(system.url, { series: [], metadata: [{ name: 'two', type, help, unit: '' }] }, options))
          .status,
      ).toBe(204)
    const { body } = await ask(system.url, '/api/v1/metadata', {}, { ...options, consistency: 'strong' })
    expect(body.data).toEqual({
      lat: [{ type: 'histogram', help: 'Latency.', unit: '' }],
      two: [
        { type: 'gauge', help: 'B', unit: '' },
        { type: 'counter', help: 'A', unit: '' },
      ],
    })
  })

  test.skipIf(withoutVmagent !== undefined)(
    'a real vmagent: every series that Prometheus takes from it, and no other',
    async () => {
      if ('reason' in vmagent) throw new Error(vmagent.reason)
      if (!vmagent.isBuilt) buildVmagent(vmagent.path)
      const shops = [started(await startShop()), started(await startShop())]
      const agent = started(
        await startVmagent(vmagent.path, {
          jobs: { shop: shops.map(({ address }) => address), carillon: [new URL(system.url).host] },
          externalLabels: { Region: 'eu', cluster: 'a', zz: 'last' },
          remoteWriteUrls: [`${system.url}/api/v1/write`, `${prometheus.url}/api/v1/write`],
        }),
      )
      const seen = await expectSameSeries('{zz="last"}', agent.said)
      expect(seen.length).toBeGreaterThan(500)
      expect(seen.some((labels) => 'quantile' in labels)).toBe(true)
      expect(agent.said()).not.toMatch(/unexpected status code|dropping/)
      await agent.stop()
    },
    VMAGENT_BUILD_MS_MAX + 120_000,
  )

  test.skipIf(withoutTelegraf !== undefined)(
    'a real Telegraf: every series that Prometheus takes from it, and no other',
    async () => {
      if ('reason' in telegraf) throw new Error(telegraf.reason)
      const agent = started(
        await startTelegraf(telegraf.path, {
          pages: [`${system.url}/metrics`, `${prometheus.url}/metrics`],
          tags: { Region: 'eu', cluster: 'a', zz: 'Telegraf' },
          remoteWriteUrls: [`${system.url}/api/v1/write`, `${prometheus.url}/api/v1/write`],
        }),
      )
      const seen = await expectSameSeries('{zz="Telegraf"}', agent.said)
      expect(seen.length).toBeGreaterThan(500)
      expect(seen.some((labels) => labels['__name__'] === 'cpu_usage_idle')).toBe(true)
      expect(seen.some((labels) => 'quantile' in labels)).toBe(true)
      expect(agent.said()).not.toMatch(/ E! |dropp/)
      await agent.stop()
    },
    120_000,
  )

  /** What an agent that has just been started pushes to both. */
  async function expectSameSeries(selector: string, said: () => string): Promise<Record<string, string>[]> {
    const agents = { ...seriesOf('.+'), 'match[]': selector }
    await new Promise((resolve) => setTimeout(resolve, SCRAPED_FOR_MS))
    const seen = await eventually('both have the same series', WAIT_MS, async () => {
      const [here, there] = await fromBoth('/api/v1/series', agents)
      return here.length > 0 && here.length === there.length ? there : undefined
    }).catch((cause) => {
      throw new Error(`${cause}: ${said()}`)
    })
    await expectSame('/api/v1/series', agents)
    return seen
  }
})

function sortedKeys(_: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
}
