// What is said of a path where nothing stands: where the thing is that was probably meant.
import { RefusedError } from '../../../shared/base/errors.ts'

/** The first that fits is said. */
const MEANT: readonly (readonly [path: RegExp, text: string])[] = [
  [
    /otlp|v1\/(?:metrics|traces|logs)$/,
    'OTLP is not understood; the OpenTelemetry Collector pushes here with its prometheusremotewrite exporter',
  ],
  [/\/api\/v1\/push\/./, 'senders that add a path of their own (promtool push metrics) want the address without one'],
  [
    /\/api\/v1\/import|\/write$|influx|opentsdb|datadog|graphite/,
    'of all ways to write there is Prometheus remote write 1.0 and 2.0',
  ],
  [/alertmanager|\/alerts$|silences|ruler|\/rules|\/config/, 'rules and alerts are not evaluated here'],
]
const PLACES =
  'pushes go to /api/v1/push (or /api/v1/write, /api/prom/push), queries to /api/v1/query and the rest of the Prometheus API, ' +
  'also under /prometheus and /api/prom; / links to what there is'
const PATH_LENGTH_MAX = 200

export function notFound(path: string): RefusedError {
  const meant = MEANT.find(([pattern]) => pattern.test(path.toLowerCase()))?.[1]
  const shown = path.length > PATH_LENGTH_MAX ? `${path.slice(0, PATH_LENGTH_MAX)}…` : path
  const text = `not found: nothing stands at ${shown}; ${meant === undefined ? '' : `${meant}; `}${PLACES}`
  return new RefusedError('err-carillon-not-found', text, { status: 404 })
}
