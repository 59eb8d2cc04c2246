// Questions about what exists rather than about samples: series, labels, label values, metadata, exemplars. Each is asked of all
// partitions, united and cut to its limit.

import { ask, askStream } from '../../shared/bus/ask.ts'
import type { Bus } from '../../shared/bus/port.ts'
import * as read from '../../shared/contracts/read.ts'
import { compareBytes, compareLabels, type Labels, labelsKey } from '../../shared/model/labels.ts'
import { parse } from '../../shared/promql/parse/parser.ts'
import type { Answer, AnswerKind, Asked } from './asked.ts'
import type { Budget } from './budget.ts'
import { collect } from './frames.ts'
import { exemplarsBody, metadataBody, seriesBody } from './label-bodies.ts'
import {
  exemplarsRange,
  labelNameParam,
  labelsParams,
  metadataParams,
  type SelectorParams,
  seriesParams,
} from './params.ts'
import type { OwnerCall, PartitionReader, ReadScope } from './partition-reader.ts'
import { TRUNCATED } from './reply.ts'
import { selectorsIn } from './selectors.ts'
import { unite } from './union.ts'

export interface LabelQueryDeps {
  readonly bus: Bus
  readonly reader: PartitionReader
  readonly selectorsMax: number
  readonly enabledFeatures: ReadonlySet<string>
}

type LabelKind = 'series' | 'labels' | 'label_values' | 'metadata' | 'exemplars'

export function labelQueries(deps: LabelQueryDeps): Readonly<Record<LabelKind, AnswerKind>> {
  const { bus, reader, selectorsMax, enabledFeatures } = deps
  return { series, labels, label_values, metadata, exemplars }

  async function series({ params, budget, run }: Asked): Promise<Answer> {
    const { selectors, startMs, endMs, limit } = seriesParams(params, { selectorsMax })
    return run(undefined, async (scope) => {
      const isHashed = reader.partitionCount() > 1
      const answers = await reader.readAll(scope, (call) => {
        const request = { ...call.ask, selectors, startMs, endMs, limit: ownerLimit(limit, budget.seriesLeft) }
        const frames = askStream(bus, read.series, { id: call.owner }, request, call)
        return collect(frames, { range: { startMs, endMs }, isHashed, budget, onFirst: call.onFirst })
      })
      warnAll(scope, answers)
      const labelSets = unite(answers.map((each) => each.answer)).series.map((each) => each.labels)
      labelSets.sort(compareLabels)
      return { data: seriesBody(cut(labelSets, limit, scope)) }
    })
  }

  async function labels({ params, budget, run }: Asked): Promise<Answer> {
    const asked = labelsParams(params, { selectorsMax })
    return run(undefined, async (scope) => {
      const ofOwner = (call: OwnerCall) => {
        return ask(bus, read.labelNames, { id: call.owner }, selectorAsk(call, asked, budget), call)
      }
      return strings(await reader.readAll(scope, ofOwner), asked.limit, scope, budget)
    })
  }

  async function label_values({ params, budget, run }: Asked): Promise<Answer> {
    const name = labelNameParam(params)
    const asked = labelsParams(params, { selectorsMax })
    return run(undefined, async (scope) => {
      const ofOwner = (call: OwnerCall) => {
        return ask(bus, read.labelValues, { id: call.owner }, { ...selectorAsk(call, asked, budget), name }, call)
      }
      return strings(await reader.readAll(scope, ofOwner), asked.limit, scope, budget)
    })
  }

  async function metadata({ params, budget, run }: Asked): Promise<Answer> {
    const { metric, limit, limitPerMetric } = metadataParams(params)
    return run(undefined, async (scope) => {
      const answers = await reader.readAll(scope, (call) =>
        ask(
          bus,
          read.metadata,
          { id: call.owner },
          { ...call.ask, metric, limit: ownerLimit(0, budget.seriesLeft) },
          call,
        ),
      )
      warnStamps(scope, answers)
      for (const answer of answers) spend(budget, answer.metadata.length)
      const byMetric = new Map<string, read.MetricMetadata[]>()
      for (const entry of answers.flatMap((answer) => answer.metadata)) addMetadata(byMetric, entry, limitPerMetric)
      const sorted = [...byMetric].sort(([a], [b]) => compareBytes(a, b))
      return { data: metadataBody(limit >= 0 ? sorted.slice(0, limit) : sorted) }
    })
  }

  async function exemplars({ params, budget, run }: Asked): Promise<Answer> {
    const { startMs, endMs } = exemplarsRange(params)
    const selectors = selectorsIn(parse(params.query ?? '', { enabledFeatures }))
    if (selectors.length === 0) return { data: undefined }
    return run(undefined, async (scope) => {
      const answers = await reader.readAll(scope, (call) => {
        const request = { ...call.ask, selectors, startMs, endMs, limit: ownerLimit(0, budget.seriesLeft) }
        return ask(bus, read.exemplars, { id: call.owner }, request, call)
      })
      warnStamps(scope, answers)
      for (const answer of answers) spend(budget, answer.series.length)
      return { data: exemplarsBody(unitedExemplars(answers.flatMap((answer) => answer.series))) }
    })
  }

  function selectorAsk(
    call: OwnerCall,
    { selectors, startMs, endMs, limit }: SelectorParams,
    budget: Budget,
  ): read.SeriesAsk {
    return { ...call.ask, selectors, startMs, endMs, limit: ownerLimit(limit, budget.seriesLeft) }
  }
}

/** One more than is shown, so that cutting shows; never more than the query may hold. */
function ownerLimit(limit: number, left: number): number {
  return limit === 0 ? left + 1 : Math.min(limit, left) + 1
}

function strings(answers: readonly read.StringsReply[], limit: number, scope: ReadScope, budget: Budget): Answer {
  for (const { values } of answers) spend(budget, values.length)
  warnStamps(scope, answers)
  const sorted = [...new Set(answers.flatMap((answer) => answer.values))].sort(compareBytes)
  return { data: [JSON.stringify(cut(sorted, limit, scope))] }
}

/** What is no series counts like one. */
function spend(budget: Budget, count: number): void {
  budget.spend({ series: count, samples: 0, bytes: 0 })
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
function unitedExemplars(all: readonly ExemplarSeries[]): readonly ExemplarSeries[] {
  const byLabels = new Map<string, { labels: Labels; exemplars: Map<string, read.ExemplarRow> }>()
  for (const { labels, exemplars } of all) {
    const key = labelsKey(labels)
    const united = byLabels.get(key) ?? { labels, exemplars: new Map() }
    byLabels.set(key, united)
    for (const row of exemplars) united.exemplars.set(`${row.time} ${row.value} ${labelsKey(row.labels)}`, row)
  }
  return [...byLabels.values()]
    .map(({ labels, exemplars }) => ({ labels, exemplars: [...exemplars.values()].sort((a, b) => a.time - b.time) }))
    .sort((a, b) => compareLabels(a.labels, b.labels))
}
