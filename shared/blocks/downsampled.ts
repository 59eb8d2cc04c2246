// Windows in place of samples (docs/formats/downsampled.md): which days have windows that may be read, and which window length suits a
// question. All of it pure.
import type { Aggregate, BlockEntry, Manifest } from '../contracts/blocks.ts'
import { hidersOf } from './delete-rules.ts'

/** Windows are made for whole aligned days. */
export const WINDOW_RANGE_MS = 24 * 3_600_000
/** Window lengths, the longest first. */
export const WINDOWS_MS = [3_600_000, 300_000] as const
/** Windows from step to step, and in the range of a function, at least: the ends are off by one each. */
const WINDOWS_MIN = 5
/** In the range of what is looked at only once. */
const WINDOWS_OF_ONE_MIN = 100

export interface WindowDay {
  readonly startMs: number
  readonly endMs: number
  readonly resolutionMs: number
  readonly blocks: ReadonlyMap<Aggregate, BlockEntry>
}

/** The window length for a question, 0 for none. `stepMs` 0: it is looked at once; `rangeMs` absent: an instant selector. With `longestMs`
 *  the asker has decided, and the step does not matter. */
export function windowFor({ stepMs, rangeMs }: { stepMs: number; rangeMs?: number }, longestMs?: number): number {
  const rangeFor = rangeMs ?? (stepMs === 0 ? 0 : Number.POSITIVE_INFINITY)
  const fits = (windowMs: number) => {
    if (longestMs !== undefined) return windowMs <= longestMs && rangeFor >= WINDOWS_MIN * windowMs
    if (stepMs === 0) return rangeFor >= WINDOWS_OF_ONE_MIN * windowMs
    return stepMs >= WINDOWS_MIN * windowMs && rangeFor >= WINDOWS_MIN * windowMs
  }
  return WINDOWS_MS.find(fits) ?? 0
}

/** Days whose windows hold all that the raw blocks hold now (LOG-21): no raw block of the day that they were not made of, no deletion. */
export function windowDays(
  { blocks, deletes }: Pick<Manifest, 'blocks' | 'deletes'>,
  resolutionMs: number,
): WindowDay[] {
  const days = new Map<number, Map<Aggregate, BlockEntry>>()
  for (const block of blocks) {
    if (block.resolutionMs !== resolutionMs || block.aggregate === undefined) continue
    const startMs = Math.floor(block.minTime / WINDOW_RANGE_MS) * WINDOW_RANGE_MS
    const day = days.get(startMs) ?? new Map<Aggregate, BlockEntry>()
    days.set(startMs, day.set(block.aggregate, block))
  }
  const raw = blocks.filter((block) => block.resolutionMs === 0)
  const found: WindowDay[] = []
  for (const [startMs, byAggregate] of days) {
    const endMs = startMs + WINDOW_RANGE_MS
    const beneath = raw.filter((block) => reachesInto(block, startMs, endMs))
    const all = [...byAggregate.values()]
    const isWhole = all.every((block) => isMadeOf(block, beneath))
    const isHidden = [...beneath, ...all].some(({ ulid }) => hidersOf(deletes, ulid).length > 0)
    if (isWhole && !isHidden) found.push({ startMs, endMs, resolutionMs, blocks: byAggregate })
  }
  return found.sort((a, b) => a.startMs - b.startMs)
}

/** Whether every raw block is among those that the downsampled one was made of. */
export function isMadeOf({ rawUlids = [] }: BlockEntry, raw: readonly BlockEntry[]): boolean {
  return raw.every(({ ulid }) => rawUlids.includes(ulid))
}

export function reachesInto({ minTime, maxTime }: BlockEntry, startMs: number, endMs: number): boolean {
  return minTime < endMs && maxTime > startMs
}
