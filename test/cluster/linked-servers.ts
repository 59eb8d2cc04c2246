// Three nats-servers that find each other over links that can be cut: one of them is alone then with whoever is connected to it, and nobody
// is told.
import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '../../shared/base/clock.ts'
import { connectNats } from '../../shared/bus/nats/nats-bus.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { eventually, until, WAIT_MS } from '../waiting.ts'
import { type Link, startLink } from './link.ts'
import { connectPlain, type PlainNats } from './nats-plain.ts'
import { type NatsServer, startNatsServer } from './nats-server.ts'
import { freePort } from './system.ts'

export interface LinkedServers {
  readonly servers: readonly NatsServer[]
  connect(server: number): Promise<Bus>
  /** Has a server lead a stream of three copies. */
  lead(stream: string, server: number): Promise<void>
  cut(server: number): void
  heal(server: number): void
  stop(): Promise<void>
}

const INDEXES = [0, 1, 2]

export async function startLinkedServers(): Promise<LinkedServers> {
  const ports = await Promise.all(INDEXES.map(() => freePort()))
  const links = new Map<string, Link>()
  for (const from of INDEXES)
    for (const to of INDEXES)
      if (from !== to) links.set(`${from}${to}`, await startLink(`nats://127.0.0.1:${ports[to]}`))
  const dialled = (from: number) => INDEXES.filter((to) => to !== from).map((to) => links.get(`${from}${to}`)!.url)
  const start = (own: number) => {
    const options = { syncAlways: true, maxFile: '2GB', clusterPorts: [ports[own]!], routes: dialled(own) }
    return startNatsServer({ ...options, maxPayload: 8 * 1024 * 1024 })
  }
  const servers = await Promise.all(INDEXES.map(start))
  const open: (Bus | PlainNats)[] = []
  const plain = await connectPlain(servers[0]!.url)
  open.push(plain)
  const linksOf = (server: number) =>
    [...links].filter(([name]) => name.includes(String(server))).map(([, link]) => link)

  async function leaderOf(stream: string): Promise<string> {
    const { bytes } = await plain.request(`$JS.API.STREAM.INFO.${stream}`, '')
    const { cluster } = JSON.parse(Buffer.from(bytes).toString()) as { cluster?: { leader?: string } }
    return cluster?.leader ?? ''
  }

  return {
    servers,
    connect(server) {
      return eventually('JetStream has a leader', WAIT_MS, async () => {
        const { url } = servers[server]!
        const bus = await connectNats({ servers: url, name: `at ${server}`, prefix: 'cln', clock: systemClock })
        open.push(bus)
        return bus
      })
    },
    async lead(stream, server) {
      const wanted = `nats-${ports[server]}`
      let looks = 0 // a change that was asked for a second time may still come after the first
      await until(`${wanted} leads ${stream}`, async () => {
        if ((await leaderOf(stream)) === wanted) {
          await sleep(500)
          return ++looks >= 4
        }
        looks = 0
        const asked = JSON.stringify({ placement: { preferred: wanted } })
        await plain.request(`$JS.API.STREAM.LEADER.STEPDOWN.${stream}`, asked)
        await sleep(1_000)
        return false
      })
    },
    cut: (server) => linksOf(server).forEach((link) => void link.cut()),
    heal: (server) => linksOf(server).forEach((link) => void link.heal()),
    async stop() {
      for (const link of links.values()) link.heal()
      await Promise.all(open.map((each) => each.close().catch(() => {})))
      await Promise.all(servers.map((server) => server.kill().then(() => server.stop())))
      for (const link of links.values()) link.stop()
    },
  }
}
