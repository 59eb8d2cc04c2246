// Label regions: the labels of one series as one run of bytes, which can be compared and hashed without decoding them.
//
//   region = label*        label = 0x0a length( 0x0a length(name) name 0x12 length(value) value )
//
// That is remote write 1.0's own coding of labels with every field present, in order, and lengths as short as possible, so most
// senders' bytes are a region as they stand. Two regions are equal exactly when they hold the same labels in the same order.
// Names and values may be empty, unsorted or twice: that is for the distributor to judge. Hot kernel.
import { CorruptError, RefusedError } from '../base/errors.ts'
import { cursor, LENGTH, malformed, readLength, readTag, skipField, wrongWireType } from './protobuf.ts'
import { decodeUtf8 } from './utf8.ts'

/** Calls `visit` for each label with the positions of its name and value; the region must be one that a reader of this room made. */
export function forEachLabel(
  bytes: Uint8Array,
  start: number,
  end: number,
  visit: (nameStart: number, nameEnd: number, valueStart: number, valueEnd: number) => void,
): void {
  let at = start
  while (at < end) {
    if (bytes[at] !== 0x0a) throw broken()
    const next = readLength(bytes, at + 1, end) + cursor.at
    const labelStart = cursor.at
    if (bytes[labelStart] !== 0x0a) throw broken()
    const nameEnd = readLength(bytes, labelStart + 1, next) + cursor.at
    const nameStart = cursor.at
    if (nameEnd >= next || bytes[nameEnd] !== 0x12) throw broken()
    const valueEnd = readLength(bytes, nameEnd + 1, next) + cursor.at
    const valueStart = cursor.at
    if (valueEnd !== next) throw broken()
    visit(nameStart, nameEnd, valueStart, valueEnd)
    at = next
  }
}

/** [name, value, name, value, …] in the region's order. Refuses what is not UTF-8. */
export function decodeLabels(bytes: Uint8Array, start: number, end: number): string[] {
  const labels: string[] = []
  forEachLabel(bytes, start, end, (nameStart, nameEnd, valueStart, valueEnd) => {
    labels.push(textOf(bytes, nameStart, nameEnd, 'name'), textOf(bytes, valueStart, valueEnd, 'value'))
  })
  return labels
}

/** The bytes hashed last, whose view serves the next call: the series of a request share theirs. */
let hashed: Uint8Array = new Uint8Array(0)
let hashedView: DataView = new DataView(hashed.buffer)

/** A 32-bit hash of bytes [start, end), signed. Stable across machines and versions, not safe against chosen collisions. */
export function hashBytes(bytes: Uint8Array, start: number, end: number, seed = 0): number {
  if (bytes !== hashed) {
    hashed = bytes
    hashedView = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  }
  const view = hashedView
  let even = seed ^ 0x2f0b4c47
  let odd = seed ^ 0x5bd1e995
  let at = start
  for (const stop = end - 7; at < stop; at += 8) {
    even ^= view.getInt32(at, true)
    odd ^= view.getInt32(at + 4, true)
    even = Math.imul(even, 0x9e3779b1)
    odd = Math.imul(odd, 0x85ebca77)
    even = (even << 15) | (even >>> 17)
    odd = (odd << 13) | (odd >>> 19)
  }
  for (; at < end; at++) {
    even = Math.imul(even ^ bytes[at]!, 0x9e3779b1)
    even = (even << 15) | (even >>> 17)
  }
  let hash = even ^ Math.imul((odd << 16) | (odd >>> 16), 0xc2b2ae3d) ^ (end - start)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return hash ^ (hash >>> 16)
}

/** The end of the run of labels that starts at `at` and is a region as it stands, or −1 when one of them needs another coding. */
export function regionEnd(bytes: Uint8Array, at: number, end: number): number {
  while (at + 1 < end && bytes[at] === 0x0a) {
    const length = bytes[at + 1]!
    if (length >= 128) {
      at = longLabelEnd(bytes, at, end)
      if (at < 0) return -1
      continue
    }
    const next = at + 2 + length
    if (next > end) throw malformed('unexpected EOF')
    if (length < 4 || bytes[at + 2] !== 0x0a) return -1
    const valueTag = at + 4 + bytes[at + 3]!
    if (valueTag + 1 >= next || bytes[valueTag] !== 0x12 || bytes[valueTag + 1] !== next - valueTag - 2) return -1
    at = next
  }
  return at
}

/** Builds regions from labels in any coding. Its buffer is used again: a region is valid until the next reset. */
export class RegionBuilder {
  bytes = new Uint8Array(4096)
  length = 0
  private view = new DataView(this.bytes.buffer)
  private source: Uint8Array = new Uint8Array(0)
  private sourceView: DataView = new DataView(this.source.buffer)

  reset(): void {
    this.length = 0
  }

