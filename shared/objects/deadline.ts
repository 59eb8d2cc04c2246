// The time that a call has left, over all its steps.
import type { Clock } from '../base/clock.ts'
import { UnavailableError } from '../base/errors.ts'
import type { ObjectCall } from './port.ts'

export class Deadline {
  readonly signal: AbortSignal | undefined
  readonly #clock: Clock
  readonly #endMs: number
  readonly #what: string

  constructor(clock: Clock, call: ObjectCall, what: string) {
    this.#clock = clock
    this.#endMs = clock.monotonic() + call.timeoutMs
    this.#what = what
    this.signal = call.signal
  }

  /** Milliseconds, at least 1; throws when there are none, or the caller wants no more. */
  left(): number {
    this.signal?.throwIfAborted()
    const leftMs = Math.floor(this.#endMs - this.#clock.monotonic())
    if (leftMs < 1) throw this.error()
    return leftMs
  }

  /** What `answer` brings, if it comes in time; it goes on by itself when it does not. */
  within<T>(answer: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      answer.catch(() => undefined) // nobody may be left to hear it
      const leftMs = this.left()
      const end = (settle: () => void) => {
        timer.cancel()
        this.signal?.removeEventListener('abort', onAbort)
        settle()
      }
      const onAbort = () => end(() => reject(this.signal?.reason))
      const timer = this.#clock.after(leftMs, () => end(() => reject(this.error())))
      this.signal?.addEventListener('abort', onAbort, { once: true })
      answer.then(
        (value) => end(() => resolve(value)),
        (error) => end(() => reject(error)),
      )
    })
  }

  error(cause?: unknown): UnavailableError {
    return new UnavailableError('objects-timeout', `${this.#what}: no answer in time`, { cause })
  }
}
