// An owner follows one partition's log, applies it to the partition's state, and checks that the log is whole (L10).
//
// Invariants
//   O1  Messages are applied in the order of their sequences, each at least once.
//   O2  What a log does not deliver is named as damage and asked of another owner; it is never passed over in silence.
//   O3  An owner answers only when it has reached an end of the log that was read recently (L18).
//   O4  What `flushed.<p>` says is in blocks is neither replayed nor missed (L16): reading begins at the mark that it names, and a jump
//       is explained only by it, read again.
import { type Clock, sleep } from '../../shared/base/clock.ts'
import { CorruptError, textOf, UnavailableError } from '../../shared/base/errors.ts'
import type { Blocks } from '../../shared/blocks/port.ts'
import type { Bus, KvBucket, LogConsumer, LogMessage, LogState } from '../../shared/bus/port.ts'
import { type Checkpoint, checkpointKey, encodeRecord, logName, parseRecord } from '../../shared/contracts/log.ts'
import type { Log } from '../../shared/telemetry/log.ts'
import type { StringTable } from '../../shared/tsdb/head/string-table.ts'
import type { IngesterConfig } from './config.ts'
import { DAMAGES_MAX, type Damage, type DamageKind } from './damage.ts'
import { APPLIED_BY, checkOf, isMark, kindOf, type SeenMark } from './log-checks.ts'
import type { OwnerMetrics } from './owner-metrics.ts'
import { PartitionState } from './partition-state.ts'
import { type StoredBatch, StoredBatches } from './stored-batches.ts'

export interface OwnerDeps {
  readonly partition: number
  readonly id: string
  readonly bus: Bus
  readonly bucket: KvBucket
  readonly clock: Clock
  readonly log: Log
  readonly config: IngesterConfig
  readonly metrics: OwnerMetrics
  readonly strings: StringTable
  readonly without: ReadonlySet<string>
  /** Called for damage that another owner may fill. */
  readonly onDamage: (damage: Damage) => void
  /** What is in blocks by now; absent where nothing is ever flushed. */
  readonly blocks?: Pick<Blocks, 'flushedRecord' | 'refresh'>
}

/** Messages whose checksums are remembered, to find where a rewound log still agrees. */
const REMEMBERED_MAX = 4096
const WAIT_STEP_MS = 5
/** Ends of the log that were read and are not reached yet: of more the newest count. */
const READS_MAX = 100
const READ_TIMEOUT_MS = 5_000
/** How long a leader may be behind the copies it leads. */
const BEHIND_MS = 1_000
/** Without progress for this long before the log's end, it is looked whether anything is there. */
const STALLED_MS = 3_000
/** How often the newest applied message is compared with the log where nothing was interrupted. */
const COMPARE_MS = 30_000
/** How long a jump waits for the newest watermark. */
const REFRESH_MS = 5_000
/** Marks that are remembered: of segments that are not flushed, and the one before. */
const MARKS_MAX = 10_000

export class Owner {
  readonly partition: number
  state: PartitionState
  appliedSeq = 0
  /** The highest sequence ever applied here: beyond `appliedSeq` after a rewind. */
  appliedMax = 0
  /** The end of the log as last read, and which life of the log it is. */
  end: LogState | undefined
  readonly damages: Damage[] = []
  /** Monotonic time at which the current mark was seen to be committed (L8). */
  markSeenMs = 0
  /** The marks applied, by number, from the newest flushed segment on. */
  readonly marks = new Map<number, SeenMark>()
  /** The next segment is to be opened as soon as `segment-min` allows. */
  wantsMark = false
  private readonly deps: OwnerDeps
  private consumer: LogConsumer | undefined
  /** Ends that were read and are not reached yet, then the time of the newest reached read. */
  private reads: { seq: number; atMs: number }[] = []
  private reachedAtMs = Number.NEGATIVE_INFINITY
  private readonly remembered = new Map<number, number>()
  private readonly stored: StoredBatches
  /** The newest batch that was known to be stored before `end` was read. */
  private storedBefore: StoredBatch | undefined
  /** Applied when the connection was lost: must still stand in the log when it is back. */
  private doubtedSeq: number | undefined
  private stalledSeq = -1
  private stalledSinceMs = 0
  private checkpoint: Checkpoint | undefined
  private savedSeq = 0
  /** Stopped: its memory was given back. */
  isGone = false
  private isMending = false
  /** The log was found to be another than the one applied: nothing is applied until it is known from where on. */
  private isRewound = false
  /** What a newer version wrote into the log, in words: from there on nothing is answered, led, flushed, purged or dropped here. */
  tooNew: string | undefined
  /** Since when the log is said to end before what was applied. */
  private behindSinceMs: number | undefined
  private hasMetEnd = false
  private nextCompareMs = 0

