// Chunks of native histograms, byte for byte as Prometheus writes them (docs/formats/chunk.md): encoding ids 2 (whole counts) and 3
// (float counts), with start times (starts.ts) 5 and 6. Counts are exact up to 2^53.
//
// Every histogram of a chunk has the same layout; a chunk of a counter holds no decrease of any count, so that readers need not look
// for resets inside. Where Prometheus rewrites a chunk when buckets appear, we cut: what is read is what was appended. How a chunk says that
// it begins (after a reset, after none) is written and not believed, as with Prometheus: what it speaks of may not be there, or not be last.
import { CorruptError } from '../../base/errors.ts'
import { type Histogram, isStaleHistogram } from '../../model/histogram.ts'
import { atKeptResolution, isKnownSchema } from '../../model/histogram-resolution.ts'
import { STALE_HIGH, STALE_LOW } from '../../model/sample.ts'
import { staleHistogram } from '../histogram-order.ts'
import { BitReader, BitWriter, split, splitFloat } from './bits.ts'
import { bucketCount, type HistogramLayout, readLayout, sameLayout, writeLayout } from './histogram-layout.ts'
import { StartsReader, StartsWriter } from './starts.ts'
import { xorCount } from './xor.ts'

export const ENCODING_HISTOGRAM = 2
export const ENCODING_FLOAT_HISTOGRAM = 3
export const ENCODING_HISTOGRAM_STARTS = 5
export const ENCODING_FLOAT_HISTOGRAM_STARTS = 6

export function isHistogramEncoding(encoding: number): boolean {
  return encoding === ENCODING_HISTOGRAM || encoding === ENCODING_FLOAT_HISTOGRAM || hasHistogramStarts(encoding)
}

function hasHistogramStarts(encoding: number): boolean {
  return encoding === ENCODING_HISTOGRAM_STARTS || encoding === ENCODING_FLOAT_HISTOGRAM_STARTS
}

/** What the chunk at byte `start` says of counter resets: two bits, 0 is unknown. */
export function counterFlagOf(encoding: number, bytes: Uint8Array, start: number): number {
  return bytes[hasHistogramStarts(encoding) ? start : start + 2]! >>> 6
}

/** The samples that a chunk of any encoding says it has. */
export function chunkCount(encoding: number, bytes: Uint8Array, start: number): number {
  return hasHistogramStarts(encoding) ? xorCount(bytes, start) & COUNT_BESIDE_FLAG : xorCount(bytes, start)
}

const HEADER_BYTES = 3
/** With start times, the flag stands in the two bits above the count. */
const COUNT_BESIDE_FLAG = 0x3fff
const FLAG_NO_RESET = 0b01
const FLAG_RESET = 0b10
const FLAG_GAUGE = 0b11

const scratch = new Float64Array(1)
const scratchWords = new Uint32Array(scratch.buffer)

/** Columns of floats, each coded as the difference in bits to its predecessor. */
class XorColumns {
  readonly words: Uint32Array
  private readonly leading: Uint8Array
  private readonly trailing: Uint8Array

  constructor(count: number) {
    this.words = new Uint32Array(2 * count)
    this.leading = new Uint8Array(count).fill(0xff)
    this.trailing = new Uint8Array(count)
  }

  writeFirst(writer: BitWriter, column: number, value: number): void {
    this.set(column, value)
    writer.wide(this.words[2 * column + 1]!, this.words[2 * column]!, 64)
  }

  write(writer: BitWriter, column: number, value: number): void {
    const oldLow = this.words[2 * column]!
    const oldHigh = this.words[2 * column + 1]!
    this.set(column, value)
    const low = this.words[2 * column]! ^ oldLow
    const high = this.words[2 * column + 1]! ^ oldHigh
    if ((low | high) === 0) {
      writer.bits(0, 1)
      return
    }
    const leading = high === 0 ? 31 : Math.clz32(high)
    const trailing = low !== 0 ? 31 - Math.clz32(low & -low) : 63 - Math.clz32(high & -high)
    if (this.leading[column] !== 0xff && leading >= this.leading[column]! && trailing >= this.trailing[column]!) {
      writer.bits(0b10, 2)
    } else {
      this.leading[column] = leading
      this.trailing[column] = trailing
      writer.bits((0b11 << 11) | (leading << 6) | ((64 - leading - trailing) & 63), 13)
    }
    const shift = this.trailing[column]!
    const size = 64 - this.leading[column]! - shift
    if (shift >= 32) writer.bits(high >>> (shift - 32), size)
    else writer.wide(high >>> shift, shift === 0 ? low : (low >>> shift) | (high << (32 - shift)), size)
  }

