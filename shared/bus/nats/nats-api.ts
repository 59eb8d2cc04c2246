// The JetStream API as plain requests: JSON out, JSON back, error codes turned into the families. Nothing is retried here.
import type { Msg, MsgHdrs, NatsConnection } from '@nats-io/transport-node'
import type { Clock } from '../../base/clock.ts'
import { type CarillonError, ConflictError, RefusedError, UnavailableError } from '../../base/errors.ts'
import type { Subscription } from '../../base/listeners.ts'
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
  ask(subject: string, payload: Uint8Array, timeoutMs: number, headers?: MsgHdrs): Promise<BusMessage>
}

/** Error codes of the server that we tell apart. */
export const jsCode = {
  streamNotFound: 10059,
  streamNameInUse: 10058,
  wrongLastSequence: 10071,
  maxBytes: 10077,
  messageNotFound: 10037,
  storageExceeded: 10047,
  /** "JetStream system temporarily unavailable": there is no leader. */
  noLeader: 10008,
} as const

/** An error answer of the JetStream API, before it is known what it means to the caller. */
export class ApiError extends UnavailableError {
  readonly errCode: number

  constructor(what: string, errCode: number, description: string) {
    super(
      errCode === jsCode.storageExceeded ? 'log-no-room' : 'log-unavailable',
      `${what}: ${description} (${errCode})`,
    )
    this.errCode = errCode
  }
}

interface ApiReply {
  readonly error?: { readonly code: number; readonly err_code?: number; readonly description?: string }
}

/** One call of the JetStream API. `path` follows `$JS.API.`. Rejects with ApiError or another UnavailableError. */
export async function callApi<T>(link: NatsLink, path: string, body: unknown, timeoutMs: number): Promise<T> {
  const payload = body === undefined ? new Uint8Array(0) : Buffer.from(JSON.stringify(body))
  const reply = await asked(link.ask(`$JS.API.${path}`, payload, timeoutMs))
  return parsedReply<T>(reply.payload, path)
}

/** Nobody answers where JetStream should: no leader, or it is switched off. */
export async function asked<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer
  } catch (error) {
    if (error instanceof UnavailableError && error.code === 'bus-no-responders') {
      throw new UnavailableError('log-unavailable', 'no JetStream leader answers', { cause: error })
    }
    throw error
  }
}

export function parsedReply<T>(payload: Uint8Array, what: string): T {
  let reply: T & ApiReply
  try {
    reply = JSON.parse(Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString())
  } catch (error) {
    throw new UnavailableError('log-unavailable', `${what}: the answer is not JSON`, { cause: error })
  }
  const { error } = reply
  if (error !== undefined) throw new ApiError(what, error.err_code ?? error.code, error.description ?? 'no description')
  return reply
}

/** What a refused append means to its caller. */
export function appendError(error: unknown, subject: string): unknown {
  if (!(error instanceof ApiError)) return error
  const families: Record<number, CarillonError> = {
    [jsCode.wrongLastSequence]: new ConflictError('log-conflict', `${subject}: ${error.message}`, { cause: error }),
    [jsCode.maxBytes]: new UnavailableError('log-full', `${subject}: ${error.message}`, { cause: error }),
  }
  return families[error.errCode] ?? error
}

/** Headers on their way out: of a MsgHdrs the client only wants the bytes, and its own table of names and values costs more than the rest of a
 *  small message. Names and values of headers are ASCII; a line break would be another header. */
class OutHeaders {
  readonly #from: BusHeaders

  constructor(from: BusHeaders) {
    this.#from = from
  }

  encode(): Uint8Array {
    let text = 'NATS/1.0\r\n'
    for (const name in this.#from) text += `${name}: ${plain(this.#from[name] as string)}\r\n`
    return Buffer.from(`${text}\r\n`)
  }
}

function plain(value: string): string {
  if (value.includes('\n') || value.includes('\r')) {
    throw new RefusedError('err-carillon-bad-message', 'a header has a line break')
  }
  return value
}

export function toNatsHeaders(from: BusHeaders): MsgHdrs {
  return new OutHeaders(from) as unknown as MsgHdrs
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
