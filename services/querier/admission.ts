// How many queries run at once, and how many wait for their turn, in the order they came.
import { RefusedError } from '../../shared/base/errors.ts'

export interface Admission {
  /** Runs `work` when it is its turn. Rejects with RefusedError `err-carillon-too-many-queries` (429) when too many wait, and with the
   *  signal's reason when that aborts first. */
  run<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T>
  runningCount(): number
  waitingCount(): number
}

export function createAdmission(bounds: { concurrentMax: number; queuedMax: number }): Admission {
  let runningCount = 0
  const waiting = new Set<() => void>()

  async function run<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    signal.throwIfAborted()
    if (runningCount >= bounds.concurrentMax) await turn(signal)
    else runningCount++
    try {
      return await work()
    } finally {
      leave()
    }
  }

  function turn(signal: AbortSignal): Promise<void> {
    if (waiting.size >= bounds.queuedMax) {
      throw new RefusedError('err-carillon-too-many-queries', 'too many outstanding requests', {
        status: 429,
        retryAfterS: 1,
      })
    }
    return new Promise((resolve, reject) => {
      const onTurn = () => {
        signal.removeEventListener('abort', onAbort)
        resolve()
      }
      const onAbort = () => {
        waiting.delete(onTurn)
        reject(signal.reason)
      }
      waiting.add(onTurn)
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }

  /** Hands the place to the one that waits longest. */
  function leave(): void {
    const [next] = waiting
    if (next === undefined) {
      runningCount--
      return
    }
    waiting.delete(next)
    next()
  }

  return { run, runningCount: () => runningCount, waitingCount: () => waiting.size }
}
