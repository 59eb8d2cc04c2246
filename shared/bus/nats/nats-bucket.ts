// Buckets on NATS key-value stores. Reads and writes go through the client's KV; watching is a feed on the stream behind
// the bucket, because it must find back after a reconnect without losing a key's newest value.
import { JetStreamApiError, type JetStreamClient } from '@nats-io/jetstream'
import { type KV, Kvm } from '@nats-io/kv'
import type { Msg } from '@nats-io/transport-node'
import { sleep } from '../../base/clock.ts'
import { ConflictError, textOf, UnavailableError } from '../../base/errors.ts'
import { patiently } from '../../base/patience.ts'
import { apiCode } from '../../nats/nats-api.ts'
import type { KvBucket, KvEntry } from '../port.ts'
import { ShownEntries } from '../shown-entries.ts'
import { NatsFeed } from './nats-feed.ts'
import { type Direct, lastOnSubjects, TooManySubjectsError } from './nats-last.ts'
import type { NatsLink } from './nats-message.ts'

export interface NatsBucketDeps {
  readonly link: NatsLink
  readonly js: JetStreamClient
  readonly feeds: Set<NatsFeed>
  /** Where watching had to start over; it goes on by itself. */
  readonly onWatchError: (error: Error) => void
  /** A bug of whoever watches. */
  readonly onHandlerError: (error: Error) => void
}

/** How long opening goes on while servers elect a leader. */
const openMsMax = 15_000
/** How long a server may be behind a fence, and how soon it is asked again. */
const newestMsMax = 5_000
const againMs = 2
/** How long it takes at most to follow keys that are too many to be told at once. */
const followedMsMax = 30_000
/** Kept from whoever watches. */
const fenceKey = '_fence'
const fenceBytes = new Uint8Array(0)
/** Keys that a server is asked for at once (it takes 1,024). */
const keysAtOnceMax = 512

