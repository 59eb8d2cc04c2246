// Blocks come in from a real Prometheus and answer as it does; what is killed on the way leaves nothing visible; a backup that is restored into an
// empty system answers as the first one did.
import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually, WAIT_MS } from '../waiting.ts'
import { runCarillon } from './carillon-command.ts'
import { ask, pushUntilTaken, sample } from './client.ts'
import { findNatsServer } from './nats-server.ts'
import { findPrometheus, type Prometheus, startPrometheus } from './prometheus-process.ts'
import { startShop } from './shop-target.ts'
import { freePort, pidOf, type System, startSystem } from './system.ts'

const HOUR_S = 3600
const SCRAPES_MIN = 8

const found = findPrometheus()
const nats = findNatsServer()
const missing = 'reason' in found ? found.reason : 'reason' in nats ? nats.reason : undefined
/** Tells of itself in native histograms. */
const isOld = !('reason' in found) && found.major < 3
const mustRun = process.env['CARILLON_CI'] === '1'
const env: Record<string, string> = 'path' in nats ? { CARILLON_NATS_SERVER: nats.path } : {}

if (missing !== undefined && !mustRun) console.warn(`skipped: blocks of a real Prometheus come in: ${missing}`)

interface Uploaded {
  readonly ulid: string
  readonly outcome: string
  readonly blocks: readonly string[]
  readonly errorId?: string
}

