// Of an HA pair one replica is stored at a time: LOG-22 and the invariants of elections, on real distributors under virtual time.
import { expect, test } from 'vitest'
import { ELECTIONS_BUCKET } from '../../../shared/contracts/elections.ts'
import { switchedTo, withFrozen } from '../../../shared/elections/changes.ts'
import { type PairGround, type PairOptions, underVirtualTime } from './pair-ground.ts'

const scenario = (name: string, options: PairOptions, story: (ground: PairGround) => Promise<void>) =>
  test(name, () => underVirtualTime(options, story), 60_000)

/** Pushes a live sample every 5 s for a while; what each push met. */
async function live(ground: PairGround, by: number, replica: string, seconds: number): Promise<string[]> {
  const met: string[] = []
  for (const endS = ground.nowS + seconds; ground.nowS < endS; ) {
    const atS = Math.floor(ground.nowS)
    met.push(
      await ground.push(by, { replica, atS: [atS] }).then(
        ({ samplesWritten, dropped }) => (samplesWritten > 0 ? 'stored' : dropped ? 'dropped' : 'nothing'),
        (error: { code?: string }) => error.code ?? String(error),
      ),
    )
    await ground.sleep(5)
  }
  return met
}

scenario(
  'first writer wins; the replica label is not stored, the cluster stays; losers count as dropped',
  {},
  async (g) => {
    const [first, second] = await Promise.all([
      g.push(1, { replica: 'a', atS: [10] }),
      g.push(2, { replica: 'b', atS: [11] }),
    ])
    expect([first.samplesWritten + second.samplesWritten, (first.dropped ?? second.dropped)?.samples]).toEqual([1, 1])
    const held = await g.stored()
    expect([...held.keys()]).toEqual(['__name__ m cluster eu'])
    expect(held.get('__name__ m cluster eu')).toHaveLength(1)
  },
)

scenario('one label alone is stored as it came; every series of a mixed request is looked at', {}, async (g) => {
  await g.push(1, { replica: 'a', atS: [10] }, { replica: 'a', cluster: 'us', atS: [10] })
  const reply = await g.push(
    1,
    { replica: 'b', atS: [11, 12] },
    { replica: 'a', atS: [11] },
    { replica: undefined, atS: [11], metric: 'plain' },
    { replica: 'b', cluster: 'us', atS: [11] },
    { replica: 'b', cluster: '', atS: [11] },
    { replica: 'b', cluster: 'ap', atS: [11] },
  )
  expect(reply).toMatchObject({ samplesWritten: 4, dropped: { samples: 3 } })
  const held = await g.stored()
  expect([...held.keys()].sort()).toEqual([
    '__name__ m __replica__ b',
    '__name__ m cluster ap',
    '__name__ m cluster eu',
    '__name__ m cluster us',
    '__name__ plain cluster eu',
  ])
  expect(await g.rows()).toBe('10a 11a')
})

scenario(
  'HA-3: a takeover comes after 30 s of silence, at every distributor, and the first one does not come back',
  {},
  async (g) => {
    await live(g, 1, 'a', 20)
    const met = await live(g, 2, 'b', 45)
    expect(met.filter((what) => what === 'dropped').length * 5).toBeGreaterThanOrEqual(20)
    expect(met.filter((what) => what === 'dropped').length * 5).toBeLessThanOrEqual(35)
    expect(met.at(-1)).toBe('stored')
    expect(await live(g, 1, 'a', 20)).toEqual(['dropped', 'dropped', 'dropped', 'dropped'])
    expect(await g.record()).toMatchObject({ replica: 'b', takeovers: 1 })
  },
)

