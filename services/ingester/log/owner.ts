// An owner follows one partition's log, applies it to the partition's state, and checks that the log is whole (LOG-10).
//
// Invariants
//   OWNER-1  Messages are applied in the order of their sequences, each at least once.
//   OWNER-2  What a log does not deliver is named as damage and asked of another owner; it is never passed over in silence.
//   OWNER-3  An owner answers only when it has reached an end of the log that was read recently, and after its reading last began (LOG-18).
//   OWNER-4  What `flushed.<p>` says is in blocks is neither replayed nor missed (LOG-16): reading begins at the mark that it names, and a jump
//       is explained only by it, read again.
//   OWNER-5  A jump frees nothing: what was held before it may be half, so it is shown to nobody from then on, and is compared with what was
//       flushed before it is freed (DELETE-10; after-flush.ts). So is what was held of a log that was made anew.
//   OWNER-6  After `stop` nothing holds it: no timer, no watch, no listener, no reader of its log. What it held is freed when nobody reads it (STATE-6).
import { sleep } from '../../../shared/base/clock.ts'
import { CorruptError, textOf, UnavailableError } from '../../../shared/base/errors.ts'
import type { Subscription } from '../../../shared/base/listeners.ts'
import { isLeftOut } from '../../../shared/blocks/left-out.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import type { LogMessage, LogState } from '../../../shared/bus/port.ts'
import { keyFor } from '../../../shared/bus/record.ts'
import type { Flushed } from '../../../shared/contracts/blocks.ts'
import { checkpointRecord, logName } from '../../../shared/contracts/log.ts'
import { readRecord } from '../../../shared/kv/read-records.ts'
import { DAMAGES_MAX, type Damage, type DamageKind } from '../state/damage.ts'
import { PartitionState } from '../state/partition-state.ts'
import { AppliedMessages } from './applied-messages.ts'
import { APPLIED_BY, checkOf, isMark, kindOf, type SeenMark } from './log-checks.ts'
import { LostEnd } from './lost-end.ts'
import type { LeftBehind, OwnerDeps } from './owner-deps.ts'
import { type Following, type Phase, type Replaying, readingOf } from './owner-phase.ts'
import { Reading } from './reading.ts'
import { type NewestStored, StoredBatches } from './stored-batches.ts'

const WAIT_STEP_MS = 5
/** How long a jump waits for the newest watermark. */
const REFRESH_MS = 5_000
/** Marks that are remembered: of segments that are not flushed, and the one before. */
const MARKS_MAX = 10_000
/** States that may be left behind: of more the oldest is given up. */
const LEFT_BEHIND_MAX = 8

export class Owner {
  readonly partition: number
  state: PartitionState
  appliedSeq = 0
  /** The highest sequence applied of this life of the log: beyond `appliedSeq` after a rewind. */
  appliedMax = 0
  /** The end of the log as last read, and which life of the log it is. */
  end: LogState | undefined
  readonly damages: Damage[] = []
  /** OWNER-5: states that were left behind, oldest first. Each holds what memory held then: together no more than was ever applied and not flushed. */
  leftBehind: readonly LeftBehind[] = []
  /** Monotonic time at which the current mark was seen to be committed (LOG-8). */
  markSeenMs = 0
  /** The marks applied, by number, from the newest flushed segment on. */
  readonly marks = new Map<number, SeenMark>()
  /** What was told before this segment waits for room in the log to be stated again (LOG-7), so it stays in memory; since when, monotonic. */
  unstated: { readonly before: number; readonly sinceMs: number } | undefined
  /** The end of the log at which its newest mark was last compared with the one applied, and when a mark was last written because it was another. */
  comparedEnd: LogState | undefined
  markedAgainMs = Number.NEGATIVE_INFINITY
  readonly lostEnd = new LostEnd()
  /** The next segment is to be opened as soon as `segment-min` allows. */
  wantsMark = false
  private readonly deps: OwnerDeps
  private phase: Phase = { kind: 'new' }
  private readonly applied: AppliedMessages
  private readonly stored: StoredBatches
  /** The newest batches that were known to be stored before `end` was read. */
  private storedBefore: NewestStored = new Map()
  private connection: Subscription | undefined
  private savedSeq = 0
  private readonly wasFreed = Promise.withResolvers<void>()

