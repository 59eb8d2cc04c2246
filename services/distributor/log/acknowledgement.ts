// The acknowledgement rule (LOG-5): a stored batch of epoch k counts only when it is shown to lie before M(k+2).
//
// A log may have lost its newest marks: owners, who applied them, skip what is written under those that are left. What such a log shows settles
// nothing, until its leader has written the next (LOG-8).
//
// One exact read settles all batches up to its `upToSeq`, so reads are shared: whoever comes while one is under way waits for it, and
// a next one covers all that are left.
import type { Clock } from '../../../shared/base/clock.ts'
import { sleep } from '../../../shared/base/clock.ts'
import { RefusedError, UnavailableError } from '../../../shared/base/errors.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { decodeMark, logName, type Mark, markSubject } from '../../../shared/contracts/log.ts'

export interface MarkView {
  /** The newest mark at or before `upToSeq`, and where it stands. */
  readonly mark: Mark
  readonly markSeq: number
  readonly upToSeq: number
}

export interface AcknowledgerDeps {
  readonly bus: Bus
  readonly clock: Clock
  readonly partition: number
  readonly readTimeoutMs: number
  readonly onMark: (mark: Mark) => void
  /** The number that the newest mark has at least; undefined while nobody knows. */
  readonly atLeast: () => number | undefined
  /** Only in the simulation's counter-proof: every stored batch counts. */
  readonly isCredulous: boolean
}

const RETRY_FIRST_MS = 2
const RETRY_MAX_MS = 100

export class Acknowledger {
  private readonly deps: AcknowledgerDeps
  private reading: Promise<MarkView | undefined> | undefined

  constructor(deps: AcknowledgerDeps) {
    this.deps = deps
  }

  /** `late`: the batch cannot be relied on and has to be written again. Rejects with UnavailableError at the deadline (monotonic ms). */
  async confirm(epoch: number, seq: number, deadlineMs: number): Promise<'acknowledged' | 'late'> {
    if (this.deps.isCredulous) return 'acknowledged'
    let waitMs = RETRY_FIRST_MS
    let failure: unknown
    while (this.deps.clock.monotonic() < deadlineMs) {
      try {
        const view = await this.sharedRead()
        const atLeast = this.deps.atLeast()
        const isExact =
          view !== undefined && view.upToSeq >= seq && atLeast !== undefined && view.mark.number >= atLeast
        if (isExact) return verdict(view, epoch, seq)
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error
        failure = error
      }
      await sleep(this.deps.clock, waitMs)
      waitMs = Math.min(waitMs * 2, RETRY_MAX_MS)
    }
    const text = `partition ${this.deps.partition}: sequence ${seq} is stored, but no exact read of the mark came in time`
    throw new UnavailableError('err-carillon-unconfirmed', text, { cause: failure })
  }

  /** The newest mark as far as this answer reaches; undefined when the log has none. */
  read(): Promise<MarkView | undefined> {
    return this.sharedRead()
  }

  private sharedRead(): Promise<MarkView | undefined> {
    this.reading ??= this.readMark().finally(() => {
      this.reading = undefined
    })
    return this.reading
  }

  private async readMark(): Promise<MarkView | undefined> {
    const { bus, partition, readTimeoutMs, onMark } = this.deps
    const { messages, upToSeq } = await bus.logs.lastPerSubject(
      logName(partition),
      [markSubject(partition)],
      readTimeoutMs,
    )
    const message = messages[0]
    if (!message) return undefined
    const mark = this.decoded(message.payload)
    onMark(mark)
    return { mark, markSeq: message.seq, upToSeq }
  }

  /** What is no mark shows nothing about the batches before it; the leader writes a mark after it. */
  private decoded(payload: Uint8Array): Mark {
    try {
      return decodeMark(payload)
    } catch (cause) {
      if (!(cause instanceof RefusedError)) throw cause
      const text = `partition ${this.deps.partition}: what stands where its newest mark should stand is none: ${cause.message}`
      throw new UnavailableError('err-carillon-mark-unreadable', text, { cause })
    }
  }
}

/** The newest mark up to `upToSeq` ≥ seq is exact; what lies before M(epoch + 2) counts. */
function verdict(view: MarkView, epoch: number, seq: number): 'acknowledged' | 'late' {
  if (view.mark.number <= epoch + 1) return 'acknowledged'
  return view.mark.number === epoch + 2 && view.markSeq > seq ? 'acknowledged' : 'late'
}
