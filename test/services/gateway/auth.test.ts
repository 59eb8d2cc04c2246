// Who may come in: AUTH-1 to AUTH-4, tenants of credentials, and doors that do not open to strangers.
import { createHash } from 'node:crypto'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { hashSync } from 'bcryptjs'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { createAuthenticator } from '../../../services/gateway/auth/auth.ts'
import { readAuthFile } from '../../../services/gateway/auth/auth-file.ts'
import { paddingOf } from '../../../services/gateway/auth/bcrypt-cost.ts'
import { CurrentCredentials } from '../../../services/gateway/auth/credentials.ts'
import { createFailedLogins, placeOf } from '../../../services/gateway/auth/failed-logins.ts'
import { createPasswords, WAITING_MAX, WAITING_OF_ADDRESS_MAX } from '../../../services/gateway/auth/passwords.ts'
import { isLoopback, parseListen } from '../../../services/gateway/http/listen.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { type System, startSystem } from './system.ts'

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')
const hashes = { alice: hashSync('wonder:land', 4), bob: hashSync('builder', 4) }
const authText = `
users:
  - { username: alice, password_hash: "${hashes.alice}", tenant: acme, rights: [read, write] }
  - { username: bob, password_hash: "${hashes.bob}", tenants: [acme, other], rights: [read] }
tokens:
  - { token_sha256: ${sha256('t-write')}, tenant: acme, rights: [write] }
  - { token_sha256: ${sha256('t-admin').toUpperCase()}, rights: [admin] }
  - { token_sha256: ${sha256('t-scrape')}, rights: [metrics] }
  - { token_sha256: ${sha256('t-acme')}, tenants: [acme, second], rights: [read, admin] }
`
const basic = (name: string, password: string) => ({
  Authorization: `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}`,
})
const bearer = (token: string) => ({ Authorization: `Bearer ${token}` })

