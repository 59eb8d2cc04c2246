// What the parser throws: the caller's text is wrong, and the error says where and why, in Prometheus' words.
import { RefusedError } from '../base/errors.ts'
import type { Position } from './ast.ts'

/** A query that does not parse or does not type-check. The message begins with `line:column: parse error: `. */
export class PromqlError extends RefusedError {
  /** The `errorType` of the HTTP API. */
  readonly errorType = 'bad_data'
  /** Byte offsets into the query text. */
  readonly position: Position

  constructor(message: string, position: Position) {
    super('err-carillon-promql-parse', message)
    this.position = position
  }
}
