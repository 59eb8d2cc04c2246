// Questions about what exists rather than about samples: series, labels, label values, metadata, exemplars. Each is asked of all
// partitions, the first three of blocks as well, united and cut to its limit.
import { type Breath, forEach } from '../../../shared/base/breathing.ts'
import { sortLong } from '../../../shared/base/long-sort.ts'
import { ask, askStream } from '../../../shared/bus/ask.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import * as read from '../../../shared/contracts/read.ts'
import { ALL_TIME } from '../../../shared/model/interval.ts'
import { compareBytes, type Labels, labelsKey } from '../../../shared/model/labels.ts'
import { sortedByLabels } from '../../../shared/promql/exec/labels.ts'
import { type ParseOptions, parse } from '../../../shared/promql/parse/parser.ts'
import type { Account, Budget } from '../limits/budget.ts'
import { seriesFrom, stringsFrom } from '../read/block-reading.ts'
import { type Collected, collect } from '../read/frames.ts'
import { unite } from '../read/merge-series.ts'
import type { OwnerCall, ReadScope } from '../read/partition-reader.ts'
import type { WholeReader } from '../read/tenant-reader.ts'
import { exemplarsBody, metadataBody, seriesBody, textsBody } from './label-bodies.ts'
import {
  exemplarsRange,
  labelNameParam,
  labelsParams,
  metadataParams,
  type SelectorBounds,
  type SelectorParams,
  seriesParams,
} from './params.ts'
import type { Answer, AnswerKind, Asked } from './query-kind.ts'
import { TRUNCATED } from './response.ts'
import { selectorsIn } from './selectors.ts'

export interface LabelQueryDeps {
  readonly bus: Bus
  readonly reader: WholeReader
  readonly bounds: SelectorBounds
  readonly parsing: ParseOptions
}

type LabelKind = 'series' | 'labels' | 'label_values' | 'metadata' | 'exemplars'

export function labelQueries(deps: LabelQueryDeps): Readonly<Record<LabelKind, AnswerKind>> {
  const { bus, reader, bounds, parsing } = deps
  return { series, labels, label_values, metadata, exemplars }

  async function series({ params, budget, breath, run }: Asked): Promise<Answer> {
    const asked = await seriesParams(params, bounds, breath)
    return run(undefined, async (scope) => {
      const labelSets = await labelSetsOf({ bus, reader }, asked, scope, budget)
      return { data: await seriesBody(cut(labelSets, asked.limit, scope), scope.breath) }
    })
  }

  async function labels({ params, budget, breath, run }: Asked): Promise<Answer> {
    const asked = await labelsParams(params, bounds, breath)
    return run(undefined, (scope) =>
      strings(asked, scope, budget, {
        ofOwner: (call, account) =>
          ask(bus, read.labelNames, { id: call.owner }, selectorAsk(call, asked, account), call),
      }),
    )
  }

  async function label_values({ params, budget, breath, run }: Asked): Promise<Answer> {
    const name = labelNameParam(params)
    const asked = await labelsParams(params, bounds, breath)
    return run(undefined, (scope) =>
      strings(asked, scope, budget, {
        ofOwner: (call, account) =>
          ask(bus, read.labelValues, { id: call.owner }, { ...selectorAsk(call, asked, account), name }, call),
        name,
      }),
    )
  }

  /** Names or values of everywhere, each once, sorted. */
  async function strings(asked: SelectorParams, scope: ReadScope, budget: Budget, of: StringsOf): Promise<Answer> {
    const lists = await reader.readAll<readonly string[]>(scope, asked, budget, {
      async owner(call, { account }) {
        const { values, stamp } = await of.ofOwner(call, account)
        warnAll(scope, [stamp])
        return spent(account, values)
      },
      async block(call, { account }) {
        return spent(account, await stringsFrom(call, asked, of.name))
      },
    })
    const { breath } = scope
    const all = new Set<string>()
    for (const list of lists) await forEach(list, TEXT_WORK, breath, (text) => all.add(text))
    const sorted = await sortLong([...all], compareBytes, breath)
    return { data: await textsBody(cut(sorted, asked.limit, scope), breath) }
  }

  async function metadata({ params, budget, run }: Asked): Promise<Answer> {
    const { metric, limit, limitPerMetric } = metadataParams(params)
    return run(undefined, async (scope) => {
      const answers = await reader.readAll(scope, ALL_TIME, budget, {
        async owner(call, { account }) {
          const request = { ...call.ask, metric, limit: ownerLimit(0, account.seriesLeft) }
          const reply = await ask(bus, read.metadata, { id: call.owner }, request, call)
          spent(account, reply.metadata)
          return reply
        },
      })
      warnStamps(scope, answers)
      const byMetric = new Map<string, read.MetricMetadata[]>()
      const { breath } = scope
      for (const { metadata } of answers)
        await forEach(metadata, TEXT_WORK, breath, (entry) => addMetadata(byMetric, entry, limitPerMetric))
      const sorted = await sortLong([...byMetric], ([a], [b]) => compareBytes(a, b), breath)
      return { data: await metadataBody(limit >= 0 ? sorted.slice(0, limit) : sorted, breath) }
    })
  }

  async function exemplars({ params, budget, run }: Asked): Promise<Answer> {
    const { startMs, endMs } = exemplarsRange(params)
    const selectors = selectorsIn(parse(params.query ?? '', parsing))
    if (selectors.length === 0) return { data: undefined }
    return run(undefined, async (scope) => {
      const answers = await reader.readAll(scope, { startMs, endMs }, budget, {
        async owner(call, { account }) {
          const request = { ...call.ask, selectors, startMs, endMs, limit: ownerLimit(0, account.seriesLeft) }
          const reply = await ask(bus, read.exemplars, { id: call.owner }, request, call)
          spent(account, reply.series)
          return reply
        },
      })
      warnStamps(scope, answers)
      const { breath } = scope
      const all = answers.map((answer) => answer.series)
      return { data: await exemplarsBody(await unitedExemplars(all, breath), breath) }
    })
  }
}

