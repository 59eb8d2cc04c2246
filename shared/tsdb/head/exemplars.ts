// The newest exemplars of a head: a ring in order of arrival, repeats dropped.
import type { Interval } from '../../model/interval.ts'
import type { Labels } from '../../model/labels.ts'
import { labelsKey } from '../../model/labels.ts'
import { laterOf, type Place } from '../../model/place.ts'

export interface Exemplar {
  readonly time: number
  readonly value: number
  readonly labels: Labels
}

export interface StatedExemplar {
  readonly ref: number
  readonly exemplar: Exemplar
  /** In which segment it was told last, or stated again. */
  readonly segment: number
  /** Where it was told: where a writer told it last, not where it was stated again. */
  readonly place: Place
}

interface Held {
  readonly ref: number
  readonly exemplar: Exemplar
  readonly key: string
  /** The segment in which it was last told. */
  segment: number
  place: Place
}

export class ExemplarRing {
  private readonly capacity: number
  private readonly ring: Held[] = []
  private readonly keys = new Map<string, Held>()
  /** Those of each series, in order of arrival. */
  private readonly byRef = new Map<number, Held[]>()
  private at = 0

  constructor(capacity: number) {
    this.capacity = capacity
  }

  add(ref: number, exemplar: Exemplar, segment: number, place: Place): void {
    const key = keyOf(ref, exemplar)
    const known = this.keys.get(key)
    if (known !== undefined) {
      known.segment = segment
      known.place = laterOf(place, known.place)
    }
    if (this.capacity === 0 || known !== undefined) return
    this.evict(this.ring[this.at])
    const held = { ref, exemplar, key, segment, place }
    this.ring[this.at] = held
    this.keys.set(key, held)
    const list = this.byRef.get(ref)
    if (list === undefined) this.byRef.set(ref, [held])
    else list.push(held)
    this.at = (this.at + 1) % this.capacity
  }

  /** Those of one series with time in [startMs, endMs] whose places are shown, by time, then value. */
  of(ref: number, { startMs, endMs }: Interval, isShown: (place: Place) => boolean = () => true): Exemplar[] {
    const list = this.byRef.get(ref) ?? []
    return list
      .filter(({ exemplar: { time }, place }) => time >= startMs && time <= endMs && isShown(place))
      .map(({ exemplar }) => exemplar)
      .sort((a, b) => a.time - b.time || a.value - b.value)
  }

  /** By arrival, the newest last. */
  newest(countMax: number): readonly StatedExemplar[] {
    const byArrival = [...this.ring.slice(this.at), ...this.ring.slice(0, this.at)]
    const all = this.ring.length < this.capacity ? this.ring : byArrival
    return all.slice(-countMax)
  }

  /** Whether any was told in a segment or after it. */
  isToldSince(segment: number): boolean {
    return this.ring.some((held) => held.segment >= segment)
  }

  /** Whether any of a series are held. */
  holds(ref: number): boolean {
    return this.byRef.has(ref)
  }

  /** The refs of the series that have some. */
  refs(): IterableIterator<number> {
    return this.byRef.keys()
  }

  /** Gives the series their new refs: none that has exemplars is dead. */
  compact(refs: Uint32Array): void {
    const moved = new Map<Held, Held>()
    this.keys.clear()
    for (const [i, held] of this.ring.entries()) {
      const ref = refs[held.ref]!
      const next = { ...held, ref, key: keyOf(ref, held.exemplar) }
      this.ring[i] = next
      this.keys.set(next.key, next)
      moved.set(held, next)
    }
    const lists = [...this.byRef.values()]
    this.byRef.clear()
    for (const list of lists)
      this.byRef.set(
        refs[list[0]!.ref]!,
        list.map((held) => moved.get(held)!),
      )
  }

  get count(): number {
    return this.ring.length
  }

  get bytes(): number {
    return this.ring.length * 400
  }

  /** Forgets the ring's oldest, which is its series' first, too. */
  private evict(held: Held | undefined): void {
    if (held === undefined) return
    this.keys.delete(held.key)
    const list = this.byRef.get(held.ref)!
    if (list.length === 1) this.byRef.delete(held.ref)
    else list.shift()
  }
}

function keyOf(ref: number, { time, value, labels }: Exemplar): string {
  return `${ref}|${time}|${value}|${labelsKey(labels)}`
}
