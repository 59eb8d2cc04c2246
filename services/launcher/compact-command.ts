// `carillon compact`: what a person asks of the compactors of a running system, from anywhere on its NATS.
import { textOf } from '../../shared/base/errors.ts'
import { ask } from '../../shared/bus/ask.ts'
import type { CommonConfig } from '../../shared/config/common.ts'
import type { ConfigOf } from '../../shared/config/settings.ts'
import { showBytes, showDuration } from '../../shared/config/units.ts'
import {
  type CompactionStatus,
  type CompactionStep,
  compactionStatus,
  compactNow,
} from '../../shared/contracts/compaction.ts'
import { ring } from '../../shared/contracts/member.ts'
import type { compactSettings } from './config.ts'
import { table, withBus } from './ring-commands.ts'
import { SetupError } from './setup-error.ts'

type CompactConfig = ConfigOf<typeof compactSettings>

const HISTORY_SHOWN = 20

export async function compactionText(common: CommonConfig, config: CompactConfig): Promise<string> {
  const statuses = await withBus(common, 'compact', async (bus) => {
    const { members } = await ask(bus, ring, {}, {}, {}).catch((error: unknown) => {
      throw new SetupError(1, `no member answers on ${common.nats} (${textOf(error)})`, { cause: error })
    })
    const ids = members.filter(({ role, isHealthy }) => role === 'compactor' && isHealthy).map(({ id }) => id)
    return Promise.all(ids.map((id) => ask(bus, compactionStatus, { id }, tenantOf(config), {})))
  })
  if (config.output === 'json') return `${JSON.stringify({ compactors: statuses })}\n`
  if (statuses.length === 0) return 'no compactor runs here: carillon compactor --nats URL starts one\n'
  return statuses.map(statusText).join('\n')
}

export async function compactNowText(common: CommonConfig, config: CompactConfig): Promise<string> {
  const reply = await withBus(common, 'compact', async (bus) => {
    return ask(bus, compactNow, {}, tenantOf(config), {}).catch((error: unknown) => {
      throw new SetupError(1, `no compactor took it (${textOf(error)})`, { cause: error })
    })
  })
  if (config.output === 'json') return `${JSON.stringify(reply)}\n`
  const rows = reply.tenants.map(({ tenant, steps, note }) => [tenant, String(steps), note])
  const rest = reply.isDone ? '' : 'it goes on: carillon compact --status shows how far it is\n'
  return `${table(['TENANT', 'STEPS', ''], rows).join('\n')}\n${rest}`
}

const tenantOf = ({ tenant }: CompactConfig): { tenant?: string } => (tenant === '' ? {} : { tenant })

function statusText({ id, tenants, current, history, aside }: CompactionStatus): string {
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
    new Date(startedAtMs).toISOString(),
    ...[tenant, why, `${sources.length} > ${results.length}`, `${showBytes(bytesIn)} > ${showBytes(bytesOut)}`],
    ...[String(samplesOut), showDuration(Math.round(tookMs ?? 0))],
    error === undefined ? (outcome ?? '') : `${outcome}: ${error}`,
  ]
}
