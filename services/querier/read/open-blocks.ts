// Blocks that are open: their readers are kept, and what questions found in them. Of both the longest unused go first, bounded by number and
// by memory (named settings).
//
// Invariants
//   QUERY-14  What was found is known by tenant and ULID, so by the bytes of the block: which blocks are read, and what of them is hidden, is decided
//        anew by every question.

import { LRUCache } from 'lru-cache'
import type { Breath, Breathing } from '../../../shared/base/breathing.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import type { BlockEntry } from '../../../shared/contracts/blocks.ts'
import type { Interval } from '../../../shared/model/interval.ts'
import { encodeTenant } from '../../../shared/model/tenant.ts'
import { type BlockFiles, INDEX_FILE, TOMBSTONES_FILE } from '../../../shared/tsdb/block/files.ts'
import type { BlockMeta } from '../../../shared/tsdb/block/meta.ts'
import { BlockReader, type FoundSeries, type KeptSeries } from '../../../shared/tsdb/block/reader.ts'
import { readTombstones } from '../../../shared/tsdb/block/tombstones.ts'
import type { Tombstones } from './hidden-samples.ts'
import type { Views } from './snapshots.ts'

export interface OpenBlock {
  readonly ulid: string
  readonly reader: BlockReader
  readonly tombstones: Tombstones
}

export interface OpenBlocks {
  /** Rejects with what reading rejects with; a block that could not be opened is tried again the next time. */
  open(tenant: string, entry: BlockEntry): Promise<OpenBlock>
  readonly count: number
  /** Of all that is kept. */
  readonly bytes: number
}

export interface OpenBlocksOptions {
  readonly countMax: number
  /** Of blocks, and of what was found in them. */
  readonly bytesMax: number
  readonly breathing: Breathing
}

/** What an open block weighs beside what its reader says. */
const BLOCK_BYTES = 2_048
const STONE_BYTES = 100
/** Of the bound, for what questions found in blocks; of that, for one question and block. */
const FOUND_SHARE = 1 / 4
const FOUND_SHARE_EACH = 1 / 2

interface Found {
  readonly series: readonly FoundSeries[]
  readonly bytes: number
}

interface Kept {
  readonly block: OpenBlock
  readonly bytes: number
}

export function keepOpen(
  views: Pick<Views, 'opened'>,
  { countMax, bytesMax, breathing }: OpenBlocksOptions,
): OpenBlocks {
  const foundBytesMax = Math.max(1, Math.floor(bytesMax * FOUND_SHARE))
  const sizeCalculation = ({ bytes }: { readonly bytes: number }) => 1 + bytes
  const kept = new LRUCache<string, Kept>({
    max: countMax,
    maxSize: Math.max(1, bytesMax - foundBytesMax),
    sizeCalculation,
  })
  const found = new LRUCache<string, Found>({ maxSize: foundBytesMax, sizeCalculation })
  const keptOf = (key: string): KeptSeries => ({
    bytesMax: foundBytesMax * FOUND_SHARE_EACH,
    get: (matchers) => found.get(`${key} ${matchers}`)?.series, // QUERY-14
    set: (matchers, series, bytes) => void found.set(`${key} ${matchers}`, { series, bytes: bytes + matchers.length }),
  })
  /** Bound: one per block that is being opened. */
  const opening = new Map<string, Promise<OpenBlock>>()

  return {
    open(tenant, entry) {
      const key = `${tenant}/${entry.ulid}`
      const known = kept.get(key)
      if (known !== undefined) {
        if (known.bytes !== weightOf(known.block)) keep(key, known.block) // questions have left something in it
        return Promise.resolve(known.block)
      }
      const underWay = opening.get(key)
      if (underWay !== undefined) return underWay
      const breath = breathing.open(encodeTenant(tenant), new AbortController().signal) // openOne is not ended
      const opened = openOne(views.opened(), tenant, entry, { kept: keptOf(key), breath })
        .then((block) => {
          keep(key, block)
          return block
        })
        .finally(() => {
          breath.close()
          opening.delete(key)
        })
      opening.set(key, opened)
      return opened
    },
    get count() {
      return kept.size
    },
    get bytes() {
      return kept.calculatedSize + found.calculatedSize
    },
  }

  function keep(key: string, block: OpenBlock): void {
    kept.set(key, { block, bytes: weightOf(block) })
  }
}

function weightOf({ reader, tombstones }: OpenBlock): number {
  return BLOCK_BYTES + reader.bytes + tombstones.size * STONE_BYTES
}

/** Not ended by the query that happens to be the first: others may wait for the same block. Every read has its own deadline. */
async function openOne(
  blocks: Pick<Blocks, 'openBlock'>,
  tenant: string,
  entry: BlockEntry,
  call: { readonly kept: KeptSeries; readonly breath: Breath },
): Promise<OpenBlock> {
  const files = blocks.openBlock(tenant, entry)
  files.ahead?.(INDEX_FILE)
  const meta = await files.meta()
  const [reader, tombstones] = await Promise.all([BlockReader.open(files, meta, call), tombstonesOf(files, meta)])
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
