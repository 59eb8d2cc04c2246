// What flushing counts.
import type { Counter, Histogram, Metrics } from '../../../shared/telemetry/metrics.ts'

export interface FlushMetrics {
  readonly seconds: Histogram
  readonly blocks: Counter
  readonly bytes: Counter
  readonly samples: Counter
  readonly failures: Counter
  readonly asides: Counter
  readonly supplements: Counter
  readonly refused: Counter
  readonly purged: Counter
  readonly dropped: Counter
}

const FLUSH_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600]

export function flushMetrics(metrics: Metrics): FlushMetrics {
  return {
    seconds: metrics.histogram('carillon_flush_seconds', 'Time to bring one segment into blocks.', FLUSH_SECONDS),
    blocks: metrics.counter('carillon_flush_blocks_total', 'Blocks flushed from segments.'),
    bytes: metrics.counter('carillon_flush_bytes_total', 'Bytes of blocks flushed from segments.'),
    samples: metrics.counter('carillon_flush_samples_total', 'Samples in blocks flushed from segments.'),
    failures: metrics.counter(
      'carillon_flush_failures_total',
      'Tries to flush, purge or drop a segment that failed; they are repeated.',
    ),
    asides: metrics.counter(
      'carillon_flush_asides_total',
      'Segments of single tenants set aside, because they could not be brought into blocks.',
    ),
    supplements: metrics.counter(
      'carillon_flush_supplements_total',
      'Blocks uploaded because an owner held what the flushed ones miss.',
    ),
    refused: metrics.counter(
      'carillon_flush_refused_blocks_total',
      'Blocks that an owner came with so late that nobody knows any more what of them was deleted: they are not added.',
    ),
    purged: metrics.counter('carillon_log_purged_messages_total', 'Messages of partition logs purged after a flush.'),
    dropped: metrics.counter('carillon_segments_dropped_total', 'Segments freed from memory after a flush.'),
  }
}
