// limits: what one tenant may do, where that differs from the settings of the actors; changed while everything runs.
//
// Bucket `limits`:  {tenant}     JSON LimitsRecord; changed by compare-and-set only, by gateways and the command line; watched by all who
//                                keep limits
//                   __default    the same, for tenants without a value of their own (no encoded tenant has two `_` in a row)
// Precedence: the tenant's record, then `__default`, then the actor's flags. A limit that is not known here is kept and means nothing, so
// that records outlive an older version beside them.
import { jsonRecord, record } from '../bus/record.ts'
import { aCount, aNumber, anObject, aText, listOf, mapOf } from '../bus/shape.ts'
import { encodeTenant, tenantIn } from '../model/tenant.ts'

export const LIMITS_BUCKET = 'limits'
export const DEFAULT_LIMITS_KEY = '__default'
/** Changes that a record remembers. */
export const LIMITS_HISTORY_MAX = 50

export interface LimitKind {
  readonly unit: 'count' | 'bytes' | 'duration'
  readonly doc: string
}

/** Every limit with the one value that it has; counts are whole numbers, durations milliseconds. */
export const LIMITS = {
  query_samples_max: { unit: 'count', doc: 'samples that one query may read' },
  query_series_max: { unit: 'count', doc: 'series that one query may read' },
  query_fetched_bytes_max: { unit: 'bytes', doc: 'bytes that one query may read from owners' },
  query_block_bytes_max: { unit: 'bytes', doc: 'bytes of chunks that one query may read from blocks' },
  query_points_max: { unit: 'count', doc: 'points that one series of a range query may have' },
  query_range_max: { unit: 'duration', doc: 'time between start and end of a query' },
  query_timeout_max: { unit: 'duration', doc: 'time after which a query is given up' },
  query_concurrent_max: { unit: 'count', doc: 'queries that run at the same time, at each querier' },
  query_queued_max: { unit: 'count', doc: 'queries that wait for their turn, at each querier; more are answered 429' },
} as const satisfies Readonly<Record<string, LimitKind>>

export type LimitName = keyof typeof LIMITS
export type Limits = Readonly<Partial<Record<LimitName, number>>>

export interface LimitsVersion {
  /** 1, 2, 3, … */
  readonly version: number
  readonly changedAtMs: number
  readonly changedBy: string
  readonly limits: Readonly<Record<string, number>>
}

export interface LimitsRecord extends LimitsVersion {
  readonly v: 1
  /** Newest first, without the present one. */
  readonly history: readonly LimitsVersion[]
}

/** `undefined`: the default of all tenants. */
export const limitsKey = (tenant: string | undefined): string =>
  tenant === undefined ? DEFAULT_LIMITS_KEY : encodeTenant(tenant)

const versionShape = { version: aCount, changedAtMs: aNumber, changedBy: aText, limits: mapOf(aCount) }

/** `{whose}`: a tenant, or DEFAULT_LIMITS_KEY. */
export const limitsRecord = record({
  name: 'limits',
  bucket: LIMITS_BUCKET,
  key: '{whose}',
  format: jsonRecord<LimitsRecord>(1, { ...versionShape, history: listOf(anObject<LimitsVersion>(versionShape)) }),
  isSound: (_, { whose }) => whose === DEFAULT_LIMITS_KEY || tenantIn(whose) !== undefined,
  unreadable: 'what it said before holds; whoever knows nothing of that goes by the flags. The next change begins anew',
  newer: 'the same; it can be changed by that version alone',
  doc: 'what a tenant may do, and what that was before; `__default` for all',
})
