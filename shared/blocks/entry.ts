// What a manifest says of a block just written.
import type { BlockEntry, BlockOrigin } from '../contracts/blocks.ts'
import type { BlockStats } from '../tsdb/block/meta.ts'
import { sha256Of } from '../wire/sha256.ts'

export interface WrittenBlock {
  readonly ulid: string
  readonly origin: BlockOrigin
  readonly stats: BlockStats
  /** The bytes of its meta.json. */
  readonly metaBytes: Uint8Array
  /** Default 0. */
  readonly resolutionMs?: number
}

export function entryOf({ ulid, origin, stats, metaBytes, resolutionMs = 0 }: WrittenBlock): BlockEntry {
  const { minTime, maxTime, seriesCount, sampleCount, chunkCount } = stats
  return {
    ...{ ulid, minTime, maxTime, seriesCount, sampleCount, chunkCount, origin, resolutionMs },
    bytes: stats.bytes + metaBytes.length,
    metaSha256: sha256Of(metaBytes),
  }
}
