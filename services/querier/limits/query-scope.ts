// One query's life: when it must have ended, who may end it sooner, what it says beside its answer.
import type { Clock } from '../../../shared/base/clock.ts'
import { QueryCancelledError, QueryTimeoutError } from '../../../shared/promql/exec/errors.ts'

export interface Lifetime {
  readonly signal: AbortSignal
  /** On the monotonic clock. */
  readonly deadlineMs: number
  /** Must be called when the query has ended. */
  end(): void
}

/** Aborts with QueryTimeoutError at the deadline, which may have been, and with QueryCancelledError when `asker` does. */
export function lifetime(clock: Clock, asker: AbortSignal | undefined, timeoutMs: number): Lifetime {
  const controller = new AbortController()
  const timer = clock.after(timeoutMs, () => controller.abort(new QueryTimeoutError()))
  const onAbort = () => controller.abort(new QueryCancelledError())
  if (timeoutMs <= 0) controller.abort(new QueryTimeoutError('query execution'))
  else if (asker?.aborted) onAbort()
  else asker?.addEventListener('abort', onAbort, { once: true })
  return {
    signal: controller.signal,
    deadlineMs: clock.monotonic() + timeoutMs,
    end() {
      timer.cancel()
      asker?.removeEventListener('abort', onAbort)
    },
  }
}

/** Warnings in the order they came, each once. */
export class Warnings {
  private readonly texts = new Set<string>()

  readonly warn = (text: string): void => {
    this.texts.add(text)
  }

  list(): readonly string[] {
    return [...this.texts]
  }
}
