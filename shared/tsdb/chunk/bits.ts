// Bits in big-endian order inside a byte array: how every Prometheus chunk is written and read.
//
// Hot kernel: numbers are 32-bit words (a 64-bit value is a pair high, low), never BigInt. Positions count bits from the start of
// the array. Writing needs no cleared memory: a byte is overwritten when its first bit is, and its later bits become 0.
import { CorruptError } from '../../base/errors.ts'
import { settleNaN } from '../../model/sample.ts'

const TWO_32 = 2 ** 32

const floatScratch = new Float64Array(1)
const wordScratch = new Uint32Array(floatScratch.buffer) // little-endian machines: [0] low, [1] high

/** The words of the last `splitFloat`: [0] low, [1] high. */
export const split: Readonly<Uint32Array> = wordScratch

/** Splits a float that travelled as a number into `split`; its NaNs are settled as model/histogram-order.ts says. */
export function splitFloat(value: number): void {
  floatScratch[0] = value
  if (Number.isNaN(value)) settleNaN(wordScratch, 0)
}

/** Writes the lowest `n` bits (1…32) of `value` at bit `pos`. */
export function putBits(bytes: Uint8Array, pos: number, value: number, n: number): void {
  const aligned = value << (32 - n)
  const used = pos & 7
  let at = pos >>> 3
  if (used === 0) bytes[at] = aligned >>> 24
  else bytes[at] = bytes[at]! | (aligned >>> (24 + used))
  for (let done = 8 - used; done < n; done += 8) bytes[++at] = (aligned << done) >>> 24
}