scenario('ELECTION-1: after a takeover samples of the former one’s time are dropped', {}, async (g) => {
  await live(g, 1, 'a', 20)
  await g.sleep(40)
  const late = await g.push(2, { replica: 'b', atS: [3, 8, 14] })
  expect(late, 'only old samples: no reason to switch').toMatchObject({ samplesWritten: 0, dropped: { samples: 3 } })
  const mixed = await g.push(2, { replica: 'b', atS: [4, 9, 14, 58] }, { replica: 'b', atS: [12, 57], metric: 'n' })
  expect(mixed).toMatchObject({ samplesWritten: 2, dropped: { samples: 4 } })
  expect(await g.push(1, { replica: 'b', atS: [6, 61] }), 'by the other distributor, too').toMatchObject({
    samplesWritten: 1,
    dropped: { samples: 1 },
  })
  expect(await g.rows()).toMatch(/^0a 5a 10a 15a 58b 61b$/)
})

scenario('ELECTION-2: a replica whose samples lie in the future does not keep the other out', {}, async (g) => {
  await g.push(1, { replica: 'a', atS: [g.nowS, 500] })
  await g.sleep(35)
  const met = await live(g, 2, 'b', 40)
  expect(met).toEqual([...Array(6).fill('dropped'), 'stored', 'stored'])
})

scenario(
  'ELECTION-2: where the clocks are slow, a replica that comes with a backlog is not taken for the only one that is right',
  { skewMs: { 'distributor-1': -300_000, 'distributor-2': -300_000 } },
  async (g) => {
    await live(g, 1, 'a', 20)
    for (let s = 1; s < 60; s += 3) {
      await g.sleep(2)
      expect(await g.push(2, { replica: 'b', atS: [s / 4] })).toMatchObject({ samplesWritten: 0 })
    }
    await live(g, 2, 'b', 10)
    expect(await g.record()).toMatchObject({ replica: 'b', takeovers: 1, guardMs: g.clock.startMs + 25_000 })
  },
)

scenario('HA-1: a distributor that stood still does not go by what it knew', {}, async (g) => {
  await live(g, 1, 'a', 20)
  g.hub.pause('distributor-1')
  const late = g.push(1, { replica: 'a', atS: [Math.floor(g.nowS)] }).catch((error: { code: string }) => error.code)
  await live(g, 2, 'b', 45)
  expect((await g.record())?.replica).toBe('b')
  g.hub.resume('distributor-1')
  await late
  expect(await g.push(1, { replica: 'a', atS: [Math.floor(g.nowS)] })).toMatchObject({ samplesWritten: 0 })
  const replicas = (await g.rows()).replaceAll(/[^ab]/g, '')
  expect(replicas).toMatch(/^a+b+$/)
})

scenario(
  'HA-1: cut off from the bucket the elected one is kept for 15 s, then it is told to come again',
  {},
  async (g) => {
    await live(g, 1, 'a', 20)
    g.hub.faults.bucketsDown = true
    const met = await live(g, 1, 'a', 40)
    expect(met[0]).toBe('stored')
    expect(met.filter((what) => what === 'stored').length).toBeLessThanOrEqual(3)
    expect(met.at(-1)).toBe('err-carillon-election-unavailable')
    g.hub.faults.bucketsDown = false
    expect(await live(g, 1, 'a', 10)).toEqual(['stored', 'stored'])
  },
)

scenario(
  'HA-3: silence while the bucket is away is none: challengers come again, and the elected one goes on',
  {},
  async (g) => {
    await live(g, 1, 'a', 20)
    g.hub.faults.bucketsDown = true
    const met = await live(g, 2, 'b', 60)
    expect(met.slice(-4)).toEqual(Array(4).fill('err-carillon-election-unavailable'))
    g.hub.faults.bucketsDown = false
    expect(await live(g, 2, 'b', 5)).toEqual(['err-carillon-election-unavailable'])
    expect(await live(g, 1, 'a', 5)).toEqual(['stored'])
    expect(await live(g, 2, 'b', 5)).toEqual(['dropped'])
    expect((await g.record())?.takeovers).toBe(0)
  },
)

