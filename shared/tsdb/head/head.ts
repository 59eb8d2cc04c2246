// The head: the recent samples of one tenant in one partition, in memory.
//
// A pure state machine (LOG-9): what it holds is a function of the log's records applied to it. No clock, configuration or chance. It is
// not aware of other tasks: nothing here awaits, and views handed out are valid until the next append.
//
// It owns the series (labels, postings), their chunks, the segments' digests and the newest exemplars. Bounds: strings, series and
// samples by the tenant's limits and by `dropSegments`; exemplars by `exemplarsMax`.
import type { Histogram } from '../../model/histogram.ts'
import { ALL_TIME, type Interval } from '../../model/interval.ts'
import { compareBytes, type Labels, labelOf } from '../../model/labels.ts'
import type { Matcher } from '../../model/matcher.ts'
import type { Place } from '../../model/place.ts'
import { SampleColumns, type SampleRun } from '../columns.ts'
import { type Deletion, reachOf } from '../delete-filter.ts'
import { HASH_A_EMPTY, HASH_B_EMPTY, mixA, mixB } from '../label-hash.ts'
import { compileForSelect, compileMatchers } from '../matcher-set.ts'
import { mergeRuns } from '../merge.ts'
import type { ChunkVisitor } from './chunk-reading.ts'
import { digestText } from './digest.ts'
import { type Exemplar, ExemplarRing, type StatedExemplar } from './exemplars.ts'
import { HiddenSamples, type Hiding } from './hidden-samples.ts'
import { joinedSums } from './joined-digest.ts'
import { type Part, Parts } from './parts.ts'
import { Postings } from './postings.ts'
import { RefCursor } from './ref-cursor.ts'
import { selectRefs } from './select.ts'
import { type Segment, SeriesChunks } from './series-chunks.ts'
import { DEAD, SeriesTable } from './series-table.ts'
import type { StringTable } from './string-table.ts'

export interface HeadOptions {
  /** Chunks are cut at this many samples. */
  readonly samplesPerChunkMax?: number
  /** The newest exemplars that are kept. */
  readonly exemplarsMax?: number
  /** The life of the log that all of it comes from. */
  readonly incarnation?: string
}

const NOTHING: readonly Interval[] = []
const NOWHERE: Place = { incarnation: '', segment: 0, seq: 0 }

export class Head {
  private readonly strings: StringTable
  private readonly table: SeriesTable
  private readonly postings = new Postings()
  private readonly samples: SeriesChunks
  private readonly parts: Parts
  private readonly hidden: HiddenSamples
  private hiddenVersion = 0
  private readonly ring: ExemplarRing
  /** By number of the first: the sums of parts that are one, and of what state of them. */
  private readonly joined = new Map<number, { readonly state: string; readonly sums: Int32Array }>()
  /** Counts the compactions: what was remembered by ref of another generation is void. */
  generation = 0
  private readonly cursors = new Set<RefCursor>()
  private isDisposed = false
  /** Columns to decode overlapping chunks into, kept for the next read. */
  private readonly pool: SampleColumns[] = []

  constructor(
    strings: StringTable,
    { samplesPerChunkMax = 120, exemplarsMax = 10_000, incarnation = '' }: HeadOptions = {},
  ) {
    this.strings = strings
    this.parts = new Parts(incarnation)
    this.table = new SeriesTable(strings)
    this.samples = new SeriesChunks(samplesPerChunkMax)
    this.ring = new ExemplarRing(exemplarsMax)
    this.hidden = new HiddenSamples({
      find: (selectors) => this.refsOf(selectors),
      labelsOf: (ref) => this.table.labels(ref),
      count: () => this.table.count,
    })
  }

  /** Finds or makes the series of a label set, given as string numbers [name#, value#, …] sorted by name bytes, and returns its dense
   *  ref: 0, 1, 2, … */
  series(labelRefs: Uint32Array | readonly number[], start = 0, end = labelRefs.length): number {
    const found = this.table.findOrAdd(labelRefs, start, end)
    if (found >= 0) return found
    const ref = -1 - found
    let hashA = HASH_A_EMPTY
    let hashB = HASH_B_EMPTY
    for (let i = start; i < end; i++) {
      hashA = mixA(hashA, this.strings.hashA(labelRefs[i]!))
      hashB = mixB(hashB, this.strings.hashB(labelRefs[i]!))
    }
    this.samples.addSeries(hashA, hashB)
    for (let i = start; i < end; i++) this.strings.use(labelRefs[i]!)
    for (let i = start; i < end; i += 2) this.postings.add(ref, labelRefs[i]!, labelRefs[i + 1]!)
    return ref
  }

