// How many queries run at once, and whose turn is next: tenants take turns, each tenant's own queries in the order they came. So a tenant
// that asks for much waits for itself, and nobody else waits for it longer than one query takes.
//
// Invariants
//   ADMISSION-1  No place is free while a query waits that may have it.
//   ADMISSION-2  Between two queries of one tenant every other tenant that waits, and is not at its own bound, has had a turn.
//   ADMISSION-3  At most `concurrentMax` of a tenant run and `queuedMax` of it wait, and no more of all tenants than the querier's own bounds.
import { RefusedError } from '../../../shared/base/errors.ts'

export interface Admission {
  /** Runs `work` when it is its turn. Rejects with RefusedError `err-carillon-too-many-queries` (429) when too many wait, and with the
   *  signal's reason when that aborts first. */
  run<T>(who: Applicant, signal: AbortSignal, work: () => Promise<T>): Promise<T>
  runningCount(): number
  waitingCount(): number
}

export interface Applicant {
  readonly tenant: string
  /** Of this tenant, at this querier; absent: only the bounds of all. */
  readonly concurrentMax?: number
  readonly queuedMax?: number
}

interface Line {
  runningCount: number
  /** As the newest query brought it. */
  concurrentMax: number
  readonly waiting: Set<() => void>
}

export function createAdmission(bounds: { concurrentMax: number; queuedMax: number }): Admission {
  let runningCount = 0
  let waitingCount = 0
  /** Tenants with queries, those first whose turn is sooner; a tenant that had its turn goes to the end. */
  const lines = new Map<string, Line>()

  return { run, runningCount: () => runningCount, waitingCount: () => waitingCount }

  async function run<T>(who: Applicant, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    signal.throwIfAborted()
    const line = lineOf(who)
    if (runningCount < bounds.concurrentMax && line.runningCount < line.concurrentMax) enter(line)
    else await turn(who, line, signal)
    try {
      return await work()
    } finally {
      runningCount--
      line.runningCount--
      forget(who.tenant, line)
      serveNext()
    }
  }

  function lineOf({ tenant, concurrentMax = Number.POSITIVE_INFINITY }: Applicant): Line {
    const known = lines.get(tenant)
    if (known !== undefined) {
      known.concurrentMax = concurrentMax
      return known
    }
    const line = { runningCount: 0, concurrentMax, waiting: new Set<() => void>() }
    lines.set(tenant, line)
    return line
  }

  function enter(line: Line): void {
    runningCount++
    line.runningCount++
  }

  function turn({ tenant, queuedMax = Number.POSITIVE_INFINITY }: Applicant, line: Line, signal: AbortSignal) {
    if (waitingCount >= bounds.queuedMax || line.waiting.size >= queuedMax) {
      forget(tenant, line)
      const text = 'too many outstanding requests (err-carillon-too-many-queries)'
      throw new RefusedError('err-carillon-too-many-queries', text, { status: 429, retryAfterS: 1 })
    }
    return new Promise<void>((resolve, reject) => {
      const onTurn = () => {
        leave()
        enter(line)
        resolve()
      }
      const onAbort = () => {
        leave()
        forget(tenant, line)
        reject(signal.reason)
      }
      const leave = () => {
        signal.removeEventListener('abort', onAbort)
        line.waiting.delete(onTurn)
        waitingCount--
      }
      line.waiting.add(onTurn)
      waitingCount++
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }

  /** ADMISSION-1, ADMISSION-2 */
  function serveNext(): void {
    while (waitingCount > 0 && runningCount < bounds.concurrentMax) {
      const next = [...lines].find(([, line]) => line.waiting.size > 0 && line.runningCount < line.concurrentMax)
      if (next === undefined) return
      const [tenant, line] = next
      lines.delete(tenant)
      lines.set(tenant, line)
      for (const onTurn of line.waiting) {
        onTurn()
        break
      }
    }
  }

  function forget(tenant: string, line: Line): void {
    if (line.runningCount === 0 && line.waiting.size === 0) lines.delete(tenant)
  }
}
