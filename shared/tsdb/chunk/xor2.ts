// The chunk of floats with start times, byte for byte as Prometheus writes it (docs/formats/chunk.md): encoding id 4. What is read and
// written here is rare beside the XOR chunk, so it is written plainly.
import { CorruptError } from '../../base/errors.ts'
import { STALE_HIGH, STALE_LOW } from '../../model/sample.ts'
import { BitReader, BitWriter } from './bits.ts'
import { StartsReader, StartsWriter } from './starts.ts'
import { xorCount } from './xor.ts'

export const ENCODING_XOR2 = 4

const HEADER_BYTES = 3

/** Writes one chunk; times rise. */
export class Xor2ChunkWriter {
  readonly encoding = ENCODING_XOR2
  private readonly writer = new BitWriter()
  private readonly starts = new StartsWriter()
  count = 0
  private time = 0
  private delta = 0
  /** Of the last value that was no stale marker. */
  private low = 0
  private high = 0
  private leading = 0xff
  private trailing = 0

  constructor() {
    this.writer.bits(0, 8 * HEADER_BYTES)
  }

  append(time: number, low: number, high: number, start: number): void {
    const { writer } = this
    const isMarker = high === STALE_HIGH && low === STALE_LOW
    const delta = time - this.time
    if (this.count === 0) {
      writer.varint(time)
      writer.wide(high, low, 64)
    } else if (this.count === 1) {
      writer.uvarint(delta)
      this.putValue(low, high, isMarker)
    } else if (delta === this.delta) {
      this.putAtEvenStep(low, high, isMarker)
    } else {
      this.putStep(delta - this.delta)
      this.putValue(low, high, isMarker)
    }
    this.starts.put(writer, this.count, time, this.time, start)
    if (this.count > 0) this.delta = delta
    this.time = time
    if (!isMarker) {
      this.low = low
      this.high = high
    }
    this.count++
  }

  /** The finished bytes: a view, valid until the next append. */
  finish(): Uint8Array {
    const { bytes, byteCount } = this.writer
    bytes[0] = this.count >>> 8
    bytes[1] = this.count & 0xff
    bytes[2] = this.starts.header
    return bytes.subarray(0, byteCount)
  }

  get byteCount(): number {
    return this.writer.byteCount
  }

  private putAtEvenStep(low: number, high: number, isMarker: boolean): void {
    if (isMarker) {
      this.writer.bits(0b11111, 5)
    } else if (low === this.low && high === this.high) {
      this.writer.bits(0, 1)
    } else {
      this.writer.bits(0b10, 2)
      this.putChange(low, high, 0)
    }
  }

  private putStep(dod: number): void {
    const { writer } = this
    if (dod >= -4096 && dod <= 4095) writer.bits((0b110 << 13) | (dod & 0x1fff), 16)
    else if (dod >= -524288 && dod <= 524287) writer.bits((0b1110 << 20) | (dod & 0xfffff), 24)
    else {
      writer.bits(0b11110, 5)
      writer.wide(Math.floor(dod / 2 ** 32), dod % 2 ** 32, 64)
    }
  }

  private putValue(low: number, high: number, isMarker: boolean): void {
    if (isMarker) this.writer.bits(0b111, 3)
    else if (low === this.low && high === this.high) this.writer.bits(0, 1)
    else this.putChange(low, high, 1)
  }

  /** A value that differs; `prefixBits` of ones stand before what tells the windows apart. */
  private putChange(low: number, high: number, prefixBits: 0 | 1): void {
    const { writer } = this
    const xorLow = low ^ this.low
    const xorHigh = high ^ this.high
    const leading = xorHigh === 0 ? 31 : Math.clz32(xorHigh)
    const trailing = xorLow !== 0 ? 31 - Math.clz32(xorLow & -xorLow) : 63 - Math.clz32(xorHigh & -xorHigh)
    const prefix = prefixBits === 1 ? 0b10 : 0
    if (this.leading !== 0xff && leading >= this.leading && trailing >= this.trailing) {
      writer.bits(prefix, prefixBits + 1)
    } else {
      this.leading = leading
      this.trailing = trailing
      writer.bits(prefixBits === 1 ? 0b110 : 1, 2 * prefixBits + 1)
      writer.bits((leading << 6) | ((64 - leading - trailing) & 63), 11)
    }
    const shift = this.trailing
    const size = 64 - this.leading - shift
    if (shift >= 32) writer.bits(xorHigh >>> (shift - 32), size)
    else writer.wide(xorHigh >>> shift, shift === 0 ? xorLow : (xorLow >>> shift) | (xorHigh << (32 - shift)), size)
  }
}

