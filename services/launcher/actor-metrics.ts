// What every actor measures alike: how long its handlers take, how they end, how many are at work.
import type { ActorMetrics } from '../../shared/bus/actor.ts'
import { latencyBuckets, type Metrics } from '../../shared/telemetry/metrics.ts'

export function actorMetrics(metrics: Metrics): ActorMetrics {
  const seconds = metrics.histogram(
    'carillon_actor_handler_seconds',
    'Time that handlers of bus messages and timed work took, by what they handle and how it ended.',
    latencyBuckets,
    ['handler', 'outcome'],
  )
  const inFlight = metrics.gauge('carillon_actor_handlers_in_flight', 'Handlers at work now.', ['handler'])
  return {
    handled: (handler, took, outcome) => seconds.with({ handler, outcome }).observe(took),
    inFlight: (handler, delta) => inFlight.with({ handler }).inc(delta),
  }
}
