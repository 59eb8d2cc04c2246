// What scrubs found, and an order to read everything now.
import { ask } from '../../../shared/bus/ask.ts'
import { type ScrubRecord, type ScrubStatusReply, scrubNow, scrubStatus } from '../../../shared/contracts/scrubbing.ts'
import { askMembers, unansweredIn } from '../../../shared/membership/ask-members.ts'
import { type Answer, type Exchange, jsonAnswer, type Route } from '../http/exchange.ts'
import { type CompactionDeps, tenantIn } from './compaction.ts'

export function scrubRoutes({ bus, membership, config }: CompactionDeps): readonly Route[] {
  const common = { name: 'scrub', access: 'admin', isOfTenants: true, errors: 'json' } as const
  return [
    { ...common, methods: ['GET'], path: '/api/v1/status/scrub', answer: statusOf },
    { ...common, methods: ['POST'], path: '/api/v1/admin/scrub', answer: now },
  ]

  async function statusOf(exchange: Exchange): Promise<Answer> {
    const { requestId, signal } = exchange
    const options = { timeoutMs: config.membersTimeoutMs, requestId, signal }
    const found = await askMembers(bus, membership.live('compactor'), scrubStatus, tenantIn(exchange), options)
    const replies = found.answers.map(({ reply }) => reply)
    const compactors = replies.map(({ tenants: _, ...each }) => each)
    return jsonAnswer({ unanswered: unansweredIn(found), compactors, tenants: newestRecords(replies) })
  }

  async function now(exchange: Exchange): Promise<Answer> {
    const { requestId, signal } = exchange
    return jsonAnswer(await ask(bus, scrubNow, {}, tenantIn(exchange), { requestId, signal }))
  }
}

/** All compactors know the same records, some a little earlier. */
function newestRecords(statuses: readonly ScrubStatusReply[]): ScrubRecord[] {
  const newest = new Map<string, ScrubRecord>()
  for (const record of statuses.flatMap(({ tenants }) => tenants)) {
    const before = newest.get(record.tenant)
    const isNewer =
      before === undefined || (record.endedAtMs ?? record.beganAtMs) > (before.endedAtMs ?? before.beganAtMs)
    if (isNewer) newest.set(record.tenant, record)
  }
  return [...newest.values()].sort((a, b) => (a.tenant < b.tenant ? -1 : 1))
}
