// Counters, gauges and histograms of one actor, over a registry of its own: several actors may share a process.
//
// Names are a contract with dashboards and alerts: they start with `carillon_`, counters end in `_total`, units come
// last (`_seconds`, `_bytes`), and each stands in docs/metrics.md.
import * as prom from 'prom-client'
import { keyPart } from '../model/text-key.ts'

export type LabelValues = Readonly<Record<string, string>>

export interface Counter {
  inc(by?: number): void
  /** The child for these label values; keep it where the path is hot. */
  with(labels: LabelValues): { inc(by?: number): void }
}

export interface Gauge {
  set(value: number): void
  inc(by?: number): void
  dec(by?: number): void
  with(labels: LabelValues): { set(value: number): void; inc(by?: number): void; dec(by?: number): void }
  /** Forgets the child for these label values. */
  without(labels: LabelValues): void
}

export interface Histogram {
  observe(value: number): void
  with(labels: LabelValues): { observe(value: number): void }
}

export interface Metrics {
  counter(name: string, help: string, labelNames?: readonly string[]): Counter
  gauge(name: string, help: string, labelNames?: readonly string[]): Gauge
  /** A gauge read when asked: `read` gives the value, or one value per label set. */
  gaugeOf(
    name: string,
    help: string,
    read: () => number | Iterable<readonly [LabelValues, number]>,
    labelNames?: readonly string[],
  ): void
  /** `buckets`: upper bounds, ascending, in the unit of the name. */
  histogram(name: string, help: string, buckets: readonly number[], labelNames?: readonly string[]): Histogram
  /** Prometheus text format. */
  text(): Promise<string>
  /** Name, kind, help and labels of everything registered. */
  describe(): readonly MetricDescription[]
  /** Adds the process' own figures: CPU, memory, event loop lag, garbage collection. Once per process. */
  collectProcess(): void
}

export interface MetricDescription {
  readonly name: string
  readonly kind: 'counter' | 'gauge' | 'histogram'
  readonly help: string
  readonly labelNames: readonly string[]
}

/** The event loop is woken this often to see how late it comes: at 10 ms, the library's own choice, that is most of what an idle actor does. */
const LAG_PRECISION_MS = 500

/** Seconds, from half a millisecond to 30 s: for anything that answers. */
export const latencyBuckets: readonly number[] = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
]

/** `fixed` labels are put on every metric, e.g. `{ role, id }`. */
export function createMetrics(fixed: LabelValues = {}): Metrics {
  const registry = new prom.Registry()
  registry.setDefaultLabels({ ...fixed })
  const descriptions: MetricDescription[] = []
  const options = (kind: MetricDescription['kind'], name: string, help: string, labelNames: readonly string[]) => {
    descriptions.push({ name, kind, help, labelNames })
    return { name, help, labelNames: [...labelNames], registers: [registry] }
  }

  return {
    counter(name, help, labelNames = []) {
      const counter = new prom.Counter(options('counter', name, help, labelNames))
      return { inc: (by) => counter.inc(by ?? 1), with: cached(labelNames, (labels) => counter.labels(labels)) }
    },
    gauge(name, help, labelNames = []) {
      const gauge = new prom.Gauge(options('gauge', name, help, labelNames))
      const children = cached(labelNames, (labels) => gauge.labels(labels))
      return {
        set: (value) => gauge.set(value),
        inc: (by) => gauge.inc(by ?? 1),
        dec: (by) => gauge.dec(by ?? 1),
        with: children,
        without(labels) {
          gauge.remove({ ...labels })
          children.forget(labels)
        },
      }
    },
    gaugeOf(name, help, read, labelNames = []) {
      new prom.Gauge({
        ...options('gauge', name, help, labelNames),
        collect() {
          const now = read()
          if (typeof now === 'number') return this.set(now)
          this.reset()
          for (const [labels, value] of now) this.set({ ...labels }, value)
        },
      })
    },
    histogram(name, help, buckets, labelNames = []) {
      const histogram = new prom.Histogram({ ...options('histogram', name, help, labelNames), buckets: [...buckets] })
      return {
        observe: (value) => histogram.observe(value),
        with: cached(labelNames, (labels) => histogram.labels(labels)),
      }
    },
    text: () => registry.metrics(),
    describe: () => descriptions,
    collectProcess: () =>
      prom.collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: LAG_PRECISION_MS }),
  }
}

interface Children<T> {
  (labels: LabelValues): T
  forget(labels: LabelValues): void
}

function cached<T>(labelNames: readonly string[], make: (labels: Record<string, string>) => T): Children<T> {
  const children = new Map<string, T>()
  const keyOf = (labels: LabelValues) => {
    let key = ''
    for (const name of labelNames) key += keyPart(labels[name] ?? '')
    return key
  }
  const children_ = (labels: LabelValues) => {
    const key = keyOf(labels)
    let child = children.get(key)
    if (child === undefined) {
      child = make({ ...labels })
      children.set(key, child)
    }
    return child
  }
  return Object.assign(children_, { forget: (labels: LabelValues) => void children.delete(keyOf(labels)) })
}
