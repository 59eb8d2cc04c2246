// info(): adds the labels of info series (target_info unless told otherwise) to the series of the same instance and job.
import { RE2JS } from 're2js'
import type { Breath } from '../../base/breathing.ts'
import { type Labels, labelOf, labelsKey, METRIC_NAME } from '../../model/labels.ts'
import type { Matcher } from '../../model/matcher.ts'
import { valuePattern } from '../../model/pattern.ts'
import { keyPart } from '../../model/text-key.ts'
import {
  ABSENT,
  COLUMN_WORK,
  type Column,
  ColumnList,
  chargedColumn,
  FLOAT,
  type Grid,
  HISTOGRAM,
  mergeSameLabels,
  setHistogram,
} from '../exec/column.ts'
import { ExecutionError } from '../exec/errors.ts'
import { describeLabels, keyOn, withLabel } from '../exec/labels.ts'
import type { Evaluation } from '../exec/query-state.ts'
import { lookUp } from '../exec/selector.ts'
import type { PlanCall, PlanNode } from '../plan/plan.ts'

const IDENTIFYING = ['instance', 'job'] as const
const TARGET_INFO: Matcher = { name: METRIC_NAME, operator: '=', value: 'target_info' }

export async function evaluateInfo(node: PlanCall, grid: Grid, state: Evaluation): Promise<Column[]> {
  const base = await state.vector(node.args[0]!, grid)
  const selector = node.args[1]
  const asked = selector?.kind === 'selector' ? selector.matchers : []
  const nameMatchers = effectiveNames(asked.filter((matcher) => matcher.name === METRIC_NAME))
  const dataMatchers = asked.filter((matcher) => matcher.name !== METRIC_NAME)
  const isInfo = allMatch(nameMatchers)
  const ignored: Column[] = []
  const plain: Column[] = []
  for (const column of base) {
    const isIgnored = isInfo(labelOf(column.labels, METRIC_NAME))
    ;(isIgnored ? ignored : plain).push(column)
    if (state.isDue(5 * COLUMN_WORK)) await state.breathe()
  }
  const infos = await infoColumns(node.args[0]!, plain, [...dataMatchers, ...nameMatchers], grid, state)
  const results = ignored
  const wanted = {
    dataNames: new Set(dataMatchers.map(({ name }) => name)),
    survivesAlone: dataMatchers.every((matcher) => allMatch([matcher])('')),
  }
  const known = await infosBySignature(infos, state)
  for (const column of plain) {
    for (const enriched of await enrich(column, known, wanted, grid, state)) results.push(enriched)
  }
  return mergeSameLabels(results, state)
}

interface Wanted {
  /** Only these labels are added; empty: all. */
  readonly dataNames: ReadonlySet<string>
  /** A series without info series stays. */
  readonly survivesAlone: boolean
}

/** The info series, by what they share with those that they belong to. */
interface Infos {
  readonly names: ReadonlySet<string>
  readonly bySignature: ReadonlyMap<string, readonly InfoColumn[]>
}

async function infosBySignature(infos: readonly InfoColumn[], breath: Breath): Promise<Infos> {
  const names = new Set<string>()
  const bySignature = new Map<string, InfoColumn[]>()
  for (const info of infos) {
    names.add(labelOf(info.labels, METRIC_NAME))
    const alike = bySignature.get(info.signature)
    if (alike === undefined) bySignature.set(info.signature, [info])
    else alike.push(info)
    if (breath.isDue(COLUMN_WORK)) await breath.breathe()
  }
  return { names, bySignature }
}

function effectiveNames(matchers: readonly Matcher[]): Matcher[] {
  if (matchers.length === 0) return [TARGET_INFO]
  if (matchers.some(({ operator }) => operator === '=' || operator === '=~')) return [...matchers]
  return [{ name: METRIC_NAME, operator: '=~', value: '.+_info' }, ...matchers]
}

function allMatch(matchers: readonly Matcher[]): (value: string) => boolean {
  const tests = matchers.map(({ operator, value: wanted }) => {
    if (operator === '=') return (value: string) => value === wanted
    if (operator === '!=') return (value: string) => value !== wanted
    const pattern = valuePattern(wanted) // the parser has looked at its size
    return (value: string) => pattern.matches(value) === (operator === '=~')
  })
  return (value) => tests.every((test) => test(value))
}

/** When the info series are looked at: where the first selector of the argument looks. */
function momentOf(node: PlanNode): { atMs: number | undefined; offsetMs: number } | undefined {
  switch (node.kind) {
    case 'selector':
      return { atMs: node.atMs, offsetMs: node.offsetMs }
    case 'matrix':
      return momentOf(node.selector)
    case 'subquery': {
      const inner = momentOf(node.expr)
      if (inner === undefined || inner.atMs !== undefined) return inner
      return { atMs: node.atMs, offsetMs: inner.offsetMs + node.offsetMs }
    }
    case 'call':
      return firstMoment(node.args)
    case 'aggregation':
      return firstMoment([node.expr, ...(node.param === undefined ? [] : [node.param])])
    case 'binary':
      return firstMoment([node.left, node.right])
    case 'unary':
    case 'invariant':
      return momentOf(node.expr)
    case 'number':
    case 'string':
      return undefined
  }
}

