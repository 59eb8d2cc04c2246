// The newest sample of each selected series, as a page that another Prometheus scrapes (`/federate`): the text format 0.0.4.
//
// As there: series that have gone stale are left out, each sample carries its own time, a series without a label `instance` gets an
// empty one, and native histograms are left out, but for those with custom buckets, which become classic ones.
import type { Clock } from '../../shared/base/clock.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { FEDERATE_ESCAPINGS } from '../../shared/contracts/query.ts'
import { CUSTOM_BUCKETS_SCHEMA, type Histogram } from '../../shared/model/histogram.ts'
import { compareBytes, compareLabels, type Labels, labelOf, labelsKey, METRIC_NAME } from '../../shared/model/labels.ts'
import { isStale, isStaleAt } from '../../shared/model/sample.ts'
import { formatShort } from '../../shared/promql/format-float.ts'
import { badData } from '../../shared/promql/go-values.ts'
import type { SeriesSamples } from '../../shared/promql/source.ts'
import { wordsOf } from '../../shared/tsdb/chunk/xor.ts'
import type { Answer, AnswerKind, Asked } from './asked.ts'
import { escapeName, isPlainName } from './escape-name.ts'
import { anySelectors } from './params.ts'
import type { WholeReader } from './whole-reader.ts'
import { wholeSource } from './whole-source.ts'

export interface FederateDeps {
  readonly bus: Bus
  readonly clock: Clock
  readonly reader: WholeReader
  readonly lookbackMs: number
  readonly selectorsMax: number
}

const PART_LENGTH = 1024 * 1024

export function federateQueries(deps: FederateDeps): Readonly<Record<'federate', AnswerKind>> {
  const { bus, clock, reader, lookbackMs, selectorsMax } = deps
  return { federate }

  async function federate({ params, budget, run }: Asked): Promise<Answer> {
    const selectors = anySelectors(params, selectorsMax)
    const escaping = FEDERATE_ESCAPINGS.find((known) => known === (params.escaping ?? 'underscores'))
    if (escaping === undefined) throw badData(`there is no escaping "${params.escaping}"`)
    if (selectors.length === 0) return { data: undefined, raw: [] }
    return run(undefined, async (scope) => {
      const source = wholeSource({ bus, reader, scope, budget })
      const endMs = clock.now()
      const hints = { startMs: endMs - lookbackMs, endMs, mode: 'last' } as const
      const byLabels = new Map<string, SeriesSamples>()
      for (const matchers of selectors) {
        for (const series of await source.select(matchers, hints, scope)) byLabels.set(labelsKey(series.labels), series)
      }
      const all = [...byLabels.values()].sort((a, b) => compareLabels(a.labels, b.labels))
      const nameOf = ({ labels }: SeriesSamples) => labelOf(labels, METRIC_NAME)
      all.sort((a, b) => compareBytes(nameOf(a), nameOf(b)))
      return { data: undefined, raw: page(all, (name) => escapeName(name, escaping)) }
    })
  }
}

type Escape = (name: string) => string

function page(all: readonly SeriesSamples[], escaped: Escape): readonly Uint8Array[] {
  const parts: Uint8Array[] = []
  let text = ''
  let family = ''
  for (const { labels, times, values, histograms } of all) {
    const last = times.length - 1
    const histogram = histograms?.[last]
    if (last < 0 || isStaleSample(values, last, histogram)) continue
    if (histogram !== undefined && histogram.schema !== CUSTOM_BUCKETS_SCHEMA) continue
    const name = labelOf(labels, METRIC_NAME)
    if (name === '') continue
    const isGauge = histogram?.resetHint === 'gauge'
    const kind = `${histogram === undefined ? 'untyped' : isGauge ? 'gauge histogram' : 'histogram'} ${name}`
    const shown = escaped(name)
    if (kind !== family) text += `# TYPE ${quotedName(shown)} ${histogram === undefined ? 'untyped' : 'histogram'}\n`
    family = kind
    const pairs = labelPairs(labels, escaped)
    const lines = histogram === undefined ? [['', '', values[last]!] as const] : classicLines(histogram)
    for (const [suffix, more, value] of lines) {
      text += `${sampleName(shown + suffix, pairs + more)} ${textOf(value)} ${times[last]}\n`
    }
    if (text.length < PART_LENGTH) continue
    parts.push(Buffer.from(text))
    text = ''
  }
  parts.push(Buffer.from(text))
  return parts
}

function isStaleSample(values: Float64Array, index: number, histogram: Histogram | undefined): boolean {
  return histogram === undefined ? isStaleAt(wordsOf(values), index) : isStale(histogram.sum)
}

/** `,name="value"` for each label but the metric's name; `instance` is always among them. */
function labelPairs(labels: Labels, escaped: Escape): string {
  let text = ''
  let hasInstance = false
  for (let i = 0; i < labels.length; i += 2) {
    if (labels[i] === METRIC_NAME) continue
    if (labels[i] === 'instance') hasInstance = true
    text += `,${quotedName(escaped(labels[i]!))}="${escapedValue(labels[i + 1]!)}"`
  }
  return hasInstance ? text : `${text},instance=""`
}

/** A name that older parsers do not take stands in braces. */
function sampleName(name: string, pairs: string): string {
  return isPlainName(name) ? `${name}{${pairs.slice(1)}}` : `{${quotedName(name)}${pairs}}`
}

const quotedName = (name: string): string => (isPlainName(name) ? name : `"${escapedValue(name)}"`)

function escapedValue(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"')
}

const textOf = (value: number): string => (value === 0 ? '0' : formatShort(value))

/** Suffix, further label, value. */
function classicLines(histogram: Histogram): readonly (readonly [string, string, number])[] {
  const { customValues, positiveSpans, positiveBuckets, sum, count } = histogram
  const counts = new Map<number, number>()
  let index = 0
  let at = 0
  for (const { offset, length } of positiveSpans) {
    index += offset
    for (let i = 0; i < length; i++) counts.set(index++, positiveBuckets[at++]!)
  }
  let total = 0
  const lines = customValues.map((bound, i) => {
    total += counts.get(i) ?? 0
    return ['_bucket', `,le="${textOf(bound)}"`, total] as const
  })
  return [...lines, ['_bucket', ',le="+Inf"', count], ['_sum', '', sum], ['_count', '', count]]
}
