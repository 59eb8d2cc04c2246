// What must hold when a history has healed: everything came to its end, nothing is held that was given away, and owners, blocks and logs agree.
import type { Owner } from '../../services/ingester/log/owner.ts'
import { decodeManifest } from '../../shared/blocks/codec.ts'
import type { Blocks } from '../../shared/blocks/port.ts'
import { stallMsDefault } from '../../shared/bus/pipe.ts'
import { BLOCKS_BUCKET, type Manifest, manifestKey } from '../../shared/contracts/blocks.ts'
import { logName } from '../../shared/contracts/log.ts'
import { encodeTenant } from '../../shared/model/tenant.ts'
import { SampleColumns } from '../../shared/tsdb/columns.ts'
import { decodeChunk } from '../../shared/tsdb/decode.ts'
import type { Cast } from './cast.ts'
import { partitionsOf } from './chaos.ts'
import { collectGarbage } from './garbage.ts'
import type { Ledger } from './ledger.ts'
import { readLog } from './log-model.ts'
import { PROGRESS_MS_MAX, type Scene, TENANTS } from './scene.ts'
import { readStored, type StoredSamples } from './stored.ts'

/** A deletion that nobody asks for any more is completed after a minute. */
const FORSAKEN_MS_MAX = 90_000
/** Longer than anything waits for an answer that is lost. */
const END_MS = 4_500
/** An answer to a question that came twice, or whose asker was not heard any more, holds what it reads until then (shared/bus/pipe.ts, PIPE-3). */
const UNHEARD_MS = 1.5 * stallMsDefault
const OWNERS = 2
const ENDED: ReadonlySet<string> = new Set(['removed', 'undone'])
const ALL_TIME = { startMs: Number.NEGATIVE_INFINITY, endMs: Number.POSITIVE_INFINITY }

/** All owners are at the ends of their logs, at one moment. */
export async function converge(scene: Scene, cast: Cast): Promise<void> {
  const isAtEnd = ({ owner }: { owner: Owner }) => owner.appliedSeq >= scene.hub.log(logName(owner.partition))!.lastSeq
  const isDone = await scene.until(() => cast.owners().every(isAtEnd), PROGRESS_MS_MAX)
  if (!isDone) scene.fault('owners do not reach the ends of their logs together')
}

/** Everything that was begun comes to its end: told are those things that did not. */
export async function progress(scene: Scene, cast: Cast): Promise<boolean> {
  const { count } = partitionsOf(scene)
  const partitions = Array.from({ length: count }, (_, partition) => partition)
  await scene.until(
    () => partitions.every((partition) => cast.owners().some(({ owner }) => owner.partition === partition)),
    PROGRESS_MS_MAX,
  )
  const closed = partitions.map((partition) => newestSegment(cast, partition) - 1)
  const left = () => [
    ...unfinishedActors(cast),
    ...partitions.flatMap((partition) => unfinishedPartition(scene, cast, partition, closed[partition]!)),
    ...unfinishedDeletions(scene),
  ]
  const withinMs = scene.plan.has('forsaken') ? FORSAKEN_MS_MAX : PROGRESS_MS_MAX
  const isDone = await scene.until(() => left().length === 0, withinMs)
  for (const text of left()) scene.fault(`not done when all is well: ${text}`)
  return isDone
}

function unfinishedActors(cast: Cast): string[] {
  return cast
    .all()
    .flatMap(({ id, isDown, actor }) => (isDown || actor.state !== 'running' ? [`${id} is ${actor.state}`] : []))
}

function newestSegment(cast: Cast, partition: number): number {
  const held = cast.owners().filter(({ owner }) => owner.partition === partition)
  return Math.max(0, ...held.map(({ owner }) => owner.state.segment))
}

