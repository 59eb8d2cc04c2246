// The newest exemplars of a head: a ring in order of arrival, repeats dropped.
import type { Labels } from '../../model/labels.ts'
import { labelsKey } from '../../model/labels.ts'

export interface Exemplar {
  readonly time: number
  readonly value: number
  readonly labels: Labels
}

interface Held {
  readonly ref: number
  readonly exemplar: Exemplar
  readonly key: string
}

export class ExemplarRing {
  private readonly capacity: number
  private readonly ring: Held[] = []
  private readonly keys = new Set<string>()
  private at = 0

  constructor(capacity: number) {
    this.capacity = capacity
  }

  add(ref: number, exemplar: Exemplar): void {
    const key = `${ref}|${exemplar.time}|${exemplar.value}|${labelsKey(exemplar.labels)}`
    if (this.capacity === 0 || this.keys.has(key)) return
    const pushedOut = this.ring[this.at]
    if (pushedOut !== undefined) this.keys.delete(pushedOut.key)
    this.ring[this.at] = { ref, exemplar, key }
    this.keys.add(key)
    this.at = (this.at + 1) % this.capacity
  }

  /** Those of one series with time in [startMs, endMs], by time, then value. */
  of(ref: number, { startMs, endMs }: { readonly startMs: number; readonly endMs: number }): Exemplar[] {
    return this.ring
      .filter((held) => held.ref === ref && held.exemplar.time >= startMs && held.exemplar.time <= endMs)
      .map((held) => held.exemplar)
      .sort((a, b) => a.time - b.time || a.value - b.value)
  }

  /** The refs that have exemplars, rising. */
  refs(): number[] {
    return [...new Set(this.ring.map((held) => held.ref))].sort((a, b) => a - b)
  }

  get count(): number {
    return this.ring.length
  }

  get bytes(): number {
    return this.ring.length * 400
  }
}
