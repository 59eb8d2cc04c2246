// Which samples of a block must not be shown: those that a deletion of the manifest hides (LOG-12), or a tombstone of the block itself.

import { hidersOf } from '../../../shared/blocks/delete-rules.ts'
import type { DeleteEntry } from '../../../shared/contracts/blocks.ts'
import type { Interval } from '../../../shared/model/interval.ts'
import type { BlockSeriesLabels } from '../../../shared/tsdb/block/series.ts'
import { DeleteFilter, hiddenIntervals, joined } from '../../../shared/tsdb/delete-filter.ts'

export interface HiddenParts {
  /** Nothing of any series is. */
  readonly isEmpty: boolean
  /** The times at which samples of a series are hidden, by start, apart from each other. */
  of(series: Pick<BlockSeriesLabels, 'labels' | 'ref'>): readonly Interval[]
}

/** By the series' number in the block. */
export type Tombstones = ReadonlyMap<number, readonly Interval[]>

const NONE: readonly Interval[] = []
const NOTHING_HIDDEN: HiddenParts = { isEmpty: true, of: () => NONE }

/** What is hidden of the block within the range. */
export function hiddenOf(
  block: { readonly ulid: string; readonly tombstones: Tombstones },
  deletes: readonly DeleteEntry[],
  range: Interval,
): HiddenParts {
  const { ulid, tombstones } = block
  const filters = hidersOf(deletes, ulid)
    .filter(({ startMs, endMs }) => startMs <= range.endMs && endMs >= range.startMs)
    .map((entry) => new DeleteFilter(entry))
  if (filters.length === 0 && tombstones.size === 0) return NOTHING_HIDDEN
  return {
    isEmpty: false,
    of({ labels, ref }) {
      const own = tombstones.get(ref) ?? NONE
      if (filters.length === 0) return own
      const deleted = hiddenIntervals(filters, labels)
      return own.length === 0 ? deleted : joined([...own, ...deleted])
    },
  }
}
