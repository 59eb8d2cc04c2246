// One connection to the memory bus: what a process sees of the hub, across two links that delay, lose and order what is
// sent as the faults of the hub say.
import { assert } from '../../base/assert.ts'
import { UnavailableError } from '../../base/errors.ts'
import { Listeners, type Subscription as Listening } from '../../base/listeners.ts'
import { type InboxStatus, inboxStart, Mux } from '../mux.ts'
import type { Bus, BusHeaders, BusMessage, BusSubscription, KvBucket } from '../port.ts'
import { MemoryBucket } from './memory-bucket.ts'
import type { Hub, Subscription } from './memory-bus.ts'
import { type DelayRange, drawDelay, Link, PausableClock } from './memory-link.ts'
import { memoryBucketClient, memoryLogStore } from './memory-stores.ts'

/** The client: one process's view of the hub. */
export class Connection implements Bus {
  readonly kind = 'memory'
  readonly name: string
  readonly clock: PausableClock
  readonly logs
  readonly #hub: Hub
  readonly #mux: Mux
  readonly #subscriptions = new Set<Subscription>()
  readonly #listeners = new Listeners<boolean>()
  #up: Link
  #down: Link
  #phase: 'connected' | 'disconnected' | 'closed' | 'dead' = 'connected'
  #isPaused = false

