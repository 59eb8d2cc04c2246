// A partition writer groups what pushes bring into batches and sees each batch through: append, repeat, acknowledge.
//
// Invariants
//   APPEND-1  A batch is acknowledged only by the acknowledgement rule (LOG-5); one that lies too late is encoded again under the newest mark.
//   APPEND-2  A repeated append carries the same message id as long as its epoch is the newest known (LOG-4).
//   APPEND-3  At most `batchesInFlightMax` batches are under way; what comes meanwhile is grouped, and `queuedBytesMax` bounds it.
//   APPEND-4  Nothing is begun under a mark below the one that the bucket remembers, nor acknowledged by what a log shows that ends before the newest mark
//       known: it has lost marks, and owners skip what stands under those that are left. What is remembered is read at first and after each
//       interruption of the connection.
//   APPEND-5  No session outlives the connection under which it began: a log that comes back without some of what it held may lack its definitions, and
//       owners that begin anew could not read what goes on under it (LOG-3).
//   APPEND-6  A log that has lost its end gives sequences again. Nothing counts that was stored at or below a sequence of which it was known before that
//       something stood there, nor what else was written under that mark: only what is written under the next one, so that it stands in a
//       later segment than all that stood there before. What others know (highwater.{p}) is read together with APPEND-4's.

import { assert } from '../../../shared/base/assert.ts'
import { backoffMs } from '../../../shared/base/backoff.ts'
import type { Clock } from '../../../shared/base/clock.ts'
import { sleep } from '../../../shared/base/clock.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import type { Random } from '../../../shared/base/random.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { BATCH_BYTES_MAX, batchSubject, fits, logName, type Mark } from '../../../shared/contracts/log.ts'
import { isGivenAgain, isSuperseded, type KnownEnd, type Stored } from '../../../shared/kv/known-ends.ts'
import { SESSION_BYTES } from '../../../shared/wire/log-batch.ts'
import type { DistributorConfig } from '../config.ts'
import { Acknowledger } from './acknowledgement.ts'
import type { Dictionary } from './dictionary.ts'
import { LogFill } from './log-fill.ts'
import { Batch, Session, type StagedExemplar, type StagedHistogram, type StagedMetadata } from './session.ts'
import type { WriterMetrics } from './writer-metrics.ts'

export interface PartitionWriterDeps {
  readonly bus: Bus
  readonly clock: Clock
  readonly random: Random
  readonly config: DistributorConfig
  readonly metrics: WriterMetrics
  /** What the bucket remembers of a partition. */
  readonly known: (partition: number) => Promise<KnownEnd>
  /** Parts of the protocol left out, only for the simulation's counter-proofs. */
  readonly without: ReadonlySet<string>
}

const RETRY = { firstMs: 20, maxMs: 1000 }
const SPARES_MAX = 8
/** Any replica answers these reads, also one that hangs: the next read meets another. */
const MARK_READ_MS_MAX = 1_000
/** Definitions and strings beyond this are weighed at every sample, for one series may bring 90 KB of them. */
const HEAVY_BYTES = 64 * 1024

/** A batch and those who wait for it. */
interface Tracked {
  readonly batch: Batch
  readonly done: Promise<number>
  readonly resolve: (seq: number) => void
  readonly reject: (error: unknown) => void
}

export class PartitionWriter {
  readonly partition: number
  /** The newest mark known; without one nothing can be written. */
  mark: Mark | undefined
  /** APPEND-4, APPEND-6; undefined: to be read. */
  private known: KnownEnd | undefined
  private doubts = 0
  /** APPEND-6: where the newest batch stands that was stored from here. */
  private own: Stored = { seq: 0, epoch: 0, incarnation: '' }
  /** APPEND-6: nothing counts that is written under this mark or an earlier one. */
  private voidUpTo = 0
  incarnation = ''
  readonly filled = new LogFill()
  private readonly deps: PartitionWriterDeps
  private readonly acknowledger: Acknowledger
  private session: Session | undefined
  private open: Tracked | undefined
  private readonly waiting: Tracked[] = []
  private readonly spares: Batch[] = []
  private inFlightCount = 0
  private lingering = false
  private touched: Tracked[] = []

