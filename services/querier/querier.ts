// The querier answers PromQL and its neighbours: it reads what the owners of all partitions hold and what stands in blocks, evaluates, and
// answers in the shape of Prometheus' HTTP API.
//
// Invariants
//   QUERY-6  Every question is answered in Prometheus' shape, whatever goes wrong; only a bug (a failed assertion) is thrown.
//   QUERY-7  The querier keeps nothing that could not be read again: its death costs the queries that it was answering.
//
// How it reads is said where that is kept: read/hedged-request.ts, read/partition-reader.ts, read/tenant-reader.ts.
import path from 'node:path'
import { Breathing } from '../../shared/base/breathing.ts'
import { textOf } from '../../shared/base/errors.ts'
import { openBlocks } from '../../shared/blocks/open.ts'
import { serve, serveStream } from '../../shared/bus/actor.ts'
import { activeQueries, cancelQuery } from '../../shared/contracts/active-queries.ts'
import { type QueryKind, remoteRead } from '../../shared/contracts/query.ts'
import { queryPart } from '../../shared/contracts/query-part.ts'
import { type TenantLimits, watchLimits } from '../../shared/limits/limits.ts'
import type { ServiceDeps } from '../../shared/membership/deps.ts'
import type { MemberActor } from '../../shared/membership/member-actor.ts'
import type { ObjectStore } from '../../shared/objects/port.ts'
import { cachedObjects } from '../../shared/objects/read-cache.ts'
import { readCacheMetrics } from '../../shared/objects/read-cache-metrics.ts'
import { createEngine, type Engine } from '../../shared/promql/engine.ts'
import { cardinalityQueries } from './api/cardinality.ts'
import { deletePreview } from './api/delete-preview.ts'
import { featuresOf } from './api/features.ts'
import { federateQueries } from './api/federate.ts'
import { labelQueries } from './api/label-queries.ts'
import { promqlQueries } from './api/promql-queries.ts'
import { anyQuery } from './api/query-codec.ts'
import type { AnswerKind } from './api/query-kind.ts'
import { remoteReadQueries } from './api/remote-read.ts'
import type { QuerierConfig } from './config.ts'
import { ActiveQueries } from './limits/active-queries.ts'
import { createAdmission } from './limits/admission.ts'
import { MemoryPool, MemoryShare } from './limits/memory-pool.ts'
import type { ProcessMemory } from './limits/process-memory.ts'
import { boundsOf } from './limits/tenant-limits.ts'
import { type Measures, measures } from './metrics.ts'
import { QueryRuns } from './query-run.ts'
import { Questions } from './questions.ts'
import { createLogEnds } from './read/log-ends.ts'
import { keepOpen, type OpenBlocks } from './read/open-blocks.ts'
import { createPartitionReader, type PartitionReader } from './read/partition-reader.ts'
import { createViews, type Views } from './read/snapshots.ts'
import { createWholeReader, type WholeReader } from './read/tenant-reader.ts'
import { createPartCache } from './split/part-cache.ts'
import { evaluatePart, type PartEvaluationDeps } from './split/part-evaluation.ts'
import { type AnswerInParts, splitRange } from './split/split-range.ts'

export interface QuerierDeps extends ServiceDeps {
  readonly config: QuerierConfig
  /** Of the process, if it is this querier's own. */
  readonly processMemory?: ProcessMemory
}

