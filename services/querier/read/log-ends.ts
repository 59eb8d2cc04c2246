// Where the partition logs end: for strong reads, which must see all that was acknowledged before them (LOG-20).
//
// What a server says of a log's end may be old. Measured on three servers: one that was cut off while it led went on telling the old end for
// as long as it was cut off, 34 s after another had taken its place and acknowledged. So an end is the place of a message of our own, a
// fence: most servers store it, or it is not stored, and it stands behind all that was stored before it was sent.
//
// Invariants
//   QUERY-15  A place that is given out is that of a fence that was sent after it was asked for.
//   QUERY-16  Reads that ask while a fence is on its way share the next one: per partition at most one in GAP_MS, none in a log that is nearly full.
import { type Clock, sleep } from '../../../shared/base/clock.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import { patiently } from '../../../shared/base/patience.ts'
import { hex, type Random } from '../../../shared/base/random.ts'
import type { LogState, LogStore } from '../../../shared/bus/port.ts'
import { encodeFence, fenceSubject, fits, logName } from '../../../shared/contracts/log.ts'
import type { Place } from './read-barrier.ts'

export interface LogEnds {
  /** Rejects with UnavailableError after at most WITHIN_MS + TRY_MS. */
  of(partition: number): Promise<Place>
}

export interface LogEndsDeps {
  readonly logs: Pick<LogStore, 'append' | 'state'>
  readonly clock: Clock
  readonly random: Random
  readonly id: string
  onFence(): void
}

/** A fence without an answer is sent again: one more does no harm. */
const TRY_MS = 2_000
const WITHIN_MS = 3_000
const GAP_MS = 10
const NONCE_BYTES = 8

export function createLogEnds(deps: LogEndsDeps): LogEnds {
  const ends = new Map<number, LogEnd>() // bound: one per partition
  return {
    of(partition) {
      const end = ends.get(partition) ?? new LogEnd(partition, deps)
      ends.set(partition, end)
      return end.ask()
    },
  }
}

class LogEnd {
  private readonly partition: number
  private readonly deps: LogEndsDeps
  /** A fence is on its way, or was sent a moment ago. */
  private busy: Promise<void> | undefined
  /** The place of the fence that follows it, not sent yet. */
  private next: Promise<Place> | undefined
  private last: LogState | undefined

  constructor(partition: number, deps: LogEndsDeps) {
    this.partition = partition
    this.deps = deps
  }

  /** QUERY-15, QUERY-16 */
  ask(): Promise<Place> {
    if (this.next !== undefined) return this.next
    if (this.busy === undefined) return this.send()
    this.next = this.busy.then(() => {
      this.next = undefined
      return this.send()
    })
    return this.next
  }

  private send(): Promise<Place> {
    const { clock } = this.deps
    const place = patiently(() => this.append(), {
      clock,
      withinMs: WITHIN_MS,
      mayPass: ({ code }) => code !== 'log-full',
    })
    this.busy = Promise.allSettled([place, sleep(clock, GAP_MS)]).then(() => {
      this.busy = undefined
    })
    return place
  }

  private async append(): Promise<Place> {
    const { logs, id, random, onFence } = this.deps
    const { partition } = this
    const log = logName(partition)
    if (isFull(this.last)) this.last = await logs.state(log)
    if (isFull(this.last)) {
      const text = `the log of partition ${partition} is nearly full: what it ends with cannot be told`
      throw new UnavailableError('log-full', text)
    }
    const fence = encodeFence({ writer: id, nonce: hex(random.bytes(NONCE_BYTES)) })
    // The state only for the incarnation, which the answer to an append does not tell.
    const [{ seq }, state] = await Promise.all([
      logs.append(log, fenceSubject(partition), fence, { timeoutMs: TRY_MS }),
      logs.state(log),
    ])
    onFence()
    this.last = state
    return { minSeq: seq, incarnation: state.incarnation }
  }
}

function isFull(state: LogState | undefined): boolean {
  return state !== undefined && !fits('read', state, 0) // LOG-7
}
