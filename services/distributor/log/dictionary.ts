// The dictionary knows the series that senders write: raw label bytes → a dense number (ref), with what was decided about the series
// once: its labels as string numbers, its partition, its hash. A hot kernel: no object per series, none per sample.
//
// The series after this one is most likely the one that came after it last time, so `find` first compares bytes with that one, and
// hashes only when it is another.
//
// Invariants
//   DICTIONARY-1  Bytes are compared, not only hashes: two series never share a ref (LOG-2).
//   DICTIONARY-2  A ref keeps its meaning as long as the dictionary lives. It never forgets single series: when it has grown too large or mostly
//       old, a new dictionary takes its place, and with it new sessions.
import { assert } from '../../../shared/base/assert.ts'
import type { Labels } from '../../../shared/model/labels.ts'
import { hashBytes } from '../../../shared/wire/label-region.ts'
import type { ElectionName } from '../ha/election.ts'

const PAGE_BYTES = 1 << 20
const CAPACITY_FIRST = 1024
export const NONE = -1

export class Dictionary {
  /** Series held. */
  size = 0
  /** Per ref: which partition it goes to, which tenant it belongs to, the hash of tenant and canonical labels. */
  partitions = new Uint16Array(CAPACITY_FIRST)
  tenants = new Uint32Array(CAPACITY_FIRST)
  seriesHashes = new Uint32Array(CAPACITY_FIRST)
  /** Per ref: the session that numbered it, its number there, whether that definition is stored, and the batch that holds it. */
  sessions = new Uint32Array(CAPACITY_FIRST)
  ids = new Uint32Array(CAPACITY_FIRST)
  stored = new Uint8Array(CAPACITY_FIRST)
  definedIn = new Uint32Array(CAPACITY_FIRST)
  /** Per ref: 1 when used since the last `countUsed`. */
  used = new Uint8Array(CAPACITY_FIRST)
  /** Per ref: the election it takes part in (0: none) and the string number of its replica; 1 once the series limit was asked. */
  elections = new Uint32Array(CAPACITY_FIRST)
  replicas = new Uint32Array(CAPACITY_FIRST)
  counted = new Uint8Array(CAPACITY_FIRST)

  /** Label strings and tenants by number. */
  readonly strings: string[] = []
  private readonly stringNumbers = new Map<string, number>()
  private stringBytes = 0
  private readonly electionList: ElectionName[] = []
  /** By key. */
  private readonly electionNumbers = new Map<string, number>()

  private regionPage = new Uint32Array(CAPACITY_FIRST)
  private regionStart = new Uint32Array(CAPACITY_FIRST)
  private regionLength = new Uint32Array(CAPACITY_FIRST)
  private regionHash = new Uint32Array(CAPACITY_FIRST)
  private successor = new Int32Array(CAPACITY_FIRST).fill(NONE)
  private labelStart = new Uint32Array(CAPACITY_FIRST)
  private labelCount = new Uint16Array(CAPACITY_FIRST)
  private labelRefs = new Uint32Array(CAPACITY_FIRST * 16)
  private labelRefCount = 0
  private readonly pages: Buffer[] = []
  private pageUsed = PAGE_BYTES
  private table = new Int32Array(CAPACITY_FIRST * 4).fill(NONE)

  /** Bytes held, roughly. */
  get bytes(): number {
    const perSeries = 2 + 4 * 11 + 3 + 4 + 2 + 4
    return (
      this.pages.length * PAGE_BYTES +
      this.regionPage.length * perSeries +
      this.labelRefs.length * 4 +
      this.table.length * 4 +
      this.stringBytes
    )
  }

