// The newest sample of each selected series, as a page that another Prometheus scrapes (`/federate`): the text format 0.0.4, or protobuf.
//
// As there: series that have gone stale are left out, each sample carries its own time, a series without a label `instance` gets an
// empty one; native histograms are left out of text, but for those with custom buckets, which become classic ones in both.
import { type Breath, forEach } from '../../../shared/base/breathing.ts'
import type { Clock } from '../../../shared/base/clock.ts'
import { sortLong } from '../../../shared/base/long-sort.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { FEDERATE_ESCAPINGS, FEDERATE_FORMATS } from '../../../shared/contracts/query.ts'
import { CUSTOM_BUCKETS_SCHEMA, type Histogram } from '../../../shared/model/histogram.ts'
import { compareBytes, type Labels, labelOf, labelsKey, METRIC_NAME } from '../../../shared/model/labels.ts'
import { isStale, isStaleAt } from '../../../shared/model/sample.ts'
import { sortedByLabels } from '../../../shared/promql/exec/labels.ts'
import { formatShort } from '../../../shared/promql/format-float.ts'
import { badData } from '../../../shared/promql/go-values.ts'
import type { SeriesSamples } from '../../../shared/promql/source.ts'
import { wordsOf } from '../../../shared/tsdb/chunk/xor.ts'
import { wholeSource } from '../read/series-source.ts'
import type { WholeReader } from '../read/tenant-reader.ts'
import { escapeName, isPlainName } from './escape-name.ts'
import { encodeFamily, type FamilyMetric, type FamilyType } from './metric-family.ts'
import { anySelectors, type SelectorBounds } from './params.ts'
import type { Answer, AnswerKind, Asked } from './query-kind.ts'

export interface FederateDeps {
  readonly bus: Bus
  readonly clock: Clock
  readonly reader: WholeReader
  readonly lookbackMs: number
  readonly bounds: SelectorBounds
}

const PART_LENGTH = 64 * 1024
/** Of a series, in units of work. */
const SERIES_WORK = 1_000

export function federateQueries(deps: FederateDeps): Readonly<Record<'federate', AnswerKind>> {
  const { bus, clock, reader, lookbackMs, bounds } = deps
  return { federate }

  async function federate({ params, budget, breath, run }: Asked): Promise<Answer> {
    const selectors = await anySelectors(params, bounds, breath)
    const escaping = FEDERATE_ESCAPINGS.find((known) => known === (params.escaping ?? 'underscores'))
    if (escaping === undefined) throw badData(`there is no escaping "${params.escaping}"`)
    const format = FEDERATE_FORMATS.find((known) => known === (params.format ?? 'text'))
    if (format === undefined) throw badData(`there is no format "${params.format}"`)
    if (selectors.length === 0) return { data: undefined, raw: [] }
    return run(undefined, async (scope) => {
      const source = wholeSource({ bus, reader, scope, budget })
      const endMs = clock.now()
      const hints = { startMs: endMs - lookbackMs, endMs, mode: 'last' } as const
      const byLabels = new Map<string, SeriesSamples>()
      for (const matchers of selectors) {
        const found = await source.select(matchers, hints, scope)
        await forEach(found, SERIES_WORK, scope.breath, (series) => byLabels.set(labelsKey(series.labels), series))
      }
      const ordered = [...(await sortedByLabels([...byLabels.values()], scope.breath))]
      const nameOf = ({ labels }: SeriesSamples) => labelOf(labels, METRIC_NAME)
      const all = await sortLong(ordered, (a, b) => compareBytes(nameOf(a), nameOf(b)), scope.breath)
      const page = format === 'text' ? textPage : protobufPage
      return { data: undefined, raw: await page(all, (name) => escapeName(name, escaping), scope.breath) }
    })
  }
}

type Escape = (name: string) => string

interface Row {
  readonly labels: Labels
  readonly timeMs: number
  readonly value: Float64Array
  readonly histogram: Histogram | undefined
}

interface Family {
  readonly name: string
  readonly type: FamilyType
  readonly rows: Row[]
}

