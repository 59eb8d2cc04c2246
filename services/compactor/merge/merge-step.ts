// Steps that merge: blocks into fewer ones, or raw blocks into windows.
import type { Clock } from '../../../shared/base/clock.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import type { BlockEntry } from '../../../shared/contracts/blocks.ts'
import type { Matcher } from '../../../shared/model/matcher.ts'
import { BlockReader } from '../../../shared/tsdb/block/reader.ts'
import type { DownsampleStep, Keep, MergeStep } from '../plan-types.ts'
import type { MergeJob, Removal } from '../worker/merge-job.ts'
import { withDownsampled, withNothingToRemove, withReplacement } from './manifest-changes.ts'
import { named } from './source-cursor.ts'
import { changeManifest, type StepContext } from './step-context.ts'
import type { BlockWriter } from './write-blocks.ts'

export interface MergeStepsDeps {
  readonly blocks: Blocks
  readonly clock: Clock
}

/** The farthest times that JSON and reads carry. */
const TIME_MAX = Number.MAX_SAFE_INTEGER

export class MergeSteps {
  readonly #deps: MergeStepsDeps
  readonly #writer: BlockWriter

  constructor(deps: MergeStepsDeps, writer: BlockWriter) {
    this.#deps = deps
    this.#writer = writer
  }

  /** False when there was nothing to change. */
  async merge(step: MergeStep, context: StepContext): Promise<boolean> {
    const { blocks, clock } = this.#deps
    const { sources, deletes, keeps, rules, level } = step
    const removals = deletes.map(({ kind, selectors, startMs, endMs }): Removal => {
      return { selectors: kind === 'tenant' ? [[]] : selectors, startMs, endMs }
    })
    const applied = deletes.map(({ id }) => id)
    const job: MergeJob = { sources: await this.#sourcesOf(sources, context), removals, keeps, resolutionMs: 0 }
    if (sources.length === 1 && !(await this.#holdsAny(sources[0]!, job, context))) {
      const source = sources[0]!
      await changeManifest(blocks, context, (manifest) => withNothingToRemove(manifest, { source, applied, rules }))
      return false
    }
    const { report, results } = await this.#writer.write({ level, job, sources, rules }, context)
    const reason = applied.length > 0 ? 'deleted' : 'compacted'
    await changeManifest(blocks, context, (manifest) =>
      withReplacement(manifest, {
        ...{ sources, results, applied, reason },
        isComplete: report.removed === 0,
        nowMs: clock.now(),
      }),
    )
    return true
  }

  async downsample({ sources, resolutionMs, replaces }: DownsampleStep, context: StepContext): Promise<void> {
    const { blocks, clock } = this.#deps
    const job: MergeJob = { sources: await this.#sourcesOf(sources, context), removals: [], keeps: [], resolutionMs }
    const level = Math.max(1, ...sources.map(({ origin }) => (origin.kind === 'compaction' ? origin.level : 0)))
    const { results } = await this.#writer.write({ level, job, sources, rules: [] }, context)
    await changeManifest(blocks, context, (manifest) =>
      withDownsampled(manifest, { sources, replaces, results, nowMs: clock.now() }),
    )
  }

  async #sourcesOf(entries: readonly BlockEntry[], { lease }: StepContext): Promise<MergeJob['sources']> {
    const sources: MergeJob['sources'][number][] = []
    for (const entry of entries) {
      const { ulid, sampleCount } = entry
      const meta = await naming(ulid, () => this.#deps.blocks.openBlock(lease.tenant, entry).meta())
      sources.push({ ulid, meta, sampleCount })
    }
    return sources
  }

  /** Whether a block holds series with samples in a time that the job leaves out. */
  async #holdsAny(entry: BlockEntry, job: MergeJob, { lease, signal }: StepContext): Promise<boolean> {
    const stored = this.#deps.blocks.openBlock(lease.tenant, entry)
    return naming(entry.ulid, async () => {
      const reader = await BlockReader.open(stored, job.sources[0]!.meta, { signal })
      for (const { matchers, startMs, endMs } of leftOutOf(job)) {
        if (endMs < entry.minTime || startMs >= entry.maxTime) continue
        for await (const batch of reader.series(matchers, { startMs, endMs }, { signal })) {
          if (batch.length > 0) return true
        }
      }
      return false
    })
  }
}

interface LeftOut {
  readonly matchers: readonly Matcher[]
  readonly startMs: number
  readonly endMs: number
}

/** The samples that a job leaves out. */
function leftOutOf({ removals, keeps }: MergeJob): LeftOut[] {
  return [
    ...removals.flatMap(({ selectors, startMs, endMs }) => selectors.map((matchers) => ({ matchers, startMs, endMs }))),
    ...keeps.map(({ matchers, beforeMs }: Keep) => ({ matchers, startMs: -TIME_MAX, endMs: beforeMs - 1 })),
  ]
}

/** Damage of what stands under this name, named. */
async function naming<T>(ulid: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (error) {
    throw named(ulid, error)
  }
}
