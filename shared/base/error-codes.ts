// The table of error codes: each code with its class, the HTTP status it leads to, what it means and what to do. The
// constructors in errors.ts take no other code, none under another class, and no other status. docs/errors.md is made from it.
//
// Codes that begin with `err-carillon-` reach callers as they are. The others belong to the lower rooms (bus, logs, objects,
// blocks): they stand in logs, travel between actors of different versions and are compared there, so that they keep their
// short form; over HTTP `err-carillon-` is put in front of them.
import { conflictCodes } from './error-codes/conflict.ts'
import { corruptCodes } from './error-codes/corrupt.ts'
import type { CodeMeaning, RefusedMeaning } from './error-codes/meaning.ts'
import { refusedQueries } from './error-codes/refused-queries.ts'
import { refusedRequests } from './error-codes/refused-requests.ts'
import { refusedWrites } from './error-codes/refused-writes.ts'
import { unavailableCodes } from './error-codes/unavailable.ts'

const refusedCodes = { ...refusedWrites, ...refusedQueries, ...refusedRequests } as const

export const ERROR_CODES = {
  refused: refusedCodes,
  unavailable: unavailableCodes,
  conflict: conflictCodes,
  corrupt: corruptCodes,
} as const

export type ErrorKind = keyof typeof ERROR_CODES
export type RefusedCode = keyof typeof refusedCodes
export type UnavailableCode = keyof typeof unavailableCodes
export type ConflictCode = keyof typeof conflictCodes
export type CorruptCode = keyof typeof corruptCodes
export type ErrorCode = RefusedCode | UnavailableCode | ConflictCode | CorruptCode

/** The statuses that a refusal may lead to. */
export type StatusOf<C extends RefusedCode> = (typeof refusedCodes)[C]['statuses'][number]

/** The HTTP status of a refusal for which its place says no other. A code of another version of Carillon is not in the table. */
export function statusOf(code: RefusedCode): number {
  const known: RefusedMeaning | undefined = Object.hasOwn(refusedCodes, code) ? refusedCodes[code] : undefined
  return known?.statuses[0] ?? 400
}

/** Every row: its code, its class, what it says. */
export function errorCodes(): { code: ErrorCode; kind: ErrorKind; row: CodeMeaning | RefusedMeaning }[] {
  const kinds = Object.entries(ERROR_CODES) as [ErrorKind, Readonly<Record<string, CodeMeaning | RefusedMeaning>>][]
  return kinds.flatMap(([kind, rows]) =>
    Object.entries(rows).map(([code, row]) => ({ code: code as ErrorCode, kind, row })),
  )
}

/** Codes of the lower rooms (`bus-timeout`) stand before callers as `err-carillon-bus-timeout`. */
export type PublicCode<C extends ErrorCode = ErrorCode> = C extends `err-${string}` ? C : `err-carillon-${C}`

/** The code as callers get to see it. */
export function publicCode(code: ErrorCode): PublicCode {
  return (code.startsWith('err-') ? code : `err-carillon-${code}`) as PublicCode
}
