// The query contract as a querier serves it: parameters in JSON, or in CBOR where the header says so, the answer in the same.
import { Encoder } from 'cbor-x'
import { RefusedError } from '../../shared/base/errors.ts'
import { raw } from '../../shared/bus/contract.ts'
import type { BusHeaders } from '../../shared/bus/port.ts'
import { query } from '../../shared/contracts/query.ts'

export type Form = 'json' | 'cbor'

const cbor = new Encoder({ useRecords: false, mapsAsObjects: true, variableMapSize: true })

/** What cannot be read is answered like any other bad parameter, so it is read where answers are made. */
export const anyQuery = { ...query, request: raw }

/** `Content-Type: application/cbor` asks for CBOR; names and types of media are the same in any case. */
export function formOf(headers: BusHeaders): Form {
  for (const [name, value] of Object.entries(headers)) {
    if (name.toLowerCase() === 'content-type' && /^application\/cbor\s*(;|$)/i.test(value.trim())) return 'cbor'
  }
  return 'json'
}

/** The parameters as they came, not checked yet. Throws RefusedError `err-carillon-bad-message`. */
export function readParams(bytes: Uint8Array, form: Form): unknown {
  try {
    return form === 'cbor' ? cbor.decode(bytes) : JSON.parse(textOfBytes(bytes))
  } catch (cause) {
    const wanted = form === 'cbor' ? 'a CBOR map' : 'a JSON object'
    throw new RefusedError('err-carillon-bad-message', `a query is asked with ${wanted} of its parameters`, { cause })
  }
}

/** The body in the asker's own form; what is not JSON stays as it is. */
export function bodyIn(form: Form, body: Uint8Array): Uint8Array {
  return form === 'cbor' && isObject(body) ? cbor.encode(JSON.parse(textOfBytes(body))) : body
}

/** `{"`: no length of a message of protobuf is followed by a quote. */
const isObject = (body: Uint8Array): boolean => body[0] === 0x7b && body[1] === 0x22

function textOfBytes(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString()
}
