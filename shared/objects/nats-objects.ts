// Objects on JetStream, in the layout of NATS' own object store (docs/formats/objects.md): what lies there can be listed and fetched with the
// nats CLI. Buckets by time, so that what is old leaves in whole streams.
//
// Invariants
//   OBJECT-1  An object is visible by its info, and its info is stored last, by one compare-and-set: never a half, never two.
//   OBJECT-2  Parts are found by their sequences in the info, and must stand under the object's own subject and keep their checksums: a server
//       that lost them, or gave their sequences to others, is answered by `object-damaged`.
//   OBJECT-3  The info goes first and the parts after it: whatever breaks off leaves parts that no info names, for `sweep`.
//   OBJECT-4  Parts are never taken away while an info may still come to name them.
import { hash, randomUUID } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { assert } from '../base/assert.ts'
import { CarillonError, CorruptError, UnavailableError } from '../base/errors.ts'
import { ApiError, apiCode } from '../nats/nats-api.ts'
import { sha256Of } from '../wire/sha256.ts'
import { Deadline } from './deadline.ts'
import {
  damaged,
  exists,
  isDamage,
  type Layout,
  layOut,
  missing,
  parseLayout,
  readRange,
  storedSizeOf,
  verifyWhole,
} from './layout.ts'
import { bucketOfPrefix, checkName } from './names.ts'
import { type BucketLimits, NatsBuckets } from './nats-buckets.ts'
import { type NatsObjectsOptions, NoRespondersError, ObjectConnection, parsedJson } from './nats-connection.ts'
import type { NatsStream, StoredMessage } from './nats-stream.ts'
import {
  CREATE_MS_MAX,
  type CreateCall,
  type ObjectCall,
  type ObjectInfo,
  type ObjectStore,
  SWEEP_AGE_MS_MIN,
  type Swept,
} from './port.ts'

export interface NatsObjects extends ObjectStore {
  readonly kind: 'jetstream'
  /** Makes the first bucket; later ones take its limits over, and those that are there get them. Idempotent. */
  setUp(limits: BucketLimits, call: ObjectCall): Promise<void>
}

/** Parts under way at once, of one create. */
const appendsMax = 4
/** Times that a create begins anew after a part got lost. */
const triesMax = 3
/** Infos remembered; an object never changes, and one that is gone is found out when its parts are. */
const foundMax = 4_096
/** Infos asked for at once by a list. */
const asksMax = 32
const cleanUpMs = 2_000

/** An object's info as it was found. */
interface Found {
  readonly info: ObjectInfo
  readonly layout: Layout
  readonly nuid: string
  readonly seqs: readonly number[]
}

/** What stands under an object's name: nothing, what `nats object rm` leaves, or what is to be replaced. */
interface Vacant {
  readonly lastSeq: number
  /** Of what stands there damaged. */
  readonly damagedNuid?: string
}

/** The message that makes an object visible. Go's client wants `mtime` and ignores what we add under `metadata`. */
interface InfoMessage {
  readonly name: string
  readonly bucket: string
  readonly nuid: string
  readonly size: number
  readonly chunks: number
  readonly digest: string
  readonly deleted?: boolean
  readonly mtime: string
  readonly options: { readonly max_chunk_size: number }
  readonly metadata?: { readonly carillon?: string }
}

const textOfName = (name: string) => Buffer.from(name).toString('base64').replaceAll('+', '-').replaceAll('/', '_')
const nameOfText = (text: string) => Buffer.from(text, 'base64url').toString()

export async function natsObjects(options: NatsObjectsOptions): Promise<NatsObjects> {
  const connection = await ObjectConnection.open(options)
  return new JetStreamObjects(connection, options)
}

class JetStreamObjects implements NatsObjects {
  readonly kind = 'jetstream'
  readonly #connection: ObjectConnection
  readonly #options: NatsObjectsOptions
  readonly #buckets: NatsBuckets
  readonly #found = new LRUCache<string, Found>({ max: foundMax })

