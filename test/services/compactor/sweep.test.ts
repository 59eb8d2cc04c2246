// What a sweep deletes, and what it leaves: files that somebody may still list, blocks that somebody may still read.
import { beforeEach, expect, it } from 'vitest'
import type { CompactorMeasures } from '../../../services/compactor/metrics.ts'
import { Sweep } from '../../../services/compactor/retire/sweep.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { entryOf } from '../../../shared/blocks/entry.ts'
import { openBlocks } from '../../../shared/blocks/open.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import { createMemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { BlockEntry, BlockOrigin, Manifest } from '../../../shared/contracts/blocks.ts'
import type { Lease } from '../../../shared/kv/leases.ts'
import { memoryObjects } from '../../../shared/objects/memory-objects.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { blockMeta, metaBytes } from '../../../shared/tsdb/block/meta.ts'
import { VirtualClock } from '../../sim/virtual-clock.ts'

const TENANT = 'acme'
const GRACE_MS = 3_600_000
const MINUTE_MS = 60_000

const partitionCount = 2
let clock: VirtualClock
let blocks: Blocks
let sweep: Sweep

beforeEach(async () => {
  clock = new VirtualClock()
  const deps = { clock, random: seededRandom(1), log: silentLog, objects: memoryObjects({ clock }) }
  const bus = createMemoryHub({ clock, random: seededRandom(1) }).connect('compactor')
  blocks = await soon(openBlocks({ ...deps, bus }))
  const measures = { deleted: () => {} } as unknown as CompactorMeasures
  const config = { retiredDelayMs: 10 * MINUTE_MS, orphanGraceMs: GRACE_MS }
  const now = () => clock.now()
  sweep = new Sweep({ blocks, clock, now, log: silentLog, measures, config, partitionCount: () => partitionCount })
})

async function soon<T>(promise: Promise<T>): Promise<T> {
  let isSettled = false
  const settled = () => {
    isSettled = true
  }
  promise.then(settled, settled)
  await clock.run(() => isSettled, clock.monotonic() + 10 * GRACE_MS)
  return promise
}

const pass = (ms: number) => soon(new Promise<void>((resolve) => void clock.after(ms, resolve)))

/** Stores a block that nobody lists. */
async function upload(origin: BlockOrigin, n = 0): Promise<BlockEntry> {
  const stats = {
    ...{ minTime: 0, maxTime: 1, numSeries: 1, numSamples: 1, numFloatSamples: 1, numHistogramSamples: 0 },
    ...{ numChunks: n, files: [] },
  }
  const meta = blockMeta({ tenant: TENANT, stats, origin, level: 1 } as unknown as Parameters<typeof blockMeta>[0])
  const bytes = metaBytes(meta)
  await soon(blocks.uploadBlock(TENANT, { ulid: meta.ulid, files: [{ name: 'meta.json', bytes }] }))
  return entryOf({ ulid: meta.ulid, origin, stats, metaBytes: bytes } as unknown as Parameters<typeof entryOf>[0])
}

async function flushed(partition: number, segment: number): Promise<void> {
  const mark = { seq: 1, nonce: '', incarnation: '' }
  for (let next = blocks.flushed(partition) + 1; next <= segment; next++)
    await soon(blocks.advanceFlushed(partition, { segment: next, mark, digests: {} }))
  await soon(blocks.refresh(5_000))
}

async function change(make: (manifest: Manifest) => Manifest | undefined): Promise<Manifest> {
  return (await soon(blocks.update(TENANT, make))).manifest
}

const lease: Lease = { tenant: TENANT, fence: 1, signal: new AbortController().signal }
const deleteGarbage = async (manifest?: Manifest) =>
  soon(sweep.deleteGarbage(lease, manifest ?? (await change(() => undefined)), lease.signal))
const found = async () => (await soon(blocks.listBlocks(TENANT))).map(({ ulid }) => ulid)

it('SWEEP-3, LOG-17: a flushed block that nobody lists stays until its segment is flushed: its leader may list it yet', async () => {
  await change((manifest) => ({ ...manifest }))
  await flushed(0, 4)
  const { ulid } = await upload({ kind: 'flush', partition: 0, segment: 5 })
  await pass(2 * GRACE_MS)
  expect(await deleteGarbage()).toEqual([])
  await flushed(0, 5)
  expect(await deleteGarbage()).toEqual([ulid])
  expect(await found()).toEqual([])
})

