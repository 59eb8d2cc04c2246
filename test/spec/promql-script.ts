// Reads promql scripts (Prometheus' promqltest format) and runs their cases against the engine.
//
// Every instant case is run in several ways that must all give the same: as it is written; as a range query around its time, whose middle
// step counts; and with its time fixed by @, evaluated at other times, each time also as a range.

import { RE2JS } from 're2js'
import { systemClock } from '../../shared/base/clock.ts'
import { textOf } from '../../shared/base/errors.ts'
import type { Histogram } from '../../shared/model/histogram.ts'
import { type Labels, labelsKey } from '../../shared/model/labels.ts'
import { isStale } from '../../shared/model/sample.ts'
import type { Expr, VectorSelector } from '../../shared/promql/ast.ts'
import { createEngine, ENGINE_DEFAULTS, type MatrixSeries, type QueryResult } from '../../shared/promql/engine.ts'
import { describeLabels } from '../../shared/promql/exec/labels.ts'
import { allBuckets, describeHistogram, sideOf } from '../../shared/promql/functions/histogram-buckets.ts'
import { compact } from '../../shared/promql/functions/histogram-math.ts'
import { almostEqual } from '../../shared/promql/functions/quantile.ts'
import { parse } from '../../shared/promql/parse/parser.ts'
import { format } from '../../shared/promql/parse/printer.ts'
import { type Point, pointsFrom } from './promql-points.ts'
import { labelsOfMetric, nativeFromClassic, ScriptStorage, type StoredSample } from './promql-storage.ts'

export const FEATURES: ReadonlySet<string> = new Set([
  'promql-experimental-functions',
  'promql-extended-range-selectors',
  'promql-binop-fill-modifiers',
  'promql-delayed-name-removal',
  'use-start-timestamps',
])

/** What scripts are written for. */
export const SAMPLES_MAX = 50_000

const engine = createEngine({
  ...ENGINE_DEFAULTS,
  clock: systemClock,
  samplesMax: SAMPLES_MAX,
  enabledFeatures: FEATURES,
})

export interface Outcome {
  readonly line: number
  readonly expression: string
  /** undefined: passed. */
  readonly fault: string | undefined
  /** Why the case could not be asked here. */
  readonly skipped?: string
}

export interface Question {
  readonly text: string
  readonly startMs: number
  readonly endMs: number
  /** 0: instant. */
  readonly stepMs: number
}

/** A histogram as the HTTP API shows it: populated buckets as [which bounds belong to it, lower, upper, count]. */
export interface ShownHistogram extends Histogram {
  readonly shown: readonly (readonly [number, string, string, string])[]
}

export interface LoadedSeries {
  readonly labels: Labels
  readonly samples: readonly StoredSample[]
}

/** Where cases are run: the engine over a table, or a whole system. */
export interface ScriptGround {
  /** Forgets everything that was loaded. */
  clear(): void
  load(series: readonly LoadedSeries[]): Promise<void>
  /** Why nothing can be asked of what was loaded; undefined when it can. */
  skips(): string | undefined
  /** Rejects with a RefusedError-like (`kind` refused) error of Prometheus' text when the expression is refused. */
  query(question: Question): Promise<QueryResult>
  /** Every instant case is run in further ways. */
  readonly isThorough: boolean
}

export function engineGround(): ScriptGround {
  let storage = new ScriptStorage()
  return {
    isThorough: true,
    skips: () => undefined,
    clear() {
      storage = new ScriptStorage()
    },
    async load(series) {
      for (const { labels, samples } of series) storage.append(labels, samples)
    },
    query: (question) => engine.query({ ...question, signal: new AbortController().signal }, storage),
  }
}

interface Expectation {
  readonly kind: 'fail' | 'warn' | 'info' | 'no_warn' | 'no_info'
  readonly text: string | undefined
  readonly pattern: RE2JS | undefined
}

interface EvalCase {
  readonly line: number
  readonly expression: string
  readonly startMs: number
  readonly endMs: number
  /** 0: instant. */
  readonly stepMs: number
  readonly expectations: Expectation[]
  isOrdered: boolean
  string: string | undefined
  scalar: number | undefined
  matrix: { startMs: number; endMs: number; stepMs: number } | undefined
  readonly rows: { labels: Labels; points: Point[] }[]
}

