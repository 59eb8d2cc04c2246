// deletes: how samples are deleted (L12), and what a deletion means for blocks.
//
// log.{p}.delete.{id}       in each partition log: hides what was applied before it; written once, by compare-and-set on its own subject
// log.{p}.undelete.{id}     takes it back, in the same way
// remove, undo, clean, list  questions, answered by any compactor
//
// A deletion is an entry of the tenant's manifest, too (contracts/blocks.ts). In this order: entry `pending` with all blocks that are listed;
// records in all logs; entry `active`. A block that is committed in between joins by `withFlushed`. So from the first commit on no block
// shows a sample of before the record. What stands half done is completed by whoever finds it.
//
// Invariants
//   X1  A sample is hidden exactly if it was applied before the record in its partition's log and selectors and times take it.
//   X2  A block holds samples that all lie before a record or all behind it: the deletions of a tenant cut its segments (`cut`).
//   X3  What is hidden stays stored until `undoUntilMs`; taking the deletion back shows it again as it was.
import { RefusedError } from '../base/errors.ts'
import { cbor, question } from '../bus/contract.ts'
import type { Matcher } from '../model/matcher.ts'
import type { BlockEntry, DeleteEntry, DeletePosition, Manifest } from './blocks.ts'
import { encodeJson, parseJson } from './json.ts'
import type { LogPosition } from './write.ts'

/** Entries of one manifest that hide samples; more are refused. */
export const DELETES_MAX = 500
/** What all entries of one manifest take there: history goes first, then more are refused. Flushes add to it only while records are written. */
export const DELETES_BYTES_MAX = 1024 * 1024
/** Entries of one manifest that are history. */
export const PAST_DELETES_MAX = 200
export const SELECTORS_MAX = 64
/** Of one record and of one question. */
export const DELETE_BYTES_MAX = 64 * 1024
/** The ends of time, as JSON carries them. */
export const TIME_MIN_MS = Number.MIN_SAFE_INTEGER
export const TIME_MAX_MS = Number.MAX_SAFE_INTEGER

export const deletePrefix = (partition: number): string => `log.${partition}.delete.`
export const undeletePrefix = (partition: number): string => `log.${partition}.undelete.`
export const deleteSubject = (partition: number, id: string): string => `${deletePrefix(partition)}${id}`
export const undeleteSubject = (partition: number, id: string): string => `${undeletePrefix(partition)}${id}`

/** What stands in the logs. */
export interface DeleteRecord {
  readonly id: string
  readonly tenant: string
  readonly kind: DeleteEntry['kind']
  readonly selectors: readonly (readonly Matcher[])[]
  readonly startMs: number
  readonly endMs: number
}

export function encodeDelete({ id, tenant, kind, selectors, startMs, endMs }: DeleteRecord): Uint8Array {
  return encodeJson({ v: 1, id, tenant, kind, selectors, startMs, endMs })
}

/** Throws RefusedError `err-carillon-bad-record`. */
export function decodeDelete(bytes: Uint8Array): DeleteRecord {
  const record = parseJson(bytes, 'deletion')
  const { v, id, tenant, kind, selectors, startMs, endMs } = record
  const isSound =
    v === 1 &&
    [id, tenant].every((text) => typeof text === 'string' && text !== '') &&
    (kind === 'series' || kind === 'tenant') &&
    [startMs, endMs].every(Number.isSafeInteger) &&
    Array.isArray(selectors) &&
    selectors.every((selector) => Array.isArray(selector) && selector.every(isMatcher))
  if (isSound) return record as unknown as DeleteRecord
  throw new RefusedError('err-carillon-bad-record', 'a deletion holds v 1, id, tenant, kind, selectors and two times')
}

export function encodeUndelete(of: { readonly id: string; readonly tenant: string }): Uint8Array {
  return encodeJson({ v: 1, id: of.id, tenant: of.tenant })
}

/** Throws RefusedError `err-carillon-bad-record`. */
export function decodeUndelete(bytes: Uint8Array): { readonly id: string; readonly tenant: string } {
  const { v, id, tenant } = parseJson(bytes, 'undone deletion')
  if (v === 1 && typeof id === 'string' && typeof tenant === 'string') return { id, tenant }
  throw new RefusedError('err-carillon-bad-record', 'an undone deletion holds v 1, id and tenant')
}

function isMatcher(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  const { name, operator, value: text } = value as Record<string, unknown>
  return typeof name === 'string' && typeof text === 'string' && ['=', '!=', '=~', '!~'].includes(String(operator))
}

