// Compactors on one memory bus and one store in memory, in virtual time; a flusher that adds blocks; a reader that reads all of it all
// the time. A compactor can be stopped before any of its operations: for good, or for a while.
import { expect } from 'vitest'
import { compactor } from '../../../services/compactor/compactor.ts'
import { type CompactorConfig, compactorSettings } from '../../../services/compactor/config.ts'
import { leftOut } from '../../../services/compactor/merge/sample-filter.ts'
import { StepRunner } from '../../../services/compactor/merge/steps.ts'
import { compactorMeasures } from '../../../services/compactor/metrics.ts'
import { History } from '../../../services/compactor/retire/step-history.ts'
import { Sweep } from '../../../services/compactor/retire/sweep.ts'
import { inlineMerger } from '../../../services/compactor/worker/inline-worker.ts'
import { type Clock, sleep } from '../../../shared/base/clock.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { hidersOf } from '../../../shared/blocks/delete-rules.ts'
import { openBlocks } from '../../../shared/blocks/open.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import { ask } from '../../../shared/bus/ask.ts'
import { createMemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { Bus, KvBucket } from '../../../shared/bus/port.ts'
import { runActor } from '../../../shared/bus/run-actor.ts'
import { defaultsOf } from '../../../shared/config/settings.ts'
import type { BlockEntry, Manifest } from '../../../shared/contracts/blocks.ts'
import {
  type CompactionStatusReply,
  type CompactNowReply,
  compactionStatus,
  compactNow,
} from '../../../shared/contracts/compaction.ts'
import {
  type ScrubNowReply,
  type ScrubStatusReply,
  scrubNow,
  scrubStatus,
} from '../../../shared/contracts/scrubbing.ts'
import type { Membership } from '../../../shared/membership/membership.ts'
import { memoryObjects } from '../../../shared/objects/memory-objects.ts'
import type { ObjectStore } from '../../../shared/objects/port.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { createMetrics } from '../../../shared/telemetry/metrics.ts'
import { metaBytes } from '../../../shared/tsdb/block/meta.ts'
import { jumping, VirtualClock } from '../../sim/virtual-clock.ts'
import { naiveMerge, plainOf, readBlock, type SeriesMap, writeBlock } from './merge-ground.ts'

export const TENANT = 'acme'
const MINUTE = 60_000

/** Short enough for minutes of virtual time. */
const timing: Partial<CompactorConfig> = {
  ...{ compactEveryMs: 8_000, compactDelayMs: 0, leaseMs: 24_000, retiredDelayMs: 10 * MINUTE },
  ...{ scrubEveryMs: 0, orphanGraceMs: 60 * MINUTE, sweepEveryMs: 10 * MINUTE, lateRatio: 0.25 },
}

/** What happens before the n-th operation of a compactor, counted from 1. */
export interface Fault {
  readonly at: number
  readonly kind: 'crash' | 'pause'
  readonly pauseMs?: number
}

export class Ground {
  readonly clock = new VirtualClock()
  readonly objects = memoryObjects({ clock: this.clock })
  readonly hub: ReturnType<typeof createMemoryHub>
  readonly written: SeriesMap[] = []
  /** Operations of each compactor so far. */
  readonly operations = new Map<string, number>()
  private readonly seed: number
  private blocks!: Blocks
  private reads = 0
  private segment = 0
  /** Blocks that may be listed and do not stand in `written` yet. */
  private flushing = 0
  private asker: Bus | undefined
  /** What of all samples a reader sees: for tests that delete. */
  shown = (all: SeriesMap): SeriesMap => all
  failure: unknown

  constructor(seed: number) {
    this.seed = seed
    this.hub = createMemoryHub({
      clock: this.clock,
      random: seededRandom(seed),
      faults: { delayMs: { minMs: 1, maxMs: 5 } },
    })
  }

  async open(): Promise<void> {
    const bus = this.hub.connect('flusher')
    this.blocks = await this.until(openBlocks({ ...this.deps(bus), objects: this.objects }))
  }

  /** Waits for a promise while virtual time passes. */
  async until<T>(promise: Promise<T>, withinMs = 30 * MINUTE): Promise<T> {
    let settled: { value: T } | { error: unknown } | undefined
    promise.then(
      (value) => {
        settled = { value }
      },
      (error: unknown) => {
        settled = { error }
      },
    )
    await this.clock.run(() => settled !== undefined || this.failure !== undefined, this.clock.monotonic() + withinMs)
    if (this.failure !== undefined) throw this.failure
    if (settled === undefined) throw new Error(`nothing within ${withinMs} ms of virtual time`)
    if ('error' in settled) throw settled.error
    return settled.value
  }

  pass(ms: number): Promise<void> {
    return this.until(sleep(this.clock, ms), ms + MINUTE)
  }

  /** Adds a block as a flush does. */
  async flush(series: SeriesMap, partition: number): Promise<BlockEntry> {
    this.segment++
    const { meta, files } = await writeBlock(series, this.segment)
    const { stats, ulid, minTime, maxTime } = meta
    const stored = await this.blocks.uploadBlock(TENANT, {
      ulid,
      files: [...files]
        .map(([name, bytes]) => ({ name, bytes }))
        .concat([{ name: 'meta.json', bytes: metaBytes(meta) }]),
    })
    const entry: BlockEntry = {
      ...{ ulid, minTime, maxTime, ...stored, resolutionMs: 0 },
      ...{ seriesCount: stats.numSeries!, sampleCount: stats.numSamples!, chunkCount: stats.numChunks! },
      origin: { kind: 'flush', partition, segment: this.segment },
    }
    this.flushing++
    await this.again(() =>
      this.blocks.update(TENANT, (manifest) => {
        const isListed = [...manifest.blocks, ...manifest.retired].some((each) => each.ulid === ulid)
        return isListed ? undefined : { ...manifest, blocks: [...manifest.blocks, entry] }
      }),
    )
    this.written.push(series)
    this.flushing--
    return entry
  }

  change(make: (manifest: Manifest) => Manifest | undefined): Promise<unknown> {
    return this.blocks.update(TENANT, make)
  }

  async advanceFlushed(): Promise<void> {
    this.segment++
    for (const partition of [0, 1]) {
      const from = this.blocks.flushed(partition)
      for (let segment = from + 1; segment <= this.segment; segment++) {
        const next = { segment, mark: { seq: 1, nonce: '', incarnation: '' }, digests: {} }
        await this.again(() => this.blocks.advanceFlushed(partition, next))
      }
    }
  }

  /** As whoever flushes does when an answer is lost. */
  private async again<T>(write: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await write()
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error
      }
    }
  }

  async manifest(): Promise<Manifest> {
    return (await this.again(() => this.blocks.update(TENANT, () => undefined))).manifest
  }

  found(): ReturnType<Blocks['listBlocks']> {
    return this.blocks.listBlocks(TENANT)
  }

  /** Starts a compactor; a fault of its own, if any. Answers how to stop it. */
  async start(
    name: string,
    {
      fault,
      jumps = false,
      clockAheadMs = 0,
      config = {},
      onObject = () => {},
      alter = (bus) => bus,
      second,
    }: {
      fault?: Fault | undefined
      jumps?: boolean
      /** Of the compactor's wall clock. */
      clockAheadMs?: number
      config?: Partial<CompactorConfig>
      second?: ObjectStore
      /** Before each operation on an object; may throw what a store would. */
      onObject?: (operation: string, name: string) => void
      /** How its bus behaves (altered-bus.ts). */
      alter?: (bus: Bus) => Bus
    } = {},
  ): Promise<() => Promise<void>> {
    const bus = this.hub.connect(name)
    let count = 0
    const before = async () => {
      count++
      this.operations.set(name, count)
      if (fault?.kind === 'crash' && count >= fault.at) {
        if (count === fault.at) this.hub.crash(name)
        await new Promise(() => {}) // nothing comes back to the dead
      }
      if (fault?.kind === 'pause' && count === fault.at) {
        this.hub.pause(name)
        this.clock.after(fault.pauseMs!, () => this.hub.resume(name))
        await sleep(bus.clock, 1)
      }
    }
    const random = seededRandom(this.seed + name.length)
    const real: Clock = jumps ? jumping(bus.clock, seededRandom(this.seed)) : bus.clock
    const clock = clockAheadMs === 0 ? real : ahead(real, clockAheadMs)
    const deps = {
      ...this.deps(gatedBus(alter(bus), before)),
      ...{ random, clock, objects: gatedObjects(this.objects, before, onObject), metrics: createMetrics() },
      ...{ id: name, incarnation: `${name}-${this.hub.has(name)}`, merger: inlineMerger },
      membership: { partitionCount: () => 2, live: (): [] => [] } as unknown as Membership,
      ...(second && { second }),
    }
    const actor = compactor({ ...deps, config: defaultsOf(compactorSettings, { ...timing, ...config }) })
    const running = runActor(actor, { ...deps, metrics: undefined, onFailed: (error) => this.fail(error) })
    const isDead = () => fault?.kind === 'crash'
    await this.until(Promise.race([running.ready, sleep(this.clock, MINUTE)]))
    return async () => {
      if (!isDead()) await this.until(running.stop(), 180 * MINUTE)
    }
  }

  /** Steps one by one, for whoever plans them by hand. */
  async steps(onObject: (operation: string, name: string) => void) {
    const objects = gatedObjects(this.objects, async () => {}, onObject)
    const blocks = await openBlocks({ ...this.deps(this.hub.connect('steps')), objects })
    const { clock } = this
    const measures = compactorMeasures(createMetrics())
    const shared = { blocks, clock, log: silentLog, measures }
    const config = defaultsOf(compactorSettings, timing)
    const sweep = new Sweep({ ...shared, config, now: () => clock.now(), partitionCount: () => 2 })
    const history = new History(clock)
    const runner = new StepRunner({ ...shared, sweep, history, merger: inlineMerger, setAside: () => {} })
    return { run: runner.run.bind(runner), blocks, close: () => blocks.close() }
  }

  /** What a compactor says of itself. */
  async status(name: string): Promise<CompactionStatusReply> {
    this.asker ??= this.hub.connect('asker')
    return this.until(ask(this.asker, compactionStatus, { id: name }, {}, {}))
  }

  scrubNow(): Promise<ScrubNowReply> {
    this.asker ??= this.hub.connect('asker')
    return this.until(ask(this.asker, scrubNow, {}, {}, {}))
  }

  scrubStatus(name: string): Promise<ScrubStatusReply> {
    this.asker ??= this.hub.connect('asker')
    return this.until(ask(this.asker, scrubStatus, { id: name }, {}, {}))
  }

  compactNow(): Promise<CompactNowReply> {
    this.asker ??= this.hub.connect('asker')
    return this.until(ask(this.asker, compactNow, {}, {}, {}))
  }

  /** All samples of blocks of one kind that the manifest lists, no deletion applied. */
  async stored(isWanted: (entry: BlockEntry) => boolean): Promise<SeriesMap[]> {
    const { blocks } = await this.until(this.manifest())
    const found: SeriesMap[] = []
    for (const entry of blocks.filter(isWanted)) found.push(await this.until(this.read(this.blocks, entry)))
    return found
  }

  private fail(error: unknown): void {
    this.failure ??= error
  }

  /** Reads everything again and again, slowly at times, and compares. Answers how to stop, with how often it read. */
  async startReader(): Promise<() => Promise<number>> {
    const bus = this.hub.connect('reader')
    const random = seededRandom(this.seed + 7)
    const blocks = await this.until(openBlocks({ ...this.deps(bus), objects: this.objects }))
    let isStopping = false
    const reading = (async () => {
      while (!isStopping) {
        const expected = plainOf(this.shown(naiveMerge(this.written)))
        const before = this.written.length
        const { manifest } = await this.again(() => blocks.update(TENANT, () => undefined))
        const isQuiet = before === this.written.length && this.flushing === 0
        if (random.below(3) === 0) await sleep(this.clock, random.below(2 * MINUTE)) // a query that takes its time
        const found = await this.samplesOf(blocks, manifest)
        if (isQuiet && before === this.written.length) {
          expect(found).toEqual(expected)
          this.reads++
        }
        await sleep(this.clock, this.reads < 25 ? 3_000 : 2 * MINUTE)
      }
    })()
    reading.catch((error: unknown) => this.fail(error))
    return async () => {
      isStopping = true
      await this.until(reading)
      return this.reads
    }
  }

  private async samplesOf(blocks: Blocks, manifest: Manifest): Promise<Record<string, string[]>> {
    const held: SeriesMap[] = []
    for (const entry of manifest.blocks) {
      const series = await this.read(blocks, entry)
      const hidden = hidersOf(manifest.deletes, entry.ulid)
      const spansOf = leftOut(
        hidden.map(({ selectors, startMs, endMs }) => ({ selectors, startMs, endMs })),
        [],
      )
      const shown = [...series].map(([key, { labels, samples }]) => {
        const spans = spansOf(labels)
        const left = samples.filter(({ time }) => !spans.some(({ startMs, endMs }) => time >= startMs && time <= endMs))
        return [key, { labels, samples: left }] as const
      })
      held.push(new Map(shown.filter(([, { samples }]) => samples.length > 0)))
    }
    return plainOf(naiveMerge(held))
  }

  private async read(blocks: Blocks, entry: BlockEntry): Promise<SeriesMap> {
    const stored = blocks.openBlock(TENANT, entry)
    const meta = await stored.meta()
    const files = new Map<string, Uint8Array>()
    for (const { name, size } of meta.carillon!.files) files.set(name, await stored.read(name, 0, size))
    return readBlock({ meta, files })
  }

  private deps(bus: Bus) {
    return { bus, clock: bus.clock, random: seededRandom(this.seed), log: silentLog }
  }
}

