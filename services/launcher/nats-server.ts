// The embedded nats-server: the repository's nats.conf, plus what differs per data folder.
//
//   nats/server.conf    generated: includes nats.conf; port, log file, and a system account user
//   nats/system-user    "user:password" of that user, readable by the owner only
//   nats/user           the same of everybody else: actors, and commands that ask a running system
//   nats/running.json   which process runs on this folder, and its port
//   nats/nats-store/    JetStream's files      nats/server.log   what the server says
//
// A cluster has one such folder per server: nats/a, nats/b, nats/c; the users are the same in all of them.
//
// Invariants
//   SERVER-1  Never two servers on one store: a server left by a killed launcher is stopped before another starts.
//   SERVER-2  The ports stay the same over restarts where they can, so that clients and the other servers find the server again.
//   SERVER-3  The logs of one server are never taken for those of a cluster, nor the other way round.
//   SERVER-4  Whoever cannot read the owner's files reaches nothing: clients and other servers want the password.
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { z } from 'zod'
import { textOf } from '../../shared/base/errors.ts'
import { hex, type Random } from '../../shared/base/random.ts'
import type { NatsReach } from './connect.ts'
import { readRecord, replaceFile } from './data-folder.ts'
import { endProcess, identityOf, isRunning } from './process-identity.ts'
import { SetupError } from './setup-error.ts'

const confFile = path.resolve(import.meta.dirname, '../../nats.conf')
const runningFile = z.object({
  pid: z.number(),
  started: z.string(),
  port: z.number(),
  routePort: z.number().default(0),
})
const orphanStopWaitMs = 60_000

/** Where the servers of a cluster stand; the only server of a single one stands in no zone. */
export const clusterZones = ['a', 'b', 'c']
export const noZone = ''

export interface NatsFolder {
  readonly id: string
  readonly folder: string
  readonly port: number
  readonly url: string
  /** Arguments that start the server on this folder, run in `folder`. */
  readonly args: readonly string[]
  readonly userFile: string
  readonly systemUserFile: string
  /** Remembers the process that now runs here (SERVER-1). */
  setRunning(pid: number): void
  /** The last lines that the server wrote. */
  lastWords(): string
}

interface Place {
  readonly zone: string
  readonly id: string
  readonly folder: string
  readonly port: number
  /** Where the other servers of the cluster find it; 0 where there are none. */
  readonly routePort: number
}

/** One server per zone. Stops orphans, picks ports, writes configurations. Nothing is started yet. */
export async function prepareNatsFolders(
  dataFolder: string,
  zones: readonly string[],
  random: Random,
  say: (line: string) => void,
): Promise<readonly NatsFolder[]> {
  const parent = path.join(dataFolder, 'nats')
  checkKind(parent, zones)
  fs.mkdirSync(parent, { recursive: true })
  const systemUserFile = userFileIn(parent, 'system-user', 'carillon-launcher', random)
  const userFile = userFileIn(parent, 'user', 'carillon', random)
  const places: Place[] = []
  for (const zone of zones) places.push(await preparePlace(parent, zone, places, say))
  return places.map((place) => {
    const { id, folder, port, routePort } = place
    const config = path.join(folder, 'server.conf')
    const logFile = path.join(folder, 'server.log')
    replaceFile(config, configText(place, places, { logFile, userFile, systemUserFile }), 0o600)
    return {
      id,
      folder,
      port,
      url: `nats://127.0.0.1:${port}`,
      args: ['-c', config],
      userFile,
      systemUserFile,
      setRunning(pid) {
        replaceFile(path.join(folder, 'running.json'), JSON.stringify({ ...identityOf(pid), port, routePort }))
      },
      lastWords: () =>
        fs.existsSync(logFile) ? fs.readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-8).join('\n') : '',
    }
  })
}

/** Made once, kept over restarts (SERVER-4). */
function userFileIn(parent: string, name: string, user: string, random: Random): string {
  const file = path.join(parent, name)
  if (!fs.existsSync(file)) replaceFile(file, `${user}:${hex(random.bytes(24))}\n`, 0o600)
  return file
}

/** SERVER-3 */
function checkKind(parent: string, zones: readonly string[]): void {
  const wrong = zones.includes(noZone) ? clusterZones[0]! : 'nats-store'
  if (!fs.existsSync(path.join(parent, wrong))) return
  const [held, command] = zones.includes(noZone) ? ['three servers', 'cluster'] : ['a single server', 'start']
  throw new SetupError(
    1,
    `${parent} holds the logs of ${held}. Start it with \`carillon ${command}\`, or choose another folder with --data`,
  )
}