  /** Applies element `index` of `values` at `time` (ms), read in segment `segment`. Returns APPENDED_NEW, _EQUAL, _REPLACED or _KEPT
   *  (series-chunks.ts). */
  appendFloat(ref: number, segment: number, time: number, values: Float64Array, index: number): number {
    return this.samples.appendFloat(ref, this.parts.at(segment), time, values, index)
  }

  /** The same for a float given as its two words. */
  appendBits(ref: number, segment: number, time: number, low: number, high: number): number {
    return this.samples.appendBits(ref, this.parts.at(segment), time, low, high)
  }

  /** The same for a float that has a start time (ms, not 0). */
  appendStarted(ref: number, segment: number, time: number, low: number, high: number, startTime: number): number {
    return this.samples.appendStarted(ref, this.parts.at(segment), time, low, high, startTime)
  }

  /** The same for a histogram, which the head may keep: it must not change afterwards. `startTime` 0: unknown. */
  appendHistogram(ref: number, segment: number, time: number, histogram: Histogram, startTime = 0): number {
    return this.samples.appendHistogram(ref, this.parts.at(segment), time, histogram, startTime)
  }

  /** Told in segment `segment`, first at `place`; telling one again changes nothing but that. */
  appendExemplar(ref: number, exemplar: Exemplar, segment = 0, place: Place = NOWHERE): void {
    this.ring.add(ref, exemplar, segment, place)
  }

  newestExemplars(countMax: number): readonly StatedExemplar[] {
    return this.ring.newest(countMax)
  }

  /** Whether any exemplar was told, or stated again, in a segment or after it. */
  hasExemplarsToldSince(segment: number): boolean {
    return this.ring.isToldSince(segment)
  }

  /** The refs, rising, of the series that pass all matchers and have exemplars, whether or not samples of them are held. */
  selectExemplars(matchers: readonly Matcher[]): Uint32Array {
    const compiled = compileForSelect(matchers)
    const passes = (ref: number) => {
      const labels = this.labelsOf(ref)
      return compiled.every(({ name, matches }) => matches(labelOf(labels, name)))
    }
    return Uint32Array.from(this.ring.refs()).filter(passes).sort()
  }

  /** The exemplars of a series in the range, by time, of those whose places are shown. */
  exemplarsOf(ref: number, range: Interval, isShown?: (place: Place) => boolean): Exemplar[] {
    return this.ring.of(ref, range, isShown)
  }

  /** The refs, rising, of the series that pass all matchers and have chunks in the range. Throws RefusedError for a bad pattern. */
  select(matchers: readonly Matcher[], range: Interval): Uint32Array {
    const refs = selectRefs(this.index, compileForSelect(matchers))
    let count = 0
    for (let i = 0; i < refs.length; i++) if (this.overlaps(refs[i]!, range)) refs[count++] = refs[i]!
    return count === refs.length ? refs : refs.slice(0, count)
  }

  labelsOf(ref: number): Labels {
    return this.table.labels(ref)
  }

  /** A view of [name#, value#, …]; valid until the next new series. */
  labelRefsOf(ref: number): Uint32Array {
    return this.table.run(ref)
  }

  /** Calls back with the array that holds a series' [name#, value#, …] and the bounds of it there: no view is made. */
  withLabelRefs<T>(ref: number, fn: (runs: Uint32Array, start: number, end: number) => T): T {
    return fn(this.table.runs, this.table.starts[ref]!, this.table.starts[ref + 1]!)
  }

  /** Puts the 64-bit hash of a series' label texts into [at] and [at + 1] of the target. Every head and block gives the same for the same
   *  labels (label-hash.ts). */
  hashInto(ref: number, target: Uint32Array, at: number): void {
    this.samples.hashInto(ref, target, at)
  }

