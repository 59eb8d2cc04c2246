// A connection that says whether it stands. What waits for an answer when it goes down fails then; a call made while it is down fails at once.
import type { NatsConnection, Status } from '@nats-io/transport-node'
import type { UnavailableCode } from '../base/error-codes.ts'
import { UnavailableError } from '../base/errors.ts'
import { Listeners, type Subscription } from '../base/listeners.ts'
import { connectTo, type NatsAddress } from './nats-connect.ts'

export interface ConnectionEvents {
  /** Before anything follows from it. */
  readonly onStatus: (status: Status) => void
  /** It is closed for good, and not by us. */
  readonly onGone: (error: unknown) => void
}

export class Connection {
  readonly nc: NatsConnection
  readonly #code: UnavailableCode
  readonly #events: ConnectionEvents
  readonly #waiting = new Set<(error: Error) => void>()
  readonly #listeners = new Listeners<boolean>()
  #isConnected = true
  #isClosed = false

  private constructor(nc: NatsConnection, code: UnavailableCode, events: ConnectionEvents) {
    this.nc = nc
    this.#code = code
    this.#events = events
    void this.#follow()
  }

  /** Rejects with UnavailableError of this code when no server answers now; later losses heal by themselves, and fail what waits with it. */
  static async open(address: NatsAddress, code: UnavailableCode, events: ConnectionEvents): Promise<Connection> {
    return new Connection(await connectTo(address, code), code, events)
  }

  get isConnected(): boolean {
    return this.#isConnected
  }

  /** By us. */
  get isClosed(): boolean {
    return this.#isClosed
  }

  onConnection(listener: (isConnected: boolean) => void): Subscription {
    return this.#listeners.add(listener)
  }

  assertConnected(): void {
    if (!this.#isConnected) throw new UnavailableError(this.#code, 'not connected to NATS')
  }

  /** `fail` is told, once, when the connection goes down, before those who listen are. */
  onLost(fail: (error: Error) => void): Subscription {
    this.#waiting.add(fail)
    return { stop: () => void this.#waiting.delete(fail) }
  }

  /** What `answer` brings, unless the connection goes down, or the signal aborts, before. */
  unlessLost<T>(answer: Promise<T>, signal?: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      const fail = (error: Error) => {
        done()
        reject(error)
      }
      const onAbort = () => fail(signal?.reason as Error)
      const loss = this.onLost(fail)
      const done = () => {
        loss.stop()
        signal?.removeEventListener('abort', onAbort)
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      answer.then((value) => {
        done()
        resolve(value)
      }, fail)
    })
  }

  /** `last` is done first, while the connection stands. */
  async close(last: () => Promise<void> = async () => undefined): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    if (this.#isConnected) await last()
    this.#turn(false, 'the connection was closed')
    await this.nc.close()
  }

  async #follow(): Promise<void> {
    void this.nc.closed().then((error) => {
      if (!this.#isClosed) this.#events.onGone(error)
      this.#turn(false, 'the connection to NATS is closed')
    })
    for await (const status of this.nc.status()) {
      this.#events.onStatus(status)
      if (status.type === 'disconnect') this.#turn(false, 'the connection to NATS was lost')
      else if (status.type === 'reconnect') this.#turn(true, '')
    }
  }

  #turn(isConnected: boolean, reason: string): void {
    if (this.#isConnected === isConnected) return
    this.#isConnected = isConnected
    if (!isConnected) {
      const error = new UnavailableError(this.#code, reason)
      for (const fail of [...this.#waiting]) fail(error)
    }
    this.#listeners.tell(isConnected)
  }
}
