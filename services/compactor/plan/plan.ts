// What to do with a tenant's blocks: a pure function of its manifest, the watermarks, the time, and the tenant's policy.
//
// Time is cut into aligned ranges of 2 h, 12 h and 24 h. A block belongs to the smallest range that holds it; flushes never make one that
// straddles two. A range is complete some time after its end, when the partitions that wrote into it have flushed something newer, or after
// a longer time whatever they did. The largest complete range around a block is where it is merged, so that what has been waiting for
// long is rewritten once, not three times.
//
// Invariants
//   PLAN-1  Merged are only blocks of the same range, raw ones, that the same deletions hold (DELETE-14), none of them set aside.
//   PLAN-2  Every block that goes into a merge comes out of it in one at least 1 + lateRatio times as large (by the bytes that went in): so a
//       block of 24 h is not rewritten for every straggler, and no sample more often than the logarithm of what it was merged with.
//   PLAN-3  Every step leaves fewer blocks, fewer pending deletes, or fewer rules to apply: planning over and over ends.
//   PLAN-4  Steps of one plan share no block.
//   PLAN-5  What is too old is so by the own clock and by what comes in: time goes on for retention only up to a day after the newest sample of all
//       tenants. A machine whose clock, and whose servers' clocks, are a year ahead takes nothing away.

import { isFinal, withEnded } from '../../../shared/blocks/delete-rules.ts'
import { isLeftOut } from '../../../shared/blocks/left-out.ts'
import type { BlockEntry, DeleteEntry, Manifest } from '../../../shared/contracts/blocks.ts'
import type { DropStep, MergeStep, PlanInput, PlanSettings, Range, SettleStep, Step } from '../plan-types.ts'
import { downsampleSteps } from './plan-downsample.ts'
import { longestKeepMs } from './retention-policy.ts'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
/** Blocks of backfilled time, where a segment spans weeks: merged among themselves only. */
const WIDE_MS = 28 * 24 * HOUR_MS
/** In units of the delay: when a range counts as complete, whatever its partitions flushed. */
const PATIENCE = 4

/** All that could be done now, in the order in which it should be. */
export function plan(input: PlanInput): Step[] {
  const drops = dropSteps(input)
  const dropped = new Set(drops.flatMap((step) => step.sources))
  const kept = input.manifest.blocks.filter((block) => !dropped.has(block))
  const hiders = hidersIn(input.manifest)
  const merges = mergeSteps(input, hiders, kept)
  const busy = new Set(merges.flatMap((step) => step.sources))
  const rewrites = rewriteSteps(
    input,
    hiders,
    kept.filter((block) => !busy.has(block)),
  )
  for (const step of rewrites) for (const block of step.sources) busy.add(block)
  const deletes = rewrites.filter((step) => step.why === 'delete')
  const rules = rewrites.filter((step) => step.why === 'retention')
  return [
    ...drops,
    ...settleSteps(input),
    ...deletes,
    ...merges,
    ...rules,
    ...downsampleSteps(input, kept, busy, alignedRange),
  ]
}

// ---- merging ----

function mergeSteps(input: PlanInput, hiders: Hiders, blocks: readonly BlockEntry[]): MergeStep[] {
  const groups = new Map<string, BlockEntry[]>()
  for (const block of blocks) {
    if (block.resolutionMs !== 0 || input.isAside(block.ulid)) continue
    const range = rangeOf(input, block)
    if (range === undefined) continue
    const key = `${range.startMs} ${range.endMs} ${pendingOf(hiders, block)}` // PLAN-1
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [block])
    else group.push(block)
  }
  return [...groups.values()]
    .map((group) => worthMerging(group, input.settings))
    .filter((sources) => sources.length > 1)
    .sort((a, b) => newestOf(b) - newestOf(a)) // what is asked for most
    .map((sources) => mergeStep(input, hiders, sources))
}

function mergeStep(input: PlanInput, hiders: Hiders, sources: readonly BlockEntry[]): MergeStep {
  const hasCompacted = sources.some(({ origin }) => origin.kind === 'compaction')
  const hasFlushed = sources.some(({ origin }) => origin.kind === 'flush')
  return rewriteOf(input, hiders, sources, hasCompacted && hasFlushed ? 'late' : 'small')
}

/** The largest complete range that holds the block; undefined when none is complete yet, or none holds it. */
function rangeOf(input: PlanInput, block: BlockEntry): Range | undefined {
  const { settings, nowMs } = input
  const largest = settings.rangesMs.at(-1)!
  for (const rangeMs of settings.rangesMs.toReversed()) {
    const range = alignedRange(block, rangeMs)
    if (range !== undefined && isComplete(input, range)) return range
  }
  if (alignedRange(block, largest) !== undefined) return undefined
  return input.isForced || block.maxTime + settings.delayMs <= nowMs ? alignedRange(block, WIDE_MS) : undefined
}

/** The aligned range of this length that holds all of the block. */
export function alignedRange({ minTime, maxTime }: BlockEntry, rangeMs: number): Range | undefined {
  const index = Math.floor(minTime / rangeMs)
  const isInside = index === Math.floor((Math.max(maxTime, minTime + 1) - 1) / rangeMs)
  return isInside ? { startMs: index * rangeMs, endMs: (index + 1) * rangeMs } : undefined
}

