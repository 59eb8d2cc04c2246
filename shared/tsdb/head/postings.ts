// Postings: for each label (name#, value#) the refs of the series that carry it, rising because refs are given in rising order.
//
// A list of one ref, which most are, stands inline; longer ones have a growing array. Labels are found by a hash table with open
// addressing, and chained per name so that the values of a name can be listed.
import { grownU32 } from '../chunk/growth.ts'
import { DEAD } from './series-table.ts'

const NONE = new Uint32Array(0)

export class Postings {
  /** Slots of entry + 1. */
  private slots = new Uint32Array(32)
  private names = new Uint32Array(16)
  private values = new Uint32Array(16)
  /** The only ref, or how many refs the list holds. */
  private heads = new Uint32Array(16)
  private readonly lists: (Uint32Array | undefined)[] = []
  private count = 0
  private listBytes = 0
  /** The entries of each name, in the order of their making. */
  private readonly byName = new Map<number, { entries: Uint32Array; count: number }>()

  add(ref: number, name: number, value: number): void {
    const entry = this.find(name, value)
    if (entry < 0) {
      this.insert(-1 - entry, name, value, ref)
      return
    }
    const list = this.lists[entry]
    if (list === undefined) {
      this.lists[entry] = Uint32Array.of(this.heads[entry]!, ref, 0, 0)
      this.heads[entry] = 2
      this.listBytes += 16 + 64 // the array object itself counts
      return
    }
    const length = this.heads[entry]!
    if (length === list.length) {
      const wider = grownU32(list, length + 1)
      this.listBytes += wider.byteLength - list.byteLength
      this.lists[entry] = wider
      wider[length] = ref
    } else {
      list[length] = ref
    }
    this.heads[entry] = length + 1
  }

  /** The refs of a label, rising: a view, valid until the next `add`. */
  list(name: number, value: number): Uint32Array {
    const entry = this.find(name, value)
    return entry < 0 ? NONE : this.listOf(entry)
  }

  /** Calls back for each value of a name with its list. */
  eachValue(name: number, fn: (value: number, refs: Uint32Array) => void): void {
    const chain = this.byName.get(name)
    if (chain === undefined) return
    for (let i = 0; i < chain.count; i++) {
      const entry = chain.entries[i]!
      fn(this.values[entry]!, this.listOf(entry))
    }
  }

  /** Keeps the series to which `refs` gives a new ref (rising; DEAD: none), and the labels that any of them carries. */
  compact(refs: Uint32Array): void {
    const { names, values, heads, lists, count } = this
    this.byName.clear()
    this.listBytes = 0
    let at = 0 // entries move down to their new place
    for (let entry = 0; entry < count; entry++) {
      const list = lists[entry]
      const left = list === undefined ? (refs[heads[entry]!] === DEAD ? 0 : 1) : kept(list, heads[entry]!, refs)
      if (left === 0) continue
      names[at] = names[entry]!
      values[at] = values[entry]!
      heads[at] = left > 1 ? left : list === undefined ? refs[heads[entry]!]! : list[0]!
      lists[at] = left === 1 ? undefined : left * 2 < list!.length ? list!.slice(0, left) : list
      if (left > 1) this.listBytes += lists[at]!.byteLength + 64
      this.chain(names[at]!, at)
      at++
    }
    this.count = at
    lists.length = at
    this.names = names.slice(0, Math.max(at, 16))
    this.values = values.slice(0, Math.max(at, 16))
    this.heads = heads.slice(0, Math.max(at, 16))
    let length = 32
    while (at * 3 > length * 2) length *= 2
    this.slots = new Uint32Array(length / 2)
    this.rehash()
  }

  nameNumbers(): IterableIterator<number> {
    return this.byName.keys()
  }

  get bytes(): number {
    let bytes = this.slots.byteLength + 3 * this.names.byteLength + this.listBytes + this.lists.length * 8
    for (const chain of this.byName.values()) bytes += chain.entries.byteLength + 100
    return bytes
  }

  private listOf(entry: number): Uint32Array {
    const list = this.lists[entry]
    return list === undefined ? this.heads.subarray(entry, entry + 1) : list.subarray(0, this.heads[entry])
  }

  /** The entry of a label, or −1 − the empty slot where it belongs. */
  private find(name: number, value: number): number {
    const mask = this.slots.length - 1
    let slot = hashOf(name, value) & mask
    for (let held = this.slots[slot]!; held !== 0; held = this.slots[slot]!) {
      if (this.values[held - 1] === value && this.names[held - 1] === name) return held - 1
      slot = (slot + 1) & mask
    }
    return -1 - slot
  }

  private insert(slot: number, name: number, value: number, ref: number): void {
    const entry = this.count++
    if (entry === this.names.length) {
      this.names = grownU32(this.names, entry + 1)
      this.values = grownU32(this.values, entry + 1)
      this.heads = grownU32(this.heads, entry + 1)
    }
    this.slots[slot] = entry + 1
    this.names[entry] = name
    this.values[entry] = value
    this.heads[entry] = ref
    this.lists.push(undefined)
    this.chain(name, entry)
    if (this.count * 3 > this.slots.length * 2) this.rehash()
  }

  private chain(name: number, entry: number): void {
    let chain = this.byName.get(name)
    if (chain === undefined) {
      chain = { entries: new Uint32Array(4), count: 0 }
      this.byName.set(name, chain)
    }
    if (chain.count === chain.entries.length) chain.entries = grownU32(chain.entries, chain.count + 1)
    chain.entries[chain.count++] = entry
  }

  private rehash(): void {
    const slots = new Uint32Array(this.slots.length * 2)
    const mask = slots.length - 1
    for (let entry = 0; entry < this.count; entry++) {
      let slot = hashOf(this.names[entry]!, this.values[entry]!) & mask
      while (slots[slot] !== 0) slot = (slot + 1) & mask
      slots[slot] = entry + 1
    }
    this.slots = slots
  }
}

/** Puts what stays of a rising list in front, by its new refs, and returns how many. */
function kept(list: Uint32Array, length: number, refs: Uint32Array): number {
  let count = 0
  for (let i = 0; i < length; i++) {
    const ref = refs[list[i]!]!
    if (ref !== DEAD) list[count++] = ref
  }
  return count
}

function hashOf(name: number, value: number): number {
  const mixed = Math.imul(Math.imul(name, 0x9e3779b1) ^ value, 0x85ebca6b)
  return (mixed ^ (mixed >>> 15)) >>> 0
}
