// The postings offset table: where the list of series of each label name and value stands. In memory: all names, and of every name
// each 32nd value. Entries are sorted by name and value, those of all series (empty name) first.
import { LRUCache } from 'lru-cache'
import { type Breath, UNHURRIED } from '../../base/breathing.ts'
import { compareBytes } from '../../model/labels.ts'
import { ByteReader, u32At } from './bytes.ts'
import { type BlockFiles, corruptAt, INDEX_FILE, readExactly } from './files.ts'
import { GroupTable } from './group-table.ts'
import { CRC_BYTES, GROUP, type Toc } from './layout.ts'
import { type Piece, readPlaces } from './ranges.ts'
import { SectionStream } from './section-stream.ts'
import type { ReadCall } from './series.ts'

/** Groups of 32 entries that stay decoded. */
const GROUPS_CACHED_MAX = 128
/** Groups of a name that are read together when all its values are looked through. */
const GROUPS_AT_ONCE = 512
/** Of trying something on a character of a value, in units of work (base/breathing.ts). */
const VALUE_WORK = 20
/** Of a group: checked and walked over, and decoded. */
const SCAN_WORK = 32 * 200
const DECODE_WORK = 32 * 100
/** Bytes that most entries fit in. */
const ENTRY_BYTES = 4096

/** Where a posting list is. */
export interface ListPlace {
  readonly start: number
  /** Not before the end of the list, as far as the table knows. */
  readonly end: number
}

export type ListVisitor = (name: string, value: string, start: number) => void

interface NameGroups {
  readonly first: number
  count: number
}

interface Group {
  readonly values: readonly string[]
  readonly starts: readonly number[]
}

export class PostingsTable {
  private readonly files: BlockFiles
  private readonly toc: Toc
  private readonly names = new Map<string, NameGroups>()
  private readonly groups = new GroupTable()
  private readonly firstValues: string[] = []
  /** Per group the position of its first posting list. */
  private readonly firstLists: number[] = []
  private readonly cache = new LRUCache<number, Group>({ max: GROUPS_CACHED_MAX })
  private textBytes = 0

  private constructor(files: BlockFiles, toc: Toc) {
    this.files = files
    this.toc = toc
  }

  /** Reads the whole table once, in windows; calls `visit` for every entry. */
  static async open(
    files: BlockFiles,
    toc: Toc,
    tableEnd: number,
    { signal, breath = UNHURRIED, visit }: ReadCall & { readonly visit?: ListVisitor } = {},
  ): Promise<PostingsTable> {
    const table = new PostingsTable(files, toc)
    const start = toc.postingsTable + 4
    const length = u32At(await readExactly(files, INDEX_FILE, toc.postingsTable, start, signal), 0)
    if (start + length + CRC_BYTES !== tableEnd) {
      throw corruptAt(INDEX_FILE, toc.postingsTable, 'the postings offset table does not end at the table of contents')
    }
    const stream = new SectionStream(files, INDEX_FILE, start, start + length, signal)
    await stream.fill(4)
    await table.scan(stream, { count: stream.reader.u32(), visit, breath })
    await stream.checkCrc()
    if (!table.names.has('')) throw corruptAt(INDEX_FILE, toc.postingsTable, 'there is no list of all series')
    return table
  }

  /** All label names, sorted by bytes. */
  labelNames(): string[] {
    return [...this.names.keys()].filter((name) => name !== '')
  }

  /** The lists of those of the values that the name has. */
  async find(name: string, values: readonly string[], call: ReadCall = {}): Promise<ListPlace[]> {
    const groups = this.names.get(name)
    if (groups === undefined) return []
    const wanted = new Map<number, string[]>()
    for (const value of values) {
      const group = this.groupOf(groups, value)
      if (group === undefined) continue
      const others = wanted.get(group)
      if (others === undefined) wanted.set(group, [value])
      else others.push(value)
    }
    const numbers = [...wanted.keys()].sort((a, b) => a - b)
    const loaded = await this.load(numbers, call)
    const places: ListPlace[] = []
    numbers.forEach((number, i) => {
      const group = loaded[i]!
      for (const value of wanted.get(number)!) {
        const at = group.values.indexOf(value)
        if (at >= 0) places.push(this.placeOf(number, group, at))
      }
    })
    return places
  }

  /** The list of all series. */
  async all(call: ReadCall = {}): Promise<ListPlace[]> {
    return this.find('', [''], call)
  }

  /** Calls back for every value of a name, in order, with the place of its list. */
  async eachValue(
    name: string,
    fn: (value: string, place: () => ListPlace) => void,
    call: ReadCall = {},
  ): Promise<void> {
    const { breath = UNHURRIED } = call
    const groups = this.names.get(name)
    if (groups === undefined) return
    const end = groups.first + groups.count
    for (let from = groups.first; from < end; from += GROUPS_AT_ONCE) {
      const numbers = Array.from({ length: Math.min(GROUPS_AT_ONCE, end - from) }, (_, i) => from + i)
      const loaded = await this.load(numbers, call)
      for (const [i, group] of loaded.entries()) {
        for (let at = 0; at < group.values.length; at++) {
          const value = group.values[at]!
          fn(value, () => this.placeOf(from + i, group, at))
          if (breath.isDue(VALUE_WORK * (1 + value.length))) await breath.breathe()
        }
      }
    }
  }

