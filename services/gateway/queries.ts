// Prometheus' query API: HTTP parameters become the question `query`, the answer's body passes through as it is.

import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { RefusedError, UnavailableError } from '../../shared/base/errors.ts'
import { ask } from '../../shared/bus/ask.ts'
import type { Bus } from '../../shared/bus/port.ts'
import {
  QUERY_TEXTS,
  type QueryKind,
  type QueryParams,
  query,
  STATUS_OF_ERROR_TYPE,
} from '../../shared/contracts/query.ts'
import { encodeTenant } from '../../shared/model/tenant.ts'
import { readBody } from './body.ts'
import type { GatewayConfig } from './config.ts'
import { type Answer, type Exchange, isUnheard, JSON_TYPE, jsonAnswer, type Route } from './exchange.ts'
import type { Load } from './load.ts'

const GZIP_BYTES_MIN = 4096
const GZIP_LEVEL = 1
const PARAMETERS_MAX = 20_000
const ERROR_BYTES_MAX = 1024 * 1024

/** Where the API hangs: Prometheus' place, Mimir's, Cortex'. */
export const API_ROOTS = ['', '/prometheus', '/api/prom']

const kinds: readonly { path: string; kind: QueryKind; methods: readonly string[] }[] = [
  { path: 'query', kind: 'instant', methods: ['GET', 'POST'] },
  { path: 'query_range', kind: 'range', methods: ['GET', 'POST'] },
  { path: 'query_exemplars', kind: 'exemplars', methods: ['GET', 'POST'] },
  { path: 'format_query', kind: 'format', methods: ['GET', 'POST'] },
  { path: 'series', kind: 'series', methods: ['GET', 'POST'] },
  { path: 'labels', kind: 'labels', methods: ['GET', 'POST'] },
  { path: 'label/{name}/values', kind: 'label_values', methods: ['GET', 'POST'] },
  { path: 'metadata', kind: 'metadata', methods: ['GET', 'POST'] },
]

/** `name` stands in the path. */
const inUrl: ReadonlySet<string> = new Set(QUERY_TEXTS.filter((name) => name !== 'name'))

export interface QueryDeps {
  readonly bus: Bus
  readonly config: GatewayConfig
  readonly load: Load
  readonly version: () => string
}

export function queryRoutes({ bus, config, load, version }: QueryDeps): readonly Route[] {
  const route = (name: string, methods: readonly string[], path: string, answer: Route['answer']): Route[] =>
    API_ROOTS.map((root) => ({
      name,
      methods,
      path: `${root}/api/v1/${path}`,
      access: 'read',
      errors: 'json',
      hasCors: true,
      answer,
    }))
  return [
    ...kinds.flatMap(({ path, kind, methods }) => route(kind, methods, path, (exchange) => answer(kind, exchange))),
    ...route('rules', ['GET'], 'rules', () => jsonAnswer({ groups: [] })),
    ...route('alerts', ['GET'], 'alerts', () => jsonAnswer({ alerts: [] })),
    ...route('buildinfo', ['GET'], 'status/buildinfo', () => jsonAnswer(buildInfo(version()))),
  ]

  async function answer(kind: QueryKind, exchange: Exchange): Promise<Answer> {
    const lease = load.enter(exchange.tenant)
    exchange.holdUntilAnswered(lease.end)
    const params = await readParams(exchange, config.formBytesMax)
    const { requestId, signal, tenant } = exchange
    const asked = ask(bus, query, { tenant: encodeTenant(tenant), kind }, params, { requestId, signal })
    const body = await asked.catch((error: unknown) => {
      if (!isUnheard(error)) throw error
      throw new UnavailableError('err-carillon-no-querier', 'no querier answers at the moment', { cause: error })
    })
    lease.grow(body.length)
    return await maybeGzipped({ status: statusOf(body), headers: { 'Content-Type': JSON_TYPE }, body }, exchange)
  }
}

/** The parameters of a form and of the URL, what the form says first. */
export async function readPairs(exchange: Exchange, formBytesMax: number): Promise<[string, string][]> {
  const { request, search } = exchange
  const isForm = /^application\/x-www-form-urlencoded\s*(;|$)/i.test(request.headers['content-type'] ?? '')
  const hasForm = request.method === 'POST' || request.method === 'PUT'
  const form = hasForm ? Buffer.from(await readBody(exchange, { bytesMax: formBytesMax })).toString() : ''
  return [...(isForm ? parsePairs(form) : []), ...parsePairs(search)]
}

async function readParams(exchange: Exchange, formBytesMax: number): Promise<QueryParams> {
  const { request, params } = exchange
  const given = await readPairs(exchange, formBytesMax)
  const single: Record<string, string> = {}
  const match: string[] = []
  for (const [name, value] of given) {
    if (name === 'match[]') match.push(value)
    else if (inUrl.has(name)) single[name] ??= value
  }
  const consistency = request.headers['x-read-consistency']
  if (typeof consistency === 'string') single['read_consistency'] = consistency
  if (/(^|[\s,])no-store\s*(,|$)/i.test(request.headers['cache-control'] ?? '')) single['no_store'] = 'true'
  if (params['name'] !== undefined) single['name'] = unescapeName(params['name'])
  return match.length > 0 ? { ...single, match } : single
}

function parsePairs(text: string): [string, string][] {
  let count = 1
  for (let at = text.indexOf('&'); at >= 0; at = text.indexOf('&', at + 1)) {
    if (++count > PARAMETERS_MAX) {
      throw new RefusedError('err-carillon-too-many-parameters', `a request has at most ${PARAMETERS_MAX} parameters`)
    }
  }
  return [...new URLSearchParams(text)]
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

const successStart = Buffer.from('{"status":"success"')

/** The HTTP status of a querier's answer, looked up by its first bytes and, when it failed, its error type. */
export function statusOf(body: Uint8Array): number {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.length)
  if (bytes.subarray(0, successStart.length).equals(successStart)) return 200
  if (bytes.length > ERROR_BYTES_MAX) return 500
  let errorType: unknown
  try {
    errorType = (JSON.parse(bytes.toString()) as { errorType?: unknown } | null)?.errorType
  } catch (cause) {
    throw new Error('the querier answered something that is not JSON', { cause })
  }
  const status = typeof errorType === 'string' ? STATUS_OF_ERROR_TYPE[errorType] : undefined
  return status === 499 ? 503 : (status ?? 500) // whoever reads this has not hung up: the querier gave up by itself
}

const gzipped = promisify(gzip)

async function maybeGzipped(answer: Answer & { body: Uint8Array }, { request }: Exchange): Promise<Answer> {
  const headers = { ...answer.headers, Vary: 'Accept-Encoding, Origin' }
  if (answer.body.length < GZIP_BYTES_MIN || !acceptsGzip(request.headers['accept-encoding']))
    return { ...answer, headers }
  const body = await gzipped(answer.body, { level: GZIP_LEVEL })
  return { ...answer, headers: { ...headers, 'Content-Encoding': 'gzip' }, body }
}

function acceptsGzip(header: string | string[] | undefined): boolean {
  return String(header ?? '')
    .toLowerCase()
    .split(',')
    .some((part) => /^\s*(gzip|\*)\s*(;\s*q=(1(\.0*)?|0?\.\d*[1-9]\d*))?\s*$/.test(part))
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
