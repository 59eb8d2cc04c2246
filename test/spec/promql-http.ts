// A ground for promql scripts end to end: what they load is pushed by remote write 2.0, what they ask is asked over HTTP.
//
// Each clear begins a new tenant. What the protocol or the store cannot carry is named, and cases that rest on it are skipped: series
// without a metric name.
import { randomBytes } from 'node:crypto'
import type { Histogram } from '../../shared/model/histogram.ts'
import { type Labels, labelOf, METRIC_NAME } from '../../shared/model/labels.ts'
import { STALE } from '../../shared/model/sample.ts'
import type { MatrixSeries, QueryResult, VectorSample } from '../../shared/promql/engine.ts'
import type { PlainSeries } from '../../shared/wire/remote-write-encode.ts'
import { pushUntilTaken } from '../cluster/client.ts'
import { floatOf, type ShownHistogram } from './promql-check.ts'
import type { LoadedSeries, Question, ScriptGround } from './promql-script.ts'

const SERIES_PER_PUSH = 1_000
const NO_VALUES = new Float64Array(0)

export function httpGround(url: string): ScriptGround {
  const run = randomBytes(4).toString('hex')
  let tenantCount = 0
  let tenant = ''
  let position = ''
  let reason: string | undefined
  return {
    isThorough: false,
    skips: () => reason,
    clear() {
      tenant = `script-${run}-${++tenantCount}`
      position = ''
      reason = undefined
    },
    async load(series) {
      reason ??= whyNot(series)
      if (reason !== undefined) return
      const plain = series.flatMap(plainSeries)
      for (let from = 0; from < plain.length; from += SERIES_PER_PUSH) {
        const part = plain.slice(from, from + SERIES_PER_PUSH)
        const pushed = await pushUntilTaken(url, { series: part }, { tenant, protocol: 2 })
        if (pushed.status !== 204) throw new Error(`a push was answered ${pushed.status}: ${pushed.text}`)
        position = 'strong'
      }
    },
    async query(question) {
      const result = await ask(url, question, { tenant, position })
      position = ''
      return result
    },
  }
}

function whyNot(series: readonly LoadedSeries[]): string | undefined {
  if (series.some(({ labels }) => labelOf(labels, METRIC_NAME) === '')) return 'series without a metric name'
  return undefined
}

/** A message of the protocol holds either floats or histograms. */
function plainSeries({ labels, samples }: LoadedSeries): PlainSeries[] {
  const floats: { time: number; value: number | Float64Array; startTime: number }[] = []
  const histograms: { time: number; histogram: Histogram; startTime: number }[] = []
  for (const { timeMs: time, startMs: startTime, point } of samples) {
    if (point.kind === 'float') floats.push({ time, startTime, value: point.value })
    else if (point.kind === 'stale') floats.push({ time, startTime, value: STALE })
    else if (point.kind === 'histogram') histograms.push({ time, startTime, histogram: point.histogram })
  }
  return [
    ...(floats.length > 0 ? [{ labels, samples: floats }] : []),
    ...(histograms.length > 0 ? [{ labels, histograms }] : []),
  ]
}

/** What refuses an expression, as the engine throws it. */
class AnsweredError extends Error {
  readonly kind = 'refused'
}

async function ask(url: string, { text, startMs, endMs, stepMs }: Question, at: { tenant: string; position: string }) {
  const times: Record<string, string> =
    stepMs === 0
      ? { time: String(startMs / 1000) }
      : { start: String(startMs / 1000), end: String(endMs / 1000), step: String(stepMs / 1000) }
  const response = await fetch(`${url}/api/v1/${stepMs === 0 ? 'query' : 'query_range'}`, {
    method: 'POST',
    body: new URLSearchParams({ query: text, ...times }),
    headers: { 'X-Scope-OrgID': at.tenant, ...(at.position !== '' && { 'X-Read-Consistency': at.position }) },
  })
  const body = (await response.json()) as Body
  if (body.status !== 'success') {
    const message = body.error.replace(/^invalid parameter "query": /, '')
    if (response.status === 400 || response.status === 422) throw new AnsweredError(message)
    throw new Error(`answered ${response.status}: ${message}`)
  }
  return { value: valueIn(body.data), warnings: body.warnings ?? [], infos: body.infos ?? [] }
}

type ShownSample = [number, string]
type ShownNative = [number, { count: string; sum: string; buckets?: [number, string, string, string][] }]
interface ShownSeries {
  readonly metric: Record<string, string>
  readonly value?: ShownSample
  readonly histogram?: ShownNative
  readonly values?: readonly ShownSample[]
  readonly histograms?: readonly ShownNative[]
}
type Data =
  | { readonly resultType: 'scalar' | 'string'; readonly result: ShownSample }
  | { readonly resultType: 'vector' | 'matrix'; readonly result: readonly ShownSeries[] }
type Body =
  | { readonly status: 'success'; readonly data: Data; readonly warnings?: string[]; readonly infos?: string[] }
  | { readonly status: 'error'; readonly error: string }

function valueIn(data: Data): QueryResult['value'] {
  switch (data.resultType) {
    case 'scalar':
      return { type: 'scalar', timeMs: data.result[0] * 1000, value: floatOf(data.result[1]) }
    case 'string':
      return { type: 'string', timeMs: data.result[0] * 1000, value: data.result[1] }
    case 'vector':
      return { type: 'vector', timeMs: 0, samples: data.result.map(vectorSample) }
    case 'matrix':
      return { type: 'matrix', series: data.result.map(matrixSeries) }
  }
}

function labelsOf(metric: Record<string, string>): Labels {
  return Object.entries(metric)
    .sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    .flat()
}

function vectorSample({ metric, value, histogram }: ShownSeries): VectorSample {
  if (histogram !== undefined) return { labels: labelsOf(metric), value: 0, histogram: nativeOf(histogram) }
  return { labels: labelsOf(metric), value: floatOf(value![1]) }
}

function matrixSeries({ metric, values = [], histograms = [] }: ShownSeries): MatrixSeries {
  const points = [
    ...values.map(([time, value]) => ({ time, value: floatOf(value), histogram: undefined })),
    ...histograms.map((shown) => ({ time: shown[0], value: 0, histogram: nativeOf(shown) })),
  ].sort((a, b) => a.time - b.time)
  return {
    labels: labelsOf(metric),
    times: Float64Array.from(points, ({ time }) => Math.round(time * 1000)),
    values: points.length === 0 ? NO_VALUES : Float64Array.from(points, ({ value }) => value),
    ...(histograms.length > 0 && { histograms: points.map(({ histogram }) => histogram) }),
  }
}

function nativeOf([, { count, sum, buckets = [] }]: ShownNative): ShownHistogram {
  return {
    isFloat: true,
    resetHint: 'unknown',
    schema: 0,
    zeroThreshold: 0,
    zeroCount: 0,
    count: floatOf(count),
    sum: floatOf(sum),
    positiveSpans: [],
    positiveBuckets: [],
    negativeSpans: [],
    negativeBuckets: [],
    customValues: [],
    shown: buckets,
  }
}
