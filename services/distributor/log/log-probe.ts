// Whether the logs answer, for whoever asks what this distributor lacks: a log that is gone, or has no leader, takes nothing.
//
// Invariants
//   V1  However many ask, there is one look at a time, a look is not repeated sooner than `pauseMs`, and it is over within `ASK_MS_MAX`.
//   V2  A log without an answer is believed for `SILENT_MS_MAX` after its last one: an election of a leader delays writes, it refuses none.
import { type Clock, sleep } from '../../../shared/base/clock.ts'
import { textOf, UnavailableError } from '../../../shared/base/errors.ts'
import type { LogStore } from '../../../shared/bus/port.ts'
import { logName } from '../../../shared/contracts/log.ts'

const ASK_MS_MAX = 600
const SILENT_MS_MAX = 5_000
const PAUSE_MS_MIN = 1_000
/** Many logs are looked at less often: at most a hundred questions a second. */
const PAUSE_MS_PER_LOG = 10

export interface LogProbe {
  /** In words, what is wrong with the first `count` logs. */
  lacks(count: number): Promise<readonly string[]>
}

export function createLogProbe({
  logs,
  clock,
}: {
  readonly logs: Pick<LogStore, 'state'>
  readonly clock: Clock
}): LogProbe {
  const seenAtMs: number[] = []
  const failures: string[] = []
  let looking: Promise<void> | undefined
  let lookedAtMs = Number.NEGATIVE_INFINITY

  return {
    async lacks(count) {
      const pauseMs = Math.max(PAUSE_MS_MIN, count * PAUSE_MS_PER_LOG)
      if (clock.monotonic() - lookedAtMs >= pauseMs || seenAtMs.length < count) {
        looking ??= look(count).finally(() => {
          looking = undefined
        })
      }
      await looking
      return Array.from({ length: count }, (_, partition) => lackOf(partition)).filter((lack) => lack !== undefined)
    },
  }

  async function look(count: number): Promise<void> {
    lookedAtMs = clock.monotonic()
    const enough = new AbortController()
    const late = sleep(clock, ASK_MS_MAX, enough.signal).then(
      () => {
        throw new UnavailableError('bus-timeout', `no answer within ${ASK_MS_MAX} ms`)
      },
      () => undefined,
    )
    late.catch(() => undefined) // told where it is raced
    await Promise.all(Array.from({ length: count }, (_, partition) => lookAt(partition, late)))
    enough.abort()
  }

  async function lookAt(partition: number, late: Promise<undefined>): Promise<void> {
    seenAtMs[partition] ??= Number.NEGATIVE_INFINITY
    try {
      await Promise.race([logs.state(logName(partition)), late])
      seenAtMs[partition] = clock.monotonic()
    } catch (error) {
      failures[partition] = textOf(error)
    }
  }

  /** V2 */
  function lackOf(partition: number): string | undefined {
    const silentMs = clock.monotonic() - seenAtMs[partition]!
    if (silentMs <= SILENT_MS_MAX) return undefined
    return `the log of partition ${partition} does not answer (${failures[partition]}): it is gone, or its nats-servers elect no leader`
  }
}
