// JSON of what is no record of a bucket: some messages of the logs, some objects.
import { RefusedError } from '../base/errors.ts'

export function encodeJson(value: object): Uint8Array {
  return Buffer.from(JSON.stringify(value))
}

/** Throws RefusedError `err-carillon-bad-record`. */
export function parseJson(bytes: Uint8Array, what: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString())
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
  } catch (cause) {
    throw new RefusedError('err-carillon-bad-record', `${what}: not JSON`, { cause })
  }
  throw new RefusedError('err-carillon-bad-record', `${what}: not a JSON object`)
}