  readFirst(reader: BitReader, column: number): void {
    reader.wide(64)
    this.words[2 * column] = reader.low
    this.words[2 * column + 1] = reader.high
  }

  read(reader: BitReader, column: number): void {
    if (reader.bits(1) === 0) return
    if (reader.bits(1) === 1) {
      const leading = reader.bits(5)
      const significant = reader.bits(6) || 64
      if (leading + significant > 64)
        throw new CorruptError('err-carillon-corrupt', 'a chunk holds a value of more than 64 bits')
      this.leading[column] = leading
      this.trailing[column] = 64 - leading - significant
    }
    const shift = this.trailing[column]!
    reader.wide(64 - (this.leading[column]! & 63) - shift)
    const { high, low } = reader
    if (shift >= 32) {
      this.words[2 * column + 1] = this.words[2 * column + 1]! ^ (low << (shift - 32))
    } else {
      this.words[2 * column] = this.words[2 * column]! ^ (low << shift)
      this.words[2 * column + 1] =
        this.words[2 * column + 1]! ^ (shift === 0 ? high : (high << shift) | (low >>> (32 - shift)))
    }
  }

  isStale(column: number): boolean {
    return this.words[2 * column + 1] === STALE_HIGH && this.words[2 * column] === STALE_LOW
  }

  get(column: number): number {
    scratchWords[0] = this.words[2 * column]!
    scratchWords[1] = this.words[2 * column + 1]!
    return scratch[0]!
  }

  private set(column: number, value: number): void {
    splitFloat(value)
    this.words[2 * column] = split[0]!
    this.words[2 * column + 1] = split[1]!
  }
}

const EMPTY: readonly number[] = []

/** Writes one chunk. `accepts` says whether a histogram may follow; the caller cuts when it may not. */
export class HistogramChunkWriter {
  readonly isFloat: boolean
  private readonly isGauge: boolean
  private readonly writer = new BitWriter(256)
  private readonly layout: HistogramLayout
  private readonly flag: number
  private readonly starts: StartsWriter | undefined
  private readonly xor: XorColumns
  /** Whole-count columns (count, zero count, differences between neighbouring buckets): last value and last delta. */
  private readonly last: Float64Array
  private readonly delta: Float64Array
  private lastTime = 0
  private timeDelta = 0
  private previous: Histogram
  private endsStale = false
  count = 0

  /** `isContinuation`: the sample right before `first`, in the chunk before, makes it sure that `first` is no counter reset. `start`: the
   *  start time of the first sample, of a chunk that keeps them. */
  constructor(
    time: number,
    first: Histogram,
    { isContinuation = false, start }: { isContinuation?: boolean; start?: number | undefined } = {},
  ) {
    const histogram = isStaleHistogram(first) ? staleHistogram(first.isFloat) : first
    this.isFloat = first.isFloat
    this.isGauge = histogram.resetHint === 'gauge'
    this.layout = histogram
    this.previous = histogram
    const buckets = bucketCount(histogram.positiveSpans) + bucketCount(histogram.negativeSpans)
    this.xor = new XorColumns(this.isFloat ? 3 + buckets : 1)
    this.last = new Float64Array(this.isFloat ? 0 : 2 + buckets)
    this.delta = new Float64Array(this.isFloat ? 0 : 2 + buckets)
    const counterFlag = histogram.resetHint === 'reset' ? FLAG_RESET : isContinuation ? FLAG_NO_RESET : 0
    this.flag = this.isGauge ? FLAG_GAUGE : counterFlag
    if (start !== undefined) this.starts = new StartsWriter()
    this.writer.bits(0, 8 * HEADER_BYTES)
    writeLayout(this.writer, histogram)
    this.append(time, first, start)
  }

  get encoding(): number {
    if (this.starts !== undefined) return this.isFloat ? ENCODING_FLOAT_HISTOGRAM_STARTS : ENCODING_HISTOGRAM_STARTS
    return this.isFloat ? ENCODING_FLOAT_HISTOGRAM : ENCODING_HISTOGRAM
  }

