// The bytes of our own formats: a Writer that grows one buffer, a Reader that keeps its first error.
//
// Numbers are plain arithmetic up to 2^53 − 1, without BigInt. Values travel as 8 raw bytes from and to Float64Array elements,
// because the bits of a stale marker do not survive a detour (shared/model/sample.ts). A hot kernel: straight lines on purpose.
//
// Invariants
//   VARINT-1  What a Writer wrote, a Reader reads back equal, bit for bit.
//   VARINT-2  A Reader never reads outside its range and never allocates by a length it has not seen the bytes of.
//   VARINT-3  After its first error a Reader returns zeros and empty ranges; check() or end() then throw that first error.
import { assert } from '../base/assert.ts'
import { CorruptError } from '../base/errors.ts'
import { decodeUtf8 } from './utf8.ts'

const EMPTY = new Uint8Array(0)
const float = new Float64Array(1)
let column = float
let columnWords = new Uint32Array(float.buffer)

/** The words of a column, low before high: compiled code may quiet a NaN that passes as a number. The last one is kept. */
function wordsOf(values: Float64Array): Uint32Array {
  if (values !== column) {
    column = values as Float64Array<ArrayBuffer>
    columnWords = new Uint32Array(values.buffer as ArrayBuffer, values.byteOffset, values.length * 2)
  }
  return columnWords
}

export class Writer {
  private buffer: Uint8Array<ArrayBuffer>
  private at = 0

  constructor(capacity = 1024) {
    this.buffer = new Uint8Array(Math.max(capacity, 16))
  }

  /** Bytes written so far. */
  get length(): number {
    return this.at
  }

  reset(): void {
    this.at = 0
  }

  u8(value: number): void {
    if (this.at === this.buffer.length) this.grow(1)
    this.buffer[this.at++] = value
  }

  u32le(value: number): void {
    if (this.at + 4 > this.buffer.length) this.grow(4)
    this.putU32(this.at, value)
    this.at += 4
  }

  /** Overwrites four bytes written before, for a length or checksum known only later. */
  patchU32le(position: number, value: number): void {
    assert(position >= 0 && position + 4 <= this.at, 'patch lies inside what was written')
    this.putU32(position, value)
  }

  /** Overwrites one byte written before. */
  patchU8(position: number, value: number): void {
    assert(position >= 0 && position < this.at, 'patch lies inside what was written')
    this.buffer[position] = value
  }

  /** The 8 raw bytes of one element of a column. */
  f64(column: Float64Array, index = 0): void {
    if (this.at + 8 > this.buffer.length) this.grow(8)
    const words = wordsOf(column)
    this.putU32(this.at, words[2 * index]!)
    this.putU32(this.at + 4, words[2 * index + 1]!)
    this.at += 8
  }

  /** A number for which NaN is just NaN. Values of samples go through f64. */
  number(value: number): void {
    float[0] = value
    this.f64(float)
  }

  /** A whole number from 0 to 2^53 − 1, in one to eight bytes. */
  uvarint(value: number): void {
    if (value === (value & 127) && this.at < this.buffer.length) {
      this.buffer[this.at++] = value
      return
    }
    assert(Number.isSafeInteger(value) && value >= 0, 'an unsigned varint is a whole number up to 2^53 − 1')
    this.rest(value)
  }

  /** A whole number from −(2^53 − 1) to 2^53 − 1; small magnitudes are short. */
  zigzag(value: number): void {
    const magnitude = value < 0 ? -value - 1 : value
    const sign = value < 0 ? 1 : 0
    if (magnitude === (magnitude & 63) && this.at < this.buffer.length) {
      this.buffer[this.at++] = (magnitude << 1) | sign
      return
    }
    assert(Number.isSafeInteger(value), 'a signed varint is a whole number within ±(2^53 − 1)')
    this.u8(((magnitude % 64) << 1) | sign | (magnitude < 64 ? 0 : 128)) // doubling could pass 2^53, so the first byte is split off
    if (magnitude >= 64) this.rest(Math.floor(magnitude / 64))
  }

  bytes(bytes: Uint8Array, start = 0, end = bytes.length): void {
    const length = end - start
    if (this.at + length > this.buffer.length) this.grow(length)
    const { buffer, at } = this
    if (length < 32) for (let i = 0; i < length; i++) buffer[at + i] = bytes[start + i]!
    else buffer.set(bytes.subarray(start, end), at)
    this.at = at + length
  }

  /** A length in bytes, then UTF-8 (lone surrogates become U+FFFD). */
  text(text: string): void {
    const length = Buffer.byteLength(text)
    this.uvarint(length)
    if (this.at + length > this.buffer.length) this.grow(length)
    if (length === text.length && length < 32) {
      for (let i = 0; i < length; i++) this.buffer[this.at + i] = text.charCodeAt(i)
    } else {
      Buffer.from(this.buffer.buffer, this.at, length).write(text, 'utf8')
    }
    this.at += length
  }

  /** A copy that the caller keeps. */
  finish(): Uint8Array<ArrayBuffer> {
    return this.buffer.slice(0, this.at)
  }

  /** What was written, valid until the next write or reset. */
  view(): Uint8Array<ArrayBuffer> {
    return this.buffer.subarray(0, this.at)
  }