describe.skipIf(missing !== undefined && !mustRun)('blocks', () => {
  const stops: (() => unknown)[] = []
  const folder = mkdtempSync(join(tmpdir(), 'carillon-blocks-'))
  let system: System
  let prometheus: Prometheus
  let snapshot = ''
  /** Between samples; seconds. */
  let endS = 0
  let oldS = 0

  beforeAll(async () => {
    if (missing !== undefined || 'reason' in found) throw new Error(missing)
    stops.push(() => rmSync(folder, { recursive: true, force: true }))
    const dataDir = join(folder, 'prometheus')
    oldS = Math.floor(Date.now() / 1000 / (2 * HOUR_S)) * 2 * HOUR_S - 2 * HOUR_S
    writeFileSync(join(folder, 'old.om'), openMetrics(oldS))
    execFileSync(found.promtool, [
      ...['tsdb', 'create-blocks-from', '--max-block-duration=48h', 'openmetrics', join(folder, 'old.om'), dataDir],
    ])
    const shop = await startShop()
    stops.push(() => shop.stop())
    const args = ['--web.enable-admin-api', '--storage.tsdb.retention.time=60d']
    ;[system, prometheus] = await Promise.all([
      startSystem({ env, port: await freePort(), args: ['--lease=2s', '--segment-min=1s', '--flush=200ms'] }),
      startPrometheus(found, { jobs: { shop: [shop.address] }, scrapesItself: true, dataDir, args }),
    ])
    stops.push(
      () => system.stop(),
      () => prometheus.stop(),
    )
    await eventually('Prometheus has scraped itself', WAIT_MS, scrapedOften)
    const gone = { 'match[]': 'gone', start: String(oldS - 20 * HOUR_S), end: String(oldS - 3 * HOUR_S) }
    await fetch(`${prometheus.url}/api/v1/admin/tsdb/delete_series?${new URLSearchParams(gone)}`, { method: 'POST' })
    const taken = await fetch(`${prometheus.url}/api/v1/admin/tsdb/snapshot`, { method: 'POST' })
    const { data } = (await taken.json()) as { data: { name: string } }
    snapshot = join(dataDir, 'snapshots', data.name)
    endS = Math.floor(lastSampleS(snapshot)) - 2 + (await freeFraction())
  })

  afterAll(async () => {
    for (const stop of stops.reverse()) await stop()
  })

  /** What is asked below has samples enough. */
  async function scrapedOften(): Promise<true | undefined> {
    const query = 'max(count_over_time(prometheus_http_request_duration_seconds_count[1m]))'
    const { body } = await ask(prometheus.url, '/api/v1/query', { query })
    return Number(body.data.result[0]?.value[1] ?? 0) >= SCRAPES_MIN ? true : undefined
  }

  /** Of a second, as far from every scrape as can be: no sample lies on the edge of a range, where Prometheus 2 and 3 differ. */
  async function freeFraction(): Promise<number> {
    const { body } = await ask(prometheus.url, '/api/v1/query', { query: 'up[10s]' })
    const times = body.data.result.flatMap(({ values }: { values: [number, string][] }) =>
      values.map(([time]) => time % 1),
    )
    const used = (times as number[]).sort((a, b) => a - b)
    const gaps = used.map((from, i) => ({ from, length: (used[i + 1] ?? used[0]! + 1) - from }))
    const widest = gaps.reduce((best, gap) => (gap.length > best.length ? gap : best))
    return Math.round(((widest.from + widest.length / 2) % 1) * 1000) / 1000
  }

  const carillon = (tenant: string, gateway: string, ...args: string[]) =>
    runCarillon(['blocks', ...args, '--gateway', gateway, '--tenant', tenant, '--output', 'json'])

  test('of a real Prometheus, tombstones and native histograms too, answer as it does', async () => {
    const ran = await carillon('acme', system.url, 'upload', snapshot)
    expect(ran.errors).toMatch(/1 of \d+ .*: complete/)
    expect(ran.code).toBe(0)
    const { blocks } = JSON.parse(ran.out) as { blocks: Uploaded[] }
    expect(blocks.length).toBeGreaterThan(2)
    expect(new Set(blocks.map(({ outcome }) => outcome))).toEqual(new Set(['complete']))
    for (const [query, time] of [
      ['{__name__=~".+"}[6s]', endS],
      ['count_over_time({__name__=~"old_.*|gone"}[2d])', oldS],
      ['{__name__=~"old_total|gone"}[33h]', oldS + 0.5],
      ['max by (job) (rate(old_total[17m]))', oldS - 7_000.5],
      ['histogram_quantile(0.9, rate(prometheus_http_request_duration_seconds_bucket[5s]))', endS],
      ...(isOld ? [] : [['rate(prometheus_http_request_duration_seconds[5s])', endS] as const]),
      ['up', endS],
    ] as const) {
      const [theirs, ours] = await both('/api/v1/query', { query, time: String(time) })
      expect(theirs.length, query).toBeGreaterThan(0)
      expect(ours, query).toEqual(theirs)
    }
    const range = {
      query: 'max_over_time(old_gauge[41m]) > 3',
      start: oldS - 30 * HOUR_S + 0.5,
      end: oldS - 0.5,
      step: 977,
    }
    const [theirs, ours] = await both(
      '/api/v1/query_range',
      Object.fromEntries(Object.entries(range).map(([k, v]) => [k, String(v)])),
    )
    expect(theirs.length).toBeGreaterThan(5)
    expect(ours).toEqual(theirs)
    const again = JSON.parse((await carillon('acme', system.url, 'upload', snapshot)).out) as { blocks: Uploaded[] }
    expect(again.blocks.map(({ outcome, blocks: became }) => [outcome, became])).toEqual(
      blocks.map(({ blocks: became }) => ['present', became]),
    )
  })

  /** What Prometheus says, and what we say of the uploaded blocks; sorted. */
  async function both(path: string, parameters: Record<string, string>): Promise<[object[], object[]]> {
    const answers = await Promise.all([
      ask(prometheus.url, path, parameters),
      ask(system.url, path, parameters, { tenant: 'acme' }),
    ])
    const [theirs, ours] = answers.map(({ body }) => sorted(body.data?.result ?? [body]))
    return isOld ? [rounded(theirs!), rounded(ours!)] : [theirs!, ours!]
  }

  /** Prometheus 2 multiplies the factors of a rate in another order: the last bits may differ. */
  function rounded(rows: object[]): object[] {
    const isNumber = (value: unknown) => typeof value === 'string' && /^-?\d+\.\d+$/.test(value)
    return JSON.parse(
      JSON.stringify(rows, (_, value) => (isNumber(value) ? String(Number(Number(value).toPrecision(10))) : value)),
    )
  }

  test('that break off leave nothing visible: gateway, compactor and uploader are killed, then it is done again', async () => {
    const tenant = 'torn'
    const visible = async () =>
      (await ask(system.url, '/api/v1/blocks', {}, { tenant })).body.data.blocks.length as number
    const [ulid = ''] = readdirSync(snapshot)
    const block = join(snapshot, ulid)
    const files = ['index', 'chunks/000001'].map((name) => ({ name, bytes: readFileSync(join(block, name)) }))
    const listed = files.map(({ name, bytes }) => ({ rel_path: name, size_bytes: bytes.length }))
    const meta = { ...JSON.parse(readFileSync(join(block, 'meta.json'), 'utf8')), thanos: { files: listed } }
    const post = (step: string, body?: string | Buffer<ArrayBuffer>) =>
      fetch(`${system.url}/api/v1/upload/block/${ulid}/${step}`, {
        ...{ method: 'POST', headers: { 'X-Scope-OrgID': tenant } },
        ...(body === undefined ? {} : { body }),
      })
    expect((await post('start', JSON.stringify(meta))).status).toBe(200)
    expect((await post('files?path=index', files[0]!.bytes)).status).toBe(200)
    process.kill(pidOf(system, 'gateway-1'), 'SIGKILL')
    const isUp = () => fetch(`${system.url}/-/ready`).then(({ status }) => (status === 200 ? true : undefined))
    await eventually('the gateway is back', WAIT_MS, isUp)
    expect(await visible()).toBe(0)

    let uploader = runCarillon(['blocks', 'upload', snapshot, '--gateway', system.url, '--tenant', tenant], (child) => {
      setTimeout(() => child.kill('SIGKILL'), 700)
    })
    expect((await uploader).code).toBe(null)

    uploader = runCarillon(['blocks', 'upload', snapshot, '--gateway', system.url, '--tenant', tenant])
    await eventually('the compactor validates', WAIT_MS, async () => {
      const response = await fetch(`${system.url}/api/v1/upload/block/${ulid}/check`, {
        headers: { 'X-Scope-OrgID': tenant },
      })
      const { result } = (await response.json()) as { result: string }
      return result === 'validating' || result === 'complete' ? true : undefined
    })
    process.kill(pidOf(system, 'compactor-1'), 'SIGKILL')
    const { code, errors } = await uploader
    expect(errors).not.toContain('failed')
    expect(code).toBe(0)
    const { body } = await ask(system.url, '/api/v1/blocks', {}, { tenant })
    const listedSamples = body.data.blocks.reduce(
      (sum: number, each: { sampleCount: number }) => sum + each.sampleCount,
      0,
    )
    const whole = await ask(system.url, '/api/v1/blocks', {}, { tenant: 'acme' })
    const wantedSamples = whole.body.data.blocks.reduce(
      (sum: number, each: { sampleCount: number }) => sum + each.sampleCount,
      0,
    )
    expect(listedSamples, 'each block once').toBe(wantedSamples)
  })

  test('of a backup, restored into an empty system, answer as before; what was deleted stays so', async () => {
    const nowMs = Date.now()
    const tenants = ['acme', 'globex']
    const series = Array.from({ length: 40 }, (_, i) =>
      ['kept', 'dropped'].map((name) => ({
        ...sample(name, i, ['n', String(i)]),
        samples: Array.from({ length: 30 }, (_, at) => ({
          time: nowMs - 60_000 + at * 1_000,
          value: i * 7 + (at % 11) / 3,
        })),
      })),
    ).flat()
    await pushUntilTaken(system.url, { series }, { tenant: 'globex' })
    const flushed = await fetch(`${system.url}/api/v1/admin/flush?wait=30s`, { method: 'POST' })
    expect(await flushed.json()).toMatchObject({ data: { isDone: true } })
    const drop = new URLSearchParams({ 'match[]': 'dropped{n!="3"}', tenant: 'globex' })
    expect((await fetch(`${system.url}/api/v1/admin/tsdb/delete_series?${drop}`, { method: 'POST' })).status).toBe(204)

    for (const tenant of tenants) {
      const target = join(folder, 'backup', tenant)
      const ran = await carillon(tenant, system.url, 'download', target)
      expect([ran.code, ran.errors]).toEqual([0, expect.stringContaining('1 of')])
      const { blocks } = JSON.parse(ran.out) as { blocks: string[] }
      expect(
        readdirSync(target)
          .filter((name) => name.length === 26)
          .sort(),
      ).toEqual([...blocks].sort())
      if ('reason' in found) throw new Error(found.reason)
      execFileSync(found.promtool, ['tsdb', 'list', target])
      const dumped = execFileSync(found.promtool, ['tsdb', 'dump', target], { encoding: 'utf8', maxBuffer: 2 ** 28 })
      const names = new Set([...dumped.matchAll(/__name__="(kept|dropped)"[^}]*/g)].map(([text]) => text))
      expect(names.size).toBe(tenant === 'globex' ? 41 : 0)
      const verified = await runCarillon(['blocks', 'verify', target])
      expect([verified.code, verified.out]).toEqual([0, `${blocks.length} blocks, 0 damaged\n`])
    }
    const verified = await carillon('acme', system.url, 'verify')
    expect(verified.code).toBe(0)

    const dataDir = join(folder, 'second')
    const second = await startSystem({ env, dataDir })
    stops.push(() => second.stop())
    for (const tenant of tenants) {
      const ran = await carillon(tenant, second.url, 'upload', join(folder, 'backup', tenant))
      expect([ran.code, JSON.parse(ran.out).blocks.some((each: Uploaded) => each.outcome !== 'complete')]).toEqual([
        0,
        false,
      ])
    }
    const atS = nowMs / 1000
    const asked = [
      ['globex', '{__name__=~".+"}[5m]', atS],
      ['globex', 'sum by (__name__) (count_over_time({__name__=~".+"}[5m]))', atS],
      ['acme', '{__name__=~".+"}[6s]', endS],
      ['acme', '{__name__=~"old_total|gone"}[33h]', oldS + 0.5],
    ] as const
    const answersOf = (url: string) =>
      Promise.all(
        asked.map(async ([tenant, query, time]) => {
          const { body } = await ask(url, '/api/v1/query', { query, time: String(time) }, { tenant })
          return sorted(body.data?.result ?? [body])
        }),
      )
    const before = await answersOf(system.url)
    expect(before.every((result) => result.length > 0)).toBe(true)
    expect(await answersOf(second.url)).toEqual(before)

    await second.stop()
    cpSync(dataDir, join(folder, 'copy'), { recursive: true })
    const third = await startSystem({ env, dataDir: join(folder, 'copy') })
    stops.push(() => third.stop())
    expect(await answersOf(third.url), 'a copy of a stopped system').toEqual(before)
  })
})

