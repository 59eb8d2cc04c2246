// Whether pushes can be taken now: all of them (WRITE-4, WRITE-6), and those that go to certain partitions (WRITE-7).
import { type Clock, sleep } from '../../../shared/base/clock.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import type { Membership } from '../../../shared/membership/membership.ts'
import type { DistributorConfig } from '../config.ts'
import type { Dictionary } from '../log/dictionary.ts'
import type { Partitions } from '../log/partitions.ts'
import type { Staged } from './staged.ts'
import type { OwnerNews } from './write-limits.ts'

export interface ReadinessDeps {
  readonly clock: Clock
  readonly config: DistributorConfig
  readonly membership: Pick<Membership, 'isConfirmed'>
  readonly news: OwnerNews
  readonly partitions: Partitions
}

/** WRITE-6: this many times as long as others bear a view that is not confirmed. */
const UNCONFIRMED_TIMES_MAX = 2
const CONFIRM_MS_MAX = 2_000
const CONFIRM_STEP_MS = 25
const WRITE_PRESSURE = 0.97

export class Readiness {
  readonly #deps: ReadinessDeps

  constructor(deps: ReadinessDeps) {
    this.#deps = deps
  }

  isConfirmed(): boolean {
    return this.#deps.membership.isConfirmed(UNCONFIRMED_TIMES_MAX)
  }

  /** WRITE-6: others hear of this one's return, and hand it pushes, a moment before it hears of that itself. */
  async confirmed(signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps
    const untilMs = clock.monotonic() + CONFIRM_MS_MAX
    while (!this.isConfirmed() && clock.monotonic() < untilMs) await sleep(clock, CONFIRM_STEP_MS, signal)
  }

  /** WRITE-4 */
  refuseWhenUnable(): void {
    const { partitions, config } = this.#deps
    const refusal = this.#refusalNow()
    if (refusal !== undefined) throw refusal
    const refusals = partitions.writable.map((writer) => writer.refusal())
    if (refusals[0] !== undefined && refusals.every((reason) => reason !== undefined)) throw refusals[0]
    const queued = partitions.queuedBytes
    if (queued > config.queuedBytesMax) {
      const text = `${queued} bytes wait for the log, more than ${config.queuedBytesMax}`
      throw new UnavailableError('err-carillon-overloaded', text)
    }
  }

  /** WRITE-7: before anything of a push is put into a batch. */
  refuseWhereUnable({ refs, count, histograms, exemplars, metadata }: Staged, used: Dictionary): void {
    const { partitions } = this.#deps
    const refusals = partitions.writers.map((writer) => writer.refusal())
    if (refusals.every((reason) => reason === undefined)) return
    const refuse = (partition: number) => {
      const reason = refusals[partition]
      if (reason !== undefined) throw reason
    }
    for (let i = 0; i < count; i++) refuse(used.partitions[refs[i]!]!)
    for (const { ref } of histograms) refuse(used.partitions[ref]!)
    for (const { ref } of exemplars) refuse(used.partitions[ref]!)
    for (const { tenant, metric } of metadata) refuse(partitions.metadataWriter(tenant, metric).partition)
  }

  /** In words, what keeps this distributor from taking pushes. */
  async lacks(): Promise<readonly string[]> {
    const { partitions } = this.#deps
    const refusals = partitions.writable.map((writer) => writer.refusal())
    const refusal = this.#refusalNow() ?? refusals.find((reason) => reason !== undefined)
    return refusal === undefined ? partitions.lacks() : [`${refusal.message} (${refusal.code})`]
  }

  /** Why no push can be taken, whatever it holds and however few there are. */
  #refusalNow(): UnavailableError | undefined {
    const { partitions, news } = this.#deps
    if (!partitions.areKnown)
      return new UnavailableError('err-carillon-no-partitions', 'the partitions are not known yet')
    if (!this.isConfirmed()) {
      const text =
        'this distributor has not heard its own heartbeat for too long: it may not know how partitions take series'
      return new UnavailableError('err-carillon-ring-unconfirmed', text) // WRITE-6
    }
    if (news.pressure() > WRITE_PRESSURE)
      return new UnavailableError('err-carillon-ingester-memory', 'an ingester is at its memory bound')
    return undefined
  }
}
