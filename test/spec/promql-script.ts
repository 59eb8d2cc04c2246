// Reads promql scripts (Prometheus' promqltest format) and runs their cases against the engine.
//
// Every instant case is run in several ways that must all give the same: as it is written; as a range query around its time, whose middle
// step counts; and with its time fixed by @, evaluated at other times, each time also as a range.

import { RE2JS } from 're2js'
import { systemClock } from '../../shared/base/clock.ts'
import { textOf } from '../../shared/base/errors.ts'
import { type Labels, labelsKey } from '../../shared/model/labels.ts'
import type { Expr, VectorSelector } from '../../shared/promql/ast.ts'
import { createEngine, ENGINE_DEFAULTS, type QueryResult } from '../../shared/promql/engine.ts'
import { parse } from '../../shared/promql/parse/parser.ts'
import { format } from '../../shared/promql/parse/printer.ts'
import {
  checkAnnotations,
  checkValue,
  checkVector,
  type EvalCase,
  type Expectation,
  type Got,
  satisfies,
} from './promql-check.ts'
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
