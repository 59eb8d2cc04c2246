// Keeps asking the server how much an acknowledged write survives, and says no to writes when that is less than required.
//
// Invariants
//   DURABILITY-1  Between a lost connection and the next answer nothing is known: another server may be there now.
import { textOf, UnavailableError } from '../../shared/base/errors.ts'
import type { Bus, Durability, ServerFacts } from '../../shared/bus/port.ts'
import type { Log } from '../../shared/telemetry/log.ts'
import type { Metrics } from '../../shared/telemetry/metrics.ts'

export interface DurabilityGate {
  check(): Promise<void>
  /** undefined: the server has not said. */
  facts(): ServerFacts | undefined
  /** Throws UnavailableError `err-carillon-not-power-safe` when power-loss safety is required and not known to hold. */
  assertDurable(): void
  /** It no longer hears of the connection. */
  stop(): void
}

export interface DurabilityDeps {
  readonly bus: Bus
  readonly log: Log
  readonly metrics: Metrics
  readonly requirePowerSafe: boolean
}

export function createDurabilityGate({ bus, log, metrics, requirePowerSafe }: DurabilityDeps): DurabilityGate {
  let facts: ServerFacts | undefined
  let generation = 0
  metrics.gaugeOf(
    'carillon_gateway_durability',
    'What an acknowledged write survives, as the NATS server says: 1 for the class that holds.',
    () => [[{ class: facts?.durability ?? 'unknown' }, 1]],
    ['class'],
  )
  const connection = bus.onConnection((isConnected) => {
    facts = undefined // DURABILITY-1
    generation++
    if (isConnected) check().catch((error: unknown) => log.error({ error }, 'the durability check broke'))
  })
  return { check, facts: () => facts, assertDurable, stop: () => connection.stop() }

  async function check(): Promise<void> {
    const asked = generation
    let answer: ServerFacts | undefined
    try {
      answer = await bus.server()
    } catch (error) {
      log.warn({ reason: textOf(error) }, 'the server did not say how durable it is')
    }
    if (asked !== generation) return // DURABILITY-1: the answer belongs to a connection that is gone
    if (answer !== undefined && answer.durability !== facts?.durability) {
      log.info({ durability: answer.durability, reason: answer.durabilityReason }, 'durability of acknowledged writes')
    }
    facts = answer
  }

  function assertDurable(): void {
    if (!requirePowerSafe || facts?.durability === 'power-loss-safe') return
    const why = facts?.durabilityReason ?? 'the server has not answered yet'
    throw new UnavailableError(
      'err-carillon-not-power-safe',
      `writes are refused: --require-power-safe is set and durability is ${facts?.durability ?? 'unknown'} (${why})`,
    )
  }
}

/** For people: what each class means for a push that was answered 2xx. */
export const SURVIVES: Readonly<Record<Durability, string>> = {
  'power-loss-safe':
    'an acknowledged push survives crashes of every process and a power cut: the server syncs it to disk first',
  'process-crash-safe':
    'an acknowledged push survives crashes of every process, but a power cut may lose the last seconds or minutes',
  'best-effort': 'an acknowledged push is kept in memory only and may be lost with the server',
  unknown: 'the server did not say; expect no more than that an acknowledged push survives crashes of processes',
}
