// What the gateway answers to well-formed requests: pushes, queries, pages.
import { createConnection } from 'node:net'
import { gunzipSync } from 'node:zlib'
import { afterEach, describe, expect, test } from 'vitest'
import { unescapeName } from '../../../services/gateway/routes/queries.ts'
import { AssertionError } from '../../../shared/base/assert.ts'
import { RefusedError, UnavailableError } from '../../../shared/base/errors.ts'
import type { PushReply } from '../../../shared/contracts/write.ts'
import { compress } from '../../../shared/wire/snappy.ts'
import { rawExchange, type System, type SystemOptions, startSystem, stored } from './system.ts'

let system: System
afterEach(() => system.stop())

const start = async (options: SystemOptions = {}) => {
  system = await startSystem(options)
  return system
}
const body = compress(Buffer.from('opaque to the gateway'))
const push = (headers: Record<string, string> = {}, path = '/api/v1/push') =>
  fetch(system.url + path, {
    method: 'POST',
    headers: { 'Content-Encoding': 'snappy', ...headers },
    body: Buffer.from(body),
  })

describe('a push', () => {
  test('PUSH-1: travels untouched, is answered 204 with counts and position, on all three paths', async () => {
    await start()
    for (const path of ['/api/v1/push', '/api/v1/write', '/api/prom/push']) {
      const answer = await push({ 'X-Scope-OrgID': 'acme', 'X-Request-Id': 'r-1' }, path)
      expect(answer.status).toBe(204)
      expect(await answer.text()).toBe('')
      expect(Object.fromEntries(answer.headers)).toMatchObject({
        'x-prometheus-remote-write-samples-written': '3',
        'x-prometheus-remote-write-histograms-written': '2',
        'x-prometheus-remote-write-exemplars-written': '1',
        'x-carillon-log-position': '0/abc:7',
        'x-request-id': 'r-1',
      })
      const taken = system.pushes.at(-1)!
      expect(taken).toMatchObject({ tenant: 'acme', protocol: 1, requestId: 'r-1' })
      expect(Buffer.from(taken.body).equals(Buffer.from(body))).toBe(true)
    }
  })

  test('larger than one bus message arrives whole', async () => {
    await start()
    const large = Buffer.concat([body, Buffer.alloc(3_000_000, 7)])
    const answer = await fetch(`${system.url}/api/v1/push`, { method: 'POST', body: large })
    expect(answer.status).toBe(204)
    expect(Buffer.from(system.pushes[0]!.body).equals(large)).toBe(true)
  })

  test('without tenant is anonymous, or 401 with --require-tenant', async () => {
    await start()
    await push()
    expect(system.pushes[0]?.tenant).toBe('anonymous')
    await system.stop()
    await start({ config: { requireTenant: true } })
    const answer = await push()
    expect(answer.status).toBe(401)
    expect(await answer.text()).toContain('no org id')
  })

  test('PUSH-2: one sender keeps meeting one distributor, and another one when that is gone', async () => {
    await start({ members: { distributor: ['distributor-1', 'distributor-2', 'distributor-3'] } })
    for (let i = 0; i < 10; i++) await push({ 'X-Scope-OrgID': 'acme' })
    const first = new Set(system.pushes.map(({ by }) => by))
    expect(first.size).toBe(1)
    system.crash([...first][0]!)
    for (let i = 0; i < 5; i++) expect((await push({ 'X-Scope-OrgID': 'acme' })).status).toBe(204)
    expect(first.has(system.pushes.at(-1)!.by)).toBe(false)
  })

  test('PUSH-5: one whose distributor is silent is 503 within seconds, and the next one goes to another', async () => {
    await start({ members: { distributor: ['distributor-1', 'distributor-2'] }, unhealthyAfterMs: 60_000 })
    await push({ 'X-Scope-OrgID': 'acme' })
    const silent = system.pushes[0]!.by
    system.hub.pause(silent)
    const startedMs = performance.now()
    const answer = await push({ 'X-Scope-OrgID': 'acme' })
    expect(performance.now() - startedMs).toBeLessThan(5_000)
    expect([answer.status, answer.headers.get('x-carillon-error-id')]).toEqual([503, 'err-carillon-distributor-silent'])
    expect((await push({ 'X-Scope-OrgID': 'acme' })).status).toBe(204)
    expect(system.pushes.at(-1)!.by).not.toBe(silent)
    system.hub.resume(silent)
  })

  test('PUSH-5: one that takes long is waited for as long as its distributor is at work on it', async () => {
    await start({ onPush: () => new Promise((resolve) => setTimeout(() => resolve(stored), 4_000)) })
    expect((await push()).status).toBe(204)
  })

  test('PUSH-6: one that meets a bug is 400, so that its sender does not bring it to the next distributor', async () => {
    const asked: string[] = []
    system = await startSystem({
      onPush(_, tenant) {
        asked.push(tenant)
        throw new AssertionError('a bug')
      },
    })
    const answer = await push()
    expect([answer.status, answer.headers.get('x-carillon-error-id')]).toEqual([400, 'err-carillon-bug'])
    expect(await answer.text()).toContain('a bug of Carillon')
    expect(asked).toHaveLength(1)
  })

  test('without any distributor is 503 with Retry-After from 1 to 5 s', async () => {
    await start({ members: { distributor: [] } })
    const answer = await push()
    expect(answer.status).toBe(503)
    expect(answer.headers.get('x-carillon-error-id')).toBe('err-carillon-no-distributor')
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
    expect(Number(answer.headers.get('retry-after'))).toBeLessThanOrEqual(5)
  })

  test.each([
    ['refused whole', new RefusedError('err-carillon-protobuf', 'unexpected EOF'), 400, undefined],
    [
      'too fast',
      new RefusedError('err-carillon-rate-limited', 'ingestion rate limit', { status: 429, retryAfterS: 3 }),
      429,
      '3',
    ],
    ['not now', new UnavailableError('err-carillon-log-full', 'the log is full'), 503, /^[1-5]$/],
  ])('%s keeps its status, text, id and zero counts', async (_, error, status, retryAfter) => {
    await start({
      onPush: () => {
        throw error
      },
    })
    const answer = await push()
    expect(answer.status).toBe(status)
    expect(await answer.text()).toBe(`${error.message} (${error.code})\n`)
    expect(answer.headers.get('x-carillon-error-id')).toBe(error.code)
    expect(answer.headers.get('x-prometheus-remote-write-samples-written')).toBe('0')
    if (retryAfter === undefined) expect(answer.headers.get('retry-after')).toBeNull()
    else expect(answer.headers.get('retry-after')).toMatch(retryAfter)
  })

  test('stored in part tells what is stored and why the rest is not', async () => {
    const refusal = { status: 400, code: 'err-carillon-label-name-too-long' as const, text: 'label name too long' }
    await start({ onPush: () => ({ ...stored, refusal }) })
    const answer = await push()
    expect(answer.status).toBe(400)
    expect(answer.headers.get('x-prometheus-remote-write-samples-written')).toBe('3')
    expect(answer.headers.get('x-carillon-log-position')).toBe('0/abc:7')
    expect(await answer.text()).toMatch(/^label name too long \(err-carillon-label-name-too-long\); 3 samples/)
  })

  test('beyond the bounds on what is in flight is 503', async () => {
    const release: (() => void)[] = []
    await start({
      config: { pushesInFlightMax: 3, tenantInFlightMax: 2 },
      onPush: () => new Promise((resolve) => release.push(() => resolve(stored))),
    })
    const waiting = [push({ 'X-Scope-OrgID': 'a' }), push({ 'X-Scope-OrgID': 'a' })]
    await expect.poll(() => release.length).toBe(2)
    const third = await push({ 'X-Scope-OrgID': 'a' })
    expect(third.status).toBe(503)
    expect(await third.text()).toContain('too many inflight push requests of this tenant in gateway')
    waiting.push(push({ 'X-Scope-OrgID': 'b' }))
    await expect.poll(() => release.length).toBe(3)
    expect(await (await push({ 'X-Scope-OrgID': 'c' })).text()).toContain('too many inflight push requests in gateway')
    for (const go of release) go()
    expect((await Promise.all(waiting)).map(({ status }) => status)).toEqual([204, 204, 204])
  })

  test('of more bytes than all pushes may hold is 503', async () => {
    await start({ config: { pushesInFlightBytesMax: 1024 } })
    const answer = await fetch(`${system.url}/api/v1/push`, { method: 'POST', body: Buffer.alloc(5000) })
    expect(answer.status).toBe(503)
    expect((await push()).status).toBe(204) // what it held is free again
  })

  test('DOOR-1: whose client hangs up is counted as gone and frees what it held', async () => {
    const release: (() => void)[] = []
    await start({
      config: { pushesInFlightMax: 1 },
      onPush: () => new Promise((resolve) => release.push(() => resolve(stored))),
    })
    const away = new AbortController()
    const waiting = fetch(`${system.url}/api/v1/push`, { method: 'POST', body: Buffer.from(body), signal: away.signal })
    await expect.poll(() => release.length).toBe(1)
    away.abort()
    await expect(waiting).rejects.toThrow()
    await expect
      .poll(async () => (await fetch(`${system.url}/metrics`)).text())
      .toMatch(/carillon_gateway_requests_total\{[^}]*route="push",code="gone"\} 1/)
    const next = push()
    await expect.poll(() => release.length).toBe(2)
    for (const go of release) go()
    expect((await next).status).toBe(204)
  })

  test('with --require-power-safe is 503 unless the server is power-loss-safe', async () => {
    await start({ config: { requirePowerSafe: true }, durability: 'process-crash-safe' })
    const answer = await push()
    expect(answer.status).toBe(503)
    expect(answer.headers.get('x-carillon-error-id')).toBe('err-carillon-not-power-safe')
    await system.stop()
    await start({ config: { requirePowerSafe: true }, durability: 'power-loss-safe' })
    expect((await push()).status).toBe(204)
    system.hub.disconnect('gateway-1')
    expect((await push()).status).toBe(503)
    system.hub.reconnect('gateway-1')
    await expect.poll(async () => (await push()).status).toBe(204)
  })

  test('leaves connections for others, however many one address wants', async () => {
    await start({ config: { listen: '[::]:0', allowUnauthenticated: true, connectionsMax: 8 } })
    const held = Array.from({ length: 8 }, () => createConnection({ port: system.port, host: '127.0.0.1' }))
    await expect.poll(() => held.filter(({ destroyed }) => destroyed).length).toBe(2)
    const other = await fetch(`http://[::1]:${system.port}/-/healthy`)
    expect(other.status).toBe(200)
    for (const socket of held) socket.destroy()
  })

  test('on a connection beyond --connections-max is cut at once', async () => {
    await start({ config: { connectionsMax: 1 } })
    const first = rawExchange(system.port, [], 300)
    expect(await rawExchange(system.port, ['GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n'], 5000)).toBe('')
    await first
    expect((await fetch(`${system.url}/-/healthy`)).status).toBe(200)
  })

  test('in flight when the gateway stops is still answered', async () => {
    const release: (() => void)[] = []
    const options = {
      config: { drainMs: 5000 },
      onPush: () => new Promise<PushReply>((resolve) => release.push(() => resolve(stored))),
    }
    await start(options)
    const waiting = push()
    await expect.poll(() => release.length).toBe(1)
    const stopped = system.gateway.stop()
    await expect(fetch(`${system.url}/-/healthy`)).rejects.toThrow()
    release[0]?.()
    expect((await waiting).status).toBe(204)
    await stopped
  })

  test('announced with Expect is asked to go on', async () => {
    await start()
    const head = `POST /api/v1/push HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n`
    const answer = await rawExchange(system.port, [head, 50, body])
    expect(answer).toMatch(/^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 204 /)
  })
})

