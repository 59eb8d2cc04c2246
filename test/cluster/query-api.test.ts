// The rest of the query API beside a real Prometheus that was given the same samples: what it has as well is answered alike, and one that
// reads from us by remote read answers what we answer.
import { zstdDecompressSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { STALE } from '../../shared/model/sample.ts'
import type { PlainSeries, PlainWrite } from '../../shared/wire/remote-write-encode.ts'
import { compress, createDecompressor } from '../../shared/wire/snappy.ts'
import { eventually, WAIT_MS } from '../waiting.ts'
import { ask, pushUntilTaken } from './client.ts'
import { findNatsServer } from './nats-server.ts'
import { findPrometheus, type Prometheus, startPrometheus } from './prometheus-process.ts'
import { readRequest } from './read-request.ts'
import { type System, startSystem } from './system.ts'

const found = findPrometheus()
const nats = findNatsServer()
const missing = 'reason' in found ? found.reason : 'reason' in nats ? nats.reason : undefined
const mustRun = process.env['CARILLON_CI'] === '1'
const isNew = 'reason' in found || found.major >= 3
/** With all that is compared to the letter. A build that does not know its version is one. */
const isNewest = 'reason' in found || /^(3|3\.(8|9|[1-9]\d).*|[4-9].*|[1-9]\d.*)$/.test(found.version)

const SAMPLES = 40
const endMs = Math.floor(Date.now() / 1000) * 1000 - 1000
const startMs = endMs - (SAMPLES - 1) * 1000

if (missing !== undefined && !mustRun) console.warn(`skipped: the query API beside a real Prometheus: ${missing}`)

describe.skipIf(missing !== undefined && !mustRun)('the query API', () => {
  const running: { stop(): Promise<void> }[] = []
  let system: System
  let prometheus: Prometheus
  let reader: Prometheus

  beforeAll(async () => {
    if (missing !== undefined || 'reason' in found) throw new Error(missing)
    const args = ['--web.enable-remote-write-receiver']
    const receiver = { jobs: {}, args, features: ['promql-per-step-stats'] }
    ;[system, prometheus] = await Promise.all([
      startSystem({ args: ['--cors-origin=http://elsewhere'] }),
      startPrometheus(found, receiver),
    ])
    running.push(system, prometheus)
    reader = await startPrometheus(found, { jobs: {}, remoteReadUrl: `${system.url}/api/v1/read` })
    running.push(reader)
    for (const url of [system.url, prometheus.url]) {
      expect((await pushUntilTaken(url, shop(), { path: '/api/v1/write' })).status).toBe(204)
    }
    await eventually('what was pushed is read', WAIT_MS, async () => {
      const { body } = await ask(system.url, '/api/v1/query', { query: 'count({job="shop"})', time: at(endMs) })
      return body.data.result[0]?.value[1] === String(names().length) ? true : undefined
    })
  })

  afterAll(async () => {
    for (const each of running.reverse()) await each.stop()
  })

  const both = async (path: string, init?: RequestInit) => {
    const answers = await Promise.all([system.url, prometheus.url].map((url) => fetch(`${url}${path}`, init)))
    return Promise.all(
      answers.map(async (answer) => {
        const bytes = await answer.arrayBuffer()
        return { status: answer.status, text: Buffer.from(bytes).toString(), bytes, answer }
      }),
    )
  }

  it.each(expressions)('parse_query of %s is as there', async (query) => {
    if (!isNewest) return
    const [ours, theirs] = await both(`/api/v1/parse_query?${new URLSearchParams({ query })}`)
    expect([ours!.status, JSON.parse(ours!.text)]).toEqual([theirs!.status, JSON.parse(theirs!.text)])
  })

  it.each(federated())('federate %s is as there', async (search, accept) => {
    const [ours, theirs] = await both(`/federate?${search}`, { headers: accept === '' ? {} : { Accept: accept } })
    if (isNewest)
      expect(Buffer.from(ours!.bytes).toString('latin1')).toBe(Buffer.from(theirs!.bytes).toString('latin1'))
    if (isNewest) expect(ours!.answer.headers.get('content-type')).toBe(theirs!.answer.headers.get('content-type'))
    expect([ours!.status, ours!.text.length > 0]).toEqual([theirs!.status, theirs!.text.length > 0])
  })

  it('remote read answers the same bytes, as samples and as chunks', async () => {
    const range = { startMs: startMs + 500, endMs: endMs - 500 }
    for (const name of ['shop_requests_total', 'shop_latency', 'shop_gone', 'shop_none']) {
      const matchers = [
        { name: '__name__', operator: '=', value: name },
        { name: 'handler', operator: '!~', value: '/[x-z]' },
      ] as const
      const everyFloat = [{ name: '__name__', operator: '=', value: 'shop_ratio' }] as const
      const queries = [
        { matchers, ...range },
        { matchers: everyFloat, startMs: startMs + 7_000, endMs: endMs - 7_000 },
      ]
      const asked = async (shapes: readonly number[]) => {
        const body = Buffer.from(compress(readRequest(queries, shapes)))
        const answers = await Promise.all(
          [system.url, prometheus.url].map((url) => fetch(`${url}/api/v1/read`, { method: 'POST', body })),
        )
        expect(answers.map(({ status }) => status)).toEqual([200, 200])
        expect(answers[0]!.headers.get('content-type')).toBe(answers[1]!.headers.get('content-type'))
        expect(answers[0]!.headers.get('content-encoding')).toBe(answers[1]!.headers.get('content-encoding'))
        return Promise.all(answers.map(async (answer) => Buffer.from(await answer.arrayBuffer())))
      }
      const [ours, theirs] = (await asked([])).map((body) => plain(body))
      if (name !== 'shop_latency') expect(ours!.toString('hex')).toBe(theirs!.toString('hex')) // there: hints of resets
      const [ourFrames, theirFrames] = await asked([1, 0])
      expect(ourFrames!.toString('hex')).toBe(theirFrames!.toString('hex'))
    }
  })

  it('a Prometheus that reads from us answers what we answer', async () => {
    const ofFloats = [
      '{job="shop",__name__!~"shop_[ls].*"}',
      'sum by (handler) (rate(shop_requests_total[10s]))',
      'shop_gone',
      'count(shop_requests_total)',
    ]
    const ofHistograms = ['{job="shop"}', 'shop_latency', 'histogram_quantile(0.9, rate(shop_latency[10s]))']
    for (const query of isNew ? [...ofFloats, ...ofHistograms] : ofFloats) {
      const times = { start: at(startMs), end: at(endMs), step: '3' }
      const [ours, read] = await Promise.all(
        [system.url, reader.url].map((url) => ask(url, '/api/v1/query_range', { query, ...times })),
      )
      expect(read!.body.data.result).toEqual(ours!.body.data.result)
      expect(ours!.body.data.result.length).toBeGreaterThan(0)
    }
  })

  it('a broken remote read is refused', async () => {
    const read = (body: Buffer) => both('/api/v1/read', { method: 'POST', body })
    for (const body of [Buffer.from('junk'), Buffer.from(compress(readRequest([], [7])))]) {
      const [ours, theirs] = await read(body)
      expect([ours!.status, theirs!.status]).toEqual([400, 400])
    }
  })

  it('status/tsdb counts what there is', async () => {
    if (!isNew) return
    const [ours, theirs] = (await both('/api/v1/status/tsdb?limit=10000')).map(({ text }) => JSON.parse(text).data)
    const inOrder = (rows: readonly { name: string; value: number }[]) =>
      rows.map(({ name, value }) => `${name} ${value}`).sort()
    const isCompared = (list: string) => list !== 'headStats' && (isNewest || list !== 'memoryInBytesByLabelName')
    for (const list of Object.keys(theirs).filter(isCompared)) {
      expect(inOrder(ours[list]), list).toEqual(inOrder(theirs[list]))
    }
    expect({ ...ours.headStats, chunkCount: 0 }).toEqual({ ...theirs.headStats, chunkCount: 0 })
    for (const limit of ['0', 'x', ...(isNewest ? ['10001'] : [])]) {
      const [our, their] = await both(`/api/v1/status/tsdb?limit=${limit}`)
      expect([our!.status, our!.text]).toEqual([their!.status, their!.text])
    }
  })

  it('status and features have their shapes', async () => {
    for (const path of ['runtimeinfo', 'flags', 'config']) {
      const [ours, theirs] = (await both(`/api/v1/status/${path}`)).map(({ text }) => JSON.parse(text).data)
      expect(Object.values(ours as object).map((value) => typeof value)).toContain('string')
      if (path !== 'flags' && isNew) expect(Object.keys(ours as object)).toEqual(Object.keys(theirs as object))
    }
    const [ours, theirs] = await both('/api/v1/features')
    expect(ours!.status).toBe(200)
    if (theirs!.status !== 200) return // not before 3.8
    const dataOf = ({ text }: { text: string }) => JSON.parse(text).data as Record<string, Record<string, boolean>>
    for (const list of ['promql', 'promql_operators', 'promql_functions']) {
      const [our, their] = [dataOf(ours!)[list]!, dataOf(theirs!)[list]!]
      const known = Object.keys(our).filter((name) => name in their)
      expect(known.length).toBeGreaterThan(10)
      for (const name of known) expect(our[name], name).toBe(their[name])
    }
  })

  it('cardinality is counted as Mimir tells it', async () => {
    const get = async (path: string) =>
      (await (await fetch(`${system.url}/prometheus/api/v1/cardinality/${path}`)).json()) as Record<string, unknown>
    const names = await get(`label_names?selector=${encodeURIComponent('{__name__="shop_requests_total"}')}&limit=2`)
    expect(names).toEqual({
      label_values_count_total: 5,
      label_names_count: 3,
      cardinality: [
        { label_name: 'handler', label_values_count: 3 },
        { label_name: '__name__', label_values_count: 1 },
      ],
    })
    const query = 'label_names[]=handler&label_names[]=nothing&limit=1&count_method=active'
    const values = await get(`label_values?${query}&selector=shop_requests_total`)
    expect(values).toEqual({
      series_count_total: 3,
      labels: [
        {
          label_name: 'handler',
          label_values_count: 3,
          series_count: 3,
          cardinality: [{ label_value: '/cart', series_count: 1 }],
        },
        { label_name: 'nothing', label_values_count: 0, series_count: 0, cardinality: [] },
      ],
    })
    expect((await get('active_series?selector=shop_gone'))['data']).toEqual([{ __name__: 'shop_gone', job: 'shop' }])
    const refused = await fetch(`${system.url}/api/v1/cardinality/label_values`)
    expect([refused.status, await refused.text()]).toEqual([400, "'label_names[]' param is required\n"])
  })

  it('answers are compressed with zstd where that is taken, and kept by nobody', async () => {
    const url = `${system.url}/api/v1/query_range?query={job="shop"}&start=${at(startMs)}&end=${at(endMs)}&step=1`
    const whole = await (await fetch(url, { headers: { 'Accept-Encoding': 'identity' } })).text()
    const answer = await fetch(url, { headers: { 'Accept-Encoding': 'gzip;q=0, zstd' } })
    expect(answer.headers.get('content-encoding')).toBe('zstd')
    expect(answer.headers.get('cache-control')).toBe('no-store')
    const bytes = Buffer.from(await answer.arrayBuffer())
    expect(bytes[0] === 0x28 ? zstdDecompressSync(bytes).toString() : bytes.toString()).toBe(whole)
  })

  it.each(parameters)('query with %s is answered as there', async (more) => {
    const query = 'query=shop_requests_total'
    const [ours, theirs] = await both(`/api/v1/query?${query}&time=${at(endMs + 200_000)}&${more}`)
    const [range, theirRange] = await both(
      `/api/v1/query_range?${query}&start=${at(endMs)}&end=${at(endMs + 9000)}&step=3&${more}`,
    )
    const bodyOf = ({ text }: { text: string }) => {
      const { data, ...rest } = JSON.parse(text)
      const { stats, ...result } = data ?? {}
      if (stats === undefined) return { ...rest, result }
      const samples = isNewest ? { ...stats.samples, peakSamples: 0 } : {}
      return { ...rest, result, stats: { names: Object.keys(stats), timings: Object.keys(stats.timings), samples } }
    }
    if (!isNew || (!isNewest && ours!.status !== 200)) return // in other words, or not there
    expect([ours!.status, bodyOf(ours!)]).toEqual([theirs!.status, bodyOf(theirs!)])
    expect([range!.status, bodyOf(range!)]).toEqual([theirRange!.status, bodyOf(theirRange!)])
  })

  it('query_exemplars without a selector has nothing to say', async () => {
    const answers = await both('/api/v1/query_exemplars?query=1')
    expect(answers.map(({ status, text }) => [status, text])).toEqual([
      [204, ''],
      [204, ''],
    ])
  })

  it('a page of an origin that is named may ask, as any may ask Prometheus', async () => {
    const headers = { Origin: 'http://elsewhere', 'Access-Control-Request-Method': 'POST' }
    const [ours, theirs] = await both('/api/v1/query', { method: 'OPTIONS', headers })
    expect([ours!.status, theirs!.status]).toEqual([204, 204])
    for (const name of ['methods', 'expose-headers']) {
      const header = `access-control-${name === 'methods' ? 'allow-methods' : name}`
      expect(ours!.answer.headers.get(header)).toBe(theirs!.answer.headers.get(header))
    }
    expect(ours!.answer.headers.get('access-control-allow-origin')).toBe('http://elsewhere')
    const [stranger] = await both('/api/v1/query', {
      method: 'OPTIONS',
      headers: { ...headers, Origin: 'http://evil' },
    })
    expect(stranger!.answer.headers.get('access-control-allow-origin')).toBeNull()
  })
})

const at = (ms: number): string => String(ms / 1000)

const parameters = [
  'limit=2',
  'limit=0',
  'limit=-1',
  'limit=x',
  'lookback_delta=10s',
  'lookback_delta=300',
  'lookback_delta=1e-9',
  'lookback_delta=x',
  'timeout=5s',
  'timeout=x',
  'stats=all',
  'stats=true',
]

const expressions = [
  'up',
  '',
  'up{',
  '{__name__=~"a.*",b!="c"} offset 5m',
  'sum by (a, b) (rate(x[5m])) / on (a) group_left (c) y > bool 0.5',
  'topk(3, -x ^ 2) or vector(1) unless count_values without (i) ("v", z)',
  'max_over_time(x[1h:30s] offset -1m @ end())',
  'histogram_quantile(0.9, rate({"utf 8","l.1"="v"}[5m] @ 1234.567))',
  '1e1000 + 0x1f - Inf * NaN % 1_000',
  'absent("a" == "b")',
  "label_replace(up, 'a', '$1', \"b\", `c\\d`)",
  '((x))',
  'x[5m:]',
  'x[1h + 30m]',
  'foo{bar=~"("}',
  'rate(x)',
]

function federated(): readonly (readonly [string, string])[] {
  const accept = 'application/openmetrics-text;q=0.9,text/plain;version=0.0.4;q=0.5;escaping=allow-utf-8'
  const search = (...selectors: string[]) => new URLSearchParams(selectors.map((each) => ['match[]', each])).toString()
  const values = 'text/plain;version=0.0.4;escaping=values'
  const protobuf = 'application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited'
  return [
    [search('{job="shop"}'), ''],
    [search('{job="shop"}'), accept],
    [search('{job="shop"}'), values],
    [search('{job="shop"}'), protobuf],
    [search('{job="shop"}'), `text/plain;version=0.0.4;q=0.9,${protobuf};q=0.3`],
    [search('shop_requests_total{handler!="/pay"}', '{__name__=~"shop_r.*"}', 'nothing'), ''],
    [search('up{'), ''],
    [search('{a=~".*"}'), ''],
    ['', ''],
  ]
}

function names(): readonly string[] {
  return [...shop().series].filter(({ labels }) => !labels.includes('shop_gone')).map(({ labels }) => labels.join())
}

/** Ends of all series lie at `endMs`; one has gone stale by then. */
function shop(): PlainWrite {
  const series = (name: string, labels: readonly string[], valueAt: (i: number) => number): PlainSeries => ({
    labels: ['__name__', name, ...labels],
    samples: Array.from({ length: SAMPLES }, (_, i) => ({ time: startMs + i * 1000, value: valueAt(i) })),
  })
  const handlers = ['/cart', '/pay', '/search']
  const gone = series('shop_gone', ['job', 'shop'], (i) => i)
  const [last, ...before] = [...gone.samples!].reverse()
  return {
    series: [
      ...handlers.map((handler, i) =>
        series('shop_requests_total', ['handler', handler, 'job', 'shop'], (k) => k * (i + 2)),
      ),
      { ...gone, samples: [...before.reverse(), { time: last!.time, value: STALE }] },
      series('shop_ratio', ['instance', 'a"b\\c\nd', 'job', 'shop'], (i) => i / 7 - 3),
      series(
        'shop_rare',
        ['instance', 'i', 'job', 'shop'],
        (i) => [Number.NaN, 1e21, 1234567, -0.00001, Infinity][i % 5]!,
      ),
      series('shop_rest', ['job', 'shop', 'zone', ''.padEnd(3, 'z')], () => -0),
      ...(isNew ? [series('shop.dotted name', ['job', 'shop', 'lä.bel', 'ü'], (i) => i)] : []),
      {
        labels: ['__name__', 'shop_latency', 'job', 'shop'],
        histograms: Array.from({ length: SAMPLES }, (_, i) => ({
          time: startMs + i * 1000,
          histogram: {
            ...{
              isFloat: false,
              resetHint: 'unknown',
              schema: 1,
              zeroThreshold: 0.001,
              zeroCount: i,
              customValues: [],
            },
            ...{ count: 6 * i, sum: 1.5 * i, negativeSpans: [], negativeBuckets: [] },
            ...{ positiveSpans: [{ offset: -1, length: 2 }], positiveBuckets: [2 * i, 3 * i] },
          },
        })),
      },
      ...(isNew ? [customBuckets()] : []),
    ],
  }
}

function customBuckets(): PlainSeries {
  const histograms = Array.from({ length: SAMPLES }, (_, i) => ({
    time: startMs + i * 1000,
    histogram: {
      ...({ isFloat: false, resetHint: 'unknown', schema: -53, zeroThreshold: 0, zeroCount: 0 } as const),
      ...{ customValues: [0.1, 1, 2.5], count: 6 * i, sum: 2.5 * i, negativeSpans: [], negativeBuckets: [] },
      ...{
        positiveSpans: [
          { offset: 0, length: 1 },
          { offset: 1, length: 2 },
        ],
        positiveBuckets: [i, 2 * i, 3 * i],
      },
    },
  }))
  return { labels: ['__name__', 'shop_sizes', 'job', 'shop'], histograms }
}

function plain(body: Buffer): Buffer {
  return Buffer.from(createDecompressor().decompress(body, 1 << 24))
}