  constructor(partition: number, deps: PartitionWriterDeps) {
    this.partition = partition
    this.deps = deps
    this.acknowledger = new Acknowledger({
      bus: deps.bus,
      clock: deps.clock,
      partition,
      readTimeoutMs: MARK_READ_MS_MAX,
      onMark: (mark) => this.hearMark(mark),
      atLeast: () => this.known && Math.max(this.markMin, this.mark?.number ?? 0),
      isCredulous: deps.without.has('ack-rule'),
    })
  }

  /** Bytes that wait or are under way. */
  get queuedBytes(): number {
    let bytes = this.open?.batch.bytes ?? 0
    for (const { batch } of this.waiting) bytes += batch.bytes
    return bytes
  }

  /** The session that batches are encoded under now, for the high-water mark. */
  get newestSession(): Session | undefined {
    return this.session
  }

  hearMark(mark: Mark): void {
    if (this.mark === undefined || mark.number > this.mark.number) this.mark = mark
  }

  /** The lowest number of a mark under which anything can be begun, as far as is known. */
  private get markMin(): number {
    return Math.max(this.known?.markNumber ?? 0, this.voidUpTo + 1)
  }

  /** Whether anything can be begun, and acknowledged. */
  get isMarked(): boolean {
    return this.mark !== undefined && this.known !== undefined && this.mark.number >= this.markMin
  }

  /** The connection was interrupted: what was known before may be old (APPEND-4, APPEND-5). */
  doubt(): void {
    this.known = undefined
    this.doubts++
    if (this.session !== undefined) this.session.isOver = true
  }

  /** Reads what the bucket remembers, where that is not known, and the newest mark from the log. */
  async refresh(): Promise<void> {
    if (this.known === undefined) {
      const { doubts } = this
      this.incarnation = (await this.deps.bus.logs.state(logName(this.partition))).incarnation
      const known = await this.deps.known(this.partition)
      if (doubts === this.doubts) this.known = known
    }
    await this.acknowledger.read()
  }

  /** Why nothing can be written now, or undefined. */
  refusal(): UnavailableError | undefined {
    const { partition, filled } = this
    if (this.mark === undefined || this.mark.number < this.markMin) {
      const isVoid = this.mark !== undefined && this.mark.number <= this.voidUpTo
      const lost = isVoid ? 'has lost its end: the next mark is waited for' : 'has lost its newest marks'
      const why = this.mark === undefined ? 'has no mark yet: no ingester leads it' : lost
      return new UnavailableError('err-carillon-no-mark', `partition ${partition} ${why}`)
    }
    const isFull = filled.bytesMax > 0 && filled.bytes >= filled.bytesMax * this.deps.config.logFullRatio
    return isFull ? this.full() : undefined
  }

  private full(): UnavailableError {
    const { bytes, bytesMax } = this.filled
    const text = `the log of partition ${this.partition} is full: ${Math.round(bytes)} of ${bytesMax} bytes`
    return new UnavailableError('err-carillon-log-full', text)
  }

  /** Starts a push: `commit` will wait for what is added from here on. */
  begin(): void {
    this.touched = []
  }

  float(dictionary: Dictionary, ref: number, time: number, words: Uint32Array, index: number, startTime: number): void {
    const { batch } = this.openBatch(dictionary)
    batch.addFloat(ref, time, words, index, startTime)
    const isHeavy = batch.definitions.length > HEAVY_BYTES || batch.strings.length > HEAVY_BYTES
    if (isHeavy || (batch.count & 127) === 0) this.closeIfFull()
  }

  histogram(dictionary: Dictionary, histogram: StagedHistogram): void {
    this.openBatch(dictionary).batch.addHistogram(histogram)
    this.closeIfFull()
  }

  exemplar(dictionary: Dictionary, exemplar: StagedExemplar): void {
    this.openBatch(dictionary).batch.addExemplar(exemplar)
    this.closeIfFull()
  }

