// Work on many things, each in a lane of its own: what fails or hangs for one of them holds up no other.
//
// Invariants
//   LANE-1  In one lane one task is at work; what comes meanwhile is not begun, whoever comes by its clock will come again.
//   LANE-2  After a failure the lane rests, the longer the more of them came in a row.
//   LANE-3  Only failures of the outside (the error families) are borne. Anything else is a bug, and thrown to whoever begins something next.
import type { Clock } from './clock.ts'
import { CarillonError } from './errors.ts'

export interface LanesOptions {
  readonly clock: Clock
  readonly onFailure: (lane: string, error: CarillonError) => void
  /** The rest after the first failure, and the longest. */
  readonly restMs?: number
  readonly restMsMax?: number
}

const REST_MS = 500
const REST_MS_MAX = 5_000

interface Failing {
  readonly count: number
  readonly untilMs: number
}

export class Lanes {
  readonly #options: LanesOptions
  readonly #atWork = new Map<string, Promise<void>>()
  readonly #failing = new Map<string, Failing>()
  #bug: { readonly error: unknown } | undefined

  constructor(options: LanesOptions) {
    this.#options = options
  }

  /** Begins the task, unless the lane is at work (LANE-1) or rests (LANE-2). Resolves when whatever is at work there has ended, well or not. */
  begin(lane: string, task: () => Promise<unknown>): Promise<void> {
    this.#throwBug()
    const before = this.#atWork.get(lane)
    if (before !== undefined) return before
    const { clock } = this.#options
    if (clock.monotonic() < (this.#failing.get(lane)?.untilMs ?? 0)) return Promise.resolve()
    const run = this.#run(lane, task).finally(() => this.#atWork.delete(lane))
    this.#atWork.set(lane, run)
    return run
  }

  /** Whether the newest task that ended here has failed. */
  isFailing(lane: string): boolean {
    return this.#failing.has(lane)
  }

  /** Resolves when nothing is at work. */
  async idle(): Promise<void> {
    while (this.#atWork.size > 0) await Promise.all(this.#atWork.values())
    this.#throwBug()
  }

  async #run(lane: string, task: () => Promise<unknown>): Promise<void> {
    try {
      await task()
      this.#failing.delete(lane)
    } catch (error) {
      if (!(error instanceof CarillonError)) {
        this.#bug ??= { error } // LANE-3
        return
      }
      const { clock, restMs = REST_MS, restMsMax = REST_MS_MAX } = this.#options
      const count = (this.#failing.get(lane)?.count ?? 0) + 1
      const pauseMs = Math.min(restMsMax, restMs * 2 ** Math.min(count - 1, 20))
      this.#failing.set(lane, { count, untilMs: clock.monotonic() + pauseMs })
      this.#options.onFailure(lane, error)
    }
  }

  #throwBug(): void {
    const bug = this.#bug
    this.#bug = undefined
    if (bug !== undefined) throw bug.error
  }
}
