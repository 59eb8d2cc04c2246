// Asks a gateway over HTTP, on behalf of one tenant: for the commands that work from outside.
import fs from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import { buffer } from 'node:stream/consumers'
import { backoffMs } from '../../shared/base/backoff.ts'
import { sleep, systemClock } from '../../shared/base/clock.ts'
import { textOf } from '../../shared/base/errors.ts'
import { systemRandom } from '../../shared/base/random.ts'
import { SetupError } from '../launcher/setup-error.ts'

export interface GatewayOptions {
  /** http://host:port */
  readonly gateway: string
  /** '': whatever the gateway makes of it. */
  readonly tenant: string
  /** A file with `user:password` or a token; '': none. */
  readonly credentialsFile: string
  /** Nobody named it and nothing said that it is there: it is tried once. */
  readonly isGuess?: boolean
}

/** What a gateway refused, with its stable id. */
export class GatewayError extends Error {
  readonly status: number
  readonly code: string

  constructor(status: number, code: string, text: string) {
    super(text)
    this.name = 'GatewayError'
    this.status = status
    this.code = code
  }
}

/** A refusal for people: its text ends in its stable id. */
export function withId(text: string, code: string): string {
  return text.includes(code) ? text : `${text} (${code})`
}

export interface Call {
  readonly method?: 'GET' | 'POST'
  /** How long the gateway is asked to wait, on top of what a call may take by itself. */
  readonly waitMs?: number
  /** What is asked twice would be done twice: no second try once it may have been heard. */
  readonly isOnce?: boolean
  readonly body?: Uint8Array
  readonly headers?: Readonly<Record<string, string>>
}

interface Answer {
  readonly status: number
  readonly errorId: string | undefined
  readonly bytes: Uint8Array<ArrayBuffer>
}

export const DEFAULT_GATEWAY = 'http://127.0.0.1:9009'

/** Tries of one call that meets a closed door or 503. */
const TRIES_MAX = 8
const BACKOFF = { firstMs: 200, maxMs: 5_000 }
const CALL_MS_MAX = 120_000
const ERROR_ID = 'x-carillon-error-id'

export class GatewayClient {
  private readonly origin: string
  private readonly headers: Readonly<Record<string, string>>
  private readonly isGuess: boolean

  constructor({ gateway, tenant, credentialsFile, isGuess = false }: GatewayOptions) {
    this.isGuess = isGuess
    if (!/^https?:\/\//.test(gateway) || !URL.canParse(gateway))
      throw new SetupError(2, `--gateway "${gateway}" is no address such as http://127.0.0.1:9009`)
    this.origin = gateway.replace(/\/+$/, '')
    this.headers = {
      ...(tenant === '' ? {} : { 'X-Scope-OrgID': tenant }),
      ...(credentialsFile === '' ? {} : { Authorization: authorization(credentialsFile) }),
    }
  }

  /** The `data` of an answer in Prometheus' shape. */
  async data<T>(path: string, call: Call = {}): Promise<T> {
    return ((await this.json(path, call)) as { data: T }).data
  }

  async json(path: string, call: Call = {}): Promise<unknown> {
    return JSON.parse(Buffer.from(await this.bytes(path, call)).toString())
  }

  /** The whole body. Throws GatewayError for a refusal, SetupError when nobody answers. */
  async bytes(path: string, call: Call = {}): Promise<Uint8Array<ArrayBuffer>> {
    for (let tryNumber = 1; ; tryNumber++) {
      try {
        return await this.once(path, call)
      } catch (error) {
        const mayPass = error instanceof GatewayError ? error.status === 503 || error.status === 429 : !call.isOnce
        if (!mayPass || this.isGuess || tryNumber === TRIES_MAX) throw this.named(error)
        await sleep(systemClock, backoffMs(tryNumber - 1, BACKOFF, systemRandom))
      }
    }
  }

  private async once(path: string, call: Call): Promise<Uint8Array<ArrayBuffer>> {
    const { status, errorId, bytes } = await (call.waitMs === undefined
      ? this.fetched(path, call)
      : this.waited(path, call))
    if (status >= 200 && status < 300) return bytes
    throw new GatewayError(status, errorId ?? `http-${status}`, errorIn(Buffer.from(bytes).toString().trim()))
  }

  private async fetched(path: string, { method = 'GET', body, headers = {} }: Call): Promise<Answer> {
    const response = await fetch(`${this.origin}${path}`, {
      method,
      headers: { ...this.headers, ...headers },
      signal: AbortSignal.timeout(CALL_MS_MAX),
      ...(body === undefined ? {} : { body: Buffer.from(body.buffer, body.byteOffset, body.byteLength) }),
    })
    const errorId = response.headers.get(ERROR_ID) ?? undefined
    return { status: response.status, errorId, bytes: new Uint8Array(await response.arrayBuffer()) }
  }

  /** `fetch` gives up on answers that begin after five minutes. */
  private waited(path: string, { method = 'GET', waitMs = 0 }: Call): Promise<Answer> {
    const url = new URL(`${this.origin}${path}`)
    const signal = AbortSignal.timeout(CALL_MS_MAX + waitMs)
    const { promise, resolve, reject } = Promise.withResolvers<Answer>()
    const request = (url.protocol === 'https:' ? https : http).request(url, { method, headers: this.headers, signal })
    request.on('error', reject)
    request.on('response', (response) => {
      const { statusCode: status = 0, headers } = response
      const errorId = headers[ERROR_ID]
      buffer(response).then(
        (bytes) =>
          resolve({ status, errorId: typeof errorId === 'string' ? errorId : undefined, bytes: new Uint8Array(bytes) }),
        reject,
      )
    })
    request.end()
    return promise
  }

  private named(error: unknown): Error {
    if (error instanceof GatewayError) return error
    const cause = error instanceof Error && error.cause !== undefined ? ` (${textOf(error.cause)})` : ''
    const hint = this.isGuess
      ? ', and nothing runs on --data: name a gateway with --gateway URL, or the data folder of a running start'
      : ''
    return new SetupError(1, `no gateway answers at ${this.origin}: ${textOf(error)}${cause}${hint}`, { cause: error })
  }
}

function errorIn(text: string): string {
  if (!text.startsWith('{')) return text
  try {
    const { error } = JSON.parse(text) as { error?: unknown }
    return typeof error === 'string' ? error : text
  } catch {
    return text // it only looked like JSON
  }
}

function authorization(file: string): string {
  let text: string
  try {
    text = fs.readFileSync(file, 'utf8').trim()
  } catch (cause) {
    throw new SetupError(2, `--credentials-file ${file}: ${textOf(cause)}`, { cause })
  }
  return text.includes(':') ? `Basic ${Buffer.from(text).toString('base64')}` : `Bearer ${text}`
}