function firstMoment(nodes: readonly PlanNode[]) {
  for (const node of nodes) {
    const moment = momentOf(node)
    if (moment !== undefined) return moment
  }
  return undefined
}

interface InfoColumn {
  readonly number: number
  readonly labels: Labels
  /** Shared with the series that it belongs to. */
  readonly signature: string
  /** When the sample found at a step was taken, in milliseconds. */
  readonly times: Column
}

async function infoColumns(
  arg: PlanNode,
  base: readonly Column[],
  matchers: readonly Matcher[],
  grid: Grid,
  state: Evaluation,
): Promise<InfoColumn[]> {
  const wanted: Matcher[] = []
  for (const name of IDENTIFYING) {
    const values = new Set<string>()
    for (const { labels } of base) {
      values.add(labelOf(labels, name))
      if (state.isDue(COLUMN_WORK)) await state.breathe()
    }
    values.delete('')
    if (values.size === 0) continue
    wanted.push({ name, operator: '=~', value: [...values].map((value) => RE2JS.quote(value)).join('|') })
  }
  if (wanted.length === 0) return []
  const { atMs, offsetMs } = momentOf(arg) ?? { atMs: undefined, offsetMs: 0 }
  const hints = {
    startMs: (atMs ?? grid.startMs) - offsetMs - state.lookbackMs + 1,
    endMs: (atMs ?? grid.endMs) - offsetMs,
    mode: 'all' as const,
  }
  const series = await state.select([...wanted, ...matchers], hints)
  const list = new ColumnList(state.memory)
  await lookUp(series, { atMs, offsetMs, take: 'millis' }, grid, state, list)
  return list.columns.map((times, number) => {
    const { labels } = times
    return { number, labels, times, signature: signatureOf(labels, labelOf(labels, METRIC_NAME)) }
  })
}

function signatureOf(labels: Labels, infoName: string): string {
  return keyPart(infoName) + keyOn(labels, IDENTIFYING)
}

/** One series may take different labels at different steps: one column per label set that comes out. */
async function enrich(
  column: Column,
  { names, bySignature }: Infos,
  { dataNames, survivesAlone }: Wanted,
  grid: Grid,
  state: Evaluation,
): Promise<Column[]> {
  const candidateLists: (readonly InfoColumn[])[] = []
  for (const name of names) {
    const alike = bySignature.get(signatureOf(column.labels, name))
    if (alike !== undefined) candidateLists.push(alike)
  }
  const results = new Map<string, Column>()
  const combinations = new Map<string, Labels>()
  for (let step = 0; step < grid.steps; step++) {
    if (column.kinds[step] === ABSENT) continue
    const matched: InfoColumn[] = []
    for (const candidates of candidateLists) {
      const newest = newestAt(candidates, step)
      if (newest !== undefined) matched.push(newest)
      if (state.isDue(COLUMN_WORK + 10 * candidates.length)) await state.breathe()
    }
    if (matched.length === 0 && !survivesAlone) continue
    const key = matched.map(({ number }) => number).join(',')
    let labels = combinations.get(key)
    if (labels === undefined) {
      labels = combine(column.labels, matched, dataNames)
      combinations.set(key, labels)
    }
    const resultKey = labelsKey(labels)
    let result = results.get(resultKey)
    if (result === undefined) {
      result = chargedColumn(state.memory, labels, grid.steps, column.dropsName)
      results.set(resultKey, result)
    }
    if (column.kinds[step] === HISTOGRAM) setHistogram(result, step, column.histograms![step]!)
    else {
      result.kinds[step] = FLOAT
      result.values[step] = column.values[step]!
    }
  }
  return [...results.values()]
}

function newestAt(candidates: readonly InfoColumn[], step: number): InfoColumn | undefined {
  let newest: InfoColumn | undefined
  for (const info of candidates) {
    if (info.times.kinds[step] === ABSENT) continue
    const timeMs = info.times.values[step]!
    const bestMs = newest?.times.values[step]
    if (bestMs === timeMs) {
      throw new ExecutionError(
        `found duplicate series for info metric: existing ${describeLabels(newest!.labels)} @ ${bestMs}, new ${describeLabels(info.labels)} @ ${timeMs}`,
      )
    }
    if (bestMs === undefined || timeMs > bestMs) newest = info
  }
  return newest
}

/** The base labels, and those of the info series that the base does not have (all, or only the ones asked for). */
function combine(base: Labels, infos: readonly InfoColumn[], dataNames: ReadonlySet<string>): Labels {
  const added = new Map<string, string>()
  for (const { labels } of infos) {
    for (let i = 0; i < labels.length; i += 2) {
      const name = labels[i]!
      const value = labels[i + 1]!
      if (name === METRIC_NAME || (dataNames.size > 0 && !dataNames.has(name))) continue
      const before = added.get(name)
      if (before !== undefined && before !== value) throw new ExecutionError(`conflicting label: ${name}`)
      if (labelOf(base, name) === '') added.set(name, value)
    }
  }
  let labels = base
  for (const [name, value] of added) labels = withLabel(labels, name, value)
  return labels
}
