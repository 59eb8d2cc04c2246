// What a process and all its descendants use, read from /proc.
import fs from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

const TICKS_PER_SECOND = 100
const PAGE_BYTES = 4096

export interface ProcessUse {
  readonly pid: number
  /** User and system seconds, those of ended children included. */
  readonly cpuSeconds: number
  readonly rssBytes: number
}

/** The process and its descendants; those that end meanwhile are left out. */
export function treeUse(root: number): ProcessUse[] {
  return treePids(root).flatMap((pid) => {
    const text = readProc(pid, 'stat')
    if (text === undefined) return []
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    const ticks = [11, 12, 13, 14].reduce((sum, at) => sum + Number(fields[at]), 0)
    return [{ pid, cpuSeconds: ticks / TICKS_PER_SECOND, rssBytes: Number(fields[21]) * PAGE_BYTES }]
  })
}

export function treePids(root: number): number[] {
  const pids = [root]
  for (const pid of pids) {
    const children = readProc(pid, `task/${pid}/children`)?.trim() ?? ''
    if (children !== '') pids.push(...children.split(' ').map(Number))
  }
  return pids
}

export function treeCpuSeconds(root: number): number {
  return treeUse(root).reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0)
}

/** Resident bytes of each process where a page that several share is shared out among them. */
export function proportionalBytes(pid: number): number {
  const text = readProc(pid, 'smaps_rollup')
  return Number(/^Pss:\s+(\d+) kB/m.exec(text ?? '')?.[1] ?? 0) * 1024
}

/** Waits until the tree uses less than `idleShareMax` of a core: everything taken in has been worked off. Resolves with the seconds it
 *  has used. */
export async function untilIdle(root: number, idleShareMax: number): Promise<number> {
  const windowMs = 500
  let calm = 0
  let before = treeCpuSeconds(root)
  for (let waits = 0; waits < 120; waits++) {
    await sleep(windowMs)
    const now = treeCpuSeconds(root)
    calm = now - before < (idleShareMax * windowMs) / 1000 ? calm + 1 : 0
    before = now
    if (calm === 3) return now
  }
  throw new Error('the processes did not become idle within a minute')
}

/** Watches the memory of a tree until stopped. */
export class MemoryWatch {
  private rssPeak = 0
  private pssPeak = 0
  private perProcess = new Map<number, number>()
  private readonly timer: NodeJS.Timeout
  private readonly root: number

  constructor(root: number, everyMs = 500) {
    this.root = root
    this.timer = setInterval(() => this.look(), everyMs)
    this.look()
  }

  /** Peaks of the sums, bytes, and the resident bytes of each process at the peak. */
  stop(): { rssBytes: number; pssBytes: number; perProcess: ReadonlyMap<number, number> } {
    clearInterval(this.timer)
    this.look()
    return { rssBytes: this.rssPeak, pssBytes: this.pssPeak, perProcess: this.perProcess }
  }

  private look(): void {
    const uses = treeUse(this.root)
    this.rssPeak = Math.max(
      this.rssPeak,
      uses.reduce((sum, { rssBytes }) => sum + rssBytes, 0),
    )
    const shares = new Map(uses.map(({ pid }) => [pid, proportionalBytes(pid)]))
    const pss = [...shares.values()].reduce((sum, bytes) => sum + bytes, 0)
    if (pss <= this.pssPeak) return
    this.pssPeak = pss
    this.perProcess = shares
  }
}

function readProc(pid: number, name: string): string | undefined {
  try {
    return fs.readFileSync(`/proc/${pid}/${name}`, 'utf8')
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT' || code === 'ESRCH') return undefined // it has ended
    throw error
  }
}