  constructor(deps: OwnerDeps) {
    this.deps = deps
    this.partition = deps.partition
    this.state = this.freshState()
    this.applied = new AppliedMessages(logName(deps.partition), deps.bus.logs)
    this.stored = new StoredBatches({ ...deps, metrics: deps.registry }, deps.partition)
  }

  get incarnation(): string {
    return this.end?.incarnation ?? ''
  }

  get isStopped(): boolean {
    return this.phase.kind === 'stopped'
  }

  /** When it has stopped and nobody reads what it held. */
  get freed(): Promise<void> {
    return this.wasFreed.promise
  }

  get isCaughtUp(): boolean {
    return this.phase.kind === 'following' && this.phase.reading.isFresh(this.deps.config.staleAfterMs)
  }

  /** What a newer version wrote into the log, in words. */
  get tooNew(): string | undefined {
    return this.phase.kind === 'too-new' ? this.phase.text : undefined
  }

  /** Of all that it holds, shown or left behind. */
  get bytes(): number {
    return this.leftBehind.reduce((sum, { state }) => sum + state.bytes, this.state.bytes)
  }

  /** What a tenant is told with every answer: parts of it that are in memory and in blocks no more. */
  asideOf(tenant: string): string[] {
    return this.deps.asides?.named(this.partition, tenant) ?? []
  }

  /** What is missing for good and was forgotten here, of times from `startMs` on. */
  lostFrom(startMs: number): string[] {
    return this.deps.gaps?.told(this.partition, startMs) ?? []
  }

  /** The first segment that it answers for. */
  get firstSegment(): number {
    const { droppedUpTo, segment } = this.state
    return droppedUpTo > 0 ? droppedUpTo + 1 : (this.state.segments()[0] ?? segment)
  }

  /** After a failure it is to be stopped. */
  async start(): Promise<void> {
    const { bucket, partition, id, bus, clock, log, registry: metrics } = this.deps
    this.connection = bus.onConnection(() => readingOf(this.phase)?.doubt(this.appliedSeq))
    const saved = await readRecord({ bucket, log, metrics }, checkpointRecord, { partition, ingester: id })
    const checkpoint = saved.kind === 'value' ? saved.value : undefined
    this.assertNotStopped()
    await this.stored.start()
    const atMs = clock.monotonic()
    this.storedBefore = this.stored.newest()
    this.end = await bus.logs.state(logName(partition))
    const fromSeq = await this.beginning(this.end)
    this.assertNotStopped()
    const reading = this.read(fromSeq)
    reading.addEnd(this.end.lastSeq, atMs)
    this.phase = { kind: 'replaying', reading, checkpoint }
    this.noteReached()
  }

  /** OWNER-6: nothing is opened any more. */
  private assertNotStopped(): void {
    if (!this.isStopped) return
    throw new UnavailableError('owner-stopped', `partition ${this.partition} was given away meanwhile`)
  }

  /** Where reading begins (OWNER-4). What lies before is taken for applied. */
  private async beginning({ firstSeq, incarnation, originSeq }: LogState): Promise<number> {
    const flushed = this.deps.blocks?.flushedRecord(this.partition)
    if (flushed === undefined) return Math.max(1, firstSeq)
    this.state.dropSegments(flushed.segment)
    if (flushed.mark.incarnation !== incarnation) this.appliedSeq = originSeq - 1
    else if (await this.stands(flushed)) this.appliedSeq = flushed.mark.seq - 1
    return this.appliedSeq + 1
  }

