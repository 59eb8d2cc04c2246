// What owners count.
import type { Counter, Metrics } from '../../../shared/telemetry/metrics.ts'

export interface OwnerMetrics {
  readonly applied: Counter
  readonly skipped: Counter
  readonly damage: Counter
  readonly fills: Counter
  readonly marks: Counter
}

export function ownerMetrics(metrics: Metrics): OwnerMetrics {
  return {
    applied: metrics.counter('carillon_log_messages_applied_total', 'Messages of partition logs applied.'),
    skipped: metrics.counter(
      'carillon_log_batches_skipped_total',
      'Batches skipped because they lay behind the mark after next.',
    ),
    damage: metrics.counter(
      'carillon_log_damage_total',
      'Damage found in partition logs: gaps, rewinds, bad checksums, undefined ids.',
      ['kind'],
    ),
    fills: metrics.counter(
      'carillon_log_fills_total',
      'Damage filled from another owner, or found to be missing everywhere.',
      ['outcome'],
    ),
    marks: metrics.counter('carillon_log_marks_written_total', 'Marks written as leader.'),
  }
}