  constructor(deps: OwnerDeps) {
    this.deps = deps
    this.partition = deps.partition
    this.state = this.freshState()
    this.stored = new StoredBatches(deps.bucket, deps.partition)
  }

  get incarnation(): string {
    return this.end?.incarnation ?? ''
  }

  get isCaughtUp(): boolean {
    return (
      this.tooNew === undefined &&
      !this.isRewound &&
      this.deps.clock.monotonic() - this.reachedAtMs < this.deps.config.staleAfterMs
    )
  }

  /** The first segment that it answers for. */
  get firstSegment(): number {
    const { droppedUpTo, segment } = this.state
    return droppedUpTo > 0 ? droppedUpTo + 1 : (this.state.segments()[0] ?? segment)
  }

  async start(): Promise<void> {
    const { bucket, partition, id } = this.deps
    const saved = await bucket.get(checkpointKey(partition, id))
    if (saved?.value) this.checkpoint = parseRecord(saved.value, 'checkpoint') as unknown as Checkpoint
    await this.stored.start()
    this.deps.bus.onConnection(() => {
      this.doubtedSeq = Math.min(this.doubtedSeq ?? this.appliedSeq, this.appliedSeq)
    })
    await this.readEnd()
    this.follow(await this.beginning())
  }

  /** Where reading begins (O4). What lies before is taken for applied. */
  private async beginning(): Promise<number> {
    const { bus, partition } = this.deps
    const firstSeq = Math.max(1, this.end?.firstSeq ?? 1)
    const flushed = this.deps.blocks?.flushedRecord(partition)
    if (flushed === undefined) return firstSeq
    this.state.dropSegments(flushed.segment)
    const { seq, nonce, incarnation } = flushed.mark
    const isSameLog = incarnation === this.incarnation
    const message = isSameLog ? await bus.logs.get(logName(partition), seq, REFRESH_MS) : undefined
    if (message !== undefined && isMark(message, partition, nonce)) this.appliedSeq = seq - 1
    else if (!isSameLog) this.appliedSeq = firstSeq - 1
    return this.appliedSeq + 1
  }

  /** Frees what is in blocks by now. Damage that nobody could fill stands beside its blocks; where there are none it stays here. */
  drop(upTo: number): void {
    const held = this.state.segments()
    this.state.dropSegments(upTo)
    for (const number of [...this.marks.keys()]) if (number < upTo) this.marks.delete(number)
    const kept = this.damages.filter(
      ({ segment, state }) => segment > upTo || (state === 'missing' && !held.includes(segment)),
    )
    this.damages.splice(0, this.damages.length, ...kept)
  }

  async stop(): Promise<void> {
    this.isGone = true
    this.stored.stop()
    await this.consumer?.stop()
    this.state.dispose()
  }

  /** Reads the end of the log, and looks whether the log still is the one that was applied. */
  async readEnd(): Promise<void> {
    const { bus, clock, partition } = this.deps
    const atMs = clock.monotonic()
    const before = this.end
    const { appliedSeq } = this
    const storedBefore = this.stored.newest()
    const end = await bus.logs.state(logName(partition))
    if (this.isGone) return
    const isSame = before === undefined || before.incarnation === end.incarnation
    if (isSame && !this.isRewound && end.lastSeq < appliedSeq && this.mayCatchUp(appliedSeq)) return
    if (end.lastSeq >= appliedSeq) this.behindSinceMs = undefined
    this.end = end
    this.storedBefore = storedBefore
    if (!isSame) return this.startOver('the log was made anew')
    if (this.isRewound || end.lastSeq < appliedSeq || !(await this.agreesWithLog())) return this.mendRewind(end)
    if (await this.lacksTail(end)) this.passOverTail(end)
    this.reads.push({ seq: end.lastSeq, atMs })
    if (this.reads.length > READS_MAX) this.reads.shift()
    if (this.hasMetEnd) this.checkHighWater()
    this.noteReached()
  }

  /** Of several servers the leader may be behind the copy that delivered, for a moment: what it says is believed when it goes on saying so. */
  private mayCatchUp(appliedSeq: number): boolean {
    const nowMs = this.deps.clock.monotonic()
    this.behindSinceMs ??= nowMs
    this.doubtedSeq = Math.min(this.doubtedSeq ?? appliedSeq, appliedSeq)
    return nowMs - this.behindSinceMs < BEHIND_MS
  }

