// How long samples of tenants are kept, as doors see it: a watch over what compactors have told.
//
// Invariants
//   LIMIT-3  `of` never waits and never fails: what is not known yet, or cannot be read, is for ever. Whoever lets in too much by that lets in what a
//       compactor removes; nothing is refused that would be kept.
import type { Clock } from '../base/clock.ts'
import { textOf } from '../base/errors.ts'
import type { Bus } from '../bus/port.ts'
import { type KeepRecord, keepRecord } from '../contracts/keep.ts'
import { DEFAULT_LIMITS_KEY, limitsKey } from '../contracts/limits.ts'
import type { Told } from '../kv/passed-over.ts'
import { readRecord } from '../kv/read-records.ts'
import type { Log } from '../telemetry/log.ts'
import { lateTable } from './late-table.ts'

export interface TenantKeep {
  /** Milliseconds; Infinity: for ever. */
  of(tenant: string): number
  start(): Promise<void>
  stop(): void
}

const inMs = (record: KeepRecord | undefined): number => record?.keepMs || Number.POSITIVE_INFINITY

export function watchKeep({ bus, clock, log, metrics }: Told & { bus: Bus; clock: Clock; log: Log }): TenantKeep {
  const table = lateTable({
    ...{ bus, clock, log, metrics, record: keepRecord },
    onFailure: (error) =>
      log.warn({ reason: textOf(error) }, 'how long tenants keep samples cannot be watched: none is too old'),
  })
  return {
    of: (tenant) => inMs((table.row(limitsKey(tenant)) ?? table.row(DEFAULT_LIMITS_KEY))?.value),
    start: () => table.start(),
    stop: () => table.stop(),
  }
}

/** The same, read once. */
export async function readKeepMs(bus: Bus, tenant: string): Promise<number> {
  const bucket = await bus.bucket(keepRecord.bucket)
  for (const whose of [limitsKey(tenant), DEFAULT_LIMITS_KEY]) {
    const found = await readRecord({ bucket }, keepRecord, { whose })
    if (found.kind === 'value') return inMs(found.value)
    if (found.kind !== 'gone') return Number.POSITIVE_INFINITY
  }
  return Number.POSITIVE_INFINITY
}
