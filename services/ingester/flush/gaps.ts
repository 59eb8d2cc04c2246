// What a partition has lost for good, beyond the life of its owners (LOG-10). Blocks name it to tenants that have some of the segment. One that lost
// all it had there has no block that could: so it stands in a record of the partition, and is told with every answer that may lack it.
//
// Invariants
//   GAP-1  `flushed.<p>` rises over a segment, and an owner forgets damage of it, only when the record names what is missing.
//   GAP-2  It is told to whoever asks for times at which what was lost may lie: not later than a day after it was found.
import type { Clock } from '../../../shared/base/clock.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import { GAPS_KEPT_MAX, type Gap, gapsRecord, type PartitionGaps } from '../../../shared/contracts/blocks.ts'
import type { Told } from '../../../shared/kv/passed-over.ts'
import { updateRecord } from '../../../shared/kv/update.ts'
import { WatchedTable } from '../../../shared/kv/watched-table.ts'
import { type Damage, describe } from '../state/damage.ts'

export interface GapsDeps extends Told {
  readonly blocks: Pick<Blocks, 'bucket'>
  readonly clock: Clock
}

/** How far ahead of its arrival a sample may lie (GAP-2). */
const AHEAD_MS = 86_400_000

export class Gaps {
  readonly #deps: GapsDeps
  readonly #table: WatchedTable<'partition', PartitionGaps>

  constructor(deps: GapsDeps) {
    this.#deps = deps
    this.#table = new WatchedTable({ ...deps, bucket: deps.blocks.bucket, record: gapsRecord })
  }

  start(): Promise<void> {
    return this.#table.start()
  }

  stop(): void {
    this.#table.stop()
  }

  /** Whether the record names it, as far as it was shown here. */
  names(partition: number, damage: Damage): boolean {
    return namesIt(this.#of(partition), damage)
  }

  /** In words, what whoever asks for times from `startMs` on may lack. */
  told(partition: number, startMs: number): string[] {
    return this.#of(partition).flatMap(({ untilMs, text }) => (startMs <= untilMs ? [text] : []))
  }

  /** GAP-1: resolves when all that is missing up to a segment is named. */
  async add(partition: number, damages: readonly Damage[], upTo: number): Promise<void> {
    const missing = damages.filter((damage) => damage.state === 'missing' && damage.segment <= upTo)
    if (missing.every((damage) => this.names(partition, damage))) return
    const { blocks, clock } = this.#deps
    const untilMs = Math.floor(clock.now()) + AHEAD_MS
    await updateRecord({
      ...{ ...this.#deps, bucket: blocks.bucket, record: gapsRecord, params: { partition } },
      change: (before) => {
        const gaps = before?.gaps ?? []
        const added = missing.filter((damage) => !namesIt(gaps, damage)).map((damage) => gapOf(damage, untilMs))
        return added.length === 0 ? before : { gaps: kept([...gaps, ...added]) }
      },
    })
  }

  #of(partition: number): readonly Gap[] {
    return this.#table.row({ partition })?.value?.gaps ?? []
  }
}

function gapOf(damage: Damage, untilMs: number): Gap {
  const { segment, incarnation, fromSeq, toSeq } = damage
  return { segment, incarnation, fromSeq, toSeq, untilMs, text: describe(damage) }
}

function namesIt(gaps: readonly Gap[], damage: Damage): boolean {
  return gaps.some((gap) => {
    if (gap.isRest) return damage.segment <= gap.segment
    const isOf = gap.segment === damage.segment && gap.incarnation === damage.incarnation
    return isOf && gap.fromSeq <= damage.fromSeq && gap.toSeq >= damage.toSeq
  })
}

/** Of too many the oldest are told as one. */
function kept(gaps: readonly Gap[]): readonly Gap[] {
  if (gaps.length <= GAPS_KEPT_MAX) return gaps
  const bySegment = [...gaps].sort((a, b) => a.segment - b.segment)
  const old = bySegment.splice(0, gaps.length - GAPS_KEPT_MAX + 1)
  const segment = old.at(-1)!.segment
  const untilMs = Math.max(...old.map((gap) => gap.untilMs))
  const text = `damage of segments up to ${segment} that nobody could fill`
  return [{ segment, incarnation: '', fromSeq: 0, toSeq: 0, untilMs, text, isRest: true }, ...bySegment]
}
