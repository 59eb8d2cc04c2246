// Start timestamps with real processes: pushed by remote write 2.0, read from memory, from blocks and after a merge; and what a real
// Prometheus that keeps them writes to us, and its own blocks, answer as it does.

import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { PlainSeries } from '../../shared/wire/remote-write-encode.ts'
import { until } from '../waiting.ts'
import { runCarillon } from './carillon-command.ts'
import { partitionsOf } from './check.ts'
import { ask, pushUntilTaken } from './client.ts'
import { afterwards, cleanUpAfterEach, isSkipped } from './fault-ground.ts'
import { findNatsServer } from './nats-server.ts'
import { findPrometheus, type Prometheus, startPrometheus } from './prometheus-process.ts'
import { type System, startSystem } from './system.ts'

cleanUpAfterEach()
const nats = findNatsServer()
const found = findPrometheus()
const env: Record<string, string> = 'path' in nats ? { CARILLON_NATS_SERVER: nats.path } : {}
if ('reason' in found) console.warn(`skipped: start timestamps of a real Prometheus: ${found.reason}`)

const ENGINE = ['use-start-timestamps', 'promql-experimental-functions']
const nowMs = Math.floor(Date.now() / 1000) * 1000 - 5_000
/** All samples lie within two hours of the clock, so that their blocks can become one. */
const endMs = nowMs % 7_200_000 < 120_000 ? nowMs - 180_000 : nowMs
const timeOf = (i: number) => endMs - (119 - i) * 1_000

const histogram = (count: number) => ({
  isFloat: false,
  resetHint: 'unknown' as const,
  ...{ schema: 0, zeroThreshold: 0, zeroCount: 0, count, sum: count * 1.5 },
  ...{ positiveSpans: [{ offset: 0, length: 1 }], positiveBuckets: [count] },
  ...{ negativeSpans: [], negativeBuckets: [], customValues: [] },
})

/** Samples [from, to) of counters that begin anew every 40 samples without falling, of one that never says so, and of histograms. */
function seriesOf(from: number, to: number): PlainSeries[] {
  const all = Array.from({ length: to - from }, (_, k) => from + k)
  const startOf = (i: number) => timeOf(i - (i % 40)) - 500
  const floats = (i: number) => ({ time: timeOf(i), value: i + 1 })
  return [
    {
      labels: ['__name__', 'c_total', 'of', 'anew'],
      samples: all.map((i) => ({ ...floats(i), startTime: startOf(i) })),
    },
    { labels: ['__name__', 'c_total', 'of', 'plain'], samples: all.map(floats) },
    {
      labels: ['__name__', 'h'],
      histograms: all.map((i) => ({ time: timeOf(i), histogram: histogram(i + 1), startTime: startOf(i) })),
    },
  ]
}

const QUERIES = [
  'resets(c_total[3m])',
  'increase(c_total[100s])',
  'rate(c_total[47s])',
  'resets(h[3m])',
  'histogram_count(increase(h[100s]))',
  'start_timestamp({__name__=~"c_total|h"})',
]

async function answersOf(
  url: string,
  { tenant, queries = QUERIES, at = endMs / 1000 }: { tenant?: string; queries?: readonly string[]; at?: number },
): Promise<Record<string, unknown>> {
  const answers: Record<string, unknown> = {}
  for (const query of queries) {
    const asked = { query, time: String(at) }
    const options = tenant === undefined ? {} : { tenant, consistency: 'strong' }
    const { status, body } = await ask(url, '/api/v1/query', asked, options)
    if (status !== 200) throw new Error(`${query}: ${status} ${JSON.stringify(body)}`)
    const rows = body.data.result as { metric: Record<string, string>; value: [number, string] }[]
    answers[query] = rows.map(({ metric, value }) => [metric['of'] ?? '', Number(value[1]).toPrecision(12)]).sort()
  }
  return answers
}

test.skipIf(isSkipped)('start timestamps are the same in memory, in blocks, and when blocks are merged', async () => {
  const flushing = ['--partitions=1', '--segment-min=500ms', '--drop-after=500ms', '--flush=200ms']
  const compacting = ['--compact-every=500ms', '--retired-delay=1s']
  const system = await startSystem({
    args: ['--start-timestamps', '--enable-feature', ENGINE.join(','), ...flushing, ...compacting],
    env,
  })
  afterwards(() => system.stop())
  const tenant = 'acme'
  const push = (from: number, to: number) =>
    pushUntilTaken(system.url, { series: seriesOf(from, to) }, { tenant, protocol: 2 })
  expect((await push(0, 70)).status).toBe(204)
  await flush(system)
  await push(65, 120) // some of them again
  const wanted = await answersOf(system.url, { tenant })
  expect(wanted['resets(c_total[3m])']).toEqual([
    ['anew', '2.00000000000'],
    ['plain', '0.00000000000'],
  ])
  expect(wanted['resets(h[3m])']).toEqual([['', '2.00000000000']])
  await flush(system)
  await until('memory is freed', async () => {
    const { partitions } = await partitionsOf(system.url)
    return partitions.every(({ owners }) => owners.every(({ sampleCount }) => sampleCount === 0))
  })
  expect(await answersOf(system.url, { tenant }), 'from blocks').toEqual(wanted)
  await fetch(`${system.url}/api/v1/admin/compact`, { method: 'POST' })
  await until('the blocks are one', async () => (await blocksOf(system, tenant)) === 1)
  expect(await answersOf(system.url, { tenant }), 'from the merged block').toEqual(wanted)
})

