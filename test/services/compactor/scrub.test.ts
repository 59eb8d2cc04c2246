// What a scrub finds and repairs: stores in memory, damaged by hand, compactors in virtual time.
import { describe, expect, it } from 'vitest'
import { seededRandom } from '../../../shared/base/random.ts'
import { VERSIONS_KEPT } from '../../../shared/blocks/manifest-copies.ts'
import { openBlocks } from '../../../shared/blocks/open.ts'
import { keyFor } from '../../../shared/bus/record.ts'
import { BLOCKS_BUCKET, manifestKey } from '../../../shared/contracts/blocks.ts'
import { type ScrubRecord, scrubRecord } from '../../../shared/contracts/scrubbing.ts'
import { labelsFrom, labelsKey } from '../../../shared/model/labels.ts'
import { memoryObjects } from '../../../shared/objects/memory-objects.ts'
import { readWhole } from '../../../shared/objects/read-whole.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { valueIn } from '../../records.ts'
import { Ground, TENANT } from './compactors-ground.ts'
import { floatValue, naiveMerge, plainOf, type Sample, type SeriesMap } from './merge-ground.ts'

const HOUR = 3_600_000
const MINUTE = 60_000
const DAY = 24 * HOUR
const day0 = Math.floor(1_700_000_000_000 / DAY) * DAY - 3 * DAY
const quick = { scrubBytesPerSecond: 1 << 30, secondStoreEveryMs: 5_000 }
/** So that nothing is merged before it was looked at. */
const still = { ...quick, compactDelayMs: 1_000 * DAY }
const call = { timeoutMs: 1_000 }
const KINDS = ['meta.json', 'index', 'chunks/000001'] as const

function hourOf(startMs: number, env: string): SeriesMap {
  const labels = labelsFrom({ __name__: 'up', env })
  const samples = Array.from({ length: 60 }, (_, i): Sample => ({ time: startMs + i * MINUTE, value: floatValue(i) }))
  return new Map([[labelsKey(labels), { labels, samples }]])
}

async function opened(count: number): Promise<Ground> {
  const ground = new Ground(17)
  await ground.open()
  for (let i = 0; i < count; i++) await ground.until(ground.flush(hourOf(day0 + i * 30 * HOUR, `e${i}`), i % 2))
  return ground
}

/** Asks for a scrub and waits for its end: in virtual time it may take longer than an answer waits. */
async function scrubbed(ground: Ground, name = 'one'): Promise<ScrubRecord> {
  await ground.pass(5_000)
  const askedMs = ground.clock.now()
  await ground.scrubNow()
  for (let i = 0; i < 100; i++) {
    const { current, tenants } = await ground.scrubStatus(name)
    const [record] = tenants
    const isOver = record?.endedAtMs !== undefined || record?.error !== undefined
    if (current === undefined && isOver && record.beganAtMs >= askedMs) return record
    await ground.pass(10_000)
  }
  throw new Error('the scrub does not end')
}

async function sampleSets(ground: Ground): Promise<unknown> {
  return plainOf(naiveMerge(await ground.stored(() => true)))
}

describe('a scrub', () => {
  it('reads every byte of sound blocks and finds nothing', async () => {
    const ground = await opened(3)
    const stop = await ground.start('one', { config: still })
    const record = await scrubbed(ground)
    expect(record).toMatchObject({ tenant: TENANT, blocks: 3, findings: [] })
    const { blocks } = await ground.until(ground.manifest())
    expect(record.bytes).toBeGreaterThan(blocks.reduce((sum, { bytes }) => sum + bytes, 0))
    await stop()
  })

  it('names block, file and place of damage, in each kind of file; what nothing can repair stays marked, and is not merged', async () => {
    const ground = await opened(4)
    const { blocks } = await ground.until(ground.manifest())
    for (const [i, kind] of KINDS.entries()) ground.objects.damage(`${TENANT}/${blocks[i]!.ulid}/${kind}`)
    const stop = await ground.start('one', { config: still })
    const { findings } = await scrubbed(ground)
    expect(new Set(findings.map(({ ulid, state }) => `${ulid} ${state}`))).toEqual(
      new Set(blocks.slice(0, 3).map(({ ulid }) => `${ulid} damaged`)),
    )
    for (const [i, kind] of KINDS.entries())
      expect(findings.filter(({ ulid }) => ulid === blocks[i]!.ulid).map(({ file }) => file)).toContain(kind)
    await stop()
    const again = await ground.start('two', { config: { ...quick, compactDelayMs: 0 } })
    await ground.pass(1_000)
    const { aside } = await ground.status('two')
    expect(aside.map(({ ulid }) => ulid).sort()).toEqual(blocks.slice(0, 3).map(({ ulid }) => ulid))
    const told = findings.map(({ ulid, file, text }) => `${ulid} ${file} ${text}`)
    expect(told, 'each once').toEqual([...new Set(told)])
    await again()
  })

  it('tells a file that is listed and missing, and old files that nobody lists', async () => {
    const ground = await opened(2)
    const { blocks } = await ground.until(ground.manifest())
    await ground.until(ground.objects.delete(`${TENANT}/${blocks[0]!.ulid}/index`, call))
    const orphan = '01BX5ZZKBKACTAV9WEVGEMMVRZ'
    await ground.until(ground.objects.create(`${TENANT}/${orphan}/index`, new Uint8Array(9), call))
    await ground.pass(2 * HOUR)
    const stop = await ground.start('one', { config: { ...still, orphanGraceMs: HOUR } })
    const { findings } = await scrubbed(ground)
    expect(findings).toContainEqual(expect.objectContaining({ ulid: blocks[0]!.ulid, file: 'index', state: 'damaged' }))
    expect(findings).toContainEqual(expect.objectContaining({ what: 'unlisted', ulid: orphan, state: 'told' }))
    await stop()
  })
})