const UNITS: Record<string, number> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
  y: 31_536_000_000,
}

/** `1m30s`, `10s500ms`, `-1m`, or a bare number of seconds. */
export function durationFrom(text: string): number {
  const sign = text.startsWith('-') ? -1 : 1
  const size = text.replace(/^[+-]/, '')
  if (/^\d+(\.\d+)?$/.test(size)) return sign * Math.round(Number(size) * 1000)
  let ms = 0
  let length = 0
  for (const [part, number, unit] of size.matchAll(/(\d+)(ms|[smhdwy])/g)) {
    ms += Number(number) * UNITS[unit!]!
    length += part.length
  }
  if (length !== size.length) throw new Error(`not a duration: ${text}`)
  return sign * ms
}

export async function runScript(text: string, ground: ScriptGround = engineGround()): Promise<Outcome[]> {
  const lines = text
    .split('\n')
    .map((line) => line.trim())
    .map((line) => (line.startsWith('#') ? '' : line))
  const outcomes: Outcome[] = []
  ground.clear()
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at]!
    if (line === '') continue
    const block: string[] = []
    const start = at
    if (/^clear$/i.test(line)) {
      ground.clear()
      continue
    }
    while (at + 1 < lines.length && lines[at + 1] !== '') block.push(lines[++at]!)
    const load = /^load(_with_nhcb)?\s+(\S+)$/i.exec(line)
    if (load !== null) await ground.load(seriesOf(block, durationFrom(load[2]!), load[1] !== undefined))
    else outcomes.push(await runCase(caseFrom(line, block, start + 1), ground))
  }
  return outcomes
}

