// CACHE-1 to CACHE-4: what a read cache promises.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { UnavailableError } from '../../../shared/base/errors.ts'
import { PART_BYTES } from '../../../shared/objects/layout.ts'
import { memoryObjects, type ObjectOperation } from '../../../shared/objects/memory-objects.ts'
import { cachedObjects, RANGE_BYTES_MAX, type ReadCacheMetrics } from '../../../shared/objects/read-cache.ts'
import { call, noise } from '../../suites/objects-suite.ts'

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'carillon-cache-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

function counted() {
  const counts = { memory: 0, folder: 0, miss: 0, failed: 0 }
  const metrics: ReadCacheMetrics = {
    hit: (where) => void counts[where]++,
    miss: () => void counts.miss++,
    failed: () => void counts.failed++,
  }
  return { counts, metrics }
}

async function storeWith(sizes: readonly number[], before?: (operation: ObjectOperation, name: string) => void) {
  const store = memoryObjects(before === undefined ? {} : { before })
  const objects = sizes.map((size, i) => ({ name: `t/${i}`, bytes: noise(size, i + 1) }))
  for (const { name, bytes } of objects) await store.create(name, bytes, call)
  return { store, objects }
}

test('CACHE-1: with the cache any sequence of reads gives the same bytes, however small memory and folder are', async () => {
  const { store, objects } = await storeWith([0, 10, PART_BYTES, 3 * PART_BYTES + 77, 6 * PART_BYTES])
  const reads = fc.array(fc.tuple(fc.nat(4), fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(600_000)), {
    minLength: 1,
    maxLength: 12,
  })
  const bounds = fc.constantFrom(0, PART_BYTES + 256, 3 * PART_BYTES, 64 << 20)
  let run = 0
  await fc.assert(
    fc.asyncProperty(
      reads,
      bounds,
      fc.option(bounds),
      fc.boolean(),
      async (list, memoryBytesMax, bytesMax, together) => {
        const directory =
          bytesMax === null ? {} : { directory: { path: path.join(folder, `c1-${run++ % 3}`), bytesMax } }
        const cache = cachedObjects(store, { memoryBytesMax, ...directory })
        const readOne = async ([index, at, length]: [number, number, number]) => {
          const { name, bytes } = objects[index] as (typeof objects)[number]
          const start = Math.floor(at * bytes.length)
          const end = Math.min(bytes.length, start + length)
          const got = await cache.read(name, { start, end }, call)
          expect(Buffer.from(got).equals(bytes.subarray(start, end))).toBe(true)
          got.fill(0)
        }
        if (together) await Promise.all(list.map(readOne))
        else for (const each of list) await readOne(each)
        await cache.close()
      },
    ),
    { numRuns: 60 },
  )
})

test('CACHE-5: who may share gets views of one piece; others, and whoever reads across pieces, get bytes of their own', async () => {
  const { store, objects } = await storeWith([3 * PART_BYTES])
  const bytes = objects[0]?.bytes as Uint8Array
  const cache = cachedObjects(store, { memoryBytesMax: 64 << 20 })
  expect(cache.pieceBytes).toBe(PART_BYTES)
  const read = async (start: number, end: number, mayShare: boolean) => {
    const got = await cache.read('t/0', { start, end }, { ...call, mayShare })
    expect(Buffer.from(got).equals(bytes.subarray(start, end))).toBe(true)
    return got
  }
  const whole = await read(PART_BYTES, 2 * PART_BYTES, true)
  const within = await read(PART_BYTES + 5, PART_BYTES + 9, true)
  expect(within.buffer).toBe(whole.buffer)
  const own = await read(PART_BYTES, 2 * PART_BYTES, false)
  const across = await read(PART_BYTES - 5, PART_BYTES + 5, true)
  own.fill(0)
  across.fill(0)
  await read(0, 3 * PART_BYTES, true)
})

test('CACHE-1: a range beyond the end, and an object that is not there, are what the store says', async () => {
  const { store } = await storeWith([10])
  const cache = cachedObjects(store, { memoryBytesMax: 1e6 })
  await expect(cache.read('t/0', { start: 5, end: 11 }, call)).rejects.toMatchObject({ code: 'object-damaged' })
  await expect(cache.read('t/9', { start: 0, end: 0 }, call)).rejects.toMatchObject({ code: 'object-missing' })
  await store.create('t/9', noise(3), call)
  expect((await cache.read('t/9', { start: 0, end: 3 }, call)).length).toBe(3)
  await cache.delete('t/9', call)
  await expect(cache.read('t/9', { start: 0, end: 0 }, call)).rejects.toMatchObject({ code: 'object-missing' })
})

test('neighbours hit, and memory stays within its bound', async () => {
  const { store } = await storeWith([8 * PART_BYTES])
  const { counts, metrics } = counted()
  const cache = cachedObjects(store, { memoryBytesMax: 2 * (PART_BYTES + 256), metrics })
  const readAt = (start: number) => cache.read('t/0', { start, end: start + 1_000 }, call)
  await readAt(0)
  await readAt(50_000)
  await readAt(200_000)
  expect(counts).toEqual({ memory: 2, folder: 0, miss: 1, failed: 0 })
  for (let part = 1; part < 8; part++) await readAt(part * PART_BYTES)
  await readAt(0)
  expect(counts.miss).toBe(9)
})