export async function natsBucket(deps: NatsBucketDeps, name: string, replicas: number): Promise<KvBucket> {
  const { link, js, feeds } = deps
  const bucket = `${link.prefix}-${name}`
  const stream = `KV_${bucket}`
  const subjectOf = (key: string) => `$KV.${bucket}.${key}`
  const keyAt = subjectOf('').length

  async function call<T>(what: string, operation: () => Promise<T>): Promise<T> {
    if (!link.isConnected()) throw new UnavailableError('bus-disconnected', `${bucket}: not connected`)
    try {
      return await link.unlessLost(operation())
    } catch (error) {
      throw kvError(error, `${bucket}: ${what}`)
    }
  }

  async function inTime<T>(answer: Promise<T>, timeoutMs: number | undefined): Promise<T> {
    if (timeoutMs === undefined) return answer
    answer.catch(() => {}) // told below, or too late to matter
    const enough = new AbortController()
    const late = sleep(link.clock, timeoutMs, enough.signal).then(() => {
      throw new UnavailableError('bus-timeout', `${bucket}: no answer within ${timeoutMs} ms`)
    })
    late.catch(() => {}) // told by the race
    try {
      return await Promise.race([answer, late])
    } finally {
      enough.abort()
    }
  }

  /** The fence is among what is asked for, so that something is found and a position is stated. */
  async function fenced(filters: readonly string[]): Promise<readonly Direct[]> {
    const fence = await kv.put(fenceKey, fenceBytes)
    const wanted = { multi_last: [...filters, fenceKey].map(subjectOf) }
    const untilMs = link.clock.monotonic() + newestMsMax
    for (;;) {
      const { found, upToSeq } = await lastOnSubjects(link, stream, wanted, newestMsMax)
      if (upToSeq >= fence) return found
      if (link.clock.monotonic() >= untilMs) {
        throw new UnavailableError('kv-unavailable', `${bucket}: a server is behind revision ${fence}`)
      }
      await sleep(link.clock, againMs)
    }
  }

  async function newest(filters: readonly string[]): Promise<readonly KvEntry[]> {
    try {
      return (await fenced(filters)).map(entryIn).filter(({ key }) => key !== fenceKey)
    } catch (error) {
      if (error instanceof TooManySubjectsError) return followed(filters)
      throw error
    }
  }

  /** However many there are: they are followed, in the order in which they were written, until a fence comes. */
  async function followed(filters: readonly string[]): Promise<readonly KvEntry[]> {
    const fence = await kv.put(fenceKey, fenceBytes)
    const found = new Map<string, KvEntry>()
    let feed: NatsFeed | undefined
    const whole = new Promise<readonly KvEntry[]>((resolve) => {
      feed = new NatsFeed(link, {
        stream,
        filter: (filters.includes('>') ? filters : [...filters, fenceKey]).map(subjectOf),
        from: 'last-per-subject',
        onMessage({ msg, seq }) {
          const entry = entryOf(msg, seq)
          if (entry.key !== fenceKey) found.set(entry.key, entry)
          else if (seq >= fence) resolve([...found.values()])
        },
        onError: deps.onWatchError,
      })
      feeds.add(feed)
    })
    try {
      return await inTime(whole, followedMsMax)
    } finally {
      feeds.delete(feed!)
      await feed!.stop()
    }
  }

  function entryOf({ subject, headers, data }: Msg, revision: number): KvEntry {
    const isGone = headers !== undefined && isMarker(headers.get('KV-Operation'), headers.get('Nats-Marker-Reason'))
    return { key: subject.slice(keyAt), value: isGone ? undefined : data, revision }
  }

  async function serverTimeMs(): Promise<number> {
    const [fence] = await fenced([])
    return Date.parse(fence!.headers['Nats-Time-Stamp'] ?? '')
  }

  function entryIn({ headers, payload }: Direct): KvEntry {
    const isGone = isMarker(headers['KV-Operation'] ?? '', headers['Nats-Marker-Reason'] ?? '')
    const key = (headers['Nats-Subject'] ?? '').slice(keyAt)
    return { key, value: isGone ? undefined : payload, revision: Number(headers['Nats-Sequence']) }
  }

  const open = () =>
    call('open', () =>
      new Kvm(js).create(bucket, { history: 1, replicas, allow_direct: true, storage: 'file' as never }),
    )
  const kv: KV = await patiently(open, { clock: link.clock, withinMs: openMsMax, mayPass: isElection })
  return {
    async get(key) {
      const entry = await call(`get ${key}`, () => kv.get(key))
      if (entry === null) return undefined
      return { key, value: entry.operation === 'PUT' ? entry.value : undefined, revision: entry.revision }
    },
    newest: (filters) => call(`newest ${filters.join(' ')}`, () => newest(filters)),
    serverTimeMs: () => call('time', serverTimeMs),
    create: (key, value, timeoutMs) => call(`create ${key}`, () => inTime(kv.create(key, value), timeoutMs)),
    update: (key, value, expectedRevision, timeoutMs) =>
      call(`update ${key}`, () => inTime(kv.update(key, value, expectedRevision), timeoutMs)),
    put: (key, value, timeoutMs) => call(`put ${key}`, () => inTime(kv.put(key, value), timeoutMs)),
    delete: (key, expectedRevision) =>
      call(`delete ${key}`, () =>
        kv.delete(key, expectedRevision === undefined ? {} : { previousSeq: expectedRevision }),
      ),
    watch(filter, onEntry, onReady, onSettled) {
      let isReady = false
      const entries = new ShownEntries()
      const settled = async () => {
        await settleDoubts()
        if (!isReady) {
          isReady = true
          onReady()
        }
        onSettled?.()
      }
      /** A feed brings again what its handler throws at, and nothing behind it: no entry may have that effect. */
      const shown = (entry: KvEntry) => {
        try {
          onEntry(entry)
        } catch (cause) {
          const text = `${bucket}: ${entry.key} at revision ${entry.revision} was not heard: ${textOf(cause)}`
          deps.onHandlerError(new Error(text, { cause }))
        }
      }
      const settleDoubts = async () => {
        const doubtful = entries.doubtful()
        const found = new Map<string, Direct>()
        for (let at = 0; at < doubtful.length; at += keysAtOnceMax) {
          for (const each of await fenced(doubtful.slice(at, at + keysAtOnceMax))) found.set(entryIn(each).key, each)
        }
        entries.end()
        for (const key of doubtful) {
          const stands = found.get(key)
          const entry = stands === undefined ? { key, value: undefined, revision: 0 } : entryIn(stands)
          const storedAtMs = Date.parse(stands?.headers['Nats-Time-Stamp'] ?? '')
          if (entries.isNews(entry, storing(entry.revision, storedAtMs))) shown(entry)
        }
      }
      const feed = new NatsFeed(link, {
        stream,
        filter: subjectOf(filter),
        from: 'last-per-subject',
        onStart(isWhole) {
          if (isWhole) entries.begin()
        },
        onMessage({ msg, seq, storedAtMs }) {
          const entry = entryOf(msg, seq)
          if (entry.key !== fenceKey && entries.isNews(entry, storing(seq, storedAtMs))) shown(entry)
        },
        onEnd: settled,
        onError: deps.onWatchError,
      })
      feeds.add(feed)
      return {
        stop() {
          feeds.delete(feed)
          void feed.stop()
        },
      }
    },
  }
}

function storing(revision: number, storedAtMs: number): string {
  return `${revision} ${storedAtMs}`
}

/** Deletions are messages of their own; so is what the server leaves where a value expired. */
function isMarker(operation: string, reason: string): boolean {
  return operation === 'DEL' || operation === 'PURGE' || reason !== ''
}

/** The server says so, or does not answer. */
function isElection({ code, cause }: UnavailableError): boolean {
  return code === 'bus-timeout' || (cause instanceof JetStreamApiError && cause.code === apiCode.noLeader)
}

function kvError(error: unknown, what: string): Error {
  if (error instanceof UnavailableError) return error
  const text = `${what}: ${textOf(error)}`
  if (error instanceof JetStreamApiError && error.code === apiCode.wrongLastSequence) {
    return new ConflictError('kv-conflict', text, { cause: error })
  }
  const name = error instanceof Error ? error.name : ''
  if (name === 'TimeoutError') return new UnavailableError('bus-timeout', text, { cause: error })
  return new UnavailableError('kv-unavailable', text, { cause: error })
}
