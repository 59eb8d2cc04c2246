// Asks every partition that exists (LOG-19) and gets from each the answer of exactly one owner (LOG-18): the first that has caught up, another
// when it fails, a hedge when it is slow. A former owner serves until its successor has caught up.
//
// Invariants
//   QUERY-4  A partition without an answer is an error, or with `partial_response` a warning; never a silently shorter answer.
//        Nor does anybody answer who may not know of a partition: a view of the ring that is not confirmed is an error (LOG-19).
//        After a cut the next heartbeat confirms it, and that is waited for.
//   QUERY-5  No owner is waited for longer than the query lives.
import type { Breath } from '../../../shared/base/breathing.ts'
import type { Clock } from '../../../shared/base/clock.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import { patiently } from '../../../shared/base/patience.ts'
import type { OwnerRequest } from '../../../shared/contracts/read.ts'
import type { Membership } from '../../../shared/membership/membership.ts'
import { firstAnswer, NoOwnerError } from './hedged-request.ts'
import { NO_PLACE, type Place } from './read-barrier.ts'

/** The query's own signal ends an ask (QUERY-5); only if that fails does the ask's timeout, a little later. */
const GRACE_MS = 1_000
/** How long a query waits for the view of the ring to be confirmed: longer than from one heartbeat to the next. */
const CONFIRM_MS_MAX = 8_000
const CONFIRM_PAUSE_MS = 50
/** Partitions named in one text. */
const NAMED_MAX = 20

/** One query, as far as reading is concerned. */
export interface ReadScope {
  readonly tenant: string
  readonly requestId: string | undefined
  readonly signal: AbortSignal
  /** Taken wherever work is long. */
  readonly breath: Breath
  /** On the monotonic clock. */
  readonly deadlineMs: number
  /** Until when owners may wait for `places`; on the monotonic clock. */
  readonly waitUntilMs: number
  readonly places: readonly (Place | undefined)[]
  /** Per partition the newest segment that owners are not asked for, because blocks hold it; 0 where absent. */
  readonly watermarks?: readonly number[]
  /** Of the tenant's manifest, as far as the reader knows it: owners hide by it or a newer one (DELETE-8). */
  readonly manifestVersion?: number
  readonly allowsPartial: boolean
  warn(text: string): void
}

export interface OwnerCall {
  readonly owner: string
  readonly ask: OwnerRequest
  readonly signal: AbortSignal
  readonly timeoutMs: number
  readonly requestId: string | undefined
  onFirst(): void
}

export interface PartitionReader {
  /** One answer per partition that could be read, in the order of partitions. Where it rejects other partitions are still being asked, until
   *  the caller aborts the scope's signal. */
  readAll<T>(scope: ReadScope, call: (call: OwnerCall) => Promise<T>): Promise<T[]>
  partitionCount(): number
  /** Resolves when the view of the ring is confirmed: all partitions that are written are known (LOG-19). */
  confirmed(scope: Pick<ReadScope, 'deadlineMs' | 'signal'>): Promise<void>
  /** Why no query can be answered, in words. */
  lacks(): readonly string[]
}

export interface PartitionReaderDeps {
  readonly clock: Clock
  readonly membership: Pick<Membership, 'readers' | 'holders' | 'readableCount' | 'isConfirmed'>
  readonly hedgeAfterMs: number
  readonly ownerTimeoutMs: number
  readonly partitionAsksMax: number
  onHedge(): void
  onOwnerFailure(owner: string, error: unknown): void
}

