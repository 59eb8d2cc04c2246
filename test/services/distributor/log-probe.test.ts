// Looking whether logs answer, in virtual time.
import { expect, test } from 'vitest'
import { LogProbe } from '../../../services/distributor/log/log-probe.ts'
import { sleep } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { createMemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import { bootstrap } from '../../../shared/membership/bootstrap.ts'
import { VirtualClock } from '../../sim/virtual-clock.ts'

test('PROBE-1: many who ask share one look; PROBE-2: a log that is away for 5 s is believed, then named, and forgiven', async () => {
  const clock = new VirtualClock()
  const hub = createMemoryHub({ clock, random: seededRandom(1) })
  const { logs } = hub.connect('distributor-1')
  let asked = 0
  const state = (log: string) => {
    asked++
    return logs.state(log)
  }
  const probe = new LogProbe({ logs: { state }, clock })
  const told = async () => {
    await bootstrap(hub.connect('setup'), { partitions: 2, replicationFactor: 1, logBytesMax: 1 << 20, logReplicas: 1 })
    expect(await Promise.all(Array.from({ length: 50 }, () => probe.lacks(2)))).toEqual(new Array(50).fill([]))
    expect(asked).toBe(2)
    hub.faults.logsDown = true
    for (let second = 1; second <= 4; second++) {
      await sleep(clock, 1_001)
      expect(await probe.lacks(2)).toEqual([])
    }
    await sleep(clock, 1_500)
    expect(await probe.lacks(2)).toEqual(
      [0, 1].map((p) => expect.stringContaining(`the log of partition ${p} does not`)),
    )
    expect(await probe.lacks(1)).toHaveLength(1)
    hub.faults.logsDown = false
    await sleep(clock, 1_001)
    expect(await probe.lacks(2)).toEqual([])
    expect(asked).toBe(14)
  }
  let isOver = false
  const whole = told().finally(() => {
    isOver = true
  })
  await clock.run(() => isOver, 60_000)
  await whole
})

test('PROBE-1: a log that never answers holds nobody up, and is not believed before its first answer', async () => {
  const clock = new VirtualClock()
  const probe = new LogProbe({ logs: { state: () => new Promise(() => {}) }, clock })
  const asked = probe.lacks(1)
  let isOver = false
  void asked.finally(() => {
    isOver = true
  })
  await clock.run(() => isOver, 1_000)
  expect(await asked).toEqual([expect.stringContaining('no answer within 600 ms')])
})