describe('a query', () => {
  test('brings its parameters as they came, from GET and POST, under each root', async () => {
    await start()
    const search = 'query=up%2B1&time=1.5&stats=all&match[]=a&match[]=b&unknown=1'
    for (const root of ['', '/prometheus', '/api/prom']) {
      const got = await fetch(`${system.url}${root}/api/v1/query?${search}`, {
        headers: { 'X-Read-Consistency': 'strong' },
      })
      expect(got.headers.get('content-type')).toBe('application/json')
      expect(await got.text()).toBe('{"status":"success","data":[]}')
      const params = { query: 'up+1', time: '1.5', stats: 'all', match: ['a', 'b'], read_consistency: 'strong' }
      expect(system.queries.at(-1)).toEqual({ by: 'querier-1', tenant: 'anonymous', kind: 'instant', params })
    }
    const headers = { 'Content-Type': 'application/x-www-form-urlencoded' }
    await fetch(`${system.url}/api/v1/series?start=0&end=9&match[]=c`, {
      method: 'POST',
      headers,
      body: 'match[]=a+b&start=1',
    })
    expect(system.queries.at(-1)).toMatchObject({
      kind: 'series',
      params: { start: '1', end: '9', match: ['a b', 'c'] },
    })
  })

  test.each([
    ['no-store', 'true'],
    ['no-cache, No-Store', 'true'],
    ['no-cache', undefined],
  ])('with Cache-Control: %s asks for what was not kept: %s', async (control, wanted) => {
    await start()
    await fetch(`${system.url}/api/v1/query_range?query=up`, { headers: { 'Cache-Control': control } })
    expect(system.queries.at(-1)?.params.no_store).toBe(wanted)
  })

  test('which windows may stand for samples is passed on', async () => {
    await start()
    await fetch(`${system.url}/api/v1/query_range?query=up&max_source_resolution=5m`)
    expect(system.queries.at(-1)?.params.max_source_resolution).toBe('5m')
  })

  test.each([
    ['query_range', 'range'],
    ['query_exemplars', 'exemplars'],
    ['format_query', 'format'],
    ['series', 'series'],
    ['labels', 'labels'],
    ['metadata', 'metadata'],
    ['label/job/values', 'label_values'],
  ])('%s is the question %s', async (path, kind) => {
    await start()
    expect((await fetch(`${system.url}/api/v1/${path}`)).status).toBe(200)
    expect(system.queries.at(-1)?.kind).toBe(kind)
    if (kind === 'label_values') expect(system.queries.at(-1)?.params.name).toBe('job')
  })

  test.each([
    ['U__http_2e_status', 'http.status'],
    ['U__a__b', 'a_b'],
    ['U___1f600_', '\u{1f600}'],
    ['U__broken_2', 'U__broken_2'],
    ['U___d800_', 'U___d800_'],
    ['plain__name', 'plain__name'],
  ])('the label name %s means %s', async (escaped, name) => {
    await start()
    expect(unescapeName(escaped)).toBe(name)
    await fetch(`${system.url}/api/v1/label/${encodeURIComponent(name)}/values`)
    expect(system.queries.at(-1)?.params.name).toBe(name)
  })

  test.each([
    ['bad_data', 400],
    ['execution', 422],
    ['timeout', 503],
    ['canceled', 503],
    ['internal', 500],
    ['not_found', 404],
    ['unavailable', 503],
    ['made_up', 500],
  ])('that failed with %s is %i, its body untouched', async (errorType, status) => {
    const text = JSON.stringify({ status: 'error', errorType, error: '1:1: parse error' })
    await start({ onQuery: () => text })
    const answer = await fetch(`${system.url}/api/v1/query?query=(`)
    expect(answer.status).toBe(status)
    expect(await answer.text()).toBe(text)
    const id = status === 500 ? 'internal' : errorType.replace('_', '-')
    expect(answer.headers.get('x-carillon-error-id')).toBe(`err-carillon-${id}`)
  })

  test('that was refused by a limit carries its id, and when to come again', async () => {
    const error = 'too many outstanding requests (err-carillon-too-many-queries)'
    await start({ onQuery: () => JSON.stringify({ status: 'error', errorType: 'too_many_requests', error }) })
    for (const path of ['api/v1/query?query=up', 'federate?match[]=up']) {
      const { status, headers } = await fetch(`${system.url}/${path}`)
      expect(status).toBe(429)
      expect([headers.get('x-carillon-error-id'), headers.get('retry-after')]).toEqual([
        'err-carillon-too-many-queries',
        '1',
      ])
    }
  })

  test('without a querier is 503 in Prometheus\u2019 shape', async () => {
    await start({ members: { querier: [] } })
    const answer = await fetch(`${system.url}/api/v1/query?query=up`)
    expect(answer.status).toBe(503)
    expect(answer.headers.get('retry-after')).toMatch(/^[1-5]$/)
    expect(await answer.json()).toEqual({
      status: 'error',
      errorType: 'unavailable',
      error: 'no querier answers at the moment',
    })
  })

  test('whose querier dies at work on it is asked of another one, once', async () => {
    let deaths = 1
    const onQuery = () => {
      if (deaths-- > 0) system.crash(system.queries.at(-1)!.by)
      return '{"status":"success","data":["here"]}'
    }
    const querier = ['querier-1', 'querier-2', 'querier-3', 'querier-4']
    await start({ members: { querier }, unhealthyAfterMs: 60_000, onQuery })
    const answered = await fetch(`${system.url}/api/v1/query?query=up`)
    expect([answered.status, await answered.json()]).toEqual([200, { status: 'success', data: ['here'] }])
    deaths = 2
    const given = await fetch(`${system.url}/api/v1/query?query=up`)
    expect([given.status, given.headers.get('x-carillon-error-id')]).toEqual([503, 'err-carillon-querier-silent'])
    expect(system.queries).toHaveLength(4) // each question was asked twice, and no more
  })

  test('which keeps a living querier from answering is not asked of another one', async () => {
    const onQuery = () => {
      system.hub.pause(system.queries.at(-1)!.by) // its connection stands, and not a word comes
      return ''
    }
    await start({ members: { querier: ['querier-1', 'querier-2'] }, unhealthyAfterMs: 60_000, onQuery })
    const answer = await fetch(`${system.url}/api/v1/query?query=up`)
    expect([answer.status, answer.headers.get('x-carillon-error-id')]).toEqual([503, 'err-carillon-querier-silent'])
    expect(system.queries).toHaveLength(1)
    for (const { by } of system.queries) system.hub.resume(by) // so that it can be stopped
  }, 30_000)

  test('with a large answer is compressed for who wants it', async () => {
    const large = `{"status":"success","data":"${'x'.repeat(3_000_000)}"}`
    await start({ onQuery: () => large })
    const get = (encoding: string) =>
      rawExchange(system.port, [
        `GET /api/v1/query HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept-Encoding: ${encoding}\r\n\r\n`,
      ])
    const zipped = await get('deflate, gzip;q=0.5')
    expect(zipped).toContain('Content-Encoding: gzip')
    const bytes = Buffer.from(zipped.slice(zipped.indexOf('\r\n\r\n') + 4), 'latin1')
    expect(gunzipSync(bytes).toString()).toBe(large)
    expect(await get('gzip;q=0')).toContain(large)
  })

  test('whose answer nobody reads is cut and frees what it held; meanwhile others get 503', async () => {
    const large = `{"status":"success","data":"${'x'.repeat(20_000_000)}"}`
    const config = { answersInFlightBytesMax: 25_000_000, answerStallMs: 5_000 } // metrics are up to a second old
    await start({ config, onQuery: ({ query }) => (query === 'large' ? large : '{"status":"success","data":[]}') })
    const deaf = createConnection({ port: system.port, host: '127.0.0.1' }).pause()
    deaf.on('error', () => {}) // it is cut
    deaf.write('GET /api/v1/query?query=large HTTP/1.1\r\nHost: localhost\r\n\r\n')
    const inFlight = async () =>
      Number(/inflight_answer_bytes\{[^}]*\} (\d+)/.exec(await (await fetch(`${system.url}/metrics`)).text())?.[1])
    await expect.poll(inFlight, { timeout: 4_000 }).toBe(large.length)
    expect((await fetch(`${system.url}/api/v1/query?query=large`)).status).toBe(503)
    expect((await fetch(`${system.url}/api/v1/query?query=up`)).status).toBe(200)
    await expect.poll(inFlight, { timeout: 15_000 }).toBe(0)
    deaf.destroy()
  }, 30_000)

  test('rules, alerts and buildinfo are valid', async () => {
    await start()
    const get = async (path: string) => (await fetch(`${system.url}/prometheus/api/v1/${path}`)).json()
    expect(await get('rules')).toEqual({ status: 'success', data: { groups: [] } })
    expect(await get('alerts')).toEqual({ status: 'success', data: { alerts: [] } })
    expect(await get('status/buildinfo')).toMatchObject({
      status: 'success',
      data: { version: expect.stringMatching(/^3\./) },
    })
  })
})

