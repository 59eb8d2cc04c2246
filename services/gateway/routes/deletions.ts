// Deleting over HTTP: Prometheus' admin API, and beside it a preview, a list, taking back, and the deletion of a whole tenant. A deletion is
// for administrators; the tenant is named by `?tenant=` or X-Scope-OrgID. What is not understood deletes nothing: unknown parameters, empty
// times (an unset variable of a script) and other words for `preview` are refused.
//
// Answers 204 when the deletion is in force everywhere, with where it stands in X-Carillon-Log-Position: a read that waits for that position, or a
// strong one, does not see what was deleted; X-Carillon-Deletion is the id that takes it back. 503 `err-carillon-delete-pending`: it is not yet, hides
// nothing, and goes on; X-Carillon-Deletion names it as well. To ask again with that `id`, or without one for the same selectors and times, is to
// ask for the same deletion.
import type { Clock } from '../../../shared/base/clock.ts'
import { RefusedError, UnavailableError } from '../../../shared/base/errors.ts'
import { hex, type Random } from '../../../shared/base/random.ts'
import { ask } from '../../../shared/bus/ask.ts'
import type { Question } from '../../../shared/bus/contract.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import * as deletes from '../../../shared/contracts/deletes.ts'
import { query } from '../../../shared/contracts/query.ts'
import { formatPosition } from '../../../shared/contracts/write.ts'
import type { Matcher } from '../../../shared/model/matcher.ts'
import { encodeTenant, parseTenant } from '../../../shared/model/tenant.ts'
import { isFault, parseTime } from '../../../shared/promql/go-values.ts'
import { parseSelector } from '../../../shared/promql/parse/parser.ts'
import { compileMatcher } from '../../../shared/tsdb/matcher-set.ts'
import { ANONYMOUS } from '../auth/identity.ts'
import type { GatewayConfig } from '../config.ts'
import {
  type Answer,
  type Exchange,
  FailureWithHeaders,
  isUnheard,
  JSON_TYPE,
  jsonAnswer,
  type Route,
} from '../http/exchange.ts'
import { readPairs } from '../http/form.ts'
import { failedAnswer, statusOf } from './query-response.ts'

export interface DeletionDeps {
  readonly bus: Bus
  readonly clock: Clock
  readonly random: Random
  readonly config: GatewayConfig
}

const POSITION_HEADER = 'X-Carillon-Log-Position'
const ID_HEADER = 'X-Carillon-Deletion'

/** What a deletion may be asked with. */
const SERIES_PARAMETERS = ['match[]', 'start', 'end', 'preview', 'tenant', 'id']
const TENANT_PARAMETERS = ['tenant', 'id']

type Pairs = readonly (readonly [string, string])[]

