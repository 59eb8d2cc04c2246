import { afterEach, describe, expect, it, vi } from 'vitest'
import type { QuerierConfig } from '../../../services/querier/config.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import { ask } from '../../../shared/bus/ask.ts'
import { activeQueries, cancelQuery } from '../../../shared/contracts/active-queries.ts'
import { setLimits } from '../../../shared/limits/limits.ts'
import { parseLimit } from '../../../shared/limits/values.ts'
import { WAIT } from '../../waiting.ts'
import { type Harness, startQuerier } from './harness.ts'
import { fixedMembership, memoryHub, type StubIngester, type StubOptions, stubIngester } from './stub-ingester.ts'

const NOW = 1_700_000_000
const at = { time: String(NOW) }
const range = { start: String(NOW - 100), end: String(NOW), step: '10' }

const ending: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end()
})

interface System {
  readonly querier: Harness
  readonly ingester: StubIngester
  readonly bus: ReturnType<ReturnType<typeof memoryHub>['connect']>
  set(tenant: string | undefined, limits: Readonly<Record<string, string | null>>): Promise<void>
}

async function system(options: Partial<StubOptions> = {}, config: Partial<QuerierConfig> = {}): Promise<System> {
  const hub = memoryHub()
  const times = Array.from({ length: 20 }, (_, i) => [(NOW - 100 + i * 5) * 1000, i] as const)
  const series = (job: string) => ({ labels: { __name__: 'load', job }, chunks: [times] })
  const data = { 0: ['a', 'b', 'c', 'd', 'e'].map(series) }
  const ingester = await stubIngester({ hub, id: 'ingester-1', data, ...options })
  const querier = await startQuerier(hub, fixedMembership([['ingester-1']]), { hedgeAfterMs: 60_000, ...config })
  const bus = hub.connect('somebody')
  ending.push(
    () => querier.stop(),
    () => ingester.stop(),
  )
  return {
    querier,
    ingester,
    bus,
    async set(tenant, limits) {
      const values = Object.entries(limits).map(([name, text]) => [name, text && parseLimit(name, text)] as const)
      await setLimits({ bus, clock: systemClock }, tenant, Object.fromEntries(values) as never, 'a test')
    },
  }
}

describe('limits of one tenant', () => {
  it.each([
    ['query_series_max', '4', 'err-carillon-query-series'],
    ['query_samples_max', '50', 'err-carillon-query-samples'],
    ['query_fetched_bytes_max', '100B', 'err-carillon-query-bytes'],
    ['query_range_max', '30s', 'err-carillon-query-range'],
  ])('%s holds at once, for that tenant alone, and goes again', async (name, value, code) => {
    const { querier, set } = await system()
    const answered = async (tenant: string) => {
      const { status, errorType, error } = await querier.ask('range', { query: 'load', ...range }, undefined, tenant)
      return status === 'success' ? status : `${errorType}: ${/\((err-.*)\)$/.exec(error!)?.[1]}`
    }
    expect(await answered('acme')).toBe('success')
    await set('acme', { [name]: value })
    await expect.poll(() => answered('acme')).toBe(`execution: ${code}`)
    expect(await answered('other')).toBe('success')
    await set('acme', { [name]: null })
    await expect.poll(() => answered('acme')).toBe('success')
    await set(undefined, { [name]: value })
    await expect.poll(() => answered('other')).toBe(`execution: ${code}`)
    await set('acme', { [name]: name === 'query_range_max' ? '1000h' : '1000000' })
    await expect.poll(() => answered('acme')).toBe('success')
  })

  it('query_range_max holds for instant queries with long windows, and for remote reads', async () => {
    const { querier } = await system({}, { queryRangeMaxMs: 600_000 })
    const long = await querier.ask('instant', { query: 'max_over_time(load[20m])', ...at })
    expect(long.error).toContain('err-carillon-query-range')
    expect((await querier.ask('instant', { query: 'max_over_time(load[9m])', ...at })).status).toBe('success')
  })

  it('query_points_max is refused as Prometheus does it', async () => {
    const { querier, set } = await system()
    await set('acme', { query_points_max: '5' })
    const error = async () => (await querier.ask('range', { query: 'load', ...range }, undefined, 'acme')).error
    await expect.poll(error).toContain('exceeded maximum resolution of 5 points per timeseries')
  })

  it('query_timeout_max ends a query that takes longer', async () => {
    const { querier, set } = await system({ before: (_, __, signal) => aborted(signal) })
    await set('acme', { query_timeout_max: '50ms' })
    await vi.waitFor(async () => {
      const body = await querier.ask('instant', { query: 'load', ...at, timeout: '2' }, undefined, 'acme')
      expect(body.errorType).toBe('timeout')
    }, WAIT)
  })

  it('query_concurrent_max: the rest waits, and beyond query_queued_max is answered 429', async () => {
    let release = () => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    let isHolding = false
    const { querier, ingester, bus, set } = await system({
      before: async () => {
        if (isHolding) await held
      },
    })
    await set('acme', { query_concurrent_max: '1', query_queued_max: '1', query_points_max: '5' })
    const known = async () => (await querier.ask('range', { query: 'load', ...range }, undefined, 'acme')).error
    await expect.poll(known).toContain('exceeded maximum resolution of 5 points per timeseries')
    isHolding = true
    const before = ingester.asks.length
    const asked = () => querier.ask('instant', { query: 'load', ...at }, undefined, 'acme')
    const first = asked()
    await vi.waitFor(() => expect(ingester.asks.length).toBe(before + 1), WAIT)
    const second = asked()
    await vi.waitFor(
      async () => expect((await ask(bus, activeQueries, { id: querier.id }, {})).queries.length).toBe(2),
      WAIT,
    )
    const third = await asked()
    expect([third.errorType, third.error]).toEqual([
      'too_many_requests',
      'too many outstanding requests (err-carillon-too-many-queries)',
    ])
    const other = querier.ask('instant', { query: 'load', ...at }, undefined, 'other')
    await vi.waitFor(() => expect(ingester.asks.length).toBe(before + 2), WAIT)
    release()
    expect((await Promise.all([first, second, other])).map(({ status }) => status)).toEqual(Array(3).fill('success'))
  })
})

