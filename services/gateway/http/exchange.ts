// One request and what it is answered: the words that all files of this room share.
import type { IncomingMessage } from 'node:http'
import { type PublicCode, publicCode } from '../../../shared/base/error-codes.ts'
import { CorruptError, RefusedError, UnavailableError } from '../../../shared/base/errors.ts'
import { STATUS_OF_ERROR_TYPE } from '../../../shared/contracts/query.ts'

export interface Exchange {
  readonly request: IncomingMessage
  /** Decoded path parameters of the route. */
  readonly params: Readonly<Record<string, string>>
  /** What stands after `?`, raw. */
  readonly search: string
  readonly requestId: string
  /** '' on routes that belong to no tenant. */
  readonly tenant: string
  /** Who asks, for records: the credential and where it came from. */
  readonly who: string
  /** Throws RefusedError 403 where an administrator may not act on that tenant; undefined: on all. */
  readonly assertAdmin: (tenant: string | undefined) => void
  readonly remoteAddress: string
  /** Aborts when the client hangs up. */
  readonly signal: AbortSignal
  /** Answers `Expect: 100-continue`, once somebody wants the body. */
  readonly continueBody: () => void
  /** `release` is called once the answer has left or the client is gone: for what is held while a large answer is read slowly. */
  readonly holdUntilAnswered: (release: () => void) => void
}

export interface Answer {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  /** Text is sent as UTF-8; absent: an empty body. */
  readonly body?: string | Uint8Array
  /** Instead of a body: what is too large to be held, or whose length shows in the end. When it fails halfway the connection is cut. */
  readonly stream?: { readonly length?: number; readonly chunks: AsyncIterable<Uint8Array> }
}

/** Who may come in: anyone, or a credential with that right. Only `write` and `read` belong to a tenant. `admin` has `metrics` as well. */
export type Access = 'open' | 'admin' | 'metrics' | 'write' | 'read'

export interface Route {
  /** Label `route` of the metrics. */
  readonly name: string
  readonly methods: readonly string[]
  /** Segments; `{name}` takes any one. */
  readonly path: string
  readonly access: Access
  /** An administrator of single tenants may ask; the route asserts whose. Without it `admin` means the system. */
  readonly isOfTenants?: boolean
  /** The right `admin` does as well, for the tenant that `?tenant=` names. */
  readonly isOpenToAdmin?: boolean
  /** The shape of errors: plain text, or Prometheus' JSON. */
  readonly errors: 'text' | 'json'
  readonly hasCors?: boolean
  /** Headers on every answer of this route, failures too, unless the answer has its own. */
  readonly headers?: Readonly<Record<string, string>>
  readonly answer: (exchange: Exchange) => Promise<Answer> | Answer
}

export const TEXT = 'text/plain; charset=utf-8'
export const JSON_TYPE = 'application/json'

/** What an error says over HTTP. */
export interface Fault {
  readonly status: number
  readonly code: PublicCode
  readonly text: string
  /** Seconds; 0: the sender should wait, the door says how long. */
  readonly retryAfterS: number | undefined
  readonly headers?: Readonly<Record<string, string>>
}

/** A failure that is answered with headers of its own. */
export class FailureWithHeaders extends Error {
  readonly headers: Readonly<Record<string, string>>

  constructor(cause: unknown, headers: Readonly<Record<string, string>>) {
    super('', { cause })
    this.headers = headers
  }
}

export function faultOf(error: unknown): Fault {
  if (error instanceof FailureWithHeaders) return { ...faultOf(error.cause), headers: error.headers }
  if (error instanceof RefusedError) {
    const { status, code, message: text } = error
    const retryAfterS = error.retryAfterS ?? (status === 429 || status === 503 ? 0 : undefined)
    return { status, code: publicCode(code), text, retryAfterS }
  }
  if (error instanceof UnavailableError)
    return { status: 503, code: publicCode(error.code), text: error.message, retryAfterS: 0 }
  if (error instanceof CorruptError)
    return { status: 500, code: publicCode(error.code), text: error.message, retryAfterS: undefined }
  return { status: 500, code: 'err-carillon-internal', text: 'internal error', retryAfterS: undefined }
}

/** Nobody listened: what was asked cannot have been received. */
export function isUnheard(error: unknown): boolean {
  return error instanceof UnavailableError && error.code === 'bus-no-responders'
}

/** Who took the question has stopped saying that it is at work on it. */
export function isSilence(error: unknown): boolean {
  return error instanceof UnavailableError && error.code === 'bus-silent'
}

/** The text with its stable id, as senders log it. */
export function textWithId(text: string, code: string): string {
  return text.includes(`(${code})`) ? text : `${text} (${code})`
}

const errorTypeOf: Readonly<Record<number, string>> = Object.fromEntries(
  Object.entries(STATUS_OF_ERROR_TYPE)
    .reverse()
    .map(([type, status]) => [status, type]),
)

export function errorBody(fault: Pick<Fault, 'status' | 'code' | 'text'>, shape: 'text' | 'json'): string {
  if (shape === 'text') return `${textWithId(fault.text, fault.code)}\n`
  const errorType =
    fault.status === 503
      ? 'unavailable'
      : (errorTypeOf[fault.status] ?? (fault.status >= 500 ? 'internal' : 'bad_data'))
  return JSON.stringify({ status: 'error', errorType, error: fault.text })
}

export function jsonAnswer(data: unknown): Answer {
  return { status: 200, headers: { 'Content-Type': JSON_TYPE }, body: JSON.stringify({ status: 'success', data }) }
}

export function textAnswer(status: number, text: string): Answer {
  return { status, headers: { 'Content-Type': TEXT }, body: text }
}
