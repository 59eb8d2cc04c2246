// keep: how long a tenant's samples are kept, as compactors act by it, so that nothing is let in that they would remove at once.
//
// Bucket `limits`:  keep.{tenant}     JSON KeepRecord; written by compactors when they start and when their policy file changes; watched by
//                                     distributors, read by gateways when an upload begins
//                   keep.__default    the same, for tenants without one of their own
// What stands there removes nothing: each compactor goes by its own settings and file, and the records say what those were last.
import { jsonRecord, record } from '../bus/record.ts'
import { aCount, aName } from '../bus/shape.ts'
import { tenantIn } from '../model/tenant.ts'
import { DEFAULT_LIMITS_KEY, LIMITS_BUCKET } from './limits.ts'

export interface KeepRecord {
  readonly v: 1
  /** Of the series that are kept for longest; 0: for ever. */
  readonly keepMs: number
  /** The compactor that said so. */
  readonly toldBy: string
}

/** `{whose}` as in limits: a tenant, encoded, or DEFAULT_LIMITS_KEY. */
export const keepRecord = record({
  name: 'keep',
  bucket: LIMITS_BUCKET,
  key: 'keep.{whose}',
  format: jsonRecord<KeepRecord>(1, { keepMs: aCount, toldBy: aName }),
  isSound: (_, { whose }) => whose === DEFAULT_LIMITS_KEY || tenantIn(whose) !== undefined,
  unreadable:
    'what it said before holds; whoever knows nothing of that lets old samples in, and compactors remove them',
  newer: 'the same; the compactors of that version write it',
  doc: 'how long samples of a tenant are kept, as compactors were told; `__default` for all others',
})
