// A process id is used again after its process has ended; with the time of its start it names one process for good.
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'

export interface ProcessIdentity {
  readonly pid: number
  /** When it started, in the words of the system: only good for comparing. */
  readonly started: string
}

/** The process that has this id now, if any. A process that has ended and only waits to be collected does not count. */
export function identityOf(pid: number): ProcessIdentity | undefined {
  const started = process.platform === 'linux' ? startedOnLinux(pid) : startedByPs(pid)
  return started === undefined ? undefined : { pid, started }
}

export function isRunning(identity: ProcessIdentity): boolean {
  return identityOf(identity.pid)?.started === identity.started
}

/** Ends a process that need not be our child: SIGTERM, and SIGKILL after `waitMs`. Resolves when it is gone. */
export async function endProcess(identity: ProcessIdentity, waitMs: number): Promise<'ended' | 'killed'> {
  if (await signalled(identity, 'SIGTERM', waitMs)) return 'ended'
  if (!(await signalled(identity, 'SIGKILL', 5_000))) throw new Error(`process ${identity.pid} cannot be killed`)
  return 'killed'
}

async function signalled(identity: ProcessIdentity, signal: 'SIGTERM' | 'SIGKILL', waitMs: number): Promise<boolean> {
  if (!isRunning(identity)) return true
  process.kill(identity.pid, signal)
  const deadline = performance.now() + waitMs
  while (performance.now() < deadline) {
    if (!isRunning(identity)) return true
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return !isRunning(identity)
}

/** Field 22 of /proc/<pid>/stat, in ticks since the boot that has this id. */
function startedOnLinux(pid: number): string | undefined {
  const stat = readIfThere(`/proc/${pid}/stat`)
  if (stat === undefined) return undefined
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ') // the name in parentheses may hold spaces
  if (fields[0] === 'Z' || fields[0] === 'X') return undefined
  const boot = readIfThere('/proc/sys/kernel/random/boot_id')?.trim() ?? ''
  return `${boot}/${fields[19]}`
}

function startedByPs(pid: number): string | undefined {
  const { stdout } = spawnSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8' })
  return stdout?.trim() || undefined
}

function readIfThere(file: string): string | undefined {
  try {
    return fs.readFileSync(file, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ESRCH'))
      return undefined
    throw error
  }
}
