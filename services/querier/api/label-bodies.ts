// The JSON of answers about series, metadata and exemplars. Texts that come again and again are escaped once.
import { type Breath, forEach } from '../../../shared/base/breathing.ts'
import type { ExemplarsReply, MetricMetadata } from '../../../shared/contracts/read.ts'
import type { Labels } from '../../../shared/model/labels.ts'
import { formatJsonFloat } from '../../../shared/promql/format-float.ts'
import type { BodyPart } from './response.ts'

/** Characters gathered before they become one part of the body. */
const PART_LENGTH = 64 * 1024
/** Of making a text of something that has a few of them, in units of work. */
const ENTRY_WORK = 2_000
const TEXT_WORK = 200

/** The texts of a list with commas between them, in parts. */
async function listBody<T>(
  list: Iterable<T>,
  textOf: (item: T) => string,
  weight: number,
  breath: Breath,
): Promise<BodyPart[]> {
  const parts: BodyPart[] = []
  let text = ''
  let isFirst = true
  await forEach(list, weight, breath, (item) => {
    text += isFirst ? textOf(item) : `,${textOf(item)}`
    isFirst = false
    if (text.length < PART_LENGTH) return
    parts.push(Buffer.from(text))
    text = ''
  })
  parts.push(text)
  return parts
}

export async function textsBody(texts: readonly string[], breath: Breath): Promise<readonly BodyPart[]> {
  return ['[', ...(await listBody(texts, (text) => JSON.stringify(text), TEXT_WORK, breath)), ']']
}

export async function seriesBody(labelSets: readonly Labels[], breath: Breath): Promise<readonly BodyPart[]> {
  const quoted = escaper()
  return ['[', ...(await listBody(labelSets, (labels) => labelsText(labels, quoted), ENTRY_WORK, breath)), ']']
}

export async function metadataBody(
  metrics: readonly (readonly [string, readonly MetricMetadata[]])[],
  breath: Breath,
): Promise<readonly BodyPart[]> {
  const textOf = ([metric, entries]: readonly [string, readonly MetricMetadata[]]) => {
    const list = entries.map(({ type, help, unit }) => ({ type, unit, help }))
    return `${JSON.stringify(metric)}:${JSON.stringify(list)}`
  }
  return ['{', ...(await listBody(metrics, textOf, ENTRY_WORK, breath)), '}']
}

export async function exemplarsBody(all: ExemplarsReply['series'], breath: Breath): Promise<readonly BodyPart[]> {
  const quoted = escaper()
  const textOf = ({ labels, exemplars }: ExemplarsReply['series'][number]) => {
    const rows = exemplars.map(
      (row) =>
        `{"labels":${labelsText(row.labels, quoted)},"value":"${formatJsonFloat(row.value)}","timestamp":${timestamp(row.time)}}`,
    )
    return `{"seriesLabels":${labelsText(labels, quoted)},"exemplars":[${rows.join(',')}]}`
  }
  return ['[', ...(await listBody(all, textOf, 10 * ENTRY_WORK, breath)), ']']
}

function labelsText(labels: Labels, quoted: (text: string) => string): string {
  let text = '{'
  for (let i = 0; i < labels.length; i += 2) {
    text += `${i === 0 ? '' : ','}${quoted(labels[i]!)}:${quoted(labels[i + 1]!)}`
  }
  return `${text}}`
}

function escaper(): (text: string) => string {
  const known = new Map<string, string>()
  return (text) => {
    let escaped = known.get(text)
    if (escaped === undefined) {
      escaped = JSON.stringify(text)
      known.set(text, escaped)
    }
    return escaped
  }
}

/** Milliseconds as seconds with exactly three digits behind the point, or none for whole seconds. */
function timestamp(ms: number): string {
  const whole = Math.trunc(Math.abs(ms) / 1000)
  const rest = Math.abs(ms) % 1000
  const sign = ms < 0 ? '-' : ''
  return rest === 0 ? `${sign}${whole}` : `${sign}${whole}.${String(rest).padStart(3, '0')}`
}
