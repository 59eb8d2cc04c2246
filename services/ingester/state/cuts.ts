// Where the segments that an owner holds are cut: at marks, at fences, and where one may have stood (DELETE-7). Heads that come later are cut there, too.
import type { SegmentCut } from '../../../shared/contracts/read.ts'
import type { Head } from '../../../shared/tsdb/head/head.ts'
import type { Damage } from './damage.ts'

interface Cut extends SegmentCut {
  /** Behind a hole: a fence may have stood in it. */
  readonly isHole?: true
}

/** Messages of the log that were not delivered. */
export type Hole = Pick<Damage, 'segment' | 'fromSeq' | 'toSeq'>

const TOLD_MAX = 10_000

export class Cuts {
  /** Bound: marks and fences of the segments that are held, and damage. */
  private cuts: Cut[] = []
  /** Holes that are not closed, by where they end, and the last segment of which they may hide something; unknown before the next mark. */
  private readonly holes = new Map<number, { until?: number }>()
  /** The highest sequence of a cut: what is applied below it may not go behind it. */
  maxSeq = 0

  /** Cuts the heads that there are. */
  add(cut: Cut, heads: ReadonlyMap<string, Head>): void {
    const { segment, seq, tenant } = cut
    const isKnown = this.cuts.some((each) => isAt(each, cut) && each.tenant === tenant && each.isHole === cut.isHole)
    if (isKnown) return // so do the heads that have come since
    this.cuts.push(cut)
    if (cut.isHole) this.holes.set(seq, {})
    this.maxSeq = Math.max(this.maxSeq, seq)
    if (tenant !== undefined) heads.get(tenant)?.cut(segment, seq)
    else for (const head of heads.values()) head.cut(segment, seq)
  }

  /** Cuts a new head. */
  apply(tenant: string, head: Head): void {
    for (const cut of this.cuts) if ((cut.tenant ?? tenant) === tenant) head.cut(cut.segment, cut.seq)
  }

  /** What is told of the hole is taken over, and its end cuts nothing any more, unless for another reason. Not where a mark stood in it: nobody
   *  knows then of which segment that is what came behind it. */
  closeHole({ segment, fromSeq, toSeq }: Hole, told: readonly SegmentCut[], heads: ReadonlyMap<string, Head>): void {
    const inside = told.filter(({ seq }) => seq >= fromSeq && seq <= toSeq)
    if (inside.some((cut) => cut.segment !== segment)) return
    for (const cut of inside) this.add(cut, heads)
    const end = { segment, seq: toSeq + 1 }
    this.cuts = this.cuts.filter((each) => !(isAt(each, end) && each.isHole))
    this.holes.delete(end.seq)
    const left = this.cuts.filter((each) => isAt(each, end))
    for (const [tenant, head] of heads)
      if (!left.some((cut) => (cut.tenant ?? tenant) === tenant)) head.uncut(segment, end.seq)
  }

  /** All of them, for those who have a hole. Undefined for who has one as well, or had one in what it holds: it cannot say. */
  told(): readonly SegmentCut[] | undefined {
    return this.holes.size === 0 && this.cuts.length <= TOLD_MAX ? this.cuts : undefined
  }

  /** A mark was met: what holes before it hide is of earlier segments. */
  noteMark(number: number): void {
    for (const hole of this.holes.values()) hole.until ??= number - 1
  }

  drop(upTo: number): void {
    for (const [seq, { until = upTo + 1 }] of this.holes) if (until <= upTo) this.holes.delete(seq)
    this.cuts = this.cuts.filter(({ segment }) => segment > upTo)
  }
}

const isAt = (cut: SegmentCut, { segment, seq }: SegmentCut): boolean => cut.segment === segment && cut.seq === seq
