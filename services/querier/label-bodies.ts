// The JSON of answers about series, metadata and exemplars. Texts that come again and again are escaped once.
import type { ExemplarsReply, MetricMetadata } from '../../shared/contracts/read.ts'
import type { Labels } from '../../shared/model/labels.ts'
import { formatJsonFloat } from '../../shared/promql/format-float.ts'
import type { BodyPart } from './reply.ts'

/** Characters gathered before they become one part of the body. */
const PART_LENGTH = 1024 * 1024

export function seriesBody(labelSets: readonly Labels[]): readonly BodyPart[] {
  const quoted = escaper()
  const parts: BodyPart[] = []
  let text = '['
  for (let i = 0; i < labelSets.length; i++) {
    text += i === 0 ? labelsText(labelSets[i]!, quoted) : `,${labelsText(labelSets[i]!, quoted)}`
    if (text.length < PART_LENGTH) continue
    parts.push(Buffer.from(text))
    text = ''
  }
  parts.push(`${text}]`)
  return parts
}

export function metadataBody(metrics: readonly (readonly [string, readonly MetricMetadata[]])[]): readonly BodyPart[] {
  const texts = metrics.map(([metric, entries]) => {
    const list = entries.map(({ type, unit, help }) => ({ type, unit, help }))
    return `${JSON.stringify(metric)}:${JSON.stringify(list)}`
  })
  return [`{${texts.join(',')}}`]
}

export function exemplarsBody(all: ExemplarsReply['series']): readonly BodyPart[] {
  const quoted = escaper()
  const texts = all.map(({ labels, exemplars }) => {
    const rows = exemplars.map(
      (row) =>
        `{"labels":${labelsText(row.labels, quoted)},"value":"${formatJsonFloat(row.value)}","timestamp":${timestamp(row.time)}}`,
    )
    return `{"seriesLabels":${labelsText(labels, quoted)},"exemplars":[${rows.join(',')}]}`
  })
  return [`[${texts.join(',')}]`]
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
