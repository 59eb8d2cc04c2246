// Evaluates some steps of a range query, for the querier that answers the whole.
import type { Bus } from '../../../shared/bus/port.ts'
import type { QueryPartReply, QueryPartRequest } from '../../../shared/contracts/query-part.ts'
import type { Engine } from '../../../shared/promql/engine.ts'
import { type ParseOptions, parse } from '../../../shared/promql/parse/parser.ts'
import { Budget, type BudgetBounds } from '../limits/budget.ts'
import type { MemoryAccount, MemoryShare } from '../limits/memory-pool.ts'
import type { ReadScope } from '../read/partition-reader.ts'
import { ReadTrace, wholeSource } from '../read/series-source.ts'
import type { WholeReader } from '../read/tenant-reader.ts'
import { stateOf } from './part-cache.ts'
import { packed } from './part-result.ts'
import { reachOfSteps } from './split-plan.ts'

export interface PartEvaluationDeps {
  readonly bus: Bus
  readonly engine: Engine
  readonly reader: WholeReader
  readonly config: { readonly defaultStepMs: number }
  readonly parsing: ParseOptions
}

/** `memory` is closed in the end. */
export async function evaluatePart(
  deps: PartEvaluationDeps,
  asked: QueryPartRequest,
  scope: Omit<ReadScope, 'warn'>,
  bounds: BudgetBounds,
  memory: MemoryShare | MemoryAccount,
): Promise<QueryPartReply> {
  const { bus, engine, reader, config, parsing } = deps
  const { query, startMs, endMs, stepMs, lookbackMs, partStartMs, partEndMs } = asked
  const part = { startMs: partStartMs, endMs: partEndMs }
  try {
    const budget = new Budget(bounds, memory)
    const trace = new ReadTrace()
    const warnings: string[] = []
    const warn = (text: string) => void warnings.push(text)
    const windowFor = await reader.windowChoice(scope, asked.windowMaxMs)
    const source = wholeSource({ bus, reader, scope: { ...scope, warn }, budget, trace, windowFor })
    const countsSamples = asked.countsSamples === true
    const request = {
      text: query,
      startMs,
      endMs,
      stepMs,
      part,
      lookbackMs,
      signal: scope.signal,
      breath: scope.breath,
      memory,
      countsSamples,
    }
    const result = await engine.query(request, source)
    const times = { startMs, endMs, stepMs, lookbackMs, defaultStepMs: config.defaultStepMs }
    const reach = reachOfSteps(parse(query, parsing), times, part)
    const [view] = trace.views
    const isOfBlocks = trace.ownerSeries === 0 && trace.views.size > 0 && reach !== undefined
    const states = isOfBlocks ? new Set([...trace.views].map((each) => stateOf(each, reach))) : new Set<string>()
    return {
      series: await packed(result, { ...part, stepMs }, scope.breath),
      annotations: result.annotations,
      ...(result.counts !== undefined && { counts: result.counts }),
      warnings: [...new Set([...result.sourceWarnings, ...warnings])],
      read: {
        series: budget.seriesCount,
        samples: budget.sampleCount,
        bytes: budget.bytes,
        blockBytes: budget.blockBytes,
      },
      state: view !== undefined && states.size === 1 ? [...states][0]! : '',
    }
  } finally {
    memory.close()
  }
}
