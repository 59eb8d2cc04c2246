// The querier answers PromQL and its neighbours: it reads what the owners of all partitions hold and what stands in blocks, evaluates, and
// answers in the shape of Prometheus' HTTP API.
//
// Invariants
//   Q1-Q5 and Q8-Q10 stand where they are kept: owner-race.ts, partition-reader.ts, whole-reader.ts.
//   Q6  Every question is answered in Prometheus' shape, whatever goes wrong; only a bug (a failed assertion) is thrown.
//   Q7  The querier keeps nothing that could not be read again: its death costs the queries that it was answering.
import path from 'node:path'
import { AssertionError } from '../../shared/base/assert.ts'
import { Breathing, UNHURRIED } from '../../shared/base/breathing.ts'
import { textOf } from '../../shared/base/errors.ts'
import { openBlocks } from '../../shared/blocks/open.ts'
import { type HandlerContext, serve, serveStream } from '../../shared/bus/actor.ts'
import { activeQueries, cancelQuery } from '../../shared/contracts/active-queries.ts'
import { QUERY_KINDS, type QueryKind, type QueryParams, remoteRead } from '../../shared/contracts/query.ts'
import { type QueryPartReply, type QueryPartRequest, queryPart } from '../../shared/contracts/query-part.ts'
import { watchLimits } from '../../shared/limits/limits.ts'
import type { ServiceDeps } from '../../shared/membership/deps.ts'
import type { MemberActor } from '../../shared/membership/member-actor.ts'
import { decodeTenant } from '../../shared/model/tenant.ts'
import type { ObjectStore } from '../../shared/objects/port.ts'
import { cachedObjects } from '../../shared/objects/read-cache.ts'
import { readCacheMetrics } from '../../shared/objects/read-cache-metrics.ts'
import { createEngine } from '../../shared/promql/engine.ts'
import { badData } from '../../shared/promql/go-values.ts'
import { cardinalityQueries } from './api/cardinality.ts'
import { deletePreview } from './api/delete-preview.ts'
import { featuresOf } from './api/features.ts'
import { federateQueries } from './api/federate.ts'
import { labelQueries } from './api/label-queries.ts'
import { checkedParams, consistencyOf } from './api/params.ts'
import { promqlQueries } from './api/promql-queries.ts'
import { anyQuery, bodyIn, formOf, readParams } from './api/query-codec.ts'
import type { AnswerKind, Asked } from './api/query-kind.ts'
import { remoteReadQueries } from './api/remote-read.ts'
import { errorBody, failureOf, rawBody, sizeOfParts, successBody } from './api/response.ts'
import type { QuerierConfig } from './config.ts'
import { ActiveQueries } from './limits/active-queries.ts'
import { createAdmission } from './limits/admission.ts'
import { Budget } from './limits/budget.ts'
import { MemoryPool, MemoryShare } from './limits/memory-pool.ts'
import { Handover } from './limits/piece-stream.ts'
import type { ProcessMemory } from './limits/process-memory.ts'
import { lifetime, Warnings } from './limits/query-scope.ts'
import { boundsOf } from './limits/tenant-limits.ts'
import { type Measures, measures } from './metrics.ts'
import { createLogEnds } from './read/log-ends.ts'
import { keepOpen } from './read/open-blocks.ts'
import { createPartitionReader } from './read/partition-reader.ts'
import { placesOf } from './read/read-barrier.ts'
import { createViews } from './read/snapshots.ts'
import { createWholeReader } from './read/tenant-reader.ts'
import { createPartCache } from './split/part-cache.ts'
import { evaluatePart } from './split/part-evaluation.ts'
import { splitRange } from './split/split-range.ts'

export interface QuerierDeps extends ServiceDeps {
  readonly config: QuerierConfig
  /** Of the process, if it is this querier's own. */
  readonly processMemory?: ProcessMemory
}