describe('a page', () => {
  test('/metrics shows every member once, and who did not answer', async () => {
    await start({ config: { membersTimeoutMs: 300 } })
    system.crash('querier-1')
    const text = await (await fetch(`${system.url}/metrics`)).text()
    expect(text).toContain('carillon_stub_total{role="distributor",id="distributor-1"} 5')
    expect(text).toContain('carillon_stub_total{role="ingester",id="ingester-1"} 5')
    expect(text).toContain('carillon_member_up{role="gateway",id="gateway-1"} 1')
    expect(text).toContain('carillon_member_up{role="querier",id="querier-1"} 0')
    expect(text.match(/# TYPE carillon_stub_total counter/g)).toHaveLength(1)
    expect(text).toMatch(/carillon_gateway_inflight_requests\{role="gateway",id="gateway-1",route="metrics"\} 1/)
  })

  test('/metrics asks all members once a second, however many scrape', async () => {
    let asked = 0
    await start({ onMetrics: () => void asked++ })
    const scrape = async () => (await fetch(`${system.url}/metrics`)).status
    expect(await Promise.all(Array.from({ length: 30 }, scrape))).toEqual(Array.from({ length: 30 }, () => 200))
    expect(asked).toBe(3)
    await expect.poll(async () => [await scrape(), asked]).toEqual([200, 6])
  })

  test('the status pages are JSON', async () => {
    await start({ durability: 'power-loss-safe' })
    const get = async (page: string) =>
      ((await (await fetch(`${system.url}/api/v1/status/${page}`)).json()) as { data: unknown }).data
    expect(await get('durability')).toMatchObject({
      durability: 'power-loss-safe',
      acceptsWrites: true,
      server: { version: 'memory' },
    })
    expect(await get('members')).toMatchObject({
      members: expect.arrayContaining([expect.objectContaining({ id: 'ingester-1' })]),
    })
    expect(await get('partitions')).toMatchObject({
      partitionCount: 2,
      unanswered: [],
      partitions: [
        {
          partition: 0,
          assignedTo: ['ingester-1'],
          owners: [{ id: 'ingester-1', appliedSeq: 7, digests: ['d1'] }],
          digestsAgree: null,
        },
        { partition: 1 },
      ],
    })
  })
})
