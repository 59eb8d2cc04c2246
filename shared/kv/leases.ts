// Leases: who may do something for a tenant, for as long as it renews; changed by compare-and-set alone. Which lease it is, the record says.
//
// Invariants
//   LEASE-1  Every taking raises the fence, beyond that of the lease before and that of what it guards (`guardedFence`). Whoever takes a lease writes
//       its fence there before anything else, so a holder of before, however long it was paused, changes nothing any more.
//   LEASE-2  A lease of another is taken only after `leaseMs` without a change of its revision, by the own monotonic clock, and by
//       compare-and-set on that revision: silence that was only ours takes nothing.
//   LEASE-3  A holder that could not renew for `leaseMs` counts itself as having lost it; its work is aborted.
//   LEASE-4  One that cannot be read is somebody's, as any other, and its fence is taken to be high. That of a newer version is never taken.
import type { Clock } from '../base/clock.ts'
import { ConflictError, UnavailableError } from '../base/errors.ts'
import type { KvBucket } from '../bus/port.ts'
import { keyFor, type RecordContract } from '../bus/record.ts'
import type { LeaseRecord } from '../contracts/leases.ts'
import type { Told } from './passed-over.ts'
import { readRecord } from './read-records.ts'
import { type Row, WatchedTable } from './watched-table.ts'

export interface LeaseDeps extends Told {
  readonly bucket: KvBucket
  readonly record: RecordContract<'tenant', LeaseRecord>
  readonly clock: Clock
  readonly id: string
  readonly incarnation: string
  readonly leaseMs: number
}

/** LEASE-4: how far beyond what it is known to guard the fence of an unreadable lease may be. */
const FENCE_UNREAD = 1_000_000

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

export class Leases {
  private readonly deps: LeaseDeps
  private readonly table: WatchedTable<'tenant', LeaseRecord>
  private readonly held = new Map<string, Held>()

  constructor(deps: LeaseDeps) {
    this.deps = deps
    this.table = new WatchedTable(deps)
  }

  start(): Promise<void> {
    return this.table.start()
  }

  async stop(): Promise<void> {
    this.table.stop()
    for (const lease of [...this.held.values()]) await this.release(lease)
  }

  /** Who holds it, as far as is known. */
  holderOf(tenant: string): LeaseRecord | undefined {
    const row = this.table.row({ tenant })
    return row?.kind === 'value' && row.value?.holder !== '' ? row.value : undefined
  }

  /** The lease, or undefined while another holds it. `guardedFence` is the newest one known of what it guards. */
  async take(tenant: string, guardedFence: number): Promise<Lease | undefined> {
    const { bucket, clock } = this.deps
    const known = this.held.get(tenant)
    if (known !== undefined) return known
    const row = this.table.row({ tenant })
    if (row !== undefined && !this.isToBeHad(row)) return undefined
    const startedAt = clock.monotonic()
    const beyond = row?.kind === 'unreadable' ? FENCE_UNREAD : 0 // LEASE-4
    const fence = Math.max(row?.value?.fence ?? 0, guardedFence) + beyond + 1 // LEASE-1
    const value = this.encoded(fence, 1)
    const key = this.keyOf(tenant)
    try {
      const revision = await (row === undefined ? bucket.create(key, value) : bucket.update(key, value, row.revision))
      const lost = new AbortController()
      const held: Held = { tenant, fence, signal: lost.signal, lost, revision, beat: 1, renewedAt: startedAt }
      this.held.set(tenant, held)
      return held
    } catch (error) {
      if (error instanceof ConflictError) return undefined // another was first, or it is ours by a write without answer: free for us next time
      throw error
    }
  }

  private isToBeHad({ kind, value, since }: Row<'tenant', LeaseRecord>): boolean {
    if (kind === 'newer-version') return false // LEASE-4
    const isFree = kind === 'value' && (value?.holder === '' || value?.incarnation === this.deps.incarnation)
    return isFree || this.deps.clock.monotonic() - since >= this.deps.leaseMs // LEASE-2
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
    const free = this.encoded(held.fence, held.beat + 1, '')
    try {
      await this.deps.bucket.update(this.keyOf(lease.tenant), free, held.revision)
    } catch (error) {
      if (!(error instanceof ConflictError || error instanceof UnavailableError)) throw error // it runs out by itself
    }
  }

  private async renewOne(held: Held): Promise<void> {
    const { bucket, clock, leaseMs } = this.deps
    const startedAt = clock.monotonic()
    const isLate = () => clock.monotonic() - held.renewedAt >= leaseMs
    try {
      if (isLate()) return this.lose(held, 'it could not be renewed in time') // LEASE-3
      held.beat += 1
      const value = this.encoded(held.fence, held.beat)
      const revision = await bucket.update(this.keyOf(held.tenant), value, held.revision)
      held.revision = revision
      held.renewedAt = startedAt
    } catch (error) {
      if (error instanceof UnavailableError) {
        if (isLate()) this.lose(held, 'it could not be renewed in time') // LEASE-3
      } else if (error instanceof ConflictError) await this.lookAgain(held)
      else throw error
    }
  }

  /** After a refused renewal: the entry may be ours by a write whose answer was lost. */
  private async lookAgain(held: Held): Promise<void> {
    try {
      const found = await readRecord(this.deps, this.deps.record, { tenant: held.tenant })
      const lease = found.kind === 'value' ? found.value : undefined
      const isOurs = lease?.incarnation === this.deps.incarnation && lease.fence === held.fence && lease.holder !== ''
      if (isOurs) held.revision = found.revision
      else this.lose(held, `${lease?.holder ?? 'somebody'} has taken it`)
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error // the next renewal tells
    }
  }

  private keyOf(tenant: string): string {
    return keyFor(this.deps.record, { tenant })
  }

  private lose(held: Held, why: string): void {
    if (this.held.get(held.tenant) === held) this.held.delete(held.tenant)
    held.lost.abort(new ConflictError('lease-lost', `the lease of tenant "${held.tenant}": ${why}`))
  }

  private encoded(fence: number, beat: number, holder = this.deps.id): Uint8Array {
    const { record, incarnation, clock } = this.deps
    return record.format.encode({ v: 1, holder, incarnation, fence, beat, renewedAtMs: clock.now() })
  }
}
