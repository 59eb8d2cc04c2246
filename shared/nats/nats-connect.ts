// A connection to NATS, as every room wants it: it reconnects for ever, notices a server that hangs, and dials the others before it.

import {
  connect,
  type NatsConnection,
  type NodeConnectionOptions,
  type ReconnectToServerHandler,
} from '@nats-io/transport-node'
import type { UnavailableCode } from '../base/error-codes.ts'
import { textOf, UnavailableError } from '../base/errors.ts'

export interface NatsAddress {
  readonly servers: string | readonly string[]
  /** Before every subject; `cln` unless set. */
  readonly prefix?: string
  /** Shown by the server beside the connection. */
  readonly name: string
  readonly user?: string
  readonly password?: string
  readonly token?: string
}

const connectTimeoutMs = 5_000
const reconnectMs = 250
/** A server that is stopped but not gone is left after two to three of these without an answer. */
const pingMs = 2_000

/** Rejects with UnavailableError of this code when no server answers now; later losses heal by themselves. */
export async function connectTo(address: NatsAddress, code: UnavailableCode): Promise<NatsConnection> {
  const { servers, prefix = 'cln', name } = address
  try {
    return await connect({
      ...credentialsOf(address),
      servers: typeof servers === 'string' ? servers : [...servers],
      name,
      inboxPrefix: `${prefix}.inbox`,
      timeout: connectTimeoutMs,
      maxReconnectAttempts: -1,
      reconnectTimeWait: reconnectMs,
      reconnectJitter: reconnectMs,
      pingInterval: pingMs,
      maxPingOut: 2,
      ignoreAuthErrorAbort: true,
      reconnectToServer: dialledLongestAgo(),
    })
  } catch (error) {
    throw new UnavailableError(code, `no NATS server at ${servers}: ${textOf(error)}`, { cause: error })
  }
}

/** What the server is told of who connects. */
function credentialsOf({ user, password, token }: NatsAddress): NodeConnectionOptions {
  return {
    ...(user !== undefined && { user }),
    ...(password !== undefined && { pass: password }),
    ...(token !== undefined && { token }),
  }
}

/** The server just lost comes last: it may hang, and then a dial of it takes its whole time. */
function dialledLongestAgo(): ReconnectToServerHandler {
  const turns = new Map<string, number>()
  let count = 0
  return (pool) => {
    const turnOf = ({ listen }: { listen: string }) => turns.get(listen) ?? 0
    const next = pool.toSorted((a, b) => turnOf(a) - turnOf(b))[0]
    if (next === undefined) return null
    turns.set(next.listen, ++count)
    return next
  }
}
