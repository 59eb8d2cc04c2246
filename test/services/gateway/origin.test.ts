// Pages of other sites: what a browser sends in their name changes nothing and is not read, and a strange name does not open the door (ORIGIN-1 to ORIGIN-3).
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { hashSync } from 'bcryptjs'
import { afterEach, describe, expect, test } from 'vitest'
import type { GatewayConfig } from '../../../services/gateway/config.ts'
import { compress } from '../../../shared/wire/snappy.ts'
import { rawExchange, type System, startSystem } from './system.ts'

let system: System
afterEach(() => system.stop())

const start = async (config: Partial<GatewayConfig> = {}) => {
  system = await startSystem({ config })
}

const ROOT = { Authorization: `Basic ${Buffer.from('root:pw').toString('base64')}` }

/** With a user who may do everything. */
const startWithUser = async (config: Partial<GatewayConfig> = {}) => {
  const authFile = join(mkdtempSync(join(tmpdir(), 'gateway-origin-')), 'auth.yaml')
  const hash = hashSync('pw', 4)
  writeFileSync(
    authFile,
    `users: [{ username: root, password_hash: "${hash}", tenant: acme, rights: [read, write, admin] }]`,
  )
  await start({ authFile, ...config })
}

interface Ask {
  readonly method?: string
  readonly path?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
}

/** As a browser would, with a Host of its own: status, headers, body. */
async function ask({ method = 'POST', path = '/api/v1/admin/flush', headers = {}, body = '' }: Ask) {
  const all = {
    Host: `127.0.0.1:${system.port}`,
    Connection: 'close',
    'Content-Length': String(body.length),
    ...headers,
  }
  const head = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
  const text = await rawExchange(system.port, [`${method} ${path} HTTP/1.1\r\n${head.join('')}\r\n`, body])
  const [top = '', ...rest] = text.split('\r\n\r\n')
  const lines = top.split('\r\n').slice(1)
  return {
    status: Number(top.split(' ')[1]),
    headers: new Headers(lines.map((line) => line.split(': ', 2) as [string, string])),
    text: rest.join('\r\n\r\n'),
  }
}

const FORM = { 'Content-Type': 'application/x-www-form-urlencoded' }
const EVIL = { Origin: 'https://evil.example' }
const CROSS = { 'Sec-Fetch-Site': 'cross-site', ...EVIL }
const pushBody = compress(Buffer.from('opaque'))

const changes: [string, Ask][] = [
  ['a deletion, as a form', { path: '/api/v1/admin/tsdb/delete_series', headers: FORM, body: 'match[]=up' }],
  [
    'the deletion of a tenant, as text',
    { path: '/api/v1/admin/tenant/delete?tenant=acme', headers: { 'Content-Type': 'text/plain' }, body: 'a=b' },
  ],
  ['limits', { path: '/api/v1/admin/limits', headers: FORM, body: 'query_concurrent_max=0' }],
  ['a mark', { path: '/api/v1/admin/mark' }],
  ['a flush', {}],
  ['a compaction', { path: '/api/v1/admin/compact' }],
  ['a scrub', { path: '/api/v1/admin/scrub' }],
  ['a frozen election', { path: '/api/v1/ha/elections/x/freeze' }],
  ['the end of a query', { path: '/api/v1/status/active_queries/1/cancel' }],
  ['the end of a query, by DELETE', { method: 'DELETE', path: '/api/v1/status/active_queries/1' }],
  ['an upload', { path: '/api/v1/upload/block/01ARZ3NDEKTSV4RRFFQ69G5FAV/start', body: '{}' }],
  ['a push', { path: '/api/v1/push', body: pushBody }],
  ['a push as text', { path: '/api/v1/push', headers: { 'Content-Type': 'text/plain' }, body: pushBody }],
  ['a costly query', { path: '/api/v1/query', headers: FORM, body: 'query=up' }],
]

describe('ORIGIN-1: a page of another site does not get', () => {
  test.each(changes)('%s', async (_, given) => {
    await startWithUser()
    for (const said of [CROSS, EVIL, { 'Sec-Fetch-Site': 'same-site' }, { Origin: 'null' }]) {
      const answer = await ask({ ...given, headers: { ...given.headers, ...ROOT, ...said } })
      expect(answer.status).toBe(403)
      expect(answer.headers.get('x-carillon-error-id')).toBe('err-carillon-cross-site')
    }
    expect(system.pushes).toEqual([])
    expect(system.queries).toEqual([])
  })

  test('an answer that depends on whether the credential is right', async () => {
    await startWithUser()
    const wrong = { Authorization: `Basic ${Buffer.from('root:no').toString('base64')}` }
    for (const who of [ROOT, wrong, {}]) expect((await ask({ headers: { ...CROSS, ...who } })).status).toBe(403)
  })
})

