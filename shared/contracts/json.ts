// JSON of what is no record of a bucket: some messages of the logs, some objects.
import { RefusedError } from '../base/errors.ts'
import { crc32c } from '../wire/crc32c.ts'

/** Its last field, in every version: over the bytes before the comma. */
const SEAL = /,"crc32c":"([0-9a-f]{8})"\}$/
const SEAL_BYTES = ',"crc32c":"00000000"}'.length

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

/** With a checksum of all other fields behind them. */
export function encodeSealed(value: object): Uint8Array {
  const body = encodeJson(value).subarray(0, -1)
  return Buffer.concat([body, Buffer.from(`,"crc32c":"${hexOf(crc32c(body))}"}`)])
}

/** What older versions wrote has no checksum, and nothing vouches for it. Throws RefusedError `err-carillon-bad-record`, also where the checksum is
 *  another. */
export function parseSealed(bytes: Uint8Array, what: string): { value: Record<string, unknown>; isSealed: boolean } {
  const value = parseJson(bytes, what)
  if (value['crc32c'] === undefined) return { value, isSealed: false }
  const seal = SEAL.exec(Buffer.from(bytes.subarray(-SEAL_BYTES)).toString('latin1'))
  if (seal?.[1] === hexOf(crc32c(bytes, 0, bytes.length - SEAL_BYTES))) return { value, isSealed: true }
  throw new RefusedError('err-carillon-bad-record', `${what}: its checksum is wrong`)
}

const hexOf = (crc: number): string => crc.toString(16).padStart(8, '0')
