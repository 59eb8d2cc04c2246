// The JetStream API as plain requests: JSON out, JSON back, error answers as ApiError. One client for every room: each brings its own way to
// ask, what it means by how long an answer may take, and the codes of its errors. Nothing is retried here.
import type { MsgHdrs } from '@nats-io/transport-node'
import type { UnavailableCode } from '../base/error-codes.ts'
import { RefusedError, UnavailableError } from '../base/errors.ts'

/** Error codes of the server that are told apart. */
export const apiCode = {
  streamNotFound: 10059,
  streamNameInUse: 10058,
  wrongLastSequence: 10071,
  maxBytes: 10077,
  messageNotFound: 10037,
  storageExceeded: 10047,
  serverStorageExceeded: 10023,
  accountResourcesExceeded: 10002,
  /** "JetStream system temporarily unavailable": there is no leader. */
  noLeader: 10008,
} as const

export type Head = Readonly<Record<string, string>>

/** One question outside the prefix. */
export type AskServer<Wait> = (subject: string, payload: Uint8Array, wait: Wait, head?: Head) => Promise<Uint8Array>

/** Codes of a room's errors: what no answer is, and what an error answer is. */
export interface ApiErrorCodes {
  readonly unavailable: UnavailableCode
  of(errCode: number, description: string): UnavailableCode
}

/** An error answer of the JetStream API, before it is known what it means to the caller. */
export class ApiError extends UnavailableError {
  readonly errCode: number

  constructor(code: UnavailableCode, text: string, errCode: number) {
    super(code, text)
    this.errCode = errCode
  }
}

/** What the server says of a message that it has stored. */
export interface Stored {
  readonly seq: number
  readonly duplicate?: boolean
}

interface ApiReply {
  readonly error?: { readonly code: number; readonly err_code?: number; readonly description?: string }
}

const nothing = new Uint8Array(0)

export class JetStreamApi<Wait> {
  readonly #ask: AskServer<Wait>
  readonly #codes: ApiErrorCodes

  constructor(ask: AskServer<Wait>, codes: ApiErrorCodes) {
    this.#ask = ask
    this.#codes = codes
  }

  /** One call; `path` follows `$JS.API.`. Rejects with ApiError or another UnavailableError. */
  async call<T>(path: string, body: unknown, wait: Wait): Promise<T> {
    const payload = body === undefined ? nothing : Buffer.from(JSON.stringify(body))
    return this.#answerIn<T>(await this.#ask(`$JS.API.${path}`, payload, wait), path)
  }

  /** Stores a message. Rejects with ApiError or another UnavailableError. */
  async append(subject: string, payload: Uint8Array, wait: Wait, head?: Head): Promise<Stored> {
    return this.#answerIn<Stored>(await this.#ask(subject, payload, wait, head), subject)
  }

  #answerIn<T>(payload: Uint8Array, what: string): T {
    let reply: T & ApiReply
    try {
      reply = JSON.parse(Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString())
    } catch (error) {
      throw new UnavailableError(this.#codes.unavailable, `${what}: the answer is not JSON`, { cause: error })
    }
    const { error } = reply
    if (error === undefined) return reply
    const { code, err_code: errCode = code, description = 'no description' } = error
    throw new ApiError(this.#codes.of(errCode, description), `${what}: ${description} (${errCode})`, errCode)
  }
}

/** Headers on their way out: of a MsgHdrs the client only wants the bytes, and its own table of names and values costs more than the rest of a
 *  small message. Names and values of headers are ASCII; a line break would be another header. */
class OutHeaders {
  readonly #from: Head

  constructor(from: Head) {
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

export function natsHeaders(from: Head): MsgHdrs {
  return new OutHeaders(from) as unknown as MsgHdrs
}