describe('with --auth-file', () => {
  let system: System
  beforeAll(async () => {
    const authFile = join(mkdtempSync(join(tmpdir(), 'gateway-auth-')), 'auth.yaml')
    writeFileSync(authFile, authText)
    system = await startSystem({ config: { authFile } })
  })
  afterAll(() => system.stop())

  const query = '/api/v1/query?query=up'
  const limits = '/api/v1/admin/limits?query_series_max=9'
  const cases: [string, string, string, Record<string, string>, number, string?][] = [
    ['nothing', 'GET', query, {}, 401],
    ['a wrong password', 'GET', query, basic('alice', 'wonder'), 401],
    ['an unknown user', 'GET', query, basic('eve', 'wonder:land'), 401],
    ['a wrong token', 'GET', query, bearer('t-wrong'), 401],
    ['a made-up scheme', 'GET', query, { Authorization: 'Negotiate abc' }, 401],
    ['no credential at all in the header', 'GET', query, { Authorization: 'Basic' }, 401],
    ['a right password', 'GET', query, basic('alice', 'wonder:land'), 200, 'acme'],
    [
      'a right password and its own tenant',
      'GET',
      query,
      { ...basic('alice', 'wonder:land'), 'X-Scope-OrgID': 'acme' },
      200,
      'acme',
    ],
    [
      'a right password and another tenant',
      'GET',
      query,
      { ...basic('alice', 'wonder:land'), 'X-Scope-OrgID': 'other' },
      403,
    ],
    ['one of its tenants', 'GET', query, { ...basic('bob', 'builder'), 'X-Scope-OrgID': 'other' }, 200, 'other'],
    ['several tenants and none named', 'GET', query, basic('bob', 'builder'), 400],
    ['no right to read', 'GET', query, bearer('t-write'), 403],
    ['no right to write', 'POST', '/api/v1/push', { ...basic('bob', 'builder'), 'X-Scope-OrgID': 'acme' }, 403],
    ['an empty push and the right to write', 'POST', '/api/v1/push', bearer('t-write'), 400],
    ['no right to see metrics', 'GET', '/metrics', basic('alice', 'wonder:land'), 403],
    ['nothing, for metrics', 'GET', '/metrics', {}, 401],
    ['the admin right', 'GET', '/metrics', bearer('t-admin'), 200],
    ['the right to scrape', 'GET', '/metrics', bearer('t-scrape'), 200],
    ['the right to scrape, for members', 'GET', '/api/v1/status/members', bearer('t-scrape'), 403],
    ['the right to scrape, for a query', 'GET', query, bearer('t-scrape'), 403],
    ['the right to scrape, for a deletion', 'POST', '/api/v1/admin/tenant/delete?tenant=acme', bearer('t-scrape'), 403],
    ['admin of two tenants, for metrics of all', 'GET', '/metrics', bearer('t-acme'), 403],
    ['admin of two tenants, for members', 'GET', '/api/v1/status/members', bearer('t-acme'), 403],
    ['admin of two tenants, for all queries', 'GET', '/queries', bearer('t-acme'), 403],
    ['admin of two tenants, for a flush of all', 'POST', '/api/v1/admin/flush', bearer('t-acme'), 403],
    ['admin of two tenants, for limits of one', 'POST', `${limits}&tenant=second`, bearer('t-acme'), 200],
    ['admin of two tenants, to see limits of one', 'GET', `${limits}&tenant=acme`, bearer('t-acme'), 200],
    ['admin of two tenants, for limits of another', 'POST', `${limits}&tenant=other`, bearer('t-acme'), 403],
    ['admin of two tenants, for limits of everybody', 'POST', limits, bearer('t-acme'), 403],
    ['admin of two tenants, to see limits of everybody', 'GET', limits, bearer('t-acme'), 403],
    ...[
      'tsdb/delete_series?match[]=up',
      'tsdb/clean_tombstones?x=1',
      'tenant/delete?x=1',
      'tsdb/deletions/d/undo?x=1',
      'compact?x=1',
      'scrub?x=1',
    ].flatMap((path): [string, string, string, Record<string, string>, number][] => [
      [
        'admin of two tenants, for another',
        'POST',
        `/api/v1/admin/${path.replace('?x=1', '?')}&tenant=other`,
        bearer('t-acme'),
        403,
      ],
      [
        'admin of two tenants, for no tenant',
        'POST',
        `/api/v1/admin/${path.replace('?x=1', '')}`,
        bearer('t-acme'),
        path.startsWith('tenant/') ? 400 : 403,
      ],
    ]),
    ['admin of two tenants, blocks of another', 'GET', '/api/v1/blocks?tenant=other', bearer('t-acme'), 403],
    ['read, to end a query', 'DELETE', '/api/v1/status/active_queries/1', basic('bob', 'builder'), 403],
    [
      'read and write, to end one, and no querier answers',
      'DELETE',
      '/api/v1/status/active_queries/1',
      basic('alice', 'wonder:land'),
      503,
    ],
    ['the admin right, for members', 'GET', '/api/v1/status/members', bearer('t-admin'), 200],
    ['the admin right, for a query', 'GET', query, bearer('t-admin'), 403],
    ['nothing, for readiness', 'GET', '/-/healthy', {}, 200],
  ]
  test.each(cases)('%s: %s %s', async (_, method, path, headers, status, tenant) => {
    const answer = await fetch(system.url + path, { method, headers })
    expect(answer.status).toBe(status)
    if (status === 401) expect(answer.headers.get('www-authenticate')).toMatch(/^Basic realm=/)
    if (tenant !== undefined) expect(system.queries.at(-1)?.tenant).toBe(tenant)
  })
})

/** The authenticator of a text, with a clock that stands until it is moved. */
function authenticatorOf(text: string, { failuresMax = 1000 } = {}) {
  let now = 0
  const deps = authDeps({ clock: { ...systemClock, monotonic: () => now }, failuresMax })
  const authenticator = createAuthenticator(readAuthFile(text), deps)
  return {
    login: (name: string, password: string, address = '192.0.2.1') =>
      authenticator.verify(basic(name, password).Authorization, address),
    authenticator,
    pass(ms: number) {
      now += ms
    },
  }
}

