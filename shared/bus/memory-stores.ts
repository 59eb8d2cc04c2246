// What a connection of the memory bus offers of logs and buckets: each call crosses the links to the hub and back, and
// meets the faults of the hub on the way.
import { sleep } from '../base/clock.ts'
import { RefusedError, UnavailableError } from '../base/errors.ts'
import type { Subscription } from '../base/listeners.ts'
import type { MemoryBucket } from './memory-bucket.ts'
import type { Hub } from './memory-bus.ts'
import type { Connection } from './memory-connection.ts'
import { MemoryLog } from './memory-log.ts'
import { tooLarge } from './pipe.ts'
import type { BusSubscription, KvBucket, KvEntry, LogConfig, LogConsumer, LogMessage, LogStore } from './port.ts'

const callTimeoutMs = 5_000
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
    ensure: (config) => connection.call(`log ${config.name}`, callTimeoutMs, () => ensureLog(hub, config)),
    state: (name) => connection.call(`log ${name}`, callTimeoutMs, () => logOf(name).state()),
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
          const stored = log.append(subject, copy, options, hub.clock.now())
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
      connection.call(`purge of ${name}`, timeoutMs, () => logOf(name).purge(belowSeq)),
    consume: (name, fromSeq, onMessage, onError) =>
      new MemoryConsumer(connection, {
        what: `consume ${name}`,
        position: Math.max(1, fromSeq),
        onError,
        // What a server would push: up to a window of messages, or nothing until there is one.
        read: (position, answer) => {
          const log = logOf(name)
          const messages = log.read(position, readCountMax)
          if (messages.length > 0) return answer(messages)
          answerOnce(
            hub,
            (wake) => log.onAppend(wake),
            () => answer(log.read(position, readCountMax)),
          )
        },
        async onItem(message: LogMessage) {
          await onMessage(message)
          return message.seq + 1
        },
      }),
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
  /** Runs at the hub; answers at once or after the next change. */
  readonly read: (position: number, answer: (items: T[]) => void) => void
  /** Answers the position to go on from. */
  readonly onItem: (item: T) => number | Promise<number>
}

/** Follows something at the hub by asking again and again from the position it has reached. */
export class MemoryConsumer<T> implements LogConsumer, BusSubscription {
  #isStopped = false
  #isHandling = false
  readonly #stopping = new AbortController()
  readonly #connection: Connection
  readonly #done: Promise<void>

  constructor(connection: Connection, feed: Feed<T>) {
    this.#connection = connection
    this.#done = this.#run(feed)
  }

  stop(): Promise<void> {
    this.#isStopped = true
    this.#stopping.abort()
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
        if (!isInTrouble) feed.onError(error as Error)
        isInTrouble = true
        const pauseMs = isThrown ? thrown.pauseMs : retryMs
        await sleep(this.#connection.clock, pauseMs, this.#stopping.signal).catch(() => undefined)
      }
    }
  }

  #read(feed: Feed<T>, position: number): Promise<T[]> {
    return this.#connection.callLater<T[]>(feed.what, pollTimeoutMs, undefined, (answer) => {
      try {
        feed.read(position, (items) => answer(() => items))
      } catch (error) {
        answer(() => {
          throw error
        })
      }
    })
  }
}

export function memoryBucketClient(hub: Hub, connection: Connection, name: string): KvBucket {
  const bucket = (): MemoryBucket => {
    const found = hub.buckets.get(name)
    if (found === undefined || hub.faults.bucketsDown) throw new UnavailableError('kv-unavailable', `no bucket ${name}`)
    return found
  }
  const write = <T>(operation: () => T) =>
    connection.call(`bucket ${name}`, callTimeoutMs, operation, { loseAnswer: () => hub.chance(hub.faults.kvLoseAck) })
  return {
    get: (key) => connection.call(`bucket ${name}`, callTimeoutMs, () => bucket().get(key)),
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
    watch(filter, onEntry, onReady, onSettled) {
      let isReady = false
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
          const here = bucket()
          const read = () => answer([{ entries: here.changesSince(position, filter), revision: here.revision }])
          if (!isReady || here.revision > position) return read()
          answerOnce(hub, (wake) => here.onChange(wake), read)
        },
        onItem({ entries, revision }) {
          for (const entry of entries) if (isReady || entry.value !== undefined) shown(entry)
          if (!isReady) {
            isReady = true
            onReady()
          }
          onSettled?.()
          return revision
        },
      })
    },
  }
}

interface Changes {
  readonly entries: readonly KvEntry[]
  readonly revision: number
}

/** Answers at the next change, or with nothing new after a while: whoever waits asks again. */
function answerOnce(hub: Hub, onChange: (wake: () => void) => Subscription, answer: () => void): void {
  const timer = hub.clock.after(pollMs, () => {
    waiting.stop()
    answer()
  })
  const waiting = onChange(() => {
    timer.cancel()
    answer()
  })
}

function copied<T>(value: Uint8Array, then: (copy: Uint8Array) => T): T {
  return then(new Uint8Array(value))
}
