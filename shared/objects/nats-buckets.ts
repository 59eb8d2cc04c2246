// The buckets of objects: streams in the layout of NATS' own object store, one per stretch of time (names.ts). The first, `meta`, is made by
// setup; whoever stores the first object of another makes that, with the limits of the first.

import { UnavailableError } from '../base/errors.ts'
import { ApiError, apiCode } from '../nats/nats-api.ts'
import type { Deadline } from './deadline.ts'
import { bucketOf } from './names.ts'
import type { ObjectConnection } from './nats-connection.ts'
import { NatsStream } from './nats-stream.ts'

export interface BucketLimits {
  /** Copies that the NATS servers keep. */
  readonly replicas: number
  /** Of each bucket; 0 leaves it to the limits of the server. */
  readonly bytesMax: number
}

interface StreamConfig {
  readonly name: string
  readonly num_replicas: number
  readonly max_bytes: number
}

export class NatsBuckets {
  readonly #connection: ObjectConnection
  readonly #prefix: string

  constructor(connection: ObjectConnection, prefix: string) {
    this.#connection = connection
    this.#prefix = `${prefix}-blocks-`
  }

  /** The one that objects of this name lie in, made or not. */
  of(name: string): NatsStream {
    return new NatsStream(this.#connection, `${this.#prefix}${bucketOf(name)}`)
  }

  /** Those that are made. */
  async all(deadline: Deadline): Promise<NatsStream[]> {
    const names: string[] = []
    for (;;) {
      const body = { offset: names.length }
      const page = await this.#connection.api.call<{ total: number; streams: string[] | null }>(
        'STREAM.NAMES',
        body,
        deadline,
      )
      names.push(...(page.streams ?? []))
      if ((page.streams ?? []).length === 0 || names.length >= page.total) break
    }
    return names
      .filter((name) => name.startsWith(`OBJ_${this.#prefix}`))
      .map((name) => new NatsStream(this.#connection, name.slice('OBJ_'.length)))
  }

  /** Makes the first, and gives all that are there its limits. */
  async setUp(limits: BucketLimits, deadline: Deadline): Promise<void> {
    const wanted = streamConfig(`${this.#prefix}meta`, limits)
    const config = await this.#configOf(`${this.#prefix}meta`, deadline)
    if (config === undefined) await this.#connection.api.call(`STREAM.CREATE.${wanted.name}`, wanted, deadline)
    const { num_replicas, max_bytes } = wanted
    for (const { name } of await this.all(deadline)) {
      const own = await this.#configOf(name.slice('OBJ_'.length), deadline)
      if (own === undefined || (own.num_replicas === num_replicas && own.max_bytes === max_bytes)) continue
      await this.#connection.api.call(`STREAM.UPDATE.${name}`, { ...own, num_replicas, max_bytes }, deadline)
    }
  }

  /** The bucket of this name, as large and as often kept as the first one. */
  async make(name: string, deadline: Deadline): Promise<void> {
    const like = await this.#configOf(`${this.#prefix}meta`, deadline)
    if (like === undefined) {
      const what = `the bucket ${this.#prefix}meta is not there; has \`carillon setup\` run?`
      throw new UnavailableError('objects-unavailable', what)
    }
    const bucket = `${this.#prefix}${bucketOf(name)}`
    const config = streamConfig(bucket, { replicas: like.num_replicas, bytesMax: Math.max(0, like.max_bytes) })
    try {
      await this.#connection.api.call(`STREAM.CREATE.${config.name}`, config, deadline)
    } catch (error) {
      if (!(error instanceof ApiError && error.errCode === apiCode.streamNameInUse)) throw error
    }
  }

  async #configOf(bucket: string, deadline: Deadline): Promise<StreamConfig | undefined> {
    try {
      return (
        await this.#connection.api.call<{ config: StreamConfig }>(`STREAM.INFO.OBJ_${bucket}`, undefined, deadline)
      ).config
    } catch (error) {
      if (error instanceof ApiError && error.errCode === apiCode.streamNotFound) return undefined
      throw error
    }
  }
}

function streamConfig(bucket: string, { replicas, bytesMax }: BucketLimits): StreamConfig & Record<string, unknown> {
  return {
    name: `OBJ_${bucket}`,
    description: 'blocks of Carillon',
    subjects: [`$O.${bucket}.C.>`, `$O.${bucket}.M.>`],
    storage: 'file',
    retention: 'limits',
    discard: 'new',
    max_bytes: bytesMax === 0 ? -1 : bytesMax,
    max_msgs: -1,
    max_msgs_per_subject: -1,
    max_msg_size: -1,
    max_age: 0,
    max_consumers: -1,
    num_replicas: replicas,
    allow_rollup_hdrs: true,
    allow_direct: true,
  }
}
