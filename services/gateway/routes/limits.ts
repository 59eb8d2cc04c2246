// Limits of tenants: shown and changed by administrators. What is set here holds within moments, without a restart.
import type { Clock } from '../../../shared/base/clock.ts'
import { RefusedError } from '../../../shared/base/errors.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { LIMITS, type LimitsRecord, type LimitsVersion } from '../../../shared/contracts/limits.ts'
import { readLimits, setLimits } from '../../../shared/limits/limits.ts'
import { parseLimitChange, showLimit } from '../../../shared/limits/values.ts'
import { parseTenant } from '../../../shared/model/tenant.ts'
import type { GatewayConfig } from '../config.ts'
import { type Answer, type Exchange, jsonAnswer, type Route } from '../http/exchange.ts'
import { readPairs } from '../http/form.ts'

export interface LimitsDeps {
  readonly bus: Bus
  readonly clock: Clock
  readonly config: Pick<GatewayConfig, 'formBytesMax'>
}

/** Parameters that are not names of limits. */
const OTHERS: ReadonlySet<string> = new Set(['tenant', 'by'])

export function limitsRoutes(deps: LimitsDeps): readonly Route[] {
  const common = {
    name: 'limits',
    access: 'admin',
    isOfTenants: true,
    errors: 'json',
    path: '/api/v1/admin/limits',
  } as const
  return [
    { ...common, methods: ['GET'], answer: show },
    { ...common, methods: ['POST'], answer: change },
  ]

  async function show({ search, assertAdmin }: Exchange): Promise<Answer> {
    const tenant = tenantIn([...new URLSearchParams(search)])
    assertAdmin(tenant)
    const record = await readLimits(deps.bus, tenant)
    const known = Object.entries(LIMITS).map(([name, { unit, doc }]) => ({ name, unit, doc }))
    return jsonAnswer({ tenant: tenant ?? null, ...shownRecord(record), known })
  }

  /** `?tenant=acme&query_series_max=1000&query_range_max=`: an empty value takes a limit away. Without `tenant` it is that of all others. */
  async function change(exchange: Exchange): Promise<Answer> {
    const pairs = await readPairs(exchange, deps.config.formBytesMax)
    const tenant = tenantIn(pairs)
    exchange.assertAdmin(tenant)
    const changes: Record<string, number | null> = {}
    for (const [name, text] of pairs) if (!OTHERS.has(name)) changes[name] = parseLimitChange(name, text)
    if (Object.keys(changes).length === 0) {
      throw new RefusedError('err-carillon-bad-limit', 'no limit is named, such as query_series_max=100000')
    }
    const said = pairs.find(([name]) => name === 'by')?.[1]
    const by = said === undefined ? exchange.who : `${exchange.who}, who says: ${said}`
    const record = await setLimits(deps, tenant, changes, by.slice(0, 200))
    return jsonAnswer({ tenant: tenant ?? null, ...shownRecord(record) })
  }
}

function tenantIn(pairs: readonly (readonly [string, string])[]): string | undefined {
  const name = pairs.find(([key]) => key === 'tenant')?.[1]
  return name === undefined || name === '' ? undefined : parseTenant(name)
}

function shownRecord(record: LimitsRecord | undefined) {
  if (record === undefined) return { version: 0, limits: {}, history: [] }
  return { ...shown(record), history: record.history.map(shown) }
}

function shown({ version, changedAtMs, changedBy, limits }: LimitsVersion) {
  const texts = Object.fromEntries(Object.entries(limits).map(([name, value]) => [name, showLimit(name, value)]))
  return { version, changedAt: new Date(changedAtMs).toISOString(), changedBy, limits: texts }
}
