// Actors that are cut off from NATS without being told: they leave the ring, others serve what was theirs, and they come back without
// conflict. Nothing acknowledged is lost, and once the ring has moved nobody notices.
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { until } from '../waiting.ts'
import { checkAll } from './check.ts'
import { type Link, startLink } from './link.ts'
import { type Load, startLoad } from './load.ts'
import { findNatsServer } from './nats-server.ts'
import { type Actor, type Readers, ringOf, ringServedBy, startActor, startReaders } from './ring.ts'
import { endProcess, type System, startSystem } from './system.ts'

const nats = findNatsServer()
const isSkipped = 'reason' in nats && process.env['CARILLON_CI'] !== '1'
if ('reason' in nats) console.log(`actors that are cut off: ${nats.reason}`)
const env: Record<string, string> = 'path' in nats ? { CARILLON_NATS_SERVER: nats.path } : {}

/** A third of the defaults, or the tests would take three times as long. */
const beats = ['--heartbeat=1500ms', '--unhealthy-after=5s']
const CUT_MS = 25_000
/** What the matrix allows until the ring has moved and nobody waits for the one that is cut off. */
const MOVED_MS_MAX = 20_000

describe.skipIf(isSkipped)('cut off from NATS', () => {
  const actors: Actor[] = []
  const links: Link[] = []
  let system: System
  let load: Load
  let readers: Readers

  beforeAll(async () => {
    const args = ['--ingesters=2', '--replication-factor=2', '--partitions=3', '--log-bytes-max=256MiB', ...beats]
    system = await startSystem({ args, env })
    await ringServedBy(system.url, ['ingester-1', 'ingester-2'])
    load = startLoad({ url: () => system.url, seed: 11, senders: 3, pauseMs: 40 })
    readers = startReaders(system.url, load.ledger)
  })

  afterAll(async () => {
    await load?.abandon().catch(() => {})
    await readers?.end()
    for (const link of links) link.heal()
    await Promise.all(actors.map((actor) => endProcess(actor.process)))
    for (const link of links) link.stop()
    await system?.stop()
  })

  async function behindLink(role: string): Promise<Link> {
    const link = await startLink(system.ready.nats)
    links.push(link)
    const args = [...beats, ...(role === 'gateway' ? ['--listen=127.0.0.1:0'] : [])]
    actors.push(startActor(role, { nats: { ...system.ready, nats: link.url }, id: `${role}-far`, args }))
    await until(`${role}-far is there`, async () => (await memberOf(`${role}-far`))?.state === 'ACTIVE')
    return link
  }

  async function memberOf(id: string) {
    return (await ringOf(system.url)).members.find((member) => member.id === id)
  }

  test('row 11: an ingester: its partitions are served by the others, it returns, owners are equal', async () => {
    const near = ['ingester-1', 'ingester-2']
    const all = [...near, 'ingester-far']
    const link = await behindLink('ingester')
    await ringServedBy(system.url, all)
    const cutMs = performance.now()
    link.cut()
    await ringServedBy(system.url, near)
    const movedMs = performance.now() - cutMs
    expect((await memberOf('ingester-far'))?.isHealthy).toBe(false)
    await sleep(CUT_MS - movedMs)
    const healedMs = performance.now()
    link.heal()
    await ringServedBy(system.url, all)
    console.log(
      `an ingester is cut off: others serve after ${Math.round(movedMs)} ms, back ${Math.round(performance.now() - healedMs)} ms after the link`,
    )
    expect(movedMs).toBeLessThan(MOVED_MS_MAX)
    await sleep(2_000)
    expect(readers.faults.map(({ text }) => text)).toEqual([])
    expect(Object.keys(load.outcomes())).toEqual(['204'])
  })

  test('row 11: a distributor, a querier and a gateway: they are asked no more within 20 s, and again when they are back', async () => {
    const roles = ['distributor', 'querier', 'gateway']
    const cut = await Promise.all(roles.map(behindLink))
    await sleep(1_000)
    const cutMs = performance.now()
    for (const link of cut) link.cut()
    await sleep(CUT_MS)
    const healedMs = performance.now()
    for (const role of roles) expect((await memberOf(`${role}-far`))?.isHealthy, role).toBe(false)
    for (const link of cut) link.heal()
    for (const role of roles)
      await until(`${role}-far is back`, async () => (await memberOf(`${role}-far`))?.isHealthy === true)
    console.log(`three actors are back ${Math.round(performance.now() - healedMs)} ms after their links`)
    await sleep(3_000)
    const quietMs = [cutMs + MOVED_MS_MAX, Number.POSITIVE_INFINITY]
    const isLate = ({ atMs }: { atMs: number }) => atMs > quietMs[0]!
    const lateFaults = readers.faults.filter(isLate)
    const latePushes = load.answers.filter((answer) => answer.outcome !== '204' && isLate(answer))
    console.log(
      `while they were cut off: outcomes ${JSON.stringify(load.outcomes())}, ${readers.faults.length} queries failed`,
    )
    expect(lateFaults).toEqual([])
    expect(latePushes).toEqual([])
    expect(readers.faults.filter(({ kind }) => kind === 'incomplete')).toEqual([])

    await load.stop()
    await readers.end()
    const { partitions } = await checkAll({ url: system.url, nats: system.ready }, load.ledger)
    for (const { digestsAgree } of partitions.partitions) expect(digestsAgree).toBe(true)
  })
})
