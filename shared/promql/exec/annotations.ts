// Warnings and infos: what the asker is told beside the answer. One text counts once, and of the places it came from the one that is
// evaluated last is shown. Texts are told in their own order, so that it does not matter which step, or which part of a query, said which.
import type { Position } from '../ast.ts'
import { formatShort } from '../format-float.ts'
import { quote } from './labels.ts'

export type Severity = 'warning' | 'info'

export interface Monotonicity {
  minMs: number
  maxMs: number
  minBucket: number
  maxBucket: number
  maxDiff: number
  count: number
}

/** Plain data: the parts of a query that were evaluated apart hand theirs over. */
export interface Annotation {
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
  list(): readonly Annotation[]
}

export function newAnnotations(): Annotations {
  const byText = new Map<string, Annotation>()
  const add = (annotation: Annotation) => {
    const before = byText.get(annotation.text)
    const position = laterOf(before?.position, annotation.position)
    byText.set(annotation.text, position === annotation.position ? annotation : { ...annotation, position })
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
    list: () => [...byText.values()],
  }
}

/** Of two places the one that is evaluated last: what stands inside comes before what is around it, the left before the right. */
function laterOf(a: Position | undefined, b: Position | undefined): Position | undefined {
  if (a === undefined || b === undefined) return b ?? a
  return a.end > b.end || (a.end === b.end && a.start < b.start) ? a : b
}

/** The annotations of parts of one query as those of the whole. */
export function uniteAnnotations(lists: readonly (readonly Annotation[])[]): readonly Annotation[] {
  const byText = new Map<string, Annotation>()
  for (const annotation of lists.flat()) {
    const before = byText.get(annotation.text)
    byText.set(annotation.text, before === undefined ? annotation : both(before, annotation))
  }
  return [...byText.values()]
}

function both(a: Annotation, b: Annotation): Annotation {
  const overlaps = (a.overlaps ?? 0) + (b.overlaps ?? 0)
  return {
    severity: b.severity,
    text: b.text,
    position: laterOf(a.position, b.position),
    ...(a.monotonicity !== undefined &&
      b.monotonicity !== undefined && {
        monotonicity: {
          minMs: Math.min(a.monotonicity.minMs, b.monotonicity.minMs),
          maxMs: Math.max(a.monotonicity.maxMs, b.monotonicity.maxMs),
          minBucket: Math.min(a.monotonicity.minBucket, b.monotonicity.minBucket),
          maxBucket: Math.max(a.monotonicity.maxBucket, b.monotonicity.maxBucket),
          maxDiff: Math.max(a.monotonicity.maxDiff, b.monotonicity.maxDiff),
          count: a.monotonicity.count + b.monotonicity.count,
        },
      }),
    ...(overlaps > 0 && { overlaps }),
  }
}

/** The texts, with the place in `query` where each arose. */
export function annotationTexts(
  annotations: readonly Annotation[],
  query: string,
): { warnings: string[]; infos: string[] } {
  const of = (wanted: Severity) =>
    annotations
      .filter(({ severity }) => severity === wanted)
      .map((annotation) => render(annotation, query))
      .sort()
  return { warnings: of('warning'), infos: of('info') }
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
