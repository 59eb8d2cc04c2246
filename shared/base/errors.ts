// The error families. The class decides what happens, the text explains, `code` is stable, `cause` is kept.
//
// RefusedError      the caller's fault: answered 4xx, never retried as it stands
// UnavailableError  our fault and may pass: answered 503, the caller retries
// ConflictError     a compare-and-set lost: the caller reads again and decides
// CorruptError      data does not match its checksum or its rules: set aside, counted, named
// AssertionError    (assert.ts) a bug: the process exits and its supervisor starts it again

export abstract class CarillonError extends Error {
  abstract readonly kind: 'refused' | 'unavailable' | 'conflict' | 'corrupt'
  readonly code: string

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
    this.name = new.target.name
  }
}

/** The caller's fault. `status` is the HTTP status that a gateway answers (400 unless told otherwise). */
export class RefusedError extends CarillonError {
  readonly kind = 'refused'
  readonly status: number
  readonly retryAfterS: number | undefined

  constructor(code: string, message: string, options: ErrorOptions & { status?: number; retryAfterS?: number } = {}) {
    super(code, message, options)
    this.status = options.status ?? 400
    this.retryAfterS = options.retryAfterS
  }
}

/** Our fault, may pass. Answered 503 with Retry-After. */
export class UnavailableError extends CarillonError {
  readonly kind = 'unavailable'
}

/** A compare-and-set found another state than the one expected. */
export class ConflictError extends CarillonError {
  readonly kind = 'conflict'
}

/** Bytes that break their checksum or their format. */
export class CorruptError extends CarillonError {
  readonly kind = 'corrupt'
}

/** The text of anything that was thrown. */
export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
