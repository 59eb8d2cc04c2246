// Carries out one step of a plan for a tenant whose lease is held.
//
// Order of a merge: read sources, write the files of the result, write its meta.json, read all of it back, change the manifest. A crash
// before the last leaves files that nobody lists (sweep.ts); after it, sources that are retired.
//
// Invariants
//   S1  Nothing is listed before every byte of it was read back and its samples counted.
//   S2  A source that cannot be read as it should is named and set aside; the tenant's other blocks go on.
//   S3  Every change carries the fence of the lease.
import { AssertionError } from '../../../shared/base/assert.ts'
import type { Clock } from '../../../shared/base/clock.ts'
import { ConflictError, CorruptError, textOf, UnavailableError } from '../../../shared/base/errors.ts'
import type { Blocks, StoredManifest } from '../../../shared/blocks/port.ts'
import { type BlockEntry, blockPrefix } from '../../../shared/contracts/blocks.ts'
import type { Lease } from '../../../shared/kv/leases.ts'
import { encodeTenant } from '../../../shared/model/tenant.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import { META_FILE } from '../../../shared/tsdb/block/files.ts'
import { BlockReader } from '../../../shared/tsdb/block/reader.ts'
import type { CompactorMeasures } from '../metrics.ts'
import type { DownsampleStep, DropStep, Keep, MergeStep, Step } from '../plan-types.ts'
import type { History, Running } from '../retire/step-history.ts'
import type { Sweep } from '../retire/sweep.ts'
import {
  DamagedSourceError,
  type MergeIo,
  type MergeJob,
  type MergeReport,
  type Merger,
  type Removal,
} from '../worker/merge-job.ts'
import { describe, type Naming, nameOf } from './block-files.ts'
import { withDownsampled, withDropped, withNothingToRemove, withReplacement, withSettled } from './manifest-changes.ts'
import { named } from './source-cursor.ts'

export interface StepDeps {
  readonly blocks: Blocks
  readonly merger: Merger
  readonly clock: Clock
  readonly log: Log
  readonly history: History
  readonly measures: CompactorMeasures
  readonly setAside: (tenant: string, ulid: string, reason: string) => void
  readonly sweep: Pick<Sweep, 'deleteUnlisted'>
}

/** What a step writes, and of what. */
interface Writing extends Pick<Naming, 'level' | 'job'> {
  readonly sources: readonly BlockEntry[]
  readonly rules: readonly string[]
}

const WRITE_TIMEOUT_MS = 60_000
/** What was written here reads as something else. */
const READ_BACK = 'compaction-read-back'
/** The farthest times that JSON and reads carry. */
const TIME_MAX = Number.MAX_SAFE_INTEGER

export type StepOutcome = 'done' | 'overtaken' | 'damaged'

