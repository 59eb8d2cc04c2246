// Follows a stream in order: a short-lived pull consumer, a window of messages, one handler at a time. Starts over at the
// next expected sequence after anything unusual: a reconnect, silence, a gap in what the consumer delivered, a consumer
// that is gone. Whoever follows the last message of each subject is told all of them again where it cannot be said that none
// was lost. A window of messages never weighs more than `windowBytesMax`, since the server cuts off slow readers.
//
// Whoever wants to know is told when nothing more was there. A message says how many follow it; where one is replaced just before it would
// have been delivered, the server has counted it still and delivers nothing for it. So the server is asked when what it announced does not come.
import type { Msg, Subscription } from '@nats-io/transport-node'
import type { Timer } from '../../base/clock.ts'
import { CorruptError, UnavailableError } from '../../base/errors.ts'
import { hex, systemRandom } from '../../base/random.ts'
import type { NatsLink } from './nats-message.ts'

const messageBytesTypical = 512 * 1024
const windowBytesMax = 16 * 1024 * 1024
const windowCount = windowBytesMax / messageBytesTypical
const heartbeatMs = 2_000
const silenceMsMax = 3 * heartbeatMs
const pullExpiresMs = 30_000
/** Short, because a question asked while there is no leader is never answered, and the next one may be. */
const apiTimeoutMs = 2_000
/** How long nothing of what was announced may come before the server is asked whether there is anything. Short: queries wait for it. */
const announcedMsMax = 20
/** How long the server keeps a consumer that nobody asks. */
const inactiveMsMax = 30_000
/** The first pause before a message is handed over again that its handler threw at, and before a failed start; each is twice the one before. */
const retryFirstMs = 100
const retryMsMax = 2_000
const nanosPerMs = 1_000_000

export interface FeedMessage {
  readonly msg: Msg
  readonly seq: number
  readonly storedAtMs: number
}

interface Delivered extends FeedMessage {
  /** Counted from 1 by the consumer. */
  readonly deliveredSeq: number
  /** Messages the consumer still had to deliver when it sent this one; at times more than there are. */
  readonly pendingCount: number
}

export interface FeedOptions {
  readonly stream: string
  /** The full subject to follow, or several that do not overlap; all of the stream without one. */
  readonly filter?: string | readonly string[]
  /** Where to begin: at a sequence, or with the last message of each subject. */
  readonly from: number | 'last-per-subject'
  readonly onMessage: (message: FeedMessage) => void | Promise<void>
  /** After each start: whether what comes are the last messages of all subjects. */
  readonly onStart?: (isWhole: boolean) => void
  /** When all that was there has been handled; never while a message is. */
  readonly onEnd?: () => void | Promise<void>
  readonly onError: (error: Error) => void
}

interface ConsumerInfo {
  readonly num_pending: number
  readonly delivered: { readonly consumer_seq: number }
}

interface StreamEnd {
  readonly state: { readonly last_seq: number }
}

export class NatsFeed {
  readonly #link: NatsLink
  readonly #options: FeedOptions
  #from: number | 'last-per-subject'
  #isStopped = false
  /** One try at following; what belongs to an older one is ignored. */
  #round = 0
  #consumer = ''
  #inbox = ''
  #hasStarted = false
  /** When the message before `#from` was stored; undefined until one was delivered. */
  #deliveredAtMs: number | undefined
  #subscription: Subscription | undefined
  #queue: Delivered[] = []
  #wantedCount = 0
  #deliveredSeq = 0
  #lastHeardMs = 0
  #failureCount = 0
  /** The message that its handler threw at last, and how often in a row. */
  #thrownSeq = 0
  #thrownCount = 0
  #isFollowing = false
  #watchdog: Timer | undefined
  /** Runs while more is announced. */
  #announced: Timer | undefined
  #retry: Timer | undefined
  /** A flag of its own: a handler that throws at once ends the loop before its promise is kept in `#handling`. */
  #isHandling = false
  #handling: Promise<void> | undefined

  constructor(link: NatsLink, options: FeedOptions) {
    this.#link = link
    this.#options = options
    this.#from = options.from
    void this.#start()
  }

