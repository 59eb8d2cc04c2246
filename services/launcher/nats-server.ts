// The embedded nats-server: the repository's nats.conf, plus what differs per data folder.
//
//   nats/server.conf    generated: includes nats.conf; port, log file, and a system account user
//   nats/system-user    "user:password" of that user, readable by the owner only
//   nats/running.json   which process runs on this folder, and its port
//   nats/nats-store/    JetStream's files      nats/server.log   what the server says
//
// Invariants
//   N1  Never two servers on one store: a server left by a killed launcher is stopped before another starts.
//   N2  The port stays the same over restarts where it can, so that clients find the server again.
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { z } from 'zod'
import { hex, type Random } from '../../shared/base/random.ts'
import { readRecord, replaceFile } from './data-folder.ts'
import { endProcess, identityOf, isRunning } from './process-identity.ts'
import { SetupError } from './setup-error.ts'

const confFile = path.resolve(import.meta.dirname, '../../nats.conf')
const runningFile = z.object({ pid: z.number(), started: z.string(), port: z.number() })
const orphanStopWaitMs = 60_000

export interface NatsFolder {
  readonly folder: string
  readonly port: number
  readonly url: string
  /** Arguments that start the server on this folder, run in `folder`. */
  readonly args: readonly string[]
  readonly systemUserFile: string
  /** Remembers the process that now runs here (N1). */
  setRunning(pid: number): void
  /** The last lines that the server wrote. */
  lastWords(): string
}

/** Stops an orphan, picks a port, writes the configuration. Nothing is started yet. */
export async function prepareNatsFolder(
  dataFolder: string,
  random: Random,
  say: (line: string) => void,
): Promise<NatsFolder> {
  const folder = path.join(dataFolder, 'nats')
  fs.mkdirSync(folder, { recursive: true })
  const running = path.join(folder, 'running.json')
  const before = readRecord(running, runningFile)
  if (before !== undefined && isRunning(before)) {
    say(
      `a nats-server (process ${before.pid}) was left by a launcher that was killed: stopping it, then starting it anew on the same data`,
    )
    const end = await endProcess(before, orphanStopWaitMs)
    if (end === 'killed')
      say(`the nats-server ${before.pid} did not stop within ${orphanStopWaitMs / 1000} s and was killed`)
  }
  const port = before !== undefined && (await isPortFree(before.port, '127.0.0.1')) ? before.port : await freePort()
  const systemUserFile = path.join(folder, 'system-user')
  if (!fs.existsSync(systemUserFile)) replaceFile(systemUserFile, `carillon-launcher:${hex(random.bytes(24))}\n`, 0o600)
  const config = path.join(folder, 'server.conf')
  const logFile = path.join(folder, 'server.log')
  replaceFile(config, configText({ folder, port, logFile, systemUserFile }), 0o600)
  return {
    folder,
    port,
    url: `nats://127.0.0.1:${port}`,
    args: ['-c', config],
    systemUserFile,
    setRunning(pid) {
      replaceFile(running, JSON.stringify({ ...identityOf(pid), port }))
    },
    lastWords: () =>
      fs.existsSync(logFile) ? fs.readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-8).join('\n') : '',
  }
}

function configText(paths: { folder: string; port: number; logFile: string; systemUserFile: string }): string {
  const { user, password } = readSystemUser(paths.systemUserFile)
  const included = path.relative(paths.folder, confFile).replaceAll('\\', '/')
  return `# Written at each start. To change the server, edit nats.conf of the project.
include ${JSON.stringify(included)}
listen: "127.0.0.1:${paths.port}"
log_file: ${JSON.stringify(paths.logFile)}
logfile_size_limit: 10MB
logfile_max_num: 3
# Only for asking the server how it keeps data; everybody else works in the default account.
accounts { $SYS { users: [ { user: ${user}, password: "${password}" } ] } }
`
}

/** Reads a `user:password` file. */
export function readSystemUser(file: string): { user: string; password: string } {
  const [user, password] = fs.readFileSync(file, 'utf8').trim().split(':')
  if (!user || !password) throw new SetupError(2, `${file} does not hold user:password`)
  return { user, password }
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
