import { afterEach, describe, expect, it, vi } from 'vitest'
import type { QuerierConfig } from '../../../services/querier/config.ts'
import type { UnavailableCode } from '../../../shared/base/error-codes.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import { logConfig } from '../../../shared/contracts/log.ts'
import type { QueryKind, QueryParams } from '../../../shared/contracts/query.ts'
import type { Membership } from '../../../shared/membership/membership.ts'
import { WAIT } from '../../waiting.ts'
import { type Harness, startQuerier } from './harness.ts'
import {
  fixedMembership,
  memoryHub,
  type StubData,
  type StubIngester,
  type StubOptions,
  type StubSeries,
  stubIngester,
} from './stub-ingester.ts'

const NOW = 1_700_000_000
const at = { time: String(NOW) }

/** A sample half a minute before NOW. */
function up(job: string, value: number): StubSeries {
  return { labels: { __name__: 'up', job }, chunks: [[[(NOW - 30) * 1000, value]]] }
}

const ending: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end()
})

interface System {
  readonly hub: ReturnType<typeof memoryHub>
  readonly querier: Harness
  readonly ingesters: readonly StubIngester[]
}

async function system(
  owners: readonly (readonly string[])[],
  ingesters: readonly (Omit<StubOptions, 'hub' | 'data'> & { data?: StubData })[],
  changes: Partial<QuerierConfig> = {},
): Promise<System> {
  const hub = memoryHub()
  const running: StubIngester[] = []
  for (const options of ingesters) running.push(await stubIngester({ hub, data: { 0: [], 1: [] }, ...options }))
  const querier = await startQuerier(hub, fixedMembership(owners), { hedgeAfterMs: 5_000, ...changes })
  ending.push(() => querier.stop(), ...running.map((each) => () => each.stop()))
  return { hub, querier, ingesters: running }
}

const never = () => new Promise<void>(() => {})
const fails = (code: UnavailableCode) => () => {
  throw new UnavailableError(code, 'not now')
}

