// How many series there are, by what: `status/tsdb` as Prometheus has it, and the cardinality questions of Mimir. All of them look at what
// owners hold in memory, which is what a tenant writes now; blocks are not read.
//
// All series are named once per question: it costs what `series` without a limit does, and counts against the same limits.
import type { Clock } from '../../shared/base/clock.ts'
import { RefusedError } from '../../shared/base/errors.ts'
import { ask, askStream } from '../../shared/bus/ask.ts'
import type { Bus } from '../../shared/bus/port.ts'
import type { QueryParams } from '../../shared/contracts/query.ts'
import * as read from '../../shared/contracts/read.ts'
import { ALL_TIME, type Interval } from '../../shared/model/interval.ts'
import { compareBytes, compareLabels, type Labels, METRIC_NAME } from '../../shared/model/labels.ts'
import type { Matcher } from '../../shared/model/matcher.ts'
import { badData, isFault, parseInteger } from '../../shared/promql/go-values.ts'
import { parseSelector } from '../../shared/promql/parse/parser.ts'
import type { Answer, AnswerKind, Asked } from './asked.ts'
import { type Collected, collect } from './frames.ts'
import { seriesBody } from './label-bodies.ts'
import type { ReadScope } from './partition-reader.ts'
import { unite } from './union.ts'
import type { WholeReader } from './whole-reader.ts'

export interface CardinalityDeps {
  readonly bus: Bus
  readonly clock: Clock
  readonly reader: WholeReader
}

/** Series without a sample for this long are not active: Mimir's default. */
const ACTIVE_MS = 20 * 60_000
const TSDB_LIMIT = 10
const TSDB_LIMIT_MAX = 10_000
const LIMIT = 20
const LIMIT_MAX = 500
/** Label names that one question may count. */
const NAMES_MAX = 100
/** As Prometheus answers where there are no samples. */
const NO_TIMES = '"minTime":9223372036854775807,"maxTime":-9223372036854775808'

type CardinalityKind = 'tsdb' | 'cardinality_label_names' | 'cardinality_label_values' | 'cardinality_active_series'

/** Label name → value → series. */
type Counts = Map<string, Map<string, number>>

interface Stat {
  readonly name: string
  readonly value: number
}

export function cardinalityQueries(deps: CardinalityDeps): Readonly<Record<CardinalityKind, AnswerKind>> {
  const { bus, clock, reader } = deps
  return {
    tsdb,
    cardinality_label_names: labelNames,
    cardinality_label_values: labelValues,
    cardinality_active_series: activeSeries,
  }

  async function tsdb(asked: Asked): Promise<Answer> {
    const limit = tsdbLimit(asked.params)
    return asked.run(undefined, async (scope) => {
      const [series, stats] = await Promise.all([namedSeries(asked, scope, [], ALL_TIME), headStats(asked, scope)])
      const counts = countsOf(series)
      let pairCount = 0
      for (const values of counts.values()) pairCount += values.size
      const times = stats.flatMap((stat) => (stat.times === undefined ? [] : [stat.times]))
      const minMs = times.reduce((least, { minMs }) => Math.min(least, minMs), Number.POSITIVE_INFINITY)
      const maxMs = times.reduce((most, { maxMs }) => Math.max(most, maxMs), Number.NEGATIVE_INFINITY)
      const chunkCount = stats.reduce((sum, stat) => sum + stat.chunkCount, 0)
      const timesText = times.length === 0 ? NO_TIMES : `"minTime":${minMs},"maxTime":${maxMs}`
      const head = `{"numSeries":${series.length},"numLabelPairs":${pairCount},"chunkCount":${chunkCount},${timesText}}`
      const lists = JSON.stringify({
        seriesCountByMetricName: top(limit, [...(counts.get(METRIC_NAME) ?? [])]),
        labelValueCountByLabelName: top(
          limit,
          [...counts].map(([name, values]) => [name, values.size]),
        ),
        memoryInBytesByLabelName: top(
          limit,
          [...counts].map(([name, values]) => [name, labelBytes(name, values)]),
        ),
        seriesCountByLabelValuePair: top(limit, pairsOf(counts)),
      })
      return { data: [`{"headStats":${head},${lists.slice(1)}`] }
    })
  }

  async function labelNames(asked: Asked): Promise<Answer> {
    const { selector, range, limit } = cardinalityParams(asked.params)
    return asked.run(undefined, async (scope) => {
      const counts = countsOf(await namedSeries(asked, scope, selector, range))
      const names = ordered([...counts].map(([name, values]) => [name, values.size]))
      return json({
        label_values_count_total: names.reduce((sum, { value }) => sum + value, 0),
        label_names_count: names.length,
        cardinality: names.slice(0, limit).map(({ name, value }) => ({ label_name: name, label_values_count: value })),
      })
    })
  }

  async function labelValues(asked: Asked): Promise<Answer> {
    const { selector, range, limit } = cardinalityParams(asked.params)
    const names = [...new Set(asked.params.label_names ?? [])]
    if (names.length === 0) throw badData("'label_names[]' param is required")
    if (names.length > NAMES_MAX) throw badData(`at most ${NAMES_MAX} 'label_names[]' are counted at a time`)
    for (const name of names)
      if (name === '' || !name.isWellFormed()) throw badData(`invalid label_names param '${name}'`)
    return asked.run(undefined, async (scope) => {
      const series = await namedSeries(asked, scope, selector, range)
      const counts = countsOf(series)
      const labels = names.map((name) => {
        const values = ordered([...(counts.get(name) ?? [])])
        return {
          label_name: name,
          label_values_count: values.length,
          series_count: values.reduce((sum, { value }) => sum + value, 0),
          cardinality: values.slice(0, limit).map((each) => ({ label_value: each.name, series_count: each.value })),
        }
      })
      const byCount = labels.sort(
        (a, b) => b.label_values_count - a.label_values_count || compareBytes(a.label_name, b.label_name),
      )
      return json({ series_count_total: series.length, labels: byCount })
    })
  }

  async function activeSeries(asked: Asked): Promise<Answer> {
    const selector = selectorIn(asked.params)
    if (selector.length === 0) throw badData("'selector' param is required")
    const range = { startMs: clock.now() - ACTIVE_MS, endMs: Number.POSITIVE_INFINITY }
    return asked.run(undefined, async (scope) => {
      const parts = ['{"data":', ...seriesBody(await namedSeries(asked, scope, selector, range)), '}']
      return { data: undefined, raw: parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)) }
    })
  }

  /** The label sets that owners hold, each once, in their order. */
  async function namedSeries(
    { budget }: Asked,
    scope: ReadScope,
    selector: readonly Matcher[],
    range: Interval,
  ): Promise<readonly Labels[]> {
    const answers = await reader.readAll<Collected>(scope, range, budget, {
      owner(call, { account, sourceCount }) {
        const request = { ...call.ask, selectors: [selector], ...range, limit: account.seriesLeft + 1 }
        const frames = askStream(bus, read.series, { id: call.owner }, request, call)
        const collected = { range, isHashed: sourceCount > 1, budget: account, onFirst: call.onFirst }
        return collect(frames, collected)
      },
    })
    for (const { warnings } of answers) for (const text of warnings) scope.warn(text)
    const labelSets = unite(answers.map(({ answer }) => answer)).series.map(({ labels }) => labels)
    return labelSets.sort(compareLabels)
  }

  function headStats({ budget }: Asked, scope: ReadScope): Promise<read.HeadStatsReply[]> {
    return reader.readAll(scope, ALL_TIME, budget, {
      owner: (call) => ask(bus, read.headStats, { id: call.owner }, call.ask, call),
    })
  }

  function cardinalityParams(params: QueryParams) {
    const method = params.count_method ?? ''
    if (!['', 'inmemory', 'active'].includes(method)) {
      throw badData(`invalid count_method param '${method}'. valid options are: [inmemory,active]`)
    }
    const limit = params.limit === undefined || params.limit === '' ? LIMIT : parseInteger(params.limit)
    if (isFault(limit)) throw badData(limit.fault)
    if (limit < 0) throw badData(`'limit' param cannot be less than '0'`)
    if (limit > LIMIT_MAX) throw badData(`'limit' param cannot be greater than '${LIMIT_MAX}'`)
    const startMs = method === 'active' ? clock.now() - ACTIVE_MS : Number.NEGATIVE_INFINITY
    return { selector: selectorIn(params), limit, range: { startMs, endMs: Number.POSITIVE_INFINITY } }
  }
}

