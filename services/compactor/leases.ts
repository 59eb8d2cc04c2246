// Who may compact a tenant, and who may scrub it: leases in the bucket `blocks`, changed by compare-and-set alone.
//
// Invariants
//   L1  Every taking raises the fence, beyond that of the lease before and that of the manifest. Whoever takes a lease writes its fence into the
//       manifest before anything else, so a holder of before, however long it was paused, changes nothing any more.
//   L2  A lease of another is taken only after `leaseMs` without a change of its revision, by the own monotonic clock, and by
//       compare-and-set on that revision: silence that was only ours takes nothing.
//   L3  A holder that could not renew for `leaseMs` counts itself as having lost it; its work is aborted.
import type { Clock } from '../../shared/base/clock.ts'
import { ConflictError, RefusedError, UnavailableError } from '../../shared/base/errors.ts'
import type { BusSubscription, KvBucket, KvEntry } from '../../shared/bus/port.ts'
import { leaseKey } from '../../shared/contracts/blocks.ts'
import { decodeLease, encodeLease, type LeaseRecord, leaseFilter } from '../../shared/contracts/compaction.ts'
import { decodeTenant, encodeTenant } from '../../shared/model/tenant.ts'

const COMPACTION = { key: leaseKey, filter: leaseFilter }

export interface LeaseDeps {
  readonly bucket: KvBucket
  readonly clock: Clock
  readonly id: string
  readonly incarnation: string
  readonly leaseMs: number
  /** What is leased; compaction unless told. */
  readonly keys?: { readonly key: (tenantToken: string) => string; readonly filter: string }
}

export interface Lease {
  readonly tenant: string
  readonly fence: number
  /** Aborts when the lease is lost. */
  readonly signal: AbortSignal
}

interface Held extends Lease {
  readonly lost: AbortController
  revision: number
  beat: number
  /** Start of the last renewal that succeeded, by the monotonic clock. */
  renewedAt: number
}

interface Seen {
  readonly revision: number
  readonly record: LeaseRecord | undefined
  readonly since: number
}

export class Leases {
  private readonly deps: LeaseDeps
  /** Bound: one per tenant. */
  private readonly seen = new Map<string, Seen>()
  private readonly held = new Map<string, Held>()
  private watch: BusSubscription | undefined

  constructor(deps: LeaseDeps) {
    this.deps = deps
  }

  start(): Promise<void> {
    return new Promise((resolve) => {
      const { filter } = this.deps.keys ?? COMPACTION
      this.watch = this.deps.bucket.watch(filter, (entry) => this.show(entry), resolve)
    })
  }

  async stop(): Promise<void> {
    this.watch?.stop()
    for (const lease of [...this.held.values()]) await this.release(lease)
  }

  /** Who holds it, as far as is known. */
  holderOf(tenant: string): LeaseRecord | undefined {
    const record = this.seen.get(tenant)?.record
    return record?.holder === '' ? undefined : record
  }

  /** The lease, or undefined while another holds it. `manifestFence` is that of the newest manifest known. */
  async take(tenant: string, manifestFence: number): Promise<Lease | undefined> {
    const { bucket, clock, leaseMs, incarnation } = this.deps
    const known = this.held.get(tenant)
    if (known !== undefined) return known
    const seen = this.seen.get(tenant)
    const isFree = seen?.record === undefined || seen.record.holder === '' || seen.record.incarnation === incarnation
    if (!isFree && clock.monotonic() - seen.since < leaseMs) return undefined // L2
    const startedAt = clock.monotonic()
    const fence = Math.max(seen?.record?.fence ?? 0, manifestFence) + 1 // L1
    const value = encodeLease(this.record(fence, 1))
    const key = this.keyOf(tenant)
    try {
      const revision = await (seen === undefined ? bucket.create(key, value) : bucket.update(key, value, seen.revision))
      const lost = new AbortController()
      const held: Held = { tenant, fence, signal: lost.signal, lost, revision, beat: 1, renewedAt: startedAt }
      this.held.set(tenant, held)
      return held
    } catch (error) {
      if (error instanceof ConflictError) return undefined // another was first, or it is ours by a write without answer: free for us next time
      throw error
    }
  }

  /** Renews what is held; to be called several times within `leaseMs`. */
  async renew(): Promise<void> {
    await Promise.all([...this.held.values()].map((lease) => this.renewOne(lease)))
  }

  /** Says that nobody holds it. */
  async release(lease: Lease): Promise<void> {
    const held = this.held.get(lease.tenant)
    if (held === undefined || held.fence !== lease.fence) return
    this.held.delete(lease.tenant)
    const free = { ...this.record(held.fence, held.beat + 1), holder: '' }
    try {
      await this.deps.bucket.update(this.keyOf(lease.tenant), encodeLease(free), held.revision)
    } catch (error) {
      if (!(error instanceof ConflictError || error instanceof UnavailableError)) throw error // it runs out by itself
    }
  }

  private async renewOne(held: Held): Promise<void> {
    const { bucket, clock, leaseMs, incarnation } = this.deps
    const startedAt = clock.monotonic()
    const key = this.keyOf(held.tenant)
    const isLate = () => clock.monotonic() - held.renewedAt >= leaseMs
    try {
      if (isLate()) return this.lose(held, 'it could not be renewed in time') // L3
      held.beat += 1
      const revision = await bucket.update(key, encodeLease(this.record(held.fence, held.beat)), held.revision)
      held.revision = revision
      held.renewedAt = startedAt
    } catch (error) {
      if (error instanceof UnavailableError) {
        if (isLate()) this.lose(held, 'it could not be renewed in time') // L3
      } else if (error instanceof ConflictError) await this.lookAgain(held, key, incarnation)
      else throw error
    }
  }

  /** After a refused renewal: the entry may be ours by a write whose answer was lost. */
  private async lookAgain(held: Held, key: string, incarnation: string): Promise<void> {
    let entry: KvEntry | undefined
    try {
      entry = await this.deps.bucket.get(key)
    } catch (error) {
      if (error instanceof UnavailableError) return // the next renewal tells
      throw error
    }
    const record = entry?.value && decodeLease(entry.value)
    const isOurs = record && record.incarnation === incarnation && record.fence === held.fence && record.holder !== ''
    if (isOurs) held.revision = entry!.revision
    else this.lose(held, `${record?.holder ?? 'somebody'} has taken it`)
  }

  private keyOf(tenant: string): string {
    return (this.deps.keys ?? COMPACTION).key(encodeTenant(tenant))
  }

  private lose(held: Held, why: string): void {
    if (this.held.get(held.tenant) === held) this.held.delete(held.tenant)
    held.lost.abort(new ConflictError('lease-lost', `the lease of tenant "${held.tenant}": ${why}`))
  }

  private record(fence: number, beat: number): LeaseRecord {
    const { id, incarnation, clock } = this.deps
    return { v: 1, holder: id, incarnation, fence, beat, renewedAtMs: clock.now() }
  }

  private show({ key, value, revision }: KvEntry): void {
    const tenant = decodeTenant(key.slice(key.indexOf('.') + 1))
    this.seen.set(tenant, { revision, record: value && recordIn(value), since: this.deps.clock.monotonic() })
  }
}

/** A lease that nobody can read is somebody's, until it has been silent for long enough. */
function recordIn(value: Uint8Array): LeaseRecord {
  try {
    return decodeLease(value)
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error
    return { v: 1, holder: '?', incarnation: '', fence: 0, beat: 0, renewedAtMs: 0 }
  }
}