  /** Whether the log holds the mark that a watermark names: another message may stand there by now. */
  private async stands({ mark }: Flushed): Promise<boolean> {
    const { bus, partition } = this.deps
    const message = await bus.logs.get(logName(partition), mark.seq, REFRESH_MS)
    return message !== undefined && isMark(message, partition, mark.nonce)
  }

  /** Frees what is in blocks by now. */
  drop(upTo: number): void {
    this.forget(upTo)
    this.state.dropSegments(upTo)
  }

  /** Damage that nobody could fill stays here until the record of the partition names it. */
  private forget(upTo: number): void {
    const { gaps } = this.deps
    for (const number of [...this.marks.keys()]) if (number < upTo) this.marks.delete(number)
    const isNamed = (damage: Damage) => gaps?.names(this.partition, damage) ?? false
    const kept = this.damages.filter(
      (damage) => damage.segment > upTo || (damage.state === 'missing' && !isNamed(damage)),
    )
    this.damages.splice(0, this.damages.length, ...kept)
  }

  /** OWNER-6 */
  async stop(): Promise<void> {
    const reading = readingOf(this.phase)
    this.phase = { kind: 'stopped' }
    this.connection?.stop()
    this.stored.stop()
    const states = [this.state, ...this.leftBehind.map(({ state }) => state)]
    const freed = Promise.all(states.map((state) => state.use.end())) // before the first await: nobody begins anew
    void freed.then(() => this.wasFreed.resolve())
    await reading?.consumer.stop()
  }

