// Row 11 with real cables: three nats-servers and one actor of each kind, each in a network namespace of its own. The cables of the actors
// are pulled, then that of a nats-server. The ring moves, writes and reads go on, all come back without conflict, nothing is lost.
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { RING_BUCKET } from '../../shared/contracts/member.ts'
import { until } from '../waiting.ts'
import { checkAll, withBus } from './check.ts'
import { type Load, startLoad } from './load.ts'
import { createNetwork, type Network, type Node, whyNoNamespaces } from './namespaces.ts'
import { findNatsServer } from './nats-server.ts'
import { type Actor, carillon, type Readers, ringOf, ringServedBy, startActor, startReaders } from './ring.ts'
import { ackGap, leaderOf } from './three-servers.ts'

const nats = findNatsServer()
const lack = 'reason' in nats ? nats.reason : whyNoNamespaces()
const isSkipped = lack !== undefined && !('reason' in nats && process.env['CARILLON_CI'] === '1')
if (lack !== undefined) console.log(`row 11 with network namespaces is skipped: ${lack}`)

/** A third of the defaults, or the test would take three times as long. */
const beats = ['--heartbeat=1500ms', '--unhealthy-after=5s']
const CUT_MS = 22_000
/** What the matrix allows until the ring has moved and nobody waits for the one that is cut off. */
const MOVED_MS_MAX = 20_000
const ELECTION_MS_MAX = 12_000
const near = ['ingester-1', 'ingester-2']
const farRoles = ['ingester', 'distributor', 'querier', 'gateway'] as const

