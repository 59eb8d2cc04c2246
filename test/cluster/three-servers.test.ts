// `carillon cluster`: three nats-servers, three zones, three copies of everything. Servers are killed, stopped and taken away, actors killed
// and restarted; what was acknowledged is read back, once, and owners hold the same.
import { mkdtempSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { seededRandom } from '../../shared/base/random.ts'
import { until } from '../waiting.ts'
import { type Checked, checkAll } from './check.ts'
import { type Load, startLoad } from './load.ts'
import { findNatsServer } from './nats-server.ts'
import { freeze, killEverything, killOne, signal } from './processes.ts'
import { type Readers, ringOf, ringServedBy, startReaders } from './ring.ts'
import { freePort, pidOf, type System, startSystem } from './system.ts'
import { ackGap, leaderOf, serverIds, serverOf } from './three-servers.ts'

const nats = findNatsServer()
const isSkipped = 'reason' in nats && process.env['CARILLON_CI'] !== '1'
if ('reason' in nats) console.log(`three servers: ${nats.reason}`)
const env: Record<string, string> = 'path' in nats ? { CARILLON_NATS_SERVER: nats.path } : {}
const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 1e9))
console.log(`three servers: SEED=${seed}`)
const random = seededRandom(seed)

/** An election takes 4 to 9 s; the machine may be busy. */
const ELECTION_MS_MAX = 12_000
const ingesters = ['ingester-1', 'ingester-2', 'ingester-3']
const args = ['--segment=5s', '--segment-min=1s', '--high-water=1s', '--checkpoint=1s', '--log-bytes-max=256MiB']

