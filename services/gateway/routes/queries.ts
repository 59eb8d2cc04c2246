// Prometheus' query API: HTTP parameters become the question `query`, the answer's body passes through as it is.

import { UnavailableError } from '../../../shared/base/errors.ts'
import { ask, askStream } from '../../../shared/bus/ask.ts'
import { windowBytesMax } from '../../../shared/bus/pipe.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { status as memberStatus } from '../../../shared/contracts/member.ts'
import {
  FEDERATE_ESCAPINGS,
  type FederateEscaping,
  type FederateFormat,
  PIECE_BYTES_MAX,
  QUERY_TEXTS,
  type QueryKind,
  type QueryParams,
  query,
  RAW_KINDS,
  READ_CHUNKS,
  remoteRead,
} from '../../../shared/contracts/query.ts'
import type { Membership } from '../../../shared/membership/membership.ts'
import { encodeTenant } from '../../../shared/model/tenant.ts'
import type { GatewayConfig } from '../config.ts'
import { readBody } from '../http/body.ts'
import {
  type Answer,
  type Exchange,
  isSilence,
  isUnheard,
  JSON_TYPE,
  jsonAnswer,
  type Route,
} from '../http/exchange.ts'
import { readPairs } from '../http/form.ts'
import type { Load } from '../http/in-flight.ts'
import { failedAnswer, hasNoData, isError, maybeCompressed, statusOf } from './query-response.ts'

/** Where the API hangs: Prometheus' place, Mimir's, Cortex'. */
export const API_ROOTS = ['', '/prometheus', '/api/prom']

interface KindRoute {
  readonly path: string
  readonly kind: QueryKind
  readonly methods: readonly string[]
  /** Other than JSON and Prometheus' errors. */
  readonly errors?: 'text'
  readonly headers?: (params: QueryParams) => Readonly<Record<string, string>>
}

const both = ['GET', 'POST']
const cardinality = { methods: both, errors: 'text' } as const

const kinds: readonly KindRoute[] = [
  { path: 'api/v1/query', kind: 'instant', methods: both },
  { path: 'api/v1/query_range', kind: 'range', methods: both },
  { path: 'api/v1/query_exemplars', kind: 'exemplars', methods: both },
  { path: 'api/v1/format_query', kind: 'format', methods: both },
  { path: 'api/v1/parse_query', kind: 'parse', methods: both },
  { path: 'api/v1/series', kind: 'series', methods: both },
  { path: 'api/v1/labels', kind: 'labels', methods: both },
  { path: 'api/v1/label/{name}/values', kind: 'label_values', methods: both },
  { path: 'api/v1/metadata', kind: 'metadata', methods: both },
  { path: 'api/v1/features', kind: 'features', methods: ['GET'] },
  { path: 'api/v1/status/tsdb', kind: 'tsdb', methods: ['GET'] },
  { path: 'api/v1/cardinality/label_names', kind: 'cardinality_label_names', ...cardinality },
  { path: 'api/v1/cardinality/label_values', kind: 'cardinality_label_values', ...cardinality },
  { path: 'api/v1/cardinality/active_series', kind: 'cardinality_active_series', ...cardinality },
  { path: 'api/v1/read', kind: 'read', methods: ['POST'], errors: 'text' },
  { path: 'federate', kind: 'federate', methods: ['GET'], errors: 'text', headers: federateHeaders },
]

/** `name` stands in the path. */
const inUrl: ReadonlySet<string> = new Set(QUERY_TEXTS.filter((name) => name !== 'name'))

export interface QueryDeps {
  readonly bus: Bus
  readonly membership: Pick<Membership, 'live'>
  readonly config: GatewayConfig
  readonly load: Load
  readonly version: () => string
}

