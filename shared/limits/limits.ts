// The limits of tenants as an actor sees them: a watch over the bucket `limits`, and changes to it.
//
// Invariants
//   V1  `of` never waits and never fails: what is not known yet, or cannot be read, limits nothing beyond the actor's own flags, and a record
//       that was good before stays until a better one comes.
//   V2  A change is a compare-and-set on the record that it was made from: none is lost, each has its number.
import type { Clock } from '../base/clock.ts'
import { ConflictError, textOf, UnavailableError } from '../base/errors.ts'
import { patiently } from '../base/patience.ts'
import type { Bus, BusSubscription, KvBucket } from '../bus/port.ts'
import {
  changedLimits,
  DEFAULT_LIMITS_KEY,
  decodeLimits,
  encodeLimits,
  isLimit,
  LIMITS_BUCKET,
  type LimitName,
  type Limits,
  type LimitsRecord,
  limitsKey,
} from '../contracts/limits.ts'
import type { Log } from '../telemetry/log.ts'

export interface TenantLimits {
  /** What was set for a tenant, or for all; absent: the actor's own settings hold. */
  of(tenant: string): Limits
  /** Resolves when what stood in the bucket is known, or when that cannot be found out now. */
  start(): Promise<void>
  stop(): void
}

const START_MS_MAX = 5_000
const RETRY_MS = 1_000
const TRIES_MAX = 8
const NONE: Limits = Object.freeze({})

export function watchLimits({ bus, clock, log }: { bus: Bus; clock: Clock; log: Log }): TenantLimits {
  const byKey = new Map<string, Limits>() // one entry for each record in the bucket
  const merged = new Map<string, Limits>()
  let watch: BusSubscription | undefined
  const stopping = new AbortController()
  return { of: limitsOf, start, stop }

  function stop(): void {
    stopping.abort()
    watch?.stop()
  }

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

  async function start(): Promise<void> {
    const known = Promise.withResolvers<void>()
    const late = clock.after(START_MS_MAX, known.resolve) // V1
    void open(known.resolve)
    await known.promise
    late.cancel()
  }

  /** Goes on in the background while the bucket cannot be opened. */
  async function open(onReady: () => void): Promise<void> {
    try {
      const patience = { clock, withinMs: Number.POSITIVE_INFINITY, pauseMs: RETRY_MS, signal: stopping.signal }
      const bucket = await patiently(() => bus.bucket(LIMITS_BUCKET), { ...patience, onFailure: tell })
      if (!stopping.signal.aborted) watch = bucket.watch('>', ({ key, value }) => hear(key, value), onReady)
    } catch (error) {
      if (!stopping.signal.aborted) tell(error)
    }
  }

  function tell(error: unknown): void {
    log.warn({ reason: textOf(error) }, 'limits of tenants cannot be watched: only the flags hold')
  }

  function hear(key: string, value: Uint8Array | undefined): void {
    merged.clear()
    if (value === undefined) {
      byKey.delete(key)
      return
    }
    try {
      byKey.set(key, knownOnes(decodeLimits(value)))
    } catch (error) {
      log.error({ key, reason: textOf(error) }, 'a record of limits cannot be read: what it said before holds')
    }
  }
}

function knownOnes({ limits }: LimitsRecord): Limits {
  const known: Partial<Record<LimitName, number>> = {}
  for (const [name, value] of Object.entries(limits)) if (isLimit(name)) known[name] = value
  return Object.freeze(known)
}

/** What stands in the bucket for a tenant; undefined: the default of all. */
export async function readLimits(bus: Bus, tenant: string | undefined): Promise<LimitsRecord | undefined> {
  const entry = await (await bus.bucket(LIMITS_BUCKET)).get(limitsKey(tenant))
  return entry?.value === undefined ? undefined : decodeLimits(entry.value)
}

/** V2. Resolves with the record as it is now. Values are those of `parseLimit`; null takes one away. */
export async function setLimits(
  { bus, clock }: { bus: Bus; clock: Clock },
  tenant: string | undefined,
  change: Readonly<Record<string, number | null>>,
  changedBy: string,
): Promise<LimitsRecord> {
  const bucket = await bus.bucket(LIMITS_BUCKET)
  const key = limitsKey(tenant)
  for (let attempt = 0; attempt < TRIES_MAX; attempt++) {
    const entry = await bucket.get(key)
    const before = entry?.value === undefined ? undefined : decodeLimits(entry.value)
    const next = changedLimits(before, change, { changedBy, nowMs: clock.now() })
    if (await isWritten(bucket, key, next, before === undefined ? undefined : entry?.revision)) return next
  }
  throw new UnavailableError('err-carillon-limits-unavailable', 'the limits keep changing, try again')
}

async function isWritten(bucket: KvBucket, key: string, record: LimitsRecord, revision: number | undefined) {
  try {
    if (revision === undefined) await bucket.create(key, encodeLimits(record))
    else await bucket.update(key, encodeLimits(record), revision)
    return true
  } catch (error) {
    if (error instanceof ConflictError) return false
    throw error
  }
}
