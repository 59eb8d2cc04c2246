// Deletes the objects of blocks that nobody reads or will ever list.
//
// Invariants
//   SWEEP-1  Nothing that the manifest lists is deleted. Before garbage goes its names are written into the manifest under the lease's fence, if it does
//       not list them: whoever would list them afterwards finds them there, or finds that they have left (blocks/standing.ts, MANIFEST-5).
//   SWEEP-2  A retired block stays for `retiredDelayMs` by the clock of whoever retired it, and for as long as a query can last since this process
//       saw it retired, by the monotonic clock: a clock that jumps takes nothing from under a query.
//   SWEEP-3  An unlisted block goes only when it is older than the grace and nobody can list it any more (LOG-17): a flushed one when its segment is
//       behind `flushed.<p>`; one without meta.json, whose origin nobody knows, when every partition has flushed what can have been under
//       way when the block was first seen here. What cannot be read stays.
//   SWEEP-4  A retired block leaves the manifest after its objects are gone.
import type { Clock } from '../../../shared/base/clock.ts'
import { CorruptError, textOf } from '../../../shared/base/errors.ts'
import type { Blocks, FoundBlock } from '../../../shared/blocks/port.ts'
import { blockPrefix, type Manifest } from '../../../shared/contracts/blocks.ts'
import type { Lease } from '../../../shared/kv/leases.ts'
import { encodeTenant } from '../../../shared/model/tenant.ts'
import { readWhole } from '../../../shared/objects/read-whole.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import { META_FILE } from '../../../shared/tsdb/block/files.ts'
import { parseMeta } from '../../../shared/tsdb/block/meta.ts'
import type { CompactorConfig } from '../config.ts'
import { withGarbage, withoutRetired } from '../merge/manifest-changes.ts'
import type { CompactorMeasures } from '../metrics.ts'

export interface SweepDeps {
  readonly blocks: Blocks
  readonly clock: Clock
  /** The wall clock, as far as it is trusted (CLOCK-2). */
  readonly now: () => number
  readonly log: Log
  readonly measures: CompactorMeasures
  readonly config: Pick<CompactorConfig, 'retiredDelayMs' | 'orphanGraceMs'>
  readonly partitionCount: () => number
}

/** As long as a query can last. */
const QUERY_MS_MAX = 5 * 60_000
/** Segments of a partition that may be flushed while its watermark is read: one, and one more because what the watch shows may be old. */
const SEGMENTS_UNDER_WAY = 2
/** Blocks that one sweep deletes. */
const SWEEP_MAX = 500
const READ_TIMEOUT_MS = 20_000

export class Sweep {
  private readonly deps: SweepDeps
  /** By tenant, as all tenants are looked at all the time: monotonic time at which a retired block was first seen. Bound: forgotten with the
   *  retired block. */
  private readonly retiredSince = new Map<string, ReadonlyMap<string, number>>()
  /** By tenant: watermarks of all partitions when an unfinished block was first seen. Bound: forgotten when it is gone. */
  private readonly unfinished = new Map<string, Map<string, readonly number[]>>()

  constructor(deps: SweepDeps) {
    this.deps = deps
  }

  /** Retired blocks whose time has come. */
  dueRetired({ tenant, retired, blocks }: Manifest): string[] {
    const { clock, now, config } = this.deps
    const listed = new Set(blocks.map(({ ulid }) => ulid))
    const before = this.retiredSince.get(tenant)
    const present = new Map<string, number>()
    const due: string[] = []
    for (const { ulid, retiredAtMs } of retired) {
      const since = before?.get(ulid) ?? clock.monotonic()
      present.set(ulid, since)
      const isSeenLong = clock.monotonic() - since >= Math.min(QUERY_MS_MAX, config.retiredDelayMs) // SWEEP-2
      if (isSeenLong && now() - retiredAtMs >= config.retiredDelayMs && !listed.has(ulid)) due.push(ulid) // SWEEP-1
    }
    keep(this.retiredSince, tenant, present)
    return due.slice(0, SWEEP_MAX)
  }

  async deleteRetired(
    lease: Lease,
    ulids: readonly string[],
    signal: AbortSignal,
    kind: 'retired' | 'garbage' = 'retired',
  ): Promise<void> {
    const { blocks, measures } = this.deps
    for (const ulid of ulids) {
      signal.throwIfAborted()
      await blocks.deleteBlock(lease.tenant, ulid)
    }
    const { tenant, fence } = lease
    await blocks.update(tenant, (manifest) => withoutRetired(manifest, ulids), { fence, signal }) // SWEEP-4
    measures.deleted(kind, ulids.length)
  }

