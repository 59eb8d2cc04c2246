// What breaks the rules gets a clear answer with a stable id, reaches no actor and harms no other request.
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { QueryParams } from '../../../shared/contracts/query.ts'
import { compress } from '../../../shared/wire/snappy.ts'
import { rawExchange, type System, startSystem } from './system.ts'

let system: System
const body = compress(Buffer.from('a body that nobody here looks into'))
const v2Type = 'application/x-protobuf;proto=io.prometheus.write.v2.Request'

beforeAll(async () => {
  const config = {
    bodyBytesMax: 2 * 1024 * 1024,
    headersTimeoutMs: 300,
    requestTimeoutMs: 600,
    formBytesMax: 40_000,
    answerStallMs: 200, // less than a slow query takes
  }
  const onQuery = async ({ query }: QueryParams) => {
    if (query === 'slow') await new Promise((resolve) => setTimeout(resolve, 300))
    return '{"status":"success","data":[]}'
  }
  system = await startSystem({ config, onQuery })
})
afterAll(() => system.stop())

const declares = (length: number) => {
  const bytes: number[] = []
  for (let left = length; ; left = Math.floor(left / 128)) {
    if (left < 128) return Uint8Array.from([...bytes, left, 0, 0x61])
    bytes.push((left % 128) | 128)
  }
}

interface Row {
  readonly body?: Uint8Array
  readonly type?: string
  readonly headers?: Record<string, string>
  readonly status: number
  readonly id: string
  readonly text: string | RegExp
}

const pushRows: Record<string, Row> = {
  'an empty body': { body: new Uint8Array(0), status: 400, id: 'err-carillon-snappy', text: 'snappy: corrupt input' },
  'a length without an end': {
    body: Uint8Array.of(255, 255),
    status: 400,
    id: 'err-carillon-snappy',
    text: 'snappy: corrupt input',
  },
  'a length of 5 bytes beyond 32 bits': {
    body: Uint8Array.of(255, 255, 255, 255, 127),
    status: 400,
    id: 'err-carillon-snappy',
    text: 'snappy: corrupt input',
  },
  'a declared 4 GB': {
    body: declares(4294967295),
    status: 400,
    id: 'err-carillon-snappy',
    text: 'snappy: decoded length 4294967295 exceeds limit 33554432',
  },
  'a declared byte more than the limit': {
    body: declares(33554433),
    status: 400,
    id: 'err-carillon-snappy',
    text: 'snappy: decoded length 33554433 exceeds limit 33554432',
  },
  'a body larger than the limit': {
    body: new Uint8Array(3 * 1024 * 1024),
    status: 413,
    id: 'err-carillon-body-too-large',
    text: 'received message larger than max (3145728 vs 2097152)',
  },
  'gzip encoding': {
    headers: { 'Content-Encoding': 'gzip' },
    status: 415,
    id: 'err-carillon-unsupported-media-type',
    text: 'send snappy',
  },
  'JSON content type': {
    type: 'application/json',
    status: 415,
    id: 'err-carillon-unsupported-media-type',
    text: 'proto=prometheus.WriteRequest or application/x-protobuf;proto=io.prometheus.write.v2.Request',
  },
  'an unknown proto': {
    type: 'application/x-protobuf;proto=io.prometheus.write.v3.Request',
    status: 415,
    id: 'err-carillon-unsupported-media-type',
    text: 'proto=prometheus.WriteRequest',
  },
  'a tenant .': tenant('.', "tenant ID is '.' or '..'"),
  'a tenant ..': tenant('..', "tenant ID is '.' or '..'"),
  'a tenant __markers__': tenant('__markers__', 'not allowed'),
  'a tenant user-index.json.gz': tenant('user-index.json.gz', 'not allowed'),
  'a tenant with a space': tenant('a b', 'contains unsupported character'),
  'a tenant with a slash': tenant('a/b', 'contains unsupported character'),
  'a tenant with >': tenant('a.>', 'contains unsupported character'),
  'a tenant beyond ASCII': tenant('t\u00e9am', 'contains unsupported character'),
  'a tenant of 151 characters': tenant('a'.repeat(151), 'tenant ID is too long: max 150 characters'),
  'a tenant of 1,000 characters': tenant('a'.repeat(1000), 'tenant ID is too long: max 150 characters'),
  'two tenants in one header': {
    headers: { 'X-Scope-OrgID': 'a|b' },
    status: 400,
    id: 'err-carillon-federation',
    text: 'one tenant',
  },
}

