// The notation of points in promql scripts: `0+1x10`, `_x3`, `stale`, `{{schema:0 count:3 buckets:[1 2]}}`.
import { CUSTOM_BUCKETS_SCHEMA, type Histogram, type ResetHint } from '../../shared/model/histogram.ts'
import { add, subtract } from '../../shared/promql/functions/histogram-math.ts'

export type Point =
  | { readonly kind: 'none' }
  | { readonly kind: 'stale' }
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'histogram'; readonly histogram: Histogram; readonly hasHint: boolean }

function floatFrom(text: string): number {
  const plain = text.replace(/_/g, '')
  if (/^[+-]?inf$/i.test(plain)) return plain.startsWith('-') ? -Infinity : Infinity
  if (/^[+-]?nan$/i.test(plain)) return Number.NaN
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(plain)) throw new Error(`not a number: ${text}`)
  return Number(plain)
}

/** Splits at blanks, but not inside {{…}}. */
function tokensOf(text: string): string[] {
  const tokens: string[] = []
  let depth = 0
  let current = ''
  for (let i = 0; i < text.length; i++) {
    const two = text.slice(i, i + 2)
    if (two === '{{') depth++
    if (two === '}}') depth--
    if (depth === 0 && /\s/.test(text[i]!)) {
      if (current !== '') tokens.push(current)
      current = ''
    } else current += text[i]
  }
  if (current !== '') tokens.push(current)
  return tokens
}

export function pointsFrom(text: string): Point[] {
  return tokensOf(text).flatMap(expandToken)
}

const NUMBER = '[+-]?(?:inf|nan|(?:\\d[\\d_]*\\.?[\\d_]*|\\.\\d[\\d_]*)(?:e[+-]?\\d+)?)'
const SERIES = new RegExp(`^(${NUMBER})(?:([+-])(${NUMBER}))?(?:x(\\d+))?$`, 'i')

function expandToken(token: string): Point[] {
  if (token === '_') return [{ kind: 'none' }]
  if (token === 'stale') return [{ kind: 'stale' }]
  if (/^_x\d+$/.test(token)) return new Array<Point>(Number(token.slice(2))).fill({ kind: 'none' })
  if (token.startsWith('{{')) return expandHistograms(token)
  const match = SERIES.exec(token)
  if (match === null) throw new Error(`not a point: ${token}`)
  const [, first, sign, step, times] = match
  const points: Point[] = []
  let value = floatFrom(first!)
  for (let i = 0; i <= Number(times ?? 0); i++) {
    points.push({ kind: 'float', value })
    if (step !== undefined) value = sign === '+' ? value + floatFrom(step) : value - floatFrom(step)
  }
  return points
}

function expandHistograms(token: string): Point[] {
  const match = /^\{\{(.*?)\}\}(?:([+-])\{\{(.*?)\}\})?(?:x(\d+))?$/s.exec(token)
  if (match === null) throw new Error(`not a histogram: ${token}`)
  const [, first, sign, step, times] = match
  let histogram = histogramFrom(first!)
  const hasHint = (step ?? first!).includes('counter_reset_hint')
  const points: Point[] = []
  for (let i = 0; i <= Number(times ?? 0); i++) {
    points.push({ kind: 'histogram', histogram, hasHint })
    if (step === undefined) continue
    const notes = { collided: false, reconciled: false }
    histogram = (sign === '+' ? add : subtract)(histogram, histogramFrom(step), notes)
  }
  return points
}

const HINTS: Record<string, ResetHint> = { unknown: 'unknown', reset: 'reset', not_reset: 'no-reset', gauge: 'gauge' }

function histogramFrom(text: string): Histogram {
  const fields = new Map<string, string>()
  for (const [, name, value] of text.matchAll(/([a-z_]+):(\[[^\]]*\]|[^\s]+)/g)) fields.set(name!, value!)
  const number = (name: string) => (fields.has(name) ? floatFrom(fields.get(name)!) : 0)
  const list = (name: string) => (fields.get(name) ?? '[]').slice(1, -1).split(/\s+/).filter(Boolean).map(floatFrom)
  const span = (offset: number, length: number) => (length === 0 ? [] : [{ offset, length }])
  const positiveBuckets = list('buckets')
  const negativeBuckets = list('n_buckets')
  const schema = number('schema')
  return {
    isFloat: true,
    resetHint: HINTS[fields.get('counter_reset_hint') ?? 'unknown']!,
    schema,
    zeroThreshold: number('z_bucket_w'),
    zeroCount: number('z_bucket'),
    count: number('count'),
    sum: number('sum'),
    positiveSpans: span(number('offset'), positiveBuckets.length),
    positiveBuckets,
    negativeSpans: span(number('n_offset'), negativeBuckets.length),
    negativeBuckets,
    customValues: schema === CUSTOM_BUCKETS_SCHEMA ? list('custom_values') : [],
  }
}