  /** Reads the end of the log, and looks whether the log still is the one that was applied. */
  async readEnd(): Promise<void> {
    const { bus, clock, partition } = this.deps
    const reading = readingOf(this.phase)
    if (reading === undefined || this.phase.kind === 'mending') return
    const atMs = clock.monotonic()
    const { appliedSeq } = this
    const storedBefore = this.stored.newest()
    const end = await bus.logs.state(logName(partition))
    if (readingOf(this.phase) !== reading || this.tooNew !== undefined) return
    const isRewound = this.phase.kind === 'rewound'
    if (this.incarnation !== end.incarnation) return this.startOver(end)
    if (!isRewound && reading.mayCatchUp(end.lastSeq, appliedSeq)) return
    this.end = end
    this.storedBefore = storedBefore
    if (isRewound || end.lastSeq < appliedSeq || !(await reading.agrees(this.applied, this.appliedSeq)))
      return this.mend(end)
    const reachedSeq = this.appliedSeq
    const isTailLost = await reading.lacksTail(end, reachedSeq)
    if (readingOf(this.phase) !== reading) return
    if (isTailLost && this.isApplying && this.appliedSeq === reachedSeq) this.passOverTail(end)
    reading.addEnd(end.lastSeq, atMs)
    if (this.phase.kind === 'following') this.checkHighWater()
    this.noteReached()
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
      if (this.tooNew !== undefined || this.isStopped || clock.monotonic() >= untilMs) {
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
    const crc = this.applied.crcOf(seq)
    if (seq === this.savedSeq || crc === undefined) return
    const { incarnation } = this
    const key = keyFor(checkpointRecord, { partition, ingester: id })
    await bucket.put(key, checkpointRecord.format.encode({ seq, crc, incarnation }))
    this.savedSeq = seq
  }

  report(
    kind: DamageKind,
    range: { fromSeq: number; toSeq: number; segment?: number },
    text: string,
    state: Damage['state'] = 'open',
  ): void {
    const { fromSeq, toSeq, segment = this.state.segment } = range
    const { phase } = this
    if (kind === 'newer-version' && (phase.kind === 'replaying' || phase.kind === 'following')) {
      const words = `cannot be read from sequence ${fromSeq} on: ${text}; start a newer version of Carillon`
      this.phase = { kind: 'too-new', reading: phase.reading, text: words }
    }
    const damage: Damage = { kind, fromSeq, toSeq, segment, incarnation: this.incarnation, text, state }
    if (kind === 'gap') this.state.noteHole(toSeq + 1)
    this.deps.metrics.damage.with({ kind }).inc()
    this.deps.log.error({ partition: this.partition, kind, fromSeq, toSeq, segment }, `log damage: ${text}`)
    if (this.damages.length < DAMAGES_MAX) this.damages.push(damage)
  }

  private freshState(): PartitionState {
    return new PartitionState({
      incarnation: () => this.incarnation,
      strings: this.deps.strings,
      onDamage: (kind, seq, text, segment, whose) => {
        if (whose !== undefined) this.deps.log.error({ partition: this.partition, seq, whose }, `log damage: ${kind}`)
        const state = kind === 'unstorable' ? 'missing' : 'open' // no other owner could have kept it
        this.report(kind, { fromSeq: seq, toSeq: seq, segment }, text, state)
      },
      onSkipped: (seq, text) => {
        this.deps.metrics.skipped.inc()
        this.deps.log.warn({ partition: this.partition, seq }, `batch skipped: ${text}`)
      },
      isForgetful: this.deps.without.has('idempotence'),
      keepsSilent: this.deps.without.has('silence'),
    })
  }

  private read(fromSeq: number): Reading {
    const { bus, clock, log, partition } = this.deps
    const consumer = bus.logs.consume(
      logName(partition),
      fromSeq,
      (message) => this.apply(message),
      (error) => {
        if (error instanceof CorruptError) this.distrust()
        log.warn({ partition, reason: textOf(error) }, 'reading the log was interrupted')
      },
    )
    return new Reading({ consumer, clock, logs: bus.logs, log: logName(partition) })
  }

  /** Nothing more is applied, or answered, until `readEnd` has found where the log still agrees. */
  private distrust(): void {
    const { phase } = this
    if (phase.kind === 'replaying' || phase.kind === 'following') this.phase = { kind: 'rewound', was: phase }
  }

  private get isApplying(): boolean {
    const { kind } = this.phase
    return kind === 'replaying' || kind === 'following' || kind === 'too-new'
  }

  /** OWNER-1: applies the next message; a sequence that is not the next one is damage, unless a purge explains it (OWNER-4). */
  private apply(message: LogMessage): void | Promise<void> {
    if (!this.isApplying) return
    const { seq } = message
    const crc = checkOf(message)
    if (seq <= this.appliedSeq) {
      if (this.applied.contradicts(message, crc)) this.distrust()
      return // delivered again after an interruption
    }
    const { blocks } = this.deps
    const isFree = this.appliedSeq === 0 && blocks === undefined
    const expected = isFree ? Math.max(1, this.end?.firstSeq ?? 1) : this.appliedSeq + 1
    if (seq <= expected) return this.applyNext(message, crc)
    if (blocks !== undefined) return this.applyAfterJump(message, blocks)
    this.reportJump(expected, seq)
    this.applyNext(message, crc)
  }

  private async applyAfterJump(message: LogMessage, blocks: Pick<Blocks, 'flushedRecord' | 'refresh'>): Promise<void> {
    const { partition } = this.deps
    const { appliedSeq } = this
    await blocks.refresh(REFRESH_MS)
    const flushed = blocks.flushedRecord(partition)
    const isPurged = flushed?.mark.incarnation === this.incarnation && message.seq <= flushed.mark.seq
    const beginsAt = isPurged && (await this.stands(flushed)) ? flushed.mark.seq : message.seq
    if (!this.isApplying) return
    if (appliedSeq !== this.appliedSeq) return this.apply(message)
    if (isPurged) this.beginAgain(flushed.segment, beginsAt)
    else this.reportJump(appliedSeq + 1, message.seq)
    if (message.seq > this.appliedSeq) this.applyNext(message, checkOf(message))
  }

  private reportJump(fromSeq: number, seq: number): void {
    this.report('gap', { fromSeq, toSeq: seq - 1 }, `sequences ${fromSeq} to ${seq - 1} were not delivered`)
  }

  /** As an owner that begins with what `flushed.<p>` leaves (OWNER-4), which was purged while this one was away. */
  private beginAgain(flushed: number, seq: number): void {
    const facts = { partition: this.partition, fromSeq: this.appliedSeq + 1, toSeq: seq - 1, flushed }
    this.deps.log.warn(facts, 'the log was purged beyond what this owner has applied: it begins again behind that')
    this.forget(flushed)
    this.leaveBehind()
    this.state.dropSegments(flushed)
    this.appliedSeq = seq - 1
    readingOf(this.phase)?.forgetEnds() // OWNER-3
  }

  /** OWNER-5 */
  private leaveBehind(): void {
    const { state, partition, incarnation } = this
    this.state = this.freshState()
    if (state.segments().length === 0 || isLeftOut('jump-compare')) return void state.use.end()
    this.leftBehind = [...this.leftBehind, { state, partition, incarnation }]
    if (this.leftBehind.length <= LEFT_BEHIND_MAX) return
    const oldest = this.leftBehind[0]!
    this.deps.log.error({ partition, segments: oldest.state.segments() }, 'given up: too often left behind')
    this.free(oldest)
  }

  /** What was left behind is in blocks by now. */
  free(left: LeftBehind): void {
    this.leftBehind = this.leftBehind.filter((each) => each !== left)
    void left.state.use.end()
  }

  private applyNext(message: LogMessage, crc: number): void {
    const { seq, payload } = message
    const kind = kindOf(message, this.partition)
    this.lostEnd.hear(seq, crc, this.state.mark)
    if (kind !== undefined && kind !== 'fence') this.state[APPLIED_BY[kind]](seq, payload)
    else if (kind === undefined)
      this.report('bad-checksum', { fromSeq: seq, toSeq: seq }, `message on unknown subject ${message.subject}`)
    if (kind === 'mark') this.noteMark(seq)
    if (this.phase.kind === 'replaying') this.checkKnown(message, crc, this.phase)
    this.appliedSeq = seq
    this.appliedMax = Math.max(this.appliedMax, seq)
    this.applied.add(seq, crc)
    this.deps.metrics.applied.inc()
    this.noteReached()
  }

  private noteMark(seq: number): void {
    const { mark } = this.state
    this.markSeenMs = this.deps.clock.monotonic()
    this.wantsMark = false
    if (mark?.seq !== seq) return // unreadable
    this.lostEnd.hearMark(mark)
    this.marks.set(mark.number, { seq, nonce: mark.nonce, seenMs: this.markSeenMs })
    if (this.marks.size > MARKS_MAX) this.marks.delete(this.marks.keys().next().value!)
  }

  /** OWNER-3, and once at the first end met: does the log end where it is known to have ended before? */
  private noteReached(): void {
    const { phase } = this
    if (phase.kind !== 'replaying' && phase.kind !== 'following') return
    const { reading } = phase
    reading.reach(this.appliedSeq)
    if (phase.kind === 'following' || !reading.isFresh(this.deps.config.staleAfterMs)) return
    this.phase = { kind: 'following', reading }
    const { checkpoint } = phase
    if (checkpoint && checkpoint.incarnation === this.incarnation && checkpoint.seq > this.appliedSeq) {
      this.reportLostTail(checkpoint.seq, 'this owner had applied')
    }
    this.checkHighWater()
  }

  /** The end that was read must not lie before a batch that was known to be stored when it was asked for. */
  private checkHighWater(): void {
    const stored = this.storedBefore.get(this.incarnation)
    if (stored === undefined || stored.seq <= Math.max(this.end?.lastSeq ?? 0, this.appliedSeq)) return
    this.reportLostTail(stored.seq, `${stored.writer} had stored`, stored.epoch)
  }

  private reportLostTail(seq: number, who: string, epoch?: number): void {
    this.lostEnd.note(this.state.mark, epoch)
    const fromSeq = (this.end?.lastSeq ?? 0) + 1
    const isOfThisLife = ({ incarnation }: Damage) => incarnation === this.incarnation
    if (this.damages.some((each) => each.kind === 'rewind' && each.toSeq >= seq && isOfThisLife(each))) return
    this.report('rewind', { fromSeq, toSeq: seq }, `the log ends at ${fromSeq - 1}, ${who} sequence ${seq}`)
  }

  /** Where a writer had stored a batch, or this owner had applied a message, that very message must stand. */
  private checkKnown(message: LogMessage, crc: number, { checkpoint }: Replaying): void {
    const range = { fromSeq: message.seq, toSeq: message.seq }
    for (const { writer, epoch } of this.stored.replacedBy(message, this.incarnation)) {
      this.lostEnd.note(this.state.mark, epoch)
      const text = `sequence ${message.seq} is another message than the one that ${writer} had stored there`
      this.report('rewind', range, text)
    }
    if (checkpoint?.seq !== message.seq || checkpoint.incarnation !== this.incarnation || checkpoint.crc === crc) return
    this.lostEnd.note(this.state.mark)
    this.report('rewind', range, `sequence ${message.seq} is another message than the one applied before`)
  }

  /** The phase to go on with when it is known from where on. Nothing is applied meanwhile. */
  private suspend(): Replaying | Following | undefined {
    const { phase } = this
    const was = phase.kind === 'rewound' ? phase.was : phase
    if (was.kind !== 'replaying' && was.kind !== 'following') return undefined
    this.phase = { kind: 'mending', was }
    return was
  }

  /** The log ends before what was applied: finds where both still agree and follows from there; memory keeps what was applied. */
  private async mend(end: LogState): Promise<void> {
    const was = this.suspend()
    if (was === undefined) return
    try {
      await was.reading.consumer.stop()
      const trustedMax = Math.min(end.lastSeq, was.reading.trustedSeq(this.appliedSeq))
      const agreedSeq = await this.applied.lastAgreed(end, trustedMax)
      if (this.isStopped) return
      const text = `the log (its end is ${end.lastSeq}) agrees up to ${agreedSeq}, ${this.appliedSeq} was applied; what it lost is held in memory`
      if (agreedSeq < this.appliedSeq) {
        this.lostEnd.meet(end, { seq: this.appliedSeq, crc: this.applied.crcOf(this.appliedSeq) }, this.state.mark)
        this.report('rewind', { fromSeq: agreedSeq + 1, toSeq: this.appliedSeq }, text, 'filled')
        this.lostEnd.keep(this.appliedSeq)
      }
      this.applied.forgetAbove(agreedSeq)
      this.appliedSeq = agreedSeq
      this.phase = { ...was, reading: this.read(agreedSeq + 1) }
    } catch (error) {
      if (!this.isStopped) this.phase = { kind: 'rewound', was }
      throw error
    }
  }

  /** The log is another one: what was applied of the one before is left behind. */
  private async startOver(end: LogState): Promise<void> {
    const was = this.suspend()
    if (was === undefined) return
    this.report('rewind', { fromSeq: 1, toSeq: Math.max(1, this.appliedSeq) }, 'the log was made anew')
    await was.reading.consumer.stop()
    if (this.isStopped) return
    this.leaveBehind()
    this.state.dropSegments(this.deps.blocks?.flushedRecord(this.partition)?.segment ?? 0)
    this.marks.clear()
    this.lostEnd.forget()
    this.applied.forgetAbove(0)
    this.appliedSeq = end.originSeq - 1
    this.appliedMax = this.appliedSeq // what it says to others is of this life, too
    this.end = end
    this.phase = { ...was, reading: this.read(Math.max(1, end.firstSeq)) }
  }
}
