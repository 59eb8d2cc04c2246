import { expect, test } from 'vitest'
import { sleep, systemClock } from '../../../shared/base/clock.ts'

test('the time that goes on while a machine is suspended goes as the other one does while it is not', async () => {
  const before = { uptime: systemClock.uptime(), monotonic: systemClock.monotonic() }
  await sleep(systemClock, 100)
  const passedMs = systemClock.monotonic() - before.monotonic
  expect(Math.abs(systemClock.uptime() - before.uptime - passedMs)).toBeLessThan(50)
})
