// A watched table whose bucket may come late: whoever goes by it starts all the same, and hears of it when it can be opened.
import type { Clock } from '../base/clock.ts'
import { patiently } from '../base/patience.ts'
import type { Bus } from '../bus/port.ts'
import type { RecordContract } from '../bus/record.ts'
import type { Told } from '../kv/passed-over.ts'
import { type Row, WatchedTable } from '../kv/watched-table.ts'

export interface LateTable<T> {
  row(whose: string): Row<'whose', T> | undefined
  /** Resolves when what stood in the bucket is known, or when that cannot be found out now. */
  start(): Promise<void>
  stop(): void
}

interface LateTableOptions<T> extends Told {
  readonly bus: Bus
  readonly clock: Clock
  readonly record: RecordContract<'whose', T>
  /** After each change. */
  readonly onChange?: (key: string) => void
  /** The bucket cannot be opened; it is tried again. */
  readonly onFailure: (error: unknown) => void
}

const START_MS_MAX = 5_000
const RETRY_MS = 1_000

export function lateTable<T>(options: LateTableOptions<T>): LateTable<T> {
  const { bus, clock, log, metrics, record, onChange = () => {}, onFailure } = options
  let table: WatchedTable<'whose', T> | undefined
  const stopping = new AbortController()
  return {
    row: (whose) => table?.row({ whose }),
    async start() {
      const known = Promise.withResolvers<void>()
      const late = clock.after(START_MS_MAX, known.resolve)
      void open(known.resolve)
      await known.promise
      late.cancel()
    },
    stop() {
      stopping.abort()
      table?.stop()
    },
  }

  /** Goes on in the background while the bucket cannot be opened. */
  async function open(onReady: () => void): Promise<void> {
    try {
      const patience = { clock, withinMs: Number.POSITIVE_INFINITY, pauseMs: RETRY_MS, signal: stopping.signal }
      const bucket = await patiently(() => bus.bucket(record.bucket), { ...patience, onFailure })
      if (stopping.signal.aborted) return
      table = new WatchedTable({ bucket, clock, log, metrics, record, onChange })
      await table.start()
      onReady()
    } catch (error) {
      if (!stopping.signal.aborted) onFailure(error)
    }
  }
}
