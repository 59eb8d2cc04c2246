// What the partition writers count.
import type { Counter, Metrics } from '../../../shared/telemetry/metrics.ts'
import type { Batch } from './session.ts'

export interface WriterMetrics {
  readonly late: Counter
  readonly retries: Counter
  readonly lostEnds: Counter
  appended(bytes: number, batch: Batch): void
}

export function writerMetrics(metrics: Metrics): WriterMetrics {
  const batches = metrics.counter('carillon_log_batches_total', 'Batches stored in partition logs.')
  const bytes = metrics.counter('carillon_log_batch_bytes_total', 'Bytes of batches stored in partition logs.')
  const definitionBytes = metrics.counter(
    'carillon_log_definition_bytes_total',
    'Bytes of series definitions and label strings stored in partition logs.',
  )
  const definitions = metrics.counter('carillon_log_definitions_total', 'Series definitions stored in partition logs.')
  return {
    late: metrics.counter('carillon_log_late_batches_total', 'Stored batches written again because they lay too late.'),
    retries: metrics.counter('carillon_log_append_retries_total', 'Appends repeated with the same message id.'),
    lostEnds: metrics.counter(
      'carillon_log_lost_ends_total',
      'Batches that were stored where something had stood before: their log has lost its end.',
    ),
    appended(byteCount, batch) {
      batches.inc()
      bytes.inc(byteCount)
      definitions.inc(batch.definedRefs.length)
      definitionBytes.inc(batch.definitions.length + batch.strings.length)
    },
  }
}
