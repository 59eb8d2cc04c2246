// A bus in memory: a hub that plays the server, and any number of connections to it. It behaves like NATS with JetStream,
// passes the same suite, and takes all time and chance from outside, so one seed repeats a run.
//
// Invariants
//   Nothing is delivered within the call that sends it: every hop goes through the clock.
//   Payloads are copied on the way in, as a wire would.
//   Without faults, messages from one connection to another stay in order.
//   A crashed connection neither hears, sends, nor settles a promise again.
import { assert } from '../../base/assert.ts'
import type { Clock } from '../../base/clock.ts'
import type { Random } from '../../base/random.ts'
import type { InboxStatus } from '../mux.ts'
import { type Bus, type BusMessage, type Durability, type LogMessage, statusHeader } from '../port.ts'
import { isMatch } from '../subject.ts'
import type { MemoryBucket } from './memory-bucket.ts'
import { Connection } from './memory-connection.ts'
import type { DelayRange } from './memory-link.ts'
import { MemoryLog } from './memory-log.ts'

export type AppendFault = 'store-but-lose-ack' | 'drop-before-store'

/** What goes wrong, and how often (probabilities from 0 to 1). May be changed while the hub runs. */
export interface Faults {
  /** Each hop between a connection and the hub. */
  delayMs: DelayRange
  /** Core messages only; requests that lose a message time out. */
  drop: number
  duplicate: number
  reorder: number
  /** Added to the way of an append and of its answer. */
  appendDelayMs: DelayRange
  storeButLoseAck: number
  dropBeforeStore: number
  /** Decides over one append before the probabilities do. */
  onAppend:
    | ((append: { log: string; subject: string; messageId: string | undefined; by: string }) => AppendFault | undefined)
    | undefined
  /** Bucket writes that are carried out, their answer lost. */
  kvLoseAck: number
  /** `lastPerSubject` answers from a view that is up to `staleBehindMax` messages old, and says so. */
  staleRead: number
  staleBehindMax: number
  /** A bucket's `get` is answered by a copy that lacks up to `staleBehindMax` changes, and does not say so. */
  staleGet: number
  /** A watch that has several changes to show shows the oldest and comes again for the next: what is changed again meanwhile moves on. */
  watchOneByOne: number
  /** How long a watch has nothing to say of a change. */
  watchDelayMs: DelayRange
  /** Whose watches and gets are never behind. */
  isUpToDate: ((name: string) => boolean) | undefined
  /** In place of the window that the logs were made with. */
  duplicateWindowMs: number | undefined
  /** Decides over a message on its way to a consumer: as it is, with other bytes, or never. */
  onDeliver: ((delivery: { log: string; message: LogMessage; by: string }) => LogMessage | undefined) | undefined
  /** The logs (or buckets) have no leader: every call is refused at once. */
  logsDown: boolean
  bucketsDown: boolean
}

export interface MemoryHubOptions {
  readonly clock: Clock
  readonly random: Random
  readonly faults?: Partial<Faults>
  readonly payloadBytesMax?: number
  readonly durability?: Durability
  /** How long calls of logs and buckets that name no time of their own wait for an answer. */
  readonly callTimeoutMs?: number
  /** What a watch's handler threw at: a bug, which ends the process unless somebody hears of it here. */
  readonly onHandlerError?: (error: unknown) => void
  /** Called when a log has stored a message, and before a log is purged: for those who judge. */
  readonly onStored?: (stored: { log: string; message: LogMessage; by: string }) => void
  readonly onPurge?: (purge: { log: string; belowSeq: number; by: string }) => void
}

export interface MemoryHub {
  readonly faults: Faults
  /** A new connection. A name may be used again after a crash or a close. */
  connect(name: string): Bus
  /** Whether there is a connection of this name. */
  has(name: string): boolean
  /** The process behind this connection stands still: its deliveries and its timers (`bus.clock`) wait. */
  pause(name: string): void
  resume(name: string): void
  /** The connection is lost: what is on the way is gone, waiting calls fail; subscriptions return with `reconnect`. */
  disconnect(name: string): void
  reconnect(name: string): void
  /** The process behind this connection is gone. */
  crash(name: string): void
  /** The log and the bucket themselves, to look at from a test, and to damage. */
  log(name: string): MemoryLog | undefined
  bucket(name: string): MemoryBucket | undefined
  /** The stream is deleted and made anew, empty. */
  makeAnew(log: string): void
}

const callTimeoutMsDefault = 5_000

const noFaults: Faults = {
  delayMs: { minMs: 0, maxMs: 0 },
  drop: 0,
  duplicate: 0,
  reorder: 0,
  appendDelayMs: { minMs: 0, maxMs: 0 },
  storeButLoseAck: 0,
  dropBeforeStore: 0,
  onAppend: undefined,
  kvLoseAck: 0,
  staleRead: 0,
  staleBehindMax: 8,
  staleGet: 0,
  watchOneByOne: 0,
  watchDelayMs: { minMs: 0, maxMs: 0 },
  isUpToDate: undefined,
  duplicateWindowMs: undefined,
  onDeliver: undefined,
  logsDown: false,
  bucketsDown: false,
}