describe('a second store', () => {
  it('is filled, and repairs every kind of file', async () => {
    const ground = await opened(3)
    const before = await sampleSets(ground)
    const second = memoryObjects({ clock: ground.clock })
    const stop = await ground.start('one', { config: still, second })
    await ground.pass(20_000)
    expect((await ground.scrubStatus('one')).notCopied).toBe(0)
    const { blocks } = await ground.until(ground.manifest())
    for (const [i, kind] of KINDS.entries()) {
      const name = `${TENANT}/${blocks[i]!.ulid}/${kind}`
      if (i === 1) await ground.until(ground.objects.delete(name, { timeoutMs: 1_000 }))
      else ground.objects.damage(name)
    }
    const { findings } = await scrubbed(ground)
    expect(new Set(findings.map(({ ulid, state, from }) => `${ulid} ${state} ${from}`))).toEqual(
      new Set(blocks.map(({ ulid }) => `${ulid} repaired the second store`)),
    )
    expect(await sampleSets(ground)).toEqual(before)
    expect((await scrubbed(ground)).findings).toEqual([])
    await stop()
  })

  it('is itself repaired from the first', async () => {
    const ground = await opened(1)
    const second = memoryObjects({ clock: ground.clock })
    const stop = await ground.start('one', { config: still, second })
    await ground.pass(20_000)
    const { blocks } = await ground.until(ground.manifest())
    second.damage(`${TENANT}/${blocks[0]!.ulid}/chunks/000001`)
    expect((await scrubbed(ground)).findings).toMatchObject([
      { what: 'second', state: 'repaired', file: 'chunks/000001' },
    ])
    expect((await scrubbed(ground)).findings).toEqual([])
    await stop()
  })

  it('SECOND-2: loses what is not listed any more, but not at once', async () => {
    const ground = await opened(2)
    const second = memoryObjects({ clock: ground.clock })
    const stop = await ground.start('one', { config: { ...still, secondStoreKeepMs: HOUR }, second })
    await ground.pass(20_000)
    const [first, other] = (await ground.until(ground.manifest())).blocks
    await ground.until(ground.change((manifest) => ({ ...manifest, blocks: [other!] })))
    const held = async () =>
      new Set(
        (await ground.until(second.list(`${TENANT}/0`, { timeoutMs: 1_000 }))).map(({ name }) => name.split('/')[1]),
      )
    await scrubbed(ground)
    expect(await held()).toEqual(new Set([first!.ulid, other!.ulid]))
    await ground.pass(2 * HOUR)
    await scrubbed(ground)
    expect(await held()).toEqual(new Set([other!.ulid]))
    await stop()
  })
})

