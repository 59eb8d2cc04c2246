// What the HTTP library would refuse by itself, mostly without a word: refused by us, with a text and an error id.
import type { IncomingMessage } from 'node:http'
import { RefusedError } from '../../../shared/base/errors.ts'
import { errorBody, type Fault, TEXT } from './exchange.ts'

/** What ends a connection: no request stands behind it that an answer could be written to. */
export type EndingFault = Pick<Fault, 'code' | 'text'> & { readonly status: keyof typeof reasonOf }

const reasonOf = {
  400: 'Bad Request',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  413: 'Content Too Large',
  431: 'Request Header Fields Too Large',
}

export const NO_PROXY: EndingFault = { status: 405, code: 'err-carillon-method', text: 'this is no proxy' }

/** What the parser and its timers refuse. */
export function parserFault({ code }: NodeJS.ErrnoException): EndingFault {
  switch (code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return { status: 408, code: 'err-carillon-request-timeout', text: 'the request took too long to arrive' }
    case 'HPE_HEADER_OVERFLOW':
      return { status: 431, code: 'err-carillon-headers-too-large', text: 'the headers are too large' }
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return { status: 413, code: 'err-carillon-body-too-large', text: 'the chunk extensions are too large' }
    default:
      return { status: 400, code: 'err-carillon-malformed-http', text: 'malformed HTTP request' }
  }
}

/** The whole answer as it goes over the connection. */
export function lastAnswer(fault: EndingFault): string {
  const body = errorBody(fault, 'text')
  return (
    `HTTP/1.1 ${fault.status} ${reasonOf[fault.status]}\r\nConnection: close\r\nContent-Type: ${TEXT}\r\n` +
    `X-Carillon-Error-Id: ${fault.code}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
  )
}

/** Throws RefusedError 400, 417 for a request that was parsed, and breaks the rules of HTTP/1 all the same. */
export function assertSpoken({ httpVersion, headers: { host, expect } }: IncomingMessage): void {
  if (httpVersion !== '1.0' && httpVersion !== '1.1') throw malformed(`HTTP/${httpVersion} is not spoken here`)
  if (httpVersion === '1.0') return
  if (host === undefined) throw malformed('Host is missing')
  if (expect === undefined || /(?:^|\W)100-continue(?:$|\W)/i.test(expect)) return
  throw new RefusedError('err-carillon-expectation', 'nothing but 100-continue can be expected', { status: 417 })
}

function malformed(text: string): RefusedError {
  return new RefusedError('err-carillon-malformed-http', text)
}
