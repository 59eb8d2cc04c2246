import { expect, test } from 'vitest'
import { sleep, systemClock } from '../../../shared/base/clock.ts'

test('the time that goes on while a machine is suspended goes as the other one does while it is not', async () => {
  const before = { uptime: systemClock.uptime(), monotonic: systemClock.monotonic() }
  await sleep(systemClock, 100)
  const passedMs = systemClock.monotonic() - before.monotonic
  expect(Math.abs(systemClock.uptime() - before.uptime - passedMs)).toBeLessThan(50)
})

test('what is to wait longer than a timer of Node can does not fire at once', async () => {
  let isCalled = false
  const timer = systemClock.after(2 ** 31 + 1_000, () => {
    isCalled = true
  })
  await sleep(systemClock, 50)
  timer.cancel()
  expect(isCalled).toBe(false)
})
