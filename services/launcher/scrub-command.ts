// `carillon scrub`: what scrubs found, and an order to read everything now, from anywhere on the NATS of a running system.

import { ask } from '../../shared/bus/ask.ts'
import type { CommonConfig } from '../../shared/config/common.ts'
import type { ConfigOf } from '../../shared/config/settings.ts'
import { showBytes } from '../../shared/config/units.ts'
import {
  type ScrubFinding,
  type ScrubRecord,
  type ScrubStatusReply,
  scrubNow,
  scrubStatus,
} from '../../shared/contracts/scrubbing.ts'
import type { scrubSettings } from './config.ts'
import { table, timeText } from './printed.ts'
import { anyCompactor, eachCompactor, NO_COMPACTOR, tenantOf } from './ring-commands.ts'

type ScrubConfig = ConfigOf<typeof scrubSettings>

export interface ScrubOutcome {
  readonly text: string
  /** 1 when something is damaged and was not repaired. */
  readonly exitCode: number
}

export async function scrubStatusText(common: CommonConfig, config: ScrubConfig): Promise<ScrubOutcome> {
  const statuses = await eachCompactor(common, 'scrub', scrubStatus, tenantOf(config))
  const records = statuses[0]?.tenants ?? []
  if (config.output === 'json') return told(`${JSON.stringify({ compactors: statuses })}\n`, records)
  if (statuses.length === 0) return told(NO_COMPACTOR, [])
  return told([...statuses.flatMap(statusLines), ...recordLines(records), ''].join('\n'), records)
}

export async function scrubNowText(common: CommonConfig, config: ScrubConfig): Promise<ScrubOutcome> {
  const reply = await anyCompactor(common, 'scrub', (bus) => ask(bus, scrubNow, {}, tenantOf(config), {}))
  if (config.output === 'json') return told(`${JSON.stringify(reply)}\n`, reply.tenants)
  const lines = recordLines(reply.tenants)
  for (const tenant of reply.elsewhere) lines.push(`${tenant} is read by another compactor, or was not to be read`)
  if (!reply.isDone) lines.push('it goes on: carillon scrub --status shows how far it is')
  return told([...lines, ''].join('\n'), reply.tenants)
}

function told(text: string, records: readonly ScrubRecord[]): ScrubOutcome {
  const isDamaged = records.some(({ findings }) => findings.some(({ state }) => state === 'damaged'))
  return { text, exitCode: isDamaged ? 1 : 0 }
}

function statusLines({ id, current, secondStore, notCopied }: ScrubStatusReply): string[] {
  const lines = [
    secondStore === '' ? `${id}: no second store` : `${id}: second store ${secondStore}, ${notCopied} blocks to copy`,
  ]
  if (current === undefined) return lines
  const { tenant, blocks, blocksLeft, bytes } = current
  return [...lines, `now: ${tenant}, ${blocks} of ${blocks + blocksLeft} blocks, ${showBytes(bytes)}`]
}

function recordLines(records: readonly ScrubRecord[]): string[] {
  const rows = records.map((record) => [
    ...[record.tenant, whenOf(record), String(record.blocks), showBytes(record.bytes)],
    ...[countOf(record, 'damaged'), countOf(record, 'repaired'), countOf(record, 'told'), record.error ?? ''],
  ])
  const lines = table(['TENANT', 'READ', 'BLOCKS', 'BYTES', 'DAMAGED', 'REPAIRED', 'TOLD', ''], rows)
  for (const { tenant, findings } of records)
    lines.push(...findings.map((finding) => `${tenant}: ${findingText(finding)}`))
  return lines
}

function findingText({ what, state, ulid, file, offset, text, from }: ScrubFinding): string {
  const place = [what, ulid, file === '' ? '' : `${file} at byte ${offset}`].filter((part) => part !== '').join(' ')
  return `${state}: ${place}: ${text}${from === undefined ? '' : ` (from ${from})`}`
}

const countOf = ({ findings }: ScrubRecord, wanted: ScrubFinding['state']): string =>
  String(findings.filter(({ state }) => state === wanted).length)

function whenOf({ endedAtMs, beganAtMs }: ScrubRecord): string {
  return endedAtMs === undefined ? `since ${timeText(beganAtMs)}` : timeText(endedAtMs)
}