function ahead(clock: Clock, byMs: number): Clock {
  return {
    now: () => clock.now() + byMs,
    monotonic: () => clock.monotonic(),
    uptime: () => clock.uptime(),
    after: (ms, fn) => clock.after(ms, fn),
    turn: (fn) => clock.turn(fn),
  }
}

function gatedBus(bus: Bus, before: () => Promise<void>): Bus {
  const bucket = async (...args: Parameters<Bus['bucket']>): Promise<KvBucket> => {
    const inner = await bus.bucket(...args)
    return {
      get: async (...of) => before().then(() => inner.get(...of)),
      newest: async (...of) => before().then(() => inner.newest(...of)),
      serverTimeMs: async () => before().then(() => inner.serverTimeMs()),
      create: async (...of) => before().then(() => inner.create(...of)),
      update: async (...of) => before().then(() => inner.update(...of)),
      put: async (...of) => before().then(() => inner.put(...of)),
      delete: async (...of) => before().then(() => inner.delete(...of)),
      watch: (...of) => inner.watch(...of),
    }
  }
  return new Proxy(bus, {
    get: (target, key) => (key === 'bucket' ? bucket : bound(target, key)),
  })
}

function bound(target: Bus, key: string | symbol): unknown {
  const value = Reflect.get(target, key, target) as unknown
  return typeof value === 'function' ? value.bind(target) : value
}

function gatedObjects(
  objects: ObjectStore,
  gate: () => Promise<void>,
  onObject: (operation: string, name: string) => void,
): ObjectStore {
  const before = (operation: string, name: unknown) => gate().then(() => onObject(operation, String(name)))
  return {
    kind: objects.kind,
    create: (...of) => before('create', of[0]).then(() => objects.create(...of)),
    info: (...of) => before('info', of[0]).then(() => objects.info(...of)),
    read: (...of) => before('read', of[0]).then(() => objects.read(...of)),
    list: (...of) => before('list', of[0]).then(() => objects.list(...of)),
    delete: (...of) => before('delete', of[0]).then(() => objects.delete(...of)),
    sweep: (...of) => before('sweep', of[0]).then(() => objects.sweep(...of)),
    close: () => objects.close(),
  }
}
