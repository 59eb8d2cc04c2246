// Reads a block through BlockFiles: only what a question needs, in batches.
//
// Invariants
//   BLOCK-3  What stays in memory is the table of contents, samples of the tables of symbols and postings, and bounded caches; and what questions
//       found, where the caller keeps it (KeptSeries): no checksum is looked at again for that.
//   BLOCK-4  Whatever is used was checked by a checksum that covers it, at every read. Damage is a CorruptError that names file and byte;
//       it never makes an answer smaller.

import { UNHURRIED } from '../../base/breathing.ts'
import { sortLong } from '../../base/long-sort.ts'
import { ALL_TIME, type Interval } from '../../model/interval.ts'
import { compareBytes } from '../../model/labels.ts'
import type { Matcher } from '../../model/matcher.ts'
import { crc32c } from '../../wire/crc32c.ts'
import { HASH_A_EMPTY, HASH_B_EMPTY, mixA, mixB } from '../label-hash.ts'
import { type CompiledMatcher, compileForSelect } from '../matcher-set.ts'
import { ByteReader, u32At } from './bytes.ts'
import { chooseSeries } from './choose-series.ts'
import { CHUNK_BYTES_GUESS, ChunkFiles } from './chunk-files.ts'
import { type BlockFiles, corruptAt, INDEX_FILE, readExactly } from './files.ts'
import {
  GROUP,
  INDEX_HEADER_BYTES,
  INDEX_MAGIC,
  INDEX_VERSION,
  SERIES_ALIGN,
  TOC_BYTES,
  type Toc,
  TWO_32,
} from './layout.ts'
import type { BlockMeta } from './meta.ts'
import { PostingsTable } from './postings-table.ts'
import type { BlockSeriesLabels, ReadCall, ReadSeries } from './series.ts'
import { PLACE, type Places, SeriesEntries, type SeriesEntry } from './series-entries.ts'
import { type SymbolGroup, Symbols } from './symbols.ts'

/** Series that are looked at together. */
const BATCH_SERIES_MAX = 512
/** Of giving a series its labels, and of trying a matcher on it, in units of work (base/breathing.ts). */
const SERIES_WORK = 1_000
/** Chunk bytes of a batch, about: one series may have more. As much is read ahead of the batch that is used, in so many batches. */
const BATCH_BYTES_MAX = 2 * 1024 * 1024
const BATCHES_AHEAD_MAX = 4

export interface FoundSeries {
  readonly head: BlockSeriesLabels
  /** Of all its chunks. */
  readonly places: Places
}

/** Remembers which series of a block passed which matchers; may forget at any time. */
export interface KeptSeries {
  get(key: string): readonly FoundSeries[] | undefined
  set(key: string, found: readonly FoundSeries[], bytes: number): void
  /** What weighs more is not offered. */
  readonly bytesMax: number
}

/** Only of short blocks: most questions want all chunks of those. */
const KEPT_SPAN_MS_MAX = 24 * 3_600_000

interface Parts {
  readonly kept: KeptSeries | undefined
  readonly files: BlockFiles
  readonly meta: BlockMeta
  readonly toc: Toc
  readonly symbols: Symbols
  readonly table: PostingsTable
  readonly isThorough: boolean
}

export class BlockReader {
  readonly meta: BlockMeta
  private readonly files: BlockFiles
  private readonly toc: Toc
  private readonly symbols: Symbols
  private readonly table: PostingsTable
  private readonly entries: SeriesEntries
  private readonly chunks: ChunkFiles

  private readonly kept: KeptSeries | undefined

  private constructor({ files, meta, toc, symbols, table, isThorough, kept }: Parts) {
    this.kept = meta.maxTime - meta.minTime <= KEPT_SPAN_MS_MAX ? kept : undefined
    this.files = files
    this.meta = meta
    this.toc = toc
    this.symbols = symbols
    this.table = table
    this.entries = new SeriesEntries(files, toc)
    this.chunks = new ChunkFiles(files, meta.carillon?.files ?? [], isThorough)
  }

  /** Reads symbols and postings offset table once, in windows. CorruptError when the index is not as it was written. `isThorough`: for a
   *  complete check, also looks at what no answer depends on. */
  static async open(
    files: BlockFiles,
    meta: BlockMeta,
    call: ReadCall & { readonly isThorough?: boolean; readonly kept?: KeptSeries } = {},
  ): Promise<BlockReader> {
    const { signal } = call
    const size = await files.size(INDEX_FILE, signal)
    const listed = meta.carillon?.files.find(({ name }) => name === INDEX_FILE)
    if (listed !== undefined && listed.size !== size) {
      throw corruptAt(INDEX_FILE, size, `has ${size} bytes, meta.json says ${listed.size}`)
    }
    const toc = await readToc(files, size, signal)
    const [symbols, table] = await Promise.all([
      Symbols.open(files, toc, call),
      PostingsTable.open(files, toc, size - TOC_BYTES, call),
    ])
    return new BlockReader({ files, meta, toc, symbols, table, isThorough: call.isThorough ?? false, kept: call.kept })
  }

