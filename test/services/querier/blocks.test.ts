// Blocks beside owners: nothing twice, nothing missing, and what cannot be read is said.
import { afterEach, describe, expect, it } from 'vitest'
import type { QuerierConfig } from '../../../services/querier/config.ts'
import { RefusedError } from '../../../shared/base/errors.ts'
import { BLOCKS_BUCKET, type BlockEntry, type DeleteEntry, manifestKey } from '../../../shared/contracts/blocks.ts'
import type { QueryParams } from '../../../shared/contracts/query.ts'
import type { OwnerRequest } from '../../../shared/contracts/read.ts'
import { type Harness, metricOf, startQuerier } from './harness.ts'
import { deletionOf, openStore, type Store, type StoredSeries, TENANT } from './stored.ts'
import {
  fixedMembership,
  memoryHub,
  type StubIngester,
  type StubOptions,
  type StubSeries,
  stubIngester,
} from './stub-ingester.ts'

const NOW = 1_700_000_000
const at = { time: String(NOW) }

const labelsOf = (job: string) => ({ __name__: 'up', job, zone: `z-${job}` })
const ago = (seconds: number, value: number) => [(NOW - seconds) * 1000, value] as const
const stored = (job: string, ...samples: (readonly [number, number, number?])[]): StoredSeries => ({
  labels: labelsOf(job),
  samples,
})
const held = (job: string, ...samples: (readonly [number, number])[]): StubSeries => ({
  labels: labelsOf(job),
  chunks: [samples],
})

const ending: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end()
})

interface System {
  readonly querier: Harness
  readonly store: Store
  readonly ingester: StubIngester
  readonly hub: ReturnType<typeof memoryHub>
}

async function system(
  options: Omit<StubOptions, 'hub' | 'id'>,
  changes: Partial<QuerierConfig> = {},
  owners = [['a']],
): Promise<System> {
  const hub = memoryHub()
  const store = await openStore(hub)
  const ingester = await stubIngester({ hub, id: 'a', ...options })
  const querier = await startQuerier(hub, fixedMembership(owners), changes, store.objects)
  ending.push(
    async () => store.blocks.close(),
    () => ingester.stop(),
    () => querier.stop(),
  )
  return { querier, store, ingester, hub }
}

/** Samples by job of an answer of `up[…]`. */
async function rangeOf(querier: Harness, params: QueryParams): Promise<Record<string, unknown>> {
  const body = await querier.ask('instant', { ...at, ...params })
  if (body.status !== 'success') throw new Error(body.error)
  const { result } = body.data as { result: { metric: { job: string }; values: [number, string][] }[] }
  return Object.fromEntries(
    result.map(({ metric, values }) => [metric.job, values.map(([time, value]) => [NOW - time, Number(value)])]),
  )
}

