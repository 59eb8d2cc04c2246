// What a connection of the memory bus offers of logs and buckets: each call crosses the links to the hub and back, and
// meets the faults of the hub on the way.
import { sleep } from '../../base/clock.ts'
import { CorruptError, RefusedError, UnavailableError } from '../../base/errors.ts'
import type { Subscription } from '../../base/listeners.ts'
import { tooLarge } from '../pipe.ts'
import type { BusSubscription, KvBucket, KvEntry, LogConfig, LogConsumer, LogMessage, LogStore } from '../port.ts'
import { ShownEntries } from '../shown-entries.ts'
import type { MemoryBucket } from './memory-bucket.ts'
import type { Hub } from './memory-bus.ts'
import type { Connection } from './memory-connection.ts'
import { drawDelay } from './memory-link.ts'
import { MemoryLog } from './memory-log.ts'

const pollMs = 4_000
const pollTimeoutMs = 10_000
const retryMs = 100
/** The longest pause before an item is handed over again that its handler threw at; each is twice the one before. */
const retryMsMax = 2_000
const readCountMax = 32

export function memoryLogStore(hub: Hub, connection: Connection): LogStore {
  const logOf = (name: string): MemoryLog => {
    const log = hub.logs.get(name)
    if (log === undefined || hub.faults.logsDown)
      throw new UnavailableError('log-unavailable', `log ${name} is not there`)
    return log
  }
  return {
    ensure: (config) => connection.call(`log ${config.name}`, hub.callTimeoutMs, () => ensureLog(hub, config)),
    state: (name) => connection.call(`log ${name}`, hub.callTimeoutMs, () => logOf(name).state()),
    async append(name, subject, payload, options) {
      const { payloadBytesMax } = connection
      if (payload.length > payloadBytesMax) throw tooLarge(`message to ${name}`, payload.length, payloadBytesMax)
      const copy = new Uint8Array(payload) // `slice` of a Buffer would share its memory
      const { faults } = hub
      const by = connection.name
      let fault = faults.onAppend?.({ log: name, subject, messageId: options.messageId, by })
      if (fault === undefined && hub.chance(faults.dropBeforeStore)) fault = 'drop-before-store'
      if (fault === undefined && hub.chance(faults.storeButLoseAck)) fault = 'store-but-lose-ack'
      return connection.callLater(`append to ${name}`, options.timeoutMs, faults.appendDelayMs, (answer) => {
        if (fault === 'drop-before-store') return
        try {
          const log = logOf(name)
          if (!log.holds(subject)) throw new UnavailableError('log-unavailable', `log ${name} does not keep ${subject}`)
          const stored = log.append(subject, copy, options, hub.clock.now(), faults.duplicateWindowMs)
          const message = stored.isDuplicate ? undefined : log.get(stored.seq)
          if (message !== undefined) hub.options.onStored?.({ log: name, message, by })
          if (fault !== 'store-but-lose-ack') answer(() => stored)
        } catch (error) {
          answer(() => {
            throw error
          })
        }
      })
    },
    lastPerSubject: (name, subjects, timeoutMs, asOfSeq) =>
      connection.call(`read of ${name}`, timeoutMs, () => {
        const log = logOf(name)
        const isStale = hub.chance(hub.faults.staleRead)
        const behind = isStale ? Math.min(log.lastSeq, 1 + hub.random.below(hub.faults.staleBehindMax)) : 0
        const isBehind = asOfSeq !== undefined && log.lastSeq - behind < asOfSeq
        if (isBehind) return { messages: [], upToSeq: 0 }
        const upToSeq = asOfSeq ?? log.lastSeq - behind
        const messages = log.lastPerSubject(subjects, upToSeq)
        return { messages, upToSeq: messages.length === 0 ? 0 : upToSeq }
      }),
    get: (name, seq, timeoutMs) => connection.call(`read of ${name}`, timeoutMs, () => logOf(name).get(seq)),
    purge: (name, belowSeq, timeoutMs) =>
      connection.call(`purge of ${name}`, timeoutMs, () => {
        hub.options.onPurge?.({ log: name, belowSeq, by: connection.name })
        return logOf(name).purge(belowSeq)
      }),
    consume: (name, fromSeq, onMessage, onError) => {
      let delivered: { readonly message: LogMessage; readonly incarnation: string } | undefined
      return new MemoryConsumer(connection, {
        what: `consume ${name}`,
        position: Math.max(1, fromSeq),
        onError,
        // What a server would push: up to a window of messages, or nothing until there is one.
        read: (position, answer) => {
          const log = logOf(name)
          const { incarnation } = log
          if (delivered !== undefined && !isStillThere(log, delivered)) {
            delivered = undefined
            throw new RewoundError(name, log.lastSeq)
          }
          const found = () => log.read(position, readCountMax).map((message) => ({ message, incarnation }))
          const now = found()
          const later = () => answer(found)
          if (now.length === 0) return answerOnce(hub, (wake) => log.onAppend(wake), later)
          answer(() => now)
          return undefined
        },
        async onItem(item: { readonly message: LogMessage; readonly incarnation: string }) {
          const { onDeliver } = hub.faults
          const { message } = item
          const heard = onDeliver === undefined ? message : onDeliver({ log: name, message, by: connection.name })
          if (heard !== undefined) await onMessage(heard)
          delivered = item
          return message.seq + 1
        },
      })
    },
  }
}

