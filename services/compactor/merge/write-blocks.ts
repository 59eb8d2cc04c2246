// Writes the blocks that a merge makes, and reads them back. What a step that fails has written goes at once.
//
// Invariants
//   STEP-1  Nothing is listed before every byte of it was read back and its samples counted.
import { CorruptError, textOf } from '../../../shared/base/errors.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import { type BlockEntry, blockPrefix } from '../../../shared/contracts/blocks.ts'
import { encodeTenant } from '../../../shared/model/tenant.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import { META_FILE } from '../../../shared/tsdb/block/files.ts'
import type { BlockMeta } from '../../../shared/tsdb/block/meta.ts'
import type { CompactorMeasures } from '../metrics.ts'
import type { Sweep } from '../retire/sweep.ts'
import type { MergeIo, MergeReport, Merger } from '../worker/merge-job.ts'
import { describe, type Naming, nameOf } from './block-files.ts'
import type { StepContext } from './step-context.ts'

export interface BlockWriterDeps {
  readonly blocks: Blocks
  readonly merger: Merger
  readonly log: Log
  readonly measures: CompactorMeasures
  readonly sweep: Pick<Sweep, 'deleteUnlisted'>
}

/** What a step writes, and of what. */
export interface Writing extends Pick<Naming, 'level' | 'job'> {
  readonly sources: readonly BlockEntry[]
  readonly rules: readonly string[]
}

export interface Written {
  readonly report: MergeReport
  readonly results: readonly BlockEntry[]
}

const WRITE_TIMEOUT_MS = 60_000
/** What was written here reads as something else. */
export const READ_BACK = 'compaction-read-back'

export class BlockWriter {
  readonly #deps: BlockWriterDeps

  constructor(deps: BlockWriterDeps) {
    this.#deps = deps
  }

  async write(writing: Writing, context: StepContext): Promise<Written> {
    /** Blocks and the writes of their files. */
    const begun = new Map<string, Promise<void>[]>()
    const { tenant, fence } = context.lease
    const naming: Naming = { tenant, fence, level: writing.level, job: writing.job }
    try {
      return await this.#writeWith(this.#io(writing, naming, begun, context), naming, writing, context)
    } catch (error) {
      if (!context.signal.aborted) await this.#discard(begun, context)
      throw error
    }
  }

  #io(
    { sources }: Writing,
    naming: Naming,
    begun: Map<string, Promise<void>[]>,
    { running, signal }: StepContext,
  ): MergeIo {
    const { blocks } = this.#deps
    const { tenant } = naming
    const token = encodeTenant(tenant)
    const stored = new Map(sources.map((entry) => [entry.ulid, blocks.openBlock(tenant, entry)]))
    const create = async (name: string, bytes: Uint8Array) => {
      const { length } = bytes
      await blocks.objects.create(name, bytes, { timeoutMs: WRITE_TIMEOUT_MS, signal })
      running.bytesOut += length
    }
    return {
      size: (ulid, file) => stored.get(ulid)!.size(file, signal),
      async read(ulid, file, start, end) {
        const bytes = await stored.get(ulid)!.read(file, start, end, signal)
        running.bytesRead += bytes.length
        return bytes
      },
      write(output, file, bytes) {
        const ulid = nameOf(naming, output)
        const writing = create(`${blockPrefix(token, ulid)}${file}`, bytes)
        begun.set(ulid, [...(begun.get(ulid) ?? []), writing])
        return writing
      },
    }
  }

  async #writeWith(io: MergeIo, naming: Naming, { sources, rules }: Writing, context: StepContext): Promise<Written> {
    const { merger, measures } = this.#deps
    const { running, signal } = context
    const report = await merger.merge(naming.job, io, signal)
    running.samplesIn = report.samplesIn
    running.duplicates = report.duplicates
    running.removed = report.removed
    measures.merged(report)
    const results: BlockEntry[] = []
    for (const output of report.outputs) {
      const { entry, meta, bytes } = describe(naming, output, sources, rules)
      await io.write(output.name, META_FILE, bytes)
      await this.#readBack(entry, meta, context)
      results.push(entry)
    }
    running.samplesOut = results.reduce((sum, { sampleCount }) => sum + sampleCount, 0)
    running.results = results.map(({ ulid }) => ulid)
    return { report, results }
  }

  /** STEP-1. What was written and reads as something else is no fault of the sources: the step fails and is tried again. */
  async #readBack(entry: BlockEntry, meta: BlockMeta, { lease, signal }: StepContext): Promise<void> {
    const { blocks, merger, measures } = this.#deps
    const stored = blocks.openBlock(lease.tenant, entry)
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

  /** What a failed step has written goes at once, so that a store that is full does not fill up with the tries; but as the sweep takes it: the
   *  same merge, done before, may have listed blocks of these very names. */
  async #discard(begun: ReadonlyMap<string, readonly Promise<void>[]>, { lease, signal }: StepContext): Promise<void> {
    const { log, sweep } = this.#deps
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
}