  /** The time is checked by the caller. A stale histogram fits anywhere, and only stale ones may follow it. */
  accepts(histogram: Histogram, start = 0): boolean {
    if (histogram.isFloat !== this.isFloat || (start !== 0 && this.starts === undefined)) return false
    if (isStaleHistogram(histogram)) return true
    if (this.endsStale || histogram.resetHint === 'reset') return false
    if ((histogram.resetHint === 'gauge') !== this.isGauge || !sameLayout(this.layout, histogram)) return false
    return this.isGauge || !decreases(this.previous, histogram)
  }

  append(time: number, histogram: Histogram, start = 0): void {
    const isMarker = isStaleHistogram(histogram)
    const first = this.count === 0
    const timeDelta = first ? 0 : time - this.lastTime
    this.writer.varbitInt(first ? time : timeDelta - this.timeDelta)
    if (this.isFloat) this.appendFloats(histogram, first, isMarker)
    else this.appendWhole(histogram, first, isMarker)
    this.starts?.put(this.writer, this.count, time, this.lastTime, start)
    this.timeDelta = timeDelta
    this.lastTime = time
    this.count++
    this.endsStale = isMarker
    this.previous = histogram
  }

  /** The finished bytes: a view, valid until the next append. */
  finish(): Uint8Array {
    const { bytes } = this.writer
    bytes[0] = this.count >>> 8
    bytes[1] = this.count & 0xff
    if (this.starts === undefined) bytes[2] = this.flag << 6
    else {
      bytes[0] |= this.flag << 6
      bytes[2] = this.starts.header
    }
    return bytes.subarray(0, this.writer.byteCount)
  }

  get byteCount(): number {
    return this.writer.byteCount
  }

  private appendFloats(histogram: Histogram, first: boolean, isMarker: boolean): void {
    const { writer, xor } = this
    const write = first ? xor.writeFirst.bind(xor) : xor.write.bind(xor)
    write(writer, 0, isMarker ? 0 : histogram.count)
    write(writer, 1, isMarker ? 0 : histogram.zeroCount)
    write(writer, 2, histogram.sum)
    if (isMarker) return
    let column = 3
    for (const bucket of histogram.positiveBuckets) write(writer, column++, bucket)
    for (const bucket of histogram.negativeBuckets) write(writer, column++, bucket)
  }

  private appendWhole(histogram: Histogram, first: boolean, isMarker: boolean): void {
    this.putWhole(0, isMarker ? 0 : histogram.count, first, isMarker)
    this.putWhole(1, isMarker ? 0 : histogram.zeroCount, first, isMarker)
    if (first) this.xor.writeFirst(this.writer, 0, histogram.sum)
    else this.xor.write(this.writer, 0, histogram.sum)
    if (isMarker) return
    let column = 2
    for (const buckets of [histogram.positiveBuckets, histogram.negativeBuckets]) {
      let before = 0
      for (const bucket of buckets) {
        this.putWhole(column++, bucket - before, first, false)
        before = bucket
      }
    }
  }

  private putWhole(column: number, value: number, first: boolean, isMarker: boolean): void {
    const delta = first ? 0 : value - this.last[column]!
    if (!first) this.writer.varbitInt(isMarker ? 0 : delta - this.delta[column]!)
    else if (column < 2) this.writer.varbitUint(value)
    else this.writer.varbitInt(value)
    this.delta[column] = delta
    this.last[column] = value
  }
}

/** Whether any count went down from a to b, which share a layout. */
function decreases(a: Histogram, b: Histogram): boolean {
  if (b.count < a.count || b.zeroCount < a.zeroCount) return true
  for (let i = 0; i < a.positiveBuckets.length; i++) if (b.positiveBuckets[i]! < a.positiveBuckets[i]!) return true
  for (let i = 0; i < a.negativeBuckets.length; i++) if (b.negativeBuckets[i]! < a.negativeBuckets[i]!) return true
  return false
}

/** Walks the histograms of a chunk in bytes [start, end). */
export class HistogramChunkReader {
  private readonly reader: BitReader
  private readonly isFloat: boolean
  private readonly flag: number
  private readonly starts: StartsReader | undefined
  private readonly sampleCount: number
  private readonly layout: HistogramLayout | undefined
  private readonly positiveCount: number = 0
  private readonly xor: XorColumns
  private readonly last: Float64Array
  private readonly delta: Float64Array
  private readCount = 0
  private timeDelta = 0
  time = 0

