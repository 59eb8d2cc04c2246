// Blocks that are kept open, and what was found in them.
import { expect, it } from 'vitest'
import { keepOpen } from '../../../services/querier/read/open-blocks.ts'
import { Breathing } from '../../../shared/base/breathing.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import { META_FILE } from '../../../shared/tsdb/block/files.ts'
import { metaBytes, parseMeta } from '../../../shared/tsdb/block/meta.ts'
import { openStore, type StoredSeries, TENANT } from './stored.ts'
import { memoryHub } from './stub-ingester.ts'

const call = { timeoutMs: 5_000 }
const up = (job: string): StoredSeries => ({ labels: { __name__: 'up', job }, samples: [[1_000, 1]] })

it('QUERY-14: blocks of two tenants under one name are two blocks', async () => {
  const store = await openStore(memoryHub())
  const ours = await store.upload([up('ours')])
  const theirs = await store.upload([up('theirs'), up('more')])
  // The names of blocks hash their tenant, so no two tenants have one in common by themselves.
  const files = await Promise.all(
    ['chunks/000001', 'index'].map(async (name) => {
      const object = `${TENANT}/${theirs.ulid}/${name}`
      const { size } = (await store.objects.info(object, call))!
      return { name, bytes: await store.objects.read(object, { start: 0, end: size }, call) }
    }),
  )
  const meta = await store.blocks.openBlock(TENANT, theirs).meta()
  const renamed = parseMeta(metaBytes({ ...meta, ulid: ours.ulid }))
  files.push({ name: META_FILE, bytes: metaBytes(renamed) })
  const uploaded = await store.blocks.uploadBlock('other', { ulid: ours.ulid, files })
  const open = keepOpen(
    { opened: () => store.blocks },
    { countMax: 10, bytesMax: 1e6, breathing: new Breathing(systemClock) },
  )
  const jobsOf = async (tenant: string, entry: typeof ours): Promise<string[]> => {
    const { reader } = await open.open(tenant, entry)
    const jobs: string[] = []
    const matchers = [{ name: '__name__', operator: '=', value: 'up' } as const]
    for await (const batch of reader.series(matchers, { startMs: 0, endMs: 2_000 })) {
      for (const { labels } of batch) jobs.push(labels.at(-1)!)
    }
    return jobs
  }
  for (let time = 0; time < 2; time++) {
    expect(await jobsOf(TENANT, ours)).toEqual(['ours'])
    expect(await jobsOf('other', { ...theirs, ...uploaded, ulid: ours.ulid })).toEqual(['more', 'theirs'])
  }
  expect(open.count).toBe(2)
  store.blocks.close()
})
