// What a member has heard of the ring: the newest record of everyone with when it came, and how many partitions there are. From it follows who
// is silent, and the view of the moment (MEMBER-1, MEMBER-2, MEMBER-5).
import type { Clock } from '../base/clock.ts'
import { ConflictError } from '../base/errors.ts'
import { Listeners, type Subscription } from '../base/listeners.ts'
import type { KvBucket } from '../bus/port.ts'
import { keyFor } from '../bus/record.ts'
import { type MemberRecord, memberRecord, type PartitionsRecord } from '../contracts/member.ts'
import type { Shown } from '../kv/watch-records.ts'
import { type Member, type OwnersCache, type View, viewOf } from './view.ts'

export interface MembershipOptions {
  readonly heartbeatMs: number
  /** At least three heartbeats. */
  readonly unhealthyAfterMs: number
  readonly forgetAfterMs: number
}

export interface HearingDeps {
  readonly bucket: KvBucket
  readonly clock: Clock
  readonly self: Pick<MemberRecord, 'id' | 'incarnation'>
  readonly options: MembershipOptions
}

interface Heard {
  record: MemberRecord
  revision: number
  atMs: number
}

interface Partitions {
  readonly record: PartitionsRecord
  readonly revision: number
}

/** A view is computed again after news, and when it is this old. */
const VIEW_MS = 200

export class Hearing {
  readonly #deps: HearingDeps
  readonly #heard = new Map<string, Heard>()
  readonly #listeners = new Listeners<void>()
  readonly #cache: OwnersCache = { key: '', owners: [] }
  #partitions: Partitions | undefined
  /** MEMBER-5 */
  #arePartitionsUnknown = false
  #selfHeardAtMs: number
  /** MEMBER-2: silence counts from here on. */
  #trustedSinceMs: number
  #seen: { readonly view: View; readonly atMs: number } | undefined

  constructor(deps: HearingDeps) {
    this.#deps = deps
    this.#selfHeardAtMs = deps.clock.monotonic()
    this.#trustedSinceMs = this.#selfHeardAtMs
  }

  get partitions(): Partitions | undefined {
    return this.#partitions
  }

  get arePartitionsUnknown(): boolean {
    return this.#arePartitionsUnknown
  }

  /** Whether they are others than those that were known. */
  hearPartitions(shown: Shown<never, PartitionsRecord>): boolean {
    if (shown.kind === 'newer-version' || this.#partitions === undefined) this.#arePartitionsUnknown = true // MEMBER-5
    if (shown.kind !== 'value') return false
    this.#arePartitionsUnknown = false
    const isFirst = this.#partitions === undefined
    this.#partitions = { record: shown.value, revision: shown.revision }
    return !isFirst
  }

  hearMember(shown: Shown<'id', MemberRecord>): void {
    const { id } = shown.params
    const known = this.#heard.get(id)
    if (shown.kind === 'value') this.#hearRecord(id, shown.value, shown.revision)
    else if (shown.kind !== 'unreadable') this.#heard.delete(id)
    else if (known !== undefined) known.revision = shown.revision // so that it can be forgotten (MEMBER-1)
  }

  #hearRecord(id: string, record: MemberRecord, revision: number): void {
    const { clock, self, options } = this.#deps
    const atMs = clock.monotonic()
    this.#heard.set(id, { record, revision, atMs })
    if (record.incarnation !== self.incarnation) return
    if (atMs - this.#selfHeardAtMs > 2 * options.heartbeatMs) this.#trustedSinceMs = atMs // MEMBER-2
    this.#selfHeardAtMs = atMs
  }

  /** MEMBER-2: how long a record has been silent while it would have been heard. */
  #silenceOf(atMs: number): number {
    const { clock, options } = this.#deps
    const untilMs = Math.min(clock.monotonic(), this.#selfHeardAtMs + options.heartbeatMs)
    return untilMs - Math.max(atMs, this.#trustedSinceMs)
  }

  view(): View {
    const { clock, options } = this.#deps
    const nowMs = clock.monotonic()
    if (this.#seen !== undefined && nowMs - this.#seen.atMs < VIEW_MS) return this.#seen.view
    const members = [...this.#heard.values()]
      .sort((a, b) => (a.record.id < b.record.id ? -1 : 1))
      .map(({ record, atMs }): Member => {
        const silentMs = nowMs - atMs
        const isFresh = silentMs < 2 * options.heartbeatMs
        return { ...record, silentMs, isFresh, isHealthy: this.#silenceOf(atMs) <= options.unhealthyAfterMs }
      })
    this.#seen = { view: viewOf(members, this.#partitions?.record, this.#cache), atMs: nowMs }
    return this.#seen.view
  }

  onChange(listener: () => void): Subscription {
    return this.#listeners.add(listener)
  }

  /** Something has changed, or time has passed. */
  tell(): void {
    this.#seen = undefined
    this.#listeners.tell()
  }

  /** MEMBER-1: whoever sees it first deletes the record of a member that has been silent for long: the very one it saw, not one that came since. */
  async forget(): Promise<void> {
    const { bucket, self, options } = this.#deps
    for (const [id, { atMs, revision }] of this.#heard) {
      if (id === self.id || this.#silenceOf(atMs) <= options.forgetAfterMs) continue
      try {
        await bucket.delete(keyFor(memberRecord, { id }), revision)
      } catch (error) {
        if (!(error instanceof ConflictError)) throw error // it is back, or another member was first
      }
    }
  }
}
