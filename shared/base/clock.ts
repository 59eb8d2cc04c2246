// Time comes in by the door: actors are given a clock, and the simulation gives them one it controls.
import { uptime } from 'node:os'

export interface Timer {
  cancel(): void
}

export interface Clock {
  /** Wall time in milliseconds since 1970. May jump. */
  now(): number
  /** Milliseconds since some start; never jumps and never runs back. Stands still while the machine is suspended. */
  monotonic(): number
  /** As `monotonic`, but goes on while the machine is suspended, in steps of 10 ms: for what others have counted meanwhile. Costs some 10 µs. */
  uptime(): number
  /** Calls `fn` once after `delayMs`. */
  after(delayMs: number, fn: () => void): Timer
  /** Calls `fn` once what came in meanwhile was looked at, and timers were that are due. */
  turn(fn: () => void): void
}

/** Resolves after `delayMs`; rejects with the signal's reason as soon as that aborts. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason)
    const onAbort = () => {
      timer.cancel()
      reject(signal?.reason)
    }
    const timer = clock.after(delayMs, () => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    })
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}

/** What one timer of Node can wait, 24 days: one that is to wait longer fires at once. */
const TIMEOUT_MS_MAX = 2 ** 31 - 1

/** The machine's own clock. Its timers keep a process alive only while something else does. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  uptime: () => uptime() * 1000,
  after(delayMs, fn) {
    let timer: NodeJS.Timeout
    const wait = (leftMs: number) => {
      const isLast = leftMs <= TIMEOUT_MS_MAX
      timer = setTimeout(isLast ? fn : () => wait(leftMs - TIMEOUT_MS_MAX), Math.min(leftMs, TIMEOUT_MS_MAX))
    }
    wait(delayMs)
    return { cancel: () => clearTimeout(timer) }
  },
  turn: (fn) => void setImmediate(fn),
}
