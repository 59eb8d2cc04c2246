// deletes: how samples are deleted: what stands of it in the logs, and what compactors are asked. What it means: shared/blocks/delete-rules.ts.
//
// log.{p}.delete.{id}       in each partition log: a fence, which cuts the tenant's segment. It may stand there more than once, it may be lost or
//                           unreadable: what is hidden is said by the manifest alone
// log.{p}.undelete.{id}     written by older versions, passed over
// remove, undo, clean, list  questions, answered by any compactor
import { RefusedError } from '../base/errors.ts'
import { cbor, question } from '../bus/contract.ts'
import { aFlag, aLimit, aTenant, aText, aWhole, ifThere, someSelectors } from '../bus/shape.ts'
import type { Matcher } from '../model/matcher.ts'
import type { DeleteEntry } from './blocks.ts'
import { encodeSealed, parseSealed } from './json.ts'
import type { LogPosition } from './write.ts'

export const SELECTORS_MAX = 64
/** Of one record and of one question. */
export const DELETE_BYTES_MAX = 64 * 1024
/** The ends of time, as JSON carries them. */
export const TIME_MIN_MS = Number.MIN_SAFE_INTEGER
export const TIME_MAX_MS = Number.MAX_SAFE_INTEGER

export const deletePrefix = (partition: number): string => `log.${partition}.delete.`
export const undeletePrefix = (partition: number): string => `log.${partition}.undelete.`
export const deleteSubject = (partition: number, id: string): string => `${deletePrefix(partition)}${id}`

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
  return encodeSealed({ v: 1, id, tenant, kind, selectors, startMs, endMs })
}

/** Throws RefusedError `err-carillon-bad-record`. */
export function decodeDelete(bytes: Uint8Array): DeleteRecord {
  const { value: record } = parseSealed(bytes, 'deletion')
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

function isMatcher(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  const { name, operator, value: text } = value as Record<string, unknown>
  return typeof name === 'string' && typeof text === 'string' && ['=', '!=', '=~', '!~'].includes(String(operator))
}

// --- questions ---

export interface RemoveRequest {
  readonly tenant: string
  /** Made by the asker, so that asking again is the same deletion: ID_SHAPE. */
  readonly id: string
  readonly kind: DeleteEntry['kind']
  readonly selectors: readonly (readonly Matcher[])[]
  readonly startMs: number
  readonly endMs: number
  readonly askedBy: string
  /** The version of the manifest that the asker had seen before it asked, by `list` (DELETE-6). */
  readonly asOf: number
}
export const ID_SHAPE = /^[0-9A-Za-z]{1,40}$/

export interface DeleteReply {
  readonly entry: DeleteEntry
  /** Where the fences stand that this ask has written: a read that waits for them goes by a newer view (LOG-20). */
  readonly position: readonly LogPosition[]
}
export interface UndoRequest {
  readonly tenant: string
  readonly id: string
  readonly askedBy: string
}
export interface CleanRequest {
  readonly tenant: string
  readonly askedBy: string
}
export interface CleanReply {
  /** Deletions whose window was ended. */
  readonly endedCount: number
}
export interface ListRequest {
  readonly tenant: string
  /** Only the version is wanted. */
  readonly isBrief?: boolean
}
export interface ListReply {
  /** Of the manifest; 0: there is none. */
  readonly version: number
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
  servedBy: 'compactor',
  askedBy: ['gateway'],
  ...asked,
  request: cbor<RemoveRequest>({
    tenant: aTenant,
    id: aText,
    kind: aText,
    selectors: someSelectors,
    startMs: aLimit,
    endMs: aLimit,
    askedBy: aText,
    asOf: aWhole,
  }),
  reply: cbor<DeleteReply>(),
  doc: 'delete series of a tenant, in memory and in blocks',
})
export const undo = question({
  name: 'undo',
  subject: 'deletes.undo',
  servedBy: 'compactor',
  askedBy: ['gateway'],
  ...asked,
  request: cbor<UndoRequest>({ tenant: aTenant, id: aText, askedBy: aText }),
  reply: cbor<DeleteReply>(),
  doc: 'take a deletion back, before its samples are being removed',
})
export const clean = question({
  name: 'clean',
  subject: 'deletes.clean',
  servedBy: 'compactor',
  askedBy: ['gateway'],
  ...asked,
  request: cbor<CleanRequest>({ tenant: aTenant, askedBy: aText }),
  reply: cbor<CleanReply>(),
  doc: 'end the undo windows of a tenant, so that what is hidden is removed',
})
export const list = question({
  name: 'list',
  subject: 'deletes.list',
  servedBy: 'compactor',
  askedBy: ['gateway'],
  ...asked,
  request: cbor<ListRequest>({ tenant: aTenant, isBrief: ifThere(aFlag) }),
  reply: cbor<ListReply>(),
  doc: 'the deletions of a tenant, past ones too',
})