describe('one view of owners and blocks', () => {
  it('QUERY-8: owners are asked for what is in no block, and series of both are one', async () => {
    const { querier, store, ingester } = await system({
      data: {
        0: [{ ...held('x', ago(300, 9)), segment: 3 }, held('x', ago(120, 3), ago(60, 4)), held('new', ago(30, 5))],
      },
    })
    const first = await store.upload([stored('x', ago(500, 1), ago(400, 2)), stored('old', ago(450, 7))])
    const second = await store.upload([stored('x', ago(300, 2.5), ago(120, 2))], { segment: 3 })
    await store.commit([first, second], { partition: 0, segment: 3 })
    expect(await rangeOf(querier, { query: 'up[10m]' })).toEqual({
      x: [
        [500, 1],
        [400, 2],
        [300, 2.5],
        [120, 3],
        [60, 4],
      ],
      old: [[450, 7]],
      new: [[30, 5]],
    })
    expect(ingester.asks.map(({ watermark }) => watermark)).toEqual([3])
    expect(await querier.instant({ query: 'up', ...at })).toEqual({ 'up/x/z-x': '4', 'up/new/z-new': '5' })
    expect(await querier.instant({ query: 'last_over_time(up[5m])', time: String(NOW - 250) })).toEqual({
      'up/x/z-x': '2.5',
      'up/old/z-old': '7',
    })
    expect(await querier.instant({ query: 'sum by (job) (count_over_time(up[10m]))', ...at })).toEqual({
      x: '5',
      old: '1',
      new: '1',
    })
  })

  it('start times of samples in blocks count, whether owners have samples of the series or not', async () => {
    const features = { enableFeature: ['use-start-timestamps', 'promql-experimental-functions'] }
    const { querier, store } = await system({ data: { 0: [held('both', ago(60, 3))] } }, features)
    const started = (seconds: number, value: number, from: number) =>
      [(NOW - seconds) * 1000, value, (NOW - from) * 1000] as const
    const samples = [ago(500, 1), started(300, 5, 310), started(120, 6, 130)]
    const entry = await store.upload([stored('block', ...samples), stored('both', ...samples)])
    await store.commit([entry], { partition: 0, segment: 1 })
    const asked = { query: 'resets(up[10m])', ...at }
    expect(await querier.instant(asked)).toEqual({ 'block/z-block': '2', 'both/z-both': '3' })
    const started120 = { query: 'start_timestamp(up)', time: String(NOW - 100) }
    expect(await querier.instant(started120)).toEqual({
      'block/z-block': String(NOW - 130),
      'both/z-both': String(NOW - 130),
    })
  })

  it('QUERY-8, LOG-18: an owner that has dropped what was asked for: all is read again by a newer view', async () => {
    let flush: (() => Promise<void>) | undefined
    const { querier, store, ingester } = await system({
      data: { 0: [{ ...held('x', ago(60, 1)), segment: 1 }, held('y', ago(30, 2))] },
      async before(ask) {
        await flush?.()
        flush = undefined
        if (ask.watermark < 1) throw new RefusedError('err-carillon-dropped', 'segment 1 is in a block')
      },
    })
    const entry = await store.upload([stored('x', ago(60, 1))])
    flush = () => store.commit([entry], { partition: 0, segment: 1 })
    expect(await querier.instant({ query: 'up', ...at })).toEqual({ 'up/x/z-x': '1', 'up/y/z-y': '2' })
    expect(ingester.asks.map(({ watermark }) => watermark)).toEqual([0, 1])
    expect(await metricOf(querier, 'carillon_querier_view_retries_total')).toBe(1)
    expect(await metricOf(querier, 'carillon_querier_samples_read_total')).toBe(2)
  })

  it('LOG-18: dropped for good is an error, also with partial_response', async () => {
    const before = () => {
      throw new RefusedError('err-carillon-dropped', 'gone')
    }
    const { querier } = await system({ data: { 0: [] }, before })
    const body = await querier.ask('instant', { query: 'up', ...at, partial_response: 'true' })
    expect(body).toMatchObject({ status: 'error', errorType: 'unavailable' })
    expect(body.error).toMatch(/^partition 0 has no owner that still holds segment 1: .*\(err-carillon-dropped\)$/)
  })

  it('QUERY-10: blocks that the range does not reach are not touched', async () => {
    const { querier, store } = await system({ data: { 0: [held('x', ago(30, 5))] } })
    await store.commit([await store.upload([stored('x', ago(400, 1))])], { partition: 0, segment: 1 })
    store.reads.length = 0
    expect(await querier.instant({ query: 'up', ...at })).toEqual({ 'up/x/z-x': '5' })
    const range = { query: 'up', start: String(NOW - 60), end: String(NOW), step: '15' }
    expect((await querier.ask('range', range)).status).toBe('success')
    expect(store.reads).toEqual([])
    expect(await rangeOf(querier, { query: 'up[400s]' })).toEqual({ x: [[30, 5]] }) // (start, end]: the block ends at its start
    expect(store.reads).toEqual([])
    expect(await rangeOf(querier, { query: 'up[401s]' })).toEqual({
      x: [
        [400, 1],
        [30, 5],
      ],
    })
  })

  it('ENGINE-2: sums of projected series give the same bits whether they come from owners or blocks', async () => {
    const values = Array.from({ length: 200 }, (_, i) => 0.1 + i / 7)
    const jobs = values.map((value, i) => ({ job: `j${i}`, value }))
    const fromOwner = await system({ data: { 0: jobs.map(({ job, value }) => held(job, ago(30, value))) } })
    const fromBlock = await system({ data: { 0: [] } })
    await fromBlock.store.commit(
      [await fromBlock.store.upload(jobs.map(({ job, value }) => stored(job, ago(30, value))))],
      {
        partition: 0,
        segment: 1,
      },
    )
    const both = await system({ data: { 0: jobs.slice(0, 90).map(({ job, value }) => held(job, ago(30, value))) } })
    await both.store.commit(
      [await both.store.upload(jobs.slice(80).map(({ job, value }) => stored(job, ago(30, value))))],
      {
        partition: 0,
        segment: 1,
      },
    )
    for (const query of ['sum(up)', 'avg by (__name__) (up)', 'stddev(up)', 'sum(sum_over_time(up[1m]))']) {
      const answers = await Promise.all(
        [fromOwner, fromBlock, both].map(({ querier }) => querier.instant({ query, ...at })),
      )
      expect(answers[1]).toEqual(answers[0])
      expect(answers[2]).toEqual(answers[0])
    }
  })
})

