// What is told without samples, metadata and exemplars, lives on when the part of the log in which it was told is purged: the leader states it again.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { NONE } from '../../../services/distributor/log/dictionary.ts'
import { Batch } from '../../../services/distributor/log/session.ts'
import { ask } from '../../../shared/bus/ask.ts'
import { batchSubject, fenceSubject, logName } from '../../../shared/contracts/log.ts'
import { exemplars, metadata } from '../../../shared/contracts/read.ts'
import { ALL_TIME } from '../../../shared/model/interval.ts'
import { FlushGround, HOUR_MS } from './flush-ground.ts'
import { TENANT } from './log-writer.ts'

let ground: FlushGround
beforeEach(async () => {
  ground = new FlushGround()
  await ground.open()
})
afterEach(() => ground.close())

const START_MS = 1_700_000_000_000 - (1_700_000_000_000 % (2 * HOUR_MS))

describe('PURGE-2: metadata and exemplars outlive the part of the log in which they were stated', () => {
  beforeEach(async () => {
    await ground.mark(1)
    const stated = new Batch(ground.writer.session!)
    stated.addFloat(ground.writer.refOf('a'), START_MS, new Uint32Array(2), 0)
    stated.addExemplar({
      ref: ground.writer.refOf('a'),
      time: START_MS,
      value: Float64Array.of(-0.5),
      labels: ['trace_id', 'é1'],
    })
    stated.addMetadata({ tenant: TENANT, metric: 'm', type: 'counter', help: 'what it counts', unit: '' })
    await ground.append(batchSubject(0), stated.seal())
    for (const number of [2, 3, 4]) {
      await ground.batch([['a', START_MS + number, 1]])
      await ground.mark(number)
    }
  })

  async function expectHeldBy(id: string, watermark = 3): Promise<void> {
    const asked = {
      partition: 0,
      tenant: TENANT,
      watermark,
      manifestVersion: 0,
      minSeq: 0,
      incarnation: '',
      waitMs: 1_000,
      metric: '',
      limit: 0,
    }
    const reply = await ground.soon(ask(ground.hub.connect(`asker of ${id}`), metadata, { id }, asked, {}))
    expect(reply.metadata).toEqual([{ metric: 'm', type: 'counter', help: 'what it counts', unit: '' }])
    const ofSeries = { ...asked, selectors: [], startMs: 0, endMs: 9e15 }
    const found = await ground.soon(ask(ground.hub.connect(`second asker of ${id}`), exemplars, { id }, ofSeries, {}))
    expect(found.series).toEqual([
      { labels: ['__name__', 'a'], exemplars: [{ labels: ['trace_id', 'é1'], time: START_MS, value: -0.5 }] },
    ])
    expect(ground.owner(id).damages).toEqual([])
  }

  test('after the purge', async () => {
    await ground.start('i1')
    await ground.until(() => ground.firstSeq() === 6, 'the purge')
    await ground.start('i2')
    await ground.until(() => ground.owner('i2').isCaughtUp, 'the new owner')
    await expectHeldBy('i2')
  })

  test('LOG-7: a log that has no room for them is flushed and purged all the same; they are stated again when it has', async () => {
    const log = () => ground.hub.log(logName(0))!
    const { bytesMax } = log().state()
    const filler = (share: number) => new Uint8Array(Math.min(900_000, share * bytesMax - log().state().bytes))
    while (log().state().bytes < 0.96 * bytesMax) await ground.append(fenceSubject(0), filler(0.965))
    await ground.start('i1')
    await ground.until(() => ground.firstSeq() >= 6, 'a purge')
    await ground.until(() => log().state().bytes < 0.1 * bytesMax, 'room')
    const hasBatch = () =>
      Array.from({ length: 20 }, (_, i) => log().get(log().state().lastSeq - i)).some(
        (each) => each?.subject === batchSubject(0),
      )
    await ground.until(hasBatch, 'what is stated again')
    await ground.start('i2')
    await ground.until(() => ground.owner('i2').isCaughtUp, 'the new owner')
    await expectHeldBy('i2', ground.blocks.flushed(0))
  })

  test('also of a tenant that writes no more, as long as it is silent', async () => {
    await ground.start('i1')
    for (const number of [5, 6, 7, 8]) {
      await ground.mark(number)
      await ground.until(() => ground.owner('i1').state.droppedUpTo >= number - 1, `the drop of segment ${number - 1}`)
    }
    expect(ground.owner('i1').state.heads.get(TENANT)!.sampleCount).toBe(0)
    await ground.start('i2')
    await ground.until(() => ground.owner('i2').isCaughtUp, 'the new owner')
    for (const id of ['i1', 'i2']) await expectHeldBy(id, ground.blocks.flushed(0))
  })

  test('each with its own series, whatever label texts hold', async () => {
    const sets = [
      ['a', '1ÿbÿ2'],
      ['a', '1', 'b', '2'],
    ]
    const batch = new Batch(ground.writer.session!)
    for (const [i, labels] of sets.entries()) {
      const { dictionary } = ground.writer
      const named = { bytes: Buffer.of(i), start: 0, end: 1 }
      const ref = dictionary.add(dictionary.intern(TENANT), named, { labels, hash: i, partition: 0 }, NONE)
      batch.addExemplar({ ref, time: START_MS, value: Float64Array.of(i), labels: ['trace_id', `t${i}`] })
    }
    await ground.append(batchSubject(0), batch.seal())
    await ground.mark(5)
    await ground.mark(6)
    await ground.start('i1')
    await ground.until(() => ground.blocks.flushed(0) === 5, 'the flush')
    await ground.start('i2')
    await ground.until(() => ground.owner('i2').isCaughtUp, 'the new owner')
    const head = ground.owner('i2').state.heads.get(TENANT)!
    const held = [...head.selectExemplars([])].map((ref) => [head.labelsOf(ref), head.exemplarsOf(ref, ALL_TIME)])
    for (const [i, labels] of sets.entries()) {
      expect(held).toContainEqual([labels, [expect.objectContaining({ labels: ['trace_id', `t${i}`] })]])
    }
  })

  test.each([2, 3])('when all owners die as soon as flush %i is said', async (times) => {
    await ground.start('i1', { diesAt: { step: 'flushed', times } })
    await ground.until(() => ground.dead.has('i1'), 'the death')
    await ground.start('i2')
    await ground.until(() => ground.firstSeq() === 6, 'the purge')
    await expectHeldBy('i2')
  })
})

