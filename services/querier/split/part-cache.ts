// Parts of range queries that were evaluated before (LOG-21): bounded by bytes, the longest unused go first.
//
// Invariants
//   QUERY-11  A part is kept only when it was read from blocks alone, and found again only by the very same blocks and deletions. Whoever
//        uses it has made sure that owners hold nothing of it now.
import { LRUCache } from 'lru-cache'
import { isHiding } from '../../../shared/blocks/delete-rules.ts'
import { WINDOW_RANGE_MS, WINDOWS_MS } from '../../../shared/blocks/downsampled.ts'
import type { QueryPartReply } from '../../../shared/contracts/query-part.ts'
import type { Interval } from '../../../shared/model/interval.ts'
import { sha256Of } from '../../../shared/wire/sha256.ts'
import type { View } from '../read/snapshots.ts'
import { overlaps } from '../read/tenant-reader.ts'
import type { Part } from './split-plan.ts'

export interface PartCache {
  get(key: string, query: string): QueryPartReply | undefined
  /** `bytes`: of the reply (sizeOfPart). */
  set(key: string, query: string, reply: QueryPartReply, bytes: number): void
  readonly count: number
  readonly bytes: number
}

interface Kept {
  readonly reply: QueryPartReply
  /** The text asked: notes say where in it they arose. */
  readonly query: string
}

/** @param bytesMax 0: nothing is kept */
export function createPartCache(bytesMax: number): PartCache {
  const kept = new LRUCache<string, Kept>({ maxSize: Math.max(1, bytesMax) })
  return {
    get(key, query) {
      const found = kept.get(key)
      if (found === undefined) return undefined
      return found.reply.annotations.length > 0 && found.query !== query ? undefined : found.reply
    },
    set(key, query, reply, bytes) {
      kept.set(key, { reply, query }, { size: bytes + 2 * (query.length + key.length) })
    },
    get count() {
      return kept.size
    },
    get bytes() {
      return kept.calculatedSize
    },
  }
}

export function partKey(tenant: string, identity: string, { startMs, endMs }: Part, state: string): string {
  return JSON.stringify([tenant, identity, startMs, endMs, state])
}

/** A hash of the blocks and deletions of a view that a range of time is read from. Whether a day is read from windows depends on all of it. */
export function stateOf({ blocks, deletes }: View, asked: Interval): string {
  const range = blocks.some(({ resolutionMs }) => resolutionMs > 0) ? wholeDays(asked) : asked
  const read = blocks.filter((entry) => overlaps(entry, range))
  const ulids = new Set(read.map(({ ulid }) => ulid))
  const hiding = deletes
    .filter((entry) => isHiding(entry) && entry.startMs <= range.endMs && entry.endMs >= range.startMs)
    .map(({ id, blocks: hidden }) => [id, ...hidden.filter((ulid) => ulids.has(ulid)).sort()])
    .filter(({ length }) => length > 1)
  const listed = read.map(({ ulid, metaSha256 }) => [ulid, metaSha256]).sort()
  return sha256Of(JSON.stringify([listed, hiding.sort()]))
}

function wholeDays({ startMs, endMs }: Interval): Interval {
  const fromMs = startMs - WINDOWS_MS[0] // reachOf
  return {
    startMs: Math.floor(fromMs / WINDOW_RANGE_MS) * WINDOW_RANGE_MS,
    endMs: (Math.floor(endMs / WINDOW_RANGE_MS) + 1) * WINDOW_RANGE_MS - 1,
  }
}