function isComplete({ manifest, settings, nowMs, flushed, isForced }: PlanInput, { startMs, endMs }: Range): boolean {
  if (isForced) return true
  if (nowMs < endMs + settings.delayMs) return false
  if (nowMs >= endMs + PATIENCE * settings.delayMs) return true
  return manifest.blocks.every(({ minTime, maxTime, origin }) => {
    if (origin.kind !== 'flush' || minTime >= endMs || maxTime <= startMs) return true
    return Math.max(flushed(origin.partition), manifest.flushed[origin.partition] ?? 0) > origin.segment
  })
}

/** The ids of the deletes that hold the block. */
function pendingOf(hiders: Hiders, { ulid }: BlockEntry): string {
  if (isLeftOut('merge-same')) return ''
  const ids = hiders.get(ulid)?.map(({ id }) => id) ?? []
  return ids.sort().join(' ')
}

/** The deletions that hold each block: those that are being placed, too. */
type Hiders = ReadonlyMap<string, readonly DeleteEntry[]>

function hidersIn({ deletes }: Manifest): Hiders {
  const hiders = new Map<string, DeleteEntry[]>()
  for (const entry of deletes.filter(({ state }) => state !== 'undone')) {
    for (const ulid of entry.blocks) {
      const known = hiders.get(ulid)
      if (known === undefined) hiders.set(ulid, [entry])
      else known.push(entry)
    }
  }
  return hiders
}

/** The largest tail of a group, by size, whose largest block is not rewritten in vain (PLAN-2). */
function worthMerging(group: readonly BlockEntry[], settings: PlanSettings): BlockEntry[] {
  const bySize = group.toSorted((a, b) => b.bytes - a.bytes || (a.ulid < b.ulid ? -1 : 1))
  let first = bySize.length
  let tailBytes = 0
  for (let i = bySize.length - 1; i >= 0 && bySize.length - i <= settings.sourcesMax; i--) {
    const { bytes } = bySize[i]!
    if (tailBytes + bytes > settings.mergeBytesMax) break
    if (tailBytes > 0 && tailBytes >= settings.lateRatio * bytes) first = i
    tailBytes += bytes
  }
  return bySize.slice(first)
}

const newestOf = (blocks: readonly BlockEntry[]): number => Math.max(...blocks.map(({ maxTime }) => maxTime))

// ---- rewriting single blocks ----

function rewriteSteps(input: PlanInput, hiders: Hiders, blocks: readonly BlockEntry[]): MergeStep[] {
  return blocks.flatMap((block) => {
    if (input.isAside(block.ulid)) return []
    const step = rewriteOf(input, hiders, [block], 'delete')
    if (step.deletes.length > 0) return [step]
    const isNew = step.rules.some((id) => !block.rules?.includes(id))
    return isNew ? [{ ...step, why: 'retention' as const }] : []
  })
}

function rewriteOf(input: PlanInput, hiders: Hiders, sources: readonly BlockEntry[], why: MergeStep['why']): MergeStep {
  const { policy } = input
  const first = sources[0]!
  const deletes = (hiders.get(first.ulid) ?? []).filter(isFinal)
  const endMs = newestOf(sources)
  const agesMs = agesFrom(input)
  const keeps = policy.rules.map(({ matchers, keepMs }) => ({ matchers, beforeMs: hourBefore(agesMs, keepMs) }))
  const hasEnd = policy.keepMs !== Number.POSITIVE_INFINITY
  const levels = sources.map(({ origin }) => (origin.kind === 'compaction' ? origin.level : 0))
  return {
    kind: 'merge',
    why,
    sources,
    deletes,
    keeps: hasEnd ? [...keeps, { matchers: [], beforeMs: hourBefore(agesMs, policy.keepMs) }] : keeps,
    rules: policy.ruleIds.filter((_, index) => keeps[index]!.beforeMs >= endMs),
    level: sources.length === 1 ? Math.max(1, levels[0]!) : Math.max(...levels) + 1,
  }
}

/** PLAN-5 */
function agesFrom({ nowMs, newestMs = Number.POSITIVE_INFINITY }: PlanInput): number {
  return Math.min(nowMs, newestMs + DAY_MS)
}

/** Whole hours, so that plans made within one agree. */
function hourBefore(nowMs: number, keepMs: number): number {
  return Math.floor((nowMs - keepMs) / HOUR_MS) * HOUR_MS
}

// ---- dropping ----

function dropSteps(input: PlanInput): DropStep[] {
  const { manifest, policy } = input
  const beforeMs = hourBefore(agesFrom(input), longestKeepMs(policy))
  const old = manifest.blocks.filter(({ maxTime }) => maxTime <= beforeMs)
  const left = manifest.blocks.filter(({ maxTime }) => maxTime > beforeMs).sort((a, b) => a.maxTime - b.maxTime)
  let bytes = left.reduce((sum, block) => sum + block.bytes, 0)
  const large: BlockEntry[] = []
  for (const block of left) {
    if (bytes <= policy.bytesMax) break
    large.push(block)
    bytes -= block.bytes
  }
  const steps: DropStep[] = [
    { kind: 'drop', sources: old, why: 'age' },
    { kind: 'drop', sources: large, why: 'size' },
  ]
  return steps.filter(({ sources }) => sources.length > 0)
}

// ---- deletes ----

/** Whether time and flushes have brought about something for deletions. */
function settleSteps(input: PlanInput): SettleStep[] {
  return withEnded(input.manifest, endingOf(input)) === input.manifest ? [] : [{ kind: 'settle' }]
}

/** What `withEnded` asks for. */
export function endingOf({ manifest, nowMs, flushed }: Pick<PlanInput, 'manifest' | 'nowMs' | 'flushed'>) {
  return { nowMs, flushed: (partition: number) => Math.max(flushed(partition), manifest.flushed[partition] ?? 0) }
}
