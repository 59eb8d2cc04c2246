// Names of objects, and which bucket of time one belongs to: deleting what is old then empties whole streams.
import { assert } from '../base/assert.ts'
import { ULID_DIGITS, ULID_SHAPE } from '../model/ulid.ts'

/** Longer names would make longer subjects than a server takes. */
const nameLengthMax = 512
const wellFormed = /^(?!.*(?:^|\/)\.{1,2}(?:\/|$))[A-Za-z0-9_.-]+(?:\/[A-Za-z0-9_.-]+)*$/

/** Length of a bucket's time. */
export const BUCKET_MS = 28 * 24 * 3_600_000

export function checkName(name: string): void {
  assert(name.length <= nameLengthMax && wellFormed.test(name), `"${name}" is no name of an object`)
}

/** `meta`; `uploads` for what is staged under that name; or the number of the 28 days since 1970 that the time part of the ULID in the
 *  name's second part lies in. */
export function bucketOf(name: string): string {
  const id = name.split('/')[1] ?? ''
  if (id === 'uploads') return id
  if (!ULID_SHAPE.test(id)) return 'meta'
  let ms = 0
  for (const letter of id.slice(0, 10)) ms = ms * 32 + ULID_DIGITS.indexOf(letter)
  return String(Math.floor(ms / BUCKET_MS))
}

/** The one bucket of all names that begin so, if the prefix tells. */
export function bucketOfPrefix(prefix: string): string | undefined {
  return prefix.split('/').length > 2 ? bucketOf(prefix) : undefined
}