export function querier(deps: QuerierDeps): MemberActor {
  const { bus, clock, id, log, membership } = deps
  const config = withinMemory(deps.config, deps.processMemory?.machineBytes)
  const enabledFeatures: ReadonlySet<string> = new Set(config.enableFeature)
  const { patternSizeMax, selectorsMax } = config
  const parsing = { enabledFeatures, patternSizeMax }
  const bounds = { selectorsMax, patternSizeMax }
  const limits = watchLimits(deps)
  const active = new ActiveQueries(deps)
  const admission = createAdmission({ concurrentMax: config.concurrentQueriesMax, queuedMax: config.queuedQueriesMax })
  const measured: Measures = measures(deps.metrics, admission, clock)
  const breathing = new Breathing(clock)
  const partitions = createPartitionReader({
    clock,
    membership,
    hedgeAfterMs: config.hedgeAfterMs,
    ownerTimeoutMs: config.ownerTimeoutMs,
    partitionAsksMax: config.partitionAsksMax,
    onHedge: () => measured.hedged(),
    onOwnerFailure(owner, error) {
      measured.ownerFailed()
      log.debug({ owner }, `an owner did not answer: ${textOf(error)}`)
    },
  })
  const objects = cached({ ...deps, config })
  const views = createViews({ open: () => openBlocks({ ...deps, objects }), clock, log })
  const kept = keepOpen(views, { countMax: config.openBlocksMax, bytesMax: config.openBlocksBytesMax, breathing })
  measured.blocksKept(kept)
  const reader = createWholeReader({
    partitions,
    views,
    openBlocks: kept,
    blockReadsMax: config.blockReadsMax,
    onRetry: () => measured.viewRetried(),
    onBlockFailure(ulid, error) {
      measured.blockFailed(error.code)
      log.error({ ulid, reason: textOf(error.cause) }, `a block could not be read: ${error.message}`)
    },
  })
  const ends = createLogEnds({ logs: bus.logs, clock, random: deps.random, id, onFence: () => measured.fenced() })
  const engine = createEngine({
    clock,
    lookbackMs: config.lookbackMs,
    samplesMax: config.samplesMax,
    timeoutMs: config.queryTimeoutMs,
    defaultStepMs: config.defaultStepMs,
    enabledFeatures,
    patternSizeMax,
  })
  const partAdmission = createAdmission({
    concurrentMax: config.concurrentQueriesMax,
    queuedMax: config.queuedQueriesMax,
  })
  const cache = createPartCache(config.partCacheBytesMax)
  const memory = new MemoryPool({
    bytesMax: config.querierMemoryBytesMax,
    queryBytesMax: config.queryMemoryBytesMax,
    clock,
    process: deps.processMemory,
    cachedBytes: () => config.readCacheBytesMax + kept.bytes + cache.bytes,
    onRefusal: (limit) => measured.memoryRefused(limit),
    onCollection: () => measured.garbageCollected(),
  })
  measured.memoryHeld(memory)
  const evaluation = { bus, engine, reader, config, parsing }
  measured.partsKept(cache)
  const inParts = splitRange({
    ...{ bus, clock, membership, reader, cache, partsAtOnceMax: config.partsAtOnceMax },
    evaluate(asked, scope, whole) {
      const held = whole.memory === undefined ? memory.open() : new MemoryShare(whole.memory)
      return evaluatePart(evaluation, asked, scope, boundsOf(config, limits.of(scope.tenant)), held)
    },
    onPart: (from) => measured.part(from),
  })
  const kinds: Readonly<Record<QueryKind, AnswerKind>> = {
    ...promqlQueries({ bus, clock, engine, reader, inParts, config, parsing }),
    ...labelQueries({ bus, reader, bounds, parsing }),
    ...federateQueries({ bus, clock, reader, lookbackMs: config.lookbackMs, bounds }),
    ...remoteReadQueries({ bus, reader, bounds }),
    ...cardinalityQueries({ bus, clock, reader }),
    features: async () => ({ data: [JSON.stringify(featuresOf(enabledFeatures))] }),
    delete_preview: deletePreview({ bus, reader, bounds }),
  }

  return {
    name: 'querier',
    serves: [
      serve(anyQuery, onQuery),
      serveStream(remoteRead, onRead),
      serve(queryPart, onPart),
      serve(activeQueries, async ({ tenant }) => ({ queries: active.list(tenant) }), { id }),
      serve(cancelQuery, async ({ query, tenant }) => ({ isCancelled: active.cancel(query, tenant) }), { id }),
    ],
    hears: [],
    every: [],
    lacks: () => [...partitions.lacks(), ...views.lacks()],
    async start() {
      await limits.start()
      await views.start()
    },
    async stop() {
      limits.stop()
      await views.stop() // Q7
    },
  }

  async function onQuery(question: Uint8Array, context: HandlerContext<'tenant' | 'kind'>): Promise<Uint8Array> {
    const { kind } = context.params
    const form = formOf(context.headers)
    const measuring = measured.begin(isKind(kind) ? kind : 'unknown')
    const account = memory.open()
    const breath = breathing.open(context.params.tenant, context.signal)
    let budget = new Budget(config, account)
    try {
      const tenant = decodeTenant(context.params.tenant)
      const bounds = boundsOf(config, limits.of(tenant))
      budget = new Budget(bounds, account)
      const given = { tenant, bounds, budget, breath }
      const body = await answer(kind, readParams(question, form), context, given)
      if (form === 'cbor') account.charge(CBOR_WEIGHT * body.length)
      const reply = await bodyIn(form, body, breath)
      measuring.end('success', budget)
      return reply
    } catch (error) {
      if (error instanceof AssertionError) throw error // Q6
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
  async function* onRead(params: QueryParams, context: HandlerContext<'tenant'>): AsyncGenerator<Uint8Array> {
    const measuring = measured.begin('read')
    const account = memory.open()
    const breath = breathing.open(context.params.tenant, context.signal)
    let budget = new Budget(config, account)
    let outcome = 'canceled'
    let isBegun = false
    try {
      const tenant = decodeTenant(context.params.tenant)
      const bounds = boundsOf(config, limits.of(tenant))
      budget = new Budget(bounds, account)
      const handover = new Handover()
      const making = answer('read', params, context, { tenant, bounds, budget, breath, give: handover.give })
      for await (const piece of handover.pieces(making)) {
        isBegun = true
        yield piece
      }
      await making
      outcome = 'success'
    } catch (error) {
      if (error instanceof AssertionError) throw error // Q6
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
  async function onPart(asked: QueryPartRequest, context: HandlerContext<'tenant'>): Promise<QueryPartReply> {
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
      const bounds = boundsOf(config, limits.of(scope.tenant))
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

  async function answer(
    kind: string,
    paramsGiven: unknown,
    context: HandlerContext<'tenant'>,
    given: Pick<Asked, 'bounds' | 'budget' | 'breath' | 'give'> & { readonly tenant: string },
  ): Promise<Uint8Array> {
    if (!isKind(kind)) throw badData(`there is no query of the kind "${kind}"; there are ${QUERY_KINDS.join(', ')}`)
    const { tenant, bounds, budget, breath, give } = given
    const params = checkedParams(paramsGiven)
    const warnings = new Warnings()
    const run: Asked['run'] = async (timeoutMs, work) => {
      const consistency = consistencyOf(params)
      const leftMs = Math.min(bounds.timeoutMs, timeoutMs ?? Infinity, context.deadline - clock.monotonic())
      const { requestId } = context
      const entry = active.begin({ tenant, kind, params, requestId, timeoutMs: Math.max(0, leftMs), budget })
      const life = lifetime(clock, AbortSignal.any([context.signal, entry.cancelled]), Math.max(0, leftMs))
      const within = breathing.open(context.params.tenant, life.signal)
      try {
        return await admission.run({ tenant, ...bounds }, life.signal, async () => {
          entry.runs()
          if (consistency.kind !== 'eventual') await reader.confirmed(life) // the ends of all logs count (L19, L20)
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
    const { data, notes, raw } = await kinds[kind]({ params, budget, bounds, breath, run, give })
    budget.hold(sizeOfParts(raw ?? data ?? []))
    if (raw !== undefined) return rawBody(raw, breath)
    const said = [...new Set([...(notes?.warnings ?? []), ...warnings.list()])]
    return successBody(data, { warnings: said, infos: notes?.infos ?? [] }, breath)
  }
}

/** A body in the other form, in pieces and whole, for each of its bytes. */
const CBOR_WEIGHT = 2

/** A querier takes no more than three quarters of the machine, and caches no more than a share of that. */
function withinMemory(config: QuerierConfig, machineBytes = Number.POSITIVE_INFINITY): QuerierConfig {
  const querierMemoryBytesMax = Math.min(config.querierMemoryBytesMax, Math.floor((machineBytes * 3) / 4))
  const share = (bytesMax: number, part: number) => Math.min(bytesMax, Math.floor(querierMemoryBytesMax / part))
  return {
    ...config,
    querierMemoryBytesMax,
    readCacheBytesMax: share(config.readCacheBytesMax, 8),
    openBlocksBytesMax: share(config.openBlocksBytesMax, 8),
    partCacheBytesMax: share(config.partCacheBytesMax, 16),
  }
}

/** What is read of blocks goes through a cache of this querier. */
function cached({ objects, clock, metrics, id, config }: ServiceDeps & { config: QuerierConfig }): ObjectStore {
  const { readCacheBytesMax, readCacheFolder, readCacheFolderBytesMax } = config
  return cachedObjects(objects, {
    memoryBytesMax: readCacheBytesMax,
    ...(readCacheFolder !== '' && {
      directory: { path: path.join(readCacheFolder, id), bytesMax: readCacheFolderBytesMax },
    }),
    metrics: readCacheMetrics(metrics),
    clock,
  })
}

function isKind(kind: string): kind is QueryKind {
  return (QUERY_KINDS as readonly string[]).includes(kind)
}