function authDeps({ clock = systemClock, failuresMax = 1000 } = {}) {
  const passwords = createPasswords()
  onTestFinished(() => passwords.stop())
  return { clock, random: seededRandom(1), passwords, failedLogins: createFailedLogins({ clock, failuresMax }) }
}

describe('passwords', () => {
  const withCost = (cost: number) => authText.replace(/\$2[aby]\$04/g, `$2b$${String(cost).padStart(2, '0')}`)

  test('AUTH-4: who guesses from everywhere stops neither the loop, nor tokens, nor passwords that were right before', async () => {
    const { login, authenticator } = authenticatorOf(authText.replace(hashes.alice, hashSync('wonder:land', 9)))
    await login('alice', 'wonder:land')
    let tickCount = 0
    const ticking = setInterval(() => tickCount++, 5)
    const guesses = Array.from({ length: 60 }, (_, index) => login('alice', `guess-${index}`, `198.51.100.${index}`))
    let isSettled = false
    const outcomes = Promise.allSettled(guesses).finally(() => {
      isSettled = true
    })
    for (let i = 0; i < 10; i++) {
      expect((await authenticator.verify('Bearer t-write', '203.0.113.1'))?.tenants).toEqual(['acme'])
      expect((await login('alice', 'wonder:land', '203.0.113.1'))?.tenants).toEqual(['acme'])
    }
    expect(isSettled).toBe(false)
    const told = (await outcomes).filter((outcome) => outcome.status === 'rejected').map(({ reason }) => reason.code)
    clearInterval(ticking)
    expect(told).toEqual(Array.from({ length: 60 - WAITING_MAX }, () => 'err-carillon-auth-busy'))
    expect(tickCount).toBeGreaterThan(2 * WAITING_MAX) // at most one for each, if they were compared in the loop
  })

  test('PASSWORD-1: one address fills only a part of the queue', async () => {
    const { login } = authenticatorOf(withCost(8))
    const guesses = Array.from({ length: 20 }, (_, index) => login('alice', `guess-${index}`))
    const other = login('bob', 'guess', '203.0.113.1')
    const outcomes = await Promise.allSettled(guesses)
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(WAITING_OF_ADDRESS_MAX)
    expect(await other).toBe(undefined)
  })

  test('AUTH-4: an address is wrong so many times a minute; others, and whoever is known there, are not asked', async () => {
    const { login, pass } = authenticatorOf(authText, { failuresMax: 3 })
    expect(await login('alice', 'wonder:land')).toBeDefined()
    for (const password of ['a', 'b', 'c']) expect(await login('alice', password)).toBe(undefined)
    await expect(login('alice', 'd')).rejects.toMatchObject({ code: 'err-carillon-failed-logins' })
    expect(await login('alice', 'a')).toBe(undefined) // the same again tells nothing new
    expect(await login('alice', 'wonder:land')).toBeDefined()
    await expect(login('bob', 'builder')).rejects.toMatchObject({ code: 'err-carillon-failed-logins' })
    expect(await login('bob', 'builder', '192.0.2.2')).toBeDefined()
    pass(20_000)
    expect(await login('bob', 'wrong')).toBe(undefined)
    await expect(login('bob', 'wrong again')).rejects.toMatchObject({ code: 'err-carillon-failed-logins' })
  })

  test('AUTH-4: right passwords are never too many', async () => {
    const users = Array.from({ length: 12 }, (_, index) => `user${index}`)
    const hash = hashSync('pw', 4)
    const rows = users.map((name) => `{ username: ${name}, password_hash: "${hash}", tenant: t, rights: [read] }`)
    const { login } = authenticatorOf(`users: [${rows.join()}]`, { failuresMax: 3 })
    for (const name of users) expect(await login(name, 'pw')).toBeDefined()
  })

  test('AUTH-1: a comparison is as much work for every user, and for none', async () => {
    const units = (costs: number[]) => costs.reduce((sum, cost) => sum + 2 ** cost, 0)
    for (const cost of [4, 9, 13]) expect(2 ** cost + units(paddingOf(cost, 13))).toBe(2 ** 13)
    expect(units(paddingOf(undefined, 13))).toBe(2 ** 13)
    const { login } = authenticatorOf(authText.replace(hashes.bob, hashSync('builder', 9)))
    const least = { alice: Infinity, bob: Infinity, nobody: Infinity }
    for (let turn = 0; turn < 8; turn++) {
      for (const name of ['alice', 'bob', 'nobody'] as const) {
        const before = process.cpuUsage()
        await login(name, `guess-${turn}`)
        least[name] = Math.min(least[name], process.cpuUsage(before).user)
      }
    }
    const [low = 0, , high = 0] = Object.values(least).sort((a, b) => a - b)
    expect(high / low).toBeLessThan(2) // the hashes themselves: 32
  })
})

