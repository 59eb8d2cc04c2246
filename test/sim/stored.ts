// What blocks hold at the end of a simulated history, read as a querier would: the manifest's blocks through the object store.
import { textOf } from '../../shared/base/errors.ts'
import type { Blocks } from '../../shared/blocks/port.ts'
import type { BlockEntry } from '../../shared/contracts/blocks.ts'
import { decodeBlockChunk } from '../../shared/tsdb/block/chunk-samples.ts'
import { BlockReader } from '../../shared/tsdb/block/reader.ts'
import { SampleColumns } from '../../shared/tsdb/columns.ts'

export interface StoredSamples {
  /** Of floats, and sums of histograms, whether a deletion hides them or not. */
  readonly values: ReadonlySet<number>
  /** Samples of each partition's flushed blocks, but for what owners added that were left behind. */
  readonly counts: ReadonlyMap<number, number>
  /** The newest flushed segment of each partition. */
  readonly flushed: ReadonlyMap<number, number>
  readonly mergedCount: number
  readonly supplementCount: number
  readonly faults: readonly string[]
}

export async function readStored(
  blocks: Blocks,
  { tenant, partitionCount, mayHaveGaps }: { tenant: string; partitionCount: number; mayHaveGaps: boolean },
): Promise<StoredSamples> {
  const values = new Set<number>()
  const counts = new Map<number, number>()
  const manifest = blocks.manifest(tenant)?.manifest
  const flushed = new Map<number, number>()
  for (let partition = 0; partition < partitionCount; partition++) {
    // A flush may have been cut off between the manifest and the watermark: the larger of the two counts (LOG-15).
    flushed.set(partition, Math.max(manifest?.flushed[String(partition)] ?? 0, blocks.flushed(partition)))
  }
  const faults = [...(await blocks.checkChain(tenant))]
  const ulids = new Set<string>()
  let mergedCount = 0
  let supplementCount = 0
  for (const entry of manifest?.blocks ?? []) {
    const { origin, ulid } = entry
    if (ulids.has(ulid)) faults.push(`block ${ulid} is listed twice`)
    ulids.add(ulid)
    if (origin.kind === 'compaction') mergedCount++
    if (origin.kind === 'flush') {
      if (entry.gaps !== undefined && !mayHaveGaps) faults.push(`block ${ulid} has gaps`)
      if (origin.isSupplement === true) supplementCount++
      else counts.set(origin.partition, (counts.get(origin.partition) ?? 0) + entry.sampleCount)
    }
    try {
      for await (const value of valuesIn(blocks, tenant, entry)) values.add(value)
    } catch (error) {
      faults.push(`block ${ulid}: ${textOf(error)}`)
    }
  }
  return { values, counts, flushed, mergedCount, supplementCount, faults }
}

async function* valuesIn(blocks: Blocks, tenant: string, entry: BlockEntry): AsyncIterable<number> {
  const files = blocks.openBlock(tenant, entry)
  const reader = await BlockReader.open(files, await files.meta(), { isThorough: true })
  const columns = new SampleColumns()
  for await (const batch of reader.allSeries()) {
    for (const { chunks } of batch) {
      columns.clear()
      for (const chunk of chunks) decodeBlockChunk(chunk, columns)
      for (let i = 0; i < columns.count; i++) yield columns.histograms?.[i]?.sum ?? columns.values[i]!
    }
  }
}
