// A member's own record: what it says of itself, written at every heartbeat, and which of these have come back through the watch (MEMBER-3, MEMBER-6).
import { type Clock, sleep } from '../base/clock.ts'
import { ConflictError, textOf, UnavailableError } from '../base/errors.ts'
import type { KvBucket } from '../bus/port.ts'
import { keyFor } from '../bus/record.ts'
import { type MemberRecord, type MemberState, memberRecord, type Role } from '../contracts/member.ts'
import type { Told } from '../kv/passed-over.ts'
import { readRecord } from '../kv/read-records.ts'
import type { Shown } from '../kv/watch-records.ts'
import { taken } from './claim.ts'

export interface Self {
  readonly id: string
  readonly role: Role
  readonly zone: string
  readonly incarnation: string
  readonly version: string
  readonly capacity: number
}

export interface HeartbeatDeps extends Told {
  readonly bucket: KvBucket
  readonly clock: Clock
  readonly self: Self
  /** The revision of the newest record of partitions that was heard. */
  readonly ringRevision: () => number
  readonly onError: (text: string) => void
  /** Ends what it hears by. */
  readonly stopHearing: () => void
  /** MEMBER-6: another process has taken this one for dead, and its id. */
  readonly onTaken?: ((error: UnavailableError) => void) | undefined
}

export const BEAT_RETRY_MS = 500
/** Between two looks for a heartbeat that is waited for. */
const CONFIRM_STEP_MS = 5
/** A bucket whose leader hangs does not answer, and the next one comes after 4 to 9 s: it is to hear the first heartbeat then. */
const BEAT_MS_MAX = 1_500
/** Heartbeats that are remembered until they come back. */
const SENT_MAX = 100

export class Heartbeat {
  readonly #deps: HeartbeatDeps
  readonly #told: Told
  readonly #startedAtMs: number
  #state: MemberState = 'JOINING'
  #holds: readonly number[] = []
  #damageCount = 0
  #hasLeft = false
  /** MEMBER-6: the newest revision of the own record that is known, and whether this process wrote one. */
  readonly #own = { revision: 0, isOurs: false }

  /** Heartbeats sent and not come back, with when they were sent. */
  readonly #sent = new Map<number, number>()
  #count = 0
  #isBeating: Promise<void> | undefined
  #next: Promise<void> | undefined
  /** MEMBER-3: by what goes on while the machine is suspended. */
  #confirmedAtMs = Number.NEGATIVE_INFINITY
  /** The number of the newest heartbeat that has come back. */
  #confirmed = 0
  readonly #cameBack = Promise.withResolvers<void>()

  constructor(deps: HeartbeatDeps) {
    this.#deps = deps
    const { log, metrics } = deps
    this.#told = { log, metrics }
    this.#startedAtMs = deps.clock.now()
    this.#cameBack.promise.catch(() => {}) // told to whoever joins, or through onTaken
  }

  /** Resolves when a first heartbeat has come back. */
  get cameBack(): Promise<void> {
    return this.#cameBack.promise
  }

  /** It left, or another process took its id: nothing more is written. */
  get hasLeft(): boolean {
    return this.#hasLeft
  }

  // ---- what comes back ----

  hear(shown: Shown<'id', MemberRecord>): void {
    const { self } = this.#deps
    if (shown.params.id === self.id) this.#hearOwn(shown)
    if (shown.kind === 'value' && shown.value.incarnation === self.incarnation) this.#confirm(shown.value.beat)
  }

  /** MEMBER-6: what cannot be read (MEMBER-5), or was deleted, is written over. */
  #hearOwn(shown: Shown<'id', MemberRecord>): void {
    const own = this.#own
    if (shown.revision <= own.revision) return
    own.revision = shown.revision
    if (shown.kind === 'value' && shown.value.incarnation === this.#deps.self.incarnation) own.isOurs = true
    else if (own.isOurs && shown.kind === 'value') this.#endAsTaken()
  }

