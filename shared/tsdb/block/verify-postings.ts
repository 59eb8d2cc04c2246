// Whether the postings of an index name exactly the series that have each label value.

import { crc32c } from '../../wire/crc32c.ts'
import { grownF64, grownU32 } from '../chunk/growth.ts'
import { hashText } from '../label-hash.ts'
import { u32At } from './bytes.ts'
import { type BlockFiles, corruptAt, INDEX_FILE } from './files.ts'
import { CRC_BYTES, POSTINGS_ALIGN, type Toc } from './layout.ts'
import { decodeList } from './posting-lists.ts'
import { PostingsTable } from './postings-table.ts'
import { SectionStream } from './section-stream.ts'
import type { BlockSeries, ReadCall } from './series.ts'

/** What is known of one label name from one side. */
interface Tally {
  count: number
  sumA: number
  sumB: number
}

const words = new Uint32Array(2)

export class PostingsCheck {
  /** By name; '' stands for the list of all series. */
  private readonly fromLists = new Map<string, Tally>()
  private readonly fromSeries = new Map<string, Tally>([['', { count: 0, sumA: 0, sumB: 0 }]])
  /** Of every list: its position, the number of its name, the hash of its value. */
  private starts = new Float64Array(64)
  private names = new Uint32Array(64)
  private hashes = new Uint32Array(128)
  private listCount = 0
  private readonly nameTexts: string[] = []

  /** Reads the postings offset table. */
  async readTable(files: BlockFiles, toc: Toc, tableEnd: number, call: ReadCall): Promise<void> {
    await PostingsTable.open(files, toc, tableEnd, {
      ...call,
      visit: (name, value, start) => this.note(name, value, start),
    })
  }

  /** Reads all lists, and the sections of label indices of older versions; they stand in the order of the table. */
  async readLists(files: BlockFiles, toc: Toc, signal?: AbortSignal): Promise<void> {
    await eachFrame(files, { start: toc.labelIndices, end: toc.postings }, () => {}, signal)
    let list = 0
    const takeList = (bytes: Uint8Array, at: number, position: number): void => {
      if (list === this.listCount || this.starts[list] !== position) {
        throw corruptAt(INDEX_FILE, position, 'a posting list that the table does not name')
      }
      this.addList(list++, decodeList(bytes, at, position - at))
    }
    const isOld = toc.labelIndicesTable < toc.postingsTable && toc.labelIndicesTable >= toc.postings
    const end = isOld ? toc.labelIndicesTable : toc.postingsTable
    await eachFrame(files, { start: toc.postings, end }, takeList, signal)
    if (list < this.listCount)
      throw corruptAt(INDEX_FILE, this.starts[list]!, 'the table names a posting list that is not there')
    if (isOld) await eachFrame(files, { start: end, end: toc.postingsTable }, () => {}, signal)
  }

  addSeries({ ref, labels }: BlockSeries): void {
    add(tallyOf(this.fromSeries, ''), 0, 0, ref)
    for (let i = 0; i < labels.length; i += 2) {
      hashText(labels[i + 1]!, words, 0)
      add(tallyOf(this.fromSeries, labels[i]!), words[0]!, words[1]!, ref)
    }
  }

  /** In words, where lists and series differ. */
  *differences(): Generator<string> {
    for (const name of new Set([...this.fromLists.keys(), ...this.fromSeries.keys()])) {
      const listed = this.fromLists.get(name)
      const found = this.fromSeries.get(name)
      const areEqual = listed?.count === found?.count && listed?.sumA === found?.sumA && listed?.sumB === found?.sumB
      if (areEqual) continue
      const what = name === '' ? 'the list of all series' : `the lists of the label ${name}`
      yield `${what} name ${listed?.count ?? 0} series, the series have it ${found?.count ?? 0} times; or they are others`
    }
  }

  private note(name: string, value: string, start: number): void {
    const list = this.listCount++
    if (list === this.starts.length) {
      this.starts = grownF64(this.starts, list + 1)
      this.names = grownU32(this.names, this.starts.length)
      this.hashes = grownU32(this.hashes, 2 * this.starts.length)
    }
    if (this.nameTexts.at(-1) !== name) this.nameTexts.push(name)
    this.starts[list] = start
    this.names[list] = this.nameTexts.length - 1
    if (name === '') this.hashes.fill(0, 2 * list, 2 * list + 2)
    else hashText(value, this.hashes, 2 * list)
  }

  private addList(list: number, refs: Uint32Array): void {
    const tally = tallyOf(this.fromLists, this.nameTexts[this.names[list]!]!)
    for (const ref of refs) add(tally, this.hashes[2 * list]!, this.hashes[2 * list + 1]!, ref)
  }
}

function tallyOf(tallies: Map<string, Tally>, name: string): Tally {
  let tally = tallies.get(name)
  if (tally === undefined) {
    tally = { count: 0, sumA: 0, sumB: 0 }
    tallies.set(name, tally)
  }
  return tally
}

function add(tally: Tally, valueA: number, valueB: number, ref: number): void {
  let a = Math.imul(valueA ^ Math.imul(ref, 0x9e3779b1), 0x85ebca6b)
  a = Math.imul(a ^ (a >>> 15) ^ valueB, 0x7feb352d)
  let b = Math.imul(valueB ^ Math.imul(ref, 0xcc9e2d51), 0xc2b2ae35)
  b = Math.imul(b ^ (b >>> 13) ^ a, 0x846ca68b)
  tally.count++
  tally.sumA = (tally.sumA + (a ^ (a >>> 16))) | 0
  tally.sumB = (tally.sumB + (b ^ (b >>> 15))) | 0
}

/** Calls back for each `length | bytes | checksum` between two positions, aligned to four bytes by zeros. */
async function eachFrame(
  files: BlockFiles,
  { start, end }: { readonly start: number; readonly end: number },
  fn: (bytes: Uint8Array, at: number, position: number) => void,
  signal?: AbortSignal,
): Promise<void> {
  const stream = new SectionStream(files, INDEX_FILE, start, end, signal)
  for (;;) {
    await stream.fill(2 * POSTINGS_ALIGN)
    while (!stream.isAtEnd && stream.offset % POSTINGS_ALIGN !== 0) {
      if (stream.reader.u8() !== 0) stream.reader.fail('there is something between two sections')
    }
    if (stream.isAtEnd) return
    if (!stream.has(4)) await stream.fill(4)
    if (stream.reader.end - stream.reader.at < 4) stream.reader.fail('a section ends too early')
    const size = 4 + u32At(stream.reader.source, stream.reader.at) + CRC_BYTES
    if (stream.offset + size > end) stream.reader.fail('a section is too long')
    await stream.fill(size)
    const { reader } = stream
    const from = reader.at + 4
    const to = reader.at + size - CRC_BYTES
    if (crc32c(reader.source, from, to) !== u32At(reader.source, to))
      reader.fail('a section does not match its checksum')
    fn(reader.source, reader.at, reader.offset)
    reader.at += size
  }
}
