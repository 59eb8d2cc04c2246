// The bus on NATS. One connection that reconnects for ever; a call made while it is down fails at once, a call that waits
// when it goes down fails then, and nothing is retried here: whoever calls knows what a retry means.
//
// Invariants
//   Subjects, streams and buckets carry the prefix on the wire and nowhere else.
//   All answers to this connection arrive on one wildcard subscription (mux.ts).
//   Logs and watches find back by themselves after a reconnect (nats-feed.ts).
import { jetstream } from '@nats-io/jetstream'
import type { Msg, NatsConnection, Status } from '@nats-io/transport-node'
import { assert } from '../../base/assert.ts'
import { type Clock, sleep } from '../../base/clock.ts'
import { textOf, UnavailableError } from '../../base/errors.ts'
import { Listeners } from '../../base/listeners.ts'
import { hex, systemRandom } from '../../base/random.ts'
import { connectTo, type NatsAddress } from '../../nats/nats-connect.ts'
import { Mux } from '../mux.ts'
import type { Bus, BusHeaders } from '../port.ts'
import { type NatsLink, NatsMessage, toNatsHeaders, wholeSubject } from './nats-api.ts'
import { natsBucket } from './nats-bucket.ts'
import type { NatsFeed } from './nats-feed.ts'
import { inboxMessage, natsLogStore } from './nats-log.ts'
import { askServerFacts } from './nats-server-facts.ts'

export type BusEventLevel = 'debug' | 'info' | 'warn' | 'error'

export interface NatsBusOptions extends NatsAddress {
  readonly clock: Clock
  /** A user of the system account, to ask how durable the server's writes are. */
  readonly system?: { readonly user: string; readonly password: string }
  /** The server's monitoring address for the same question, e.g. `http://127.0.0.1:8222/varz`. */
  readonly varzUrl?: string
  readonly onEvent?: (text: string, level: BusEventLevel) => void
}

/** Room kept for headers within the server's max_payload. */
const headerBytesMax = 16_384
const flushTimeoutMs = 2_000
const kvTimeoutMs = 5_000

/** Rejects with UnavailableError `bus-disconnected` when no server answers now; later losses heal by themselves. */
export async function connectNats(options: NatsBusOptions): Promise<Bus> {
  const { prefix = 'cln', clock, onEvent = () => undefined } = options
  const nc = await connectTo(options, 'bus-disconnected')
  const bus = new NatsConnectionState(nc, clock, prefix, onEvent)
  const { mux, link } = bus
  const prefixLength = prefix.length + 1
  const logs = natsLogStore(link, () => payloadBytesMax(nc))
  const watches = new Set<NatsFeed>()
  const js = jetstream(nc, { timeout: kvTimeoutMs })
  link.onConnection((isConnected) => {
    for (const feed of [...logs.feeds, ...watches]) feed.onConnection(isConnected)
  })
  nc.subscribe(`${prefix}.${mux.filter}`, {
    callback: (_error, msg) => {
      if (!bus.isClosed) mux.deliver(inboxMessage(msg, prefixLength), msg.headers?.code ?? 0)
    },
  })

  function publish(subject: string, payload: Uint8Array, out: { headers?: BusHeaders; replyTo?: string } = {}): void {
    if (!link.isConnected()) return
    assert(payload.length <= payloadBytesMax(nc), `message of ${payload.length} bytes on ${subject}`)
    nc.publish(wholeSubject(prefix, subject), payload, {
      ...(out.replyTo !== undefined && { reply: `${prefix}.${out.replyTo}` }),
      ...(out.headers !== undefined && { headers: toNatsHeaders(out.headers) }),
    })
  }

  return {
    kind: 'nats',
    clock,
    logs,
    get payloadBytesMax() {
      return payloadBytesMax(nc)
    },
    isConnected: link.isConnected,
    onConnection: link.onConnection,
    publish,
    subscribe(subject, { queue }, onMessage) {
      if (mux.owns(subject)) return mux.listen(subject, onMessage)
      let isStopped = false
      const callback = (error: Error | null, msg: Msg) => {
        if (error !== null) return onEvent(`subscription to ${subject}: ${error.message}`, 'error')
        if (!isStopped && !bus.isClosed) onMessage(new NatsMessage(msg, prefixLength))
      }
      const subscription = nc.subscribe(`${prefix}.${subject}`, { callback, ...(queue !== undefined && { queue }) })
      return {
        stop() {
          isStopped = true
          subscription.unsubscribe()
        },
        drain: () => subscription.drain(),
      }
    },
    async request(subject, payload, { timeoutMs, silenceMs, headers, signal }) {
      bus.assertConnected()
      return mux.request({ subject, timeoutMs, silenceMs, signal }, (replyTo) =>
        publish(subject, payload, headers === undefined ? { replyTo } : { replyTo, headers }),
      )
    },
    inbox: () => mux.inbox(),
    bucket: (name, { replicas = 1 } = {}) =>
      natsBucket(
        {
          ...{ link, js, feeds: watches },
          onWatchError: (e) => onEvent(`watch of ${name}: ${e.message}`, 'warn'),
          onHandlerError: (e) => onEvent(`watch of ${name}: ${e.message}`, 'error'),
        },
        name,
        replicas,
      ),
    server: () => askServerFacts({ link, servers: options.servers, system: options.system, varzUrl: options.varzUrl }),
    async close() {
      for (const feed of [...logs.feeds, ...watches]) void feed.stop()
      await bus.close()
    },
  }
}

