// Sends what an attacker would to a running system, one after the other, while a quiet tenant writes and reads; then looks whether what that
// tenant wrote is all there, and whether every process lives and has not grown.
//
// Invariants
//   ATTACK-1  Each attack is answered as its table says, within its time.
//   ATTACK-2  What the quiet tenant was told to be stored is read, each value once; its small reads are answered, each within QUIET_READ_MS_MAX.
//   ATTACK-3  No log is damaged, the door is ready; no process has ended, none holds more than GROWN_BYTES_MAX more than before.
import { textOf } from '../../shared/base/errors.ts'
import { partitionsOf } from '../cluster/check.ts'
import { ask, pushUntilTaken, sample } from '../cluster/client.ts'
import { residentBytes } from '../cluster/processes.ts'
import { pidOf, type Ready, type System } from '../cluster/system.ts'

export interface Target {
  readonly url: string
  readonly port: number
  readonly ready: Ready
}

export interface Attack {
  readonly name: string
  /** What went wrong. */
  run(target: Target): Promise<string | undefined>
}

export interface AttackOutcome {
  readonly faults: readonly string[]
  readonly counts: { attacks: number; written: number; reads: number; slowestReadMs: number }
}

const QUIET_MS = 200
const ATTACK_MS_MAX = 60_000
const GROWN_BYTES_MAX = 400 * 1024 * 1024
const READ_MS_MAX = 10_000
/** 250 on a calm machine (test/cluster/fair-queries.test.ts). */
const QUIET_READ_MS_MAX = 3_000

export async function runAttack(
  system: System,
  attacks: readonly Attack[],
  say: (text: string) => void,
): Promise<AttackOutcome> {
  const target = { url: system.url, port: Number(new URL(system.url).port), ready: system.ready }
  const faults: string[] = []
  const before = useOf(system)
  const quiet = startQuiet(system.url, faults)
  for (const attack of attacks) {
    const fromMs = performance.now()
    const fault = await within(attack, target)
    say(`${attack.name}: ${fault ?? 'as it should'} (${Math.round(performance.now() - fromMs)} ms)`)
    if (fault !== undefined) faults.push(`${attack.name}: ${fault}`) // ATTACK-1
  }
  const counts = { attacks: attacks.length, ...(await quiet.stop()) }
  const ready = await fetch(`${system.url}/-/ready`, { signal: AbortSignal.timeout(READ_MS_MAX) })
  if (ready.status !== 200) faults.push(`the door is not ready: ${await ready.text()}`) // ATTACK-3
  const { partitions } = await partitionsOf(system.url)
  for (const { damage } of partitions.flatMap(({ owners }) => owners))
    if (damage.length > 0) faults.push(`a log is damaged: ${damage.join()}`)
  for (const [id, { pid, bytes }] of useOf(system)) {
    const was = before.get(id)
    if (was === undefined) continue
    if (was.pid !== pid) faults.push(`${id} has ended and was started again`)
    const grown = bytes - was.bytes
    if (grown > GROWN_BYTES_MAX) faults.push(`${id} holds ${Math.round(grown / 1e6)} MB more than before`)
  }
  return { faults, counts }
}

async function within(attack: Attack, target: Target): Promise<string | undefined> {
  const late = Promise.withResolvers<string>()
  const timer = setTimeout(() => late.resolve(`not over after ${ATTACK_MS_MAX} ms`), ATTACK_MS_MAX)
  try {
    return await Promise.race([attack.run(target), late.promise])
  } catch (error) {
    return textOf(error)
  } finally {
    clearTimeout(timer)
  }
}

/** One sample of its own series at a time, and a small read. */
function startQuiet(url: string, faults: string[]) {
  const written: number[] = []
  let reads = 0
  let slowestReadMs = 0
  let isStopping = false
  const working = work()
  return {
    async stop() {
      isStopping = true
      await working
      const { status, body } = await ask(
        url,
        '/api/v1/query',
        { query: 'quiet' },
        { tenant: 'quiet', consistency: 'strong' },
      )
      const values =
        status === 200 ? (body.data.result as { value: [number, string] }[]).map(({ value }) => Number(value[1])) : []
      const found = values.sort((a, b) => a - b).join()
      if (found !== written.join())
        faults.push(`the quiet tenant wrote ${written.length} samples, and reads ${values.length}`) // ATTACK-2
      return { written: written.length, reads, slowestReadMs: Math.round(slowestReadMs) }
    },
  }

  async function work(): Promise<void> {
    for (let value = 0; !isStopping; value++) {
      try {
        const pushed = await pushUntilTaken(
          url,
          { series: [sample('quiet', value, ['n', String(value)])] },
          { tenant: 'quiet' },
        )
        if (pushed.status === 204) written.push(value)
        else faults.push(`the quiet tenant was answered ${pushed.status} ${pushed.text}`)
        const fromMs = performance.now()
        const { status } = await ask(
          url,
          '/api/v1/query',
          { query: 'vector(1)' },
          { tenant: 'quiet', timeoutMs: READ_MS_MAX },
        )
        const tookMs = performance.now() - fromMs
        slowestReadMs = Math.max(slowestReadMs, tookMs)
        if (tookMs > QUIET_READ_MS_MAX) faults.push(`a read of the quiet tenant took ${Math.round(tookMs)} ms`)
        if (status !== 200) faults.push(`a read of the quiet tenant was answered ${status}`)
        reads++
      } catch (error) {
        faults.push(`the quiet tenant: ${textOf(error)}`)
      }
      await new Promise((resolve) => setTimeout(resolve, QUIET_MS))
    }
  }
}

/** By id. */
function useOf(system: System): Map<string, { pid: number; bytes: number }> {
  return new Map(
    system.ready.processes
      .filter(({ role }) => role !== 'nats-server')
      .map(({ id }) => {
        const pid = pidOf(system, id)
        return [id, { pid, bytes: residentBytes(pid) }]
      }),
  )
}
