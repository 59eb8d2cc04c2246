// What one query of a tenant may do: the limits that were set for the tenant, else the querier's own settings.
//
// The process' own bounds on time and on samples in memory hold for everyone: a tenant's limits can only be stricter there.
import type { Limits } from '../../../shared/contracts/limits.ts'
import type { QuerierConfig } from '../config.ts'
import type { BudgetBounds } from './budget.ts'

export interface QueryBounds extends BudgetBounds {
  readonly timeoutMs: number
  readonly stepsMax: number
  /** Of the tenant, at this querier. */
  readonly concurrentMax: number
  readonly queuedMax: number
}

export function boundsOf(config: QuerierConfig, limits: Limits): QueryBounds {
  const rangeMaxMs = limits.query_range_max ?? config.queryRangeMaxMs
  return {
    seriesMax: limits.query_series_max ?? config.seriesMax,
    samplesMax: Math.min(limits.query_samples_max ?? config.samplesMax, config.samplesMax),
    queryBytesMax: limits.query_fetched_bytes_max ?? config.queryBytesMax,
    blockBytesMax: limits.query_block_bytes_max ?? config.blockBytesMax,
    rangeMaxMs: rangeMaxMs === 0 ? Number.POSITIVE_INFINITY : rangeMaxMs,
    timeoutMs: Math.min(limits.query_timeout_max ?? config.queryTimeoutMs, config.queryTimeoutMs),
    stepsMax: limits.query_points_max ?? config.stepsMax,
    concurrentMax: Math.max(1, limits.query_concurrent_max ?? config.tenantQueriesMax),
    queuedMax: limits.query_queued_max ?? config.tenantQueuedQueriesMax,
  }
}
