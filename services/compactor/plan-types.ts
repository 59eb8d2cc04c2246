// What a plan is made from, and the steps that it is made of (plan.ts).
import type { BlockEntry, DeleteEntry, Manifest } from '../../shared/contracts/blocks.ts'
import type { Matcher } from '../../shared/model/matcher.ts'
import type { Policy } from './plan/retention-policy.ts'

export interface PlanSettings {
  /** Ascending, each a multiple of the one before. */
  readonly rangesMs: readonly number[]
  /** After the end of a range, until it counts as complete. */
  readonly delayMs: number
  readonly lateRatio: number
  readonly sourcesMax: number
  readonly mergeBytesMax: number
}

export interface PlanInput {
  readonly manifest: Manifest
  readonly nowMs: number
  readonly settings: PlanSettings
  readonly policy: Policy
  /** The newest segment of a partition that is in blocks, of all tenants. */
  readonly flushed: (partition: number) => number
  readonly isAside: (ulid: string) => boolean
  /** Of the newest sample in any tenant's blocks: nothing is too old by more than came in since (PLAN-5). Absent: nobody knows. */
  readonly newestMs?: number | undefined
  /** Ranges count as complete at once. */
  readonly isForced?: boolean
  /** Whether downsampled data of a range may be made again, now. */
  readonly mayDownsample?: (range: { startMs: number; resolutionMs: number }) => boolean
}

/** Samples of series that match go when they are older; the first keep that matches decides. */
export interface Keep {
  readonly matchers: readonly Matcher[]
  readonly beforeMs: number
}

export interface MergeStep {
  readonly kind: 'merge'
  readonly why: 'small' | 'late' | 'delete' | 'retention'
  readonly sources: readonly BlockEntry[]
  /** Those whose samples are left out. */
  readonly deletes: readonly DeleteEntry[]
  readonly keeps: readonly Keep[]
  /** Ids of the rules that have been applied to all of the outcome. */
  readonly rules: readonly string[]
  readonly level: number
}

export interface DownsampleStep {
  readonly kind: 'downsample'
  readonly sources: readonly BlockEntry[]
  readonly resolutionMs: number
  readonly startMs: number
  /** Downsampled blocks that the new one replaces. */
  readonly replaces: readonly BlockEntry[]
}

/** Blocks that nobody wants any more. */
export interface DropStep {
  readonly kind: 'drop'
  readonly sources: readonly BlockEntry[]
  readonly why: 'age' | 'size'
}

/** Windows of deletions that are over end, deletions that are done become history. */
export interface SettleStep {
  readonly kind: 'settle'
}

export type Step = MergeStep | DownsampleStep | DropStep | SettleStep

export interface Range {
  readonly startMs: number
  readonly endMs: number
}
