// Elections whose record cannot be read, and more clusters than a tenant may have: on real distributors under virtual time.
import { expect, test } from 'vitest'
import { type PairGround, type PairOptions, underVirtualTime } from './pair-ground.ts'

const scenario = (name: string, options: PairOptions, story: (ground: PairGround) => Promise<void>) =>
  test(name, () => underVirtualTime(options, story), 60_000)

/** Pushes a sample of now; what it met. */
function now(ground: PairGround, by: number, replica: string, cluster = 'eu'): Promise<string> {
  return ground.push(by, { replica, cluster, atS: [Math.floor(ground.nowS)] }).then(
    ({ samplesWritten, dropped, refusal }) =>
      refusal?.code ?? (samplesWritten > 0 ? 'stored' : dropped ? 'dropped' : 'nothing'),
    (error: { code?: string }) => error.code ?? String(error),
  )
}

for (const junk of ['junk', 'null', '{}', '{"v":1,"cluster":"another","replica":"b"}', '']) {
  scenario(
    `HA-6: over a living election "${junk}" is written over, by what was known: the replica stays`,
    {},
    async (g) => {
      expect(await now(g, 1, 'a')).toBe('stored')
      await g.sleep(2)
      await g.putRecord(junk)
      await g.sleep(20)
      expect(await now(g, 2, 'b')).toBe('dropped')
      expect(await now(g, 1, 'a')).toBe('stored')
      await g.sleep(20)
      expect(await now(g, 2, 'a'), 'by the other distributor, too').toBe('stored')
      expect(await g.record()).toMatchObject({ replica: 'a', takeovers: 0 })
      await g.sleep(40)
      expect(await now(g, 2, 'b')).toBe('stored')
      expect(await g.record(), 'a takeover as ever').toMatchObject({ replica: 'b', takeovers: 1 })
    },
  )

  scenario(`HA-6: where nobody knew an election, over "${junk}" a replica is elected anew`, {}, async (g) => {
    await g.putRecord(junk)
    await g.sleep(1)
    expect(await now(g, 1, 'a')).toBe('stored')
    expect(await now(g, 2, 'b')).toBe('dropped')
    expect(await g.record()).toMatchObject({ replica: 'a' })
  })
}

scenario('HA-6: the election of a newer version is left alone: 503 for its cluster, no other', {}, async (g) => {
  const newer = '{"v":2,"who":"a"}'
  expect(await now(g, 1, 'a')).toBe('stored')
  await g.putRecord(newer)
  await g.sleep(20)
  for (const by of [1, 2]) {
    expect(await now(g, by, 'a')).toBe('err-carillon-election-unavailable')
    expect(await now(g, by, 'b')).toBe('err-carillon-election-unavailable')
    expect(await now(g, by, 'a', 'us')).toBe('stored')
  }
  await g.sleep(3_600)
  expect(await g.standing()).toBe(newer)
})

scenario(
  'HA-5: clusters beyond the limit are refused and leave nothing; those within it go on',
  { config: { haClustersMax: 3 } },
  async (g) => {
    const all = Array.from({ length: 200 }, (_, i) => ({ replica: 'a', cluster: `c${i}`, atS: [10] }))
    const reply = await g.push(1, ...all)
    expect(reply.samplesWritten).toBe(3)
    expect(reply.refusal).toMatchObject({ code: 'err-carillon-too-many-ha-clusters' })
    await g.sleep(5)
    for (const by of [1, 2]) {
      expect(await now(g, by, 'a', 'c1')).toBe('stored')
      expect(await now(g, by, 'a', 'c199')).toBe('err-carillon-too-many-ha-clusters')
    }
    const { elections } = await g.news(1)
    expect(elections.map(({ cluster }) => cluster).sort()).toEqual(['c0', 'c1', 'c2'])
    expect([...(await g.stored()).keys()].length).toBe(3)
  },
)

scenario('HA-5: what becomes free can be taken again', { config: { haClustersMax: 1 } }, async (g) => {
  expect(await now(g, 1, 'a', 'first')).toBe('stored')
  expect(await now(g, 1, 'a', 'second')).toBe('err-carillon-too-many-ha-clusters')
  await g.sleep(40 * 60)
  expect(await now(g, 1, 'a', 'second')).toBe('stored')
  expect(await now(g, 2, 'a', 'first')).toBe('err-carillon-too-many-ha-clusters')
})

scenario('HA-5: an election that came to nothing takes no place', { config: { haClustersMax: 1 } }, async (g) => {
  g.hub.faults.bucketsDown = true
  expect(await now(g, 1, 'a', 'first')).toBe('err-carillon-election-unavailable')
  g.hub.faults.bucketsDown = false
  expect(await now(g, 1, 'a', 'second')).toBe('stored')
})
