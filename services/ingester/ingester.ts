// The ingester applies the logs of the partitions it owns to heads in memory, answers what queriers ask of them, and opens segments
// where it leads.
//
// Invariants
//   I1  It holds nothing that the log does not: killing it loses nothing, a new one replays (design: log first).
//   I2  A question is answered only by an owner that has caught up, and only from one owner's memory (L18).
//   I3  Memory is bounded: what it holds is told to distributors, which stop new series near the bound and writes at it.
//   I4  What is in blocks by now leaves the log and memory (flush.ts, after-flush.ts); whoever still asks for it is sent to the blocks (L18).
import { sleep } from '../../shared/base/clock.ts'
import { CarillonError, RefusedError, textOf, UnavailableError } from '../../shared/base/errors.ts'
import { patiently } from '../../shared/base/patience.ts'
import { openBlocks } from '../../shared/blocks/open.ts'
import type { Blocks } from '../../shared/blocks/port.ts'
import { every, type HandlerContext, serve, serveStream } from '../../shared/bus/actor.ts'
import { tell } from '../../shared/bus/ask.ts'
import type { KvBucket } from '../../shared/bus/port.ts'
import { type FlushAsk, type FlushReply, flushNow } from '../../shared/contracts/flush.ts'
import { LOG_BUCKET } from '../../shared/contracts/log.ts'
import type { PartitionStatus } from '../../shared/contracts/member.ts'
import * as read from '../../shared/contracts/read.ts'
import { rebuild } from '../../shared/contracts/scrubbing.ts'
import type { ServiceDeps } from '../../shared/membership/deps.ts'
import type { MemberActor } from '../../shared/membership/member-actor.ts'
import { StringTable } from '../../shared/tsdb/head/string-table.ts'
import { type AfterFlushDeps, dropFlushed, FlushedSeen, purgeLog } from './after-flush.ts'
import {
  exemplarsOf,
  headStatsOf,
  knownOf,
  labelNamesOf,
  labelValuesOf,
  metadataOf,
  selectFrames,
  seriesFrames,
} from './answers.ts'
import { inlineBuilder, threadBuilder } from './block-builder.ts'
import type { IngesterConfig } from './config.ts'
import { describe } from './damage.ts'
import { fillFrames } from './fill-frames.ts'
import { fillDamage } from './filler.ts'
import { type FlushStep, flushNext, unflushedAgeMs } from './flush.ts'
import { flushMetrics } from './flush-metrics.ts'
import { answerFlush } from './flush-now.ts'
import { leadPartition } from './leader.ts'
import { Owner } from './owner.ts'
import { ownerMetrics } from './owner-metrics.ts'
import { rebuildBlock } from './rebuild.ts'

export type IngesterDeps = ServiceDeps & {
  readonly config: IngesterConfig
  /** Parts of the protocol left out; only the simulation's counter-proofs set it. */
  readonly without?: ReadonlySet<string>
  /** Called when a step of a flush is done; only tests set it. */
  readonly onStep?: (step: FlushStep) => void
}

const LEAD_MS = 500
const OWN_MS = 500
/** A partition is served this long after all its owners have said that they have caught up: queriers hear it at about the same time. */
const RELEASE_AFTER_MS = 5_000
/** How long the start waits for leaders of logs that are being elected. */
const START_MS_MAX = 30_000
const HAND_OVER_STEP_MS = 100