  constructor(connection: ObjectConnection, options: NatsObjectsOptions) {
    this.#connection = connection
    this.#options = options
    this.#buckets = new NatsBuckets(connection, options.prefix ?? 'cln')
  }

  // ---- making ----

  async create(name: string, bytes: Uint8Array, call: CreateCall): Promise<ObjectInfo> {
    checkName(name)
    assert(call.timeoutMs <= CREATE_MS_MAX, `a create of ${call.timeoutMs} ms`)
    const deadline = this.#deadline(call, `create of ${name}`)
    const stream = this.#buckets.of(name)
    let standing = call.heals
      ? await this.#soundAtLeader(stream, name, deadline)
      : await this.#standsAtLeader(stream, name, deadline)
    const isVerified = call.heals && !('lastSeq' in standing)
    if ('lastSeq' in standing) {
      const { layout, parts } = await layOut(bytes, { packs: true })
      standing = await this.#upload({ stream, name, layout, parts, vacant: standing }, deadline)
    }
    const { layout, info } = standing
    if (layout.sha256 !== sha256Of(bytes)) throw exists(name)
    if (call.readBack && !isVerified) await this.#verify(stream, standing, deadline)
    return info
  }

  /** What is damaged counts as vacant: its place is taken by compare-and-set, its parts go afterwards (OBJECT-3). */
  async #soundAtLeader(stream: NatsStream, name: string, deadline: Deadline): Promise<Found | Vacant> {
    const message = await stream.getFromLeader({ last_by_subj: `${stream.root}.M.${textOfName(name)}` }, deadline)
    if (message === undefined) return { lastSeq: 0 }
    try {
      const standing = this.#parse(stream, name, message)
      if (!('lastSeq' in standing)) await this.#verify(stream, standing, deadline)
      return standing
    } catch (error) {
      if (!isDamage(error)) throw error
      this.#found.delete(name)
      const nuid = nuidIn(name, message)
      return { lastSeq: message.seq, ...(typeof nuid === 'string' && { damagedNuid: nuid }) }
    }
  }

  async #upload(upload: Upload, deadline: Deadline): Promise<Found> {
    for (let tryNumber = 1; ; tryNumber++) {
      const nuid = randomUUID().replaceAll('-', '')
      let seqs: number[]
      try {
        if (upload.parts.length === 0) await this.#buckets.make(upload.name, deadline)
        seqs = await this.#appendParts(upload, `${upload.stream.root}.C.${nuid}`, deadline)
      } catch (error) {
        const why = await this.#cleanUp(upload.stream, nuid, error)
        if (why instanceof NoRespondersError) await this.#buckets.make(upload.name, deadline)
        else if (!(why instanceof UnavailableError) || why.code !== 'objects-unavailable') throw why
        if (tryNumber === triesMax || deadline.signal?.aborted) throw why
        deadline.left()
        continue
      }
      return await this.#appendInfo(upload, nuid, seqs, deadline)
    }
  }

  /** The sequences; they rise, as readers that replay the subject expect. */
  async #appendParts({ stream, name, parts }: Upload, subject: string, deadline: Deadline): Promise<number[]> {
    if (parts.length === 0) return []
    const seqs: number[] = []
    let next = 0
    const appender = async () => {
      while (next < parts.length) {
        const index = next++
        seqs[index] = (await this.#connection.api.append(subject, parts[index] as Uint8Array, deadline)).seq
      }
    }
    const appenders = Array.from({ length: Math.min(appendsMax, parts.length) }, appender)
    const outcomes = await Promise.allSettled(appenders)
    const failed = outcomes.find((outcome) => outcome.status === 'rejected')
    if (failed !== undefined) throw failed.reason
    const isRising = seqs.every((seq, index) => index === 0 || seq > (seqs[index - 1] as number))
    if (!isRising) throw new UnavailableError('objects-unavailable', `${stream.name}: parts of ${name} out of order`)
    return seqs
  }

  /** OBJECT-1. A lost answer is found out by asking for what stands there; nothing is stored twice, for it may have been deleted since. */
  async #appendInfo(upload: Upload, nuid: string, seqs: number[], deadline: Deadline): Promise<Found> {
    const { stream, name, layout, vacant } = upload
    const subject = `${stream.root}.M.${textOfName(name)}`
    const head = { 'Nats-Expected-Last-Subject-Sequence': String(vacant.lastSeq), 'Nats-Rollup': 'sub' }
    const message = Buffer.from(JSON.stringify(infoMessage(upload, nuid, seqs)))
    try {
      await this.#connection.api.append(subject, message, deadline, head)
    } catch (error) {
      const isLost = error instanceof ApiError && error.errCode === apiCode.wrongLastSequence
      const isUnknown = error instanceof UnavailableError && !(error instanceof ApiError)
      if (error instanceof NoRespondersError || !(isLost || isUnknown)) {
        await this.#cleanUp(stream, nuid, undefined)
        throw error
      }
      const standing = await this.#standsAtLeader(stream, name, deadline)
      if ('lastSeq' in standing) throw isLost ? vanished(name) : error // OBJECT-4: its parts stay
      if (standing.nuid === vacant.damagedNuid) throw error // OBJECT-4: as it was
      if (standing.nuid !== nuid) await this.#cleanUp(stream, nuid, undefined)
      return standing
    }
    if (vacant.damagedNuid !== undefined) await this.#cleanUp(stream, vacant.damagedNuid, undefined)
    const { size, sha256 } = layout
    const storedAtMs = this.#options.clock.now()
    return { info: { name, size, sha256, storedSize: storedSizeOf(layout), storedAtMs }, layout, nuid, seqs }
  }

  /** Best effort: what stays is swept later. A disk that is full tells so here and nowhere else. */
  async #cleanUp(stream: NatsStream, nuid: string, error: unknown): Promise<unknown> {
    if (error instanceof NoRespondersError) return error
    try {
      const deadline = this.#deadline({ timeoutMs: cleanUpMs }, 'clean-up')
      await stream.purge(`${stream.root}.C.${nuid}`, deadline)
      return error
    } catch (second) {
      if (!(second instanceof CarillonError)) throw second
      return second.code === 'objects-full' ? second : error
    }
  }

  // ---- reading ----

  async info(name: string, call: ObjectCall): Promise<ObjectInfo | undefined> {
    checkName(name)
    const standing = await this.#stands(this.#buckets.of(name), name, this.#deadline(call, `info of ${name}`))
    return 'lastSeq' in standing ? undefined : standing.info
  }

  async read(name: string, range: { start: number; end: number }, call: ObjectCall): Promise<Uint8Array> {
    checkName(name)
    const deadline = this.#deadline(call, `read of ${name}`)
    const stream = this.#buckets.of(name)
    const found = this.#found.get(name) ?? (await this.#stands(stream, name, deadline))
    if ('lastSeq' in found) throw missing(name)
    try {
      return await readRange(name, found.layout, range, (index) => this.#part(stream, found, index, deadline))
    } catch (error) {
      if (!(error instanceof CarillonError) || error.kind !== 'corrupt') throw error
      this.#found.delete(name)
      const now = await this.#standsAtLeader(stream, name, deadline) // what was known may be gone, or another by now
      if ('lastSeq' in now) throw missing(name)
      if (now.nuid === found.nuid) throw error
      return readRange(name, now.layout, range, (index) => this.#part(stream, now, index, deadline))
    }
  }

  #verify(stream: NatsStream, found: Found, deadline: Deadline): Promise<void> {
    const { layout, info } = found
    return verifyWhole(info.name, layout, (index) => this.#part(stream, found, index, deadline))
  }

  /** OBJECT-2 */
  async #part(stream: NatsStream, { info, nuid, seqs, layout }: Found, index: number, deadline: Deadline) {
    const wanted = { seq: seqs[index] as number }
    const subject = `${stream.root}.C.${nuid}`
    const isRight = (part: StoredMessage | undefined) =>
      part?.subject === subject && part.payload.length === layout.sizes[index]
    let part = await stream.get(wanted, deadline)
    if (!isRight(part)) part = await stream.getFromLeader(wanted, deadline)
    if (part === undefined || !isRight(part)) throw damaged(info.name, `part ${index} is not in ${stream.name}`)
    return part.payload
  }

  /** From any replica: it may know of an object a little longer than the leader does. */
  async #stands(stream: NatsStream, name: string, deadline: Deadline): Promise<Found | Vacant> {
    const message = await stream.get({ last_by_subj: `${stream.root}.M.${textOfName(name)}` }, deadline)
    return message === undefined ? { lastSeq: 0 } : this.#parse(stream, name, message)
  }

  async #standsAtLeader(stream: NatsStream, name: string, deadline: Deadline): Promise<Found | Vacant> {
    const message = await stream.getFromLeader({ last_by_subj: `${stream.root}.M.${textOfName(name)}` }, deadline)
    return message === undefined ? { lastSeq: 0 } : this.#parse(stream, name, message)
  }

  #parse(stream: NatsStream, name: string, { payload, seq, storedAtMs }: StoredMessage): Found | Vacant {
    const message = parsedJson(name, payload) as Partial<InfoMessage>
    if (message.deleted === true) return { lastSeq: seq }
    const { nuid, metadata } = message
    if (message.name !== name || typeof nuid !== 'string' || metadata?.carillon === undefined) {
      throw damaged(name, `what stands in ${stream.name} was not written by Carillon`)
    }
    const own = parsedJson(name, Buffer.from(metadata.carillon)) as { seqs?: unknown }
    const layout = parseLayout(name, own)
    const { seqs } = own
    if (!Array.isArray(seqs) || seqs.length !== layout.crcs.length) throw damaged(name, 'its parts have no sequences')
    const { size, sha256 } = layout
    const info = { name, size, sha256, storedSize: storedSizeOf(layout), storedAtMs }
    const found = { info, layout, nuid, seqs: seqs as number[] }
    this.#found.set(name, found)
    return found
  }

  async list(prefix: string, call: ObjectCall): Promise<ObjectInfo[]> {
    const deadline = this.#deadline(call, `list of ${prefix}`)
    const found: ObjectInfo[] = []
    const bucket = bucketOfPrefix(prefix)
    const streams = bucket === undefined ? await this.#buckets.all(deadline) : [this.#buckets.of(prefix)]
    for (const stream of streams) {
      const { whole, damaged: unreadable } = await this.#foundIn(stream, prefix, deadline)
      found.push(...whole.map(({ info }) => info), ...unreadable)
    }
    return found
  }

  async #foundIn(stream: NatsStream, prefix: string, deadline: Deadline) {
    const root = `${stream.root}.M.`
    const names = (await stream.subjects(`${root}>`, deadline))
      .map((subject) => nameOfText(subject.slice(root.length)))
      .filter((name) => name.startsWith(prefix))
    const whole: Found[] = []
    const damaged: ObjectInfo[] = []
    const ask = async (name: string) => {
      const subject = `${root}${textOfName(name)}`
      const message = await stream.getFromLeader({ last_by_subj: subject }, deadline) // OBJECT-4: a replica behind would name old parts
      if (message === undefined) return
      try {
        const standing = this.#parse(stream, name, message)
        if (!('lastSeq' in standing)) whole.push(standing)
      } catch (error) {
        if (!(error instanceof CorruptError)) throw error
        const { storedAtMs } = message
        damaged.push({ name, size: 0, sha256: '', storedSize: 0, storedAtMs, damage: error.message })
      }
    }
    const asker = async () => {
      for (let name = names.pop(); name !== undefined; name = names.pop()) await ask(name)
    }
    await Promise.all(Array.from({ length: asksMax }, asker))
    return { whole, damaged }
  }

  // ---- taking away ----

  async delete(name: string, call: ObjectCall): Promise<void> {
    checkName(name)
    const deadline = this.#deadline(call, `delete of ${name}`)
    const stream = this.#buckets.of(name)
    const subject = `${stream.root}.M.${textOfName(name)}`
    const message = await stream.getFromLeader({ last_by_subj: subject }, deadline)
    this.#found.delete(name)
    if (message === undefined) return
    const nuid = nuidIn(name, message)
    await stream.purge(subject, deadline) // OBJECT-3
    if (typeof nuid === 'string') await stream.purge(`${stream.root}.C.${nuid}`, deadline)
  }

  async sweep(olderThanMs: number, call: ObjectCall): Promise<Swept> {
    assert(olderThanMs >= SWEEP_AGE_MS_MIN, `a sweep of ${olderThanMs} ms`)
    const deadline = this.#deadline(call, 'sweep')
    let [count, bytes] = [0, 0]
    for (const stream of await this.#buckets.all(deadline)) {
      const root = `${stream.root}.C.`
      const subjects = await stream.subjects(`${root}>`, deadline) // before the infos: one that comes in between is seen
      const { whole, damaged: unreadable } = await this.#foundIn(stream, '', deadline)
      if (unreadable.length > 0) continue // whose parts are whose, nobody knows
      const named = new Set(whole.map(({ nuid }) => `${root}${nuid}`))
      for (const subject of subjects.filter((each) => !named.has(each))) {
        const last = await stream.getFromLeader({ last_by_subj: subject }, deadline)
        if (last === undefined || last.storedAtMs > this.#options.clock.now() - olderThanMs) continue
        const purgedCount = await stream.purge(subject, deadline)
        bytes += purgedCount * last.payload.length
        count += 1
      }
    }
    return { count, bytes }
  }

  setUp(limits: BucketLimits, call: ObjectCall): Promise<void> {
    return this.#buckets.setUp(limits, this.#deadline(call, 'making the first bucket of blocks'))
  }

  #deadline(call: ObjectCall, what: string): Deadline {
    return new Deadline(this.#options.clock, call, what)
  }

  close(): Promise<void> {
    return this.#connection.close()
  }
}

