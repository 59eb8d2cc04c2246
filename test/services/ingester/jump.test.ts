// An owner that was away while its log was purged, or whose log was made anew: what it held is freed only once blocks hold it (D10).
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FlushGround, HOUR_MS } from './flush-ground.ts'
import { TENANT } from './log-writer.ts'

const START_MS = 1_700_000_000_000 - (1_700_000_000_000 % (2 * HOUR_MS))
let ground: FlushGround

beforeEach(async () => {
  ground = new FlushGround()
  await ground.open()
})
afterEach(() => ground.close())

const flushedCounts = () =>
  ground.manifest(TENANT)!.blocks.map(({ sampleCount, origin }) => {
    if (origin.kind !== 'flush') throw new Error('nobody merges here')
    return { segment: origin.segment, sampleCount, isSupplement: origin.isSupplement === true }
  })

describe('L10: an owner holds more than was flushed when it is cut off', () => {
  test.each([2, 4])('it comes back when the log stands at mark %i, and adds what it has', async (last) => {
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
    expect(flushedCounts()).toContainEqual({ segment: 1, sampleCount: 3, isSupplement: true })
    expect(ground.owner('i2').damages).toEqual([])
    expect(ground.owner('i2').state.digest(last)).toBe(ground.owner('i1').state.digest(last))
  })
})