function tenant(id: string, text: string): Row {
  return { headers: { 'X-Scope-OrgID': id }, status: 400, id: 'err-carillon-tenant-id', text }
}

function send(row: Omit<Row, 'status' | 'id' | 'text'>, path = '/api/v1/push') {
  const headers: Record<string, string> = {
    'Content-Encoding': 'snappy',
    'Content-Type': row.type ?? 'application/x-protobuf',
  }
  return fetch(system.url + path, {
    method: 'POST',
    headers: { ...headers, ...row.headers },
    body: Buffer.from(row.body ?? body),
  })
}

describe('a push with', () => {
  test.each(Object.entries(pushRows))('%s is refused', async (_, row) => {
    const countBefore = system.pushes.length
    const answer = await send(row)
    expect({ status: answer.status, id: answer.headers.get('x-carillon-error-id') }).toEqual({
      status: row.status,
      id: row.id,
    })
    const text = await answer.text()
    expect(text).toContain(row.text)
    expect(text).toContain(`(${row.id})`)
    expect(answer.headers.get('content-type')).toContain('text/plain')
    for (const kind of ['Samples', 'Histograms', 'Exemplars']) {
      expect(answer.headers.get(`x-prometheus-remote-write-${kind}-written`)).toBe('0')
    }
    expect(system.pushes.length).toBe(countBefore)
  })

  test.each(['team.a', 'a*', "!()'", '-_x', 'a'.repeat(150)])(
    'the legal tenant %s is taken in as that tenant',
    async (id) => {
      const answer = await send({ headers: { 'X-Scope-OrgID': id } })
      expect(answer.status).toBe(204)
      expect(system.pushes.at(-1)?.tenant).toBe(id)
    },
  )

  test('the v2 content type, v1 or none travels with its protocol, whatever case and quotes', async () => {
    const typed: [string, number][] = [
      [v2Type, 2],
      ['Application/X-Protobuf; Proto="io.prometheus.write.v2.Request"', 2],
      ['application/x-protobuf;proto=prometheus.WriteRequest', 1],
      ['application/x-protobuf', 1],
      ['', 1],
    ]
    for (const [type, protocol] of typed) {
      expect((await send({ type })).status).toBe(204)
      expect(system.pushes.at(-1)?.protocol).toBe(protocol)
    }
  })
})

const post = (path: string, headers: readonly string[]) =>
  [`POST ${path} HTTP/1.1`, 'Host: localhost', 'Content-Encoding: snappy', ...headers, '', ''].join('\r\n')

interface RawRow {
  readonly parts: readonly (string | Uint8Array | number)[]
  readonly status: number
  readonly id: string
  readonly text?: string
}

