// Who may come in: A1 to A4, tenants of credentials, and doors that do not open to strangers.
import { createHash } from 'node:crypto'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { hashSync } from 'bcryptjs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { BCRYPT_IN_FLIGHT_MAX, createAuthenticator } from '../../../services/gateway/auth.ts'
import { isLoopback, parseListen } from '../../../services/gateway/listen.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { type System, startSystem } from './system.ts'

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')
const authText = `
users:
  - { username: alice, password_hash: "${hashSync('wonder:land', 4)}", tenant: acme, rights: [read, write] }
  - { username: bob, password_hash: "${hashSync('builder', 4)}", tenants: [acme, other], rights: [read] }
tokens:
  - { token_sha256: ${sha256('t-write')}, tenant: acme, rights: [write] }
  - { token_sha256: ${sha256('t-admin').toUpperCase()}, rights: [admin] }
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

describe('the authenticator', () => {
  const make = (text: string) => createAuthenticator(text, { clock: systemClock, random: seededRandom(1) })

  test('A4: guesses beyond the bound are told to wait, and the known still come in', async () => {
    const authenticator = make(authText.replace(/\$2[aby]\$04/g, '$2b$08'))
    const guess = (password: string) => authenticator.verify(basic('alice', password).Authorization)
    const guesses = Array.from({ length: BCRYPT_IN_FLIGHT_MAX * 3 }, (_, index) => guess(`guess-${index}`))
    expect((await authenticator.verify('Bearer t-write'))?.tenants).toEqual(['acme'])
    const outcomes = await Promise.allSettled(guesses)
    const busy = outcomes.filter((outcome) => outcome.status === 'rejected')
    expect(busy.length).toBeGreaterThan(0)
    for (const { reason } of busy) expect(reason).toMatchObject({ code: 'err-carillon-auth-busy' })
  })

  test.each([
    ['not YAML', 'users: [', ''],
    ['nobody', 'users: []', 'nobody could come in'],
    ['a plain password', 'users: [{username: a, password_hash: secret, tenant: t, rights: [read]}]', 'bcrypt'],
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
