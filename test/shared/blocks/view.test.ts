// What a view shows is what the bucket held at one moment, however its watch tells of changes (MANIFEST-1, LOG-15); what is uploaded is read back (MANIFEST-4, LOG-13).
import { expect, test } from 'vitest'
import { systemClock } from '../../../shared/base/clock.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import { systemRandom } from '../../../shared/base/random.ts'
import { openBlocks } from '../../../shared/blocks/open.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import { createMemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import { BLOCKS_BUCKET, manifestObject } from '../../../shared/contracts/blocks.ts'
import { memoryObjects } from '../../../shared/objects/memory-objects.ts'
import type { ObjectStore } from '../../../shared/objects/port.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { withBuckets } from '../../altered-bus.ts'
import { until } from '../../suites/bus-ground.ts'

test('MANIFEST-1, LOG-15: a watch that is behind tells of flushed.0 before the manifest: nobody sees it before that', async () => {
  const hub = createMemoryHub({ clock: systemClock, random: systemRandom })
  const deps = { objects: memoryObjects(), clock: systemClock, random: systemRandom, log: silentLog }
  const writer = await openBlocks({ ...deps, bus: hub.connect('writer') })
  let betweenEntries = () => {}
  // What others do while a watch tells of one entry after another: on the memory bus nothing could come between them.
  const bus = withBuckets(hub.connect('reader'), (bucket) => ({
    watch: (filter, onEntry, ...rest) =>
      bucket.watch(
        filter,
        (entry) => {
          onEntry(entry)
          betweenEntries()
        },
        ...rest,
      ),
  }))
  const reader = await openBlocks({ ...deps, bus })
  const listed = () => reader.manifest('acme')?.manifest.flushed['0'] ?? 0
  const seen: [flushed: number, listed: number][] = []
  betweenEntries = () => void seen.push([reader.flushed(0), listed()])
  hub.pause('reader')
  await writer.update('acme', (manifest) => ({ ...manifest, flushed: { 0: 1 } }))
  await writer.advanceFlushed(0, { segment: 1, mark: { seq: 1, nonce: 'n', incarnation: 'i' }, digests: {} })
  await writer.update('acme', (manifest) => ({ ...manifest, flushed: { 0: 1, 1: 1 } })) // takes the place of the one before
  hub.resume('reader')
  await until(() => reader.flushed(0) === 1, 'the watermark')
  expect(seen.length).toBeGreaterThan(1)
  expect(seen.filter(([flushed, inManifest]) => flushed > inManifest)).toEqual([])
  expect(listed()).toBe(1)
  reader.close()
  writer.close()
})

test('MANIFEST-4, LOG-13: a store that keeps other bytes than it was given is noticed when a block is uploaded', async () => {
  const hub = createMemoryHub({ clock: systemClock, random: systemRandom })
  const store = memoryObjects()
  const rotting: ObjectStore = {
    ...store,
    async create(name, bytes, { readBack, heals: _, ...call }) {
      const info = await store.create(name, bytes, call)
      store.damage(name)
      return readBack ? store.create(name, bytes, { ...call, readBack }) : info
    },
  }
  const deps = { clock: systemClock, random: systemRandom, log: silentLog }
  const blocks = await openBlocks({ ...deps, bus: hub.connect('writer'), objects: rotting })
  const files = [{ name: 'meta.json', bytes: Buffer.from('{"ulid":"01ARZ3NDEKTSV4RRFFQ69G5FAV"}') }]
  const uploading = blocks.uploadBlock('acme', { ulid: '01ARZ3NDEKTSV4RRFFQ69G5FAV', files })
  await expect(uploading).rejects.toMatchObject({ kind: 'corrupt' })
  blocks.close()
})

test('LOG-14: who changes a manifest first makes the copy that a writer left out which died before it', async () => {
  const hub = createMemoryHub({ clock: systemClock, random: systemRandom })
  const store = memoryObjects()
  const dying: ObjectStore = {
    ...store,
    create: (name, ...rest) =>
      name === manifestObject('acme', 2) ? Promise.reject(new Error('killed')) : store.create(name, ...rest),
  }
  const deps = { clock: systemClock, random: systemRandom, log: silentLog }
  const victim = await openBlocks({ ...deps, bus: hub.connect('victim'), objects: dying })
  const next = await openBlocks({ ...deps, bus: hub.connect('next'), objects: store })
  const flushed = (segment: number) => victim.update('acme', (manifest) => ({ ...manifest, flushed: { 0: segment } }))
  await flushed(1)
  await expect(flushed(2)).rejects.toThrow('killed')
  await until(() => next.manifest('acme')?.manifest.version === 2, 'the version without a copy')
  await next.update('acme', (manifest) => ({ ...manifest, flushed: { 0: 3 } }))
  expect(await next.checkChain('acme')).toEqual([])
  expect(await store.info(manifestObject('acme', 2), { timeoutMs: 1_000 })).toBeDefined()
  for (const blocks of [victim, next]) blocks.close()
})