  /** The series that pass all matchers and have chunks in the range, with those chunks whole: batches in the order of labels. Throws
   *  RefusedError for a bad pattern. */
  async *select(matchers: readonly Matcher[], range: Interval, call: ReadCall = {}): AsyncGenerator<ReadSeries[]> {
    if (this.overlaps(range)) this.chunks.ahead()
    yield* this.withChunks(oneAhead(this.find(matchers, range, call)), range, call)
  }

  /** The same without chunks. */
  async *series(
    matchers: readonly Matcher[],
    range: Interval,
    call: ReadCall = {},
  ): AsyncGenerator<BlockSeriesLabels[]> {
    for await (const found of this.find(matchers, range, call)) yield found.map(({ head }) => head)
  }

  /** Every series with all chunks in the order of labels, read from start to end. */
  async *allSeries(call: ReadCall = {}): AsyncGenerator<ReadSeries[]> {
    let count = 0
    for await (const entries of oneAhead(this.entries.walk(BATCH_SERIES_MAX, call.signal))) {
      count += entries.length
      const found = await this.resolve(entries, [], ALL_TIME, call)
      for (const batch of batchesOf(found, ALL_TIME)) yield await this.readChunks(batch, call)
    }
    const { numSeries } = this.meta.stats
    if (numSeries === undefined || count === numSeries) return
    throw corruptAt(INDEX_FILE, this.toc.series, `holds ${count} series, meta.json says ${numSeries}`)
  }

  /** Sorted by bytes. Without matchers the range is that of the block. */
  async labelNames(matchers: readonly Matcher[], range: Interval, call: ReadCall = {}): Promise<string[]> {
    if (matchers.length === 0) return this.overlaps(range) ? this.table.labelNames() : []
    const names = new Set<string>()
    for await (const batch of this.series(matchers, range, call)) {
      for (const { labels } of batch) for (let i = 0; i < labels.length; i += 2) names.add(labels[i]!)
    }
    return sortLong([...names], compareBytes, call.breath ?? UNHURRIED)
  }

  /** Sorted by bytes. Without matchers the range is that of the block. */
  async labelValues(
    name: string,
    matchers: readonly Matcher[],
    range: Interval,
    call: ReadCall = {},
  ): Promise<string[]> {
    const values = new Set<string>()
    if (matchers.length === 0) {
      if (name === '' || !this.overlaps(range)) return []
      await this.table.eachValue(name, (value) => values.add(value), call)
      return [...values]
    }
    const isThere: Matcher = { name, operator: '!=', value: '' }
    for await (const batch of this.series([...matchers, isThere], range, call)) {
      for (const { labels } of batch)
        for (let i = 0; i < labels.length; i += 2) if (labels[i] === name) values.add(labels[i + 1]!)
    }
    return sortLong([...values], compareBytes, call.breath ?? UNHURRIED)
  }

  /** What stays in memory between reads, about. */
  get bytes(): number {
    return this.symbols.bytes + this.table.bytes
  }

  private overlaps({ startMs, endMs }: Interval): boolean {
    return startMs < this.meta.maxTime && endMs >= this.meta.minTime
  }

  private async *find(
    matchers: readonly Matcher[],
    range: Interval,
    call: ReadCall,
  ): AsyncGenerator<readonly FoundSeries[]> {
    const { signal } = call
    const compiled = compileForSelect(matchers)
    if (!this.overlaps(range)) return
    const { kept } = this
    if (kept === undefined) {
      yield* this.look(compiled, range, call)
      return
    }
    const key = keyOf(matchers)
    const known = kept.get(key)
    if (known !== undefined) {
      for (let from = 0; from < known.length; from += BATCH_SERIES_MAX) {
        signal?.throwIfAborted()
        const found = within(known.slice(from, from + BATCH_SERIES_MAX), range)
        if (found.length > 0) yield found
      }
      return
    }
    const all: FoundSeries[] = []
    let bytes = 0
    for await (const batch of this.look(compiled, ALL_TIME, call)) {
      for (const one of batch) bytes += weightOf(one)
      if (bytes <= kept.bytesMax) all.push(...batch)
      const found = within(batch, range)
      if (found.length > 0) yield found
    }
    if (bytes <= kept.bytesMax) kept.set(key, all, bytes)
  }

