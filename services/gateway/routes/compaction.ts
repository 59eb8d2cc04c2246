// How far the merging of blocks is, and an order to do it now.
import { ask } from '../../../shared/bus/ask.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { compactionStatus, compactNow } from '../../../shared/contracts/compaction.ts'
import { askMembers, unansweredIn } from '../../../shared/membership/ask-members.ts'
import type { Membership } from '../../../shared/membership/membership.ts'
import { parseTenant } from '../../../shared/model/tenant.ts'
import type { GatewayConfig } from '../config.ts'
import { type Answer, type Exchange, jsonAnswer, type Route } from '../http/exchange.ts'

export interface CompactionDeps {
  readonly bus: Bus
  readonly membership: Membership
  readonly config: Pick<GatewayConfig, 'membersTimeoutMs'>
}

export function compactionRoutes({ bus, membership, config }: CompactionDeps): readonly Route[] {
  const common = { name: 'compaction', access: 'admin', isOfTenants: true, errors: 'json' } as const
  return [
    { ...common, methods: ['GET'], path: '/api/v1/status/compaction', answer: statusOf },
    { ...common, methods: ['POST'], path: '/api/v1/admin/compact', answer: now },
  ]

  async function statusOf(exchange: Exchange): Promise<Answer> {
    const { requestId, signal } = exchange
    const options = { timeoutMs: config.membersTimeoutMs, requestId, signal }
    const found = await askMembers(bus, membership.live('compactor'), compactionStatus, tenantIn(exchange), options)
    return jsonAnswer({ unanswered: unansweredIn(found), compactors: found.answers.map(({ reply }) => reply) })
  }

  async function now(exchange: Exchange): Promise<Answer> {
    const { requestId, signal } = exchange
    return jsonAnswer(await ask(bus, compactNow, {}, tenantIn(exchange), { requestId, signal }))
  }
}

/** `?tenant=`, absent: all. Throws RefusedError 403 where the caller does not administer that. */
export function tenantIn({ search, assertAdmin }: Exchange): { tenant?: string } {
  const given = new URLSearchParams(search).get('tenant')
  const tenant = given === null ? undefined : parseTenant(given)
  assertAdmin(tenant)
  return tenant === undefined ? {} : { tenant }
}