for (const skewMs of [300_000, -300_000]) {
  const skew = { 'distributor-1': skewMs }
  scenario(
    `clocks: a distributor ${skewMs / 60_000} minutes off elects and guards alike`,
    { skewMs: skew },
    async (g) => {
      await live(g, 1, 'a', 20)
      expect(await live(g, 2, 'b', 10)).toEqual(['dropped', 'dropped'])
      await g.sleep(30)
      expect(await g.push(2, { replica: 'b', atS: [7, 12] })).toMatchObject({
        samplesWritten: 0,
        dropped: { samples: 2 },
      })
      expect(await g.push(2, { replica: 'b', atS: [12, Math.floor(g.nowS)] })).toMatchObject({ samplesWritten: 1 })
      expect(await live(g, 1, 'b', 10)).toEqual(['stored', 'stored'])
      await g.sleep(35)
      expect(await g.push(1, { replica: 'a', atS: [12, Math.floor(g.nowS)] })).toMatchObject({ samplesWritten: 1 })
    },
  )
}

scenario('a frozen election changes by hand only; a switch by hand holds at once', {}, async (g) => {
  await live(g, 1, 'a', 10)
  await g.change((record) => withFrozen(record, true))
  expect(await live(g, 2, 'b', 60)).toEqual(Array(12).fill('dropped'))
  await g.change((record) => switchedTo(record, 'b', g.clock.now()))
  expect(await live(g, 1, 'a', 5)).toEqual(['dropped'])
  expect(await live(g, 1, 'b', 5)).toEqual(['stored'])
  await g.change((record) => withFrozen(record, false))
  expect(await g.record()).toMatchObject({ replica: 'b', takeovers: 1 })
  await live(g, 2, 'a', 40)
  expect((await g.record())?.replica).toBe('a')
  expect((await g.rows()).replaceAll(/[^ab]/g, '')).toMatch(/^a+b+a+$/)
})

scenario(
  'a cluster above the limit is refused by name, the rest of the request is stored',
  { config: { haClustersMax: 2 } },
  async (g) => {
    const reply = await g.push(1, ...['c1', 'c2', 'c3'].map((cluster) => ({ replica: 'a', cluster, atS: [10] })), {
      replica: undefined,
      atS: [10],
    })
    expect(reply.samplesWritten).toBe(3)
    expect(reply.refusal).toMatchObject({ status: 400, code: 'err-carillon-too-many-ha-clusters' })
    expect((await g.push(1, { replica: 'a', cluster: 'c3', atS: [11] })).refusal, 'again').toBeDefined()
  },
)

scenario('an idle election is deleted by whoever sees it, once, and elected anew by a new sample', {}, async (g) => {
  await live(g, 1, 'a', 10)
  await g.sleep(29 * 60)
  expect(await g.record()).toBeDefined()
  await g.sleep(4 * 60)
  expect(await g.record()).toBeUndefined()
  expect(await live(g, 2, 'b', 5)).toEqual(['stored'])
  expect(await live(g, 1, 'a', 5)).toEqual(['dropped'])
  expect(await g.record()).toMatchObject({ replica: 'b', takeovers: 0 })
})

scenario('a distributor tells whom it has heard and what it dropped', {}, async (g) => {
  await live(g, 1, 'a', 10)
  await live(g, 1, 'b', 10)
  const { elections } = await g.news(1)
  expect(elections).toMatchObject([{ tenant: 'acme', cluster: 'eu' }])
  const byName = Object.fromEntries(elections[0]!.replicas.map(({ replica, ...rest }) => [replica, rest]))
  expect(byName['a']!.dropped).toBe(0)
  expect(byName['b']!.dropped).toBeGreaterThanOrEqual(2)
  expect(byName['a']!.silentMs).toBeGreaterThan(10_000)
})

/** One distributor's clock is wrong, too. */
const chaosOf = (seed: number): PairOptions => {
  return { seed, distributors: 3, skewMs: { 'distributor-1': seed % 2 === 0 ? -300_000 : 300_000 } }
}

test.each(Array.from({ length: 4 }, (_, i) => i + 101))('seed %i: whatever fails, reigns share no time', (seed) =>
  underVirtualTime(chaosOf(seed), history),
)