  private async *look(
    compiled: readonly CompiledMatcher[],
    range: Interval,
    call: ReadCall,
  ): AsyncGenerator<readonly FoundSeries[]> {
    const { signal } = call
    const { refs, left } = await chooseSeries({ files: this.files, toc: this.toc, table: this.table }, compiled, call)
    for (let from = 0; from < refs.length; from += BATCH_SERIES_MAX) {
      signal?.throwIfAborted()
      const entries = await this.entries.read(refs.subarray(from, from + BATCH_SERIES_MAX), signal)
      const found = await this.resolve(entries, left, range, call)
      if (found.length > 0) yield found
    }
  }

  /** Gives the entries their texts, and keeps those that pass the matchers and have chunks in the range. */
  private async resolve(
    entries: readonly SeriesEntry[],
    matchers: readonly CompiledMatcher[],
    range: Interval,
    call: ReadCall,
  ): Promise<FoundSeries[]> {
    const { breath = UNHURRIED } = call
    const inRange = entries.filter(({ places }) => reaches(places, range))
    const numbers = new Set<number>()
    for (const { symbols } of inRange) for (const number of symbols) numbers.add(number)
    const groups = await this.symbols.load(numbers, call)
    const found: FoundSeries[] = []
    for (const entry of inRange) {
      const head = labelsOf(entry, groups)
      if (passes(head, matchers)) found.push({ head, places: entry.places })
      if (breath.isDue(SERIES_WORK * (1 + matchers.length))) await breath.breathe()
    }
    return found
  }

  /** The next batches are read while one is used. */
  private async *withChunks(
    source: AsyncGenerator<readonly FoundSeries[]>,
    range: Interval,
    call: ReadCall,
  ): AsyncGenerator<ReadSeries[]> {
    const ahead: { readonly series: Promise<ReadSeries[]>; readonly bytes: number }[] = []
    let aheadBytes = 0
    const next = () => {
      const { series, bytes } = ahead.shift()!
      aheadBytes -= bytes
      return series
    }
    for await (const found of source) {
      for (const batch of batchesOf(found, range)) {
        const series = this.readChunks(batch, call)
        series.catch(() => {}) // it is awaited below, unless the consumer leaves before
        ahead.push({ series, bytes: batch.bytes })
        aheadBytes += batch.bytes
        while (ahead.length > 1 && (aheadBytes > BATCH_BYTES_MAX || ahead.length > BATCHES_AHEAD_MAX))
          yield await next()
      }
    }
    while (ahead.length > 0) yield await next()
  }

  private async readChunks({ found, places, ends }: Batch, { signal }: ReadCall): Promise<ReadSeries[]> {
    signal?.throwIfAborted()
    const chunks = await this.chunks.read(places, signal)
    return ends.map((end, i) => {
      const { labels, hashA, hashB, ref } = found[i]!.head
      return { labels, hashA, hashB, ref, chunks: chunks.slice(i === 0 ? 0 : ends[i - 1], end) }
    })
  }
}

/** Series of which the chunks are read together. */
interface Batch {
  readonly found: readonly FoundSeries[]
  readonly places: Places
  /** Per series where in `places` its chunks end, in chunks. */
  readonly ends: readonly number[]
  /** Of the chunks, about. */
  readonly bytes: number
}

function* batchesOf(found: readonly FoundSeries[], range: Interval): Generator<Batch> {
  for (let from = 0; from < found.length; ) {
    const places: number[] = []
    const ends: number[] = []
    let bytes = 0
    for (let to = from; to < found.length && (to === from || bytes < BATCH_BYTES_MAX); to++) {
      bytes += addPlaces(found[to]!.places, range, places)
      ends.push(places.length / PLACE)
    }
    yield { found: found.slice(from, from + ends.length), places, ends, bytes }
    from += ends.length
  }
}

function keyOf(matchers: readonly Matcher[]): string {
  return JSON.stringify(matchers.map(({ name, operator, value }) => [name, operator, value]))
}

/** Bytes of a series in memory, about: its texts are mostly shared. */
function weightOf({ head, places }: FoundSeries): number {
  return 220 + 8 * head.labels.length + 8 * places.length
}

/** Those with chunks in the range. */
function within(found: readonly FoundSeries[], range: Interval): readonly FoundSeries[] {
  const isIn = ({ places }: FoundSeries) => reaches(places, range)
  return found.every(isIn) ? found : found.filter(isIn)
}