describe('who changed something', () => {
  const limits = '/api/v1/admin/limits?tenant=acme&query_series_max=9&by=alice%20from%20accounting'
  const changedBy = async (system: System, headers: Record<string, string>) => {
    const answer = await fetch(system.url + limits, { method: 'POST', headers })
    return ((await answer.json()) as { data: { changedBy: string } }).data.changedBy
  }

  test('IDENTITY-1: is the credential, whatever the request says; without one the address', async () => {
    const system = await startWith(authText)
    expect(await changedBy(system, bearer('t-acme'))).toMatch(
      /^token [0-9a-f]{8} at 127\.0\.0\.1, who says: alice from accounting$/,
    )
    await system.stop()
    const open = await startSystem()
    expect(await changedBy(open, basic('the-ceo', 'zzz'))).toMatch(/^127\.0\.0\.1, who says: /)
    await open.stop()
  })
})

describe('the auth file', () => {
  const other = authText.replace(sha256('t-write'), sha256('t-new'))
  const statusOf = async (system: System, token: string) =>
    (await fetch(`${system.url}/api/v1/push`, { method: 'POST', headers: bearer(token) })).status

  test('is read again when it has changed and stayed so, at once when told; a fault in it changes nothing', async () => {
    const { system, authFile } = await startWithFile(authText)
    expect([await statusOf(system, 't-write'), await statusOf(system, 't-new')]).toEqual([400, 401])
    writeFileSync(authFile, other)
    system.gateway.reload?.()
    expect([await statusOf(system, 't-write'), await statusOf(system, 't-new')]).toEqual([401, 400])
    writeFileSync(authFile, 'users: [')
    expect(() => system.gateway.reload?.()).toThrow(/--auth-file/)
    expect([await statusOf(system, 't-write'), await statusOf(system, 't-new')]).toEqual([401, 400])
    writeFileSync(authFile, authText)
    await expect.poll(() => statusOf(system, 't-write'), { timeout: 20_000, interval: 500 }).toBe(400)
    await system.stop()
  })
})

test('whoever writes the auth file may be half way: another text counts when two looks have found it', () => {
  const other = authText.replace(sha256('t-write'), sha256('t-new'))
  const file = join(mkdtempSync(join(tmpdir(), 'gateway-auth-')), 'auth.yaml')
  writeFileSync(file, authText)
  const current = new CurrentCredentials(file, authDeps())
  writeFileSync(file, other)
  expect(current.look()).toBe(false)
  writeFileSync(file, authText)
  expect([current.look(), current.look()]).toEqual([false, false])
  writeFileSync(file, other)
  expect([current.look(), current.look(), current.look()]).toEqual([false, true, false])
})

async function startWithFile(text: string) {
  const authFile = join(mkdtempSync(join(tmpdir(), 'gateway-auth-')), 'auth.yaml')
  writeFileSync(authFile, text)
  return { authFile, system: await startSystem({ config: { authFile } }) }
}

const startWith = async (text: string): Promise<System> => (await startWithFile(text)).system

