// Leases of tenants: whoever holds one is alone, whatever stood still or was lost.
import { beforeEach, describe, expect, it } from 'vitest'
import { UnavailableError } from '../../../shared/base/errors.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { createMemoryHub, type MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { compactionLease } from '../../../shared/contracts/compaction.ts'
import { Leases } from '../../../shared/kv/leases.ts'
import { withBuckets } from '../../altered-bus.ts'
import { VirtualClock } from '../../sim/virtual-clock.ts'

const TENANT = 'acme'
const LEASE_MS = 10_000

let clock: VirtualClock
let hub: MemoryHub
beforeEach(() => {
  clock = new VirtualClock()
  hub = createMemoryHub({ clock, random: seededRandom(1) })
})

async function soon<T>(promise: Promise<T>): Promise<T> {
  let isSettled = false
  const settled = () => {
    isSettled = true
  }
  promise.then(settled, settled)
  await clock.run(() => isSettled, clock.monotonic() + 3_600_000)
  return promise
}
const pass = (ms: number) => soon(new Promise<void>((resolve) => void clock.after(ms, resolve)))

async function holder(id: string, { leaseMs = LEASE_MS, alter = (bus: Bus) => bus } = {}): Promise<Leases> {
  const bus = alter(hub.connect(id))
  const bucket = await soon(bus.bucket('blocks'))
  const own = { clock: bus.clock, id, incarnation: `${id}-life`, leaseMs }
  const leases = new Leases({ ...own, bucket, record: compactionLease })
  await soon(leases.start())
  return leases
}

describe('a lease', () => {
  it('LEASE-2: is taken from another only after leaseMs of silence, and not while that one renews', async () => {
    const [one, two] = [await holder('one'), await holder('two')]
    expect(await soon(one.take(TENANT, 0))).toMatchObject({ fence: 1 })
    await pass(10)
    expect(await soon(two.take(TENANT, 0)), 'at once').toBeUndefined()
    for (let i = 0; i < 5; i++) {
      await pass(LEASE_MS / 2)
      await soon(one.renew())
      await pass(10)
      expect(await soon(two.take(TENANT, 0)), 'renewed').toBeUndefined()
    }
    await pass(LEASE_MS - 100)
    expect(await soon(two.take(TENANT, 0)), 'not silent for long enough').toBeUndefined()
    await pass(200)
    expect(await soon(two.take(TENANT, 0))).toMatchObject({ fence: 2 })
  })

  it('LEASE-1: a taking raises the fence beyond that of the lease before and that of the manifest', async () => {
    const [one, two] = [await holder('one'), await holder('two')]
    expect(await soon(one.take(TENANT, 7))).toMatchObject({ fence: 8 })
    await pass(LEASE_MS + 100)
    expect(await soon(two.take(TENANT, 3))).toMatchObject({ fence: 9 })
  })

  it('LEASE-2: two that take it at once: one gets it', async () => {
    const holders = [await holder('one'), await holder('two'), await holder('three')]
    const taken = await soon(Promise.all(holders.map((each) => each.take(TENANT, 0))))
    expect(taken.filter((lease) => lease !== undefined)).toHaveLength(1)
  })

  it('LEASE-3: a holder that stood still for longer than its lease has lost it, though nobody has taken it', async () => {
    const one = await holder('one')
    const lease = (await soon(one.take(TENANT, 0)))!
    await pass(LEASE_MS + 100)
    await soon(one.renew())
    expect(lease.signal.aborted).toBe(true)
  })

  it('LEASE-3: a holder whose renewal failed has lost it as soon as its lease is over, not at the next renewal', async () => {
    let isDown = false
    const failing = (bus: Bus) =>
      withBuckets(bus, (bucket) => ({
        async update(...args) {
          if (!isDown) return bucket.update(...args)
          await new Promise<void>((resolve) => void clock.after(LEASE_MS / 2, resolve))
          throw new UnavailableError('kv-unavailable', 'no leader')
        },
      }))
    const one = await holder('one', { alter: failing })
    const lease = (await soon(one.take(TENANT, 0)))!
    isDown = true
    await pass(LEASE_MS / 4)
    await soon(one.renew())
    expect(lease.signal.aborted, 'it is still its own').toBe(false)
    await soon(one.renew())
    expect(lease.signal.aborted).toBe(true)
  })

  it('LEASE-1: a holder finds that another has it, and does not renew over it', async () => {
    const [one, two] = [await holder('one'), await holder('two', { leaseMs: 1_000 })] // it is less patient, by its settings
    const lease = (await soon(one.take(TENANT, 0)))!
    await pass(1_100)
    const taken = (await soon(two.take(TENANT, 0)))!
    await soon(one.renew())
    expect(lease.signal.aborted).toBe(true)
    await soon(one.renew())
    await soon(two.renew())
    expect(taken.signal.aborted).toBe(false)
  })

  it('that is given back is free at once', async () => {
    const [one, two] = [await holder('one'), await holder('two')]
    await soon(one.release((await soon(one.take(TENANT, 0)))!))
    await pass(10)
    expect(two.holderOf(TENANT)).toBeUndefined()
    expect(await soon(two.take(TENANT, 0))).toMatchObject({ fence: 2 })
  })
})
