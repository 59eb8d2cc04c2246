// Into which parts a range query is split, so that they can be evaluated apart and kept: one for each aligned length of time. A pure function.
//
// Steps are evaluated independently of each other, so the parts together are the whole, bit by bit. What is not split: what would read most
// of its samples again for every part (long ranges, subqueries), info(), which asks for more while it is evaluated, and what has few steps.
import type { Interval } from '../../../shared/model/interval.ts'
import type { Matcher } from '../../../shared/model/matcher.ts'
import type { Expr } from '../../../shared/promql/ast.ts'
import { format } from '../../../shared/promql/parse/printer.ts'
import { buildPlan } from '../../../shared/promql/plan/build.ts'
import type { PlannedSelect } from '../../../shared/promql/plan/plan.ts'

export interface WholeRange {
  readonly startMs: number
  readonly endMs: number
  readonly stepMs: number
  readonly lookbackMs: number
  readonly defaultStepMs: number
}

export interface Part {
  /** The first and the last step. */
  readonly startMs: number
  readonly endMs: number
  /** All times that its evaluation can look at. */
  readonly reach: Interval
}

export interface Split {
  readonly parts: readonly Part[]
  /** What the query selects. */
  readonly selectors: readonly (readonly Matcher[])[]
  /** The expression in the one form that all its spellings have, and whatever else decides what a part's steps are. */
  readonly identity: string
}

const PARTS_MAX = 1_000
const PART_STEPS_MIN = 4
/** A part may read so much beside its own time, as a share of its length. */
const MORE_READ_MAX = 1 / 4

/** undefined: the query is evaluated in one piece. `partMs` 0 switches splitting off. */
export function splitOf(expr: Expr, range: WholeRange, partMs: number): Split | undefined {
  const { startMs, endMs, stepMs } = range
  const count = Math.floor(endMs / partMs) - Math.floor(startMs / partMs) + 1
  if (partMs === 0 || endMs - startMs <= partMs || count > PARTS_MAX || stepMs * PART_STEPS_MIN > partMs)
    return undefined
  if (uses(expr, (node) => node.kind === 'call' && node['name'] === 'info')) return undefined
  const parts: Part[] = []
  let selectors: readonly (readonly Matcher[])[] = []
  for (let at = startMs; at <= endMs; ) {
    const endOfPart = (Math.floor(at / partMs) + 1) * partMs - 1
    const lastMs = at + Math.floor((Math.min(endOfPart, endMs) - at) / stepMs) * stepMs
    const steps = { startMs: at, endMs: lastMs }
    const asked = selectsOf(expr, range, steps)
    if (asked.length === 0) return undefined
    const readMs = Math.max(...asked.map(({ hints }) => hints.endMs - hints.startMs))
    if (readMs - (lastMs - at) > partMs * MORE_READ_MAX) return undefined
    parts.push({ ...steps, reach: reachOf(asked) })
    selectors = asked.map(({ matchers }) => matchers)
    at = lastMs + stepMs
  }
  return { parts, selectors, identity: identityOf(expr, range) }
}

function selectsOf(expr: Expr, range: WholeRange, part: Interval): readonly PlannedSelect[] {
  return buildPlan(expr, { ...range, part, projects: false }).selects.filter(
    ({ hints }) => hints.startMs <= hints.endMs,
  )
}

function reachOf(selects: readonly PlannedSelect[]): Interval {
  return {
    startMs: Math.min(...selects.map(({ hints }) => hints.startMs)),
    endMs: Math.max(...selects.map(({ hints }) => hints.endMs)),
  }
}

/** All times that the evaluation of some steps can look at; undefined: it looks at none. */
export function reachOfSteps(expr: Expr, range: WholeRange, steps: Interval): Interval | undefined {
  const selects = selectsOf(expr, range, steps)
  return selects.length === 0 ? undefined : reachOf(selects)
}

function identityOf(expr: Expr, { startMs, endMs, stepMs, lookbackMs }: WholeRange): string {
  const times = uses(expr, tellsQueryTimes) ? [startMs, endMs] : []
  return JSON.stringify([format(expr), stepMs, lookbackMs, ...times])
}

type PlainNode = Readonly<Record<string, unknown>>

/** start(), end() and range(), as functions, after `@`, or in durations. */
function tellsQueryTimes({ kind, name, op, args }: PlainNode): boolean {
  if (kind === 'start' || kind === 'end') return true
  if (kind === 'duration') return op === 'range'
  return kind === 'call' && ['start', 'end', 'range'].includes(String(name)) && (args as unknown[]).length === 0
}

/** Whether the tree holds such a node: every part of it is plain data. */
function uses(value: unknown, isIt: (node: PlainNode) => boolean): boolean {
  if (Array.isArray(value)) return value.some((each) => uses(each, isIt))
  if (typeof value !== 'object' || value === null) return false
  return isIt(value as PlainNode) || Object.values(value).some((each) => uses(each, isIt))
}
