// The ingester applies the logs of the partitions it owns to heads in memory, answers what queriers ask of them, and opens segments
// where it leads.
//
// Invariants
//   I1  It holds nothing that the log does not: killing it loses nothing, a new one replays (design: log first).
//   I2  A question is answered only by an owner that has caught up, and only from one owner's memory (L18).
//   I3  Memory is bounded: what it holds is told to distributors, which stop new series near the bound and writes at it.
//   I4  What is in blocks by now leaves the log and memory (flush.ts, after-flush.ts); whoever still asks for it is sent to the blocks (L18).
//   I5  Each partition is followed, read, led and filled in a lane of its own: one whose log does not answer delays no other.
import { sleep } from '../../shared/base/clock.ts'
import { CarillonError, RefusedError, textOf, UnavailableError } from '../../shared/base/errors.ts'
import { Lanes } from '../../shared/base/lanes.ts'
import { openBlocks } from '../../shared/blocks/open.ts'
import type { Blocks } from '../../shared/blocks/port.ts'
import { every, type HandlerContext, serve, serveStream } from '../../shared/bus/actor.ts'
import { tell } from '../../shared/bus/ask.ts'
import type { KvBucket } from '../../shared/bus/port.ts'
import { type FlushReply, type FlushRequest, flushNow } from '../../shared/contracts/flush.ts'
import { LOG_BUCKET } from '../../shared/contracts/log.ts'
import type { PartitionStatus } from '../../shared/contracts/member.ts'
import * as read from '../../shared/contracts/read.ts'
import { rebuild } from '../../shared/contracts/scrubbing.ts'
import type { ServiceDeps } from '../../shared/membership/deps.ts'
import type { MemberActor } from '../../shared/membership/member-actor.ts'
import { StringTable } from '../../shared/tsdb/head/string-table.ts'
import type { IngesterConfig } from './config.ts'
import { type AfterFlushDeps, addSupplement, dropFlushed, purgeLog } from './flush/after-flush.ts'
import { AsideRetries, type AsideRetriesDeps } from './flush/aside-retries.ts'
import { Asides } from './flush/asides.ts'
import { type BlockBuilder, inlineBuilder, threadBuilder } from './flush/block-builder.ts'
import { type FlushStep, flushNext, unflushedAgeMs } from './flush/flush.ts'
import { flushMetrics } from './flush/flush-metrics.ts'
import { answerFlush } from './flush/flush-now.ts'
import { Gaps } from './flush/gaps.ts'
import { rebuildBlock } from './flush/rebuild.ts'
import { leadPartition } from './leader.ts'
import { Owner } from './log/owner.ts'
import { ownerMetrics } from './log/owner-metrics.ts'
import { endLane, Ownership } from './ownership.ts'
import {
  exemplarsOf,
  headStatsOf,
  knownOf,
  labelNamesOf,
  labelValuesOf,
  metadataOf,
  selectFrames,
  seriesFrames,
} from './read/answers.ts'
import { fillFrames } from './read/fill-frames.ts'
import { hide, type IsShown, reachVersion } from './read/hiding.ts'
import { describe } from './state/damage.ts'

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
  const { bus, clock, random, config, membership, log, metrics, id } = deps
  const strings = new StringTable()
  const counts = ownerMetrics(metrics)
  const flushing = flushMetrics(metrics)
  const builder = deps.builder ?? (bus.kind === 'memory' ? inlineBuilder() : threadBuilder(clock))
  let bucket: KvBucket
  let blocks: Blocks
  let asides: Asides
  let gaps: Gaps
  let retries: AsideRetries
  const lanes = new Lanes({
    clock,
    onFailure: (lane, { code, message }) => log.warn({ lane, code, reason: message }, 'tried again'),
  })
  const ownership = new Ownership({ id, bus, clock, config, log, membership, lanes, makeOwner })

  metrics.gaugeOf('carillon_ingester_series', 'Series in memory.', () => sumOf((owner) => seriesOf(owner)))
  metrics.gaugeOf(
    'carillon_ingester_memory_bytes',
    'Bytes of heads, dictionaries and strings, as estimated: all that is held.',
    bytesHeld,
  )
  metrics.gaugeOf('carillon_ingester_samples_applied', 'Samples applied since start.', () =>
    sumOf((owner) => owner.state.samplesApplied),
  )
  const perPartition = (read: (owner: Owner) => number) => () =>
    ownership.owners().map((owner) => [{ partition: String(owner.partition) }, read(owner)] as const)
  metrics.gaugeOf(
    'carillon_ingester_applied_sequence',
    'Newest applied sequence of each partition log.',
    perPartition(({ appliedSeq }) => appliedSeq),
    ['partition'],
  )
  metrics.gaugeOf(
    'carillon_flush_flushed_segment',
    'The newest segment of each partition that is in blocks.',
    perPartition(({ partition }) => blocks.flushed(partition)),
    ['partition'],
  )
  metrics.gaugeOf(
    'carillon_flush_unflushed_age_seconds',
    'Time since the oldest segment that is closed and not in blocks was closed; 0 where there is none.',
    perPartition((owner) => unflushedAgeMs(owner, blocks, clock.monotonic()) / 1000),
    ['partition'],
  )

  metrics.gaugeOf(
    'carillon_flush_asides',
    'Segments of single tenants that are set aside and in no block yet, as this ingester has heard.',
    () => asides.count,
  )

  return {
    name: 'ingester',
    serves: [
      serveStream(read.select, onSelect, { id }),
      serveStream(read.series, onSeries, { id }),
      serve(read.labelNames, (asked, context) => answered(asked, context, labelNamesOf), { id }),
      serve(read.labelValues, (asked, context) => answered(asked, context, labelValuesOf), { id }),
      serve(read.metadata, (asked, context) => answered(asked, context, metadataOf), { id }),
      serve(read.exemplars, (asked, context) => answered(asked, context, exemplarsOf), { id }),
      serve(read.headStats, (asked, context) => answered(asked, context, headStatsOf), { id }),
      serve(read.known, async (asked) => knownOf(ownerOf(asked.partition), asked), { id }),
      serveStream(read.fill, onFill, { id }),
      serve(flushNow, onFlush, { id }),
      serve(rebuild, (asked) => rebuildBlock(ownerOf(asked.partition), asked, afterFlush()), { id }),
    ],
    hears: [],
    every: [
      every(OWN_MS, 'follow the partitions that the ring gives to this ingester', async () => {
        void ownership.follow()
        ownership.tell()
      }),
      every(config.endReadMs, 'read the ends of the owned logs', readEnds),
      every(LEAD_MS, 'open segments that are due', lead),
      every(OWN_MS, 'ask other owners for what the log did not deliver', fillAll),
      every(config.flushMs, 'flush closed segments where it leads, and purge', flushAll),
      every(config.flushMs, 'try again what is set aside', retryAsides),
      every(config.flushMs, 'free what is in blocks', dropAll),
      every(config.checkpointMs, 'write down the newest applied message', saveCheckpoints),
      every(config.countedMs, 'tell how much is held', tellCounts),
    ],
    async start() {
      bucket = await bus.bucket(LOG_BUCKET)
      blocks = await openBlocks({ bus, objects: deps.objects, clock, random, log, metrics: deps.metrics })
      asides = new Asides({ blocks, clock, random, log, metrics, id, patienceMs: config.flushPatienceMs })
      const add = (...[holder, of, added]: Parameters<AsideRetriesDeps['add']>) =>
        addSupplement(holder, of, added, afterFlush())
      retries = new AsideRetries({ blocks, clock, log, builder, asides, add })
      gaps = new Gaps({ blocks, clock, log, metrics })
      await asides.start()
      await gaps.start()
      await atMost(ownership.follow(), FIRST_TRY_MS_MAX)
      ownership.tell()
    },
    lacks: () => ownership.lacks(),
    handOver: () => ownership.handOver(),
    owners: () => ownership.owners(),
    partitions: () => ownership.owners().map(statusOf),
    async stop() {
      await ownership.stop()
      await atMost(lanes.idle(), LANES_MS_MAX)
      asides.stop()
      gaps.stop()
      blocks.close()
      await builder.close()
    },
  }

  async function* onSelect(asked: read.SelectRequest, context: HandlerContext) {
    const owner = await ready(asked, context)
    hide(owner, blocks, asked)
    yield* selectFrames(owner, strings, asked, context.signal)
  }

  async function* onSeries(asked: read.SeriesRequest, context: HandlerContext) {
    const owner = await ready(asked, context)
    hide(owner, blocks, asked)
    yield* seriesFrames(owner, strings, asked)
  }

  async function answered<Req extends read.OwnerRequest, Reply>(
    asked: Req,
    context: HandlerContext,
    answer: (owner: Owner, asked: Req, isShown: IsShown) => Reply,
  ): Promise<Reply> {
    const owner = await ready(asked, context)
    return answer(owner, asked, hide(owner, blocks, asked))
  }

  async function* onFill(asked: read.FillRequest) {
    const owner = ownerOf(asked.partition)
    if (owner.incarnation !== asked.incarnation) {
      const text = `partition ${asked.partition} is followed in another life of its log`
      throw new UnavailableError(owner.end === undefined ? 'err-carillon-not-owner' : 'err-carillon-owner-behind', text)
    }
    yield* fillFrames(owner, strings, asked.segment)
  }

  function onFlush(asked: FlushRequest, { signal }: HandlerContext): Promise<FlushReply> {
    const led = ownership.owners().filter(({ partition }) => ownership.leads(partition))
    return answerFlush(asked, { led, blocks, asides, clock, signal })
  }

  function ownerOf(partition: number): Owner {
    const owner = ownership.of(partition)
    if (owner) return owner
    throw new UnavailableError('err-carillon-not-owner', `${id} does not own partition ${partition}`)
  }

  /** The owner, once it may answer (I2): caught up, and past the position that was asked for. */
  async function ready(asked: read.OwnerRequest, { signal }: HandlerContext): Promise<Owner> {
    const owner = ownerOf(asked.partition)
    if (asked.minSeq > 0 && asked.incarnation !== '' && owner.incarnation !== asked.incarnation) {
      const text = `partition ${asked.partition}: the position belongs to another life of the log`
      throw new UnavailableError('err-carillon-owner-behind', text)
    }
    await reachVersion(blocks, asked)
    if (!owner.isCaughtUp || owner.appliedSeq < asked.minSeq) await owner.waitFor(asked.minSeq, asked.waitMs, signal)
    if (asked.watermark > 0 && owner.state.segment <= asked.watermark) {
      const text = `partition ${asked.partition}: segment ${asked.watermark} is in blocks, and this owner has not seen its end`
      throw new UnavailableError('err-carillon-owner-behind', text) // L18
    }
    if (asked.watermark >= owner.state.droppedUpTo || asked.watermark === read.WHATEVER_IS_HELD) return owner
    const text = `partition ${asked.partition}: segments up to ${owner.state.droppedUpTo} are in blocks, those above ${asked.watermark} were asked for`
    throw new RefusedError('err-carillon-dropped', text)
  }

  function makeOwner(partition: number): Owner {
    const facts = { partition, id, bus, bucket, clock, log, config, strings, blocks, asides, gaps, metrics: counts }
    return new Owner({ ...facts, registry: metrics, without: deps.without ?? NOTHING })
  }

  /** Resolves when the work has ended, or the wait has: then it goes on by itself. */
  async function atMost(work: Promise<unknown>, waitMs: number): Promise<void> {
    const enough = new AbortController()
    await Promise.race([work, sleep(clock, waitMs, enough.signal).catch(() => {})])
    enough.abort()
  }

  async function readEnds(): Promise<void> {
    for (const owner of ownership.owners()) void lanes.begin(endLane(owner.partition), () => owner.readEnd())
  }

  async function lead(): Promise<void> {
    const leading = { bus, bucket, clock, random, log, config, metrics: counts, registry: metrics, id, blocks }
    for (const owner of ownership.owners()) {
      const { partition } = owner
      if (ownership.leads(partition)) void lanes.begin(`lead ${partition}`, () => leadPartition(owner, leading))
    }
  }

  async function flushAll(): Promise<void> {
    for (const owner of ownership.owners()) {
      const { partition } = owner
      if (!ownership.leads(partition)) continue
      await attempt(owner, 'flush', async () => {
        while (ownership.leads(partition) && (await flushNext(owner, afterFlush()))) {}
      })
      await attempt(owner, 'purge', () => purgeLog(owner, afterFlush()))
    }
  }

  async function retryAsides(): Promise<void> {
    const led = ownership.owners().filter(({ partition }) => ownership.leads(partition))
    void lanes.begin('try again what is set aside', () => retries.retry(led))
  }

  async function dropAll(): Promise<void> {
    for (const { owner, flushedSeen } of ownership.held()) {
      await attempt(owner, 'drop', () => dropFlushed(owner, flushedSeen, afterFlush()))
    }
  }

  /** What fails for one partition is tried again, and holds up no other. */
  async function attempt({ partition }: Owner, what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      if (!(error instanceof CarillonError)) throw error
      flushing.failures.inc()
      log.warn({ partition, code: error.code, reason: error.message }, `${what} did not succeed and is tried again`)
    }
  }

  function afterFlush(): AfterFlushDeps {
    const { onStep } = deps
    return {
      ...{ bus, blocks, asides, gaps, builder, clock, random, config, log, strings, metrics: flushing },
      ...(onStep && { onStep }),
      ...(deps.without && { without: deps.without }),
    }
  }

  async function fillAll(): Promise<void> {
    for (const { owner, filler } of ownership.held()) {
      const { partition, damages } = owner
      if (damages.every(({ state }) => state !== 'open')) continue
      const [holders, owners] = [membership.holders(partition), membership.owners(partition)]
      const others = [...new Set([...holders, ...owners])].filter((other) => other !== id)
      const asked = others.map((other) => ({ id: other, holds: holders.includes(other) }))
      const filling = {
        bus,
        clock,
        log,
        metrics: counts,
        strings,
        others: asked,
        isConfirmed: membership.isConfirmed(),
      }
      void lanes.begin(`fill ${partition}`, async () => {
        await filler.fill(filling)
        await gaps.add(partition, damages, owner.state.segment) // owners that began behind the loss of an end answer as well (F7)
      })
    }
  }

  async function saveCheckpoints(): Promise<void> {
    for (const owner of ownership.owners()) {
      void lanes.begin(`save the checkpoint of ${owner.partition}`, () => owner.saveCheckpoint())
    }
  }

  function tellCounts(): void {
    const series = ownership.owners().flatMap((owner) =>
      [...owner.state.heads].map(([tenant, head]) => ({
        partition: owner.partition,
        tenant,
        count: head.seriesCount,
      })),
    )
    const value = { id, incarnation: deps.incarnation, bytes: bytesHeld(), bytesMax: config.memoryBytesMax, series }
    try {
      tell(bus, read.ownerCounted, {}, { ...value, series: series.slice(0, COUNTED_TENANTS_MAX) })
    } catch (error) {
      log.debug({ reason: textOf(error) }, 'counts not told')
    }
  }

  function statusOf(owner: Owner): PartitionStatus {
    const segments = owner.state.segments()
    return {
      partition: owner.partition,
      state: owner.isCaughtUp ? 'caught-up' : 'replaying',
      isLeader: ownership.leads(owner.partition),
      incarnation: owner.incarnation,
      appliedSeq: owner.appliedSeq,
      endSeq: owner.end?.lastSeq ?? 0,
      mark: owner.state.segment,
      flushed: blocks.flushed(owner.partition),
      segments,
      digests: segments.map((segment) => owner.state.digest(segment)),
      seriesCount: seriesOf(owner),
      sampleCount: [...owner.state.heads.values()].reduce((sum, head) => sum + head.sampleCount, 0),
      damage: owner.damages.map(describe),
      aside: asides.named(owner.partition),
    }
  }

  function sumOf(read: (owner: Owner) => number): number {
    return ownership.owners().reduce((sum, owner) => sum + read(owner), 0)
  }

  function seriesOf(owner: Owner): number {
    return [...owner.state.heads.values()].reduce((sum, head) => sum + head.seriesCount, 0)
  }

  function bytesHeld(): number {
    return strings.bytes + ownership.bytes()
  }
}

const NOTHING: ReadonlySet<string> = new Set()
const COUNTED_TENANTS_MAX = 5_000
