// One stream of the JetStream object store's layout, as messages: which there are, reading one, taking them away. Any replica answers a
// direct read, also one that is behind or damaged: only the leader's word counts for what is not there.

import { ApiError, apiCode } from '../nats/nats-api.ts'
import type { Deadline } from './deadline.ts'
import { NoRespondersError, type ObjectConnection } from './nats-connection.ts'

export interface StoredMessage {
  readonly seq: number
  readonly subject: string
  readonly payload: Uint8Array
  readonly storedAtMs: number
}

/** What to read: one sequence, or the newest of a subject. */
export type Wanted = { readonly seq: number } | { readonly last_by_subj: string }

export class NatsStream {
  readonly name: string
  /** `$O.<bucket>` */
  readonly root: string
  readonly #connection: ObjectConnection

  constructor(connection: ObjectConnection, bucket: string) {
    this.#connection = connection
    this.name = `OBJ_${bucket}`
    this.root = `$O.${bucket}`
  }

  /** From whichever replica answers first, then from the leader. Undefined: neither the message is there, nor maybe the stream. */
  async get(wanted: Wanted, deadline: Deadline): Promise<StoredMessage | undefined> {
    try {
      const reply = await this.#connection.ask(
        `$JS.API.DIRECT.GET.${this.name}`,
        Buffer.from(JSON.stringify(wanted)),
        deadline,
      )
      if ((reply.headers?.code ?? 0) === 0) {
        return {
          seq: Number(reply.headers?.get('Nats-Sequence')),
          subject: reply.headers?.get('Nats-Subject') ?? '',
          payload: reply.data,
          storedAtMs: Date.parse(reply.headers?.get('Nats-Time-Stamp') ?? ''),
        }
      }
    } catch (error) {
      if (!(error instanceof NoRespondersError)) throw error
    }
    return this.getFromLeader(wanted, deadline)
  }

  async getFromLeader(wanted: Wanted, deadline: Deadline): Promise<StoredMessage | undefined> {
    interface Reply {
      readonly message: {
        readonly subject: string
        readonly seq: number
        readonly time: string
        readonly data?: string
      }
    }
    const reply = await orGone(this.#connection.api.call<Reply>(`STREAM.MSG.GET.${this.name}`, wanted, deadline))
    if (reply === undefined) return undefined
    const { subject, seq, time, data = '' } = reply.message
    return { subject, seq, payload: Buffer.from(data, 'base64'), storedAtMs: Date.parse(time) }
  }

  /** Subjects that match, after the leader. None when there is no stream. */
  async subjects(filter: string, deadline: Deadline): Promise<string[]> {
    interface Reply {
      readonly total?: number
      readonly state: { readonly subjects?: Readonly<Record<string, number>> }
    }
    const found: string[] = []
    for (;;) {
      const body = { subjects_filter: filter, offset: found.length }
      const reply = await orGone(this.#connection.api.call<Reply>(`STREAM.INFO.${this.name}`, body, deadline))
      const page = Object.keys(reply?.state.subjects ?? {})
      found.push(...page)
      if (page.length === 0 || found.length >= (reply?.total ?? 0)) return found
    }
  }

  /** Takes away every message of a subject; how many there were. */
  async purge(subject: string, deadline: Deadline): Promise<number> {
    const reply = await orGone(
      this.#connection.api.call<{ purged: number }>(`STREAM.PURGE.${this.name}`, { filter: subject }, deadline),
    )
    return reply?.purged ?? 0
  }
}

/** Undefined where the server says that there is no such message, or no such stream. */
async function orGone<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer
  } catch (error) {
    const isGone =
      error instanceof ApiError &&
      (error.errCode === apiCode.messageNotFound || error.errCode === apiCode.streamNotFound)
    if (isGone) return undefined
    throw error
  }
}