describe('reading from owners', () => {
  it('LOG-19: all partitions are asked and their series united', async () => {
    const { querier } = await system(
      [['a'], ['b'], ['a']],
      [
        { id: 'a', data: { 0: [up('x', 1), up('y', 2), up('z', 3)], 2: [up('ü', 5)] } },
        { id: 'b', data: { 1: [up('w', 4)] } },
      ],
    )
    expect(await querier.instant({ query: 'up', ...at })).toEqual({
      'up/x': '1',
      'up/y': '2',
      'up/z': '3',
      'up/w': '4',
      'up/ü': '5',
    })
    expect(await querier.instant({ query: 'sum(up)', ...at })).toEqual({ '': '15' })
  })

  it('LOG-11: a series in two partitions is one series, and of two values of one time the greater stays', async () => {
    const labels = { __name__: 'up', job: 'x' }
    const second = (n: number, value: number) => [(NOW - n) * 1000, value] as const
    const { querier } = await system(
      [['a'], ['a']],
      [
        {
          id: 'a',
          data: {
            0: [
              {
                labels,
                chunks: [
                  [second(40, 1), second(30, 2)],
                  [second(35, 9), second(30, 7)],
                ],
              },
            ],
            1: [{ labels, chunks: [[second(30, 5), second(20, 6)]] }],
          },
        },
      ],
    )
    const body = await querier.ask('instant', { query: 'up[5m]', ...at })
    const { result } = body.data as { result: { values: unknown }[] }
    expect(result.map((each) => each.values)).toEqual([
      [
        [NOW - 40, '1'],
        [NOW - 35, '9'],
        [NOW - 30, '7'],
        [NOW - 20, '6'],
      ],
    ])
    expect(await querier.instant({ query: 'up', ...at })).toEqual({ 'up/x': '6' })
  })

  it.each([
    ['an owner that is behind', fails('err-carillon-owner-behind')],
    ['an owner that owns it no more', fails('err-carillon-not-owner')],
    [
      'an owner that fails in the middle',
      (_: unknown, frame: number) => {
        if (frame > 0) throw new UnavailableError('err-carillon-stopping', 'stopping')
      },
    ],
  ])('LOG-18: %s is replaced by the next one, whose answer alone counts', async (_, before) => {
    const both = [up('x', 1), up('y', 2), up('z', 3)]
    const { querier } = await system(
      [['a', 'b']],
      [
        {
          id: 'a',
          data: { 0: both.map((series) => ({ ...series, labels: { ...series.labels, from: 'a' } })) },
          before,
        },
        { id: 'b', data: { 0: both } },
      ],
    )
    expect(await querier.instant({ query: 'up', ...at })).toEqual({ 'up/x': '1', 'up/y': '2', 'up/z': '3' })
  })

  it('an owner that is gone is replaced by the next one', async () => {
    const { querier } = await system([['gone', 'b']], [{ id: 'b', data: { 0: [up('x', 1)] } }])
    expect(await querier.instant({ query: 'up', ...at })).toEqual({ 'up/x': '1' })
  })

  it('a silent owner is hedged', async () => {
    const { querier } = await system(
      [['a', 'b']],
      [
        { id: 'a', before: never },
        { id: 'b', data: { 0: [up('x', 1)] } },
      ],
      { hedgeAfterMs: 20 },
    )
    expect(await querier.instant({ query: 'up', ...at })).toEqual({ 'up/x': '1' })
    expect(await querier.metrics.text()).toContain('carillon_querier_hedges_total 1')
  })

  it('LOG-19: a former owner that still lives is asked when the owners cannot answer', async () => {
    const hub = memoryHub()
    const former = await stubIngester({ hub, id: 'former', data: { 0: [up('x', 1)] } })
    const next = await stubIngester({ hub, id: 'next', data: { 0: [] }, before: fails('err-carillon-owner-behind') })
    const querier = await startQuerier(hub, fixedMembership([['next']], ['former', 'next']))
    ending.push(() => querier.stop(), former.stop, next.stop)
    expect(await querier.instant({ query: 'up', ...at })).toEqual({ 'up/x': '1' })
  })

  it('QUERY-4: a partition without an owner is an error that names it, or with partial_response a warning', async () => {
    const { querier } = await system([['a'], ['gone']], [{ id: 'a', data: { 0: [up('x', 1)] } }])
    const body = await querier.ask('instant', { query: 'up', ...at })
    expect(body).toMatchObject({ status: 'error', errorType: 'unavailable' })
    expect(body.error).toMatch(
      /^partition 1 has no owner that answers: gone: .* \(err-carillon-partition-unavailable\)$/,
    )
    const partial = await querier.ask('instant', { query: 'up', ...at, partial_response: 'true' })
    expect(partial).toMatchObject({ status: 'success', data: { result: [{ metric: { job: 'x' } }] } })
    expect(partial.warnings).toEqual([expect.stringMatching(/^partition 1 has no owner that answers/)])
  })

  it("LOG-18: what an owner's stamp warns of is shown once", async () => {
    const { querier } = await system([['a'], ['a']], [{ id: 'a', warnings: ['segment 3 has a gap'] }])
    for (const params of [
      ['instant', { query: 'up + down', ...at }],
      ['series', { match: ['up'] }],
      ['labels', {}],
    ] as [QueryKind, QueryParams][]) {
      expect((await querier.ask(...params)).warnings).toEqual(['segment 3 has a gap'])
    }
  })

  it("the asker's leaving reaches the owner", async () => {
    const left = vi.fn()
    const { querier, ingesters } = await system(
      [['a']],
      [
        {
          id: 'a',
          before: (_ask, _frame, signal) =>
            new Promise((_, reject) =>
              signal.addEventListener('abort', () => {
                left()
                reject(signal.reason)
              }),
            ),
        },
      ],
    )
    const leaving = new AbortController()
    const asked = querier.ask('instant', { query: 'up', ...at }, leaving.signal)
    await vi.waitFor(() => expect(ingesters[0]!.asks).toHaveLength(1), WAIT)
    leaving.abort(new Error('left'))
    await expect(asked).rejects.toThrow()
    await vi.waitFor(() => expect(left).toHaveBeenCalledOnce(), WAIT)
  })

  it('a query that takes longer than its timeout is answered so, and the owner hears of it', async () => {
    const left = vi.fn()
    const before: StubOptions['before'] = (_ask, _frame, signal) => {
      signal.addEventListener('abort', left)
      return never()
    }
    const { querier } = await system([['a']], [{ id: 'a', before }])
    const body = await querier.ask('instant', { query: 'up', ...at, timeout: '50ms' })
    expect(body).toEqual({ status: 'error', errorType: 'timeout', error: 'query timed out in expression evaluation' })
    await vi.waitFor(() => expect(left).toHaveBeenCalledOnce(), WAIT)
  })
})