  /** After an interruption, and now and then: is the newest applied message still the one that the log holds there? Sequences that
   *  were used again after a loss would otherwise be passed over. */
  private async agreesWithLog(): Promise<boolean> {
    const { bus, clock, partition } = this.deps
    const seq = this.doubtedSeq ?? this.appliedSeq
    const crc = this.remembered.get(seq)
    const isDue = this.doubtedSeq !== undefined || clock.monotonic() >= this.nextCompareMs
    if (crc === undefined) this.doubtedSeq = undefined // nothing applied yet, or so much since that it is forgotten
    if (crc === undefined || !isDue) return true
    this.nextCompareMs = clock.monotonic() + COMPARE_MS
    const message = await bus.logs.get(logName(partition), seq, READ_TIMEOUT_MS)
    if (message === undefined && (await bus.logs.state(logName(partition))).firstSeq > seq) this.doubtedSeq = undefined
    else if (message === undefined || checkOf(message) !== crc) return false
    if (this.doubtedSeq === seq) this.doubtedSeq = undefined
    return true
  }

  /** The log says that it reaches further, but delivers nothing and has nothing there. */
  private async lacksTail({ firstSeq, lastSeq }: LogState): Promise<boolean> {
    const { bus, clock, partition } = this.deps
    const { appliedSeq } = this
    if (appliedSeq !== this.stalledSeq || appliedSeq >= lastSeq) {
      this.stalledSeq = appliedSeq
      this.stalledSinceMs = clock.monotonic()
      return false
    }
    if (clock.monotonic() - this.stalledSinceMs < STALLED_MS) return false
    this.stalledSinceMs = clock.monotonic()
    for (let seq = Math.max(appliedSeq + 1, firstSeq); seq <= lastSeq; seq++) {
      if ((await bus.logs.get(logName(partition), seq, READ_TIMEOUT_MS)) !== undefined) return false
    }
    return this.appliedSeq === appliedSeq
  }

  private passOverTail({ firstSeq, lastSeq }: LogState): void {
    const fromSeq = Math.max(this.appliedSeq + 1, firstSeq)
    const text = `the log says that it ends at ${lastSeq} but holds nothing from ${fromSeq} on`
    this.report('gap', { fromSeq, toSeq: lastSeq }, text)
    this.appliedSeq = lastSeq
  }

  /** Resolves when `seq` is applied; rejects with UnavailableError `err-carillon-owner-behind` after `waitMs`. */
  async waitFor(seq: number, waitMs: number, signal?: AbortSignal): Promise<void> {
    const { clock } = this.deps
    const untilMs = clock.monotonic() + waitMs
    while (this.appliedSeq < seq || !this.isCaughtUp) {
      if (this.tooNew !== undefined || clock.monotonic() >= untilMs) {
        const behind = `has applied ${this.appliedSeq}, ${Math.max(seq, this.end?.lastSeq ?? 0)} was asked for`
        const text = `partition ${this.partition} ${this.tooNew ?? behind}`
        throw new UnavailableError('err-carillon-owner-behind', text)
      }
      await sleep(clock, WAIT_STEP_MS, signal)
    }
  }

  async saveCheckpoint(): Promise<void> {
    const { bucket, partition, id } = this.deps
    const seq = this.appliedSeq
    const crc = this.remembered.get(seq)
    if (seq === this.savedSeq || crc === undefined) return
    await bucket.put(checkpointKey(partition, id), encodeRecord({ seq, crc, incarnation: this.incarnation }))
    this.savedSeq = seq
  }

  report(
    kind: DamageKind,
    range: { fromSeq: number; toSeq: number; segment?: number },
    text: string,
    state: Damage['state'] = 'open',
  ): void {
    const { fromSeq, toSeq, segment = this.state.segment } = range
    if (kind === 'newer-version')
      this.tooNew ??= `cannot be read from sequence ${fromSeq} on: ${text}; start a newer version of Carillon`
    const damage: Damage = { kind, fromSeq, toSeq, segment, text, state }
    if (kind === 'gap') this.state.noteHole(toSeq + 1)
    this.deps.metrics.damage.with({ kind }).inc()
    this.deps.log.error({ partition: this.partition, kind, fromSeq, toSeq, segment }, `log damage: ${text}`)
    if (this.damages.length < DAMAGES_MAX) this.damages.push(damage)
    if (state === 'open') this.deps.onDamage(damage)
  }

