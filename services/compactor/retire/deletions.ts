// Deletions: brings one into the tenant's manifest, finds where it stands in every partition log, and takes it back: rules DELETE-1 to DELETE-6 and DELETE-12 of
// shared/blocks/delete-rules.ts, where the changes of the manifest are.
//
// Invariants
//   PLACING-1  The entry stands in the manifest before the first fence is written. Every step may be done again, by anybody, at once.
//   PLACING-2  Nothing is answered 2xx before the entry says so; one that is refused or not placed yet hides nothing.
import { type Clock, sleep } from '../../../shared/base/clock.ts'
import { CarillonError, CorruptError, RefusedError, textOf, UnavailableError } from '../../../shared/base/errors.ts'
import { hex, type Random } from '../../../shared/base/random.ts'
import {
  type Looker,
  standingFor,
  withDelete,
  withPositions,
  withUndone,
  withWindowsEnded,
} from '../../../shared/blocks/delete-rules.ts'
import { isLeftOut } from '../../../shared/blocks/left-out.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import type { Bus, LogMessage } from '../../../shared/bus/port.ts'
import type { DeleteEntry, Manifest } from '../../../shared/contracts/blocks.ts'
import {
  type CleanReply,
  type CleanRequest,
  type DeleteReply,
  deleteSubject,
  encodeDelete,
  ID_SHAPE,
  type ListReply,
  type ListRequest,
  type RemoveRequest,
  SELECTORS_MAX,
  type UndoRequest,
} from '../../../shared/contracts/deletes.ts'
import { decodeMark, fits, logName, type Mark, markSubject } from '../../../shared/contracts/log.ts'
import type { LogPosition } from '../../../shared/contracts/write.ts'
import { isGivenAgain, type KnownEnds } from '../../../shared/kv/known-ends.ts'
import type { Membership } from '../../../shared/membership/membership.ts'
import type { Place } from '../../../shared/model/place.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import { checkPatterns } from '../../../shared/tsdb/matcher-set.ts'

export interface DeletionDeps {
  readonly bus: Bus
  readonly clock: Clock
  readonly log: Log
  readonly random: Random
  readonly ends: KnownEnds
  readonly membership: Pick<Membership, 'partitionCount' | 'confirm' | 'isConfirmed'>
  readonly blocks: () => Blocks
  readonly config: { readonly undoMs: number }
  /** Called when windows were ended: what is hidden may be removed now. */
  readonly onCleaned: (tenant: string) => void
}

const LOG_TIMEOUT_MS = 5_000
/** How long a deletion waits for the ring to be confirmed. */
const CONFIRM_MS = 8_000
/** Tries to place one, each after a longer wait; more are made by whoever finds it half done. */
const PLACE_TRIES_MAX = 4
const RETRY_MS = 250
/** A deletion that has been placing for so long has lost who asked for it (DELETE-5). */
const ABANDONED_MS = 60_000
const REFRESH_MS = 5_000

export class Deletions {
  private readonly deps: DeletionDeps
  /** Ids that are being placed here. */
  private readonly underWay = new Set<string>()
  /** Since when entries are seen to be placing, or were tried last, monotonic. Bound: forgotten when they are not any more. */
  private readonly placingSince = new Map<string, number>()

  constructor(deps: DeletionDeps) {
    this.deps = deps
  }

  async remove(asked: RemoveRequest): Promise<DeleteReply> {
    checkAsked(asked)
    const { blocks, clock, config, log, membership } = this.deps
    const { tenant, kind, selectors, startMs, endMs, askedBy, asOf } = asked
    const id = isLeftOut('same-id') ? `${asked.id}${Math.trunc(clock.monotonic())}` : asked.id
    const askedAtMs = clock.now()
    if (!isLeftOut('ring')) await membership.confirm(CONFIRM_MS) // DELETE-1: what is added from here on was not written before the ask
    const times = { startMs, endMs, askedAtMs, undoUntilMs: askedAtMs + config.undoMs }
    const entry = { id, kind, selectors, askedBy, ...times }
    const { manifest } = await blocks().update(tenant, (before) =>
      withDelete(before, { entry, partitions: this.partitions(), asOf }, this.looker()),
    )
    log.info({ tenant, id, kind, askedBy, selectors, startMs, endMs }, 'a deletion was asked for')
    return this.answer(tenant, standingIn(manifest, id))
  }

  async undo({ tenant, id, askedBy }: UndoRequest): Promise<DeleteReply> {
    const { blocks, clock, log } = this.deps
    const undone = (before: Manifest) => withUndone(before, id, { by: askedBy, nowMs: clock.now() })
    const { manifest } = await blocks().update(tenant, undone)
    const entry = entryOf(manifest, id)
    log.info({ tenant, id, askedBy }, 'a deletion is taken back')
    return { entry, position: [] }
  }