export function queryRoutes({ bus, membership, config, load, version }: QueryDeps): readonly Route[] {
  const route = (name: string, methods: readonly string[], path: string, answer: Route['answer']): Route[] =>
    API_ROOTS.map((root) => ({
      name,
      methods,
      path: `${root}/${path}`,
      access: 'read',
      errors: 'json',
      hasCors: true,
      headers: NOT_KEPT,
      answer,
    }))
  const kindRoutes = kinds.flatMap((each) =>
    route(each.kind, each.methods, each.path, (exchange) => answer(each, exchange)).map((made) => ({
      ...made,
      errors: each.errors ?? made.errors,
    })),
  )
  return [
    ...kindRoutes,
    ...route('rules', ['GET'], 'api/v1/rules', () => jsonAnswer({ groups: [] })),
    ...route('alerts', ['GET'], 'api/v1/alerts', () => jsonAnswer({ alerts: [] })),
    ...route('buildinfo', ['GET'], 'api/v1/status/buildinfo', () => jsonAnswer(buildInfo(version()))),
  ]

  async function answer(to: KindRoute, exchange: Exchange): Promise<Answer> {
    const lease = load.enter(exchange.tenant)
    exchange.holdUntilAnswered(lease.end)
    const params = await paramsOf(to, exchange, config)
    const { requestId, signal, tenant } = exchange
    const { kind } = to
    const options = { requestId, signal }
    if (kind === 'read') {
      lease.grow(READ_BYTES_HELD)
      const pieces = askStream(bus, remoteRead, { tenant: encodeTenant(tenant) }, params, options)
      exchange.holdUntilAnswered(() => void pieces.return())
      return readAnswer(pieces)
    }
    const question = () => ask(bus, query, { tenant: encodeTenant(tenant), kind }, params, options)
    const queriers = membership.live('querier') // as it is asked: the one that hangs is not listed for long
    const body = await askTwice(question, () => hasSilenced(queriers, options))
    lease.grow(body.length)
    const status = RAW_KINDS.has(kind) && !isError(body) ? 200 : statusOf(body)
    if (status !== 200) return failedAnswer(status, body, to.errors ?? 'json')
    if (kind === 'exemplars' && hasNoData(body)) return { status: 204 }
    const headers = to.headers?.(params) ?? { 'Content-Type': JSON_TYPE }
    return await maybeCompressed({ status, headers, body }, exchange.request)
  }

  /** Some of them is connected, or nobody would take a question to it, and says nothing. */
  async function hasSilenced(
    queriers: readonly { readonly id: string }[],
    options: { requestId: string | undefined; signal: AbortSignal },
  ): Promise<boolean> {
    const asked = queriers.map(async ({ id }) => {
      try {
        await ask(bus, memberStatus, { id }, {}, { ...options, timeoutMs: PROBE_MS })
        return false
      } catch (error) {
        return !isUnheard(error)
      }
    })
    return (await Promise.all(asked)).includes(true)
  }
}

/** Within this a living querier says how it is. */
const PROBE_MS = 2_000

/** What a tenant was answered is nobody else's, and soon no longer true. */
const NOT_KEPT = { 'Cache-Control': 'no-store' }

function sayNobody(error: unknown): never {
  if (!isUnheard(error)) throw error
  throw new UnavailableError('err-carillon-no-querier', 'no querier answers at the moment', { cause: error })
}

/** A querier that has not said for long that it is at work is given up: it died, or hangs. A question changes nothing, so another querier may
 *  be asked the same when the one that took it has died; once, lest a question that ends queriers ends them all, and not at all when it is
 *  what keeps a living one from answering. */
async function askTwice(
  question: () => Promise<Uint8Array>,
  hasSilencedSome: () => Promise<boolean>,
): Promise<Uint8Array> {
  try {
    return await question()
  } catch (error) {
    if (!isSilence(error)) return sayNobody(error)
    if (await hasSilencedSome()) {
      const text = 'the querier that took this query lives, and answers nobody; another one is not asked'
      throw new UnavailableError('err-carillon-querier-silent', text, { cause: error })
    }
  }
  return question().catch((error: unknown) => {
    if (!isSilence(error)) return sayNobody(error)
    const text = 'two queriers took this query, and neither says that it is at work on it'
    throw new UnavailableError('err-carillon-querier-silent', text, { cause: error })
  })
}

/** Of a remote read on its way, at most: what its pipe has granted, and a piece. */
const READ_BYTES_HELD = windowBytesMax + 2 * PIECE_BYTES_MAX

/** The first piece says what comes. */
async function readAnswer(pieces: AsyncGenerator<Uint8Array>): Promise<Answer> {
  const { value: first } = (await pieces.next().catch(sayNobody)) as { value?: Uint8Array }
  if (first === undefined || first.length === 0) throw new TypeError('a remote read was answered with nothing')
  if (isError(first)) return failedAnswer(statusOf(first), first, 'text')
  const headers =
    first[0] === READ_CHUNKS
      ? { 'Content-Type': 'application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse' }
      : { 'Content-Type': 'application/x-protobuf', 'Content-Encoding': 'snappy' }
  return { status: 200, headers, stream: { chunks: withFirst(first.subarray(1), pieces) } }
}

async function* withFirst(first: Uint8Array, rest: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield first
  yield* rest
}

