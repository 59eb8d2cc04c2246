// From the parameters of a request to what is asked: each parameter read and refused in the order that Prometheus' HTTP API does it.
import type { Breath } from '../../../shared/base/breathing.ts'
import { RefusedError } from '../../../shared/base/errors.ts'
import { QUERY_TEXTS, type QueryParams } from '../../../shared/contracts/query.ts'
import { type LogPosition, parsePosition } from '../../../shared/contracts/write.ts'
import type { Interval } from '../../../shared/model/interval.ts'
import type { Matcher } from '../../../shared/model/matcher.ts'
import {
  badData,
  invalidParameter,
  isFault,
  parseDurationNs,
  parseInteger,
  parseTime,
  TIME_MAX_MS,
  TIME_MIN_MS,
} from '../../../shared/promql/go-values.ts'
import { quote } from '../../../shared/promql/parse/go-text.ts'
import { parseSelector } from '../../../shared/promql/parse/parser.ts'
import { compileMatcher } from '../../../shared/tsdb/matcher-set.ts'

/** The parameters that may be relied on: texts are texts, `match` is a list of texts. A number counts as its text, and one selector
 *  as a list of one, because people type these. */
export function checkedParams(given: unknown): QueryParams {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw new RefusedError('err-carillon-bad-message', 'a query is asked with an object of its parameters')
  }
  const from = given as Record<string, unknown>
  const params: Record<string, string | string[]> = {}
  for (const name of QUERY_TEXTS) {
    const value = from[name]
    if (value !== undefined && value !== null) params[name] = textParam(name, value)
  }
  for (const name of ['match', 'label_names']) {
    const list = from[name] ?? from[`${name}[]`]
    if (list === undefined || list === null) continue
    params[name] = (Array.isArray(list) ? list : [list]).map((each: unknown) => textParam(`${name}[]`, each))
  }
  return params
}

function textParam(name: string, value: unknown): string {
  if (typeof value === 'string') return value
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  throw invalidParameter(name, 'a text was wanted')
}

export interface InstantParams {
  readonly query: string
  readonly timeMs: number
  readonly limit: number
  readonly timeoutMs: number | undefined
  readonly lookbackMs: number | undefined
  readonly stats: string
}

export function instantParams(params: QueryParams, nowMs: number): InstantParams {
  const limit = limitParam(params)
  const timeMs = timeParam(params, 'time', nowMs)
  const timeoutMs = timeoutParam(params)
  const lookbackMs = lookbackParam(params)
  return { query: params.query ?? '', timeMs, limit, timeoutMs, lookbackMs, stats: params.stats ?? '' }
}

export interface RangeParams extends Omit<InstantParams, 'timeMs'>, Interval {
  readonly stepMs: number
}

export function rangeParams(params: QueryParams, { stepsMax }: { stepsMax: number }): RangeParams {
  const limit = limitParam(params)
  const startMs = rangeTime(params, 'start')
  const endMs = rangeTime(params, 'end')
  if (endMs < startMs) throw invalidParameter('end', 'end timestamp must not be before start time')
  const stepNs = parseDurationNs(params.step ?? '')
  if (isFault(stepNs)) throw invalidParameter('step', stepNs.fault)
  if (stepNs <= 0) throw noStep()
  if (Math.floor(((endMs - startMs) * 1e6) / stepNs) > stepsMax) {
    const points = stepsMax.toLocaleString('en-US')
    throw badData(
      `exceeded maximum resolution of ${points} points per timeseries. Try decreasing the query resolution (?step=XX)`,
    )
  }
  const stepMs = Math.trunc(stepNs / 1e6)
  if (stepMs === 0) throw noStep()
  const timeoutMs = timeoutParam(params)
  const lookbackMs = lookbackParam(params)
  return { query: params.query ?? '', startMs, endMs, stepMs, limit, timeoutMs, lookbackMs, stats: params.stats ?? '' }
}

function noStep(): RefusedError {
  const text = 'zero or negative query resolution step widths are not accepted. Try a positive integer'
  return invalidParameter('step', text)
}

function rangeTime(params: QueryParams, name: 'start' | 'end'): number {
  const time = parseTime(params[name] ?? '')
  if (isFault(time)) throw invalidParameter(name, time.fault)
  return time
}

export interface SelectorParams extends Interval {
  readonly selectors: readonly (readonly Matcher[])[]
  /** 0: none. */
  readonly limit: number
}

export async function seriesParams(
  params: QueryParams,
  bounds: SelectorBounds,
  breath: Breath,
): Promise<SelectorParams> {
  if ((params.match ?? []).length === 0) throw badData('no match[] parameter provided')
  const limit = limitParam(params)
  const range = optionalRange(params)
  try {
    return { ...range, limit, selectors: await selectorsOf(params, bounds, breath) }
  } catch (error) {
    if (error instanceof RefusedError && error.status === 400) throw invalidParameter('match[]', error.message)
    throw error
  }
}

export async function labelsParams(
  params: QueryParams,
  bounds: SelectorBounds,
  breath: Breath,
): Promise<SelectorParams> {
  const limit = limitParam(params)
  return { ...optionalRange(params), limit, selectors: await selectorsOf(params, bounds, breath) }
}

