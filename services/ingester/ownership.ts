// Which partitions an ingester follows: those that the ring gives to it, each in a lane of its own, and those that it gives away until
// others have caught up.
//
// Invariants
//   OWNERSHIP-1  A partition whose log does not answer delays nothing but itself: the others are followed, told, led and given away meanwhile.
//   OWNERSHIP-2  A partition is served until all its new owners say that they have caught up, and a little longer (LOG-19).
//   OWNERSHIP-3  An ingester is ACTIVE when all partitions that the ring gives to it have caught up, those left out whose logs do not answer; where
//       none answers it stays JOINING.
import { type Clock, sleep } from '../../shared/base/clock.ts'
import { UnavailableError } from '../../shared/base/errors.ts'
import type { Lanes } from '../../shared/base/lanes.ts'
import type { Bus } from '../../shared/bus/port.ts'
import type { Membership } from '../../shared/membership/membership.ts'
import type { Log } from '../../shared/telemetry/log.ts'
import type { IngesterConfig } from './config.ts'
import { FlushedSeen } from './flush/after-flush.ts'
import { Filler } from './log/filler.ts'
import type { Owner } from './log/owner.ts'

export interface OwnershipDeps {
  readonly id: string
  readonly bus: Pick<Bus, 'isConnected'>
  readonly clock: Clock
  readonly config: IngesterConfig
  readonly log: Log
  readonly membership: Membership
  readonly lanes: Lanes
  readonly makeOwner: (partition: number) => Owner
}

/** An owner, and what goes with it. */
export interface Held {
  readonly owner: Owner
  /** When its watermark was seen to rise. */
  readonly flushedSeen: FlushedSeen
  readonly filler: Filler
}

const HAND_OVER_STEP_MS = 100

export class Ownership {
  private readonly deps: OwnershipDeps
  private readonly byPartition = new Map<number, Held>()
  /** OWNERSHIP-2: partitions of others that all have caught up, and since when. */
  private readonly released = new Map<number, number>()
  /** Those that were stopped and hold their memory still: somebody reads it. */
  private readonly leaving = new Set<Owner>()

  constructor(deps: OwnershipDeps) {
    this.deps = deps
  }

  held(): readonly Held[] {
    return [...this.byPartition.values()]
  }

  owners(): readonly Owner[] {
    return this.held().map(({ owner }) => owner)
  }

  /** What all of them hold, as estimated. */
  bytes(): number {
    return [...this.owners(), ...this.leaving].reduce((sum, { bytes }) => sum + bytes, 0)
  }

  of(partition: number): Owner | undefined {
    return this.byPartition.get(partition)?.owner
  }

  /** Throws UnavailableError `err-carillon-not-owner` where it is not followed here. */
  ownerOf(partition: number): Owner {
    const owner = this.of(partition)
    if (owner) return owner
    throw new UnavailableError('err-carillon-not-owner', `${this.deps.id} does not own partition ${partition}`)
  }

  /** The first owner that has caught up, so that segments are opened while a new first owner replays. */
  leads(partition: number): boolean {
    const { membership, id } = this.deps
    return (membership.holders(partition)[0] ?? membership.owners(partition)[0]) === id
  }

  /** Begins and ends following as the ring says. Resolves when each partition was tried once. */
  follow(): Promise<unknown> {
    const { membership, lanes } = this.deps
    const tries: Promise<void>[] = []
    for (let partition = 0; partition < membership.partitionCount(); partition++) {
      const isMine = this.isMine(partition)
      const isHeld = this.byPartition.has(partition)
      if (isMine) this.released.delete(partition)
      if (isMine && !isHeld) tries.push(lanes.begin(followLane(partition), () => this.acquire(partition)))
      else if (!isMine && isHeld) void lanes.begin(followLane(partition), () => this.release(partition))
    }
    return Promise.all(tries)
  }

  /** Says which partitions it serves. */
  tell(): void {
    const { membership } = this.deps
    const served = this.owners().filter(isServed)
    membership.setHolds(served.map(({ partition }) => partition).sort((a, b) => a - b))
    membership.setDamage(
      this.owners().flatMap(({ damages }) => damages.filter(({ state }) => state !== 'filled')).length,
    )
  }

  /** OWNERSHIP-3: what the ring gives to it and it does not serve yet, in words. */
  lacks(): readonly string[] {
    const count = this.deps.membership.partitionCount()
    if (count === 0) return ['the number of partitions is not known yet']
    const mine = Array.from({ length: count }, (_, i) => i).filter((i) => this.isMine(i))
    const missing = mine.filter((partition) => !this.isServed(partition))
    const isServingSome = missing.length < mine.length
    return missing
      .filter((partition) => !isServingSome || !this.isBroken(partition))
      .map((partition) => `partition ${partition}: ${this.stateOf(partition)}`)
  }