function federateHeaders({ escaping = 'underscores', format }: QueryParams): Record<string, string> {
  const type = format === 'protobuf' ? PROTOBUF_TYPE : 'text/plain; version=0.0.4; charset=utf-8'
  return { 'Content-Type': `${type}; escaping=${escaping}` }
}

const PROTOBUF_TYPE = 'application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited'

async function paramsOf({ kind }: KindRoute, exchange: Exchange, config: GatewayConfig): Promise<QueryParams> {
  if (kind === 'read') {
    const body = await readBody(exchange, { bytesMax: config.formBytesMax })
    return { body: Buffer.from(body.buffer, body.byteOffset, body.length).toString('base64') }
  }
  const params = await readParams(exchange, config.formBytesMax)
  if (kind !== 'federate') return params
  const { accept } = exchange.request.headers
  return { ...params, escaping: escapingOf(accept), format: formatOf(accept) }
}

async function readParams(exchange: Exchange, formBytesMax: number): Promise<QueryParams> {
  const { request, params } = exchange
  const given = await readPairs(exchange, formBytesMax)
  const single: Record<string, string> = {}
  const match: string[] = []
  const names: string[] = []
  for (const [name, value] of given) {
    if (name === 'match[]') match.push(value)
    else if (name === 'label_names[]' || name === 'label_names') names.push(value)
    else if (inUrl.has(name)) single[name] ??= value
  }
  const consistency = request.headers['x-read-consistency']
  if (typeof consistency === 'string') single['read_consistency'] = consistency
  if (/(^|[\s,])no-store\s*(,|$)/i.test(request.headers['cache-control'] ?? '')) single['no_store'] = 'true'
  if (params['name'] !== undefined) single['name'] = unescapeName(params['name'])
  return { ...single, ...(match.length > 0 && { match }), ...(names.length > 0 && { label_names: names }) }
}

/** What the scraper wants to have done to names that older parsers do not take. */
function escapingOf(accept: string | undefined): FederateEscaping {
  for (const [, wanted] of (accept ?? '').matchAll(/;\s*escaping\s*=\s*"?([a-z0-9-]+)"?/g)) {
    const known = FEDERATE_ESCAPINGS.find((name) => name === wanted)
    if (known !== undefined) return known
  }
  return 'underscores'
}

/** The first of the two formats in the scraper's order of preference. */
function formatOf(accept = ''): FederateFormat {
  const ranges = accept.split(',').map((range) => {
    const [type = '', ...rest] = range.split(';').map((part) => part.trim())
    const of = new Map(
      rest.map((part) => part.split('=', 2).map((text) => text.trim().replace(/^"|"$/g, '')) as [string, string]),
    )
    return { type, of, weight: Number(of.get('q') ?? 1) }
  })
  for (const { type, of } of ranges.sort((a, b) => b.weight - a.weight)) {
    const isFamily = of.get('proto') === 'io.prometheus.client.MetricFamily' && of.get('encoding') === 'delimited'
    if (type === 'application/vnd.google.protobuf' && isFamily) return 'protobuf'
    if (type === 'text/plain' && ['0.0.4', ''].includes(of.get('version') ?? '')) return 'text'
  }
  return 'text'
}

/** `U__` names carry characters that a path or an old client cannot: `__` is `_`, `_XX…_` a code point in hex. A name that is not well
 *  formed stands for itself. Rule: Prometheus' UTF-8 escaping scheme "values". */
export function unescapeName(name: string): string {
  if (!name.startsWith('U__')) return name
  let out = ''
  for (let at = 3; at < name.length; at++) {
    if (name[at] !== '_') {
      out += name[at]
      continue
    }
    const end = name.indexOf('_', at + 1)
    if (end === at + 1) out += '_'
    else {
      const hex = end < 0 ? '' : name.slice(at + 1, end)
      const point = /^[0-9a-fA-F]{1,6}$/.test(hex) ? Number.parseInt(hex, 16) : -1
      if (point < 0 || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) return name
      out += String.fromCodePoint(point)
    }
    at = end
  }
  return out
}

/** Grafana reads `version` to learn what the API can do, and takes an answer without `features` for Prometheus itself. */
function buildInfo(version: string): Record<string, string> {
  return {
    version: PROMETHEUS_VERSION,
    revision: `carillon-${version}`,
    branch: 'main',
    buildUser: '',
    buildDate: '',
    goVersion: `node-${process.versions.node}`,
  }
}

/** The Prometheus whose API this is compatible with. */
const PROMETHEUS_VERSION = '3.5.0'