describe.skipIf(isSkipped)('cables are pulled', () => {
  const folder = mkdtempSync(join(tmpdir(), 'carillon-cables-'))
  const servers = new Map<string, Node>()
  const far = new Map<string, Node>()
  const running: ChildProcess[] = []
  let network: Network
  let natsUrl = ''
  let url = ''
  let load: Load
  let readers: Readers

  beforeAll(async () => {
    network = createNetwork()
    for (const zone of ['a', 'b', 'c']) servers.set(zone, network.node(`nats-${zone}`))
    for (const zone of servers.keys()) startServer(zone)
    natsUrl = [...servers.values()].map(({ address }) => `nats://${address}:4222`).join()
    const shape = ['--partitions=3', '--replication-factor=2', '--log-replicas=3', '--log-bytes-max=64MiB']
    await until('the logs are there', async () => {
      const { code, err } = await carillon(['setup', '--nats', natsUrl, ...shape])
      if (code !== 0) throw new Error(err.slice(-500))
      return true
    })
    const home = network.node('home')
    url = `http://${home.address}:9009`
    for (const id of [...near, 'distributor-1', 'querier-1', 'gateway-1']) start(id, home)
    for (const role of farRoles) {
      const node = network.node(`far-${role}`)
      far.set(role, node)
      start(`${role}-far`, node)
    }
    await ringServedBy(url, [...near, 'ingester-far'])
    load = startLoad({ url: () => url, seed: 12, senders: 3, pauseMs: 60 })
    readers = startReaders(url, load.ledger)
  })

  afterAll(async () => {
    for (const node of [...servers.values(), ...far.values()]) node.heal()
    await load?.abandon().catch(() => {})
    await readers?.end()
    await Promise.all(running.map(ended))
    network?.remove()
    rmSync(folder, { recursive: true, force: true })
  })

  function startServer(zone: string): void {
    const { address, within } = servers.get(zone)!
    const home = join(folder, zone)
    mkdirSync(home)
    const routes = [...servers.values()].map((server) => `"nats://${server.address}:6222"`).join(', ')
    const text = [
      `include ${JSON.stringify(relative(home, join(import.meta.dirname, '../../nats.conf')))}`,
      `listen: "${address}:4222"`,
      `server_name: "nats-${zone}"`,
      `cluster { name: cables, listen: "${address}:6222", no_advertise: true, routes: [${routes}] }`,
    ]
    writeFileSync(join(home, 'server.conf'), text.join('\n'))
    if ('reason' in nats) throw new Error(nats.reason)
    const [program, ...args] = [...within, nats.path, '-c', join(home, 'server.conf')]
    running.push(spawn(program!, args, { cwd: home, stdio: 'ignore' }))
  }

  function start(id: string, { within, address }: Node): Actor {
    const role = id.split('-')[0]!
    const door = role === 'gateway' ? [`--listen=${address}:9009`, '--allow-unauthenticated'] : []
    const actor = startActor(role, { nats: natsUrl, id, args: [...beats, ...door], within })
    running.push(actor.process)
    return actor
  }

  async function healthOf(ids: readonly string[]): Promise<boolean[]> {
    const { members } = await ringOf(url)
    return ids.map((id) => members.find((member) => member.id === id)?.isHealthy === true)
  }

  const refused = () => load.answers.filter(({ outcome }) => outcome !== '204')

  test('row 11: an ingester, a distributor, a querier and a gateway: the ring moves within 20 s, they return without conflict', async () => {
    const ids = farRoles.map((role) => `${role}-far`)
    const cutMs = performance.now()
    for (const node of far.values()) node.cut()
    await ringServedBy(url, near)
    const movedMs = performance.now() - cutMs
    await until('all four are missed', async () => !(await healthOf(ids)).includes(true))
    await sleep(CUT_MS - (performance.now() - cutMs))
    const healedMs = performance.now()
    for (const node of far.values()) node.heal()
    await ringServedBy(url, [...near, 'ingester-far'])
    await until('all four are back', async () => !(await healthOf(ids)).includes(false))
    const gateway = `http://${far.get('gateway')!.address}:9009`
    await until('the far gateway answers', async () => (await fetch(`${gateway}/api/v1/query?query=1`)).ok)
    console.log(
      `cables pulled: others serve after ${Math.round(movedMs)} ms, all back ${Math.round(performance.now() - healedMs)} ms after; ` +
        `outcomes ${JSON.stringify(load.outcomes())}, ${readers.faults.length} queries failed`,
    )
    expect(movedMs).toBeLessThan(MOVED_MS_MAX)
    const quietFromMs = cutMs + MOVED_MS_MAX
    expect(refused().filter(({ atMs }) => atMs > quietFromMs)).toEqual([])
    expect(readers.faults.filter(({ atMs }) => atMs > quietFromMs)).toEqual([])
    expect(readers.faults.filter(({ kind, consistency }) => kind === 'incomplete' && consistency === 'strong')).toEqual(
      [],
    )
    const taken = load.acknowledgedAtMs().filter((atMs) => atMs > cutMs && atMs < healedMs)
    expect(Math.max(...taken.slice(1).map((atMs, i) => atMs - taken[i]!))).toBeLessThan(ELECTION_MS_MAX)
  })

  test('row 11: a nats-server: the other two go on, it catches up, nothing acknowledged is lost', async () => {
    const leader = await leaderOf({ ready: { nats: natsUrl, natsUserFile: '' } })
    const server = servers.get(leader.slice('nats-'.length))!
    server.cut()
    const gapMs = await ackGap('a nats-server is cut off', load)
    await sleep(6_000)
    server.heal()
    await sleep(2_000)
    await load.stop()
    await readers.end()
    await until('JetStream has a leader', () => withBus(natsUrl, (bus) => bus.bucket(RING_BUCKET).then(() => true)))
    console.log(
      `a nats-server is cut off: ${Math.round(gapMs)} ms without an acknowledgement; outcomes ${JSON.stringify(load.outcomes())}`,
    )
    expect(gapMs).toBeLessThan(MOVED_MS_MAX) // views of the ring are believed for 5 s here, less than an election may take
    expect(readers.faults.filter(({ kind, consistency }) => kind === 'incomplete' && consistency === 'strong')).toEqual(
      [],
    )
    const isAnswered = async () => (await fetch(`${url}/api/v1/query?query=1%2Bload_float`)).status === 200
    await until('queriers have heard their heartbeats again', isAnswered)
    const { partitions } = await checkAll({ url, nats: natsUrl }, load.ledger)
    for (const { digestsAgree } of partitions.partitions) expect(digestsAgree).toBe(true)
  })
})

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await gone
}
