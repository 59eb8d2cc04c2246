// What questions found in blocks is kept, counted, and never what a later question should not see.
import { afterEach, describe, expect, it } from 'vitest'
import type { QuerierConfig } from '../../../services/querier/config.ts'
import { keepOpen } from '../../../services/querier/read/open-blocks.ts'
import { Breathing } from '../../../shared/base/breathing.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import type { BlockEntry } from '../../../shared/contracts/blocks.ts'
import type { Matcher } from '../../../shared/model/matcher.ts'
import { type Harness, metricOf, startQuerier } from './harness.ts'
import { deletionOf, openStore, type Store, type StoredSeries, TENANT } from './stored.ts'
import { fixedMembership, memoryHub, stubIngester } from './stub-ingester.ts'

const NOW = 1_700_000_000
const EVERY_TIME = { startMs: 0, endMs: NOW * 1000 }
const UP: readonly Matcher[] = [{ name: '__name__', operator: '=', value: 'up' }]

const stored = (job: string, ...samples: (readonly [number, number])[]): StoredSeries => ({
  labels: { __name__: 'up', job },
  samples: samples.map(([secondsAgo, value]) => [(NOW - secondsAgo) * 1000, value]),
})

const ending: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end()
})

/** A querier whose every read of a block reaches the store, but for what it found before. */
async function system(changes: Partial<QuerierConfig> = {}): Promise<{ querier: Harness; store: Store }> {
  const hub = memoryHub()
  const store = await openStore(hub)
  const ingester = await stubIngester({ hub, id: 'a', data: { 0: [] } })
  const bounds = { readCacheBytesMax: 0, ...changes }
  const querier = await startQuerier(hub, fixedMembership([['a']]), bounds, store.objects)
  ending.push(
    async () => store.blocks.close(),
    () => ingester.stop(),
    () => querier.stop(),
  )
  return { querier, store }
}

const jobsOf = async (querier: Harness, query = 'sum by (job) (sum_over_time(up[10m]))') =>
  querier.instant({ query, time: String(NOW) })

/** Asks twice, and makes sure that the second time nothing was looked up: else these tests would prove nothing. */
async function askUntilFound(querier: Harness, { reads }: Store): Promise<Record<string, string>> {
  await jobsOf(querier)
  reads.length = 0
  const answer = await jobsOf(querier)
  expect(reads.filter((name) => name.endsWith('/index'))).toEqual([])
  expect(reads.filter((name) => name.includes('/chunks/'))).not.toEqual([])
  return answer
}

describe('QUERY-14: what was found in a block', () => {
  it('is not shown once the block was replaced', async () => {
    const { querier, store } = await system()
    const first = await store.upload([stored('x', [60, 1]), stored('gone', [60, 7])])
    const other = await store.upload([stored('other', [50, 4])], { segment: 2 })
    await store.commit([first, other], { partition: 0, segment: 1 })
    expect(await askUntilFound(querier, store)).toEqual({ x: '1', gone: '7', other: '4' })
    const next = await store.upload([stored('x', [60, 2]), stored('new', [60, 3])], { segment: 3 })
    await store.change((manifest) => ({ ...manifest, blocks: [next, other] }))
    await expect.poll(() => jobsOf(querier)).toEqual({ x: '2', new: '3', other: '4' })
    await store.change((manifest) => ({ ...manifest, blocks: [first] }))
    await expect.poll(() => jobsOf(querier)).toEqual({ x: '1', gone: '7' })
  })

  it('is shown without what was deleted since, and with it again when the deletion is undone', async () => {
    const { querier, store } = await system()
    const entry = await store.upload([stored('x', [60, 1], [30, 10]), stored('y', [60, 5])])
    await store.commit([entry], { partition: 0, segment: 1 })
    expect(await askUntilFound(querier, store)).toEqual({ x: '11', y: '5' })
    const times = { startMs: (NOW - 60) * 1000, endMs: (NOW - 40) * 1000 }
    const deletion = deletionOf('x', { ...times, blocks: [entry.ulid] })
    await store.change((manifest) => ({ ...manifest, deletes: [deletion] }))
    await expect.poll(() => jobsOf(querier)).toEqual({ x: '10', y: '5' })
    await store.change((manifest) => ({ ...manifest, deletes: [{ ...deletion, startMs: 0, endMs: NOW * 1000 }] }))
    await expect.poll(() => jobsOf(querier)).toEqual({ y: '5' })
    await store.change((manifest) => ({ ...manifest, deletes: [{ ...deletion, state: 'undone' }] }))
    await expect.poll(() => jobsOf(querier)).toEqual({ x: '11', y: '5' })
  })

  it('gives each question the times that it asks for', async () => {
    const { querier, store } = await system()
    const every = Array.from({ length: 300 }, (_, i) => [600 - 2 * i, 1] as const) // chunks of 120 samples
    await store.commit([await store.upload([stored('x', ...every), stored('old', [599, 1])])], {
      partition: 0,
      segment: 1,
    })
    expect(await askUntilFound(querier, store)).toEqual({ x: '299', old: '1' })
    expect(await jobsOf(querier, 'sum by (job) (sum_over_time(up[100s]))')).toEqual({ x: '49' })
    expect(await jobsOf(querier)).toEqual({ x: '299', old: '1' })
  })
})

describe('memory of what is kept of blocks', () => {
  const many = (count: number) => Array.from({ length: count }, (_, i) => stored(`job-${i}`, [60, i]))

  it('counts what was found, and leaves queries that much less', async () => {
    const { querier, store } = await system()
    await store.commit([await store.upload(many(500))], { partition: 0, segment: 1 })
    const heldBytes = () => metricOf(querier, 'carillon_querier_open_blocks_bytes')
    const room = () => metricOf(querier, 'carillon_querier_memory_room_bytes')
    expect(await heldBytes()).toBe(0)
    const roomBefore = await room()
    await jobsOf(querier, 'count(up{job="job-1"})')
    const opened = await heldBytes()
    await jobsOf(querier, 'count(up)')
    expect(await heldBytes()).toBeGreaterThan(opened + 500 * 200)
    expect(roomBefore - (await room())).toBe(await heldBytes())
  })

  it('stays within its bound, whatever is asked', async () => {
    const store = await openStore(memoryHub())
    ending.push(async () => store.blocks.close())
    const entries: BlockEntry[] = []
    for (let k = 1; k <= 4; k++) entries.push(await store.upload(many(40), { segment: k }))
    const bytesMax = 100_000
    const open = keepOpen(
      { opened: () => store.blocks },
      { countMax: 100, bytesMax, breathing: new Breathing(systemClock) },
    )
    let bytesSeen = 0
    for (let i = 0; i < 40; i++) {
      for (const entry of entries) {
        const { reader } = await open.open(TENANT, entry)
        const matchers = [...UP, { name: 'job', operator: '=~', value: `job-.*|${i}` } as const]
        let seriesCount = 0
        for await (const batch of reader.select(matchers, EVERY_TIME)) seriesCount += batch.length
        expect(seriesCount).toBe(40)
        expect(open.bytes).toBeLessThanOrEqual(bytesMax)
        bytesSeen = Math.max(bytesSeen, open.bytes)
      }
    }
    expect(bytesSeen).toBeGreaterThan(bytesMax / 4)
  })
})
