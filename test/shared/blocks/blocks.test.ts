// Manifests, watermarks and stored blocks: on the memory bus and on a real nats-server alike.
import { beforeAll, expect, test } from 'vitest'
import { systemClock } from '../../../shared/base/clock.ts'
import { RefusedError } from '../../../shared/base/errors.ts'
import { systemRandom } from '../../../shared/base/random.ts'
import { encodeManifest } from '../../../shared/blocks/codec.ts'
import { VERSIONS_KEPT } from '../../../shared/blocks/manifest-copies.ts'
import { openBlocks } from '../../../shared/blocks/open.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import { readManifest } from '../../../shared/blocks/read-manifest.ts'
import type { Bus, KvBucket } from '../../../shared/bus/port.ts'
import {
  BLOCKS_BUCKET,
  type BlockEntry,
  type Manifest,
  manifestKey,
  manifestObject,
  tenantKey,
} from '../../../shared/contracts/blocks.ts'
import { encodeTenant } from '../../../shared/model/tenant.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { until } from '../../suites/bus-ground.ts'
import { call, codeOf, onEachBus, type Standing } from './blocks-ground.ts'

/** A bus whose buckets answer plain gets as a server does that is behind from now on, and whose watches have shown what was there. */
async function behind(bus: Bus, name: string): Promise<Bus> {
  const inner = await bus.bucket(name)
  const then = await inner.newest(['>'])
  let isOld = false
  const bucket: KvBucket = {
    ...inner,
    get: async (key) => then.find((entry) => entry.key === key),
    watch: (filter, onEntry, onReady, onSettled) =>
      inner.watch(
        filter,
        (entry) => void (isOld || onEntry(entry)),
        () => {
          isOld = true
          onReady()
        },
        onSettled,
      ),
  }
  return { bucket: async () => bucket, payloadBytesMax: bus.payloadBytesMax } as unknown as Bus
}

const entry = (ulid: string): BlockEntry => ({
  ...{ ulid, minTime: 0, maxTime: 1, seriesCount: 1, sampleCount: 1, chunkCount: 1, bytes: 1 },
  ...{ metaSha256: '', origin: { kind: 'upload' }, resolutionMs: 0 },
})
const adding = (ulid: string) => (manifest: Manifest) => ({ ...manifest, blocks: [...manifest.blocks, entry(ulid)] })

