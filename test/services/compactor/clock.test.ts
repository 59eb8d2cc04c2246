// A compactor whose wall clock is wrong: what cannot be taken back waits until the servers' clocks agree with it.
import { expect, test } from 'vitest'
import { ClockWitness } from '../../../services/compactor/clock-witness.ts'
import type { Clock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { createMemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import { LIMITS_BUCKET } from '../../../shared/contracts/limits.ts'
import { labelsFrom, labelsKey } from '../../../shared/model/labels.ts'
import { encodeTenant } from '../../../shared/model/tenant.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { VirtualClock } from '../../sim/virtual-clock.ts'
import { Ground, TENANT } from './compactors-ground.ts'
import { floatValue, type SeriesMap } from './merge-ground.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

function hourOf(startMs: number): SeriesMap {
  const labels = labelsFrom({ __name__: 'up' })
  const samples = Array.from({ length: 60 }, (_, i) => ({ time: startMs + i * MINUTE, value: floatValue(i) }))
  return new Map([[labelsKey(labels), { labels, samples }]])
}

/** A block that is an hour old, and files that belong to none. */
async function withOrphan(): Promise<Ground> {
  const ground = new Ground(3)
  await ground.open()
  await ground.until(ground.flush(hourOf(Math.round(ground.clock.now()) - HOUR), 0))
  const names = ['index', 'meta.json'].map((file) => `${encodeTenant(TENANT)}/01HZZZZZZZZZZZZZZZZZZZZZZZ/${file}`)
  for (const name of names) await ground.until(ground.objects.create(name, new Uint8Array(10), { timeoutMs: 1_000 }))
  return ground
}

test.each([
  ['ahead', 3 * DAY],
  ['behind', -3 * DAY],
])('CLOCK-1: a compactor whose clock is days %s takes nothing away, and says why', async (_, clockAheadMs) => {
  const ground = await withOrphan()
  const before = await ground.until(ground.manifest())
  const stop = await ground.start('wrong', {
    clockAheadMs,
    config: { keepMs: DAY, keepBytesMax: 1, uploadKeepMs: DAY },
  })
  await ground.pass(2 * HOUR)
  const after = await ground.until(ground.manifest())
  expect(after.blocks).toEqual(before.blocks)
  expect(after.retired).toEqual([])
  expect(await ground.until(ground.found())).toHaveLength(2)
  expect(JSON.stringify(await ground.status('wrong'))).toContain('clock is 4320 minutes')
  await stop()
})

test('a compactor whose clock is right goes on', async () => {
  const ground = await withOrphan()
  const stop = await ground.start('right', { clockAheadMs: 5 * MINUTE, config: { keepBytesMax: 1 } })
  await ground.pass(2 * HOUR)
  expect((await ground.until(ground.manifest())).blocks).toEqual([])
  await stop()
})

async function witnessed(clock: VirtualClock, wall: { aheadMs: number }) {
  const hub = createMemoryHub({ clock, random: seededRandom(1), faults: { delayMs: { minMs: 1, maxMs: 1 } } })
  const bus = hub.connect('compactor')
  const own: Clock = {
    now: () => clock.now() + wall.aheadMs,
    monotonic: () => clock.monotonic(),
    uptime: () => clock.uptime(),
    after: (ms, fn) => clock.after(ms, fn),
    turn: (fn) => clock.turn(fn),
  }
  const soon = async <T>(promise: Promise<T>): Promise<T> => {
    let isOver = false
    const settled = promise.finally(() => {
      isOver = true
    })
    settled.catch(() => {}) // told by the promise
    await clock.run(() => isOver, clock.monotonic() + HOUR)
    return promise
  }
  return { hub, bus, soon, witness: (of = bus) => new ClockWitness({ bus: of, clock: own, log: silentLog }) }
}

test('CLOCK-1: one server of several that is wrong is enough, and so is one that cannot be asked', async () => {
  const clock = new VirtualClock()
  const { hub, bus, soon, witness } = await witnessed(clock, { aheadMs: 0 })
  expect(await soon(witness().fault())).toBeUndefined()
  const wrong = {
    bucket: async (name: string) => {
      const bucket = await bus.bucket(name)
      return name === LIMITS_BUCKET ? { ...bucket, serverTimeMs: async () => clock.now() + HOUR } : bucket
    },
  }
  const other = witness(wrong as typeof bus)
  expect(await soon(other.fault())).toContain('60 minutes ahead')
  expect(Math.round(other.apartMs / MINUTE)).toBe(60)
  hub.faults.bucketsDown = true
  expect(await soon(witness().fault())).toContain('not known')
})

test('CLOCK-1: what could not be asked is asked again soon, not for each tenant', async () => {
  const clock = new VirtualClock()
  const { hub, soon, witness } = await witnessed(clock, { aheadMs: 0 })
  const asked = witness()
  hub.faults.bucketsDown = true
  expect(await soon(asked.fault())).toContain('not known')
  hub.faults.bucketsDown = false
  const beganMs = clock.monotonic()
  expect(await soon(asked.fault())).toContain('not known')
  expect(clock.monotonic()).toBe(beganMs)
  await soon(new Promise<void>((resolve) => clock.after(10_000, resolve)))
  expect(await soon(asked.fault())).toBeUndefined()
})

test('CLOCK-2: a wall clock that is set between two asks changes nothing', async () => {
  const clock = new VirtualClock()
  const wall = { aheadMs: 0 }
  const { soon, witness } = await witnessed(clock, wall)
  const asked = witness()
  expect(await soon(asked.fault())).toBeUndefined()
  wall.aheadMs = 400 * DAY
  expect(Math.abs(asked.now() - clock.now())).toBeLessThan(1_000)
  await soon(new Promise<void>((resolve) => clock.after(2 * MINUTE, resolve)))
  expect(await soon(asked.fault())).toContain('behind')
})
