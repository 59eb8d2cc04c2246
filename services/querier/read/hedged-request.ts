// One answer from one of several owners: asked in order, the next when one fails, and a second beside a silent first (a hedge).
//
// Invariants
//   QUERY-1  The answer is what one attempt made by itself: attempts share nothing, so frames of two owners are never mixed (LOG-18).
//   QUERY-2  Every attempt that is not the answer is aborted, also when the asker goes away.
//   QUERY-3  An owner that failed is not asked again; one that was only set aside for a faster one is.

import type { Clock, Timer } from '../../../shared/base/clock.ts'
import type { ErrorCode } from '../../../shared/base/error-codes.ts'
import { CarillonError, RefusedError, textOf, UnavailableError } from '../../../shared/base/errors.ts'
import { afterSilence } from '../../../shared/base/silence.ts'

/** `onFirst` says that the owner has begun to answer. */
export type Attempt<T> = (owner: string, signal: AbortSignal, onFirst: () => void) => Promise<T>

export interface RaceOptions {
  readonly clock: Clock
  readonly hedgeAfterMs: number
  /** Silence of an owner after which it counts as failed. */
  readonly silenceMaxMs: number
  readonly signal: AbortSignal
  onFailure(owner: string, error: unknown): void
  onHedge(owner: string): void
}

/** What all owners said when none could answer. */
export class NoOwnerError extends UnavailableError {
  /** True when at least one owner lives, but has not applied what was asked for. */
  readonly isBehind: boolean
  /** True when at least one owner lives, and has dropped what was asked for. */
  readonly hasDropped: boolean

  constructor(failures: readonly { owner: string; error: unknown }[]) {
    const texts = failures.map(({ owner, error }) => `${owner}: ${textOf(error)}`)
    super('err-carillon-partition-unavailable', texts.length > 0 ? texts.join('; ') : 'no ingester is alive', {
      cause: failures[0]?.error,
    })
    const said = (code: ErrorCode) =>
      failures.some(({ error }) => error instanceof CarillonError && error.code === code)
    this.isBehind = said('err-carillon-owner-behind')
    this.hasDropped = said('err-carillon-dropped')
  }
}

const SETTLED = new Error('the race is over')

/** Whether another owner may answer what this one did not. */
function isOwnersFault(error: unknown): boolean {
  if (error instanceof RefusedError) return error.code === 'err-carillon-dropped'
  return error instanceof CarillonError
}

/** Rejects with NoOwnerError when all failed, and at once with an error that no other owner would answer differently. */
export function firstAnswer<T>(owners: readonly string[], attempt: Attempt<T>, options: RaceOptions): Promise<T> {
  const { clock, hedgeAfterMs, silenceMaxMs, signal } = options
  return new Promise<T>((resolve, reject) => {
    const waiting = [...owners]
    const running = new Map<string, AbortController>()
    const failures: { owner: string; error: unknown }[] = []
    let speaker: string | undefined
    let timer: Timer | undefined

    const settle = (finish: () => void) => {
      timer?.cancel()
      signal.removeEventListener('abort', onAbort)
      for (const controller of running.values()) controller.abort(SETTLED) // QUERY-2
      running.clear()
      waiting.length = 0
      finish()
    }
    const onAbort = () => settle(() => reject(signal.reason))

    const startNext = () => {
      timer?.cancel()
      const owner = waiting.shift()
      if (owner === undefined) {
        if (running.size === 0) settle(() => reject(new NoOwnerError(failures)))
        return
      }
      const controller = new AbortController()
      running.set(owner, controller)
      const isCurrent = () => running.get(owner) === controller
      timer = clock.after(hedgeAfterMs, () => {
        if (waiting.length === 0) return
        options.onHedge(waiting[0]!)
        startNext()
      })
      const silence = afterSilence(clock, silenceMaxMs, () => {
        if (!isCurrent() || speaker === owner) return
        onFailure(owner, new UnavailableError('err-carillon-owner-silent', `said nothing for ${silenceMaxMs} ms`))
      })
      controller.signal.addEventListener('abort', () => silence.cancel(), { once: true })
      const onBegin = () => {
        silence.cancel()
        if (isCurrent()) onFirst(owner)
      }
      attempt(owner, controller.signal, onBegin).then(
        (answer) => isCurrent() && settle(() => resolve(answer)),
        (error: unknown) => isCurrent() && onFailure(owner, error),
      )
    }

    const onFirst = (owner: string) => {
      if (speaker !== undefined) return
      speaker = owner
      timer?.cancel()
      for (const [other, controller] of running) {
        if (other === owner) continue
        running.delete(other)
        waiting.unshift(other) // QUERY-3
        controller.abort()
      }
    }

    const onFailure = (owner: string, error: unknown) => {
      running.get(owner)?.abort()
      running.delete(owner)
      if (!isOwnersFault(error)) return settle(() => reject(error))
      failures.push({ owner, error })
      options.onFailure(owner, error)
      if (speaker === owner) speaker = undefined
      startNext()
    }

    if (signal.aborted) return onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    startNext()
  })
}
