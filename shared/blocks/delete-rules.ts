// What a deletion means, as changes of its tenant's manifest: pure, each made by one compare-and-set (contracts/blocks.ts). The logs only
// order: a record there is a fence that cuts segments (deletes.ts). What is hidden follows from the manifest alone, for everybody.
//
// A *place* is (incarnation, segment, sequence) of a message; the *position* of a deletion in a partition is a place. What lies before the
// position is affected, what lies behind it never is.
//
// Promised: what was acknowledged before the deletion was asked for is hidden once it is answered; what is begun after the answer never is.
// What lies between may be either, and stays so. Taken back: all shows again. Removed: nothing comes back. Refused: nothing was hidden.
//
// States: placing → active → removing → removed; placing or active → undone; removed → removing by DELETE-11 only.
//
// Invariants
//   DELETE-1   The entry comes first: with all partitions of a ring that was confirmed after the ask came, and all blocks that are listed.
//   DELETE-2   In each partition a fence is appended, without any condition: a second one does no harm, it is only a cut.
//   DELETE-3   Its position is the fence as it is read back, with the newest mark before it, of one life of the log; else it is appended again. So it is
//        where something is known to have stood at its sequence or behind, and no mark says yet that the log has lost its end. What is
//        known so to have stood there is written down with it.
//   DELETE-4   The first position counts, and only while nothing of its segment is listed: what is listed of it later must find it there. Once
//        all are known the deletion is active, in one change, everywhere.
//   DELETE-5   Whoever finds one that has been placing for long places it, by its own monotonic clock.
//   DELETE-6   An id is made once, and says what it was made for. One that may have left the history since it was asked for is not made (`asOf`,
//        `historyCut`). Who is not answered may ask again with another id: what comes into force ends what was asked for before it with the
//        same meaning and is still being placed, and an ask that one with the same meaning may have followed (`asOf`, `madeAt`) is not made.
//        So nothing that was begun after the answer is taken by an earlier ask.
//   DELETE-7   Owners cut at every fence, and where one may have been lost; they remember nothing else of it.
//   DELETE-8   Heads hide by the manifest, by a version at least as new as the reader's.
//   DELETE-9   What is listed joins, in the same change, every deletion that has no position there yet or that it lies before.
//   DELETE-10  What was listed is written down by the change that lists it, and compared with before memory is freed.
//   DELETE-11  So do supplements, also of deletions that are done: those go on. What lies before forgotten positions is refused.
//   DELETE-12  Taking back and removing are changes of one entry: only one can win, whatever any clock says. Removed is what has no blocks and
//        no unflushed segment left before it.
//   DELETE-13  History goes oldest first, never within an hour, never before its positions are flushed; what it knew is kept as one place each.
//   DELETE-14  Blocks become one only if each deletion holds all of them or none.
//   DELETE-15  A deleted tenant's metadata and exemplars are compared by where they were first stated; the place is kept for ever (`tomb`).
//   DELETE-16  A strong read goes by a view that has passed a write of its own (shared/blocks).
import { RefusedError, UnavailableError } from '../base/errors.ts'
import type { BlockEntry, DeleteEntry, Manifest } from '../contracts/blocks.ts'
import { isBefore, laterOf, type Place } from '../model/place.ts'
import type { Hiding } from '../tsdb/head/hidden-samples.ts'
import { isLeftOut } from './left-out.ts'

/** Entries of one manifest that are not history; more are refused. */
export const DELETES_MAX = 500
/** What all entries of one manifest take there: history goes first, then more are refused. */
export const DELETES_BYTES_MAX = 1024 * 1024
/** Entries of one manifest that are history. */
export const PAST_DELETES_MAX = 200
/** For so long an entry of the history stays, however many there are. */
export const PAST_DELETES_MS_MIN = 3_600_000

/** Who changes a manifest knows the time and what is flushed. */
export interface Looker {
  readonly nowMs: number
  readonly flushed: (partition: number) => number
}

// --- what entries mean ---

/** Whether the entry hides samples, in blocks and heads. */
export function isHiding({ state }: Pick<DeleteEntry, 'state'>): boolean {
  return state === 'active' || state === 'removing' || state === 'removed'
}

/** Whether something is still to be done of it: history is all else. */
export function isUnderWay({ state }: Pick<DeleteEntry, 'state'>): boolean {
  return state !== 'removed' && state !== 'undone'
}

