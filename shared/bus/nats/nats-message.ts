// Messages of NATS as the port has them, under relative subjects, and what the parts of the NATS bus share.
import type { Msg, MsgHdrs, NatsConnection } from '@nats-io/transport-node'
import type { Clock } from '../../base/clock.ts'
import type { Subscription } from '../../base/listeners.ts'
import type { Head, JetStreamApi } from '../../nats/nats-api.ts'
import { inboxStart, type Mux } from '../mux.ts'
import type { BusHeaders, BusMessage } from '../port.ts'

/** What the parts of the NATS bus share: the connection, and the names under which the server knows things. */
export interface NatsLink {
  readonly nc: NatsConnection
  readonly mux: Mux
  readonly clock: Clock
  readonly prefix: string
  isConnected(): boolean
  onConnection(listener: (isConnected: boolean) => void): Subscription
  /** Asks outside our prefix; fails at once while disconnected. */
  ask(subject: string, payload: Uint8Array, timeoutMs: number, head?: Head): Promise<BusMessage>
  /** Lets `answer` fail when the connection goes down, for one that is waited for by other means. */
  unlessLost<T>(answer: Promise<T>): Promise<T>
  /** By these questions; what it waits is a time in milliseconds. */
  readonly api: JetStreamApi<number>
}

const noHeaders: BusHeaders = Object.freeze({})

/** Begins the reply subject of an asker who has an inbox of its own making, outside the prefix. No subject can begin so. */
const foreignMark = '>'

/** The server's subject for a relative one. */
export function wholeSubject(prefix: string, subject: string): string {
  return subject.startsWith(foreignMark) ? subject.slice(foreignMark.length) : `${prefix}.${subject}`
}

/** A received message under its relative subject; headers are read when somebody asks for them. */
export class NatsMessage implements BusMessage {
  readonly #msg: Msg
  readonly #prefixLength: number
  #headers: BusHeaders | undefined

  constructor(msg: Msg, prefixLength: number) {
    this.#msg = msg
    this.#prefixLength = prefixLength
  }

  get subject(): string {
    return this.#msg.subject.slice(this.#prefixLength)
  }

  get replyTo(): string | undefined {
    const { reply, subject } = this.#msg
    if (!reply) return undefined
    if (reply.startsWith(subject.slice(0, this.#prefixLength))) {
      const own = reply.slice(this.#prefixLength)
      return own.startsWith(inboxStart) ? own : undefined // elsewhere we would write with our rights what the asker could not
    }
    return reply.startsWith('$') ? undefined : `${foreignMark}${reply}` // `$`: the server's own, never to be spoken to for others
  }

  get payload(): Uint8Array {
    return this.#msg.data
  }

  get headers(): BusHeaders {
    this.#headers ??= plainHeaders(this.#msg.headers)
    return this.#headers
  }
}

export function plainHeaders(from: MsgHdrs | undefined): BusHeaders {
  if (from === undefined) return noHeaders
  const to: Record<string, string> = {}
  for (const [name, values] of from) to[name] = values[0] ?? ''
  return to
}
