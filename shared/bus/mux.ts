// The inboxes of one connection. A connection listens to one wildcard subject, `inbox.<its id>.*`; every request and every
// private subscription on it is an entry in this table, so neither costs the server a subscription.
import { assert } from '../base/assert.ts'
import type { Clock } from '../base/clock.ts'
import { UnavailableError } from '../base/errors.ts'
import type { Subscription } from '../base/listeners.ts'
import { afterSilence } from '../base/silence.ts'
import { type BusMessage, signHeader } from './port.ts'

/** Where answers go: nothing else below the prefix is ever answered to. */
export const inboxStart = 'inbox.'

/** What the server itself says in place of a message: 503 when nobody listens. 0 on an ordinary message. */
export type InboxStatus = number

type Listener = (message: BusMessage, status: InboxStatus) => void

export interface MuxRequest {
  readonly timeoutMs: number
  /** Silence after which the question or its answer is taken for lost on the way. */
  readonly silenceMs?: number | undefined
  readonly signal?: AbortSignal | undefined
  /** For the text of errors. */
  readonly subject: string
}

export class Mux {
  readonly filter: string
  readonly #base: string
  readonly #clock: Clock
  readonly #listeners = new Map<string, Listener>()
  readonly #waiting = new Set<(error: Error) => void>()
  #count = 0

  constructor(id: string, clock: Clock) {
    this.#base = `${inboxStart}${id}.`
    this.filter = `${this.#base}*`
    this.#clock = clock
  }

  inbox(): string {
    this.#count += 1
    return this.#base + this.#count.toString(36)
  }

  owns(subject: string): boolean {
    return subject.startsWith(this.#base) && !subject.endsWith('*') && !subject.endsWith('>')
  }

  listen(inbox: string, listener: Listener): Subscription {
    assert(!this.#listeners.has(inbox), `inbox ${inbox} is already listened to`)
    this.#listeners.set(inbox, listener)
    return { stop: () => void this.#listeners.delete(inbox) }
  }

  deliver(message: BusMessage, status: InboxStatus): void {
    this.#listeners.get(message.subject)?.(message, status)
  }

  /** One answer. `send` publishes the question with the inbox it is given. */
  request(options: MuxRequest, send: (inbox: string) => void): Promise<BusMessage> {
    return this.collect(options, send, (message, _status, done) => {
      if (message.headers[signHeader] === undefined) done(message)
    })
  }

  /** Answers until `onMessage` says `done`. Rejects on timeout, abort, a lost connection, or when nobody listens. */
  collect<T>(
    options: MuxRequest,
    send: (inbox: string) => void,
    onMessage: (message: BusMessage, status: InboxStatus, done: (value: T) => void) => void,
  ): Promise<T> {
    const { signal, subject, timeoutMs, silenceMs } = options
    if (signal?.aborted) return Promise.reject(signal.reason)
    return new Promise((resolve, reject) => {
      const inbox = this.inbox()
      const settle = () => {
        this.#listeners.delete(inbox)
        this.#waiting.delete(fail)
        timer.cancel()
        silence?.cancel()
        signal?.removeEventListener('abort', onAbort)
      }
      const fail = (error: Error) => {
        settle()
        reject(error)
      }
      const done = (value: T) => {
        settle()
        resolve(value)
      }
      const onAbort = () => fail(signal?.reason)
      const timer = this.#clock.after(timeoutMs, () =>
        fail(new UnavailableError('bus-timeout', `no answer on ${subject} within ${Math.round(timeoutMs)} ms`)),
      )
      const listenOn = () => {
        if (silenceMs === undefined) return undefined
        const text = `no sign of life on ${subject} for ${silenceMs} ms`
        return afterSilence(this.#clock, silenceMs, () => fail(new UnavailableError('bus-silent', text)))
      }
      let silence = listenOn()
      this.#waiting.add(fail)
      this.#listeners.set(inbox, (message, status) => {
        silence?.cancel()
        silence = listenOn()
        if (status === 503) return fail(new UnavailableError('bus-no-responders', `nobody listens on ${subject}`))
        try {
          onMessage(message, status, done)
        } catch (error) {
          fail(error as Error)
        }
      })
      signal?.addEventListener('abort', onAbort, { once: true })
      try {
        send(inbox)
      } catch (error) {
        fail(error as Error)
      }
    })
  }

  /** Fails every request that waits. */
  failAll(error: Error): void {
    for (const fail of [...this.#waiting]) fail(error)
  }
}