test('CACHE-2: a folder serves the next run, keeps its bound, and what rots in it is fetched again', async () => {
  const { store, objects } = await storeWith([6 * PART_BYTES])
  const bytes = objects[0]?.bytes as Uint8Array
  const directory = { path: path.join(folder, 'next'), bytesMax: 4 * (PART_BYTES + 4) }
  const readAll = async () => {
    const { counts, metrics } = counted()
    const cache = cachedObjects(store, { memoryBytesMax: 0, directory, metrics })
    for (let part = 0; part < 6; part++) {
      const range = { start: part * PART_BYTES + 5, end: part * PART_BYTES + 900 }
      expect(Buffer.from(await cache.read('t/0', range, call)).equals(bytes.subarray(range.start, range.end))).toBe(
        true,
      )
    }
    await cache.close()
    return counts
  }
  expect((await readAll()).miss).toBe(6)
  const files = readdirSync(directory.path).map((file) => path.join(directory.path, file))
  expect(files.length).toBe(4)
  expect(files.reduce((sum, file) => sum + statSync(file).size, 0)).toBeLessThanOrEqual(directory.bytesMax)
  const { metrics, counts } = counted()
  const cache = cachedObjects(store, { memoryBytesMax: 0, directory, metrics })
  const last = { start: 5 * PART_BYTES, end: 5 * PART_BYTES + 10 }
  await cache.read('t/0', last, call)
  expect(counts).toEqual({ memory: 0, folder: 1, miss: 0, failed: 0 })
  for (const file of files) {
    const content = readFileSync(file)
    content[100] = (content[100] ?? 0) ^ 1
    writeFileSync(file, content)
  }
  expect(Buffer.from(await cache.read('t/0', last, call)).equals(bytes.subarray(last.start, last.end))).toBe(true)
  expect(counts).toEqual({ memory: 0, folder: 1, miss: 1, failed: 1 })
  await cache.close()
})

test('CACHE-2: what a folder kept of an object is not taken for another that came under its name', async () => {
  const directory = { path: path.join(folder, 'renamed'), bytesMax: 64 << 20 }
  const store = memoryObjects()
  for (const seed of [1, 2]) {
    const bytes = noise(1_000, seed)
    await store.create('t/0', bytes, call)
    const cache = cachedObjects(store, { memoryBytesMax: 0, directory })
    expect(Buffer.from(await cache.read('t/0', { start: 0, end: 1_000 }, call)).equals(bytes)).toBe(true)
    await cache.close()
    await store.delete('t/0', call)
  }
})

test('CACHE-2: nor is what is kept in memory, once it was deleted through this cache', async () => {
  const store = memoryObjects()
  const cache = cachedObjects(store, { memoryBytesMax: 64 << 20 })
  for (const seed of [1, 2]) {
    const bytes = noise(1_000, seed)
    await cache.create('t/0', bytes, call)
    expect(Buffer.from(await cache.read('t/0', { start: 0, end: 1_000 }, call)).equals(bytes)).toBe(true)
    await cache.delete('t/0', call)
  }
})

test('CACHE-3: many readers of one piece cause one load; an error is nobody’s later', async () => {
  let reads = 0
  let fails = true
  const { store } = await storeWith([1_000], (operation) => {
    if (operation !== 'read') return
    reads++
    if (fails) throw new UnavailableError('objects-unavailable', 'not now')
  })
  const cache = cachedObjects(store, { memoryBytesMax: 1e6 })
  const readMany = () =>
    Promise.allSettled(Array.from({ length: 20 }, (_, i) => cache.read('t/0', { start: i, end: i + 5 }, call)))
  expect((await readMany()).every(({ status }) => status === 'rejected')).toBe(true)
  expect(reads).toBe(1)
  fails = false
  expect((await readMany()).every(({ status }) => status === 'fulfilled')).toBe(true)
  expect(reads).toBe(2)
})

test('CACHE-3: a reader that has no more time leaves the load to the others', async () => {
  const gate = Promise.withResolvers<void>()
  const store = memoryObjects({ before: (operation) => (operation === 'read' ? gate.promise : undefined) })
  await store.create('t/0', noise(100), call)
  const cache = cachedObjects(store, { memoryBytesMax: 1e6 })
  const range = { start: 0, end: 10 }
  const hasty = cache.read('t/0', range, { timeoutMs: 20 })
  const patient = cache.read('t/0', range, call)
  await expect(hasty).rejects.toMatchObject({ code: 'objects-timeout' })
  const stop = new AbortController()
  const stopped = cache.read('t/0', range, { ...call, signal: stop.signal })
  stop.abort(new Error('enough'))
  await expect(stopped).rejects.toThrow('enough')
  gate.resolve()
  expect(await patient).toEqual(noise(100).subarray(0, 10))
})

test('CACHE-4: large ranges pass by', async () => {
  const { store } = await storeWith([RANGE_BYTES_MAX + 10])
  const { counts, metrics } = counted()
  const cache = cachedObjects(store, { memoryBytesMax: 64 << 20, metrics })
  await cache.read('t/0', { start: 0, end: RANGE_BYTES_MAX + 1 }, call)
  expect(counts).toEqual({ memory: 0, folder: 0, miss: 0, failed: 0 })
})
