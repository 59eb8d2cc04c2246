// One query from its parameters to its body: it waits for its turn, runs no longer than it may, and its answer has Prometheus' shape.
import { AssertionError } from '../../shared/base/assert.ts'
import type { Breath, Breathing } from '../../shared/base/breathing.ts'
import type { Clock } from '../../shared/base/clock.ts'
import type { HandlerContext } from '../../shared/bus/actor.ts'
import { QUERY_KINDS, type QueryKind, type QueryParams } from '../../shared/contracts/query.ts'
import { badData } from '../../shared/promql/go-values.ts'
import { checkedParams, consistencyOf } from './api/params.ts'
import type { AnswerKind, Asked } from './api/query-kind.ts'
import { rawBody, sizeOfParts, successBody } from './api/response.ts'
import type { QuerierConfig } from './config.ts'
import type { ActiveQueries } from './limits/active-queries.ts'
import type { Admission } from './limits/admission.ts'
import type { Budget } from './limits/budget.ts'
import { lifetime, Warnings } from './limits/query-scope.ts'
import type { QueryBounds } from './limits/tenant-limits.ts'
import type { LogEnds } from './read/log-ends.ts'
import type { ReadScope } from './read/partition-reader.ts'
import { placesOf } from './read/read-barrier.ts'
import type { WholeReader } from './read/tenant-reader.ts'

export interface QueryRunsDeps {
  readonly clock: Clock
  readonly config: Pick<QuerierConfig, 'ownerWaitMs'>
  readonly kinds: Readonly<Record<QueryKind, AnswerKind>>
  readonly active: ActiveQueries
  readonly admission: Admission
  readonly breathing: Breathing
  readonly reader: WholeReader
  readonly ends: LogEnds
}

/** What a query is given beside its parameters. */
export interface Given {
  readonly tenant: string
  readonly bounds: QueryBounds
  readonly budget: Budget
  readonly breath: Breath
  readonly give?: Asked['give']
}

interface Query {
  readonly kind: QueryKind
  readonly params: QueryParams
  readonly context: HandlerContext<'tenant'>
  readonly given: Given
  readonly warnings: Warnings
}

export class QueryRuns {
  readonly #deps: QueryRunsDeps

  constructor(deps: QueryRunsDeps) {
    this.#deps = deps
  }

  async answer(
    kind: string,
    paramsGiven: unknown,
    context: HandlerContext<'tenant'>,
    given: Given,
  ): Promise<Uint8Array> {
    if (!isKind(kind)) throw badData(`there is no query of the kind "${kind}"; there are ${QUERY_KINDS.join(', ')}`)
    const { bounds, budget, breath, give } = given
    const params = checkedParams(paramsGiven)
    const warnings = new Warnings()
    const query: Query = { kind, params, context, given, warnings }
    const run: Asked['run'] = (timeoutMs, work) => this.#run(query, timeoutMs, work)
    const { data, notes, raw } = await this.#deps.kinds[kind]({ params, budget, bounds, breath, run, give })
    budget.hold(sizeOfParts(raw ?? data ?? []))
    if (raw !== undefined) return rawBody(raw, breath)
    const said = [...new Set([...(notes?.warnings ?? []), ...warnings.list()])]
    return successBody(data, { warnings: said, infos: notes?.infos ?? [] }, breath)
  }

  async #run<T>(query: Query, timeoutMs: number | undefined, work: (scope: ReadScope) => Promise<T>): Promise<T> {
    const { clock, active, admission, breathing } = this.#deps
    const { kind, params, context, given, warnings } = query
    const { tenant, bounds, budget } = given
    const consistency = consistencyOf(params)
    const leftMs = Math.min(bounds.timeoutMs, timeoutMs ?? Infinity, context.deadline - clock.monotonic())
    const { requestId } = context
    const entry = active.begin({ tenant, kind, params, requestId, timeoutMs: Math.max(0, leftMs), budget })
    const life = lifetime(clock, AbortSignal.any([context.signal, entry.cancelled]), Math.max(0, leftMs))
    const within = breathing.open(context.params.tenant, life.signal)
    try {
      return await admission.run({ tenant, ...bounds }, life.signal, async () => {
        entry.runs()
        const { reader, ends, config } = this.#deps
        if (consistency.kind !== 'eventual') await reader.confirmed(life) // the ends of all logs count (LOG-19, LOG-20)
        const waitUntilMs = clock.monotonic() + config.ownerWaitMs
        const places = await placesOf(consistency, ends, reader.partitionCount())
        return work({
          tenant,
          requestId,
          signal: life.signal,
          breath: within,
          deadlineMs: life.deadlineMs,
          waitUntilMs,
          places,
          allowsPartial: params.partial_response === 'true',
          warn: warnings.warn,
        })
      })
    } catch (error) {
      // Why the query was ended tells more than what that broke.
      if (entry.cancelled.aborted && !(error instanceof AssertionError)) throw entry.cancelled.reason
      throw life.signal.aborted && !(error instanceof AssertionError) ? life.signal.reason : error
    } finally {
      within.close()
      life.end()
      entry.end()
    }
  }
}

export function isKind(kind: string): kind is QueryKind {
  return (QUERY_KINDS as readonly string[]).includes(kind)
}
