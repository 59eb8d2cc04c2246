// What HTTP shows and changes of elections, and what a losing replica is answered.
import { createHash } from 'node:crypto'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { ELECTIONS_BUCKET, electionKey, electionRecord } from '../../../shared/contracts/elections.ts'
import { firstElected } from '../../../shared/elections/changes.ts'
import { compress } from '../../../shared/wire/snappy.ts'
import { valueIn } from '../../records.ts'
import { type System, type SystemOptions, startSystem, stored } from './system.ts'

let system: System
afterEach(() => system.stop())

async function start(options: SystemOptions = {}) {
  system = await startSystem(options)
  const bucket = await system.hub.connect('hand').bucket(ELECTIONS_BUCKET)
  for (const [tenant, cluster] of [
    ['acme', 'eu/1'],
    ['acme', '<b>'],
    ['other', 'us'],
  ] as const) {
    const record = firstElected(cluster, 'a', { nowMs: Date.now(), newestSampleMs: Date.now() })
    await bucket.create(electionKey(tenant, cluster), electionRecord.format.encode(record))
  }
  return bucket
}

const call = async (path: string, init: RequestInit = {}) => {
  const answer = await fetch(system.url + path, init)
  // biome-ignore lint/suspicious/noExplicitAny: the answer is looked at field by field
  return { status: answer.status, body: (await answer.json()) as any }
}
const acme = { headers: { 'X-Scope-OrgID': 'acme' } }

test('a tenant sees its own elections; the page shows all, escaped', async () => {
  await start()
  const { status, body } = await call('/api/v1/ha/elections', acme)
  expect(status).toBe(200)
  expect(body.data.elections).toMatchObject([
    { tenant: 'acme', cluster: '<b>', replica: 'a', frozen: false, takeovers: 0, dropped: 0, lastHeardMs: null },
    { tenant: 'acme', cluster: 'eu/1', replica: 'a' },
  ])
  const page = await (await fetch(`${system.url}/ha`)).text()
  expect(page).toContain('<td>us</td>')
  expect(page).not.toContain('<b>')
})

test('freeze, switch and unfreeze by compare-and-set; a replica that nobody heard wants force', async () => {
  const bucket = await start()
  const post = (what: string) => call(`/api/v1/ha/elections/eu%2F1/${what}`, { method: 'POST', ...acme })
  const now = async () => valueIn(electionRecord, (await bucket.get(electionKey('acme', 'eu/1')))!.value!)
  expect((await post('freeze')).body.data.election).toMatchObject({ replica: 'a', frozen: true })
  expect(await now()).toMatchObject({ frozen: true })
  expect((await post('switch?replica=b')).status).toBe(400)
  expect((await post('switch')).status).toBe(400)
  expect((await post('switch?replica=b&force=true')).status).toBe(200)
  expect(await now()).toMatchObject({ replica: 'b', frozen: true, takeovers: 1 })
  expect((await now()).guardMs).toBeDefined()
  await post('unfreeze')
  expect((await now()).frozen).toBeUndefined()
  expect((await call('/api/v1/ha/elections/nowhere/freeze', { method: 'POST', ...acme })).status).toBe(404)
})

test('a record that cannot be read is none: the others are shown, and nothing is made of it', async () => {
  const bucket = await start()
  for (const key of ['acme.ghost', 'a_b.x', 'acme.a.b', 'x']) await bucket.put(key, Buffer.from('junk'))
  await bucket.put(electionKey('acme', 'newer'), Buffer.from('{"v":2}'))
  const clusters = async () =>
    (await call('/api/v1/ha/elections', acme)).body.data.elections.map((each: { cluster: string }) => each.cluster)
  expect(await clusters()).toEqual(['<b>', 'eu/1'])
  expect(await (await fetch(`${system.url}/ha`)).text()).toContain('<td>us</td>')
  expect((await call('/api/v1/ha/elections/ghost/freeze', { method: 'POST', ...acme })).status).toBe(404)
  const newer = await call('/api/v1/ha/elections/newer/freeze', { method: 'POST', ...acme })
  expect(newer.status).toBeGreaterThanOrEqual(500)
  expect(JSON.stringify(newer.body)).toContain('version 2')
})

test('with --auth-file: the tenant its own, admin any by ?tenant=, a reader changes nothing', async () => {
  const authFile = join(mkdtempSync(join(tmpdir(), 'gateway-auth-')), 'auth.yaml')
  const hashOf = (token: string) => createHash('sha256').update(token).digest('hex')
  writeFileSync(
    authFile,
    `tokens:
  - { token_sha256: ${hashOf('reader')}, tenant: acme, rights: [read] }
  - { token_sha256: ${hashOf('writer')}, tenant: acme, rights: [write] }
  - { token_sha256: ${hashOf('admin')}, rights: [admin] }\n`,
  )
  await start({ config: { authFile } })
  const as = (token: string, path: string, method = 'GET') =>
    call(path, { method, headers: { Authorization: `Bearer ${token}` } })
  const list = '/api/v1/ha/elections'
  expect((await as('reader', list)).body.data.elections).toHaveLength(2)
  expect((await as('reader', `${list}?tenant=other`)).status).toBe(403)
  expect((await as('admin', `${list}?tenant=other`)).body.data.elections).toHaveLength(1)
  expect((await as('reader', `${list}/eu%2F1/freeze`, 'POST')).status).toBe(403)
  expect((await as('writer', `${list}/eu%2F1/freeze`, 'POST')).status).toBe(200)
  expect((await as('writer', `${list}/us/freeze?tenant=other`, 'POST')).status).toBe(403)
  expect((await as('admin', `${list}/us/freeze?tenant=other`, 'POST')).status).toBe(200)
  const page = await fetch(`${system.url}/ha`, { headers: { Authorization: 'Bearer writer' } })
  expect(page.status).toBe(403)
})

test('a push that was dropped whole is 202 with counts as if written, one in part is 204', async () => {
  const dropped = { samples: 5, histograms: 1, exemplars: 2 }
  const nothing = { samplesWritten: 0, histogramsWritten: 0, exemplarsWritten: 0, position: [] }
  let reply = { ...nothing, dropped }
  await start({ onPush: () => reply })
  const push = () =>
    fetch(`${system.url}/api/v1/push`, { method: 'POST', body: Buffer.from(compress(Buffer.from('opaque'))) })
  const whole = await push()
  expect(whole.status).toBe(202)
  expect(Object.fromEntries(whole.headers)).toMatchObject({
    'x-prometheus-remote-write-samples-written': '5',
    'x-prometheus-remote-write-histograms-written': '1',
    'x-prometheus-remote-write-exemplars-written': '2',
    'x-carillon-ha-dropped': '6',
  })
  reply = { ...nothing, ...stored, dropped } as typeof reply
  const part = await push()
  expect([part.status, part.headers.get('x-prometheus-remote-write-samples-written')]).toEqual([204, '8'])
})
