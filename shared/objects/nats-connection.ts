// The object store's own connection to NATS: what it moves is large, and must not stand before other requests. Plain requests, each with the
// time that its call has left; whatever waits when the connection goes down fails then.
import type { Msg, Status } from '@nats-io/transport-node'
import type { Clock } from '../base/clock.ts'
import { CorruptError, textOf, UnavailableError } from '../base/errors.ts'
import { apiCode, type Head, JetStreamApi, natsHeaders } from '../nats/nats-api.ts'
import type { NatsAddress } from '../nats/nats-connect.ts'
import { Connection } from '../nats/nats-connection.ts'
import type { Deadline } from './deadline.ts'

export interface NatsObjectsOptions extends NatsAddress {
  readonly clock: Clock
  readonly onEvent?: (text: string, level: 'debug' | 'info' | 'warn' | 'error') => void
}

/** The limits of a stream, an account, a server; each means that there is no room. */
const fullCodes: readonly number[] = [
  apiCode.maxBytes,
  apiCode.storageExceeded,
  apiCode.serverStorageExceeded,
  apiCode.accountResourcesExceeded,
]
const diskIsFull = /no space left|disk quota/i

/** No single request waits longer, however long the call may take: what got lost is asked again or given up early. */
const requestMsMax = 15_000

/** Nobody listens on the subject: no stream, no leader, or no JetStream. */
export class NoRespondersError extends UnavailableError {
  constructor(subject: string) {
    super('objects-unavailable', `${subject}: nobody answers`)
  }
}

export class ObjectConnection {
  readonly api: JetStreamApi<Deadline>
  readonly #connection: Connection

  private constructor(connection: Connection) {
    this.#connection = connection
    this.api = new JetStreamApi(
      async (subject, payload, deadline, head) => (await this.ask(subject, payload, deadline, head)).data,
      {
        unavailable: 'objects-unavailable',
        of: (errCode, description) =>
          fullCodes.includes(errCode) || diskIsFull.test(description) ? 'objects-full' : 'objects-unavailable',
      },
    )
  }

  /** Rejects with UnavailableError `objects-unavailable` when no server answers now; later losses heal by themselves. */
  static async open(options: NatsObjectsOptions): Promise<ObjectConnection> {
    const { onEvent = () => undefined } = options
    const onStatus = (status: Status) => {
      if (status.type === 'error') onEvent(`NATS says to objects: ${status.error.message}`, 'error')
    }
    const onGone = (error: unknown) => onEvent(`connection for objects closed for good: ${textOf(error)}`, 'error')
    const connection = await Connection.open(options, 'objects-unavailable', { onStatus, onGone })
    connection.onConnection((isConnected) => {
      if (connection.isClosed) return
      onEvent(`objects ${isConnected ? 'found NATS again' : 'lost NATS'}`, isConnected ? 'info' : 'warn')
    })
    return new ObjectConnection(connection)
  }

  /** One request, one answer. */
  async ask(subject: string, payload: Uint8Array, deadline: Deadline, head?: Head): Promise<Msg> {
    const timeout = Math.min(deadline.left(), requestMsMax)
    this.#connection.assertConnected()
    const options = { timeout, ...(head !== undefined && { headers: natsHeaders(head) }) }
    try {
      const answer = this.#connection.nc.request(subject, payload, options)
      return await this.#connection.unlessLost(answer, deadline.signal)
    } catch (error) {
      if (error instanceof UnavailableError || deadline.signal?.aborted) throw error
      const name = error instanceof Error ? error.name : ''
      if (name === 'NoRespondersError' || textOf(error).includes('no responders')) throw new NoRespondersError(subject)
      if (name === 'TimeoutError') throw deadline.error(error)
      throw new UnavailableError('objects-unavailable', `${subject}: ${textOf(error)}`, { cause: error })
    }
  }

  close(): Promise<void> {
    return this.#connection.close()
  }
}

/** JSON of a stored message. */
export function parsedJson(name: string, payload: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString())
  } catch (error) {
    throw new CorruptError('object-damaged', `object ${name}: what describes it is not JSON`, { cause: error })
  }
}
