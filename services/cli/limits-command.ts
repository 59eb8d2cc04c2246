// `carillon limits`: what a person sets for one tenant of a running system, or for all, from anywhere on its NATS.
import { systemClock } from '../../shared/base/clock.ts'
import { RefusedError } from '../../shared/base/errors.ts'
import type { CommonConfig } from '../../shared/config/common.ts'
import { type ConfigOf, choice, defineSettings, text } from '../../shared/config/settings.ts'
import { LIMITS, type LimitsVersion } from '../../shared/contracts/limits.ts'
import { readLimits, setLimits } from '../../shared/limits/limits.ts'
import { parseLimitChange, showLimit } from '../../shared/limits/values.ts'
import { parseTenant } from '../../shared/model/tenant.ts'
import { SetupError } from '../launcher/setup-error.ts'
import { systemCommand, withBus } from './system.ts'
import { table, timeText } from './table.ts'

const limitsSettings = defineSettings({
  tenant: text('', 'whose limits; of all tenants without a value of their own when empty'),
  by: text('carillon limits', 'who changes them, for the history'),
  output: choice(['text', 'json'], 'text', 'tables for people, or one JSON line'),
})

type LimitsConfig = ConfigOf<typeof limitsSettings>
type LimitsVerb = 'get' | 'set' | 'history'

export const limitsCommand = systemCommand({
  name: 'limits',
  usage: '{get|set|history} [NAME=VALUE …] --nats URL [flags]',
  does: 'limits {get,set,history}: what one tenant may do, or all; holds at once',
  intro: 'Shows and changes what one tenant may do, in a running system. NAME= without a value takes a limit away.',
  settings: limitsSettings,
  takesWords: true,
  async run({ words: [verb, ...changes], config, common }) {
    if (verb !== 'get' && verb !== 'set' && verb !== 'history')
      throw new SetupError(2, 'limits wants get, set or history, such as: carillon limits get --tenant acme --nats URL')
    return { text: await limitsText(verb, changes, common, config) }
  },
})

/** `changes`: `name=value` each; an empty value takes a limit away. */
async function limitsText(
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
