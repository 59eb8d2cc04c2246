import { expect, test } from 'vitest'
import { OwnerNews, RateLimiter } from '../../../services/distributor/admit/write-limits.ts'
import { VirtualClock } from '../../sim/virtual-clock.ts'

const passTime = (clock: VirtualClock, ms: number) => clock.run(() => false, clock.monotonic() + ms)

async function clockAt(clock: VirtualClock, ms: number): Promise<void> {
  clock.after(ms, () => {})
  await passTime(clock, ms + 1)
}

test('a tenant may burst, then keeps its rate, and others are not touched', async () => {
  const clock = new VirtualClock()
  const rates = new RateLimiter(clock)
  const limit = { perSecond: 100, burst: 500 }
  expect(rates.take('a', 500, limit)).toBe(0)
  expect(rates.take('a', 100, limit), 'seconds until there is room').toBe(1)
  expect(rates.take('b', 500, limit)).toBe(0)
  await clockAt(clock, 2_000)
  expect(rates.take('a', 200, limit)).toBe(0)
  expect(rates.take('a', 1, limit)).toBe(1)
})

test('a request larger than the burst passes with a full bucket and is paid for afterwards', async () => {
  const clock = new VirtualClock()
  const rates = new RateLimiter(clock)
  const limit = { perSecond: 100, burst: 500 }
  expect(rates.take('a', 1500, limit)).toBe(0)
  await clockAt(clock, 5_000)
  expect(rates.take('a', 500, limit)).toBeGreaterThan(0)
  await clockAt(clock, 10_000)
  expect(rates.take('a', 500, limit)).toBe(0)
})

test('LOG-23: the fullest owner of each partition counts; an owner that fell silent is not believed', async () => {
  const clock = new VirtualClock()
  const news = new OwnerNews(clock, 10_000)
  const counted = (id: string, counts: readonly [number, number][], bytes: number) => ({
    ...{ id, incarnation: 'i', bytes, bytesMax: 100 },
    series: counts.map(([partition, count]) => ({ partition, tenant: 't', count })),
  })
  news.hear(
    counted(
      'a',
      [
        [0, 10],
        [1, 5],
      ],
      50,
    ),
  )
  news.hear(counted('b', [[0, 12]], 80))
  expect(news.seriesOf('t')).toBe(17)
  expect(news.seriesOf('other')).toBe(0)
  expect(news.pressure()).toBe(0.8)
  await clockAt(clock, 11_000)
  expect(news.seriesOf('t')).toBe(0)
  expect(news.pressure()).toBe(0)
})