const sorted = (result: object[]): object[] =>
  [...result].sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1))

/** 30 h up to `endS`, a sample a minute. */
function openMetrics(endS: number): string {
  const rows = (name: string, value: (series: number, at: number) => number) =>
    Array.from({ length: 6 }, (_, series) =>
      Array.from({ length: 30 * 60 }, (_, at) => {
        return `${name}{job="j${series % 2}",n="${series}"} ${value(series, at)} ${endS - 30 * HOUR_S + at * 60}`
      }),
    ).flat()
  return [
    '# TYPE old counter',
    ...rows('old_total', (series, at) => (at * (series + 1)) % 5_000),
    '# TYPE old_gauge gauge',
    ...rows('old_gauge', (series, at) => ((at * 37 + series) % 101) / 7),
    '# TYPE gone gauge',
    ...rows('gone', (_, at) => at),
    '# EOF',
    '',
  ].join('\n')
}

/** Of the newest block of a snapshot: what was in memory. */
function lastSampleS(snapshot: string): number {
  const times = readdirSync(snapshot)
    .filter((name) => statSync(join(snapshot, name)).isDirectory() && name.length === 26)
    .map((name) => JSON.parse(readFileSync(join(snapshot, name, 'meta.json'), 'utf8')).maxTime as number)
  return Math.max(...times) / 1000
}
