// One soak of a running system: writing, checking, and a look at every process' memory now and then.
import { setTimeout as sleep } from 'node:timers/promises'
import { residentBytes } from '../cluster/processes.ts'
import { pidOf, type System } from '../cluster/system.ts'
import { type SoakCounts, Soaker, type SoakOptions } from './soaker.ts'

export interface RunOptions extends Omit<SoakOptions, 'url'> {
  readonly minutes: number
  readonly checkPauseMs: number
}

export interface SoakOutcome {
  readonly counts: SoakCounts
  readonly text: string
  readonly isRight: boolean
  /** Actors that ended and were started again. */
  readonly restarted: readonly string[]
}

interface Look {
  readonly minutes: number
  readonly bytes: number
}

const LOOKS = 60
const MIB = 1024 * 1024

export async function runSoak(system: System, options: RunOptions): Promise<SoakOutcome> {
  const soaker = new Soaker({ ...options, url: system.url })
  const { counts } = soaker
  await soaker.backfill()
  const ids = [...system.ready.processes.filter(({ role }) => role !== 'nats-server').map(({ id }) => id), 'nats']
  const pids = new Map(ids.map((id) => [id, pidOf(system, id)]))
  const memory = new Map<string, Look[]>(ids.map((id) => [id, []]))
  const heaps = new Map<string, Look[]>()
  const restarted = new Set<string>()
  const stopping = new AbortController()
  const working = Promise.all([soaker.write(stopping.signal), soaker.check(stopping.signal, options.checkPauseMs)])
  const startMs = performance.now()
  const lengthMs = options.minutes * 60_000
  for (let look = 1; look <= LOOKS; look++) {
    await Promise.race([sleep((look / LOOKS) * lengthMs - (performance.now() - startMs)), working]) // a fault of the soak itself ends it
    for (const id of ids) {
      const pid = pidNow(system, id)
      if (pid === undefined || pid !== pids.get(id)) restarted.add(id)
      if (pid === undefined) continue
      pids.set(id, pid)
      memory.get(id)!.push({ minutes: (performance.now() - startMs) / 60_000, bytes: residentBytes(pid) })
    }
    const minutes = (performance.now() - startMs) / 60_000
    for (const [id, bytes] of await heapsOf(system)) heaps.set(id, [...(heaps.get(id) ?? []), { minutes, bytes }])
    if (look % 6 === 0) options.say(lineOf(counts))
  }
  stopping.abort()
  await working
  const lines = [lineOf(counts), ...counts.failures.map((text) => `wrong: ${text}`)]
  for (const [id, looks] of memory) lines.push(memoryLine(`${id}, resident`, looks))
  for (const [id, looks] of heaps) lines.push(memoryLine(`${id}, heap`, looks))
  for (const id of restarted) lines.push(`${id} ended and was started again`)
  const isRight = counts.failureCount === 0 && counts.checks > 0 && restarted.size === 0
  return { counts, text: lines.join('\n'), isRight, restarted: [...restarted] }
}

/** Bytes of JavaScript heap in use, as each actor tells. */
async function heapsOf(system: System): Promise<[string, number][]> {
  const text = await fetch(`${system.url}/metrics`).then(
    (response) => response.text(),
    () => '', // the gateway does not answer now
  )
  const lines = text.split('\n').filter((line) => line.startsWith('nodejs_heap_size_used_bytes{'))
  return lines.map((line) => [/id="([^"]*)"/.exec(line)?.[1] ?? '?', Number(line.slice(line.lastIndexOf(' ') + 1))])
}

function pidNow(system: System, id: string): number | undefined {
  try {
    return pidOf(system, id)
  } catch {
    return undefined // it does not run: it is started again soon
  }
}

function lineOf({
  ticks,
  samples,
  resent,
  checks,
  valuesCompared,
  failureCount,
  unanswered,
  slowestCheckMs,
}: SoakCounts) {
  const written = `${ticks} ticks, ${samples} samples written (${resent} pushes again)`
  const read = `${checks} queries, ${valuesCompared} values compared, ${failureCount} wrong, ${unanswered} unanswered`
  return `${written}; ${read}, slowest check ${Math.round(slowestCheckMs)} ms`
}

/** The slope over the second half: what grows without end is seen there, what fills up at the start is not. */
function memoryLine(id: string, looks: readonly Look[]): string {
  const half = looks.slice(looks.length >> 1)
  const mean = (read: (look: Look) => number) =>
    half.reduce((sum, look) => sum + read(look), 0) / Math.max(1, half.length)
  const [x, y] = [mean(({ minutes }) => minutes), mean(({ bytes }) => bytes)]
  const over = half.reduce((sum, { minutes, bytes }) => sum + (minutes - x) * (bytes - y), 0)
  const under = half.reduce((sum, { minutes }) => sum + (minutes - x) ** 2, 0)
  const perHour = under === 0 ? 0 : (over / under) * 60
  const at = (look: Look | undefined) => `${Math.round((look?.bytes ?? 0) / MIB)}`
  return `${id.padEnd(28)} MiB: ${at(looks[0])} at first, ${at(looks.at(-1))} at the end, ${(perHour / MIB).toFixed(1)} per hour in the second half`
}
