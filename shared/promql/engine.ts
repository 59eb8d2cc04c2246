// The engine: text → tree → plan → columns → answer. It holds no data; each query brings the source it reads from.
//
// Invariants
//   ENGINE-1  All that a query reads is asked for before evaluation begins (except by info()), each question once.
//   ENGINE-2  Wherever the order of series shows they are looked at in an order that their labels decide, so two queriers give the same bits
//       for the same data.
//   ENGINE-3  A query ends within its time limit and holds no more samples than its maximum, or is refused.
import { type Breath, Breathing, inPieces } from '../base/breathing.ts'
import type { Clock } from '../base/clock.ts'
import type { Histogram } from '../model/histogram.ts'
import type { Labels } from '../model/labels.ts'
import type { Matcher } from '../model/matcher.ts'
import { PATTERN_SIZE_MAX } from '../model/pattern.ts'
import type { Expr } from './ast.ts'
import { PromqlError } from './errors.ts'
import { type Annotation, annotationTexts, newAnnotations } from './exec/annotations.ts'
import { ABSENT, COLUMN_WORK, type Column, type Grid, gridOf, HISTOGRAM, mergeSameLabels } from './exec/column.ts'
import { ExecutionError, QueryCancelledError, QueryTimeoutError } from './exec/errors.ts'
import { newEvaluation } from './exec/evaluate.ts'
import { dropMetadata, sortedByLabels, stayDistinct } from './exec/labels.ts'
import { type Evaluation, newQueryState, refuseWhenOver } from './exec/query-state.ts'
import { rawRange } from './exec/raw-range.ts'
import { SampleCounts } from './exec/sample-counts.ts'
import { HeldMemory, type QueryMemory, SERIES_BYTES } from './memory.ts'
import { typeOf } from './parse/check.ts'
import { parse } from './parse/parser.ts'
import { buildPlan } from './plan/build.ts'
import type { Plan } from './plan/plan.ts'
import type { SelectHints, SeriesSamples, SeriesSource } from './source.ts'

export interface EngineOptions {
  readonly clock: Clock
  readonly lookbackMs: number
  /** Samples that one query may hold at a time. */
  readonly samplesMax: number
  readonly timeoutMs: number
  /** The step of a subquery that names none. */
  readonly defaultStepMs: number
  /** Names as in Prometheus' --enable-feature. */
  readonly enabledFeatures: ReadonlySet<string>
  /** Instructions that one regular expression may compile to. */
  readonly patternSizeMax?: number
  /** Steps of a subquery that are evaluated at once; more are evaluated so many at a time. */
  readonly stretchSteps?: number
}

export const ENGINE_DEFAULTS = {
  lookbackMs: 300_000,
  samplesMax: 50_000_000,
  timeoutMs: 120_000,
  defaultStepMs: 60_000,
  stretchSteps: 32_768,
} as const

export interface QueryRequest {
  readonly text: string
  readonly startMs: number
  readonly endMs: number
  /** 0: an instant query at endMs. */
  readonly stepMs: number
  /** Only the steps from `startMs`, which is one, to `endMs` are evaluated. The answer is what an evaluation of all steps would give for
   *  these, bit by bit: what start(), end(), range() and step() mean stays. */
  readonly part?: { readonly startMs: number; readonly endMs: number }
  readonly lookbackMs?: number
  readonly timeoutMs?: number
  readonly signal: AbortSignal
  /** Of the query, where it began before; absent: it stands in line with the others of this engine. */
  readonly breath?: Breath
  /** Told what evaluation takes before it takes it, the source's own aside. What the answer takes stays charged: the caller settles that.
   *  Without it memory has no bound. */
  readonly memory?: QueryMemory
  /** The samples that each step looks at are counted. */
  readonly countsSamples?: boolean
}

export interface ScalarResult {
  readonly type: 'scalar'
  readonly timeMs: number
  readonly value: number
}

export interface StringResult {
  readonly type: 'string'
  readonly timeMs: number
  readonly value: string
}

export interface VectorSample {
  readonly labels: Labels
  readonly value: number
  readonly histogram?: Histogram
}

export interface VectorResult {
  readonly type: 'vector'
  readonly timeMs: number
  readonly samples: readonly VectorSample[]
}

export interface MatrixSeries {
  readonly labels: Labels
  readonly times: Float64Array
  readonly values: Float64Array
  /** Only when some sample is a histogram: undefined where a float stands. */
  readonly histograms?: readonly (Histogram | undefined)[]
}

