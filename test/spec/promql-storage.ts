// The storage that promql scripts load: a table of series, which answers selects with exactly the samples asked for.
//
// Reset hints come out as they would from Prometheus' chunks: within a chunk of counter histograms "no reset", at the start of one
// what was found out about the sample before.

import type { Histogram, ResetHint } from '../../shared/model/histogram.ts'
import { type Labels, labelOf, labelsKey } from '../../shared/model/labels.ts'
import type { Matcher } from '../../shared/model/matcher.ts'
import { valuePattern } from '../../shared/model/pattern.ts'
import { STALE } from '../../shared/model/sample.ts'
import { dropMetadata, withLabel, withoutLabels } from '../../shared/promql/exec/labels.ts'
import { spansOf } from '../../shared/promql/functions/histogram-buckets.ts'
import { isHistogramReset } from '../../shared/promql/functions/histogram-math.ts'
import { parseSelector } from '../../shared/promql/parse/parser.ts'
import type { SelectHints, SeriesSamples, SeriesSource } from '../../shared/promql/source.ts'
import type { Point } from './promql-points.ts'

export interface StoredSample {
  readonly timeMs: number
  readonly point: Point
  readonly startMs: number
}

interface StoredSeries {
  readonly labels: Labels
  readonly samples: StoredSample[]
}

export class ScriptStorage implements SeriesSource {
  private readonly series = new Map<string, StoredSeries>()

  append(labels: Labels, samples: readonly StoredSample[]): void {
    const key = labelsKey(labels)
    let series = this.series.get(key)
    if (series === undefined) {
      series = { labels, samples: [] }
      this.series.set(key, series)
    }
    for (const sample of samples) {
      const last = series.samples[series.samples.length - 1]
      if (last === undefined || last.timeMs < sample.timeMs) series.samples.push(sample)
    }
  }

  async select(matchers: readonly Matcher[], { startMs, endMs, mode }: SelectHints): Promise<SeriesSamples[]> {
    const tests = matchers.map(matcherTest)
    const found: SeriesSamples[] = []
    for (const series of this.series.values()) {
      if (!tests.every((test) => test(series.labels))) continue
      const all = withHints(series.samples)
      let samples = all.filter(({ timeMs }) => timeMs >= startMs && timeMs <= endMs)
      if (mode === 'last') samples = samples.slice(-1)
      if (samples.length > 0) found.push(columnsOf(series.labels, samples))
    }
    return found
  }
}

export function matcherTest({ name, operator, value }: Matcher): (labels: Labels) => boolean {
  if (operator === '=') return (labels) => labelOf(labels, name) === value
  if (operator === '!=') return (labels) => labelOf(labels, name) !== value
  const pattern = valuePattern(value)
  return (labels) => pattern.matches(labelOf(labels, name)) === (operator === '=~')
}

function columnsOf(labels: Labels, samples: readonly StoredSample[]): SeriesSamples {
  const times = Float64Array.from(samples, ({ timeMs }) => timeMs)
  const values = new Float64Array(samples.length)
  const histograms: (Histogram | undefined)[] = []
  samples.forEach(({ point }, i) => {
    if (point.kind === 'float') values[i] = point.value
    else if (point.kind === 'stale') values.set(STALE, i)
    histograms.push(point.kind === 'histogram' ? point.histogram : undefined)
  })
  const hasHistograms = histograms.some((histogram) => histogram !== undefined)
  const hasStarts = samples.some(({ startMs }) => startMs !== 0)
  return {
    labels,
    times,
    values,
    ...(hasHistograms ? { histograms } : {}),
    ...(hasStarts ? { startTimes: Float64Array.from(samples, ({ startMs }) => startMs) } : {}),
  }
}

function withHints(samples: readonly StoredSample[]): StoredSample[] {
  let before: Histogram | undefined
  return samples.map((sample) => {
    if (sample.point.kind !== 'histogram') {
      before = undefined
      return sample
    }
    const { histogram } = sample.point
    const resetHint = hintAfter(before, histogram)
    before = histogram
    return { ...sample, point: { ...sample.point, histogram: { ...histogram, resetHint } } }
  })
}

