// npm run bench:query -- --prometheus PATH: 25 queries of dashboards and alerts over 50k series × 6 h, by Carillon and by a real Prometheus
// that holds the same data: latency, CPU of the server and their ratios. First what stands in the memory of owners is asked; with --blocks
// everything is flushed, compacted and dropped, and asked again: once cold after a restart of the queriers, then warm.
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { runLoad } from './loader.ts'
import { askBoth, compare, measure, type QueryFigures, type Question, urlOf } from './queries.ts'
import { type CarillonTarget, carillon, prometheus, prometheusVersion, type Target } from './target.ts'
import { makeWorkload, type Workload } from './workload.ts'

const usage = `bench:query [flags]: dashboard and alert queries, by Carillon and by a real Prometheus
  --prometheus PATH   the peer (default: $CARILLON_BENCH_PROMETHEUS, else prometheus on the PATH)
  --series N          default 50000
  --hours N           default 6
  --scrape SECONDS    default 60
  --blocks            ask again when everything stands in blocks, cold and warm
  --args "FLAGS"      more flags for carillon start
  --output json       one JSON object instead of tables`

const { values: flags } = parseArgs({
  options: {
    prometheus: { type: 'string', default: process.env['CARILLON_BENCH_PROMETHEUS'] ?? 'prometheus' },
    series: { type: 'string', default: '50000' },
    hours: { type: 'string', default: '6' },
    scrape: { type: 'string', default: '60' },
    blocks: { type: 'boolean', default: false },
    args: { type: 'string', default: '' },
    output: { type: 'string', default: 'text' },
    help: { type: 'boolean', default: false },
  },
})

const HOUR_MS = 3_600_000
/** Queries that take Prometheus less are compared by difference, not by ratio. */
const SMALL_MS = 10
const IN_BLOCKS_MS_MAX = 600_000

const job = 'job="payments/checkout-service-3"'
const requests = 'http_server_requests_total'
const buckets = 'http_server_request_duration_seconds_bucket'
const range = (name: string, text: string, hours = 6): Question => ({
  name: `${name}, ${hours} h`,
  text,
  isRange: true,
  backMs: hours * HOUR_MS,
  stepS: hours * 20,
})
const now = (name: string, text: string): Question => ({ name, text })

const dashboard: readonly Question[] = [
  range('requests by code', `sum by (code) (rate(${requests}[5m]))`),
  range('requests of a job by handler', `sum by (handler) (rate(${requests}{${job}}[5m]))`),
  range(
    'error share by job',
    `sum by (job) (rate(${requests}{code=~"5.."}[5m])) / sum by (job) (rate(${requests}[5m]))`,
    1,
  ),
  range('p99 of a job', `histogram_quantile(0.99, sum by (le) (rate(${buckets}{${job}}[5m])))`),
  range('p90 by job', `histogram_quantile(0.9, sum by (job, le) (rate(${buckets}[5m])))`, 1),
  range(
    'average latency of a job',
    `sum(rate(http_server_request_duration_seconds_sum{${job}}[5m])) / sum(rate(http_server_request_duration_seconds_count{${job}}[5m]))`,
  ),
  range('memory by job', 'sum by (job) (process_resident_memory_bytes)'),
  range('heap of the pods of a job', `go_memstats_heap_alloc_bytes{${job}}`),
  range('goroutines, one pod', 'go_goroutines{instance="10.42.0.9:9090"}'),
  range('five busiest handlers', `topk(5, sum by (handler, method) (rate(${requests}[5m])))`, 1),
  range(
    'memory by version',
    'sum by (version) (process_resident_memory_bytes * on (pod) group_left (version) app_build_info)',
  ),
  range('queue, smoothed', `avg_over_time(app_queue_length{${job}}[10m])`),
  range('queue maxima by namespace', 'max by (namespace) (max_over_time(app_queue_length[15m]))'),
  range('change since an hour ago', `sum(rate(${requests}[5m])) - sum(rate(${requests}[5m] offset 1h))`, 1),
  range('pods ready', 'count by (job) (kube_pod_status_ready == 1)'),
  range('saturation', 'sum by (job) (process_open_fds) / sum by (job) (process_max_fds)'),
  range('one counter, raw', `${requests}{${job},code="200",method="GET"}`, 1),
]
const alerts: readonly Question[] = [
  now(
    'alert: error share',
    `sum by (job) (rate(${requests}{code=~"5.."}[5m])) / sum by (job) (rate(${requests}[5m])) > 0.05`,
  ),
  now('alert: slow', `histogram_quantile(0.99, sum by (job, le) (rate(${buckets}[10m]))) > 1`),
  now('alert: target gone', `absent(go_goroutines{${job}})`),
  now('alert: memory grows', 'predict_linear(process_resident_memory_bytes[1h], 4 * 3600) > 4e9'),
  now('alert: queue stuck', 'min_over_time(app_queue_length[30m]) > 100'),
  now('alert: restarts', 'changes(process_start_time_seconds[1h]) > 3'),
  now('alert: nothing processed', 'sum by (job) (increase(app_queue_processed_total[1h])) == 0'),
  now('stat: series by job', 'count by (job) ({__name__=~".+"})'),
]
const asked = [...dashboard, ...alerts]

if (flags.help) process.stdout.write(`${usage}\n`)
else await bench()

