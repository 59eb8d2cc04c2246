// Asks Carillon and a real Prometheus the same random questions about the same random data, and compares everything that comes back:
// status, error type and text, values, warnings, infos.
import { type Random, seededRandom } from '../../shared/base/random.ts'
import { FUNCTIONS } from '../../shared/promql/parse/functions.ts'
import { type Answered, ask, pushUntilTaken } from '../cluster/client.ts'
import { type FoundPrometheus, startPrometheus } from '../cluster/prometheus-process.ts'
import { startSystem } from '../cluster/system.ts'
import { fixture, START_MS, STEP_MS, STEPS } from './promql-fixture.ts'
import { type Dialect, queryMaker } from './promql-grammar.ts'

/** How far floats may differ, relatively: functions that are not exactly defined (exp, sin, …), sums in another order. */
const TOLERANCE = 1e-12
const AT_ONCE = 4
/** How often Prometheus is asked again. */
const AGAIN_MAX = 50

export interface Difference {
  readonly query: string
  readonly times: Record<string, string>
  readonly why: string
  readonly theirs: string
  readonly ours: string
}

export interface Report {
  readonly asked: number
  readonly nonEmpty: number
  readonly errors: number
  /** Answers whose floats differ, within the tolerance. */
  readonly rounded: number
  /** Answers on which Prometheus contradicts itself when asked again. */
  readonly unsettled: number
  readonly differences: readonly Difference[]
}

export interface OracleOptions {
  readonly prometheus: FoundPrometheus
  readonly seed: number
  readonly queries: number
  onProgress?(asked: number, differing: number): void
}

const features = [
  'promql-experimental-functions',
  'promql-duration-expr',
  'promql-extended-range-selectors',
  'promql-binop-fill-modifiers',
  'native-histograms',
  'promql-per-step-stats',
]

export async function compareWithPrometheus({ prometheus, seed, queries, onProgress }: OracleOptions): Promise<Report> {
  const random = seededRandom(seed)
  // one partition: sums then run over the series in the order in which they came, as there
  const ourFeatures = [
    'promql-experimental-functions',
    'promql-extended-range-selectors',
    'promql-binop-fill-modifiers',
  ]
  const system = await startSystem({ args: ['--partitions', '1', '--enable-feature', ourFeatures.join(',')] })
  try {
    const args = ['--web.enable-remote-write-receiver', '--storage.tsdb.retention.time=100y']
    const other = await startPrometheus(prometheus, { jobs: {}, args, features })
    try {
      for (const series of fixture(random)) {
        for (const [url, path] of [
          [other.url, '/api/v1/write'],
          [system.url, '/api/v1/push'],
        ] as const) {
          const { status, text } = await pushUntilTaken(url, { series }, { protocol: 2, path })
          if (status !== 204) throw new Error(`${url} answered a push with ${status}: ${text}`)
        }
      }
      await ask(system.url, '/api/v1/query', { query: '1' }, { consistency: 'strong' })
      return await run({ theirs: other.url, ours: system.url, random, queries, ...(onProgress && { onProgress }) })
    } finally {
      await other.stop()
    }
  } finally {
    await system.stop()
  }
}

interface Run {
  readonly theirs: string
  readonly ours: string
  readonly random: Random
  readonly queries: number
  onProgress?(asked: number, differing: number): void
}

