// A real nats-server as a child process, for the tests of whatever stands on NATS.
//
// The binary: $CARILLON_NATS_SERVER, else `nats-server` on the PATH, else .cache/nats-server-*/nats-server of the project;
// older ones than `versionMin` are passed over. The server has two accounts: tests connect without credentials, and
// `system` is a user of the system account.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { endProcess, freePort } from './system.ts'

const versionMin = [2, 11]
const startMsMax = 20_000

export interface NatsServerOptions {
  /** Every write flushed to disk before it is acknowledged. */
  readonly syncAlways?: boolean
  readonly maxPayload?: number
  /** Kept when given; else made anew and removed by `stop`. */
  readonly storeDir?: string
  readonly port?: number
  /** One of several servers: the ports on which they find each other, its own first. */
  readonly clusterPorts?: readonly number[]
  /** Where it dials the others, if not on their ports; it tells nobody of its own. */
  readonly routes?: readonly string[]
  /** What JetStream may reserve, where the disk is smaller than that. */
  readonly maxFile?: string
}

export interface NatsServer {
  readonly url: string
  readonly port: number
  readonly pid: number
  readonly storeDir: string
  readonly system: { readonly user: string; readonly password: string }
  /** Ends it in peace and removes what it stored, unless `storeDir` was given. */
  stop(): Promise<void>
  /** kill -9; the store stays for `restart`. */
  kill(): Promise<void>
  /** Ends it in peace; the store stays for `restart`. */
  end(): Promise<void>
  /** Starts it again on the same port and store. */
  restart(): Promise<void>
}

/** The binary to use, or why there is none. */
export function findNatsServer(): { readonly path: string } | { readonly reason: string } {
  const passedOver: string[] = []
  for (const path of candidates()) {
    const version = versionOf(path)
    if (version === undefined) continue
    if (isEnough(version)) return { path }
    passedOver.push(`${path} is ${version}`)
  }
  const seen = passedOver.length === 0 ? 'none was found' : passedOver.join(', ')
  return { reason: `needs nats-server ${versionMin.join('.')} or newer (${seen}); set CARILLON_NATS_SERVER to one` }
}

/** Rejects when there is no binary; ask `findNatsServer` first to skip instead. */
export async function startNatsServer(options: NatsServerOptions = {}): Promise<NatsServer> {
  const found = findNatsServer()
  if ('reason' in found) throw new Error(found.reason)
  const dir = mkdtempSync(join(tmpdir(), 'carillon-nats-'))
  const port = options.port ?? (await freePort())
  const storeDir = options.storeDir ?? join(dir, 'store')
  const system = { user: 'system', password: 'system' }
  const configPath = join(dir, 'nats.conf')
  writeFileSync(configPath, configText(options, { port, storeDir }))
  let child = await start(found.path, configPath, port)
  return {
    url: `nats://127.0.0.1:${port}`,
    port,
    storeDir,
    system,
    get pid() {
      return child.pid ?? 0
    },
    async stop() {
      await endProcess(child)
      rmSync(dir, { recursive: true, force: true })
    },
    kill: () => killed(child),
    end: () => endProcess(child),
    async restart() {
      await endProcess(child)
      child = await start(found.path, configPath, port)
    },
  }
}

function configText(options: NatsServerOptions, { port, storeDir }: { port: number; storeDir: string }): string {
  const more = `${options.syncAlways ? ', sync_interval: always' : ''}${options.maxFile ? `, max_file: ${options.maxFile}` : ''}`
  return [
    `listen: "127.0.0.1:${port}"`,
    `max_payload: ${options.maxPayload ?? 1_048_576}`,
    `jetstream { store_dir: ${JSON.stringify(storeDir)}${more} }`,
    ...clusterText(options),
    'accounts {',
    '  SYS { users: [{ user: system, password: system }] }',
    '  APP { jetstream: enabled, users: [{ user: app, password: app }] }',
    '}',
    'system_account: SYS',
    'no_auth_user: app',
  ].join('\n')
}

function clusterText({ clusterPorts: [own, ...others] = [], routes }: NatsServerOptions): string[] {
  if (own === undefined) return []
  const dialled = (routes ?? others.map((port) => `nats://127.0.0.1:${port}`)).map((url) => `"${url}"`).join(', ')
  // Servers tell each other of third ones, and would go there past the links: what they tell leads nowhere.
  const more = routes === undefined ? '' : 'no_advertise: true, advertise: "127.0.0.1:1", '
  return [
    `server_name: "nats-${own}"`,
    `cluster { name: test, listen: "127.0.0.1:${own}", ${more}routes: [${dialled}] }`,
  ]
}

function* candidates(): Generator<string> {
  const named = process.env['CARILLON_NATS_SERVER']
  if (named) yield named
  for (const dir of (process.env['PATH'] ?? '').split(delimiter)) if (dir !== '') yield join(dir, 'nats-server')
  const cache = join(import.meta.dirname, '../../.cache')
  try {
    const dirs = readdirSync(cache).filter((name) => name.startsWith('nats-server-'))
    for (const name of dirs.sort().reverse()) yield join(cache, name, 'nats-server')
  } catch {
    return // no cache directory
  }
}

function versionOf(path: string): string | undefined {
  try {
    const said = execFileSync(path, ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
    return /v(\d+\.\d+\.\d+)/.exec(said)?.[1]
  } catch {
    return undefined // not there, or not to be run
  }
}

function isEnough(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const [majorMin = 0, minorMin = 0] = versionMin
  return major > majorMin || (major === majorMin && minor >= minorMin)
}

async function start(path: string, configPath: string, port: number): Promise<ChildProcess> {
  const child = spawn(path, ['-c', configPath], { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr?.on('data', (text) => {
    said = (said + text).slice(-4_000)
  })
  const end = Date.now() + startMsMax
  while (Date.now() < end && child.exitCode === null) {
    if (await speaks(port)) return child
    await sleep(25)
  }
  child.kill('SIGKILL')
  throw new Error(`nats-server did not start: ${said}`)
}

/** Whether a server on this port greets. */
function speaks(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    const finish = (isThere: boolean) => {
      socket.destroy()
      resolve(isThere)
    }
    socket.once('data', (bytes) => finish(bytes.toString().startsWith('INFO')))
    socket.once('error', () => finish(false))
    socket.setTimeout(1_000, () => finish(false))
  })
}

function killed(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((resolve) => {
    child.once('exit', () => resolve())
    child.kill('SIGKILL')
  })
}
