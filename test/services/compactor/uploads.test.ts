// Uploads against whoever cleans up: a sweep while one is validated, a second upload of the same block, an upload that nobody finishes.
import { afterEach, expect, test, vi } from 'vitest'
import { compactorSettings } from '../../../services/compactor/config.ts'
import { importBlock } from '../../../services/compactor/import/import-block.ts'
import { nextInTurn } from '../../../services/compactor/import/upload-turns.ts'
import { Uploads } from '../../../services/compactor/import/upload-worker.ts'
import { withGarbage, withoutRetired } from '../../../services/compactor/merge/manifest-changes.ts'
import type { CompactorMeasures } from '../../../services/compactor/metrics.ts'
import { Sweep } from '../../../services/compactor/retire/sweep.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { openBlocks } from '../../../shared/blocks/open.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import { createMemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { KvBucket } from '../../../shared/bus/port.ts'
import { defaultsOf } from '../../../shared/config/settings.ts'
import {
  encodePlan,
  partName,
  planName,
  stagedFolder,
  UPLOADS_BUCKET,
  type UploadRecord,
  uploadKey,
  uploadRecord,
} from '../../../shared/contracts/uploads.ts'
import { labelsFrom, labelsKey } from '../../../shared/model/labels.ts'
import { memoryObjects } from '../../../shared/objects/memory-objects.ts'
import type { ObjectStore } from '../../../shared/objects/port.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { createMetrics } from '../../../shared/telemetry/metrics.ts'
import { META_FILE } from '../../../shared/tsdb/block/files.ts'
import { metaBytes } from '../../../shared/tsdb/block/meta.ts'
import { WAIT } from '../../waiting.ts'
import { floatValue, type SeriesMap, type TestBlock, writeBlock } from './merge-ground.ts'

const TENANT = 'acme'
const call = { timeoutMs: 5_000 }
const HOUR = 3_600_000
const stops: (() => unknown)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

interface Hooks {
  /** Before each object that the validator makes, lists or deletes. */
  object?(operation: 'create' | 'list' | 'delete'): Promise<unknown> | undefined
  /** Before the manifest is changed: the validator may stand still for as long as it likes. */
  listing?(): Promise<unknown> | undefined
}

async function ground(hooks: Hooks = {}, keepMs = HOUR) {
  const hub = createMemoryHub({ clock: systemClock, random: seededRandom(1) })
  const bus = hub.connect('compactor')
  const objects = memoryObjects({ clock: systemClock })
  const common = { bus, clock: systemClock, random: seededRandom(2), log: silentLog, metrics: createMetrics() }
  const blocks = await openBlocks({ ...common, objects })
  const gated: ObjectStore = {
    ...objects,
    create: async (...of) => {
      await hooks.object?.('create')
      return objects.create(...of)
    },
    list: async (...of) => {
      await hooks.object?.('list')
      return objects.list(...of)
    },
    delete: async (...of) => {
      await hooks.object?.('delete')
      return objects.delete(...of)
    },
  }
  const gatedBlocks: Blocks = {
    ...blocks,
    update: async (...of) => {
      await hooks.listing?.()
      return blocks.update(...of)
    },
  }
  const config = defaultsOf(compactorSettings, { uploadKeepMs: keepMs, orphanGraceMs: 0, retiredDelayMs: 0 })
  const measures = { uploaded() {}, deleted() {} }
  const uploads = new Uploads({
    ...{ ...common, objects: gated, blocks: gatedBlocks, config, incarnation: 'one' },
    ...{ measures, importer: { import: importBlock }, keepMsOf: () => Number.POSITIVE_INFINITY },
  })
  await uploads.start()
  const bucket = await bus.bucket(UPLOADS_BUCKET)
  stops.push(
    () => uploads.stop(),
    () => blocks.close(),
  )
  await blocks.update(TENANT, (manifest) => ({ ...manifest }))
  await blocks.refresh(5_000)
  const sweep = new Sweep({
    ...{ ...common, blocks, config, now: () => systemClock.now() + 1_000, partitionCount: () => 0 },
    measures: measures as unknown as CompactorMeasures,
  })
  const sweepNow = async () => {
    const { manifest } = await blocks.update(TENANT, () => undefined)
    const lease = { tenant: TENANT, fence: manifest.fence + 1, signal: new AbortController().signal }
    return sweep.deleteGarbage(lease, manifest, lease.signal)
  }
  return { bucket, blocks, objects, uploads, sweepNow }
}

async function aBlock(name = 'up'): Promise<TestBlock> {
  const startMs = Math.floor(Date.now() / HOUR - 30) * HOUR
  const labels = labelsFrom({ __name__: name })
  const samples = Array.from({ length: 5 }, (_, i) => ({ time: startMs + i * 1_000, value: floatValue(i) }))
  const series: SeriesMap = new Map([[labelsKey(labels), { labels, samples }]])
  return writeBlock(series, 1)
}

const recordFor = ({ meta: { ulid } }: TestBlock): UploadRecord => ({
  ...{ v: 1, tenant: TENANT, ulid, nonce: 'a1', metaSha256: 'x', bytes: 1, replaces: true, state: 'waiting' },
  ...{ beganAtMs: 1, changedAtMs: systemClock.now(), incarnation: '', beat: 0, attempt: 0, blocks: [] },
})

/** As a gateway does. */
async function stage(objects: ObjectStore, { meta, files }: TestBlock, record: UploadRecord): Promise<void> {
  const folder = stagedFolder(record)
  const all = [...files, [META_FILE, metaBytes(meta)] as const]
  for (const [name, bytes] of all) await objects.create(partName(folder, name, 0), bytes, call)
  const plan = encodePlan(all.map(([name, bytes]) => ({ name, size: bytes.length })))
  await objects.create(planName(folder), plan, call)
}

const put = (bucket: KvBucket, record: UploadRecord) =>
  bucket.put(uploadKey(record.tenant, record.ulid), uploadRecord.format.encode(record))

async function recordOf(bucket: KvBucket, { ulid }: UploadRecord): Promise<UploadRecord | undefined> {
  const value = (await bucket.get(uploadKey(TENANT, ulid)))?.value
  const decoded = value && uploadRecord.format.decode(value)
  return decoded?.kind === 'value' ? decoded.value : undefined
}

async function comesTo(uploads: Uploads, bucket: KvBucket, record: UploadRecord, state: UploadRecord['state']) {
  await vi.waitFor(async () => {
    await uploads.look()
    expect((await recordOf(bucket, record))?.state).toBe(state)
  }, WAIT)
}

/** Begins the upload of the same block anew, once, as a gateway does when the one before has ended. */
function beginsAnew(of: () => { bucket: KvBucket; objects: ObjectStore; block: TestBlock; before: UploadRecord }) {
  let isBegun = false
  return async (mayBegin: (state: UploadRecord['state'] | undefined) => boolean) => {
    const { bucket, objects, block, before } = of()
    const [entry] = await bucket.newest([uploadKey(TENANT, before.ulid)])
    const decoded = entry?.value && uploadRecord.format.decode(entry.value)
    const state = decoded && decoded.kind === 'value' ? decoded.value.state : undefined
    if (isBegun || !mayBegin(state)) return
    isBegun = true
    const record = { ...before, nonce: 'b2', state: 'uploading' as const, changedAtMs: systemClock.now() }
    await bucket.update(uploadKey(TENANT, before.ulid), uploadRecord.format.encode(record), entry!.revision)
    await stage(objects, block, record)
  }
}

const namesIn = async (objects: ObjectStore, prefix: string) =>
  (await objects.list(prefix, call)).map(({ name }) => name)

test('VALIDATE-2: a sweep takes the files of a block that is about to be listed: nothing is listed that is not there, it is done again', async () => {
  let sweeps = 0
  const hooks: Hooks = { listing: () => (sweeps++ === 0 ? sweepNow() : undefined) }
  const { objects, uploads, bucket, blocks, sweepNow } = await ground(hooks)
  const block = await aBlock()
  const record = recordFor(block)
  await stage(objects, block, record)
  await put(bucket, record)
  await comesTo(uploads, bucket, record, 'complete')
  const { manifest } = await blocks.update(TENANT, () => undefined)
  expect((await recordOf(bucket, record))?.attempt).toBe(2)
  expect(manifest.blocks).toHaveLength(1)
  const prefix = `${TENANT}/${manifest.blocks[0]!.ulid}/`
  const files = ['chunks/000001', 'index', META_FILE].map((file) => prefix + file)
  expect(await namesIn(objects, prefix)).toEqual(expect.arrayContaining(files))
})

test('VALIDATE-2: a sweep that took other files costs a look at the own ones, not the work', async () => {
  let sweeps = 0
  const hooks: Hooks = { listing: () => (sweeps++ === 0 ? sweepOther() : undefined) }
  const { objects, uploads, bucket, blocks } = await ground(hooks)
  const sweepOther = async () => {
    const named = await blocks.update(TENANT, (manifest) => withGarbage(manifest, ['other'], 1))
    expect(named.manifest.retired).toMatchObject([{ ulid: 'other', reason: 'garbage' }])
    await blocks.update(TENANT, (manifest) => withoutRetired(manifest, ['other']))
  }
  const block = await aBlock()
  const record = recordFor(block)
  await stage(objects, block, record)
  await put(bucket, record)
  await comesTo(uploads, bucket, record, 'complete')
  expect((await recordOf(bucket, record))?.attempt).toBe(1)
  expect((await blocks.update(TENANT, () => undefined)).manifest.blocks).toHaveLength(1)
})

test('UPLOAD-2: an upload of the same block that begins while the files of the one before are deleted keeps its own', async () => {
  const block = await aBlock()
  const before = recordFor(block)
  const anew = beginsAnew(() => ({ bucket, objects, block, before }))
  const { objects, uploads, bucket } = await ground({ object: () => anew((state) => state === 'complete') })
  await stage(objects, block, before)
  await put(bucket, before)
  await comesTo(uploads, bucket, before, 'uploading')
  await vi.waitFor(async () => expect(await namesIn(objects, stagedFolder(before))).toEqual([]), WAIT)
  await put(bucket, { ...(await recordOf(bucket, before))!, state: 'waiting' })
  await comesTo(uploads, bucket, before, 'complete')
})

test('UPLOAD-3: an old upload is forgotten with its files, unless it begins anew meanwhile', async () => {
  const block = await aBlock()
  const before: UploadRecord = { ...recordFor(block), state: 'failed', changedAtMs: 1 }
  const anew = beginsAnew(() => ({ bucket, objects, block, before }))
  const mayBegin = { now: false }
  const { objects, uploads, bucket } = await ground(
    { object: (operation) => anew(() => mayBegin.now && operation === 'list') },
    1,
  )
  await stage(objects, block, before)
  await put(bucket, before)
  mayBegin.now = true
  await vi.waitFor(async () => {
    await uploads.sweep()
    expect((await recordOf(bucket, before))?.state).toBe('uploading')
  }, WAIT)
  const own = await namesIn(objects, stagedFolder({ ...before, nonce: 'b2' }))
  expect(own.length).toBeGreaterThan(2)
  await put(bucket, before)
  await vi.waitFor(async () => {
    await uploads.sweep()
    expect(await recordOf(bucket, before)).toBeUndefined()
  }, WAIT)
  expect(await namesIn(objects, `${TENANT}/uploads/`)).toEqual([])
})

test('TURN-1: tenants take turns, however many one has waiting; one that has some at work waits for those that have none', () => {
  const of = (tenant: string, changedAtMs: number, rest: Partial<UploadRecord> = {}) => ({
    record: { tenant, changedAtMs, state: 'waiting' as UploadRecord['state'], attempt: 0, ...rest },
    isFree: true,
  })
  const many = [1, 2, 3].map((atMs) => of('many', atMs))
  const few = of('few', 9)
  expect(nextInTurn([...many, few])).toBe(many[0])
  const done = { ...of('many', 4, { state: 'complete', attempt: 1 }), isFree: false }
  expect(nextInTurn([done, ...many, few])).toBe(few)
  const later = { ...of('few', 5, { state: 'failed', attempt: 2 }), isFree: false }
  expect(nextInTurn([done, ...many, later, few])).toBe(many[0])
  const atWork = { ...of('few', 2, { state: 'validating', attempt: 1 }), isFree: false }
  expect(nextInTurn([atWork, few, done, ...many])).toBe(many[0])
  expect(nextInTurn([atWork, few])).toBe(few)
  const putBack = of('many', 6, { attempt: 1 })
  expect(nextInTurn([putBack, few])).toBe(few)
  expect(nextInTurn([atWork, done])).toBeUndefined()
})

test('TURN-1: of one validator as well', async () => {
  const order: string[] = []
  const { uploads, bucket, objects } = await ground()
  const blocks = await Promise.all(['a', 'b', 'c'].map((name) => aBlock(name)))
  const records = blocks.map((block) => recordFor(block))
  records.push({ ...recordFor(blocks[0]!), tenant: 'quiet', changedAtMs: systemClock.now() + 1_000 })
  for (const [i, record] of records.entries()) {
    await stage(objects, blocks[i % 3]!, record)
    await put(bucket, record)
  }
  await vi.waitFor(async () => {
    await uploads.look()
    for (const { tenant, ulid } of records) {
      const decoded = uploadRecord.format.decode((await bucket.get(uploadKey(tenant, ulid)))!.value!)
      const isBegun = decoded.kind === 'value' && decoded.value.attempt > 0
      if (isBegun && !order.includes(`${tenant} ${ulid}`)) order.push(`${tenant} ${ulid}`)
    }
    expect(order).toHaveLength(4)
  }, WAIT)
  expect(order.findIndex((each) => each.startsWith('quiet'))).toBe(1)
})
