// Blocks as a flush would leave them, for queriers under test: in a memory store, listed in the bucket.
import { systemClock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { entryOf } from '../../../shared/blocks/entry.ts'
import { openBlocks } from '../../../shared/blocks/open.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import type { MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { BlockEntry, DeleteEntry, Manifest } from '../../../shared/contracts/blocks.ts'
import type { Histogram } from '../../../shared/model/histogram.ts'
import { compareLabels, labelsFrom } from '../../../shared/model/labels.ts'
import { type MemoryObjects, memoryObjects, type ObjectOperation } from '../../../shared/objects/memory-objects.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { META_FILE, TOMBSTONES_FILE } from '../../../shared/tsdb/block/files.ts'
import { blockMeta, fileOf, metaBytes } from '../../../shared/tsdb/block/meta.ts'
import { type Tombstone, writeTombstones } from '../../../shared/tsdb/block/tombstones.ts'
import { BlockWriter } from '../../../shared/tsdb/block/writer.ts'
import { SampleColumns } from '../../../shared/tsdb/columns.ts'

export const TENANT = 'anonymous'

export interface StoredSeries {
  readonly labels: Record<string, string>
  /** [time, value] in order of time, some with a start time. */
  readonly samples: readonly (readonly [number, number | Histogram, number?])[]
}

/** Of the series of one job, as it is while it can be taken back; `over` says what differs. */
export function deletionOf(job: string, over: Partial<DeleteEntry>): DeleteEntry {
  return {
    ...{ id: 'd1', kind: 'series', state: 'active' },
    selectors: [[{ name: 'job', operator: '=', value: job }]],
    ...{ startMs: 0, endMs: Date.now(), askedAtMs: 0, askedBy: 'test', undoUntilMs: 0, positions: {}, blocks: [] },
    ...over,
  }
}

export interface StoreOptions {
  readonly gaps?: readonly string[]
  readonly tombstones?: readonly Tombstone[]
  /** Tells blocks with equal bytes apart. */
  readonly segment?: number
}

export interface Store {
  readonly objects: MemoryObjects
  readonly blocks: Blocks
  /** Called before each operation on the objects; may throw. */
  before: (operation: ObjectOperation, name: string) => Promise<void> | void
  /** Reads of the bytes of blocks, by name. */
  readonly reads: string[]
  /** Stores a block without listing it. */
  upload(series: readonly StoredSeries[], options?: StoreOptions): Promise<BlockEntry>
  /** Lists blocks of a segment, and then says that it is flushed. */
  commit(entries: readonly BlockEntry[], flushed: { partition: number; segment: number }): Promise<void>
  change(change: (manifest: Manifest) => Manifest): Promise<void>
}

export async function openStore(hub: MemoryHub): Promise<Store> {
  const reads: string[] = []
  const objects = memoryObjects({
    before(operation, name) {
      if (operation === 'read') reads.push(name)
      return store.before(operation, name)
    },
  })
  const deps = { clock: systemClock, random: seededRandom(4), log: silentLog }
  const blocks = await openBlocks({ ...deps, bus: hub.connect('store'), objects })
  const store: Store = {
    objects,
    blocks,
    before: () => {},
    reads,
    upload: (series, options = {}) => upload(blocks, series, options),
    async commit(entries, { partition, segment }) {
      await blocks.update(TENANT, (manifest) => ({
        ...manifest,
        blocks: [...manifest.blocks, ...entries],
        flushed: { ...manifest.flushed, [partition]: segment },
      }))
      await blocks.advanceFlushed(partition, {
        segment,
        mark: { seq: segment, nonce: 'n', incarnation: 'i' },
        digests: {},
      })
    },
    async change(change) {
      await blocks.update(TENANT, change)
    },
  }
  return store
}

async function upload(
  blocks: Blocks,
  series: readonly StoredSeries[],
  { gaps, tombstones = [], segment = 1 }: StoreOptions,
): Promise<BlockEntry> {
  const files: { name: string; bytes: Uint8Array }[] = []
  const writer = new BlockWriter({ onFile: (name, bytes) => void files.push({ name, bytes }) })
  const sorted = series
    .map(({ labels, samples }) => ({ labels: labelsFrom(labels), samples }))
    .sort((a, b) => compareLabels(a.labels, b.labels))
  for (const { labels, samples } of sorted) {
    const columns = new SampleColumns()
    for (const [time, value, startTime] of samples) {
      if (typeof value !== 'number') {
        columns.pushHistogram(time, value, startTime)
        continue
      }
      const [low, high] = new Uint32Array(Float64Array.of(value).buffer)
      columns.pushBits(time, low!, high!, startTime)
    }
    writer.addSeries(labels, { ...columns.asRun(), end: columns.count })
  }
  const stats = await writer.finish()
  const origin = { kind: 'flush' as const, partition: 0, segment }
  const stones = tombstones.length === 0 ? [] : [fileOf(TOMBSTONES_FILE, writeTombstones(tombstones))]
  if (stones.length > 0) files.push({ name: TOMBSTONES_FILE, bytes: writeTombstones(tombstones) })
  const meta = blockMeta({ tenant: TENANT, stats, origin, level: 1, moreFiles: stones })
  const bytes = metaBytes(meta)
  files.push({ name: META_FILE, bytes })
  await blocks.uploadBlock(TENANT, { ulid: meta.ulid, files })
  return {
    ...entryOf({ ulid: meta.ulid, origin, stats, metaBytes: bytes }),
    bytes: files.reduce((sum, file) => sum + file.bytes.length, 0),
    ...(gaps !== undefined && { gaps }),
  }
}