  constructor(hub: Hub, name: string, id: string) {
    this.#hub = hub
    this.name = name
    this.clock = new PausableClock(hub.clock)
    this.#mux = new Mux(id, this.clock)
    this.#up = new Link(hub.clock, hub.random)
    this.#down = new Link(hub.clock, hub.random)
    this.logs = memoryLogStore(hub, this)
    this.#listen({
      filter: this.#mux.filter,
      queue: undefined,
      connection: this,
      deliver: (m, s) => this.#mux.deliver(m, s),
    })
  }

  get payloadBytesMax(): number {
    return this.#hub.options.payloadBytesMax ?? 1_048_576 - 16_384
  }

  isConnected(): boolean {
    return this.#phase === 'connected'
  }

  onConnection(listener: (isConnected: boolean) => void): Listening {
    return this.#listeners.add(listener)
  }

  publish(subject: string, payload: Uint8Array, options: { headers?: BusHeaders; replyTo?: string } = {}): void {
    if (this.#phase !== 'connected') return
    assert(payload.length <= this.payloadBytesMax, `message of ${payload.length} bytes on ${subject}`)
    const message = {
      subject,
      replyTo: options.replyTo?.startsWith(inboxStart) ? options.replyTo : undefined,
      headers: { ...options.headers },
      payload: new Uint8Array(payload),
    }
    const { faults } = this.#hub
    if (this.#hub.chance(faults.drop)) return
    const copyCount = this.#hub.chance(faults.duplicate) ? 2 : 1
    for (let i = 0; i < copyCount; i++) {
      const delayMs = drawDelay(faults.delayMs, this.#hub.random)
      this.#up.send(delayMs, () => this.#hub.route(message), this.#hub.chance(faults.reorder))
    }
  }

  subscribe(subject: string, options: { queue?: string }, onMessage: (message: BusMessage) => void): BusSubscription {
    if (this.#mux.owns(subject)) return this.#mux.listen(subject, onMessage)
    const subscription: Subscription = { filter: subject, queue: options.queue, connection: this, deliver: onMessage }
    this.#listen(subscription)
    return {
      stop: () => {
        this.#subscriptions.delete(subscription)
        this.#up.send(0, () => this.#hub.unlisten(subscription))
      },
    }
  }

  async request(subject: string, payload: Uint8Array, options: Parameters<Bus['request']>[2]): Promise<BusMessage> {
    this.assertConnected()
    const { headers, timeoutMs, silenceMs, signal } = options
    return this.#mux.request({ subject, timeoutMs, silenceMs, signal }, (replyTo) =>
      this.publish(subject, payload, headers === undefined ? { replyTo } : { replyTo, headers }),
    )
  }

  inbox(): string {
    return this.#mux.inbox()
  }

  /** Runs `operation` at the hub and brings its outcome back. `loseAnswer` is asked after it ran. */
  call<T>(
    what: string,
    timeoutMs: number,
    operation: () => T,
    options: { extraMs?: DelayRange; loseAnswer?: () => boolean } = {},
  ): Promise<T> {
    return this.callLater<T>(what, timeoutMs, options.extraMs, (answer) => {
      const outcome = outcomeOf(operation)
      if (!options.loseAnswer?.()) answer(outcome)
    })
  }

  /** Like `call`, for an operation that answers when it likes. */
  async callLater<T>(
    what: string,
    timeoutMs: number,
    extraMs: DelayRange | undefined,
    operation: (answer: (outcome: () => T) => void) => void,
    signal?: AbortSignal,
  ): Promise<T> {
    this.assertConnected()
    const { faults, random } = this.#hub
    const delayMs = () => drawDelay(faults.delayMs, random) + (extraMs === undefined ? 0 : drawDelay(extraMs, random))
    const down = this.#down
    const outcome = await this.#mux.collect<() => T>(
      { subject: what, timeoutMs, ...(signal !== undefined && { signal }) },
      (inbox) => {
        const answer = (value: () => T) => down.send(delayMs(), () => this.#mux.deliver(answerOn(inbox, value), 0))
        this.#up.send(delayMs(), () => operation(answer))
      },
      (message, _status, done) => done((message as Answer<T>).outcome),
    )
    return outcome()
  }

  /** The hub is told, and answers nothing. */
  inform(told: () => void): void {
    this.#up.send(0, told)
  }

  async bucket(name: string): Promise<KvBucket> {
    await this.call(`bucket ${name}`, this.#hub.callTimeoutMs, () => {
      if (!this.#hub.buckets.has(name)) this.#hub.buckets.set(name, new MemoryBucket(name))
    })
    return memoryBucketClient(this.#hub, this, name)
  }

  async server(): ReturnType<Bus['server']> {
    const durability = this.#hub.options.durability ?? 'best-effort'
    const durabilityReason = 'logs are kept in the memory of this process'
    return { version: 'memory', url: 'memory:', durability, durabilityReason }
  }

  async close(): Promise<void> {
    if (this.#phase === 'closed' || this.#phase === 'dead') return
    const isClosing = this.#phase === 'connected'
    this.#phase = 'closed'
    this.#mux.failAll(new UnavailableError('bus-disconnected', 'the connection was closed'))
    this.#down.cut()
    this.#subscriptions.clear()
    this.#tell(false)
    if (!isClosing) return this.#hub.forget(this)
    await new Promise<void>((resolve) => {
      this.#up.send(0, () => {
        this.#hub.forget(this)
        resolve()
      })
    })
  }

  /** A delivery on its way to this connection. */
  arrive(subscription: Subscription, message: BusMessage, status: InboxStatus): void {
    this.#down.send(drawDelay(this.#hub.faults.delayMs, this.#hub.random), () => {
      if (this.#subscriptions.has(subscription)) subscription.deliver(message, status)
    })
  }

  pause(): void {
    this.#isPaused = true
    this.clock.pause()
    this.#up.pause()
    this.#down.pause()
  }

  resume(): void {
    this.#isPaused = false
    this.clock.resume()
    this.#up.resume()
    this.#down.resume()
  }

  disconnect(): void {
    if (this.#phase !== 'connected') return
    this.#phase = 'disconnected'
    this.#up.cut()
    this.#down.cut()
    this.#hub.dropSubscriptions(this)
    this.#mux.failAll(new UnavailableError('bus-disconnected', 'the connection was lost'))
    this.#tell(false)
  }

  reconnect(): void {
    if (this.#phase !== 'disconnected') return
    this.#phase = 'connected'
    this.#up = new Link(this.#hub.clock, this.#hub.random)
    this.#down = new Link(this.#hub.clock, this.#hub.random)
    if (this.#isPaused) this.pause()
    for (const subscription of this.#subscriptions) this.#hub.listen(subscription)
    this.#tell(true)
  }

  die(): void {
    this.#phase = 'dead'
    this.clock.kill()
    this.#up.cut()
    this.#down.cut()
    this.#subscriptions.clear()
    this.#hub.dropSubscriptions(this)
  }

  isOver(): boolean {
    return this.#phase === 'closed' || this.#phase === 'dead'
  }

  assertConnected(): void {
    if (this.#phase === 'connected' || this.#phase === 'dead') return
    throw new UnavailableError('bus-disconnected', `connection ${this.name} is ${this.#phase}`)
  }

  #listen(subscription: Subscription): void {
    this.#subscriptions.add(subscription)
    this.#up.send(0, () => {
      if (this.#subscriptions.has(subscription)) this.#hub.listen(subscription)
    })
  }

  #tell(isConnected: boolean): void {
    this.#listeners.tell(isConnected)
  }
}

interface Answer<T> extends BusMessage {
  readonly outcome: () => T
}

function answerOn<T>(inbox: string, outcome: () => T): Answer<T> {
  return { subject: inbox, replyTo: undefined, headers: {}, payload: new Uint8Array(0), outcome }
}

/** What calling it again would do: give the value or throw the error. */
function outcomeOf<T>(operation: () => T): () => T {
  try {
    const value = operation()
    return () => value
  } catch (error) {
    return () => {
      throw error
    }
  }
}
