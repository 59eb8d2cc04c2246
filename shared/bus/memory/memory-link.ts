// One direction of one connection of the memory bus: what is put in comes out in order, each after a delay drawn from the
// given chance, unless a fault says otherwise. Also the clock of a connection, which stops while the connection is paused.
import type { Clock, Timer } from '../../base/clock.ts'
import type { Random } from '../../base/random.ts'

export interface DelayRange {
  readonly minMs: number
  readonly maxMs: number
}

/** Draws from a range; a range of one value draws nothing, so that runs without faults use no chance. */
export function drawDelay(range: DelayRange, random: Random): number {
  return range.maxMs > range.minMs ? range.minMs + random.next() * (range.maxMs - range.minMs) : range.minMs
}

/** A clock whose timers wait while it is paused and fire when it goes on; the time itself keeps running. */
export class PausableClock implements Clock {
  readonly #clock: Clock
  #isPaused = false
  #isDead = false
  #due: (() => void)[] = []

  constructor(clock: Clock) {
    this.#clock = clock
  }

  now(): number {
    return this.#clock.now()
  }

  monotonic(): number {
    return this.#clock.monotonic()
  }

  uptime(): number {
    return this.#clock.uptime()
  }

  after(delayMs: number, fn: () => void): Timer {
    let isCancelled = false
    const fire = () => {
      if (isCancelled || this.#isDead) return
      if (this.#isPaused) this.#due.push(fire)
      else fn()
    }
    const timer = this.#clock.after(delayMs, fire)
    return {
      cancel() {
        isCancelled = true
        timer.cancel()
      },
    }
  }

  turn(fn: () => void): void {
    const take = () => {
      if (this.#isDead) return
      if (this.#isPaused) this.#due.push(take)
      else fn()
    }
    this.#clock.turn(take)
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    const due = this.#due
    this.#due = []
    for (const fire of due) this.#clock.after(0, fire)
  }

  /** No timer set on it fires any more. */
  kill(): void {
    this.#isDead = true
    this.#due = []
  }
}

export class Link {
  readonly #clock: Clock
  readonly #random: Random
  #queue: (() => void)[] = []
  #lastDueMs = 0
  #isPaused = false
  #owedCount = 0
  #isCut = false

  constructor(clock: Clock, random: Random) {
    this.#clock = clock
    this.#random = random
  }

  /** Carries `arrive` across. `reorder` lets it overtake what is still on the way. */
  send(delayMs: number, arrive: () => void, reorder = false): void {
    if (this.#isCut) return
    const nowMs = this.#clock.monotonic()
    this.#lastDueMs = Math.max(this.#lastDueMs, nowMs + delayMs)
    if (reorder) this.#queue.splice(this.#random.below(this.#queue.length + 1), 0, arrive)
    else this.#queue.push(arrive)
    // One timer per message, but each takes the head: order does not hang on how the clock orders equal times.
    this.#clock.after(this.#lastDueMs - nowMs, () => {
      if (this.#isPaused) this.#owedCount += 1
      else this.#queue.shift()?.()
    })
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    const owedCount = this.#owedCount
    this.#owedCount = 0
    for (let i = 0; i < owedCount; i++) this.#clock.after(0, () => this.#queue.shift()?.())
  }

  /** Loses everything on the way and everything to come. */
  cut(): void {
    this.#isCut = true
    this.#queue = []
  }
}