describe('strong reads (LOG-20)', () => {
  async function withLog(before: StubOptions['before']) {
    const { querier, hub, ingesters } = await system(
      [['a', 'b']],
      [
        { id: 'a', data: { 0: [up('x', 1)] }, ...(before && { before }) },
        { id: 'b', data: { 0: [up('x', 1)] }, ...(before && { before }) },
      ],
      { ownerWaitMs: 100 },
    )
    const writer = hub.connect('writer')
    await writer.logs.ensure(logConfig(0, { bytesMax: 1024 * 1024, replicas: 1 }))
    for (const text of ['one', 'two'])
      await writer.logs.append('log-0', 'log.0.batch', Buffer.from(text), { timeoutMs: 1000 })
    return { querier, ingesters, state: await writer.logs.state('log-0') }
  }

  it("strong: owners are asked to wait for a fence behind the log's end at the start of the query", async () => {
    const { querier, ingesters, state } = await withLog(undefined)
    expect(await querier.instant({ query: 'up', ...at, read_consistency: 'strong' })).toEqual({ 'up/x': '1' })
    expect(ingesters[0]!.asks).toMatchObject([{ minSeq: 3, incarnation: state.incarnation }])
    expect(ingesters[0]!.asks[0]!.waitMs).toBeGreaterThan(50)
    await querier.ask('labels', { read_consistency: 'strong' })
    expect(ingesters[0]!.asks[1]).toMatchObject({ minSeq: 4 })
  })

  it('LOG-19: ends are read once the ring is confirmed, of all logs that it names by then', async () => {
    const hub = memoryHub()
    const writer = hub.connect('writer')
    for (const partition of [0, 1]) {
      await writer.logs.ensure(logConfig(partition, { bytesMax: 1 << 20, replicas: 1 }))
      for (let i = 0; i < 3 + partition; i++)
        await writer.logs.append(`log-${partition}`, `log.${partition}.batch`, Buffer.from('x'), { timeoutMs: 1000 })
    }
    const ingester = await stubIngester({ hub, id: 'a', data: { 0: [], 1: [] } })
    let isConfirmed = false // until it is, one of two partitions has been heard of
    const membership = Object.assign(Object.create(fixedMembership([['a'], ['a']])) as Membership, {
      isConfirmed: () => isConfirmed,
      readableCount: () => (isConfirmed ? 2 : 1),
      partitionCount: () => (isConfirmed ? 2 : 1),
    })
    const querier = await startQuerier(hub, membership)
    ending.push(
      () => ingester.stop(),
      () => querier.stop(),
    )
    const answer = querier.ask('instant', { query: 'up', ...at, read_consistency: 'strong' })
    await new Promise((resolve) => setTimeout(resolve, 200))
    isConfirmed = true
    expect((await answer).status).toBe('success')
    expect(ingester.asks.map(({ partition, minSeq }) => [partition, minSeq]).sort()).toEqual([
      [0, 4],
      [1, 5],
    ])
  })

  it('a position: owners are asked to wait for it', async () => {
    const { querier, ingesters } = await withLog(undefined)
    await querier.ask('instant', { query: 'up', ...at, read_consistency: '0/abc:7' })
    expect(ingesters[0]!.asks).toMatchObject([{ minSeq: 7, incarnation: 'abc' }])
  })

  it('otherwise they wait for nothing', async () => {
    const { querier, ingesters } = await withLog(undefined)
    await querier.ask('instant', { query: 'up', ...at })
    expect(ingesters[0]!.asks).toMatchObject([{ minSeq: 0, incarnation: '', waitMs: 0, watermark: 0 }])
  })

  it('a place that no owner reaches in time is an error, also with partial_response', async () => {
    const { querier, ingesters } = await withLog(async ({ waitMs }) => {
      await new Promise((resolve) => setTimeout(resolve, waitMs))
      throw new UnavailableError('err-carillon-owner-behind', 'applied 1, asked for 2')
    })
    const started = Date.now()
    const body = await querier.ask('instant', {
      query: 'up',
      ...at,
      read_consistency: 'strong',
      partial_response: 'true',
    })
    expect(body).toMatchObject({ status: 'error', errorType: 'unavailable' })
    expect(body.error).toContain('partition 0 has no owner that has applied what the query asks for')
    expect(body.error).toContain('err-carillon-owner-behind')
    expect(ingesters.map((each) => each.asks.length)).toEqual([1, 1])
    expect(Date.now() - started).toBeLessThan(1000)
  })

  it('a malformed position is refused', async () => {
    const { querier } = await withLog(undefined)
    const body = await querier.ask('instant', { query: 'up', ...at, read_consistency: 'x' })
    expect(body).toMatchObject({ status: 'error', errorType: 'bad_data' })
  })
})