/** Whether a log still is the one of which this message was delivered; one that was purged, or lost alone, is taken for it. */
function isStillThere(log: MemoryLog, delivered: { message: LogMessage; incarnation: string }): boolean {
  const { message, incarnation } = delivered
  if (log.incarnation !== incarnation || log.lastSeq < message.seq) return false
  const there = log.get(message.seq)
  return there === undefined || there.storedAtMs === message.storedAtMs
}

class RewoundError extends CorruptError {
  readonly lastSeq: number

  constructor(log: string, lastSeq: number) {
    super('log-rewound', `${log} ends at ${lastSeq} and is not the log that was delivered before`)
    this.lastSeq = lastSeq
  }
}

function ensureLog(hub: Hub, config: LogConfig) {
  if (hub.faults.logsDown) throw new UnavailableError('log-unavailable', 'logs have no leader')
  const existing = hub.logs.get(config.name)
  if (existing === undefined) {
    const log = new MemoryLog(config, `${config.name}@${hub.clock.now()}`)
    hub.logs.set(config.name, log)
    return log.state()
  }
  const held = existing.config
  const { bytesMax, replicas } = config
  const isGrown = bytesMax >= held.bytesMax && replicas >= held.replicas
  const grown = isGrown ? { ...held, bytesMax, replicas } : held
  if (JSON.stringify(sortedConfig(grown)) !== JSON.stringify(sortedConfig(config))) {
    throw new RefusedError('log-config', `log ${config.name} exists with another configuration`)
  }
  existing.config = grown
  return existing.state()
}

function sortedConfig(config: LogConfig): unknown[] {
  return [[...config.subjects].sort(), config.bytesMax, config.replicas, config.duplicateWindowMs]
}

interface Feed<T> {
  readonly what: string
  readonly position: number
  readonly onError: (error: Error) => void
  /** Runs at the hub; answers at once, or after the next change unless it is stopped before. What is thrown then, too, is the reader's trouble. */
  readonly read: (position: number, answer: (items: () => T[]) => void) => Subscription | undefined
  /** Answers the position to go on from. */
  readonly onItem: (item: T) => number | Promise<number>
}

/** Follows something at the hub by asking again and again from the position it has reached. When it is stopped nothing holds it. */
export class MemoryConsumer<T> implements LogConsumer, BusSubscription {
  #isStopped = false
  #isHandling = false
  readonly #stopping = new AbortController()
  readonly #connection: Connection
  readonly #done: Promise<void>
  /** At the hub. */
  #waiting: Subscription | undefined

  constructor(connection: Connection, feed: Feed<T>) {
    this.#connection = connection
    this.#done = this.#run(feed)
  }

  stop(): Promise<void> {
    this.#isStopped = true
    this.#stopping.abort()
    this.#connection.inform(() => this.#waiting?.stop())
    return this.#isHandling ? this.#done : Promise.resolve()
  }