async function preparePlace(
  parent: string,
  zone: string,
  others: readonly Place[],
  say: (line: string) => void,
): Promise<Place> {
  const folder = path.join(parent, zone)
  fs.mkdirSync(folder, { recursive: true })
  const before = readRecord(path.join(folder, 'running.json'), runningFile)
  if (before !== undefined && isRunning(before)) {
    say(
      `a nats-server (process ${before.pid}) was left by a launcher that was killed: stopping it, then starting it anew on the same data`,
    )
    const end = await endProcess(before, orphanStopWaitMs)
    if (end === 'killed')
      say(`the nats-server ${before.pid} did not stop within ${orphanStopWaitMs / 1000} s and was killed`)
  }
  const taken = new Set(others.flatMap(({ port, routePort }) => [port, routePort]))
  const port = await pickPort(before?.port, taken)
  taken.add(port)
  const routePort = zone === noZone ? 0 : await pickPort(before?.routePort, taken)
  return { zone, id: zone === noZone ? 'nats-server' : `nats-${zone}`, folder, port, routePort }
}

/** The one it had, where that is free (SERVER-2). */
async function pickPort(before: number | undefined, taken: ReadonlySet<number>): Promise<number> {
  if (before && !taken.has(before) && (await isPortFree(before, '127.0.0.1'))) return before
  for (;;) {
    const port = await freePort()
    if (!taken.has(port)) return port
  }
}

function configText(
  place: Place,
  all: readonly Place[],
  files: { readonly logFile: string; readonly userFile: string; readonly systemUserFile: string },
): string {
  const system = readUserFile(files.systemUserFile)
  const own = readUserFile(files.userFile)
  const included = path.relative(place.folder, confFile).replaceAll('\\', '/')
  return `# Written at each start. To change the server, edit nats.conf of the project.
include ${JSON.stringify(included)}
server_name: "${place.id}"
listen: "127.0.0.1:${place.port}"
log_file: ${JSON.stringify(files.logFile)}
logfile_size_limit: 10MB
logfile_max_num: 3
authorization { users: [ { user: ${own.user}, password: "${own.password}" } ] }
# Only for asking the server how it keeps data; everybody else works in the default account.
accounts { $SYS { users: [ { user: ${system.user}, password: "${system.password}" } ] } }
${place.zone === noZone ? '' : clusterText(place, all, own)}`
}

/** Clients are told all addresses from the start; one that came by another way, a proxy or a tunnel, is left on it. */
function clusterText({ zone, routePort }: Place, all: readonly Place[], { user, password }: NatsUser): string {
  const routes = all.map((other) => `"nats://${user}:${password}@127.0.0.1:${other.routePort}"`).join(', ')
  return `server_tags: ["zone:${zone}"]
cluster {
  name: carillon, listen: "127.0.0.1:${routePort}", no_advertise: true, routes: [${routes}]
  authorization { user: ${user}, password: "${password}" }
}
`
}

export interface NatsUser {
  readonly user: string
  readonly password: string
}

/** Reads a `user:password` file. */
export function readUserFile(file: string): NatsUser {
  let text: string
  try {
    text = fs.readFileSync(file, 'utf8').trim()
  } catch (cause) {
    throw new SetupError(2, `cannot read the NATS user: ${textOf(cause)}`, { cause })
  }
  const colon = text.indexOf(':')
  const [user, password] = [text.slice(0, colon), text.slice(colon + 1)]
  if (colon < 1 || password === '') throw new SetupError(2, `${file} does not hold user:password`)
  return { user, password }
}

/** The nats-servers that run on a data folder now, and the files of their users; undefined where none does. */
export function runningServers(dataFolder: string): NatsReach | undefined {
  const parent = path.join(dataFolder, 'nats')
  const ports = [noZone, ...clusterZones].flatMap((zone) => {
    const record = readRecord(path.join(parent, zone, 'running.json'), runningFile)
    return record !== undefined && isRunning(record) ? [record.port] : []
  })
  if (ports.length === 0) return undefined
  return {
    nats: ports.map((port) => `nats://127.0.0.1:${port}`).join(),
    natsUserFile: path.join(parent, 'user'),
    natsSystemFile: path.join(parent, 'system-user'),
  }
}

/** Resolves when the server greets on its port, false when `isAlive` says that it never will. */
export async function natsAnswers(port: number, isAlive: () => boolean, say: (line: string) => void): Promise<boolean> {
  const startedAtMs = performance.now()
  let nextWordMs = 10_000
  while (isAlive()) {
    if (await greets(port)) return true
    const waitedMs = performance.now() - startedAtMs
    if (waitedMs > nextWordMs) {
      say(`waiting for the nats-server to read its logs (${Math.round(waitedMs / 1000)} s)`)
      nextWordMs += 10_000
    }
    await new Promise((resolve) => setTimeout(resolve, 30))
  }
  return false
}

/** A NATS server speaks first: one line `INFO {…}`. */
function greets(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ port, host: '127.0.0.1' })
    const end = (isGreeted: boolean) => {
      socket.destroy()
      resolve(isGreeted)
    }
    socket.setTimeout(1_000, () => end(false))
    socket.once('error', () => end(false)) // refused: not there yet
    socket.once('data', (first) => end(first.toString('latin1').startsWith('INFO ')))
  })
}

export function isPortFree(port: number, host: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = net.createServer()
    server.once('error', (error: NodeJS.ErrnoException) =>
      error.code === 'EADDRINUSE' ? resolve(false) : reject(error),
    )
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)))
  })
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = net.createServer()
    server.once('error', reject)
    server.listen({ port: 0, host: '127.0.0.1' }, () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}