  /** Answers the blocks that were deleted. The order is what makes it safe, however long this process stands still in between (SWEEP-3, SWEEP-1):
   *  watermarks, then what is there, then its names in the manifest, then its files. */
  async deleteGarbage(lease: Lease, manifest: Manifest, signal: AbortSignal): Promise<string[]> {
    const { blocks, now, config, partitionCount } = this.deps
    const { tenant } = lease
    const nowMs = now()
    const flushed = Array.from({ length: partitionCount() }, (_, partition) => blocks.flushed(partition))
    const found = await blocks.listBlocks(tenant)
    const suspects: string[] = []
    for (const block of unlisted(found, manifest)) {
      signal.throwIfAborted()
      if (nowMs - block.storedAtMs < config.orphanGraceMs || suspects.length >= SWEEP_MAX) continue
      const isGarbage = block.isWhole
        ? await this.isGarbage(tenant, block, flushed)
        : this.isAbandoned(tenant, block, flushed)
      if (isGarbage) suspects.push(block.ulid)
    }
    const deleted = await this.deleteUnlisted(lease, suspects, signal)
    this.forget(tenant, new Set(found.map(({ ulid }) => ulid)), deleted)
    return deleted
  }

  /** SWEEP-1. Answers the blocks that were deleted: those that the newest manifest does not list. */
  async deleteUnlisted(lease: Lease, ulids: readonly string[], signal: AbortSignal): Promise<string[]> {
    const { blocks, now, log } = this.deps
    const { tenant, fence } = lease
    if (ulids.length === 0) return []
    const named = (newest: Manifest) => withGarbage(newest, ulids, now())
    const { manifest } = await blocks.update(tenant, named, { fence, signal })
    const garbage = new Set(manifest.retired.filter(({ reason }) => reason === 'garbage').map(({ ulid }) => ulid))
    const deleted = ulids.filter((ulid) => garbage.has(ulid))
    await this.deleteRetired(lease, deleted, signal, 'garbage')
    log.info({ tenant, blocks: deleted }, 'deleted files that belong to no block')
    return deleted
  }

  /** A whole block that nobody lists. `flushed`: read before it was listed. */
  private async isGarbage(tenant: string, { ulid }: FoundBlock, flushed: readonly number[]): Promise<boolean> {
    const { blocks, log } = this.deps
    const name = `${blockPrefix(encodeTenant(tenant), ulid)}${META_FILE}`
    try {
      const bytes = await readWhole(blocks.objects, name, { timeoutMs: READ_TIMEOUT_MS })
      if (bytes === undefined) return false
      const meta = parseMeta(bytes)
      const { kind, partition, segment } = meta.carillon?.origin ?? { kind: 'upload' }
      if (meta.ulid !== ulid) return false
      if (kind === 'compaction' || kind === 'upload') return true
      if (kind !== 'flush' || typeof partition !== 'number' || typeof segment !== 'number') return false
      return segment <= (flushed[partition] ?? 0)
    } catch (error) {
      if (!(error instanceof CorruptError)) throw error
      log.warn({ tenant, ulid, reason: textOf(error) }, 'files that belong to no block cannot be read: they stay')
      return false
    }
  }

  /** A block that was never finished. */
  private isAbandoned(tenant: string, { ulid }: FoundBlock, flushed: readonly number[]): boolean {
    const seen = this.unfinished.get(tenant) ?? new Map<string, readonly number[]>()
    const before = seen.get(ulid)
    if (before === undefined) this.unfinished.set(tenant, seen.set(ulid, flushed))
    return before?.every((segment, partition) => (flushed[partition] ?? 0) >= segment + SEGMENTS_UNDER_WAY) ?? false
  }

  private forget(tenant: string, present: ReadonlySet<string>, deleted: readonly string[]): void {
    const seen = this.unfinished.get(tenant) ?? new Map<string, readonly number[]>()
    keep(this.unfinished, tenant, new Map([...seen].filter(([ulid]) => present.has(ulid) && !deleted.includes(ulid))))
  }
}

function keep<V>(all: Map<string, ReadonlyMap<string, V>>, tenant: string, own: ReadonlyMap<string, V>): void {
  if (own.size === 0) all.delete(tenant)
  else all.set(tenant, own)
}

function unlisted(found: readonly FoundBlock[], { blocks, retired }: Manifest): FoundBlock[] {
  const known = new Set([...blocks, ...retired].map(({ ulid }) => ulid))
  return found.filter(({ ulid }) => !known.has(ulid))
}
