// The symbols of an index by number. In memory: where every 32nd stands, and the groups used last.
import { LRUCache } from 'lru-cache'
import { type Breath, UNHURRIED } from '../../base/breathing.ts'
import { compareBytes } from '../../model/labels.ts'
import { hashText } from '../label-hash.ts'
import { ByteReader, u32At } from './bytes.ts'
import { type BlockFiles, corruptAt, INDEX_FILE, readExactly } from './files.ts'
import { GroupTable } from './group-table.ts'
import { CRC_BYTES, GROUP, type Toc } from './layout.ts'
import { type Piece, readPlaces } from './ranges.ts'
import { SectionStream } from './section-stream.ts'
import type { ReadCall } from './series.ts'

/** Groups of 32 symbols that stay decoded. */
const GROUPS_CACHED_MAX = 1024
/** Of a group, in units of work (base/breathing.ts): walked over, and decoded. */
const SCAN_WORK = 32 * 50
const DECODE_WORK = 32 * 150

/** Up to 32 symbols, and of each the two words of its hash. */
export interface SymbolGroup {
  readonly texts: readonly string[]
  readonly hashes: Uint32Array
}

export class Symbols {
  private readonly files: BlockFiles
  private readonly groups = new GroupTable()
  private readonly cache = new LRUCache<number, SymbolGroup>({ max: GROUPS_CACHED_MAX })
  count = 0

  private constructor(files: BlockFiles) {
    this.files = files
  }

  /** Reads the whole section once, in windows. `isThorough`: looks at the text of every symbol, not of each 32nd. */
  static async open(
    files: BlockFiles,
    toc: Toc,
    { signal, breath = UNHURRIED, isThorough = false }: ReadCall & { readonly isThorough?: boolean } = {},
  ): Promise<Symbols> {
    const symbols = new Symbols(files)
    const start = toc.symbols + 4
    const length = u32At(await readExactly(files, INDEX_FILE, toc.symbols, start, signal), 0)
    if (start + length + CRC_BYTES > toc.series)
      throw corruptAt(INDEX_FILE, toc.symbols, 'symbols reach into the series')
    const stream = new SectionStream(files, INDEX_FILE, start, start + length, signal)
    await stream.fill(4)
    symbols.count = stream.reader.u32()
    await symbols.scan(stream, isThorough, breath)
    await stream.checkCrc()
    return symbols
  }

  /** The groups that hold the given symbols. */
  async load(
    numbers: Iterable<number>,
    { signal, breath = UNHURRIED }: ReadCall = {},
  ): Promise<ReadonlyMap<number, SymbolGroup>> {
    const found = new Map<number, SymbolGroup>()
    const missing: number[] = []
    for (const number of numbers) {
      const group = Math.floor(number / GROUP)
      if (found.has(group)) continue
      if (number >= this.count) throw corruptAt(INDEX_FILE, 0, `a series names symbol ${number} of ${this.count}`)
      const known = this.cache.get(group)
      found.set(group, known ?? EMPTY)
      if (known === undefined) missing.push(group)
    }
    missing.sort((a, b) => a - b)
    const starts = missing.map((group) => this.groups.startOf(group))
    const ends = missing.map((group) => this.groups.endOf(group))
    const pieces = await readPlaces(this.files, INDEX_FILE, starts, ends, signal)
    for (const [i, group] of missing.entries()) {
      const decoded = this.decode(group, pieces[i]!)
      found.set(group, decoded)
      this.cache.set(group, decoded)
      if (breath.isDue(DECODE_WORK)) await breath.breathe()
    }
    return found
  }

  /** What stays in memory, about. */
  get bytes(): number {
    return this.groups.bytes + this.cache.size * GROUP * 64
  }

  private async scan(stream: SectionStream, isThorough: boolean, breath: Breath): Promise<void> {
    let before: string | undefined
    for (let i = 0; i < this.count; i++) {
      if (i % GROUP === 0 && breath.isDue(SCAN_WORK)) await breath.breathe()
      if (!stream.has(10)) await stream.fill(10)
      const at = stream.reader.at
      const length = stream.reader.uvarint()
      const size = stream.reader.at - at + length
      stream.reader.at = at
      if (!stream.has(size)) await stream.fill(size)
      const { reader } = stream
      const from = reader.at
      if (i % GROUP === 0) this.groups.begin(reader.offset)
      if (isThorough || i % GROUP === 0) {
        const text = reader.text()
        if (before !== undefined && compareBytes(before, text) >= 0) reader.fail('symbols are not sorted')
        before = text
      } else {
        reader.skipText()
      }
      this.groups.add(reader.source, from, reader.at)
    }
    if (!stream.isAtEnd) throw corruptAt(INDEX_FILE, stream.offset, 'the symbols are followed by something else')
    this.groups.finish(stream.offset)
  }

  private decode(group: number, piece: Piece): SymbolGroup {
    this.groups.check(group, piece)
    const from = this.groups.startOf(group) - piece.base
    const reader = new ByteReader(piece.bytes, from, this.groups.endOf(group) - piece.base, INDEX_FILE, piece.base)
    const texts: string[] = []
    const hashes = new Uint32Array(2 * GROUP)
    while (reader.at < reader.end) {
      const text = reader.text()
      hashText(text, hashes, 2 * texts.length)
      texts.push(text)
    }
    return { texts, hashes }
  }
}

const EMPTY: SymbolGroup = { texts: [], hashes: new Uint32Array(0) }