/** Undefined where the info is damaged: it goes all the same, and its parts are swept. */
function nuidIn(name: string, { payload }: StoredMessage): unknown {
  try {
    return (parsedJson(name, payload) as Partial<InfoMessage>).nuid
  } catch (error) {
    if (error instanceof CorruptError) return undefined
    throw error
  }
}

function vanished(name: string): UnavailableError {
  return new UnavailableError('objects-unavailable', `object ${name} was made by another and deleted again meanwhile`)
}

interface Upload {
  readonly stream: NatsStream
  readonly name: string
  readonly layout: Layout
  readonly parts: readonly Uint8Array[]
  readonly vacant: Vacant
}

function infoMessage({ stream, name, layout, parts }: Upload, nuid: string, seqs: readonly number[]): InfoMessage {
  const stored = hash('sha256', Buffer.concat(parts), 'base64')
  return {
    name,
    bucket: stream.name.slice('OBJ_'.length),
    nuid,
    size: storedSizeOf(layout),
    chunks: parts.length,
    digest: `SHA-256=${stored.replaceAll('+', '-').replaceAll('/', '_')}`,
    mtime: '0001-01-01T00:00:00Z', // the server's time of the message counts
    options: { max_chunk_size: layout.partBytes },
    metadata: { carillon: JSON.stringify({ ...layout, seqs }) },
  }
}
