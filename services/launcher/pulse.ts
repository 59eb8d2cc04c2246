// Whether the event loop of a child still turns. The child says so every second over its channel; whoever watches it counts the silence.
//
// Invariants
//   PULSE-1  A child whose loop stands for longer than `hungAfterMs` is told of once: nothing that it was asked can be answered any more.
//   PULSE-2  Silence counts only while the watcher itself looks. A machine that was suspended, a launcher that was stopped or got no CPU, hears
//       nothing either: a look that comes late counts as one that was due.
//   PULSE-3  A watcher that does not read makes nothing pile up: the next word is said when the last one has gone.
import type { Clock, Timer } from '../../shared/base/clock.ts'

const SAID_EVERY_MS = 1_000
const LOOK_MS = 500

/** Says over `send` that this process's loop turns, for as long as it lives. */
export function sayAlive(clock: Clock, send: (message: object, onSent: () => void) => void): void {
  let isOnTheWay = false
  const say = () => {
    clock.after(SAID_EVERY_MS, say)
    if (isOnTheWay) return // PULSE-3
    isOnTheWay = true
    send({ type: 'alive' }, () => {
      isOnTheWay = false
    })
  }
  say()
}

export interface Pulse {
  /** The child was heard. */
  heard(): void
  stop(): void
}

export function watchPulse({
  clock,
  hungAfterMs,
  onHung,
}: {
  readonly clock: Clock
  readonly hungAfterMs: number
  readonly onHung: (silentMs: number) => void
}): Pulse {
  let silentMs = 0
  let lookedAtMs = clock.monotonic()
  let next: Timer = clock.after(LOOK_MS, look)
  return {
    heard() {
      silentMs = 0
    },
    stop: () => next.cancel(),
  }

  function look(): void {
    const nowMs = clock.monotonic()
    silentMs += Math.min(nowMs - lookedAtMs, 2 * LOOK_MS) // PULSE-2
    lookedAtMs = nowMs
    if (silentMs > hungAfterMs) return onHung(silentMs) // PULSE-1
    next = clock.after(LOOK_MS, look)
  }
}