test.skipIf(isSkipped || 'reason' in found)(
  'what a real Prometheus scrapes and writes to us with start timestamps counts as it does there, and so do its blocks',
  async () => {
    const args = ['--start-timestamps', '--enable-feature', ENGINE.join(',')]
    const system = await startSystem({ args, env })
    afterwards(() => system.stop())
    const target = await startTarget()
    afterwards(() => target.stop())
    const prometheus = await prometheusThatKeepsThem(system.url, target.address)
    if (prometheus === undefined) return
    const counted = async (url: string, at: number) => {
      const asked = { query: 'sum(count_over_time(c_total[8s]))', time: String(at) }
      return Number((await ask(url, '/api/v1/query', asked)).body.data.result[0]?.value[1] ?? 0)
    }
    await until('there is enough to ask for', async () => (await counted(prometheus.url, Date.now() / 1000)) >= 14)
    const at = Date.now() / 1000 - 1
    await until(
      'all of it was written',
      async () => (await counted(system.url, at)) === (await counted(prometheus.url, at)),
    )
    const queries = ['resets(c_total[8s])', 'increase(c_total[7s])', 'start_timestamp(c_total)']
    const wanted = await answersOf(prometheus.url, { queries, at })
    expect(wanted['resets(c_total[8s])'], 'it keeps them').toContainEqual(['anew', expect.stringMatching(/^[1-9]/)])
    expect(await answersOf(system.url, { queries, at })).toEqual(wanted)
    const taken = await fetch(`${prometheus.url}/api/v1/admin/tsdb/snapshot`, { method: 'POST' })
    const { data } = (await taken.json()) as { data: { name: string } }
    const snapshot = join(prometheus.dataDir, 'snapshots', data.name)
    const ran = await runCarillon(['blocks', 'upload', snapshot, '--gateway', system.url, '--tenant', 'guest'])
    expect(ran.errors).toContain('complete')
    expect(await answersOf(system.url, { tenant: 'guest', queries, at }), 'of the blocks').toEqual(wanted)
  },
)

/** Counters that only rise; one says every three seconds that it began anew. */
async function startTarget(): Promise<{ readonly address: string; stop(): Promise<void> }> {
  const server = createServer((_, response) => {
    const nowS = Math.floor(Date.now() / 1000)
    const page = [
      '# TYPE c counter',
      `c_total{of="anew"} ${nowS}`,
      `c_created{of="anew"} ${nowS - (nowS % 3) - 0.25}`,
      `c_total{of="plain"} ${nowS}`,
      '# EOF\n',
    ]
    response.setHeader('Content-Type', 'application/openmetrics-text; version=1.0.0; charset=utf-8')
    response.end(page.join('\n'))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const stop = async () => {
    server.close()
    server.closeAllConnections()
  }
  return { address: `127.0.0.1:${port}`, stop }
}

async function flush({ url }: System): Promise<void> {
  const flushed = await fetch(`${url}/api/v1/admin/flush?wait=20s`, { method: 'POST' })
  expect(await flushed.json()).toMatchObject({ data: { isDone: true } })
}

async function blocksOf({ url }: System, tenant: string): Promise<number> {
  return (await ask(url, '/api/v1/blocks', {}, { tenant })).body.data.blocks.length
}

/** Undefined where the one at hand is too old: then its features are none. */
async function prometheusThatKeepsThem(
  url: string,
  target: string,
): Promise<(Prometheus & { readonly dataDir: string }) | undefined> {
  if ('reason' in found) return undefined
  const dataDir = mkdtempSync(join(tmpdir(), 'carillon-starts-'))
  afterwards(() => rmSync(dataDir, { recursive: true, force: true }))
  const args = ['--web.enable-admin-api']
  const features = [...ENGINE, 'st-storage', 'xor2-encoding', 'histograms-st-encoding']
  const prometheus = await startPrometheus(found, {
    ...{ jobs: { target: [target] }, remoteWriteUrl: `${url}/api/v1/push`, scrapesItself: false },
    ...{ dataDir, args, features },
  }).catch(() => undefined)
  if (prometheus === undefined) return undefined
  afterwards(() => prometheus.stop())
  if (!/Unknown option|unknown feature/i.test(prometheus.said())) return { ...prometheus, dataDir }
  console.warn(`skipped: start timestamps of a real Prometheus: ${found.version} does not keep them`)
  return undefined
}
