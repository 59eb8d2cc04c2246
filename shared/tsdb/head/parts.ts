// The parts of a head: what a segment holds, cut at its mark and wherever a deletion may stand (DELETE-7), so that each part lies wholly before
// a place or wholly behind it. Parts are numbered in the order of their making; chunks carry that number. Where a cut is taken back its part goes on
// under its number, at the place of the part before: together they are one.
import type { Place } from '../../model/place.ts'

/** `seq`: its place, which is where it begins, or where one before it begins that it is one with; 0: nobody has said. */
export interface Part extends Place {
  readonly number: number
  readonly begin: number
}

export class Parts {
  private readonly incarnation: string
  /** By number. */
  private readonly parts = new Map<number, Part>()
  /** Of each segment, by where they begin. */
  private readonly bySegment = new Map<number, Part[]>()
  private made = 0
  /** Samples go where this sequence stands; infinite: behind all cuts. */
  private seq = Number.POSITIVE_INFINITY
  private lastSegment = -1
  private lastPart = -1

  constructor(incarnation: string) {
    this.incarnation = incarnation
  }

  /** The number of the part that samples of a segment go to now. */
  at(segment: number): number {
    if (segment === this.lastSegment) return this.lastPart
    const parts = this.bySegment.get(segment)
    let found = parts?.findLast((part) => part.begin <= this.seq)
    found ??= this.make(segment, Number.isFinite(this.seq) ? this.seq : 0)
    this.lastSegment = segment
    this.lastPart = found.number
    return found.number
  }

  /** Samples that are applied from now on stand at this sequence in the log. */
  seek(seq: number): void {
    this.seq = seq
    this.lastSegment = -1
  }

  /** From this sequence on another part is filled. */
  cut(segment: number, seq: number): void {
    this.lastSegment = -1
    const parts = this.bySegment.get(segment) ?? []
    if (!parts.some((part) => part.begin === seq)) this.make(segment, seq)
    for (const part of parts) if (part.begin >= seq && part.seq < seq) this.put({ ...part, seq })
  }

  /** There is no cut at this sequence after all: what begins there is one with the part before. */
  uncut(segment: number, seq: number): void {
    const parts = this.bySegment.get(segment) ?? []
    const before = parts.findLast((part) => part.begin < seq)
    if (before === undefined) return
    for (const part of parts) if (part.seq === seq) this.put({ ...part, seq: before.seq })
  }

  of(number: number): Part {
    return this.parts.get(number)!
  }

  /** By where they begin. */
  inSegment(segment: number): readonly Part[] {
    return this.bySegment.get(segment) ?? []
  }

  /** The numbers of the parts of segments up to this one, which are forgotten. */
  drop(upTo: number): Set<number> {
    const dropped = new Set<number>()
    this.lastSegment = -1
    for (const { number, segment } of this.parts.values()) {
      if (segment > upTo) continue
      dropped.add(number)
      this.parts.delete(number)
      this.bySegment.delete(segment)
    }
    return dropped
  }

  /** Segments with parts, rising. */
  segments(): number[] {
    return [...this.bySegment.keys()].sort((a, b) => a - b)
  }

  private make(segment: number, seq: number): Part {
    const part = { number: this.made++, incarnation: this.incarnation, segment, seq, begin: seq }
    this.put(part)
    return part
  }

  private put(part: Part): void {
    this.parts.set(part.number, part)
    const others = (this.bySegment.get(part.segment) ?? []).filter(({ number }) => number !== part.number)
    this.bySegment.set(
      part.segment,
      [...others, part].sort((a, b) => a.begin - b.begin),
    )
  }
}
