// The ground of the fault tests: a nats-server of our own, a system on it, a load on that, and everything ended afterwards.
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach } from 'vitest'
import { type Load, type LoadOptions, startLoad } from './load.ts'
import { findNatsServer, type NatsServer, type NatsServerOptions, startNatsServer } from './nats-server.ts'
import { killEverything } from './processes.ts'
import { freePort, type System, startSystem } from './system.ts'

const found = findNatsServer()
/** Only where there is no nats-server, and never in CI. */
export const isSkipped = 'reason' in found && process.env['CARILLON_CI'] !== '1'
if ('reason' in found) console.log(`fault tests: ${found.reason}`)

export const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 1e9))
console.log(`fault tests: SEED=${seed}`)

const cleanups: (() => Promise<void> | void)[] = []

/** Runs after the test, the newest first, whatever comes of it. */
export function afterwards(cleanup: () => Promise<void> | void): void {
  cleanups.push(cleanup)
}

export function cleanUpAfterEach(): void {
  afterEach(async () => {
    const failures: unknown[] = []
    for (const cleanup of cleanups.splice(0).reverse()) {
      try {
        await cleanup()
      } catch (error) {
        failures.push(error)
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, 'the test could not be cleaned up')
  })
}

/** Segments of seconds, and everything that is told now and then is told every second. Nothing is flushed: what these tests break is the log,
 *  and a flush would take it away first. */
export const shortArgs = [
  '--segment=3s',
  '--segment-min=1s',
  '--high-water=1s',
  '--checkpoint=1s',
  '--linger=2ms',
  '--flush=1h',
  '--partitions=1',
  '--log-bytes-max=64MiB',
]
export const twoOwners = ['--ingesters=2', '--replication-factor=2']

export async function startServer(options: NatsServerOptions = { syncAlways: true }): Promise<NatsServer> {
  const server = await startNatsServer(options)
  afterwards(() => server.stop())
  return server
}

/** A system on a server; ends by kill -9 at the latest after the test. */
export async function startOn(server: NatsServer, args: readonly string[]): Promise<System> {
  const userFile = join(mkdtempSync(join(tmpdir(), 'carillon-user-')), 'system-user')
  afterwards(() => rmSync(dirname(userFile), { recursive: true, force: true }))
  writeFileSync(userFile, `${server.system.user}:${server.system.password}`)
  const flags = [`--nats=${server.url}`, `--nats-system-file=${userFile}`, ...args]
  const system = await startSystem({ port: await freePort(), args: flags })
  afterwards(async () => {
    await killEverything(system)
    await system.stop()
  })
  return system
}

export function loadOn(system: System, options: Partial<LoadOptions> = {}): Load {
  const load = startLoad({ url: () => system.url, seed, pauseMs: 10, ...options })
  afterwards(() => load.abandon().catch(() => {}))
  return load
}

/** The newest block file of a partition's log. */
export function blockFile(server: NatsServer, partition = 0): string {
  const dir = join(server.storeDir, 'jetstream', 'APP', 'streams', `cln-log-${partition}`, 'msgs')
  const blocks = readdirSync(dir).filter((name) => name.endsWith('.blk'))
  blocks.sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10))
  return join(dir, blocks.at(-1)!)
}

export function sizeOf(file: string): number {
  return statSync(file).size
}
