// What an attacker sends to the door: bytes that are no HTTP, bodies that lie, queries that want too much, pages of other sites.
import { compress } from '../../shared/wire/snappy.ts'
import { rawExchange } from '../services/gateway/system.ts'
import type { Attack, Target } from './run-attack.ts'

/** A raw request may wait so long for its answer. */
const RAW_MS_MAX = 4_000
const ANSWER_MS_MAX = 20_000

function raw(name: string, status: number | 'cut', ...parts: (string | Uint8Array)[]): Attack {
  return {
    name: `HTTP: ${name}`,
    async run({ port }) {
      const answer = await rawExchange(port, parts, RAW_MS_MAX)
      const given = /^HTTP\/1\.1 (\d+)/.exec(answer)?.[1] ?? 'cut'
      if (given !== String(status)) return `answered ${given} instead of ${status}`
      const count = answer.match(/HTTP\/1\.1 \d/g)?.length ?? 0
      return count > 1 ? `answered ${count} times` : undefined
    },
  }
}

interface Sent {
  readonly method?: string
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
}

/** An error has to name its id. */
function sent(name: string, statuses: readonly number[], { method = 'GET', path, headers = {}, body }: Sent): Attack {
  return {
    name: `HTTP: ${name}`,
    async run({ url }) {
      const response = await fetch(url + path, {
        ...{ method, headers: { 'X-Scope-OrgID': 'mallory', ...headers }, signal: AbortSignal.timeout(ANSWER_MS_MAX) },
        ...(body !== undefined && { body: Buffer.from(body) }),
      })
      await response.arrayBuffer()
      if (!statuses.includes(response.status)) return `answered ${response.status} instead of ${statuses.join(' or ')}`
      if (response.status >= 400 && !response.headers.has('X-Carillon-Error-Id')) return 'an error without an id'
      return undefined
    },
  }
}

const post = (...headers: string[]) =>
  ['POST /api/v1/push HTTP/1.1', 'Host: localhost', 'Connection: close', ...headers, '', ''].join('\r\n')
