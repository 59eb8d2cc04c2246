// How old a block may be that is uploaded: said at the door before a byte is sent, and again by the compactor that takes it in.
import { RefusedError } from '../base/errors.ts'

/** Throws RefusedError `err-carillon-upload-too-old` for a block all of which would be removed at once. */
export function assertNotTooOld({ maxTime }: { readonly maxTime: number }, earliestMs: number): void {
  if (maxTime > earliestMs) return
  const from = new Date(earliestMs).toISOString()
  const text = `the block ends at ${new Date(maxTime).toISOString()}; the tenant keeps samples from ${from} on, so all of it would be removed`
  throw new RefusedError('err-carillon-upload-too-old', text)
}
