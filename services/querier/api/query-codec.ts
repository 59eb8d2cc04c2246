// The query contract as a querier serves it: parameters in JSON, or in CBOR where the header says so, the answer in the same.
import type { Breath } from '../../../shared/base/breathing.ts'
import { RefusedError } from '../../../shared/base/errors.ts'
import { decodeCbor } from '../../../shared/bus/cbor.ts'
import { raw } from '../../../shared/bus/contract.ts'
import type { BusHeaders } from '../../../shared/bus/port.ts'
import { query } from '../../../shared/contracts/query.ts'
import { cborOfJson } from './json-to-cbor.ts'
import { rawBody } from './response.ts'

export type Form = 'json' | 'cbor'

/** Of the parameters: names, values and lists, all told. There are a few dozen parameters, and lists of at most a few thousand. */
const ITEMS_MAX = 20_000

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
    if (form === 'cbor') return decodeCbor(bytes, { itemsMax: ITEMS_MAX, hasTypedArrays: false })
    checkItems(bytes)
    return JSON.parse(textOfBytes(bytes))
  } catch (cause) {
    const wanted = form === 'cbor' ? 'a CBOR map' : 'a JSON object'
    throw new RefusedError('err-carillon-bad-message', `a query is asked with ${wanted} of its parameters`, { cause })
  }
}

/** The body in the asker's own form; what is not JSON stays as it is. */
export async function bodyIn(form: Form, body: Uint8Array, breath: Breath): Promise<Uint8Array> {
  return form === 'cbor' && isObject(body) ? rawBody(await cborOfJson(body, breath), breath) : body
}

/** No more items than are taken, before any of them is made. */
function checkItems(bytes: Uint8Array): void {
  let count = 0
  let isText = false
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i]!
    if (byte === 0x22) isText = !isText
    else if (isText) {
      if (byte === 0x5c) i++
    } else if ((byte === 0x2c || byte === 0x5b || byte === 0x7b) && ++count > ITEMS_MAX) {
      throw new RangeError(`more than ${ITEMS_MAX} items`)
    }
  }
}

/** `{"`: no length of a message of protobuf is followed by a quote. */
const isObject = (body: Uint8Array): boolean => body[0] === 0x7b && body[1] === 0x22

function textOfBytes(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString()
}
