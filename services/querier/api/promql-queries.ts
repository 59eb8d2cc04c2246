// PromQL at one time, over a range, and its formatting.
import type { Clock } from '../../../shared/base/clock.ts'
import { RefusedError } from '../../../shared/base/errors.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import type { Expr } from '../../../shared/promql/ast.ts'
import type { Engine, QueryResult, StepCounts } from '../../../shared/promql/engine.ts'
import { badData, invalidParameter } from '../../../shared/promql/go-values.ts'
import { typeOf } from '../../../shared/promql/parse/check.ts'
import { type ParseOptions, parse } from '../../../shared/promql/parse/parser.ts'
import { prettify } from '../../../shared/promql/parse/printer.ts'
import { toJson } from '../../../shared/promql/parse/to-json.ts'
import { renderText } from '../../../shared/promql/render.ts'
import type { SeriesSource } from '../../../shared/promql/source.ts'
import type { QuerierConfig } from '../config.ts'
import { Share } from '../limits/budget.ts'
import { wholeSource } from '../read/series-source.ts'
import type { WholeReader } from '../read/tenant-reader.ts'
import { splitOf } from '../split/split-plan.ts'
import type { AnswerInParts } from '../split/split-range.ts'
import { type InstantParams, instantParams, rangeParams, statsWarning, windowMaxParam } from './params.ts'
import type { Answer, AnswerKind, Asked } from './query-kind.ts'
import { TRUNCATED } from './response.ts'
import { resultBody } from './result-body.ts'
import { selectorsIn } from './selectors.ts'

export interface PromqlQueryDeps {
  readonly bus: Bus
  readonly clock: Clock
  readonly engine: Engine
  readonly reader: WholeReader
  readonly inParts: AnswerInParts
  readonly config: QuerierConfig
  readonly parsing: ParseOptions
}

interface Times {
  readonly startMs: number
  readonly endMs: number
  readonly stepMs: number
}

export function promqlQueries(
  deps: PromqlQueryDeps,
): Readonly<Record<'instant' | 'range' | 'format' | 'parse', AnswerKind>> {
  const { bus, clock, engine, reader, inParts, config, parsing } = deps
  return { instant, range, format, parse: parsed }

  function instant(asked: Asked): Promise<Answer> {
    const params = instantParams(asked.params, clock.now())
    return evaluate(asked, params, { startMs: params.timeMs, endMs: params.timeMs, stepMs: 0 })
  }

  function range(asked: Asked): Promise<Answer> {
    const { startMs, endMs, stepMs, ...params } = rangeParams(asked.params, asked.bounds)
    asked.budget.checkRange(startMs, endMs)
    return evaluate(asked, params, { startMs, endMs, stepMs })
  }

  async function format({ params }: Asked): Promise<Answer> {
    const tree = namingQuery(() => parse(params.query ?? '', parsing))
    return { data: [renderText(prettify(tree))] }
  }

  async function parsed({ params }: Asked): Promise<Answer> {
    const tree = namingQuery(() => parse(params.query ?? '', parsing))
    return { data: [JSON.stringify(toJson(tree))] }
  }

  function checkQuery(text: string, { stepMs }: Times): Expr {
    const expr = parse(text, parsing)
    const type = typeOf(expr)
    if (stepMs === 0 || type === 'scalar' || type === 'vector') return expr
    const named = typeNames[type]
    throw badData(`invalid expression type "${named}" for range query, must be Scalar or instant Vector`)
  }

  async function evaluate(asked: Asked, params: Omit<InstantParams, 'timeMs'>, times: Times): Promise<Answer> {
    const expr = namingQuery(() => checkQuery(params.query, times)) // refused before it waits for its turn
    const lookbackMs = params.lookbackMs ?? config.lookbackMs
    const whole = { ...times, lookbackMs, defaultStepMs: config.defaultStepMs }
    const windowMaxMs = windowMaxParam(asked.params)
    const readsSeries = selectorsIn(expr).length > 0
    const split = times.stepMs === 0 ? undefined : namingQuery(() => splitOf(expr, whole, config.queryPartMs))
    const askedAtMs = clock.monotonic()
    return asked.run(params.timeoutMs, async (scope) => {
      const startedAtMs = clock.monotonic()
      const { budget } = asked
      const reading = new Share(budget)
      const windowFor = readsSeries ? await reader.windowChoice(scope, windowMaxMs) : undefined
      const read = timed(clock, wholeSource({ bus, reader, scope, budget: reading, windowFor }))
      const memory = budget.memory === undefined ? {} : { memory: budget.memory }
      const countsSamples = params.stats !== ''
      const { signal, breath } = scope
      const request = { text: params.query, ...times, signal, breath, lookbackMs, countsSamples, ...memory }
      const answer = () => {
        if (split === undefined) return engine.query(request, read.source)
        const mayKeep = config.partCacheBytesMax > 0 && asked.params.no_store !== 'true'
        const asking = { query: params.query, ...times, lookbackMs, split, mayKeep, windowMaxMs, countsSamples }
        return inParts(asking, scope, budget)
      }
      const result = cut(await namingQuery<Promise<QueryResult>>(answer), params.limit)
      reading.letGo() // the answer shares no samples with what was read
      const warning = statsWarning(params.stats)
      const timings = {
        queuedMs: startedAtMs - askedAtMs,
        readMs: read.spentMs(),
        totalMs: clock.monotonic() - startedAtMs,
      }
      const stats = params.stats === '' ? undefined : statsText(timings, samplesOf(result.counts, times, params.stats))
      const warnings = warning === undefined ? result.warnings : [...result.warnings, warning]
      return { data: await resultBody(result, stats, budget, breath), notes: { warnings, infos: result.infos } }
    })
  }
}