/** Whether the compactor may write its blocks anew without what it hides (DELETE-12). */
export function isFinal({ state }: Pick<DeleteEntry, 'state'>): boolean {
  return state === 'removing'
}

/** The deletions that hide samples of a block: build a DeleteFilter of each. */
export function hidersOf(deletes: readonly DeleteEntry[], ulid: string): DeleteEntry[] {
  return deletes.filter((entry) => isHiding(entry) && entry.blocks.includes(ulid))
}

/** What hides samples that a partition's heads hold (DELETE-8). */
export function hidingIn(manifest: Manifest, partition: number): Hiding[] {
  return manifest.deletes.flatMap((entry): Hiding[] => {
    const place = entry.positions[partition]
    if (!isHiding(entry) || !place) return []
    const { id, kind, selectors, startMs, endMs } = entry
    return [{ id, selectors: kind === 'tenant' ? [[]] : selectors, startMs, endMs, place }]
  })
}

/** The places in a partition before which metadata and exemplars are hidden; `forGood`: never to be shown again (DELETE-15). */
export function tenantPlaces(manifest: Manifest, partition: number, forGood = false): Place[] {
  const places = manifest.deletes.flatMap((entry) => {
    const place = entry.positions[partition]
    const isMeant = entry.kind === 'tenant' && isHiding(entry) && (!forGood || entry.state !== 'active')
    return isMeant && place ? [place] : []
  })
  const tomb = isLeftOut('tombstone') ? undefined : manifest.tomb?.[partition]
  return tomb === undefined ? places : [...places, tomb]
}

/** DELETE-14 */
export function mayMerge(deletes: readonly DeleteEntry[], ulids: readonly string[]): boolean {
  if (isLeftOut('merge-same')) return true
  return deletes.every((entry) => {
    const held = entry.state === 'undone' ? 0 : ulids.filter((ulid) => entry.blocks.includes(ulid)).length
    return held === 0 || held === ulids.length
  })
}

/** The deletions after blocks became others: `results` are held by what held the `sources`, but for the deletions in `applied`, whose
 *  samples they do not hold any more. */
export function withReplaced(
  deletes: readonly DeleteEntry[],
  { sources, results, applied = [] }: Replaced,
): readonly DeleteEntry[] {
  return deletes.map((entry) => {
    if (!entry.blocks.some((ulid) => sources.includes(ulid))) return entry
    const left = entry.blocks.filter((ulid) => !sources.includes(ulid))
    return { ...entry, blocks: applied.includes(entry.id) ? left : [...left, ...results] }
  })
}

export interface Replaced {
  readonly sources: readonly string[]
  readonly results: readonly string[]
  /** Ids of the deletions that the results were written without. */
  readonly applied?: readonly string[]
}

// --- asking and placing ---

export interface NewDelete {
  readonly entry: Omit<DeleteEntry, 'blocks' | 'state' | 'positions' | 'madeAt'>
  readonly partitions: readonly number[]
  /** The version that the asker had seen when it asked (DELETE-6). */
  readonly asOf: number
}

/** The manifest with a new deletion, which holds all blocks that are listed and reach into its times (DELETE-1). The same id again changes
 *  nothing. Throws RefusedError `err-carillon-too-many-deletes` (429), `err-carillon-ask-again`, `err-carillon-id-used` (409),
 *  UnavailableError `err-carillon-asked-meanwhile`. */