export interface MatrixResult {
  readonly type: 'matrix'
  /** In the order of the labels. */
  readonly series: readonly MatrixSeries[]
}

/** Per step of the grid, or of the part: see SampleCounts. */
export interface StepCounts {
  readonly seen: Float64Array
  readonly read: Float64Array
  /** The most samples that were held at a time. */
  readonly heldMax: number
}

export interface QueryResult {
  readonly value: ScalarResult | StringResult | VectorResult | MatrixResult
  /** Where they were counted. */
  readonly counts?: StepCounts
  readonly warnings: string[]
  readonly infos: string[]
}

/** With what is needed to unite the results of parts of a query. */
export interface EvaluatedResult extends QueryResult {
  /** What evaluation had to say: stands in `warnings` and `infos` as well, as text. */
  readonly annotations: readonly Annotation[]
  /** What the source warned of; stands in `warnings` as well. */
  readonly sourceWarnings: readonly string[]
}

export interface Engine {
  /** Refuses with PromqlError, ExecutionError, TooManySamplesError, QueryTimeoutError, QueryCancelledError, or what the source threw. */
  query(request: QueryRequest, source: SeriesSource): Promise<EvaluatedResult>
}

export function createEngine(options: EngineOptions): Engine {
  const breathing = new Breathing(options.clock)
  return {
    async query(request, source) {
      if (request.breath !== undefined) return runQuery(options, { ...request, breath: request.breath }, source)
      const breath = breathing.open('', request.signal)
      return runQuery(options, { ...request, breath }, source).finally(breath.close)
    },
  }
}

async function runQuery(
  options: EngineOptions,
  request: QueryRequest & { readonly breath: Breath },
  source: SeriesSource,
): Promise<EvaluatedResult> {
  const { clock } = options
  const expr = parse(request.text, options)
  const lookbackMs = request.lookbackMs ?? options.lookbackMs
  const { startMs, endMs, stepMs, part } = request
  if (stepMs !== 0) refuseAsRange(expr)
  const steps = part === undefined ? {} : { part }
  const { windowFor } = source
  const { stretchSteps = ENGINE_DEFAULTS.stretchSteps } = options
  const windowed = windowFor === undefined ? {} : { windowFor }
  const times = {
    startMs,
    endMs,
    stepMs,
    lookbackMs,
    defaultStepMs: options.defaultStepMs,
    stretchSteps,
    ...steps,
    ...windowed,
  }
  let plan = buildPlan(expr, { ...times, projects: source.projects === true })
  const timeoutMs = Math.min(request.timeoutMs ?? options.timeoutMs, options.timeoutMs)
  const deadlineMs = clock.monotonic() + timeoutMs
  const limit = withDeadline(request.signal, clock, timeoutMs)
  const breath = until(request, clock, deadlineMs)
  const annotations = newAnnotations()
  const warnings: string[] = []
  const context = { signal: limit.signal, warn: (text: string) => void warnings.push(text) }
  const select = async (matchers: readonly Matcher[], hints: SelectHints) => {
    if (hints.startMs > hints.endMs) return []
    return source.select(matchers, hints, context)
  }
  try {
    refuseWhenOver(request.signal, clock, deadlineMs)
    let series = await fetchAll(plan, select, limit.signal, breath)
    if (await needsAllLabels(plan, series, breath)) {
      plan = buildPlan(expr, { ...times, projects: false })
      series = await fetchAll(plan, select, limit.signal, breath)
    }
    const memory = new HeldMemory(request.memory)
    const grid = gridFor(request)
    const evaluateOver = async (over: readonly (readonly SeriesSamples[])[]) => {
      const isWhole = part === undefined || part.startMs === startMs
      const counts = request.countsSamples ? new SampleCounts(grid, isWhole) : undefined
      const state = newQueryState({
        breath,
        stretchSteps,
        lookbackMs,
        samplesMax: options.samplesMax,
        enabledFeatures: options.enabledFeatures,
        patternSizeMax: options.patternSizeMax ?? PATTERN_SIZE_MAX,
        memory,
        series: over,
        annotations,
        counts,
        select: async (matchers, hints) => sortedByLabels(await select(matchers, hints), breath),
      })
      const value = await evaluate(plan, grid, request.stepMs === 0, newEvaluation(state))
      return { value, ...(counts !== undefined && { counts: { ...perStep(counts), heldMax: state.heldMax() } }) }
    }
    const evaluated = await evaluateOver(series).catch(async (error: unknown) => {
      if (!(error instanceof ExecutionError) || plan.selects.every(({ isOrdered }) => isOrdered)) throw error
      memory.settle(0)
      const ordered: (readonly SeriesSamples[])[] = []
      for (const list of series) ordered.push(await sortedByLabels(list, breath))
      return evaluateOver(ordered) // ENGINE-2: which series an error names
    })
    const said = annotations.list()
    const texts = annotationTexts(said, request.text)
    const sourceWarnings = [...new Set(warnings)]
    return {
      ...evaluated,
      warnings: [...sourceWarnings, ...texts.warnings],
      infos: texts.infos,
      annotations: said,
      sourceWarnings,
    }
  } finally {
    limit.end()
  }
}

