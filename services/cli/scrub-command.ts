// `carillon scrub`: what scrubs found, and an order to read everything now, from anywhere on the NATS of a running system.

import { ask } from '../../shared/bus/ask.ts'
import { type ConfigOf, choice, defineSettings, flag, text } from '../../shared/config/settings.ts'
import { showBytes } from '../../shared/config/units.ts'
import {
  type ScrubFinding,
  type ScrubNowReply,
  type ScrubRecord,
  type ScrubStatusReply,
  scrubNow,
  scrubStatus,
} from '../../shared/contracts/scrubbing.ts'
import { SetupError } from '../launcher/setup-error.ts'
import type { Outcome } from './command.ts'
import { eachCompactor, NO_COMPACTOR, nobodyTook, type System, systemCommand, tenantOf, tenantQuery } from './system.ts'
import { table, timeText } from './table.ts'

const scrubSettings = defineSettings({
  status: flag(false, 'show what was found when everything was last read'),
  now: flag(false, 'read everything now'),
  tenant: text('', 'only this tenant'),
  output: choice(['text', 'json'], 'text', 'tables for people, or one JSON line'),
})

type ScrubConfig = ConfigOf<typeof scrubSettings>

export const scrubCommand = systemCommand({
  name: 'scrub',
  usage: '--status|--now [flags]',
  does: 'scrub --status, scrub --now: read everything that is stored, name and repair what is damaged',
  intro:
    'Reads everything that is stored and repairs what it can, or shows what was found. Exit code 1: something is damaged.',
  settings: scrubSettings,
  async run({ config, system }) {
    if (config.status === config.now)
      throw new SetupError(2, 'scrub wants --status or --now, such as: carillon scrub --status')
    return config.now ? scrubNowText(system, config) : scrubStatusText(system, config)
  },
})

async function scrubStatusText(system: System, config: ScrubConfig): Promise<Outcome> {
  const statuses = await system.ask({
    async http(client) {
      type Found = { compactors: readonly Omit<ScrubStatusReply, 'tenants'>[]; tenants: readonly ScrubRecord[] }
      const found = await client.data<Found>(`/api/v1/status/scrub${tenantQuery(config)}`)
      return found.compactors.map((each): ScrubStatusReply => ({ ...each, tenants: found.tenants }))
    },
    nats: (bus) => eachCompactor(bus, scrubStatus, tenantOf(config)),
  })
  const records = statuses[0]?.tenants ?? []
  if (config.output === 'json') return told(`${JSON.stringify({ compactors: statuses })}\n`, records)
  if (statuses.length === 0) return told(NO_COMPACTOR, [])
  return told([...statuses.flatMap(statusLines), ...recordLines(records), ''].join('\n'), records)
}

async function scrubNowText(system: System, config: ScrubConfig): Promise<Outcome> {
  const reply = await system.ask({
    http: (client) =>
      client.data<ScrubNowReply>(`/api/v1/admin/scrub${tenantQuery(config)}`, { method: 'POST', isOnce: true }),
    nats: (bus) => ask(bus, scrubNow, {}, tenantOf(config), {}).catch(nobodyTook),
  })
  if (config.output === 'json') return told(`${JSON.stringify(reply)}\n`, reply.tenants)
  const lines = recordLines(reply.tenants)
  for (const tenant of reply.elsewhere) lines.push(`${tenant} is read by another compactor, or was not to be read`)
  if (!reply.isDone) lines.push('it goes on: carillon scrub --status shows how far it is')
  return told([...lines, ''].join('\n'), reply.tenants)
}

function told(text: string, records: readonly ScrubRecord[]): Outcome {
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
