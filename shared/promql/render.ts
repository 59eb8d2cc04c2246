// The `data` of an answer of the HTTP API, as Prometheus writes it.
import type { Histogram } from '../model/histogram.ts'
import type { Labels } from '../model/labels.ts'
import type { MatrixSeries, QueryResult, VectorSample } from './engine.ts'
import { formatJsonFloat } from './format-float.ts'
import { allBuckets } from './functions/histogram-buckets.ts'

/** Characters gathered before they are given out: the pieces that a text was put together from stay in memory until then. */
const PART_LENGTH = 64 * 1024

/** `{"resultType":…,"result":…}` */
export function renderJson(result: Pick<QueryResult, 'value'>): string {
  let whole = ''
  for (const text of renderParts(result)) whole += text
  return whole
}

/** The same, in parts of moderate length that end anywhere; the last one with the closing brace. Each is made when it is asked for. */
export function* renderParts({ value }: Pick<QueryResult, 'value'>): Generator<string, void, undefined> {
  switch (value.type) {
    case 'scalar':
      yield `{"resultType":"scalar","result":[${renderTime(value.timeMs)},"${formatJsonFloat(value.value)}"]}`
      return
    case 'string':
      yield `{"resultType":"string","result":[${renderTime(value.timeMs)},${renderText(value.value)}]}`
      return
    case 'vector': {
      const time = renderTime(value.timeMs)
      const texts = new LabelTexts()
      return yield* renderList('vector', value.samples, (sample) => renderSample(sample, time, texts))
    }
    case 'matrix':
      return yield* renderMatrix(value.series)
  }
}

type Render<T> = (one: T) => string | Generator<string, void, undefined>

function* renderList<T>(type: string, list: readonly T[], render: Render<T>): Generator<string, void, undefined> {
  let text = `{"resultType":"${type}","result":[`
  for (let i = 0; i < list.length; i++) {
    if (i > 0) text += ','
    const one = render(list[i]!)
    if (typeof one === 'string') text += one
    else {
      yield text
      text = ''
      yield* one
    }
    if (text.length < PART_LENGTH) continue
    yield text
    text = ''
  }
  yield `${text}]}`
}

function* renderMatrix(list: readonly MatrixSeries[]): Generator<string, void, undefined> {
  const texts = new LabelTexts()
  let shared: Float64Array | undefined // complete series of one query share their times
  let openings: readonly string[] = []
  const render = (one: MatrixSeries) => {
    const shortMax = one.histograms === undefined ? SHORT_SERIES : PIECE_HISTOGRAMS
    if (one.times.length > shortMax) return renderLongSeries(one, texts)
    if (one.times !== shared) {
      shared = one.times
      openings = Array.from(shared, (timeMs) => `,[${renderTime(timeMs)},"`)
    }
    return renderSeries(one, openings, texts)
  }
  yield* renderList('matrix', list, render)
}

/** Samples of a series that become one piece of text. */
const SHORT_SERIES = 16_384
/** Samples, and histograms, of a longer one that become a piece. */
const PIECE_SAMPLES = 1_024
const PIECE_HISTOGRAMS = 32

function* renderLongSeries(one: MatrixSeries, texts: LabelTexts): Generator<string, void, undefined> {
  const { labels, times, values, histograms } = one
  yield `{"metric":${texts.render(labels)}`
  const isHistogram = (i: number) => histograms?.[i] !== undefined
  yield* renderLongList('values', times.length, PIECE_SAMPLES, (i) =>
    isHistogram(i) ? undefined : `[${renderTime(times[i]!)},"${formatJsonFloat(values[i]!)}"]`,
  )
  if (histograms !== undefined) {
    yield* renderLongList('histograms', times.length, PIECE_HISTOGRAMS, (i) =>
      isHistogram(i) ? `[${renderTime(times[i]!)},${renderHistogram(histograms[i]!)}]` : undefined,
    )
  }
  yield '}'
}

function* renderLongList(
  name: string,
  count: number,
  size: number,
  render: (i: number) => string | undefined,
): Generator<string, void, undefined> {
  let isBegun = false
  for (let from = 0; from < count; from += size) {
    let text = ''
    for (let i = from; i < Math.min(count, from + size); i++) {
      const one = render(i)
      if (one === undefined) continue
      text += isBegun ? `,${one}` : `,"${name}":[${one}`
      isBegun = true
    }
    yield text
  }
  if (isBegun) yield ']'
}

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

/** Label sets of one answer: most labels stand in many of them, and the first ones of a set mostly in the one before. */
class LabelTexts {
  /** By name and value: rendered, with the comma before it. */
  private readonly known = new Map<string, Map<string, string>>()
  private before: Labels = []
  /** Of the set before: the text of so many of its labels. */
  private readonly beginnings = ['{']

  render(labels: Labels): string {
    const { before, beginnings } = this
    let i = 0
    while (i < labels.length && labels[i] === before[i] && labels[i + 1] === before[i + 1]) i += 2
    let text = beginnings[i / 2]!
    for (; i < labels.length; i += 2) {
      const label = this.labelOnce(labels[i]!, labels[i + 1]!)
      text += i === 0 ? label.slice(1) : label
      beginnings[i / 2 + 1] = text
    }
    this.before = labels
    return `${text}}`
  }

  private labelOnce(name: string, value: string): string {
    let ofName = this.known.get(name)
    if (ofName === undefined) {
      ofName = new Map()
      this.known.set(name, ofName)
    }
    let rendered = ofName.get(value)
    if (rendered === undefined) {
      rendered = `,${renderText(name)}:${renderText(value)}`
      ofName.set(value, rendered)
    }
    return rendered
  }
}

function renderSample({ labels, value, histogram }: VectorSample, time: string, texts: LabelTexts): string {
  const metric = `{"metric":${texts.render(labels)},`
  if (histogram !== undefined) return `${metric}"histogram":[${time},${renderHistogram(histogram)}]}`
  return `${metric}"value":[${time},"${formatJsonFloat(value)}"]}`
}

/** `openings`: how each float begins, `,[time,"`. Text grows at its end piece by piece, which is what V8 does fastest. */
function renderSeries(
  { labels, values, histograms }: MatrixSeries,
  openings: readonly string[],
  texts: LabelTexts,
): string {
  let floats = ''
  let natives = ''
  for (let i = 0; i < openings.length; i++) {
    const opening = openings[i]!
    const histogram = histograms?.[i]
    if (histogram === undefined) {
      floats += floats === '' ? opening.slice(1) : opening
      floats += formatJsonFloat(values[i]!)
      floats += '"]'
    } else natives += `${opening.slice(natives === '' ? 1 : 0, -1)}${renderHistogram(histogram)}]`
  }
  let text = `{"metric":${texts.render(labels)}`
  if (floats !== '') text += `,"values":[${floats}]`
  if (natives !== '') text += `,"histograms":[${natives}]`
  return `${text}}`
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
