// Virtual time: timers run in order of their time, and time passes only when nothing else is left to do.
import type { Clock, Timer } from '../../shared/base/clock.ts'
import type { Random } from '../../shared/base/random.ts'

interface Entry {
  readonly atMs: number
  readonly order: number
  fn: () => void
  isCancelled: boolean
}

export class VirtualClock implements Clock {
  private nowMs = 0
  private order = 0
  private readonly heap: Entry[] = []
  /** 2023-11-14, so that sample times look like times. */
  readonly startMs = 1_700_000_000_000

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
      cancel() {
        entry.isCancelled = true
        entry.fn = nothing // what it would have done is held no longer
      },
    }
  }

  /** Runs until `isDone` or until `untilMs` of virtual time; true when done. */
  async run(isDone: () => boolean, untilMs: number): Promise<boolean> {
    for (;;) {
      await settle()
      if (isDone()) return true
      const next = this.pop()
      if (next === undefined) return isDone()
      if (next.atMs > untilMs) {
        this.push(next) // another run may wait for it
        return isDone()
      }
      if (next.isCancelled) continue
      this.nowMs = Math.max(this.nowMs, next.atMs)
      next.fn()
      while (this.heap[0] !== undefined && this.heap[0].atMs === this.nowMs && this.heap[0].isCancelled) this.pop()
    }
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

/** Lets every promise that can settle do so. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
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
  }
}