  async #run(feed: Feed<T>): Promise<void> {
    let position = feed.position
    let isInTrouble = false // one outage is reported once
    let thrown = { position: -1, pauseMs: 0 }
    while (!this.#isStopped && !this.#connection.isOver()) {
      try {
        const items = await this.#read(feed, position)
        isInTrouble = false
        this.#isHandling = true
        for (const item of items) {
          if (this.#isStopped) break
          position = await feed.onItem(item)
        }
        this.#isHandling = false
      } catch (error) {
        const isThrown = this.#isHandling
        this.#isHandling = false
        const isAgain = isThrown && thrown.position === position
        if (isThrown) thrown = { position, pauseMs: isAgain ? Math.min(retryMsMax, 2 * thrown.pauseMs) : retryMs }
        if (this.#isStopped || this.#connection.isOver()) return
        if (!isInTrouble || error instanceof RewoundError) feed.onError(error as Error)
        if (error instanceof RewoundError) position = Math.min(position, error.lastSeq + 1)
        isInTrouble = true
        const pauseMs = isThrown ? thrown.pauseMs : retryMs
        await sleep(this.#connection.clock, pauseMs, this.#stopping.signal).catch(() => undefined)
      }
    }
  }

  #read(feed: Feed<T>, position: number): Promise<T[]> {
    const read = (answer: (outcome: () => T[]) => void) => {
      try {
        this.#waiting = feed.read(position, answer)
      } catch (error) {
        answer(() => {
          throw error
        })
      }
    }
    return this.#connection.callLater<T[]>(feed.what, pollTimeoutMs, undefined, read, this.#stopping.signal)
  }
}

export function memoryBucketClient(hub: Hub, connection: Connection, name: string): KvBucket {
  const bucket = (): MemoryBucket => {
    const found = hub.buckets.get(name)
    if (found === undefined || hub.faults.bucketsDown) throw new UnavailableError('kv-unavailable', `no bucket ${name}`)
    return found
  }
  const write = <T>(operation: () => T) =>
    connection.call(`bucket ${name}`, hub.callTimeoutMs, operation, {
      loseAnswer: () => hub.chance(hub.faults.kvLoseAck),
    })
  return {
    get: (key) =>
      connection.call(`bucket ${name}`, hub.callTimeoutMs, () => {
        const { faults, random } = hub
        const isBehind = faults.isUpToDate?.(connection.name) !== true && hub.chance(faults.staleGet)
        const behind = isBehind ? 1 + random.below(faults.staleBehindMax) : 0
        return behind === 0 ? bucket().get(key) : bucket().getBehind(key, behind)
      }),
    newest: (filters) => write(() => filters.flatMap((filter) => bucket().changesSince(0, filter))),
    serverTimeMs: () =>
      write(() => {
        bucket()
        return hub.clock.now()
      }),
    create: (key, value) => copied(value, (copy) => write(() => bucket().create(key, copy))),
    update: (key, value, revision) => copied(value, (copy) => write(() => bucket().update(key, copy, revision))),
    put: (key, value) => copied(value, (copy) => write(() => bucket().write(key, copy))),
    async delete(key, expectedRevision) {
      await write(() => bucket().remove(key, expectedRevision))
    },
    watch: (filter, onEntry, onReady, onSettled) =>
      watchOf(hub, connection, { name, filter, onEntry, onReady, onSettled, bucket }),
  }
}

interface Watching {
  readonly name: string
  readonly filter: string
  readonly bucket: () => MemoryBucket
  readonly onEntry: (entry: KvEntry) => void
  readonly onReady: () => void
  readonly onSettled: (() => void) | undefined
}

function watchOf(hub: Hub, connection: Connection, watching: Watching): BusSubscription {
  const { name, filter, bucket, onEntry, onReady, onSettled } = watching
  let isReady = false
  let isWhole = true
  let life: number | undefined
  const known = new ShownEntries()
  const isLate = () => hub.faults.isUpToDate?.(connection.name) !== true
  const shown = (entry: KvEntry) => {
    try {
      onEntry(entry)
    } catch (error) {
      hub.onHandlerError(error)
    }
  }
  return new MemoryConsumer<Changes>(connection, {
    what: `watch ${name}`,
    position: 0,
    onError: () => undefined, // the port has no ear for it: a watch goes on by itself
    read: (position, answer) => {
      const read = () => answer(() => [changesFor(hub, bucket(), { position, filter, isLate: isLate(), life })])
      const isNow = !isReady || !isWhole || bucket().life !== life || bucket().changesSince(position, filter).length > 0
      if (!isNow)
        return answerOnce(hub, (wake) => bucket().onChange(filter, () => (isLate() ? late(hub, wake) : wake())), read)
      read()
      return undefined
    },
    onItem({ entries, revision, isAll, life: livesIn }) {
      isWhole = isAll
      if (life !== livesIn) known.begin()
      life = livesIn
      for (const entry of entries) if (known.isNews(entry, entry)) shown(entry)
      if (!isAll) return revision
      const doubtful = known.doubtful().map((key) => entries.find((entry) => entry.key === key) ?? noneAt(key))
      known.end()
      for (const entry of doubtful) if (known.isNews(entry, entry)) shown(entry)
      if (!isReady) {
        isReady = true
        onReady()
      }
      onSettled?.()
      return revision
    },
  })
}

interface Changes {
  readonly entries: readonly KvEntry[]
  /** Up to which nothing that matches is left out. */
  readonly revision: number
  /** Nothing was waiting behind these. */
  readonly isAll: boolean
  readonly life: number
}

function changesFor(
  hub: Hub,
  bucket: MemoryBucket,
  { position, filter, isLate, ...at }: { position: number; filter: string; isLate: boolean; life: number | undefined },
): Changes {
  const { life } = bucket
  const isAgain = at.life !== undefined && at.life !== life
  const entries = bucket.changesSince(isAgain ? 0 : position, filter)
  const [oldest] = entries
  const isOne = !isAgain && isLate && oldest !== undefined && entries.length > 1 && hub.chance(hub.faults.watchOneByOne)
  if (isOne) return { entries: [oldest], revision: oldest.revision, isAll: false, life }
  return { entries, revision: bucket.revision, isAll: true, life }
}

function noneAt(key: string): KvEntry {
  return { key, value: undefined, revision: 0 }
}

function late(hub: Hub, wake: () => void): void {
  const delayMs = drawDelay(hub.faults.watchDelayMs, hub.random)
  if (delayMs === 0) wake()
  else hub.clock.after(delayMs, wake)
}

/** Answers at the next change, or with nothing new after a while: whoever waits asks again. */
function answerOnce(hub: Hub, onChange: (wake: () => void) => Subscription, answer: () => void): Subscription {
  const timer = hub.clock.after(pollMs, () => {
    waiting.stop()
    answer()
  })
  const waiting = onChange(() => {
    timer.cancel()
    answer()
  })
  return {
    stop() {
      timer.cancel()
      waiting.stop()
    },
  }
}

function copied<T>(value: Uint8Array, then: (copy: Uint8Array) => T): T {
  return then(new Uint8Array(value))
}