  /** Calls back for each chunk that overlaps the range, by min time: encoding id, bytes (a view for the time of the call), min and max
   *  time, sample count, segment and place in it. Chunks may overlap each other. What a deletion hides is left out. */
  chunksOf(ref: number, range: Interval, fn: ChunkVisitor): void {
    const { samples, parts, hidden } = this
    const isTaken = hidden.takes(ref)
    for (const slot of samples.overlapping(ref, range)) {
      const place = parts.of(samples.chunks.segment[slot]!)
      const intervals = isTaken ? hidden.intervals(ref, place) : NOTHING
      const reach = isTaken ? this.reach(slot, intervals) : 'none'
      if (reach === 'none') samples.show(slot, place, fn)
      else if (reach === 'some') samples.showVisible(slot, { place, hidden: intervals }, fn)
    }
  }

  /** The same for all chunks of one segment, with what is hidden: for those who keep or pass on what is stored. */
  storedChunksOf(ref: number, segment: number, fn: ChunkVisitor): void {
    const { samples, parts } = this
    for (const slot of samples.overlapping(ref, ALL_TIME)) {
      const place = parts.of(samples.chunks.segment[slot]!)
      if (place.segment === segment) samples.show(slot, place, fn)
    }
  }

  /** Appends the series' samples in the range, both ends included, merged by LOG-11, to the sink. */
  readInto(ref: number, range: Interval, sink: SampleColumns): void {
    const { samples } = this
    const slots = samples.overlapping(ref, range)
    if (this.hidden.takes(ref)) {
      mergeRuns(this.visibleRuns(ref, slots, range), sink)
      return
    }
    const { minTime, maxTime } = samples.chunks
    let areApart = true
    for (let i = 1; i < slots.length && areApart; i++) {
      areApart = maxTime[slots[i - 1]!]! < minTime[slots[i]!]!
    }
    if (areApart) {
      for (const slot of slots) samples.read(slot, range, sink)
      return
    }
    const runs = slots.map((slot, i) => {
      const columns = this.pooled(i)
      samples.read(slot, range, columns)
      return columns.asRun()
    })
    mergeRuns(runs, sink)
  }

  /** Appends the newest sample in the range, if there is one, to the sink. */
  lastInto(ref: number, range: Interval, sink: SampleColumns): boolean {
    const { samples } = this
    if (this.hidden.takes(ref)) return this.lastVisibleInto(ref, range, sink)
    if (samples.lastOpenInto(ref, range, sink)) return true
    const slots = samples.overlapping(ref, range)
    const { maxTime } = samples.chunks
    slots.sort((a, b) => maxTime[b]! - maxTime[a]!)
    const found = new SampleColumns(0)
    let newest = Number.NEGATIVE_INFINITY
    for (const slot of slots) {
      if (maxTime[slot]! < newest) break
      const columns = this.pooled(0)
      samples.read(slot, range, columns)
      if (columns.count === 0) continue
      const last = columns.count - 1
      const candidate = { ...columns.asRun(), start: last }
      if (columns.times[last]! < newest) continue
      const best = this.pooled(1)
      mergeRuns(columns.times[last]! > newest ? [candidate] : [found.asRun(), candidate], best)
      newest = columns.times[last]!
      found.clear()
      found.pushFrom(best.asRun(), best.words, 0)
    }
    if (found.count === 0) return false
    sink.pushFrom(found.asRun(), found.words, 0)
    return true
  }

  /** The label names of the series that pass, sorted by bytes. */
  labelNames(matchers: readonly Matcher[], range: Interval): string[] {
    const names = new Set<number>()
    if (matchers.length === 0) {
      for (const name of this.postings.nameNumbers()) if (this.valuesIn(name, range, 1).length > 0) names.add(name)
    } else {
      for (const ref of this.select(matchers, range)) {
        const run = this.table.run(ref)
        for (let i = 0; i < run.length; i += 2) names.add(run[i]!)
      }
    }
    return this.sortedTexts(names)
  }

  /** The values of a label among the series that pass, sorted by bytes. */
  labelValues(name: string, matchers: readonly Matcher[], range: Interval): string[] {
    const nameNumber = this.strings.find(name)
    if (nameNumber === undefined) return []
    if (matchers.length === 0) return this.sortedTexts(this.valuesIn(nameNumber, range, Number.POSITIVE_INFINITY))
    const values = new Set<number>()
    for (const ref of this.select(matchers, range)) values.add(this.table.valueOf(ref, nameNumber))
    values.delete(-1)
    return this.sortedTexts(values)
  }

