// Which samples of a block must not be shown: those that a delete of the manifest covers (L12) or a tombstone of the block itself.
import type { DeleteEntry } from '../../shared/contracts/blocks.ts'
import type { Labels } from '../../shared/model/labels.ts'
import { labelOf } from '../../shared/model/labels.ts'
import { type CompiledMatcher, compileMatchers } from '../../shared/tsdb/matcher-set.ts'
import type { Interval } from './series-columns.ts'

export interface HiddenParts {
  /** The intervals of one series that must not be shown, in no particular order; they may overlap. */
  of(series: { readonly labels: Labels; readonly ref: number }): readonly Interval[]
}

/** By the series' number in the block. */
export type Tombstones = ReadonlyMap<number, readonly Interval[]>

const NONE: readonly Interval[] = []
const NOTHING_HIDDEN: HiddenParts = { of: () => NONE }

/** What is hidden of the block within the range. */
export function hiddenOf(
  block: { readonly ulid: string; readonly tombstones: Tombstones },
  deletes: readonly DeleteEntry[],
  range: Interval,
): HiddenParts {
  const { ulid, tombstones } = block
  const rules = deletes
    .filter(({ blocks, startMs, endMs }) => startMs <= range.endMs && endMs >= range.startMs && blocks.includes(ulid))
    .map(({ selectors, startMs, endMs }) => ({
      selectors: selectors.map(compileMatchers),
      interval: { startMs, endMs },
    }))
  if (rules.length === 0 && tombstones.size === 0) return NOTHING_HIDDEN
  return {
    of({ labels, ref }) {
      const own = tombstones.get(ref) ?? NONE
      if (rules.length === 0) return own
      const deleted = rules.filter(({ selectors }) => selectors.some((matchers) => matchAll(matchers, labels)))
      return deleted.length === 0 ? own : [...own, ...deleted.map(({ interval }) => interval)]
    },
  }
}

function matchAll(matchers: readonly CompiledMatcher[], labels: Labels): boolean {
  return matchers.every(({ name, matches }) => matches(labelOf(labels, name)))
}
