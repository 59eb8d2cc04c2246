// uploads: how a block that was made elsewhere comes in, and how far it is.
//
// Bucket `uploads`:  {tenant}.{ulid}   JSON UploadRecord; changed by compare-and-set only. A gateway makes it and says when all files are there;
//                                      a compactor checks them, writes blocks and says what came of it. Compactors watch all of it.
// Objects:  {tenant}/uploads/{ulid}-{nonce}/plan                   JSON UploadFile[]: what will come
//           {tenant}/uploads/{ulid}-{nonce}/{file}/{offset}        the files in parts of UPLOAD_PART_BYTES; offset has 12 digits
//
//   uploading → waiting → validating → complete | failed
//                  ↑          │  (its compactor fell silent, or could not reach the store)
//                  └──────────┘
//
// Invariants
//   UPLOAD-1  Nothing of an upload is visible to queries before a compactor has looked at every byte and listed its blocks in the manifest by one
//       compare-and-set.
//   UPLOAD-2  Parts are written before the record says `waiting`; nobody writes any after that. Each start has a nonce, each check a number, and both
//       stand in the names of what they write: what a former one left half done is never taken for one's own.
//   UPLOAD-3  Staged objects exist only as long as the record does, and for the minutes that a late writer of one part takes to notice.

import { jsonRecord, keyFor, record } from '../bus/record.ts'
import { aCount, aFlag, aName, anObject, aText, aWhole, ifThere, listOf, oneOf } from '../bus/shape.ts'
import { encodeTenant } from '../model/tenant.ts'
import { encodeJson, parseJson } from './json.ts'

export const UPLOADS_BUCKET = 'uploads'
export const UPLOAD_PART_BYTES = 4 * 1024 * 1024
/** Files of one block. */
export const UPLOAD_FILES_MAX = 100_000
export const UPLOAD_ERROR_LENGTH_MAX = 2_000

export const UPLOAD_FILE_NAME = /^(?:index|tombstones|chunks\/\d{6})$/

const UPLOAD_STATES = ['uploading', 'waiting', 'validating', 'complete', 'failed'] as const
export type UploadState = (typeof UPLOAD_STATES)[number]

export interface UploadRecord {
  readonly v: 1
  readonly tenant: string
  /** As the uploader named the block. */
  readonly ulid: string
  /** New with each start, hex. */
  readonly nonce: string
  /** Of meta.json as it came: the same start again goes on where it was. */
  readonly metaSha256: string
  /** Of all files. */
  readonly bytes: number
  /** What is listed of this block leaves the manifest when it comes: to replace one that is damaged. */
  readonly replaces: boolean
  readonly state: UploadState
  readonly beganAtMs: number
  readonly changedAtMs: number
  /** Who validates; '' otherwise. */
  readonly incarnation: string
  /** Grows while it is being validated, so that silence can be told from work. */
  readonly beat: number
  /** Checks that were begun. */
  readonly attempt: number
  /** What the block became, when it is complete: cut at aligned times, under names of ours. */
  readonly blocks: readonly string[]
  /** When it failed. */
  readonly error?: { readonly code: string; readonly text: string }
}

export interface UploadFile {
  readonly name: string
  readonly size: number
}

export const uploadRecord = record({
  name: 'upload',
  bucket: UPLOADS_BUCKET,
  key: '{tenant}.{ulid}',
  format: jsonRecord<UploadRecord>(1, {
    ...{ tenant: aName, ulid: aName, nonce: aName, metaSha256: aText, bytes: aCount, replaces: aFlag },
    ...{ state: oneOf(...UPLOAD_STATES), beganAtMs: aWhole, changedAtMs: aWhole, incarnation: aText, beat: aWhole },
    ...{ attempt: aWhole, blocks: listOf(aName), error: ifThere(anObject({ code: aText, text: aText })) },
  }),
  isSound: ({ tenant, ulid }, params) => tenant === params.tenant && ulid === params.ulid,
  unreadable: 'as if there were no such upload; a start begins anew',
  newer: 'left to that version: a start is refused',
  doc: 'how far an upload of a block is',
})

export const uploadKey = (tenant: string, ulid: string): string => keyFor(uploadRecord, { tenant, ulid })

/** All that was ever staged for this block. */
export const stagedPrefix = (tenant: string, ulid: string): string => `${encodeTenant(tenant)}/uploads/${ulid}-`
/** What was staged since one start. */
export const stagedFolder = ({ tenant, ulid, nonce }: Pick<UploadRecord, 'tenant' | 'ulid' | 'nonce'>): string =>
  `${stagedPrefix(tenant, ulid)}${nonce}/`
export const planName = (folder: string): string => `${folder}plan`
export const partName = (folder: string, file: string, offset: number): string =>
  `${folder}${file}/${String(offset).padStart(12, '0')}`

export const encodePlan = (files: readonly UploadFile[]): Uint8Array => encodeJson({ v: 1, files })

export function decodePlan(bytes: Uint8Array): readonly UploadFile[] {
  return parseJson(bytes, 'plan of an upload')['files'] as readonly UploadFile[]
}
