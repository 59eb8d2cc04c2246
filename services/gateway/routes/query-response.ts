// What a querier answered, as HTTP says it: status, headers of failures, compression.

import type { IncomingMessage } from 'node:http'
import { promisify } from 'node:util'
import { constants, gzip, gzipSync, zstdCompress } from 'node:zlib'
import { ERROR_START, STATUS_OF_ERROR_TYPE } from '../../../shared/contracts/query.ts'
import { type Answer, JSON_TYPE, TEXT } from '../http/exchange.ts'

const COMPRESSED_BYTES_MIN = 4096
/** What is compressed comes in so many pieces at most: each of them passes from thread to thread. */
const PIECES = 4
/** Up to here another thread would take longer to be woken. */
const AT_ONCE_BYTES_MAX = 32 * 1024
const GZIP_LEVEL = 1
const ZSTD_LEVEL = 1
const ERROR_BYTES_MAX = 1024 * 1024
const RETRY_AFTER_S = 1

const successStart = Buffer.from('{"status":"success"')
const successAlone = Buffer.from('{"status":"success"}')
const errorStart = Buffer.from(ERROR_START)

export const isError = (body: Uint8Array): boolean => startsWith(body, errorStart)

/** Success, and nothing to say. */
export const hasNoData = (body: Uint8Array): boolean => successAlone.equals(body)

/** The HTTP status of a querier's answer, looked up by its first bytes and, when it failed, its error type. */
export function statusOf(body: Uint8Array): number {
  if (startsWith(body, successStart)) return 200
  const { errorType } = failureIn(body)
  const status = typeof errorType === 'string' ? STATUS_OF_ERROR_TYPE[errorType] : undefined
  return status === 499 ? 503 : (status ?? 500) // whoever reads this has not hung up: the querier gave up by itself
}

/** A failure with what HTTP adds to it: the stable id that its text ends in, else that of its type, as where the text is Prometheus'; when to come
 *  again. */
export function failedAnswer(status: number, body: Uint8Array, shape: 'json' | 'text'): Answer {
  const failure = failureIn(body)
  const error = String(failure.error ?? '')
  const mayPass = status === 429 || failure.errorType === 'unavailable' // a query that took too long will again
  const [, code = codeOf(failure.errorType)] = /\((err-carillon-[a-z0-9-]+)\)$/.exec(error) ?? []
  const headers: Record<string, string> = {
    'Content-Type': shape === 'json' ? JSON_TYPE : TEXT,
    'X-Carillon-Error-Id': code,
    ...(mayPass && { 'Retry-After': String(RETRY_AFTER_S) }),
  }
  return { status, headers, body: shape === 'json' ? body : `${error}\n` }
}

function codeOf(errorType: unknown): string {
  const isKnown = typeof errorType === 'string' && STATUS_OF_ERROR_TYPE[errorType] !== undefined
  return `err-carillon-${isKnown ? errorType.replaceAll('_', '-') : 'internal'}`
}

function failureIn(body: Uint8Array): { errorType?: unknown; error?: unknown } {
  if (body.length > ERROR_BYTES_MAX) return {}
  try {
    return (JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.length).toString()) as object | null) ?? {}
  } catch (cause) {
    throw new Error('the querier answered something that is not JSON', { cause })
  }
}

function startsWith(body: Uint8Array, start: Buffer): boolean {
  return Buffer.from(body.buffer, body.byteOffset, Math.min(body.length, start.length)).equals(start)
}

const gzipped = promisify(gzip)
const zstdded = promisify(zstdCompress)

/** In the best form that the asker takes, when it is worth it. */
export async function maybeCompressed(
  answer: Answer & { readonly body: Uint8Array },
  request: IncomingMessage,
): Promise<Answer> {
  const headers = { ...answer.headers, Vary: 'Accept-Encoding, Origin' }
  const isDone = answer.headers?.['Content-Encoding'] !== undefined
  const { body } = answer
  if (isDone || body.length < COMPRESSED_BYTES_MIN) return { ...answer, headers }
  const accepted = acceptedEncodings(request.headers['accept-encoding'])
  const chunkSize = Math.ceil(body.length / PIECES)
  if (accepted.has('zstd')) {
    const params = { [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL }
    const smaller = await zstdded(body, { params, chunkSize })
    return { ...answer, headers: { ...headers, 'Content-Encoding': 'zstd' }, body: smaller }
  }
  if (!accepted.has('gzip') && !accepted.has('*')) return { ...answer, headers }
  const isSmall = body.length <= AT_ONCE_BYTES_MAX
  const options = { level: GZIP_LEVEL, chunkSize }
  const smaller = isSmall ? gzipSync(body, options) : await gzipped(body, options)
  return { ...answer, headers: { ...headers, 'Content-Encoding': 'gzip' }, body: smaller }
}

/** Those that are not refused by `q=0`. */
function acceptedEncodings(header: string | string[] | undefined): ReadonlySet<string> {
  const accepted = new Set<string>()
  for (const part of String(header ?? '')
    .toLowerCase()
    .split(',')) {
    const match = /^\s*([a-z]+|\*)\s*(;\s*q=(1(\.0*)?|0?\.\d*[1-9]\d*))?\s*$/.exec(part)
    if (match !== null) accepted.add(match[1]!)
  }
  return accepted
}
