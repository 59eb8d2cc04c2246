// Where the segments that an owner holds are cut: at marks, at fences, and where one may have stood (D7). Heads that come later are cut there, too.
import type { Head } from '../../shared/tsdb/head/head.ts'

interface Cut {
  readonly segment: number
  readonly seq: number
  /** Whose head is cut; undefined: all. */
  readonly tenant: string | undefined
}

export class Cuts {
  /** Bound: marks and fences of the segments that are held, and damage. */
  private cuts: Cut[] = []
  /** The highest sequence of a cut: what is applied below it may not go behind it. */
  maxSeq = 0

  /** Cuts the heads that there are. */
  add(cut: Cut, heads: ReadonlyMap<string, Head>): void {
    const { segment, seq, tenant } = cut
    const isKnown = this.cuts.some((each) => each.segment === segment && each.seq === seq && each.tenant === tenant)
    if (isKnown) return // so do the heads that have come since
    this.cuts.push(cut)
    this.maxSeq = Math.max(this.maxSeq, seq)
    if (tenant !== undefined) heads.get(tenant)?.cut(segment, seq)
    else for (const head of heads.values()) head.cut(segment, seq)
  }

  /** Cuts a new head. */
  apply(tenant: string, head: Head): void {
    for (const cut of this.cuts) if ((cut.tenant ?? tenant) === tenant) head.cut(cut.segment, cut.seq)
  }

  drop(upTo: number): void {
    this.cuts = this.cuts.filter(({ segment }) => segment > upTo)
  }
}