  private freshState(): PartitionState {
    return new PartitionState({
      strings: this.deps.strings,
      onDamage: (kind, seq, text, segment) => this.report(kind, { fromSeq: seq, toSeq: seq, segment }, text),
      onSkipped: (seq, text) => {
        this.deps.metrics.skipped.inc()
        this.deps.log.warn({ partition: this.partition, seq }, `batch skipped: ${text}`)
      },
      isForgetful: this.deps.without.has('idempotence'),
      keepsSilent: this.deps.without.has('silence'),
    })
  }

  private follow(fromSeq: number): void {
    const { bus, log, partition } = this.deps
    this.consumer = bus.logs.consume(
      logName(partition),
      fromSeq,
      (message) => this.apply(message),
      (error) => {
        if (error instanceof CorruptError) this.isRewound = true
        log.warn({ partition, reason: textOf(error) }, 'reading the log was interrupted')
      },
    )
  }

  /** O1: applies the next message; a sequence that is not the next one is damage, unless a purge explains it (O4). */
  private apply(message: LogMessage): void | Promise<void> {
    if (this.isGone || this.isMending || this.isRewound) return
    const { seq } = message
    const crc = checkOf(message)
    if (seq <= this.appliedSeq) {
      const before = this.remembered.get(seq)
      if (before !== undefined && before !== crc) this.isRewound = true
      return // delivered again after an interruption
    }
    const expected = this.appliedSeq + 1
    const isFree = this.appliedSeq === 0 && this.deps.blocks === undefined
    const firstSeq = isFree ? Math.max(1, this.end?.firstSeq ?? 1) : expected
    if (seq <= firstSeq) return this.applyNext(message, crc)
    if (this.deps.blocks !== undefined) return this.applyAfterJump(message, firstSeq, this.deps.blocks)
    this.reportJump(firstSeq, seq)
    this.applyNext(message, crc)
  }

  private async applyAfterJump(
    message: LogMessage,
    fromSeq: number,
    blocks: Pick<Blocks, 'flushedRecord' | 'refresh'>,
  ): Promise<void> {
    const { partition } = this.deps
    const { appliedSeq } = this
    await blocks.refresh({ partition }, REFRESH_MS)
    if (this.isGone || this.isMending || this.isRewound) return
    if (appliedSeq !== this.appliedSeq) return this.apply(message)
    const flushed = blocks.flushedRecord(partition)
    const isPurged = flushed?.mark.incarnation === this.incarnation && message.seq <= flushed.mark.seq
    if (isPurged) this.drop(flushed.segment)
    else this.reportJump(fromSeq, message.seq)
    this.applyNext(message, checkOf(message))
  }

  private reportJump(fromSeq: number, seq: number): void {
    this.report('gap', { fromSeq, toSeq: seq - 1 }, `sequences ${fromSeq} to ${seq - 1} were not delivered`)
  }

  private applyNext(message: LogMessage, crc: number): void {
    const { seq, payload } = message
    const kind = kindOf(message, this.partition)
    if (kind !== undefined) this.state[APPLIED_BY[kind]](seq, payload)
    else this.report('bad-checksum', { fromSeq: seq, toSeq: seq }, `message on unknown subject ${message.subject}`)
    if (kind === 'mark') this.noteMark(seq)
    if (!this.hasMetEnd) this.checkStored(message)
    this.checkCheckpoint(seq, crc)
    this.appliedSeq = seq
    this.appliedMax = Math.max(this.appliedMax, seq)
    this.remember(seq, crc)
    this.deps.metrics.applied.inc()
    this.noteReached()
  }

  private noteMark(seq: number): void {
    const { mark } = this.state
    this.markSeenMs = this.deps.clock.monotonic()
    this.wantsMark = false
    if (mark?.seq !== seq) return // unreadable
    this.marks.set(mark.number, { seq, nonce: mark.nonce, seenMs: this.markSeenMs })
    if (this.marks.size > MARKS_MAX) this.marks.delete(this.marks.keys().next().value!)
  }

  private remember(seq: number, crc: number): void {
    this.remembered.set(seq, crc)
    if (this.remembered.size > REMEMBERED_MAX) this.remembered.delete(this.remembered.keys().next().value!)
  }