export function withDelete(manifest: Manifest, asked: NewDelete, looker: Looker): Manifest | undefined {
  const { entry, partitions, asOf } = asked
  const known = manifest.deletes.find(({ id }) => id === entry.id)
  if (known !== undefined && meaningOf(known) !== meaningOf(entry)) {
    const text = `deletion ${entry.id} was asked for with other selectors or times; nothing more is deleted: use another id`
    throw new RefusedError('err-carillon-id-used', text, { status: 409 })
  }
  if (known !== undefined) return undefined
  if ((manifest.historyCut ?? 0) > asOf && !isLeftOut('as-of-version')) {
    const text = `deletions left the history since version ${asOf} was seen: it may have been made before; ask again`
    throw new RefusedError('err-carillon-ask-again', text, { status: 409 }) // DELETE-6
  }
  const other = manifest.deletes.find((each) => (each.madeAt ?? 0) > asOf && meaningOf(each) === meaningOf(entry))
  if (other !== undefined && !isLeftOut('asked-since')) {
    const text = `deletion ${other.id} of the same was asked for meanwhile, perhaps to repeat this one, which is not made: ask again`
    throw new UnavailableError('err-carillon-asked-meanwhile', text)
  }
  const blocks = manifest.blocks
    .filter(({ minTime, maxTime }) => minTime <= entry.endMs && maxTime > entry.startMs)
    .map(({ ulid }) => ulid)
  const positions = Object.fromEntries(partitions.map((partition) => [String(partition), null]))
  const added: DeleteEntry = { ...entry, state: 'placing', positions, blocks, madeAt: manifest.version + 1 }
  const deletedAt = entry.kind === 'tenant' ? { deletedAtMs: entry.askedAtMs } : {}
  let next: Manifest = { ...manifest, ...deletedAt, deletes: [...manifest.deletes, added] }
  while (isTooMuch(next.deletes)) {
    const oldest = next.deletes.find((each) => mayLeave(each, looker))
    if (oldest === undefined) {
      const text = `${next.deletes.length - 1} deletions are listed; clean_tombstones ends their undo windows, history leaves after an hour`
      throw new RefusedError('err-carillon-too-many-deletes', text, { status: 429 })
    }
    next = withoutPast(next, [oldest])
  }
  return next
}

/** Two deletions with the same meaning take the same, apart from when they were asked for. */
function meaningOf({ kind, selectors, startMs, endMs }: Pick<DeleteEntry, 'kind' | 'selectors' | 'startMs' | 'endMs'>) {
  const named = selectors.map((matchers) => matchers.map(({ name, operator, value }) => [name, operator, value]))
  return JSON.stringify([kind, startMs, endMs, named])
}

function isTooMuch(deletes: readonly DeleteEntry[]): boolean {
  return deletes.filter(isUnderWay).length > DELETES_MAX || JSON.stringify(deletes).length > DELETES_BYTES_MAX
}

/** The manifest with positions that were found, and with the deletion active once all are (DELETE-4), in place of those that were asked for before it
 *  with the same meaning (DELETE-6); undefined when that changes nothing. */
export function withPositions(
  manifest: Manifest,
  id: string,
  { found, nowMs, undoMs }: { found: ReadonlyMap<number, Place>; nowMs: number; undoMs: number },
): Manifest | undefined {
  const entry = manifest.deletes.find((each) => each.id === id)
  const mayMove = isLeftOut('first-wins')
  if (entry === undefined || (entry.state !== 'placing' && !mayMove)) return undefined
  const positions = { ...entry.positions }
  let isChanged = false
  for (const [partition, place] of found) {
    const isOpen = positions[partition] === null || (mayMove && positions[partition] !== undefined)
    const isListed = (manifest.flushed[partition] ?? 0) >= place.segment && !isLeftOut('floor')
    if (!isOpen || isListed) continue
    positions[partition] = place
    isChanged = true
  }
  const isPlaced = isLeftOut('all-placed') || Object.values(positions).every((place) => place !== null)
  if (!isChanged && !isPlaced) return undefined
  const isNew = isPlaced && entry.state === 'placing'
  const next: DeleteEntry = {
    ...{ ...entry, positions },
    ...(isNew ? { state: 'active' as const, undoUntilMs: nowMs + undoMs } : {}),
  }
  const placed = withEntry(manifest, entry, next)
  return isNew && !isLeftOut('overtakes') ? withOvertaken(placed, next, nowMs) : placed
}

function withOvertaken(manifest: Manifest, by: DeleteEntry, nowMs: number): Manifest {
  const at = manifest.deletes.indexOf(by)
  const deletes = manifest.deletes.map((each, i): DeleteEntry => {
    const isOvertaken = i < at && each.state === 'placing' && meaningOf(each) === meaningOf(by)
    const ended = { endedAtMs: nowMs, endedBy: by.askedBy, overtakenBy: by.id }
    return isOvertaken ? { ...each, state: 'undone', blocks: [], ...ended } : each
  })
  return { ...manifest, deletes }
}