/** The 32 bits from bit `pos` on, as a signed word; bits behind the end of the array are 0. */
export function peekBits(bytes: Uint8Array, pos: number): number {
  const at = pos >>> 3
  const used = pos & 7
  const word = (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!
  return used === 0 ? word : (word << used) | (bytes[at + 4]! >>> (8 - used))
}

/** Grows as it is written. */
export class BitWriter {
  bytes: Uint8Array<ArrayBuffer>
  bitCount = 0

  constructor(bytesStart = 64) {
    this.bytes = new Uint8Array(bytesStart)
  }

  get byteCount(): number {
    return (this.bitCount + 7) >>> 3
  }

  reset(): void {
    this.bitCount = 0
  }

  /** `n` is 1…32. */
  bits(value: number, n: number): void {
    if (this.bitCount + n > this.bytes.length * 8) this.grow()
    putBits(this.bytes, this.bitCount, value, n)
    this.bitCount += n
  }

  /** The lowest `n` (1…64) bits of a pair of words. */
  wide(high: number, low: number, n: number): void {
    if (n > 32) this.bits(high, n - 32)
    this.bits(low, Math.min(n, 32))
  }

  float(value: number): void {
    splitFloat(value)
    this.wide(split[1]!, split[0]!, 64)
  }

  /** Bytes of seven bits each, the low ones first. */
  uvarint(value: number): void {
    let rest = value
    for (; rest >= 128; rest = Math.floor(rest / 128)) this.bits((rest % 128) | 128, 8)
    this.bits(rest, 8)
  }

  /** The same for signed numbers. Exact up to ±2^52. */
  varint(value: number): void {
    this.uvarint(value < 0 ? -2 * value - 1 : 2 * value)
  }

  /** Prometheus' bucketed signed integer: 1, 5, 9, 13, 17, 24, 32, 64 or 72 bits. Exact up to ±2^53. */
  varbitInt(value: number): void {
    if (value === 0) this.bits(0, 1)
    else if (value >= -3 && value <= 4) this.bits((0b10 << 3) | (value & 0x7), 5)
    else if (value >= -31 && value <= 32) this.bits((0b110 << 6) | (value & 0x3f), 9)
    else if (value >= -255 && value <= 256) this.bits((0b1110 << 9) | (value & 0x1ff), 13)
    else if (value >= -2047 && value <= 2048) this.bits((0b11110 << 12) | (value & 0xfff), 17)
    else if (value >= -131071 && value <= 131072) this.bits((0b111110 << 18) | (value & 0x3ffff), 24)
    else if (value >= -16777215 && value <= 16777216) this.bits((0b1111110 << 25) | (value & 0x1ffffff), 32)
    else this.varbitWide(value, value > -(2 ** 55) && value <= 2 ** 55)
  }

  /** The unsigned form of the same buckets. */
  varbitUint(value: number): void {
    if (value === 0) this.bits(0, 1)
    else if (value <= 0x7) this.bits((0b10 << 3) | value, 5)
    else if (value <= 0x3f) this.bits((0b110 << 6) | value, 9)
    else if (value <= 0x1ff) this.bits((0b1110 << 9) | value, 13)
    else if (value <= 0xfff) this.bits((0b11110 << 12) | value, 17)
    else if (value <= 0x3ffff) this.bits((0b111110 << 18) | value, 24)
    else if (value <= 0x1ffffff) this.bits((0b1111110 << 25) | value, 32)
    else this.varbitWide(value, value < 2 ** 56)
  }

  private varbitWide(value: number, fits56: boolean): void {
    this.bits(fits56 ? 0b11111110 : 0b11111111, 8)
    this.wide(Math.floor(value / TWO_32), value % TWO_32, fits56 ? 56 : 64)
  }

  private grow(): void {
    const wider = new Uint8Array(this.bytes.length * 2)
    wider.set(this.bytes)
    this.bytes = wider
  }
}

/** Reads what BitWriter wrote; `end` is a byte offset, reading behind it is corruption. */
export class BitReader {
  private readonly bytes: Uint8Array
  private readonly endBit: number
  private pos: number
  /** Set by `wide`. */
  high = 0
  low = 0

  constructor(bytes: Uint8Array, start: number, end: number) {
    this.bytes = bytes
    this.pos = start * 8
    this.endBit = end * 8
  }

  /** `n` is 1…32; unsigned. */
  bits(n: number): number {
    const value = peekBits(this.bytes, this.pos) >>> (32 - n)
    this.pos += n
    if (this.pos > this.endBit) throw new CorruptError('err-carillon-corrupt', 'a chunk ends inside a value')
    return value
  }

  /** `n` (1…64) bits into `high` and `low`. */
  wide(n: number): void {
    this.high = n > 32 ? this.bits(n - 32) : 0
    this.low = this.bits(Math.min(n, 32))
  }

  /** For finite values: NaN bits keep their meaning only in `high` and `low`. */
  float(): number {
    this.wide(64)
    wordScratch[0] = this.low
    wordScratch[1] = this.high
    return floatScratch[0]!
  }

  uvarint(): number {
    let value = 0
    for (let scale = 1, i = 0; i < 10; i++, scale *= 128) {
      const byte = this.bits(8)
      value += (byte & 127) * scale
      if (byte < 128) break
    }
    return value
  }

  varint(): number {
    const zigzag = this.uvarint()
    return zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2
  }

  varbitInt(): number {
    const size = this.varbitSize()
    if (size === 0) return 0
    if (size <= 25) {
      const value = this.bits(size)
      return value > 2 ** (size - 1) ? value - 2 ** size : value
    }
    this.wide(size)
    if (size === 64) return (this.high | 0) * TWO_32 + this.low
    const isNegative = this.high > 0x800000 || (this.high === 0x800000 && this.low > 0)
    return (isNegative ? this.high - 0x1000000 : this.high) * TWO_32 + this.low
  }

  varbitUint(): number {
    const size = this.varbitSize()
    if (size === 0) return 0
    if (size <= 25) return this.bits(size)
    this.wide(size)
    return this.high * TWO_32 + this.low
  }

  private varbitSize(): number {
    const ones = Math.min(8, Math.clz32(~peekBits(this.bytes, this.pos)))
    this.bits(ones === 8 ? 8 : ones + 1)
    return VARBIT_SIZES[ones]!
  }
}

const VARBIT_SIZES = [0, 3, 6, 9, 12, 18, 25, 56, 64]