// --- what manifests say ---

/** Whether the entry hides samples of its blocks. */
export function isHiding({ state }: Pick<DeleteEntry, 'state'>): boolean {
  return state === 'pending' || state === 'active' || state === 'undoing'
}

/** The deletions that hide samples of a block: build a DeleteFilter of each. */
export function hidersOf(deletes: readonly DeleteEntry[], ulid: string): DeleteEntry[] {
  return deletes.filter((entry) => isHiding(entry) && entry.blocks.includes(ulid))
}

/** Whether the compactor may now write the blocks of a deletion anew without what it hides. */
export function isFinal({ state, undoUntilMs }: DeleteEntry, nowMs: number): boolean {
  return state === 'active' && undoUntilMs < nowMs
}

/** Whether these blocks may become one: no deletion hides samples of some of them and not of the others. */
export function mayMerge(deletes: readonly DeleteEntry[], ulids: readonly string[]): boolean {
  return deletes.every((entry) => {
    const hidden = isHiding(entry) ? ulids.filter((ulid) => entry.blocks.includes(ulid)).length : 0
    return hidden === 0 || hidden === ulids.length
  })
}

/** The deletions after blocks became others: `results` are hidden by what hid the `sources`, but for the deletions in `applied`, whose
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

/** A flush of one segment of one partition, and what its owner knows. */
export interface FlushedSegment {
  readonly partition: number
  readonly segment: number
  /** The records that the owner has applied, by id. */
  readonly known: ReadonlyMap<string, DeletePosition>
  readonly blocks: readonly BlockEntry[]
}

/** The deletions after a flush: its blocks join those whose record lies behind them, and positions that the owner knows are written down,
 *  so that they outlive the log. To be called for every tenant with samples or records in the segment. */
export function withFlushed(deletes: readonly DeleteEntry[], flushed: FlushedSegment): readonly DeleteEntry[] {
  const partition = String(flushed.partition)
  return deletes.map((entry) => {
    if (!isHiding(entry) || !(partition in entry.positions)) return entry
    const stated = entry.positions[partition] ?? null
    // A record that the owner of a closed segment has not seen lies behind that segment.
    const position = stated ?? flushed.known.get(entry.id) ?? null
    const joining = flushed.blocks.filter((block) => position === null || liesBefore(block, position))
    const fresh = joining.map(({ ulid }) => ulid).filter((ulid) => !entry.blocks.includes(ulid))
    if (fresh.length === 0 && position === stated) return entry
    return { ...entry, positions: { ...entry.positions, [partition]: position }, blocks: [...entry.blocks, ...fresh] }
  })
}

function liesBefore({ origin }: BlockEntry, position: DeletePosition): boolean {
  if (origin.kind !== 'flush') return false
  return origin.segment < position.segment || (origin.segment === position.segment && (origin.cut ?? 0) < position.seq)
}

/** The deletions without those that are done with: every block was rewritten, every partition is flushed beyond the record. What is too much of
 *  the history goes. */
export function withEnded(
  deletes: readonly DeleteEntry[],
  { nowMs, flushed }: { nowMs: number; flushed: (partition: number) => number },
): readonly DeleteEntry[] {
  const next = deletes.map((entry): DeleteEntry => {
    const isSpent =
      isFinal(entry, nowMs) &&
      entry.blocks.length === 0 &&
      Object.entries(entry.positions).every(([p, at]) => at !== null && flushed(Number(p)) >= at.segment)
    return isSpent ? { ...entry, state: 'removed', endedAtMs: nowMs } : entry
  })
  const past = next.filter((entry) => !isHiding(entry))
  const tooOld = new Set(past.slice(0, Math.max(0, past.length - PAST_DELETES_MAX)))
  return next.filter((entry) => !tooOld.has(entry))
}

/** The deletions when the undo windows of all end now (`clean_tombstones`). */
export function withWindowsEnded(deletes: readonly DeleteEntry[], nowMs: number): readonly DeleteEntry[] {
  return deletes.map((entry) =>
    isHiding(entry) && entry.state !== 'undoing' && entry.undoUntilMs >= nowMs
      ? { ...entry, undoUntilMs: nowMs - 1 }
      : entry,
  )
}

/** The manifest with a new deletion, which hides samples of all blocks that are listed and reach into its times. Throws RefusedError
 *  `err-carillon-too-many-deletes`. The same id again changes nothing. */
