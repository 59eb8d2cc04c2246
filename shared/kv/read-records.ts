// One look at records of a bucket, for whoever keeps no watch.
import type { Clock } from '../base/clock.ts'
import { UnavailableError } from '../base/errors.ts'
import type { KvBucket } from '../bus/port.ts'
import { keyFor, type RecordContract, type RecordParams } from '../bus/record.ts'
import { passedOver, type Told } from './passed-over.ts'
import { type Shown, shownAs } from './watch-records.ts'
import { type Row, WatchedTable } from './watched-table.ts'

/** As it is now, whatever a server that is behind would say; kind `gone` with revision 0: there is none. */
export async function readRecord<P extends string, T>(
  { bucket, ...told }: Told & { readonly bucket: KvBucket },
  record: RecordContract<P, T>,
  params: RecordParams<P>,
): Promise<Shown<P, T>> {
  const key = keyFor(record, params)
  const [entry] = await bucket.newest([key])
  return shownAs(record, entry ?? { key, value: undefined, revision: 0 }, passedOver(told))!
}

/** All that stand in the bucket. UnavailableError `kv-unavailable` when they are not known in time. */
export async function readRecords<P extends string, T>(
  deps: Told & { readonly bucket: KvBucket; readonly clock: Clock; readonly timeoutMs: number },
  record: RecordContract<P, T>,
  fixed: Partial<RecordParams<P>> = {},
): Promise<readonly Row<P, T>[]> {
  const { clock, timeoutMs } = deps
  const table = new WatchedTable({ ...deps, record, fixed })
  const late = Promise.withResolvers<never>()
  const timer = clock.after(timeoutMs, () =>
    late.reject(new UnavailableError('kv-unavailable', `bucket ${record.bucket}: no answer within ${timeoutMs} ms`)),
  )
  try {
    await Promise.race([table.start(), late.promise])
    return [...table.rows()]
  } finally {
    timer.cancel()
    table.stop()
  }
}