const typeNames = { scalar: 'scalar', vector: 'instant vector', matrix: 'range vector', string: 'string' } as const

/** A refusal of the query text names its parameter. */
function namingQuery<T>(work: () => T): T {
  const named = (error: unknown) =>
    error instanceof RefusedError && error.status === 400 ? invalidParameter('query', error.message) : error
  try {
    const value = work()
    if (!(value instanceof Promise)) return value
    return value.catch((error: unknown) => {
      throw named(error)
    }) as T
  } catch (error) {
    throw named(error)
  }
}

function cut(result: QueryResult, limit: number): QueryResult {
  const { value } = result
  if (limit === 0 || value.type === 'scalar' || value.type === 'string') return result
  const list = value.type === 'vector' ? value.samples : value.series
  if (list.length <= limit) return result
  const warnings = [...result.warnings, TRUNCATED]
  if (value.type === 'vector')
    return { ...result, warnings, value: { ...value, samples: value.samples.slice(0, limit) } }
  return { ...result, warnings, value: { ...value, series: value.series.slice(0, limit) } }
}

/** The source, with the time for which something was read from it. */
function timed(clock: Clock, source: SeriesSource): { source: SeriesSource; spentMs(): number } {
  let spentMs = 0
  let reading = 0
  let sinceMs = 0
  return {
    spentMs: () => spentMs,
    source: {
      ...source,
      async select(matchers, hints, context) {
        if (reading++ === 0) sinceMs = clock.monotonic()
        try {
          return await source.select(matchers, hints, context)
        } finally {
          if (--reading === 0) spentMs += clock.monotonic() - sinceMs
        }
      },
    },
  }
}

interface Timings {
  readonly queuedMs: number
  readonly readMs: number
  readonly totalMs: number
}

/** As Prometheus counts them; its `promql-per-step-stats` is always on. */
function samplesOf(counts: StepCounts | undefined, { startMs, stepMs }: Times, stats: string) {
  if (counts === undefined) return undefined
  const total = (list: Float64Array) => list.reduce((sum, count) => sum + count, 0)
  const perStep = (list: Float64Array) => Array.from(list, (count, i) => [(startMs + i * stepMs) / 1000, count])
  const showsSteps = stats === 'all'
  return {
    ...(showsSteps && { totalQueryableSamplesPerStep: perStep(counts.seen) }),
    totalQueryableSamples: total(counts.seen),
    ...(showsSteps && { samplesReadPerStep: perStep(counts.read) }),
    samplesRead: total(counts.read),
    peakSamples: counts.heldMax,
  }
}

/** In Prometheus' shape. */
function statsText({ queuedMs, readMs, totalMs }: Timings, samples: ReturnType<typeof samplesOf>): string {
  return JSON.stringify({
    timings: {
      evalTotalTime: totalMs / 1000,
      resultSortTime: 0,
      queryPreparationTime: readMs / 1000,
      innerEvalTime: Math.max(0, totalMs - readMs) / 1000,
      execQueueTime: queuedMs / 1000,
      execTotalTime: (queuedMs + totalMs) / 1000,
    },
    samples,
  })
}
