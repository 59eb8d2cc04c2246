// Which samples may be missing where an answer warns: those of log messages that were damaged on disk, and of all that lay behind them in the same log,
// which a server may cut off.
import { CorruptError, RefusedError } from '../../shared/base/errors.ts'
import type { LogMessage } from '../../shared/bus/port.ts'
import { batchSubject, decodeMark, markSubject } from '../../shared/contracts/log.ts'
import { decodeLogBatch } from '../../shared/wire/log-batch.ts'
import type { Send } from '../sim/ledger.ts'
import { readLog } from '../sim/log-model.ts'

export type Told = Pick<LogMessage, 'seq' | 'subject' | 'payload'>

export class Harm {
  /** Something happened to a log: answers may warn. */
  isThere = false
  /** "tenant \0 label \0 value … | time" */
  private readonly samples = new Set<string>()
  /** Of samples whose series was defined in a message that is not there any more. */
  private readonly times = new Set<number>()

  /** All messages of a log, and the first that was damaged. */
  add(partition: number, messages: readonly Told[], fromSeq: number): void {
    this.isThere = true
    const sound = soundOf(partition, messages) as LogMessage[]
    const { samples: all } = readLog(partition, sound)
    const { samples: kept } = readLog(
      partition,
      sound.filter(({ seq }) => seq < fromSeq),
    )
    for (const sample of all) {
      if (kept.has(sample)) continue
      const [, series, time] = sample.split('|') as [string, string, string]
      if (series === 'undefined') this.times.add(Number(time))
      else this.samples.add(`${series}|${time}`)
    }
  }

  isHarmed({ tenant, labels, time }: Send): boolean {
    return this.times.has(time) || this.samples.has(`${[tenant, ...labels].join('\0')}|${time}`)
  }
}

/** Messages that can be read: others put junk into a log. */
export function soundOf(partition: number, messages: readonly Told[]): readonly Told[] {
  return messages.filter(({ subject, payload }) => {
    try {
      if (subject === markSubject(partition)) decodeMark(payload)
      if (subject === batchSubject(partition)) decodeLogBatch(payload)
      return true
    } catch (error) {
      if (error instanceof RefusedError || error instanceof CorruptError) return false
      throw error
    }
  })
}
