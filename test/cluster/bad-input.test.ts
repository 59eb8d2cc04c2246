// What a sender may get wrong, from the door to the log and back: a status, a stable id, a text; the rest of the body is stored, and
// nobody else notices. What the door alone refuses stands in test/services/gateway/bad-input.test.ts.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Histogram } from '../../shared/model/histogram.ts'
import {
  encodeWriteV1,
  encodeWriteV2,
  type PlainSeries,
  type PlainWrite,
} from '../../shared/wire/remote-write-encode.ts'
import { compress } from '../../shared/wire/snappy.ts'
import { Writer } from '../../shared/wire/varint.ts'
import { eventually, WAIT_MS } from '../waiting.ts'
import { ask, type Pushed, pushBody, pushUntilTaken, pushWrite, sample, valuesOf } from './client.ts'
import { findNatsServer } from './nats-server.ts'
import { type System, startSystem } from './system.ts'

const found = findNatsServer()
if ('reason' in found) console.warn(`skipped: bad input, end to end: ${found.reason}`)

const now = Date.now()
const many = (count: number) => Array.from({ length: count }, (_, i) => [`l${String(i).padStart(5, '0')}`, 'v']).flat()

function histogramOf(buckets: readonly number[]): Histogram {
  return {
    isFloat: false,
    resetHint: 'unknown',
    schema: 0,
    zeroThreshold: 0,
    zeroCount: 0,
    count: buckets.reduce((sum, each) => sum + each, 0),
    sum: 1,
    positiveSpans: [{ offset: 0, length: buckets.length }],
    positiveBuckets: buckets,
    negativeSpans: [],
    negativeBuckets: [],
    customValues: [],
  }
}

const native = (buckets: readonly number[], count?: number): PlainSeries => {
  const histogram = histogramOf(buckets)
  const labels = ['__name__', 'bad_histogram']
  return { labels, histograms: [{ time: now, histogram: count === undefined ? histogram : { ...histogram, count } }] }
}

/** One label whose bytes are as given, however wrong. */
function rawLabel(name: Uint8Array, value: Uint8Array): Uint8Array {
  const message = (field: number, bytes: Uint8Array) => {
    const out = new Writer()
    out.uvarint(field * 8 + 2)
    out.uvarint(bytes.length)
    out.bytes(bytes)
    return out.finish()
  }
  const pair = (a: string | Uint8Array, b: string | Uint8Array) =>
    message(1, Buffer.concat([message(1, Buffer.from(a)), message(2, Buffer.from(b))]))
  const one = Buffer.concat([
    pair('__name__', 'bad_utf8'),
    pair(name, value),
    message(2, Buffer.of(9, 0, 0, 0, 0, 0, 0, 240, 63)),
  ])
  return message(1, one)
}

interface Row {
  /** Written together with a good series. */
  readonly series?: readonly PlainSeries[]
  readonly protocol?: 1 | 2
  /** Instead of `series`: the body before compression. */
  readonly body?: (good: PlainWrite) => Uint8Array
  readonly id: string
  readonly text: string
  /** The body as a whole is refused. */
  readonly isWhole?: boolean
}

const bad = (...labels: string[]): readonly PlainSeries[] => [{ labels, samples: [{ time: now, value: 1 }] }]