describe('bounds', () => {
  const many = Array.from({ length: 10 }, (_, i) => up(`j${i}`, i))

  it.each([
    [{ seriesMax: 9 }, 'err-carillon-query-series'],
    [{ samplesMax: 9 }, 'err-carillon-query-samples'],
    [{ queryBytesMax: 1024 }, 'err-carillon-query-bytes'],
  ])('%j: a query that reads more is refused with the name of the limit', async (changes, code) => {
    const wide = many.map(({ labels, chunks }) => ({
      labels: { ...labels, pad: `${labels['job']}${'x'.repeat(200)}` },
      chunks,
    }))
    const { querier } = await system([['a']], [{ id: 'a', data: { 0: wide } }], changes)
    const body = await querier.ask('instant', { query: 'up', ...at })
    expect(body).toMatchObject({ status: 'error', errorType: 'execution' })
    expect(body.error).toContain(code)
  })

  it('queries beyond those that run and wait are answered 429', async () => {
    const { querier, ingesters } = await system([['a']], [{ id: 'a', before: never }], {
      concurrentQueriesMax: 1,
      queuedQueriesMax: 1,
    })
    const slow = { query: 'up', ...at, timeout: '200ms' }
    const first = querier.ask('instant', slow)
    await vi.waitFor(() => expect(ingesters[0]!.asks).toHaveLength(1), WAIT)
    const second = querier.ask('instant', slow)
    expect(await querier.ask('instant', slow)).toEqual({
      status: 'error',
      errorType: 'too_many_requests',
      error: 'too many outstanding requests (err-carillon-too-many-queries)',
    })
    expect((await first).errorType).toBe('timeout')
    expect((await second).errorType).toBe('timeout')
  })
})

describe('what exists', () => {
  const data: StubData = {
    0: [up('x', 1), { labels: { __name__: 'go_info', version: 'ü' }, chunks: [[[NOW * 1000, 1]]] }],
    1: [up('x', 1), up('y', 1), { labels: { __name__: 'z', a: '😀' }, chunks: [[[NOW * 1000, 1]]] }],
  }
  const metadata = [
    { metric: 'up', type: 'gauge', help: 'h', unit: '' },
    { metric: 'up', type: 'gauge', help: 'other', unit: '' },
    { metric: 'a', type: 'counter', help: '"q"', unit: 's' },
  ]
  const exemplars = [
    {
      labels: ['__name__', 'up'],
      exemplars: [
        { labels: ['id', '1'], time: 1500, value: 0.5 },
        { labels: [], time: 1000, value: Infinity },
      ],
    },
  ]
  const start = () => system([['a'], ['a']], [{ id: 'a', data, metadata, exemplars }])

  it('series: the union of all match[], each label set once, sorted, cut with a warning', async () => {
    const { querier } = await start()
    expect(await querier.ask('series', { match: ['up', '{__name__=~"go.*|up"}'] })).toEqual({
      status: 'success',
      data: [
        { __name__: 'go_info', version: 'ü' },
        { __name__: 'up', job: 'x' },
        { __name__: 'up', job: 'y' },
      ],
    })
    expect(await querier.ask('series', { match: ['up'], limit: '1' })).toEqual({
      status: 'success',
      data: [{ __name__: 'up', job: 'x' }],
      warnings: ['results truncated due to limit'],
    })
  })

  it('labels and label values: united, sorted by bytes, cut with a warning', async () => {
    const { querier } = await start()
    expect((await querier.ask('labels', {})).data).toEqual(['__name__', 'a', 'job', 'version'])
    expect(await querier.ask('labels', { match: ['up'], limit: '1' })).toEqual({
      status: 'success',
      data: ['__name__'],
      warnings: ['results truncated due to limit'],
    })
    expect((await querier.ask('label_values', { name: 'job' })).data).toEqual(['x', 'y'])
    expect((await querier.ask('label_values', { name: '__name__', match: ['{a!=""}', 'go_info'] })).data).toEqual([
      'go_info',
      'z',
    ])
  })

  it('metadata: each entry once, by metric, cut as asked', async () => {
    const { querier } = await start()
    const gauge = { type: 'gauge', unit: '', help: 'h' }
    expect((await querier.ask('metadata', {})).data).toEqual({
      a: [{ type: 'counter', unit: 's', help: '"q"' }],
      up: [gauge, { ...gauge, help: 'other' }],
    })
    expect((await querier.ask('metadata', { limit: '1' })).data).toEqual({
      a: [{ type: 'counter', unit: 's', help: '"q"' }],
    })
    expect((await querier.ask('metadata', { limit_per_metric: '1' })).data).toMatchObject({ up: [gauge] })
  })

  it('exemplars: by series and time, values as texts', async () => {
    const { querier } = await start()
    expect((await querier.ask('exemplars', { query: 'rate(up[5m])' })).data).toEqual([
      {
        seriesLabels: { __name__: 'up' },
        exemplars: [
          { labels: {}, value: '+Inf', timestamp: 1 },
          { labels: { id: '1' }, value: '0.5', timestamp: 1.5 },
        ],
      },
    ])
  })
})
