// The body of an answer, in the shape of Prometheus' HTTP API. Large results come as few large parts and are joined once.
import type { Breath } from '../../../shared/base/breathing.ts'
import { CarillonError, RefusedError, textOf } from '../../../shared/base/errors.ts'
import { query } from '../../../shared/contracts/query.ts'

/** Beside an answer that `limit` cut. */
export const TRUNCATED = 'results truncated due to limit'

/** Annotations of one kind that are shown; the rest is counted. */
const annotationsMax = 10

export type BodyPart = string | Uint8Array

export interface Notes {
  readonly warnings: readonly string[]
  readonly infos?: readonly string[]
}

/** Bytes, or characters, which are about as many. */
export function sizeOfParts(parts: readonly BodyPart[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0)
}

/** `data`: JSON; undefined leaves it out. */
export async function successBody(
  data: readonly BodyPart[] | undefined,
  { warnings, infos = [] }: Notes,
  breath: Breath,
): Promise<Uint8Array> {
  const parts: BodyPart[] = ['{"status":"success"']
  if (data !== undefined) {
    parts.push(',"data":')
    for (const part of data) parts.push(part)
  }
  if (warnings.length > 0) parts.push(`,"warnings":${JSON.stringify(shown(warnings, 'warning'))}`)
  if (infos.length > 0) parts.push(`,"infos":${JSON.stringify(shown(infos, 'info'))}`)
  parts.push('}')
  return joined(parts, breath)
}

/** A body that has its own shape. */
export function rawBody(parts: readonly Uint8Array[], breath: Breath): Promise<Uint8Array> {
  return joined(parts, breath)
}

function shown(texts: readonly string[], kind: 'warning' | 'info'): readonly string[] {
  if (texts.length <= annotationsMax) return texts
  return [...texts.slice(0, annotationsMax), `${texts.length - annotationsMax} more ${kind} annotations omitted`]
}

/** Texts are short or one of many. */
async function joined(parts: readonly BodyPart[], breath: Breath): Promise<Uint8Array> {
  const pieces: Uint8Array[] = []
  let bytes = 0
  for (const part of parts) {
    const piece = typeof part === 'string' ? Buffer.from(part) : part
    bytes += piece.length
    if (bytes > query.replyBytesMax) throw tooLarge()
    pieces.push(piece)
    if (breath.isDue(part.length)) await breath.breathe()
  }
  if (pieces.length === 1) return pieces[0]!
  const body = Buffer.allocUnsafeSlow(bytes)
  let at = 0
  for (const piece of pieces) {
    for (let from = 0; from < piece.length; from += COPIED_BYTES) {
      const some = piece.subarray(from, from + COPIED_BYTES)
      body.set(some, at + from)
      if (breath.isDue(some.length)) await breath.breathe()
    }
    at += piece.length
  }
  return body
}

/** Copied at once. */
const COPIED_BYTES = 1024 * 1024

/** An answer that does not fit one reply. */
export function tooLarge(options: ErrorOptions = {}): RefusedError {
  const code = 'err-carillon-reply-bytes'
  const text = `the answer is larger than ${query.replyBytesMax} bytes; ask for fewer series, steps or a limit (${code})`
  return new RefusedError(code, text, { ...options, status: 422 })
}

export interface Failure {
  readonly errorType: string
  readonly text: string
  /** Not a fault that has a class: something that should be looked at. */
  readonly isUnexpected: boolean
}

const typeOfCode: Readonly<Record<string, string>> = {
  'err-carillon-promql-timeout': 'timeout',
  'err-carillon-promql-cancelled': 'canceled',
}
const typeOfStatus: Readonly<Record<number, string>> = {
  404: 'not_found',
  422: 'execution',
  429: 'too_many_requests',
  503: 'unavailable',
}

/** What is answered for an error: the family decides the type, the text stays. What Prometheus does not know carries its code. */
export function failureOf(error: unknown): Failure {
  if (error instanceof RefusedError) {
    const errorType = typeOfCode[error.code] ?? typeOfStatus[error.status] ?? 'bad_data'
    return { errorType, text: textOfRefusal(error), isUnexpected: false }
  }
  if (error instanceof CarillonError && error.kind === 'unavailable') {
    return { errorType: 'unavailable', text: `${error.message} (${error.code})`, isUnexpected: false }
  }
  const text = error instanceof CarillonError ? `${error.message} (${error.code})` : textOf(error)
  return { errorType: 'internal', text, isUnexpected: true }
}

/** Limits are ours: their ids stand behind the text. What Prometheus refuses as well keeps its text as it is there. */
function textOfRefusal({ code, message, status }: RefusedError): string {
  const isOurs = (status === 422 || status === 429) && !code.startsWith('err-carillon-promql-')
  return !isOurs || message.includes(`(${code})`) ? message : `${message} (${code})`
}

export function errorBody({ errorType, text }: Failure): Uint8Array {
  return Buffer.from(JSON.stringify({ status: 'error', errorType, error: text }))
}
