// Reads all of a block, as a reader will, and counts what it finds.
import type { BlockCount, MergeIo, MergeSource } from '../worker/merge-job.ts'
import { SourceCursor } from './source-cursor.ts'

export async function countBlock(
  source: MergeSource,
  io: Pick<MergeIo, 'size' | 'read'>,
  signal: AbortSignal,
): Promise<BlockCount> {
  const cpuBefore = process.threadCpuUsage()
  const cursor = await SourceCursor.open(source, io, signal)
  let seriesCount = 0
  let chunkCount = 0
  try {
    while (cursor.series !== undefined) {
      seriesCount++
      chunkCount += cursor.series.chunks.length
      const waiting = cursor.advance()
      if (waiting !== undefined) {
        await waiting
        signal.throwIfAborted()
      }
    }
  } finally {
    await cursor.close()
  }
  const { user, system } = process.threadCpuUsage(cpuBefore)
  return { seriesCount, chunkCount, sampleCount: cursor.samplesRead, cpuSeconds: (user + system) / 1e6 }
}
