// Flush, purge and drop with the real actors: what a leader leaves when it dies at any step, what owners that were away make of it.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { withGarbage, withoutRetired } from '../../../services/compactor/merge/manifest-changes.ts'
import { encodeFlushed } from '../../../shared/blocks/codec.ts'
import { leaveOut } from '../../../shared/blocks/left-out.ts'
import { ask } from '../../../shared/bus/ask.ts'
import { flushedKey } from '../../../shared/contracts/blocks.ts'
import { labelNames } from '../../../shared/contracts/read.ts'
import { flushMembers } from '../../../shared/membership/flush-members.ts'
import { META_FILE } from '../../../shared/tsdb/block/files.ts'
import { metaBytes } from '../../../shared/tsdb/block/meta.ts'
import { BlockReader } from '../../../shared/tsdb/block/reader.ts'
import { sha256Of } from '../../../shared/wire/sha256.ts'
import { type DeathStep, FlushGround, HOUR_MS } from './flush-ground.ts'
import { TENANT } from './log-writer.ts'

let ground: FlushGround
beforeEach(async () => {
  ground = new FlushGround()
  await ground.open()
})
afterEach(() => {
  leaveOut([])
  ground.close()
})

const START_MS = 1_700_000_000_000 - (1_700_000_000_000 % (2 * HOUR_MS))

/** Three segments of two tenants, the third of them open; tenant acme's samples lie in two ranges of two hours. */
async function writeLog(on: FlushGround): Promise<number> {
  let sampleCount = 0
  for (const segment of [1, 2, 3]) {
    await on.mark(segment)
    for (let i = 0; i < 5; i++) {
      const time = START_MS + segment * HOUR_MS + i * 15_000
      await on.batch([
        ['b', time, i],
        ['a', time, -i],
        ['a', time + 1, segment],
      ])
      await on.batch([['other', time, 1]], 'other')
      sampleCount += 4
    }
  }
  return sampleCount
}

/** Samples in blocks and, above the watermark, in the memory of this owner. */
async function heldWith(on: FlushGround, id: string): Promise<number> {
  let count = 0
  for (const line of await on.listed()) count += Number(line.split(' ').at(-1))
  const { state } = on.owner(id)
  for (const segment of state.segments()) {
    if (segment <= on.blocks.flushed(0)) continue
    for (const head of state.heads.values()) count += head.sampleCountOf(segment)
  }
  return count
}

test('LOG-13 to LOG-16: closed segments become blocks, the log is purged below the newest flushed mark, memory is freed', async () => {
  const sampleCount = await writeLog(ground)
  await ground.start('i1')
  const { incarnation } = ground.owner('i1')
  await ground.until(() => ground.blocks.flushed(0) === 2, 'two flushed segments')
  expect(ground.manifest(TENANT)).toMatchObject({ flushed: { 0: 2 } })
  expect(
    ground
      .manifest(TENANT)!
      .blocks.map(({ origin, sampleCount, minTime, maxTime }) => [origin, sampleCount, maxTime - minTime]),
  ).toEqual([
    [{ kind: 'flush', partition: 0, segment: 1, incarnation, cut: 1 }, 15, 60_002],
    [{ kind: 'flush', partition: 0, segment: 2, incarnation, cut: 12 }, 15, 60_002],
  ])
  expect(ground.manifest('other')!.blocks).toHaveLength(2)
  await ground.until(() => ground.firstSeq() === 12, 'the purge')
  expect(ground.blocks.flushedRecord(0)).toMatchObject({ segment: 2, mark: { seq: 12, nonce: 'nonce-2' } })
  await ground.until(() => ground.owner('i1').state.droppedUpTo === 2, 'freed memory')
  expect(ground.owner('i1').state.segments()).toEqual([3])
  expect(ground.owner('i1').firstSegment).toBe(3)
  expect(await heldWith(ground, 'i1')).toBe(sampleCount)
  expect(ground.owner('i1').damages).toEqual([])
})

