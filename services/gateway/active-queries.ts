// The queries that queriers have at work: a tenant sees and ends its own; an administrator those of every tenant.
import { RefusedError, UnavailableError } from '../../shared/base/errors.ts'
import { ask } from '../../shared/bus/ask.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { type ActiveQuery, activeQueries, cancelQuery } from '../../shared/contracts/active-queries.ts'
import type { Membership } from '../../shared/membership/membership.ts'
import type { GatewayConfig } from './config.ts'
import { escaped, htmlAnswer } from './elections.ts'
import { type Answer, type Exchange, jsonAnswer, type Route } from './exchange.ts'

export interface ActiveQueryDeps {
  readonly bus: Bus
  readonly membership: Membership
  readonly config: Pick<GatewayConfig, 'membersTimeoutMs'>
}

const ID_LENGTH_MAX = 100

export function activeQueryRoutes({ bus, membership, config }: ActiveQueryDeps): readonly Route[] {
  const path = '/api/v1/status/active_queries'
  const ofTenant = { name: 'active_queries', access: 'read', isOpenToAdmin: true, errors: 'json' } as const
  return [
    { ...ofTenant, methods: ['GET'], path, answer: listed },
    { ...ofTenant, methods: ['DELETE'], path: `${path}/{query}`, answer: cancelled },
    { ...ofTenant, methods: ['POST'], path: `${path}/{query}/cancel`, answer: cancelled },
    { name: 'active_queries', access: 'admin', errors: 'text', methods: ['GET'], path: '/queries', answer: page },
  ]

  async function listed(exchange: Exchange): Promise<Answer> {
    return jsonAnswer(await ofAll(exchange, exchange.tenant))
  }

  async function page(exchange: Exchange): Promise<Answer> {
    const { queries, unanswered } = await ofAll(exchange, undefined)
    return htmlAnswer(pageOf(queries, unanswered))
  }

  /** Longest first; queriers that did not answer are named. */
  async function ofAll(exchange: Exchange, tenant: string | undefined) {
    const request = tenant === undefined ? {} : { tenant }
    const queriers = membership.live('querier').map(({ id }) => id)
    const answers = await Promise.allSettled(
      queriers.map((id) => ask(bus, activeQueries, { id }, request, optionsOf(exchange))),
    )
    const queries = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value.queries : []))
    const unanswered = queriers.filter((_, i) => answers[i]!.status === 'rejected')
    return { queries: queries.sort((a, b) => b.tookMs - a.tookMs), unanswered }
  }

  async function cancelled(exchange: Exchange): Promise<Answer> {
    const { params, tenant } = exchange
    const request = { query: (params['query'] ?? '').slice(0, ID_LENGTH_MAX), tenant }
    const queriers = membership.live('querier').map(({ id }) => id)
    const answers = await Promise.allSettled(
      queriers.map((id) => ask(bus, cancelQuery, { id }, request, optionsOf(exchange))),
    )
    if (answers.some((answer) => answer.status === 'fulfilled' && answer.value.isCancelled)) return { status: 204 }
    const silent = queriers.filter((_, i) => answers[i]!.status === 'rejected')
    if (silent.length > 0) {
      const text = `${silent.join(', ')} did not answer: the query may still run there`
      throw new UnavailableError('err-carillon-querier-silent', text)
    }
    const text = 'no such query is at work: it has ended, or is not of this tenant'
    throw new RefusedError('err-carillon-not-found', text, { status: 404 })
  }

  function optionsOf({ requestId, signal }: Exchange) {
    return { timeoutMs: config.membersTimeoutMs, requestId, signal }
  }
}

function pageOf(queries: readonly ActiveQuery[], unanswered: readonly string[]): string {
  const head = ['tenant', 'query', 'kind', 'since', 'for', 'state', 'series', 'samples', 'querier', 'id']
  const rows = queries.map((each) => [
    ...[each.tenant, each.query, each.kind, new Date(each.sinceMs).toISOString(), `${each.tookMs} ms`],
    ...[each.isRunning ? 'runs' : 'waits', String(each.readSeries), String(each.readSamples), each.querier, each.id],
  ])
  const cells = (tag: string, row: readonly string[]) => row.map((cell) => `<${tag}>${escaped(cell)}</${tag}>`).join('')
  const silent = unanswered.length === 0 ? '' : `<p>No answer from ${escaped(unanswered.join(', '))}.</p>`
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Carillon: active queries</title><meta http-equiv="refresh" content="5">
<style>body{font:14px system-ui,sans-serif;margin:2em}table{border-collapse:collapse}td,th{border:1px solid #bbb;padding:.25em .6em;text-align:left}
@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}}</style></head><body>
<h1>Active queries</h1>
<p>End one by <code>DELETE /api/v1/status/active_queries/{id}?tenant=NAME</code>.</p>${silent}
<table><tr>${cells('th', head)}</tr>
${rows.map((row) => `<tr>${cells('td', row)}</tr>\n`).join('')}</table>
</body></html>
`
}
