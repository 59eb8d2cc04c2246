// Compares what a case of a promql script wants with what came.
import type { RE2JS } from 're2js'
import type { Histogram } from '../../shared/model/histogram.ts'
import { type Labels, labelsKey } from '../../shared/model/labels.ts'
import { isStale } from '../../shared/model/sample.ts'
import type { MatrixSeries, QueryResult } from '../../shared/promql/engine.ts'
import { describeLabels } from '../../shared/promql/exec/labels.ts'
import { allBuckets, describeHistogram, sideOf } from '../../shared/promql/functions/histogram-buckets.ts'
import { compact } from '../../shared/promql/functions/histogram-math.ts'
import { almostEqual } from '../../shared/promql/functions/quantile.ts'
import type { Point } from './promql-points.ts'

export interface Expectation {
  readonly kind: 'fail' | 'warn' | 'info' | 'no_warn' | 'no_info'
  readonly text: string | undefined
  readonly pattern: RE2JS | undefined
}

export interface EvalCase {
  readonly line: number
  readonly expression: string
  readonly startMs: number
  readonly endMs: number
  /** 0: instant. */
  readonly stepMs: number
  readonly expectations: Expectation[]
  isOrdered: boolean
  string: string | undefined
  scalar: number | undefined
  matrix: { startMs: number; endMs: number; stepMs: number } | undefined
  readonly rows: { labels: Labels; points: Point[] }[]
}

/** A histogram as the HTTP API shows it: populated buckets as [which bounds belong to it, lower, upper, count]. */
export interface ShownHistogram extends Histogram {
  readonly shown: readonly (readonly [number, string, string, string])[]
}

export function satisfies({ text, pattern }: Expectation, got: string): boolean {
  if (text !== undefined) return got === text
  return pattern === undefined || pattern.matcher(got).find()
}

export function checkAnnotations(one: EvalCase, { warnings, infos }: QueryResult): string | undefined {
  for (const [kind, texts] of [
    ['warn', warnings],
    ['info', infos],
  ] as const) {
    if (one.expectations.some((each) => each.kind === `no_${kind}`) && texts.length > 0) {
      return `unexpected ${kind}: ${texts.join(' | ')}`
    }
    const wanted = one.expectations.filter((each) => each.kind === kind)
    if (wanted.length === 0) continue
    const missing = wanted.find((each) => !texts.some((text) => satisfies(each, text)))
    if (missing !== undefined) return `missing ${kind} ${missing.text ?? ''}; got ${texts.join(' | ')}`
    const surplus = texts.find((text) => !wanted.some((each) => satisfies(each, text)))
    if (surplus !== undefined) return `unexpected ${kind}: ${surplus}`
  }
  return undefined
}

export function checkValue(one: EvalCase, value: QueryResult['value']): string | undefined {
  if (one.string !== undefined) {
    return value.type === 'string' && value.value === one.string ? undefined : `wanted the string ${one.string}`
  }
  if (one.matrix !== undefined) {
    return value.type === 'matrix' ? checkMatrix(one.rows, one.matrix, value.series) : 'wanted a range vector'
  }
  if (one.stepMs !== 0) {
    if (value.type !== 'matrix') return `got a ${value.type}`
    return checkMatrix(one.rows, one, value.series)
  }
  if (one.scalar !== undefined) {
    if (value.type !== 'scalar') return `wanted a scalar, got a ${value.type}`
    return isClose(one.scalar, value.value) ? undefined : `wanted ${one.scalar}, got ${value.value}`
  }
  if (value.type === 'scalar') return `got the scalar ${value.value}`
  if (value.type !== 'vector') return `got a ${value.type}`
  return checkVector(one, value.samples)
}

export interface Got {
  readonly labels: Labels
  readonly value: number
  readonly histogram?: Histogram
}

export function checkVector(one: EvalCase, samples: readonly Got[]): string | undefined {
  const list = () =>
    samples.map(({ labels, value, histogram }) => `${describeLabels(labels)} ${show(value, histogram)}`)
  const wanted = new Map(one.rows.map((row, i) => [labelsKey(row.labels), { ...row, at: i }]))
  if (samples.length !== wanted.size) return `wanted ${wanted.size} series, got ${list().join(', ')}`
  for (const [i, { labels, value, histogram }] of samples.entries()) {
    const row = wanted.get(labelsKey(labels))
    if (row === undefined) return `unexpected ${describeLabels(labels)}; got ${list().join(', ')}`
    if (one.isOrdered && row.at !== i) return `out of order: ${list().join(', ')}`
    const fault = checkPoint(row.points[0]!, value, histogram)
    if (fault !== undefined) return `${describeLabels(labels)}: ${fault}`
  }
  return undefined
}