/** Only what has one value per step can be asked for over a range. */
function refuseAsRange(expr: Expr): void {
  const type = typeOf(expr)
  if (type === 'scalar' || type === 'vector') return
  const name = type === 'matrix' ? 'range vector' : type
  throw new PromqlError(
    `invalid expression type "${name}" for range query, must be Scalar or instant Vector`,
    expr.position,
  )
}

/** The breath, until the query was cancelled or is out of time. */
function until({ breath, signal }: { breath: Breath; signal: AbortSignal }, clock: Clock, deadlineMs: number): Breath {
  return {
    isDue: breath.isDue,
    async breathe() {
      refuseWhenOver(signal, clock, deadlineMs)
      try {
        await breath.breathe()
      } finally {
        refuseWhenOver(signal, clock, deadlineMs)
      }
    },
  }
}

/** The caller's signal, which also fires when the time is up. */
function withDeadline(signal: AbortSignal, clock: Clock, timeoutMs: number): { signal: AbortSignal; end(): void } {
  const own = new AbortController()
  const timer = clock.after(timeoutMs, () => own.abort(new QueryTimeoutError()))
  const onAbort = () => own.abort(new QueryCancelledError())
  if (signal.aborted) onAbort()
  signal.addEventListener('abort', onAbort, { once: true })
  return {
    signal: own.signal,
    end() {
      own.abort(new QueryCancelledError()) // whatever still reads for it
      timer.cancel()
      signal.removeEventListener('abort', onAbort)
    },
  }
}

type Select = (matchers: readonly Matcher[], hints: SelectHints) => Promise<readonly SeriesSamples[]>

/** ENGINE-1. A source that gives up because the query is over is answered with why it was over. */
async function fetchAll(
  plan: Plan,
  select: Select,
  limit: AbortSignal,
  breath: Breath,
): Promise<(readonly SeriesSamples[])[]> {
  try {
    return await Promise.all(
      plan.selects.map(async ({ matchers, hints, isOrdered }) => {
        const series = await select(matchers, hints)
        return isOrdered && hints.projection === undefined ? sortedByLabels(series, breath) : series // ENGINE-2
      }),
    )
  } catch (error) {
    throw limit.aborted ? limit.reason : error
  }
}

/** Some series has what its select forbids. */
async function needsAllLabels(
  { selects }: Plan,
  series: readonly (readonly SeriesSamples[])[],
  breath: Breath,
): Promise<boolean> {
  for (const [i, { forbidsMetadata }] of selects.entries()) {
    if (forbidsMetadata && !(await stayDistinct(series[i]!, breath))) return true
  }
  return false
}

function gridFor({ startMs, endMs, stepMs, part }: QueryRequest): Grid {
  if (stepMs === 0) return gridOf(endMs, endMs, 1)
  return gridOf(part?.startMs ?? startMs, part?.endMs ?? endMs, stepMs)
}

const perStep = ({ seen, read }: SampleCounts) => ({ seen, read })

