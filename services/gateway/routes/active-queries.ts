// The queries that queriers have at work: a tenant sees its own, and ends them with the right to write; an administrator those of every tenant.
import { RefusedError, UnavailableError } from '../../../shared/base/errors.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { type ActiveQuery, activeQueries, cancelQuery } from '../../../shared/contracts/active-queries.ts'
import { askMembers, unansweredIn } from '../../../shared/membership/ask-members.ts'
import type { Membership } from '../../../shared/membership/membership.ts'
import type { GatewayConfig } from '../config.ts'
import { type Answer, type Exchange, jsonAnswer, type Route } from '../http/exchange.ts'
import { escaped, htmlPage, htmlTable } from '../pages/html.ts'

export interface ActiveQueryDeps {
  readonly bus: Bus
  readonly membership: Membership
  readonly config: Pick<GatewayConfig, 'membersTimeoutMs'>
}

const ID_LENGTH_MAX = 100

export function activeQueryRoutes({ bus, membership, config }: ActiveQueryDeps): readonly Route[] {
  const path = '/api/v1/status/active_queries'
  const ofTenant = { name: 'active_queries', isOpenToAdmin: true, errors: 'json' } as const
  const ending = { ...ofTenant, access: 'write' } as const // whoever only reads does not end what others ask
  return [
    { ...ofTenant, access: 'read', methods: ['GET'], path, answer: listed },
    { ...ending, methods: ['DELETE'], path: `${path}/{query}`, answer: cancelled },
    { ...ending, methods: ['POST'], path: `${path}/{query}/cancel`, answer: cancelled },
    { name: 'active_queries', access: 'admin', errors: 'text', methods: ['GET'], path: '/queries', answer: page },
  ]

  async function listed(exchange: Exchange): Promise<Answer> {
    return jsonAnswer(await ofAll(exchange, exchange.tenant))
  }

  async function page(exchange: Exchange): Promise<Answer> {
    const { queries, unanswered } = await ofAll(exchange, undefined)
    return htmlPage('active queries', bodyOf(queries, unanswered))
  }

  /** Longest first; queriers that did not answer are named. */
  async function ofAll(exchange: Exchange, tenant: string | undefined) {
    const request = tenant === undefined ? {} : { tenant }
    const found = await askMembers(bus, membership.live('querier'), activeQueries, request, optionsOf(exchange))
    const queries = found.answers.flatMap(({ reply }) => reply.queries).sort((a, b) => b.tookMs - a.tookMs)
    return { queries, unanswered: unansweredIn(found) }
  }

  async function cancelled(exchange: Exchange): Promise<Answer> {
    const { params, tenant } = exchange
    const request = { query: (params['query'] ?? '').slice(0, ID_LENGTH_MAX), tenant }
    const found = await askMembers(bus, membership.live('querier'), cancelQuery, request, optionsOf(exchange))
    const unanswered = unansweredIn(found)
    if (found.answers.some(({ reply }) => reply.isCancelled)) return { status: 204 }
    if (unanswered.length > 0) {
      const text = `${unanswered.join(', ')} did not answer: the query may still run there`
      throw new UnavailableError('err-carillon-querier-silent', text)
    }
    const text = 'no such query is at work: it has ended, or is not of this tenant'
    throw new RefusedError('err-carillon-not-found', text, { status: 404 })
  }

  function optionsOf({ requestId, signal }: Exchange) {
    return { timeoutMs: config.membersTimeoutMs, requestId, signal }
  }
}

function bodyOf(queries: readonly ActiveQuery[], unanswered: readonly string[]): string {
  const head = ['tenant', 'query', 'kind', 'since', 'for', 'state', 'series', 'samples', 'querier', 'id']
  const rows = queries.map((each) => [
    ...[each.tenant, each.query, each.kind, new Date(each.sinceMs).toISOString(), `${each.tookMs} ms`],
    ...[each.isRunning ? 'runs' : 'waits', String(each.readSeries), String(each.readSamples), each.querier, each.id],
  ])
  const silent = unanswered.length === 0 ? '' : `<p>No answer from ${escaped(unanswered.join(', '))}.</p>`
  return `<h1>Active queries</h1>
<p>End one by <code>DELETE /api/v1/status/active_queries/{id}?tenant=NAME</code>.</p>${silent}
${htmlTable(head, rows)}`
}