  async clean({ tenant, askedBy }: CleanRequest): Promise<CleanReply> {
    const { blocks, log, onCleaned } = this.deps
    let endedCount = 0
    await blocks().update(tenant, (before) => {
      endedCount = before.deletes.filter(({ state }) => state === 'active').length
      return withWindowsEnded(before)
    })
    log.info({ tenant, askedBy, endedCount }, 'the undo windows of deletions were ended')
    onCleaned(tenant)
    return { endedCount }
  }

  async list({ tenant, isBrief }: ListRequest): Promise<ListReply> {
    await this.deps.blocks().refresh(REFRESH_MS) // what was answered before is known to who asks for the version, too (DELETE-6)
    const manifest = this.deps.blocks().manifest(tenant)?.manifest
    const version = manifest?.version ?? 0
    if (isBrief) return { version, deletes: [] }
    const deletedAtMs = manifest?.deletedAtMs
    return { version, deletes: manifest?.deletes ?? [], ...(deletedAtMs === undefined ? {} : { deletedAtMs }) }
  }

  /** Places what was left half done, and settles what an older version has left (DELETE-5). */
  async completeAbandoned(): Promise<void> {
    const { blocks, log } = this.deps
    const seen = new Set<string>()
    for (const tenant of blocks().tenants()) {
      try {
        await this.completeOf(tenant, seen)
      } catch (error) {
        if (!(error instanceof CarillonError)) throw error
        log.warn({ tenant, reason: textOf(error) }, 'a deletion is half done')
      }
    }
    for (const key of this.placingSince.keys()) if (!seen.has(key)) this.placingSince.delete(key)
  }

  /** `seen` gets the keys of what is placing. */
  private async completeOf(tenant: string, seen: Set<string>): Promise<void> {
    const { blocks, clock, log } = this.deps
    const manifest = soundManifest(blocks(), tenant)
    if (manifest?.isUnsettled) await blocks().update(tenant, () => undefined)
    for (const known of manifest?.deletes ?? []) {
      const { id, state } = known
      if (state !== 'placing') continue
      const key = `${tenant} ${id}`
      seen.add(key)
      const since = this.placingSince.get(key) ?? clock.monotonic()
      this.placingSince.set(key, since)
      if (clock.monotonic() - since < ABANDONED_MS || isLeftOut('abandoned') || this.underWay.has(key)) continue
      const { entry } = await this.place(tenant, known)
      this.placingSince.set(key, clock.monotonic())
      log.warn({ tenant, id, state: entry.state }, 'a deletion was left half done')
    }
  }

  private partitions(): number[] {
    const { membership } = this.deps
    if (!membership.isConfirmed() && !isLeftOut('ring'))
      throw new UnavailableError('err-carillon-ring-unconfirmed', 'this compactor may not know of all partitions')
    const count = membership.partitionCount()
    if (count === 0) throw new UnavailableError('err-carillon-no-ring', 'no partition is known yet')
    return Array.from({ length: count }, (_, partition) => partition)
  }

  private looker(): Looker {
    const { blocks, clock } = this.deps
    return { nowMs: clock.now(), flushed: (partition) => blocks().flushed(partition) }
  }

  /** What an entry's state says of the ask for it (DELETE-6). */
  private async answer(tenant: string, known: DeleteEntry): Promise<DeleteReply> {
    const { entry, position } =
      known.state === 'placing' ? await this.place(tenant, known) : { entry: known, position: [] }
    if (entry.state === 'undone')
      throw new RefusedError('err-carillon-undone', `deletion ${entry.id} was taken back`, { status: 409 })
    if (entry.state !== 'placing') return { entry, position }
    const open = Object.entries(entry.positions).flatMap(([partition, place]) => (place === null ? [partition] : []))
    const text = `deletion ${entry.id} is not in force yet: it waits for partitions ${open.join(', ')}, and goes on; ask again`
    throw new UnavailableError('err-carillon-delete-pending', text) // PLACING-2
  }

  /** Finds where an entry stands in every partition (DELETE-2 to DELETE-4), as far as they tell. */
  private async place(tenant: string, known: DeleteEntry): Promise<DeleteReply> {
    const { blocks, clock, config } = this.deps
    const { id } = known
    const key = `${tenant} ${id}`
    const position: LogPosition[] = []
    this.underWay.add(key)
    try {
      let entry = known
      for (let attempt = 0; ; attempt++) {
        if (entry.state !== 'placing' || attempt === PLACE_TRIES_MAX) return { entry, position }
        if (attempt > 0) await sleep(clock, RETRY_MS * 2 ** (attempt - 1))
        const found = await this.fenceAll(tenant, entry)
        for (const [partition, { incarnation, seq }] of found) position.push({ partition, incarnation, seq })
        const nowMs = clock.now()
        const change = (before: Manifest) => withPositions(before, id, { found, nowMs, undoMs: config.undoMs })
        entry = standingIn((await blocks().update(tenant, change)).manifest, id)
      }
    } finally {
      this.underWay.delete(key)
    }
  }

