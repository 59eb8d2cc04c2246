// What deletions hide in a head: for each deletion the series that it takes, and the place in the log up to which it reaches (DELETE-8).
import type { Interval } from '../../model/interval.ts'
import type { Labels } from '../../model/labels.ts'
import { isBefore, isSame, type Place } from '../../model/place.ts'
import { DeleteFilter, type Deletion, joined } from '../delete-filter.ts'
import { DEAD } from './series-table.ts'

/** A deletion that hides what lies before a place. */
export interface Hiding extends Deletion {
  readonly id: string
  readonly place: Place
}

interface Held {
  readonly filter: DeleteFilter
  readonly place: Place
  /** The series that it takes, rising. */
  refs: Uint32Array
}

/** The series of a head, as far as deletions go. */
export interface SeriesOf {
  /** The refs, rising, of the series that any of the selectors takes. */
  find(selectors: Deletion['selectors']): Uint32Array
  labelsOf(ref: number): Labels
  /** How many there are. */
  count(): number
}

const NOTHING: readonly Interval[] = []

export class HiddenSamples {
  /** By id. */
  private held = new Map<string, Held>()
  /** Series that were looked at: the first ones. */
  private matchedCount = 0
  /** 1: some deletion takes the series. */
  private isTaken = new Uint8Array(0)
  private readonly series: SeriesOf

  constructor(series: SeriesOf) {
    this.series = series
  }

  /** These hide, and no others. Throws RefusedError for a pattern that RE2 does not take. */
  set(deletions: readonly Hiding[]): void {
    this.match()
    const before = this.held
    const now = new Map<string, Held>()
    for (const deletion of deletions) {
      const { id, place } = deletion
      const known = before.get(id)
      now.set(
        id,
        known !== undefined && isSame(known.place, place)
          ? known
          : { filter: new DeleteFilter(deletion), place, refs: this.series.find(deletion.selectors) },
      )
    }
    this.held = now
    this.matchedCount = this.series.count()
    this.mark()
  }

  /** Looks at the series that were made since: samples of before a deletion may have come later than those of behind it. */
  match(): void {
    const count = this.series.count()
    if (this.held.size > 0 && count > this.matchedCount) {
      const fresh = Array.from({ length: count - this.matchedCount }, (_, i) => this.matchedCount + i)
      for (const held of this.held.values()) {
        const taken = fresh.filter((ref) => held.filter.takes(this.series.labelsOf(ref)))
        if (taken.length > 0) held.refs = Uint32Array.from([...held.refs, ...taken])
      }
      this.mark()
    }
    this.matchedCount = count
  }

  compact(refs: Uint32Array): void {
    for (const held of this.held.values()) {
      held.refs = held.refs.map((ref) => refs[ref]!).filter((ref) => ref !== DEAD)
    }
    this.matchedCount = refs.subarray(0, this.matchedCount).reduce((count, ref) => count + (ref === DEAD ? 0 : 1), 0)
    this.mark()
  }

  takes(ref: number): boolean {
    return this.isTaken[ref] === 1
  }

  /** The times that are hidden of a series in a part that begins at `place`, apart from each other. */
  intervals(ref: number, place: Place): readonly Interval[] {
    if (this.isTaken[ref] !== 1) return NOTHING
    const found: Interval[] = []
    for (const { filter, place: end, refs } of this.held.values()) {
      if (isBefore(place, end) && includes(refs, ref)) found.push(filter.interval)
    }
    return found.length === 0 ? NOTHING : joined(found)
  }

  get bytes(): number {
    let bytes = this.isTaken.byteLength
    for (const { refs } of this.held.values()) bytes += refs.byteLength + 1000
    return bytes
  }

  private mark(): void {
    let length = 0
    for (const { refs } of this.held.values()) length = Math.max(length, (refs.at(-1) ?? -1) + 1)
    this.isTaken = new Uint8Array(length)
    for (const { refs } of this.held.values()) for (const ref of refs) this.isTaken[ref] = 1
  }
}

function includes(refs: Uint32Array, ref: number): boolean {
  let low = 0
  let high = refs.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (refs[middle]! < ref) low = middle + 1
    else high = middle
  }
  return low < refs.length && refs[low] === ref
}