test('a block is one that Prometheus would cut: series in order, one aligned range each, samples merged', async () => {
  await ground.mark(1)
  await ground.batch([
    ['z', START_MS, 1],
    ['a', START_MS + 2 * HOUR_MS, 2],
    ['a', START_MS + 2 * HOUR_MS - 1, 1],
  ])
  await ground.batch([['a', START_MS + 2 * HOUR_MS, 5]])
  await ground.mark(2)
  await ground.start('i1')
  await ground.until(() => ground.blocks.flushed(0) === 1, 'the flush')
  const read: unknown[] = []
  for (const entry of ground.manifest(TENANT)!.blocks) {
    const files = ground.blocks.openBlock(TENANT, entry)
    const reader = await BlockReader.open(files, await files.meta(), { isThorough: true })
    for await (const batch of reader.allSeries()) {
      for (const { labels, chunks } of batch) read.push([labels[1], chunks.map((c) => [c.minTime - START_MS, c.count])])
    }
  }
  expect(read).toEqual([
    ['a', [[2 * HOUR_MS - 1, 1]]],
    ['z', [[0, 1]]],
    ['a', [[2 * HOUR_MS, 1]]],
  ])
})

describe('FLUSH-2: whoever leads next completes what a leader left, byte by byte the same', () => {
  const steps: readonly [DeathStep, number][] = [
    ['not-copied', 1],
    ['not-copied', 3],
    ['not-registered', 1],
    ['not-registered', 4],
    ['built', 1],
    ['built', 2],
    ['uploaded', 1],
    ['uploaded', 2],
    ['listed', 1],
    ['listed', 2],
    ['all-listed', 1],
    ['flushed', 1],
    ['built', 3],
    ['listed', 3],
    ['all-listed', 2],
    ['flushed', 2],
    ['purged', 1],
  ]
  let expected: string[] = []
  test('without a death', async () => {
    await writeLog(ground)
    await ground.start('i1')
    await ground.until(() => ground.blocks.flushed(0) === 2, 'two flushed segments')
    expected = await ground.listed()
    expect(expected).toHaveLength(4)
  })

  test.each(steps)('the leader dies after %s, time %i', async (step, times) => {
    const sampleCount = await writeLog(ground)
    await ground.start('i1', { diesAt: { step, times } })
    await ground.start('i2', { diesAt: { step, times } })
    await ground.until(() => ground.dead.size > 0, 'the death')
    const [first] = ground.dead
    const survivor = first === 'i1' ? 'i2' : 'i1'
    await ground.until(() => ground.dead.size === 2 || ground.firstSeq() === 12, 'the other leader')
    if (ground.dead.has(survivor)) await ground.start(survivor) // both died at it: the log is read again
    await ground.until(() => ground.firstSeq() === 12, 'the purge')
    await ground.until(() => ground.owner(survivor).state.droppedUpTo === 2, 'freed memory')
    expect(await ground.listed()).toEqual(expected)
    expect(await heldWith(ground, survivor)).toBe(sampleCount)
    expect(ground.owner(survivor).damages).toEqual([])
    for (const tenant of ground.blocks.tenants()) expect(await ground.blocks.checkChain(tenant)).toEqual([])
    await ground.start(first!)
    await ground.until(() => ground.owner(first!).isCaughtUp, 'the dead one is back')
    expect(ground.owner(first!).damages).toEqual([])
    expect(ground.owner(first!).state.digest(3)).toBe(ground.owner(survivor).state.digest(3))
    expect(ground.failures).toEqual([])
  })
})