describe('queries at work', () => {
  it('are listed for their tenant and for administrators, and one is ended by its id under its tenant alone', async () => {
    const { querier, ingester, bus } = await system({ before: (_, __, signal) => aborted(signal) })
    const asked = querier.ask('instant', { query: 'sum(load)', ...at }, undefined, 'acme')
    await vi.waitFor(() => expect(ingester.inFlight()).toBe(1), WAIT)
    const to = { id: querier.id }
    expect((await ask(bus, activeQueries, to, { tenant: 'other' })).queries).toEqual([])
    const [shown, ...more] = (await ask(bus, activeQueries, to, { tenant: 'acme' })).queries
    expect(more).toEqual([])
    expect((await ask(bus, activeQueries, to, {})).queries.map(({ id }) => id)).toEqual([shown!.id])
    expect(shown).toMatchObject({ tenant: 'acme', query: 'sum(load)', kind: 'instant', isRunning: true })
    expect(await ask(bus, cancelQuery, to, { query: shown!.id, tenant: 'other' })).toEqual({ isCancelled: false })
    expect(await ask(bus, cancelQuery, to, { query: shown!.id, tenant: 'acme' })).toEqual({ isCancelled: true })
    const { errorType, error } = await asked
    expect([errorType, error]).toEqual([
      'execution',
      'the query was cancelled by request (err-carillon-query-cancelled)',
    ])
    await vi.waitFor(() => expect(ingester.inFlight()).toBe(0), { timeout: 100 })
    expect(await ask(bus, cancelQuery, to, { query: shown!.id, tenant: 'acme' })).toEqual({ isCancelled: false })
  })

  it('nobody works on for an asker that hung up: within 100 ms no handler is at work in any actor', async () => {
    const { querier, ingester } = await system({ before: (_, __, signal) => aborted(signal) })
    for (const kind of ['instant', 'range', 'series', 'labels'] as const) {
      const asker = new AbortController()
      const params = { query: 'load', match: ['load'], ...(kind === 'instant' ? at : range) }
      const asked = querier.ask(kind, params, asker.signal).catch(() => 'gone')
      await vi.waitFor(() => expect(ingester.inFlight()).toBe(1), WAIT)
      expect(querier.inFlight()).toBe(1)
      const left = process.threadCpuUsage()
      asker.abort()
      while (querier.inFlight() + ingester.inFlight() > 0) {
        await new Promise((resolve) => setImmediate(resolve))
        const { user, system: kernel } = process.threadCpuUsage(left) // this loop never rests: on a calm machine the time that passes
        expect((user + kernel) / 1000).toBeLessThan(100)
      }
      expect(await asked).toBe('gone')
    }
  })
})

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
}
