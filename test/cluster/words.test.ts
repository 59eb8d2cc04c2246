// Words that every object of JavaScript has, as names and values of labels, metrics, tenants, clusters and replicas: they are words like others.
import { Decoder, Encoder } from 'cbor-x'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { compress, createDecompressor } from '../../shared/wire/snappy.ts'
import { eventually, WAIT_MS } from '../waiting.ts'
import { ask, type Parameters, pushUntilTaken } from './client.ts'
import { twoOwners } from './fault-ground.ts'
import { connectPlain } from './nats-plain.ts'
import { findNatsServer } from './nats-server.ts'
import { readRequest } from './read-request.ts'
import { type System, startSystem } from './system.ts'

const found = findNatsServer()
if ('reason' in found) console.warn(`skipped: words: ${found.reason}`)

const WORDS = ['__proto__', 'constructor', 'hasOwnProperty', 'length', 'toString', 'valueOf']
const TENANTS = ['__proto__', 'constructor', 'toString']
const options = { tenant: '__proto__' }

describe.skipIf('reason' in found && process.env['CARILLON_CI'] !== '1')('words that every object has', () => {
  let system: System
  const now = Date.now()
  const time = String(now / 1000)
  const window = { start: String(now / 1000 - 60), end: String(now / 1000 + 60) }

  beforeAll(async () => {
    system = await startSystem({
      args: ['--segment=2s', '--segment-min=1s', '--drop-after=1s', '--flush=200ms', ...twoOwners],
    })
    const labels = WORDS.flatMap((word) => [word, word])
    const series = [
      { labels: [...labels, '__name__', 'word'], samples: [{ time: now, value: 1 }] },
      ...WORDS.map((word, i) => ({
        labels: ['__name__', word, '__proto__', `of ${word}`],
        samples: [{ time: now, value: i }],
        exemplars: [{ labels: [word, word], time: now, value: i }],
        metadata: { type: 'gauge', help: `Of ${word}.`, unit: '' } as const,
      })),
    ]
    for (const protocol of [1, 2] as const)
      expect((await pushUntilTaken(system.url, { series }, { ...options, protocol })).status).toBe(204)
  })
  afterAll(() => system?.stop())

  async function answer(path: string, parameters: Parameters, tenant = options.tenant) {
    const { status, body } = await ask(system.url, path, parameters, { tenant, consistency: 'strong' })
    expect(body).toMatchObject({ status: 'success' })
    expect(status).toBe(200)
    return body.data
  }
  const query = async (text: string, tenant?: string) => {
    const { result } = await answer('/api/v1/query', { query: text, time }, tenant)
    return result.map(({ metric, value }: { metric: object; value: [number, string] }) => [
      Object.entries(metric).sort(),
      value[1],
    ])
  }
  const all = [...WORDS.map((word) => [word, word]), ['__name__', 'word']].sort()

  describe.each([
    ['in memory', false],
    ['in blocks', true],
  ])('%s', (_, isFlushed) => {
    beforeAll(async () => {
      if (!isFlushed) return
      const flushed = await fetch(`${system.url}/api/v1/admin/flush?wait=20s`, { method: 'POST' })
      expect(await flushed.json()).toMatchObject({ data: { isDone: true } })
    })

    test('queries, aggregations and joins', async () => {
      expect(await query('{__proto__="__proto__", constructor=~"con.*", toString!="x"}')).toEqual([[all, '1']])
      expect(await query('sum by (__proto__, constructor) (word)')).toEqual([
        [all.filter(([name]) => name === '__proto__' || name === 'constructor'), '1'],
      ])
      expect(await query('sum without (__proto__) (word)')).toEqual([
        [all.filter(([name]) => name !== '__proto__' && name !== '__name__'), '1'],
      ])
      expect(await query('count_values("__proto__", length)')).toEqual([[[['__proto__', '3']], '1']])
      expect(await query('count by (__proto__) ({__name__=~".+"})')).toHaveLength(1 + WORDS.length)
      expect(await query('label_replace(valueOf, "constructor", "$1", "__proto__", "of (.*)")')).toEqual([
        [
          [
            ['__name__', 'valueOf'],
            ['__proto__', 'of valueOf'],
            ['constructor', 'valueOf'],
          ],
          '5',
        ],
      ])
      expect(await query('word * on (__proto__) group_left (hasOwnProperty) word')).toHaveLength(1)
      expect(await query('topk by (__proto__) (1, {__name__=~".+"})')).toHaveLength(1 + WORDS.length)
      for (const [i, word] of WORDS.entries())
        expect(await query(word)).toEqual([
          [
            [
              ['__name__', word],
              ['__proto__', `of ${word}`],
            ],
            String(i),
          ],
        ])
    })

    test('a range in parts', async () => {
      const { result } = await answer('/api/v1/query_range', {
        ...{ query: 'word', start: String(now / 1000 - 3 * 86_400), end: time, step: '86400' },
      })
      expect(Object.entries(result[0].metric).sort()).toEqual(all)
    })

    test('series, names, values, cardinality, metadata and exemplars', async () => {
      const [one] = await answer('/api/v1/series', { 'match[]': 'word', ...window })
      expect(Object.entries(one).sort()).toEqual(all)
      expect(await answer('/api/v1/labels', window)).toEqual(['__name__', ...WORDS].sort())
      const values = await answer('/api/v1/label/__proto__/values', window)
      expect(values).toEqual(['__proto__', ...WORDS.map((word) => `of ${word}`)].sort())
      expect(await answer('/api/v1/label/constructor/values', { ...window, 'match[]': 'word' })).toEqual([
        'constructor',
      ])
      const { body } = await ask(
        system.url,
        '/api/v1/cardinality/label_values',
        { 'label_names[]': ['__proto__', 'toString'] },
        options,
      )
      const counts = body.labels.map((row: { label_name: string; label_values_count: number }) => [
        row.label_name,
        row.label_values_count,
      ])
      expect(counts.sort()).toEqual([
        ['__proto__', 7],
        ['toString', 1],
      ])
      const told = await answer('/api/v1/metadata', {})
      expect(Object.keys(told).sort()).toEqual([...WORDS].sort())
      const exemplars = await answer('/api/v1/query_exemplars', { query: '__proto__', ...window })
      expect(
        exemplars.map((each: { exemplars: { labels: object }[] }) => Object.entries(each.exemplars[0]!.labels)),
      ).toEqual([[['__proto__', '__proto__']]])
    })

    test('federation, remote read, and CBOR over NATS', async () => {
      const headers = { 'X-Scope-OrgID': options.tenant, 'X-Read-Consistency': 'strong' }
      const page = await fetch(`${system.url}/federate?match[]=word`, { headers })
      const line = (await page.text()).split('\n').find((each) => each.startsWith('word{'))
      for (const word of WORDS) expect(line).toContain(`${word}="${word}"`)
      const matchers = [{ name: '__proto__', operator: '=', value: '__proto__' } as const]
      const read = readRequest([{ matchers, startMs: now - 60_000, endMs: now + 60_000 }], [0])
      const samples = await fetch(`${system.url}/api/v1/read`, {
        method: 'POST',
        headers,
        body: Buffer.from(compress(read)),
      })
      const body = Buffer.from(
        createDecompressor().decompress(new Uint8Array(await samples.arrayBuffer()), 1_000_000),
      ).toString('latin1')
      for (const word of WORDS) expect(body.split(word).length).toBeGreaterThan(2)
      const nats = await connectPlain(system.ready)
      try {
        const asked = new Encoder({ useRecords: false }).encode({ query: 'word', time })
        const { bytes } = await nats.request('cln.query._5F_5Fproto_5F_5F.instant', asked, {
          'Content-Type': 'application/cbor',
        })
        const reply = new Decoder({ useRecords: false, mapsAsObjects: false }).decode(bytes)
        const metric: Map<string, string> = reply.get('data').get('result')[0].get('metric')
        expect([...metric].sort()).toEqual(all)
      } finally {
        await nats.close()
      }
    })
  })

  test('tenants that are called so have their own samples and limits', async () => {
    for (const tenant of TENANTS) {
      const samples = [{ time: now, value: 1 }]
      const series = ['whose', 'more'].map((name) => ({ labels: ['__name__', name, 'tenant', tenant], samples }))
      expect((await pushUntilTaken(system.url, { series }, { tenant })).status).toBe(204)
    }
    for (const tenant of TENANTS)
      expect(await query('whose', tenant)).toEqual([
        [
          [
            ['__name__', 'whose'],
            ['tenant', tenant],
          ],
          '1',
        ],
      ])
    const limit = (tenant: string, method: string, more = '') =>
      fetch(`${system.url}/api/v1/admin/limits?tenant=${tenant}${more}`, { method })
    expect((await limit('constructor', 'POST', '&query_series_max=1')).status).toBe(200)
    expect(await (await limit('constructor', 'GET')).text()).toContain('query_series_max')
    expect((await limit('__proto__', 'POST', '&__proto__=2')).status).toBe(400)
    expect((await limit('__proto__', 'POST', '&toString=2')).status).toBe(400)
    const selects = (tenant: string) =>
      ask(system.url, '/api/v1/query', { query: 'count({__name__=~".+"})', time }, { tenant })
    await eventually('the limit holds', WAIT_MS, async () => (await selects('constructor')).status === 422 || undefined)
    expect((await selects('__proto__')).status).toBe(200)
  })

  test('of a pair that is called so one is elected', async () => {
    const push = (replica: string, value: number) =>
      pushUntilTaken(
        system.url,
        {
          series: [
            {
              labels: ['__name__', 'paired', 'cluster', '__proto__', '__replica__', replica],
              samples: [{ time: now, value }],
            },
          ],
        },
        { tenant: 'toString' },
      )
    expect((await push('constructor', 1)).status).toBe(204)
    expect((await push('__proto__', 2)).status).toBe(202)
    expect(await query('paired', 'toString')).toEqual([
      [
        [
          ['__name__', 'paired'],
          ['cluster', '__proto__'],
        ],
        '1',
      ],
    ])
  })

  test('they can be deleted, and nothing else is', async () => {
    const admin = (path: string) =>
      fetch(`${system.url}/api/v1/admin/${path}`, { method: 'POST', headers: { 'X-Scope-OrgID': options.tenant } })
    const selector = encodeURIComponent('{__proto__="__proto__",constructor="constructor"}')
    expect((await admin(`tsdb/delete_series?tenant=__proto__&match[]=${selector}`)).status).toBe(204)
    expect(await query('word')).toEqual([])
    expect(await query('__proto__')).toHaveLength(1)
    expect((await admin('tenant/delete?tenant=constructor')).status).toBe(204)
    expect(await query('whose', 'constructor')).toEqual([])
    expect(await query('whose', 'toString')).toHaveLength(1)
  })
})
