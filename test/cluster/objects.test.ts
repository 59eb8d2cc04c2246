// Objects on three nats-servers: kept three times, read and made while one of them is gone.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from '@nats-io/transport-node'
import { describe, expect, test } from 'vitest'
import { startGuard } from '../../services/launcher/guard.ts'
import { clusterZones } from '../../services/launcher/nats-server.ts'
import { startNatsServers, stopNatsServers } from '../../services/launcher/start-nats.ts'
import { systemClock } from '../../shared/base/clock.ts'
import { PART_BYTES } from '../../shared/objects/layout.ts'
import { natsObjects } from '../../shared/objects/nats-objects.ts'
import { silentLog } from '../../shared/telemetry/log.ts'
import { noise, read, ulidA, ulidB } from '../suites/objects-suite.ts'
import { until } from '../waiting.ts'
import { reachOf } from './nats-place.ts'
import { findNatsServer } from './nats-server.ts'

const found = findNatsServer()
if ('reason' in found) console.log(`objects on three servers are skipped: ${found.reason}`)

const call = { timeoutMs: 30_000, readBack: true }

describe.skipIf('reason' in found)('objects on three nats-servers', () => {
  test('every bucket has three copies; with one server killed objects are read and made', async () => {
    const dataFolder = mkdtempSync(join(tmpdir(), 'carillon-objects-'))
    const guard = startGuard({ clock: systemClock, log: silentLog })
    const cluster = await startNatsServers({
      dataFolder,
      zones: clusterZones,
      binary: 'path' in found ? found.path : '',
      failedStartsMax: 3,
      log: silentLog,
      guard,
      say: () => {},
      signal: new AbortController().signal,
    })
    const { servers, user = '', password = '' } = reachOf(cluster.reach)
    const store = await natsObjects({ servers, user, password, name: 'test', clock: systemClock })
    try {
      await succeeds(() => store.setUp({ replicas: 3, bytesMax: 0 }, { timeoutMs: 5_000 }))
      const before = noise(3 * PART_BYTES)
      await store.create(`t/${ulidA}/index`, before, call)
      const nc = await connect({ servers, user, pass: password })
      const streams = await nc.request('$JS.API.STREAM.LIST', '')
      const copies = streams
        .json<{ streams: { config: { name: string; num_replicas: number } }[] }>()
        .streams.filter(({ config }) => config.name.startsWith('OBJ_'))
        .map(({ config }) => config.num_replicas)
      await nc.close()
      expect(copies).toEqual([3, 3])
      const conf = readFileSync(join(dataFolder, 'nats', 'a', 'server.conf'), 'utf8')
      const routePort = Number(/cluster \{[^}]*listen: "127\.0\.0\.1:(\d+)"/.exec(conf)?.[1])
      expect(await asRoute(routePort)).toContain('Authorization Violation') // SERVER-4: another server would read everything
      cluster.servers[0]?.retire()
      cluster.servers[0]?.kill()
      await succeeds(async () => expect(await read(store, `t/${ulidA}/index`)).toEqual(Buffer.from(before)))
      await succeeds(() => store.create(`t/${ulidA}/more`, noise(2 * PART_BYTES, 2), call))
      await succeeds(() => store.create(`t/manifest/1`, noise(2 * PART_BYTES, 3), call))
      await succeeds(() => store.create(`t/${ulidB}/index`, noise(2 * PART_BYTES, 4), call))
      expect((await store.list('t/', call)).length).toBe(4)
    } finally {
      await store.close()
      await stopNatsServers(cluster.servers)
      guard.close()
      rmSync(dataFolder, { recursive: true, force: true })
    }
  })
})

/** Also while a leader is elected. */
function succeeds(attempt: () => Promise<unknown>): Promise<void> {
  const succeeded = async () => {
    await attempt()
    return true
  }
  return until('it succeeds', succeeded)
}

/** What a server says to one that wants to be in its cluster and knows no password. */
function asRoute(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let said = ''
    const socket = createConnection({ port, host: '127.0.0.1' })
    socket.once('data', () =>
      socket.write('CONNECT {"verbose":false,"pedantic":false,"name":"stranger","cluster":"carillon"}\r\nPING\r\n'),
    )
    socket.on('data', (chunk) => {
      said += chunk.toString()
    })
    socket.on('close', () => resolve(said)).on('error', reject)
  })
}