function unfinishedPartition(scene: Scene, cast: Cast, partition: number, closed: number): string[] {
  const lastSeq = scene.hub.log(logName(partition))!.lastSeq
  const held = cast.owners().filter(({ owner }) => owner.partition === partition)
  const flushed = scene.logs.flushed(partition)?.segment ?? 0
  const open = held.flatMap(({ id, owner }) =>
    owner.damages
      .filter(({ state }) => state === 'open')
      .map(({ kind, segment }) => `${id}: ${kind} in segment ${segment}`),
  )
  const behind = held
    .filter(({ owner }) => owner.appliedSeq < lastSeq)
    .map(({ id, owner }) => `${id} at ${owner.appliedSeq}`)
  return [
    ...(held.length < Math.min(OWNERS, cast.all('ingester').length)
      ? [`partition ${partition} has ${held.length} owners`]
      : []),
    ...foreign(cast, partition).map((id) => `partition ${partition} is held by ${id}, which is no owner of it`),
    ...(flushed < closed ? [`partition ${partition}: segment ${closed} is closed, ${flushed} is flushed`] : []),
    ...(open.length > 0 ? [`partition ${partition}: damage is open: ${open}`] : []),
    ...(behind.length > 0 && lastSeq > 0 && held.every(({ owner }) => owner.appliedSeq < lastSeq)
      ? [`partition ${partition} ends at ${lastSeq}, ${behind}`]
      : []),
  ]
}

/** Who holds a partition that the ring has given to others. */
function foreign(cast: Cast, partition: number): string[] {
  return cast
    .all('ingester')
    .filter(({ isDown, owners }) => !isDown && owners().some((owner) => owner.partition === partition))
    .filter(({ id, membership }) => !membership.owners(partition).includes(id))
    .map(({ id }) => id)
}

function manifestOf(scene: Scene, tenant: string): Manifest | undefined {
  const value = scene.hub.bucket(BLOCKS_BUCKET)?.get(manifestKey(encodeTenant(tenant)))?.value
  return value && decodeManifest(value, tenant)
}

function unfinishedDeletions(scene: Scene): string[] {
  return TENANTS.flatMap((tenant) =>
    (manifestOf(scene, tenant)?.deletes ?? [])
      .filter(({ state }) => !ENDED.has(state))
      .map(
        ({ id, state, positions, blocks }) =>
          `deletion ${id} is ${state} at ${JSON.stringify(positions)} with ${blocks.length} blocks`,
      ),
  )
}

// ---- memory ----

/** Nothing of what ingesters that live on gave up can be reached: owners, their states, heads. */
export async function checkMemory(scene: Scene, cast: Cast): Promise<void> {
  cast.look()
  const given = cast.given()
  if (given.length === 0) return
  scene.count('checked for memory', given.length)
  let held: readonly string[] = []
  for (const ms of [END_MS, UNHEARD_MS]) {
    await scene.sleep(ms) // what was begun before comes to its end
    collectGarbage()
    held = given.filter(({ ref }) => ref.deref() !== undefined).map(({ what }) => what)
    if (held.length === 0) return
  }
  scene.fault(`given up and still held: ${held.join(', ')}`)
}

// ---- what is stored ----

export async function checkStored(scene: Scene, cast: Cast, ledger: Ledger, blocks: Blocks): Promise<void> {
  const { plan } = scene
  const { count } = partitionsOf(scene)
  const isPlain = !plan.isDamaging && !plan.hasCompactors
  for (const tenant of TENANTS) {
    const stored = await readStored(blocks, { tenant, partitionCount: count, mayHaveGaps: plan.isDamaging })
    scene.count('merged blocks', stored.mergedCount)
    scene.count('supplements', stored.supplementCount)
    for (const text of stored.faults) scene.fault(`${tenant}: ${text}`)
    const removed = new Set(
      manifestOf(scene, tenant)
        ?.deletes.filter(({ state }) => state === 'removed')
        .map(({ id }) => id),
    )
    const held = new Set([...stored.values, ...unflushed(cast, tenant, stored)])
    const gone = ledger.storedAgainst(tenant, held, { removed, moment: scene.moment() })
    for (const text of gone) scene.fault(text)
    if (!plan.has('tenant-deletions') && !plan.isDamaging)
      for (const text of ledger.exemplarsMissing(tenant, exemplarsOf(cast, tenant))) scene.fault(`${tenant}: ${text}`)
    if (isPlain) checkCounts(scene, cast, tenant, stored)
  }
  if (!plan.isDamaging) checkDigests(scene, cast, count)
}

