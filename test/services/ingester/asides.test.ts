// A tenant whose segment cannot be brought into blocks is set aside: nobody waits for it, and nothing of it is lost.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { seededRandom } from '../../../shared/base/random.ts'
import { askStream } from '../../../shared/bus/ask.ts'
import { manifestKey } from '../../../shared/contracts/blocks.ts'
import { type SelectRequest, select } from '../../../shared/contracts/read.ts'
import { flushMembers } from '../../../shared/membership/flush-members.ts'
import { FlushGround, HOUR_MS, PATIENCE_MS } from './flush-ground.ts'
import { TENANT } from './log-writer.ts'

let ground: FlushGround
beforeEach(async () => {
  ground = new FlushGround()
  await ground.open()
})
afterEach(() => ground.close())

const START_MS = 1_700_000_000_000 - (1_700_000_000_000 % (2 * HOUR_MS))
const BAD = 'bad'

/** One segment of both tenants, closed. */
async function writeSegment(number = 1): Promise<void> {
  await ground.mark(number)
  for (let i = 0; i < 3; i++) {
    const time = START_MS + number * 60_000 + i
    await ground.batch([['good', time, i]])
    await ground.batch(
      [
        ['a', time, i],
        ['b', time + 3 * HOUR_MS, i],
      ],
      BAD,
    )
  }
  await ground.mark(number + 1)
}

const flushed = (segment: number) => ground.until(() => ground.blocks.flushed(0) === segment, `flush ${segment}`)
const samplesOf = (tenant: string) =>
  (ground.manifest(tenant)?.blocks ?? []).reduce((sum, { sampleCount }) => sum + sampleCount, 0)
const asideOf = (id: string) => ground.running.get(id)!.status()[0]!.aside ?? []
const objectsAside = async () =>
  (await ground.soon(ground.objects.list(`${BAD}/aside/`, { timeoutMs: 1_000 }))).map(({ name }) => name)
const recordOf = async (segment: number) => {
  const bucket = await ground.soon(ground.hub.connect(`looker-${++lookers}`).bucket('blocks'))
  return (await ground.soon(bucket.get(`aside.${BAD}.0.${segment}`)))?.value
}
let lookers = 0

async function warningsFor(tenant: string, id: string): Promise<string[]> {
  const asked: SelectRequest = {
    ...{
      partition: 0,
      tenant,
      watermark: ground.blocks.flushed(0),
      manifestVersion: 0,
      minSeq: 0,
      incarnation: '',
      waitMs: 1_000,
    },
    ...{ matchers: [], startMs: 0, endMs: 9e15, mode: 'all', seriesMax: 100 },
  }
  const warnings: string[] = []
  const bus = ground.hub.connect(`asker-${++lookers}`)
  const read = async () => {
    for await (const { stamp } of askStream(bus, select, { id }, asked, {})) warnings.push(...(stamp?.warnings ?? []))
  }
  await ground.soon(read())
  return warnings
}

async function untilRetried(): Promise<void> {
  for (let minutes = 0; minutes < 11; minutes++) await ground.pass(60_000)
}

/** Poisoned, closed, and waited for: others are flushed, the bad one's is aside. */
async function setAside(id = 'i1'): Promise<void> {
  ground.poisoned.add(BAD)
  await ground.start(id)
  await writeSegment()
  await flushed(1)
}

test('ASIDE-1: others are flushed, purged and freed; what makes no block stands in objects, named everywhere', async () => {
  ground.poisoned.add(BAD)
  await ground.start('i1')
  await writeSegment()
  await ground.pass(PATIENCE_MS / 2)
  expect(ground.blocks.flushed(0), 'not at the first failure').toBe(0)
  expect(asideOf('i1')).toEqual([`tenant "${BAD}": segment 1 could not be flushed yet: these samples make no block`])
  await flushed(1)
  expect(samplesOf(TENANT)).toBe(3)
  expect(samplesOf(BAD)).toBe(0)
  expect(ground.manifest(BAD)!.flushed, 'the manifest knows that the segment is done with').toEqual({ 0: 1 })
  const line = 'segment 1 is set aside and in no block yet: these samples make no block'
  expect(asideOf('i1')).toEqual([`tenant "${BAD}": ${line}`])
  const bus = ground.hub.connect('asker')
  const told = await ground.soon(flushMembers(bus, ['i1'], { kind: 'flush', waitMs: 0 }))
  expect(told.partitions).toMatchObject([{ flushed: 1, aside: [`tenant "${BAD}": ${line}`] }])
  const metrics = await ground.running.get('i1')!.metrics.text()
  expect(metrics).toMatch(/^carillon_flush_asides_total 1$/m)
  expect(metrics).toMatch(/^carillon_flush_asides 1$/m)
  expect(await warningsFor(BAD, 'i1')).toEqual([`partition 0: ${line}`])
  expect(await warningsFor(TENANT, 'i1')).toEqual([])
  await ground.until(() => ground.owner('i1').state.droppedUpTo === 1, 'freed memory')
  ground.poisoned.clear()
  await ground.batch([['good', START_MS, 1]])
  await ground.mark(3)
  await ground.until(() => ground.firstSeq() === 8, 'the purge of all of segment 1')
  expect(await objectsAside()).toHaveLength(1)
  expect(ground.owner('i1').damages).toEqual([])
  expect(ground.failures).toEqual([])
})

