// Waiting for a sign of somebody else's life.
import type { Clock, Timer } from './clock.ts'

const PARTS = 4

/** Calls `fn` after so long. It is counted in parts, each with a turn in which messages come: a process that stood still itself hears what has come
 *  meanwhile before it calls somebody silent. */
export function afterSilence(clock: Clock, silenceMs: number, fn: () => void): Timer {
  let timer: Timer
  const part = (left: number) => {
    timer = clock.after(silenceMs / PARTS, () => (left === 1 ? fn() : part(left - 1)))
  }
  part(PARTS)
  return { cancel: () => timer.cancel() }
}