/** What owners hold of segments that are in no block yet. */
function unflushed(cast: Cast, tenant: string, { flushed }: StoredSamples): Set<number> {
  const columns = new SampleColumns()
  for (const { owner } of cast.owners()) {
    const head = owner.state.heads.get(tenant)
    const segments = owner.state.segments().filter((segment) => segment > (flushed.get(owner.partition) ?? 0))
    for (let ref = 0; ref < (head?.seriesCount ?? 0); ref++)
      for (const segment of segments)
        head!.storedChunksOf(ref, segment, (encoding, bytes) => {
          decodeChunk({ encoding, bytes, start: 0, end: bytes.length }, columns)
        })
  }
  return new Set(Array.from({ length: columns.count }, (_, i) => columns.histograms?.[i]?.sum ?? columns.values[i]!))
}

function exemplarsOf(cast: Cast, tenant: string): Set<string> {
  const held = new Set<string>()
  for (const { owner } of cast.owners()) {
    const head = owner.state.heads.get(tenant)
    for (const ref of head?.selectExemplars([]) ?? [])
      for (const { labels } of head!.exemplarsOf(ref, ALL_TIME)) held.add(labels[1]!)
  }
  return held
}

/** Blocks and each owner's state are the set that its log says: nothing lacks, nothing is held twice, nothing stands in a wrong segment. */
function checkCounts(scene: Scene, cast: Cast, tenant: string, stored: StoredSamples): void {
  for (const { id, owner } of cast.owners()) {
    const { partition, state } = owner
    const { samples, doubledBatches } = readLog(partition, scene.logs.all(partition))
    const flushed = stored.flushed.get(partition) ?? 0
    if (state.droppedUpTo > flushed)
      scene.fault(`${id}: dropped segments up to ${state.droppedUpTo} of partition ${partition}, ${flushed} is flushed`)
    const inBlocks = stored.counts.get(partition) ?? 0
    const head = state.heads.get(tenant)
    const inMemory = state
      .segments()
      .filter((segment) => segment > flushed)
      .reduce((sum, segment) => sum + (head?.sampleCountOf(segment) ?? 0), 0)
    const inLog = [...samples].filter((sample) => sample.split('|')[1]!.startsWith(`${tenant}\u0000`)).length
    if (inBlocks + inMemory !== inLog)
      scene.fault(
        `${id}: ${inBlocks} samples of ${tenant} in blocks and ${inMemory} in memory, the log of partition ${partition} has ${inLog}`,
      )
    if (doubledBatches.length > 0 && !scene.plan.has('duplicate-window'))
      scene.fault(`log ${partition} holds batches twice: ${doubledBatches}`)
  }
}

/** Owners of one partition hold the same. */
function checkDigests(scene: Scene, cast: Cast, count: number): void {
  for (let partition = 0; partition < count; partition++) {
    const held = cast.owners().filter(({ owner }) => owner.partition === partition)
    const dropped = Math.max(0, ...held.map(({ owner }) => owner.state.droppedUpTo))
    const digests = held.map(({ owner }) => digestsAbove(owner, dropped))
    if (new Set(digests).size > 1)
      scene.fault(
        `partition ${partition}: digests differ: ${held.map(({ id }, i) => `${id} ${digests[i]}`).join(' / ')}`,
      )
  }
}

/** The digest of each segment above one. */
export function digestsAbove({ state }: Owner, dropped: number): string {
  const segments = state.segments().filter((segment) => segment > dropped)
  return segments.map((segment) => `${segment}=${state.digest(segment)}`).join()
}