describe('manifests', () => {
  it('SCRUB-3: a damaged one in the bucket is made anew from its copy; a damaged copy from the bucket', async () => {
    const ground = await opened(2)
    const before = await ground.until(ground.manifest())
    const stop = await ground.start('one', { config: still })
    ground.objects.damage(`${TENANT}/manifest/${before.version}`)
    expect((await scrubbed(ground)).findings).toMatchObject([
      { what: 'manifest', state: 'repaired', from: 'the bucket' },
    ])
    const bucket = await ground.until(ground.hub.connect('vandal').bucket('blocks'))
    await ground.until(bucket.put(manifestKey(TENANT), Buffer.from('nonsense')))
    await ground.pass(1_000)
    expect((await scrubbed(ground)).findings).toMatchObject([
      { what: 'manifest', state: 'repaired', from: 'an object copy' },
    ])
    const after = await ground.until(ground.manifest())
    expect(after.blocks).toEqual(before.blocks)
    expect(after.repairedFrom).toBe(before.version)
    await stop()
  })

  it('copies of versions long past that a writer left behind are removed', async () => {
    const ground = await opened(1)
    const bus = ground.hub.connect('writer')
    const { objects } = ground
    const deps = { bus, objects, clock: ground.clock, random: seededRandom(3), log: silentLog }
    const blocks = await ground.until(openBlocks(deps))
    const left = `${TENANT}/manifest/1`
    const bytes = (await ground.until(readWhole(objects, left, call)))!
    for (let i = 0; i < VERSIONS_KEPT + 3; i++)
      await ground.until(blocks.update(TENANT, (manifest) => ({ ...manifest, sweptAt: manifest.version })))
    await ground.until(objects.create(left, bytes, call))
    const { version } = await ground.until(ground.manifest())
    const stop = await ground.start('one', { config: still })
    expect((await scrubbed(ground)).findings).toEqual([])
    const kept = (await ground.until(objects.list(`${TENANT}/manifest/`, call))).map(({ name }) => name)
    expect(kept).not.toContain(left)
    expect(kept).toContain(`${TENANT}/manifest/${version - VERSIONS_KEPT + 1}`)
    await stop()
    blocks.close()
  })

  it('SCRUB-3: a damaged one is made anew without being asked for, long before the next scrub is due', async () => {
    const ground = await opened(1)
    const stop = await ground.start('one', { config: { ...still, scrubEveryMs: 7 * DAY } })
    await scrubbed(ground)
    await ground.pass(15 * MINUTE)
    const before = await ground.until(ground.manifest())
    const bucket = await ground.until(ground.hub.connect('vandal').bucket('blocks'))
    await ground.until(bucket.put(manifestKey(TENANT), Buffer.from('nonsense')))
    await ground.pass(2 * MINUTE)
    expect((await ground.until(ground.manifest())).blocks).toEqual(before.blocks)
    await stop()
  })

  it.each([
    ['nobody has changed it since', 0],
    ['one was changed since, in the bucket alone', 1],
  ])(
    'SCRUB-3: one that the bucket lost is made anew from its copy, by who never saw it: %s',
    async (_, changedCount) => {
      const ground = await opened(1)
      const bucket = ground.hub.bucket('blocks')!
      const { revision } = bucket
      await ground.until(ground.flush(hourOf(day0 + 30 * HOUR, 'e1'), 0))
      const before = await ground.until(ground.manifest())
      bucket.cutTail(revision)
      const deps = { clock: ground.clock, random: seededRandom(2), log: silentLog, objects: ground.objects }
      const late = await ground.until(openBlocks({ ...deps, bus: ground.hub.connect('late') }))
      for (let i = 0; i < changedCount; i++) {
        const changing = late.update(TENANT, (manifest) => ({ ...manifest, flushed: { 9: 9 } }))
        await expect(ground.until(changing)).rejects.toMatchObject({ code: 'manifest-chain' })
      }
      const stop = await ground.start('one', { config: still })
      expect((await scrubbed(ground)).findings).toMatchObject([
        { what: 'manifest', state: 'repaired', from: 'an object copy' },
      ])
      await stop()
      const after = await ground.until(ground.manifest())
      expect(after.blocks).toEqual(before.blocks)
    },
  )

  it('SCRUB-4: one that a newer version wrote is told and left alone', async () => {
    const ground = await opened(1)
    const stop = await ground.start('one', { config: still })
    const bucket = await ground.until(ground.hub.connect('newer').bucket('blocks'))
    const newer = Buffer.from('{"v":3,"crc32c":"00000000","manifest":{}}')
    await ground.until(bucket.put(manifestKey(TENANT), newer))
    await ground.pass(5_000)
    const { findings, error } = await scrubbed(ground)
    expect(findings).toMatchObject([{ what: 'manifest', state: 'damaged' }])
    expect(findings[0]!.text).toMatch(/format 3, this version of Carillon knows 2/)
    expect(error).toMatch(/format 3/)
    const { value } = (await ground.until(bucket.get(manifestKey(TENANT))))!
    expect(Buffer.from(value!).equals(newer)).toBe(true)
    await stop()
  })
})

