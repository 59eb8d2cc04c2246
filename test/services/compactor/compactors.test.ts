// Two compactors at once, one of which is stopped between any two of its operations, while a reader reads everything all the time.
import { describe, expect, it } from 'vitest'
import { seededRandom } from '../../../shared/base/random.ts'
import { labelsFrom, labelsKey } from '../../../shared/model/labels.ts'
import { type Fault, Ground } from './compactors-ground.ts'
import { floatValue, naiveMerge, type Sample, type SeriesMap, stale } from './merge-ground.ts'

const HOUR = 3_600_000
const MINUTE = 60_000
/** Two days before the virtual clock begins, at the start of an aligned day. */
const day0 = Math.floor(1_700_000_000_000 / (24 * HOUR)) * 24 * HOUR - 48 * HOUR

function series(seed: number, startMs: number): SeriesMap {
  const random = seededRandom(seed)
  const block: SeriesMap = new Map()
  for (let i = 0; i < 3; i++) {
    const labels = labelsFrom({ __name__: 'up', instance: String(random.below(4)) })
    const samples: Sample[] = []
    for (let time = startMs + random.below(MINUTE); time < startMs + HOUR && samples.length < 20; ) {
      samples.push({ time, value: random.below(15) === 0 ? stale : floatValue(random.below(100)) })
      time += MINUTE * (1 + random.below(2))
    }
    block.set(labelsKey(labels), { labels, samples })
  }
  return block
}

async function withData(seed: number): Promise<Ground> {
  const ground = new Ground(seed)
  await ground.open()
  for (let i = 0; i < 6; i++) {
    const startMs = day0 + [0, 0, 2, 2, 14, 26][i]! * HOUR
    await ground.until(ground.flush(series(seed * 100 + i, startMs), i % 2))
  }
  return ground
}

/** Runs until all is merged, swept and quiet, then looks at what is left. */
async function finish(ground: Ground, blocksMax: number): Promise<void> {
  for (let i = 0; i < 5; i++) {
    await ground.until(ground.advanceFlushed())
    await ground.pass(25 * MINUTE)
  }
  const manifest = await ground.until(ground.manifest())
  expect(manifest.blocks.length).toBeLessThanOrEqual(blocksMax)
  expect(manifest.retired).toEqual([])
  const samples = [...naiveMerge(ground.written).values()].reduce((sum, each) => sum + each.samples.length, 0)
  expect(manifest.blocks.reduce((sum, { sampleCount }) => sum + sampleCount, 0)).toBe(samples)
  const found = await ground.until(ground.found())
  expect(found.map(({ ulid }) => ulid).sort(), 'no file belongs to no block').toEqual(
    manifest.blocks.map(({ ulid }) => ulid).sort(),
  )
}

async function scenario(seed: number, fault: Fault | undefined, jumps = false, kvLoseAck = 0): Promise<Ground> {
  const ground = await withData(seed)
  ground.hub.faults.kvLoseAck = kvLoseAck
  const stopReader = await ground.startReader()
  const stopFirst = await ground.start('first', { fault, jumps })
  const stopSecond = await ground.start('second', { jumps })
  await ground.pass(30_000)
  await ground.until(ground.flush(series(seed * 100 + 50, day0 + HOUR), 0)) // late
  await ground.until(ground.flush(series(seed * 100 + 51, day0 + 3 * HOUR), 1))
  await finish(ground, 2)
  expect(await stopReader()).toBeGreaterThan(20)
  await stopFirst()
  await stopSecond()
  return ground
}

describe('two compactors', () => {
  it('merge everything once, and readers see the same samples before, during and after', async () => {
    const ground = await scenario(1, undefined)
    const manifest = await ground.until(ground.manifest())
    expect(manifest.blocks).toHaveLength(2)
  })

  it('COMPACTOR-2: one that dies before any of its operations costs nothing, and leaves nothing behind', async () => {
    const count = (await scenario(2, undefined)).operations.get('first')!
    for (const at of stops(count)) await scenario(2, { at, kind: 'crash' })
  })

  it('LOG-1: one that stands still before any of its operations, until another has taken over, changes nothing wrongly', async () => {
    const count = (await scenario(3, undefined)).operations.get('first')!
    for (const at of stops(count))
      await scenario(3, { at, kind: 'pause', pauseMs: at % 2 === 0 ? 40_000 : 90 * MINUTE })
  })

  it('any of it together, wherever it strikes', async () => {
    for (let seed = 100; seed < 112; seed++) {
      const random = seededRandom(seed)
      const at = 1 + random.below(70)
      const pauseMs = 30_000 + random.below(100 * MINUTE)
      const fault: Fault = random.below(2) === 0 ? { at, kind: 'crash' } : { at, kind: 'pause', pauseMs }
      await scenario(seed, fault, random.below(2) === 0, random.below(2) * 0.2).catch((error: unknown) => {
        throw new Error(`seed ${seed}, ${JSON.stringify(fault)}`, { cause: error })
      })
    }
  })

  it('writes of the bucket whose answer is lost are found out', async () => {
    for (const seed of [7, 8, 9]) await scenario(seed, undefined, false, 0.1)
  })

  it('clocks that jump by five minutes either way harm nothing', async () => {
    for (const seed of [4, 5, 6]) await scenario(seed, undefined, true)
  })
})

/** Every operation of the first merge, then some of what follows. */
function stops(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i + 1).filter((at) => at <= 20 || (at < 100 && at % 11 === 0))
}