function selectorIn({ selector = '' }: QueryParams): readonly Matcher[] {
  if (selector === '') return []
  try {
    return parseSelector(selector)
  } catch (error) {
    if (error instanceof RefusedError) throw badData(`failed to parse selector: ${error.message}`)
    throw error
  }
}

function tsdbLimit({ limit: text = '' }: QueryParams): number {
  if (text === '') return TSDB_LIMIT
  const limit = parseInteger(text)
  if (isFault(limit) || limit < 1) throw badData('limit must be a positive number')
  if (limit > TSDB_LIMIT_MAX) throw badData(`limit must not exceed ${TSDB_LIMIT_MAX}`)
  return limit
}

function countsOf(series: readonly Labels[]): Counts {
  const counts: Counts = new Map()
  for (const labels of series) {
    for (let i = 0; i < labels.length; i += 2) {
      let values = counts.get(labels[i]!)
      if (values === undefined) {
        values = new Map()
        counts.set(labels[i]!, values)
      }
      values.set(labels[i + 1]!, (values.get(labels[i + 1]!) ?? 0) + 1)
    }
  }
  return counts
}

/** What a label would take if each series had its own copy of name and value, two lengths included. */
function labelBytes(name: string, values: ReadonlyMap<string, number>): number {
  const nameBytes = Buffer.byteLength(name) + 2
  let bytes = 0
  for (const [value, count] of values) bytes += (nameBytes + Buffer.byteLength(value)) * count
  return bytes
}

function pairsOf(counts: Counts): readonly (readonly [string, number])[] {
  const pairs: (readonly [string, number])[] = []
  for (const [name, values] of counts) for (const [value, count] of values) pairs.push([`${name}=${value}`, count])
  return pairs
}

/** Largest first; equal ones by name. */
function ordered(rows: readonly (readonly [string, number])[]): Stat[] {
  return rows
    .map(([name, value]) => ({ name, value }))
    .sort((a, b) => b.value - a.value || compareBytes(a.name, b.name))
}

function top(limit: number, rows: readonly (readonly [string, number])[]): Stat[] {
  return ordered(rows).slice(0, limit)
}

function json(value: unknown): Answer {
  return { data: undefined, raw: [Buffer.from(JSON.stringify(value))] }
}
