// How fast a log becomes heads again: the ingester is killed and started by its supervisor, and what its new process has used when
// it rests is what reading the log costs. The start of a process over an empty log is measured before and taken off.
import { setTimeout as sleep } from 'node:timers/promises'
import { ingest } from './ingest.ts'
import { treeCpuSeconds, untilIdle } from './process-tree.ts'
import type { CarillonTarget } from './target.ts'
import type { Workload } from './workload.ts'

export interface ReplayFigures {
  readonly seriesCount: number
  readonly scrapeCount: number
  /** Of the process from its start until it rested, that of an empty one taken off. */
  readonly cpuSeconds: number
  readonly emptyCpuSeconds: number
  /** From the kill until the last 50 ms in which it did work worth mention. */
  readonly seconds: number
  readonly samplesPerCpuSecond: number
}

const INGESTER = 'ingester-1'
const RESTART_MS_MAX = 30_000
const REPLAY_MS_MAX = 120_000
/** Asking costs the ingester a few milliseconds. */
const ASK_MS = 1_000
const LOOK_MS = 50
const BUSY_SHARE = 0.4

export async function measureReplay(
  target: CarillonTarget,
  workload: Workload,
  folder: string,
): Promise<ReplayFigures> {
  const empty = await restarted(target, 0)
  await ingest(target, workload, 0, folder)
  const full = await restarted(target, workload.sampleCount)
  const cpuSeconds = full.cpuSeconds - empty.cpuSeconds
  return {
    seriesCount: workload.seriesCount,
    scrapeCount: workload.scrapeCount,
    cpuSeconds,
    emptyCpuSeconds: empty.cpuSeconds,
    seconds: full.seconds,
    samplesPerCpuSecond: workload.sampleCount / cpuSeconds,
  }
}

/** Kills the ingester and resolves when the next one has applied so many samples and rests. */
async function restarted(
  target: CarillonTarget,
  sampleCount: number,
): Promise<{ cpuSeconds: number; seconds: number }> {
  const before = target.actorPid(INGESTER)
  process.kill(before, 'SIGKILL')
  const startMs = performance.now()
  const pid = await nextPid(target, before)
  let busyMs = startMs
  let seen = 0
  const watch = setInterval(() => {
    const now = treeCpuSeconds(pid)
    if (now - seen >= (BUSY_SHARE * LOOK_MS) / 1000) busyMs = performance.now()
    seen = now
  }, LOOK_MS)
  try {
    for (const endMs = startMs + REPLAY_MS_MAX; (await samplesApplied(target)) < sampleCount; await sleep(ASK_MS)) {
      if (performance.now() > endMs) throw new Error(`not all of ${sampleCount} samples within ${REPLAY_MS_MAX} ms`)
    }
    const cpuSeconds = await untilIdle(pid, target.idleShareMax)
    return { cpuSeconds, seconds: (busyMs - startMs) / 1000 }
  } finally {
    clearInterval(watch)
  }
}

async function nextPid(target: CarillonTarget, before: number): Promise<number> {
  for (const endMs = performance.now() + RESTART_MS_MAX; performance.now() < endMs; await sleep(5)) {
    const pid = runningPid(target)
    if (pid !== undefined && pid !== before) return pid
  }
  throw new Error(`${INGESTER} did not come back within ${RESTART_MS_MAX} ms`)
}

function runningPid(target: CarillonTarget): number | undefined {
  try {
    return target.actorPid(INGESTER)
  } catch {
    return undefined // between the two
  }
}

async function samplesApplied(target: CarillonTarget): Promise<number> {
  const text = await (await fetch(`${target.queryUrl()}/metrics`)).text()
  const lines = text.matchAll(/^carillon_ingester_samples_applied(?:\{[^}]*\})? (\S+)/gm)
  return Array.from(lines, ([, value]) => Number(value)).reduce((sum, value) => sum + value, 0)
}