describe('owners that were away', () => {
  test('OWNER-4: a new owner begins at the mark of the newest flushed segment, and answers only what it holds', async () => {
    await writeLog(ground)
    await ground.start('i1')
    await ground.until(() => ground.firstSeq() === 12, 'the purge')
    await ground.start('i2')
    await ground.until(() => ground.owner('i2').isCaughtUp, 'the new owner')
    const { state, damages, firstSegment } = ground.owner('i2')
    expect([state.segments(), damages, firstSegment]).toEqual([[3], [], 3])
    const asked = {
      partition: 0,
      tenant: TENANT,
      manifestVersion: 0,
      minSeq: 0,
      incarnation: '',
      waitMs: 1_000,
      selectors: [],
      startMs: 0,
      endMs: 9e15,
      limit: 0,
    }
    const bus = ground.hub.connect('asker')
    const names = (watermark: number) => ground.soon(ask(bus, labelNames, { id: 'i2' }, { ...asked, watermark }, {}))
    expect((await names(2)).values).toEqual(['__name__'])
    await expect(names(1)).rejects.toMatchObject({ code: 'err-carillon-dropped' })
  })

  test('OWNER-4: an owner that was away while the log was purged takes the jump for what it is', async () => {
    await ground.mark(1)
    await ground.batch([['a', START_MS, 1]])
    await ground.start('i1')
    await ground.start('i2')
    await ground.until(() => ground.owner('i2').isCaughtUp, 'both')
    ground.hub.pause('i2')
    await ground.batch([['a', START_MS + 1, 1]])
    for (const number of [2, 3, 4]) {
      await ground.mark(number)
      await ground.batch([['a', START_MS + number * 1000, 1]])
    }
    await ground.until(() => ground.blocks.flushed(0) === 3, 'the flush')
    await ground.until(() => ground.firstSeq() === 6, 'the purge')
    ground.hub.resume('i2')
    await ground.until(() => ground.owner('i2').state.segment === 4 && ground.owner('i2').isCaughtUp, 'caught up')
    const { state, damages } = ground.owner('i2')
    expect(damages).toEqual([])
    expect(state.droppedUpTo).toBe(3)
    expect(state.digest(4)).toBe(ground.owner('i1').state.digest(4))
  })

  test('row 15: wall clocks that jump by five minutes either way, on every owner: the same blocks, nothing lost, nothing kept', async () => {
    const sampleCount = await writeLog(ground)
    await ground.start('i1', { jumps: true })
    await ground.start('i2', { jumps: true })
    await ground.until(() => ground.blocks.flushed(0) === 2, 'two flushed segments')
    await ground.until(() => ground.owner('i2').state.droppedUpTo === 2, 'freed memory')
    await ground.until(() => ground.firstSeq() === 12, 'the purge')
    expect(await heldWith(ground, 'i1')).toBe(sampleCount)
    const quiet = new FlushGround()
    await quiet.open()
    await writeLog(quiet)
    await quiet.start('i1')
    await quiet.until(() => quiet.blocks.flushed(0) === 2, 'the same without jumps')
    expect(await ground.listed()).toEqual(await quiet.listed())
    quiet.close()
  })

  test('LOG-10: a jump that no purge explains is a gap', async () => {
    await writeLog(ground)
    await ground.soon(ground.hub.connect('vandal').logs.purge('log-0', 5, 1_000))
    await ground.start('i1')
    await ground.until(() => ground.owner('i1').isCaughtUp, 'caught up')
    expect(ground.owner('i1').damages.map(({ kind, fromSeq, toSeq }) => `${kind} ${fromSeq}-${toSeq}`)).toContain(
      'gap 1-4',
    )
  })

  test('LOG-10: what nobody has is told in the manifest; an owner that has it after all adds a supplement', async () => {
    await ground.mark(1)
    await ground.batch([['a', START_MS, 1]])
    const hidden = await ground.batch([['a', START_MS + 1, 1]])
    await ground.batch([['a', START_MS + 2, 1]])
    await ground.start('i2')
    await ground.until(() => ground.owner('i2').isCaughtUp, 'the whole one')
    ground.hub.pause('i2')
    await ground.pass(5_000)
    await ground.start('i1', { hides: [hidden] })
    await ground.mark(2)
    await ground.until(() => ground.blocks.flushed(0) === 1, 'the flush')
    const flushed = ground.manifest(TENANT)!.blocks
    expect(flushed, 'on both sides of the gap').toMatchObject([{ sampleCount: 1 }, { sampleCount: 1 }])
    for (const { gaps } of flushed) expect(gaps?.[0]).toMatch(/^gap at 3 in segment 1/)
    ground.hub.resume('i2')
    await ground.until(() => ground.manifest(TENANT)!.blocks.length === 3, 'the supplement')
    expect(ground.manifest(TENANT)!.blocks[2]).toMatchObject({ sampleCount: 3, origin: { isSupplement: true } })
    await ground.until(() => ground.owner('i2').state.droppedUpTo === 1, 'freed memory')
  })

  test.each([
    ['is added', 3],
    ['is freed where its own digest counts', undefined],
  ])(
    'DELETE-10: when the leader that flushed less died, and the whole owner says what is flushed, what it has %s',
    async (_, added) => {
      if (added === undefined) leaveOut(['digest-listed'])
      await ground.mark(1)
      await ground.batch([['a', START_MS, 1]])
      const hidden = await ground.batch([['a', START_MS + 1, 1]])
      await ground.batch([['a', START_MS + 2, 1]])
      await ground.start('i2')
      await ground.until(() => ground.owner('i2').isCaughtUp, 'the whole one')
      ground.hub.pause('i2')
      await ground.pass(5_000)
      await ground.start('i1', { hides: [hidden], diesAt: { step: 'all-listed', times: 1 } })
      await ground.mark(2)
      await ground.until(() => (ground.manifest(TENANT)?.flushed[0] ?? 0) === 1, 'the listed blocks')
      await ground.pass(1_000)
      expect(ground.manifest(TENANT)!.blocks).toMatchObject([{ sampleCount: 1 }, { sampleCount: 1 }])
      expect(ground.blocks.flushed(0)).toBe(0)
      ground.hub.resume('i2')
      await ground.until(() => ground.owner('i2').state.droppedUpTo === 1, 'freed memory')
      expect(ground.manifest(TENANT)!.blocks[2]?.sampleCount).toBe(added)
    },
  )

  test('LOG-10: an owner that comes back when digests of its segments are forgotten stores nothing that was merged meanwhile, and what is missing', async () => {
    await ground.mark(1)
    await ground.batch([['a', START_MS + 1, 1]])
    await ground.batch([['o', START_MS + 1, 1]], 'other')
    const hidden = await ground.batch([['a', START_MS + 2, 1]])
    await ground.start('i2')
    await ground.until(() => ground.owner('i2').isCaughtUp, 'the whole one')
    ground.hub.pause('i2')
    await ground.pass(5_000)
    await ground.start('i1', { hides: [hidden] })
    await ground.mark(2)
    await ground.until(() => ground.blocks.flushed(0) === 1, 'the flush')
    const merged = await ground.soon(mergedFrom('other'))
    const flushed = ground.blocks.flushedRecord(0)!
    const forgotten = encodeFlushed({ ...flushed, digests: { 9: 'of a newer one' } })
    await ground.soon(ground.blocks.bucket.put(flushedKey(0), forgotten))
    const stored: string[] = []
    ground.onStored = async (id, ulid) => void (id === 'i2' && stored.push(ulid))
    ground.hub.resume('i2')
    await ground.until(() => ground.owner('i2').state.droppedUpTo === 1, 'freed memory')
    expect(ground.manifest('other')!.blocks.map(({ ulid }) => ulid)).toEqual([merged])
    expect(ground.manifest(TENANT)!.blocks).toMatchObject([{ sampleCount: 1 }, { sampleCount: 2 }])
    expect(stored).toEqual([ground.manifest(TENANT)!.blocks[1]!.ulid])
  })

  /** What a compactor would make of the tenant's only block; the retired one is gone by now. */
  async function mergedFrom(tenant: string): Promise<string> {
    const { blocks, objects } = ground
    const [entry] = blocks.manifest(tenant)!.manifest.blocks
    const { ulid: source } = entry!
    const meta = await blocks.openBlock(tenant, entry!).meta()
    const ulid = `${source.slice(0, -1)}${source.endsWith('Z') ? 'Y' : 'Z'}`
    const bytes = metaBytes({ ...meta, ulid, compaction: { level: 2, sources: [source] } })
    for (const { name, size } of meta.carillon!.files) {
      const file = await objects.read(`${tenant}/${source}/${name}`, { start: 0, end: size }, { timeoutMs: 1_000 })
      await objects.create(`${tenant}/${ulid}/${name}`, file, { timeoutMs: 1_000 })
    }
    await objects.create(`${tenant}/${ulid}/${META_FILE}`, bytes, { timeoutMs: 1_000 })
    const origin = { kind: 'compaction', level: 1 } as const
    const made = { ...entry!, ulid, origin, metaSha256: sha256Of(bytes) }
    await blocks.update(tenant, (manifest) => ({ ...manifest, blocks: [made], sweptAt: manifest.version + 1 }))
    return ulid
  }

  test('LOG-17: a supplement whose files a sweep takes while its owner stands still is stored again, not listed without them', async () => {
    await ground.mark(1)
    const hidden = await ground.batch([['a', START_MS + 1, 1]])
    await ground.batch([['a', START_MS + 2, 1]])
    await ground.start('i2')
    await ground.until(() => ground.owner('i2').isCaughtUp, 'the whole one')
    ground.hub.pause('i2')
    await ground.pass(5_000)
    await ground.start('i1', { hides: [hidden] })
    await ground.mark(2)
    await ground.until(() => ground.blocks.flushed(0) === 1, 'the flush')
    const swept: string[] = []
    ground.onStored = async (id, ulid) => {
      if (id !== 'i2' || swept.push(ulid) > 1) return
      await ground.blocks.update(TENANT, (manifest) => withGarbage(manifest, [ulid], 1))
      await ground.blocks.deleteBlock(TENANT, ulid)
      await ground.blocks.update(TENANT, (manifest) => withoutRetired(manifest, [ulid]))
    }
    ground.hub.resume('i2')
    await ground.until(() => ground.owner('i2').state.droppedUpTo === 1, 'freed memory')
    expect(swept).toHaveLength(2)
    const supplement = ground.manifest(TENANT)!.blocks[1]!
    expect(supplement).toMatchObject({ sampleCount: 2, origin: { isSupplement: true } })
    expect((await ground.objects.list(`${TENANT}/${supplement.ulid}/`, { timeoutMs: 1_000 })).length).toBeGreaterThan(2)
  })

  test('LOG-10: a segment is not flushed while another owner may have what it lacks', async () => {
    await ground.mark(1)
    const hidden = await ground.batch([['a', START_MS + 1, 1]])
    await ground.batch([['a', START_MS + 2, 1]])
    await ground.start('i1', { hides: [hidden] })
    await ground.start('i2')
    await ground.mark(2)
    await ground.until(() => ground.blocks.flushed(0) === 1, 'the flush')
    const { blocks } = ground.manifest(TENANT)!
    expect(blocks, 'what the other had, and what lies behind the gap, once').toMatchObject([{ sampleCount: 2 }])
    expect(blocks.flatMap(({ gaps = [] }) => gaps)).toEqual([])
  })
})