test('LOG-13: a file that was stored with a wrong byte does not stand in the way of the next try', async () => {
  const hub = createMemoryHub({ clock: systemClock, random: systemRandom })
  const objects = memoryObjects()
  const blocks = await openBlocks({
    ...{ clock: systemClock, random: systemRandom, log: silentLog },
    ...{ bus: hub.connect('writer'), objects },
  })
  const ulid = '01ARZ3NDEKTSV4RRFFQ69G5FAV'
  const files = ['index', 'meta.json'].map((name) => ({ name, bytes: Buffer.from(`{"of":"${name}"}`) }))
  await blocks.uploadBlock('acme', { ulid, files })
  for (const { name } of files) objects.damage(`acme/${ulid}/${name}`)
  await blocks.uploadBlock('acme', { ulid, files })
  for (const { name, bytes } of files) {
    const read = objects.read(`acme/${ulid}/${name}`, { start: 0, end: bytes.length }, { timeoutMs: 1_000 })
    expect(Buffer.from(await read)).toEqual(bytes)
  }
  blocks.close()
})

test('MANIFEST-3: a manifest that went back because the bucket lost its newest writes is damage, until it is made anew', async () => {
  const hub = createMemoryHub({ clock: systemClock, random: systemRandom })
  const deps = { objects: memoryObjects(), clock: systemClock, random: systemRandom, log: silentLog }
  const blocks = await openBlocks({ ...deps, bus: hub.connect('lives on') })
  const flush = (of: Blocks, segment: number) =>
    of.update('acme', (manifest) => ({ ...manifest, flushed: { 0: segment } }))
  for (const segment of [1, 2]) await flush(blocks, segment)
  await blocks.refresh(5_000)
  const bucket = hub.bucket(BLOCKS_BUCKET)!
  const { revision } = bucket
  for (const segment of [3, 4]) await flush(blocks, segment)
  await blocks.refresh(5_000)
  bucket.cutTail(revision)
  await blocks.refresh(5_000)
  expect(() => blocks.manifest('acme')).toThrow('is version 2, version 4 was written')
  await expect(flush(blocks, 5)).rejects.toMatchObject({ code: 'manifest-older' })
  const later = await openBlocks({ ...deps, bus: hub.connect('came later') })
  await expect(flush(later, 5), 'its object copy is another').rejects.toMatchObject({ code: 'manifest-chain' })
  expect((await later.repair('acme')).manifest).toMatchObject({ version: 5, flushed: { 0: 4 } })
  for (const each of [blocks, later]) {
    await each.refresh(5_000)
    await flush(each, 5)
    expect(await each.checkChain('acme')).toEqual([])
  }
  for (const each of [blocks, later]) each.close()
})

test('LOG-15: a watermark that the bucket lost with its end stands again as soon as one who lives on can write it', async () => {
  const hub = createMemoryHub({ clock: systemClock, random: systemRandom })
  const deps = { objects: memoryObjects(), clock: systemClock, random: systemRandom, log: silentLog }
  let failCount = 0
  const bus = withBuckets(hub.connect('lives on'), (bucket) => ({
    newest: (keys) =>
      failCount-- > 0 ? Promise.reject(new UnavailableError('kv-unavailable', 'away')) : bucket.newest(keys),
  }))
  const blocks = await openBlocks({ ...deps, bus })
  const advance = (of: Blocks, segment: number) =>
    of.advanceFlushed(0, { segment, mark: { seq: segment * 10, nonce: 'n', incarnation: 'i' }, digests: {} })
  const bucket = hub.bucket(BLOCKS_BUCKET)!
  await advance(blocks, 1)
  const { revision } = bucket
  for (const segment of [2, 3]) await advance(blocks, segment)
  await blocks.refresh(5_000)
  failCount = 1
  bucket.cutTail(revision)
  const later = await openBlocks({ ...deps, bus: hub.connect('came later') })
  expect([blocks.flushed(0), later.flushed(0)]).toEqual([3, 1])
  await until(() => later.flushed(0) === 3, 'what was flushed before')
  await advance(later, 4)
  await until(() => blocks.flushed(0) === 4, 'the next')
  for (const each of [blocks, later]) each.close()
})
