// The body of an answer, in the shape of Prometheus' HTTP API. Large results come as few large parts and are joined once.
import { CarillonError, RefusedError, textOf } from '../../shared/base/errors.ts'
import { query } from '../../shared/contracts/query.ts'

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
export function successBody(data: readonly BodyPart[] | undefined, { warnings, infos = [] }: Notes): Uint8Array {
  const parts: BodyPart[] = ['{"status":"success"']
  if (data !== undefined) parts.push(',"data":', ...data)
  if (warnings.length > 0) parts.push(`,"warnings":${JSON.stringify(shown(warnings, 'warning'))}`)
  if (infos.length > 0) parts.push(`,"infos":${JSON.stringify(shown(infos, 'info'))}`)
  parts.push('}')
  const body = joined(parts)
  if (body.length > query.replyBytesMax) throw tooLarge()
  return body
}

/** A body that has its own shape. */
export function rawBody(parts: readonly Uint8Array[]): Uint8Array {
  const body = parts.length === 1 ? parts[0]! : Buffer.concat(parts)
  if (body.length > query.replyBytesMax) throw tooLarge()
  return body
}

function shown(texts: readonly string[], kind: 'warning' | 'info'): readonly string[] {
  if (texts.length <= annotationsMax) return texts
  return [...texts.slice(0, annotationsMax), `${texts.length - annotationsMax} more ${kind} annotations omitted`]
}

function joined(parts: readonly BodyPart[]): Uint8Array {
  if (parts.every((part) => typeof part === 'string')) return Buffer.from(parts.join(''))
  return Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)))
}

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