describe('what is stored of blocks is damaged or missing', () => {
  async function withBlock(changes: Partial<QuerierConfig> = {}): Promise<System & { entry: BlockEntry }> {
    const before = ({ watermark }: OwnerRequest) => {
      if (watermark >= 0 && watermark < flushed) throw new RefusedError('err-carillon-dropped', 'in blocks')
    }
    let flushed = 0
    const made = await system({ data: { 0: [held('live', ago(30, 5))] }, before }, changes)
    const entry = await made.store.upload([stored('x', ago(60, 1))], {
      gaps: ['partition 0 lost 3 messages of segment 1'],
    })
    await made.store.commit([entry], { partition: 0, segment: 1 })
    flushed = 1
    return { ...made, entry }
  }

  it('QUERY-9: a missing file of a block is an error that names block and file; partial_response warns', async () => {
    const { querier, store, entry } = await withBlock()
    await store.objects.delete(`${TENANT}/${entry.ulid}/chunks/000001`, { timeoutMs: 1_000 })
    const body = await querier.ask('instant', { query: 'up', ...at })
    expect(body).toMatchObject({ status: 'error', errorType: 'internal' })
    expect(body.error).toContain(`block ${entry.ulid}`)
    expect(body.error).toContain('chunks/000001')
    expect(body.error).toContain('(err-carillon-block-damaged)')
    expect(await metricOf(querier, 'carillon_querier_block_failures_total')).toBe(1)
    const partial = await querier.ask('instant', { query: 'up', ...at, partial_response: 'true' })
    expect(partial.status).toBe('success')
    expect(partial.warnings?.join()).toContain('chunks/000001')
    expect((partial.data as { result: unknown[] }).result).toHaveLength(1)
  })

  it('QUERY-9: a bit that turned over in an index is an error', async () => {
    const { querier, store, entry } = await withBlock()
    store.objects.damage(`${TENANT}/${entry.ulid}/index`)
    const body = await querier.ask('instant', { query: 'up', ...at })
    expect(body).toMatchObject({ status: 'error', errorType: 'internal' })
    expect(body.error).toContain(`${entry.ulid}/index`)
    for (const kind of ['series', 'labels', 'label_values'] as const) {
      const asked = await querier.ask(kind, { match: ['up'], name: 'job' })
      expect(asked.error).toContain('(err-carillon-block-damaged)')
    }
  })

  it('a block is read again by a newer manifest when it was replaced meanwhile', async () => {
    const { querier, store, entry } = await withBlock()
    const merged = await store.upload([stored('x', ago(60, 1)), stored('y', ago(50, 2))], { segment: 9 })
    store.before = async (operation, name) => {
      if (operation !== 'read' || !name.includes(`${entry.ulid}/chunks`)) return
      store.before = () => {}
      await store.change((manifest) => ({ ...manifest, blocks: [merged] }))
      await store.blocks.deleteBlock(TENANT, entry.ulid)
    }
    expect(await querier.instant({ query: 'up', ...at })).toEqual({
      'up/live/z-live': '5',
      'up/x/z-x': '1',
      'up/y/z-y': '2',
    })
  })

  it('MANIFEST-3: a manifest that is missing, or damaged, is an error with a stable id, never a shorter answer', async () => {
    const { querier, store, hub } = await withBlock()
    const bucket = await hub.connect('vandal').bucket(BLOCKS_BUCKET)
    await bucket.put(manifestKey(TENANT), Buffer.from('{"tenant":"anon'))
    const damaged = await querier.ask('instant', { query: 'up', ...at })
    expect(damaged).toMatchObject({ status: 'error', errorType: 'internal' })
    expect(damaged.error).toContain('(manifest-damaged)')
    await bucket.delete(manifestKey(TENANT))
    await store.blocks.refresh(1_000)
    const missing = await querier.ask('range', { query: 'up', start: '0', end: '1', step: '1' })
    expect(missing.error).toContain('(manifest-missing)')
    const partial = await querier.ask('instant', { query: 'up', ...at, partial_response: 'true' })
    expect(partial.status).toBe('success')
    expect(partial.warnings?.join()).toContain('(manifest-missing)')
  })

  it('what a block misses is shown as a warning, where the range reaches it', async () => {
    const { querier } = await withBlock()
    const body = await querier.ask('instant', { query: 'up', ...at })
    expect(body.warnings?.join()).toContain('partition 0 lost 3 messages of segment 1')
    expect((await querier.ask('instant', { query: 'up', time: String(NOW - 900) })).warnings).toBeUndefined()
  })

  it('a bucket that cannot be read: an error, or with partial_response a warning', async () => {
    const hub = memoryHub()
    hub.faults.bucketsDown = true
    const ingester = await stubIngester({ hub, id: 'a', data: { 0: [held('x', ago(30, 5))] } })
    const querier = await startQuerier(hub, fixedMembership([['a']]), { queryTimeoutMs: 20_000 })
    ending.push(ingester.stop, querier.stop)
    const [body, partial] = await Promise.all([
      querier.ask('instant', { query: 'up', ...at }),
      querier.ask('instant', { query: 'up', ...at, partial_response: 'true' }),
    ])
    expect(body).toMatchObject({ status: 'error', errorType: 'unavailable' })
    expect(body.error).toContain('(err-carillon-blocks-unknown)')
    expect(partial.status).toBe('success')
    expect(partial.warnings?.join()).toContain('(err-carillon-blocks-unknown)')
    hub.faults.bucketsDown = false
    await expect
      .poll(() => querier.instant({ query: 'up', ...at }).catch(() => ({})), { timeout: 5_000 })
      .toEqual({ 'up/x/z-x': '5' })
  })
})