/** The series that match any of the selectors, sorted; where there is a limit, perhaps one more. */
export async function labelSetsOf(
  { bus, reader }: Pick<LabelQueryDeps, 'bus' | 'reader'>,
  { selectors, startMs, endMs, limit }: SelectorParams,
  scope: ReadScope,
  budget: Account,
): Promise<Labels[]> {
  const range = { startMs, endMs }
  const answers = await reader.readAll<Collected>(scope, range, budget, {
    owner(call, { account, sourceCount }) {
      const request = { ...call.ask, selectors, startMs, endMs, limit: ownerLimit(limit, account.seriesLeft) }
      const frames = askStream(bus, read.series, { id: call.owner }, request, call)
      const { breath } = scope
      return collect(frames, { range, isHashed: sourceCount > 1, budget: account, breath, onFirst: call.onFirst })
    },
    block(call, reading) {
      const asked = { selectors, range, limit: ownerLimit(limit, reading.account.seriesLeft) }
      return seriesFrom(call, asked, reading)
    },
  })
  warnAll(scope, answers)
  const { breath } = scope
  const united = await unite(
    answers.map((each) => each.answer),
    breath,
    (bytes) => budget.hold(bytes),
  )
  return (await sortedByLabels(united.series, breath)).map((each) => each.labels)
}

function selectorAsk(
  call: OwnerCall,
  { selectors, startMs, endMs, limit }: SelectorParams,
  account: Account,
): read.SeriesRequest {
  return { ...call.ask, selectors, startMs, endMs, limit: ownerLimit(limit, account.seriesLeft) }
}

/** How names or values are asked for. */
interface StringsOf {
  ofOwner(call: OwnerCall, account: Account): Promise<read.StringsReply>
  /** Values of this label; names where absent. */
  readonly name?: string
}

/** One more than is shown, so that cutting shows; never more than the query may hold. */
function ownerLimit(limit: number, left: number): number {
  return limit === 0 ? left + 1 : Math.min(limit, left) + 1
}

/** Of a text in a list, and of a series with exemplars, in units of work. */
const TEXT_WORK = 200
const EXEMPLARS_WORK = 10_000

/** A text in a list, about. */
const ENTRY_BYTES = 200

/** What is no series counts like one. */
function spent<T>(account: Account, list: readonly T[]): readonly T[] {
  account.spend({ series: list.length, samples: 0, bytes: 0 })
  account.hold(ENTRY_BYTES * list.length)
  return list
}

function cut<T>(list: readonly T[], limit: number, scope: ReadScope): readonly T[] {
  if (limit === 0 || list.length <= limit) return list
  scope.warn(TRUNCATED)
  return list.slice(0, limit)
}

function warnStamps(scope: ReadScope, answers: readonly { stamp: read.OwnerStamp }[]): void {
  warnAll(
    scope,
    answers.map(({ stamp }) => stamp),
  )
}

function warnAll(scope: ReadScope, answers: readonly { warnings: readonly string[] }[]): void {
  for (const { warnings } of answers) for (const text of warnings) scope.warn(text)
}

/** Equal entries count once. */
function addMetadata(
  byMetric: Map<string, read.MetricMetadata[]>,
  entry: read.MetricMetadata,
  limitPerMetric: number,
): void {
  const entries = byMetric.get(entry.metric) ?? []
  byMetric.set(entry.metric, entries)
  const isKnown = entries.some(
    ({ type, help, unit }) => type === entry.type && help === entry.help && unit === entry.unit,
  )
  if (!isKnown && (limitPerMetric <= 0 || entries.length < limitPerMetric)) entries.push(entry)
}

type ExemplarSeries = read.ExemplarsReply['series'][number]

/** Each label set once, sorted; its exemplars by time, equal ones once. */
async function unitedExemplars(
  lists: readonly (readonly ExemplarSeries[])[],
  breath: Breath,
): Promise<readonly ExemplarSeries[]> {
  const byLabels = new Map<string, { labels: Labels; exemplars: Map<string, read.ExemplarRow> }>()
  const take = ({ labels, exemplars }: ExemplarSeries) => {
    const key = labelsKey(labels)
    const united = byLabels.get(key) ?? { labels, exemplars: new Map() }
    byLabels.set(key, united)
    for (const row of exemplars) united.exemplars.set(`${row.time} ${row.value} ${labelsKey(row.labels)}`, row)
  }
  for (const list of lists) await forEach(list, EXEMPLARS_WORK, breath, take)
  const united: ExemplarSeries[] = []
  await forEach(byLabels.values(), EXEMPLARS_WORK, breath, ({ labels, exemplars }) => {
    united.push({ labels, exemplars: [...exemplars.values()].sort((a, b) => a.time - b.time) })
  })
  return sortedByLabels(united, breath)
}
