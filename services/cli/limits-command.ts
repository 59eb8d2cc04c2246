// `carillon limits`: what a person sets for one tenant of a running system, or for all, from anywhere on its NATS.
import { systemClock } from '../../shared/base/clock.ts'
import { RefusedError } from '../../shared/base/errors.ts'
import { type ConfigOf, choice, defineSettings, text } from '../../shared/config/settings.ts'
import { LIMITS, type LimitsVersion } from '../../shared/contracts/limits.ts'
import { readLimits, setLimits } from '../../shared/limits/limits.ts'
import { parseLimitChange, showLimit } from '../../shared/limits/values.ts'
import { parseTenant } from '../../shared/model/tenant.ts'
import { SetupError } from '../launcher/setup-error.ts'
import type { GatewayClient } from './gateway-client.ts'
import { type System, systemCommand, tenantQuery } from './system.ts'
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
  usage: '{get|set|history} [NAME=VALUE …] [flags]',
  does: 'limits {get,set,history}: what one tenant may do, or all; holds at once',
  intro: 'Shows and changes what one tenant may do, in a running system. NAME= without a value takes a limit away.',
  settings: limitsSettings,
  takesWords: true,
  async run({ words: [verb, ...changes], config, system }) {
    if (verb !== 'get' && verb !== 'set' && verb !== 'history')
      throw new SetupError(2, 'limits wants get, set or history, such as: carillon limits get --tenant acme')
    return { text: await limitsText(verb, changes, system, config) }
  },
})

/** `changes`: `name=value` each; an empty value takes a limit away. */
async function limitsText(
  verb: LimitsVerb,
  changes: readonly string[],
  system: System,
  config: LimitsConfig,
): Promise<string> {
  const tenant = config.tenant === '' ? undefined : parseTenant(config.tenant)
  if (verb !== 'set' && changes.length > 0)
    throw new SetupError(2, `"${changes[0]}" is not expected here: limits ${verb} takes flags only`)
  const values = verb === 'set' ? valuesOf(changes) : {}
  const versions = await system.ask({
    http: (client) => (verb === 'set' ? setOver(client, values, config) : shownBy(client, config)),
    async nats(bus) {
      const record =
        verb === 'set'
          ? await setLimits({ bus, clock: systemClock }, tenant, values, config.by)
          : await readLimits(bus, tenant)
      if (record === undefined) return []
      const { v: _, history, ...newest } = record
      return [newest, ...history]
    },
  })
  const record = versions[0]
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

const PATH = '/api/v1/admin/limits'

/** As a gateway shows them: in the units that people write. */
interface ShownVersion {
  readonly version: number
  readonly changedAt: string
  readonly changedBy: string
  readonly limits: Readonly<Record<string, string>>
}
type Shown = ShownVersion & { readonly history: readonly ShownVersion[] }

async function shownBy(client: GatewayClient, config: LimitsConfig): Promise<LimitsVersion[]> {
  return versionsOf(await client.data<Shown>(`${PATH}${tenantQuery(config)}`))
}

async function setOver(
  client: GatewayClient,
  values: Readonly<Record<string, number | null>>,
  { tenant, by }: LimitsConfig,
): Promise<LimitsVersion[]> {
  const texts = Object.entries(values).map(([name, value]) => [name, value === null ? '' : showLimit(name, value)])
  const query = new URLSearchParams([['tenant', tenant], ['by', by], ...texts])
  return versionsOf(await client.data<Shown>(`${PATH}?${query}`, { method: 'POST' }))
}

function versionsOf({ history, ...newest }: Shown): LimitsVersion[] {
  if (newest.version === 0) return []
  return [newest, ...history].map(({ version, changedAt, changedBy, limits }) => ({
    ...{ version, changedAtMs: Date.parse(changedAt), changedBy },
    limits: Object.fromEntries(Object.entries(limits).map(([name, text]) => [name, parseLimitChange(name, text) ?? 0])),
  }))
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
