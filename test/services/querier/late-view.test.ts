// A querier whose watch over the bucket of blocks is late: what it knows is old, and what it answers is not.
import { afterEach, expect, it } from 'vitest'
import { systemClock } from '../../../shared/base/clock.ts'
import { RefusedError } from '../../../shared/base/errors.ts'
import { logConfig, logName } from '../../../shared/contracts/log.ts'
import { withLateWatches } from '../../altered-bus.ts'
import { type Harness, metricOf, startQuerier } from './harness.ts'
import { deletionOf, openStore, type Store } from './stored.ts'
import { fixedMembership, memoryHub, type StubOptions, stubIngester } from './stub-ingester.ts'

const NOW = 1_700_000_000
const at = { time: String(NOW) }
const LATE_MS = 300
const up = (job: string, seconds: number, value: number) => ({
  labels: { __name__: 'up', job },
  samples: [[(NOW - seconds) * 1000, value] as const],
})

const ending: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end()
})

/** From `isLate` on the querier's watches tell of everything `LATE_MS` after it happened. */
async function system(
  options: Pick<StubOptions, 'data' | 'before'>,
): Promise<{ querier: Harness; store: Store; late: { isLate: boolean } }> {
  const hub = memoryHub()
  const late = { isLate: false }
  const store = await openStore(hub)
  const ingester = await stubIngester({ hub, id: 'a', ...options })
  const wait = () => new Promise<void>((resolve) => void systemClock.after(late.isLate ? LATE_MS : 0, resolve))
  const connect = (id: string) => (id.startsWith('querier') ? withLateWatches(hub.connect(id), wait) : hub.connect(id))
  const querier = await startQuerier({ connect }, fixedMembership([['a']]), {}, store.objects)
  const logs = hub.connect('writer').logs
  await logs.ensure(logConfig(0, { bytesMax: 1 << 20, replicas: 1 }))
  await logs.append(logName(0), 'log.0.batch', new Uint8Array(1), { timeoutMs: 1_000 })
  ending.push(
    async () => store.blocks.close(),
    () => ingester.stop(),
    () => querier.stop(),
  )
  return { querier, store, late }
}

it('QUERY-8: a read begins again by a view that is newer, not by the same one until its tries are used up', async () => {
  let flushedSegment = 0
  const { querier, store, late } = await system({
    data: { 0: [{ labels: { __name__: 'up', job: 'live' }, chunks: [[[(NOW - 10) * 1000, 2]]] }] },
    before: ({ watermark }) => {
      if (watermark < flushedSegment) throw new RefusedError('err-carillon-dropped', 'it is in a block')
    },
  })
  expect(await querier.instant({ query: 'up', ...at })).toEqual({ 'up/live': '2' })
  late.isLate = true
  await store.commit([await store.upload([up('x', 60, 1)])], { partition: 0, segment: 1 })
  flushedSegment = 1
  expect(await querier.instant({ query: 'up', ...at })).toEqual({ 'up/x': '1', 'up/live': '2' })
  expect(await metricOf(querier, 'carillon_querier_view_retries_total')).toBe(1)
})

it('LOG-20: a strong read does not show what was deleted before it began, though the watch has not told of it yet', async () => {
  const { querier, store, late } = await system({ data: { 0: [] } })
  const entry = await store.upload([up('x', 60, 1), up('y', 60, 1)])
  await store.commit([entry], { partition: 0, segment: 1 })
  expect(await querier.instant({ query: 'up', ...at })).toEqual({ 'up/x': '1', 'up/y': '1' })
  late.isLate = true
  const deletion = deletionOf('x', { endMs: NOW * 1000, blocks: [entry.ulid] })
  await store.change((manifest) => ({ ...manifest, deletes: [deletion] }))
  expect(await querier.instant({ query: 'up', ...at }), 'any read may be a little old').toEqual({
    ...{ 'up/x': '1', 'up/y': '1' },
  })
  expect(await querier.instant({ query: 'up', ...at, read_consistency: 'strong' })).toEqual({ 'up/y': '1' })
})
