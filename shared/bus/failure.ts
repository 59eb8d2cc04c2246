// Errors on the wire: the families travel as headers and are rebuilt on the other side as the same class with the same
// code, status and text.
import type { ConflictCode, CorruptCode, RefusedCode, StatusOf, UnavailableCode } from '../base/error-codes.ts'
import { type CarillonError, ConflictError, CorruptError, RefusedError, UnavailableError } from '../base/errors.ts'
import type { BusHeaders } from './port.ts'

/** Of the answer to a question that met a failed assertion: whoever answered it has ended. */
export const bugCode = 'err-carillon-bug'

const textHeader = 'Nats-Service-Error'
const codeHeader = 'Nats-Service-Error-Code'
const familyHeader = 'Carillon-Error-Family'
const statusHeader = 'Carillon-Error-Status'
const retryAfterHeader = 'Carillon-Error-Retry-After'

/** Keeps the headers within the room the bus reserves for them, even when every character is escaped. */
const textLengthMax = 3_000

export function failureHeaders(error: CarillonError): BusHeaders {
  const headers: Record<string, string> = {
    [textHeader]: escaped(error.message.slice(0, textLengthMax)),
    [codeHeader]: escaped(error.code),
    [familyHeader]: error.kind,
  }
  if (error instanceof RefusedError) {
    headers[statusHeader] = String(error.status)
    if (error.retryAfterS !== undefined) headers[retryAfterHeader] = String(error.retryAfterS)
  }
  return headers
}

/** The error these headers carry, if they carry one. */
export function failureIn(headers: BusHeaders): CarillonError | undefined {
  const code = headers[codeHeader]
  if (code === undefined) return undefined
  return rebuilt(headers[familyHeader], unescaped(code), unescaped(headers[textHeader] ?? ''), headers)
}

/** The code may be one of another version of Carillon, which the table does not know: it goes on as it came. */
function rebuilt(family: string | undefined, code: string, text: string, headers: BusHeaders): CarillonError {
  switch (family) {
    case 'refused': {
      const status = Number(headers[statusHeader]) || 400
      const retryAfter = headers[retryAfterHeader]
      return new RefusedError(code as RefusedCode, text, {
        status: status as StatusOf<RefusedCode>,
        ...(retryAfter !== undefined && { retryAfterS: Number(retryAfter) }),
      })
    }
    case 'conflict':
      return new ConflictError(code as ConflictCode, text)
    case 'corrupt':
      return new CorruptError(code as CorruptCode, text)
    default:
      return new UnavailableError(code as UnavailableCode, text)
  }
}

/** Header values are one line of printable ASCII. */
function escaped(text: string): string {
  return encodeURIComponent(text.toWellFormed()).replace(/(?!^)%20(?!$)/g, ' ')
}

function unescaped(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text // not written by us: as it stands
  }
}
