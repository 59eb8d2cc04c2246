// The port to the message bus: what every bus (NATS, memory) offers, and all that the rest of the bus room builds on.
//
// Subjects and names here are relative: the bus puts its prefix (`cln` unless set otherwise) in front of subjects
// (`log.0.batch` → `cln.log.0.batch`) and of stream and bucket names (`log-0` → stream `cln-log-0`).
//
// Errors: every call that cannot be carried out now rejects with UnavailableError, its code one of
//   bus-disconnected | bus-timeout | bus-silent | bus-no-responders | log-full | log-unavailable | kv-unavailable
// A lost compare-and-set rejects with ConflictError (code `log-conflict` or `kv-conflict`).
// After a timeout or a lost connection the fate of a write is unknown: it may have been stored.
// A message published while the connection is down is dropped: core messages are delivered at most once.
import type { Clock } from '../base/clock.ts'
import type { Subscription } from '../base/listeners.ts'

export type BusHeaders = Readonly<Record<string, string>>

/** On a message that the server itself sends to an inbox: `503` when what was published from there reached nobody. */
export const statusHeader = 'Nats-Status'

/** On what an actor sends now and then while it is at work on a question whose asker wants to know (`silenceMs`). */
export const signHeader = 'Carillon-Sign'

export interface BusMessage {
  readonly subject: string
  /** To publish the answer on: opaque, because who asks without this bus has an inbox outside the prefix. */
  readonly replyTo: string | undefined
  readonly headers: BusHeaders
  /** Never written again by the bus, so it may be kept; a small one may pin a larger buffer it was read into. */
  readonly payload: Uint8Array
}

export interface BusSubscription extends Subscription {
  /** Asks for no more; resolves when what the server had sent before has been delivered. Absent where nothing is on the way. */
  drain?(): Promise<void>
}

export interface RequestOptions {
  readonly timeoutMs: number
  /** Rejects with `bus-silent` when neither the answer nor a sign of life has come for this long. */
  readonly silenceMs?: number | undefined
  readonly headers?: BusHeaders
  readonly signal?: AbortSignal
}

export interface Bus {
  readonly kind: 'nats' | 'memory'
  /** The time this connection lives by: its timeouts, and those of everything built on it. */
  readonly clock: Clock
  /** The largest payload one message carries, bytes (the server's max_payload less room for headers). */
  readonly payloadBytesMax: number
  isConnected(): boolean
  /** Called with true after a (re)connect and false after a loss, until it is stopped. */
  onConnection(listener: (isConnected: boolean) => void): Subscription

  publish(subject: string, payload: Uint8Array, options?: { headers?: BusHeaders; replyTo?: string }): void
  /** `subject` may hold `*` and a last `>`. Within one `queue` only one subscriber gets each message. */
  subscribe(subject: string, options: { queue?: string }, onMessage: (message: BusMessage) => void): BusSubscription
  request(subject: string, payload: Uint8Array, options: RequestOptions): Promise<BusMessage>
  /** A fresh subject (relative like all others) that only this connection listens to. */
  inbox(): string

  readonly logs: LogStore
  /** Opens a bucket, creating it when it does not exist; waits for a leader while one is being elected. */
  bucket(name: string, options?: { replicas?: number }): Promise<KvBucket>
  /** What the server says of itself; asked again at each call. */
  server(): Promise<ServerFacts>
  /** Stops deliveries, flushes what was published, closes. */
  close(): Promise<void>
}

/** How much an acknowledged append survives. `unknown`: the server would not tell. */
export type Durability = 'power-loss-safe' | 'process-crash-safe' | 'best-effort' | 'unknown'

export interface ServerFacts {
  readonly version: string
  readonly url: string
  readonly durability: Durability
  /** Why that class, in one sentence for a person. */
  readonly durabilityReason: string
}

export interface LogConfig {
  /** Stream name, e.g. `log-0`. */
  readonly name: string
  /** Subjects it keeps, e.g. [`log.0.>`]. */
  readonly subjects: readonly string[]
  readonly bytesMax: number
  readonly replicas: number
  readonly duplicateWindowMs: number
  /** Of the first message, if the log does not exist yet; 1 unless told. */
  readonly originSeq?: number
}

export interface LogState {
  /** 0 when the log has never held a message. */
  readonly firstSeq: number
  readonly lastSeq: number
  readonly bytes: number
  readonly bytesMax: number
  /** Copies that the servers keep. */
  readonly replicas: number
  /** Changes when the stream was deleted and made anew. */
  readonly incarnation: string
  /** The sequence that its first message had or will have. */
  readonly originSeq: number
}

export interface LogMessage {
  readonly seq: number
  readonly subject: string
  readonly payload: Uint8Array
  readonly messageId: string | undefined
  /** Server time of storing, ms since 1970; never an input to what applying makes (LOG-9). */
  readonly storedAtMs: number
}

export interface AppendOptions {
  readonly timeoutMs: number
  /** Within the duplicate window a second append with this id stores nothing and answers the first sequence. */
  readonly messageId?: string
  /** Compare-and-set: the last message on this very subject has this sequence (0: there is none). */
  readonly expectedLastSubjectSeq?: number
}

