// What owners show by the manifest that they see, over an ingester as it runs (DELETE-8).
import { afterEach, beforeEach, expect, test } from 'vitest'
import { askStream } from '../../../shared/bus/ask.ts'
import { manifestKey } from '../../../shared/contracts/blocks.ts'
import { type SelectRequest, select, WHATEVER_IS_HELD } from '../../../shared/contracts/read.ts'
import { FlushGround } from './flush-ground.ts'
import { TENANT } from './log-writer.ts'

let ground: FlushGround
beforeEach(async () => {
  ground = new FlushGround()
  await ground.open()
})
afterEach(() => ground.close())

const TIME_MS = 1_700_000_000_000
let askers = 0

/** As a querier asks that knows this version of the manifest; 0: none, it answers in part. */
async function seriesShown(id: string, manifestVersion: number): Promise<number> {
  const asked: SelectRequest = {
    ...{ partition: 0, tenant: TENANT, watermark: WHATEVER_IS_HELD, manifestVersion, minSeq: 0, incarnation: '' },
    ...{ waitMs: 1_000, matchers: [], startMs: 0, endMs: 9e15, mode: 'all', seriesMax: 100 },
  }
  const bus = ground.hub.connect(`asker-${++askers}`)
  let count = 0
  const read = async () => {
    for await (const { labelCounts } of askStream(bus, select, { id }, asked, {})) count += labelCounts.length
  }
  await ground.soon(read())
  return count
}

test('DELETE-8: what was deleted shows to nobody while the manifest that says so cannot be read', async () => {
  await ground.start('i1')
  await ground.mark(1)
  await ground.batch([['a', TIME_MS, 1]])
  expect(await seriesShown('i1', 0), 'a tenant without a manifest has no deletions').toBe(1)
  const selectors = [[{ name: '__name__', operator: '=' as const, value: 'a' }]]
  const times = { startMs: 0, endMs: 9e15 }
  const asked = { tenant: TENANT, id: 'd', kind: 'series' as const, ...times, askedBy: 'test', asOf: 0, selectors }
  await ground.soon(ground.deletions().remove(asked))
  const { version } = ground.manifest(TENANT)!
  expect(await seriesShown('i1', version)).toBe(0)
  const bucket = await ground.soon(ground.hub.connect('vandal').bucket('blocks'))
  const sound = (await ground.soon(bucket.get(manifestKey(TENANT))))!.value!
  await ground.soon(bucket.put(manifestKey(TENANT), Buffer.from('junk')))
  ground.kill('i1')
  await ground.start('i2') // has hidden nothing yet
  await ground.pass(30_000)
  for (const known of [0, version]) await expect(seriesShown('i2', known)).rejects.toThrow(/manifest of tenant/)
  await ground.soon(bucket.put(manifestKey(TENANT), sound))
  await ground.pass(1_000)
  expect(await seriesShown('i2', version)).toBe(0)
})
