// The error families. The class decides what happens, the text explains, `code` is stable, `cause` is kept.
// Codes come from the table in error-codes.ts and from nowhere else.
//
// RefusedError      the caller's fault: answered 4xx, never retried as it stands
// UnavailableError  our fault and may pass: answered 503, the caller retries
// ConflictError     a compare-and-set lost: the caller reads again and decides
// CorruptError      data does not match its checksum or its rules: set aside, counted, named
// AssertionError    (assert.ts) a bug: the process exits and its supervisor starts it again
import {
  type ConflictCode,
  type CorruptCode,
  type ErrorCode,
  type ErrorKind,
  type RefusedCode,
  type StatusOf,
  statusOf,
  type UnavailableCode,
} from './error-codes.ts'

export abstract class CarillonError extends Error {
  abstract readonly kind: ErrorKind
  abstract readonly code: ErrorCode

  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = new.target.name
  }
}

/** The caller's fault. `status` is the HTTP status that a gateway answers: that of the table unless told otherwise. */
export class RefusedError<C extends RefusedCode = RefusedCode> extends CarillonError {
  readonly kind = 'refused'
  readonly code: RefusedCode
  readonly status: number
  readonly retryAfterS: number | undefined

  constructor(code: C, message: string, options: ErrorOptions & { status?: StatusOf<C>; retryAfterS?: number } = {}) {
    super(message, options)
    this.code = code
    this.status = options.status ?? statusOf(code)
    this.retryAfterS = options.retryAfterS
  }
}

/** Our fault, may pass. Answered 503 with Retry-After. */
export class UnavailableError extends CarillonError {
  readonly kind = 'unavailable'
  readonly code: UnavailableCode

  constructor(code: UnavailableCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** A compare-and-set found another state than the one expected. */
export class ConflictError extends CarillonError {
  readonly kind = 'conflict'
  readonly code: ConflictCode

  constructor(code: ConflictCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** Bytes that break their checksum or their format. */
export class CorruptError extends CarillonError {
  readonly kind = 'corrupt'
  readonly code: CorruptCode

  constructor(code: CorruptCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** The text of anything that was thrown. */
export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