describe('the record of a scrub', () => {
  const key = keyFor(scrubRecord, { tenant: TENANT })

  it.each(['junk', '{}', 'null'])('"%s": all is read at once, and written anew', async (junk) => {
    const ground = await opened(1)
    const bucket = await ground.until(ground.hub.connect('vandal').bucket('blocks'))
    for (const each of [key, 'scrub.a_b', 'scrubbing.a_b', 'lease.a_b'])
      await ground.until(bucket.put(each, Buffer.from(junk)))
    const stop = await ground.start('one', { config: { ...still, scrubEveryMs: 7 * DAY } })
    await ground.pass(15 * MINUTE)
    const written = valueIn(scrubRecord, (await ground.until(bucket.get(key)))!.value!)
    expect(written).toMatchObject({ tenant: TENANT, blocks: 1, endedAtMs: expect.any(Number) })
    await stop()
  })

  it('of a newer version it is left alone, also when asked', async () => {
    const ground = await opened(1)
    const bucket = await ground.until(ground.hub.connect('newer').bucket('blocks'))
    await ground.until(bucket.put(key, Buffer.from('{"v":2}')))
    const stop = await ground.start('one', { config: { ...still, scrubEveryMs: 7 * DAY } })
    await ground.pass(15 * MINUTE)
    await ground.scrubNow()
    await ground.pass(MINUTE)
    expect(Buffer.from((await ground.until(bucket.get(key)))!.value!).toString()).toBe('{"v":2}')
    await stop()
  })
})

describe('the schedule', () => {
  it('SCRUB-5: everything is read once in a while, by one of two compactors', async () => {
    const ground = await opened(3)
    const config = { ...still, scrubEveryMs: 2 * HOUR }
    const stops = [await ground.start('one', { config }), await ground.start('two', { config })]
    await ground.pass(20 * MINUTE)
    const first = (await ground.scrubStatus('one')).tenants[0]!
    expect(first).toMatchObject({ blocks: 3, endedAtMs: expect.any(Number) })
    await ground.pass(HOUR)
    expect((await ground.scrubStatus('two')).tenants[0]!.endedAtMs).toBe(first.endedAtMs)
    await ground.pass(HOUR + 30 * MINUTE)
    const second = (await ground.scrubStatus('two')).tenants[0]!
    expect(second.endedAtMs! - first.endedAtMs!).toBeGreaterThanOrEqual(2 * HOUR)
    for (const stop of stops) await stop()
  })

  it('SCRUB-7: a damaged manifest is made anew within a minute, while blocks are read for days, of others and its own', async () => {
    const ground = await opened(20)
    const deps = { clock: ground.clock, random: seededRandom(2), log: silentLog, objects: ground.objects }
    const blocks = await ground.until(openBlocks({ ...deps, bus: ground.hub.connect('other') }))
    await ground.until(blocks.update('zeta', (manifest) => ({ ...manifest, flushed: { 0: 1 } })))
    const config = { ...still, scrubEveryMs: 7 * DAY, scrubBytesPerSecond: 10 }
    const stop = await ground.start('one', { config })
    await ground.pass(2 * MINUTE)
    const bucket = await ground.until(ground.hub.connect('vandal').bucket(BLOCKS_BUCKET))
    for (let times = 0; times < 2; times++) {
      for (const tenant of ['zeta', TENANT]) {
        await ground.until(bucket.put(manifestKey(tenant), Buffer.from('nonsense')))
        await ground.pass(MINUTE)
        expect(blocks.manifest(tenant)?.manifest.version, tenant).toBeGreaterThan(0)
      }
    }
    const { current } = await ground.scrubStatus('one')
    expect(current).toMatchObject({ tenant: TENANT, blocksLeft: expect.any(Number) })
    blocks.close()
    await stop()
  })

  it('SCRUB-5: who takes over goes on behind the block that was read last; the pace is kept', async () => {
    const ground = await opened(6)
    const { blocks } = await ground.until(ground.manifest())
    const bytes = blocks.reduce((sum, each) => sum + each.bytes, 0)
    // The six take two minutes: each byte is read a few times.
    const config = { ...still, scrubEveryMs: 7 * DAY, scrubBytesPerSecond: Math.ceil((3 * bytes) / 120) }
    const stop = await ground.start('one', { config })
    await ground.pass(75_000)
    await stop()
    const { tenants } = await (async () => {
      const second = await ground.start('two', { config })
      await ground.pass(1_000)
      const begun = (await ground.scrubStatus('two')).tenants[0]!
      expect(begun.endedAtMs).toBeUndefined()
      expect(begun.blocks).toBeGreaterThan(0)
      expect(begun.blocks).toBeLessThan(6)
      await ground.pass(30 * MINUTE)
      const status = await ground.scrubStatus('two')
      await second()
      return status
    })()
    expect(tenants[0]).toMatchObject({ blocks: 6, by: 'two', endedAtMs: expect.any(Number) })
    expect(tenants[0]!.endedAtMs! - tenants[0]!.beganAtMs).toBeGreaterThan(60_000)
  })
})
