// Which ranges get downsampled data, and which have theirs made again: per aligned day and window length, from its raw blocks.
//
// Downsampled data names the raw blocks it was made of; a raw block that is not among them (late data, deleted samples) switches it off
// for readers (L21) until it is made again here. Merging raw blocks that are all among them only changes the names (commit.ts).
import { isMadeOf, reachesInto } from '../../../shared/blocks/downsampled.ts'
import type { BlockEntry } from '../../../shared/contracts/blocks.ts'
import type { DownsampleStep, PlanInput, Range } from '../plan-types.ts'

const HOUR_MS = 3_600_000

/** Window length, and the age from which a range has windows of it. */
export const RESOLUTIONS = [
  { resolutionMs: HOUR_MS / 12, afterMs: 40 * HOUR_MS },
  { resolutionMs: HOUR_MS, afterMs: 240 * HOUR_MS },
] as const

/** `busy`: blocks that other steps of the plan are going to replace. */
export function downsampleSteps(
  input: PlanInput,
  blocks: readonly BlockEntry[],
  busy: ReadonlySet<BlockEntry>,
  rangeOf: (block: BlockEntry, rangeMs: number) => Range | undefined,
): DownsampleStep[] {
  const { manifest, nowMs, settings, policy } = input
  if (!policy.downsample) return []
  const rangeMs = settings.rangesMs.at(-1)!
  const days = new Map<number, BlockEntry[]>()
  for (const block of blocks) {
    const range = rangeOf(block, rangeMs)
    if (range === undefined) continue
    const day = days.get(range.startMs)
    if (day === undefined) days.set(range.startMs, [block])
    else day.push(block)
  }
  const waiting = new Set(manifest.deletes.flatMap((entry) => entry.blocks))
  const steps: DownsampleStep[] = []
  for (const [startMs, day] of days) {
    const raw = day.filter((block) => block.resolutionMs === 0)
    const isSettled = raw.every(({ ulid }) => !waiting.has(ulid) && !input.isAside(ulid))
    const isStraddled = blocks.some(
      (block) => block.resolutionMs === 0 && reachesInto(block, startMs, startMs + rangeMs) && !raw.includes(block),
    )
    if (raw.length === 0 || !isSettled || isStraddled || day.some((block) => busy.has(block))) continue
    for (const { resolutionMs, afterMs } of RESOLUTIONS) {
      if (nowMs < startMs + rangeMs + afterMs) continue
      const present = day.filter((block) => block.resolutionMs === resolutionMs)
      if (present.some((block) => block.aggregate === 'last' && isMadeOf(block, raw))) continue // there is one wherever there is a sample
      if (input.mayDownsample?.({ startMs, resolutionMs }) === false) continue
      steps.push({ kind: 'downsample', sources: raw, resolutionMs, startMs, replaces: present })
    }
  }
  return steps.sort((a, b) => b.startMs - a.startMs)
}