export function querier(given: QuerierDeps): MemberActor {
  const deps = { ...given, config: withinMemory(given.config, given.processMemory?.machineBytes) }
  const { bus, clock, random, id, log, config } = deps
  const limits = watchLimits(deps)
  const active = new ActiveQueries(deps)
  const turns = { concurrentMax: config.concurrentQueriesMax, queuedMax: config.queuedQueriesMax }
  const admission = createAdmission(turns)
  const measured = measures(deps.metrics, admission, clock)
  const breathing = new Breathing(clock)
  const reading = readingOf(deps, measured, breathing)
  const { partitions, views, reader } = reading
  const ends = createLogEnds({ logs: bus.logs, clock, random, id, onFence: () => measured.fenced() })
  const engine = engineOf(deps)
  const { memory, ...parts } = partsOf(deps, { ...reading, limits, measured, engine })
  const kinds = kindsOf(deps, { ...parts, reader, engine })
  const runs = new QueryRuns({ clock, config, kinds, active, admission, breathing, reader, ends })
  const partAdmission = createAdmission(turns)
  const { evaluation } = parts
  const questions = new Questions({
    ...{ clock, log, config, limits, measured, breathing, memory, runs, partAdmission, evaluation },
  })

  return {
    name: 'querier',
    serves: [
      serve(anyQuery, (question, context) => questions.query(question, context)),
      serveStream(remoteRead, (params, context) => questions.read(params, context)),
      serve(queryPart, (asked, context) => questions.part(asked, context)),
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
      await views.stop() // QUERY-7
    },
  }
}

interface ReadingParts {
  readonly partitions: PartitionReader
  readonly views: Views
  readonly kept: OpenBlocks
  readonly reader: WholeReader
}

/** Owners of partitions and blocks, and what reads both. */
function readingOf(deps: QuerierDeps, measured: Measures, breathing: Breathing): ReadingParts {
  const { clock, log, membership, config } = deps
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
  const objects = cached(deps)
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
  return { partitions, views, kept, reader }
}

function engineOf({ clock, config }: QuerierDeps): Engine {
  return createEngine({
    clock,
    lookbackMs: config.lookbackMs,
    samplesMax: config.samplesMax,
    timeoutMs: config.queryTimeoutMs,
    defaultStepMs: config.defaultStepMs,
    ...parsingOf(config),
  })
}

interface EvaluationParts {
  readonly memory: MemoryPool
  readonly evaluation: PartEvaluationDeps
  readonly inParts: AnswerInParts
}

/** The memory of queries, and queries that are evaluated in parts. */
function partsOf(
  deps: QuerierDeps,
  {
    kept,
    reader,
    limits,
    measured,
    engine,
  }: Pick<ReadingParts, 'kept' | 'reader'> & {
    readonly limits: TenantLimits
    readonly measured: Measures
    readonly engine: Engine
  },
): EvaluationParts {
  const { bus, clock, membership, config } = deps
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
  const evaluation = { bus, engine, reader, config, parsing: parsingOf(config) }
  measured.partsKept(cache)
  const inParts = splitRange({
    ...{ bus, clock, membership, reader, cache, partsAtOnceMax: config.partsAtOnceMax },
    evaluate(asked, scope, whole) {
      const held = whole.memory === undefined ? memory.open() : new MemoryShare(whole.memory)
      return evaluatePart(evaluation, asked, scope, boundsOf(config, limits.of(scope.tenant)), held)
    },
    onPart: (from) => measured.part(from),
  })
  return { memory, evaluation, inParts }
}

/** How each kind of query is answered. */
function kindsOf(
  { bus, clock, config }: QuerierDeps,
  { reader, engine, inParts }: Pick<ReadingParts, 'reader'> & Pick<EvaluationParts, 'inParts'> & { engine: Engine },
): Readonly<Record<QueryKind, AnswerKind>> {
  const { lookbackMs, selectorsMax, patternSizeMax } = config
  const parsing = parsingOf(config)
  const bounds = { selectorsMax, patternSizeMax }
  return {
    ...promqlQueries({ bus, clock, engine, reader, inParts, config, parsing }),
    ...labelQueries({ bus, reader, bounds, parsing }),
    ...federateQueries({ bus, clock, reader, lookbackMs, bounds }),
    ...remoteReadQueries({ bus, reader, bounds }),
    ...cardinalityQueries({ bus, clock, reader }),
    features: async () => ({ data: [JSON.stringify(featuresOf(parsing.enabledFeatures))] }),
    delete_preview: deletePreview({ bus, reader, bounds }),
  }
}

/** What texts of PromQL may be. */
function parsingOf({ enableFeature, patternSizeMax }: QuerierConfig) {
  return { enabledFeatures: new Set<string>(enableFeature) as ReadonlySet<string>, patternSizeMax }
}

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
