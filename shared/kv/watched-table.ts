// The rows of one record as they are now: a mirror of a bucket, kept by a watch.
//
// Invariants
//   TABLE-1  Nothing that stands in the bucket makes it throw, stop or wait: a row that cannot be read is a row that says so, and keeps the last
//        value that could be read. An entry under a key that is none is no row.
//   TABLE-2  After `start` has resolved, what stood in the bucket is known. After `stop` nothing is called any more.
import type { Clock } from '../base/clock.ts'
import type { BusSubscription, KvBucket } from '../bus/port.ts'
import { keyFor, keysFor, type RecordContract, type RecordParams } from '../bus/record.ts'
import type { Told } from './passed-over.ts'
import { on, type Shown, watchRecords } from './watch-records.ts'

export interface Row<P extends string, T> {
  readonly key: string
  readonly params: RecordParams<P>
  readonly revision: number
  readonly kind: 'value' | 'newer-version' | 'unreadable'
  /** What it says; where it cannot be read, what it said when it last could. */
  readonly value: T | undefined
  /** Monotonic clock, when this revision was shown. */
  readonly since: number
}

export interface TableOptions<P extends string, T> extends Told {
  readonly bucket: KvBucket
  readonly record: RecordContract<P, T>
  /** Only keys with these parameters. */
  readonly fixed?: Partial<RecordParams<P>>
  readonly clock: Clock
  /** After each change. */
  readonly onChange?: (key: string) => void
}

export class WatchedTable<P extends string, T> {
  readonly #options: TableOptions<P, T>
  /** Bound: one per key of the bucket. */
  readonly #rows = new Map<string, Row<P, T>>()
  #watch: BusSubscription | undefined

  constructor(options: TableOptions<P, T>) {
    this.#options = options
  }

  /** Resolves when all that stand in the bucket are known. */
  start(): Promise<void> {
    const { bucket, record, fixed = {}, log, metrics } = this.#options
    const filter = keysFor(record, fixed as Partial<RecordParams<P>>)
    return new Promise((resolve) => {
      const ears = [on(record, (shown) => this.#show(shown))] as const
      this.#watch = watchRecords({ bucket, filter, ears, log, metrics }, resolve)
    })
  }

  stop(): void {
    this.#watch?.stop()
  }

  row(params: RecordParams<P>): Row<P, T> | undefined {
    return this.#rows.get(keyFor(this.#options.record, params))
  }

  rows(): Iterable<Row<P, T>> {
    return this.#rows.values()
  }

  /** What can be read now. */
  *values(): Iterable<T> {
    for (const { kind, value } of this.#rows.values()) if (kind === 'value') yield value as T
  }

  #show(shown: Shown<P, T>): void {
    const { clock, onChange } = this.#options
    const { key, params, revision, kind } = shown
    if (kind === 'gone') this.#rows.delete(key)
    else {
      const value = kind === 'value' ? shown.value : this.#rows.get(key)?.value
      this.#rows.set(key, { key, params, revision, kind, value, since: clock.monotonic() })
    }
    onChange?.(key)
  }
}
