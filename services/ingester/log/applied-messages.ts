// The checksums of the newest messages that were applied: where a log that lost its end, and was filled again, still agrees with them.
import type { LogMessage, LogState, LogStore } from '../../../shared/bus/port.ts'
import { checkOf } from './log-checks.ts'

const REMEMBERED_MAX = 4096
const READ_TIMEOUT_MS = 5_000

export class AppliedMessages {
  private readonly log: string
  private readonly logs: Pick<LogStore, 'get'>
  private readonly crcs = new Map<number, number>()

  constructor(log: string, logs: Pick<LogStore, 'get'>) {
    this.log = log
    this.logs = logs
  }

  /** Undefined: not applied, or so long ago that it is forgotten. */
  crcOf(seq: number): number | undefined {
    return this.crcs.get(seq)
  }

  add(seq: number, crc: number): void {
    this.crcs.set(seq, crc)
    if (this.crcs.size > REMEMBERED_MAX) this.crcs.delete(this.crcs.keys().next().value!)
  }

  forgetAbove(seq: number): void {
    for (const each of [...this.crcs.keys()]) if (each > seq) this.crcs.delete(each)
  }

  /** Whether a message that comes again is not the one that was applied at its place. */
  contradicts({ seq }: Pick<LogMessage, 'seq'>, crc: number): boolean {
    const before = this.crcs.get(seq)
    return before !== undefined && before !== crc
  }

  /** The log's message at a place, and whether it is the one that was applied there. */
  async compare(seq: number): Promise<'same' | 'other' | 'absent'> {
    const message = await this.logs.get(this.log, seq, READ_TIMEOUT_MS)
    if (message === undefined) return 'absent'
    return checkOf(message) === this.crcs.get(seq) ? 'same' : 'other'
  }

  /** The highest place up to `maxSeq` at which the log holds what was applied. */
  async lastAgreed({ firstSeq }: LogState, maxSeq: number): Promise<number> {
    for (let seq = maxSeq; seq >= Math.max(1, firstSeq); seq--) {
      if (!this.crcs.has(seq)) break // older than what is remembered: it is read again, and applying is idempotent
      if ((await this.compare(seq)) === 'same') return seq
    }
    return Math.max(0, firstSeq - 1)
  }
}