const rows: Readonly<Record<string, Row>> = {
  'no labels': { series: bad(), id: 'missing-metric-name', text: 'sample missing metric name' },
  'no name': { series: bad('job', 'x'), id: 'missing-metric-name', text: 'sample missing metric name' },
  'an empty name': { series: bad('__name__', ''), id: 'missing-metric-name', text: 'sample missing metric name' },
  'an empty label name': {
    series: bad('', 'x', '__name__', 'bad'),
    id: 'label-invalid',
    text: 'sample invalid label: "" metric "bad"',
  },
  'a label twice': {
    series: bad('__name__', 'bad', 'a', '1', 'a', '2'),
    id: 'duplicate-label-name',
    text: 'duplicate label name: "a" metric: "bad"',
  },
  'a label twice, apart': {
    series: bad('b', '1', '__name__', 'bad', 'a', '1', 'b', '2'),
    id: 'duplicate-label-name',
    text: 'duplicate label name: "b" metric: "bad"',
  },
  '31 labels': {
    series: bad('__name__', 'bad', ...many(30)),
    id: 'max-label-names-per-series',
    text: 'series has too many labels (actual: 31, limit: 30)',
  },
  '10,000 labels': {
    series: bad('__name__', 'bad', ...many(9_999)),
    id: 'max-label-names-per-series',
    text: 'series has too many labels (actual: 10000, limit: 30)',
  },
  'a label name of 1025 bytes': {
    series: bad('__name__', 'bad', 'n'.repeat(1025), 'v'),
    id: 'label-name-too-long',
    text: 'label name too long for metric (actual: 1025, limit: 1024) metric: "bad"',
  },
  'a label value of 1 MB': {
    series: bad('__name__', 'bad', 'n', 'v'.repeat(1_000_000)),
    id: 'label-value-too-long',
    text: 'label value too long for metric (actual: 1000000, limit: 2048) metric: "bad"',
  },
  'a sample 11 minutes ahead': {
    series: [{ labels: ['__name__', 'bad'], samples: [{ time: now + 11 * 60_000, value: 1 }] }],
    id: 'too-far-in-future',
    text: 'timestamp too new: ',
  },
  'invalid UTF-8 in a value': {
    body: (good) => Buffer.concat([rawLabel(Buffer.from('a'), Buffer.of(0xff, 0xfe)), encodeWriteV1(good)]),
    id: 'label-invalid-utf8',
    text: 'UTF-8',
  },
  'invalid UTF-8 in a name': {
    body: (good) => Buffer.concat([rawLabel(Buffer.of(0xc3), Buffer.from('a')), encodeWriteV1(good)]),
    id: 'label-invalid-utf8',
    text: 'UTF-8',
  },
  'a histogram larger than the limit': {
    series: [native(Array.from({ length: 20_000 }, () => 1_000))],
    id: 'histogram-too-large',
    text: 'native histogram too large (actual: ',
  },
  'a histogram whose counts do not add up': {
    series: [native([1, 2, 3], 1)],
    id: 'histogram-invalid',
    text: 'histogram',
  },
  'v2: a series without samples': {
    protocol: 2,
    series: [{ labels: ['__name__', 'bad'] }],
    id: 'series-without-samples',
    text: 'TimeSeries must contain at least one sample or histogram for series bad',
  },
  'v2: a reference to no symbol': {
    protocol: 2,
    body: (good) => Buffer.concat([encodeWriteV2(good), Buffer.from('2a0f0a02017f120909000000000000f03f', 'hex')]),
    id: 'symbol-reference',
    text: 'labels_refs 1 (name) = 127 (value) outside of symbols table',
  },
  'truncated protobuf': {
    body: (good) => encodeWriteV1(good).subarray(0, -3),
    id: 'protobuf',
    text: 'unexpected EOF',
    isWhole: true,
  },
  'truncated protobuf, v2': {
    protocol: 2,
    body: (good) => encodeWriteV2(good).subarray(0, -3),
    id: 'protobuf',
    text: 'unexpected EOF',
    isWhole: true,
  },
  'v1 body as v2': { protocol: 2, body: encodeWriteV1, id: 'protobuf', text: '', isWhole: true },
  'v2 symbols that do not begin with the empty one': {
    protocol: 2,
    body: () => Buffer.from('22016122016222016a2a060a02010228 00'.replace(' ', ''), 'hex'),
    id: 'protobuf',
    text: 'symbol',
    isWhole: true,
  },
  'no protobuf at all': { body: () => Buffer.alloc(500, 0xff), id: 'protobuf', text: '', isWhole: true },
}

const idOf = ({ headers }: Pushed) => headers.get('X-Carillon-Error-Id')
const writtenOf = ({ headers }: Pushed) =>
  ['Samples', 'Histograms', 'Exemplars'].map((kind) => Number(headers.get(`X-Prometheus-Remote-Write-${kind}-Written`)))