export function deletionRoutes({ bus, clock, random, config }: DeletionDeps): readonly Route[] {
  const route = (methods: readonly string[], path: string, answer: Route['answer']): Route[] =>
    ['', '/prometheus'].map((root) => {
      return {
        name: 'deletions',
        methods,
        path: `${root}/api/v1/admin/${path}`,
        access: 'admin',
        isOfTenants: true,
        errors: 'json',
        answer,
      }
    })
  return [
    ...route(['POST', 'PUT'], 'tsdb/delete_series', deleteSeries),
    ...route(['POST', 'GET'], 'tsdb/delete_series/preview', async (exchange) =>
      preview(exchange, await read(exchange)),
    ),
    ...route(['POST', 'PUT'], 'tsdb/clean_tombstones', cleanTombstones),
    ...route(['GET'], 'tsdb/deletions', listDeletions),
    ...route(['POST'], 'tsdb/deletions/{id}/undo', undoDeletion),
    ...route(['POST'], 'tenant/delete', deleteTenant),
    ...route(['GET'], 'tenant/delete_status', tenantStatus),
  ]

  function read(exchange: Exchange): Promise<Pairs> {
    return readPairs(exchange, config.formBytesMax)
  }

  async function deleteSeries(exchange: Exchange): Promise<Answer> {
    const pairs = onlyKnown(await read(exchange), SERIES_PARAMETERS)
    if (isPreview(pairs)) return preview(exchange, pairs)
    const startMs = timeOf(pairs, 'start', deletes.TIME_MIN_MS)
    const endMs = timeOf(pairs, 'end', deletes.TIME_MAX_MS)
    return remove(exchange, pairs, { kind: 'series', selectors: selectorsOf(pairs), startMs, endMs })
  }

  async function deleteTenant(exchange: Exchange): Promise<Answer> {
    const pairs = onlyKnown(await read(exchange), TENANT_PARAMETERS)
    if (namedTenant(exchange, pairs) === undefined) throw unnamed() // never the anonymous one by mistake
    const times = { startMs: deletes.TIME_MIN_MS, endMs: deletes.TIME_MAX_MS }
    return remove(exchange, pairs, { kind: 'tenant', selectors: [[]], ...times })
  }

  async function remove(
    exchange: Exchange,
    pairs: Pairs,
    what: Pick<deletes.RemoveRequest, 'kind' | 'selectors' | 'startMs' | 'endMs'>,
  ): Promise<Answer> {
    const id = single(pairs, 'id') ?? `${clock.now().toString(36)}${hex(random.bytes(8))}` // by age where they are listed
    const tenant = tenantOf(exchange, pairs)
    const { version: asOf } = await asked(exchange, deletes.list, { tenant, isBrief: true }) // DELETE-6
    const request = { tenant, id, ...what, askedBy: exchange.who, asOf }
    const { entry, position } = await asked(exchange, deletes.remove, request).catch((error: unknown) => {
      throw new FailureWithHeaders(error, { [ID_HEADER]: id })
    })
    const at = position.length === 0 ? {} : { [POSITION_HEADER]: formatPosition(position) }
    return { status: 204, headers: { [ID_HEADER]: entry.id, ...at } }
  }

  async function preview(exchange: Exchange, pairs: Pairs): Promise<Answer> {
    const tenant = encodeTenant(tenantOf(exchange, pairs))
    const match = pairs.filter(([name]) => name === 'match[]').map(([, value]) => value)
    const times = { start: single(pairs, 'start') ?? '', end: single(pairs, 'end') ?? '' }
    const { requestId, signal } = exchange
    const params = { match, ...times, read_consistency: 'strong' }
    const body = await ask(bus, query, { tenant, kind: 'delete_preview' }, params, { requestId, signal })
    const status = statusOf(body)
    if (status !== 200) return failedAnswer(status, body, 'json')
    return { status, headers: { 'Content-Type': JSON_TYPE }, body }
  }

  async function cleanTombstones(exchange: Exchange): Promise<Answer> {
    const request = { tenant: tenantOf(exchange, await read(exchange)), askedBy: exchange.who }
    await asked(exchange, deletes.clean, request)
    return { status: 204 }
  }

  async function listDeletions(exchange: Exchange): Promise<Answer> {
    const tenant = tenantOf(exchange, await read(exchange))
    const listed = await asked(exchange, deletes.list, { tenant })
    return jsonAnswer({ deletions: listed.deletes.map(({ positions: _, ...entry }) => entry) })
  }

  async function undoDeletion(exchange: Exchange): Promise<Answer> {
    const tenant = tenantOf(exchange, await read(exchange))
    const request = { tenant, id: exchange.params['id']!, askedBy: exchange.who }
    await asked(exchange, deletes.undo, request)
    return { status: 204 }
  }

  async function tenantStatus(exchange: Exchange): Promise<Answer> {
    const tenant = tenantOf(exchange, await read(exchange))
    const listed = await asked(exchange, deletes.list, { tenant })
    const newest = listed.deletes.findLast(({ kind }) => kind === 'tenant')
    const isRemoved = newest?.state === 'removed'
    return jsonAnswer({
      tenant,
      deletion: newest?.id ?? null,
      state: newest?.state ?? 'none',
      blocks_deleted: isRemoved,
    })
  }

  async function asked<Req, Rep>(
    { requestId, signal }: Exchange,
    contract: Question<never, Req, Rep>,
    request: Req,
  ): Promise<Rep> {
    try {
      return await ask(bus, contract, {}, request, { requestId, signal })
    } catch (error) {
      if (!isUnheard(error)) throw error
      throw new UnavailableError('err-carillon-no-compactor', 'no compactor answers at the moment', { cause: error })
    }
  }

  function tenantOf(exchange: Exchange, pairs: Pairs): string {
    const named = namedTenant(exchange, pairs)
    if (named === undefined && config.requireTenant) throw unnamed()
    const tenant = named === undefined ? ANONYMOUS : parseTenant(named)
    exchange.assertAdmin(tenant)
    return tenant
  }
}

function namedTenant({ request }: Exchange, pairs: Pairs): string | undefined {
  const header = request.headers['x-scope-orgid']
  return single(pairs, 'tenant') ?? (typeof header === 'string' && header !== '' ? header : undefined)
}

function unnamed(): RefusedError {
  return new RefusedError('err-carillon-no-tenant', 'say which tenant: ?tenant=', { status: 400 })
}

function single(pairs: Pairs, name: string): string | undefined {
  return pairs.find(([given]) => given === name)?.[1]
}

function onlyKnown(pairs: Pairs, names: readonly string[]): Pairs {
  const unknown = pairs.find(([given]) => !names.includes(given))
  if (unknown === undefined) return pairs
  const text = `unknown parameter "${unknown[0].slice(0, 100)}", nothing is deleted; known are ${names.join(', ')}`
  throw new RefusedError('err-carillon-bad-request', text)
}

function isPreview(pairs: Pairs): boolean {
  const text = single(pairs, 'preview') ?? 'false'
  if (text === 'true' || text === 'false') return text === 'true'
  throw new RefusedError(
    'err-carillon-bad-request',
    `preview is "${text.slice(0, 40)}", wants true or false; nothing is deleted`,
  )
}

function timeOf(pairs: Pairs, name: 'start' | 'end', absent: number): number {
  const text = single(pairs, name)
  if (text === undefined) return absent
  const time = parseTime(text)
  if (!isFault(time)) return time
  throw new RefusedError('err-carillon-bad-request', `invalid parameter "${name}": ${time.fault}`)
}

function selectorsOf(pairs: Pairs): readonly (readonly Matcher[])[] {
  const selectors = pairs.filter(([name]) => name === 'match[]').map(([, text]) => parseSelector(text))
  if (selectors.length === 0) throw new RefusedError('err-carillon-bad-request', 'no match[] parameter provided')
  if (selectors.every((matchers) => matchers.some((matcher) => !compileMatcher(matcher).matchesEmpty))) return selectors
  throw new RefusedError('err-carillon-bad-request', 'match[] must contain at least one non-empty matcher')
}
