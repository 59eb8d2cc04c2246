// What can go wrong while a query runs. The texts are Prometheus' own, because dashboards and people know them.
import { RefusedError } from '../../base/errors.ts'

/** The query cannot be answered as it stands: HTTP 422. */
export class ExecutionError extends RefusedError {
  constructor(message: string, options: ErrorOptions = {}) {
    super('err-carillon-promql-execution', message, { ...options, status: 422 })
  }
}

/** The query would hold more samples in memory than one query may. */
export class TooManySamplesError extends RefusedError {
  constructor() {
    super(
      'err-carillon-promql-samples',
      'query processing would load too many samples into memory in query execution',
      { status: 422 },
    )
  }
}

export class QueryTimeoutError extends RefusedError {
  /** @param where as Prometheus calls it */
  constructor(where: 'expression evaluation' | 'query execution' = 'expression evaluation') {
    super('err-carillon-promql-timeout', `query timed out in ${where}`, { status: 503 })
  }
}

export class QueryCancelledError extends RefusedError {
  constructor() {
    super('err-carillon-promql-cancelled', 'query was canceled in expression evaluation', { status: 503 })
  }
}

export function sameLabelset(): ExecutionError {
  return new ExecutionError('vector cannot contain metrics with the same labelset')
}
