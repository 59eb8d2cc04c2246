// What is measured: a real Prometheus and Carillon as `npm start` runs it, behind one port.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { endProcess, pidOf, type System, startSystem } from '../cluster/system.ts'
import { treePids } from './process-tree.ts'

export interface Target {
  readonly name: 'prometheus' | 'carillon'
  /** Root of the process tree. */
  pid(): number
  pushUrl(): string
  /** Without the path of an endpoint. */
  queryUrl(): string
  start(): Promise<void>
  /** Ends every process of the tree with SIGKILL; the data stays. */
  kill(): Promise<void>
  /** Ends in peace; the data goes. */
  stop(): Promise<void>
  /** Share of a core below which it is taken to rest. */
  readonly idleShareMax: number
  /** What a process is called. */
  roleOf(pid: number): string
}

export interface CarillonTarget extends Target {
  /** The process that this actor has now; throws when it has none. */
  actorPid(id: string): number
}

/** Heartbeats and timers of all actors stay far below. A process that is being profiled never rests. */
const IDLE_SHARE_MAX = 0.12
const READY_MS_MAX = 120_000

export function prometheusVersion(file: string): string {
  const text = execFileSync(file, ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  const version = /version (\d\S*)/.exec(text)?.[1]
  return version ?? `without a version (${/go version: +(\S+)/.exec(text)?.[1] ?? 'unknown build'})`
}

export function prometheus(file: string, folder: string): Target {
  const data = path.join(folder, 'prometheus')
  let child: ChildProcess | undefined
  let port = 0
  const base = () => `http://127.0.0.1:${port}`
  return {
    name: 'prometheus',
    idleShareMax: IDLE_SHARE_MAX,
    pid: () => child!.pid!,
    pushUrl: () => `${base()}/api/v1/write`,
    queryUrl: base,
    roleOf: () => 'prometheus',
    async start() {
      fs.mkdirSync(data, { recursive: true })
      const config = path.join(folder, 'prometheus.yml')
      fs.writeFileSync(config, 'global: {}\n')
      port = await freePort()
      const logFile = fs.openSync(path.join(folder, 'prometheus.log'), 'a')
      const flags = [
        `--config.file=${config}`,
        `--storage.tsdb.path=${data}`,
        `--web.listen-address=127.0.0.1:${port}`,
        '--web.enable-remote-write-receiver',
        '--storage.tsdb.retention.time=10y',
      ]
      child = spawn(file, flags, { stdio: ['ignore', logFile, logFile] })
      fs.closeSync(logFile)
      await untilOk(`${base()}/-/ready`, child)
    },
    async kill() {
      await killTree(child!)
    },
    async stop() {
      if (child) await endProcess(child)
      fs.rmSync(data, { recursive: true, force: true })
    },
  }
}

export function carillon(
  folder: string,
  options: {
    cpuProfiles?: string
    args?: readonly string[]
    command?: 'start' | 'cluster'
    env?: Readonly<Record<string, string>>
  } = {},
): CarillonTarget {
  const data = path.join(folder, 'carillon')
  let system: System | undefined
  return {
    name: 'carillon',
    idleShareMax: options.cpuProfiles === undefined ? IDLE_SHARE_MAX : 1,
    pid: () => system!.launcher.pid!,
    pushUrl: () => system!.ready.push,
    queryUrl: () => system!.url,
    actorPid: (id) => pidOf(system!, id),
    roleOf(pid) {
      if (pid === system?.launcher.pid) return 'launcher'
      return system?.ready.processes.find((process) => process.pid === pid)?.role ?? 'other'
    },
    async start() {
      const env: Record<string, string> =
        options.cpuProfiles === undefined
          ? { ...options.env }
          : { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${options.cpuProfiles} --cpu-prof-interval=500` }
      const { args = [], command = 'start' } = options
      system = await startSystem({ dataDir: data, env, args, command })
    },
    async kill() {
      await killTree(system!.launcher)
    },
    async stop() {
      await system?.stop()
      fs.rmSync(data, { recursive: true, force: true })
    },
  }
}

async function killTree(root: ChildProcess): Promise<void> {
  const ended = new Promise<void>((resolve) => root.once('exit', () => resolve()))
  const pids = treePids(root.pid!)
  for (const pid of pids) process.kill(pid, 'SIGKILL')
  await ended
  while (pids.some(isRunning)) await sleep(10)
}

function isRunning(pid: number): boolean {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8')
    return !stat.slice(stat.lastIndexOf(')') + 2).startsWith('Z')
  } catch {
    return false // ended and reaped
  }
}

async function untilOk(url: string, child: ChildProcess): Promise<void> {
  for (const endMs = performance.now() + READY_MS_MAX; performance.now() < endMs; ) {
    if (child.exitCode !== null) throw new Error(`the process ended with ${child.exitCode} before it was ready`)
    const isOk = await fetch(url).then(
      (response) => response.ok,
      () => false, // it does not listen yet
    )
    if (isOk) return
    await sleep(50)
  }
  throw new Error(`${url} was not ready within ${READY_MS_MAX} ms`)
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