export function stepRunner(deps: StepDeps) {
  const { blocks, merger, clock, log, history, measures, sweep } = deps

  /** Rejects with what the store or the bucket said, or with why the lease was lost. */
  return async function run(lease: Lease, step: Step, signal: AbortSignal): Promise<StepOutcome> {
    const sources = step.kind === 'settle' ? [] : step.sources
    const why = step.kind === 'settle' ? 'settle' : step.kind === 'downsample' ? 'downsample' : step.why
    const running = history.begin(lease.tenant, why, sources)
    try {
      const hasChanged = await carryOut(lease, step, running, signal)
      finish(running, hasChanged ? 'done' : 'nothing')
      return 'done'
    } catch (error) {
      const isOvertaken = error instanceof ConflictError && error.code === 'compaction-overtaken'
      const text = error instanceof Error ? error.message : String(error)
      finish(running, isOvertaken ? 'overtaken' : 'failed', text)
      if (isOvertaken) return 'overtaken'
      if (error instanceof DamagedSourceError) {
        deps.setAside(lease.tenant, error.ulid, error.message) // S2
        return 'damaged'
      }
      const isOurs = error instanceof CorruptError && error.code === READ_BACK // S1
      const mayPass = signal.aborted || isOurs || error instanceof UnavailableError || error instanceof ConflictError
      if (mayPass || error instanceof AssertionError) throw error
      for (const { ulid } of sources) deps.setAside(lease.tenant, ulid, `a merge with it failed: ${text}`)
      return 'damaged'
    }
  }

  function finish(running: Running, outcome: 'done' | 'nothing' | 'overtaken' | 'failed', text?: string): void {
    const step = history.end(running, outcome, text)
    measures.step(step)
    const { tenant, why, sources, results, samplesIn, samplesOut, bytesIn, bytesOut, tookMs } = step
    const facts = { tenant, why, outcome, sources: sources.length, results, samplesIn, samplesOut, bytesIn, bytesOut }
    if (outcome === 'failed') log.warn({ ...facts, reason: text }, 'a step of compaction failed')
    else log.info({ ...facts, tookMs: Math.round(tookMs ?? 0) }, 'a step of compaction')
  }

  /** False when there was nothing to change. */
  async function carryOut(lease: Lease, step: Step, running: Running, signal: AbortSignal): Promise<boolean> {
    switch (step.kind) {
      case 'merge':
        return merge(lease, step, running, signal)
      case 'downsample':
        return downsample(lease, step, running, signal)
      case 'drop':
        return drop(lease, step, signal)
      case 'settle':
        await change(lease, signal, (manifest) =>
          withSettled(manifest, { nowMs: clock.now(), flushed: (partition) => blocks.flushed(partition) }),
        )
        return true
    }
  }

  function change(
    { tenant, fence }: Lease,
    signal: AbortSignal,
    make: Parameters<Blocks['update']>[1],
  ): Promise<StoredManifest> {
    return blocks.update(tenant, make, { fence, signal }) // S3
  }

  async function drop(lease: Lease, { sources }: DropStep, signal: AbortSignal): Promise<boolean> {
    const ulids = sources.map(({ ulid }) => ulid)
    await change(lease, signal, (manifest) => withDropped(manifest, ulids, clock.now()))
    return true
  }

  // ---- merging ----

  async function merge(lease: Lease, step: MergeStep, running: Running, signal: AbortSignal): Promise<boolean> {
    const { sources, deletes, keeps, rules, level } = step
    const removals = deletes.map(({ kind, selectors, startMs, endMs }): Removal => {
      return { selectors: kind === 'tenant' ? [[]] : selectors, startMs, endMs }
    })
    const applied = deletes.map(({ id }) => id)
    const job: MergeJob = { sources: await sourcesOf(lease.tenant, sources), removals, keeps, resolutionMs: 0 }
    if (sources.length === 1 && !(await holdsAny(lease.tenant, sources[0]!, job, signal))) {
      const source = sources[0]!
      await change(lease, signal, (manifest) => withNothingToRemove(manifest, { source, applied, rules }))
      return false
    }
    const { report, results } = await write(lease, { level, job, sources, rules }, running, signal)
    const reason = applied.length > 0 ? 'deleted' : 'compacted'
    await change(lease, signal, (manifest) =>
      withReplacement(manifest, {
        ...{ sources, results, applied, reason },
        isComplete: report.removed === 0,
        nowMs: clock.now(),
      }),
    )
    return true
  }

  async function downsample(
    lease: Lease,
    step: DownsampleStep,
    running: Running,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { sources, resolutionMs, replaces } = step
    const job: MergeJob = { sources: await sourcesOf(lease.tenant, sources), removals: [], keeps: [], resolutionMs }
    const level = Math.max(1, ...sources.map(({ origin }) => (origin.kind === 'compaction' ? origin.level : 0)))
    const { results } = await write(lease, { level, job, sources, rules: [] }, running, signal)
    await change(lease, signal, (manifest) =>
      withDownsampled(manifest, { sources, replaces, results, nowMs: clock.now() }),
    )
    return true
  }

  async function sourcesOf(tenant: string, entries: readonly BlockEntry[]): Promise<MergeJob['sources']> {
    const sources: MergeJob['sources'][number][] = []
    for (const entry of entries) {
      const { ulid, sampleCount } = entry
      const meta = await naming(ulid, () => blocks.openBlock(tenant, entry).meta())
      sources.push({ ulid, meta, sampleCount })
    }
    return sources
  }

  /** Whether a block holds series with samples in a time that the job leaves out. */
  async function holdsAny(tenant: string, entry: BlockEntry, job: MergeJob, signal: AbortSignal): Promise<boolean> {
    const stored = blocks.openBlock(tenant, entry)
    const wanted = [
      ...job.removals.flatMap(({ selectors, startMs, endMs }) =>
        selectors.map((matchers) => ({ matchers, startMs, endMs })),
      ),
      ...job.keeps.map(({ matchers, beforeMs }: Keep) => ({ matchers, startMs: -TIME_MAX, endMs: beforeMs - 1 })),
    ]
    return naming(entry.ulid, async () => {
      const reader = await BlockReader.open(stored, job.sources[0]!.meta, { signal })
      for (const { matchers, startMs, endMs } of wanted) {
        if (endMs < entry.minTime || startMs >= entry.maxTime) continue
        for await (const batch of reader.series(matchers, { startMs, endMs }, { signal })) {
          if (batch.length > 0) return true
        }
      }
      return false
    })
  }

  // ---- writing ----

  async function write(
    lease: Lease,
    { level, job, sources, rules }: Writing,
    running: Running,
    signal: AbortSignal,
  ): Promise<{ report: MergeReport; results: BlockEntry[] }> {
    const { tenant, fence } = lease
    const naming: Naming = { tenant, fence, level, job }
    /** Blocks and the writes of their files. */
    const begun = new Map<string, Promise<void>[]>()
    const token = encodeTenant(tenant)
    const stored = new Map(sources.map((entry) => [entry.ulid, blocks.openBlock(tenant, entry)]))
    const io: MergeIo = {
      size: (ulid, file) => stored.get(ulid)!.size(file, signal),
      async read(ulid, file, start, end) {
        const bytes = await stored.get(ulid)!.read(file, start, end, signal)
        running.bytesRead += bytes.length
        return bytes
      },
      write(output, file, bytes) {
        const ulid = nameOf(naming, output)
        const writing = create(`${blockPrefix(token, ulid)}${file}`, bytes, running, signal)
        begun.set(ulid, [...(begun.get(ulid) ?? []), writing])
        return writing
      },
    }
    try {
      return await writeWith(io, naming, sources, rules, running, signal)
    } catch (error) {
      if (!signal.aborted) await discard(lease, begun, signal)
      throw error
    }
  }

  async function create(name: string, bytes: Uint8Array, running: Running, signal: AbortSignal): Promise<void> {
    const { length } = bytes
    await blocks.objects.create(name, bytes, { timeoutMs: WRITE_TIMEOUT_MS, signal })
    running.bytesOut += length
  }

  /** What a failed step has written goes at once, so that a store that is full does not fill up with the tries; but as the sweep takes it: the same
   *  merge, done before, may have listed blocks of these very names. */
  async function discard(lease: Lease, begun: ReadonlyMap<string, readonly Promise<void>[]>, signal: AbortSignal) {
    try {
      for (const writes of begun.values()) await Promise.allSettled(writes)
      await sweep.deleteUnlisted(lease, [...begun.keys()], signal)
    } catch (error) {
      log.warn(
        { tenant: lease.tenant, reason: textOf(error) },
        'what a failed step has written stays until the next sweep',
      )
    }
  }

  async function writeWith(
    io: MergeIo,
    naming: Naming,
    sources: readonly BlockEntry[],
    rules: readonly string[],
    running: Running,
    signal: AbortSignal,
  ): Promise<{ report: MergeReport; results: BlockEntry[] }> {
    const report = await merger.merge(naming.job, io, signal)
    running.samplesIn = report.samplesIn
    running.duplicates = report.duplicates
    running.removed = report.removed
    measures.merged(report)
    const results: BlockEntry[] = []
    for (const output of report.outputs) {
      const { entry, meta, bytes } = describe(naming, output, sources, rules)
      await io.write(output.name, META_FILE, bytes)
      await readBack(naming.tenant, entry, meta, signal)
      results.push(entry)
    }
    running.samplesOut = results.reduce((sum, { sampleCount }) => sum + sampleCount, 0)
    running.results = results.map(({ ulid }) => ulid)
    return { report, results }
  }

  /** S1. What was written and reads as something else is no fault of the sources: the step fails and is tried again. */
  async function readBack(
    tenant: string,
    entry: BlockEntry,
    meta: Parameters<typeof merger.count>[0]['meta'],
    signal: AbortSignal,
  ): Promise<void> {
    const stored = blocks.openBlock(tenant, entry)
    const { ulid, sampleCount } = entry
    const io = {
      size: (_: string, file: string) => stored.size(file, signal),
      read: (_: string, file: string, start: number, end: number) => stored.read(file, start, end, signal),
    }
    try {
      await stored.meta(signal)
      const found = await merger.count({ ulid, meta, sampleCount }, io, signal)
      measures.checked(found)
      const isSame = found.seriesCount === entry.seriesCount && found.chunkCount === entry.chunkCount
      if (isSame && found.sampleCount === sampleCount) return
      throw new CorruptError(READ_BACK, `block ${ulid} holds something else`)
    } catch (error) {
      if (!(error instanceof CorruptError)) throw error
      throw new CorruptError(READ_BACK, `what was just written: ${error.message}`, { cause: error })
    }
  }
}

/** Damage of what stands under this name, named. */
async function naming<T>(ulid: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (error) {
    throw named(ulid, error)
  }
}
