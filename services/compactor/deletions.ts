// Deletions: brings one into the tenant's manifest and into every partition log, and takes it back (L12; contracts/deletes.ts says what it
// means).
//
// Invariants
//   R1  The entry stands in the manifest before the first record is written, and is `active` only when all records are stored. Every step may
//       be done again: records are written once by compare-and-set on their own subjects, so whoever finds a deletion half done completes it.
//   R2  A record that a flush has met is never written again: its place stands in the manifest before the log may lose it.
//   R3  A deletion is taken back only while its window is open, and never once its samples may be on their way out: both are changes of one
//       manifest.
import { type Clock, sleep } from '../../shared/base/clock.ts'
import { ConflictError, CorruptError, RefusedError, textOf, UnavailableError } from '../../shared/base/errors.ts'
import type { Blocks } from '../../shared/blocks/port.ts'
import { ask } from '../../shared/bus/ask.ts'
import type { Bus } from '../../shared/bus/port.ts'
import type { DeleteEntry, Manifest } from '../../shared/contracts/blocks.ts'
import {
  type CleanAsk,
  type CleanReply,
  type DeleteReply,
  deleteSubject,
  encodeDelete,
  encodeUndelete,
  ID_SHAPE,
  isHiding,
  type ListAsk,
  type ListReply,
  type RemoveAsk,
  SELECTORS_MAX,
  type UndoAsk,
  undeleteSubject,
  withDelete,
  withState,
  withWindowsEnded,
} from '../../shared/contracts/deletes.ts'
import { logName } from '../../shared/contracts/log.ts'
import { metadata } from '../../shared/contracts/read.ts'
import type { LogPosition } from '../../shared/contracts/write.ts'
import type { Membership } from '../../shared/membership/membership.ts'
import type { Log } from '../../shared/telemetry/log.ts'
import { compileMatchers } from '../../shared/tsdb/matcher-set.ts'

export interface DeletionDeps {
  readonly bus: Bus
  readonly clock: Clock
  readonly log: Log
  readonly membership: Pick<Membership, 'partitionCount' | 'readers'>
  readonly blocks: () => Blocks
  readonly config: { readonly undoMs: number }
  /** Called when windows were ended: what is hidden may be removed now. */
  readonly onCleaned: (tenant: string) => void
}

const APPEND_TIMEOUT_MS = 5_000
const APPEND_TRIES_MAX = 4
const RETRY_MS = 200
/** How long an owner may take to apply a record before the answer goes out without it. */
const APPLIED_WAIT_MS = 5_000
/** A deletion that has been half done for so long has lost who asked for it. */
const ABANDONED_MS = 60_000

export class Deletions {
  private readonly deps: DeletionDeps
  /** Ids that are being completed here. */
  private readonly underWay = new Set<string>()

  constructor(deps: DeletionDeps) {
    this.deps = deps
  }

  async remove(asked: RemoveAsk): Promise<DeleteReply> {
    checkAsked(asked)
    const { blocks, clock, config, log, membership } = this.deps
    const { tenant, id, kind, selectors, startMs, endMs, askedBy } = asked
    const partitions = Array.from({ length: membership.partitionCount() }, (_, partition) => partition)
    if (partitions.length === 0) throw new UnavailableError('err-carillon-no-ring', 'no partition is known yet')
    const askedAtMs = clock.now()
    const times = { startMs, endMs, askedAtMs, undoUntilMs: askedAtMs + config.undoMs }
    const entry = { id, kind, selectors, askedBy, ...times }
    const { manifest } = await blocks().update(tenant, (before) => withDelete(before, entry, partitions)) // R1
    log.info({ tenant, id, kind, askedBy, selectors, startMs, endMs }, 'a deletion was asked for')
    return this.complete(tenant, entryOf(manifest, id))
  }

