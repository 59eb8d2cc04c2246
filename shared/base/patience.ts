// Does again what cannot be done for a while: a leader is being elected, a connection comes back. Only for what may be done twice.
import { type Clock, sleep } from './clock.ts'
import { UnavailableError } from './errors.ts'

export interface Patience {
  readonly clock: Clock
  /** No try begins later than this. */
  readonly withinMs: number
  /** Between the end of a try and the next. */
  readonly pauseMs?: number
  /** Which failures may pass; every UnavailableError unless told. */
  readonly mayPass?: (error: UnavailableError) => boolean
  readonly onFailure?: (error: UnavailableError) => void
  readonly signal?: AbortSignal
}

const PAUSE_MS = 250

/** Rejects with the last failure when the time is over, and at once with one that will not pass. */
export async function patiently<T>(operation: () => Promise<T>, patience: Patience): Promise<T> {
  const { clock, withinMs, pauseMs = PAUSE_MS, mayPass = () => true, onFailure, signal } = patience
  const endMs = clock.monotonic() + withinMs
  for (;;) {
    try {
      return await operation()
    } catch (error) {
      const isPassing = error instanceof UnavailableError && mayPass(error)
      if (!isPassing || clock.monotonic() + pauseMs > endMs) throw error
      onFailure?.(error)
    }
    await sleep(clock, pauseMs, signal)
  }
}