/** The deletion with this id, or the one that is in its place (DELETE-6). */
export function standingFor({ deletes }: Manifest, id: string): DeleteEntry | undefined {
  const entry = deletes.find((each) => each.id === id)
  const { overtakenBy } = entry ?? {}
  return overtakenBy === undefined ? entry : (deletes.find((each) => each.id === overtakenBy) ?? entry)
}

// --- taking back and removing ---

/** The manifest with a deletion taken back (DELETE-12); undefined when it is already, or is not there. Throws RefusedError
 *  `err-carillon-undo-over`, `err-carillon-overtaken` (409). */
export function withUndone(
  manifest: Manifest,
  id: string,
  { by, nowMs }: { by: string; nowMs: number },
): Manifest | undefined {
  const entry = manifest.deletes.find((each) => each.id === id)
  const standing = standingFor(manifest, id)
  if (standing !== undefined && standing !== entry && standing.state !== 'undone') {
    const text = `deletion ${standing.id} of the same is in the place of ${id}: take that one back`
    throw new RefusedError('err-carillon-overtaken', text, { status: 409 })
  }
  if (entry === undefined || entry.state === 'undone') return undefined
  const byClock = isLeftOut('removing') && entry.state !== 'removed' && entry.undoUntilMs >= nowMs
  if (entry.state !== 'placing' && entry.state !== 'active' && !byClock) {
    const text = `samples of deletion ${id} are being removed since its time to be taken back is over`
    throw new RefusedError('err-carillon-undo-over', text, { status: 409 })
  }
  return withEntry(manifest, entry, { ...entry, state: 'undone', blocks: [], endedAtMs: nowMs, endedBy: by })
}

/** The manifest with the undo windows of all active deletions ended (`clean_tombstones`); undefined where there is none. */
export function withWindowsEnded(manifest: Manifest): Manifest | undefined {
  if (!manifest.deletes.some(({ state }) => state === 'active')) return undefined
  const end = (entry: DeleteEntry): DeleteEntry => (entry.state === 'active' ? { ...entry, state: 'removing' } : entry)
  return { ...manifest, deletes: manifest.deletes.map(end) }
}

/** The manifest after what time and flushes have brought about: windows that are over, deletions that are done with (DELETE-12), history that is too
 *  much (DELETE-13). The same one when that is nothing. */
export function withEnded(manifest: Manifest, looker: Looker): Manifest {
  const deletes = manifest.deletes.map((entry) => ended(entry, looker))
  let next: Manifest = deletes.every((entry, i) => entry === manifest.deletes[i]) ? manifest : { ...manifest, deletes }
  const buried = deletes.filter((entry, i) => entry.kind === 'tenant' && isRemovedNow(entry, manifest.deletes[i]!))
  if (buried.length > 0) next = { ...next, tomb: raised(next.tomb, buried) } // DELETE-15
  const past = next.deletes.filter((entry) => !isUnderWay(entry))
  const tooMany = past.slice(0, Math.max(0, past.length - PAST_DELETES_MAX)).filter((entry) => mayLeave(entry, looker))
  return tooMany.length === 0 ? next : withoutPast(next, tooMany)
}

function ended(entry: DeleteEntry, { nowMs, flushed }: Looker): DeleteEntry {
  if (entry.state === 'active' && entry.undoUntilMs < nowMs && !entry.isDoubtful) return { ...entry, state: 'removing' }
  const isDone = entry.state === 'removing' && entry.blocks.length === 0
  if (!isDone || !(isLeftOut('drained') || isFlushed(entry, flushed, 0))) return entry
  return { ...entry, state: 'removed', endedAtMs: nowMs }
}

function isRemovedNow(entry: DeleteEntry, before: DeleteEntry): boolean {
  return entry.state === 'removed' && before.state !== 'removed'
}

/** Whether every partition is flushed so many segments beyond the entry's positions, which are all known. */
function isFlushed({ positions }: DeleteEntry, flushed: (partition: number) => number, beyond: number): boolean {
  return Object.entries(positions).every(([p, place]) => place !== null && flushed(Number(p)) >= place.segment + beyond)
}

/** DELETE-13 */
function mayLeave(entry: DeleteEntry, { nowMs, flushed }: Looker): boolean {
  if (isUnderWay(entry)) return false
  if (isLeftOut('history')) return true
  if (nowMs - (entry.endedAtMs ?? 0) < PAST_DELETES_MS_MIN) return false
  return entry.state === 'undone' || isFlushed(entry, flushed, 1)
}

