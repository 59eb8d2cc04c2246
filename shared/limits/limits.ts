// The limits of tenants as an actor sees them: a watch over the bucket `limits`, and changes to it.
//
// Invariants
//   LIMIT-1  `of` never waits and never fails: what is not known yet, or cannot be read, limits nothing beyond the actor's own flags, and a record
//       that was good before stays until a better one comes.
//   LIMIT-2  A change is a compare-and-set on the record that it was made from: none is lost, each has its number.
import type { Clock } from '../base/clock.ts'
import { ConflictError, CorruptError, textOf, UnavailableError } from '../base/errors.ts'
import type { Bus } from '../bus/port.ts'
import {
  DEFAULT_LIMITS_KEY,
  LIMITS_BUCKET,
  LIMITS_HISTORY_MAX,
  type LimitName,
  type Limits,
  type LimitsRecord,
  type LimitsVersion,
  limitsKey,
  limitsRecord,
} from '../contracts/limits.ts'
import type { Told } from '../kv/passed-over.ts'
import { readRecord } from '../kv/read-records.ts'
import { updateRecord } from '../kv/update.ts'
import type { Log } from '../telemetry/log.ts'
import { lateTable } from './late-table.ts'
import { isLimit } from './values.ts'

export interface LimitsDeps extends Told {
  readonly bus: Bus
  readonly clock: Clock
  readonly log: Log
}

export interface TenantLimits {
  /** What was set for a tenant, or for all; absent: the actor's own settings hold. */
  of(tenant: string): Limits
  /** Resolves when what stood in the bucket is known, or when that cannot be found out now. */
  start(): Promise<void>
  stop(): void
}

const NONE: Limits = Object.freeze({})

export function watchLimits({ bus, clock, log, metrics }: LimitsDeps): TenantLimits {
  const byKey = new Map<string, Limits>() // one entry for each record in the bucket
  const merged = new Map<string, Limits>()
  const table = lateTable({
    ...{ bus, clock, log, metrics, record: limitsRecord, onChange: hear },
    onFailure: (error) =>
      log.warn({ reason: textOf(error) }, 'limits of tenants cannot be watched: only the flags hold'),
  })
  return { of: limitsOf, start: () => table.start(), stop: () => table.stop() } // LIMIT-1

  function limitsOf(tenant: string): Limits {
    const key = limitsKey(tenant)
    const own = byKey.get(key)
    const common = byKey.get(DEFAULT_LIMITS_KEY)
    if (own === undefined || common === undefined) return own ?? common ?? NONE
    let both = merged.get(key)
    if (both === undefined) {
      both = Object.freeze({ ...common, ...own })
      merged.set(key, both)
    }
    return both
  }

  function hear(key: string): void {
    merged.clear()
    const record = table.row(key)?.value // LIMIT-1
    if (record === undefined) byKey.delete(key)
    else byKey.set(key, knownOnes(record))
  }
}

function knownOnes({ limits }: LimitsRecord): Limits {
  const known: Partial<Record<LimitName, number>> = {}
  for (const [name, value] of Object.entries(limits)) if (isLimit(name)) known[name] = value
  return Object.freeze(known)
}

/** What stands in the bucket for a tenant; undefined: the default of all. */
export async function readLimits(bus: Bus, tenant: string | undefined): Promise<LimitsRecord | undefined> {
  const bucket = await bus.bucket(LIMITS_BUCKET)
  const found = await readRecord({ bucket }, limitsRecord, { whose: limitsKey(tenant) })
  if (found.kind === 'value') return found.value
  if (found.kind === 'gone') return undefined
  throw new CorruptError(
    'err-carillon-limits-unreadable',
    `the limits under ${found.key} cannot be read: ${found.reason}`,
  )
}

/** LIMIT-2. Resolves with the record as it is now. Values are those of `parseLimit`; null takes one away. */
export async function setLimits(
  { bus, clock, log, metrics }: Told & { bus: Bus; clock: Clock },
  tenant: string | undefined,
  change: Readonly<Record<string, number | null>>,
  changedBy: string,
): Promise<LimitsRecord> {
  const bucket = await bus.bucket(LIMITS_BUCKET)
  const changed = (before: LimitsRecord | undefined) => changedLimits(before, change, { changedBy, nowMs: clock.now() })
  try {
    const params = { whose: limitsKey(tenant) }
    return (await updateRecord({ bucket, clock, log, metrics, record: limitsRecord, params, change: changed }))!
  } catch (cause) {
    if (!(cause instanceof ConflictError)) throw cause
    throw new UnavailableError('err-carillon-limits-unavailable', 'the limits keep changing, try again', { cause })
  }
}

/** The next version: values of `change` are set, those that are null are taken away. */
export function changedLimits(
  before: LimitsRecord | undefined,
  change: Readonly<Record<string, number | null>>,
  by: { readonly changedBy: string; readonly nowMs: number },
): LimitsRecord {
  const merged = { ...before?.limits, ...change }
  const limits: Record<string, number> = {}
  for (const [name, value] of Object.entries(merged)) if (value !== null) limits[name] = value
  const past = before === undefined ? [] : [versionOf(before), ...before.history].slice(0, LIMITS_HISTORY_MAX)
  const version = (before?.version ?? 0) + 1
  return { v: 1, version, changedAtMs: by.nowMs, changedBy: by.changedBy, limits, history: past }
}

function versionOf({ version, changedAtMs, changedBy, limits }: LimitsRecord): LimitsVersion {
  return { version, changedAtMs, changedBy, limits }
}