it('SWEEP-3: what is younger than the grace stays', async () => {
  await change((manifest) => ({ ...manifest }))
  await flushed(0, 5)
  const { ulid } = await upload({ kind: 'flush', partition: 0, segment: 5 })
  await pass(GRACE_MS / 2)
  expect(await deleteGarbage()).toEqual([])
  await pass(GRACE_MS)
  expect(await deleteGarbage()).toEqual([ulid])
})

it('SWEEP-1: what is listed while the sweep looks stays: the manifest is looked at again, by writing it', async () => {
  const old = await change((manifest) => ({ ...manifest }))
  await flushed(0, 5)
  const entry = await upload({ kind: 'flush', partition: 0, segment: 5 })
  const other = await upload({ kind: 'compaction', level: 1 }, 2)
  await pass(2 * GRACE_MS)
  await change((manifest) => ({ ...manifest, blocks: [entry] }))
  expect(await deleteGarbage(old)).toEqual([other.ulid])
  expect(await found()).toEqual([entry.ulid])
})

it('SWEEP-1: a holder whose lease was followed by another deletes nothing', async () => {
  const manifest = await change((before) => ({ ...before }))
  const entry = await upload({ kind: 'compaction', level: 1 })
  await pass(2 * GRACE_MS)
  await soon(blocks.update(TENANT, (before) => ({ ...before }), { fence: 2 }))
  await expect(deleteGarbage(manifest)).rejects.toMatchObject({ code: 'manifest-fenced' })
  expect(await found()).toEqual([entry.ulid])
})

it('SWEEP-3: a block without meta.json stays until every partition has flushed what may have been under way', async () => {
  await change((manifest) => ({ ...manifest }))
  for (const partition of [0, 1]) await flushed(partition, 3)
  await soon(
    blocks.objects.create(`${TENANT}/01ARZ3NDEKTSV4RRFFQ69G5FAV/index`, new Uint8Array(9), { timeoutMs: 1_000 }),
  )
  await pass(2 * GRACE_MS)
  expect(await deleteGarbage(), 'seen for the first time').toEqual([])
  await flushed(0, 9)
  await flushed(1, 4)
  expect(await deleteGarbage(), 'partition 1 may flush what was under way').toEqual([])
  await flushed(1, 5)
  expect(await deleteGarbage()).toEqual(['01ARZ3NDEKTSV4RRFFQ69G5FAV'])
})

it('SWEEP-2: a retired block stays for as long as a query can last since it was seen retired, however the clock jumps', async () => {
  const entry = await upload({ kind: 'compaction', level: 1 })
  const retired = (retiredAtMs: number) => [{ ulid: entry.ulid, retiredAtMs, reason: 'compacted' as const }]
  const ofOld = await change((manifest) => ({ ...manifest, retired: retired(clock.now() - GRACE_MS) }))
  expect(sweep.dueRetired(ofOld), 'retired an hour ago, by a clock that was wrong').toEqual([])
  await pass(5 * MINUTE_MS)
  expect(sweep.dueRetired(ofOld)).toEqual([entry.ulid])
  const young = await change((manifest) => ({ ...manifest, retired: retired(clock.now()) }))
  await pass(6 * MINUTE_MS)
  expect(sweep.dueRetired(young)).toEqual([])
  await pass(5 * MINUTE_MS)
  expect(sweep.dueRetired(young)).toEqual([entry.ulid])
  expect(sweep.dueRetired({ ...young, blocks: [entry] }), 'SWEEP-1').toEqual([])
})

it('SWEEP-2: to look at a tenant costs no more where there are many others', async () => {
  const manifest = await change((before) => ({ ...before }))
  const retired = Array.from({ length: 40 }, (_, i) => {
    return { ulid: `01HF7GKBG092JYQAT1NAKB${i}`, retiredAtMs: clock.now(), reason: 'compacted' as const }
  })
  const enoughMs = performance.now() + 3_000 // it takes some 50; to go over the blocks of all for each takes half a minute
  let looked = 0
  while (looked < 4_000 && performance.now() < enoughMs)
    sweep.dueRetired({ ...manifest, tenant: `tenant-${looked++ % 2_000}`, retired })
  expect(looked).toBe(4_000)
})