export interface LogConsumer {
  /** Resolves when the handler at work is done; no message is delivered any more. Not to be awaited inside the handler. */
  stop(): Promise<void>
}

/** Append-only logs: JetStream streams. No call is retried inside: the caller knows what a retry means. */
export interface LogStore {
  /** Creates the log when it is missing, checks it when it exists: its bytes and copies grow to what is asked for. Rejects with RefusedError
   *  (code `log-config`) when the server holds anything else. */
  ensure(config: LogConfig): Promise<LogState>
  state(log: string): Promise<LogState>
  /** A payload larger than the bus carries rejects with RefusedError (code `err-carillon-too-large`). */
  append(
    log: string,
    subject: string,
    payload: Uint8Array,
    options: AppendOptions,
  ): Promise<{ seq: number; isDuplicate: boolean }>
  /** The newest message on each of `subjects`, exact for every position up to `upToSeq` (the direct get `multi_last` and
   *  the `Nats-UpTo-Sequence` of its end message). May be answered by a replica that is behind: compare `upToSeq`. With `asOfSeq`:
   *  as the log was up to that sequence, whatever came since; a copy that has not come so far tells nothing, and `upToSeq` 0. */
  lastPerSubject(
    log: string,
    subjects: readonly string[],
    timeoutMs: number,
    asOfSeq?: number,
  ): Promise<{ messages: LogMessage[]; upToSeq: number }>
  get(log: string, seq: number, timeoutMs: number): Promise<LogMessage | undefined>
  /** Drops every message below `belowSeq`; answers how many went. Blocks appends meanwhile: purge in slices (LOG-16). */
  purge(log: string, belowSeq: number, timeoutMs: number): Promise<number>
  /**
   * Delivers every message from `fromSeq` on, in order, one at a time: the next one waits for the handler's promise. A
   * handler that throws gets the same message again after a pause. Survives reconnects. Jumps silently over messages that the
   * server no longer has: the caller checks sequences (LOG-10). `onError` hears what made it start over; CorruptError
   * `log-rewound`: the server came back with another or a shorter log.
   */
  consume(
    log: string,
    fromSeq: number,
    onMessage: (message: LogMessage) => void | Promise<void>,
    onError: (error: Error) => void,
  ): LogConsumer
}

export interface KvEntry {
  readonly key: string
  /** undefined: the key was deleted or has expired. */
  readonly value: Uint8Array | undefined
  readonly revision: number
}

/** A key-value bucket. Keys are made of [A-Za-z0-9_-] parts joined by `.`; `_fence` is the bucket's own and never shown. */
export interface KvBucket {
  /** What some server holds of the key: a value that it had, maybe an old one; maybe none although there is one. On three servers one of seven
   *  gets right behind a put was old (by up to 20 ms), and all at a server that was cut off (for as long as it was). So it is for what is
   *  changed by compare-and-set, which an old revision loses, and for hints; never for a decision that rests on what is not there. */
  get(key: string): Promise<KvEntry | undefined>
  /** What the bucket held at one moment after this was called, under keys that match any of the filters: for decisions. Stores a fence, which
   *  most servers have to take, and reads up to it: costs an append more than `get` (p50 2 ms instead of 0.4). Keys that were deleted may
   *  be among the entries, without a value. Where more than 1,024 keys match, each is as it was at that moment or later. */
  newest(filters: readonly string[]): Promise<readonly KvEntry[]>
  /** The time at the server that stores the bucket's changes, ms since 1970: that of a fence, stored for it. */
  serverTimeMs(): Promise<number>
  /** Rejects with ConflictError when the key has a value. This and what follows waits for `timeoutMs`, or as long as the bus does. */
  create(key: string, value: Uint8Array, timeoutMs?: number): Promise<number>
  /** Rejects with ConflictError unless `expectedRevision` is the key's newest revision, that of its deletion included. */
  update(key: string, value: Uint8Array, expectedRevision: number, timeoutMs?: number): Promise<number>
  put(key: string, value: Uint8Array, timeoutMs?: number): Promise<number>
  /** With `expectedRevision` it rejects with ConflictError unless that is the key's newest revision. */
  delete(key: string, expectedRevision?: number): Promise<void>
  /** First the present entries that match `filter` (e.g. `member.*`, `>` for all), then `onReady`, then each change. After a reconnect it
   *  goes on without losing the newest value of any key. A bucket may come back without its newest writes, and give their revisions again: what
   *  is shown behind a higher revision is what stands, and a key that is gone without a trace is shown without a value, at revision 0. A watch
   *  that is behind may be shown a change before one that was made sooner, when that other key was changed again: only at `onSettled` what was
   *  shown is what the bucket held at one moment. It is called after
   *  `onReady` and after each entry behind which no other was waiting. Each entry is shown once: a handler that throws has missed it, and that
   *  is told as an error of the bus. */
  watch(filter: string, onEntry: (entry: KvEntry) => void, onReady: () => void, onSettled?: () => void): BusSubscription
}