/** The owners are open to look at: tests and the simulation check what they hold. */
export function ingester(deps: IngesterDeps): MemberActor & { owners(): readonly Owner[] } {
  const { bus, clock, random, config, membership, log, metrics, id } = deps
  const owners = new Map<number, Owner>()
  /** Partitions of others that all have caught up, and since when: they are served until then, and a little longer (L19). */
  const released = new Map<number, number>()
  const strings = new StringTable()
  const counts = ownerMetrics(metrics)
  const flushing = flushMetrics(metrics)
  /** Per partition: when its watermark was seen to rise. */
  const flushedSeen = new Map<number, FlushedSeen>()
  const builder = bus.kind === 'memory' ? inlineBuilder() : threadBuilder()
  let bucket: KvBucket
  let blocks: Blocks
  let isActive = false
  let isLeaving = false

  metrics.gaugeOf('carillon_ingester_series', 'Series in memory.', () => sumOf((owner) => seriesOf(owner)))
  metrics.gaugeOf('carillon_ingester_memory_bytes', 'Bytes of heads, as estimated.', bytesHeld)
  metrics.gaugeOf('carillon_ingester_samples_applied', 'Samples applied since start.', () =>
    sumOf((owner) => owner.state.samplesApplied),
  )
  const perPartition = (read: (owner: Owner) => number) => () =>
    [...owners.values()].map((owner) => [{ partition: String(owner.partition) }, read(owner)] as const)
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

  return {
    name: 'ingester',
    serves: [
      serveStream(read.select, onSelect, { id }),
      serveStream(read.series, onSeries, { id }),
      serve(read.labelNames, async (asked, context) => labelNamesOf(await ready(asked, context), asked), { id }),
      serve(read.labelValues, async (asked, context) => labelValuesOf(await ready(asked, context), asked), { id }),
      serve(read.metadata, async (asked, context) => metadataOf(await ready(asked, context), asked), { id }),
      serve(read.exemplars, async (asked, context) => exemplarsOf(await ready(asked, context), asked), { id }),
      serve(read.headStats, async (asked, context) => headStatsOf(await ready(asked, context), asked), { id }),
      serve(read.known, async (asked) => knownOf(ownerOf(asked.partition), asked), { id }),
      serveStream(read.fill, onFill, { id }),
      serve(flushNow, onFlush, { id }),
      serve(rebuild, (asked) => rebuildBlock(ownerOf(asked.partition), asked, afterFlush()), { id }),
    ],
    hears: [],
    every: [
      every(OWN_MS, 'follow the partitions that the ring gives to this ingester', followOwnership),
      every(config.endReadMs, 'read the ends of the owned logs', readEnds),
      every(LEAD_MS, 'open segments that are due', lead),
      every(OWN_MS, 'ask other owners for what the log did not deliver', fillAll),
      every(config.flushMs, 'flush closed segments where it leads, and purge', flushAll),
      every(config.flushMs, 'free what is in blocks', dropAll),
      every(config.checkpointMs, 'write down the newest applied message', saveCheckpoints),
      every(config.countedMs, 'tell how much is held', tellCounts),
    ],
    async start() {
      bucket = await bus.bucket(LOG_BUCKET)
      blocks = await openBlocks({ bus, objects: deps.objects, clock, random, log, metrics: deps.metrics })
      await patiently(followOwnership, {
        clock,
        withinMs: START_MS_MAX,
        onFailure: ({ message }) => log.warn({}, message),
      })
    },
    becomesActive: true,
    handOver,
    owners: () => [...owners.values()],
    partitions: () => [...owners.values()].map(statusOf),
    async stop() {
      for (const owner of owners.values()) await owner.saveCheckpoint().catch(() => {}) // I1: only a hint
      for (const owner of owners.values()) await owner.stop()
      blocks.close()
      await builder.close()
    },
  }

  async function* onSelect(asked: read.SelectAsk, context: HandlerContext) {
    yield* selectFrames(await ready(asked, context), strings, asked, context.signal)
  }

  async function* onSeries(asked: read.SeriesAsk, context: HandlerContext) {
    yield* seriesFrames(await ready(asked, context), strings, asked)
  }

  async function* onFill(asked: read.FillAsk) {
    const owner = ownerOf(asked.partition)
    if (owner.incarnation !== asked.incarnation) {
      throw new UnavailableError(
        'err-carillon-not-owner',
        `partition ${asked.partition} is followed in another life of its log`,
      )
    }
    yield* fillFrames(owner, strings, asked.segment)
  }

  function onFlush(asked: FlushAsk, { signal }: HandlerContext): Promise<FlushReply> {
    const led = [...owners.values()].filter(({ partition }) => leaderOf(partition) === id)
    return answerFlush(asked, { led, blocks, clock, signal })
  }

  function ownerOf(partition: number): Owner {
    const owner = owners.get(partition)
    if (owner) return owner
    throw new UnavailableError('err-carillon-not-owner', `${id} does not own partition ${partition}`)
  }

  /** The owner, once it may answer (I2): caught up, and past the position that was asked for. */
  async function ready(asked: read.OwnerAsk, { signal }: HandlerContext): Promise<Owner> {
    const owner = ownerOf(asked.partition)
    if (asked.minSeq > 0 && asked.incarnation !== '' && owner.incarnation !== asked.incarnation) {
      const text = `partition ${asked.partition}: the position belongs to another life of the log`
      throw new UnavailableError('err-carillon-owner-behind', text)
    }
    if (!owner.isCaughtUp || owner.appliedSeq < asked.minSeq) await owner.waitFor(asked.minSeq, asked.waitMs, signal)
    if (asked.watermark > 0 && owner.state.segment <= asked.watermark) {
      const text = `partition ${asked.partition}: segment ${asked.watermark} is in blocks, and this owner has not seen its end`
      throw new UnavailableError('err-carillon-owner-behind', text) // L18
    }
    if (asked.watermark >= owner.state.droppedUpTo || asked.watermark === read.WHATEVER_IS_HELD) return owner
    const text = `partition ${asked.partition}: segments up to ${owner.state.droppedUpTo} are in blocks, those above ${asked.watermark} were asked for`
    throw new RefusedError('err-carillon-dropped', text)
  }

  async function followOwnership(): Promise<void> {
    for (let partition = 0; partition < membership.partitionCount(); partition++) {
      const isMine = membership.owners(partition).includes(id)
      if (isMine) released.delete(partition)
      if (isMine && !owners.has(partition)) await acquire(partition)
      else if (!isMine && owners.has(partition)) await release(partition)
    }
    const holding = [...owners.values()].filter(isHeld).map((owner) => owner.partition)
    membership.setHolds(holding.sort((a, b) => a - b))
    membership.setDamage(sumOf((owner) => owner.damages.filter(({ state }) => state !== 'filled').length))
    if (isActive || isLeaving || membership.partitionCount() === 0 || holding.length < owners.size) return
    isActive = true
    await membership.setState('ACTIVE')
  }

  /** Caught up, and with a mark: a fresh log takes no batches before. */
  function isHeld(owner: Owner): boolean {
    return owner.isCaughtUp && owner.state.mark !== undefined
  }

  /** Whether all owners that the ring names have caught up, and live: one that has died counts as an owner for a while. Without owners
   *  nobody can take over. */
  function isTakenOver(partition: number): boolean {
    const next = membership.owners(partition)
    const holders = membership.holders(partition)
    const fresh = membership.members().filter(({ isFresh }) => isFresh)
    const isSafeWith = (other: string) => holders.includes(other) && fresh.some((member) => member.id === other)
    return next.length > 0 && next.every((other) => other !== id && isSafeWith(other))
  }

  /** LEAVING: serves on until others hold everything, nobody is left to take it, or the wait is over. */
  async function handOver(): Promise<void> {
    isLeaving = true
    const untilMs = clock.monotonic() + config.handOverMs
    while (bus.isConnected()) {
      const left = leftToOthers()
      if (left !== undefined && left.length === 0) return
      if (clock.monotonic() >= untilMs) return log.warn({ partitions: left }, 'leaving before others have caught up')
      await sleep(clock, HAND_OVER_STEP_MS)
    }
  }

  /** Partitions that others are to take over and have not yet; undefined until this member itself has heard that it leaves. */
  function leftToOthers(): readonly number[] | undefined {
    if (membership.members().some((member) => member.id === id && member.state !== 'LEAVING')) return undefined
    return [...owners.keys()].filter((partition) => membership.owners(partition).length > 0 && !isTakenOver(partition))
  }

  async function acquire(partition: number): Promise<void> {
    log.info({ partition }, 'following the log of a partition')
    const owner = new Owner({
      ...{ partition, id, bus, bucket, clock, log, config, strings },
      metrics: counts,
      registry: deps.metrics,
      blocks,
      without: deps.without ?? NOTHING,
    })
    owners.set(partition, owner)
    try {
      await owner.start()
    } catch (error) {
      owners.delete(partition)
      await owner.stop()
      throw error
    }
  }

  async function release(partition: number): Promise<void> {
    if (!isTakenOver(partition)) return void released.delete(partition)
    const since = released.get(partition) ?? clock.monotonic()
    released.set(partition, since)
    if (clock.monotonic() - since < RELEASE_AFTER_MS) return
    const owner = owners.get(partition)!
    owners.delete(partition)
    released.delete(partition)
    await owner.stop()
    log.info({ partition }, 'a partition went to its new owners')
  }

  async function readEnds(): Promise<void> {
    const reads = await Promise.allSettled(Array.from(owners.values(), (owner) => owner.readEnd())) // in one go: fewer wake-ups
    for (const read of reads) if (read.status === 'rejected') throw read.reason
  }

  async function lead(): Promise<void> {
    for (const owner of owners.values()) {
      if (leaderOf(owner.partition) !== id) continue
      await leadPartition(owner, {
        ...{ bus, bucket, clock, random, log, config, metrics: counts, registry: deps.metrics, id, blocks },
      })
    }
  }

  async function flushAll(): Promise<void> {
    for (const owner of owners.values()) {
      if (leaderOf(owner.partition) !== id) continue
      await attempt(owner, 'flush', async () => {
        while (leaderOf(owner.partition) === id && (await flushNext(owner, afterFlush()))) {}
      })
      await attempt(owner, 'purge', () => purgeLog(owner, afterFlush()))
    }
  }

  async function dropAll(): Promise<void> {
    for (const owner of owners.values()) {
      const seen = flushedSeen.get(owner.partition) ?? new FlushedSeen()
      flushedSeen.set(owner.partition, seen)
      await attempt(owner, 'drop', () => dropFlushed(owner, seen, afterFlush()))
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
      ...{ bus, blocks, builder, clock, random, config, log, strings, metrics: flushing },
      ...(onStep && { onStep }),
      ...(deps.without && { without: deps.without }),
    }
  }

  /** The first owner that has caught up, so that segments are opened while a new first owner replays. */
  function leaderOf(partition: number): string | undefined {
    const next = membership.owners(partition)
    return membership.holders(partition)[0] ?? next[0]
  }

  async function fillAll(): Promise<void> {
    for (const owner of owners.values()) {
      if (owner.damages.every(({ state }) => state !== 'open')) continue
      const others = membership.readers(owner.partition).filter((other) => other !== id)
      await fillDamage(owner, { bus, log, metrics: counts, strings, others })
    }
  }

  async function saveCheckpoints(): Promise<void> {
    for (const owner of owners.values()) await owner.saveCheckpoint()
  }

  function tellCounts(): void {
    const series = [...owners.values()].flatMap((owner) =>
      [...owner.state.heads].map(([tenant, head]) => ({ partition: owner.partition, tenant, count: head.seriesCount })),
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
      isLeader: leaderOf(owner.partition) === id,
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
    }
  }

  function sumOf(read: (owner: Owner) => number): number {
    return [...owners.values()].reduce((sum, owner) => sum + read(owner), 0)
  }

  function seriesOf(owner: Owner): number {
    return [...owner.state.heads.values()].reduce((sum, head) => sum + head.seriesCount, 0)
  }

  function bytesHeld(): number {
    return strings.bytes + sumOf((owner) => owner.bytes)
  }
}

const NOTHING: ReadonlySet<string> = new Set()
const COUNTED_TENANTS_MAX = 5_000