onEachBus('blocks', (standing) => {
  let ground: Standing['ground']
  let blocks: Blocks
  let bucket: KvBucket
  const { fresh, freshNumber, open } = standing
  beforeAll(() => {
    ;({ ground, blocks, bucket } = standing)
  })

  /** The store of a writer that is killed before it does that. */
  const endingAt = (what: 'create' | 'delete', object: string) =>
    new Proxy(ground.objects, {
      get(target, key) {
        const value = Reflect.get(target, key)
        if (typeof value !== 'function') return value
        return (name: string, ...rest: unknown[]) =>
          key === what && name === object ? Promise.reject(new Error('killed')) : value.call(target, name, ...rest)
      },
    })

  test('LOG-14: versions follow each other, name the hash of the one before, and each is an object', async () => {
    const tenant = fresh()
    for (const ulid of ['A', 'B', 'C']) await blocks.update(tenant, adding(ulid))
    await blocks.refresh(5_000)
    const stored = blocks.manifest(tenant)!
    expect(stored.manifest.blocks.map(({ ulid }) => ulid)).toEqual(['A', 'B', 'C'])
    expect(stored.manifest.version).toBe(3)
    expect(blocks.tenants()).toContain(tenant)
    expect(await blocks.checkChain(tenant)).toEqual([])
    const names = (await ground.objects.list(`${encodeTenant(tenant)}/manifest/`, call)).map((info) => info.name)
    expect(names.sort()).toEqual([1, 2, 3].map((version) => manifestObject(encodeTenant(tenant), version)))
    const before = await blocks.update(tenant, () => undefined)
    expect(before.manifest.version).toBe(3)
  })

  test('MANIFEST-2: a storm of 20 writers loses no change', async () => {
    const tenant = fresh()
    const writers = await Promise.all(Array.from({ length: 20 }, () => open()))
    await Promise.all(writers.map((writer, i) => writer.update(tenant, adding(`W${i}`))))
    for (const writer of writers) writer.close()
    await blocks.refresh(5_000)
    const { manifest } = blocks.manifest(tenant)!
    expect(manifest.version).toBe(20)
    expect(new Set(manifest.blocks.map(({ ulid }) => ulid)).size).toBe(20)
    expect(await blocks.checkChain(tenant)).toEqual([])
  })

  test('a bound on attempts ends a change that loses', async () => {
    const tenant = fresh()
    await blocks.update(tenant, adding('A'))
    const rivals = [await open(), await open()]
    const once = { attemptsMax: 1 }
    const outcomes = await Promise.allSettled(rivals.map((rival, i) => rival.update(tenant, adding(`R${i}`), once)))
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    const lost = outcomes.find((outcome) => outcome.status === 'rejected')
    expect(lost).toMatchObject({ reason: { code: 'manifest-storm' } })
    for (const rival of rivals) rival.close()
  })

  test('LOG-14: who dies between the bucket and the object leaves what the next change completes', async () => {
    const tenant = fresh()
    await blocks.update(tenant, adding('A'))
    const victim = await open(endingAt('create', manifestObject(encodeTenant(tenant), 2)))
    await expect(victim.update(tenant, adding('B'))).rejects.toThrow('killed')
    victim.close()
    await until(() => blocks.manifest(tenant)?.manifest.version === 2, 'the version without an object')
    expect(await ground.objects.info(manifestObject(encodeTenant(tenant), 2), call)).toBeUndefined()
    await blocks.update(tenant, () => undefined)
    expect(await ground.objects.info(manifestObject(encodeTenant(tenant), 2), call)).toBeDefined()
    await blocks.update(tenant, adding('C'))
    expect(await blocks.checkChain(tenant)).toEqual([])
  })

  test('an old copy that a writer left behind when it was cut off is no gap', async () => {
    const tenant = fresh()
    const left = manifestObject(encodeTenant(tenant), 3)
    const writer = await open(endingAt('delete', left))
    for (let i = 0; i < VERSIONS_KEPT + 5; i++) await writer.update(tenant, adding(`W${i}`))
    expect(await ground.objects.info(left, call)).toBeDefined()
    expect(await ground.objects.info(manifestObject(encodeTenant(tenant), 4), call)).toBeUndefined()
    expect(await writer.checkChain(tenant)).toEqual([])
    await ground.objects.delete(manifestObject(encodeTenant(tenant), 20), call)
    expect(await writer.checkChain(tenant), 'one that is kept').toEqual(['versions 20 to 20 are missing'])
    writer.close()
  })

  test.each([
    ['missing', 'manifest-missing', async (key: string) => bucket.delete(key)],
    ['no JSON', 'manifest-damaged', async (key: string) => bucket.put(key, Buffer.from('{"v":1,'))],
    [
      'flipped in one bit',
      'manifest-damaged',
      async (key: string) => {
        const bytes = Uint8Array.from((await bucket.get(key))!.value!)
        bytes[bytes.length - 20]! ^= 1
        await bucket.put(key, bytes)
      },
    ],
    [
      'older than the registry says',
      'manifest-older',
      async (key: string, first: Uint8Array) => bucket.put(key, first),
    ],
  ])(
    'MANIFEST-3: a manifest that is %s is damage, never an empty one; repair takes the newest object',
    async (_, code, damage) => {
      const tenant = fresh()
      const key = manifestKey(encodeTenant(tenant))
      await blocks.update(tenant, adding('A'))
      const first = (await bucket.get(key))!.value!
      await blocks.update(tenant, adding('B'))
      await damage(key, first)
      await until(() => codeOf(() => blocks.manifest(tenant)) === code, code)
      const other = await open()
      expect(codeOf(() => other.manifest(tenant))).toBe(code)
      expect(codeOf(() => other.watermark(tenant, 0))).toBe(code)
      await expect(other.update(tenant, adding('C'))).rejects.toMatchObject({ kind: 'corrupt' })
      const repaired = await other.repair(tenant)
      expect(repaired.manifest).toMatchObject({ version: 3, repairedFrom: 2 })
      await until(() => codeOf(() => blocks.manifest(tenant)) === undefined, 'the repaired manifest')
      await blocks.update(tenant, adding('C'))
      await blocks.refresh(5_000)
      expect(blocks.manifest(tenant)!.manifest.blocks.map(({ ulid }) => ulid)).toEqual(['A', 'B', 'C'])
      expect(await blocks.checkChain(tenant)).toEqual([])
      other.close()
    },
  )

  test.each([
    ['manifest', manifestKey, '{"v":3,"crc32c":"00000000","manifest":{}}'],
    ['registry entry', tenantKey, '{"v":2,"tenant":"x","version":1}'],
  ])(
    'row 18: a %s that a newer version wrote is refused by name; nothing is written or repaired over it',
    async (_, keyOf, text) => {
      const tenant = fresh()
      await blocks.update(tenant, adding('A'))
      const key = keyOf(encodeTenant(tenant))
      await bucket.put(key, Buffer.from(text))
      await until(() => codeOf(() => blocks.manifest(tenant)) === 'newer-version', 'newer-version')
      const other = await open()
      for (const attempt of [() => other.update(tenant, adding('B')), () => other.repair(tenant)])
        await expect(attempt()).rejects.toMatchObject({ kind: 'corrupt', code: 'newer-version' })
      expect(Buffer.from((await bucket.get(key))!.value!).toString()).toBe(text)
      other.close()
    },
  )

  test('MANIFEST-3: a tenant whose keys are all gone is not taken for a new one', async () => {
    const tenant = fresh()
    await blocks.update(tenant, adding('A'))
    await bucket.delete(manifestKey(encodeTenant(tenant)))
    await bucket.delete(tenantKey(encodeTenant(tenant)))
    const other = await open()
    await expect(other.update(tenant, adding('B'))).rejects.toMatchObject({ code: 'manifest-missing' })
    other.close()
  })

  test('a version that does not follow from the one before is damage', async () => {
    const tenant = fresh()
    await blocks.update(tenant, adding('A'))
    await blocks.refresh(5_000)
    const { manifest } = blocks.manifest(tenant)!
    const forged = { ...manifest, version: 2, previous: 'f'.repeat(64) }
    await bucket.put(manifestKey(encodeTenant(tenant)), encodeManifest(forged, 1e6))
    await until(() => codeOf(() => blocks.manifest(tenant)) === 'manifest-chain', 'the broken chain')
  })

  test('MANIFEST-3: a server that is behind makes no damage of what it has not seen yet', async () => {
    const tenant = fresh()
    const bus = await behind(await ground.connect(), BLOCKS_BUCKET)
    const late = await openBlocks({
      ...{ bus, objects: ground.objects },
      clock: systemClock,
      random: systemRandom,
      log: silentLog,
    })
    await blocks.update(tenant, adding('A'))
    const old = await bus.bucket(BLOCKS_BUCKET)
    const half: KvBucket = { ...old, get: (key) => (key === tenantKey(encodeTenant(tenant)) ? bucket : old).get(key) }
    expect((await readManifest(half, tenant))?.version, 'the registry from one server, the manifest from another').toBe(
      1,
    )
    const changed = await late.update(tenant, adding('B'))
    expect(changed.manifest.version, 'changed, not taken for a new one').toBe(2)
    late.close()
  })

  test('MANIFEST-6: that there is nothing to do, or that a change is refused, is not said by a watch that is behind', async () => {
    const tenant = fresh()
    await blocks.update(tenant, adding('A'))
    const bus = await behind(await ground.connect(), BLOCKS_BUCKET)
    const late = await openBlocks({
      ...{ bus, objects: ground.objects },
      clock: systemClock,
      random: systemRandom,
      log: silentLog,
    })
    const holds = ({ manifest }: { manifest: Manifest }) => manifest.blocks.map(({ ulid }) => ulid).join('')
    await blocks.update(tenant, adding('B'))
    expect(holds(late.manifest(tenant)!)).toBe('A')
    expect(holds(await late.update(tenant, () => undefined))).toBe('AB')
    const onlyIf = (ulid: string, change: (manifest: Manifest) => Manifest) => (manifest: Manifest) => {
      if (manifest.blocks.some((each) => each.ulid === ulid)) return change(manifest)
      throw new RefusedError('err-carillon-not-found', `${ulid} is not there`)
    }
    expect(holds(await late.update(tenant, onlyIf('B', adding('C'))))).toBe('ABC')
    expect(holds(await late.update(tenant, onlyIf('C', adding('D'))))).toBe('ABCD')
    await expect(late.update(tenant, onlyIf('E', adding('F')))).rejects.toMatchObject({
      code: 'err-carillon-not-found',
    })
    expect(holds(late.manifest(tenant)!)).toBe('A')
    late.close()
  })

  test('a manifest beyond its bound is refused and leaves the old one', async () => {
    const tenant = fresh()
    await blocks.update(tenant, adding('A'))
    const many = Array.from({ length: 30_000 }, (_, i) => entry(String(i).padStart(26, '0')))
    const tooLarge = blocks.update(tenant, (manifest) => ({ ...manifest, blocks: many }))
    await expect(tooLarge).rejects.toMatchObject({ code: 'err-carillon-manifest-too-large' })
    expect((await blocks.update(tenant, () => undefined)).manifest.version).toBe(1)
  })

  test('a lease that was followed by another changes nothing', async () => {
    const tenant = fresh()
    await blocks.update(tenant, adding('A'), { fence: 7 })
    await expect(blocks.update(tenant, adding('B'), { fence: 6 })).rejects.toMatchObject({ code: 'manifest-fenced' })
    const after = await blocks.update(tenant, adding('C'))
    expect(after.manifest).toMatchObject({ version: 2, fence: 7 })
  })

  test('DELETE-16: a refreshed view has all that was written before, whatever an old server says; those who wait share a write', async () => {
    const tenant = fresh()
    await blocks.update(tenant, adding('A'))
    const bus = await ground.connect()
    let putCount = 0
    const bucketThatIsOld = async (name: string): Promise<KvBucket> => {
      const real = await bus.bucket(name)
      const put: KvBucket['put'] = (key, value, timeoutMs) => {
        putCount++
        return real.put(key, value, timeoutMs)
      }
      return { ...real, put, get: async () => undefined }
    }
    const old = new Proxy(bus, {
      get(target, key) {
        if (key === 'bucket') return bucketThatIsOld
        const value = Reflect.get(target, key) as unknown
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
    const { objects } = ground
    const reader = await openBlocks({ bus: old, objects, clock: systemClock, random: systemRandom, log: silentLog })
    for (const ulid of ['B', 'C', 'D', 'E']) {
      const { manifest } = await blocks.update(tenant, adding(ulid))
      await Promise.all(Array.from({ length: 20 }, () => reader.refresh(5_000)))
      expect(reader.manifest(tenant)!.manifest.version).toBe(manifest.version)
    }
    expect(putCount).toBe(4)
    const { manifest } = await blocks.update(tenant, adding('F'))
    await reader.reach(tenant, manifest.version, 5_000)
    await expect(reader.reach(tenant, manifest.version + 1, 50)).rejects.toMatchObject({ code: 'blocks-behind' })
    reader.close()
  })

  test('MANIFEST-4: a stored block is what was uploaded, is checked when read, and goes as a whole', async () => {
    const tenant = fresh()
    const ulid = `01ARZ3NDEKTSV4RRFFQ69G5F${String(freshNumber() % 100).padStart(2, '0')}`
    const index = new Uint8Array(300_000).map((_, i) => i * 7)
    const meta = {
      ...{ ulid, minTime: 0, maxTime: 1, stats: {}, compaction: { level: 1 }, version: 1 },
      carillon: {
        files: [{ name: 'index', size: index.length, sha256: 'a'.repeat(64) }],
        origin: { kind: 'x' },
        resolutionMs: 0,
      },
    }
    const files = [
      { name: 'index', bytes: index },
      { name: 'meta.json', bytes: Buffer.from(JSON.stringify(meta)) },
    ]
    const { metaSha256 } = await blocks.uploadBlock(tenant, { ulid, files })
    expect(await blocks.uploadBlock(tenant, { ulid, files })).toMatchObject({ metaSha256 })
    const block = blocks.openBlock(tenant, { ulid, metaSha256 })
    expect((await block.meta()).ulid).toBe(ulid)
    expect(await block.size('index')).toBe(index.length)
    expect(Buffer.from(await block.read('index', 1000, 2000))).toEqual(Buffer.from(index.subarray(1000, 2000)))
    const wrong = blocks.openBlock(tenant, { ulid, metaSha256: '0'.repeat(64) })
    await expect(wrong.size('index')).rejects.toMatchObject({ code: 'block-damaged' })
    expect(await blocks.listBlocks(tenant)).toMatchObject([{ ulid, isWhole: true }])
    await blocks.deleteBlock(tenant, ulid)
    expect(await blocks.listBlocks(tenant)).toEqual([])
    await expect(blocks.openBlock(tenant, { ulid, metaSha256 }).meta()).rejects.toMatchObject({
      code: 'object-missing',
    })
  })
})