test('ASIDE-3: it is tried again by the next leader, and is in blocks as if nothing had been', async () => {
  await setAside()
  await ground.until(() => ground.owner('i1').state.droppedUpTo === 1, 'freed memory')
  ground.kill('i1')
  ground.poisoned.clear()
  await ground.start('i2')
  await ground.until(() => samplesOf(BAD) === 6, 'the blocks')
  await ground.until(() => asideOf('i2').length === 0, 'the end of the record')
  expect(ground.manifest(BAD)!.blocks.map(({ sampleCount }) => sampleCount)).toEqual([3, 3])
  expect(await objectsAside()).toEqual([])
  expect(await recordOf(1)).toBeUndefined()
  expect(await warningsFor(BAD, 'i2')).toEqual([])
})

test('ASIDE-3: the same leader tries again after a while', async () => {
  await setAside()
  await ground.pass(60_000)
  ground.poisoned.clear()
  await ground.pass(60_000)
  expect(samplesOf(BAD)).toBe(0)
  await untilRetried()
  expect(samplesOf(BAD)).toBe(6)
})

test('a leader that dies when the record stands is followed by one that sets nothing aside twice', async () => {
  ground.poisoned.add(BAD)
  await ground.start('i1', { diesAt: { step: 'all-listed', times: 1 } })
  await writeSegment()
  await ground.until(() => ground.dead.has('i1'), 'the death')
  expect(await recordOf(1)).toBeDefined()
  expect(ground.blocks.flushed(0)).toBe(0)
  const before = await objectsAside()
  await ground.start('i2')
  await ground.pass(PATIENCE_MS / 2)
  expect(ground.blocks.flushed(0), 'patience was had already').toBe(1)
  expect(await objectsAside()).toEqual(before)
  expect(ground.manifest(BAD)!.flushed).toEqual({ 0: 1 })
})

test('owners that hold different things set aside what each of them holds, and free it', async () => {
  await ground.mark(1)
  const hidden = await ground.batch([['a', START_MS, 1]], BAD)
  await ground.batch([['a', START_MS + 1, 1]], BAD)
  ground.poisoned.add(BAD)
  await ground.start('i2')
  await ground.until(() => ground.owner('i2').isCaughtUp, 'the whole one')
  ground.hub.pause('i2')
  await ground.pass(5_000)
  await ground.start('i1', { hides: [hidden] })
  await ground.mark(2)
  await flushed(1)
  expect(await objectsAside()).toHaveLength(1)
  ground.hub.resume('i2')
  await ground.until(() => ground.owner('i2').state.droppedUpTo === 1, 'freed memory')
  expect(await objectsAside()).toHaveLength(2)
  ground.kill('i1')
  ground.kill('i2')
  ground.poisoned.clear()
  await ground.start('i3')
  await ground.until(() => samplesOf(BAD) === 3, 'the blocks of both')
  await ground.until(() => asideOf('i3').length === 0, 'the end of the record')
})

test('ASIDE-2: a store that does not answer is nobody’s fault: it is waited for', async () => {
  await ground.start('i1')
  ground.downFor = ''
  await writeSegment()
  await ground.pass(5 * PATIENCE_MS)
  expect(ground.blocks.flushed(0)).toBe(0)
  expect(asideOf('i1')).toEqual([])
  ground.downFor = undefined
  await flushed(1)
  expect(samplesOf(BAD)).toBe(6)
  expect(await recordOf(1)).toBeUndefined()
})

test('ASIDE-1: what cannot even be set aside waits, and holds the others up rather than being lost', async () => {
  ground.poisoned.add(BAD)
  await ground.start('i1')
  ground.downFor = '/aside/'
  await writeSegment()
  await ground.pass(5 * PATIENCE_MS)
  expect(ground.blocks.flushed(0)).toBe(0)
  ground.downFor = undefined
  await flushed(1)
  expect(await objectsAside()).toHaveLength(1)
})

describe('a manifest that takes nothing', () => {
  test('holds up its own tenant only; once it is repaired the samples come in', async () => {
    await ground.start('i1')
    await writeSegment(1)
    await flushed(1)
    const bucket = await ground.soon(ground.hub.connect('vandal').bucket('blocks'))
    const sound = (await ground.soon(bucket.get(manifestKey(BAD))))!.value!
    await ground.soon(bucket.put(manifestKey(BAD), Buffer.from('{')))
    await ground.batch([['good', START_MS + 9, 1]])
    await ground.batch([['a', START_MS + 9, 1]], BAD)
    await ground.mark(3)
    await flushed(2)
    expect(samplesOf(TENANT)).toBe(4)
    expect(asideOf('i1')[0]).toMatch(
      /^tenant "bad": segment 2 is set aside and in no block yet: the manifest of tenant/,
    )
    await ground.soon(bucket.put(manifestKey(BAD), sound))
    await untilRetried()
    expect(asideOf('i1')).toEqual([])
    expect(samplesOf(BAD)).toBe(7)
  })
})