test('LOG-8: a flush by hand closes what is open as soon as segment-min allows, and says when it is in blocks', async () => {
  await ground.mark(1)
  await ground.start('i1')
  await ground.batch([['a', START_MS, 1]])
  const bus = ground.hub.connect('asker')
  const soon = await ground.soon(flushMembers(bus, ['i1'], { kind: 'flush', waitMs: 1_000 }))
  expect(soon).toMatchObject({ isDone: false, partitions: [{ partition: 0, segment: 1, flushed: 0, leader: 'i1' }] })
  const late = await ground.soon(flushMembers(bus, ['i1'], { kind: 'flush', waitMs: 100_000 }))
  expect(late).toMatchObject({ isDone: true, partitions: [{ segment: 2, flushed: 1 }] })
  const again = await ground.soon(flushMembers(bus, ['i1'], { kind: 'flush', waitMs: 0 }))
  expect(again, 'nothing was written since').toMatchObject({ isDone: true, partitions: [{ segment: 2, flushed: 1 }] })
  const nobody = await ground.soon(flushMembers(bus, ['i9'], { kind: 'mark', waitMs: 0 }))
  expect(nobody).toMatchObject({ isDone: false, failures: [expect.stringMatching(/^i9: /)] })
})

test('LOG-7: a log that is nearly full is cut, flushed and purged before it takes no more', async () => {
  const small = new FlushGround()
  await small.open(32 * 1024)
  try {
    await small.start('i1')
    await small.mark(1)
    const stateOf = () => small.hub.log('log-0')!.state()
    while (stateOf().bytes < 0.75 * 32 * 1024) await small.batch([['a', START_MS + stateOf().lastSeq, 1]])
    await small.until(() => stateOf().bytes < 0.1 * 32 * 1024, 'an empty log')
    expect(small.owner('i1').damages).toEqual([])
    expect(await heldWith(small, 'i1')).toBe(stateOf().lastSeq - small.owner('i1').state.segment)
  } finally {
    small.close()
  }
})