function payloadBytesMax(nc: NatsConnection): number {
  return (nc.info?.max_payload ?? 1_048_576) - headerBytesMax
}

/** The connection's ups and downs. */
class NatsConnectionState {
  readonly mux: Mux
  readonly link: NatsLink
  isClosed = false
  readonly #nc: NatsConnection
  readonly #clock: Clock
  readonly #onEvent: (text: string, level: BusEventLevel) => void
  readonly #listeners = new Listeners<boolean>()
  #isConnected = true

  constructor(nc: NatsConnection, clock: Clock, prefix: string, onEvent: (text: string, level: BusEventLevel) => void) {
    this.#nc = nc
    this.#clock = clock
    this.#onEvent = onEvent
    const mux = new Mux(hex(systemRandom.bytes(8)), clock)
    this.mux = mux
    this.link = {
      nc,
      mux,
      clock,
      prefix,
      isConnected: () => this.#isConnected,
      onConnection: (listener) => this.#listeners.add(listener),
      ask: async (subject, payload, timeoutMs, headers) => {
        this.assertConnected()
        return mux.request({ subject, timeoutMs }, (inbox) =>
          nc.publish(subject, payload, { reply: `${prefix}.${inbox}`, ...(headers !== undefined && { headers }) }),
        )
      },
    }
    void this.#follow()
  }

  assertConnected(): void {
    if (!this.#isConnected) throw new UnavailableError('bus-disconnected', 'not connected to NATS')
  }

  async close(): Promise<void> {
    if (this.isClosed) return
    this.isClosed = true
    if (this.#isConnected) {
      const enough = new AbortController()
      const timeout = sleep(this.#clock, flushTimeoutMs, enough.signal).catch(() => undefined)
      await Promise.race([this.#nc.flush(), timeout]).catch((error) => this.#onEvent(`flush: ${textOf(error)}`, 'warn'))
      enough.abort()
    }
    this.#turn(false, 'the connection was closed')
    await this.#nc.close()
  }

  async #follow(): Promise<void> {
    void this.#nc.closed().then((error) => {
      if (!this.isClosed) this.#onEvent(`connection to NATS closed for good: ${textOf(error)}`, 'error')
      this.#turn(false, 'the connection to NATS is closed')
    })
    for await (const status of this.#nc.status()) this.#hear(status)
  }

  #hear(status: Status): void {
    switch (status.type) {
      case 'disconnect':
        this.#onEvent(`lost NATS at ${status.server}`, 'warn')
        this.#turn(false, 'the connection to NATS was lost')
        break
      case 'reconnect':
        this.#onEvent(`back at NATS ${status.server}`, 'info')
        this.#turn(true, '')
        break
      case 'error':
        this.#onEvent(`NATS says: ${status.error.message}`, 'error')
        break
      case 'staleConnection':
      case 'ldm':
      case 'slowConsumer':
        this.#onEvent(`NATS: ${status.type}`, 'warn')
        break
      case 'reconnecting':
      case 'update':
      case 'ping':
      case 'forceReconnect':
      case 'close':
        this.#onEvent(`NATS: ${status.type}`, 'debug')
        break
    }
  }

  #turn(isConnected: boolean, reason: string): void {
    if (this.#isConnected === isConnected) return
    this.#isConnected = isConnected
    if (!isConnected) this.mux.failAll(new UnavailableError('bus-disconnected', reason))
    this.#listeners.tell(isConnected)
  }
}