describe('what is deleted', () => {
  const times = { startMs: (NOW - 60) * 1000, endMs: (NOW - 40) * 1000 }
  const deletion = (over: Partial<DeleteEntry>) => deletionOf('x', { ...times, ...over })
  const samples = [ago(70, 1), ago(60, 2), ago(50, 3), ago(40, 4), ago(30, 5)]

  it('LOG-12: a deletion hides samples of the blocks that it names, of no others, and is taken back', async () => {
    const { querier, store } = await system({ data: { 0: [] } })
    const first = await store.upload([stored('x', ...samples), stored('y', ...samples)])
    const second = await store.upload([stored('x', ago(55, 9))], { segment: 2 })
    await store.commit([first, second], { partition: 0, segment: 2 })
    await store.change((manifest) => ({ ...manifest, deletes: [deletion({ blocks: [first.ulid] })] }))
    await expect
      .poll(async () => (await rangeOf(querier, { query: 'up[5m]' }))['x'])
      .toEqual([
        [70, 1],
        [55, 9],
        [30, 5],
      ])
    expect((await rangeOf(querier, { query: 'up[5m]' }))['y']).toHaveLength(5)
    expect(await querier.instant({ query: 'up', time: String(NOW - 40) })).toEqual({ 'up/x/z-x': '9', 'up/y/z-y': '4' })
    await store.change((manifest) => ({ ...manifest, deletes: [deletion({ state: 'undone' })] }))
    await expect.poll(async () => (await rangeOf(querier, { query: 'up[5m]' }))['x']).toHaveLength(6)
  })

  it('LOG-12: series that are hidden as a whole are in no list', async () => {
    const { querier, store } = await system({ data: { 0: [] } })
    const entry = await store.upload([stored('x', ...samples), stored('y', ...samples)])
    await store.commit([entry], { partition: 0, segment: 1 })
    const all = deletion({ startMs: 0, endMs: NOW * 1000, blocks: [entry.ulid] })
    await store.change((manifest) => ({ ...manifest, deletes: [all] }))
    await expect
      .poll(async () => (await querier.ask('series', { match: ['up'] })).data)
      .toEqual([{ __name__: 'up', job: 'y', zone: 'z-y' }])
    expect((await querier.ask('label_values', { name: 'job' })).data).toEqual(['y'])
    expect(await querier.instant({ query: 'up', ...at })).toEqual({ 'up/y/z-y': '5' })
  })

  it('tombstones of a block hide what they cover', async () => {
    const { querier, store } = await system({ data: { 0: [] } })
    const series = [stored('x', ...samples)]
    const plain = await store.upload(series)
    await store.commit([plain], { partition: 0, segment: 1 })
    const reader = await store.blocks.openBlock(TENANT, plain).meta()
    expect(reader.stats.numSeries).toBe(1)
    const { BlockReader } = await import('../../../shared/tsdb/block/reader.ts')
    const opened = await BlockReader.open(store.blocks.openBlock(TENANT, plain), reader)
    let ref = -1
    for await (const batch of opened.series([], { startMs: 0, endMs: NOW * 1000 })) ref = batch[0]!.ref
    const stone = { ref, startMs: (NOW - 60) * 1000, endMs: (NOW - 50) * 1000 }
    const entry = await store.upload(series, { tombstones: [stone], segment: 2 })
    await store.change((manifest) => ({ ...manifest, blocks: [entry] }))
    await expect
      .poll(() => rangeOf(querier, { query: 'up[5m]' }))
      .toEqual({
        x: [
          [70, 1],
          [40, 4],
          [30, 5],
        ],
      })
  })
})