export interface Subscription {
  readonly filter: string
  readonly queue: string | undefined
  readonly connection: Connection
  readonly deliver: (message: BusMessage, status: InboxStatus) => void
}

function endWith(error: unknown): void {
  queueMicrotask(() => {
    throw error
  })
}

export function createMemoryHub(options: MemoryHubOptions): MemoryHub {
  const hub = new Hub(options)
  return {
    faults: hub.faults,
    connect: (name) => hub.connect(name),
    has: (name) => hub.has(name),
    pause: (name) => hub.connection(name).pause(),
    resume: (name) => hub.connection(name).resume(),
    disconnect: (name) => hub.connection(name).disconnect(),
    reconnect: (name) => hub.connection(name).reconnect(),
    crash: (name) => hub.crash(name),
    log: (name) => hub.logs.get(name),
    bucket: (name) => hub.buckets.get(name),
    makeAnew: (name) => hub.makeAnew(name),
  }
}

/** The server: who listens to what, the logs and the buckets. */
export class Hub {
  readonly clock: Clock
  readonly random: Random
  readonly faults: Faults
  readonly options: MemoryHubOptions
  readonly onHandlerError: (error: unknown) => void
  readonly callTimeoutMs: number
  readonly logs = new Map<string, MemoryLog>()
  readonly buckets = new Map<string, MemoryBucket>()
  readonly #connections = new Map<string, Connection>()
  readonly #subscriptions = new Set<Subscription>()
  readonly #exact = new Map<string, Set<Subscription>>()
  #connectCount = 0

  constructor(options: MemoryHubOptions) {
    this.clock = options.clock
    this.random = options.random
    this.options = options
    this.faults = { ...noFaults, ...options.faults }
    this.callTimeoutMs = options.callTimeoutMs ?? callTimeoutMsDefault
    this.onHandlerError = options.onHandlerError ?? endWith
  }

  connect(name: string): Connection {
    assert(!this.#connections.has(name), `connection ${name} exists`)
    this.#connectCount += 1
    const connection = new Connection(this, name, `${name}-${this.#connectCount}`)
    this.#connections.set(name, connection)
    return connection
  }

  has(name: string): boolean {
    return this.#connections.has(name)
  }

  connection(name: string): Connection {
    const connection = this.#connections.get(name)
    assert(connection !== undefined, `no connection ${name}`)
    return connection
  }

  crash(name: string): void {
    const connection = this.connection(name)
    this.#connections.delete(name)
    connection.die()
  }

  makeAnew(name: string): void {
    const old = this.logs.get(name)
    assert(old !== undefined, `log ${name} is there`)
    this.logs.set(name, new MemoryLog(old.config, `${name}@${this.clock.now()}`))
    old.wake()
  }

  forget(connection: Connection): void {
    if (this.#connections.get(connection.name) === connection) this.#connections.delete(connection.name)
    this.dropSubscriptions(connection)
  }

  chance(probability: number): boolean {
    return probability > 0 && this.random.next() < probability
  }

  listen(subscription: Subscription): void {
    if (subscription.filter.includes('*') || subscription.filter.includes('>')) {
      this.#subscriptions.add(subscription)
      return
    }
    const here = this.#exact.get(subscription.filter) ?? new Set()
    here.add(subscription)
    this.#exact.set(subscription.filter, here)
  }

  unlisten(subscription: Subscription): void {
    this.#subscriptions.delete(subscription)
    const here = this.#exact.get(subscription.filter)
    here?.delete(subscription)
    if (here?.size === 0) this.#exact.delete(subscription.filter)
  }

  dropSubscriptions(connection: Connection): void {
    for (const all of [this.#subscriptions, ...this.#exact.values()]) {
      for (const subscription of all) if (subscription.connection === connection) this.unlisten(subscription)
    }
  }

  /** Hands a message to every subscriber, one per queue group; tells the asker when there is none. */
  route(message: BusMessage): void {
    const groups = new Map<string, Subscription[]>()
    let count = 0
    const add = (subscription: Subscription) => {
      count += 1
      if (subscription.queue === undefined) return subscription.connection.arrive(subscription, message, 0)
      const key = `${subscription.queue} ${subscription.filter}`
      const group = groups.get(key)
      if (group === undefined) groups.set(key, [subscription])
      else group.push(subscription)
    }
    for (const subscription of [...(this.#exact.get(message.subject) ?? [])]) add(subscription)
    for (const subscription of [...this.#subscriptions])
      if (isMatch(subscription.filter, message.subject)) add(subscription)
    for (const group of groups.values()) {
      const chosen = group[group.length === 1 ? 0 : this.random.below(group.length)]
      if (chosen !== undefined) chosen.connection.arrive(chosen, message, 0)
    }
    if (count > 0 || message.replyTo === undefined) return
    const headers = { [statusHeader]: '503' }
    const answer = { subject: message.replyTo, replyTo: undefined, headers, payload: new Uint8Array(0) }
    for (const subscription of this.#subscriptions) {
      if (isMatch(subscription.filter, answer.subject)) subscription.connection.arrive(subscription, answer, 503)
    }
  }
}