/** Splits `metric points…` where the points begin. */
function splitMetric(line: string): { metric: string; rest: string } {
  let depth = 0
  let quoted = ''
  for (let i = 0; i < line.length; i++) {
    const char = line[i]!
    if (quoted !== '') {
      if (char === '\\' && quoted !== '`') i++
      else if (char === quoted) quoted = ''
    } else if (char === '"' || char === "'" || char === '`') quoted = char
    else if (char === '{') depth++
    else if (char === '}') {
      depth--
      if (depth === 0) return { metric: line.slice(0, i + 1), rest: line.slice(i + 1) }
    } else if (depth === 0 && char === '@') {
      return { metric: line.slice(0, i), rest: line.slice(i) }
    } else if (depth === 0 && /\s/.test(char) && !/^\s*\{(?!\{)/.test(line.slice(i))) {
      return { metric: line.slice(0, i), rest: line.slice(i) }
    }
  }
  return { metric: line, rest: '' }
}

function seriesOf(block: readonly string[], stepMs: number, withNative: boolean): LoadedSeries[] {
  const loaded = new Map<string, { labels: Labels; points: Point[]; starts: (number | undefined)[] }>()
  const starts = new Map<string, (number | undefined)[]>()
  for (const line of block) {
    const { metric, rest } = splitMetric(line)
    const labels = labelsOfMetric(metric)
    const key = labelsKey(labels)
    if (rest.startsWith('@st')) {
      starts.set(key, startsFrom(rest.slice(3)))
      continue
    }
    loaded.set(key, { labels, points: pointsFrom(rest), starts: starts.get(key) ?? [] })
  }
  const series = [...loaded.values()]
  const natives = withNative ? nativeFromClassic(series).map((each) => ({ ...each, starts: [] })) : []
  return [...series, ...natives].map(({ labels, points, starts: offsets }) => ({
    labels,
    samples: samplesOf(points, stepMs, offsets),
  }))
}

function startsFrom(text: string): (number | undefined)[] {
  return text
    .trim()
    .split(/\s+/)
    .flatMap((item) => {
      if (item === '_') return [undefined]
      if (/^_x\d+$/.test(item)) return new Array<undefined>(Number(item.slice(2))).fill(undefined)
      const match = /^([+-]?[\da-z]+?)(?:([+-])([\da-z]+?))?(?:x(\d+))?$/.exec(item)
      if (match === null) throw new Error(`not a start: ${item}`)
      const [, first, sign, step, times] = match
      const list: number[] = []
      let value = durationFrom(first!)
      for (let i = 0; i <= Number(times ?? 0); i++) {
        list.push(value)
        if (step !== undefined) value += (sign === '+' ? 1 : -1) * durationFrom(step)
      }
      return list
    })
}

function samplesOf(points: readonly Point[], stepMs: number, starts: readonly (number | undefined)[]) {
  return points
    .map((point, i) => {
      const offset = starts[i]
      return { timeMs: i * stepMs, point, startMs: offset === undefined ? 0 : i * stepMs + offset }
    })
    .filter(({ point }) => point.kind !== 'none')
}

function caseFrom(line: string, block: readonly string[], number: number): EvalCase {
  const instant = /^eval(?:_(fail|warn|info|ordered))?\s+instant\s+(?:at\s+(\S+?))?\s+(.+)$/i.exec(line)
  const range = /^eval(?:_(fail|warn|info))?\s+range\s+from\s+(\S+)\s+to\s+(\S+)\s+step\s+(\S+?)\s+(.+)$/i.exec(line)
  if (instant === null && range === null) throw new Error(`line ${number}: ${line}`)
  const prefix = (instant ?? range)![1]?.toLowerCase()
  const startMs = durationFrom(instant !== null ? (instant[2] ?? '0') : range![2]!)
  const one: EvalCase = {
    line: number,
    expression: instant !== null ? instant[3]! : range![5]!,
    startMs,
    endMs: instant !== null ? startMs : durationFrom(range![3]!),
    stepMs: instant !== null ? 0 : durationFrom(range![4]!),
    expectations: [],
    isOrdered: prefix === 'ordered',
    string: undefined,
    scalar: undefined,
    matrix: undefined,
    rows: [],
  }
  if (prefix === 'fail' || prefix === 'warn' || prefix === 'info') {
    one.expectations.push({ kind: prefix, text: undefined, pattern: undefined })
  }
  for (const text of block) readBlockLine(one, text)
  return one
}

const EXPECT = /^expect\s+(ordered|fail|warn|no_warn|info|no_info)(?:\s+(msg|regex):(.*))?$/

function readBlockLine(one: EvalCase, text: string): void {
  const matrix = /^expect range vector from (\S+) to (\S+) step (\S+)$/.exec(text)
  if (matrix !== null) {
    const [startMs, endMs, stepMs] = matrix.slice(1).map((part) => durationFrom(part))
    one.matrix = { startMs: startMs!, endMs: endMs!, stepMs: stepMs! }
    return
  }
  const string = /^expect string\s+(.+)$/.exec(text)
  if (string !== null) {
    const [, literal] = string
    one.string = literal!.startsWith('`') ? literal!.slice(1, -1) : (JSON.parse(literal!) as string)
    return
  }
  const expect = EXPECT.exec(text)
  if (expect !== null) {
    const [, kind, how, what] = expect
    if (kind === 'ordered') one.isOrdered = true
    else {
      one.expectations.push({
        kind: kind as Expectation['kind'],
        text: how === 'msg' ? what!.trim() : undefined,
        pattern: how === 'regex' ? RE2JS.compile(what!.trim()) : undefined,
      })
    }
    return
  }
  if (/^[+-]?(\d|\.\d|inf|nan)\S*$/i.test(text)) {
    const [point] = pointsFrom(text)
    if (point?.kind === 'float') one.scalar = point.value
    return
  }
  const { metric, rest } = splitMetric(text)
  one.rows.push({ labels: labelsOfMetric(metric), points: pointsFrom(rest) })
}

async function runCase(one: EvalCase, ground: ScriptGround): Promise<Outcome> {
  const outcome = (fault: string | undefined): Outcome => ({ line: one.line, expression: one.expression, fault })
  const skipped = ground.skips()
  if (skipped !== undefined) return { ...outcome(undefined), skipped }
  try {
    const fault = await checkCase(one, ground)
    if (fault !== undefined || one.stepMs !== 0 || !ground.isThorough) return outcome(fault)
    return outcome((await checkAsRange(one, ground)) ?? (await checkFixed(one, ground)))
  } catch (error) {
    return outcome(error instanceof Error ? (error.stack ?? error.message) : String(error))
  }
}

async function ask(one: EvalCase, times: { startMs: number; endMs: number; stepMs: number }, ground: ScriptGround) {
  return ground.query({ text: one.expression, startMs: times.startMs, endMs: times.endMs, stepMs: times.stepMs })
}

async function checkCase(one: EvalCase, ground: ScriptGround): Promise<string | undefined> {
  const mustFail = one.expectations.find(({ kind }) => kind === 'fail')
  let result: QueryResult
  try {
    result = await ask(one, one, ground)
  } catch (error) {
    if (mustFail !== undefined && (error as { kind?: string }).kind === 'refused') {
      return satisfies(mustFail, textOf(error)) ? undefined : `failed with another text: ${textOf(error)}`
    }
    throw error
  }
  if (mustFail !== undefined) return 'should fail'
  return checkAnnotations(one, result) ?? checkValue(one, result.value)
}

function satisfies({ text, pattern }: Expectation, got: string): boolean {
  if (text !== undefined) return got === text
  return pattern === undefined || pattern.matcher(got).find()
}

function checkAnnotations(one: EvalCase, { warnings, infos }: QueryResult): string | undefined {
  for (const [kind, texts] of [
    ['warn', warnings],
    ['info', infos],
  ] as const) {
    if (one.expectations.some((each) => each.kind === `no_${kind}`) && texts.length > 0) {
      return `unexpected ${kind}: ${texts.join(' | ')}`
    }
    const wanted = one.expectations.filter((each) => each.kind === kind)
    if (wanted.length === 0) continue
    const missing = wanted.find((each) => !texts.some((text) => satisfies(each, text)))
    if (missing !== undefined) return `missing ${kind} ${missing.text ?? ''}; got ${texts.join(' | ')}`
    const surplus = texts.find((text) => !wanted.some((each) => satisfies(each, text)))
    if (surplus !== undefined) return `unexpected ${kind}: ${surplus}`
  }
  return undefined
}

function checkValue(one: EvalCase, value: QueryResult['value']): string | undefined {
  if (one.string !== undefined) {
    return value.type === 'string' && value.value === one.string ? undefined : `wanted the string ${one.string}`
  }
  if (one.matrix !== undefined) {
    return value.type === 'matrix' ? checkMatrix(one.rows, one.matrix, value.series) : 'wanted a range vector'
  }
  if (one.stepMs !== 0) {
    if (value.type !== 'matrix') return `got a ${value.type}`
    return checkMatrix(one.rows, one, value.series)
  }
  if (one.scalar !== undefined) {
    if (value.type !== 'scalar') return `wanted a scalar, got a ${value.type}`
    return isClose(one.scalar, value.value) ? undefined : `wanted ${one.scalar}, got ${value.value}`
  }
  if (value.type === 'scalar') return `got the scalar ${value.value}`
  if (value.type !== 'vector') return `got a ${value.type}`
  return checkVector(one, value.samples)
}

interface Got {
  readonly labels: Labels
  readonly value: number
  readonly histogram?: Histogram
}

function checkVector(one: EvalCase, samples: readonly Got[]): string | undefined {
  const list = () =>
    samples.map(({ labels, value, histogram }) => `${describeLabels(labels)} ${show(value, histogram)}`)
  const wanted = new Map(one.rows.map((row, i) => [labelsKey(row.labels), { ...row, at: i }]))
  if (samples.length !== wanted.size) return `wanted ${wanted.size} series, got ${list().join(', ')}`
  for (const [i, { labels, value, histogram }] of samples.entries()) {
    const row = wanted.get(labelsKey(labels))
    if (row === undefined) return `unexpected ${describeLabels(labels)}; got ${list().join(', ')}`
    if (one.isOrdered && row.at !== i) return `out of order: ${list().join(', ')}`
    const fault = checkPoint(row.points[0]!, value, histogram)
    if (fault !== undefined) return `${describeLabels(labels)}: ${fault}`
  }
  return undefined
}

function checkMatrix(
  rows: EvalCase['rows'],
  { startMs, endMs, stepMs }: { startMs: number; endMs: number; stepMs: number },
  series: readonly MatrixSeries[],
): string | undefined {
  const names = () => series.map(({ labels }) => describeLabels(labels)).join(', ')
  const wanted = new Map(rows.map((row) => [labelsKey(row.labels), row]))
  if (series.length !== wanted.size) return `wanted ${wanted.size} series, got ${names()}`
  for (const { labels, times, values, histograms } of series) {
    const row = wanted.get(labelsKey(labels))
    if (row === undefined) return `unexpected ${describeLabels(labels)}; got ${names()}`
    const at = new Map([...times].map((timeMs, i) => [timeMs, i]))
    let found = 0
    for (let i = 0, timeMs = startMs; timeMs <= endMs; i++, timeMs += stepMs) {
      const point = row.points[i] ?? { kind: 'none' }
      const index = at.get(timeMs)
      if (index === undefined) {
        if (point.kind !== 'none') return `${describeLabels(labels)}: nothing at ${timeMs}`
        continue
      }
      found++
      const fault = checkPoint(point, values[index]!, histograms?.[index])
      if (fault !== undefined) return `${describeLabels(labels)} at ${timeMs}: ${fault}`
    }
    if (found !== times.length) return `${describeLabels(labels)}: points outside the steps`
  }
  return undefined
}

function show(value: number, histogram: Histogram | undefined): string {
  if (histogram === undefined) return String(value)
  const { schema, customValues, resetHint, zeroThreshold } = histogram
  return `${describeHistogram(histogram)} schema ${schema} [${customValues.join(' ')}] ${resetHint} zero ${zeroThreshold}`
}

function checkPoint(point: Point, value: number, histogram: Histogram | undefined): string | undefined {
  const got = show(value, histogram)
  switch (point.kind) {
    case 'none':
      return `unexpected ${got}`
    case 'stale':
      return histogram === undefined && isStale(value) ? undefined : `wanted a stale marker, got ${got}`
    case 'float':
      if (histogram === undefined && isClose(point.value, value)) return undefined
      return `wanted ${point.value}, got ${got}`
    case 'histogram':
      if (histogram !== undefined && isSameHistogram(point, histogram)) return undefined
      return `wanted ${show(0, point.histogram)}, got ${got}`
  }
}

function isClose(a: number, b: number): boolean {
  return almostEqual(a, b, 1e-6)
}

function isSameHistogram(
  { histogram, hasHint }: { histogram: Histogram; hasHint: boolean },
  got: Histogram | ShownHistogram,
): boolean {
  if ('shown' in got) return isShown(histogram, got)
  const a = compact(histogram)
  const b = compact(got)
  if (hasHint && a.resetHint !== b.resetHint) return false
  if (a.schema !== b.schema || a.zeroThreshold !== b.zeroThreshold) return false
  if (a.customValues.join() !== b.customValues.join()) return false
  const sameSide = (x: ReturnType<typeof sideOf>, y: ReturnType<typeof sideOf>) =>
    x.indexes.join() === y.indexes.join() && x.counts.every((count, i) => isClose(count, y.counts[i]!))
  return (
    isClose(a.count, b.count) &&
    isClose(a.sum, b.sum) &&
    isClose(a.zeroCount, b.zeroCount) &&
    sameSide(sideOf(a.positiveSpans, a.positiveBuckets), sideOf(b.positiveSpans, b.positiveBuckets)) &&
    sameSide(sideOf(a.negativeSpans, a.negativeBuckets), sideOf(b.negativeSpans, b.negativeBuckets))
  )
}

function isShown(wanted: Histogram, { count, sum, shown }: ShownHistogram): boolean {
  if (!isClose(wanted.count, count) || !isClose(wanted.sum, sum)) return false
  const populated = [...allBuckets(wanted)].filter((bucket) => bucket.count !== 0)
  if (populated.length !== shown.length) return false
  return populated.every((bucket, i) => {
    const [bounds, lower, upper, inside] = shown[i]!
    const wantedBounds = bucket.lowerInclusive ? (bucket.upperInclusive ? 3 : 1) : bucket.upperInclusive ? 0 : 2
    return (
      bounds === wantedBounds &&
      isClose(bucket.lower, floatOf(lower)) &&
      isClose(bucket.upper, floatOf(upper)) &&
      isClose(bucket.count, floatOf(inside))
    )
  })
}

/** A number as the HTTP API writes it. */
export function floatOf(text: string): number {
  return text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text)
}

const MOVING = /\b(start|end|range|step)\s*\(\s*\)/

function isCheckedAsRange(one: EvalCase): boolean {
  if (one.isOrdered || one.string !== undefined || one.matrix !== undefined) return false
  return !one.expectations.some(({ kind }) => kind === 'fail') && !MOVING.test(one.expression)
}

/** The middle of three steps must give what the instant query gave. */
async function checkAsRange(one: EvalCase, ground: ScriptGround): Promise<string | undefined> {
  if (!isCheckedAsRange(one)) return undefined
  const { endMs } = one
  const times = { startMs: endMs - 60_000, endMs: endMs + 60_000, stepMs: 60_000 }
  const { value } = await ask(one, times, ground)
  if (value.type !== 'matrix') return `as a range: got a ${value.type}`
  const samples: Got[] = []
  for (const { labels, times: at, values, histograms } of value.series) {
    const index = at.indexOf(endMs)
    if (index < 0) continue
    const histogram = histograms?.[index]
    samples.push({ labels, value: values[index]!, ...(histogram === undefined ? {} : { histogram }) })
  }
  if (one.scalar === undefined) return prefixed(checkVector(one, samples))
  const rows = [{ labels: [], points: [{ kind: 'float', value: one.scalar } as const] }]
  return prefixed(checkVector({ ...one, rows }, samples))
}

function prefixed(fault: string | undefined): string | undefined {
  return fault === undefined ? undefined : `as a range: ${fault}`
}

/** Functions of the evaluation time, which @ does not fix. */
const OF_THE_TIME =
  /\b(time|timestamp|predict_linear|year|month|hour|minute|day_of_(month|week|year)|days_in_month|start|end|range|step)\s*\(/

/** With @ on everything that has none, the answer does not depend on when the question is put. */
async function checkFixed(one: EvalCase, ground: ScriptGround): Promise<string | undefined> {
  if (one.expectations.some(({ kind }) => kind === 'fail') || OF_THE_TIME.test(one.expression)) return undefined
  if (one.string !== undefined || one.matrix !== undefined) return undefined
  const expression = format(fixed(parse(one.expression, { enabledFeatures: FEATURES }), one.endMs))
  const t = one.endMs
  for (const endMs of t === 0 ? [-1000, 0, 1000] : [-10 * t, 0, Math.trunc(t / 5), t, 10 * t]) {
    const moved: EvalCase = { ...one, expression, startMs: endMs, endMs, expectations: [] }
    const fault = (await checkCase(moved, ground)) ?? (await checkAsRange(moved, ground))
    if (fault !== undefined) return `as ${expression} at ${endMs} ms: ${fault}`
  }
  return undefined
}

function fixed(expr: Expr, timeMs: number): Expr {
  const at = { kind: 'time', timeMs } as const
  switch (expr.kind) {
    case 'selector':
      return expr.at === undefined ? { ...expr, at } : expr
    case 'matrix':
      return { ...expr, selector: fixed(expr.selector, timeMs) as VectorSelector }
    case 'subquery':
      return expr.at === undefined ? { ...expr, at } : expr
    case 'call':
      return { ...expr, args: expr.args.map((arg, i) => (expr.name === 'info' && i > 0 ? arg : fixed(arg, timeMs))) }
    case 'aggregation':
      return { ...expr, expr: fixed(expr.expr, timeMs), param: expr.param && fixed(expr.param, timeMs) }
    case 'unary':
    case 'paren':
      return { ...expr, expr: fixed(expr.expr, timeMs) }
    case 'binary':
      return { ...expr, left: fixed(expr.left, timeMs), right: fixed(expr.right, timeMs) }
    default:
      return expr
  }
}