function isInRange(places: Places, at: number, { startMs, endMs }: Interval): boolean {
  return places[at + 1]! <= endMs && places[at + 2]! >= startMs
}

function reaches(places: Places, range: Interval): boolean {
  for (let at = 0; at < places.length; at += PLACE) if (isInRange(places, at, range)) return true
  return false
}

/** Puts those in the range behind the others; answers the bytes of their chunks, about. */
function addPlaces(places: Places, range: Interval, sink: number[]): number {
  let bytes = 0
  for (let at = 0; at < places.length; at += PLACE) {
    if (!isInRange(places, at, range)) continue
    const ref = places[at]!
    sink.push(ref, places[at + 1]!, places[at + 2]!)
    const gap = at + PLACE < places.length ? places[at + PLACE]! - ref : CHUNK_BYTES_GUESS
    bytes += gap > 0 && gap < BATCH_BYTES_MAX ? gap : CHUNK_BYTES_GUESS
  }
  return bytes
}

/** The same items, each asked for while the one before is used. */
async function* oneAhead<T>(source: AsyncGenerator<T>): AsyncGenerator<T> {
  const ask = (): Promise<IteratorResult<T>> => {
    const asked = source.next()
    asked.catch(() => {}) // it is awaited below, unless the consumer leaves before
    return asked
  }
  let next = ask()
  try {
    for (;;) {
      const { done, value } = await next
      if (done === true) return
      next = ask()
      yield value
    }
  } finally {
    await source.return(undefined)
  }
}

function labelsOf({ ref, symbols }: SeriesEntry, groups: ReadonlyMap<number, SymbolGroup>): BlockSeriesLabels {
  const labels: string[] = []
  let hashA = HASH_A_EMPTY
  let hashB = HASH_B_EMPTY
  for (const number of symbols) {
    const { texts, hashes } = groups.get(Math.floor(number / GROUP))!
    const at = number % GROUP
    labels.push(texts[at]!)
    hashA = mixA(hashA, hashes[2 * at]!)
    hashB = mixB(hashB, hashes[2 * at + 1]!)
  }
  return { labels, hashA: hashA >>> 0, hashB: hashB >>> 0, ref }
}

function passes({ labels }: BlockSeriesLabels, matchers: readonly CompiledMatcher[]): boolean {
  for (const { name, matches, matchesEmpty } of matchers) {
    let at = 0
    while (at < labels.length && labels[at] !== name) at += 2
    if (!(at < labels.length ? matches(labels[at + 1]!) : matchesEmpty)) return false
  }
  return true
}

/** Throws CorruptError when the index has another magic or version, or a table of contents that does not fit. */
export async function readToc(files: BlockFiles, size: number, signal?: AbortSignal): Promise<Toc> {
  if (size < INDEX_HEADER_BYTES + TOC_BYTES) throw corruptAt(INDEX_FILE, 0, `has only ${size} bytes`)
  const base = size - TOC_BYTES
  const [header, bytes] = await Promise.all([
    readExactly(files, INDEX_FILE, 0, INDEX_HEADER_BYTES, signal),
    readExactly(files, INDEX_FILE, base, size, signal),
  ])
  if (u32At(header, 0) !== INDEX_MAGIC) throw corruptAt(INDEX_FILE, 0, 'does not begin as an index')
  if (header[4] !== INDEX_VERSION)
    throw corruptAt(INDEX_FILE, 4, `has version ${header[4]}, only ${INDEX_VERSION} is read`)
  if (crc32c(bytes, 0, TOC_BYTES - 4) !== u32At(bytes, TOC_BYTES - 4)) {
    throw corruptAt(INDEX_FILE, base, 'the table of contents does not match its checksum')
  }
  const reader = new ByteReader(bytes, 0, TOC_BYTES, INDEX_FILE, base)
  const toc: Toc = {
    symbols: reader.u64(),
    series: reader.u64(),
    labelIndices: reader.u64(),
    labelIndicesTable: reader.u64(),
    postings: reader.u64(),
    postingsTable: reader.u64(),
  }
  const order = [INDEX_HEADER_BYTES, toc.symbols, toc.series, toc.labelIndices, toc.postings, toc.postingsTable, base]
  if (order.some((position, i) => i > 0 && position < order[i - 1]!) || toc.labelIndices > SERIES_END_MAX) {
    throw corruptAt(INDEX_FILE, base, 'the sections are not in order')
  }
  return toc
}

/** Refs have 32 bits. */
const SERIES_END_MAX = SERIES_ALIGN * TWO_32