const rawRows: Record<string, RawRow> = {
  'two X-Scope-OrgID headers': {
    parts: [post('/api/v1/push', ['X-Scope-OrgID: a', 'X-Scope-OrgID: b', 'Content-Length: 0', 'Connection: close'])],
    status: 400,
    id: 'err-carillon-tenant-id',
    text: 'more than once',
  },
  'the same X-Scope-OrgID twice': {
    parts: [post('/api/v1/push', ['X-Scope-OrgID: a', 'x-scope-orgid: a', 'Content-Length: 0', 'Connection: close'])],
    status: 400,
    id: 'err-carillon-tenant-id',
  },
  'a chunked body without end': {
    parts: [
      post('/api/v1/push', ['Transfer-Encoding: chunked']),
      ...Array.from({ length: 40 }, () => chunk(64 * 1024)),
    ],
    status: 413,
    id: 'err-carillon-body-too-large',
    text: 'received message larger than max (',
  },
  'slow headers': {
    parts: ['POST /api/v1/push HTTP/1.1\r\nHost: localhost\r\n', 1500, 'X-A: 1\r\n'],
    status: 408,
    id: 'err-carillon-request-timeout',
  },
  'a slow body': {
    parts: [post('/api/v1/push', ['Content-Length: 100']), 'a', 2500, 'b'],
    status: 408,
    id: 'err-carillon-request-timeout',
  },
  'a header of more than a megabyte': {
    parts: [post('/api/v1/push', [`X-Long: ${'a'.repeat(1_100_000)}`])],
    status: 431,
    id: 'err-carillon-headers-too-large',
  },
  'more headers than anybody reads, the tenant last': {
    parts: [
      post('/api/v1/push', [
        ...Array.from({ length: 2_100 }, (_, i) => `X-${i}: a`),
        ...['X-Scope-OrgID: last', 'Content-Length: 0', 'Connection: close'],
      ]),
    ],
    status: 431,
    id: 'err-carillon-headers-too-large',
  },
  'Content-Length and Transfer-Encoding': {
    parts: [post('/api/v1/push', ['Content-Length: 5', 'Transfer-Encoding: chunked']), '0\r\n\r\n'],
    status: 400,
    id: 'err-carillon-malformed-http',
  },
  'two different Content-Lengths': {
    parts: [post('/api/v1/push', ['Content-Length: 5', 'Content-Length: 6']), 'abcdef'],
    status: 400,
    id: 'err-carillon-malformed-http',
  },
  'a bad chunk': {
    parts: [post('/api/v1/push', ['Transfer-Encoding: chunked']), 'zz\r\nabc\r\n'],
    status: 400,
    id: 'err-carillon-malformed-http',
  },
  'a bare line feed': {
    parts: ['POST /api/v1/push HTTP/1.1\nHost: localhost\nX-A: b\n\n'],
    status: 400,
    id: 'err-carillon-malformed-http',
  },
  'a control character in a header': {
    parts: [post('/api/v1/push', ['X-Scope-OrgID: a\u0001b', 'Content-Length: 0'])],
    status: 400,
    id: 'err-carillon-malformed-http',
  },
  'no Host': {
    parts: ['GET /-/healthy HTTP/1.1\r\nConnection: close\r\n\r\n'],
    status: 400,
    id: 'err-carillon-malformed-http',
    text: 'Host is missing',
  },
  'a version of HTTP that is spoken otherwise': {
    parts: ['GET /-/healthy HTTP/2.0\r\nHost: localhost\r\nConnection: close\r\n\r\n'],
    status: 400,
    id: 'err-carillon-malformed-http',
  },
  'an expectation that nobody meets': {
    parts: ['GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nExpect: wonders\r\nConnection: close\r\n\r\n'],
    status: 417,
    id: 'err-carillon-expectation',
  },
  'an expectation and a body': {
    parts: [post('/api/v1/push', ['Content-Length: 5', 'Expect: 200-ok', 'Connection: close']), 'abcde'],
    status: 417,
    id: 'err-carillon-expectation',
  },
  'the wish for a tunnel': {
    parts: ['CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n'],
    status: 405,
    id: 'err-carillon-method',
  },
  'TLS spoken to a plain door': {
    parts: [Uint8Array.of(0x16, 0x03, 0x01, 0x02, 0x00, 0x01)],
    status: 400,
    id: 'err-carillon-malformed-http',
  },
  'a path with dots': {
    parts: ['GET /api/../-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'],
    status: 404,
    id: 'err-carillon-not-found',
  },
  'a path with escaped letters': {
    parts: ['GET /%2d/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'],
    status: 404,
    id: 'err-carillon-not-found',
  },
  'the wrong method': {
    parts: ['GET /api/v1/push HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'],
    status: 405,
    id: 'err-carillon-method',
  },
  'an announced body that is too large': {
    parts: [post('/api/v1/push', ['Content-Length: 9000000', 'Expect: 100-continue'])],
    status: 413,
    id: 'err-carillon-body-too-large',
    text: 'received message larger than max (9000000 vs 2097152)',
  },
  'half an escape in a label name': {
    parts: ['GET /api/v1/label/a%2/values HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'],
    status: 404,
    id: 'err-carillon-not-found',
  },
}

function chunk(size: number): string {
  return `${size.toString(16)}\r\n${'x'.repeat(size)}\r\n`
}

