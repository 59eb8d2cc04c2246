// The `data` of an answer of the HTTP API, as Prometheus writes it.
import type { Histogram } from '../model/histogram.ts'
import type { Labels } from '../model/labels.ts'
import type { MatrixSeries, QueryResult, VectorSample } from './engine.ts'
import { formatJsonFloat } from './format-float.ts'
import { allBuckets } from './functions/histogram-buckets.ts'

/** Characters gathered before they are given out. */
const PART_LENGTH = 512 * 1024

/** `{"resultType":…,"result":…}` */
export function renderJson(result: Pick<QueryResult, 'value'>): string {
  let whole = ''
  renderTo(result, (text) => {
    whole += text
  })
  return whole
}

/** The same, in parts of moderate length that end anywhere; the last one with the closing brace. */
export function renderTo({ value }: Pick<QueryResult, 'value'>, emit: (text: string) => void): void {
  switch (value.type) {
    case 'scalar':
      return emit(`{"resultType":"scalar","result":[${renderTime(value.timeMs)},"${formatJsonFloat(value.value)}"]}`)
    case 'string':
      return emit(`{"resultType":"string","result":[${renderTime(value.timeMs)},${renderText(value.value)}]}`)
    case 'vector': {
      const time = renderTime(value.timeMs)
      const texts: Texts = new Map()
      return renderList('vector', value.samples, (sample) => renderSample(sample, time, texts), emit)
    }
    case 'matrix':
      return renderMatrix(value.series, emit)
  }
}

function renderList<T>(
  type: string,
  list: readonly T[],
  render: (one: T) => string,
  emit: (text: string) => void,
): void {
  let text = `{"resultType":"${type}","result":[`
  for (let i = 0; i < list.length; i++) {
    if (i > 0) text += ','
    text += render(list[i]!)
    if (text.length < PART_LENGTH) continue
    emit(text)
    text = ''
  }
  emit(`${text}]}`)
}

function renderMatrix(list: readonly MatrixSeries[], emit: (text: string) => void): void {
  const texts: Texts = new Map()
  let shared: Float64Array | undefined // complete series of one query share their times
  let times: readonly string[] = []
  const render = (one: MatrixSeries) => {
    if (one.times !== shared) {
      shared = one.times
      times = Array.from(shared, renderTime)
    }
    return renderSeries(one, times, texts)
  }
  renderList('matrix', list, render, emit)
}

/** Names and values of labels as they were rendered: most stand in many series. */
type Texts = Map<string, string>

/** Seconds with up to three decimals: 0.1, 1435781451.781. Fractions keep their trailing zeros (12.500). */
export function renderTime(timeMs: number): string {
  const size = Math.abs(timeMs)
  const fraction = size % 1000
  const whole = `${timeMs < 0 ? '-' : ''}${(size - fraction) / 1000}`
  return fraction === 0 ? whole : `${whole}.${String(fraction).padStart(3, '0')}`
}

const PLAIN_TEXT = /^[\x20\x21\x23-\x25\x27-\x3b\x3d\x3f-\x5b\x5d-\x7e]*$/
const SPECIAL_TEXT = /[<>&\u2028\u2029]/g

/** A JSON string with Go's escapes: also of <, > and &, which are dangerous in HTML. */
export function renderText(text: string): string {
  if (PLAIN_TEXT.test(text)) return `"${text}"`
  return JSON.stringify(text.toWellFormed())
    .replace(SPECIAL_TEXT, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)
    .replace(/\\[bf]/g, (short, at: number, whole: string) =>
      isEscaped(whole, at) ? short : short === '\\b' ? '\\u0008' : '\\u000c',
    )
}

/** The backslash at `at` is itself escaped by an odd number of backslashes before it. */
function isEscaped(text: string, at: number): boolean {
  let count = 0
  while (text[at - 1 - count] === '\\') count++
  return count % 2 === 1
}

function renderLabels(labels: Labels, texts: Texts): string {
  let text = ''
  for (let i = 0; i < labels.length; i += 2) {
    text += `${i === 0 ? '' : ','}${renderOnce(labels[i]!, texts)}:${renderOnce(labels[i + 1]!, texts)}`
  }
  return `{${text}}`
}

function renderOnce(text: string, texts: Texts): string {
  let rendered = texts.get(text)
  if (rendered === undefined) {
    rendered = renderText(text)
    texts.set(text, rendered)
  }
  return rendered
}

function renderSample({ labels, value, histogram }: VectorSample, time: string, texts: Texts): string {
  const metric = `{"metric":${renderLabels(labels, texts)},`
  if (histogram !== undefined) return `${metric}"histogram":[${time},${renderHistogram(histogram)}]}`
  return `${metric}"value":[${time},"${formatJsonFloat(value)}"]}`
}

function renderSeries({ labels, values, histograms }: MatrixSeries, times: readonly string[], texts: Texts): string {
  const floats: string[] = []
  const natives: string[] = []
  for (let i = 0; i < times.length; i++) {
    const histogram = histograms?.[i]
    if (histogram === undefined) floats.push(`[${times[i]},"${formatJsonFloat(values[i]!)}"]`)
    else natives.push(`[${times[i]},${renderHistogram(histogram)}]`)
  }
  const parts = [`"metric":${renderLabels(labels, texts)}`]
  if (floats.length > 0) parts.push(`"values":[${floats.join(',')}]`)
  if (natives.length > 0) parts.push(`"histograms":[${natives.join(',')}]`)
  return `{${parts.join(',')}}`
}

/** Populated buckets in ascending order: [which bounds belong to it, lower, upper, count]. */
function renderHistogram(histogram: Histogram): string {
  const buckets: string[] = []
  for (const { lower, upper, lowerInclusive, upperInclusive, count } of allBuckets(histogram)) {
    if (count === 0) continue
    const bounds = lowerInclusive ? (upperInclusive ? 3 : 1) : upperInclusive ? 0 : 2
    buckets.push(`[${bounds},"${formatJsonFloat(lower)}","${formatJsonFloat(upper)}","${formatJsonFloat(count)}"]`)
  }
  const list = buckets.length === 0 ? '' : `,"buckets":[${buckets.join(',')}]`
  return `{"count":"${formatJsonFloat(histogram.count)}","sum":"${formatJsonFloat(histogram.sum)}"${list}}`
}
