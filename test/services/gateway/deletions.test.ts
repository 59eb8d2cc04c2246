// Deleting over HTTP: who may, what is asked of the compactor, what is answered.
import { createHash } from 'node:crypto'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { systemClock } from '../../../shared/base/clock.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { serve } from '../../../shared/bus/actor.ts'
import { runActor } from '../../../shared/bus/run-actor.ts'
import type { DeleteEntry } from '../../../shared/contracts/blocks.ts'
import * as deletes from '../../../shared/contracts/deletes.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { type System, type SystemOptions, startSystem } from './system.ts'

let system: System
let asked: unknown[]
afterEach(() => system.stop())

const entry: DeleteEntry = {
  ...{ id: 'd1', kind: 'series', state: 'active', selectors: [], startMs: 0, endMs: 1, positions: {}, blocks: [] },
  ...{ askedAtMs: 1, askedBy: 'me', undoUntilMs: 2 },
}
const position = [{ partition: 0, incarnation: 'abc', seq: 7 }]

/** A gateway, and what answers for compactors. */
async function start(options: SystemOptions = {}, afterRemove = async () => {}): Promise<void> {
  system = await startSystem(options)
  asked = []
  const noted =
    <Request, Reply>(reply: Reply) =>
    async (request: Request): Promise<Reply> => {
      asked.push(request)
      return reply
    }
  const actor = {
    ...{ name: 'compactor', hears: [], every: [], start: async () => {}, stop: async () => {} },
    serves: [
      serve(deletes.remove, async (request) => {
        asked.push(request)
        await afterRemove()
        return { entry, position }
      }),
      serve(deletes.undo, noted({ entry, position })),
      serve(deletes.clean, noted({ endedCount: 1 })),
      serve(deletes.list, async () => ({ version: 5, deletes: [entry] })),
    ],
  }
  const bus = system.hub.connect('compactor')
  await runActor(actor, { bus, clock: systemClock, random: seededRandom(3), log: silentLog }).ready
}

async function call(path: string, init: RequestInit = {}): Promise<{ response: Response; text: string }> {
  const response = await fetch(`${system.url}/api/v1/admin/${path}`, { method: 'POST', ...init })
  return { response, text: await response.text() }
}

test('a deletion is asked for as Prometheus is, by URL or form, and says where it stands', async () => {
  await start()
  const { response, text } = await call('tsdb/delete_series?match[]=up{a="b"}&start=1.5&end=1970-01-01T00:00:02Z')
  expect([response.status, text]).toEqual([204, ''])
  expect(response.headers.get('x-carillon-log-position')).toBe('0/abc:7')
  expect(response.headers.get('x-carillon-deletion'), 'what is in force').toBe('d1')
  const body = new URLSearchParams([
    ['match[]', 'a'],
    ['match[]', '{b=~"c.*"}'],
  ])
  const headers = { 'X-Scope-OrgID': 'acme' }
  expect((await call('tsdb/delete_series?id=mine', { method: 'PUT', body, headers })).response.status).toBe(204)
  expect((await call('tenant/delete?tenant=acme')).response.status).toBe(204)
  expect(asked).toMatchObject([
    { tenant: 'anonymous', kind: 'series', startMs: 1500, endMs: 2000, askedBy: expect.stringContaining('127.0.0.1') },
    { tenant: 'acme', id: 'mine', asOf: 5, startMs: deletes.TIME_MIN_MS, endMs: deletes.TIME_MAX_MS },
    { tenant: 'acme', kind: 'tenant', selectors: [[]] },
  ])
  expect((asked as deletes.RemoveRequest[])[0]!.selectors).toEqual([
    [
      { name: 'a', operator: '=', value: 'b' },
      { name: '__name__', operator: '=', value: 'up' },
    ],
  ])
  expect((asked as deletes.RemoveRequest[])[1]!.selectors).toHaveLength(2)
})

test('a deletion that is not in force is named all the same: who asks again with its id asks for the same one', async () => {
  const pending = new UnavailableError('err-carillon-delete-pending', 'it waits for partitions 1')
  await start({}, () => Promise.reject(pending))
  for (const path of ['tsdb/delete_series?match[]=up', 'tenant/delete?tenant=acme']) {
    const { response } = await call(path)
    expect([response.status, response.headers.get('x-carillon-error-id')]).toEqual([503, pending.code])
    expect(response.headers.get('retry-after')).not.toBeNull()
    const { id } = asked.pop() as deletes.RemoveRequest
    expect(response.headers.get('x-carillon-deletion')).toBe(id)
    await call(`${path}&id=${id}`)
    expect(asked.pop()).toMatchObject({ id })
  }
})