test('counter-proof: without the bound that is raised first, reigns do share time', async () => {
  const without = new Set(['election-bound'])
  const seeds = Array.from({ length: 60 }, (_, i) => i + 101) // of few of them, which ones changes with whatever draws from the same chance
  let sharedBy: number | undefined
  for (const seed of seeds) {
    await underVirtualTime({ ...chaosOf(seed), without }, history).catch((error: Error) => {
      if (!error.message.includes('reigns')) throw error
      sharedBy = seed
    })
    if (sharedBy !== undefined) break
  }
  expect(sharedBy).toBeDefined()
})

/** Two replicas scrape every 5 s and send in order, each push again until it is answered; everything else fails now and then. */
async function history(g: PairGround): Promise<void> {
  const { random, hub } = g
  const endS = 900
  hub.faults.kvLoseAck = 0.1
  hub.faults.delayMs = { minMs: 0, maxMs: 20 }
  const between = (low: number, high: number) => low + random.next() * (high - low)
  await Promise.all([replica('a'), replica('b'), chaos()])
  for (const id of g.ids) hub.reconnect(id)
  const rows = (await g.stored()).get('__name__ m cluster eu')!
  const reigns = rows.filter(([, by], i) => i === 0 || by !== rows[i - 1]![1]).length
  const { takeovers } = (await g.record())!
  expect(reigns, 'reigns').toBeLessThanOrEqual(takeovers + 1)
  expect(rows.length).toBeGreaterThan(20) // both may be down for most of it

  async function replica(name: string): Promise<void> {
    const queue: number[] = []
    let wakesAtS = 0
    let reachesUsAtS = 0
    for (let scrapedS = random.next() * 5; g.nowS < endS; ) {
      for (; scrapedS <= g.nowS; scrapedS += 5) queue.push(Math.round(scrapedS * 1000) / 1000)
      if (g.nowS < wakesAtS) queue.length = 0 // it is down and scrapes nothing
      const some = g.nowS < reachesUsAtS ? [] : queue.slice(0, 20)
      const isThrough = some.length > 0 && (await pushed(name, some))
      if (isThrough) queue.splice(0, some.length)
      if (random.next() < 0.01) wakesAtS = g.nowS + between(10, 120)
      if (random.next() < 0.01) reachesUsAtS = g.nowS + between(10, 120) // it scrapes on, and sends all that later
      await g.sleep(isThrough || some.length === 0 ? 1 : between(0.1, 3))
    }
  }

  async function pushed(name: string, atS: readonly number[]): Promise<boolean> {
    try {
      await g.push(1 + random.below(g.ids.length), { replica: name, atS })
      return true
    } catch {
      return false
    }
  }

  async function chaos(): Promise<void> {
    while (g.nowS < endS - 60) {
      await g.sleep(between(2, 30))
      const victim = g.ids[random.below(g.ids.length)]!
      const kind = random.below(3)
      if (kind === 0) hub.pause(victim)
      else if (kind === 1) hub.disconnect(victim)
      else hub.faults.bucketsDown = true
      await g.sleep(between(1, 50))
      if (kind === 0) hub.resume(victim)
      else if (kind === 1) hub.reconnect(victim)
      else hub.faults.bucketsDown = false
    }
  }
}

scenario('HA-4: after the bucket lost its newest writes the elected replica is stored again', {}, async (g) => {
  const bucket = g.hub.bucket(ELECTIONS_BUCKET)!
  await live(g, 1, 'a', 20)
  const { revision } = bucket
  await live(g, 1, 'a', 40)
  bucket.cutTail(revision)
  const met = await live(g, 1, 'a', 60)
  expect(met).toEqual(met.map(() => 'stored'))
  expect(await live(g, 2, 'b', 20), 'the other is told of it').toEqual(Array(4).fill('dropped'))
  bucket.cutTail(0)
  expect(await live(g, 1, 'a', 60), 'none stands there').toEqual(met.map(() => 'stored'))
  expect(await g.record()).toMatchObject({ replica: 'a' })
})
