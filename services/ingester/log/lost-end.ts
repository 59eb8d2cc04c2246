// Whether a log has lost its end, and gives sequences again, since its newest mark that says so (decision 44): the leader writes the next mark then.
import type { LogState } from '../../../shared/bus/port.ts'
import type { AppliedMark } from '../state/partition-state.ts'

interface Applied {
  readonly seq: number
  readonly crc: number | undefined
}

type KnownMark = Pick<AppliedMark, 'number' | 'since'> | undefined

export class LostEnd {
  /** The segment up to which something stood in the log that it has lost. */
  upTo: number | undefined
  /** Up to where is held what this life of the log has lost. */
  keptUpTo = 0
  /** Where the log holds another message than was applied: it has lost its end, unless the same is delivered again. */
  private doubted: Applied | undefined

  /** Of what was stored under an epoch before the newest mark that says so, that is known. */
  note(mark: KnownMark, epoch = mark?.number ?? 0): void {
    if (epoch >= (mark?.since ?? 0)) this.upTo = Math.max(this.upTo ?? 0, mark?.number ?? 0)
  }

  /** The log does not agree with what was applied, up to and with this message. */
  meet({ lastSeq }: Pick<LogState, 'lastSeq'>, applied: Applied, mark: KnownMark): void {
    if (lastSeq < applied.seq) this.note(mark)
    else this.doubted = applied
  }

  /** A message is about to be applied. */
  hear(seq: number, crc: number, mark: KnownMark): void {
    const { doubted } = this
    if (doubted === undefined || seq < doubted.seq) return
    if (seq > doubted.seq || crc !== doubted.crc) this.note(mark)
    this.doubted = undefined
  }

  /** A mark was applied. */
  hearMark({ since = 0 }: AppliedMark): void {
    if (this.upTo !== undefined && since > this.upTo) this.upTo = undefined
  }

  /** What the log lost is held up to there. */
  keep(seq: number): void {
    this.keptUpTo = Math.max(this.keptUpTo, seq)
  }

  forget(): void {
    this.keptUpTo = 0
    this.upTo = undefined
    this.doubted = undefined
  }
}
