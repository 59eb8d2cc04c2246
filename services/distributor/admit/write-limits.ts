// Limits that depend on what came before: samples per second, and series per tenant as the owners tell of them.
import type { Clock } from '../../../shared/base/clock.ts'
import type { OwnerCounted } from '../../../shared/contracts/read.ts'

const TENANTS_MAX = 100_000

/** A token bucket per tenant. */
export class RateLimiter {
  private readonly buckets = new Map<string, { tokens: number; atMs: number }>()
  private readonly clock: Clock

  constructor(clock: Clock) {
    this.clock = clock
  }

  /** 0 when `count` samples may pass now, else the seconds until they may. A request larger than the burst passes with a full bucket. */
  take(tenant: string, count: number, limit: { perSecond: number; burst: number }): number {
    const now = this.clock.monotonic()
    const bucket = this.buckets.get(tenant) ?? { tokens: limit.burst, atMs: now }
    bucket.tokens = Math.min(limit.burst, bucket.tokens + ((now - bucket.atMs) / 1000) * limit.perSecond)
    bucket.atMs = now
    if (this.buckets.size >= TENANTS_MAX && !this.buckets.has(tenant)) this.buckets.clear() // full buckets for all: never too strict
    this.buckets.set(tenant, bucket)
    const needed = Math.min(count, limit.burst)
    if (bucket.tokens >= needed) {
      bucket.tokens -= count
      return 0
    }
    return limit.perSecond > 0 ? Math.max(1, Math.ceil((needed - bucket.tokens) / limit.perSecond)) : 60
  }
}

/** What owners last told about themselves; an owner that has been silent for long is not believed (LOG-23). */
export class OwnerNews {
  private readonly news = new Map<string, { counted: OwnerCounted; atMs: number }>()
  private readonly clock: Clock
  private readonly freshMs: number

  constructor(clock: Clock, freshMs: number) {
    this.clock = clock
    this.freshMs = freshMs
  }

  hear(counted: OwnerCounted): void {
    this.news.set(counted.id, { counted, atMs: this.clock.monotonic() })
    for (const [id, { atMs }] of this.news) if (this.clock.monotonic() - atMs > 10 * this.freshMs) this.news.delete(id)
  }

  /** Series of a tenant over all partitions (of a partition's owners the one that holds most), as far as fresh news tell. */
  seriesOf(tenant: string): number {
    const perPartition = new Map<number, number>()
    for (const counted of this.fresh()) {
      for (const row of counted.series) {
        if (row.tenant !== tenant) continue
        perPartition.set(row.partition, Math.max(perPartition.get(row.partition) ?? 0, row.count))
      }
    }
    let total = 0
    for (const count of perPartition.values()) total += count
    return total
  }

  /** The fullest owner's share of its memory, 0 … 1. */
  pressure(): number {
    let highest = 0
    for (const { bytes, bytesMax } of this.fresh()) if (bytesMax > 0) highest = Math.max(highest, bytes / bytesMax)
    return highest
  }

  private *fresh(): Iterable<OwnerCounted> {
    for (const { counted, atMs } of this.news.values()) {
      if (this.clock.monotonic() - atMs <= this.freshMs) yield counted
    }
  }
}
