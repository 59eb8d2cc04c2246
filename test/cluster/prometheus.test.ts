// A real Prometheus scrapes, remote-writes to us, and is asked the same as we are: the answers are equal, value bits included.
import { execFileSync } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually, WAIT_MS } from '../waiting.ts'
import { ask, type Parameters } from './client.ts'
import { findNatsServer } from './nats-server.ts'
import { findPrometheus, type Prometheus, startPrometheus } from './prometheus-process.ts'
import { cases } from './prometheus-queries.ts'
import { type ShopTarget, startShop } from './shop-target.ts'
import { type System, startSystem } from './system.ts'

const LEAVER_LIVES_MS = 16_000
const SCRAPING_MS = 40_000
const ARRIVAL_MS_MAX = 20_000

const found = findPrometheus()
const nats = findNatsServer()
const missing = 'reason' in found ? found.reason : 'reason' in nats ? nats.reason : undefined
/** Sums without compensation for what rounding loses. */
const isOld = !('reason' in found) && found.major < 3
const mustRun = process.env['CARILLON_CI'] === '1'

if (missing !== undefined && !mustRun) console.warn(`skipped: a real Prometheus writes and is compared: ${missing}`)

describe.skipIf(missing !== undefined && !mustRun)('a real Prometheus', () => {
  const running: { stop(): Promise<void> }[] = []
  let system: System
  let prometheus: Prometheus
  /** Between whole seconds, where no sample lies; seconds. */
  let startS = 0
  let endS = 0

  beforeAll(async () => {
    if (missing !== undefined || 'reason' in found) throw new Error(missing)
    system = started(await startSystem())
    const stays = started(await startShop())
    const leaver: ShopTarget = started(await startShop())
    prometheus = started(
      await startPrometheus(found, {
        remoteWriteUrl: `${system.url}/api/v1/write`,
        jobs: { shop: [stays.address], leaver: [leaver.address], carillon: [new URL(system.url).host] },
      }),
    )
    const beginS = Math.ceil(Date.now() / 1000) + 3
    await sleep(LEAVER_LIVES_MS)
    await leaver.stop()
    await sleep(SCRAPING_MS - LEAVER_LIVES_MS)
    const fraction = await freeFraction(beginS)
    startS = beginS + 17 + fraction
    endS = Math.floor(Date.now() / 1000) - 2 + fraction
    await allArrived()
  })

  afterAll(async () => {
    for (const each of running.reverse()) await each.stop()
  })

  function started<T extends { stop(): Promise<void> }>(each: T): T {
    running.push(each)
    return each
  }

  /** A part of a second, with room on both sides, at which no target was scraped. */
  async function freeFraction(beginS: number): Promise<number> {
    const { body } = await ask(prometheus.url, '/api/v1/query', { query: 'up[60s]', time: String(beginS + 60) })
    const taken: number[] = body.data.result.flatMap((series: { values: [number, string][] }) =>
      series.values.map(([time]) => Math.round((time % 1) * 1000)),
    )
    const isFree = (ms: number) => taken.every((other) => Math.abs(other - ms) > 3)
    const ms = Array.from({ length: 990 }, (_, i) => i + 5).find(isFree)
    if (ms === undefined) throw new Error('samples lie at every millisecond of a second')
    return ms / 1000
  }

  /** Every sample that Prometheus has up to `endS` is here. */
  async function allArrived(): Promise<void> {
    const wanted = await sampleCount(prometheus.url)
    expect(wanted).toBeGreaterThan(10_000)
    await eventually('all samples have arrived', ARRIVAL_MS_MAX, async () => {
      const came = await sampleCount(system.url)
      if (came !== wanted) throw new Error(`${came} of ${wanted} samples are here`)
      return true
    })
  }

  async function sampleCount(url: string): Promise<number> {
    const parameters = { query: '{job=~".+"}[30s]', time: endS.toFixed(3) }
    const { body } = await ask(url, '/api/v1/query', parameters, { consistency: 'strong' })
    return body.data.result.reduce(
      (sum: number, series: { values?: object[]; histograms?: object[] }) =>
        sum + (series.values?.length ?? 0) + (series.histograms?.length ?? 0),
      0,
    )
  }

  const both = (path: string, parameters: Parameters) =>
    Promise.all([prometheus.url, system.url].map((url) => ask(url, path, parameters)))

  const at = () => (startS + 4).toFixed(3)

  test.each(cases('0').map((each, index) => [each.query, index] as const))('%s', async (_, index) => {
    const { query, isEmpty = false, roundsAnew = false, isOrdered = false } = cases(at())[index]!
    const same = isOrdered || (roundsAnew && isOld) ? nearly : exactly
    for (const time of [(startS + 1).toFixed(3), endS.toFixed(3)]) {
      const [theirs, ours] = await both('/api/v1/query', { query, time })
      expect(same(ours!.body.data)).toEqual(same(theirs!.body.data))
      expect(isNothing(theirs!.body.data)).toBe(isEmpty)
    }
    const range = { query, start: startS.toFixed(3), end: endS.toFixed(3), step: '3' }
    const [theirs, ours] = await both('/api/v1/query_range', range)
    expect(same(ours!.body.data)).toEqual(same(theirs!.body.data))
    expect(isNothing(theirs!.body.data)).toBe(isEmpty)
  })

  test('a target that went away is stale at once, and its past stays', async () => {
    for (const query of [
      'shop_build_info{job="leaver"}',
      'up{job="leaver"}',
      'count(shop_temperature_celsius) by (job)',
    ]) {
      const [theirs, ours] = await both('/api/v1/query_range', {
        query,
        start: (startS - 12).toFixed(3),
        end: endS.toFixed(3),
        step: '1',
      })
      expect(theirs!.body.data.result.length).toBeGreaterThan(0)
      expect(exactly(ours!.body.data)).toEqual(exactly(theirs!.body.data))
    }
    const [theirs, ours] = await both('/api/v1/query', {
      query: 'shop_build_info{job="leaver"}',
      time: endS.toFixed(3),
    })
    expect(theirs!.body.data.result).toEqual([])
    expect(ours!.body.data.result).toEqual([])
  })

  test('raw samples are the same, times and values', async () => {
    const query = '{job=~"shop|leaver|prometheus|carillon"}[25s]'
    const [theirs, ours] = await both('/api/v1/query', { query, time: endS.toFixed(3) })
    expect(theirs!.body.data.result.length).toBeGreaterThan(500)
    expect(exactly(ours!.body.data)).toEqual(exactly(theirs!.body.data))
  })

  test('label names, label values, series and metadata are the same', async () => {
    const window = { start: startS.toFixed(3), end: endS.toFixed(3) }
    for (const path of ['/api/v1/labels', '/api/v1/label/handler/values', '/api/v1/label/__name__/values']) {
      const [theirs, ours] = await both(path, { ...window, 'match[]': ['{job="shop"}', 'up'] })
      expect(theirs!.body.data.length).toBeGreaterThan(0)
      expect(ours!.body).toEqual(theirs!.body)
    }
    const [theirs, ours] = await both('/api/v1/series', { ...window, 'match[]': ['{job="shop"}', 'up'] })
    expect(theirs!.body.data.length).toBeGreaterThan(50)
    expect(sorted(ours!.body.data)).toEqual(sorted(theirs!.body.data))
    if (!isOld) return // by remote write 2.0 it may send none
    await eventually('metadata has arrived', WAIT_MS, async () => {
      const [wanted, came] = await both('/api/v1/metadata', { metric: 'shop_duration_seconds' })
      expect(came!.body).toEqual(wanted!.body)
      return true
    })
  })

  test('exemplars are the same', async () => {
    const window = { start: startS.toFixed(3), end: endS.toFixed(3) }
    const parameters = { query: 'rate(shop_requests_total{job="shop"}[1m])', ...window }
    const [theirs, ours] = await both('/api/v1/query_exemplars', parameters)
    const byLabels = ({ data }: { data: { seriesLabels: object }[] }) =>
      data.map((each) => ({ key: JSON.stringify(Object.entries(each.seriesLabels).sort()), each }))
    const inOrder = (body: { data: { seriesLabels: object }[] }) =>
      byLabels(body).sort((a, b) => (a.key < b.key ? -1 : 1))
    expect(theirs!.body.data).toHaveLength(3)
    expect(inOrder(ours!.body)).toEqual(inOrder(theirs!.body))
  })

  test
    .runIf(!isOld)
    .each([
      'prometheus_http_request_duration_seconds{handler="/metrics"}',
      'histogram_count(prometheus_http_request_duration_seconds)',
      'rate(prometheus_http_request_duration_seconds{handler="/metrics"}[10s])',
      'histogram_quantile(0.9, rate(prometheus_http_request_duration_seconds{handler="/metrics"}[10s]))',
      'sum(increase(prometheus_http_request_duration_seconds{handler="/metrics"}[10s]))',
    ])('native histograms: %s', async (query) => {
    const range = { query, start: startS.toFixed(3), end: endS.toFixed(3), step: '3' }
    const [theirs, ours] = await both('/api/v1/query_range', range)
    expect(exactly(ours!.body.data)).toEqual(exactly(theirs!.body.data))
    expect(isNothing(theirs!.body.data)).toBe(false)
  })

  test.each(['', '/prometheus', '/api/prom'])('Grafana asks by POST form under "%s"', async (root) => {
    const form = {
      query: 'rate(shop_requests_total[10s])',
      start: startS.toFixed(3),
      end: endS.toFixed(3),
      step: '5',
    }
    const theirs = await ask(prometheus.url, '/api/v1/query_range', form, { method: 'POST' })
    const ours = await ask(`${system.url}${root}`, '/api/v1/query_range', form, { method: 'POST' })
    expect(ours.status).toBe(200)
    expect(exactly(ours.body.data)).toEqual(exactly(theirs.body.data))
    const asked = { query: 'up', time: endS.toFixed(3) }
    const instant = await ask(`${system.url}${root}`, '/api/v1/query', asked, { method: 'POST' })
    expect(instant.body.data.result.length).toBeGreaterThan(0)
    const names = await ask(`${system.url}${root}`, '/api/v1/labels', { 'match[]': 'up' }, { method: 'POST' })
    expect(names.body.data).toEqual(['__name__', 'instance', 'job'])
    const built = await ask(`${system.url}${root}`, '/api/v1/status/buildinfo', {})
    expect(built.body.data.version).toMatch(/^\d+\.\d+\.\d+/)
  })

  test('promtool asks us as it asks Prometheus', () => {
    if ('reason' in found) throw new Error(found.reason)
    const time = endS.toFixed(3)
    const [start, end] = [Math.floor(startS), Math.floor(endS)].map(String) as [string, string]
    const commands: ((url: string) => string[])[] = [
      (url) => ['instant', `--time=${time}`, url, 'sort(shop_requests_total)'],
      (url) => ['range', `--start=${startS.toFixed(3)}`, `--end=${time}`, '--step=5s', url, 'sum(shop_requests_total)'],
      (url) => ['series', '--match=shop_build_info', `--start=${start}`, `--end=${end}`, url],
      (url) => ['labels', `--start=${start}`, `--end=${end}`, url, 'room'],
    ]
    for (const command of commands) {
      const [theirs, ours] = [prometheus.url, system.url].map((url) =>
        execFileSync(found.promtool, ['query', ...command(url)], { encoding: 'utf8' })
          .split('\n')
          .sort(),
      )
      expect(theirs!.length).toBeGreaterThan(1)
      expect(ours).toEqual(theirs)
    }
  })

  test('nothing was refused and nothing was lost on the way', async () => {
    const said = await (await fetch(`${prometheus.url}/metrics`)).text()
    const lost = said.split('\n').filter((line) => /^prometheus_remote_storage_\w*(failed|dropped)_total/.test(line))
    const isLoss = (line: string) => !line.endsWith(' 0') && !line.includes('reason="dropped_series"')
    expect(lost.length).toBeGreaterThan(0)
    expect(lost.filter(isLoss)).toEqual([])
  })
})

interface QueryData {
  readonly resultType: string
  readonly result: unknown
}

/** The order of series has no meaning; all else has to be equal to the character. */
function exactly(data: QueryData | undefined): QueryData {
  if (data === undefined) throw new Error('an answer without data')
  const { resultType, result } = data
  return {
    resultType,
    result: resultType === 'matrix' || resultType === 'vector' ? sorted(result as object[]) : result,
  }
}

/** To twelve digits: for sums of broken numbers, which older versions round otherwise. */
function nearly(data: QueryData | undefined): unknown {
  const round = (value: unknown) =>
    typeof value === 'string' && /^-?[\d.]+(e[+-]?\d+)?$/.test(value) ? Number(value).toPrecision(12) : value
  return JSON.parse(JSON.stringify(exactly(data)), (_, value) => round(value))
}

function sorted(rows: readonly object[]): readonly object[] {
  const keyed = rows.map((row) => ({ row, key: JSON.stringify(Object.entries(labelsIn(row)).sort()) }))
  return keyed.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0)).map(({ row }) => row)
}

function labelsIn(row: object): object {
  return 'metric' in row ? (row.metric as object) : row
}

function isNothing({ result }: QueryData): boolean {
  return Array.isArray(result) && result.length === 0
}