test('only administrators delete, for any tenant, and it is written down which of them', async () => {
  const authFile = join(mkdtempSync(join(tmpdir(), 'gateway-auth-')), 'auth.yaml')
  const hashOf = (token: string) => createHash('sha256').update(token).digest('hex')
  const row = (token: string, rest: string) => `  - { token_sha256: ${hashOf(token)}, ${rest} }\n`
  writeFileSync(
    authFile,
    `tokens:\n${row('writer', 'tenant: acme, rights: [read, write]')}${row('admin', 'rights: [admin]')}`,
  )
  await start({ config: { authFile } })
  const as = (token: string) => ({ headers: { Authorization: `Bearer ${token}` } })
  for (const path of [
    'tsdb/delete_series?match[]=up',
    'tsdb/clean_tombstones',
    'tsdb/deletions/d1/undo',
    'tenant/delete',
  ]) {
    expect((await call(path)).response.status, path).toBe(401)
    expect((await call(path, as('writer'))).response.status, path).toBe(403)
    expect(asked, path).toEqual([])
    const separator = path.includes('?') ? '&' : '?'
    expect((await call(`${path}${separator}tenant=other`, as('admin'))).response.status, path).toBe(204)
    expect(asked.splice(0), path).toMatchObject([
      { tenant: 'other', askedBy: expect.stringContaining(`token ${hashOf('admin').slice(0, 8)} at`) },
    ])
  }
  const listed = await call('tsdb/deletions?tenant=other', { ...as('admin'), method: 'GET' })
  expect(JSON.parse(listed.text)).toMatchObject({ data: { deletions: [{ id: 'd1', askedBy: 'me', state: 'active' }] } })
})

test('a preview asks a querier and deletes nothing; without a compactor nothing is deleted', async () => {
  const data = { status: 'success', data: { series: 2, samples: 9 } }
  await start({ onQuery: () => JSON.stringify(data) })
  for (const path of ['tsdb/delete_series?preview=true&match[]=up', 'tsdb/delete_series/preview?match[]=up']) {
    expect(JSON.parse((await call(path)).text)).toEqual(data)
  }
  expect(system.queries).toMatchObject([
    { kind: 'delete_preview', params: { match: ['up'] } },
    { kind: 'delete_preview', params: { match: ['up'] } },
  ])
  expect(asked).toEqual([])
  system.hub.crash('compactor')
  const { response, text } = await call('tsdb/delete_series?match[]=up')
  expect([response.status, text]).toEqual([503, expect.stringContaining('no compactor answers')])
})

test('a preview that a querier refuses has an error id', async () => {
  const refused = { status: 'error', errorType: 'bad_data', error: 'no match[] parameter provided' }
  await start({ onQuery: () => JSON.stringify(refused) })
  const { response, text } = await call('tsdb/delete_series/preview')
  expect([response.status, response.headers.get('X-Carillon-Error-Id')]).toEqual([400, 'err-carillon-bad-data'])
  expect(JSON.parse(text)).toEqual(refused)
})

test('what is not understood deletes nothing', async () => {
  await start()
  const cases = [
    ['tsdb/delete_series?match[]=up&preview=yes', 'preview is "yes", wants true or false'],
    ['tsdb/delete_series?match[]=up&preview=', 'preview is "", wants true or false'],
    ['tsdb/delete_series?match[]=up&strat=5', 'unknown parameter "strat"'],
    ['tsdb/delete_series?match[]=up&start=', 'invalid parameter "start"'],
    ['tsdb/delete_series?match[]=up&end=', 'invalid parameter "end"'],
    ['tsdb/delete_series?match[]=up&tenant=', 'no org id'],
    ['tenant/delete', 'say which tenant'],
    ['tenant/delete?tennant=acme', 'unknown parameter "tennant"'],
    ['tenant/delete?tenant=', 'no org id'],
  ] as const
  for (const [path, why] of cases) {
    const { response, text } = await call(path)
    expect([response.status, JSON.parse(text).error], path).toEqual([400, expect.stringContaining(why)])
  }
  expect(asked).toEqual([])
  const named = await call('tenant/delete', { headers: { 'X-Scope-OrgID': 'acme' } })
  expect([named.response.status, asked]).toMatchObject([204, [{ tenant: 'acme', kind: 'tenant' }]])
})
