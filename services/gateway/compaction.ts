// How far the merging of blocks is, and an order to do it now.
import { ask } from '../../shared/bus/ask.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { compactionStatus, compactNow } from '../../shared/contracts/compaction.ts'
import type { Membership } from '../../shared/membership/membership.ts'
import { parseTenant } from '../../shared/model/tenant.ts'
import { askAll } from './ask-all.ts'
import type { GatewayConfig } from './config.ts'
import { type Answer, type Exchange, jsonAnswer, type Route } from './exchange.ts'

export interface CompactionDeps {
  readonly bus: Bus
  readonly membership: Membership
  readonly config: Pick<GatewayConfig, 'membersTimeoutMs'>
}

export function compactionRoutes({ bus, membership, config }: CompactionDeps): readonly Route[] {
  const common = { name: 'compaction', access: 'admin', errors: 'json' } as const
  return [
    { ...common, methods: ['GET'], path: '/api/v1/status/compaction', answer: statusOf },
    { ...common, methods: ['POST'], path: '/api/v1/admin/compact', answer: now },
  ]

  async function statusOf({ search, requestId, signal }: Exchange): Promise<Answer> {
    const options = { timeoutMs: config.membersTimeoutMs, requestId, signal }
    const { replies: compactors, unanswered } = await askAll(membership.live('compactor'), (id) =>
      ask(bus, compactionStatus, { id }, tenantIn(search), options),
    )
    return jsonAnswer({ unanswered, compactors })
  }

  async function now({ search, requestId, signal }: Exchange): Promise<Answer> {
    return jsonAnswer(await ask(bus, compactNow, {}, tenantIn(search), { requestId, signal }))
  }
}

/** `?tenant=`, absent: all. */
export function tenantIn(search: string): { tenant?: string } {
  const tenant = new URLSearchParams(search).get('tenant')
  return tenant === null ? {} : { tenant: parseTenant(tenant) }
}