describe.skipIf(isSkipped)('on three servers', () => {
  let system: System
  let gateways: readonly string[] = []
  let load: Load
  let readers: Readers
  const dataDir = mkdtempSync(join(tmpdir(), 'carillon-three-'))

  beforeAll(async () => {
    system = await startSystem({ command: 'cluster', dataDir, port: await freePort(), args, env })
    gateways = system.ready.processes.flatMap(({ address }) => (address ? [`http://${address}`] : []))
    await ringServedBy(system.url, ingesters)
  })

  afterAll(async () => {
    await load?.abandon().catch(() => {})
    if (system) await killEverything(system)
    rmSync(dataDir, { recursive: true, force: true })
  })

  function begin(tag: string): void {
    let turn = 0
    const before = load?.ledger
    load = startLoad({ url: () => gateways[turn++ % gateways.length]!, seed, tag, senders: 3, pauseMs: 30 })
    if (before) load.ledger.join(before)
    readers = startReaders(gateways, load.ledger)
  }

  async function finish(): Promise<Checked> {
    await load.stop()
    const outcomes = load.outcomes()
    console.log(`outcomes ${JSON.stringify(outcomes)}, ${load.ledger.acknowledgedCount} samples acknowledged`)
    expect(Object.keys(outcomes).filter((outcome) => !['204', '503', 'connection'].includes(outcome))).toEqual([])
    await until('the gateway is ready', async () => (await fetch(`${system.url}/ready`)).ok)
    const checked = await checkAll({ url: system.url, nats: system.ready }, load.ledger)
    for (const { assignedTo, digestsAgree } of checked.partitions.partitions) {
      expect(assignedTo).toHaveLength(3)
      expect(digestsAgree).toBe(true)
    }
    return checked
  }

  test('rows 1 and 17: an ingester is killed five times, every actor is restarted: no query fails, nothing is lost', async () => {
    begin('actors-')
    for (let round = 0; round < 5; round++) {
      await sleep(random.below(1_000))
      await comesBack(ingesters[random.below(3)]!, 'SIGKILL')
    }
    for (const { id, role } of system.ready.processes) if (role !== 'nats-server') await comesBack(id, 'SIGTERM')
    const { zones } = await placed()
    expect(zones).toEqual([3])
    await readers.stop()
    await finish()
    expect(readers.answered.strong).toBeGreaterThan(20)
  })

  test('rows 4 and 5: the leader, the connected server, two, all are killed, the leader is stopped for 10 s, one is gone for good', async () => {
    begin('servers-')
    await sleep(1_000)
    const gaps: Record<string, number> = {}
    killOne(system, await leaderOf(system))
    gaps['the leader is killed'] = await ackGap('the leader is killed', load)
    killOne(system, await serverOf(system, 'gateway-1'))
    gaps['the connected server is killed'] = await ackGap('the connected server is killed', load)

    const stopped = pidOf(system, await leaderOf(system))
    await freeze(stopped)
    const whileStopped = ackGap('the leader is stopped', load)
    await sleep(10_000)
    signal(stopped, 'SIGCONT')
    gaps['the leader is stopped for 10 s'] = await whileStopped
    const blind = load.answers.filter(({ text }) => text?.includes('err-carillon-ring-unconfirmed'))
    expect(blind, 'pushes refused because of a change of leader').toEqual([])

    for (const id of serverIds.slice(0, 2)) killOne(system, id)
    gaps['two are killed'] = await ackGap('two are killed', load)
    for (const id of serverIds) killOne(system, id)
    gaps['all are killed'] = await ackGap('all are killed', load)

    const gone = await leaderOf(system)
    renameSync(join(dataDir, `nats/${gone.slice(5)}/server.conf`), join(dataDir, 'server.conf'))
    killOne(system, gone)
    gaps['one is gone for good'] = await ackGap('one is gone for good', load)
    console.log(`longest time without an acknowledgement, ms: ${JSON.stringify(gaps, (_, ms) => Math.round(ms) || ms)}`)
    const before = { ...readers.answered }
    const pushed = load.acknowledgedAtMs().length
    await until('queries are answered without it', () => readers.answered.strong > before.strong + 10)
    await until('pushes are taken without it', () => load.acknowledgedAtMs().length > pushed + 20)
    await readers.end()
    console.log(
      `${readers.answered.strong} strong and ${readers.answered.eventual} other answers; failed ${failures(readers)}`,
    )
    const stale = readers.faults.filter(({ kind, consistency }) => kind === 'incomplete' && consistency === 'strong')
    expect(stale).toEqual([])
    await finish()
    for (const [what, gap] of Object.entries(gaps)) expect(gap, what).toBeLessThan(ELECTION_MS_MAX)
  })

  /** Ends an actor; resolves when the one started in its place works. */
  async function comesBack(id: string, name: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const member = async () => {
      const other = gateways.length > 1 && id === 'gateway-1' ? gateways[1]! : gateways[0]!
      return (await ringOf(other)).members.find((each) => each.id === id)
    }
    const before = await member()
    signal(pidOf(system, id), name)
    await until(`${id} is back`, async () => {
      const now = await member()
      return now !== undefined && now.incarnation !== before?.incarnation && now.state === 'ACTIVE'
    })
    if (id.startsWith('ingester')) await ringServedBy(id === 'gateway-1' ? gateways[1]! : gateways[0]!, ingesters)
  }

  /** In how many zones the owners of each partition stand. */
  async function placed(): Promise<{ zones: number[] }> {
    const { members, partitions } = await ringOf(system.url)
    const zoneOf = new Map(members.map(({ id, zone }) => [id, zone]))
    return { zones: partitions.map(({ owners }) => new Set(owners.map(({ id }) => zoneOf.get(id))).size) }
  }
})

/** Why queries failed while servers were away, and how often. */
function failures({ faults }: Readers): string {
  const counts: Record<string, number> = {}
  for (const { text, consistency } of faults) {
    const why = /err-[a-z-]+/.exec(text)?.[0] ?? text.slice(text.indexOf(': ') + 2, 150).replace(/\d+/g, 'n')
    counts[`${consistency}: ${why}`] = (counts[`${consistency}: ${why}`] ?? 0) + 1
  }
  return JSON.stringify(counts)
}
