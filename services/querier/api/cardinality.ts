// How many series there are, by what: `status/tsdb` as Prometheus has it, and the cardinality questions of Mimir. All of them look at what
// owners hold in memory, which is what a tenant writes now; blocks are not read.
//
// All series are named once per question: it costs what `series` without a limit does, and counts against the same limits.
import { type Breath, forEach } from '../../../shared/base/breathing.ts'
import type { Clock } from '../../../shared/base/clock.ts'
import { RefusedError } from '../../../shared/base/errors.ts'
import { sortLong } from '../../../shared/base/long-sort.ts'
import { ask, askStream } from '../../../shared/bus/ask.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import type { QueryParams } from '../../../shared/contracts/query.ts'
import * as read from '../../../shared/contracts/read.ts'
import { ALL_TIME, type Interval } from '../../../shared/model/interval.ts'
import { compareBytes, type Labels, METRIC_NAME } from '../../../shared/model/labels.ts'
import type { Matcher } from '../../../shared/model/matcher.ts'
import { sortedByLabels } from '../../../shared/promql/exec/labels.ts'
import { badData, isFault, parseInteger } from '../../../shared/promql/go-values.ts'
import { parseSelector } from '../../../shared/promql/parse/parser.ts'
import { type Collected, collect } from '../read/frames.ts'
import { unite } from '../read/merge-series.ts'
import type { ReadScope } from '../read/partition-reader.ts'
import type { WholeReader } from '../read/tenant-reader.ts'
import { seriesBody } from './label-bodies.ts'
import type { Answer, AnswerKind, Asked } from './query-kind.ts'

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

/** A name and a count. */
type Row = readonly [string, number]

/** Of counting a series' labels, and one text, in units of work. */
const SERIES_WORK = 1_000
const TEXT_WORK = 100

interface LabelCardinality {
  readonly label_name: string
  readonly label_values_count: number
  readonly series_count: number
  readonly cardinality: readonly { readonly label_value: string; readonly series_count: number }[]
}

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
      const { breath } = scope
      const counts = await countsOf(series, breath)
      let pairCount = 0
      for (const values of counts.values()) pairCount += values.size
      const times = stats.flatMap((stat) => (stat.times === undefined ? [] : [stat.times]))
      const minMs = times.reduce((least, { minMs }) => Math.min(least, minMs), Number.POSITIVE_INFINITY)
      const maxMs = times.reduce((most, { maxMs }) => Math.max(most, maxMs), Number.NEGATIVE_INFINITY)
      const chunkCount = stats.reduce((sum, stat) => sum + stat.chunkCount, 0)
      const timesText = times.length === 0 ? NO_TIMES : `"minTime":${minMs},"maxTime":${maxMs}`
      const head = `{"numSeries":${series.length},"numLabelPairs":${pairCount},"chunkCount":${chunkCount},${timesText}}`
      const lists = JSON.stringify({
        seriesCountByMetricName: await top(limit, [...(counts.get(METRIC_NAME) ?? [])], breath),
        labelValueCountByLabelName: await top(
          limit,
          [...counts].map(([name, values]) => [name, values.size]),
          breath,
        ),
        memoryInBytesByLabelName: await top(limit, await labelBytesOf(counts, breath), breath),
        seriesCountByLabelValuePair: await top(limit, await pairsOf(counts, breath), breath),
      })
      return { data: [`{"headStats":${head},${lists.slice(1)}`] }
    })
  }

  async function labelNames(asked: Asked): Promise<Answer> {
    const { selector, range, limit } = cardinalityParams(asked.params)
    return asked.run(undefined, async (scope) => {
      const { breath } = scope
      const counts = await countsOf(await namedSeries(asked, scope, selector, range), breath)
      const names = await ordered(
        [...counts].map(([name, values]) => [name, values.size]),
        breath,
      )
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
      const { breath } = scope
      const counts = await countsOf(series, breath)
      const labels: LabelCardinality[] = []
      for (const name of names) {
        const values = await ordered([...(counts.get(name) ?? [])], breath)
        labels.push({
          label_name: name,
          label_values_count: values.length,
          series_count: values.reduce((sum, { value }) => sum + value, 0),
          cardinality: values.slice(0, limit).map((each) => ({ label_value: each.name, series_count: each.value })),
        })
      }
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
      const series = await namedSeries(asked, scope, selector, range)
      const parts = ['{"data":', ...(await seriesBody(series, scope.breath)), '}']
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
        const { breath } = scope
        return collect(frames, { range, isHashed: sourceCount > 1, budget: account, breath, onFirst: call.onFirst })
      },
    })
    for (const { warnings } of answers) for (const text of warnings) scope.warn(text)
    const { breath } = scope
    const united = await unite(
      answers.map(({ answer }) => answer),
      breath,
    )
    return (await sortedByLabels(united.series, breath)).map(({ labels }) => labels)
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

async function countsOf(series: readonly Labels[], breath: Breath): Promise<Counts> {
  const counts: Counts = new Map()
  await forEach(series, SERIES_WORK, breath, (labels) => {
    for (let i = 0; i < labels.length; i += 2) {
      let values = counts.get(labels[i]!)
      if (values === undefined) {
        values = new Map()
        counts.set(labels[i]!, values)
      }
      values.set(labels[i + 1]!, (values.get(labels[i + 1]!) ?? 0) + 1)
    }
  })
  return counts
}

/** What labels would take if each series had its own copy of name and value, two lengths included. */
async function labelBytesOf(counts: Counts, breath: Breath): Promise<Row[]> {
  const rows: Row[] = []
  for (const [name, values] of counts) {
    const nameBytes = Buffer.byteLength(name) + 2
    let bytes = 0
    await forEach(values, TEXT_WORK, breath, ([value, count]) => {
      bytes += (nameBytes + Buffer.byteLength(value)) * count
    })
    rows.push([name, bytes])
  }
  return rows
}

async function pairsOf(counts: Counts, breath: Breath): Promise<Row[]> {
  const pairs: Row[] = []
  for (const [name, values] of counts) {
    await forEach(values, TEXT_WORK, breath, ([value, count]) => void pairs.push([`${name}=${value}`, count]))
  }
  return pairs
}

/** Largest first; equal ones by name. */
async function ordered(rows: readonly Row[], breath: Breath): Promise<Stat[]> {
  const stats = rows.map(([name, value]) => ({ name, value }))
  return sortLong(stats, (a, b) => b.value - a.value || compareBytes(a.name, b.name), breath)
}

async function top(limit: number, rows: readonly Row[], breath: Breath): Promise<Stat[]> {
  return (await ordered(rows, breath)).slice(0, limit)
}

function json(value: unknown): Answer {
  return { data: undefined, raw: [Buffer.from(JSON.stringify(value))] }
}
