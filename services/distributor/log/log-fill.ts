// How full a log is, as far as one of its writers can tell: as last read, and what was appended since, by itself or, as the sequences tell,
// by others (LOG-7).
import type { LogState } from '../../../shared/bus/port.ts'
import { MESSAGE_BYTES_EXTRA } from '../../../shared/contracts/log.ts'

export class LogFill {
  bytes = 0
  /** 0: it has no bound, or nobody has read it yet. */
  bytesMax = 0
  /** Up to which sequence what stands there is counted; 0: nobody knows. */
  private countedSeq = 0
  /** Of one message. */
  private meanBytes = 0

  hear({ bytes, bytesMax, firstSeq, lastSeq }: LogState): void {
    const count = lastSeq - firstSeq + 1
    this.bytes = bytes
    this.bytesMax = bytesMax
    this.countedSeq = lastSeq
    this.meanBytes = bytes > 0 && count > 0 ? bytes / count : 0
  }

  /** A message of so many bytes stands at this sequence. What others put before it is taken for as large as the log's messages are on the whole. */
  add(seq: number, bytes: number): void {
    if (seq <= this.countedSeq) return // counted with those of others, or a double
    const othersCount = this.countedSeq === 0 ? 0 : seq - this.countedSeq - 1
    this.bytes += bytes + MESSAGE_BYTES_EXTRA + othersCount * (this.meanBytes || bytes)
    this.countedSeq = seq
  }
}
