// One log under virtual time, owners on it without an actor around them, and views of the log that lie.
import { ingesterSettings } from '../../../services/ingester/config.ts'
import { leadPartition } from '../../../services/ingester/leader.ts'
import type { FillDeps } from '../../../services/ingester/log/filler.ts'
import { Owner } from '../../../services/ingester/log/owner.ts'
import type { OwnerDeps } from '../../../services/ingester/log/owner-deps.ts'
import { ownerMetrics } from '../../../services/ingester/log/owner-metrics.ts'
import { fillFrames } from '../../../services/ingester/read/fill-frames.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { serveStream } from '../../../shared/bus/actor.ts'
import { createMemoryHub, type MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { Bus, KvBucket, LogMessage, LogStore } from '../../../shared/bus/port.ts'
import { runActor } from '../../../shared/bus/run-actor.ts'
import { defaultsOf } from '../../../shared/config/settings.ts'
import { batchSubject, logConfig, logName } from '../../../shared/contracts/log.ts'
import { fill } from '../../../shared/contracts/read.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { createMetrics } from '../../../shared/telemetry/metrics.ts'
import { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import { VirtualClock } from '../../sim/virtual-clock.ts'
import { changed } from './flush-ground.ts'
import { LogWriter } from './log-writer.ts'

export class OwnerGround {
  readonly config = defaultsOf(ingesterSettings, { segmentMinMs: 1_000, segmentMs: 5_000 })
  readonly clock = new VirtualClock()
  readonly hub: MemoryHub
  readonly bus: Bus
  readonly writer = new LogWriter()
  readonly metrics = ownerMetrics(createMetrics())
  bucket!: KvBucket
  readonly owners: Owner[] = []
  private readonly stringsOf = new Map<Owner, StringTable>()
  private isOver = false

  constructor() {
    this.hub = createMemoryHub({ clock: this.clock, random: seededRandom(1) })
    this.bus = this.hub.connect('test')
    void this.clock.run(() => this.isOver, Number.POSITIVE_INFINITY)
  }

  async open(): Promise<void> {
    this.bucket = await this.soon(this.bus.bucket('log'))
    await this.soon(this.bus.logs.ensure(logConfig(0, { bytesMax: 1 << 20, replicas: 1 })))
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
    await this.clock.run(() => isSettled, this.clock.monotonic() + 60_000)
    return promise
  }

  async pass(ms: number): Promise<void> {
    await this.soon(new Promise<void>((resolve) => this.clock.after(ms, resolve)))
  }

  async append(subject: string, payload: Uint8Array): Promise<number> {
    return (await this.soon(this.bus.logs.append(logName(0), subject, payload, { timeoutMs: 1_000 }))).seq
  }

  appendSample(name: string, time: number): Promise<number> {
    return this.append(batchSubject(0), this.writer.batch([[name, time, time]]).seal())
  }

  /** An owner that sees the log like this, and has started. */
  async owner(change: Partial<LogStore> = {}, deps: Partial<OwnerDeps> = {}): Promise<Owner> {
    const strings = new StringTable()
    const { bucket, clock, config, metrics } = this
    const owner = new Owner({
      ...{ partition: 0, id: 'i1', bus: changed(this.bus, change), bucket, clock, log: silentLog, config },
      ...{ metrics, strings, without: new Set<string>() },
      ...deps,
    })
    this.owners.push(owner)
    this.stringsOf.set(owner, strings)
    await this.soon(owner.start())
    return owner
  }

  /** An owner to which these sequences are not delivered. */
  hiding(...seqs: number[]): Promise<Owner> {
    return this.owner(this.delivering((message) => (seqs.includes(message.seq) ? [] : [message])))
  }

  /** A log that delivers other messages than it holds. */
  delivering(replace: (message: LogMessage) => readonly LogMessage[]): Partial<LogStore> {
    return {
      consume: (log, from, onMessage, onError) =>
        this.bus.logs.consume(
          log,
          from,
          async (message) => {
            for (const each of replace(message)) await onMessage(each)
          },
          onError,
        ),
    }
  }

  /** Lets an owner answer for what it holds. */
  async serveFill(id: string, owner: Owner): Promise<void> {
    const serves = [serveStream(fill, (asked) => fillFrames(owner, this.stringsOf.get(owner)!, asked.segment), { id })]
    const actor = { name: id, serves, hears: [], every: [], start: async () => {}, stop: async () => {} }
    const { clock } = this
    await this.soon(
      runActor(actor, { bus: this.hub.connect(id), clock, random: seededRandom(4), log: silentLog }).ready,
    )
  }

  /** What it takes to fill an owner from these. */
  filling(owner: Owner, ...ids: string[]): FillDeps {
    const { bus, clock, metrics } = this
    const others = ids.map((id) => ({ id, holds: true }))
    return { bus, clock, log: silentLog, metrics, strings: this.stringsOf.get(owner)!, others, isConfirmed: true }
  }

  lead(owner: Owner, bucket = this.bucket): Promise<void> {
    const { bus, clock, config, metrics } = this
    const random = seededRandom(clock.monotonic())
    return leadPartition(owner, { bus, bucket, clock, random, log: silentLog, config, metrics, id: 'i1' })
  }
}
