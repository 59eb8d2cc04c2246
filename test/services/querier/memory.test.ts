import { afterEach, describe, expect, it, vi } from 'vitest'
import type { QuerierConfig } from '../../../services/querier/config.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import type { QueryKind, QueryParams } from '../../../shared/contracts/query.ts'
import { WAIT } from '../../waiting.ts'
import { type Body, type Harness, metricOf, startQuerier } from './harness.ts'
import { fixedMembership, memoryHub, type StubOptions, type StubSeries, stubIngester } from './stub-ingester.ts'

const NOW = 1_700_000_000
const at = { time: String(NOW) }
const hour = { start: String(NOW - 3_600), end: String(NOW), step: '1' }

const series: StubSeries[] = Array.from({ length: 40 }, (_, i) => ({
  labels: { __name__: `load_${i % 2}`, host: `h${i}` },
  chunks: [Array.from({ length: 100 }, (_, s) => [(NOW - 1_500 + 15 * s) * 1000, i * s] as [number, number])],
}))

const ending: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end()
})

async function system(changes: Partial<QuerierConfig> = {}, options: Partial<StubOptions> = {}): Promise<Harness> {
  const hub = memoryHub()
  const ingester = await stubIngester({ hub, id: 'a', data: { 0: series, 1: [] }, ...options })
  const querier = await startQuerier(hub, fixedMembership([['a'], ['a']]), { hedgeAfterMs: 5_000, ...changes })
  ending.push(
    () => querier.stop(),
    () => ingester.stop(),
  )
  return querier
}

const heldBytes = (querier: Harness) => metricOf(querier, 'carillon_querier_memory_bytes')

describe('memory of queries', () => {
  it.each<[QueryKind, QueryParams]>([
    ['instant', { query: '{__name__=~"load.*"}[1h]', ...at }],
    ['range', { query: 'load_0', ...hour }],
    ['range', { query: 'count_values("v", {__name__=~"load.*"})', ...hour }],
    ['range', { query: 'load_0 + on () group_left sum(load_1)', ...hour }],
    ['range', { query: 'label_replace(load_0, "long", "$1$1$1$1$1$1$1$1$1$1$1$1$1$1", "host", "(.*)")', ...hour }],
    ['instant', { query: 'max_over_time(load_0[1h:1s])', ...at }],
  ])(
    '%s %j: refused beyond what one query may take, answered below, and nothing is held afterwards',
    async (kind, params) => {
      const small = await system({ queryMemoryBytesMax: 100 * 1024 })
      const refused = await small.ask(kind, params)
      expect(refused).toMatchObject({ status: 'error', errorType: 'execution' })
      expect(refused.error).toContain('(err-carillon-query-memory)')
      expect(await heldBytes(small)).toBe(0)
      expect(await small.metrics.text()).toContain('carillon_querier_memory_refusals_total{limit="query"} 1')
      const large = await system()
      expect((await large.ask(kind, params)).status).toBe('success')
      expect(await heldBytes(large)).toBe(0)
    },
  )

  it('queries that run share what the querier has', async () => {
    const querier = await system({ querierMemoryBytesMax: 192 * 2 ** 20, samplesMax: 1e9 })
    const wide = { query: '{__name__=~"load.*"}', start: String(NOW - 3_600), end: String(NOW), step: '0.4' }
    const subquery = { query: 'max_over_time({__name__=~"load.*"}[100h:1s])', ...at }
    const bodies: Body[] = await Promise.all([
      ...Array.from({ length: 3 }, () => querier.ask('instant', subquery)),
      querier.ask('range', wide),
      querier.ask('instant', { query: 'sum(load_0)', ...at }),
    ])
    const ids = bodies.slice(0, 3).map(({ error }) => /\((err[a-z-]+)\)/.exec(error ?? '')?.[1])
    expect(ids).toContain('err-carillon-querier-memory')
    expect(bodies[4]!.status).toBe('success')
    expect(await heldBytes(querier)).toBe(0)
  })

  it('nothing is held after errors, timeouts, owners that fail midway, and askers that go away', async () => {
    const wrong = await system()
    expect((await wrong.ask('instant', { query: 'load_0 + on () load_1', ...at })).status).toBe('error')
    expect((await wrong.ask('range', { query: 'sum(', ...hour })).status).toBe('error')
    expect(await heldBytes(wrong)).toBe(0)

    const failing = await system(
      {},
      {
        before: (_, frame) => {
          if (frame === 3) throw new UnavailableError('err-carillon-stopping', 'in the middle')
        },
      },
    )
    expect((await failing.ask('range', { query: 'load_0', ...hour })).status).toBe('error')
    expect(await heldBytes(failing)).toBe(0)

    const stuck = await system({}, { before: (_, frame) => (frame === 3 ? new Promise<void>(() => {}) : undefined) })
    expect((await stuck.ask('range', { query: 'load_0', ...hour, timeout: '100ms' })).errorType).toBe('timeout')
    expect(await heldBytes(stuck)).toBe(0)
    const leaving = new AbortController()
    const asked = stuck.ask('range', { query: 'load_0', ...hour }, leaving.signal).catch(() => undefined)
    await vi.waitFor(async () => expect(await heldBytes(stuck)).toBeGreaterThan(0), WAIT)
    leaving.abort()
    await asked
    await vi.waitFor(async () => expect(await heldBytes(stuck)).toBe(0), WAIT)
  })
})
