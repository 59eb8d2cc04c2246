// Windows in place of samples (docs/formats/downsampled.md): which blocks a select reads that may have them.
//
// Invariants
//   QUERY-13  A day is read from windows only while they were made of all its raw blocks, no deletion hides anything of them, and no owner holds a
//        sample of the select in it (LOG-21): by one view, like everything else. Other days of the same select are read raw.
import {
  reachesInto,
  WINDOW_RANGE_MS,
  WINDOWS_MS,
  type WindowDay,
  windowDays,
} from '../../../shared/blocks/downsampled.ts'
import { showDuration } from '../../../shared/config/units.ts'
import type { Aggregate, BlockEntry } from '../../../shared/contracts/blocks.ts'
import type { Interval } from '../../../shared/model/interval.ts'
import type { WindowSpan, WindowsWanted } from '../../../shared/promql/source.ts'
import type { Answer } from '../read/merge-series.ts'
import type { View } from '../read/snapshots.ts'
import { overlaps } from '../read/tenant-reader.ts'

/** The aggregates a use reads: what becomes the samples, and what is looked up beside it. */
const AGGREGATES_OF: Readonly<Record<WindowsWanted['use'], readonly [Aggregate, Aggregate?]>> = {
  last: ['last'],
  count: ['count', 'count'],
  sum: ['sum'],
  min: ['min'],
  max: ['max'],
  avg: ['sum', 'count'],
  counter: ['counter', 'last'],
}

export const aggregateOf = (use: WindowsWanted['use']): Aggregate => AGGREGATES_OF[use][0]
export const besideOf = (use: WindowsWanted['use']): Aggregate | undefined => AGGREGATES_OF[use][1]

export interface Picked {
  readonly entries: readonly BlockEntry[]
  readonly spans: readonly WindowSpan[]
  /** Days of which only longer windows are left than were wanted. */
  readonly warnings: readonly string[]
}

/** The blocks that a select reads. */
export function pickBlocks(view: View, range: Interval, wanted: WindowsWanted, fromOwners: readonly Answer[]): Picked {
  const reach = reachOf(range, wanted.use, WINDOWS_MS[0]!)
  const raw = view.blocks.filter(({ resolutionMs }) => resolutionMs === 0)
  const days = new Map<number, WindowDay>()
  const inReach = (day: WindowDay) => day.startMs <= reach.endMs && day.endMs > reach.startMs
  const isRawThere = (day: WindowDay) => raw.some((block) => reachesInto(block, day.startMs, day.endMs))
  const held = heldDays(fromOwners)
  const add = (resolutionMs: number, mayBe: (day: WindowDay) => boolean) => {
    for (const day of windowDays(view, resolutionMs)) {
      if (!days.has(day.startMs) && inReach(day) && mayBe(day)) days.set(day.startMs, day)
    }
  }
  for (const lengthMs of WINDOWS_MS)
    if (lengthMs <= wanted.lengthMs) add(lengthMs, (day) => !isRawThere(day) || !held.has(day.startMs))
  for (const lengthMs of WINDOWS_MS.toReversed())
    if (lengthMs > wanted.lengthMs) add(lengthMs, (day) => !isRawThere(day))
  const chosen = [...days.values()].sort((a, b) => a.startMs - b.startMs)
  const isReplaced = ({ minTime }: BlockEntry) => days.has(dayOf(minTime))
  const aggregates = new Set(AGGREGATES_OF[wanted.use])
  return {
    entries: [
      ...raw.filter((entry) => overlaps(entry, range) && !isReplaced(entry)),
      ...chosen.flatMap(({ blocks }) => [...blocks.values()].filter(({ aggregate }) => aggregates.has(aggregate))),
    ].filter((entry) => overlaps(entry, reachOf(range, wanted.use, entry.resolutionMs))),
    spans: chosen.map(({ startMs, endMs, resolutionMs }) => ({ startMs, endMs, lengthMs: resolutionMs })),
    warnings: [...new Set(chosen.map(({ resolutionMs }) => resolutionMs))]
      .filter((lengthMs) => lengthMs > wanted.lengthMs)
      .map(
        (lengthMs) =>
          `of some of the time only windows of ${showDuration(lengthMs)} are left, which stand for the samples`,
      ),
  }
}

/** The last sample of a window is looked for one window farther back. */
export function reachOf({ startMs, endMs }: Interval, use: WindowsWanted['use'], lengthMs: number): Interval {
  return { startMs: use === 'last' ? startMs - lengthMs : startMs, endMs }
}

const dayOf = (timeMs: number): number => Math.floor(timeMs / WINDOW_RANGE_MS) * WINDOW_RANGE_MS

/** Starts of the days in which owners hold samples. */
function heldDays(answers: readonly Answer[]): ReadonlySet<number> {
  const days = new Set<number>()
  for (const { series } of answers) {
    for (const { times } of series) {
      for (let i = 0, endMs = Number.NEGATIVE_INFINITY; i < times.length; i++) {
        if (times[i]! < endMs) continue
        const startMs = dayOf(times[i]!)
        days.add(startMs)
        endMs = startMs + WINDOW_RANGE_MS
      }
    }
  }
  return days
}
