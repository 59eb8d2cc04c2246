// Which ranges get downsampled data, and which have theirs made again: per aligned day and window length, from its raw blocks.
//
// Downsampled data names the raw blocks it was made of; a raw block that is not among them (late data, deleted samples) switches it off
// for readers (LOG-21) until it is made again here. Merging raw blocks that are all among them only changes the names (commit.ts).
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
  const { manifest, settings, policy } = input
  if (!policy.downsample) return []
  const rangeMs = settings.rangesMs.at(-1)!
  const waiting = new Set(manifest.deletes.flatMap((entry) => entry.blocks))
  const steps: DownsampleStep[] = []
  for (const [startMs, day] of byDay(blocks, (block) => rangeOf(block, rangeMs))) {
    const raw = day.filter(isRaw)
    const isSettled = raw.every(({ ulid }) => !waiting.has(ulid) && !input.isAside(ulid))
    const range = { startMs, endMs: startMs + rangeMs }
    if (raw.length === 0 || !isSettled || isStraddled(range, blocks, raw) || day.some((block) => busy.has(block)))
      continue
    steps.push(...stepsIn(range, day, raw, input))
  }
  return steps.sort((a, b) => b.startMs - a.startMs)
}

function* stepsIn(
  { startMs, endMs }: Range,
  day: readonly BlockEntry[],
  raw: readonly BlockEntry[],
  { nowMs, mayDownsample }: PlanInput,
): Generator<DownsampleStep> {
  for (const { resolutionMs, afterMs } of RESOLUTIONS) {
    if (nowMs < endMs + afterMs) continue
    const present = day.filter((block) => block.resolutionMs === resolutionMs)
    if (present.some((block) => block.aggregate === 'last' && isMadeOf(block, raw))) continue // there is one wherever there is a sample
    if (mayDownsample?.({ startMs, resolutionMs }) === false) continue
    yield { kind: 'downsample', sources: raw, resolutionMs, startMs, replaces: present }
  }
}

function isRaw({ resolutionMs }: BlockEntry): boolean {
  return resolutionMs === 0
}

/** Whether a raw block that is not one of the range's own reaches into it. */
function isStraddled({ startMs, endMs }: Range, blocks: readonly BlockEntry[], own: readonly BlockEntry[]): boolean {
  return blocks.some((block) => isRaw(block) && reachesInto(block, startMs, endMs) && !own.includes(block))
}

/** Those that lie within one range each, by its start. */
function byDay(
  blocks: readonly BlockEntry[],
  rangeOf: (block: BlockEntry) => Range | undefined,
): Map<number, BlockEntry[]> {
  const days = new Map<number, BlockEntry[]>()
  for (const block of blocks) {
    const range = rangeOf(block)
    if (range === undefined) continue
    const day = days.get(range.startMs)
    if (day === undefined) days.set(range.startMs, [block])
    else day.push(block)
  }
  return days
}
