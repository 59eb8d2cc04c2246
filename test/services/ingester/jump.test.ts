// An owner that was away while its log was purged, or whose log was made anew: what it held is freed only once blocks hold it (DELETE-10).
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { leaveOut } from '../../../shared/blocks/left-out.ts'
import { changed, FlushGround, HOUR_MS } from './flush-ground.ts'
import { TENANT } from './log-writer.ts'

const START_MS = 1_700_000_000_000 - (1_700_000_000_000 % (2 * HOUR_MS))
let ground: FlushGround

beforeEach(async () => {
  ground = new FlushGround()
  await ground.open()
})
afterEach(() => {
  leaveOut([])
  ground.close()
})

const flushedCounts = () =>
  ground.manifest(TENANT)!.blocks.map(({ sampleCount, origin }) => {
    if (origin.kind !== 'flush') throw new Error('nobody merges here')
    return { segment: origin.segment, sampleCount, isSupplement: origin.isSupplement === true }
  })

describe('LOG-10: an owner holds more than was flushed when it is cut off', () => {
  test.each([
    [2, 'and adds what it has'],
    [4, 'and adds what it has'],
    [4, 'and frees it where nobody compares'],
  ])('it comes back when the log stands at mark %i, %s', async (last, what) => {
    const isAdded = what === 'and adds what it has'
    if (!isAdded) leaveOut(['jump-compare'])
    await ground.mark(1)
    await ground.batch([['a', START_MS, 1]])
    const hidden = await ground.batch([['a', START_MS + 1, 1]])
    await ground.batch([['a', START_MS + 2, 1]])
    await ground.start('i2')
    await ground.until(() => ground.owner('i2').isCaughtUp, 'the whole one')
    ground.hub.pause('i2')
    await ground.pass(5_000)
    await ground.start('i1', { hides: [hidden] })
    for (let number = 2; number <= last; number++) {
      await ground.mark(number)
      await ground.batch([['a', START_MS + number * 1000, 1]])
    }
    await ground.until(() => ground.blocks.flushed(0) === last - 1, 'the flush')
    await ground.pass(10_000)
    ground.hub.resume('i2')
    const isBack = () => ground.owner('i2').isCaughtUp && ground.owner('i2').state.droppedUpTo === last - 1
    await ground.until(isBack, 'its return')
    await ground.until(() => ground.owner('i2').leftBehind.length === 0, 'freed memory')
    await ground.pass(5_000)
    expect(flushedCounts().some(({ sampleCount, isSupplement }) => sampleCount === 3 && isSupplement)).toBe(isAdded)
    expect(ground.owner('i2').damages).toEqual([])
    expect(ground.owner('i2').state.digest(last)).toBe(ground.owner('i1').state.digest(last))
  })
})

test('LOG-10: what was held of a log that was made anew is added to the blocks', async () => {
  await ground.mark(1)
  await ground.batch([['a', START_MS, 1]])
  await ground.batch([['a', START_MS + 1, 1]])
  let isAnew = false
  await ground.start('i1', {
    view: (bus) =>
      changed(bus, {
        state: async (log) => ({ ...(await bus.logs.state(log)), ...(isAnew && { incarnation: 'anew' }) }),
        consume: (log, from, onMessage, onError) =>
          bus.logs.consume(log, isAnew ? Math.max(from, 4) : from, onMessage, onError),
      }),
  })
  await ground.until(() => ground.owner('i1').isCaughtUp, 'what stands in the log')
  isAnew = true // to this owner the log begins at sequence 4
  const seen = await ground.mark(2)
  expect(seen).toBe(4)
  await ground.until(() => ground.owner('i1').leftBehind.length === 1, 'the new log')
  await ground.batch([['a', START_MS + 2, 1]])
  await ground.mark(3)
  await ground.batch([['a', START_MS + 3, 1]])
  await ground.mark(4)
  await ground.until(() => ground.blocks.flushed(0) === 3, 'the flush')
  await ground.until(() => ground.owner('i1').leftBehind.length === 0, 'freed memory')
  expect(flushedCounts()).toContainEqual({ segment: 1, sampleCount: 2, isSupplement: true })
})
