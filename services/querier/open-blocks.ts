// Blocks that are open: their readers are kept, the longest unused go first, bounded by number and by memory (named settings).

import { LRUCache } from 'lru-cache'
import type { Blocks } from '../../shared/blocks/port.ts'
import type { BlockEntry } from '../../shared/contracts/blocks.ts'
import { type BlockFiles, TOMBSTONES_FILE } from '../../shared/tsdb/block/files.ts'
import type { BlockMeta } from '../../shared/tsdb/block/meta.ts'
import { BlockReader, type FoundSeries, type KeptSeries } from '../../shared/tsdb/block/reader.ts'
import { readTombstones } from '../../shared/tsdb/block/tombstones.ts'
import type { Interval } from '../../shared/tsdb/delete-filter.ts'
import type { Tombstones } from './hidden.ts'
import type { Views } from './views.ts'

export interface OpenBlock {
  readonly ulid: string
  readonly reader: BlockReader
  readonly tombstones: Tombstones
}

export interface OpenBlocks {
  /** Rejects with what reading rejects with; a block that could not be opened is tried again the next time. */
  open(tenant: string, entry: BlockEntry): Promise<OpenBlock>
  readonly count: number
  readonly bytes: number
}

export interface OpenBlocksOptions {
  readonly countMax: number
  readonly bytesMax: number
}

/** What an open block weighs beside what its reader says. */
const BLOCK_BYTES = 2_048
const STONE_BYTES = 100
/** What questions found in blocks may take beside, as a share of what open blocks may; of that, one question and block. */
const FOUND_SHARE = 1 / 4
const FOUND_SHARE_EACH = 1 / 3

interface Weighed {
  readonly series: readonly FoundSeries[]
  readonly bytes: number
}

export function keepOpen(views: Pick<Views, 'opened'>, { countMax, bytesMax }: OpenBlocksOptions): OpenBlocks {
  const kept = new LRUCache<string, OpenBlock>({
    max: countMax,
    maxSize: bytesMax,
    sizeCalculation: ({ reader, tombstones }) => BLOCK_BYTES + reader.bytes + tombstones.size * STONE_BYTES,
  })
  const maxSize = Math.max(1, Math.floor(bytesMax * FOUND_SHARE))
  const found = new LRUCache<string, Weighed>({ maxSize, sizeCalculation: ({ bytes }) => 1 + bytes })
  const keptOf = (key: string): KeptSeries => ({
    bytesMax: maxSize * FOUND_SHARE_EACH,
    get: (matchers) => found.get(`${key} ${matchers}`)?.series,
    set: (matchers, series, bytes) => void found.set(`${key} ${matchers}`, { series, bytes }),
  })
  /** Bound: one per block that is being opened. */
  const opening = new Map<string, Promise<OpenBlock>>()

  return {
    open(tenant, entry) {
      const key = `${tenant}/${entry.ulid}`
      const known = kept.get(key)
      if (known !== undefined) return Promise.resolve(known)
      const underWay = opening.get(key)
      if (underWay !== undefined) return underWay
      const opened = openOne(views.opened(), tenant, entry, keptOf(key))
        .then((block) => {
          kept.set(key, block)
          return block
        })
        .finally(() => opening.delete(key))
      opening.set(key, opened)
      return opened
    },
    get count() {
      return kept.size
    },
    get bytes() {
      return kept.calculatedSize
    },
  }
}

/** Not ended by the query that happens to be the first: others may wait for the same block. Every read has its own deadline. */
async function openOne(
  blocks: Pick<Blocks, 'openBlock'>,
  tenant: string,
  entry: BlockEntry,
  kept: KeptSeries,
): Promise<OpenBlock> {
  const files = blocks.openBlock(tenant, entry)
  const meta = await files.meta()
  const [reader, tombstones] = await Promise.all([BlockReader.open(files, meta, { kept }), tombstonesOf(files, meta)])
  return { ulid: entry.ulid, reader, tombstones }
}

async function tombstonesOf(files: BlockFiles, { carillon }: BlockMeta): Promise<Tombstones> {
  const byRef = new Map<number, Interval[]>()
  const file = carillon?.files.find(({ name }) => name === TOMBSTONES_FILE)
  if (file === undefined) return byRef
  for (const { ref, startMs, endMs } of readTombstones(await files.read(TOMBSTONES_FILE, 0, file.size))) {
    const intervals = byRef.get(ref) ?? []
    byRef.set(ref, intervals)
    intervals.push({ startMs, endMs })
  }
  return byRef
}
