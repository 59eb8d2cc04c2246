// Flushing: the leader of a partition brings closed segments into blocks, in order, then says so (LOG-13 to LOG-15).
//
// Order for one segment k: what has no block and stands only before M(k) is stated again (PURGE-2, after-flush.ts); every tenant's blocks are built
// and uploaded, then listed in the tenant's manifest; when all tenants are done, `flushed.<p>` goes from k − 1 to k. Each step is harmless when it was done before, so whoever leads next does it all again and finds most
// of it done: nothing is lost, nothing doubled, wherever the one before died.
//
// Invariants
//   FLUSH-1  Segment k is flushed after k − 1, once M(k + 1) is applied, and only while no damage of it waits for other owners (LOG-10).
//   FLUSH-2  `flushed.<p>` becomes k only after every tenant with samples in k has a manifest that says so, or was set aside (FLUSH-4).
//   FLUSH-3  What is uploaded is what the segment held at one moment: its digest is the same before and after it was read.
//   FLUSH-5  What is listed, or said, was held by the one that lists it: a partition that was given away meanwhile, or whose owner has begun again,
//       is flushed no further (STATE-6). That is asked behind each await, and last within the change of the manifest.
//   FLUSH-4  A tenant whose segment cannot be brought into blocks, by a fault of its own, holds nobody up for long: it is set aside (asides.ts).
import { type Clock, sleep } from '../../../shared/base/clock.ts'
import { CarillonError, textOf, UnavailableError } from '../../../shared/base/errors.ts'
import { type Listed, withListed } from '../../../shared/blocks/delete-rules.ts'
import { isLeftOut } from '../../../shared/blocks/left-out.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import type { BlockEntry, Flushed } from '../../../shared/contracts/blocks.ts'
import type { SelectFrame } from '../../../shared/contracts/read.ts'
import { ALL_TIME } from '../../../shared/model/interval.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import type { Head } from '../../../shared/tsdb/head/head.ts'
import type { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import { sha256Of } from '../../../shared/wire/sha256.ts'
import type { Owner } from '../log/owner.ts'
import { allRefs, Walk } from '../read/answers.ts'
import { FrameBuilder } from '../read/frames.ts'
import { describe } from '../state/damage.ts'
import type { PartitionState } from '../state/partition-state.ts'
import type { Asides, TenantSegment } from './asides.ts'
import type { BlockBuilder } from './block-builder.ts'
import type { BuildRequest, BuiltBlock } from './flush-build.ts'
import type { FlushMetrics } from './flush-metrics.ts'
import type { Gaps } from './gaps.ts'
import { type RestateDeps, restate } from './restate.ts'

/** Where tests let a leader die: before the step is done, after the one named. */
export type FlushStep = 'built' | 'uploaded' | 'listed' | 'all-listed' | 'flushed' | 'purged'

export interface FlushDeps extends RestateDeps {
  readonly blocks: Blocks
  readonly builder: BlockBuilder
  readonly clock: Clock
  readonly log: Log
  readonly metrics: FlushMetrics
  readonly strings: StringTable
  readonly asides: Asides
  readonly gaps: Pick<Gaps, 'add'>
  /** Parts of the protocol left out; only the simulation's counter-proofs set it. */
  readonly without?: ReadonlySet<string>
  /** Called when a step is done; what it throws ends the flush there. Only tests set it. */
  readonly onStep?: (step: FlushStep) => void
}

/** Whoever holds segments of a partition: an owner, or what it left behind. */
export type Holder = Pick<Owner, 'partition' | 'state'>

const REFRESH_MS = 5_000
/** How long series are copied out of a head at a stretch, and how many between two looks at the clock. */
const SLICE_MS = 5
const STRIDE = 64
const GAPS_MAX = 20
/** The digest of a segment of which nothing is listed: no owner's is equal to it. */
const NOTHING_LISTED = ''
/** Tenants with few samples in a segment wait for answers rather than for work: so many at once. */
const SMALL_TENANTS_AT_ONCE = 4
const SMALL_TENANT_SAMPLES_MAX = 100_000

/** Flushes the oldest segment that can be. Answers whether there was one. */
export async function flushNext(owner: Owner, deps: FlushDeps): Promise<boolean> {
  const segment = dueSegment(owner, deps.blocks)
  if (segment === undefined) return false
  const { clock, metrics, log } = deps
  const { partition, state } = owner
  const startMs = clock.monotonic()
  const beginsLate = deps.without?.has('replay-bound') ? 1 : 0
  const mark = markOf(owner, segment + beginsLate, deps.blocks.flushedRecord(partition))
  const restated = await restate(owner, segment, deps) // PURGE-2
  if (restated === 'again') return false
  if (restated === 'full')
    log.warn(
      { partition, segment },
      'exemplars and metadata are not stated again yet: the log has no room before it is purged',
    )
  const { sampleCount, digests } = await flushTenants(owner, segment, deps)
  deps.onStep?.('all-listed')
  await deps.gaps.add(partition, owner.damages, segment) // GAP-1
  assertHeld(owner, state) // FLUSH-5
  const digest = isLeftOut('digest-listed') ? digestOf(state, segment) : joinedDigest(digests) // DELETE-10
  await deps.blocks.advanceFlushed(partition, { segment, mark, digests: { [segment]: digest } }) // FLUSH-2
  deps.asides.forgetUpTo(partition, segment)
  deps.onStep?.('flushed')
  await deps.blocks.refresh(REFRESH_MS)
  const seconds = (clock.monotonic() - startMs) / 1000
  metrics.seconds.observe(seconds)
  log.info({ partition, segment, sampleCount, seconds }, 'a segment was flushed')
  return true
}

/** FLUSH-1 */
export function dueSegment(owner: Owner, blocks: Pick<Blocks, 'flushedRecord'>): number | undefined {
  if (!owner.isCaughtUp) return undefined
  const segment = firstUnflushed(owner, blocks)
  if (segment >= owner.state.segment || segment <= owner.state.droppedUpTo) return undefined
  const waits = owner.damages.some((damage) => damage.state === 'open' && damage.segment <= segment)
  return waits ? undefined : segment
}

export function firstUnflushed(owner: Owner, blocks: Pick<Blocks, 'flushedRecord'>): number {
  const record = blocks.flushedRecord(owner.partition)
  if (record !== undefined) return record.segment + 1
  const [oldest = owner.state.segment] = owner.state.segments()
  return Math.min(oldest, owner.marks.keys().next().value ?? owner.state.segment)
}

/** How long the oldest closed segment has been waiting. */
export function unflushedAgeMs(owner: Owner, blocks: Pick<Blocks, 'flushedRecord'>, nowMs: number): number {
  const segment = firstUnflushed(owner, blocks)
  if (segment >= owner.state.segment) return 0
  return nowMs - (owner.marks.get(segment + 1)?.seenMs ?? nowMs)
}

/** The mark that replay of what follows begins at: M(k), or the newest before it where that was lost. */
function markOf(owner: Owner, segment: number, before: Flushed | undefined): Flushed['mark'] {
  const { incarnation } = owner
  const own = owner.marks.get(segment)
  if (own !== undefined) return { seq: own.seq, nonce: own.nonce, incarnation }
  return before?.mark ?? { seq: Math.max(1, owner.end?.firstSeq ?? 1), nonce: '', incarnation }
}

/** What a segment holds, of all tenants: equal in all owners that hold the same. */
export function digestOf(state: PartitionState, segment: number): string {
  return joinedDigest(state.digests(segment))
}

function joinedDigest(digests: readonly (readonly [tenant: string, digest: string])[]): string {
  return sha256Of(JSON.stringify([...digests].sort(([a], [b]) => (a < b ? -1 : 1)))).slice(0, 16)
}

/** What the segment's flush has listed. */
interface FlushOutcome {
  readonly sampleCount: number
  /** Of each tenant what was listed, by whoever did it; '' where nobody has said. */
  readonly digests: readonly (readonly [tenant: string, digest: string])[]
}

/** Every tenant, also when one fails: what others have in the segment is committed meanwhile. */
async function flushTenants(owner: Owner, segment: number, deps: FlushDeps): Promise<FlushOutcome> {
  const { partition, state } = owner
  const gaps = owner.damages.filter((damage) => damage.segment === segment && damage.state === 'missing')
  let failure: { readonly error: unknown } | undefined
  let sampleCount = 0
  const digests: [string, string][] = []
  const list = async (tenant: string, digest: string, blocks: readonly BlockEntry[]) => {
    const listed: Listed = { partition, segment, digest, blocks }
    const { manifest } = await deps.blocks.update(tenant, (before) => {
      assertHeld(owner, state) // FLUSH-5
      return withListed(before, listed)
    })
    const said = manifest.digests?.[partition]
    return said?.segment === segment ? said.digest : ''
  }
  const flushTenant = async (tenant: string): Promise<void> => {
    try {
      const flushed = deps.blocks.manifest(tenant)?.manifest.flushed[String(partition)] ?? 0
      const digest = state.heads.get(tenant)?.digest(segment) ?? ''
      const built = flushed >= segment ? [] : await buildAndUpload(owner, { tenant, segment }, deps)
      const blocks = built.map(({ entry }) => withGaps(entry, gaps.map(describe)))
      // Also where another was first: it may have died before its version was an object (LOG-14).
      digests.push([tenant, await list(tenant, digest, blocks)])
      deps.onStep?.('listed')
      deps.asides.forget(partition, { tenant, segment })
      count(built, deps.metrics)
      sampleCount += blocks.reduce((sum, entry) => sum + entry.sampleCount, 0)
    } catch (error) {
      const isAside = isHeld(owner, state) && (await deps.asides.take(owner, { tenant, segment }, error, deps)) // FLUSH-4
      if (!isAside) failure ??= { error: inFamily(error) }
      else await list(tenant, NOTHING_LISTED, []).catch(() => {}) // a manifest that takes nothing is why it is set aside
    }
  }
  const tenants = state.tenantsIn(segment)
  const isSmall = (tenant: string) => (state.heads.get(tenant)?.sampleCountOf(segment) ?? 0) <= SMALL_TENANT_SAMPLES_MAX
  const small = tenants.filter(isSmall)
  const takeSmall = async (): Promise<void> => {
    for (let tenant = small.shift(); tenant !== undefined; tenant = small.shift())
      if (isHeld(owner, state)) await flushTenant(tenant)
  }
  for (const tenant of tenants.filter((each) => !isSmall(each))) if (isHeld(owner, state)) await flushTenant(tenant)
  await Promise.all(Array.from({ length: SMALL_TENANTS_AT_ONCE }, takeSmall))
  if (failure !== undefined && !deps.without?.has('flush-order')) throw failure.error // FLUSH-2
  return { sampleCount, digests }
}

/** Builds, uploads and reads back the blocks of one tenant and segment; answers those that were `wanted`. */
export async function buildAndUpload(
  owner: Holder,
  of: TenantSegment,
  deps: FlushDeps,
  wanted: (entry: BlockEntry) => Promise<boolean> = async () => true,
): Promise<BuiltBlock[]> {
  const { state } = owner
  const all = await buildSegment(owner, of, deps)
  deps.onStep?.('built')
  const built: BuiltBlock[] = []
  for (const each of all) if (await wanted(each.entry)) built.push(each)
  for (const { entry, files } of built) {
    assertHeld(owner, state) // FLUSH-5
    await deps.blocks.uploadBlock(of.tenant, { ulid: entry.ulid, files })
    deps.onStep?.('uploaded')
  }
  return built
}

/** The blocks of one tenant and segment: of each part into which it is cut its own (DELETE-7). */
export async function buildSegment(owner: Holder, of: TenantSegment, deps: FlushDeps): Promise<BuiltBlock[]> {
  const read = readSegment(owner, of, deps)
  if (read === undefined) return []
  const built = await deps.builder.build({ tenant: of.tenant, origin: read.origin }, read.frames)
  read.assertSame()
  return built
}

/** What a segment holds of a tenant. */
export interface SegmentRead {
  readonly origin: BuildRequest['origin']
  /** All parts in one walk: each chunk says which it is of. */
  readonly frames: AsyncIterable<SelectFrame>
  /** Behind the last frame: throws UnavailableError unless what was read is what the segment held at one moment (FLUSH-3), and is held still (FLUSH-5). */
  assertSame(): void
}

/** Undefined where it holds nothing. */
export function readSegment(
  owner: Holder,
  { tenant, segment }: TenantSegment,
  deps: Pick<FlushDeps, 'clock' | 'strings'>,
): SegmentRead | undefined {
  const { state, partition } = owner
  const head = state.heads.get(tenant)
  const [part] = head?.partsOf(segment) ?? []
  if (head === undefined || part === undefined) return undefined
  state.use.assertNotOver() // FLUSH-5
  const before = head.digest(segment)
  const assertSame = () => {
    assertHeld(owner, state)
    if (head.digest(segment) === before && state.droppedUpTo < segment) return
    const text = `segment ${segment} of partition ${partition} changed while it was read`
    throw new UnavailableError('flush-changed', text)
  }
  const origin = { kind: 'flush' as const, partition, segment, incarnation: part.incarnation }
  return { origin, frames: segmentFrames(owner, head, segment, deps), assertSame }
}

/** In short stretches: in between the head goes on taking in and answering. */
async function* segmentFrames(
  owner: Holder,
  head: Head,
  segment: number,
  { clock, strings }: Pick<FlushDeps, 'clock' | 'strings'>,
): AsyncIterable<SelectFrame> {
  const builder = new FrameBuilder(head, strings, 'all')
  const walk = new Walk(owner, strings, head, allRefs(head))
  let sinceMs = clock.monotonic()
  try {
    for (let ref = walk.next(), i = 1; ref >= 0; ref = walk.next(), i++) {
      builder.add(ref, ALL_TIME, segment)
      const isLate = i % STRIDE === 0 && clock.monotonic() - sinceMs >= SLICE_MS
      if (builder.isFull) yield builder.take()
      if (isLate) await sleep(clock, 0)
      if (isLate) sinceMs = clock.monotonic()
      walk.checkHeld(segment - 1)
    }
    yield builder.take()
  } finally {
    walk.close()
  }
}

function isHeld(holder: Holder, state: PartitionState): boolean {
  return !state.use.isOver && holder.state === state
}

/** FLUSH-5: throws UnavailableError. */
export function assertHeld(holder: Holder, state: PartitionState): void {
  if (isHeld(holder, state)) return
  throw new UnavailableError('flush-changed', `partition ${holder.partition} was given away, or begun again, meanwhile`)
}

/** What is wrong with the data of one tenant does not end an ingester that serves others. */
function inFamily(error: unknown): CarillonError {
  if (error instanceof CarillonError) return error
  return new UnavailableError('flush-build-failed', textOf(error), { cause: error })
}

function withGaps(entry: BlockEntry, gaps: readonly string[]): BlockEntry {
  return gaps.length === 0 ? entry : { ...entry, gaps: gaps.slice(0, GAPS_MAX) }
}

function count(built: readonly BuiltBlock[], metrics: FlushMetrics): void {
  for (const { entry } of built) {
    metrics.blocks.inc()
    metrics.bytes.inc(entry.bytes)
    metrics.samples.inc(entry.sampleCount)
  }
}
