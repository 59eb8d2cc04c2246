// After a flush: the leader purges the log below the mark of the newest flushed segment (LOG-16), every owner frees memory (LOG-10).
//
// Invariants
//   PURGE-1  Only what lies strictly before M(f), f = `flushed.<p>`, is purged, and only while the message there still is M(f).
//   PURGE-2  Metadata, and the newest exemplars, that stand only before M(f), or in batches of earlier epochs, are stated again before
//       `flushed.<p>` becomes f (flush.ts), and with that before they are purged; in a log that has no room for them, right after the purge.
//       Not for ever: what was told of a tenant that has fallen silent is forgotten (forgetting.ts).
//   PURGE-3  A segment leaves memory when the flush was seen `drop-after` ago; an owner that holds something else than what was flushed uploads it
//       as a supplement before (DELETE-10, DELETE-11). So does one that had to begin again with what it left behind, which nobody is shown.
import { sleep } from '../../../shared/base/clock.ts'
import { whyNotListed, withListed } from '../../../shared/blocks/delete-rules.ts'
import { assertStanding } from '../../../shared/blocks/standing.ts'
import type { BlockEntry } from '../../../shared/contracts/blocks.ts'
import { logName } from '../../../shared/contracts/log.ts'
import { isBefore } from '../../../shared/model/place.ts'
import type { Head } from '../../../shared/tsdb/head/head.ts'
import type { IngesterConfig } from '../config.ts'
import { isMark } from '../log/log-checks.ts'
import type { Owner } from '../log/owner.ts'
import { assertHeld, buildAndUpload, digestOf, type FlushDeps, type Holder } from './flush.ts'
import type { BuiltBlock } from './flush-build.ts'
import { isInBlocks } from './in-blocks.ts'
import { isOwing, placesGone, restate } from './restate.ts'

export interface AfterFlushDeps extends FlushDeps {
  readonly config: IngesterConfig
}

/** A purge blocks appends to its log: it goes in slices, with pauses. */
const PURGE_SLICE_BYTES = 16 * 1024 * 1024
const PURGE_PAUSE_MS = 100
const LOG_TIMEOUT_MS = 10_000

/** PURGE-1 */
export async function purgeLog(owner: Owner, deps: AfterFlushDeps): Promise<void> {
  const { bus, blocks, clock, log, metrics } = deps
  const { partition, incarnation } = owner
  const flushed = blocks.flushedRecord(partition)
  if (flushed === undefined || !owner.isCaughtUp) return
  const { mark, segment } = flushed
  if (mark.nonce === '' || mark.incarnation !== incarnation) return
  if ((owner.end?.firstSeq ?? 0) >= mark.seq) return
  const restated = await restate(owner, segment, deps) // PURGE-2: also what an older version has flushed
  if (restated === 'again') return
  const boundary = await bus.logs.get(logName(partition), mark.seq, LOG_TIMEOUT_MS)
  if (boundary === undefined || !isMark(boundary, partition, mark.nonce)) {
    log.error({ partition, seq: mark.seq }, 'nothing is purged: the mark of the flushed segment is not where it was')
    return
  }
  let state = await bus.logs.state(logName(partition))
  while (state.firstSeq < mark.seq && state.incarnation === incarnation && !owner.isStopped) {
    const messageBytes = Math.max(1, state.bytes / (state.lastSeq - state.firstSeq + 1))
    const slice = Math.max(1, Math.floor(PURGE_SLICE_BYTES / messageBytes))
    const below = Math.min(mark.seq, state.firstSeq + slice)
    metrics.purged.inc(await bus.logs.purge(logName(partition), below, LOG_TIMEOUT_MS))
    deps.onStep?.('purged')
    if (below === mark.seq) break
    await sleep(clock, PURGE_PAUSE_MS)
    state = await bus.logs.state(logName(partition))
  }
  if (restated === 'full') await restate(owner, segment, deps)
}

/** When each newer `flushed.<p>` was first seen here, by the monotonic clock. */
export class FlushedSeen {
  private readonly seen: { readonly segment: number; readonly atMs: number }[] = []

  /** The newest segment that was seen to be flushed at least `ageMs` ago. */
  due(segment: number, nowMs: number, ageMs: number): number {
    if (segment > (this.seen.at(-1)?.segment ?? 0)) this.seen.push({ segment, atMs: nowMs })
    let due = 0
    while (this.seen.length > 0 && nowMs - this.seen[0]!.atMs >= ageMs) due = this.seen.shift()!.segment
    if (due > 0) this.seen.unshift({ segment: due, atMs: Number.NEGATIVE_INFINITY })
    return due
  }
}