/** A whole chunk of samples [from, to): a view of fresh bytes. `valueBits` is the column of values as words. */
export function encodeXor2(
  times: Float64Array,
  valueBits: Uint32Array,
  startTimes: Float64Array,
  from: number,
  to: number,
): Uint8Array {
  const writer = new Xor2ChunkWriter()
  for (let i = from; i < to; i++) {
    writer.append(times[i]!, valueBits[2 * i]!, valueBits[2 * i + 1]!, startTimes[i]!)
  }
  return writer.finish()
}

/** Walks the samples of a chunk in bytes [startByte, end): `low` and `high` are the value's words, `start` its start time. */
export class Xor2ChunkReader {
  private readonly reader: BitReader
  private readonly starts: StartsReader
  private readonly sampleCount: number
  private readCount = 0
  private delta = 0
  private baseLow = 0
  private baseHigh = 0
  private leading = 0
  private trailing = 0
  time = 0
  low = 0
  high = 0

  constructor(bytes: Uint8Array, startByte: number, end: number) {
    this.sampleCount = end - startByte < HEADER_BYTES ? 0 : xorCount(bytes, startByte)
    this.reader = new BitReader(bytes, startByte + HEADER_BYTES, end)
    this.starts = new StartsReader(bytes[startByte + 2]!)
  }

  get start(): number {
    return this.starts.start
  }

  /** Moves to the next sample; false at the end. */
  next(): boolean {
    if (this.readCount === this.sampleCount) return false
    const before = this.time
    if (this.readCount === 0) this.readFirst()
    else if (this.readCount === 1) {
      this.delta = this.reader.uvarint()
      this.readValue()
    } else this.readJoint()
    this.time = this.readCount === 0 ? this.time : before + this.delta
    this.starts.read(this.reader, this.readCount, this.time, before)
    this.readCount++
    return true
  }

  private readFirst(): void {
    this.time = this.reader.varint()
    this.reader.wide(64)
    this.take(this.reader.low, this.reader.high)
  }

  private readJoint(): void {
    const { reader } = this
    const ones = onesOf(reader, 5)
    if (ones === 0) this.take(this.baseLow, this.baseHigh)
    else if (ones === 1) this.readChange(reader.bits(1) === 1)
    else if (ones === 5) this.take(STALE_LOW, STALE_HIGH)
    else {
      this.delta += ones === 4 ? readWide(reader) : signed(reader, ones === 2 ? 13 : 20)
      this.readValue()
    }
  }

  private readValue(): void {
    const ones = onesOf(this.reader, 3)
    if (ones === 0) this.take(this.baseLow, this.baseHigh)
    else if (ones === 3) this.take(STALE_LOW, STALE_HIGH)
    else this.readChange(ones === 2)
  }

  private readChange(isNewWindow: boolean): void {
    const { reader } = this
    if (isNewWindow) {
      this.leading = reader.bits(5)
      const significant = reader.bits(6) || 64
      this.trailing = 64 - this.leading - significant
      if (this.trailing < 0)
        throw new CorruptError('err-carillon-corrupt', 'a chunk holds a value of more than 64 bits')
    }
    const shift = this.trailing
    reader.wide(64 - this.leading - shift)
    const { high, low } = reader
    if (shift >= 32) this.take(this.baseLow, this.baseHigh ^ (low << (shift - 32)))
    else {
      const top = shift === 0 ? high : (high << shift) | (low >>> (32 - shift))
      this.take(this.baseLow ^ (low << shift), this.baseHigh ^ top)
    }
  }

  private take(low: number, high: number): void {
    this.low = low >>> 0
    this.high = high >>> 0
    if (this.high === STALE_HIGH && this.low === STALE_LOW) return
    this.baseLow = this.low
    this.baseHigh = this.high
  }
}

/** How many ones come before a zero, which is read too, or before `max` of them. */
function onesOf(reader: BitReader, max: number): number {
  let ones = 0
  while (ones < max && reader.bits(1) === 1) ones++
  return ones
}

function signed(reader: BitReader, bits: number): number {
  const value = reader.bits(bits)
  return value >= 2 ** (bits - 1) ? value - 2 ** bits : value
}

function readWide(reader: BitReader): number {
  reader.wide(64)
  return (reader.high | 0) * 2 ** 32 + reader.low
}
