// What failed becomes an answer, and a line in the log: not so many that the log is what fails next.
import type { Clock } from '../../../shared/base/clock.ts'
import type { Random } from '../../../shared/base/random.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import { type Answer, errorBody, type Fault, faultOf, JSON_TYPE, type Route, TEXT } from './exchange.ts'

const RETRY_AFTER_S_MAX = 5
const WARNINGS_PER_SECOND_MAX = 10

export interface FailuresDeps {
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** Sent with 401. */
  readonly challenge: string | undefined
}

/** Whose failure it is. */
interface Failed {
  readonly requestId: string
  readonly route: Route | undefined
  readonly path: string
  readonly isGone: boolean
}

export class Failures {
  readonly #deps: FailuresDeps
  #secondEndsMs = 0
  /** Warnings in this second. */
  #count = 0

  constructor(deps: FailuresDeps) {
    this.#deps = deps
  }

  answer(error: unknown, { requestId, route, path, isGone }: Failed): Answer {
    const { log } = this.#deps
    const fault = faultOf(error)
    const facts = { requestId, route: route?.name, path: path.slice(0, 200), status: fault.status, code: fault.code }
    if (isGone) log.debug(facts, 'the client hung up')
    else if (fault.code === 'err-carillon-internal') log.error({ ...facts, error }, 'a request met a bug')
    else if (fault.status >= 500) this.warn({ ...facts, reason: fault.text }, 'a request could not be served')
    else log.debug({ ...facts, reason: fault.text }, 'a request was refused')
    return this.#faultAnswer(fault, route?.errors ?? 'text')
  }

  /** At most WARNINGS_PER_SECOND_MAX lines a second: when everything fails, the log must not be what fails next. */
  warn(facts: object, text: string): void {
    const { clock, log } = this.#deps
    const now = clock.monotonic()
    if (now >= this.#secondEndsMs) {
      const leftOut = this.#count - WARNINGS_PER_SECOND_MAX
      if (leftOut > 0) log.warn({ leftOut }, 'more requests failed than there are lines')
      this.#secondEndsMs = now + 1000
      this.#count = 0
    }
    if (++this.#count <= WARNINGS_PER_SECOND_MAX) log.warn(facts, text)
  }

  #faultAnswer(fault: Fault, shape: 'text' | 'json'): Answer {
    const { random, challenge } = this.#deps
    const headers: Record<string, string> = {
      ...fault.headers,
      'Content-Type': shape === 'json' ? JSON_TYPE : TEXT,
      'X-Carillon-Error-Id': fault.code,
    }
    if (fault.retryAfterS !== undefined) {
      const waitS = fault.retryAfterS > 0 ? Math.ceil(fault.retryAfterS) : 1 + random.below(RETRY_AFTER_S_MAX)
      headers['Retry-After'] = String(waitS)
    }
    if (fault.status === 401 && challenge !== undefined) headers['WWW-Authenticate'] = challenge
    return { status: fault.status, headers, body: errorBody(fault, shape) }
  }
}