describe('names, values and bounds', () => {
  it('series, labels and label values come from blocks as well, within the time range', async () => {
    const { querier, store } = await system({ data: { 0: [held('live', ago(30, 5))] } })
    await store.commit([await store.upload([stored('x', ago(600, 1))])], { partition: 0, segment: 1 })
    const late = { start: String(NOW - 60) }
    expect((await querier.ask('label_values', { name: 'job' })).data).toEqual(['live', 'x'])
    expect((await querier.ask('label_values', { name: 'job', ...late })).data).toEqual(['live'])
    expect((await querier.ask('label_values', { name: 'zone', match: ['up{job="x"}'] })).data).toEqual(['z-x'])
    expect((await querier.ask('labels', {})).data).toEqual(['__name__', 'job', 'zone'])
    const series = await querier.ask('series', { match: ['up'] })
    expect((series.data as { job: string }[]).map(({ job }) => job)).toEqual(['live', 'x'])
    const limited = await querier.ask('series', { match: ['up'], limit: '1' })
    expect(limited.data).toHaveLength(1)
    expect(limited.warnings).toEqual(['results truncated due to limit'])
  })

  it.each([
    ['samplesMax', 20, 'err-carillon-query-samples'],
    ['blockBytesMax', 1_024, 'err-carillon-query-block-bytes'],
    ['seriesMax', 30, 'err-carillon-query-series'],
  ] as const)('%s bounds what is read of blocks', async (name, max, code) => {
    const { querier, store } = await system({ data: { 0: [] } }, { [name]: max })
    const many = Array.from({ length: 31 }, (_, i) =>
      stored(`j${i}`, ...Array.from({ length: 40 }, (_, s) => ago(100 - s, Math.random()))),
    )
    await store.commit([await store.upload(many)], { partition: 0, segment: 1 })
    const body = await querier.ask('instant', { query: 'up[5m]', ...at })
    expect(body).toMatchObject({ status: 'error', errorType: 'execution' })
    expect(body.error).toContain(code)
    const few = await querier.ask('instant', { query: 'up{job="nothing"}', ...at })
    expect(few.status).toBe('success')
  })

  it('the same series in many blocks counts once against the series limit', async () => {
    const { querier, store } = await system({ data: { 0: [] } }, { seriesMax: 4 })
    const entries: BlockEntry[] = []
    for (let k = 1; k <= 6; k++) {
      entries.push(
        await store.upload(
          ['a', 'b', 'c'].map((job) => stored(job, ago(100 - k, k))),
          { segment: k },
        ),
      )
    }
    await store.commit(entries, { partition: 0, segment: 1 })
    expect(await querier.instant({ query: 'sum(count_over_time(up[5m]))', ...at })).toEqual({ '': '18' })
  })

  it('open blocks are few: the longest unused go', async () => {
    const { querier, store } = await system({ data: { 0: [] } }, { openBlocksMax: 2, readCacheBytesMax: 0 })
    const entries: BlockEntry[] = []
    for (let k = 1; k <= 5; k++) entries.push(await store.upload([stored(`j${k}`, ago(100 - k, k))], { segment: k }))
    await store.commit(entries, { partition: 0, segment: 1 })
    expect(await querier.instant({ query: 'count(up)', ...at })).toEqual({ '': '5' })
    expect(await metricOf(querier, 'carillon_querier_open_blocks')).toBe(2)
    expect(await querier.instant({ query: 'count(up)', ...at })).toEqual({ '': '5' })
  })
})