  #endAsTaken(): void {
    if (this.#hasLeft) return
    this.#hasLeft = true
    this.#deps.stopHearing()
    const error = taken(this.#deps.self.id, 'another process, which took this one for dead')
    this.#cameBack.reject(error)
    this.#deps.onTaken?.(error)
  }

  #confirm(beat: number): void {
    this.#confirmedAtMs = Math.max(this.#confirmedAtMs, this.#sent.get(beat) ?? Number.NEGATIVE_INFINITY)
    this.#confirmed = Math.max(this.#confirmed, beat)
    for (const number of [...this.#sent.keys()]) if (number <= beat) this.#sent.delete(number)
    this.#cameBack.resolve()
  }

  /** MEMBER-3: whether a heartbeat has come back that was sent less than so long ago. */
  isConfirmedWithin(ms: number): boolean {
    return this.#deps.clock.uptime() - this.#confirmedAtMs < ms
  }

  /** Resolves when a heartbeat that was sent after this call has come back. */
  async confirm(withinMs: number): Promise<void> {
    const { clock, self } = this.#deps
    const number = this.#count + 1
    const untilMs = clock.monotonic() + withinMs
    let triedAtMs = Number.NEGATIVE_INFINITY
    while (this.#confirmed < number) {
      const nowMs = clock.monotonic()
      if (nowMs >= untilMs) {
        const text = `${self.id} has not heard its own heartbeat for ${withinMs} ms: it may not know of all partitions`
        throw new UnavailableError('err-carillon-ring-unconfirmed', text)
      }
      if (nowMs - triedAtMs >= BEAT_RETRY_MS) {
        triedAtMs = nowMs
        this.beatSoon()
      }
      await sleep(clock, CONFIRM_STEP_MS)
    }
  }

  // ---- what it says ----

  async setState(next: MemberState): Promise<void> {
    if (this.#state !== 'LEAVING') this.#state = next // who leaves does not come back
    await this.beat()
  }

  setHolds(next: readonly number[]): void {
    const holds = this.#holds
    if (next.length === holds.length && next.every((partition, i) => partition === holds[i])) return
    this.#holds = [...next]
    this.beatSoon()
  }

  setDamage(count: number): void {
    if (count === this.#damageCount) return
    this.#damageCount = count
    this.beatSoon()
  }

  async leave(): Promise<void> {
    const { bucket, self, stopHearing } = this.#deps
    if (this.#hasLeft) return // MEMBER-6
    this.#hasLeft = true
    await this.#isBeating?.catch(() => {}) // told where it was sent
    stopHearing()
    await bucket.delete(keyFor(memberRecord, self), this.#own.revision)
  }

  /** Writes the own record as it is by then. One write at a time, so that an older record never follows a newer one. */
  beat(): Promise<void> {
    this.#next ??= (this.#isBeating ?? Promise.resolve())
      .catch(() => {}) // told to whoever asked for that one
      .then(() => {
        this.#next = undefined
        this.#isBeating = this.#write()
        return this.#isBeating
      })
    return this.#next
  }

  beatSoon(): void {
    this.beat().catch((error: unknown) => this.failed(error))
  }

  failed(error: unknown): void {
    if (!this.#hasLeft) this.#deps.onError(`heartbeat: ${textOf(error)}`)
  }

  async #write(): Promise<void> {
    if (this.#hasLeft) return
    const { clock, self, ringRevision } = this.#deps
    const number = ++this.#count
    this.#sent.set(number, clock.uptime())
    if (this.#sent.size > SENT_MAX) this.#sent.delete(this.#sent.keys().next().value!)
    const record: MemberRecord = {
      ...{ v: 1, ...self, state: this.#state, startedAtMs: this.#startedAtMs },
      ...{ holds: this.#holds, damageCount: this.#damageCount },
      ringRevision: ringRevision(),
      beat: number,
    }
    const own = this.#own
    try {
      const written = await this.#writeOver(keyFor(memberRecord, self), memberRecord.format.encode(record))
      own.revision = Math.max(own.revision, written)
      own.isOurs = true
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error
      // Ours, whose answer was lost, or another one's, or the bucket lost some: the next try goes by what stands there.
      await this.#lookAgain()
      throw new UnavailableError('kv-unavailable', `${self.id}: ${error.message}`, { cause: error })
    }
  }

  async #lookAgain(): Promise<void> {
    const { bucket, self } = this.#deps
    const standing = await readRecord({ bucket, ...this.#told }, memberRecord, { id: self.id })
    if (standing.revision < this.#own.revision) this.#own.revision = standing.revision
    else this.#hearOwn(standing)
  }

  #writeOver(key: string, value: Uint8Array): Promise<number> {
    const { bucket } = this.#deps
    if (this.#own.revision === 0) return bucket.create(key, value, BEAT_MS_MAX)
    return bucket.update(key, value, this.#own.revision, BEAT_MS_MAX)
  }
}
