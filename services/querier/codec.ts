// The query contract as a querier serves it: parameters in JSON or in CBOR, told apart by their first byte, the answer in the same.
//
// A JSON object begins with `{` or white space, a CBOR map with 0xa0…0xbf (or 0xd9, a tag), so that neither is taken for the other.
import { Encoder } from 'cbor-x'
import { RefusedError } from '../../shared/base/errors.ts'
import type { Codec } from '../../shared/bus/contract.ts'
import { query } from '../../shared/contracts/query.ts'

export interface Question {
  /** Not checked yet. */
  readonly params: unknown
  readonly isCbor: boolean
}

const cbor = new Encoder({ useRecords: false, mapsAsObjects: true, variableMapSize: true })

const question: Codec<Question> = {
  encode: ({ params, isCbor }) => (isCbor ? cbor.encode(params) : Buffer.from(JSON.stringify(params))),
  decode(bytes) {
    const isCbor = bytes.length > 0 && bytes[0]! >= 0x80
    try {
      const params: unknown = isCbor
        ? cbor.decode(bytes)
        : JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString())
      return { params, isCbor }
    } catch (cause) {
      const text = 'a query is asked with a JSON object (or a CBOR map) of its parameters'
      throw new RefusedError('err-carillon-bad-message', text, { cause })
    }
  },
}

export const anyQuery = { ...query, request: question }

/** The body in the asker's own form. */
export function bodyFor({ isCbor }: Question, body: Uint8Array): Uint8Array {
  return isCbor ? cbor.encode(JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.length).toString())) : body
}
