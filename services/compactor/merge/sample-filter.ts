// Which samples of a series are left out of a rewritten block: by deletes, and by what the tenant keeps.
import type { Interval } from '../../../shared/model/interval.ts'
import type { Labels } from '../../../shared/model/labels.ts'
import { DeleteFilter, joined } from '../../../shared/tsdb/delete-filter.ts'
import type { Keep } from '../plan-types.ts'
import type { Removal } from '../worker/merge-job.ts'

/** Gives the times of a series that are left out, by start, apart from each other. */
export function leftOut(removals: readonly Removal[], keeps: readonly Keep[]): (labels: Labels) => readonly Interval[] {
  const removed = removals.map((removal) => new DeleteFilter(removal))
  const kept = keeps.map(
    ({ matchers, beforeMs }) =>
      new DeleteFilter({ selectors: [matchers], startMs: Number.NEGATIVE_INFINITY, endMs: beforeMs - 1 }),
  )
  return (labels) => {
    const found = removed.filter((filter) => filter.takes(labels))
    const keep = kept.find((filter) => filter.takes(labels)) // the first that matches decides
    return joined([...found, ...(keep === undefined ? [] : [keep])].map(({ interval }) => interval))
  }
}
