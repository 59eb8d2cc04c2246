// The querier's own figures.
import type { Clock } from '../../shared/base/clock.ts'
import { latencyBuckets, type Metrics } from '../../shared/telemetry/metrics.ts'
import type { Admission } from './admission.ts'
import type { Budget } from './budget.ts'

export interface Measures {
  begin(kind: string): { end(outcome: string, read: Budget): void }
  hedged(): void
  ownerFailed(): void
}

export function measures(metrics: Metrics, admission: Admission, clock: Clock): Measures {
  const queries = metrics.counter('carillon_querier_queries_total', 'Queries answered.', ['kind', 'outcome'])
  const durations = metrics.histogram(
    'carillon_querier_query_duration_seconds',
    'Time from a query to its answer, waiting for its turn included.',
    latencyBuckets,
    ['kind'],
  )
  const samples = metrics.counter('carillon_querier_samples_read_total', 'Samples read from owners.')
  const series = metrics.counter('carillon_querier_series_read_total', 'Series read from owners.')
  const bytes = metrics.counter('carillon_querier_read_bytes_total', 'Bytes of frames read from owners.')
  const hedges = metrics.counter('carillon_querier_hedges_total', 'Second owners asked because the first was silent.')
  const failures = metrics.counter(
    'carillon_querier_owner_failures_total',
    'Owners that did not answer what they were asked.',
  )
  metrics.gaugeOf('carillon_querier_queries_in_flight', 'Queries being answered.', () => admission.runningCount())
  metrics.gaugeOf('carillon_querier_queries_waiting', 'Queries that wait for their turn.', () =>
    admission.waitingCount(),
  )
  return {
    begin(kind) {
      const startedMs = clock.monotonic()
      return {
        end(outcome, read) {
          queries.with({ kind, outcome }).inc()
          durations.with({ kind }).observe((clock.monotonic() - startedMs) / 1000)
          samples.inc(read.sampleCount)
          series.inc(read.seriesCount)
          bytes.inc(read.bytes)
        },
      }
    },
    hedged: () => hedges.inc(),
    ownerFailed: () => failures.inc(),
  }
}
