// One partition under virtual time: its log is written by hand, ingesters come, die at a given step and come back, and what blocks and
// memory hold is read at any moment.
import { Deletions } from '../../../services/compactor/retire/deletions.ts'
import { ingesterSettings } from '../../../services/ingester/config.ts'
import { type BlockBuilder, inlineBuilder } from '../../../services/ingester/flush/block-builder.ts'
import type { FlushStep } from '../../../services/ingester/flush/flush.ts'
import { ingester } from '../../../services/ingester/ingester.ts'
import type { Owner } from '../../../services/ingester/log/owner.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { openBlocks } from '../../../shared/blocks/open.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import type { RunningActor } from '../../../shared/bus/actor.ts'
import { createMemoryHub, type MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { Bus, LogMessage, LogStore } from '../../../shared/bus/port.ts'
import { runActor } from '../../../shared/bus/run-actor.ts'
import { defaultsOf } from '../../../shared/config/settings.ts'
import type { Manifest } from '../../../shared/contracts/blocks.ts'
import { batchSubject, logName, markSubject } from '../../../shared/contracts/log.ts'
import type { PartitionStatus } from '../../../shared/contracts/member.ts'
import { KnownEnds } from '../../../shared/kv/known-ends.ts'
import { bootstrap } from '../../../shared/membership/bootstrap.ts'
import { asMember } from '../../../shared/membership/member-actor.ts'
import { joinRing } from '../../../shared/membership/membership.ts'
import { type MemoryObjects, memoryObjects } from '../../../shared/objects/memory-objects.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { createMetrics, type Metrics } from '../../../shared/telemetry/metrics.ts'
import { META_FILE } from '../../../shared/tsdb/block/files.ts'
import { jumping, VirtualClock } from '../../sim/virtual-clock.ts'
import { LogWriter } from './log-writer.ts'

export const HOUR_MS = 3_600_000
export const PATIENCE_MS = 10_000

interface Running {
  readonly actor: RunningActor
  readonly metrics: Metrics
  readonly owners: () => readonly Owner[]
  readonly status: () => readonly PartitionStatus[]
}

/** Steps of a leader, and two within `listed`: the manifest stands in the bucket, but not as an object; as an object, but not in the registry. */
export type DeathStep = FlushStep | 'not-copied' | 'not-registered'

interface StartOptions {
  /** Dies when it has done this step so many times. */
  readonly diesAt?: { readonly step: DeathStep; readonly times: number }
  /** Sequences that its log does not deliver. */
  readonly hides?: readonly number[]
  /** What its log delivers in place of a message; undefined: nothing. */
  readonly hears?: (message: LogMessage) => LogMessage | undefined
  /** Its bus as it sees it. */
  readonly view?: (bus: Bus) => Bus
  /** Its wall clock jumps by up to five minutes either way. */
  readonly jumps?: boolean
  /** Called when it has done a step of a flush. */
  readonly onStep?: (step: FlushStep) => void
}

export class FlushGround {
  readonly clock = new VirtualClock()
  readonly hub: MemoryHub
  readonly objects: MemoryObjects
  readonly writer = new LogWriter()
  readonly running = new Map<string, Running>()
  readonly dead = new Set<string>()
  readonly failures: string[] = []
  /** Tenants whose samples make no block. */
  readonly poisoned = new Set<string>()
  /** Called before anything is built. */
  onBuild: ((tenant: string) => Promise<void>) | undefined
  /** Objects whose names hold this are out of reach; '': all. */
  downFor: string | undefined
  /** Called when an ingester has stored the last file of a block; it stands still until then. */
  onStored: ((id: string, ulid: string) => Promise<void>) | undefined
  private readonly random = seededRandom(7)
  private isOver = false
  private admin!: Bus
  private incarnationCount = 0
  blocks!: Blocks

  constructor() {
    this.hub = createMemoryHub({ clock: this.clock, random: this.random })
    this.objects = memoryObjects({ clock: this.clock })
    void this.clock.run(() => this.isOver, Number.POSITIVE_INFINITY)
  }

  async open(logBytesMax = 1 << 24): Promise<void> {
    this.admin = this.hub.connect('admin')
    const options = { partitions: 1, replicationFactor: 2, logBytesMax, logReplicas: 1 }
    await this.soon(bootstrap(this.admin, options))
    const { admin: bus, objects, clock, random } = this
    this.blocks = await this.soon(openBlocks({ bus, objects, clock, random, log: silentLog }))
  }

  close(): void {
    this.isOver = true
  }

  /** Virtual time runs only while something waits for it. */
  async soon<T>(promise: Promise<T>): Promise<T> {
    let isSettled = false
    const settled = () => {
      isSettled = true
    }
    promise.then(settled, settled)
    await this.clock.run(() => isSettled, this.clock.monotonic() + 120_000)
    return promise
  }

  async pass(ms: number): Promise<void> {
    await this.soon(new Promise<void>((resolve) => this.clock.after(ms, resolve)))
  }

  async until(condition: () => boolean, what: string): Promise<void> {
    for (let i = 0; i < 3_000 && !condition(); i++) await this.pass(100)
    if (!condition()) throw new Error(`not within 300 s: ${what}; ${this.failures.join('; ')}`)
  }

  async append(subject: string, payload: Uint8Array): Promise<number> {
    return (await this.soon(this.admin.logs.append(logName(0), subject, payload, { timeoutMs: 1_000 }))).seq
  }

  mark(number: number): Promise<number> {
    return this.append(markSubject(0), this.writer.mark(number))
  }

  batch(samples: readonly (readonly [string, number, number])[], tenant?: string): Promise<number> {
    return this.append(batchSubject(0), this.writer.batch(samples, this.writer.session, tenant).seal())
  }

  async start(id: string, options: StartOptions = {}): Promise<void> {
    const { diesAt, hides = [], hears, view = (bus: Bus) => bus, jumps = false, onStep: hearStep = () => {} } = options
    this.dead.delete(id)
    const connection = this.hub.connect(id)
    const heard = hears ?? ((message: LogMessage) => (hides.includes(message.seq) ? undefined : message))
    const bus = view(hides.length === 0 && hears === undefined ? connection : hearing(connection, heard))
    const { random } = this
    const clock = jumps ? jumping(this.clock, seededRandom(id.length + this.incarnationCount)) : this.clock
    const incarnation = `i${++this.incarnationCount}`
    const membership = await this.soon(
      joinRing({
        ...{ bus, clock, onError: () => {} },
        self: { id, role: 'ingester', zone: id, incarnation, version: 'test', capacity: 0 },
        options: { heartbeatMs: 500, unhealthyAfterMs: 2_000, forgetAfterMs: 20_000 },
      }),
    )
    const metrics = createMetrics()
    let count = 0
    const reached = (step: DeathStep) => {
      if (diesAt && step === diesAt.step && ++count === diesAt.times) this.kill(id)
    }
    const objects = this.objectsOf(id, reached)
    const deps = { bus, clock, random, log: silentLog, metrics, id, incarnation, membership, objects }
    const config = defaultsOf(ingesterSettings, {
      ...{ segmentMinMs: 60_000, segmentMs: 3_600_000, endReadMs: 200, flushMs: 200, dropAfterMs: 1_000 },
      flushPatienceMs: PATIENCE_MS,
    })
    const onStep = (step: FlushStep) => {
      hearStep(step)
      reached(step)
      if (this.dead.has(id)) throw new UnavailableError('objects-unavailable', `${id} was killed after ${step}`)
    }
    const made = ingester({ ...deps, config, onStep, builder: this.poisonable() })
    const actor = runActor(asMember(made, { ...deps, role: 'ingester' }), {
      ...{ bus, clock, random, log: silentLog },
      onFailed: (error) => void this.failures.push(`${id}: ${String(error)}`),
    })
    this.running.set(id, { actor, metrics, owners: made.owners, status: () => made.partitions?.() ?? [] })
    await this.soon(actor.ready)
  }

  private poisonable(): BlockBuilder {
    const builder = inlineBuilder()
    return {
      ...builder,
      build: async (asked, frames) => {
        await this.onBuild?.(asked.tenant)
        const built = await builder.build(asked, frames)
        if (this.poisoned.has(asked.tenant)) throw new RangeError('these samples make no block')
        return built
      },
    }
  }

  kill(id: string): void {
    this.dead.add(id)
    this.running.delete(id)
    this.hub.crash(id)
  }

  owner(id: string): Owner {
    return this.running.get(id)!.owners()[0]!
  }

  /** Those that follow the partition. */
  owners(): Owner[] {
    return [...this.running.values()].flatMap(({ owners }) => owners())
  }

  manifest(tenant: string): Manifest | undefined {
    return this.blocks.manifest(tenant)?.manifest
  }

  /** What is stored, by name: equal lists are equal bytes. */
  async listed(): Promise<string[]> {
    const lines: string[] = []
    for (const tenant of this.blocks.tenants()) {
      for (const { ulid, metaSha256, sampleCount } of this.manifest(tenant)?.blocks ?? []) {
        lines.push(`${tenant} ${ulid} ${metaSha256} ${sampleCount}`)
      }
    }
    return lines.sort()
  }

  /** As a compactor has them. */
  deletions(undoMs = 10 * HOUR_MS): Deletions {
    const bus = this.hub.connect(`deleter-${++this.incarnationCount}`)
    return new Deletions({
      ...{ bus, clock: this.clock, log: silentLog, blocks: () => this.blocks, config: { undoMs } },
      random: seededRandom(this.incarnationCount),
      ends: new KnownEnds({ bus, clock: this.clock, log: silentLog, id: `deleter-${this.incarnationCount}` }),
      membership: { partitionCount: () => 1, confirm: async () => {}, isConfirmed: () => true },
      onCleaned: () => {},
    })
  }

  lastSeq(): number {
    return this.hub.log(logName(0))!.state().lastSeq
  }

  firstSeq(): number {
    return this.hub.log(logName(0))!.state().firstSeq
  }

  /** The store as one process sees it: a dead one reaches nothing. */
  private objectsOf(id: string, reached: (step: DeathStep) => void): MemoryObjects {
    return new Proxy(this.objects, {
      get: (target, key) => {
        const value = Reflect.get(target, key)
        if (typeof value !== 'function') return value
        return async (...args: unknown[]) => {
          const isManifest = key === 'create' && String(args[0]).includes('/manifest/')
          if (isManifest) reached('not-copied')
          if (this.dead.has(id)) throw new UnavailableError('objects-unavailable', `${id} was killed`)
          if (this.downFor !== undefined && String(args[0]).includes(this.downFor))
            throw new UnavailableError('objects-unavailable', 'the store is away')
          const answer = await value.apply(target, args)
          if (isManifest) reached('not-registered')
          const [, ulid = '', file] = String(args[0]).split('/')
          if (key === 'create' && file === META_FILE) await this.onStored?.(id, ulid)
          return answer
        }
      },
    })
  }
}

function hearing(bus: Bus, hear: (message: LogMessage) => LogMessage | undefined): Bus {
  return changed(bus, {
    consume: (log, from, onMessage, onError) =>
      bus.logs.consume(
        log,
        from,
        (message) => {
          const heard = hear(message)
          return heard === undefined ? undefined : onMessage(heard)
        },
        onError,
      ),
  })
}

/** The same bus with logs that behave otherwise. */
export function changed(bus: Bus, change: Partial<LogStore>): Bus {
  const { ensure, state, append, lastPerSubject, get, purge, consume } = bus.logs
  const logs = { ...bus.logs, ensure, state, append, lastPerSubject, get, purge, consume, ...change }
  return new Proxy(bus, {
    get(target, key) {
      if (key === 'logs') return logs
      const value = Reflect.get(target, key) as unknown
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}
