// The same questions to two targets: how long they take, what they cost, and whether the answers agree.
import { treeCpuSeconds } from './process-tree.ts'
import type { Target } from './target.ts'
import { FIRST_SCRAPE_MS, SCRAPE_MS, type Workload } from './workload.ts'

export interface Question {
  readonly name: string
  readonly text: string
  readonly isRange?: true
  /** Of a range: how far back from the end, and the step. The whole workload and 15 s unless told. */
  readonly backMs?: number
  readonly stepS?: number
}

const errorShare = `sum by (job) (rate(http_server_requests_total{code=~"5.."}[2m])) / sum by (job) (rate(http_server_requests_total[2m]))`

export const questions: readonly Question[] = [
  { name: 'count of everything', text: 'count({__name__=~".+"})' },
  { name: 'error share by job', text: errorShare },
  {
    name: 'p99 by job',
    text: 'histogram_quantile(0.99, sum by (job, le) (rate(http_server_request_duration_seconds_bucket[2m])))',
  },
  { name: 'error share by job, range', text: errorShare, isRange: true },
  {
    name: 'join group_left, range',
    text: 'sum by (version) (process_resident_memory_bytes * on (pod) group_left (version) app_build_info)',
    isRange: true,
  },
  {
    name: 'sum by rate of one pod, range',
    text: 'sum by (code) (rate(http_server_requests_total{instance="10.42.0.7:9090"}[2m]))',
    isRange: true,
  },
  {
    name: 'subquery',
    text: 'max_over_time(sum(rate(http_server_requests_total{job="payments/checkout-service-3"}[1m]))[3m:15s])',
  },
  { name: 'raw rows', text: 'http_server_requests_total{job="payments/checkout-service-4",code="200"}' },
  { name: 'raw samples', text: 'http_server_requests_total{job="payments/checkout-service-4",code="200"}[5m]' },
  { name: 'one gauge', text: 'go_goroutines{instance="10.42.0.9:9090"}' },
  { name: 'topk of rates', text: 'topk(5, sum by (handler, method) (rate(http_server_requests_total[2m])))' },
  { name: 'average over time by job', text: 'avg by (job) (avg_over_time(app_queue_length[4m]))' },
  { name: 'one metric, range', text: 'go_memstats_heap_alloc_bytes', isRange: true },
]

export interface QueryFigures {
  readonly name: string
  readonly rows: number
  readonly ms: Readonly<Record<Target['name'], number>>
  readonly cpuMs: Readonly<Record<Target['name'], number>>
  /** `equal`, the greatest relative difference, or what differs. */
  readonly agreement: string
}

const RUNS_MAX = 15
const RUNS_MS_MAX = 3_000

export async function askBoth(
  targets: readonly Target[],
  workload: Workload,
  asked = questions,
): Promise<QueryFigures[]> {
  const figures: QueryFigures[] = []
  for (const question of asked) {
    const took: Asked[] = []
    for (const target of targets) took.push(await measure(target, urlOf(target, question, workload)))
    const names = targets.map(({ name }) => name)
    const each = (of: (one: Asked) => number) =>
      Object.fromEntries(names.map((name, i) => [name, of(took[i]!)])) as Record<Target['name'], number>
    const [a, b] = took
    figures.push({
      name: question.name,
      rows: a!.rows.size,
      ms: each(({ ms }) => ms),
      cpuMs: each(({ cpuMs }) => cpuMs),
      agreement: b === undefined ? '-' : compare(a!.rows, b.rows),
    })
  }
  return figures
}

export function urlOf(
  target: Target,
  question: Question,
  { endMs, scrapeCount, scrapeMs = SCRAPE_MS }: Workload,
): string {
  const { text, isRange, backMs = scrapeCount * scrapeMs, stepS = 15 } = question
  const time = endMs / 1000
  const url = new URL(`${target.queryUrl()}/api/v1/${isRange ? 'query_range' : 'query'}`)
  url.searchParams.set('query', text)
  if (!isRange) url.searchParams.set('time', String(time))
  else {
    const startMs = Math.max(FIRST_SCRAPE_MS + 2 * scrapeMs, endMs - backMs)
    url.searchParams.set('start', String(startMs / 1000))
    url.searchParams.set('end', String(time))
    url.searchParams.set('step', String(stepS))
  }
  return url.href
}

/** Values of each row, by its labels. */
type Rows = ReadonlyMap<string, readonly string[]>

export interface Asked {
  readonly rows: Rows
  readonly ms: number
  readonly cpuMs: number
}

/** With `runsMax` 1 the very first answer is measured. */
export async function measure(target: Target, url: string, runsMax = RUNS_MAX): Promise<Asked> {
  const rows = runsMax === 1 ? undefined : rowsOf(JSON.parse(await answerOf(url)) as Answer)
  let last = ''
  const took: number[] = []
  const cpuBefore = treeCpuSeconds(target.pid())
  for (const endMs = performance.now() + RUNS_MS_MAX; took.length < runsMax && performance.now() < endMs; ) {
    const startMs = performance.now()
    last = await answerOf(url)
    took.push(performance.now() - startMs)
  }
  const cpuMs = ((treeCpuSeconds(target.pid()) - cpuBefore) * 1000) / took.length
  took.sort((a, b) => a - b)
  return { rows: rows ?? rowsOf(JSON.parse(last) as Answer), ms: took[took.length >> 1]!, cpuMs }
}

async function answerOf(url: string): Promise<string> {
  const response = await fetch(url)
  const text = await response.text()
  if (!response.ok) throw new Error(`${url} was answered ${response.status}: ${text.slice(0, 500)}`)
  return text
}

interface Answer {
  readonly data: {
    readonly result: readonly {
      metric: Record<string, string>
      value?: [number, string]
      values?: [number, string][]
    }[]
  }
}

function rowsOf({ data }: Answer): Rows {
  return new Map(
    data.result.map(({ metric, value, values }) => {
      const key = JSON.stringify(Object.entries(metric).sort(([a], [b]) => (a < b ? -1 : 1)))
      return [key, (values ?? [value!]).flatMap(([time, text]) => [String(time), text])]
    }),
  )
}

export function compare(a: Rows, b: Rows): string {
  if (a.size !== b.size) return `${a.size} rows and ${b.size}`
  let worst = 0
  for (const [key, values] of a) {
    const others = b.get(key)
    if (others === undefined) return `no row ${key.slice(0, 100)}`
    if (others.length !== values.length) return `${values.length / 2} points and ${others.length / 2}`
    for (let i = 0; i < values.length; i++) {
      if (values[i] === others[i]) continue
      const x = Number(values[i])
      const y = Number(others[i])
      worst = Math.max(worst, Math.abs(x - y) / Math.max(Math.abs(x), Math.abs(y)))
    }
  }
  return worst === 0 ? 'equal' : `within ${worst.toExponential(0)}`
}