async function evaluate(
  { root }: Plan,
  grid: Grid,
  isInstant: boolean,
  evaluation: Evaluation,
): Promise<QueryResult['value']> {
  const { endMs } = grid
  const inner = root.kind === 'invariant' ? root.expr : root
  if (inner.kind === 'string') return { type: 'string', timeMs: grid.startMs, value: inner.value }
  if (inner.kind === 'matrix') return matrixOf(await rawRange(inner, grid, evaluation), NO_TIMES, evaluation)
  if (inner.kind === 'subquery') {
    const subquery = await evaluation.subquery(inner, grid)
    if (subquery.counts !== undefined) await evaluation.counts?.addSubquery(subquery.counts, evaluation)
    const columns = await settleNames(subquery.columns, evaluation)
    return matrixOf(columns, await gridTimes(subquery.grid, evaluation), evaluation)
  }
  if (root.type === 'scalar') {
    const values = await evaluation.scalar(root, grid)
    if (isInstant) return { type: 'scalar', timeMs: endMs, value: values[0]! }
    const times = await gridTimes(grid, evaluation)
    return { type: 'matrix', series: values.length === 0 ? [] : [{ labels: [], times, values }] }
  }
  const columns = await settleNames(await evaluation.vector(root, grid), evaluation)
  if (!isInstant) return matrixOf(columns, await gridTimes(grid, evaluation), evaluation)
  const samples: VectorSample[] = []
  for (const { labels, values, kinds, histograms } of columns) {
    if (kinds[0] === ABSENT) continue
    const histogram = kinds[0] === HISTOGRAM ? histograms![0] : undefined
    samples.push(histogram === undefined ? { labels, value: values[0]! } : { labels, value: 0, histogram })
    if (evaluation.isDue(20)) await evaluation.breathe()
  }
  return { type: 'vector', timeMs: endMs, samples }
}

const NO_TIMES = new Float64Array(0)

async function gridTimes(grid: Grid, breath: Breath): Promise<Float64Array> {
  const times = new Float64Array(grid.steps)
  await inPieces(times.length, 2, breath, (from, to) => {
    for (let i = from; i < to; i++) times[i] = grid.startMs + i * grid.stepMs
  })
  return times
}

/** With delayed name removal the names that operations dropped go now. */
async function settleNames(columns: Column[], state: Evaluation): Promise<Column[]> {
  if (!state.delaysNameRemoval) return columns
  for (const column of columns) {
    if (column.dropsName) column.labels = dropMetadata(column.labels)
    if (state.isDue(COLUMN_WORK)) await state.breathe()
  }
  return mergeSameLabels(columns, state)
}

async function matrixOf(
  columns: readonly (Column | MatrixSeries)[],
  times: Float64Array,
  state: Evaluation,
): Promise<MatrixResult> {
  const series: MatrixSeries[] = []
  for (const column of columns) {
    const made = 'kinds' in column ? seriesOf(column, times, state) : column
    const one = made instanceof Promise ? await made : made
    if (one.times.length > 0) series.push(one)
    if (state.isDue(COLUMN_WORK + times.length)) await state.breathe()
  }
  return { type: 'matrix', series: await sortedByLabels(series, state) }
}

/** At once where the column is short. */
function seriesOf(column: Column, times: Float64Array, state: Evaluation): MatrixSeries | Promise<MatrixSeries> {
  const { kinds } = column
  let count = 0
  const counting = inPieces(kinds.length, 1, state, (from, to) => {
    for (let i = from; i < to; i++) if (kinds[i] !== ABSENT) count++
  })
  if (counting === undefined) return seriesOfPresent(column, times, count, state)
  return counting.then(() => seriesOfPresent(column, times, count, state))
}

function seriesOfPresent(
  { labels, values, kinds, histograms }: Column,
  times: Float64Array,
  count: number,
  state: Evaluation,
): MatrixSeries | Promise<MatrixSeries> {
  if (count === kinds.length && histograms === undefined) return { labels, times, values }
  const { memory } = state
  memory.charge(SERIES_BYTES + (histograms === undefined ? 0 : 8 * count))
  const keptTimes = memory.floats(count)
  const keptValues = memory.floats(count)
  const keptHistograms: (Histogram | undefined)[] = []
  let at = 0
  const keeping = inPieces(kinds.length, 3, state, (from, to) => {
    for (let i = from; i < to; i++) {
      if (kinds[i] === ABSENT) continue
      keptTimes[at] = times[i]!
      keptValues[at++] = values[i]!
      if (histograms !== undefined) keptHistograms.push(kinds[i] === HISTOGRAM ? histograms[i] : undefined)
    }
  })
  const plain = { labels, times: keptTimes, values: keptValues }
  const kept = histograms === undefined ? plain : { ...plain, histograms: keptHistograms }
  return keeping === undefined ? kept : keeping.then(() => kept)
}
