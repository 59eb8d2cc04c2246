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
import { textOf } from '../../base/errors.ts'
import { hex, systemRandom } from '../../base/random.ts'
import { apiCode, type Head, JetStreamApi, natsHeaders } from '../../nats/nats-api.ts'
import type { NatsAddress } from '../../nats/nats-connect.ts'
import { Connection } from '../../nats/nats-connection.ts'
import { Mux } from '../mux.ts'
import type { Bus, BusHeaders } from '../port.ts'
import { natsBucket } from './nats-bucket.ts'
import type { NatsFeed } from './nats-feed.ts'
import { asked } from './nats-last.ts'
import { inboxMessage, natsLogStore } from './nats-log.ts'
import { type NatsLink, NatsMessage, wholeSubject } from './nats-message.ts'
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
  const connection = await Connection.open(options, 'bus-disconnected', {
    onStatus: (status) => sayStatus(status, onEvent),
    onGone: (error) => onEvent(`connection to NATS closed for good: ${textOf(error)}`, 'error'),
  })
  const { nc } = connection
  const link = linkOf(connection, clock, prefix)
  const { mux } = link
  const prefixLength = prefix.length + 1
  const logs = natsLogStore(link, () => payloadBytesMax(nc))
  const watches = new Set<NatsFeed>()
  const js = jetstream(nc, { timeout: kvTimeoutMs })
  link.onConnection((isConnected) => {
    for (const feed of [...logs.feeds, ...watches]) feed.onConnection(isConnected)
  })
  nc.subscribe(`${prefix}.${mux.filter}`, {
    callback: (_error, msg) => {
      if (!connection.isClosed) mux.deliver(inboxMessage(msg, prefixLength), msg.headers?.code ?? 0)
    },
  })

  function publish(subject: string, payload: Uint8Array, out: { headers?: BusHeaders; replyTo?: string } = {}): void {
    if (!link.isConnected()) return
    assert(payload.length <= payloadBytesMax(nc), `message of ${payload.length} bytes on ${subject}`)
    nc.publish(wholeSubject(prefix, subject), payload, {
      ...(out.replyTo !== undefined && { reply: `${prefix}.${out.replyTo}` }),
      ...(out.headers !== undefined && { headers: natsHeaders(out.headers) }),
    })
  }

  /** What was said goes out, if it can in time. */
  async function flush(): Promise<void> {
    const enough = new AbortController()
    const timeout = sleep(clock, flushTimeoutMs, enough.signal).catch(() => undefined)
    await Promise.race([nc.flush(), timeout]).catch((error) => onEvent(`flush: ${textOf(error)}`, 'warn'))
    enough.abort()
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
        if (!isStopped && !connection.isClosed) onMessage(new NatsMessage(msg, prefixLength))
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
      connection.assertConnected()
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
      await connection.close(flush)
    },
  }
}

function payloadBytesMax(nc: NatsConnection): number {
  return (nc.info?.max_payload ?? 1_048_576) - headerBytesMax
}

/** What the parts of the bus share. The inboxes' requests fail with the connection. */
function linkOf(connection: Connection, clock: Clock, prefix: string): NatsLink {
  const { nc } = connection
  const mux = new Mux(hex(systemRandom.bytes(8)), clock)
  connection.onLost((error) => mux.failAll(error))
  const ask: NatsLink['ask'] = async (subject, payload, timeoutMs, head) => {
    connection.assertConnected()
    return mux.request({ subject, timeoutMs }, (inbox) =>
      nc.publish(subject, payload, {
        reply: `${prefix}.${inbox}`,
        ...(head !== undefined && { headers: natsHeaders(head) }),
      }),
    )
  }
  const asking = async (subject: string, payload: Uint8Array, timeoutMs: number, head?: Head) =>
    (await asked(ask(subject, payload, timeoutMs, head))).payload
  const codeOf = (errCode: number) => (errCode === apiCode.storageExceeded ? 'log-no-room' : 'log-unavailable')
  return {
    nc,
    mux,
    clock,
    prefix,
    isConnected: () => connection.isConnected,
    onConnection: (listener) => connection.onConnection(listener),
    unlessLost: (answer) => connection.unlessLost(answer),
    ask,
    api: new JetStreamApi(asking, { unavailable: 'log-unavailable', of: codeOf }),
  }
}

function sayStatus(status: Status, say: (text: string, level: BusEventLevel) => void): void {
  switch (status.type) {
    case 'disconnect':
      return say(`lost NATS at ${status.server}`, 'warn')
    case 'reconnect':
      return say(`back at NATS ${status.server}`, 'info')
    case 'error':
      return say(`NATS says: ${status.error.message}`, 'error')
    case 'staleConnection':
    case 'ldm':
    case 'slowConsumer':
      return say(`NATS: ${status.type}`, 'warn')
    case 'reconnecting':
    case 'update':
    case 'ping':
    case 'forceReconnect':
    case 'close':
      return say(`NATS: ${status.type}`, 'debug')
  }
}