  async undo({ tenant, id, askedBy }: UndoAsk): Promise<DeleteReply> {
    const { blocks, clock, log } = this.deps
    const { manifest } = await blocks().update(tenant, (before) => {
      const entry = entryOf(before, id)
      if (entry.state === 'undoing' || entry.state === 'undone') return undefined
      if (entry.state === 'removed' || entry.undoUntilMs < clock.now()) {
        const text = `deletion ${id} could be taken back until ${new Date(entry.undoUntilMs).toISOString()}`
        throw new RefusedError('err-carillon-undo-over', text, { status: 409 }) // R3
      }
      return withState(before, id, { from: ['pending', 'active'], to: 'undoing', by: askedBy })
    })
    log.info({ tenant, id, askedBy }, 'a deletion is taken back')
    return this.complete(tenant, entryOf(manifest, id))
  }

  async clean({ tenant, askedBy }: CleanAsk): Promise<CleanReply> {
    const { blocks, clock, log, onCleaned } = this.deps
    let endedCount = 0
    await blocks().update(tenant, (before) => {
      const deletes = withWindowsEnded(before.deletes, clock.now())
      endedCount = deletes.filter((entry, i) => entry !== before.deletes[i]).length
      return endedCount === 0 ? undefined : { ...before, deletes }
    })
    log.info({ tenant, askedBy, endedCount }, 'the undo windows of deletions were ended')
    onCleaned(tenant)
    return { endedCount }
  }

  async list({ tenant }: ListAsk): Promise<ListReply> {
    const manifest = this.deps.blocks().manifest(tenant)?.manifest
    const deletedAtMs = manifest?.deletedAtMs
    return { deletes: manifest?.deletes ?? [], ...(deletedAtMs === undefined ? {} : { deletedAtMs }) }
  }

  /** Completes what was left half done. */
  async completeAbandoned(): Promise<void> {
    const { blocks, clock, log } = this.deps
    for (const tenant of blocks().tenants()) {
      for (const entry of halfDone(blocks(), tenant)) {
        if (clock.now() - entry.askedAtMs < ABANDONED_MS || this.underWay.has(entry.id)) continue
        try {
          await this.complete(tenant, entry)
          log.warn({ tenant, id: entry.id }, 'a deletion that was left half done was completed')
        } catch (error) {
          log.warn({ tenant, id: entry.id, reason: textOf(error) }, 'a deletion is half done')
        }
      }
    }
  }

  /** Does what is left to do of a deletion, from whichever state. */
  private async complete(tenant: string, entry: DeleteEntry): Promise<DeleteReply> {
    const { id } = entry
    this.underWay.add(id)
    try {
      let { state } = entry
      let position: LogPosition[] = []
      let newest = entry
      if (state === 'pending' || state === 'undoing') {
        position = await this.writeAll(entry, deleteSubject, encodeDelete({ ...entry, tenant }))
      }
      if (state === 'pending') {
        newest = await this.change(tenant, id, { from: ['pending'], to: 'active' })
        state = newest.state // somebody may have taken it back meanwhile
      }
      if (state === 'undoing') {
        position = await this.writeAll(entry, undeleteSubject, encodeUndelete({ id, tenant }))
        newest = await this.change(tenant, id, { from: ['undoing'], to: 'undone', nowMs: this.deps.clock.now() })
      }
      await this.waitUntilApplied(tenant, position)
      return { entry: newest, position }
    } finally {
      this.underWay.delete(id)
    }
  }

  private async change(
    tenant: string,
    id: string,
    change: { from: DeleteEntry['state'][]; to: DeleteEntry['state']; nowMs?: number },
  ): Promise<DeleteEntry> {
    const { manifest } = await this.deps.blocks().update(tenant, (before) => withState(before, id, change))
    return entryOf(manifest, id)
  }

