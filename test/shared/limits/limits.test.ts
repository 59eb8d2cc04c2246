import { expect, it } from 'vitest'
import { sleep, systemClock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { createMemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import { LIMITS_BUCKET, LIMITS_HISTORY_MAX, limitsKey } from '../../../shared/contracts/limits.ts'
import { readLimits, setLimits, watchLimits } from '../../../shared/limits/limits.ts'
import { parseLimit, showLimit } from '../../../shared/limits/values.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'

function ground() {
  const bus = createMemoryHub({ clock: systemClock, random: seededRandom(1) }).connect('a')
  const deps = { bus, clock: systemClock, log: silentLog }
  return { bus, deps, limits: watchLimits(deps) }
}

it('LIMIT-1: the record of a tenant goes before that of all, and a broken one changes nothing', async () => {
  const { bus, deps, limits } = ground()
  expect(limits.of('a.b')).toEqual({})
  await setLimits(deps, undefined, { query_series_max: 10, query_points_max: 5 }, 'me')
  await limits.start()
  expect(limits.of('a.b')).toEqual({ query_series_max: 10, query_points_max: 5 })
  await setLimits(deps, 'a.b', { query_series_max: 99 }, 'me')
  await expect.poll(() => limits.of('a.b')).toEqual({ query_series_max: 99, query_points_max: 5 })
  expect(limits.of('c')).toEqual({ query_series_max: 10, query_points_max: 5 })
  const bucket = await bus.bucket(LIMITS_BUCKET)
  await bucket.put(limitsKey('a.b'), Buffer.from('{"v":1,"limits":{"query_series_max":-1},"version":3,"history":[]}'))
  await setLimits(deps, undefined, { query_points_max: null }, 'me')
  await expect.poll(() => limits.of('c')).toEqual({ query_series_max: 10 })
  expect(limits.of('a.b')).toEqual({ query_series_max: 99 })
  limits.stop()
})

it('LIMIT-1: a start without NATS is a start; the limits hold when it is back', async () => {
  const hub = createMemoryHub({ clock: systemClock, random: seededRandom(1) })
  const others = { bus: hub.connect('others'), clock: systemClock, log: silentLog }
  await setLimits(others, 't', { query_series_max: 7 }, 'me')
  const bus = hub.connect('a')
  const limits = watchLimits({ ...others, bus })
  hub.disconnect('a')
  void limits.start()
  await sleep(systemClock, 50)
  hub.reconnect('a')
  await expect.poll(() => limits.of('t'), { timeout: 5_000 }).toEqual({ query_series_max: 7 })
  limits.stop()
})

it('LIMIT-2: of changes at the same time none is lost, and each is in the history', async () => {
  const { deps } = ground()
  const names = ['query_series_max', 'query_points_max', 'query_samples_max', 'query_queued_max']
  await Promise.all(names.map((name, i) => setLimits(deps, 't', { [name]: i + 1 }, name)))
  const record = await readLimits(deps.bus, 't')
  expect(record!.limits).toEqual(Object.fromEntries(names.map((name, i) => [name, i + 1])))
  expect([record!.version, ...record!.history.map(({ version }) => version)]).toEqual([4, 3, 2, 1])
  for (let i = 0; i < LIMITS_HISTORY_MAX + 5; i++) await setLimits(deps, 't', { query_series_max: i }, 'me')
  expect((await readLimits(deps.bus, 't'))!.history.length).toBe(LIMITS_HISTORY_MAX)
})

it('values are read as people write them', () => {
  expect(parseLimit('query_fetched_bytes_max', '1.5GiB')).toBe(1.5 * 2 ** 30)
  expect(parseLimit('query_range_max', '30d')).toBe(30 * 86_400_000)
  expect(showLimit('query_range_max', 90_000)).toBe('1m30s')
  expect(parseLimit('query_series_max', '7')).toBe(7)
  for (const [name, text] of [
    ['query_series_max', '-1'],
    ['query_series_max', '1e3'],
    ['query_range_max', 'long'],
    ['nothing', '1'],
  ]) {
    expect(() => parseLimit(name!, text!)).toThrow(expect.objectContaining({ code: 'err-carillon-bad-limit' }))
  }
})

it('LIMIT-1: over what cannot be read the next change begins anew; what a newer version wrote is left alone, and what it said before holds', async () => {
  const { bus, deps, limits } = ground()
  await setLimits(deps, 't', { query_series_max: 7 }, 'me')
  await limits.start()
  const bucket = await bus.bucket(LIMITS_BUCKET)
  const put = (text: string) => bucket.put(limitsKey('t'), Buffer.from(text))
  await put('null')
  await expect(readLimits(bus, 't')).rejects.toMatchObject({ code: 'err-carillon-limits-unreadable' })
  expect(await setLimits(deps, 't', { query_points_max: 3 }, 'me')).toMatchObject({ version: 1, history: [] })
  await expect.poll(() => limits.of('t')).toEqual({ query_points_max: 3 })
  await put('{"v":2,"limits":"of another kind"}')
  await expect(setLimits(deps, 't', { query_points_max: 4 }, 'me')).rejects.toMatchObject({ code: 'newer-version' })
  await setLimits(deps, 'other', { query_points_max: 4 }, 'me')
  await expect.poll(() => limits.of('other')).toEqual({ query_points_max: 4 })
  expect(limits.of('t')).toEqual({ query_points_max: 3 })
  limits.stop()
})
