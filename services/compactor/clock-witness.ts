// Whether the wall clock of this process may decide what goes. Retention, sweeps and forgetting cannot be taken back, and to a clock that is far
// ahead everything is old.
//
// Invariants
//   CLOCK-1  Nothing goes by its age unless the servers that store the buckets were asked for their time a moment ago, and all that answered were at
//       most APART_MS_MAX apart from this process. Without an answer of the bucket that tells what is stored, nothing goes either.
//   CLOCK-2  Between two asks time goes on by the monotonic clock: a wall clock that is set meanwhile changes nothing.
import { AssertionError } from '../../shared/base/assert.ts'
import type { Clock } from '../../shared/base/clock.ts'
import { textOf } from '../../shared/base/errors.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { BLOCKS_BUCKET } from '../../shared/contracts/blocks.ts'
import { ELECTIONS_BUCKET } from '../../shared/contracts/elections.ts'
import { LIMITS_BUCKET } from '../../shared/contracts/limits.ts'
import { LOG_BUCKET } from '../../shared/contracts/log.ts'
import { RING_BUCKET } from '../../shared/contracts/member.ts'
import { UPLOADS_BUCKET } from '../../shared/contracts/uploads.ts'
import type { Log } from '../../shared/telemetry/log.ts'

export interface ClockWitnessDeps {
  readonly bus: Pick<Bus, 'bucket'>
  readonly clock: Clock
  readonly log: Log
}

/** Several, because each has a leader of its own: one server that is wrong is noticed, too. */
const WITNESSES = [BLOCKS_BUCKET, LOG_BUCKET, RING_BUCKET, UPLOADS_BUCKET, LIMITS_BUCKET, ELECTIONS_BUCKET]
/** Clocks that somebody keeps are seconds apart; ages that are looked at are hours and days. */
const APART_MS_MAX = 10 * 60_000
const ASKED_MS = 60_000
/** A server that could not be asked may answer soon, and all that goes waits for it; not each of many tenants, for nothing. */
const UNANSWERED_MS = 5_000

interface Verdict {
  /** Undefined: sound. */
  readonly fault: string | undefined
  readonly wallMs: number
  /** Monotonic. */
  readonly atMs: number
  /** How long it counts. */
  readonly forMs: number
}

export class ClockWitness {
  /** How far the farthest server was ahead of this process (below 0: behind) when they were asked last, ms. */
  apartMs = 0
  private readonly deps: ClockWitnessDeps
  private verdict: Verdict | undefined
  private asking: Promise<Verdict> | undefined

  constructor(deps: ClockWitnessDeps) {
    this.deps = deps
  }

  /** CLOCK-1: undefined, or why nothing may go, in words. */
  async fault(): Promise<string | undefined> {
    const { verdict } = this
    if (verdict !== undefined && this.deps.clock.monotonic() - verdict.atMs < verdict.forMs) return verdict.fault
    this.asking ??= this.ask().finally(() => {
      this.asking = undefined
    })
    this.verdict = await this.asking
    return this.verdict.fault
  }

  /** CLOCK-2 */
  now(): number {
    const { clock } = this.deps
    if (this.verdict === undefined) return clock.now()
    return this.verdict.wallMs + (clock.monotonic() - this.verdict.atMs)
  }

  private async ask(): Promise<Verdict> {
    const { clock, log } = this.deps
    const answers = await Promise.allSettled(WITNESSES.map((name) => this.apartFrom(name)))
    const at = { wallMs: clock.now(), atMs: clock.monotonic(), forMs: ASKED_MS }
    const bug = answers.find((each) => each.status === 'rejected' && each.reason instanceof AssertionError)
    if (bug?.status === 'rejected') throw bug.reason
    const [first] = answers
    if (first!.status === 'rejected') {
      return {
        ...at,
        forMs: UNANSWERED_MS,
        fault: `the time of the servers is not known, so nothing goes by its age: ${textOf(first!.reason)}`,
      }
    }
    const aparts = answers.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []))
    this.apartMs = aparts.reduce((far, apart) => (Math.abs(apart) > Math.abs(far) ? apart : far), 0)
    if (Math.abs(this.apartMs) <= APART_MS_MAX) return { ...at, fault: undefined }
    const minutes = Math.round(Math.abs(this.apartMs) / 60_000)
    const fault = `a nats-server's clock is ${minutes} minutes ${this.apartMs > 0 ? 'ahead of' : 'behind'} this compactor's: nothing is merged, removed or forgotten until one of them is set right`
    log.error({ apartMs: Math.round(this.apartMs) }, fault)
    return { ...at, fault }
  }

  /** 0 where the answer's own way may explain the difference. */
  private async apartFrom(name: string): Promise<number> {
    const { bus, clock } = this.deps
    const bucket = await bus.bucket(name)
    const beforeMs = clock.now()
    const serverMs = await bucket.serverTimeMs()
    const afterMs = clock.now()
    return Math.max(0, serverMs - afterMs) - Math.max(0, beforeMs - serverMs)
  }
}