async function run({ theirs, ours, random, queries, onProgress }: Run): Promise<Report> {
  const next = queryMaker(random, await dialectOf(theirs))
  const counts = { asked: 0, nonEmpty: 0, errors: 0, rounded: 0, unsettled: 0 }
  const differences: Difference[] = []
  const one = async (query: string, times: Record<string, string>) => {
    const path = 'step' in times ? '/api/v1/query_range' : '/api/v1/query'
    const answerOf = (url: string) => ask(url, path, { query, ...times, stats: 'all' }, { method: 'POST' })
    const [a, b] = await Promise.all([answerOf(theirs), answerOf(ours)])
    counts.asked++
    if (a.status !== 200) counts.errors++
    else if (!isNothing(a.body.data)) counts.nonEmpty++
    const verdict = compare(query, a, b)
    if (verdict === 'same') return
    if (verdict === 'rounded') counts.rounded++
    else if (await isUnsettled(query, a, b, () => answerOf(theirs))) counts.unsettled++
    else differences.push({ query, times, why: verdict, theirs: shown(a.body), ours: shown(b.body) })
  }
  let left = queries
  const worker = async () => {
    while (left-- > 0) {
      await one(next(), timesFrom(random))
      if (counts.asked % 500 === 0) onProgress?.(counts.asked, differences.length)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
  return { ...counts, differences }
}

/** Asked again, Prometheus answers as Carillon did, or otherwise than before in the same respect: what an operator gives over a range, and what count_values gives,
 *  it keeps in hash tables that are walked in another order each time, and a topk or an error text shows what comes first. */
async function isUnsettled(query: string, a: Answered, b: Answered, again: () => Promise<Answered>): Promise<boolean> {
  const respect = respectOf(compare(query, a, b))
  for (let left = AGAIN_MAX; left > 0; left--) {
    const other = await again()
    const verdict = compare(query, other, a)
    if (compare(query, other, b) === 'same' || (!isClose(verdict) && respectOf(verdict) === respect)) return true
  }
  return false
}

const respectOf = (verdict: Verdict) => /^(status|error \w+|warnings|infos|samples)/.exec(verdict)?.[0] ?? 'values'

const isClose = (verdict: Verdict) => verdict === 'same' || verdict === 'rounded'

/** Between samples, and now and then right on one, or outside. */
function timesFrom(random: Random): Record<string, string> {
  const instant = () => {
    const step = random.below(20) === 0 ? STEPS + random.below(40) : 20 + random.below(STEPS - 20)
    return START_MS + step * STEP_MS + (random.below(3) === 0 ? 0 : random.below(STEP_MS))
  }
  const seconds = (ms: number) => (ms / 1000).toFixed(3)
  const endMs = instant()
  if (random.below(2) === 0) return { time: seconds(endMs) }
  const stepS = [15, 30, 60, 7, 300][random.below(5)]!
  return { start: seconds(endMs - stepS * 1000 * random.below(20)), end: seconds(endMs), step: String(stepS) }
}

/** What this Prometheus knows, found out by asking. */
async function dialectOf(url: string): Promise<Dialect> {
  const accepts = async (query: string) => {
    const { body } = await ask(url, '/api/v1/query', { query })
    return (
      body.status === 'success' ||
      !/unknown function|parse error|not enabled|experimental|duration expression/.test(body.error)
    )
  }
  const functions = []
  for (const signature of FUNCTIONS.values()) {
    const { body } = await ask(url, '/api/v1/query', { query: `${signature.name}()` })
    if (!/unknown function|not enabled/.test(body.error ?? '') && signature.name !== 'start_timestamp')
      functions.push(signature)
  }
  return {
    functions,
    hasLimit: await accepts('limitk(1, up)'),
    hasExtendedRanges: await accepts('rate(up[1m] smoothed)'),
    hasFill: await accepts('up + on(job) fill(0) up'),
    hasDurationExpressions: await accepts('up offset (step()*2)'),
  }
}

type Verdict = 'same' | 'rounded' | string

function compare(query: string, a: Answered, b: Answered): Verdict {
  if (a.status !== b.status) return `status ${a.status} and ${b.status}`
  if (a.body.status === 'error') {
    if (a.body.errorType !== b.body.errorType) return 'error type'
    return a.body.error === b.body.error ? 'same' : 'error text'
  }
  for (const kind of ['warnings', 'infos']) {
    if (notes(a.body[kind]) !== notes(b.body[kind])) return `${kind}: ${notes(a.body[kind])} / ${notes(b.body[kind])}`
  }
  if (a.body.data.resultType !== b.body.data.resultType) return 'result type'
  const verdict = compareResults(query, a.body.data, b.body.data)
  return isClose(verdict) ? (samplesDiffer(a.body.data.stats.samples, b.body.data.stats.samples) ?? verdict) : verdict
}

/** Older ones count other things, or not per step. */
function samplesDiffer(a: Record<string, unknown>, b: Record<string, unknown>): string | undefined {
  if (!('samplesReadPerStep' in a)) return undefined
  const differs = (name: string) => JSON.stringify(a[name]) !== JSON.stringify(b[name])
  const name = Object.keys(a).find((name) => name !== 'peakSamples' && differs(name))
  return name && `samples: ${name} ${JSON.stringify(a[name])} / ${JSON.stringify(b[name])}`
}

/** Prometheus shows ten of them, in the order of a hash table. */
function notes(list: readonly string[] = []): string {
  if (list.length > 10) return list[10]!
  return [...list]
    .map((text) => text.replace(/\d\.\d{12,}/g, (number) => Number(number).toPrecision(11)))
    .sort()
    .join('\n')
}

// biome-ignore lint/suspicious/noExplicitAny: JSON of four shapes, compared whole
function compareResults(query: string, a: any, b: any): Verdict {
  if (a.resultType === 'scalar' || a.resultType === 'string') return compareValues(a.result, b.result)
  if (a.result.length !== b.result.length) return `${a.result.length} and ${b.result.length} series`
  const isOrdered = a.resultType === 'vector' && /^sort(_by_label)?(_desc)?\(/.test(query)
  // count_values makes labels of floats
  const textOf = (text: string) =>
    /count_values/.test(query) && Number.isFinite(Number(text)) ? Number(text).toPrecision(11) : text
  const key = (series: { metric: Record<string, string> }) =>
    JSON.stringify(
      Object.entries(series.metric)
        .map(([name, text]) => [name, textOf(text)])
        .sort(),
    )
  if (isOrdered) {
    // the values must stand in the same order; sorting there leaves equal ones in any
    const values = (list: { value: unknown }[]) => list.map(({ value }) => value)
    const verdict = compareValues(values(a.result), values(b.result))
    if (!/^sort_by_label/.test(query) && !isClose(verdict)) return `order: ${verdict}`
  }
  const sorted = (list: { metric: Record<string, string> }[]) => [...list].sort((x, y) => (key(x) < key(y) ? -1 : 1))
  const [left, right] = [sorted(a.result), sorted(b.result)]
  let verdict: Verdict = 'same'
  for (const [i, series] of left.entries()) {
    if (key(series) !== key(right[i]!)) return `labels ${key(series)} and ${key(right[i]!)}`
    const { metric: _a, ...x } = series
    const { metric: _b, ...y } = right[i]!
    const next = compareValues(x, y)
    if (!isClose(next)) return `${next} of ${key(series)}`
    if (next === 'rounded') verdict = next
  }
  return verdict
}

function compareValues(a: unknown, b: unknown): Verdict {
  const left = JSON.stringify(a)
  const right = JSON.stringify(b)
  if (left === right) return 'same'
  const numbers = /"[^"]*"/g
  const texts = [left.match(numbers) ?? [], right.match(numbers) ?? []] as const
  if (left.replace(numbers, '') !== right.replace(numbers, '')) return 'times or buckets'

  for (const [i, text] of texts[0].entries()) {
    const x = Number(text.slice(1, -1))
    const y = Number(texts[1][i]!.slice(1, -1))
    if (text === texts[1][i]) continue
    if (!(Math.abs(x - y) <= TOLERANCE * Math.max(Math.abs(x), Math.abs(y)))) return `${text} and ${texts[1][i]}`
  }
  return 'rounded'
}

// biome-ignore lint/suspicious/noExplicitAny: JSON of any answer
function isNothing(data: any): boolean {
  return (data.resultType === 'vector' || data.resultType === 'matrix') && data.result.length === 0
}

function shown(body: unknown): string {
  const text = JSON.stringify(body)
  return text.length > 600 ? `${text.slice(0, 600)}…` : text
}
