// What was last told of a partition's metrics: type, help and unit, and where that was. Lives in memory and in the log only.
import { isLeftOut } from '../../shared/contracts/left-out.ts'
import type { MetricMetadata } from '../../shared/contracts/read.ts'
import { isBefore, type Place } from '../../shared/model/place.ts'
import type { PlacesReader } from '../../shared/wire/places-column.ts'

const METADATA_PER_TENANT_MAX = 50_000

export interface ToldMetadata {
  readonly row: MetricMetadata
  /** In which segment it was told, or stated again. */
  readonly segment: number
  /** Where a writer told it last. */
  readonly place: Place
}

export class HeldMetadata {
  /** By tenant and metric; what was told last stands last, so the first is the one not told for longest. */
  private readonly tenants = new Map<string, Map<string, ToldMetadata>>()

  /** What is older than what is held changes nothing: it is stated again for those who did not hear it. */
  tell(tenant: string, row: MetricMetadata, segment: number, place: Place): void {
    const told = this.tenants.get(tenant) ?? new Map<string, ToldMetadata>()
    this.tenants.set(tenant, told)
    const before = told.get(row.metric)
    if (before !== undefined && isBefore(place, before.place)) return
    told.delete(row.metric)
    told.set(row.metric, { row, segment, place })
    if (told.size > METADATA_PER_TENANT_MAX) told.delete(told.keys().next().value!)
  }

  /** Of one metric, or of all, what was told at places that are shown. */
  of(tenant: string, metric?: string, isShown: (place: Place) => boolean = () => true): MetricMetadata[] {
    const told = this.tenants.get(tenant)
    if (told === undefined) return []
    const one = metric === undefined ? undefined : told.get(metric)
    const asked = metric === undefined ? [...told.values()] : one === undefined ? [] : [one]
    return asked.filter(({ place }) => isShown(place)).map(({ row }) => row)
  }

  /** Gives back what was told at such places. */
  forget(tenant: string, isGone: (place: Place) => boolean): void {
    const told = this.tenants.get(tenant)
    if (told === undefined) return
    for (const [metric, { place }] of told) if (isGone(place)) told.delete(metric)
    if (told.size === 0) this.tenants.delete(tenant)
  }

  tenantsHeld(): readonly string[] {
    return [...this.tenants.keys()]
  }

  /** What was not told again in this segment or later. */
  *toldBefore(segment: number): Iterable<ToldMetadata & { readonly tenant: string }> {
    for (const [tenant, told] of this.tenants)
      for (const each of told.values()) if (each.segment < segment) yield { tenant, ...each }
  }
}

/** Where the batch itself stands: its segment as far as telling again goes, and its place. */
export interface Told {
  readonly toldIn: number
  readonly here: Place
}

/** Where something was first told: here, unless the batch says that it only states it again (D15). */
export function placeOf(places: PlacesReader, here: Place): Place {
  const told = places.next()
  return told === undefined || isLeftOut('as-of') ? here : told
}