describe('an address', () => {
  test.each([
    ['192.0.2.1', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:0db8:1:2::1', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
  ])('%s counts as %s', (address, place) => expect(placeOf(address)).toBe(place))
})

describe('an auth file', () => {
  const make = readAuthFile

  test.each([
    ['not YAML', 'users: [', ''],
    ['nobody', 'users: []', 'nobody could come in'],
    ['a plain password', 'users: [{username: a, password_hash: secret, tenant: t, rights: [read]}]', 'bcrypt'],
    [
      'a hash that takes seconds',
      `users: [{username: a, password_hash: "${hashes.alice.replace('$04', '$14')}", tenant: t, rights: [read]}]`,
      'seconds',
    ],
    ['a short token hash', 'tokens: [{token_sha256: abc, tenant: t, rights: [read]}]', '64 hex'],
    ['an unknown right', `tokens: [{token_sha256: ${sha256('x')}, tenant: t, rights: [fly]}]`, 'rights'],
    ['an unknown key', `tokens: [{token_sha256: ${sha256('x')}, tenant: t, rights: [read], colour: red}]`, 'colour'],
    [
      'a bad tenant',
      `tokens: [{token_sha256: ${sha256('x')}, tenant: 'a|b', rights: [read]}]`,
      'unsupported character',
    ],
    ['no tenant to read', `tokens: [{token_sha256: ${sha256('x')}, rights: [read]}]`, 'no tenant'],
  ])('a file with %s is refused', (_, text, why) => {
    expect(() => make(text)).toThrow(expect.objectContaining({ code: 'err-carillon-auth-file' }))
    expect(() => make(text)).toThrow(why)
  })
})

test.each([
  ['a quotation mark is missing', 'users:\n  - { username: a, password_hash: "hunter2 }\n', 'line 3, column 1'],
  ['a bracket is missing', 'users:\n  - { username: a, password_hash: hunter2\ntokens: []\n', 'line 3'],
  ['an alias', 'users:\n  - { username: a, password_hash: *hunter2 }\n', 'aliases'],
  ['a sign that begins nothing', 'users:\n  - { username: a, password_hash: @hunter2 }\n', 'line 2'],
  ['a password in place of its hash', 'users: [{username: a, password_hash: hunter2, rights: [admin]}]', 'bcrypt'],
  ['a token in place of its hash', 'tokens: [{token_sha256: hunter2, rights: [admin]}]', '64 hex'],
])('what stands in a faulty auth file is not told, but where it is: %s', (_, text, where) => {
  const error = (() => {
    try {
      return readAuthFile(text)
    } catch (thrown) {
      return thrown
    }
  })()
  expect(error).toMatchObject({ code: 'err-carillon-auth-file', message: expect.stringContaining(where) })
  expect(inspect(error, { depth: 9, showHidden: true })).not.toContain('hunter2')
})

describe('listening', () => {
  test('beyond loopback needs --auth-file or --allow-unauthenticated', async () => {
    await expect(startSystem({ config: { listen: '0.0.0.0:0' } })).rejects.toMatchObject({
      code: 'err-carillon-open-door',
    })
    const system = await startSystem({ config: { listen: '0.0.0.0:0', allowUnauthenticated: true } })
    expect((await fetch(`${system.url}/-/healthy`)).status).toBe(200)
    await system.stop()
  })

  test('on a taken port says so', async () => {
    const system = await startSystem()
    const second = startSystem({ config: { listen: `127.0.0.1:${system.port}` } })
    await expect(second).rejects.toThrow(/another program listens there already/)
    await system.stop()
  })

  test.each([
    ['127.0.0.1:9009', '127.0.0.1', 9009, true],
    ['localhost:1', 'localhost', 1, true],
    ['[::1]:80', '::1', 80, true],
    [':9009', undefined, 9009, false],
    ['[::]:9009', '::', 9009, false],
    ['example.org:80', 'example.org', 80, false],
    ['127.evil.org:80', '127.evil.org', 80, false],
  ])('%s', (text, host, port, loopback) => {
    expect(parseListen(text)).toEqual({ host, port })
    expect(isLoopback(host)).toBe(loopback)
  })

  test.each(['9009', 'a:b', '::1:80', 'h:65536', ''])('"%s" is refused', (text) => {
    expect(() => parseListen(text)).toThrow(expect.objectContaining({ code: 'err-carillon-listen' }))
  })
})
