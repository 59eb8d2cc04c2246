// One stretch of reading a log without a break: what an owner knows of its end, and what it doubts.
//
// Invariants
//   READING-1  An end counts once it is reached; how recent it is, is counted from when it was asked for (LOG-18).
//   READING-2  A log is believed to have lost its end, or to hold another message than the one applied, only when it says so itself, and goes on
//       saying so where several servers may differ for a moment.
import type { Clock } from '../../../shared/base/clock.ts'
import type { LogConsumer, LogState, LogStore } from '../../../shared/bus/port.ts'
import type { AppliedMessages } from './applied-messages.ts'

/** Ends of the log that were read and are not reached yet: of more the newest count. */
const ENDS_MAX = 100
const READ_TIMEOUT_MS = 5_000
/** How long a leader may be behind the copies it leads. */
const BEHIND_MS = 1_000
/** Without progress for this long before the log's end, it is looked whether anything is there. */
const STALLED_MS = 3_000
/** How often the newest applied message is compared with the log where nothing was interrupted. */
const COMPARE_MS = 30_000

export interface ReadingDeps {
  readonly consumer: LogConsumer
  readonly clock: Clock
  readonly logs: Pick<LogStore, 'get' | 'state'>
  readonly log: string
}

export class Reading {
  readonly consumer: LogConsumer
  private readonly deps: ReadingDeps
  /** Ends that are not reached yet, then the time of the newest that is. */
  private ends: { readonly seq: number; readonly atMs: number }[] = []
  private reachedAtMs = Number.NEGATIVE_INFINITY
  /** Applied before the connection was lost: must still stand in the log when it is back. */
  private doubtedSeq: number | undefined
  private nextCompareMs = 0
  /** Since when the log is said to end before what was applied. */
  private behindSinceMs: number | undefined
  /** Where applying stands still before the log's end, and since when. */
  private stalled = { seq: -1, sinceMs: 0 }

  constructor(deps: ReadingDeps) {
    this.deps = deps
    this.consumer = deps.consumer
  }

  /** READING-1: an end of the log, and when it was asked for. */
  addEnd(seq: number, atMs: number): void {
    this.ends.push({ seq, atMs })
    if (this.ends.length > ENDS_MAX) this.ends.shift()
  }

  reach(appliedSeq: number): void {
    while (this.ends.length > 0 && this.ends[0]!.seq <= appliedSeq) this.reachedAtMs = this.ends.shift()!.atMs
  }

  /** Whether an end is reached that was read so recently. */
  isFresh(withinMs: number): boolean {
    return this.deps.clock.monotonic() - this.reachedAtMs < withinMs
  }

  /** Only ends that are read from now on count. */
  forgetEnds(): void {
    this.ends = []
    this.reachedAtMs = Number.NEGATIVE_INFINITY
  }

  doubt(appliedSeq: number): void {
    this.doubtedSeq = this.trustedSeq(appliedSeq)
  }

  /** What was applied later proves nothing. */
  trustedSeq(appliedSeq: number): number {
    return Math.min(this.doubtedSeq ?? appliedSeq, appliedSeq)
  }

  /** READING-2: of several servers the leader may be behind the copy that delivered, for a moment. */
  mayCatchUp(lastSeq: number, appliedSeq: number): boolean {
    if (lastSeq >= appliedSeq) this.behindSinceMs = undefined
    if (lastSeq >= appliedSeq) return false
    const nowMs = this.deps.clock.monotonic()
    this.behindSinceMs ??= nowMs
    this.doubt(appliedSeq)
    return nowMs - this.behindSinceMs < BEHIND_MS
  }

  /** After an interruption, and now and then: is the newest applied message still the one that the log holds there? Sequences that
   *  were used again after a loss would otherwise be passed over. */
  async agrees(applied: AppliedMessages, appliedSeq: number): Promise<boolean> {
    const { clock, logs, log } = this.deps
    const seq = this.doubtedSeq ?? appliedSeq
    const isRemembered = applied.crcOf(seq) !== undefined
    const isDue = this.doubtedSeq !== undefined || clock.monotonic() >= this.nextCompareMs
    if (!isRemembered) this.doubtedSeq = undefined // nothing applied yet, or so much since that it is forgotten
    if (!isRemembered || !isDue) return true
    this.nextCompareMs = clock.monotonic() + COMPARE_MS
    const found = await applied.compare(seq)
    const isPurged = found === 'absent' && (await logs.state(log)).firstSeq > seq
    if (found !== 'same' && !isPurged) return false
    if (isPurged || this.doubtedSeq === seq) this.doubtedSeq = undefined
    return true
  }

  /** The log says that it reaches further, but delivers nothing and has nothing there. */
  async lacksTail({ firstSeq, lastSeq }: LogState, appliedSeq: number): Promise<boolean> {
    const { clock, logs, log } = this.deps
    const nowMs = clock.monotonic()
    const isStalled = appliedSeq === this.stalled.seq && appliedSeq < lastSeq
    if (isStalled && nowMs - this.stalled.sinceMs < STALLED_MS) return false
    this.stalled = { seq: appliedSeq, sinceMs: nowMs }
    if (!isStalled) return false
    for (let seq = Math.max(appliedSeq + 1, firstSeq); seq <= lastSeq; seq++) {
      if ((await logs.get(log, seq, READ_TIMEOUT_MS)) !== undefined) return false
    }
    return true
  }
}