describe.skipIf('reason' in found && process.env['CARILLON_CI'] !== '1')('bad input', () => {
  let system: System
  beforeAll(async () => {
    const args = ['--series-per-tenant-max', '300', '--counted', '200ms', '--body-bytes-max', '2MiB']
    system = await startSystem({ args: [...args, '--samples-per-second-max', '200', '--samples-burst-max', '1000'] })
    await pushUntilTaken(system.url, { series: [sample('before', 1)] }, { tenant: 'neighbour' })
  })
  afterAll(() => system?.stop())

  test.each(Object.entries(rows))(
    '%s is refused by its id, and its neighbour in the body is stored',
    async (name, row) => {
      const good = sample('good', 1, ['row', name], now)
      const write = { series: [...(row.series ?? []), good] }
      const encode = row.protocol === 2 ? encodeWriteV2 : encodeWriteV1
      const body = row.body ? row.body({ series: [good] }) : encode(write)
      const options = { tenant: `row-${Object.keys(rows).indexOf(name)}`, protocol: row.protocol ?? 1 }
      const pushed = await pushBody(system.url, compress(body), options)
      expect({ status: pushed.status, id: idOf(pushed) }).toEqual({ status: 400, id: `err-carillon-${row.id}` })
      expect(pushed.text).toContain(row.text)
      expect(pushed.text).toContain(`(err-carillon-${row.id})`)
      expect(pushed.text.length).toBeLessThan(1_500)
      expect(writtenOf(pushed)).toEqual([row.isWhole ? 0 : 1, 0, 0])
      expect(await valuesOf(system.url, '{__name__=~".+"}', options)).toEqual(row.isWhole ? [] : ['1'])
    },
  )

  test('every kind of v2 is counted in the headers', async () => {
    const series: PlainSeries[] = [
      { ...sample('kinds', 1), exemplars: [{ labels: ['trace_id', 'x'], time: now, value: 1 }] },
      { ...native([1, 2]), labels: ['__name__', 'kinds_native'] },
    ]
    const metadata = { type: 'counter', help: 'Kinds.', unit: '' } as const
    const write = { series: series.map((each) => ({ ...each, metadata })) }
    const pushed = await pushWrite(system.url, write, { protocol: 2, tenant: 'kinds' })
    expect({ status: pushed.status, text: pushed.text }).toEqual({ status: 204, text: '' })
    expect(writtenOf(pushed)).toEqual([1, 1, 1])
    const { body } = await ask(system.url, '/api/v1/metadata', {}, { tenant: 'kinds', consistency: 'strong' })
    expect(body.data).toMatchObject({ kinds: [{ type: 'counter', help: 'Kinds.', unit: '' }] })
    const exemplars = await ask(system.url, '/api/v1/query_exemplars', { query: 'kinds' }, { tenant: 'kinds' })
    expect(exemplars.body.data[0].exemplars).toHaveLength(1)
  })

  test('equal times, late and old samples are taken in; the greater of two stays', async () => {
    const at = (time: number, value: number) => ({ labels: ['__name__', 'late'], samples: [{ time, value }] })
    const tenant = 'late'
    const hour = 3_600_000
    for (const one of [at(now, 1), at(now, 1), at(now, 3), at(now, 2), at(now - 1, 5), at(now - 5 * hour, 7)]) {
      expect((await pushWrite(system.url, { series: [one] }, { tenant })).status).toBe(204)
    }
    const asked = { query: 'late[6h]', time: String(now / 1000) }
    const { body } = await ask(system.url, '/api/v1/query', asked, { tenant, consistency: 'strong' })
    expect(body.data.result[0].values.map(([, value]: [number, string]) => value)).toEqual(['7', '5', '3'])
  })

  test('a body beyond --body-bytes-max is 413', async () => {
    const pushed = await pushBody(system.url, Buffer.alloc(2 * 1024 * 1024 + 1))
    expect({ status: pushed.status, id: idOf(pushed) }).toEqual({ status: 413, id: 'err-carillon-body-too-large' })
    expect(pushed.text).toContain('received message larger than max (2097153 vs 2097152)')
  })

  test('beyond samples per second and burst: 429 with Retry-After; others are not touched', async () => {
    const samples = Array.from({ length: 600 }, (_, i) => ({ time: now - i, value: i }))
    const write = { series: [{ labels: ['__name__', 'fast'], samples }] }
    const first = await pushWrite(system.url, write, { tenant: 'fast' })
    const second = await pushWrite(system.url, write, { tenant: 'fast' })
    expect(first.status).toBe(204)
    expect({ status: second.status, id: idOf(second) }).toEqual({ status: 429, id: 'err-carillon-rate-limited' })
    expect(second.text).toContain('ingestion rate limit (200) exceeded while adding 600 samples')
    expect(Number(second.headers.get('Retry-After'))).toBeGreaterThanOrEqual(1)
    expect(writtenOf(second)).toEqual([0, 0, 0])
    const other = await pushWrite(system.url, write, { tenant: 'slow' })
    expect(other.status).toBe(204)
    await eventually('room for the tenant', WAIT_MS, async () =>
      (await pushWrite(system.url, { series: [sample('fast', 1)] }, { tenant: 'fast' })).status === 204
        ? true
        : undefined,
    )
  })

  test('beyond series per tenant: 400 for the new ones, the known and other tenants go on', async () => {
    const series = (from: number, count: number) =>
      Array.from({ length: count }, (_, i) => sample('limited', 1, ['at', String(from + i)]))
    const tenant = 'limited'
    expect((await pushWrite(system.url, { series: series(0, 290) }, { tenant })).status).toBe(204)
    let from = 1_000
    const refused = await eventually('the owners have told', WAIT_MS, async () => {
      from += 11
      const pushed = await pushWrite(system.url, { series: [...series(0, 2), ...series(from, 11)] }, { tenant })
      return pushed.status === 400 ? pushed : undefined
    })
    expect(idOf(refused)).toBe('err-carillon-max-series-per-tenant')
    expect(refused.text).toContain('per-user series limit of 300 exceeded')
    expect(writtenOf(refused)[0]).toBeGreaterThanOrEqual(2)
    expect((await pushWrite(system.url, { series: series(0, 5) }, { tenant })).status).toBe(204)
    expect((await pushWrite(system.url, { series: series(0, 5) }, { tenant: 'roomy' })).status).toBe(204)
  })

  test('tenants whose names NATS would read otherwise, and tenants that share series, stay apart', async () => {
    const tenants = ['team.a', 'team', 'team.b', 'a*', 'a', '*', "!()'", 'team_2Ea', 'TEAM.A', 'neighbour']
    for (const [at, tenant] of tenants.entries()) {
      const pushed = await pushWrite(
        system.url,
        { series: [sample('shared', at, ['same', 'labels'], now)] },
        { tenant },
      )
      expect(pushed.status).toBe(204)
    }
    for (const [at, tenant] of tenants.entries()) {
      expect(await valuesOf(system.url, 'shared', { tenant })).toEqual([String(at)])
      const names = await ask(system.url, '/api/v1/label/__name__/values', {}, { tenant })
      expect(names.body.data).toEqual(tenant === 'neighbour' ? ['before', 'shared'] : ['shared'])
    }
    expect(await valuesOf(system.url, 'shared', { tenant: 'nobody' })).toEqual([])
    expect(await valuesOf(system.url, 'shared')).toEqual([])
  })

  const span = { start: String(now / 1000 - 60), end: String(now / 1000) }
  test.each([
    ['/api/v1/query', { query: '' }, 400, 'bad_data', 'parse error'],
    ['/api/v1/query', { query: 'sum(' }, 400, 'bad_data', '1:5: parse error'],
    ['/api/v1/query', { query: '{a=~".*"}' }, 400, 'bad_data', 'at least one non-empty matcher'],
    ['/api/v1/query', { query: 'up{a=~"("}' }, 400, 'bad_data', 'missing closing )'],
    ['/api/v1/query', { query: `up{a=~"(${'a'.repeat(20)}{1001})"}` }, 400, 'bad_data', 'invalid repeat count'],
    ['/api/v1/query', { query: '1 + "a"' }, 400, 'bad_data', 'binary expression must contain only scalar'],
    [
      '/api/v1/query_range',
      { query: 'up', ...span, step: '0' },
      400,
      'bad_data',
      'zero or negative query resolution step',
    ],
    ['/api/v1/query_range', { query: 'up', ...span, step: '0.001' }, 400, 'bad_data', '11,000 points'],
    [
      '/api/v1/query_range',
      { query: 'up', start: '2', end: '1', step: '1' },
      400,
      'bad_data',
      'end timestamp must not be before',
    ],
    ['/api/v1/series', {}, 400, 'bad_data', 'no match[] parameter provided'],
  ])('%s %o is %i', async (path, parameters, status, errorType, text) => {
    const { body, ...answer } = await ask(system.url, path, parameters as never)
    expect({ status: answer.status, type: body.errorType }).toEqual({ status, type: errorType })
    expect(body.error).toContain(text)
  })

  test('20,000 nested parentheses end nobody', async () => {
    const query = `${'('.repeat(20_000)}1${')'.repeat(20_000)}`
    const { status } = await ask(system.url, '/api/v1/query', { query }, { method: 'POST' })
    expect([200, 400]).toContain(status)
    expect(await valuesOf(system.url, 'before', { tenant: 'neighbour' })).toEqual(['1'])
  })

  test('what was refused is counted by reason', async () => {
    const page = await (await fetch(`${system.url}/metrics`)).text()
    for (const reason of ['missing_metric_name', 'duplicate_label_names', 'too_far_in_future', 'rate_limited']) {
      expect(page).toMatch(new RegExp(`^carillon_discarded_samples_total\\{[^}]*reason="${reason}"[^}]*\\} [1-9]`, 'm'))
    }
  })
})
