// What the labels of a series must be like to be let in, by a push or in a block. Texts and reasons follow Cortex, ids are our own and never
// change.
import type { RefusedCode } from '../base/error-codes.ts'
import { compareBytes, formatLabels, type Labels, METRIC_NAME } from './labels.ts'

export interface LabelLimits {
  readonly labelNamesPerSeriesMax: number
  readonly labelNameBytesMax: number
  readonly labelValueBytesMax: number
}

export interface Refusal {
  readonly status: number
  readonly code: RefusedCode
  /** The `reason` label of carillon_discarded_samples_total. */
  readonly reason: string
  readonly text: string
  readonly retryAfterS?: number
}

/** `label-invalid` of `err-carillon-label-invalid`. */
type IdIn<C> = C extends `err-carillon-${infer Id}` ? Id : never

const ECHO_MAX = 200
const NOT_SORTED = 'labels-not-sorted'

/** At most 200 characters of what a sender wrote. */
export function echo(text: string): string {
  return text.length > ECHO_MAX ? `${text.slice(0, ECHO_MAX)}…` : text
}

export function refusal(id: IdIn<RefusedCode>, reason: string, text: string, flag?: string): Refusal {
  const adjust = flag ? `. To adjust the limit, set --${flag} or ask your administrator` : ''
  const code = `err-carillon-${id}` as const
  return { status: 400, code, reason, text: `${text} (${code})${adjust}` }
}

/** The reason to refuse a label set as it came (unsorted, with empty values), or undefined. */
export function checkLabels(labels: Labels, limits: LabelLimits): Refusal | undefined {
  const metric = labels[labels.indexOf(METRIC_NAME) + 1]
  if (!labels.some((name, i) => i % 2 === 0 && name === METRIC_NAME) || !metric) {
    return refusal('missing-metric-name', 'missing_metric_name', 'sample missing metric name')
  }
  const count = labels.length / 2
  if (count > limits.labelNamesPerSeriesMax) {
    const text = `series has too many labels (actual: ${count}, limit: ${limits.labelNamesPerSeriesMax}) series: '${echo(formatLabels(labels))}'`
    return refusal('max-label-names-per-series', 'max_label_names_per_series', text, 'label-names-per-series-max')
  }
  for (let i = 0; i < labels.length; i += 2) {
    const wrong = checkLabel({ labels, i, metric: echo(metric) }, limits)
    if (wrong) return wrong
  }
  return undefined
}

/** As `checkLabels` for a set that may come in any order; `labels` are in order where nothing is refused. What is sorted costs no more. */
export function orderLabels(labels: Labels, limits: LabelLimits): { labels: Labels; refused: Refusal | undefined } {
  const refused = checkLabels(labels, limits)
  if (refused?.code !== `err-carillon-${NOT_SORTED}`) return { labels, refused }
  const inOrder = sorted(labels)
  return { labels: inOrder, refused: checkLabels(inOrder, limits) }
}

function checkLabel(at: { labels: Labels; i: number; metric: string }, limits: LabelLimits): Refusal | undefined {
  const name = at.labels[at.i]!
  const value = at.labels[at.i + 1]!
  if (name === '') {
    return refusal('label-invalid', 'label_invalid', `sample invalid label: "" metric "${at.metric}"`)
  }
  const nameBytes = Buffer.byteLength(name)
  if (nameBytes > limits.labelNameBytesMax) {
    const text = `label name too long for metric (actual: ${nameBytes}, limit: ${limits.labelNameBytesMax}) metric: "${at.metric}" label name: "${echo(name)}"`
    return refusal('label-name-too-long', 'label_name_too_long', text, 'label-name-bytes-max')
  }
  const valueBytes = Buffer.byteLength(value)
  if (valueBytes > limits.labelValueBytesMax) {
    const text = `label value too long for metric (actual: ${valueBytes}, limit: ${limits.labelValueBytesMax}) metric: "${at.metric}" label value: "${echo(value)}"`
    return refusal('label-value-too-long', 'label_value_too_long', text, 'label-value-bytes-max')
  }
  if (at.i === 0) return undefined
  const order = compareBytes(at.labels[at.i - 2]!, name)
  if (order === 0) {
    return refusal(
      'duplicate-label-name',
      'duplicate_label_names',
      `duplicate label name: "${echo(name)}" metric: "${at.metric}"`,
    )
  }
  if (order > 0) {
    return refusal(NOT_SORTED, 'labels_not_sorted', `labels not sorted: "${echo(name)}" metric: "${at.metric}"`)
  }
  return undefined
}

/**
 * The label set in the order of its names' bytes. Many senders do not sort (vmagent, Fluent Bit, Telegraf), and whoever takes remote write
 * sorts for them. For a set whose labels have been counted: work is bounded by that.
 */
export function sorted(labels: Labels): Labels {
  if (!labels.some((name, i) => i > 0 && i % 2 === 0 && compareBytes(labels[i - 2]!, name) > 0)) return labels
  const pairs: string[][] = []
  for (let i = 0; i < labels.length; i += 2) pairs.push([labels[i]!, labels[i + 1]!])
  return pairs.sort(([a], [b]) => compareBytes(a!, b!)).flat()
}

/** The label set that is stored: without labels whose value is empty, for they mean the same as none. */
export function canonical(labels: Labels): Labels {
  if (!labels.some((text, i) => i % 2 === 1 && text === '')) return labels
  const kept: string[] = []
  for (let i = 0; i < labels.length; i += 2) if (labels[i + 1] !== '') kept.push(labels[i]!, labels[i + 1]!)
  return kept
}

/** The labels but for the one of that name. */
export function without(labels: Labels, name: string): Labels {
  return labels.filter((_, i) => labels[i - (i % 2)] !== name)
}