  /** O3, and once at the first end met: does the log end where it is known to have ended before? */
  private noteReached(): void {
    while (this.reads.length > 0 && this.reads[0]!.seq <= this.appliedSeq) this.reachedAtMs = this.reads.shift()!.atMs
    if (this.hasMetEnd || !this.isCaughtUp) return
    this.hasMetEnd = true
    const { checkpoint } = this
    if (checkpoint && checkpoint.incarnation === this.incarnation && checkpoint.seq > this.appliedSeq) {
      this.reportLostTail(checkpoint.seq, 'this owner had applied')
    }
    this.checkHighWater()
  }

  /** The end that was read must not lie before a batch that was known to be stored when it was asked for. */
  private checkHighWater(): void {
    const { storedBefore } = this
    if (storedBefore?.incarnation !== this.incarnation) return
    if (storedBefore.seq <= Math.max(this.end?.lastSeq ?? 0, this.appliedSeq)) return
    this.reportLostTail(storedBefore.seq, `${storedBefore.writer} had stored`)
  }

  /** While the log is read again: where a writer had stored a batch, that very batch must stand. */
  private checkStored(message: LogMessage): void {
    const { seq } = message
    for (const { writer } of this.stored.replacedBy(message, this.incarnation)) {
      const text = `sequence ${seq} is another message than the one that ${writer} had stored there`
      this.report('rewind', { fromSeq: seq, toSeq: seq }, text)
    }
  }

  private reportLostTail(seq: number, who: string): void {
    const fromSeq = (this.end?.lastSeq ?? 0) + 1
    if (this.damages.some((damage) => damage.kind === 'rewind' && damage.toSeq >= seq)) return
    this.report('rewind', { fromSeq, toSeq: seq }, `the log ends at ${fromSeq - 1}, ${who} sequence ${seq}`)
  }

  private checkCheckpoint(seq: number, crc: number): void {
    const { checkpoint } = this
    if (checkpoint?.seq !== seq || checkpoint.incarnation !== this.incarnation || checkpoint.crc === crc) return
    this.report(
      'rewind',
      { fromSeq: seq, toSeq: seq },
      `sequence ${seq} is another message than the one applied before`,
    )
  }

  /** The log ends before what was applied: finds where both still agree and follows from there; memory keeps what was applied. */
  private async mendRewind(end: LogState): Promise<void> {
    if (this.isMending) return
    this.isMending = true
    try {
      await this.consumer?.stop()
      this.nextCompareMs = 0
      const trustedMax = Math.min(end.lastSeq, this.appliedSeq, this.doubtedSeq ?? this.appliedSeq) // what came later proves nothing
      const agreedSeq = await this.lastAgreed(end, trustedMax)
      this.doubtedSeq = undefined
      this.isRewound = false
      const text = `the log (its end is ${end.lastSeq}) agrees up to ${agreedSeq}, ${this.appliedSeq} was applied; what it lost is held in memory`
      if (agreedSeq < this.appliedSeq)
        this.report('rewind', { fromSeq: agreedSeq + 1, toSeq: this.appliedSeq }, text, 'filled')
      for (const seq of [...this.remembered.keys()]) if (seq > agreedSeq) this.remembered.delete(seq)
      this.appliedSeq = agreedSeq
      this.reads = []
    } finally {
      this.isMending = false
    }
    if (!this.isGone) this.follow(this.appliedSeq + 1)
  }

  private async lastAgreed(end: LogState, trustedMax: number): Promise<number> {
    const { bus, partition } = this.deps
    for (let seq = trustedMax; seq >= Math.max(1, end.firstSeq); seq--) {
      const crc = this.remembered.get(seq)
      if (crc === undefined) break // older than what is remembered: it is read again, and applying is idempotent
      const message = await bus.logs.get(logName(partition), seq, READ_TIMEOUT_MS)
      if (message && checkOf(message) === crc) return seq
    }
    return Math.max(0, end.firstSeq - 1)
  }

  private async startOver(text: string): Promise<void> {
    this.report('rewind', { fromSeq: 1, toSeq: Math.max(1, this.appliedSeq) }, text)
    this.isMending = true
    await this.consumer?.stop()
    this.isMending = false
    this.isRewound = false
    this.state.dispose()
    this.state = this.freshState()
    this.state.dropSegments(this.deps.blocks?.flushedRecord(this.partition)?.segment ?? 0)
    this.marks.clear()
    this.appliedSeq = 0
    this.reads = []
    this.remembered.clear()
    this.follow(Math.max(1, this.end?.firstSeq ?? 1))
  }
}
