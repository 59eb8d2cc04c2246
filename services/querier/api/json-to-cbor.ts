// The body of an answer, which is JSON, as CBOR: item by item, so that a body of any size is turned without a pause. What JSON does not say before it
// ends is of indefinite length: lists and maps.
//
// Our own JSON: well-formed, as reply.ts makes it.
import type { Breath } from '../../../shared/base/breathing.ts'

const OPEN_MAP = 0xbf
const OPEN_LIST = 0x9f
const BREAK = 0xff
const FALSE = 0xf4
const TRUE = 0xf5
const NULL = 0xf6
const FLOAT64 = 0xfb
const MAJOR_NEGATIVE = 1
const MAJOR_TEXT = 3

const PIECE_BYTES = 64 * 1024
/** Of an item, and of a byte of a text, in units of work. */
const ITEM_WORK = 50

export async function cborOfJson(json: Uint8Array, breath: Breath): Promise<Uint8Array[]> {
  const out = new Pieces()
  const bytes = Buffer.from(json.buffer, json.byteOffset, json.length)
  for (let at = 0; at < bytes.length; ) {
    const end = putItem(bytes, at, out)
    if (breath.isDue(ITEM_WORK + end - at)) await breath.breathe()
    at = end
  }
  return out.finish()
}

/** Puts what stands at `at`; where it ends. */
function putItem(bytes: Buffer, at: number, out: Pieces): number {
  switch (String.fromCharCode(bytes[at]!)) {
    case '{':
      out.byte(OPEN_MAP)
      return at + 1
    case '[':
      out.byte(OPEN_LIST)
      return at + 1
    case '}':
    case ']':
      out.byte(BREAK)
      return at + 1
    case '"':
      return putText(bytes, at, out)
    case 't':
      out.byte(TRUE)
      return at + 4
    case 'f':
      out.byte(FALSE)
      return at + 5
    case 'n':
      out.byte(NULL)
      return at + 4
    case '-':
      return putNumber(bytes, at, out)
    default:
      return isDigit(bytes[at]!) ? putNumber(bytes, at, out) : at + 1 // a comma, a colon, a space
  }
}

function putText(bytes: Buffer, start: number, out: Pieces): number {
  let end = bytes.indexOf(0x22, start + 1)
  while (isEscaped(bytes, end)) end = bytes.indexOf(0x22, end + 1)
  const raw = bytes.subarray(start + 1, end)
  const text = raw.includes(0x5c) ? Buffer.from(JSON.parse(bytes.toString('utf8', start, end + 1)) as string) : raw
  out.head(MAJOR_TEXT, text.length)
  out.bytes(text)
  return end + 1
}

/** An odd number of backslashes stands before it. */
function isEscaped(bytes: Buffer, at: number): boolean {
  let count = 0
  while (bytes[at - 1 - count] === 0x5c) count++
  return count % 2 === 1
}

function putNumber(bytes: Buffer, start: number, out: Pieces): number {
  let end = start + 1
  while (end < bytes.length && isOfNumber(bytes[end]!)) end++
  const value = Number(bytes.toString('latin1', start, end))
  if (Number.isInteger(value) && value >= 0 && value <= 0xffffffff && !Object.is(value, -0)) out.head(0, value)
  else if (Number.isInteger(value) && value < 0 && value >= -0x80000000) out.head(MAJOR_NEGATIVE, -1 - value)
  else out.float(value)
  return end
}

const isDigit = (byte: number) => byte >= 0x30 && byte <= 0x39
const isOfNumber = (byte: number) =>
  isDigit(byte) || byte === 0x2e || byte === 0x2b || byte === 0x2d || byte === 0x65 || byte === 0x45

class Pieces {
  private readonly done: Uint8Array[] = []
  private piece = Buffer.allocUnsafeSlow(PIECE_BYTES)
  private filled = 0

  byte(value: number): void {
    this.reserve(1)
    this.piece[this.filled++] = value
  }

  /** The type of an item, with its length or value below 2^32. */
  head(major: number, value: number): void {
    this.reserve(5)
    if (value < 24) this.piece[this.filled++] = (major << 5) | value
    else if (value < 256) {
      this.piece[this.filled++] = (major << 5) | 24
      this.piece[this.filled++] = value
    } else if (value < 65_536) {
      this.piece[this.filled++] = (major << 5) | 25
      this.filled = this.piece.writeUInt16BE(value, this.filled)
    } else {
      this.piece[this.filled++] = (major << 5) | 26
      this.filled = this.piece.writeUInt32BE(value, this.filled)
    }
  }

  float(value: number): void {
    this.reserve(9)
    this.piece[this.filled++] = FLOAT64
    this.filled = this.piece.writeDoubleBE(value, this.filled)
  }

  bytes(given: Uint8Array): void {
    if (given.length > PIECE_BYTES) {
      this.leave()
      this.done.push(given)
      return
    }
    this.reserve(given.length)
    this.piece.set(given, this.filled)
    this.filled += given.length
  }

  finish(): Uint8Array[] {
    this.leave()
    return this.done
  }

  private reserve(count: number): void {
    if (this.filled + count > PIECE_BYTES) this.leave()
  }

  private leave(): void {
    if (this.filled > 0) this.done.push(this.piece.subarray(0, this.filled))
    this.piece = Buffer.allocUnsafeSlow(PIECE_BYTES)
    this.filled = 0
  }
}
