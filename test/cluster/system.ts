// The whole system as `npm start` runs it, for tests: launcher, nats-server and actors as real processes on loopback.
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

const ROOT = new URL('../..', import.meta.url).pathname
const START_MS_MAX = 60_000
const STOP_MS_MAX = 40_000
const LOG_LINES_MAX = 5_000

export interface SystemProcess {
  readonly pid: number
  readonly role: string
  readonly id: string
  readonly address?: string
}

/** The ready line of `carillon start --output json`. */
export interface Ready {
  readonly push: string
  readonly query: string
  readonly nats: string
  readonly natsUserFile: string
  readonly durability: string
  readonly data: string
  readonly processes: readonly SystemProcess[]
}

export interface SystemOptions {
  /** `start` unless told. */
  readonly command?: 'start' | 'cluster'
  readonly args?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** Kept when given; else made anew and removed by `stop`. */
  readonly dataDir?: string
  /** Hears each line that the processes log. */
  readonly onLog?: (line: string) => void
  /** 0 picks one; give a number to keep the address over restarts. */
  readonly port?: number
}

export interface System {
  readonly ready: Ready
  /** `http://host:port` of the first gateway. */
  readonly url: string
  readonly launcher: ChildProcess
  /** What the processes logged, newest last. */
  readonly logLines: readonly string[]
  /** Ends everything in peace; the data folder goes unless it was given. */
  stop(): Promise<void>
}

/** Resolves at the ready line; rejects with the last log lines when there is none in time. */
export async function startSystem(options: SystemOptions = {}): Promise<System> {
  const dataDir = options.dataDir ?? mkdtempSync(join(tmpdir(), 'carillon-data-'))
  const flags = [
    '--listen',
    `127.0.0.1:${options.port ?? 0}`,
    '--data',
    dataDir,
    '--output',
    'json',
    ...(options.args ?? []),
  ]
  const launcher = spawn(process.execPath, ['services/carillon.mjs', options.command ?? 'start', ...flags], {
    cwd: ROOT,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const logLines: string[] = []
  createInterface({ input: launcher.stderr! }).on('line', (line) => {
    options.onLog?.(line)
    logLines.push(line)
    if (logLines.length > LOG_LINES_MAX) logLines.shift()
  })
  try {
    const ready = await readyLine(launcher)
    return { ready, url: new URL(ready.push).origin, launcher, logLines, stop }
  } catch (cause) {
    launcher.kill('SIGTERM')
    throw new Error(`the system did not start:\n${logLines.slice(-20).join('\n')}`, { cause })
  }

  async function stop(): Promise<void> {
    await endProcess(launcher)
    if (options.dataDir === undefined) rmSync(dataDir, { recursive: true, force: true })
  }
}

async function readyLine(launcher: ChildProcess): Promise<Ready> {
  const line = new Promise<Ready>((resolve, reject) => {
    createInterface({ input: launcher.stdout! }).on('line', (text) => {
      if (text.startsWith('{')) resolve(JSON.parse(text) as Ready)
    })
    launcher.once('exit', (code) => reject(new Error(`the launcher ended with ${code}`)))
  })
  const late = sleep(START_MS_MAX, undefined, { ref: false }).then(() => {
    throw new Error(`no ready line within ${START_MS_MAX} ms`)
  })
  return Promise.race([line, late])
}

/** SIGTERM, and SIGKILL when that takes too long. */
export async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX)
  await ended
  clearTimeout(timer)
}

/** The pid that an actor has now: one that was killed comes back under another. `nats` is the nats-server, `nats-b` that of zone b. */
export function pidOf(system: System, id: string): number {
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const command = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0').join(' ').trim()
      const isWanted =
        id === 'nats'
          ? /nats-server\S* /.test(command)
          : id.startsWith('nats-')
            ? command.endsWith(`/nats/${id.slice(5)}/server.conf`)
            : command.endsWith(` ${id}`) || command.includes(`--id ${id} `)
      if (isWanted && isDescendant(Number(name), system.launcher.pid!)) return Number(name)
    } catch {
      // the process ended while we looked
    }
  }
  throw new Error(`${id} does not run`)
}

function isDescendant(pid: number, ancestor: number): boolean {
  for (let at = pid; at > 1; ) {
    if (at === ancestor) return true
    const stat = readFileSync(`/proc/${at}/stat`, 'utf8')
    at = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
  }
  return false
}

/** Below those that the system gives to connections on their way out, which others make all the time. */
const PORTS = { from: 12_000, count: 18_000 }
const PORT_TRIES_MAX = 50
/** A gateway more listens on the next one. */
const IN_A_ROW = 3

/** A port on which, and on the next ones, nobody listens now. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < PORT_TRIES_MAX; tries++) {
    const port = PORTS.from + Math.floor(Math.random() * PORTS.count)
    const areFree = await Promise.all(Array.from({ length: IN_A_ROW }, (_, next) => isFree(port + next)))
    if (!areFree.includes(false)) return port
  }
  throw new Error(`no port is free after ${PORT_TRIES_MAX} tries`)
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
