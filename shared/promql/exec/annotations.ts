// Warnings and infos: what the asker is told beside the answer. One text counts once, and the last place it came from is the one shown.
import type { Position } from '../ast.ts'
import { formatShort } from '../format-float.ts'
import { quote } from './labels.ts'

type Severity = 'warning' | 'info'

interface Monotonicity {
  minMs: number
  maxMs: number
  minBucket: number
  maxBucket: number
  maxDiff: number
  count: number
}

interface Annotation {
  readonly severity: Severity
  readonly text: string
  /** undefined: from the source, without a place in the query. */
  readonly position: Position | undefined
  readonly monotonicity?: Monotonicity
  /** How often it was seen, where that is shown. */
  readonly overlaps?: number
}

export interface Annotations {
  warn(text: string, position: Position): void
  inform(text: string, position: Position): void
  /** A warning of the source: shown as it is. */
  pass(text: string): void
  /** histogram_quantile had to repair a classic histogram at `atMs`. */
  monotonicity(
    metric: string,
    position: Position,
    seen: { atMs: number; minBucket: number; maxBucket: number; maxDiff: number },
  ): void
  /** A sample's start timestamp lies inside the time of the sample before. */
  startOverlap(metric: string, position: Position): void
  /** The texts, with the place in `query` where each arose. */
  texts(query: string): { warnings: string[]; infos: string[] }
}

export function newAnnotations(): Annotations {
  const byText = new Map<string, Annotation>()
  const add = (annotation: Annotation) => {
    byText.set(annotation.text, annotation)
  }
  return {
    warn: (text, position) => add({ severity: 'warning', text: `PromQL warning: ${text}`, position }),
    inform: (text, position) => add({ severity: 'info', text: `PromQL info: ${text}`, position }),
    pass: (text) => add({ severity: 'warning', text, position: undefined }),
    monotonicity(metric, position, seen) {
      const text = `PromQL info: ${withMetric(MONOTONICITY, metric)}`
      const { atMs, minBucket, maxBucket, maxDiff } = seen
      const before = byText.get(text)?.monotonicity
      const monotonicity: Monotonicity = {
        minMs: Math.min(before?.minMs ?? Infinity, atMs),
        maxMs: Math.max(before?.maxMs ?? -Infinity, atMs),
        minBucket: Math.min(before?.minBucket ?? Infinity, minBucket),
        maxBucket: Math.max(before?.maxBucket ?? -Infinity, maxBucket),
        maxDiff: Math.max(before?.maxDiff ?? 0, maxDiff),
        count: (before?.count ?? 0) + 1,
      }
      add({ severity: 'info', text, position, monotonicity })
    },
    startOverlap(metric, position) {
      const what = 'sample has start time that overlaps with previous sample timestamp'
      const text = `PromQL warning: ${what} for metric ${quote(metric)}`
      add({ severity: 'warning', text, position, overlaps: (byText.get(text)?.overlaps ?? 0) + 1 })
    },
    texts(query) {
      const warnings: string[] = []
      const infos: string[] = []
      for (const annotation of byText.values()) {
        const list = annotation.severity === 'warning' ? warnings : infos
        list.push(render(annotation, query))
      }
      return { warnings, infos }
    },
  }
}

const MONOTONICITY =
  'input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)'

function withMetric(text: string, metric: string): string {
  return metric === '' ? text : `${text} for metric name ${quote(metric)}`
}

function render({ text, position, monotonicity, overlaps = 0 }: Annotation, query: string): string {
  if (position === undefined) return text
  const at = placeOf(position.start, query)
  if (overlaps > 1) return `${text} (${overlaps} occurrences) (${at})`
  if (monotonicity === undefined) return `${text} (${at})`
  const { minMs, maxMs, minBucket, maxBucket, maxDiff, count } = monotonicity
  const when = (ms: number) => new Date(Math.trunc(ms / 1000) * 1000).toISOString().replace('.000Z', 'Z')
  return `${text}, from buckets ${formatShort(minBucket)} to ${formatShort(maxBucket)}, with a max diff of ${formatShort(maxDiff, 2)}, over ${count} samples from ${when(minMs)} to ${when(maxMs)} (${at})`
}

/** line:column of a byte offset, both from 1. */
function placeOf(start: number, query: string): string {
  const before = Buffer.from(query).subarray(0, start)
  let line = 1
  let lineStart = 0
  for (let i = 0; i < before.length; i++) {
    if (before[i] !== 10) continue
    line++
    lineStart = i + 1
  }
  return `${line}:${start - lineStart + 1}`
}

/** The texts that more than one place uses. */
export const TEXTS = {
  invalidQuantile: (q: number) => `quantile value should be between 0 and 1, got ${formatShort(q)}`,
  invalidRatio: (ratio: number, cap: number) =>
    `ratio value should be between -1 and 1, got ${formatShort(ratio)}, capping to ${formatShort(cap)}`,
  badBucketLabel: (metric: string, label: string) =>
    withMetric(`bucket label "le" is missing or has a malformed value of ${quote(label)}`, metric),
  mixedFloatsHistograms: (metric: string) =>
    `encountered a mix of histograms and floats for metric name ${quote(metric)}`,
  mixedInAggregation: 'encountered a mix of histograms and floats for aggregation',
  mixedClassicNative: (metric: string) => withMetric('vector contains a mix of classic and native histograms', metric),
  notCounter: (metric: string) => `this native histogram metric is not a counter: ${quote(metric)}`,
  notGauge: (metric: string) => `this native histogram metric is not a gauge: ${quote(metric)}`,
  mixedSchemas: (metric: string) =>
    `vector contains a mix of histograms with exponential and custom buckets schemas for metric name ${quote(metric)}`,
  incompatibleLayout: (op: string) => `incompatible bucket layout encountered for binary operator ${op}`,
  sortInRange: 'sort is ineffective for range queries since results are always ordered by labels',
  possibleNonCounter: (metric: string) =>
    `metric might not be a counter, name does not end in _total/_sum/_count/_bucket: ${quote(metric)}`,
  possibleNonCounterType: (type: string, metric: string) =>
    `metric might not be a counter, __type__ label is not set to "counter" or "histogram", got ${quote(type)}: ${quote(metric)}`,
  incompatibleTypes: (left: string, op: string, right: string) =>
    `incompatible sample types encountered for binary operator ${quote(op)}: ${left} ${op} ${right}`,
  ignoredInAggregation: (op: string) => `ignored histogram in ${op} aggregation`,
  ignoredInRange: (metric: string) =>
    `ignored histograms in a range containing both floats and histograms for metric name ${quote(metric)}`,
  quantileOfNaN: (metric: string) =>
    withMetric('input to histogram_quantile has NaN observations, result is NaN', metric),
  quantileSkewed: (metric: string) =>
    withMetric('input to histogram_quantile has NaN observations, result is skewed higher', metric),
  fractionOfNaN: (metric: string) =>
    withMetric('input to histogram_fraction has NaN observations, which are excluded from all fractions', metric),
  resetCollision: (operation: 'addition' | 'subtraction' | 'aggregation') =>
    `conflicting counter resets during histogram ${operation}`,
  boundsReconciled: (operation: 'addition' | 'subtraction' | 'aggregation') =>
    `mismatched custom buckets were reconciled during ${operation}`,
}