  /** LEAVING: serves on until others hold everything, nobody is left to take it, or the wait is over. */
  async handOver(): Promise<void> {
    const { bus, clock, config, log } = this.deps
    const untilMs = clock.monotonic() + config.handOverMs
    while (bus.isConnected()) {
      const left = this.leftToOthers()
      if (left !== undefined && left.length === 0) return
      if (clock.monotonic() >= untilMs) return log.warn({ partitions: left }, 'leaving before others have caught up')
      await sleep(clock, HAND_OVER_STEP_MS)
    }
  }

  /** Ends following everything. */
  async stop(): Promise<void> {
    const held = this.held()
    this.byPartition.clear()
    await Promise.all(
      held.map(async ({ owner }) => {
        await owner.saveCheckpoint().catch(() => {}) // INGESTER-1: only a hint
        await owner.stop()
      }),
    )
  }

  private isMine(partition: number): boolean {
    return this.deps.membership.owners(partition).includes(this.deps.id)
  }

  private isBroken(partition: number): boolean {
    const { lanes } = this.deps
    return lanes.isFailing(followLane(partition)) || lanes.isFailing(endLane(partition))
  }

  private isServed(partition: number): boolean {
    const owner = this.of(partition)
    return owner !== undefined && isServed(owner)
  }

  /** Of one that is not served. */
  private stateOf(partition: number): string {
    const owner = this.of(partition)
    if (owner?.tooNew !== undefined) return owner.tooNew
    if (this.isBroken(partition)) return 'its log does not answer'
    if (owner === undefined) return 'it is about to follow the log'
    if (owner.isCaughtUp) return 'its log has no mark yet'
    return `it reads the log, ${owner.appliedSeq} of ${owner.end?.lastSeq ?? 'an unknown number of'} messages`
  }

  private async acquire(partition: number): Promise<void> {
    const { log, makeOwner } = this.deps
    log.info({ partition }, 'following the log of a partition')
    const owner = makeOwner(partition)
    this.byPartition.set(partition, { owner, flushedSeen: new FlushedSeen(), filler: new Filler(owner) })
    try {
      await owner.start()
    } catch (error) {
      await this.give(owner)
      throw error
    }
  }

  private async release(partition: number): Promise<void> {
    const { clock, config, log } = this.deps
    const owner = this.of(partition)
    if (owner === undefined || this.isMine(partition)) return
    if (!this.isTakenOver(partition)) return void this.released.delete(partition)
    const sinceMs = this.released.get(partition) ?? clock.monotonic()
    this.released.set(partition, sinceMs)
    if (clock.monotonic() - sinceMs < config.releaseAfterMs) return
    await this.give(owner)
    log.info({ partition }, 'a partition went to its new owners')
  }

  private async give(owner: Owner): Promise<void> {
    const { partition } = owner
    if (this.of(partition) === owner) this.byPartition.delete(partition)
    this.released.delete(partition)
    this.leaving.add(owner)
    void owner.freed.then(() => this.leaving.delete(owner))
    await owner.stop()
  }

  /** Whether all owners that the ring names have caught up, and live: one that has died counts as an owner for a while. Without owners
   *  nobody can take over. */
  private isTakenOver(partition: number): boolean {
    const { membership, id } = this.deps
    const next = membership.owners(partition)
    const holders = membership.holders(partition)
    const fresh = membership.members().filter(({ isFresh }) => isFresh)
    const isSafeWith = (other: string) => holders.includes(other) && fresh.some((member) => member.id === other)
    return next.length > 0 && next.every((other) => other !== id && isSafeWith(other))
  }

  /** Partitions that others are to take over and have not yet; undefined until this member itself has heard that it leaves. */
  private leftToOthers(): readonly number[] | undefined {
    const { membership, id } = this.deps
    if (membership.members().some((member) => member.id === id && member.state !== 'LEAVING')) return undefined
    return [...this.byPartition.keys()].filter(
      (partition) => membership.owners(partition).length > 0 && !this.isTakenOver(partition),
    )
  }
}

/** Caught up, and with a mark: a fresh log takes no batches before. */
function isServed(owner: Owner): boolean {
  return owner.isCaughtUp && owner.state.mark !== undefined
}

function followLane(partition: number): string {
  return `follow ${partition}`
}

/** Where the end of a log is read. */
export function endLane(partition: number): string {
  return `read the end of ${partition}`
}