  /** What stays in memory, about. */
  get bytes(): number {
    return this.groups.bytes + this.textBytes + this.groups.count * 32 + this.cache.size * GROUP * 64
  }

  private async scan(
    stream: SectionStream,
    { count, visit, breath }: { count: number; visit: ListVisitor | undefined; breath: Breath },
  ): Promise<void> {
    let name: string | undefined
    let value = ''
    let inName = 0
    for (let i = 0; i < count; i++) {
      if (i % GROUP === 0 && breath.isDue(SCAN_WORK)) await breath.breathe()
      if (!entryFits(stream, ENTRY_BYTES)) await fillEntry(stream)
      const { reader } = stream
      const from = reader.at
      const offset = reader.offset
      if (reader.uvarint() !== 2) reader.fail('an entry of the postings offset table is no pair')
      const entryName = reader.text()
      const entryValue = reader.text()
      const list = reader.uvarint()
      const order = name === undefined ? -1 : compareBytes(name, entryName) || compareBytes(value, entryValue)
      if (order >= 0) reader.fail('the postings offset table is not sorted')
      if (list < this.toc.postings || list + 8 > this.toc.postingsTable) reader.fail('a list lies outside the postings')
      inName = name === entryName ? inName + 1 : 0
      name = entryName
      value = entryValue
      if (inName % GROUP === 0) this.beginGroup(name, value, offset, list)
      this.groups.add(reader.source, from, reader.at)
      visit?.(name, value, list)
    }
    if (!stream.isAtEnd)
      throw corruptAt(INDEX_FILE, stream.offset, 'the postings offset table is followed by something else')
    this.groups.finish(stream.offset)
  }

  private beginGroup(name: string, value: string, offset: number, list: number): void {
    const groups = this.names.get(name)
    if (groups === undefined) this.names.set(name, { first: this.groups.count, count: 1 })
    else groups.count++
    this.groups.begin(offset)
    this.firstValues.push(value)
    this.firstLists.push(list)
    this.textBytes += 24 + value.length + (groups === undefined ? 64 + name.length : 0)
  }

  /** The group that holds the value if the name has it. */
  private groupOf({ first, count }: NameGroups, value: string): number | undefined {
    let low = first
    let high = first + count
    while (low < high) {
      const middle = (low + high) >>> 1
      if (compareBytes(this.firstValues[middle]!, value) <= 0) low = middle + 1
      else high = middle
    }
    return low === first ? undefined : low - 1
  }

  private placeOf(number: number, group: Group, at: number): ListPlace {
    const start = group.starts[at]!
    const next = at + 1 < group.starts.length ? group.starts[at + 1]! : this.firstLists[number + 1]
    const end = next !== undefined && next > start ? next : this.toc.postingsTable
    return { start, end }
  }

  private async load(numbers: readonly number[], { signal, breath = UNHURRIED }: ReadCall): Promise<Group[]> {
    const known = numbers.map((number) => this.cache.get(number))
    const missing = numbers.filter((_, i) => known[i] === undefined)
    const starts = missing.map((number) => this.groups.startOf(number))
    const ends = missing.map((number) => this.groups.endOf(number))
    const pieces = await readPlaces(this.files, INDEX_FILE, starts, ends, signal)
    let next = 0
    const loaded: Group[] = []
    for (const [i, number] of numbers.entries()) {
      const cached = known[i]
      const group = cached ?? this.decode(number, pieces[next++]!)
      loaded.push(group)
      if (cached === undefined && breath.isDue(DECODE_WORK)) await breath.breathe()
    }
    return loaded
  }

  private decode(number: number, piece: Piece): Group {
    this.groups.check(number, piece)
    const group = decodeGroup(piece.bytes, piece.base, this.groups.startOf(number), this.groups.endOf(number))
    this.cache.set(number, group)
    return group
  }
}

function decodeGroup(bytes: Uint8Array, base: number, start: number, end: number): Group {
  const reader = new ByteReader(bytes, start - base, end - base, INDEX_FILE, base)
  const values: string[] = []
  const starts: number[] = []
  while (reader.at < reader.end) {
    reader.uvarint()
    reader.skipText()
    values.push(reader.text())
    starts.push(reader.uvarint())
  }
  return { values, starts }
}

/** Makes the next entry, whatever its length, readable in the window. */
async function fillEntry(stream: SectionStream): Promise<void> {
  for (let wanted = ENTRY_BYTES; !entryFits(stream, wanted); wanted *= 4) await stream.fill(wanted)
}

/** Whether the next entry is in the window; asked again with a greater `wanted` when it is longer. */
function entryFits(stream: SectionStream, wanted: number): boolean {
  if (!stream.has(wanted)) return false
  const { reader } = stream
  const at = reader.at
  const left = reader.end - at
  if (left < wanted) return true // the last bytes of the section
  reader.uvarint()
  let size = reader.uvarint() + reader.at - at
  if (size + 20 <= left) {
    reader.at = at + size
    size += reader.uvarint() + reader.at - at - size
  }
  reader.at = at
  return size + 20 <= left
}