  constructor(encoding: number, bytes: Uint8Array, start: number, end: number) {
    this.isFloat = encoding === ENCODING_FLOAT_HISTOGRAM || encoding === ENCODING_FLOAT_HISTOGRAM_STARTS
    if (!isHistogramEncoding(encoding))
      throw new CorruptError('err-carillon-corrupt', `encoding ${encoding} holds no histograms`)
    this.reader = new BitReader(bytes, start + HEADER_BYTES, end)
    this.flag = counterFlagOf(encoding, bytes, start)
    if (hasHistogramStarts(encoding)) this.starts = new StartsReader(bytes[start + 2]!)
    this.sampleCount = end - start < HEADER_BYTES ? 0 : chunkCount(encoding, bytes, start)
    let buckets = 0
    if (this.sampleCount > 0) {
      this.layout = readLayout(this.reader)
      const { schema } = this.layout
      if (!isKnownSchema(schema))
        throw new CorruptError('err-carillon-corrupt', `histograms have the unknown schema ${schema}`)
      this.positiveCount = bucketCount(this.layout.positiveSpans)
      buckets = this.positiveCount + bucketCount(this.layout.negativeSpans)
    }
    this.xor = new XorColumns(this.isFloat ? 3 + buckets : 1)
    this.last = new Float64Array(this.isFloat ? 0 : 2 + buckets)
    this.delta = new Float64Array(this.isFloat ? 0 : 2 + buckets)
  }

  /** The start time of the sample that `next` moved to; 0: unknown. */
  get start(): number {
    return this.starts === undefined ? 0 : this.starts.start
  }

  /** Moves to the next sample; false at the end. */
  next(): boolean {
    if (this.readCount === this.sampleCount) return false
    const before = this.time
    const first = this.readCount === 0
    const step = this.reader.varbitInt()
    if (!first) this.timeDelta += step
    this.time = first ? step : this.time + this.timeDelta
    if (this.isFloat) this.readFloats(first)
    else this.readWhole(first)
    this.starts?.read(this.reader, this.readCount, this.time, before)
    this.readCount++
    return true
  }

  /** The sample that `next` moved to. Its reset hint is `gauge` or `unknown`: resets are looked for where samples meet (LOG-11). */
  histogram(): Histogram {
    const sumColumn = this.isFloat ? 2 : 0
    if (this.xor.isStale(sumColumn)) return staleHistogram(this.isFloat)
    const layout = this.layout!
    const buckets = this.isFloat ? this.floatBuckets() : this.wholeBuckets()
    return atKeptResolution({
      isFloat: this.isFloat,
      resetHint: this.flag === FLAG_GAUGE ? 'gauge' : 'unknown',
      schema: layout.schema,
      zeroThreshold: layout.zeroThreshold,
      zeroCount: this.isFloat ? this.xor.get(1) : this.last[1]!,
      count: this.isFloat ? this.xor.get(0) : this.last[0]!,
      sum: this.xor.get(sumColumn),
      positiveSpans: layout.positiveSpans,
      positiveBuckets: buckets.slice(0, this.positiveCount),
      negativeSpans: layout.negativeSpans,
      negativeBuckets: buckets.length > this.positiveCount ? buckets.slice(this.positiveCount) : EMPTY,
      customValues: layout.customValues,
    })
  }

  private floatBuckets(): number[] {
    const buckets: number[] = []
    for (let column = 3; 2 * column < this.xor.words.length; column++) buckets.push(this.xor.get(column))
    return buckets
  }

  private wholeBuckets(): number[] {
    const buckets: number[] = []
    let sum = 0
    for (let column = 2; column < this.last.length; column++) {
      if (column - 2 === this.positiveCount) sum = 0
      sum += this.last[column]!
      buckets.push(sum)
    }
    return buckets
  }

  private readFloats(first: boolean): void {
    const columns = this.xor.words.length / 2
    for (let column = 0; column < columns; column++) {
      if (first) this.xor.readFirst(this.reader, column)
      else this.xor.read(this.reader, column)
      if (column === 2 && this.xor.isStale(2)) return
    }
  }

  private readWhole(first: boolean): void {
    for (let column = 0; column < this.last.length; column++) {
      if (column === 2 && this.readSum(first)) return
      const step = first && column < 2 ? this.reader.varbitUint() : this.reader.varbitInt()
      if (!first) this.delta[column] = this.delta[column]! + step
      this.last[column] = first ? step : this.last[column]! + this.delta[column]!
    }
    if (this.last.length === 2) this.readSum(first)
  }

  /** True when the sum is the stale marker, behind which no buckets follow. */
  private readSum(first: boolean): boolean {
    if (first) this.xor.readFirst(this.reader, 0)
    else this.xor.read(this.reader, 0)
    return this.xor.isStale(0)
  }
}
