// The parts of a head: what a segment holds, cut at its mark and wherever a deletion may stand (D7), so that each part lies wholly before
// a place or wholly behind it. Parts are numbered in the order of their making; chunks carry that number.
import type { Place } from '../../model/place.ts'

/** `seq`: where it begins; 0: nobody has said. */
export interface Part extends Place {
  readonly number: number
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
    let found = parts?.findLast((part) => part.seq <= this.seq)
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
    if (!this.bySegment.get(segment)?.some((part) => part.seq === seq)) this.make(segment, seq)
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
    const part = { number: this.made++, incarnation: this.incarnation, segment, seq }
    this.parts.set(part.number, part)
    const parts = [...(this.bySegment.get(segment) ?? []), part].sort((a, b) => a.seq - b.seq)
    this.bySegment.set(segment, parts)
    return part
  }
}