  private rest(value: number): void {
    if (this.at + 8 > this.buffer.length) this.grow(8)
    const { buffer } = this
    let at = this.at
    while (value >= 0x80000000) {
      buffer[at++] = (value % 128) | 128
      value = Math.floor(value / 128)
    }
    while (value > 127) {
      buffer[at++] = (value & 127) | 128
      value >>>= 7
    }
    buffer[at++] = value
    this.at = at
  }

  private putU32(at: number, value: number): void {
    const { buffer } = this
    buffer[at] = value
    buffer[at + 1] = value >>> 8
    buffer[at + 2] = value >>> 16
    buffer[at + 3] = value >>> 24
  }

  private grow(needed: number): void {
    const next = new Uint8Array(Math.max(this.buffer.length * 2, this.at + needed))
    next.set(this.buffer)
    this.buffer = next
  }
}

export class Reader {
  readonly source: Uint8Array
  /** Position of the next byte in `source`. */
  at: number
  private readonly limit: number
  private error: string | undefined

  constructor(bytes: Uint8Array, start = 0, end = bytes.length) {
    assert(start >= 0 && start <= end && end <= bytes.length, 'a reader stays inside its bytes')
    this.source = bytes
    this.at = start
    this.limit = end
  }

  get remaining(): number {
    return this.limit - this.at
  }

  get failed(): boolean {
    return this.error !== undefined
  }

  /** Keeps `text` if it is the first error, and ends the reading. */
  fail(text: string): void {
    this.error ??= text
    this.at = this.limit
  }

  u8(): number {
    if (this.at < this.limit) return this.source[this.at++]!
    this.fail('ends too early')
    return 0
  }

  u32le(): number {
    const { source, at } = this
    if (at + 4 > this.limit) {
      this.fail('ends too early')
      return 0
    }
    this.at = at + 4
    return (source[at]! | (source[at + 1]! << 8) | (source[at + 2]! << 16) | (source[at + 3]! << 24)) >>> 0
  }

  /** Puts 8 raw bytes into one element of a column (zero after an error). */
  f64(column: Float64Array, index = 0): void {
    const { source, at } = this
    if (at + 8 > this.limit) {
      this.fail('ends too early')
      column[index] = 0
      return
    }
    const words = wordsOf(column)
    words[2 * index] = source[at]! | (source[at + 1]! << 8) | (source[at + 2]! << 16) | (source[at + 3]! << 24)
    words[2 * index + 1] = source[at + 4]! | (source[at + 5]! << 8) | (source[at + 6]! << 16) | (source[at + 7]! << 24)
    this.at = at + 8
  }

  /** A number for which NaN is just NaN. Values of samples go through f64. */
  number(): number {
    this.f64(float)
    return float[0]!
  }

  uvarint(): number {
    const { source, limit } = this
    let at = this.at
    if (at < limit && source[at]! < 128) {
      this.at = at + 1
      return source[at]!
    }
    if (at + 1 < limit && source[at + 1]! < 128) {
      this.at = at + 2
      return (source[at]! & 127) | (source[at + 1]! << 7)
    }
    let value = 0
    for (let scale = 1; at < limit; scale *= 128) {
      const byte = source[at++]!
      value += (byte & 127) * scale
      if (byte < 128) {
        if (value > Number.MAX_SAFE_INTEGER) return this.zero('holds a number above 2^53')
        this.at = at
        return value
      }
      if (scale > 2 ** 42) return this.zero('holds a number above 2^53')
    }
    return this.zero('ends too early')
  }

  zigzag(): number {
    const first = this.u8()
    const more = first < 128 ? 0 : this.uvarint()
    const magnitude = more * 64 + ((first & 127) >>> 1)
    if (magnitude > Number.MAX_SAFE_INTEGER) return this.zero('holds a number beyond ±2^53')
    return (first & 1) === 1 ? -magnitude - 1 : magnitude
  }

  /** A uvarint that counts things of at least one byte each, so never more than `max` nor the bytes that remain. */
  count(max = Number.MAX_SAFE_INTEGER): number {
    const count = this.uvarint()
    if (count > max) return this.zero('counts more than its limit')
    if (count > this.remaining) return this.zero('counts more than it holds')
    return count
  }

  /** A view of the next `length` bytes. */
  bytes(length: number): Uint8Array {
    const { at } = this
    if (length < 0 || length > this.limit - at) {
      this.fail('ends too early')
      return EMPTY
    }
    this.at = at + length
    return this.source.subarray(at, at + length)
  }

  text(): string {
    const length = this.uvarint()
    if (length > this.remaining) {
      this.fail('ends too early')
      return ''
    }
    const start = this.at
    this.at += length
    const text = decodeUtf8(this.source, start, this.at)
    if (text !== undefined) return text
    this.fail('holds text that is not UTF-8')
    return ''
  }

  /** Throws the first error, if there was one; `what` names the thing being read. */
  check(what: string): void {
    if (this.error !== undefined) throw new CorruptError('err-carillon-corrupt', `${what} ${this.error}`)
  }

  /** As check(), and everything must have been read. */
  end(what: string): void {
    this.check(what)
    if (this.at === this.limit) return
    throw new CorruptError('err-carillon-corrupt', `${what} has ${this.limit - this.at} bytes too many`)
  }

  private zero(text: string): 0 {
    this.fail(text)
    return 0
  }
}