export function withDelete(
  manifest: Manifest,
  entry: Omit<DeleteEntry, 'blocks' | 'state' | 'positions'>,
  partitions: readonly number[],
): Manifest | undefined {
  if (manifest.deletes.some(({ id }) => id === entry.id)) return undefined
  const blocks = manifest.blocks
    .filter(({ minTime, maxTime }) => minTime <= entry.endMs && maxTime > entry.startMs)
    .map(({ ulid }) => ulid)
  const positions = Object.fromEntries(partitions.map((partition) => [String(partition), null]))
  const added: DeleteEntry = { ...entry, state: 'pending', positions, blocks }
  const deletes = [...manifest.deletes, added]
  while (deletes.filter(isHiding).length > DELETES_MAX || JSON.stringify(deletes).length > DELETES_BYTES_MAX) {
    const oldest = deletes.findIndex((each) => !isHiding(each))
    if (oldest < 0) {
      const text = `${deletes.length - 1} deletions wait to be removed; clean_tombstones ends their undo windows`
      throw new RefusedError('err-carillon-too-many-deletes', text, { status: 429 })
    }
    deletes.splice(oldest, 1)
  }
  const deletedAt = entry.kind === 'tenant' ? { deletedAtMs: entry.askedAtMs } : {}
  return { ...manifest, deletes, ...deletedAt }
}

/** The manifest with one deletion in another state; undefined when it is in none of `from`. */
export function withState(
  manifest: Manifest,
  id: string,
  change: { from: readonly DeleteEntry['state'][]; to: DeleteEntry['state']; by?: string; nowMs?: number },
): Manifest | undefined {
  const { from, to, by, nowMs } = change
  const entry = manifest.deletes.find((each) => each.id === id)
  if (entry === undefined || !from.includes(entry.state)) return undefined
  const ended = { ...(nowMs === undefined ? {} : { endedAtMs: nowMs }), ...(by === undefined ? {} : { endedBy: by }) }
  const next: DeleteEntry = { ...entry, state: to, ...ended, blocks: to === 'undone' ? [] : entry.blocks }
  return { ...manifest, deletes: manifest.deletes.map((each) => (each === entry ? next : each)) }
}

// --- questions ---

export interface RemoveAsk {
  readonly tenant: string
  /** Made by the asker, so that asking again is the same deletion: ID_SHAPE. */
  readonly id: string
  readonly kind: DeleteEntry['kind']
  readonly selectors: readonly (readonly Matcher[])[]
  readonly startMs: number
  readonly endMs: number
  readonly askedBy: string
}
export const ID_SHAPE = /^[0-9A-Za-z]{1,40}$/

export interface DeleteReply {
  readonly entry: DeleteEntry
  /** Where the records stand: a read that waits for it does not see what was deleted (L20). */
  readonly position: readonly LogPosition[]
}
export interface UndoAsk {
  readonly tenant: string
  readonly id: string
  readonly askedBy: string
}
export interface CleanAsk {
  readonly tenant: string
  readonly askedBy: string
}
export interface CleanReply {
  /** Deletions whose window was ended. */
  readonly endedCount: number
}
export interface ListAsk {
  readonly tenant: string
}
export interface ListReply {
  /** By age; those that are history, too. */
  readonly deletes: readonly DeleteEntry[]
  readonly deletedAtMs?: number
}

const asked = {
  timeoutMs: 60_000,
  requestBytesMax: DELETE_BYTES_MAX,
  replyBytesMax: 8 * 1024 * 1024,
  queue: 'compactor',
}

export const remove = question({
  name: 'remove',
  subject: 'deletes.remove',
  ...asked,
  request: cbor<RemoveAsk>(),
  reply: cbor<DeleteReply>(),
  doc: 'delete series of a tenant, in every log and all blocks',
})
export const undo = question({
  name: 'undo',
  subject: 'deletes.undo',
  ...asked,
  request: cbor<UndoAsk>(),
  reply: cbor<DeleteReply>(),
  doc: 'take a deletion back, within its window',
})
export const clean = question({
  name: 'clean',
  subject: 'deletes.clean',
  ...asked,
  request: cbor<CleanAsk>(),
  reply: cbor<CleanReply>(),
  doc: 'end the undo windows of a tenant, so that what is hidden is removed',
})
export const list = question({
  name: 'list',
  subject: 'deletes.list',
  ...asked,
  request: cbor<ListAsk>(),
  reply: cbor<ListReply>(),
  doc: 'the deletions of a tenant, past ones too',
})