  /** One record in each partition log that the deletion names. */
  private async writeAll(
    { id, positions }: DeleteEntry,
    subjectOf: (partition: number, id: string) => string,
    payload: Uint8Array,
  ): Promise<LogPosition[]> {
    const written = Object.entries(positions).map(async ([key, known]) => {
      const partition = Number(key)
      const isFlushed = known !== null && subjectOf === deleteSubject // R2
      const seq = isFlushed ? known.seq : await this.writeOnce(partition, subjectOf(partition, id), payload)
      const { incarnation } = await this.deps.bus.logs.state(logName(partition))
      return { partition, incarnation, seq }
    })
    return Promise.all(written)
  }

  /** The sequence of the record, written now or before. */
  private async writeOnce(partition: number, subject: string, payload: Uint8Array): Promise<number> {
    const { bus, clock } = this.deps
    const log = logName(partition)
    for (let attempt = 1; ; attempt++) {
      try {
        const options = { timeoutMs: APPEND_TIMEOUT_MS, expectedLastSubjectSeq: 0 }
        return (await bus.logs.append(log, subject, payload, options)).seq
      } catch (error) {
        if (!(error instanceof ConflictError) && !(error instanceof UnavailableError)) throw error
        const isLast = attempt === APPEND_TRIES_MAX
        if (error instanceof ConflictError) {
          const { messages } = await bus.logs.lastPerSubject(log, [subject], APPEND_TIMEOUT_MS)
          if (messages[0] !== undefined) return messages[0].seq
        }
        if (isLast) {
          const text = `partition ${partition} did not take the record; it is written as soon as it does`
          throw new UnavailableError('err-carillon-delete-pending', text, { cause: error })
        }
      }
      await sleep(clock, RETRY_MS * attempt)
    }
  }

  /** Until the owners have applied the records, so that whoever reads next does not see what was deleted. One that does not say so in time is
   *  not waited for: it applies the record before anything that comes later. */
  private async waitUntilApplied(tenant: string, position: readonly LogPosition[]): Promise<void> {
    const { bus, log, membership } = this.deps
    const asked = position.flatMap(({ partition, incarnation, seq }) =>
      membership.readers(partition).map(async (id) => {
        const place = { partition, tenant, watermark: Number.MAX_SAFE_INTEGER, minSeq: seq, incarnation }
        const request = { ...place, waitMs: APPLIED_WAIT_MS, metric: '\u0000', limit: 1 }
        try {
          await ask(bus, metadata, { id }, request, { timeoutMs: APPLIED_WAIT_MS })
        } catch (error) {
          log.debug({ partition, id, reason: textOf(error) }, 'an owner has not said that it applied a deletion')
        }
      }),
    )
    await Promise.all(asked)
  }
}

function halfDone(blocks: Blocks, tenant: string): readonly DeleteEntry[] {
  try {
    const deletes = blocks.manifest(tenant)?.manifest.deletes ?? []
    return deletes.filter((entry) => isHiding(entry) && entry.state !== 'active')
  } catch (error) {
    if (error instanceof CorruptError) return [] // named by the turns of compaction
    throw error
  }
}

function entryOf(manifest: Manifest, id: string): DeleteEntry {
  const entry = manifest.deletes.find((each) => each.id === id)
  if (entry !== undefined) return entry
  throw new RefusedError('err-carillon-not-found', `there is no deletion "${id.slice(0, 50)}"`, { status: 404 })
}

/** What owners could not apply is refused here. */
function checkAsked({ id, selectors, startMs, endMs }: RemoveAsk): void {
  const refuse = (text: string) => new RefusedError('err-carillon-bad-request', text)
  if (!ID_SHAPE.test(id)) throw refuse(`the id of a deletion has 1 to 40 letters and digits, got "${id.slice(0, 50)}"`)
  if (selectors.length === 0) throw refuse('no match[] parameter provided')
  if (selectors.length > SELECTORS_MAX) throw refuse(`${selectors.length} selectors came, at most ${SELECTORS_MAX} go`)
  if (!Number.isSafeInteger(startMs) || !Number.isSafeInteger(endMs)) throw refuse('start and end are milliseconds')
  if (endMs < startMs) throw refuse('end is before start')
  for (const matchers of selectors) compileMatchers(matchers)
}
