// The object store's own connection to NATS: what it moves is large, and must not stand before other requests. Plain requests, each with the
// time that its call has left; whatever waits when the connection goes down fails then.
import { headers, type Msg, type NatsConnection } from '@nats-io/transport-node'
import type { Clock } from '../base/clock.ts'
import { CorruptError, textOf, UnavailableError } from '../base/errors.ts'
import { connectTo, type NatsAddress } from '../nats/nats-connect.ts'
import type { Deadline } from './deadline.ts'

export interface NatsObjectsOptions extends NatsAddress {
  readonly clock: Clock
  readonly onEvent?: (text: string, level: 'debug' | 'info' | 'warn' | 'error') => void
}

/** Error codes of the server that we tell apart. */
export const apiCode = {
  streamNotFound: 10059,
  messageNotFound: 10037,
  streamNameInUse: 10058,
  wrongLastSequence: 10071,
} as const

/** The limits of a stream, an account, a server; each means that there is no room. */
const fullCodes: readonly number[] = [10077, 10047, 10023, 10002]
const diskIsFull = /no space left|disk quota/i

/** No single request waits longer, however long the call may take: what got lost is asked again or given up early. */
const requestMsMax = 15_000

/** An error answer of the JetStream API. */
export class ApiError extends UnavailableError {
  readonly errCode: number

  constructor(what: string, errCode: number, description: string) {
    const isFull = fullCodes.includes(errCode) || diskIsFull.test(description)
    super(isFull ? 'objects-full' : 'objects-unavailable', `${what}: ${description} (${errCode})`)
    this.errCode = errCode
  }
}

/** Nobody listens on the subject: no stream, no leader, or no JetStream. */
export class NobodyError extends UnavailableError {
  constructor(subject: string) {
    super('objects-unavailable', `${subject}: nobody answers`)
  }
}

interface Answer {
  readonly error?: { readonly code: number; readonly err_code?: number; readonly description?: string }
}

export class NatsDoor {
  readonly nc: NatsConnection
  readonly #waiting = new Set<(error: Error) => void>()
  readonly #onEvent: NonNullable<NatsObjectsOptions['onEvent']>
  #isConnected = true
  #isClosed = false

  private constructor(nc: NatsConnection, { onEvent = () => undefined }: NatsObjectsOptions) {
    this.nc = nc
    this.#onEvent = onEvent
    void this.#follow()
  }

  /** Rejects with UnavailableError `objects-unavailable` when no server answers now; later losses heal by themselves. */
  static async open(options: NatsObjectsOptions): Promise<NatsDoor> {
    return new NatsDoor(await connectTo(options, 'objects-unavailable'), options)
  }

  /** One request, one answer. */
  async ask(
    subject: string,
    payload: Uint8Array | string,
    deadline: Deadline,
    head: Readonly<Record<string, string>> = {},
  ): Promise<Msg> {
    const timeout = Math.min(deadline.left(), requestMsMax)
    if (!this.#isConnected) throw disconnected()
    const sent = headers()
    for (const [key, value] of Object.entries(head)) sent.set(key, value)
    const hasHead = Object.keys(head).length > 0
    try {
      return await this.#unlessLost(
        this.nc.request(subject, payload, { timeout, ...(hasHead && { headers: sent }) }),
        deadline.signal,
      )
    } catch (error) {
      if (error instanceof UnavailableError || deadline.signal?.aborted) throw error
      const name = error instanceof Error ? error.name : ''
      if (name === 'NoRespondersError' || textOf(error).includes('no responders')) throw new NobodyError(subject)
      if (name === 'TimeoutError') throw deadline.error(error)
      throw new UnavailableError('objects-unavailable', `${subject}: ${textOf(error)}`, { cause: error })
    }
  }

  /** One call of the JetStream API; `path` follows `$JS.API.`. Rejects with ApiError or another UnavailableError. */
  async api<T>(path: string, body: unknown, deadline: Deadline): Promise<T> {
    const reply = await this.ask(`$JS.API.${path}`, body === undefined ? '' : JSON.stringify(body), deadline)
    return answerOf<T>(reply, path)
  }

  /** Stores a message; its sequence. */
  async append(
    subject: string,
    payload: Uint8Array | string,
    deadline: Deadline,
    head?: Readonly<Record<string, string>>,
  ): Promise<number> {
    return answerOf<{ seq: number }>(await this.ask(subject, payload, deadline, head), subject).seq
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#turn(false)
    await this.nc.close()
  }

  #unlessLost<T>(answer: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const fail = (error: Error) => {
        done()
        reject(error)
      }
      const onAbort = () => fail(signal?.reason as Error)
      const done = () => {
        this.#waiting.delete(fail)
        signal?.removeEventListener('abort', onAbort)
      }
      this.#waiting.add(fail)
      signal?.addEventListener('abort', onAbort, { once: true })
      answer.then((value) => {
        done()
        resolve(value)
      }, fail)
    })
  }

  async #follow(): Promise<void> {
    void this.nc.closed().then((error) => {
      if (!this.#isClosed) this.#onEvent(`connection for objects closed for good: ${textOf(error)}`, 'error')
      this.#turn(false)
    })
    for await (const status of this.nc.status()) {
      if (status.type === 'disconnect') this.#turn(false)
      else if (status.type === 'reconnect') this.#turn(true)
      else if (status.type === 'error') this.#onEvent(`NATS says to objects: ${status.error.message}`, 'error')
    }
  }

  #turn(isConnected: boolean): void {
    if (this.#isConnected === isConnected) return
    this.#isConnected = isConnected
    if (!this.#isClosed) {
      this.#onEvent(`objects ${isConnected ? 'found NATS again' : 'lost NATS'}`, isConnected ? 'info' : 'warn')
    }
    if (!isConnected) for (const fail of [...this.#waiting]) fail(disconnected())
  }
}

function disconnected(): UnavailableError {
  return new UnavailableError('objects-unavailable', 'not connected to NATS')
}

function answerOf<T>(message: Msg, what: string): T {
  let answer: T & Answer
  try {
    answer = message.json()
  } catch (error) {
    throw new UnavailableError('objects-unavailable', `${what}: the answer is not JSON`, { cause: error })
  }
  const { error } = answer
  if (error !== undefined) throw new ApiError(what, error.err_code ?? error.code, error.description ?? 'no description')
  return answer
}

/** JSON of a stored message. */
export function parsedJson(name: string, payload: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString())
  } catch (error) {
    throw new CorruptError('object-damaged', `object ${name}: what describes it is not JSON`, { cause: error })
  }
}