async function bench(): Promise<void> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-bench-'))
  const version = prometheusVersion(flags.prometheus)
  say(`prometheus ${version}; ${os.availableParallelism()} cores, load ${os.loadavg()[0]!.toFixed(1)}`)
  const scrapeMs = Number(flags.scrape) * 1000
  const scrapeCount = Math.ceil((Number(flags.hours) * HOUR_MS) / scrapeMs)
  const workload = makeWorkload(folder, {
    seriesCount: Number(flags.series),
    scrapeCount,
    connectionCount: 8,
    scrapeMs,
  })
  // A segment may be closed, flushed and dropped at once: nobody waits for minutes.
  const atOnce = flags.blocks ? ['--segment-min', '1s', '--drop-after', '1s'] : []
  const ours = carillon(folder, { args: [...atOnce, ...flags.args.split(' ').filter(Boolean)] })
  const both: Target[] = [prometheus(flags.prometheus, folder), ours]
  const figures: Record<string, QueryFigures[]> = {}
  try {
    for (const target of both) {
      say(`${workload.sampleCount} samples: ${target.name}`)
      await target.start()
      await load(target, workload)
    }
    fs.rmSync(workload.file)
    say('queries from memory')
    figures['from memory'] = await askBoth(both, workload, asked)
    if (flags.blocks) await fromBlocks(both, ours, workload, figures)
  } finally {
    for (const target of both) await target.stop()
    fs.rmSync(folder, { recursive: true, force: true })
  }
  if (flags.output === 'json') process.stdout.write(`${JSON.stringify({ version, figures })}\n`)
  else for (const [title, rows] of Object.entries(figures)) process.stdout.write(`${tableOf(title, rows)}\n`)
}

/** In stretches of half an hour, so that no connection runs ahead of the others by more than a Prometheus takes. */
async function load(target: Target, { file, bodies, connectionCount, scrapeCount }: Workload): Promise<void> {
  const parts = Math.max(1, Math.round(Number(flags.hours) * 2))
  const size = Math.ceil(bodies.length / Math.min(parts, scrapeCount))
  for (let from = 0; from < bodies.length; from += size) {
    const part = bodies.slice(from, from + size)
    await runLoad({ url: target.pushUrl(), file, connectionCount, bodies: part, rate: 0 })
  }
}

async function fromBlocks(
  both: readonly Target[],
  ours: CarillonTarget,
  workload: Workload,
  figures: Record<string, QueryFigures[]>,
): Promise<void> {
  say('into blocks')
  await post(`${ours.queryUrl()}/api/v1/admin/flush`)
  await post(`${ours.queryUrl()}/api/v1/admin/compact`)
  await untilDropped(ours)
  process.kill(ours.actorPid('querier-1'), 'SIGKILL') // nothing is cached any more
  await sleep(3_000)
  say('queries from blocks, cold')
  figures['from blocks, first time'] = []
  for (const question of asked) {
    const theirs = await measure(both[0]!, urlOf(both[0]!, question, workload), 1)
    const own = await measure(ours, urlOf(ours, question, workload), 1)
    figures['from blocks, first time'].push({
      name: question.name,
      rows: theirs.rows.size,
      ms: { prometheus: theirs.ms, carillon: own.ms },
      cpuMs: { prometheus: theirs.cpuMs, carillon: own.cpuMs },
      agreement: compare(theirs.rows, own.rows),
    })
  }
  say('queries from blocks, warm')
  figures['from blocks, again'] = await askBoth(both, workload, asked)
}

async function post(url: string): Promise<void> {
  const response = await fetch(url, { method: 'POST' })
  if (!response.ok) throw new Error(`${url} was answered ${response.status}: ${await response.text()}`)
}

/** Owners hold no samples any more. */
async function untilDropped(ours: Target): Promise<void> {
  for (const endMs = performance.now() + IN_BLOCKS_MS_MAX; performance.now() < endMs; await sleep(1_000)) {
    const response = await fetch(`${ours.queryUrl()}/api/v1/status/partitions`)
    const counts = [...(await response.text()).matchAll(/"sampleCount":(\d+)/g)]
    if (counts.length > 0 && counts.every(([, count]) => count === '0')) return
  }
  throw new Error('owners still hold samples')
}

function tableOf(title: string, rows: readonly QueryFigures[]): string {
  const ratio = ({ ms }: QueryFigures) => ms.carillon / ms.prometheus
  const large = rows.filter(({ ms }) => ms.prometheus > SMALL_MS)
  const small = rows.filter(({ ms }) => ms.prometheus <= SMALL_MS)
  const ratios = large.map(ratio).sort((a, b) => a - b)
  const slower = small.map(({ ms }) => ms.carillon - ms.prometheus)
  const line = (row: QueryFigures) =>
    `| ${row.name} | ${row.rows} | ${row.ms.prometheus.toFixed(1)} | ${row.ms.carillon.toFixed(1)} | ${ratio(row).toFixed(2)} | ` +
    `${row.cpuMs.prometheus.toFixed(1)} | ${row.cpuMs.carillon.toFixed(1)} | ${row.agreement} |`
  return [
    `## ${title}`,
    '| query | rows | Prometheus ms | Carillon ms | ratio | CPU ms | CPU ms | answers |',
    '|---|---|---|---|---|---|---|---|',
    ...rows.map(line),
    '',
    `Of ${large.length} that take Prometheus more than ${SMALL_MS} ms: median ratio ${ratios[ratios.length >> 1]?.toFixed(2) ?? '-'}, ` +
      `greatest ${ratios.at(-1)?.toFixed(2) ?? '-'}. Of the ${small.length} others, at most ${Math.max(0, ...slower).toFixed(1)} ms slower.`,
    '',
  ].join('\n')
}

function say(line: string): void {
  process.stderr.write(`bench: ${line}\n`)
}
