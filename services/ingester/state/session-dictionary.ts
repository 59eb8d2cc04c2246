// One session's numbers, as the log defined them: label strings, and series by id.
import { CorruptError } from '../../../shared/base/errors.ts'
import { grownU32 } from '../../../shared/tsdb/chunk/growth.ts'
import type { Head } from '../../../shared/tsdb/head/head.ts'
import type { StringTable } from '../../../shared/tsdb/head/string-table.ts'

/** Ids and string numbers are dense: a larger one is damage, not a very large session. */
const ID_MAX = 1 << 27
/** Counters that are remembered, to check the references of later batches. */
const COUNTERS_MAX = 256
const UNDEFINED = -1
/** Of a string beside its characters, with its place. */
const STRING_BYTES = 32
/** Of an id: which head, which series. */
const ID_BYTES = 8

export class SessionDictionary {
  readonly epoch: number
  readonly strings: string[] = []
  private stringBytes = 0
  /** Per string number: the number in the ingester's table + 1, once it was needed; 0: not yet. */
  private interned = new Uint32Array(1024)
  readonly heads: (Head | undefined)[] = []
  refs = new Int32Array(1024).fill(UNDEFINED)
  /** Sequence of each remembered counter, oldest first. */
  private counters = new Map<number, number>()

  constructor(epoch: number) {
    this.epoch = epoch
  }

  /** An estimate of the memory. */
  get bytes(): number {
    return this.stringBytes + this.interned.byteLength + this.refs.byteLength + this.heads.length * ID_BYTES
  }

  /** Throws CorruptError for a number that no session reaches. */
  name(number: number, text: string): void {
    if (number > ID_MAX) throw new CorruptError('bad-batch', `string number ${number} is above ${ID_MAX}`)
    const before = this.strings[number]
    this.stringBytes += text.length - (before === undefined ? -STRING_BYTES : before.length)
    this.strings[number] = text
    if (number < this.interned.length) this.interned[number] = 0
  }

  /** The number in the ingester's table of a string that the session named; −1 when it named none. */
  numberOf(number: number, table: StringTable): number {
    const text = this.strings[number]
    if (text === undefined) return -1
    const before = (number < this.interned.length ? this.interned[number]! : 0) - 1
    if (before >= 0 && table.holds(before, text)) return before // else it was swept meanwhile
    if (number >= this.interned.length) this.interned = grownU32(this.interned, number + 1)
    const known = table.intern(text)
    this.interned[number] = known + 1
    return known
  }

  /** The first definition of an id stays: it never changes meaning (LOG-2). */
  define(id: number, head: Head, ref: number): void {
    if (id > ID_MAX) throw new CorruptError('bad-batch', `series id ${id} is above ${ID_MAX}`)
    if (this.heads[id] !== undefined) return
    if (id >= this.refs.length) {
      const wider = new Int32Array(Math.max(this.refs.length * 2, id + 1)).fill(UNDEFINED)
      wider.set(this.refs)
      this.refs = wider
    }
    this.heads[id] = head
    this.refs[id] = ref
  }

  /** Marks the series of each head that have an id here. */
  mark(isNamed: ReadonlyMap<Head, Uint8Array>): void {
    let head: Head | undefined
    let marks: Uint8Array | undefined
    for (let id = 0; id < this.heads.length; id++) {
      const of = this.heads[id]
      if (of === undefined) continue
      if (of !== head) {
        head = of
        marks = isNamed.get(of)
      }
      if (marks !== undefined) marks[this.refs[id]!] = 1
    }
  }

  /** Takes over the new refs of heads that were compacted. */
  rename(refs: ReadonlyMap<Head, Uint32Array>): void {
    for (let id = 0; id < this.heads.length; id++) {
      const of = this.heads[id]
      const next = of && refs.get(of)
      if (next !== undefined) this.refs[id] = next[this.refs[id]!]!
    }
  }

  remember(counter: number, seq: number): void {
    this.counters.set(counter, seq)
    if (this.counters.size > COUNTERS_MAX) this.counters.delete(this.counters.keys().next().value!)
  }

  /** The remembered batches: counter, sequence, counter, sequence, … */
  batches(): Float64Array {
    return Float64Array.from([...this.counters].flat())
  }

  /** Whether this very batch was applied at this very place. */
  hasSeen(counter: number, seq: number): boolean {
    return this.counters.get(counter) === seq
  }

  /** Takes over what another owner has seen. */
  learn(batches: Float64Array): void {
    const seen = [...this.counters]
    for (let i = 0; i + 1 < batches.length; i += 2) seen.push([batches[i]!, batches[i + 1]!])
    this.counters = new Map(seen.sort(([, a], [, b]) => a - b).slice(-COUNTERS_MAX))
  }

  /** False when the batch with this counter cannot have been delivered. */
  mayHaveSeen(counter: number): boolean {
    const isForgotten = this.counters.size === COUNTERS_MAX && counter < this.counters.keys().next().value!
    return isForgotten || this.counters.has(counter)
  }
}
