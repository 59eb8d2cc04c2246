// What a member does at every heartbeat: says that it lives, forgets who does not, opens what was added. Sooner again after a failure.
import type { Clock } from '../base/clock.ts'
import type { Hearing } from './hearing.ts'
import { BEAT_RETRY_MS, type Heartbeat } from './heartbeat.ts'
import type { Opening } from './opening.ts'

export interface RoundsDeps {
  readonly clock: Clock
  readonly heartbeatMs: number
  readonly heartbeat: Heartbeat
  readonly hearing: Hearing
  readonly opening: Opening
}

export class Rounds {
  readonly #deps: RoundsDeps

  constructor(deps: RoundsDeps) {
    this.#deps = deps
  }

  /** Until the member has left. */
  start(): void {
    this.#schedule(this.#deps.heartbeatMs)
  }

  #schedule(afterMs: number): void {
    const { clock, heartbeat } = this.#deps
    clock.after(afterMs, () => {
      if (heartbeat.hasLeft) return
      void this.#go().then((pauseMs) => this.#schedule(pauseMs))
    })
  }

  /** Resolves with the pause before the next one. */
  async #go(): Promise<number> {
    const { heartbeatMs, heartbeat, hearing, opening } = this.#deps
    try {
      await heartbeat.beat()
      await hearing.forget()
      await opening.openAdded()
      return heartbeatMs
    } catch (error) {
      heartbeat.failed(error)
      return Math.min(heartbeatMs, BEAT_RETRY_MS)
    } finally {
      hearing.tell()
    }
  }
}