  metadata(dictionary: Dictionary, metadata: StagedMetadata): void {
    this.openBatch(dictionary).batch.addMetadata(metadata)
    this.closeIfFull()
  }

  /** Resolves with the highest sequence that holds something of this push, when all of it is acknowledged; undefined when it touched nothing. */
  async commit(): Promise<number | undefined> {
    const touched = this.touched
    this.touched = []
    if (touched.length === 0) return undefined
    this.pumpSoon()
    const seqs = await Promise.all(touched.map((tracked) => tracked.done))
    return Math.max(...seqs)
  }

  private openBatch(dictionary: Dictionary): Tracked {
    const session = this.sessionFor(dictionary)
    if (this.open !== undefined && this.open.batch.under !== session) this.close()
    if (this.open === undefined) {
      const spare = this.spares.pop()
      spare?.reuse(session)
      this.open = track(spare ?? new Batch(session, this.deps.without.has('define-until-stored')))
    }
    if (this.touched[this.touched.length - 1] !== this.open) this.touched.push(this.open)
    return this.open
  }

  private sessionFor(dictionary: Dictionary): Session {
    const { mark } = this
    assert(mark !== undefined, 'a partition without a mark refuses before it encodes')
    const { session } = this
    const isItsOwn = session?.mark.number === mark.number && session.dictionary === dictionary
    if (session !== undefined && isItsOwn && !session.isOver) return session
    this.session = new Session(this.deps.random.bytes(SESSION_BYTES), mark, dictionary)
    return this.session
  }

  private closeIfFull(): void {
    if (this.open !== undefined && this.open.batch.bytes >= this.deps.config.batchBytesMax) {
      this.close()
      this.pump()
    }
  }

  private close(): void {
    if (this.open === undefined) return
    this.waiting.push(this.open)
    this.open = undefined
  }

  /** Sends after the linger, so that pushes that come together share a batch. */
  private pumpSoon(): void {
    if (this.lingering) return
    this.lingering = true
    this.deps.clock.after(this.deps.config.lingerMs, () => {
      this.lingering = false
      this.pump()
    })
  }

  private pump(): void {
    while (this.inFlightCount < this.deps.config.batchesInFlightMax) {
      if (this.waiting.length === 0 && !this.lingering) this.close()
      const next = this.waiting.shift()
      if (next === undefined) return
      this.inFlightCount++
      this.see(next).catch(next.reject)
    }
  }

  private async see(tracked: Tracked): Promise<void> {
    try {
      tracked.resolve(await this.deliver(tracked.batch, this.deps.clock.monotonic() + this.deps.config.pushTimeoutMs))
      if (this.spares.length < SPARES_MAX) this.spares.push(tracked.batch)
    } finally {
      this.inFlightCount--
      this.pump()
    }
  }

  /** APPEND-1: appends until the batch is acknowledged; its highest sequence. */
  private async deliver(batch: Batch, deadlineMs: number): Promise<number> {
    for (;;) {
      await this.marked(deadlineMs)
      const session = this.sessionFor(batch.under.dictionary)
      if (batch.under !== session) {
        batch.restart(session)
        if (batch.bytes > BATCH_BYTES_MAX - HEAVY_BYTES) return this.deliverInParts(batch, deadlineMs)
      }
      const payload = batch.seal()
      const seq = await this.append(batch, payload, deadlineMs)
      if (seq === undefined) continue
      session.markStored(batch, seq)
      const verdict = await this.acknowledger.confirm(session.mark.number, seq, deadlineMs)
      if (verdict === 'acknowledged' && !session.isOver && session.mark.number > this.voidUpTo) return seq
      this.deps.metrics.late.inc()
    }
  }

