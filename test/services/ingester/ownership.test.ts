// When a partition is given away, and what an ingester says that it serves: by a ring that a test turns as it wants.
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Owner } from '../../../services/ingester/log/owner.ts'
import { Ownership } from '../../../services/ingester/ownership.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import { Lanes } from '../../../shared/base/lanes.ts'
import type { LogStore } from '../../../shared/bus/port.ts'
import { logConfig, logName, markSubject } from '../../../shared/contracts/log.ts'
import type { Member, Membership } from '../../../shared/membership/membership.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import { changed } from './flush-ground.ts'
import { OwnerGround } from './owner-ground.ts'

let ground: OwnerGround
beforeEach(async () => {
  ground = new OwnerGround()
  await ground.open()
})
afterEach(() => ground.close())

interface Ring {
  owners: string[][]
  holders: string[]
  /** Who lived a moment ago. */
  fresh: string[]
}

/** The ingester i1, and what it has told. */
function ingesterIn(ring: Ring, viewOf: (partition: number) => Partial<LogStore> = () => ({})) {
  const told = { holds: [] as readonly number[] }
  const membership = {
    partitionCount: () => ring.owners.length,
    owners: (partition: number) => ring.owners[partition]!,
    holders: () => ring.holders,
    members: () => ring.fresh.map((id) => ({ id, isFresh: true }) as Member),
    setHolds: (holds: readonly number[]) => Object.assign(told, { holds }),
    setDamage: () => {},
  } as unknown as Membership
  const { bus, clock, config, bucket, metrics } = ground
  const makeOwner = (partition: number) =>
    new Owner({
      ...{ partition, id: 'i1', bus: changed(bus, viewOf(partition)), bucket, clock, log: silentLog, config, metrics },
      ...{ strings: new StringTable(), without: new Set<string>() },
    })
  const lanes = new Lanes({ clock, onFailure: () => {} })
  const ownership = new Ownership({ id: 'i1', bus, clock, config, log: silentLog, membership, lanes, makeOwner })
  /** As the ingester does, for so long. */
  const goOn = async (ms: number) => {
    const untilMs = clock.monotonic() + ms
    while (clock.monotonic() < untilMs) {
      await ground.soon(ownership.follow())
      await Promise.all(ownership.owners().map((owner) => ground.soon(owner.readEnd().catch(() => {}))))
      ownership.tell()
      await ground.pass(100)
    }
  }
  const serves = () => ownership.of(0) !== undefined
  return { ownership, told, goOn, serves }
}

const alone = (): Ring => ({ owners: [['i1']], holders: ['i1'], fresh: ['i1', 'i2', 'i3'] })
const mark = (partition = 0) =>
  ground.soon(
    ground.bus.logs.append(logName(partition), markSubject(partition), ground.writer.mark(1), { timeoutMs: 1_000 }),
  )

describe('OWNERSHIP-2, LOG-19: a partition that goes to others is served', () => {
  it('until all of them say that they have caught up, and a little longer', async () => {
    await mark()
    const ring = alone()
    const { goOn, serves } = ingesterIn(ring)
    await goOn(1_000)
    ring.owners = [['i2', 'i3']]
    await goOn(10_000)
    expect(serves(), 'nobody else holds it').toBe(true)
    ring.holders = ['i1', 'i2']
    await goOn(10_000)
    expect(serves(), 'one of two holds it').toBe(true)
    ring.holders = ['i1', 'i2', 'i3']
    await goOn(3_000)
    expect(serves(), 'queriers may not have heard it yet').toBe(true)
    await goOn(5_000)
    expect(serves()).toBe(false)
  })

  it('while one of them, who says that it holds it, has missed its heartbeats', async () => {
    await mark()
    const ring = alone()
    const { goOn, serves } = ingesterIn(ring)
    await goOn(1_000)
    Object.assign(ring, { owners: [['i2']], holders: ['i1', 'i2'], fresh: ['i1'] })
    await goOn(20_000)
    expect(serves()).toBe(true)
    ring.fresh = ['i1', 'i2']
    await goOn(10_000)
    expect(serves()).toBe(false)
  })

  it('while the ring names nobody', async () => {
    await mark()
    const ring = alone()
    const { goOn, serves } = ingesterIn(ring)
    await goOn(1_000)
    ring.owners = [[]]
    await goOn(20_000)
    expect(serves()).toBe(true)
  })
})

describe('OWNERSHIP-3: an ingester says', () => {
  it('that it serves a partition when it has a mark: a fresh log takes no batches before', async () => {
    const { goOn, told, ownership } = ingesterIn(alone())
    await goOn(2_000)
    expect(told).toEqual({ holds: [] })
    expect(ownership.lacks()).toEqual(['partition 0: its log has no mark yet'])
    await mark()
    await goOn(1_000)
    expect(told).toEqual({ holds: [0] })
    expect(ownership.lacks()).toEqual([])
  })

  it('that it lacks what the ring gives to it until that has caught up', async () => {
    await ground.soon(ground.bus.logs.ensure(logConfig(1, { bytesMax: 1 << 20, replicas: 1 })))
    for (const partition of [0, 1]) await mark(partition)
    let goOnWithIt = () => {}
    const stalled = new Promise<void>((resolve) => {
      goOnWithIt = resolve
    })
    const consume: LogStore['consume'] = (log, from, onMessage, onError) =>
      ground.bus.logs.consume(log, from, (message) => stalled.then(() => onMessage(message)), onError)
    const ring = { ...alone(), owners: [['i1'], ['i1']] }
    const { goOn, told, ownership } = ingesterIn(ring, (partition) => (partition === 1 ? { consume } : {}))
    await goOn(2_000)
    expect(told).toEqual({ holds: [0] })
    expect(ownership.lacks()).toEqual(['partition 1: it reads the log, 0 of 1 messages'])
    goOnWithIt()
    await goOn(1_000)
    expect(told).toEqual({ holds: [0, 1] })
    expect(ownership.lacks()).toEqual([])
  })

  it('that it lacks partitions whose logs do not answer, as long as it serves none', async () => {
    await ground.soon(ground.bus.logs.ensure(logConfig(1, { bytesMax: 1 << 20, replicas: 1 })))
    for (const partition of [0, 1]) await mark(partition)
    const broken = new Set([0, 1])
    const state: LogStore['state'] = async (log) => {
      if (!broken.has(log === logName(0) ? 0 : 1)) return ground.bus.logs.state(log)
      throw new UnavailableError('log-unavailable', 'no leader')
    }
    const { goOn, ownership } = ingesterIn({ ...alone(), owners: [['i1'], ['i1']] }, () => ({ state }))
    await goOn(2_000)
    expect(ownership.lacks()).toHaveLength(2)
    broken.delete(1)
    await goOn(10_000)
    expect(ownership.lacks(), 'one whose log does not answer delays nothing but itself').toEqual([])
  })
})
