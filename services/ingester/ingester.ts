// The ingester applies the logs of the partitions it owns to heads in memory, answers what queriers ask of them, and opens segments
// where it leads.
//
// Invariants
//   INGESTER-1  It holds nothing that the log does not: killing it loses nothing, a new one replays (design: log first).
//   INGESTER-2  A question is answered only by an owner that has caught up, and only from one owner's memory (LOG-18).
//   INGESTER-3  Memory is bounded: what it holds is told to distributors, which stop new series near the bound and writes at it.
//   INGESTER-4  What is in blocks by now leaves the log and memory (flush.ts, after-flush.ts); whoever still asks for it is sent to the blocks (LOG-18).
//   INGESTER-5  Each partition is followed, read, led and filled in a lane of its own: one whose log does not answer delays no other.
import { type Clock, sleep } from '../../shared/base/clock.ts'
import { Lanes } from '../../shared/base/lanes.ts'
import { every, serve, serveStream } from '../../shared/bus/actor.ts'
import { flushNow } from '../../shared/contracts/flush.ts'
import * as read from '../../shared/contracts/read.ts'
import { rebuild } from '../../shared/contracts/scrubbing.ts'
import type { ServiceDeps } from '../../shared/membership/deps.ts'
import type { MemberActor } from '../../shared/membership/member-actor.ts'
import { StringTable } from '../../shared/tsdb/head/string-table.ts'
import type { IngesterConfig } from './config.ts'
import { type BlockBuilder, inlineBuilder, ThreadBuilder } from './flush/block-builder.ts'
import type { FlushStep } from './flush/flush.ts'
import { flushMetrics } from './flush/flush-metrics.ts'
import { Flushing } from './flush/flushing.ts'
import { Owner } from './log/owner.ts'
import { ownerMetrics } from './log/owner-metrics.ts'
import { Ownership } from './ownership.ts'
import { exemplarsOf, headStatsOf, labelNamesOf, labelValuesOf, metadataOf } from './read/answers.ts'
import { Questions } from './read/questions.ts'
import { Rounds } from './rounds.ts'
import { IngesterStatus } from './status.ts'
import { Stores } from './stores.ts'

export type IngesterDeps = ServiceDeps & {
  readonly config: IngesterConfig
  /** Parts of the protocol left out; only the simulation's counter-proofs set it. */
  readonly without?: ReadonlySet<string>
  /** Only tests bring their own. */
  readonly builder?: BlockBuilder
  /** Called when a step of a flush is done; only tests set it. */
  readonly onStep?: (step: FlushStep) => void
}

const LEAD_MS = 500
const OWN_MS = 500
/** How long the start waits until each partition was tried once: logs may be without leaders. */
const FIRST_TRY_MS_MAX = 10_000
/** How long the end waits for what is at work in lanes. */
const LANES_MS_MAX = 5_000

/** The owners are open to look at: tests and the simulation check what they hold. */
export function ingester(deps: IngesterDeps): MemberActor & { owners(): readonly Owner[] } {
  const { clock, config, id } = deps
  const { stores, lanes, ownership, questions, flushing, rounds, status, builder } = partsOf(deps)

  return {
    name: 'ingester',
    serves: [
      serveStream(read.select, (asked, context) => questions.select(asked, context), { id }),
      serveStream(read.series, (asked, context) => questions.series(asked, context), { id }),
      serve(read.labelNames, (asked, context) => questions.reply(asked, context, labelNamesOf), { id }),
      serve(read.labelValues, (asked, context) => questions.reply(asked, context, labelValuesOf), { id }),
      serve(read.metadata, (asked, context) => questions.reply(asked, context, metadataOf), { id }),
      serve(read.exemplars, (asked, context) => questions.reply(asked, context, exemplarsOf), { id }),
      serve(read.headStats, (asked, context) => questions.reply(asked, context, headStatsOf), { id }),
      serve(read.known, (asked) => questions.known(asked), { id }),
      serveStream(read.fill, (asked) => questions.fill(asked), { id }),
      serve(flushNow, (asked, { signal }) => flushing.flushNow(asked, signal), { id }),
      serve(rebuild, (asked) => flushing.rebuild(asked), { id }),
    ],
    hears: [],
    every: [
      every(OWN_MS, 'follow the partitions that the ring gives to this ingester', async () => {
        void ownership.follow()
        ownership.tell()
      }),
      every(config.endReadMs, 'read the ends of the owned logs', () => rounds.readEnds()),
      every(LEAD_MS, 'open segments that are due', () => rounds.lead()),
      every(OWN_MS, 'ask other owners for what the log did not deliver', () => rounds.fill()),
      every(config.flushMs, 'flush closed segments where it leads, and purge', () => flushing.flushAll()),
      every(config.flushMs, 'try again what is set aside', () => flushing.retryAsides()),
      every(config.flushMs, 'free what is in blocks', () => flushing.dropAll()),
      every(config.checkpointMs, 'write down the newest applied message', () => rounds.saveCheckpoints()),
      every(config.countedMs, 'tell how much is held', () => status.tellCounts()),
    ],
    async start() {
      await stores.open()
      await atMost(clock, ownership.follow(), FIRST_TRY_MS_MAX)
      ownership.tell()
    },
    lacks: () => ownership.lacks(),
    handOver: () => ownership.handOver(),
    owners: () => ownership.owners(),
    partitions: () => status.partitions(),
    async stop() {
      await ownership.stop()
      await atMost(clock, lanes.idle(), LANES_MS_MAX)
      stores.close()
      await builder.close()
    },
  }
}

function partsOf(deps: IngesterDeps) {
  const { bus, clock, config, membership, log, metrics, id, without = NOTHING } = deps
  const strings = new StringTable()
  const counts = ownerMetrics(metrics)
  const counted = flushMetrics(metrics)
  const builder = deps.builder ?? (bus.kind === 'memory' ? inlineBuilder() : new ThreadBuilder(clock))
  const stores = new Stores(deps)
  const lanes = new Lanes({
    clock,
    onFailure: (lane, { code, message }) => log.warn({ lane, code, reason: message }, 'tried again'),
  })
  const makeOwner = (partition: number) => {
    const facts = { partition, id, bus, clock, log, config, strings, ...stores.all, metrics: counts }
    return new Owner({ ...facts, registry: metrics, without })
  }
  const ownership = new Ownership({ id, bus, clock, config, log, membership, lanes, makeOwner })
  const parts = { ...deps, strings, counts, builder, stores, lanes, ownership }
  return {
    ...{ stores, lanes, ownership, builder },
    questions: new Questions(parts),
    flushing: new Flushing({ ...parts, counted }),
    rounds: new Rounds(parts),
    status: new IngesterStatus(parts),
  }
}

/** Resolves when the work has ended, or the wait has: then it goes on by itself. */
async function atMost(clock: Clock, work: Promise<unknown>, waitMs: number): Promise<void> {
  const enough = new AbortController()
  await Promise.race([work, sleep(clock, waitMs, enough.signal).catch(() => {})])
  enough.abort()
}

const NOTHING: ReadonlySet<string> = new Set()