  /** APPEND-4, APPEND-6 */
  private async marked(deadlineMs: number): Promise<void> {
    const { clock, random } = this.deps
    for (let attempt = 0; !this.isMarked; attempt++) {
      try {
        await this.refresh()
      } catch (error) {
        if (!(error instanceof UnavailableError) || clock.monotonic() >= deadlineMs) throw error
      }
      if (this.isMarked) return
      const text = `partition ${this.partition}: its newest mark was not found in time`
      if (clock.monotonic() >= deadlineMs)
        throw this.refusal() ?? new UnavailableError('err-carillon-unconfirmed', text)
      await sleep(clock, backoffMs(attempt, RETRY, random))
    }
  }

  /** APPEND-6: whether it counts, as far as that goes; `before`: what was known when it was sent. */
  private noteStored(seq: number, { mark }: Session, before: readonly Stored[]): boolean {
    const since = Math.max(mark.since ?? 0, this.voidUpTo + 1)
    const { incarnation } = this
    const isWhole = this.deps.without.has('lost-end')
    if (!isWhole && isGivenAgain({ markNumber: 0, stored: before }, { mark: { ...mark, since }, incarnation, seq })) {
      this.voidUpTo = Math.max(this.voidUpTo, mark.number)
      if (this.session !== undefined) this.session.isOver = true
      this.deps.metrics.lostEnds.inc()
      return false
    }
    if (isSuperseded(this.own, { seq, incarnation }, since)) this.own = { seq, epoch: mark.number, incarnation }
    return true
  }

  /** A batch that has outgrown one message because all its definitions came back. */
  private async deliverInParts(batch: Batch, deadlineMs: number): Promise<number> {
    let highest = 0
    for (const part of batch.split(this.deps.config.batchBytesMax)) {
      highest = Math.max(highest, await this.deliver(part, deadlineMs))
    }
    return highest
  }

  /** The sequence; undefined when a newer mark is known before the batch was stored (LOG-4), its session is over (APPEND-5), or the log has lost its end (APPEND-6). */
  private async append(batch: Batch, payload: Uint8Array, deadlineMs: number): Promise<number | undefined> {
    const { bus, clock, config, metrics } = this.deps
    const before = [...(this.known?.stored ?? []), this.own]
    const messageId = `${batch.under.idText}-${batch.counter}`
    for (let attempt = 0; ; attempt++) {
      if (!fits('batch', this.filled, payload.length)) throw this.full()
      try {
        const timeoutMs = Math.max(1, Math.min(config.appendTimeoutMs, deadlineMs - clock.monotonic()))
        const { seq } = await bus.logs.append(logName(this.partition), batchSubject(this.partition), payload, {
          timeoutMs,
          messageId,
        })
        metrics.appended(payload.length, batch)
        this.filled.add(seq, payload.length)
        return this.noteStored(seq, batch.under, before) ? seq : undefined
      } catch (error) {
        await this.waitAfter(error, attempt, deadlineMs)
        if (!this.mayRepeat(batch)) return undefined
      }
    }
  }

  /** Before the next attempt. Throws what no attempt will mend, or none in time. */
  private async waitAfter(error: unknown, attempt: number, deadlineMs: number): Promise<void> {
    const { clock, metrics, random } = this.deps
    if (!(error instanceof UnavailableError) || error.code === 'log-full') throw wrapFull(error, this.partition)
    const waitMs = backoffMs(attempt, RETRY, random)
    if (clock.monotonic() + waitMs >= deadlineMs) throw error
    metrics.retries.inc()
    await sleep(clock, waitMs)
  }

  /** APPEND-2, APPEND-5 */
  private mayRepeat({ under }: Batch): boolean {
    if (this.mark !== undefined && this.mark.number > under.mark.number) return false
    return !under.isOver
  }
}

function wrapFull(error: unknown, partition: number): unknown {
  if (!(error instanceof UnavailableError)) return error
  return new UnavailableError('err-carillon-log-full', `the log of partition ${partition} is full`, { cause: error })
}

function track(batch: Batch): Tracked {
  let resolve: (seq: number) => void = () => {}
  let reject: (error: unknown) => void = () => {}
  const done = new Promise<number>((yes, no) => {
    resolve = yes
    reject = no
  })
  done.catch(() => {}) // every waiter gets the error itself
  return { batch, done, resolve, reject }
}