/** PURGE-3. Every owner does this, leader or not. */
export async function dropFlushed(owner: Owner, seen: FlushedSeen, deps: AfterFlushDeps): Promise<void> {
  const { blocks, clock, config, log, metrics } = deps
  const { partition, state } = owner
  if (owner.isStopped) return
  const flushed = blocks.flushed(partition)
  const due = seen.due(flushed, clock.monotonic(), config.dropAfterMs)
  if (owner.tooNew !== undefined) return // what it holds is not all there is
  for (const left of owner.leftBehind) {
    if (left.state.segments().some((segment) => segment > flushed)) continue
    await addWhatLacks(left, flushed, deps)
    left.state.use.assertNotOver() // FLUSH-5: given up meanwhile
    owner.free(left)
  }
  const upTo = Math.min(due, state.segment - 1)
  if (upTo <= state.droppedUpTo || isOwing(owner, deps)) return
  const count = await addWhatLacks(owner, upTo, deps)
  await deps.gaps.add(partition, owner.damages, upTo) // GAP-1
  if (owner.state !== state || owner.isStopped) return
  owner.drop(upTo)
  metrics.dropped.inc(count)
  forgetGone(owner, deps)
  log.info({ partition, segment: upTo }, 'segments up to this one left memory')
}

/** Adds each segment that holds something else than what was flushed. Answers how many it holds. */
async function addWhatLacks(holder: Holder, upTo: number, deps: AfterFlushDeps): Promise<number> {
  const { partition, state } = holder
  const digests = deps.blocks.flushedRecord(partition)?.digests ?? {}
  const held = state.segments().filter((segment) => segment > state.droppedUpTo && segment <= upTo)
  for (const segment of held) {
    assertHeld(holder, state) // FLUSH-5
    if (digests[segment] === digestOf(state, segment)) continue
    deps.log.warn(
      { partition, segment },
      'the flushed blocks may hold something else than this owner: it adds what they lack',
    )
    await supplement(holder, segment, deps)
  }
  return held.length
}

async function supplement(owner: Holder, segment: number, deps: AfterFlushDeps): Promise<void> {
  const { state } = owner
  for (const [tenant, head] of state.heads) {
    if (head.sampleCountOf(segment) === 0) continue
    assertHeld(owner, state) // FLUSH-5
    if (deps.asides.holds(owner, { tenant, segment })) continue
    try {
      await supplementTenant(owner, { tenant, segment, head }, deps)
    } catch (error) {
      assertHeld(owner, state)
      if (!(await deps.asides.take(owner, { tenant, segment }, error, deps))) throw error // FLUSH-4
    }
  }
}

async function supplementTenant(
  owner: Holder,
  { tenant, segment, head }: { tenant: string; segment: number; head: Head },
  deps: AfterFlushDeps,
): Promise<void> {
  const manifest = deps.blocks.manifest(tenant)?.manifest
  const listed = manifest?.digests?.[owner.partition]
  if (listed?.segment === segment && listed.digest === head.digest(segment)) return // others make the difference
  const since = manifest?.version ?? 0
  const lacks = async (entry: BlockEntry) => !(await isInBlocks(deps.blocks, tenant, entry))
  const built = await buildAndUpload(owner, { tenant, segment }, deps, lacks)
  const refused = await addSupplement(owner, { tenant, segment }, { built, since }, deps)
  deps.asides.forget(owner.partition, { tenant, segment })
  if (refused.length === 0) return
  deps.metrics.refused.inc(refused.length)
  const text = 'samples that no block holds come too late: deletions of then are forgotten, so they are not added'
  deps.log.error({ partition: owner.partition, segment, tenant, blocks: refused }, text) // DELETE-11
}

/** What was stored of a segment, and the manifest's version before that (MANIFEST-5). */
export interface Supplement {
  readonly built: readonly BuiltBlock[]
  readonly since: number
}

/** Lists blocks of a segment that counts as flushed. Answers those that are refused, because deletions of then are forgotten (DELETE-11). SweptError: all
 *  are to be built and stored again. */
export async function addSupplement(
  { partition, state }: Holder,
  { tenant, segment }: { readonly tenant: string; readonly segment: number },
  { built, since }: Supplement,
  { blocks, metrics }: Pick<FlushDeps, 'blocks' | 'metrics'>,
): Promise<readonly string[]> {
  const entries = built.map(
    ({ entry }): BlockEntry =>
      entry.origin.kind === 'flush' ? { ...entry, origin: { ...entry.origin, isSupplement: true } } : entry,
  )
  let addedCount = 0
  let refused: readonly string[] = []
  if (entries.length === 0) return refused
  await blocks.update(tenant, (manifest) => {
    state.use.assertNotOver() // FLUSH-5
    refused = entries.filter((entry) => whyNotListed(manifest, entry) === 'forgotten').map(({ ulid }) => ulid)
    const next = withListed(manifest, { partition, segment, blocks: entries })
    addedCount = next === undefined ? 0 : next.blocks.length - manifest.blocks.length
    if (next !== undefined) assertStanding(manifest, ulidsOf(next.blocks.slice(manifest.blocks.length)), since)
    return next
  })
  metrics.supplements.inc(addedCount)
  return refused
}

const ulidsOf = (blocks: readonly BlockEntry[]): string[] => blocks.map(({ ulid }) => ulid)

/** Metadata of a tenant that was deleted for good (DELETE-15). */
function forgetGone({ state, partition }: Owner, { blocks }: AfterFlushDeps): void {
  for (const tenant of state.metadata.tenantsHeld()) {
    const gone = placesGone(blocks, tenant, partition)
    if (gone.length > 0) state.metadata.forget(tenant, (place) => gone.some((end) => isBefore(place, end)))
  }
}
