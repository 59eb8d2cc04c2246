// What the import of an uploaded block is told and what it reports. Plain data: it crosses to the worker thread and back.
import type { LabelLimits } from '../../../shared/model/label-rules.ts'
import type { BlockMeta, BlockStats } from '../../../shared/tsdb/block/meta.ts'

export interface ImportJob {
  /** As the uploader named it. */
  readonly ulid: string
  /** The files that came. */
  readonly hasTombstones: boolean
  /** Of all of them. */
  readonly bytes: number
  readonly limits: LabelLimits
  /** No sample may lie behind it. */
  readonly latestMs: number
  /** What lies before it is not kept: a block with nothing else is refused. */
  readonly earliestMs: number
}

/** The aligned range that an output holds, ms: [startMs, endMs). */
export interface ImportOutput {
  readonly startMs: number
  readonly stats: BlockStats
}

export interface ImportReport {
  /** Of the block that came. */
  readonly meta: BlockMeta
  readonly outputs: readonly ImportOutput[]
  readonly samplesIn: number
  /** Left out: the block's tombstones said so. */
  readonly removed: number
  readonly cpuSeconds: number
}

export interface ImportIo {
  size(ulid: string, file: string): Promise<number>
  read(ulid: string, file: string, start: number, end: number): Promise<Uint8Array>
  /** Takes a finished file of the output that begins there. */
  write(startMs: string, file: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>
}

export interface Importer {
  /** Throws RefusedError for a block that breaks a rule, with every reason in its text. */
  import(job: ImportJob, io: ImportIo, signal: AbortSignal): Promise<ImportReport>
}