  get seriesCount(): number {
    return this.table.count
  }

  /** Samples in all parts of segments that are held, hidden ones too; a time that stands in two counts twice. */
  get sampleCount(): number {
    let count = 0
    for (const part of this.samples.segments.values()) count += part.sampleCount
    return count
  }

  /** Looks at every series once. */
  chunkStats(): { chunkCount: number; times?: { minMs: number; maxMs: number } } {
    return this.samples.stats()
  }

  /** An estimate of the memory, without the shared strings. */
  get bytes(): number {
    return this.table.bytes + this.postings.bytes + this.samples.bytes + this.ring.bytes + this.hidden.bytes
  }

  /** 16 hex digits that depend on the set of samples applied in the segment and on where deletions cut it, not on order or repeats. */
  digest(segment: number): string {
    const sums = new Int32Array(2)
    for (const parts of Map.groupBy(this.partsOf(segment), ({ seq }) => seq).values()) {
      const [low, high] = this.sumsOf(parts)
      sums[0] = sums[0]! + low!
      sums[1] = sums[1]! + high!
    }
    return digestText(sums)
  }

  /** The samples of one segment. */
  sampleCountOf(segment: number): number {
    return this.heldParts(segment).reduce((sum, part) => sum + part.sampleCount, 0)
  }

  /** The parts of a segment that hold samples, by where they begin. Those of one place are one. */
  partsOf(segment: number): readonly Part[] {
    return this.parts
      .inSegment(segment)
      .filter(({ number }) => (this.samples.segments.get(number)?.sampleCount ?? 0) > 0)
  }

  /** The segments that samples are held of, rising. */
  segments(): number[] {
    return this.parts.segments().filter((segment) => this.heldParts(segment).length > 0)
  }

  /** Frees the samples of all segments up to this one, it included. The series stay until `compact`. */
  dropSegments(upTo: number): void {
    const dropped = this.parts.drop(upTo)
    for (const number of dropped) this.joined.delete(number)
    this.samples.drop(dropped)
  }

  /** From this sequence on samples stand in another part of the segment: what lies before can be told from what lies behind. */
  cut(segment: number, seq: number): void {
    this.parts.cut(segment, seq)
  }

  /** There is no cut at this sequence after all. */
  uncut(segment: number, seq: number): void {
    this.parts.uncut(segment, seq)
  }

  /** What is applied from now on stands at this sequence of the log; infinite: at its end, as usual. */
  seek(seq: number): void {
    this.parts.seek(seq)
  }

  /** What these deletions take of all that stands before their places is not shown (DELETE-8). `version`: of what says so, the same again costs
   *  nothing. Throws RefusedError for a bad pattern. */
  hide(version: number, deletions: () => readonly Hiding[]): void {
    if (version === this.hiddenVersion) return this.hidden.match()
    this.hidden.set(deletions())
    this.hiddenVersion = version
  }

  /** How many series hold neither samples nor exemplars, and are not named by `isNamed` (by ref; 0: not). */
  deadCount(isNamed: Uint8Array | undefined): number {
    let count = 0
    for (let ref = 0; ref < this.table.count; ref++) if (this.isDead(ref, isNamed)) count++
    return count
  }

  /** Forgets the dead series. The others get new refs in the order of the old ones: returns them by old ref, DEAD for those that are gone.
   *  Refs that were given out before mean nothing any more, but those of cursors. */
  compact(isNamed: Uint8Array | undefined): Uint32Array {
    const { table, strings } = this
    const refs = new Uint32Array(table.count)
    let count = 0
    for (let ref = 0; ref < refs.length; ref++) {
      if (!this.isDead(ref, isNamed)) {
        refs[ref] = count++
        continue
      }
      refs[ref] = DEAD
      for (let i = table.starts[ref]!; i < table.starts[ref + 1]!; i++) strings.unuse(table.runs[i]!)
    }
    table.compact(refs, count)
    this.postings.compact(refs)
    this.samples.compact(refs, count)
    this.ring.compact(refs)
    this.hidden.compact(refs)
    for (const cursor of this.cursors) cursor.compact(refs)
    this.generation++
    return refs
  }

  /** Gives back the strings. The head may still be read by those who are at it, and by nobody else. */
  dispose(): void {
    const { table, strings } = this
    if (this.isDisposed) return
    this.isDisposed = true
    const end = table.starts[table.count]!
    for (let i = 0; i < end; i++) strings.unuse(table.runs[i]!)
  }