function checkMatrix(
  rows: EvalCase['rows'],
  { startMs, endMs, stepMs }: { startMs: number; endMs: number; stepMs: number },
  series: readonly MatrixSeries[],
): string | undefined {
  const names = () => series.map(({ labels }) => describeLabels(labels)).join(', ')
  const wanted = new Map(rows.map((row) => [labelsKey(row.labels), row]))
  if (series.length !== wanted.size) return `wanted ${wanted.size} series, got ${names()}`
  for (const { labels, times, values, histograms } of series) {
    const row = wanted.get(labelsKey(labels))
    if (row === undefined) return `unexpected ${describeLabels(labels)}; got ${names()}`
    const at = new Map([...times].map((timeMs, i) => [timeMs, i]))
    let found = 0
    for (let i = 0, timeMs = startMs; timeMs <= endMs; i++, timeMs += stepMs) {
      const point = row.points[i] ?? { kind: 'none' }
      const index = at.get(timeMs)
      if (index === undefined) {
        if (point.kind !== 'none') return `${describeLabels(labels)}: nothing at ${timeMs}`
        continue
      }
      found++
      const fault = checkPoint(point, values[index]!, histograms?.[index])
      if (fault !== undefined) return `${describeLabels(labels)} at ${timeMs}: ${fault}`
    }
    if (found !== times.length) return `${describeLabels(labels)}: points outside the steps`
  }
  return undefined
}

function show(value: number, histogram: Histogram | undefined): string {
  if (histogram === undefined) return String(value)
  const { schema, customValues, resetHint, zeroThreshold } = histogram
  return `${describeHistogram(histogram)} schema ${schema} [${customValues.join(' ')}] ${resetHint} zero ${zeroThreshold}`
}

function checkPoint(point: Point, value: number, histogram: Histogram | undefined): string | undefined {
  const got = show(value, histogram)
  switch (point.kind) {
    case 'none':
      return `unexpected ${got}`
    case 'stale':
      return histogram === undefined && isStale(value) ? undefined : `wanted a stale marker, got ${got}`
    case 'float':
      if (histogram === undefined && isClose(point.value, value)) return undefined
      return `wanted ${point.value}, got ${got}`
    case 'histogram':
      if (histogram !== undefined && isSameHistogram(point, histogram)) return undefined
      return `wanted ${show(0, point.histogram)}, got ${got}`
  }
}

function isClose(a: number, b: number): boolean {
  return almostEqual(a, b, 1e-6)
}

function isSameHistogram(
  { histogram, hasHint }: { histogram: Histogram; hasHint: boolean },
  got: Histogram | ShownHistogram,
): boolean {
  if ('shown' in got) return isShown(histogram, got)
  const a = compact(histogram)
  const b = compact(got)
  if (hasHint && a.resetHint !== b.resetHint) return false
  if (a.schema !== b.schema || a.zeroThreshold !== b.zeroThreshold) return false
  if (a.customValues.join() !== b.customValues.join()) return false
  const sameSide = (x: ReturnType<typeof sideOf>, y: ReturnType<typeof sideOf>) =>
    x.indexes.join() === y.indexes.join() && x.counts.every((count, i) => isClose(count, y.counts[i]!))
  return (
    isClose(a.count, b.count) &&
    isClose(a.sum, b.sum) &&
    isClose(a.zeroCount, b.zeroCount) &&
    sameSide(sideOf(a.positiveSpans, a.positiveBuckets), sideOf(b.positiveSpans, b.positiveBuckets)) &&
    sameSide(sideOf(a.negativeSpans, a.negativeBuckets), sideOf(b.negativeSpans, b.negativeBuckets))
  )
}

function isShown(wanted: Histogram, { count, sum, shown }: ShownHistogram): boolean {
  if (!isClose(wanted.count, count) || !isClose(wanted.sum, sum)) return false
  const populated = [...allBuckets(wanted)].filter((bucket) => bucket.count !== 0)
  if (populated.length !== shown.length) return false
  return populated.every((bucket, i) => {
    const [bounds, lower, upper, inside] = shown[i]!
    const wantedBounds = bucket.lowerInclusive ? (bucket.upperInclusive ? 3 : 1) : bucket.upperInclusive ? 0 : 2
    return (
      bounds === wantedBounds &&
      isClose(bucket.lower, floatOf(lower)) &&
      isClose(bucket.upper, floatOf(upper)) &&
      isClose(bucket.count, floatOf(inside))
    )
  })
}

/** A number as the HTTP API writes it. */
export function floatOf(text: string): number {
  return text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text)
}
