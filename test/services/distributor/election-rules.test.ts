// Rules of elections one by one (elections.test.ts tells the stories): what is believed for how long, what a bound allows, who is at the pace of time.
import { beforeEach, describe, expect, it } from 'vitest'
import { distributorSettings } from '../../../services/distributor/config.ts'
import { type Claim, Election } from '../../../services/distributor/ha/election.ts'
import { Elections } from '../../../services/distributor/ha/elections.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { createMemoryHub, type MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { defaultsOf } from '../../../shared/config/settings.ts'
import type { ElectionRecord } from '../../../shared/contracts/elections.ts'
import { renewed, takenOver } from '../../../shared/elections/changes.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { createMetrics } from '../../../shared/telemetry/metrics.ts'
import { withLateWatches } from '../../altered-bus.ts'
import { VirtualClock } from '../../sim/virtual-clock.ts'

const config = defaultsOf(distributorSettings, {})
const record: ElectionRecord = {
  ...{ v: 1, cluster: 'c', replica: 'a', electedAtMs: 0, renewedAtMs: 0, newestSampleMs: 1_000, takeovers: 0 },
}

const name = { tenant: 'acme', cluster: 'c', key: 'acme.c' }

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

async function distributor(id: string, bus: Bus = hub.connect(id)): Promise<Elections> {
  const deps = { bus, clock, random: seededRandom(id.length), config, log: silentLog, metrics: createMetrics() }
  const elections = new Elections(deps)
  await soon(elections.start())
  return elections
}

function claimOf(elections: Elections, replica: string, newestMs = clock.now()): Claim {
  const claim = elections.claim(name, replica)
  claim.newestMs = newestMs
  return claim
}

/** What becomes of a push of this replica. */
async function pushed(elections: Elections, replica: string, newestMs = clock.now()): Promise<Claim> {
  const claim = claimOf(elections, replica, newestMs)
  await soon(elections.settle(claim))
  return claim
}

describe('HA-1: an election is believed', () => {
  it('for haKvGraceMs, then it is asked for again', async () => {
    const elections = await distributor('d1')
    expect((await pushed(elections, 'a')).verdict).toBe('take')
    await pass(config.haKvGraceMs - 1_000)
    const claim = claimOf(elections, 'a')
    elections.judge(claim)
    expect(claim.verdict).toBe('take')
    await pass(2_000)
    elections.judge(claim)
    expect(claim.verdict).toBe('ask')
  })

  it('since its renewal began, not since it was answered', async () => {
    const elections = await distributor('d1')
    hub.faults.delayMs = { minMs: 2_000, maxMs: 2_000 }
    const beganMs = clock.monotonic()
    const { election } = await pushed(elections, 'a')
    expect(clock.monotonic() - beganMs).toBeGreaterThan(3_000)
    expect(election.renewedAtMs).toBe(beganMs)
  })

  it('of the replica that was renewed, not of the one that came after it', () => {
    const election = new Election(name, 0)
    election.learn(record, 1, 0)
    election.renewedAtMs = 5
    election.learn({ ...record, newestSampleMs: 2_000 }, 2, 10)
    expect(election.renewedAtMs).toBe(5)
    election.learn({ ...record, replica: 'b' }, 3, 20)
    expect(election.renewedAtMs).toBe(Number.NEGATIVE_INFINITY)
  })
})

describe('HA-2, ELECTION-1: the bound', () => {
  it('is raised before a sample beyond it is taken', async () => {
    const elections = await distributor('d1')
    await pushed(elections, 'a')
    const newestMs = clock.now() + 10 * config.haKvGraceMs
    const { verdict, ceilingMs, election } = await pushed(elections, 'a', newestMs)
    expect(verdict).toBe('take')
    expect(ceilingMs).toBeGreaterThanOrEqual(newestMs)
    expect(election.record!.newestSampleMs).toBeGreaterThanOrEqual(newestMs)
  })

  it('never goes back', () => {
    expect(renewed(record, { nowMs: 5, newestSampleMs: 10 }).newestSampleMs).toBe(1_000)
    expect(takenOver(record, 'b', { nowMs: 5, newestSampleMs: 10, guardMs: 1_000 })).toMatchObject({
      ...{ replica: 'b', guardMs: 1_000, newestSampleMs: 1_000, takeovers: 1 },
    })
  })
})

describe('HA-4', () => {
  it('older news of an election are none', () => {
    const election = new Election(name, 0)
    election.learn({ ...record, replica: 'b' }, 7, 0)
    election.learn(record, 6, 1)
    expect([election.record!.replica, election.revision]).toEqual(['b', 7])
  })

  it('of two that take over at once one does, and the other goes by it', async () => {
    const [one, two] = [await distributor('d1'), await distributor('d2')]
    await pushed(one, 'a')
    await pass(config.haTakeoverMs + config.haKvGraceMs + 1_000)
    hub.faults.delayMs = { minMs: 5, maxMs: 5 }
    const claims = [claimOf(one, 'b'), claimOf(two, 'c')]
    await soon(Promise.all([one.settle(claims[0]!), two.settle(claims[1]!)]))
    await pass(1_000)
    expect(claims.map(({ verdict }) => verdict).sort()).toEqual(['drop', 'take'])
    const [mine, theirs] = claims.map(({ election }) => election.record)
    expect(mine).toMatchObject({ takeovers: 1 })
    expect(theirs).toEqual(mine)
  })

  it('a takeover that was judged by what stood before another one comes to nothing', async () => {
    let isShown = Promise.resolve()
    const late = withLateWatches(hub.connect('d2'), () => isShown)
    const [one, two] = [await distributor('d1'), await distributor('d2', late)]
    await pushed(one, 'a')
    await pass(config.haTakeoverMs + config.haKvGraceMs + 1_000)
    const gate = Promise.withResolvers<void>()
    isShown = gate.promise
    const claims = [await pushed(one, 'b'), await pushed(two, 'c')]
    expect(claims.map(({ verdict }) => verdict)).toEqual(['take', 'drop'])
    gate.resolve()
    await pass(1_000)
    for (const { election } of claims) expect(election.record).toMatchObject({ replica: 'b', takeovers: 1 })
  })
})

describe('ELECTION-2: a challenger', () => {
  const forMs = 30_000
  const steady = (step: (seconds: number) => number): boolean[] => {
    const election = new Election(name, 0)
    const verdicts: boolean[] = []
    for (let seconds = 0; seconds <= 40; seconds += 5) {
      verdicts.push(election.isSteady('b', step(seconds), { nowMs: seconds * 1_000, forMs }))
    }
    return verdicts
  }

  it('that sends at the pace of time is steady after a takeover’s time', () => {
    expect(steady((seconds) => seconds * 1_000).indexOf(true)).toBe(6)
  })

  it('that sends faster sends an old backlog, and is not', () => {
    expect(steady((seconds) => seconds * 3_000)).not.toContain(true)
  })
})
