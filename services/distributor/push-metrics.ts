// What is counted of pushes.
import type { Counter, Metrics } from '../../shared/telemetry/metrics.ts'

export interface PushMetrics {
  readonly samples: Counter
  readonly discarded: Counter
  readonly leftOut: { readonly exemplars: Counter; readonly metadata: Counter }
  readonly pushes: Counter
}

export function pushMetrics(metrics: Metrics): PushMetrics {
  return {
    samples: metrics.counter('carillon_distributor_samples_total', 'Samples acknowledged.', ['kind']),
    discarded: metrics.counter('carillon_discarded_samples_total', 'Samples refused.', ['reason']),
    leftOut: {
      exemplars: metrics.counter('carillon_discarded_exemplars_total', 'Exemplars left out of pushes.', ['reason']),
      metadata: metrics.counter('carillon_discarded_metadata_total', 'Metadata left out of pushes.', ['reason']),
    },
    pushes: metrics.counter('carillon_distributor_pushes_total', 'Pushes answered.', ['outcome']),
  }
}
