// Anybody at a NATS prompt: a client that knows nothing of Carillon.
import { connect, headers, type Msg, type NatsConnection } from '@nats-io/transport-node'
import { type NatsPlace, reachOf } from './nats-place.ts'

export interface Heard {
  readonly subject: string
  readonly reply: string
  readonly headers: Readonly<Record<string, string>>
  readonly bytes: Uint8Array
}

export interface PlainNats {
  readonly payloadBytesMax: number
  publish(subject: string, bytes: Uint8Array | string, headers?: Readonly<Record<string, string>>, reply?: string): void
  /** Rejects with the client's own errors: timeout, no responders. */
  request(subject: string, bytes: Uint8Array | string, headers?: Readonly<Record<string, string>>): Promise<Heard>
  /** Keeps everything that passes on `subject`, newest last. */
  listen(subject: string): readonly Heard[]
  flush(): Promise<void>
  close(): Promise<void>
}

const HEARD_MAX = 100_000

export async function connectPlain(
  place: NatsPlace,
  credentials: { user?: string; pass?: string } = {},
): Promise<PlainNats> {
  const { servers, user, password } = reachOf(place)
  const own = user === undefined ? {} : { user, pass: password ?? '' }
  const connection: NatsConnection = await connect({ servers, name: 'a plain client', ...own, ...credentials })
  return {
    payloadBytesMax: connection.info?.max_payload ?? 0,
    publish: (subject, bytes, given = {}, reply) =>
      connection.publish(subject, bytes, { headers: headersOf(given), ...(reply !== undefined && { reply }) }),
    request: async (subject, bytes, given = {}) =>
      heard(await connection.request(subject, bytes, { timeout: 10_000, headers: headersOf(given) })),
    listen(subject) {
      const all: Heard[] = []
      connection.subscribe(subject, {
        callback(error, message) {
          if (error) throw error
          all.push(heard(message))
          if (all.length > HEARD_MAX) all.shift()
        },
      })
      return all
    },
    flush: () => connection.flush(),
    close: () => connection.close(),
  }
}

function headersOf(given: Readonly<Record<string, string>>) {
  const made = headers()
  for (const [name, value] of Object.entries(given)) made.set(name, value)
  return made
}

function heard(message: Msg): Heard {
  const all = Object.fromEntries((message.headers?.keys() ?? []).map((name) => [name, message.headers!.get(name)]))
  return { subject: message.subject, reply: message.reply ?? '', headers: all, bytes: message.data }
}
