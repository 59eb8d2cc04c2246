// The bytes of block files: big-endian words, varints of 64 bits as plain numbers within ±(2^53 − 1).
//
// Invariants
//   A reader never reads outside its range, and says file and byte when something does not fit.
import { assert } from '../../base/assert.ts'
import { decodeUtf8 } from '../../wire/utf8.ts'
import { corruptAt } from './files.ts'
import { TWO_32 } from './layout.ts'

export class ByteWriter {
  buffer: Uint8Array<ArrayBuffer>
  length = 0

  constructor(capacity: number) {
    this.buffer = new Uint8Array(Math.max(capacity, 64))
  }

  reset(): void {
    this.length = 0
  }

  /** Makes room for `more` bytes. */
  reserve(more: number): void {
    const needed = this.length + more
    if (needed <= this.buffer.length) return
    const wider = new Uint8Array(Math.max(needed, this.buffer.length + (this.buffer.length >>> 1)))
    wider.set(this.buffer.subarray(0, this.length))
    this.buffer = wider
  }

  u8(value: number): void {
    if (this.length === this.buffer.length) this.reserve(1)
    this.buffer[this.length++] = value
  }

  u32(value: number): void {
    this.reserve(4)
    this.patchU32(this.length, value)
    this.length += 4
  }

  u64(value: number): void {
    this.u32(Math.floor(value / TWO_32))
    this.u32(value % TWO_32)
  }

  patchU32(at: number, value: number): void {
    const { buffer } = this
    buffer[at] = value >>> 24
    buffer[at + 1] = value >>> 16
    buffer[at + 2] = value >>> 8
    buffer[at + 3] = value
  }

  uvarint(value: number): void {
    assert(value >= 0 && Number.isSafeInteger(value), 'an unsigned varint is a whole number up to 2^53 − 1')
    if (this.length + 10 > this.buffer.length) this.reserve(10)
    const { buffer } = this
    let rest = value
    let at = this.length
    while (rest >= 0x80000000) {
      buffer[at++] = (rest % 128) | 128
      rest = Math.floor(rest / 128)
    }
    while (rest > 127) {
      buffer[at++] = (rest & 127) | 128
      rest >>>= 7
    }
    buffer[at++] = rest
    this.length = at
  }

  /** Zigzag. */
  varint(value: number): void {
    assert(Number.isSafeInteger(value), 'a signed varint is a whole number within ±(2^53 − 1)')
    const magnitude = value < 0 ? -value - 1 : value
    const first = ((magnitude % 64) << 1) | (value < 0 ? 1 : 0) // doubling could pass 2^53, so six bits are split off
    if (magnitude < 64) {
      this.u8(first)
      return
    }
    this.u8(first | 128)
    this.uvarint(Math.floor(magnitude / 64))
  }

  /** Length in bytes, then UTF-8. */
  text(text: string): void {
    const length = Buffer.byteLength(text)
    this.uvarint(length)
    this.reserve(length)
    if (length === text.length && length < 32) {
      for (let i = 0; i < length; i++) this.buffer[this.length + i] = text.charCodeAt(i)
    } else {
      Buffer.from(this.buffer.buffer, this.length, length).write(text, 'utf8')
    }
    this.length += length
  }

  bytes(bytes: Uint8Array): void {
    this.reserve(bytes.length)
    this.buffer.set(bytes, this.length)
    this.length += bytes.length
  }

  /** Zero bytes until the length is a multiple of `size`. */
  pad(size: number): void {
    const rest = this.length % size
    if (rest === 0) return
    this.reserve(size)
    this.buffer.fill(0, this.length, this.length + size - rest)
    this.length += size - rest
  }

  /** What was written: a view when it fills most of the buffer, else a copy. The writer starts with a new buffer. */
  take(): Uint8Array<ArrayBuffer> {
    const { buffer, length } = this
    this.buffer = new Uint8Array(64)
    this.length = 0
    return length * 2 > buffer.length ? buffer.subarray(0, length) : buffer.slice(0, length)
  }

  /** A copy. */
  finish(): Uint8Array<ArrayBuffer> {
    return this.buffer.slice(0, this.length)
  }
}

/** Reads `bytes` [at, end), which are those of `file` from byte `base` on. */
export class ByteReader {
  readonly source: Uint8Array
  at: number
  readonly end: number
  private readonly file: string
  private readonly base: number

  constructor(source: Uint8Array, at: number, end: number, file: string, base: number) {
    this.source = source
    this.at = at
    this.end = end
    this.file = file
    this.base = base
  }

  /** Where in the file the next byte stands. */
  get offset(): number {
    return this.base + this.at
  }

  u8(): number {
    if (this.at >= this.end) this.fail('ends too early')
    return this.source[this.at++]!
  }

  u32(): number {
    if (this.at + 4 > this.end) this.fail('ends too early')
    const value = u32At(this.source, this.at)
    this.at += 4
    return value
  }

  u64(): number {
    const high = this.u32()
    const value = high * TWO_32 + this.u32()
    if (value > Number.MAX_SAFE_INTEGER) this.fail('holds a number above 2^53')
    return value
  }

  uvarint(): number {
    const { source, end } = this
    const first = source[this.at]!
    if (first < 128 && this.at < end) {
      this.at++
      return first
    }
    let value = 0
    let at = this.at
    for (let scale = 1; at < end; scale *= 128) {
      const byte = source[at++]!
      value += (byte & 127) * scale
      if (byte < 128) {
        if (value > Number.MAX_SAFE_INTEGER) this.fail('holds a number above 2^53')
        this.at = at
        return value
      }
      if (scale > 2 ** 42) this.fail('holds a number above 2^53')
    }
    return this.fail('ends too early')
  }

  varint(): number {
    const first = this.u8()
    const more = first < 128 ? 0 : this.uvarint()
    const magnitude = more * 64 + ((first & 127) >>> 1)
    if (magnitude > Number.MAX_SAFE_INTEGER) this.fail('holds a number beyond ±2^53')
    return (first & 1) === 1 ? -magnitude - 1 : magnitude
  }

  text(): string {
    const length = this.uvarint()
    const start = this.at
    if (length > this.end - start) this.fail('ends too early')
    this.at = start + length
    return decodeUtf8(this.source, start, this.at) ?? this.fail('holds text that is not UTF-8')
  }

  /** Steps over a text. */
  skipText(): void {
    const length = this.uvarint()
    if (length > this.end - this.at) this.fail('ends too early')
    this.at += length
  }

  fail(what: string): never {
    throw corruptAt(this.file, this.base + this.at, what)
  }
}

export function u32At(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0
}
