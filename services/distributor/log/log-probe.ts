// Whether the logs answer, for whoever asks what this distributor lacks: a log that is gone, or has no leader, takes nothing.
//
// Invariants
//   PROBE-1  However many ask, there is one look at a time, a look is not repeated sooner than `pauseMs`, and it is over within `ASK_MS_MAX`.
//   PROBE-2  A log without an answer is believed for `SILENT_MS_MAX` after its last one: an election of a leader delays writes, it refuses none.
import { type Clock, sleep } from '../../../shared/base/clock.ts'
import { textOf, UnavailableError } from '../../../shared/base/errors.ts'
import type { LogStore } from '../../../shared/bus/port.ts'
import { logName } from '../../../shared/contracts/log.ts'

const ASK_MS_MAX = 600
const SILENT_MS_MAX = 5_000
const PAUSE_MS_MIN = 1_000
/** Many logs are looked at less often: at most a hundred questions a second. */
const PAUSE_MS_PER_LOG = 10

export class LogProbe {
  readonly #logs: Pick<LogStore, 'state'>
  readonly #clock: Clock
  readonly #seenAtMs: number[] = []
  readonly #failures: string[] = []
  #looking: Promise<void> | undefined
  #lookedAtMs = Number.NEGATIVE_INFINITY

  constructor({ logs, clock }: { readonly logs: Pick<LogStore, 'state'>; readonly clock: Clock }) {
    this.#logs = logs
    this.#clock = clock
  }

  /** In words, what is wrong with the first `count` logs. */
  async lacks(count: number): Promise<readonly string[]> {
    const pauseMs = Math.max(PAUSE_MS_MIN, count * PAUSE_MS_PER_LOG)
    if (this.#clock.monotonic() - this.#lookedAtMs >= pauseMs || this.#seenAtMs.length < count) {
      this.#looking ??= this.#look(count).finally(() => {
        this.#looking = undefined
      })
    }
    await this.#looking
    return Array.from({ length: count }, (_, partition) => this.#lackOf(partition)).filter((lack) => lack !== undefined)
  }

  async #look(count: number): Promise<void> {
    this.#lookedAtMs = this.#clock.monotonic()
    const enough = new AbortController()
    const late = sleep(this.#clock, ASK_MS_MAX, enough.signal).then(
      () => {
        throw new UnavailableError('bus-timeout', `no answer within ${ASK_MS_MAX} ms`)
      },
      () => undefined,
    )
    late.catch(() => undefined) // told where it is raced
    await Promise.all(Array.from({ length: count }, (_, partition) => this.#lookAt(partition, late)))
    enough.abort()
  }

  async #lookAt(partition: number, late: Promise<undefined>): Promise<void> {
    this.#seenAtMs[partition] ??= Number.NEGATIVE_INFINITY
    try {
      await Promise.race([this.#logs.state(logName(partition)), late])
      this.#seenAtMs[partition] = this.#clock.monotonic()
    } catch (error) {
      this.#failures[partition] = textOf(error)
    }
  }

  /** PROBE-2 */
  #lackOf(partition: number): string | undefined {
    const silentMs = this.#clock.monotonic() - this.#seenAtMs[partition]!
    if (silentMs <= SILENT_MS_MAX) return undefined
    return `the log of partition ${partition} does not answer (${this.#failures[partition]}): it is gone, or its nats-servers elect no leader`
  }
}