export function createPartitionReader(deps: PartitionReaderDeps): PartitionReader {
  const { clock, membership, hedgeAfterMs, ownerTimeoutMs, partitionAsksMax } = deps

  async function readAll<T>(scope: ReadScope, call: (call: OwnerCall) => Promise<T>): Promise<T[]> {
    await confirmed(scope)
    const count = membership.readableCount()
    if (count === 0) throw notSetUp()
    const answers: (T | undefined)[] = new Array(count).fill(undefined)
    let next = 0
    const worker = async () => {
      while (next < count) {
        const partition = next++
        answers[partition] = await readOne(scope, partition, call)
      }
    }
    await Promise.all(Array.from({ length: Math.min(partitionAsksMax, count) }, worker))
    return answers.filter((answer) => answer !== undefined)
  }

  async function confirmed({ deadlineMs, signal }: Pick<ReadScope, 'deadlineMs' | 'signal'>): Promise<void> {
    if (membership.isConfirmed()) return
    const withinMs = Math.min(CONFIRM_MS_MAX, deadlineMs - clock.monotonic())
    const look = async () => {
      if (!membership.isConfirmed()) throw unconfirmed()
    }
    await patiently(look, { clock, withinMs, pauseMs: CONFIRM_PAUSE_MS, signal })
  }

  async function readOne<T>(
    scope: ReadScope,
    partition: number,
    call: (call: OwnerCall) => Promise<T>,
  ): Promise<T | undefined> {
    const place = scope.places[partition]
    const watermark = scope.watermarks?.[partition] ?? 0
    const attempt = (owner: string, signal: AbortSignal, onFirst: () => void) => {
      const nowMs = clock.monotonic()
      const leftMs = Math.max(0, scope.deadlineMs - nowMs)
      const timeoutMs = leftMs + GRACE_MS
      const waitMs = place === undefined ? 0 : Math.max(0, Math.min(scope.waitUntilMs - nowMs, leftMs))
      const { tenant, manifestVersion = 0 } = scope
      const ask = { partition, tenant, watermark, manifestVersion, ...(place ?? NO_PLACE), waitMs }
      return call({ owner, ask, signal, timeoutMs, requestId: scope.requestId, onFirst })
    }
    try {
      const { signal } = scope
      const onFailure = deps.onOwnerFailure
      return await firstAnswer(membership.readers(partition), attempt, {
        clock,
        hedgeAfterMs,
        silenceMaxMs: ownerTimeoutMs,
        signal,
        onFailure,
        onHedge: deps.onHedge,
      })
    } catch (error) {
      if (!(error instanceof NoOwnerError)) throw error
      if (error.hasDropped) throw new DroppedError(partition, watermark, error)
      const refusal = unavailable(partition, error)
      if (!scope.allowsPartial || error.isBehind) throw refusal // QUERY-4
      scope.warn(refusal.message)
      return undefined
    }
  }

  return { readAll, confirmed, partitionCount: () => membership.readableCount(), lacks }

  function lacks(): readonly string[] {
    if (!membership.isConfirmed()) return [unconfirmed().message]
    const count = membership.readableCount()
    if (count === 0) return [notSetUp().message]
    const unheld = Array.from({ length: count }, (_, p) => p).filter((p) => membership.holders(p).length === 0)
    return unheld.length === 0
      ? []
      : [`nobody holds ${unheld.length} of ${count} partitions: ${unheld.slice(0, NAMED_MAX)}`]
  }
}

function notSetUp(): UnavailableError {
  return new UnavailableError('err-carillon-not-set-up', 'the number of partitions is not known yet')
}

function unconfirmed(): UnavailableError {
  const text = 'this querier has not heard its own heartbeat for too long: it may not know of all partitions'
  return new UnavailableError('err-carillon-ring-unconfirmed', text)
}

/** No owner answers, and one of them at least has dropped from memory what it was asked for: it stands in blocks by now. */
export class DroppedError extends UnavailableError {
  readonly partition: number

  constructor(partition: number, watermark: number, cause: NoOwnerError) {
    const text = `partition ${partition} has no owner that still holds segment ${watermark + 1}: ${cause.message}`
    super('err-carillon-dropped', text, { cause })
    this.partition = partition
  }
}

function unavailable(partition: number, error: NoOwnerError): UnavailableError {
  if (error.isBehind) {
    const text = `partition ${partition} has no owner that has applied what the query asks for: ${error.message}`
    return new UnavailableError('err-carillon-owner-behind', text, { cause: error })
  }
  return new UnavailableError(error.code, `partition ${partition} has no owner that answers: ${error.message}`, {
    cause: error,
  })
}