describe('a connection that sends', () => {
  test.each(Object.entries(rawRows))('%s is answered and closed', async (_, { parts, status, id, text = '' }) => {
    const countBefore = system.pushes.length
    const answer = await rawExchange(system.port, parts, 4000)
    expect(answer.split('\r\n')[0]).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
    expect(answer).toContain(`X-Carillon-Error-Id: ${id}`)
    expect(answer).toContain(text)
    expect(answer.match(/HTTP\/1\.1 /g)).toHaveLength(1)
    expect(system.pushes.length).toBe(countBefore)
    expect((await fetch(`${system.url}/-/healthy`)).status).toBe(200) // others do not notice
  })
})

describe('junk', () => {
  test('on the door, whatever it is, is answered by the rules of HTTP or cut, and nobody else notices', async () => {
    const word = fc.constantFrom(
      'POST ',
      'GET ',
      '/api/v1/push ',
      'HTTP/1.1',
      '\r\n',
      'Host: localhost\r\n',
      'Content-Length: 5\r\n',
      ':',
      '\u0000',
      '0\r\n',
    )
    const part = fc.oneof(word, fc.uint8Array({ maxLength: 64 }))
    await fc.assert(
      fc.asyncProperty(fc.array(part, { minLength: 1, maxLength: 12 }), async (parts) => {
        const answer = await rawExchange(system.port, [...parts, '\r\n\r\n\r\n'], 150)
        expect(answer === '' || /^HTTP\/1\.1 [24]\d\d /.test(answer)).toBe(true)
        expect((await fetch(`${system.url}/-/healthy`)).status).toBe(200)
      }),
      { numRuns: 40 },
    )
  })

  test('behind a slow request gets no answer in its place', async () => {
    const slow = post('/api/v1/query', ['Content-Type: application/x-www-form-urlencoded', 'Content-Length: 10'])
    const answer = await rawExchange(
      system.port,
      [slow, 'query=slow', 'GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n', 'garbage\r\n\r\n'],
      1000,
    )
    expect(answer).not.toContain('400 Bad Request')
  })
})

test('requests sent ahead are answered in their order, however slow the first', async () => {
  const slow = 'GET /api/v1/query?query=slow HTTP/1.1\r\nHost: localhost\r\n\r\n'
  const quick = 'GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n'
  const last = 'GET /api/v1/query?query=slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
  const answer = await rawExchange(system.port, [slow + quick + last])
  expect(answer.match(/HTTP\/1.1 200|Healthy|success/g)).toEqual([
    ...['HTTP/1.1 200', 'success'],
    ...['HTTP/1.1 200', 'Healthy'],
    ...['HTTP/1.1 200', 'success'],
  ])
})

describe('a query with', () => {
  const form = (text: string) =>
    fetch(`${system.url}/api/v1/query`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
      body: text,
    })

  test('a form beyond the limit is 413, in Prometheus\u2019 shape', async () => {
    const answer = await form(`query=${'a'.repeat(50_000)}`)
    expect(answer.status).toBe(413)
    expect(await answer.json()).toEqual({
      status: 'error',
      errorType: 'bad_data',
      error: 'received message larger than max (50006 vs 40000)',
    })
  })

  test('more parameters than any query has is 400', async () => {
    const answer = await form('&'.repeat(20_001))
    expect(answer.status).toBe(400)
    expect(answer.headers.get('x-carillon-error-id')).toBe('err-carillon-too-many-parameters')
    expect((await form('&'.repeat(19_999))).status).toBe(200)
  })

  test('a tenant of several names is 400: federation is not enabled', async () => {
    const answer = await fetch(`${system.url}/api/v1/query?query=up`, { headers: { 'X-Scope-OrgID': 'a|b' } })
    expect(answer.status).toBe(400)
    expect(await answer.json()).toMatchObject({ status: 'error', errorType: 'bad_data' })
    expect(answer.headers.get('x-carillon-error-id')).toBe('err-carillon-federation')
  })

  test('an unknown path is 404', async () => {
    for (const path of ['/api/v1/nothing', '/no', '/api/v1/query/', '/prometheus/api/v1', '/api/v1/label/values']) {
      expect((await fetch(system.url + path)).status).toBe(404)
    }
  })
})
