// `carillon limits`: what a person sets for one tenant of a running system, or for all, from anywhere on its NATS.
import { systemClock } from '../../shared/base/clock.ts'
import { RefusedError } from '../../shared/base/errors.ts'
import type { CommonConfig } from '../../shared/config/common.ts'
import type { ConfigOf } from '../../shared/config/settings.ts'
import { LIMITS, type LimitsVersion } from '../../shared/contracts/limits.ts'
import { readLimits, setLimits } from '../../shared/limits/limits.ts'
import { parseLimitChange, showLimit } from '../../shared/limits/values.ts'
import { parseTenant } from '../../shared/model/tenant.ts'
import type { limitsSettings } from './config.ts'
import { table, timeText } from './printed.ts'
import { withBus } from './ring-commands.ts'
import { SetupError } from './setup-error.ts'

type LimitsConfig = ConfigOf<typeof limitsSettings>
export type LimitsVerb = 'get' | 'set' | 'history'

/** `changes`: `name=value` each; an empty value takes a limit away. */
export async function limitsText(
  verb: LimitsVerb,
  changes: readonly string[],
  common: CommonConfig,
  config: LimitsConfig,
): Promise<string> {
  const tenant = config.tenant === '' ? undefined : parseTenant(config.tenant)
  if (verb !== 'set' && changes.length > 0)
    throw new SetupError(2, `"${changes[0]}" is not expected here: limits ${verb} takes flags only`)
  const values = verb === 'set' ? valuesOf(changes) : {}
  const record = await withBus(common, 'limits', (bus) =>
    verb === 'set' ? setLimits({ bus, clock: systemClock }, tenant, values, config.by) : readLimits(bus, tenant),
  )
  const versions = record === undefined ? [] : [record, ...record.history]
  if (config.output === 'json') return `${JSON.stringify({ tenant: tenant ?? null, versions })}\n`
  const named = tenant === undefined ? 'all tenants without a value of their own' : `tenant ${tenant}`
  if (verb === 'history')
    return `${table(['VERSION', 'CHANGED', 'BY', 'LIMITS'], versions.map(versionRow)).join('\n')}\n`
  const rows = Object.entries(LIMITS).map(([name, { doc }]) => {
    const value = record?.limits[name]
    return [name, value === undefined ? '-' : showLimit(name, value), doc]
  })
  return `${named}, version ${record?.version ?? 0}\n${table(['LIMIT', 'VALUE', ''], rows).join('\n')}\n`
}

function versionRow({ version, changedAtMs, changedBy, limits }: LimitsVersion): string[] {
  const texts = Object.entries(limits).map(([name, value]) => `${name}=${showLimit(name, value)}`)
  return [String(version), timeText(changedAtMs), changedBy, texts.join(' ')]
}

function valuesOf(changes: readonly string[]): Record<string, number | null> {
  const values: Record<string, number | null> = {}
  for (const change of changes) {
    const at = change.indexOf('=')
    if (at === -1) throw new SetupError(2, `"${change}" is no limit with a value, such as query_series_max=100000`)
    const name = change.slice(0, at)
    try {
      values[name] = parseLimitChange(name, change.slice(at + 1))
    } catch (cause) {
      if (cause instanceof RefusedError) throw new SetupError(2, cause.message, { cause })
      throw cause
    }
  }
  if (changes.length === 0) throw new SetupError(2, 'limits set wants limits, such as: query_series_max=100000')
  return values
}
