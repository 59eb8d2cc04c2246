// What was last told of a partition's metrics: type, help and unit, and in which segment that was. Lives in memory and in the log only.
import type { MetricMetadata } from '../../shared/contracts/read.ts'

const METADATA_PER_TENANT_MAX = 50_000

interface Told {
  readonly row: MetricMetadata
  readonly segment: number
}

export class HeldMetadata {
  /** By tenant and metric; what was told last stands last, so the first is the one not told for longest. */
  private readonly tenants = new Map<string, Map<string, Told>>()

  tell(tenant: string, row: MetricMetadata, segment: number): void {
    const told = this.tenants.get(tenant) ?? new Map<string, Told>()
    this.tenants.set(tenant, told)
    told.delete(row.metric)
    told.set(row.metric, { row, segment })
    if (told.size > METADATA_PER_TENANT_MAX) told.delete(told.keys().next().value!)
  }

  /** Of one metric, or of all. */
  of(tenant: string, metric?: string): MetricMetadata[] {
    const told = this.tenants.get(tenant)
    if (told === undefined) return []
    if (metric === undefined) return [...told.values()].map(({ row }) => row)
    const one = told.get(metric)
    return one === undefined ? [] : [one.row]
  }

  /** What was not told again in this segment or later. */
  *toldBefore(segment: number): Iterable<{ readonly tenant: string; readonly row: MetricMetadata }> {
    for (const [tenant, told] of this.tenants)
      for (const each of told.values()) if (each.segment < segment) yield { tenant, row: each.row }
  }

  forget(tenant: string): void {
    this.tenants.delete(tenant)
  }
}