const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`

const malformed = [
  raw(
    'Content-Length and Transfer-Encoding',
    400,
    post('Content-Length: 5', 'Transfer-Encoding: chunked'),
    '0\r\n\r\n',
  ),
  raw('two Content-Lengths', 400, post('Content-Length: 5', 'Content-Length: 6'), 'abcdef'),
  raw('Content-Length -1', 400, post('Content-Length: -1')),
  raw('Content-Length 0x5', 400, post('Content-Length: 0x5'), 'abcde'),
  raw('Transfer-Encoding: chunked, chunked', 400, post('Transfer-Encoding: chunked, chunked'), '0\r\n\r\n'),
  raw('a chunk of a negative size', 400, post('Transfer-Encoding: chunked'), '-1\r\n\r\n'),
  raw('a chunk of 17 digits', 400, post('Transfer-Encoding: chunked'), 'fffffffffffffffff\r\n'),
  raw('a bare line feed', 400, 'POST /api/v1/push HTTP/1.1\nHost: localhost\n\n'),
  raw('NUL in a header', 400, post('X-A: a\0b')),
  raw('a header without a colon', 400, post('nonsense')),
  raw('a TLS hello', 400, Uint8Array.of(0x16, 0x03, 0x01, 0x02, 0x00, 0x01)),
  raw('an SSH banner', 400, 'SSH-2.0-OpenSSH_9\r\n'),
  raw('an HTTP/2 preface', 400, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  raw('two Hosts', 400, 'GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nHost: b\r\nConnection: close\r\n\r\n'),
  raw('a URL of 2 MB', 431, get(`/${'a'.repeat(2_000_000)}`)),
  raw('a path with dots', 404, get('/api/../../etc/passwd')),
  raw('a body that is larger than allowed', 413, post('Content-Length: 999999999')),
  raw('a name of a stranger', 403, 'GET /metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n'),
]

const foreign = { 'Sec-Fetch-Site': 'cross-site', Origin: 'https://evil.example' }
const crossSite = [
  'tenant/delete?tenant=quiet',
  'tsdb/delete_series?tenant=quiet&match[]=quiet',
  'limits?tenant=quiet&query_series_max=1',
  'flush',
  'compact',
  'scrub',
].map((path) =>
  sent(`a page of another site: ${path}`, [403], { method: 'POST', path: `/api/v1/admin/${path}`, headers: foreign }),
)

const protobuf = { 'Content-Type': 'application/x-protobuf', 'Content-Encoding': 'snappy' }
const push = (name: string, body: Uint8Array | string, statuses = [400]): Attack =>
  sent(`a push of ${name}`, statuses, { method: 'POST', path: '/api/v1/push', headers: protobuf, body })
/** 64 MiB of one letter, in snappy. */
const bomb = () => compress(Buffer.alloc(64 * 1024 * 1024, 'a'))
const pushes = [
  push('nothing that is snappy', 'junk'),
  push('snappy of nothing that is protobuf', compress(Buffer.from([0xff, 0xff, 0xff]))),
  push('a length of 4 GiB', Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0x0f)),
  push('64 MiB in few bytes', bomb(), [400, 413]),
  sent('a push of no type that is known', [415], {
    ...{ method: 'POST', path: '/api/v1/push', headers: { 'Content-Type': 'text/plain' }, body: 'a=b' },
  }),
  sent('a read of 64 MiB in few bytes', [400, 413], {
    ...{ method: 'POST', path: '/api/v1/read', headers: protobuf, body: bomb() },
  }),
  ...['>', '..', 'a/b', '$SYS', 'a|b', 'x'.repeat(151)].map((tenant) =>
    sent(`the tenant ${tenant.slice(0, 10)}`, [400], {
      path: '/api/v1/query?query=1',
      headers: { 'X-Scope-OrgID': tenant },
    }),
  ),
]

const query = (name: string, text: string, statuses: readonly number[]): Attack =>
  sent(`a query of ${name}`, statuses, {
    ...{ method: 'POST', path: '/api/v1/query', headers: { 'Content-Type': 'application/x-www-form-urlencoded' } },
    body: `timeout=5s&query=${encodeURIComponent(text)}`,
  })
const nested = (open: string, close: string, levels: number) => `${open.repeat(levels)}vector(1)${close.repeat(levels)}`
/** Asked for without what they need, or with what they do not take. */
const PLACES = [
  ...['query', 'query?query=(', 'query_range?query=up', 'series', 'labels?match[]=(', 'label/a-b/values'],
  ...['query_exemplars?query=(', 'metadata?limit=x', 'format_query?query=(', 'parse_query?query=(', 'read', 'push'],
  ...['status/tsdb?limit=x', 'cardinality/label_names?selector=(', 'cardinality/label_values', 'rules', 'targets'],
  ...['blocks/x', 'blocks/01ARZ3NDEKTSV4RRFFQ69G5FAV/files/index', 'upload/block/x/start', 'ha/elections/x/freeze'],
  ...['upload/block/01ARZ3NDEKTSV4RRFFQ69G5FAV/start', 'upload/block/01ARZ3NDEKTSV4RRFFQ69G5FAV/finish'],
  ...['admin/limits?x=1', 'admin/tsdb/delete_series', 'admin/tsdb/delete_series/preview', 'admin/tsdb/snapshot'],
  ...[
    'admin/tenant/delete',
    'admin/tsdb/deletions/none/undo?tenant=..',
    'admin/flush?wait=x',
    'admin/compact?tenant=>',
  ],
  ...['admin/scrub?tenant=>', 'status/active_queries/none', 'nothing'],
].map((path) => `/api/v1/${path}`)
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH']
const nameless: Attack = {
  name: 'HTTP: every place by every method: errors have their ids',
  async run({ url }) {
    for (const path of [...PLACES, '/', '/federate?match[]=(', '/metrics/x', '/-/reload'])
      for (const method of METHODS) {
        const response = await fetch(url + path, { method, signal: AbortSignal.timeout(ANSWER_MS_MAX) })
        await response.arrayBuffer()
        if (response.status >= 500) return `${method} ${path} was answered ${response.status}`
        if (response.status >= 400 && !response.headers.has('X-Carillon-Error-Id'))
          return `${method} ${path} was refused without an id`
      }
    return undefined
  },
}

const queries = [
  query('5,000 levels of sum', nested('sum(', ')', 5_000), [400]),
  query('20,000 parentheses', nested('(', ')', 20_000), [400]),
  query('10,000 additions', `1${'+1'.repeat(10_000)}`, [400]),
  query('labels that double 22 times', nested('label_replace(', `,"z","\${1}\${1}a","z","(.*)")`, 22), [400, 422, 503]),
  query('71 characters', 'max_over_time(quantile_over_time(0.9,(vector(1)*time())[1d:1s])[1d:4s])', [200, 503]),
  query('a pattern that grows', 'up{a=~"((a{1000}){20}){5}"}', [400, 422]),
  query('a range of a thousand years', 'max_over_time(vector(1)[1000y:1ms])', [400, 422, 503]),
  query('names of prototypes', '{__proto__="x",constructor="y",hasOwnProperty="z"}', [200]),
  sent('1,000 patterns', [200, 400, 422, 503], {
    path: `/api/v1/series?${Array.from({ length: 1_000 }, (_, i) => `match[]={a=~".*x${i}.*"}`).join('&')}`,
  }),
]

/** So many scrapes in one go on each of three connections. */
const SCRAPES = 100
const scrapes: Attack = {
  name: 'HTTP: 300 scrapes in one go',
  async run({ port, url }: Target) {
    const one = 'GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n'
    const all = Array.from({ length: 3 }, () => rawExchange(port, [one.repeat(SCRAPES)], RAW_MS_MAX))
    const fromMs = performance.now()
    await fetch(`${url}/-/healthy`, { signal: AbortSignal.timeout(ANSWER_MS_MAX) })
    const tookMs = performance.now() - fromMs
    await Promise.all(all)
    return tookMs > 3_000 ? `health was answered after ${Math.round(tookMs)} ms` : undefined
  },
}

export const httpAttacks: readonly Attack[] = [...malformed, ...crossSite, ...pushes, ...queries, nameless, scrapes]
