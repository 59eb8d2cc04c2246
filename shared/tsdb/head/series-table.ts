// The series of a head: label sets as runs of string numbers in one array, found by a hash table with open addressing.
import type { Labels } from '../../model/labels.ts'
import { grownU32 } from '../chunk/growth.ts'
import type { StringTable } from './string-table.ts'

/** In a list of new refs: the series is gone. */
export const DEAD = 0xffffffff

export class SeriesTable {
  private readonly strings: StringTable
  /** All runs [name#, value#, …] one behind the other; series r has [starts[r], starts[r + 1]). */
  runs = new Uint32Array(64)
  starts = new Uint32Array(16)
  /** Slots of ref + 1; 0 is empty. The length is a power of two, at most 2/3 of it used. */
  private slots = new Uint32Array(32)
  /** The hash over string numbers by which a series is found; the digest has another, over texts. */
  private hashes = new Uint32Array(16)
  count = 0

  constructor(strings: StringTable) {
    this.strings = strings
  }

  /** The ref of the label set in `labelRefs` [start, end), or −1 − ref of the series just made. */
  findOrAdd(labelRefs: Uint32Array | readonly number[], start: number, end: number): number {
    let hash = end - start
    for (let i = start; i < end; i++) {
      hash = Math.imul(hash ^ labelRefs[i]!, 0x9e3779b1)
      hash ^= hash >>> 15
    }
    hash >>>= 0
    const mask = this.slots.length - 1
    let slot = hash & mask
    for (let held = this.slots[slot]!; held !== 0; held = this.slots[slot]!) {
      if (this.hashes[held - 1] === hash && this.isRun(held - 1, labelRefs, start, end)) return held - 1
      slot = (slot + 1) & mask
    }
    this.slots[slot] = this.count + 1
    return -1 - this.add(labelRefs, start, end, hash)
  }

  /** A view of a series' run; valid until the next series is added. */
  run(ref: number): Uint32Array {
    return this.runs.subarray(this.starts[ref], this.starts[ref + 1])
  }

  labels(ref: number): Labels {
    const labels: string[] = []
    for (let i = this.starts[ref]!; i < this.starts[ref + 1]!; i++) labels.push(this.strings.text(this.runs[i]!))
    return labels
  }

  /** The value's number of a name in a series' labels, −1 when it has no such label. */
  valueOf(ref: number, name: number): number {
    const end = this.starts[ref + 1]!
    for (let i = this.starts[ref]!; i < end; i += 2) if (this.runs[i] === name) return this.runs[i + 1]!
    return -1
  }

  /** Keeps the series to which `refs` gives a new ref (rising; DEAD: none), `count` in all. */
  compact(refs: Uint32Array, count: number): void {
    const starts = new Uint32Array(count + 2)
    const hashes = new Uint32Array(count + 2) // both grow at once
    let end = 0
    for (let ref = 0; ref < this.count; ref++) {
      if (refs[ref] === DEAD) continue
      this.runs.copyWithin(end, this.starts[ref]!, this.starts[ref + 1]!) // never reaches beyond what was read
      end += this.starts[ref + 1]! - this.starts[ref]!
      starts[refs[ref]! + 1] = end
      hashes[refs[ref]!] = this.hashes[ref]!
    }
    this.runs = this.runs.slice(0, Math.max(end, 1))
    this.starts = starts
    this.hashes = hashes
    this.count = count
    let length = 32
    while (count * 3 > length * 2) length *= 2
    this.slots = new Uint32Array(length / 2)
    this.rehash()
  }

  get bytes(): number {
    return this.runs.byteLength + this.starts.byteLength + this.slots.byteLength + this.hashes.byteLength
  }

  private isRun(ref: number, labelRefs: Uint32Array | readonly number[], start: number, end: number): boolean {
    const at = this.starts[ref]!
    if (this.starts[ref + 1]! - at !== end - start) return false
    for (let i = start; i < end; i++) if (this.runs[at + i - start] !== labelRefs[i]) return false
    return true
  }

  private add(labelRefs: Uint32Array | readonly number[], start: number, end: number, hash: number): number {
    const ref = this.count++
    if (ref + 2 > this.starts.length) {
      this.starts = grownU32(this.starts, ref + 2)
      this.hashes = grownU32(this.hashes, ref + 2)
    }
    const at = this.starts[ref]!
    if (at + end - start > this.runs.length) this.runs = grownU32(this.runs, at + end - start)
    for (let i = start; i < end; i++) this.runs[at + i - start] = labelRefs[i]!
    this.starts[ref + 1] = at + end - start
    this.hashes[ref] = hash
    if (this.count * 3 > this.slots.length * 2) this.rehash()
    return ref
  }

  private rehash(): void {
    const slots = new Uint32Array(this.slots.length * 2)
    const mask = slots.length - 1
    for (let ref = 0; ref < this.count; ref++) {
      let slot = this.hashes[ref]! & mask
      while (slots[slot] !== 0) slot = (slot + 1) & mask
      slots[slot] = ref + 1
    }
    this.slots = slots
  }
}