function hintAfter(before: Histogram | undefined, histogram: Histogram): ResetHint {
  if (histogram.resetHint === 'gauge') return 'gauge'
  if (histogram.resetHint === 'reset') return 'unknown' // begins a chunk, and a chunk does not say how it began
  if (before === undefined || before.resetHint === 'gauge') return 'unknown'
  const isSameLayout =
    before.schema === histogram.schema &&
    before.zeroThreshold === histogram.zeroThreshold &&
    before.customValues.join() === histogram.customValues.join()
  if (!isSameLayout) return 'unknown'
  return isHistogramReset({ ...histogram, resetHint: 'unknown' }, before) ? 'unknown' : 'no-reset'
}

/** `name{label="value"}` as a label set. */
export function labelsOfMetric(text: string): Labels {
  let labels: Labels = []
  if (/^\{\s*\}$/.test(text)) return labels
  for (const { name, value } of parseSelector(text)) labels = withLabel(labels, name, value)
  return labels
}

interface ClassicAtTime {
  readonly buckets: Map<number, number>
  sum: number | undefined
  count: number | undefined
}

const CLASSIC = /^(.*)_(bucket|count|sum)$/s

/** What load_with_nhcb adds: one histogram with custom buckets per group of classic series and time. */
export function nativeFromClassic(
  loaded: readonly { labels: Labels; points: readonly Point[] }[],
): { labels: Labels; points: Point[] }[] {
  const groups = new Map<string, { labels: Labels; at: Map<number, ClassicAtTime> }>()
  for (const { labels, points } of loaded) {
    const match = CLASSIC.exec(labelOf(labels, '__name__'))
    if (match === null) continue
    const [, name, part] = match
    const bound = boundFrom(labelOf(labels, 'le'))
    if (part === 'bucket' && (bound === undefined || Number.isNaN(bound))) continue
    const groupLabels = withLabel(withoutLabels(dropMetadata(labels), new Set(['le'])), '__name__', name!)
    const key = labelsKey(groupLabels)
    const group = groups.get(key) ?? { labels: groupLabels, at: new Map<number, ClassicAtTime>() }
    groups.set(key, group)
    points.forEach((point, i) => {
      if (point.kind !== 'float') return
      const classic = group.at.get(i) ?? { buckets: new Map<number, number>(), sum: undefined, count: undefined }
      group.at.set(i, classic)
      if (part === 'bucket') classic.buckets.set(bound!, point.value)
      else if (part === 'count') classic.count = point.value
      else classic.sum = point.value
    })
  }
  return [...groups.values()].map(({ labels, at }) => {
    const points: Point[] = []
    for (const [i, classic] of at) {
      while (points.length < i) points.push({ kind: 'none' })
      points[i] = { kind: 'histogram', histogram: customHistogram(classic), hasHint: false }
    }
    return { labels, points }
  })
}

function boundFrom(text: string): number | undefined {
  if (/^\+?inf$/i.test(text)) return Infinity
  return text !== '' && Number.isFinite(Number(text)) ? Number(text) : undefined
}

function customHistogram({ buckets, sum = 0, count }: ClassicAtTime): Histogram {
  const bounds = [...buckets.keys()].sort((a, b) => a - b)
  const last = bounds.length === 0 ? 0 : buckets.get(bounds[bounds.length - 1]!)!
  const total = count ?? last
  const finite = bounds.filter((bound) => bound !== Infinity)
  let before = 0
  const counts = finite.map((bound) => {
    const own = buckets.get(bound)! - before
    before = buckets.get(bound)!
    return own
  })
  counts.push(total - before)
  const side = { indexes: counts.map((_, i) => i), counts }
  const { spans, buckets: kept } = spansOf(side)
  return {
    isFloat: true,
    resetHint: 'unknown',
    schema: -53,
    zeroThreshold: 0,
    zeroCount: 0,
    count: total,
    sum,
    positiveSpans: spans,
    positiveBuckets: kept,
    negativeSpans: [],
    negativeBuckets: [],
    customValues: finite,
  }
}