/** Neighbours with one name and one type; a name that has several types comes several times, as there. */
function* familiesOf(all: readonly SeriesSamples[], hasNative: boolean): Generator<Family> {
  let family: Family | undefined
  for (const { labels, times, values, histograms } of all) {
    const last = times.length - 1
    const histogram = histograms?.[last]
    if (last < 0 || isStaleSample(values, last, histogram)) continue
    if (histogram !== undefined && histogram.schema !== CUSTOM_BUCKETS_SCHEMA && !hasNative) continue
    const name = labelOf(labels, METRIC_NAME)
    if (name === '') continue
    const isGauge = histogram?.resetHint === 'gauge'
    const type = histogram === undefined ? 'untyped' : isGauge ? 'gaugeHistogram' : 'histogram'
    if (family?.name !== name || family.type !== type) {
      if (family !== undefined) yield family
      family = { name, type, rows: [] }
    }
    family.rows.push({ labels, timeMs: times[last]!, value: values.subarray(last, last + 1), histogram })
  }
  if (family !== undefined) yield family
}

async function textPage(
  all: readonly SeriesSamples[],
  escaped: Escape,
  breath: Breath,
): Promise<readonly Uint8Array[]> {
  const parts: Uint8Array[] = []
  let text = ''
  for (const { name, type, rows } of familiesOf(all, false)) {
    const shown = escaped(name)
    text += `# TYPE ${quotedName(shown)} ${type === 'untyped' ? 'untyped' : 'histogram'}\n`
    for (const { labels, timeMs, value, histogram } of rows) {
      const pairs = labelPairs(labels, escaped)
      const lines = histogram === undefined ? [['', '', value[0]!] as const] : classicLines(histogram)
      for (const [suffix, more, number] of lines) {
        text += `${sampleName(shown + suffix, pairs + more)} ${textOf(number)} ${timeMs}\n`
      }
      if (breath.isDue(2 * SERIES_WORK)) await breath.breathe()
      if (text.length < PART_LENGTH) continue
      parts.push(Buffer.from(text))
      text = ''
    }
  }
  parts.push(Buffer.from(text))
  return parts
}

async function protobufPage(
  all: readonly SeriesSamples[],
  escaped: Escape,
  breath: Breath,
): Promise<readonly Uint8Array[]> {
  const parts: Uint8Array[] = []
  for (const { name, type, rows } of familiesOf(all, true)) {
    const metrics: FamilyMetric[] = []
    await forEach(rows, 5 * SERIES_WORK, breath, ({ labels, ...row }) => {
      const isClassic = row.histogram?.schema === CUSTOM_BUCKETS_SCHEMA
      metrics.push({
        ...row,
        labels: pairsOf(labels).map((text, i) => (i % 2 === 0 ? escaped(text) : text)),
        cumulative: isClassic ? cumulativeCounts(row.histogram!) : [],
      })
    })
    parts.push(await encodeFamily(escaped(name), type, metrics, breath))
  }
  return parts
}

function isStaleSample(values: Float64Array, index: number, histogram: Histogram | undefined): boolean {
  return histogram === undefined ? isStaleAt(wordsOf(values), index) : isStale(histogram.sum)
}

/** Names and values by turns of all labels but the metric's name; `instance` is always among them. */
function pairsOf(labels: Labels): readonly string[] {
  const pairs: string[] = []
  for (let i = 0; i < labels.length; i += 2) {
    if (labels[i] !== METRIC_NAME) pairs.push(labels[i]!, labels[i + 1]!)
  }
  return labelOf(labels, 'instance') === '' ? [...pairs, 'instance', ''] : pairs
}

/** `,name="value"` for each of them. */
function labelPairs(labels: Labels, escaped: Escape): string {
  const pairs = pairsOf(labels)
  let text = ''
  for (let i = 0; i < pairs.length; i += 2) {
    text += `,${quotedName(escaped(pairs[i]!))}="${escapedValue(pairs[i + 1]!)}"`
  }
  return text
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

/** Samples that are at most as large as each bound. */
function cumulativeCounts({ customValues, positiveSpans, positiveBuckets }: Histogram): readonly number[] {
  const counts = new Map<number, number>()
  let index = 0
  let at = 0
  for (const { offset, length } of positiveSpans) {
    index += offset
    for (let i = 0; i < length; i++) counts.set(index++, positiveBuckets[at++]!)
  }
  let total = 0
  return customValues.map((_, i) => {
    total += counts.get(i) ?? 0
    return total
  })
}

/** Suffix, further label, value. */
function classicLines(histogram: Histogram): readonly (readonly [string, string, number])[] {
  const { customValues, sum, count } = histogram
  const totals = cumulativeCounts(histogram)
  const lines = customValues.map((bound, i) => ['_bucket', `,le="${textOf(bound)}"`, totals[i]!] as const)
  return [...lines, ['_bucket', ',le="+Inf"', count], ['_sum', '', sum], ['_count', '', count]]
}
