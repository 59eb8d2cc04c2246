// What a merge is told and what it reports. Plain data: it crosses to the worker thread and back.
import { CorruptError } from '../../../shared/base/errors.ts'
import type { Aggregate } from '../../../shared/contracts/blocks.ts'
import type { BlockMeta, BlockStats } from '../../../shared/tsdb/block/meta.ts'
import type { Deletion } from '../../../shared/tsdb/delete-filter.ts'
import type { Keep } from '../plan-types.ts'

export interface MergeSource {
  readonly ulid: string
  readonly meta: BlockMeta
  /** What the manifest says. */
  readonly sampleCount: number
}

/** What is left out. */
export type Removal = Deletion

export interface MergeJob {
  readonly sources: readonly MergeSource[]
  readonly removals: readonly Removal[]
  readonly keeps: readonly Keep[]
  /** Windows of this length instead of samples; 0: samples. */
  readonly resolutionMs: number
}

/** The block that a sample goes to: `raw`, or one for each aggregate. */
export type OutputName = 'raw' | Aggregate

export interface MergeOutput {
  readonly name: OutputName
  readonly stats: BlockStats
}

export interface MergeReport {
  /** Those that hold samples. */
  readonly outputs: readonly MergeOutput[]
  readonly samplesIn: number
  /** Samples with a time that another source has as well (LOG-11). */
  readonly duplicates: number
  /** Left out by removals and keeps. */
  readonly removed: number
  readonly seriesCount: number
  /** Chunks that went over as they were. */
  readonly chunksPassed: number
  readonly chunksIn: number
  /** Of the thread that merged. */
  readonly cpuSeconds: number
}

export interface MergeIo {
  size(ulid: string, file: string): Promise<number>
  read(ulid: string, file: string, start: number, end: number): Promise<Uint8Array>
  /** Takes a finished file; a merge waits for the ones before it goes on. */
  write(output: OutputName, file: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>
}

export interface BlockCount {
  readonly seriesCount: number
  readonly chunkCount: number
  readonly sampleCount: number
  readonly cpuSeconds: number
}

/** Where the work is done: in a thread of its own, so that leases and heartbeats go on, or here, where time is simulated. */
export interface Merger {
  merge(job: MergeJob, io: MergeIo, signal: AbortSignal): Promise<MergeReport>
  /** Reads every byte of a block and counts. Throws DamagedSourceError. */
  count(source: MergeSource, io: Pick<MergeIo, 'size' | 'read'>, signal: AbortSignal): Promise<BlockCount>
}

/** A source that cannot be read as it should: set aside, so that the rest goes on. */
export class DamagedSourceError extends CorruptError {
  readonly ulid: string

  constructor(ulid: string, text: string, options?: ErrorOptions) {
    super('err-carillon-damaged-source', `block ${ulid}: ${text}`, options)
    this.ulid = ulid
  }
}