test('deleting the tenant helps: what was set aside before goes with it, and is in no block afterwards', async () => {
  await setAside()
  await ground.soon(
    ground.blocks.update(BAD, (manifest) => ({
      ...manifest,
      deletes: [
        {
          ...{ id: 'd1', kind: 'tenant', state: 'removed', selectors: [[]], startMs: -9e15, endMs: 9e15 },
          ...{
            askedAtMs: 0,
            askedBy: 'test',
            undoUntilMs: 0,
            positions: { 0: { incarnation: '', segment: 2, seq: 99 } },
            blocks: [],
          },
        },
      ],
    })),
  )
  await untilRetried()
  expect(asideOf('i1')).toEqual([])
  expect(await objectsAside()).toEqual([])
  expect(await recordOf(1)).toBeUndefined()
  expect(samplesOf(BAD)).toBe(0)
})

test('DELETE-7: what stood before and behind a deletion comes into blocks apart, and only what stood before is deleted', async () => {
  ground.poisoned.add(BAD)
  await ground.start('i1')
  await ground.mark(1)
  for (let i = 0; i < 3; i++) await ground.batch([['a', START_MS + i, i]], BAD)
  const asked = { tenant: BAD, id: 'd', kind: 'series' as const, startMs: 0, endMs: 9e15, askedBy: 'test', asOf: 0 }
  const selectors = [[{ name: '__name__', operator: '=' as const, value: 'a' }]]
  await ground.soon(ground.deletions().remove({ ...asked, selectors }))
  await ground.batch([['a', START_MS, 0]], BAD)
  await ground.mark(2)
  await flushed(1)
  ground.poisoned.clear()
  await untilRetried()
  const { blocks, deletes } = ground.manifest(BAD)!
  expect(blocks.map(({ sampleCount }) => sampleCount)).toEqual([3, 1])
  expect(deletes).toMatchObject([{ state: 'active', blocks: [blocks[0]!.ulid] }])
})

test('of any size: objects that follow each other are one answer again', async () => {
  ground.poisoned.add(BAD)
  await ground.start('i1')
  await ground.mark(1)
  const random = seededRandom(5)
  for (let i = 0; i < 6; i++) {
    const samples = Array.from({ length: 24_000 }, (_, k) => {
      return [
        `series_${k % 300}_of_${i % 2}`,
        START_MS + i * 1_000 + Math.floor(k / 300),
        random.next() * Math.PI,
      ] as const
    })
    await ground.batch(samples, BAD)
  }
  await ground.mark(2)
  await flushed(1)
  expect((await objectsAside()).length).toBeGreaterThan(1)
  ground.poisoned.clear()
  await untilRetried()
  expect(samplesOf(BAD)).toBe(6 * 24_000)
  expect(ground.manifest(BAD)!.blocks).toMatchObject([{ seriesCount: 600 }])
})

test('what another owner sets aside while the first copy comes in stays', async () => {
  await setAside()
  ground.poisoned.clear()
  const bucket = await ground.soon(ground.hub.connect('other').bucket('blocks'))
  ground.onBuild = async () => {
    const key = `aside.${BAD}.0.1`
    const { value, revision } = (await bucket.get(key))!
    const { state, copies } = JSON.parse(Buffer.from(value!).toString())
    const other = { ...copies[0], digest: 'another', objects: ['nowhere'] }
    if (copies.length === 1)
      await bucket.update(key, Buffer.from(JSON.stringify({ state, copies: [...copies, other] })), revision)
  }
  await untilRetried()
  expect(samplesOf(BAD)).toBe(6)
  const left = JSON.parse(Buffer.from((await recordOf(1))!).toString())
  expect(left).toMatchObject({ state: 'waiting', copies: [{}, { digest: 'another' }] })
  expect(await objectsAside()).toHaveLength(1)
})

test('DELETE-10: one tenant that is listed otherwise, or aside, makes nobody build what the others have', async () => {
  ground.poisoned.add('bad')
  for (const id of ['i1', 'i2']) await ground.start(id)
  await ground.mark(1)
  for (let i = 0; i < 20; i++) await ground.batch([['a', START_MS + i, i]], `good-${i}`)
  await ground.batch([['a', START_MS, 1]], 'bad')
  let badBuilds = 0
  let builds = 0
  ground.onBuild = async (tenant) => void (tenant === 'bad' ? badBuilds++ : builds++)
  await ground.mark(2)
  await ground.until(() => ground.blocks.flushed(0) === 1, 'the flush')
  const [buildsOfFlush, badOfFlush] = [builds, badBuilds]
  expect(buildsOfFlush).toBe(20)
  await ground.until(() => ground.owners().every(({ state }) => state.droppedUpTo === 1), 'freed memory')
  expect(builds - buildsOfFlush).toBe(0)
  expect(badBuilds - badOfFlush, 'a try of the leader’s').toBeLessThanOrEqual(1)
})