  /** A walk over refs that takes time: it goes on with the new refs when the head is compacted. To be closed. */
  cursor(refs: Uint32Array): RefCursor {
    const cursor = new RefCursor(refs, () => this.cursors.delete(cursor))
    this.cursors.add(cursor)
    return cursor
  }

  private get index() {
    return { strings: this.strings, series: this.table, postings: this.postings }
  }

  /** The refs, rising, of the series that any of the selectors takes, whether or not samples of them are held. */
  private refsOf(selectors: Deletion['selectors']): Uint32Array {
    const refs = new Set<number>()
    for (const matchers of selectors) {
      for (const ref of selectRefs(this.index, compileMatchers(matchers))) refs.add(ref)
    }
    return Uint32Array.from(refs).sort()
  }

  /** Of parts that are one. Those of several are remembered until something is applied to them. */
  private sumsOf(parts: readonly Part[]): Int32Array {
    const held = parts.map(({ number }) => this.samples.segments.get(number)!)
    if (held.length === 1) return held[0]!.sums
    const numbers = held.map(({ number }) => number)
    const state = held.map(({ sums, sampleCount }) => `${sums} ${sampleCount}`).join()
    const known = this.joined.get(numbers[0]!)
    if (known?.state === state) return known.sums
    const sums = joinedSums(this.samples, this.table.count, new Set(numbers))
    this.joined.set(numbers[0]!, { state, sums })
    return sums
  }

  private heldParts(segment: number): Segment[] {
    return this.parts.inSegment(segment).flatMap(({ number }) => this.samples.segments.get(number) ?? [])
  }

  private reach(slot: number, intervals: readonly Interval[]): 'all' | 'some' | 'none' {
    const { minTime, maxTime } = this.samples.chunks
    return reachOf(intervals, minTime[slot]!, maxTime[slot]!)
  }

  /** Whether any chunk of the series overlaps the range, by what is not hidden of it. */
  private overlaps(ref: number, range: Interval): boolean {
    const { samples, hidden, parts } = this
    if (!hidden.takes(ref)) return samples.overlaps(ref, range)
    return samples.overlapping(ref, range).some((slot) => {
      const intervals = hidden.intervals(ref, parts.of(samples.chunks.segment[slot]!))
      const reach = this.reach(slot, intervals)
      if (reach !== 'some') return reach === 'none'
      const { times, count } = samples.readVisible(slot, intervals)
      return count > 0 && times[0]! <= range.endMs && times[count - 1]! >= range.startMs
    })
  }

  private visibleRuns(ref: number, slots: readonly number[], range: Interval): SampleRun[] {
    const { samples, hidden, parts } = this
    return slots.map((slot, i) => {
      const columns = this.pooled(i)
      const visible = samples.readVisible(slot, hidden.intervals(ref, parts.of(samples.chunks.segment[slot]!)))
      columns.pushRange(visible.asRun(), 0, visible.count)
      columns.clip(0, range.startMs, range.endMs)
      return columns.asRun()
    })
  }

  private lastVisibleInto(ref: number, range: Interval, sink: SampleColumns): boolean {
    const found = new SampleColumns()
    this.readInto(ref, range, found)
    if (found.count === 0) return false
    sink.pushFrom(found.asRun(), found.words, found.count - 1)
    return true
  }

  private isDead(ref: number, isNamed: Uint8Array | undefined): boolean {
    return isNamed?.[ref] !== 1 && !this.samples.holds(ref) && !this.ring.holds(ref)
  }

  private pooled(i: number): SampleColumns {
    let columns = this.pool[i]
    if (columns === undefined) this.pool[i] = columns = new SampleColumns()
    columns.clear()
    return columns
  }

  /** Up to `countMax` values of a name that a series in the range carries. */
  private valuesIn(name: number, range: Interval, countMax: number): number[] {
    const values: number[] = []
    this.postings.eachValue(name, (value, refs) => {
      if (values.length < countMax && refs.some((ref) => this.overlaps(ref, range))) values.push(value)
    })
    return values
  }

  private sortedTexts(numbers: Iterable<number>): string[] {
    return [...numbers].map((n) => this.strings.text(n)).sort(compareBytes)
  }
}