  /** DELETE-2 and DELETE-3, for each partition whose position is not known. */
  private async fenceAll(tenant: string, entry: DeleteEntry): Promise<Map<number, Place>> {
    const payload = encodeDelete({ ...entry, tenant })
    const open = Object.entries(entry.positions).flatMap(([key, place]) => (place === null ? [Number(key)] : []))
    const found = new Map<number, Place>()
    const fence = async (partition: number) => {
      try {
        const place = await this.fence(partition, entry.id, payload)
        if (place !== undefined) found.set(partition, place)
      } catch (error) {
        if (!(error instanceof CarillonError) || error instanceof RefusedError) throw error
        this.deps.log.debug({ partition, id: entry.id, reason: textOf(error) }, 'a deletion was not placed')
      }
    }
    await Promise.all(open.map(fence))
    return found
  }

  /** Where a fence stands that was appended now; undefined when that cannot be said. */
  private async fence(partition: number, id: string, payload: Uint8Array): Promise<Place | undefined> {
    const { logs } = this.deps.bus
    const log = logName(partition)
    const [mark, subject] = [markSubject(partition), deleteSubject(partition, id)]
    const before = await logs.state(log)
    if (!fits('deletion', before, payload.length)) return undefined // LOG-7
    if (isLeftOut('append')) return this.endOf(partition, before)
    const known = await this.deps.ends.read(partition)
    const session = hex(this.deps.random.bytes(16))
    const { seq } = await logs.append(log, subject, payload, { timeoutMs: LOG_TIMEOUT_MS, messageId: `${session}-1` })
    const isExact = !isLeftOut('exact-mark')
    const told = await logs.lastPerSubject(log, [mark, subject], LOG_TIMEOUT_MS, isExact ? seq : undefined)
    const { incarnation } = await logs.state(log)
    const newest = markIn(told.messages, mark)
    if (newest === undefined) return undefined
    const hasFence = told.messages.some((message) => message.subject === subject && message.seq === seq)
    const isSound = told.upToSeq >= seq && hasFence && newest.seq < seq && incarnation === before.incarnation // DELETE-3
    if (!isSound && isExact) return undefined
    const { number, since } = newest.mark
    if (!isLeftOut('lost-end')) {
      if (isGivenAgain(known, { mark: newest.mark, incarnation, seq })) return undefined
      await this.deps.ends.write(partition, newest.mark, { session, counter: 1, seq, incarnation })
    }
    return { incarnation, segment: number, seq, ...(since !== undefined && { since }) }
  }

  /** Only for the counter-proof of DELETE-2: the end of the log as it is read, which may be an old one. */
  private async endOf(
    partition: number,
    { lastSeq, incarnation }: { readonly lastSeq: number; readonly incarnation: string },
  ): Promise<Place | undefined> {
    const subject = markSubject(partition)
    const { messages } = await this.deps.bus.logs.lastPerSubject(logName(partition), [subject], LOG_TIMEOUT_MS)
    const newest = markIn(messages, subject)
    return newest && { incarnation, segment: newest.mark.number, seq: lastSeq }
  }
}

/** The newest mark, if it can be read. */
function markIn(messages: readonly LogMessage[], subject: string): { mark: Mark; seq: number } | undefined {
  const message = messages.find((each) => each.subject === subject)
  if (message === undefined) return undefined
  try {
    return { mark: decodeMark(message.payload), seq: message.seq }
  } catch (error) {
    if (error instanceof RefusedError) return undefined // its leader writes another one
    throw error
  }
}

function soundManifest(blocks: Blocks, tenant: string): Manifest | undefined {
  try {
    return blocks.manifest(tenant)?.manifest
  } catch (error) {
    if (error instanceof CorruptError) return undefined // named by the turns of compaction
    throw error
  }
}

/** What the ask for it is answered by. */
function standingIn(manifest: Manifest, id: string): DeleteEntry {
  return standingFor(manifest, id) ?? entryOf(manifest, id)
}

function entryOf({ deletes }: Manifest, id: string): DeleteEntry {
  const entry = deletes.find((each) => each.id === id)
  if (entry !== undefined) return entry
  throw new RefusedError('err-carillon-not-found', `there is no deletion "${id.slice(0, 50)}"`, { status: 404 })
}

/** What owners could not apply is refused here. */
function checkAsked({ id, selectors, startMs, endMs, asOf }: RemoveRequest): void {
  const refuse = (text: string) => new RefusedError('err-carillon-bad-request', text)
  if (!ID_SHAPE.test(id)) throw refuse(`the id of a deletion has 1 to 40 letters and digits, got "${id.slice(0, 50)}"`)
  if (selectors.length === 0) throw refuse('no match[] parameter provided')
  if (selectors.length > SELECTORS_MAX) throw refuse(`${selectors.length} selectors came, at most ${SELECTORS_MAX} go`)
  if (!Number.isSafeInteger(startMs) || !Number.isSafeInteger(endMs)) throw refuse('start and end are milliseconds')
  if (endMs < startMs) throw refuse('end is before start')
  if (!Number.isSafeInteger(asOf)) throw refuse('asOf is the version of a manifest')
  for (const matchers of selectors) checkPatterns(matchers)
}