  /** The ref of the series with these raw label bytes, or NONE. `previous` is the ref found just before in this request (NONE at first). */
  find(tenant: number, bytes: Uint8Array, start: number, end: number, previous: number): number {
    if (previous !== NONE) {
      const guess = this.successor[previous]!
      if (guess !== NONE && this.tenants[guess] === tenant && this.hasRegion(guess, bytes, start, end)) return guess
    }
    const hash = this.hashOf(tenant, bytes, start, end)
    const mask = this.table.length - 1
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const ref = this.table[slot]!
      if (ref === NONE) return NONE
      if (this.regionHash[ref] !== hash || this.tenants[ref] !== tenant) continue
      if (!this.hasRegion(ref, bytes, start, end)) continue
      if (previous !== NONE) this.successor[previous] = ref
      return ref
    }
  }

  /** The ref that followed `previous` the last time, when its label bytes stand at `start`, before `end`; else NONE. */
  follower(tenant: number, bytes: Uint8Array, start: number, end: number, previous: number): number {
    if (previous === NONE) return NONE
    const guess = this.successor[previous]!
    if (guess === NONE || this.tenants[guess] !== tenant) return NONE
    const regionEnd = start + this.regionLength[guess]!
    return regionEnd <= end && this.hasRegion(guess, bytes, start, regionEnd) ? guess : NONE
  }

  /** How many raw label bytes the series has. */
  lengthOf(ref: number): number {
    return this.regionLength[ref]!
  }

  /** Adds a series that `find` did not know. */
  add(
    tenant: number,
    region: { bytes: Uint8Array; start: number; end: number },
    series: { labels: Labels; hash: number; partition: number },
    previous: number,
  ): number {
    const { bytes, start, end } = region
    const ref = this.size++
    if (ref === this.tenants.length) this.grow()
    this.tenants[ref] = tenant
    this.partitions[ref] = series.partition
    this.seriesHashes[ref] = series.hash
    this.keepRegion(ref, bytes, start, end)
    this.keepLabels(ref, series.labels)
    this.regionHash[ref] = this.hashOf(tenant, bytes, start, end)
    this.insert(ref)
    if (previous !== NONE) this.successor[previous] = ref
    return ref
  }

  /** The series will look new at its next push: its bytes lead to this ref no more. The ref itself keeps its meaning (DICTIONARY-2). */
  forget(ref: number): void {
    this.regionLength[ref] = 0xffffffff
  }

  /** The series is one that `replica` sends for the cluster of `election`. */
  joinElection(ref: number, election: ElectionName, replica: string): void {
    let number = this.electionNumbers.get(election.key)
    if (number === undefined) {
      number = this.electionList.push(election)
      this.electionNumbers.set(election.key, number)
    }
    this.elections[ref] = number
    this.replicas[ref] = this.intern(replica)
  }

  electionOf(number: number): ElectionName {
    return this.electionList[number - 1]!
  }

  /** The election and the replica of a series, as one number; 0 where it takes part in none. */
  pairOf(ref: number): number {
    const election = this.elections[ref]!
    return election === 0 ? 0 : election * 2 ** 32 + this.replicas[ref]!
  }

  /** The number of a string; the same text always has the same number. */
  intern(text: string): number {
    const known = this.stringNumbers.get(text)
    if (known !== undefined) return known
    const number = this.strings.push(text) - 1
    this.stringNumbers.set(text, number)
    this.stringBytes += 120 + text.length
    return number
  }

  /** Calls back with the string numbers of each label of a series, in order. */
  eachLabelRef(ref: number, visit: (string: number) => void): void {
    const start = this.labelStart[ref]!
    const end = start + 2 * this.labelCount[ref]!
    for (let i = start; i < end; i++) visit(this.labelRefs[i]!)
  }

  labelCountOf(ref: number): number {
    return this.labelCount[ref]!
  }

  labelsOf(ref: number): Labels {
    const labels: string[] = []
    this.eachLabelRef(ref, (string) => labels.push(this.strings[string]!))
    return labels
  }

  /** How many series were used since this was last asked. */
  countUsed(): number {
    let count = 0
    for (let ref = 0; ref < this.size; ref++) count += this.used[ref]!
    this.used.fill(0)
    return count
  }

  private hashOf(tenant: number, bytes: Uint8Array, start: number, end: number): number {
    return (hashBytes(bytes, start, end) ^ Math.imul(tenant + 1, 0x9e3779b1)) >>> 0
  }

  private hasRegion(ref: number, bytes: Uint8Array, start: number, end: number): boolean {
    const length = this.regionLength[ref]!
    if (length !== end - start) return false
    const at = this.regionStart[ref]!
    return this.pages[this.regionPage[ref]!]!.compare(bytes, start, end, at, at + length) === 0
  }

  private keepRegion(ref: number, bytes: Uint8Array, start: number, end: number): void {
    const length = end - start
    if (this.pageUsed + length > PAGE_BYTES) {
      this.pages.push(Buffer.allocUnsafeSlow(Math.max(PAGE_BYTES, length)))
      this.pageUsed = 0
    }
    this.pages[this.pages.length - 1]!.set(bytes.subarray(start, end), this.pageUsed)
    this.regionPage[ref] = this.pages.length - 1
    this.regionStart[ref] = this.pageUsed
    this.regionLength[ref] = length
    this.pageUsed += length
  }

  private keepLabels(ref: number, labels: Labels): void {
    assert(labels.length / 2 <= 0xffff, 'a series has at most 65535 labels')
    if (this.labelRefCount + labels.length > this.labelRefs.length) {
      const wider = new Uint32Array(Math.max(this.labelRefs.length * 2, this.labelRefCount + labels.length))
      wider.set(this.labelRefs)
      this.labelRefs = wider
    }
    this.labelStart[ref] = this.labelRefCount
    this.labelCount[ref] = labels.length / 2
    for (const text of labels) this.labelRefs[this.labelRefCount++] = this.intern(text)
  }

  private insert(ref: number): void {
    if (this.size * 2 > this.table.length) {
      this.table = new Int32Array(this.table.length * 2).fill(NONE)
      for (let other = 0; other < this.size; other++) this.place(other)
    } else this.place(ref)
  }

  private place(ref: number): void {
    const mask = this.table.length - 1
    let slot = this.regionHash[ref]! & mask
    while (this.table[slot] !== NONE) slot = (slot + 1) & mask
    this.table[slot] = ref
  }

  private grow(): void {
    const capacity = this.tenants.length * 2
    const wider = <T extends Uint8Array | Uint16Array | Uint32Array | Int32Array>(column: T): T => {
      const next = new (column.constructor as new (length: number) => T)(capacity)
      next.set(column)
      return next
    }
    this.partitions = wider(this.partitions)
    this.tenants = wider(this.tenants)
    this.seriesHashes = wider(this.seriesHashes)
    this.sessions = wider(this.sessions)
    this.ids = wider(this.ids)
    this.stored = wider(this.stored)
    this.definedIn = wider(this.definedIn)
    this.used = wider(this.used)
    this.elections = wider(this.elections)
    this.replicas = wider(this.replicas)
    this.counted = wider(this.counted)
    this.regionPage = wider(this.regionPage)
    this.regionStart = wider(this.regionStart)
    this.regionLength = wider(this.regionLength)
    this.regionHash = wider(this.regionHash)
    this.labelStart = wider(this.labelStart)
    this.labelCount = wider(this.labelCount)
    const before = this.successor.length
    this.successor = wider(this.successor)
    this.successor.fill(NONE, before)
  }
}