function withoutPast(manifest: Manifest, past: readonly DeleteEntry[]): Manifest {
  const removed = past.filter(({ state }) => state === 'removed')
  return {
    ...manifest,
    deletes: manifest.deletes.filter((entry) => !past.includes(entry)),
    historyCut: manifest.version + 1,
    ...(removed.length > 0 && { forgotten: raised(manifest.forgotten, removed) }),
  }
}

/** Per partition the last of the places and of the entries' positions. */
function raised(places: Manifest['tomb'], entries: readonly DeleteEntry[]): Readonly<Record<string, Place>> {
  const last: Record<string, Place> = { ...places }
  for (const { positions } of entries)
    for (const [partition, place] of Object.entries(positions))
      if (place !== null) last[partition] = laterOf(place, last[partition])
  return last
}

function withEntry(manifest: Manifest, entry: DeleteEntry, next: DeleteEntry): Manifest {
  return { ...manifest, deletes: manifest.deletes.map((each) => (each === entry ? next : each)) }
}

// --- listing ---

export interface Listed {
  readonly partition: number
  readonly segment: number
  readonly blocks: readonly BlockEntry[]
  /** Of a flush: what the segment holds of the tenant. Absent: a supplement. */
  readonly digest?: string
}

/** The manifest with the blocks of a segment, in the deletions that they lie before (DELETE-9, DELETE-11); undefined where that is nothing new. */
export function withListed(manifest: Manifest, listed: Listed): Manifest | undefined {
  const { partition, segment, digest } = listed
  const flushed = manifest.flushed[partition] ?? 0
  if (digest !== undefined && flushed >= segment) return undefined
  const wereListed = manifest.retired.filter(({ reason }) => reason !== 'garbage')
  const known = new Set([...manifest.blocks, ...wereListed].map(({ ulid }) => ulid))
  const blocks = listed.blocks.filter((block) => !known.has(block.ulid) && whyNotListed(manifest, block) === undefined)
  if (digest === undefined && blocks.length === 0) return undefined
  return {
    ...manifest,
    flushed: { ...manifest.flushed, [partition]: Math.max(flushed, segment) },
    ...(digest !== undefined && { digests: { ...manifest.digests, [partition]: { segment, digest } } }), // DELETE-10
    blocks: [...manifest.blocks, ...blocks],
    deletes: manifest.deletes.map((entry) => joined(entry, partition, blocks)),
  }
}

function joined(entry: DeleteEntry, partition: number, blocks: readonly BlockEntry[]): DeleteEntry {
  const position = entry.positions[partition]
  const joins = isLeftOut('placing-joins') ? isHiding(entry) : entry.state !== 'undone'
  if (!joins || position === undefined) return entry
  if (entry.state === 'removed' && isLeftOut('sup-joins-ended')) return entry
  const joining = blocks.filter((block) => position === null || isLeftOut('compare') || liesBefore(block, position))
  const fresh = joining.map(({ ulid }) => ulid).filter((ulid) => !entry.blocks.includes(ulid))
  if (fresh.length === 0) return entry
  const next = { ...entry, blocks: [...entry.blocks, ...fresh] }
  if (entry.state !== 'removed') return next
  const { endedAtMs: _, ...open } = next
  return { ...open, state: 'removing' } // DELETE-11
}

/** Why a block may not be listed any more: what it holds is deleted for good; or nobody knows any more which of it is. */
export function whyNotListed(manifest: Manifest, block: BlockEntry): 'buried' | 'forgotten' | undefined {
  if (block.origin.kind !== 'flush') return undefined
  const { partition } = block.origin
  const tomb = manifest.tomb?.[partition]
  if (tomb !== undefined && liesBefore(block, tomb) && !isLeftOut('tombstone')) return 'buried'
  const forgotten = manifest.forgotten?.[partition]
  return forgotten !== undefined && liesBefore(block, forgotten) && !isLeftOut('forgotten') ? 'forgotten' : undefined
}

function liesBefore({ origin }: BlockEntry, position: Place): boolean {
  if (origin.kind !== 'flush') return false
  const { incarnation = '', segment, cut: seq = 0 } = origin
  return isBefore({ incarnation, segment, seq }, position)
}