/** The label that label_values asks for, as it is (the gateway has undone the escaping of paths). */
export function labelNameParam({ name = '' }: QueryParams): string {
  if (name === '' || !name.isWellFormed()) throw badData(`invalid label name: ${quote(name)}`)
  return name
}

export interface MetadataParams {
  readonly metric: string
  /** Negative: none. */
  readonly limit: number
  /** Zero or negative: none. */
  readonly limitPerMetric: number
}

export function metadataParams(params: QueryParams): MetadataParams {
  const numberOf = (name: 'limit' | 'limit_per_metric') => {
    const value = parseInteger(params[name] || '-1')
    if (isFault(value)) throw badData(`${name} must be a number`)
    return value
  }
  return { limit: numberOf('limit'), limitPerMetric: numberOf('limit_per_metric'), metric: params.metric ?? '' }
}

export function exemplarsRange(params: QueryParams): Interval {
  const range = optionalRange(params)
  if (range.endMs < range.startMs) throw badData('end timestamp must not be before start timestamp')
  return range
}

export type Consistency =
  | { readonly kind: 'eventual' }
  | { readonly kind: 'strong' }
  | { readonly kind: 'position'; readonly position: readonly LogPosition[] }

export function consistencyOf({ read_consistency: text = '' }: QueryParams): Consistency {
  if (text === '' || text === 'eventual') return { kind: 'eventual' }
  if (text === 'strong') return { kind: 'strong' }
  return { kind: 'position', position: parsePosition(text) }
}

/** How the answer says that a value of `stats` is not one of the two known. */
export function statsWarning(stats: string): string | undefined {
  if (stats === '' || stats === 'true' || stats === 'all') return undefined
  return `value ${quote(stats)} for parameter "stats" is deprecated and will be rejected in the next major release, use "true" or "all"`
}

export interface SelectorBounds {
  readonly selectorsMax: number
  readonly patternSizeMax: number
}

/** The selectors of `match[]` as the parser takes them: there may be none, and one may select everything. */
export async function anySelectors(
  { match = [] }: QueryParams,
  bounds: SelectorBounds,
  breath: Breath,
): Promise<readonly (readonly Matcher[])[]> {
  const { selectorsMax, patternSizeMax } = bounds
  if (match.length > selectorsMax) throw tooManySelectors(match.length, selectorsMax)
  const selectors: (readonly Matcher[])[] = []
  for (const text of match) {
    selectors.push(parseSelector(text, { patternSizeMax }))
    if (breath.isDue(PARSE_WORK * (100 + text.length))) await breath.breathe()
  }
  return selectors
}

/** Of parsing a character, in units of work. */
const PARSE_WORK = 100

function limitParam(params: QueryParams): number {
  if (params.limit === undefined || params.limit === '') return 0
  const limit = parseInteger(params.limit)
  if (isFault(limit)) throw invalidParameter('limit', limit.fault)
  if (limit < 0) throw invalidParameter('limit', 'limit must be non-negative')
  return limit
}

function timeParam(params: QueryParams, name: 'time' | 'start' | 'end', absent: number): number {
  const text = params[name]
  if (text === undefined || text === '') return absent
  const time = parseTime(text)
  if (isFault(time)) throw invalidParameter(name, `invalid time value for '${name}': ${time.fault}`)
  return time
}

function optionalRange(params: QueryParams): Interval {
  return { startMs: timeParam(params, 'start', TIME_MIN_MS), endMs: timeParam(params, 'end', TIME_MAX_MS) }
}

/** In milliseconds. What is less than a microsecond is nothing. */
function timeoutParam({ timeout }: QueryParams): number | undefined {
  if (timeout === undefined || timeout === '') return undefined
  const ns = parseDurationNs(timeout)
  if (isFault(ns)) throw invalidParameter('timeout', ns.fault)
  return Math.trunc(ns / 1e3) / 1e3
}

/** Of the longest windows that may stand for samples, ms; 0: none; undefined: by the step. */
export function windowMaxParam({ max_source_resolution: text }: QueryParams): number | undefined {
  if (text === undefined || text === '' || text === 'auto') return undefined
  if (text === 'raw') return 0
  const ns = parseDurationNs(text)
  if (isFault(ns)) throw invalidParameter('max_source_resolution', ns.fault)
  return Math.max(0, ns / 1e6)
}

/** undefined: the default, also for zero. What is less than a millisecond looks back at nothing. */
function lookbackParam({ lookback_delta: text }: QueryParams): number | undefined {
  if (text === undefined || text === '') return undefined
  const ns = parseDurationNs(text)
  if (isFault(ns)) throw badData(`error parsing lookback delta duration: ${ns.fault}`)
  return ns > 0 ? Math.trunc(ns / 1e6) : undefined
}

async function selectorsOf(
  params: QueryParams,
  bounds: SelectorBounds,
  breath: Breath,
): Promise<readonly (readonly Matcher[])[]> {
  const selectors = await anySelectors(params, bounds, breath)
  for (const selector of selectors) {
    if (selector.every((matcher) => compileMatcher(matcher).matchesEmpty)) {
      throw badData('match[] must contain at least one non-empty matcher')
    }
    if (breath.isDue(PARSE_WORK * 100 * selector.length)) await breath.breathe()
  }
  return selectors
}

function tooManySelectors(count: number, max: number): RefusedError {
  const text = `${count} match[] parameters came, at most ${max} are answered`
  return new RefusedError('err-carillon-selectors', text)
}
