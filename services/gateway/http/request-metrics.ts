// What the HTTP server counts and measures.
import {
  type Counter,
  type Gauge,
  type Histogram,
  latencyBuckets,
  type Metrics,
} from '../../../shared/telemetry/metrics.ts'

export class RequestMetrics {
  readonly #requests: Counter
  readonly #seconds: Histogram
  readonly #inFlight: Gauge
  readonly dropped: Counter

  constructor(metrics: Metrics) {
    const labels = ['route', 'code']
    this.#requests = metrics.counter('carillon_gateway_requests_total', 'HTTP requests by route and status.', labels)
    this.#seconds = metrics.histogram(
      'carillon_gateway_request_duration_seconds',
      'Time from the end of the headers to the end of the answer.',
      latencyBuckets,
      ['route'],
    )
    this.#inFlight = metrics.gauge('carillon_gateway_inflight_requests', 'HTTP requests being answered.', ['route'])
    this.dropped = metrics.counter(
      'carillon_gateway_dropped_connections_total',
      'Connections beyond --connections-max or --address-connections-max.',
    )
  }

  count(route: string, code: string): void {
    this.#requests.with({ route, code }).inc()
  }

  begin(route: string): void {
    this.#inFlight.with({ route }).inc()
  }

  end(route: string, code: string, durationMs: number): void {
    this.#inFlight.with({ route }).dec()
    this.count(route, code)
    this.#seconds.with({ route }).observe(durationMs / 1000)
  }
}