  /** Called by the bus on each change of the connection. */
  onConnection(isConnected: boolean): void {
    if (this.#isStopped) return
    if (isConnected) this.#startOver(undefined, 0)
    else this.#drop()
  }

  async stop(): Promise<void> {
    if (!this.#isStopped) {
      this.#isStopped = true
      this.#drop()
    }
    await this.#handling
  }

  async #start(): Promise<void> {
    this.#round += 1
    const round = this.#round
    this.#consumer = `feed-${hex(systemRandom.bytes(8))}`
    try {
      if (this.#hasStarted) await this.#checkEnd()
      if (this.#round !== round || this.#isStopped) return
      const isWhole = this.#from === 'last-per-subject'
      const pendingCount = await this.#createConsumer()
      if (this.#round !== round || this.#isStopped) return
      this.#hasStarted = true
      this.#options.onStart?.(isWhole)
      if (pendingCount === 0) await this.#options.onEnd?.()
      if (this.#round !== round || this.#isStopped) return
      this.#follow(round)
      if (pendingCount > 0) this.#awaitAnnounced()
    } catch (error) {
      if (this.#round === round && !this.#isStopped) this.#startOver(error as Error, this.#retryMs())
    }
  }

  /**
   * A server may come back with less than it had delivered, and have filled the sequences again since. What is delivered
   * after that begins at the end found now; whoever reads a log starts over when told (LOG-10).
   */
  async #checkEnd(): Promise<void> {
    const { stream } = this.#options
    const from = this.#from
    if (from === 'last-per-subject') return
    const info = await this.#link.api.call<StreamEnd>(`STREAM.INFO.${stream}`, undefined, apiTimeoutMs)
    const lastSeq = info.state.last_seq
    const isWatch = this.#options.from === 'last-per-subject'
    const found = lastSeq >= from - 1 ? await this.#find(from - 1) : 'another'
    if (found === 'same' || (found === 'none' && !isWatch)) return
    this.#from = isWatch ? 'last-per-subject' : Math.min(from, lastSeq + 1)
    if (found === 'none') return // replaced by a newer one of its subject; or lost, and what came since was
    const text = `${stream} ends at ${lastSeq} and is not the log of which ${from - 1} was delivered before`
    this.#options.onError(new CorruptError('log-rewound', text))
  }

  /** What stands at `seq`, the last one delivered. Of a log that is purged nothing is the same. */
  async #find(seq: number): Promise<'same' | 'another' | 'none'> {
    if (this.#deliveredAtMs === undefined) return 'same'
    const path = `$JS.API.DIRECT.GET.${this.#options.stream}`
    const { headers } = await this.#link.ask(path, Buffer.from(JSON.stringify({ seq })), apiTimeoutMs)
    const storedAt = headers['Nats-Time-Stamp']
    if (storedAt === undefined) return 'none'
    return Date.parse(storedAt) === this.#deliveredAtMs ? 'same' : 'another'
  }

  async #createConsumer(): Promise<number> {
    const { stream, filter } = this.#options
    const from = this.#from
    const start =
      from === 'last-per-subject'
        ? { deliver_policy: 'last_per_subject' }
        : { deliver_policy: 'by_start_sequence', opt_start_seq: Math.max(1, from) }
    const config = {
      ...start,
      name: this.#consumer,
      ...(typeof filter === 'string' ? { filter_subject: filter } : filter && { filter_subjects: filter }),
      ack_policy: 'none',
      replay_policy: 'instant',
      mem_storage: true,
      num_replicas: 1,
      inactive_threshold: inactiveMsMax * nanosPerMs,
    }
    const path = `CONSUMER.CREATE.${stream}.${this.#consumer}${typeof filter === 'string' ? `.${filter}` : ''}`
    const request = { stream_name: stream, action: 'create', config }
    const info = await this.#link.api.call<ConsumerInfo>(path, request, apiTimeoutMs)
    return info.num_pending
  }

  #follow(round: number): void {
    this.#inbox = `${this.#link.prefix}.${this.#link.mux.inbox()}.feed`
    this.#deliveredSeq = 0
    this.#wantedCount = 0
    this.#isFollowing = true
    this.#lastHeardMs = this.#link.clock.monotonic()
    this.#subscription = this.#link.nc.subscribe(this.#inbox, {
      callback: (_error, msg) => {
        if (this.#round === round) this.#hear(msg)
      },
    })
    this.#pull()
    this.#watch()
  }

  #hear(msg: Msg): void {
    this.#lastHeardMs = this.#link.clock.monotonic()
    const status = msg.headers?.code ?? 0
    if (status !== 0) {
      this.#hearStatus(status, msg)
      return
    }
    const message = parsed(msg)
    this.#deliveredSeq += 1
    this.#wantedCount = Math.max(0, this.#wantedCount - 1)
    if (message === undefined || message.deliveredSeq !== this.#deliveredSeq) {
      this.#startOver(new UnavailableError('log-unavailable', 'the consumer skipped a message'), 0)
      return
    }
    this.#failureCount = 0
    this.#queue.push(message)
    if (!this.#isHandling) this.#handling = this.#handle()
  }

  #hearStatus(status: number, msg: Msg): void {
    if (status === 100) return // heartbeat
    if (status === 408) {
      this.#wantedCount = Math.max(
        0,
        this.#wantedCount - Number(msg.headers?.get('Nats-Pending-Messages') || windowCount),
      )
      this.#pull()
      return
    }
    const text = `${this.#options.stream}: consumer answered ${status} ${msg.headers?.description ?? ''}`
    this.#startOver(new UnavailableError('log-unavailable', text), this.#retryMs())
  }

  async #handle(): Promise<void> {
    this.#isHandling = true
    // A round that starts meanwhile replaces the queue; this loop goes on with the new one.
    for (let message = this.#queue.shift(); message !== undefined && !this.#isStopped; message = this.#queue.shift()) {
      const before = this.#from
      const deliveredBeforeMs = this.#deliveredAtMs
      this.#from = message.seq + 1
      this.#deliveredAtMs = message.storedAtMs
      try {
        await this.#options.onMessage(message)
        if (message.pendingCount === 0) await this.#options.onEnd?.()
      } catch (error) {
        this.#from = before === 'last-per-subject' ? before : message.seq
        this.#deliveredAtMs = message.seq === before ? deliveredBeforeMs : undefined
        this.#startOver(error as Error, this.#thrownMs(message.seq))
        break
      }
      this.#pull()
      if (message.pendingCount > 0) this.#awaitAnnounced()
      else this.#announced?.cancel()
    }
    this.#isHandling = false
    if (this.#queue.length > 0 && !this.#isStopped) await this.#handle()
  }

  #awaitAnnounced(): void {
    this.#announced?.cancel()
    if (this.#options.onEnd === undefined) return
    this.#announced = this.#link.clock.after(announcedMsMax, () => {
      if (!this.#isHandling && this.#isFollowing) void this.#askForEnd() // what is being handled is looked at after that
    })
  }

  async #askForEnd(): Promise<void> {
    const round = this.#round
    const deliveredSeq = this.#deliveredSeq
    const isAsOf = () => this.#round === round && this.#deliveredSeq === deliveredSeq
    try {
      const path = `CONSUMER.INFO.${this.#options.stream}.${this.#consumer}`
      const { num_pending, delivered } = await this.#link.api.call<ConsumerInfo>(path, undefined, apiTimeoutMs)
      if (!isAsOf()) return // the message that came meanwhile says what follows it
      if (num_pending === 0 && delivered.consumer_seq === deliveredSeq) this.#handling = this.#handleEnd(round)
      else this.#awaitAnnounced()
    } catch (error) {
      if (isAsOf()) this.#startOver(error as Error, this.#retryMs())
    }
  }

  async #handleEnd(round: number): Promise<void> {
    this.#isHandling = true
    try {
      await this.#options.onEnd?.()
    } catch (error) {
      if (this.#round === round) this.#startOver(error as Error, this.#retryMs())
    }
    this.#isHandling = false
    if (this.#queue.length > 0 && !this.#isStopped) await this.#handle()
  }

  /** Keeps the window full: asks for more when half of it is used up. */
  #pull(): void {
    const room = windowCount - this.#wantedCount - this.#queue.length
    if (!this.#isFollowing || room < windowCount / 2 || !this.#link.isConnected()) return
    this.#wantedCount += room
    const request = { batch: room, expires: pullExpiresMs * nanosPerMs, idle_heartbeat: heartbeatMs * nanosPerMs }
    const subject = `$JS.API.CONSUMER.MSG.NEXT.${this.#options.stream}.${this.#consumer}`
    this.#link.nc.publish(subject, Buffer.from(JSON.stringify(request)), { reply: this.#inbox })
  }

  #watch(): void {
    this.#watchdog = this.#link.clock.after(heartbeatMs, () => {
      const silentMs = this.#link.clock.monotonic() - this.#lastHeardMs
      if (this.#wantedCount > 0 && silentMs > silenceMsMax) {
        this.#startOver(new UnavailableError('log-unavailable', `${this.#options.stream}: the consumer fell silent`), 0)
      } else this.#watch()
    })
  }

  #startOver(error: Error | undefined, delayMs: number): void {
    this.#drop()
    if (error !== undefined) this.#options.onError(error)
    this.#retry = this.#link.clock.after(delayMs, () => {
      if (!this.#isStopped && this.#link.isConnected()) void this.#start()
    })
  }

  #retryMs(): number {
    this.#failureCount += 1
    return Math.min(retryMsMax, retryFirstMs * 2 ** Math.min(this.#failureCount, 10))
  }

  #thrownMs(seq: number): number {
    this.#thrownCount = seq === this.#thrownSeq ? this.#thrownCount + 1 : 0
    this.#thrownSeq = seq
    return Math.min(retryMsMax, retryFirstMs * 2 ** Math.min(this.#thrownCount, 10))
  }

  #drop(): void {
    this.#round += 1
    this.#isFollowing = false
    this.#queue = []
    this.#watchdog?.cancel()
    this.#announced?.cancel()
    this.#retry?.cancel()
    this.#subscription?.unsubscribe()
    this.#subscription = undefined
    if (this.#consumer === '' || !this.#link.isConnected()) return
    this.#link.nc.publish(`$JS.API.CONSUMER.DELETE.${this.#options.stream}.${this.#consumer}`)
    this.#consumer = ''
  }
}

/** Position and time stand in the reply subject: `$JS.ACK.[domain.account.]stream.consumer.tries.seq.delivered.nanos.pending`. */
function parsed(msg: Msg): Delivered | undefined {
  const tokens = (msg.reply ?? '').split('.')
  const at = tokens.length >= 11 ? 7 : 5
  const seq = Number(tokens[at])
  const deliveredSeq = Number(tokens[at + 1])
  if (!(seq > 0 && deliveredSeq > 0)) return undefined
  const nanos = tokens[at + 2] ?? '0'
  return { msg, seq, deliveredSeq, storedAtMs: Number(nanos.slice(0, -6)), pendingCount: Number(tokens[at + 3]) }
}
