// Tables, changes and leases over records, on the memory bus under virtual time: what stands there may be anything.
import { describe, expect, test } from 'vitest'
import { sleep } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { createMemoryHub, type MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { KvBucket } from '../../../shared/bus/port.ts'
import { jsonRecord, keyFor, record } from '../../../shared/bus/record.ts'
import { aCount } from '../../../shared/bus/shape.ts'
import { leaseFallback, leaseFormat } from '../../../shared/contracts/leases.ts'
import { Leases } from '../../../shared/kv/leases.ts'
import { readRecord, readRecords } from '../../../shared/kv/read-records.ts'
import { updateRecord } from '../../../shared/kv/update.ts'
import { on, watchRecords } from '../../../shared/kv/watch-records.ts'
import { WatchedTable } from '../../../shared/kv/watched-table.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import { createMetrics } from '../../../shared/telemetry/metrics.ts'
import { VirtualClock } from '../../sim/virtual-clock.ts'

interface Count {
  readonly v: 1
  readonly count: number
}

const texts = { unreadable: 'it is as it was', newer: 'it is left alone', doc: 'a count' }
const counts = record({
  ...{ name: 'count', bucket: 'b', key: 'count.{id}', ...texts },
  format: jsonRecord<Count>(1, { count: aCount }),
})
const others = record({
  ...{ name: 'other', bucket: 'b', key: 'other.{partition}', ...texts },
  format: jsonRecord<Count>(1, { count: aCount }),
})
const leaseRecord = record({
  ...{ name: 'lease', bucket: 'b', key: 'lease.{tenant}', doc: 'a lease', ...leaseFallback },
  format: leaseFormat,
})
const bytes = (text: string): Uint8Array => Buffer.from(text)
const LEASE_MS = 30_000

interface Ground {
  readonly hub: MemoryHub
  readonly clock: VirtualClock
  readonly bucket: KvBucket
  readonly deps: { bucket: KvBucket; clock: VirtualClock; log: Log; metrics: ReturnType<typeof createMetrics> }
  /** Texts of the warnings, with their facts. */
  readonly warned: { text: string; key: string; revision: number; reason: string }[]
  wait(ms: number): Promise<void>
}

/** A story under virtual time. */
function story(name: string, tell: (ground: Ground) => Promise<void>): void {
  test(name, async () => {
    const clock = new VirtualClock()
    const hub = createMemoryHub({ clock, random: seededRandom(1), faults: { delayMs: { minMs: 1, maxMs: 3 } } })
    const warned: Ground['warned'] = []
    const warn = (facts: object, text: string) =>
      void warned.push({ text, ...(facts as { key: string; revision: number; reason: string }) })
    const log: Log = { debug: warn, info: warn, warn, error: warn, child: () => log }
    let isOver = false
    const told = (async () => {
      const bucket = await hub.connect('one').bucket('b')
      const wait = (ms: number) => sleep(clock, ms)
      await tell({ hub, clock, bucket, deps: { bucket, clock, log, metrics: createMetrics() }, warned, wait })
    })().finally(() => {
      isOver = true
    })
    told.catch(() => {}) // awaited below
    await clock.run(() => isOver, 3_600_000)
    await told
  })
}

describe('a watched table', () => {
  story(
    'TABLE-1: passes over what it cannot read, names it once per revision, and counts it',
    async ({ bucket, deps, warned, wait }) => {
      await bucket.put('count.good', bytes('{"v":1,"count":1}'))
      await bucket.put('count.bad', bytes('junk'))
      await bucket.put('count.new', bytes('{"v":2}'))
      const table = new WatchedTable({ ...deps, record: counts })
      await table.start()
      const rows = () =>
        Object.fromEntries([...table.rows()].map(({ params, kind, value }) => [params.id, [kind, value?.count]]))
      expect(rows()).toEqual({ good: ['value', 1], bad: ['unreadable', undefined], new: ['newer-version', undefined] })
      expect([...table.values()]).toEqual([{ v: 1, count: 1 }])
      expect(warned.map(({ key, reason }) => `${key}: ${reason}`)).toEqual([
        'count.bad: it is not JSON',
        'count.new: it is of version 2, this version of Carillon knows 1',
      ])
      expect(warned[0]!.text).toContain('it is as it was')
      expect(warned[1]!.text).toContain('it is left alone')

      const again = new WatchedTable({ ...deps, record: counts })
      await again.start()
      await readRecord(deps, counts, { id: 'bad' })
      expect(warned.length, 'by another table and by a look of the same actor').toBe(2)

      await bucket.put('count.good', bytes('null'))
      await wait(100)
      expect(rows()['good'], 'what it said before').toEqual(['unreadable', 1])
      expect([...table.values()], 'what can be read now').toEqual([])
      expect(warned.length).toBe(3)
      await bucket.put('count.bad', bytes('{"v":1,"count":5}'))
      await bucket.delete('count.good')
      await wait(100)
      expect(rows()).toEqual({ bad: ['value', 5], new: ['newer-version', undefined] })
      const page = await deps.metrics.text()
      expect(page).toContain('carillon_records_passed_over_total{record="count",reason="unreadable"} 2')
      expect(page).toContain('carillon_records_passed_over_total{record="count",reason="newer-version"} 1')
    },
  )

  story('TABLE-2: after it was stopped it hears nothing', async ({ bucket, deps, wait }) => {
    const changed: string[] = []
    const table = new WatchedTable({ ...deps, record: counts, onChange: (key) => changed.push(key) })
    await table.start()
    await bucket.put('count.a', bytes('{"v":1,"count":1}'))
    await wait(100)
    table.stop()
    await bucket.put('count.b', bytes('{"v":1,"count":1}'))
    await wait(10_000)
    expect(changed).toEqual(['count.a'])
  })

  story('a key that is none is no row, and is named', async ({ bucket, deps, warned }) => {
    for (const key of ['other.x', 'other.0.1', 'nobody']) await bucket.put(key, bytes('{"v":1,"count":1}'))
    const heard: string[] = []
    const ears = [on(counts, ({ key }) => heard.push(key)), on(others, ({ key }) => heard.push(key))] as const
    await bucket.put('other.3', bytes('{"v":1,"count":1}'))
    await new Promise<void>((ready) => watchRecords({ ...deps, filter: '>', ears }, ready))
    expect(heard).toEqual(['other.3'])
    expect(warned.map(({ key }) => key)).toEqual(['other.x', 'other.0.1', 'nobody'])
  })
})

describe('one look', () => {
  story('says what stands there, and all that do', async ({ bucket, deps }) => {
    await bucket.put('count.a', bytes('{"v":1,"count":1}'))
    await bucket.put('count.b', bytes('{}'))
    expect(await readRecord(deps, counts, { id: 'a' })).toMatchObject({ kind: 'value', value: { count: 1 } })
    expect(await readRecord(deps, counts, { id: 'b' })).toMatchObject({ kind: 'unreadable' })
    expect(await readRecord(deps, counts, { id: 'c' })).toMatchObject({ kind: 'gone', revision: 0 })
    const rows = await readRecords({ ...deps, timeoutMs: 1_000 }, counts)
    expect(rows.map(({ kind }) => kind)).toEqual(['value', 'unreadable'])
  })

  story('is given up in time', async ({ hub, deps }) => {
    hub.faults.bucketsDown = true
    const looking = readRecords({ ...deps, timeoutMs: 1_000 }, counts)
    await expect(looking).rejects.toMatchObject({ code: 'kv-unavailable' })
  })
})

describe('a change', () => {
  const params = { id: 'a' }
  const oneMore = (before: Count | undefined): Count => ({ v: 1, count: (before?.count ?? 0) + 1 })

  story('is made on what stands, by as many as there are, none lost', async ({ deps, bucket, hub }) => {
    hub.faults.delayMs = { minMs: 1, maxMs: 20 }
    const changes = Array.from({ length: 6 }, () => updateRecord({ ...deps, record: counts, params, change: oneMore }))
    await Promise.all(changes)
    expect(Buffer.from((await bucket.get('count.a'))!.value!).toString()).toBe('{"v":1,"count":6}')
  })

  story('is given up when others are first each time', async ({ deps, bucket }) => {
    let tries = 0
    const change = async (before: Count | undefined) => {
      tries++
      await bucket.put('count.a', bytes('{"v":1,"count":9}'))
      return oneMore(before)
    }
    const changing = updateRecord({ ...deps, record: counts, params, change })
    await expect(changing).rejects.toMatchObject({ kind: 'conflict', code: 'kv-storm' })
    expect(tries).toBe(10)
  })

  story('writes over what cannot be read, never over what a newer version wrote', async ({ deps, bucket }) => {
    await bucket.put('count.a', bytes('junk'))
    const change = { ...deps, record: counts, params, change: oneMore }
    await expect(updateRecord({ ...change, mustBeReadable: true })).rejects.toMatchObject({ code: 'unreadable' })
    expect(await updateRecord(change)).toEqual({ v: 1, count: 1 })
    await bucket.put('count.a', bytes('{"v":7}'))
    await expect(updateRecord(change)).rejects.toMatchObject({ code: 'newer-version' })
    expect(Buffer.from((await bucket.get('count.a'))!.value!).toString()).toBe('{"v":7}')
  })

  story('that changes nothing writes nothing', async ({ deps, bucket }) => {
    await bucket.put('count.a', bytes('{"v":1,"count":1}'))
    const { revision } = (await bucket.get('count.a'))!
    await updateRecord({ ...deps, record: counts, params, change: (before) => before })
    await updateRecord({ ...deps, record: counts, params, change: () => undefined })
    expect((await bucket.get('count.a'))!.revision).toBe(revision)
  })
})

describe('leases', () => {
  const ofTwo = (deps: Ground['deps']) => {
    const make = (id: string) => new Leases({ ...deps, record: leaseRecord, id, incarnation: id, leaseMs: LEASE_MS })
    return [make('one'), make('two')] as const
  }
  const key = keyFor(leaseRecord, { tenant: 't' })

  story(
    'LEASE-4: one that cannot be read is taken when it has been silent, with a fence beyond any',
    async ({ deps, bucket, wait }) => {
      await bucket.put(key, bytes('junk'))
      await bucket.put('lease.a_b', bytes('junk'))
      const [one] = ofTwo(deps)
      await one.start()
      expect(one.holderOf('t')).toBeUndefined()
      expect(await one.take('t', 5)).toBeUndefined()
      await wait(LEASE_MS - 1_000)
      expect(await one.take('t', 5)).toBeUndefined()
      await wait(2_000)
      const lease = await one.take('t', 5)
      expect(lease!.fence).toBeGreaterThan(100_000)
      await one.stop()
    },
  )

  story('LEASE-4: that of a newer version is never taken', async ({ deps, bucket, wait }) => {
    await bucket.put(key, bytes('{"v":2,"who":"somebody"}'))
    const [one] = ofTwo(deps)
    await one.start()
    await wait(100 * LEASE_MS)
    expect(await one.take('t', 5)).toBeUndefined()
    await one.stop()
  })

  story(
    'a holder whose lease becomes unreadable has lost it, and another gets it, with a higher fence',
    async ({ deps, bucket, wait }) => {
      const [one, two] = ofTwo(deps)
      await Promise.all([one.start(), two.start()])
      const lease = (await one.take('t', 0))!
      await bucket.put(key, bytes('{}'))
      await wait(100)
      await one.renew()
      expect(lease.signal.aborted).toBe(true)
      await wait(LEASE_MS)
      const next = (await two.take('t', 0))!
      expect(next.fence).toBeGreaterThan(lease.fence)
      await Promise.all([one.stop(), two.stop()])
    },
  )
})
