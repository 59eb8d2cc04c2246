// Processes of a running system: found under its launcher, killed by their ids, waited for.
import { readdirSync, readFileSync } from 'node:fs'
import { until } from '../waiting.ts'
import { pidOf, type System } from './system.ts'

const GONE_MS_MAX = 20_000
const STILL_MS_MAX = 10_000

/** The launcher and everything it has started, parents first. */
export function processesOf(system: System): number[] {
  const children = new Map<number, number[]>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const parent = parentOf(Number(name))
    if (parent !== undefined) children.set(parent, [...(children.get(parent) ?? []), Number(name)])
  }
  const found = system.launcher.pid === undefined ? [] : [system.launcher.pid]
  for (let i = 0; i < found.length; i++) found.push(...(children.get(found[i]!) ?? []))
  return found
}

/** kill -9 of the launcher and all it has started; resolves when all are gone. */
export async function killEverything(system: System): Promise<void> {
  const pids = processesOf(system)
  for (const pid of pids) signal(pid, 'SIGKILL')
  await gone(pids)
}

/** kill -9 of one actor, or of the nats-server (`nats`). */
export function killOne(system: System, id: string): void {
  signal(pidOf(system, id), 'SIGKILL')
}

/** Sends a signal to a process that may have ended. */
export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
  }
}

/** Stops a process until SIGCONT; resolves when all of its threads stand still: the signal is sent long before, on a busy machine. */
export async function freeze(pid: number): Promise<void> {
  signal(pid, 'SIGSTOP')
  const isStill = () => readdirSync(`/proc/${pid}/task`).every((thread) => statOf(`${pid}/task/${thread}`)?.[0] === 'T')
  await until(`process ${pid} stands still`, isStill, STILL_MS_MAX)
}

/** Resident memory of a process, bytes. */
export function residentBytes(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024
}

async function gone(pids: readonly number[]): Promise<void> {
  await until(`processes ${pids.join(' ')} are gone`, () => pids.every((pid) => !isThere(pid)), GONE_MS_MAX)
}

/** One that has ended and waits to be collected does not count. */
function isThere(pid: number): boolean {
  const state = statOf(String(pid))?.[0]
  return state !== undefined && state !== 'Z' && state !== 'X'
}

function parentOf(pid: number): number | undefined {
  const parent = statOf(String(pid))?.[1]
  return parent === undefined ? undefined : Number(parent)
}

/** The fields of /proc/<of>/stat behind the name. */
function statOf(of: string): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${of}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  } catch {
    return undefined // it ended meanwhile
  }
}
