// Rules that stand behind others: each test takes the outer one away, so that only the inner one is left to hold.
import { afterEach, beforeEach, expect, test } from 'vitest'
import { FlushedSeen } from '../../../services/ingester/flush/after-flush.ts'
import { inlineBuilder } from '../../../services/ingester/flush/block-builder.ts'
import { buildSegment, type FlushDeps } from '../../../services/ingester/flush/flush.ts'
import type { Owner } from '../../../services/ingester/log/owner.ts'
import { PartitionState } from '../../../services/ingester/state/partition-state.ts'
import { hex, seededRandom } from '../../../shared/base/random.ts'
import { ask, askStream } from '../../../shared/bus/ask.ts'
import { batchSubject, logName } from '../../../shared/contracts/log.ts'
import { labelNames, type SelectFrame, select } from '../../../shared/contracts/read.ts'
import { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import { withDelivery } from '../../altered-bus.ts'
import { FlushGround, HOUR_MS } from './flush-ground.ts'
import { TENANT } from './log-writer.ts'

let ground: FlushGround
beforeEach(async () => {
  ground = new FlushGround()
  await ground.open()
})
afterEach(() => ground.close())

const START_MS = 1_700_000_000_000 - (1_700_000_000_000 % (2 * HOUR_MS))
const place = { partition: 0, tenant: TENANT, minSeq: 0, incarnation: '', waitMs: 0, manifestVersion: 0 }
const always = { startMs: 0, endMs: 9e15 }

test('LOG-18: an owner that has not met the end of a flushed segment does not answer, though it was caught up just now', async () => {
  await ground.mark(1)
  await ground.batch([['a', START_MS, 1]])
  await ground.start('i1')
  let stalled: Promise<void> | undefined
  await ground.start('i2', { view: (bus) => withDelivery(bus, async () => stalled) })
  await ground.until(() => ground.owner('i2').isCaughtUp, 'both')
  let goOn = () => {}
  stalled = new Promise((resolve) => {
    goOn = resolve
  })
  await ground.batch([['a', START_MS + 1, 1]])
  await ground.mark(2)
  await ground.until(() => ground.blocks.flushed(0) === 1, 'the flush')
  expect(ground.owner('i2').isCaughtUp, 'it reached an end that was read a moment ago').toBe(true)
  await ground.pass(3_000)
  expect(ground.owner('i2').state.droppedUpTo, 'PURGE-3: what it has not seen the end of stays').toBe(0)
  const bus = ground.hub.connect('asker')
  const names = () =>
    ground.soon(ask(bus, labelNames, { id: 'i2' }, { ...place, ...always, watermark: 1, selectors: [], limit: 0 }, {}))
  await expect(names()).rejects.toMatchObject({ code: 'err-carillon-owner-behind' })
  goOn()
  await ground.until(() => ground.owner('i2').state.segment === 2, 'the mark')
  expect((await names()).stamp.appliedSeq).toBe(4)
})

test('LOG-18: an answer that is half given when its segment leaves memory ends with an error, not with a hole', async () => {
  await ground.mark(1)
  const seriesCount = 6_000
  const random = seededRandom(1)
  for (let i = 0; i < seriesCount; i += 500) {
    const names = Array.from({ length: 500 }, () => hex(random.bytes(500))) // does not pack: frames wait for their reader
    await ground.batch(names.map((name) => [name, START_MS, 1] as const))
  }
  await ground.start('i1')
  await ground.until(() => ground.owner('i1').isCaughtUp, 'caught up')
  const asked = { ...place, ...always, watermark: 0, matchers: [], mode: 'all' as const, seriesMax: 1e6 }
  const frames = askStream(ground.hub.connect('asker'), select, { id: 'i1' }, asked)
  const next = () => ground.soon(frames.next() as Promise<IteratorResult<SelectFrame>>)
  let count = (await next()).value.labelCounts.length
  expect(count).toBeLessThan(seriesCount)
  await ground.mark(2)
  await ground.until(() => ground.owner('i1').state.droppedUpTo === 1, 'freed memory')
  const rest = async () => {
    for (let frame = await next(); !frame.done; frame = await next()) count += frame.value.labelCounts.length
    return count
  }
  await expect(rest()).rejects.toMatchObject({ code: 'err-carillon-dropped' })
})

test('LOG-20: a strong read is answered when what it waits for is applied, and only in the life of the log that it means', async () => {
  await ground.mark(1)
  await ground.batch([['a', START_MS, 1]])
  let stalled: Promise<void> | undefined
  await ground.start('i1', { view: (bus) => withDelivery(bus, async () => stalled) })
  await ground.until(() => ground.owner('i1').isCaughtUp, 'caught up')
  const { incarnation } = ground.owner('i1')
  const bus = ground.hub.connect('asker')
  const asked = { ...place, ...always, watermark: 0, selectors: [], limit: 0 }
  const names = (over: object) => ground.soon(ask(bus, labelNames, { id: 'i1' }, { ...asked, ...over }, {}))
  let goOn = () => {}
  stalled = new Promise((resolve) => {
    goOn = resolve
  })
  const seq = await ground.batch([['b', START_MS, 1]])
  await expect(names({ minSeq: seq, incarnation, waitMs: 100 })).rejects.toMatchObject({
    code: 'err-carillon-owner-behind',
  })
  goOn()
  expect((await names({ minSeq: seq, incarnation, waitMs: 1_000 })).stamp.appliedSeq).toBe(seq)
  await expect(names({ minSeq: seq, incarnation: 'before', waitMs: 100 })).rejects.toMatchObject({
    code: 'err-carillon-owner-behind',
  })
})

test('FLUSH-3: a segment into which another owner has filled something while it was read is not listed', async () => {
  const strings = new StringTable()
  const state = new PartitionState({ strings, onDamage: () => {}, onSkipped: () => {}, isForgetful: false })
  state.applyMark(1, ground.writer.mark(1))
  state.applyBatch(2, ground.writer.batch([['a', START_MS, 1]]).seal())
  state.applyMark(3, ground.writer.mark(2))
  let fill = () => {}
  const builder = inlineBuilder()
  const build: typeof builder.build = async (...args) => {
    const built = await builder.build(...args)
    fill()
    return built
  }
  const owner = { state, partition: 0 } as Owner
  const deps = { strings, clock: ground.clock, builder: { ...builder, build } } as unknown as FlushDeps
  const built = () => ground.soon(buildSegment(owner, { tenant: TENANT, segment: 1 }, deps))
  expect(await built()).toHaveLength(1)
  fill = () => void state.head(TENANT).appendFloat(0, 1, START_MS + 5, Float64Array.of(7), 0)
  await expect(built()).rejects.toMatchObject({ code: 'flush-changed' })
})

test('a leader that stood still between building and listing changes nothing that others have done meanwhile', async () => {
  await ground.mark(1)
  await ground.batch([['a', START_MS, 1]])
  await ground.start('i1', {
    onStep: (step) => {
      if (step === 'uploaded' && ground.running.size === 2) ground.hub.pause('i1')
    },
  })
  await ground.start('i2')
  await ground.mark(2)
  await ground.batch([['a', START_MS + 1, 1]])
  await ground.mark(3)
  await ground.until(() => ground.blocks.flushed(0) === 2, 'the flushes of the other')
  const before = ground.manifest(TENANT)!
  expect(before.flushed).toEqual({ 0: 2 })
  ground.hub.resume('i1')
  await ground.until(() => ground.owner('i1').state.droppedUpTo === 2, 'the one that stood still')
  expect(ground.manifest(TENANT)).toMatchObject({ flushed: { 0: 2 }, version: before.version })
})

test.each([
  ['another message stands in the place of M(f)', { nonce: 'that of another mark' }],
  ['M(f) is of another life of the log', { incarnation: 'before' }],
])('PURGE-1: where %s nothing is purged', async (_, over) => {
  for (const number of [1, 2, 3]) {
    await ground.mark(number)
    await ground.append(batchSubject(0), ground.writer.batch([['a', START_MS + number, 1]]).seal())
  }
  const { incarnation } = ground.hub.log(logName(0))!.state()
  const flushed = { segment: 2, mark: { seq: 3, nonce: 'nonce-2', incarnation, ...over }, digests: {} }
  await ground.soon(ground.blocks.advanceFlushed(0, flushed))
  await ground.start('i1')
  await ground.until(() => ground.owner('i1').isCaughtUp, 'caught up')
  await ground.pass(2_000)
  expect(ground.firstSeq()).toBe(1)
})

test('PURGE-3: a flush is due when it was seen so long ago, and so are those before it', () => {
  const seen = new FlushedSeen()
  expect(seen.due(5, 0, 1_000)).toBe(0)
  expect(seen.due(6, 900, 1_000)).toBe(0)
  expect(seen.due(6, 1_000, 1_000)).toBe(5)
  expect(seen.due(6, 1_899, 1_000)).toBe(5)
  expect(seen.due(6, 1_900, 1_000)).toBe(6)
})
