// What deletions hide in a head: for each deletion the series that it takes, and the place in the log up to which it reaches (L12).
import type { Interval } from '../../model/interval.ts'
import { DeleteFilter, type Deletion, joined } from '../delete-filter.ts'
import { isBefore, type Place } from './parts.ts'
import { DEAD } from './series-table.ts'

interface Held {
  readonly filter: DeleteFilter
  /** It hides what was applied before. */
  readonly place: Place
  /** The series that it takes, rising. */
  refs: Uint32Array
}

/** Finds the refs, rising, of the series that any of the selectors takes. */
export type FindRefs = (selectors: Deletion['selectors']) => Uint32Array

const NOTHING: readonly Interval[] = []

export class HiddenSamples {
  private readonly deletions = new Map<string, Held>()
  /** 1: some deletion takes the series. */
  private isTaken = new Uint8Array(0)
  private readonly find: FindRefs

  constructor(find: FindRefs) {
    this.find = find
  }

  add(id: string, deletion: Deletion, place: Place): void {
    if (this.deletions.has(id)) return
    const held = { filter: new DeleteFilter(deletion), place, refs: this.find(deletion.selectors) }
    this.deletions.set(id, held)
    this.mark()
  }

  /** Shows again what a deletion hid. */
  delete(id: string): void {
    if (this.deletions.delete(id)) this.mark()
  }

  /** Forgets the deletions that reach no further than this segment: what they hid was dropped. */
  drop(upTo: number): void {
    for (const [id, { place }] of this.deletions) if (place.segment <= upTo) this.deletions.delete(id)
    this.mark()
  }

  /** Looks for the series anew: some were made that belong to what was applied before. */
  match(): void {
    for (const held of this.deletions.values()) held.refs = this.find(held.filter.selectors)
    this.mark()
  }

  compact(refs: Uint32Array): void {
    for (const held of this.deletions.values()) {
      held.refs = held.refs.map((ref) => refs[ref]!).filter((ref) => ref !== DEAD)
    }
    this.mark()
  }

  takes(ref: number): boolean {
    return this.isTaken[ref] === 1
  }

  /** The times that are hidden of a series in a part that begins at `place`, apart from each other. */
  intervals(ref: number, place: Place): readonly Interval[] {
    if (this.isTaken[ref] !== 1) return NOTHING
    const found: Interval[] = []
    for (const { filter, place: end, refs } of this.deletions.values()) {
      if (isBefore(place, end) && includes(refs, ref)) found.push(filter.interval)
    }
    return found.length === 0 ? NOTHING : joined(found)
  }

  get count(): number {
    return this.deletions.size
  }

  get bytes(): number {
    let bytes = this.isTaken.byteLength
    for (const { refs } of this.deletions.values()) bytes += refs.byteLength + 1000
    return bytes
  }

  private mark(): void {
    let length = 0
    for (const { refs } of this.deletions.values()) length = Math.max(length, (refs.at(-1) ?? -1) + 1)
    this.isTaken = new Uint8Array(length)
    for (const { refs } of this.deletions.values()) for (const ref of refs) this.isTaken[ref] = 1
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
