// Virtual time: timers run in order of their time, and time passes only when nothing else is left to do.
import type { Clock, Timer } from '../../shared/base/clock.ts'
import type { Random } from '../../shared/base/random.ts'

interface Entry {
  readonly atMs: number
  readonly order: number
  fn: () => void
  isCancelled: boolean
}

/** As many timers fire before the event loop turns, where nothing but promises is waited for. */
const TURN = 1_000
/** So few that were cancelled may stay. */
const CANCELLED_MAX = 64

export interface VirtualClockOptions {
  /** What is tested waits for nothing but promises and this clock: no file, no socket, no other thread. */
  readonly isPure?: boolean
}

export class VirtualClock implements Clock {
  private nowMs = 0
  private order = 0
  private cancelledCount = 0
  private readonly heap: Entry[] = []
  private readonly isPure: boolean
  /** 2023-11-14, so that sample times look like times. */
  readonly startMs = 1_700_000_000_000

  constructor({ isPure = false }: VirtualClockOptions = {}) {
    this.isPure = isPure
  }

  now(): number {
    return this.startMs + this.nowMs
  }

  monotonic(): number {
    return this.nowMs
  }

  uptime(): number {
    return this.nowMs
  }

  after(delayMs: number, fn: () => void): Timer {
    const entry: Entry = { atMs: this.nowMs + Math.max(0, delayMs), order: this.order++, fn, isCancelled: false }
    this.push(entry)
    return {
      cancel: () => {
        if (entry.isCancelled) return
        entry.isCancelled = true
        entry.fn = nothing // what it would have done is held no longer
        this.cancelledCount++
        if (this.cancelledCount > CANCELLED_MAX && this.cancelledCount > this.heap.length / 2) this.sweep()
      },
    }
  }

  turn(fn: () => void): void {
    if (this.isPure) this.after(0, fn)
    else setImmediate(fn)
  }

  /** Runs until `isDone` or until `untilMs` of virtual time; true when done. */
  async run(isDone: () => boolean, untilMs: number): Promise<boolean> {
    for (let steps = 1; ; steps++) {
      await (this.isPure && steps % TURN !== 0 ? settlePromises() : settle())
      if (isDone()) return true
      const next = this.next()
      if (next === undefined) return isDone()
      if (next.atMs > untilMs) {
        this.push(next) // another run may wait for it
        return isDone()
      }
      this.nowMs = Math.max(this.nowMs, next.atMs)
      next.isCancelled = true // it has left the heap, so nobody can cancel it any more
      next.fn()
    }
  }

  /** The first that was not cancelled. */
  private next(): Entry | undefined {
    for (let entry = this.pop(); entry !== undefined; entry = this.pop()) {
      if (!entry.isCancelled) return entry
      this.cancelledCount--
    }
    return undefined
  }

  /** Most timers are cancelled long before their time: they would fill the heap. */
  private sweep(): void {
    const left = this.heap.filter(({ isCancelled }) => !isCancelled).sort((a, b) => (isBefore(a, b) ? -1 : 1))
    this.heap.splice(0, this.heap.length, ...left) // sorted, it is a heap
    this.cancelledCount = 0
  }

  private push(entry: Entry): void {
    const { heap } = this
    let at = heap.push(entry) - 1
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!isBefore(entry, heap[parent]!)) break
      heap[at] = heap[parent]!
      at = parent
    }
    heap[at] = entry
  }

  private pop(): Entry | undefined {
    const { heap } = this
    const top = heap[0]
    const last = heap.pop()
    if (top === undefined || last === undefined || heap.length === 0) return top
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++
      if (!isBefore(heap[child]!, last)) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = last
    return top
  }
}

const nothing = (): void => {}

function isBefore(a: Entry, b: Entry): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)
}

/** Lets everything that can settle do so. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

/** Lets every promise that can settle do so: ticks come when no promise has anything left to do. */
function settlePromises(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve))
}

/** Wall time that jumps by up to five minutes either way, now and then. */
export function jumping(clock: Clock, random: Random): Clock {
  let offsetMs = 0
  return {
    now() {
      if (random.below(20) === 0) offsetMs = (random.next() * 2 - 1) * 300_000
      return clock.now() + offsetMs
    },
    monotonic: () => clock.monotonic(),
    uptime: () => clock.uptime(),
    after: (ms, fn) => clock.after(ms, fn),
    turn: (fn) => clock.turn(fn),
  }
}
