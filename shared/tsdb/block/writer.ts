// Writes a block.
import type { Labels } from '../../model/labels.ts'
import type { SampleRun } from '../columns.ts'
import type { BlockStats } from './meta.ts'
import type { BlockChunk } from './series.ts'

export interface BlockWriterOptions {
  /** Takes a finished file: chunk files one after the other, the index last. The bytes are the callee's. */
  readonly onFile: (name: string, bytes: Uint8Array<ArrayBuffer>) => void | Promise<void>
  /** A chunk file is closed before it passes this, unless one chunk does. */
  readonly chunkFileBytesMax?: number
}

export class BlockWriter {
  constructor(_options: BlockWriterOptions) {}

  /** A series and its samples, cut into chunks canonically. Series come strictly in the order of compareLabels; times rise. */
  addSeries(_labels: Labels, _run: SampleRun): void {
    throw new Error('to come within the hour')
  }

  /** A series and its chunks as they are: in time order, not overlapping. */
  addChunks(_labels: Labels, _chunks: readonly BlockChunk[]): void {
    throw new Error('to come within the hour')
  }

  /** Undefined, or a promise to await before more is added: that of the chunk files that are still on their way. */
  backlog(): Promise<void> | undefined {
    throw new Error('to come within the hour')
  }

  /** Writes the index; throws the first error of `onFile`. */
  async finish(): Promise<BlockStats> {
    throw new Error('to come within the hour')
  }
}
