// What is known to have stood in a partition's log: a log that has lost its end gives sequences again, and where it has done so is not told by the log
// alone (decision 44). The bucket remembers what distributors had stored, where fences of deletions stood, and the newest mark.
import type { Clock } from '../base/clock.ts'
import type { Bus, KvBucket } from '../bus/port.ts'
import { keyFor, keysFor } from '../bus/record.ts'
import { type HighWater, highWaterRecord, LOG_BUCKET, type Mark, markRecord } from '../contracts/log.ts'
import type { Log } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { passedOver } from './passed-over.ts'
import { updateRecord } from './update.ts'
import { shownAs } from './watch-records.ts'

export interface KnownEndsDeps {
  readonly bus: Bus
  readonly clock: Clock
  readonly log: Log
  readonly metrics?: Metrics
  readonly id: string
}

/** What the bucket remembered of a log. */
export interface KnownEnd {
  /** Of the newest mark; 0: none. */
  readonly markNumber: number
  readonly stored: readonly Stored[]
}

/** Where something stood, and under which mark it was written. */
export type Stored = Pick<HighWater, 'seq' | 'epoch' | 'incarnation'>

export class KnownEnds {
  private readonly deps: KnownEndsDeps
  private bucket: KvBucket | undefined

  constructor(deps: KnownEndsDeps) {
    this.deps = deps
  }

  async read(partition: number): Promise<KnownEnd> {
    const bucket = await this.opened()
    const unread = passedOver(this.deps)
    const filters = [keyFor(markRecord, { partition }), keysFor(highWaterRecord, { partition })]
    let markNumber = 0
    const stored: HighWater[] = []
    for (const entry of await bucket.newest(filters)) {
      const mark = shownAs(markRecord, entry, unread)
      if (mark?.kind === 'value') markNumber = mark.value
      const row = shownAs(highWaterRecord, entry, unread)
      if (row?.kind === 'value') stored.push(row.value)
    }
    return { markNumber, stored }
  }

  /** So that a log which loses it is noticed: what was written behind it must not stand before it. */
  async write(partition: number, { number, since = 0 }: Mark, fence: Omit<HighWater, 'epoch'>): Promise<void> {
    const told = { ...this.deps, bucket: await this.opened() }
    await rememberMark(told, partition, number)
    await updateRecord({
      ...{ ...told, record: highWaterRecord, params: { partition, distributor: this.deps.id } },
      change: (before) => (isSuperseded(before, fence, since) ? { ...fence, epoch: number } : before),
    })
  }

  private async opened(): Promise<KvBucket> {
    this.bucket ??= await this.deps.bus.bucket(LOG_BUCKET)
    return this.bucket
  }
}

/** Never less than what stands there: another may have gone on while this process stood still. */
export async function rememberMark(
  told: Pick<KnownEndsDeps, 'clock' | 'log' | 'metrics'> & { readonly bucket: KvBucket },
  partition: number,
  number: number,
): Promise<void> {
  const change = (before = 0) => Math.max(before, number)
  await updateRecord({ ...told, record: markRecord, params: { partition }, change })
}

/** Whether what is known to be stored says less than something stored later: of this life of the log, under no mark before `since`. */
export function isSuperseded(known: Stored | undefined, by: Omit<Stored, 'epoch'>, since: number): boolean {
  return known?.incarnation !== by.incarnation || known.epoch < since || known.seq < by.seq
}

/** Whether a message that was stored at this sequence after the end was known, under this mark, stands where something stood before: the log has lost its
 *  end, and its leader has not written the mark yet that says so. */
export function isGivenAgain(
  { markNumber, stored }: KnownEnd,
  { mark, incarnation, seq }: { readonly mark: Mark; readonly incarnation: string; readonly seq: number },
): boolean {
  const { number, since = 0 } = mark
  if (number < markNumber) return true
  return stored.some((row) => row.incarnation === incarnation && row.epoch >= since && row.seq >= seq)
}
