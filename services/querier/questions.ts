// What is asked over the bus: each question has memory, a budget and turns of its own, is measured, and gets an answer whatever goes wrong (QUERY-6).
import { AssertionError } from '../../shared/base/assert.ts'
import { type Breathing, UNHURRIED } from '../../shared/base/breathing.ts'
import type { Clock } from '../../shared/base/clock.ts'
import type { HandlerContext } from '../../shared/bus/actor.ts'
import type { Limits } from '../../shared/contracts/limits.ts'
import type { QueryParams } from '../../shared/contracts/query.ts'
import type { QueryPartReply, QueryPartRequest } from '../../shared/contracts/query-part.ts'
import { decodeTenant } from '../../shared/model/tenant.ts'
import type { Log } from '../../shared/telemetry/log.ts'
import { bodyIn, formOf, readParams } from './api/query-codec.ts'
import { errorBody, failureOf } from './api/response.ts'
import type { QuerierConfig } from './config.ts'
import type { Admission } from './limits/admission.ts'
import { Budget } from './limits/budget.ts'
import type { MemoryPool } from './limits/memory-pool.ts'
import { Handover } from './limits/piece-stream.ts'
import { lifetime } from './limits/query-scope.ts'
import { boundsOf, type QueryBounds } from './limits/tenant-limits.ts'
import type { Measures } from './metrics.ts'
import { isKind, type QueryRuns } from './query-run.ts'
import { evaluatePart, type PartEvaluationDeps } from './split/part-evaluation.ts'

export interface QuestionsDeps {
  readonly clock: Clock
  readonly log: Log
  readonly config: QuerierConfig
  readonly limits: { of(tenant: string): Limits }
  readonly measured: Measures
  readonly breathing: Breathing
  readonly memory: MemoryPool
  readonly runs: QueryRuns
  readonly partAdmission: Admission
  readonly evaluation: PartEvaluationDeps
}

/** A body in the other form, in pieces and whole, for each of its bytes. */
const CBOR_WEIGHT = 2

export class Questions {
  readonly #deps: QuestionsDeps

  constructor(deps: QuestionsDeps) {
    this.#deps = deps
  }

  async query(question: Uint8Array, context: HandlerContext<'tenant' | 'kind'>): Promise<Uint8Array> {
    const { config, log, measured, breathing, memory, runs } = this.#deps
    const { kind } = context.params
    const form = formOf(context.headers)
    const measuring = measured.begin(isKind(kind) ? kind : 'unknown')
    const account = memory.open()
    const breath = breathing.open(context.params.tenant, context.signal)
    let budget = new Budget(config, account)
    try {
      const tenant = decodeTenant(context.params.tenant)
      const bounds = this.#boundsOf(tenant)
      budget = new Budget(bounds, account)
      const given = { tenant, bounds, budget, breath }
      const body = await runs.answer(kind, readParams(question, form), context, given)
      if (form === 'cbor') account.charge(CBOR_WEIGHT * body.length)
      const reply = await bodyIn(form, body, breath)
      measuring.end('success', budget)
      return reply
    } catch (error) {
      if (error instanceof AssertionError) throw error // QUERY-6
      const failure = failureOf(error)
      if (failure.isUnexpected) log.error({ kind, requestId: context.requestId, error }, 'a query failed unexpectedly')
      measuring.end(failure.errorType, budget)
      return bodyIn(form, errorBody(failure), UNHURRIED)
    } finally {
      breath.close()
      account.close()
    }
  }

  /** What goes wrong before the first piece is answered as one; later it ends the stream. */
  async *read(params: QueryParams, context: HandlerContext<'tenant'>): AsyncGenerator<Uint8Array> {
    const { config, log, measured, breathing, memory, runs } = this.#deps
    const measuring = measured.begin('read')
    const account = memory.open()
    const breath = breathing.open(context.params.tenant, context.signal)
    let budget = new Budget(config, account)
    let outcome = 'canceled'
    let isBegun = false
    try {
      const tenant = decodeTenant(context.params.tenant)
      const bounds = this.#boundsOf(tenant)
      budget = new Budget(bounds, account)
      const handover = new Handover()
      const making = runs.answer('read', params, context, { tenant, bounds, budget, breath, give: handover.give })
      for await (const piece of handover.pieces(making)) {
        isBegun = true
        yield piece
      }
      await making
      outcome = 'success'
    } catch (error) {
      if (error instanceof AssertionError) throw error // QUERY-6
      const failure = failureOf(error)
      if (failure.isUnexpected) log.error({ requestId: context.requestId, error }, 'a remote read failed unexpectedly')
      outcome = failure.errorType
      if (isBegun) throw error
      yield errorBody(failure)
    } finally {
      measuring.end(outcome, budget)
      breath.close()
      account.close()
    }
  }

  /** Parts have places of their own: a query that waits for its parts keeps its place. */
  async part(asked: QueryPartRequest, context: HandlerContext<'tenant'>): Promise<QueryPartReply> {
    const { clock, config, breathing, memory, partAdmission, evaluation } = this.#deps
    const leftMs = Math.min(config.queryTimeoutMs, context.deadline - clock.monotonic())
    const life = lifetime(clock, context.signal, Math.max(0, leftMs))
    const breath = breathing.open(context.params.tenant, life.signal)
    const scope = {
      tenant: decodeTenant(context.params.tenant),
      breath,
      requestId: context.requestId,
      signal: life.signal,
      deadlineMs: life.deadlineMs,
      waitUntilMs: clock.monotonic() + config.ownerWaitMs,
      places: asked.places.map((place) => place ?? undefined),
      allowsPartial: asked.allowsPartial,
    }
    try {
      const bounds = this.#boundsOf(scope.tenant)
      return await partAdmission.run(scope, life.signal, () =>
        evaluatePart(evaluation, asked, scope, bounds, memory.open()),
      )
    } catch (error) {
      throw life.signal.aborted && !(error instanceof AssertionError) ? life.signal.reason : error
    } finally {
      breath.close()
      life.end()
    }
  }

  #boundsOf(tenant: string): QueryBounds {
    return boundsOf(this.#deps.config, this.#deps.limits.of(tenant))
  }
}