  /** Adds a label from a name and a value that lie in `source`. */
  add(source: Uint8Array, nameStart: number, nameEnd: number, valueStart: number, valueEnd: number): void {
    const nameLength = nameEnd - nameStart
    const valueLength = valueEnd - valueStart
    const needed = nameLength + valueLength + 32 // two tags, three lengths, and what a last step of eight bytes touches
    if (this.length + needed > this.bytes.length) this.grow(needed)
    if (source !== this.source) {
      this.source = source
      this.sourceView = new DataView(source.buffer, source.byteOffset, source.length)
    }
    const { bytes } = this
    let at = this.length
    bytes[at++] = 0x0a
    at = putLength(bytes, at, 2 + lengthSize(nameLength) + nameLength + lengthSize(valueLength) + valueLength)
    bytes[at++] = 0x0a
    at = putLength(bytes, at, nameLength)
    at = this.put(at, nameStart, nameEnd)
    bytes[at++] = 0x12
    at = putLength(bytes, at, valueLength)
    this.length = this.put(at, valueStart, valueEnd)
  }

  /** Adds a Label message, whatever the order of its fields; the last one of a kind counts. */
  addMessage(bytes: Uint8Array, start: number, end: number): void {
    const span = [start, start, start, start]
    for (let at = start; at < end; ) {
      const tag = readTag(bytes, at, end)
      const field = tag >>> 3
      if (field !== 1 && field !== 2) {
        at = skipField(tag, bytes, cursor.at, end)
        continue
      }
      if ((tag & 7) !== LENGTH) throw wrongWireType(tag, field === 1 ? 'name' : 'value')
      at = readLength(bytes, cursor.at, end) + cursor.at
      span[field * 2 - 2] = cursor.at
      span[field * 2 - 1] = at
    }
    this.add(bytes, span[0]!, span[1]!, span[2]!, span[3]!)
  }

  private grow(needed: number): void {
    const next = new Uint8Array(Math.max(this.bytes.length * 2, this.length + needed))
    next.set(this.bytes)
    this.bytes = next
    this.view = new DataView(next.buffer)
  }

  /** Copies from the source, eight bytes a step where the source has them; BigInt64 keeps every bit. */
  private put(at: number, start: number, end: number): number {
    const { view, sourceView } = this
    if (end - start > 96 || end + 8 > this.source.length) {
      this.bytes.set(this.source.subarray(start, end), at)
    } else {
      for (let i = start, to = at; i < end; i += 8, to += 8) {
        view.setBigInt64(to, sourceView.getBigInt64(i, true), true)
      }
    }
    return at + end - start
  }
}

/** As one step of regionEnd, for a label of 128 bytes or more. */
function longLabelEnd(bytes: Uint8Array, at: number, end: number): number {
  const length = readLength(bytes, at + 1, end)
  const labelStart = cursor.at
  const next = labelStart + length
  if (labelStart - at - 1 !== lengthSize(length) || bytes[labelStart] !== 0x0a) return -1
  const nameLength = readLength(bytes, labelStart + 1, next)
  const nameEnd = cursor.at + nameLength
  if (cursor.at - labelStart - 1 !== lengthSize(nameLength)) return -1
  if (nameEnd >= next || bytes[nameEnd] !== 0x12) return -1
  const valueLength = readLength(bytes, nameEnd + 1, next)
  if (cursor.at - nameEnd - 1 !== lengthSize(valueLength)) return -1
  return cursor.at + valueLength === next ? next : -1
}

function lengthSize(length: number): number {
  if (length < 0x80) return 1
  if (length < 0x4000) return 2
  if (length < 0x200000) return 3
  return length < 0x10000000 ? 4 : 5
}

function putLength(bytes: Uint8Array, at: number, length: number): number {
  while (length > 127) {
    bytes[at++] = (length & 127) | 128
    length >>>= 7
  }
  bytes[at++] = length
  return at
}

/** Strings decoded lately, by the hash of their bytes: series share nearly all of their labels' strings, and to find one again costs a
 *  third of making it anew. One place per hash; who comes later takes it. */
const RECENT_MAX = 16_384
const RECENT_LENGTH_MAX = 128
const recent: string[] = new Array<string>(RECENT_MAX).fill('')

function textOf(bytes: Uint8Array, start: number, end: number, part: 'name' | 'value'): string {
  if (end - start > RECENT_LENGTH_MAX) return decoded(bytes, start, end, part)
  let hash = end - start
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193)
  const place = (hash ^ (hash >>> 15)) & (RECENT_MAX - 1)
  const known = recent[place]!
  if (isAscii(known, bytes, start, end)) return known
  const text = decoded(bytes, start, end, part)
  recent[place] = text
  return text
}

/** Whether the text stands in bytes [start, end) one byte a character. A text with other characters is never found. */
function isAscii(text: string, bytes: Uint8Array, start: number, end: number): boolean {
  if (text.length !== end - start) return false
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    if (unit !== bytes[start + i] || unit > 127) return false
  }
  return true
}

function decoded(bytes: Uint8Array, start: number, end: number, part: 'name' | 'value'): string {
  const text = decodeUtf8(bytes, start, end)
  if (text !== undefined) return text
  throw new RefusedError('err-carillon-label-invalid-utf8', `label ${part} is not valid UTF-8`)
}

function broken(): CorruptError {
  return new CorruptError('err-carillon-corrupt', 'label region is broken')
}
