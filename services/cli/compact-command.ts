// `carillon compact`: what a person asks of the compactors of a running system, from anywhere on its NATS.

import { ask } from '../../shared/bus/ask.ts'
import { type ConfigOf, choice, defineSettings, flag, text } from '../../shared/config/settings.ts'
import { showBytes, showDuration } from '../../shared/config/units.ts'
import {
  type CompactionStatusReply,
  type CompactionStep,
  type CompactNowReply,
  compactionStatus,
  compactNow,
} from '../../shared/contracts/compaction.ts'
import { SetupError } from '../launcher/setup-error.ts'
import { eachCompactor, NO_COMPACTOR, nobodyTook, type System, systemCommand, tenantOf, tenantQuery } from './system.ts'
import { table, timeText } from './table.ts'

const compactSettings = defineSettings({
  status: flag(false, 'show what compactors do and did'),
  now: flag(false, 'merge what can be merged, complete ranges or not'),
  tenant: text('', 'only this tenant'),
  output: choice(['text', 'json'], 'text', 'tables for people, or one JSON line'),
})

type CompactConfig = ConfigOf<typeof compactSettings>

export const compactCommand = systemCommand({
  name: 'compact',
  usage: '--status|--now [flags]',
  does: 'compact --status, compact --now: how far the merging of blocks is, or do it now',
  intro: 'Shows what the compactors of a running system do and did, or has them merge blocks now.',
  settings: compactSettings,
  async run({ config, system }) {
    if (config.status === config.now)
      throw new SetupError(2, 'compact wants --status or --now, such as: carillon compact --status')
    return { text: config.now ? await compactNowText(system, config) : await compactionText(system, config) }
  },
})

const HISTORY_SHOWN = 20

async function compactionText(system: System, config: CompactConfig): Promise<string> {
  const statuses = await system.ask({
    async http(client) {
      const path = `/api/v1/status/compaction${tenantQuery(config)}`
      return (await client.data<{ compactors: readonly CompactionStatusReply[] }>(path)).compactors
    },
    nats: (bus) => eachCompactor(bus, compactionStatus, tenantOf(config)),
  })
  if (config.output === 'json') return `${JSON.stringify({ compactors: statuses })}\n`
  if (statuses.length === 0) return NO_COMPACTOR
  return statuses.map(statusText).join('\n')
}

async function compactNowText(system: System, config: CompactConfig): Promise<string> {
  const reply = await system.ask({
    http: (client) =>
      client.data<CompactNowReply>(`/api/v1/admin/compact${tenantQuery(config)}`, { method: 'POST', isOnce: true }),
    nats: (bus) => ask(bus, compactNow, {}, tenantOf(config), {}).catch(nobodyTook),
  })
  if (config.output === 'json') return `${JSON.stringify(reply)}\n`
  const rows = reply.tenants.map(({ tenant, steps, note }) => [tenant, String(steps), note])
  const rest = reply.isDone ? '' : 'it goes on: carillon compact --status shows how far it is\n'
  return `${table(['TENANT', 'STEPS', ''], rows).join('\n')}\n${rest}`
}

function statusText({ id, tenants, current, history, aside }: CompactionStatusReply): string {
  const lines = [id, '']
  const rows = tenants.map((row) => [
    ...[row.tenant, String(row.blocks), showBytes(row.bytes), String(row.retired), String(row.pendingDeletes)],
    ...[`${row.waitingSteps} (${showBytes(row.waitingBytes)})`, row.holder, row.error ?? ''],
  ])
  lines.push(...table(['TENANT', 'BLOCKS', 'BYTES', 'RETIRED', 'DELETES', 'WAITING', 'HELD BY', ''], rows), '')
  for (const step of current) {
    const share = step.bytesIn === 0 ? '' : `, ${Math.floor((100 * step.bytesRead) / step.bytesIn)} % read`
    lines.push(`now: ${step.why} of ${step.sources.length} blocks of ${step.tenant}${share}`)
  }
  for (const { tenant, ulid, reason } of aside) lines.push(`set aside: ${ulid} of ${tenant}: ${reason}`)
  const past = history.slice(0, HISTORY_SHOWN).map(stepRow)
  if (past.length > 0)
    lines.push('', ...table(['BEGAN', 'TENANT', 'WHY', 'BLOCKS', 'BYTES', 'SAMPLES', 'TOOK', 'OUTCOME'], past))
  return `${lines.join('\n')}\n`
}

function stepRow(step: CompactionStep): string[] {
  const { startedAtMs, tenant, why, sources, results, bytesIn, bytesOut, samplesOut, tookMs, outcome, error } = step
  return [
    timeText(startedAtMs),
    ...[tenant, why, `${sources.length} > ${results.length}`, `${showBytes(bytesIn)} > ${showBytes(bytesOut)}`],
    ...[String(samplesOut), showDuration(Math.round(tookMs ?? 0))],
    error === undefined ? (outcome ?? '') : `${outcome}: ${error}`,
  ]
}
