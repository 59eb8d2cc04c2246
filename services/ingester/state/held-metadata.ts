// What is told of a partition's metrics: type, help and unit, and where that was. Lives in memory and in the log only.
//
// Targets may tell different texts of one metric: all of them are held. One that nobody tells any more, while others are told, goes.
import { isLeftOut } from '../../../shared/blocks/left-out.ts'
import type { MetricMetadata } from '../../../shared/contracts/read.ts'
import { isOlder, type Place } from '../../../shared/model/place.ts'
import type { PlacesReader } from '../../../shared/wire/places-column.ts'

/** Texts, of all metrics. */
const METADATA_PER_TENANT_MAX = 50_000
const TEXTS_PER_METRIC_MAX = 10
/** A text goes when others of its metric are told in so many segments after the one that it was last told in: senders tell each minute. */
const SEGMENTS_UNTOLD_MAX = 2

export interface ToldMetadata {
  readonly row: MetricMetadata
  /** In which segment it was told, or stated again. */
  readonly segment: number
  /** Where a writer told it last. */
  readonly place: Place
}

interface TenantMetadata {
  /** By metric; what was told last stands last, so the first is the one not told for longest. */
  readonly metrics: Map<string, readonly ToldMetadata[]>
  texts: number
  /** The newest segment that a writer told any of it in. */
  newest: number
}

export class HeldMetadata {
  private readonly tenants = new Map<string, TenantMetadata>()

  /** What is older than what is held changes nothing: it is stated again for those who did not hear it. */
  tell(tenant: string, row: MetricMetadata, segment: number, place: Place): void {
    const told: TenantMetadata = this.tenants.get(tenant) ?? { metrics: new Map(), texts: 0, newest: 0 }
    told.newest = Math.max(told.newest, place.segment)
    this.tenants.set(tenant, told)
    const before = told.metrics.get(row.metric) ?? []
    const same = before.find((each) => isSameText(each.row, row))
    if (same !== undefined && isOlder(place, same.place)) return
    const all = [...before.filter((each) => each !== same), { row, segment, place }].sort(byPlace)
    const newest = all.at(-1)!.place.segment
    const kept = all.filter((each) => newest - each.place.segment <= SEGMENTS_UNTOLD_MAX).slice(-TEXTS_PER_METRIC_MAX)
    this.put(told, row.metric, kept)
    while (told.texts > METADATA_PER_TENANT_MAX) this.put(told, told.metrics.keys().next().value!, [])
  }

  /** Of one metric, or of all, what was told at places that are shown. */
  of(tenant: string, metric?: string, isShown: (place: Place) => boolean = () => true): MetricMetadata[] {
    const metrics = this.tenants.get(tenant)?.metrics
    const asked = metric === undefined ? [...(metrics?.values() ?? [])].flat() : (metrics?.get(metric) ?? [])
    return asked.filter(({ place }) => isShown(place)).map(({ row }) => row)
  }

  /** Gives back what was told at such places. */
  forget(tenant: string, isGone: (place: Place) => boolean): void {
    const told = this.tenants.get(tenant)
    if (told === undefined) return
    for (const [metric, texts] of [...told.metrics]) {
      const kept = texts.filter(({ place }) => !isGone(place))
      if (kept.length < texts.length) this.put(told, metric, kept)
    }
    if (told.texts === 0) this.tenants.delete(tenant)
  }

  /** The newest segment in which a writer told anything of the tenant. */
  newestOf(tenant: string): number {
    return this.tenants.get(tenant)?.newest ?? 0
  }

  tenantsHeld(): readonly string[] {
    return [...this.tenants.keys()]
  }

  /** What was not told again in this segment or later. */
  *toldBefore(segment: number): Iterable<ToldMetadata & { readonly tenant: string }> {
    for (const [tenant, { metrics }] of this.tenants)
      for (const texts of metrics.values())
        for (const each of texts) if (each.segment < segment) yield { tenant, ...each }
  }

  private put(told: TenantMetadata, metric: string, texts: readonly ToldMetadata[]): void {
    told.texts += texts.length - (told.metrics.get(metric)?.length ?? 0)
    told.metrics.delete(metric)
    if (texts.length > 0) told.metrics.set(metric, texts)
  }
}

function isSameText(a: MetricMetadata, b: MetricMetadata): boolean {
  return a.type === b.type && a.help === b.help && a.unit === b.unit
}

function byPlace({ place: a }: ToldMetadata, { place: b }: ToldMetadata): number {
  return isOlder(a, b) ? -1 : isOlder(b, a) ? 1 : 0
}

/** Where the batch itself stands: its segment as far as telling again goes, and its place. */
export interface Told {
  readonly toldIn: number
  readonly here: Place
}

/** Where something was first told: here, unless the batch says that it only states it again (DELETE-15). */
export function placeOf(places: PlacesReader, here: Place): Place {
  const told = places.next()
  return told === undefined || isLeftOut('as-of') ? here : told
}