test('PURGE-2: what was told of a tenant that has fallen silent is not stated again for ever, and leaves memory', async () => {
  await ground.mark(1)
  await ground.start('i1')
  const tell = async (tenant: string) => {
    const batch = new Batch(ground.writer.session!)
    batch.addMetadata({ tenant, metric: 'm', type: 'counter', help: 'what it counts', unit: '' })
    await ground.append(batchSubject(0), batch.seal())
  }
  for (const tenant of ['gone', 'late', 'once']) await tell(tenant)
  const held: string[][] = []
  for (let segment = 1; segment <= 30; segment++) {
    await ground.batch([['a', START_MS + segment, 1]], 'once') // tells once, and writes on
    if (segment === 20) await tell('late')
    await ground.mark(segment + 1)
    await ground.until(() => ground.blocks.flushed(0) === segment, `flush of ${segment}`)
    await ground.pass(2_000)
    held.push([...ground.owner('i1').state.metadata.tenantsHeld()].sort())
  }
  expect(held[20]).toEqual(['gone', 'late', 'once'])
  expect(held.at(-1)).toEqual(['late', 'once'])
  await ground.start('i2')
  await ground.until(() => ground.owner('i2').isCaughtUp, 'one that replays')
  expect([...ground.owner('i2').state.metadata.tenantsHeld()].sort()).toEqual(['late', 'once'])
})