test('ORIGIN-1: our own pages, and whoever has no browser, are not asked', async () => {
  await start()
  const own = { Origin: `http://127.0.0.1:${system.port}` }
  for (const said of [{}, own, { ...EVIL, 'Sec-Fetch-Site': 'same-origin' }, { 'Sec-Fetch-Site': 'none' }])
    expect((await ask({ headers: said })).status).toBe(200)
  const named = { Host: 'Localhost', Origin: 'https://localhost' } // the scheme, and its port, is the proxy's
  expect((await ask({ headers: named })).status).toBe(200)
})

describe('ORIGIN-2: a loopback door without credentials', () => {
  const statusFor = async (host: string, path = '/metrics') =>
    (await ask({ method: 'GET', path, headers: { Host: host } })).status

  test('is found by names of this machine alone', async () => {
    await start()
    for (const host of [
      'localhost',
      'LOCALHOST:80',
      'a.localhost:1',
      `127.0.0.1:${system.port}`,
      '127.1.2.3',
      '[::1]:9',
    ])
      expect([host, await statusFor(host)]).toEqual([host, 200])
    for (const host of [
      'evil.example',
      'evil.example:80',
      'localhost.evil.example',
      '127.evil.example',
      '',
      '[::2]',
      '10.0.0.1',
    ])
      expect([host, await statusFor(host)]).toEqual([host, 403])
    expect(await statusFor('localhost', 'http://evil.example/metrics')).toBe(403)
    expect(
      (await ask({ path: '/api/v1/admin/tenant/delete?tenant=acme', headers: { Host: 'evil.example' } })).status,
    ).toBe(403)
  })

  test('has the names of --allowed-hosts besides', async () => {
    await start({ allowedHosts: ['Carillon.example'] })
    expect(await statusFor('carillon.example:443')).toBe(200)
    expect(await statusFor('localhost')).toBe(200)
    expect(await statusFor('evil.example')).toBe(403)
  })

  test('with credentials every name serves, unless some are named', async () => {
    await startWithUser()
    const ask200 = { method: 'GET', path: '/-/healthy', headers: { Host: 'anything.example' } }
    expect((await ask(ask200)).status).toBe(200)
    await system.stop()
    await startWithUser({ allowedHosts: ['carillon.example'] })
    expect((await ask(ask200)).status).toBe(403)
  })
})

test('two Hosts are refused, and a request line without a version', async () => {
  await start()
  const two = await rawExchange(system.port, [
    'GET /-/healthy HTTP/1.1\r\nHost: a\r\nHost: localhost\r\nConnection: close\r\n\r\n',
  ])
  expect(two).toMatch(/^HTTP\/1\.1 400 /)
  expect(await rawExchange(system.port, ['GET /metrics\r\n\r\n'])).toMatch(/^HTTP\/1\.1 400 /)
})

describe('ORIGIN-3: pages of another origin', () => {
  const reads = async (origin: string) => {
    const headers = { Origin: origin, 'Sec-Fetch-Site': 'cross-site' }
    const preflight = await ask({ method: 'OPTIONS', path: '/api/v1/query', headers })
    const get = await ask({ method: 'GET', path: '/api/v1/query?query=up', headers })
    const post = await ask({ path: '/api/v1/query', headers: { ...headers, ...FORM }, body: 'query=up' })
    const allowed = [preflight, get, post].map((answer) => answer.headers.get('access-control-allow-origin'))
    return { status: [preflight.status, get.status, post.status], allowed }
  }

  test('read nothing unless --cors-origin names them', async () => {
    await start()
    expect(await reads('https://grafana.example')).toEqual({ status: [204, 200, 403], allowed: [null, null, null] })
    await system.stop()
    await start({ corsOrigin: ['https://grafana.example'] })
    const own = 'https://grafana.example'
    expect(await reads(own)).toEqual({ status: [204, 200, 200], allowed: [own, own, own] })
    expect((await reads('https://evil.example')).allowed).toEqual([null, null, null])
  })

  test('all read with *, and still change nothing', async () => {
    await start({ corsOrigin: ['*'] })
    expect(await reads('https://grafana.example')).toEqual({ status: [204, 200, 200], allowed: ['*', '*', '*'] })
    expect((await ask({ headers: CROSS })).status).toBe(403)
    const cors = (await ask({ method: 'GET', path: '/metrics', headers: CROSS })).headers.get(
      'access-control-allow-origin',
    )
    expect(cors).toBe(null)
  })
})

test('a page is shown in no frame of another', async () => {
  await start()
  const { headers } = await ask({ method: 'GET', path: '/ring' })
  expect(headers.get('content-security-policy')).toContain("frame-ancestors 'none'")
})
