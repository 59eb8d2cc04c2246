// The protobuf wire format, as far as remote write needs it: numbers read straight from the bytes, nothing allocated.
//
// A read returns the value and leaves the position after it in `cursor.at`. Callers check `end` of the enclosing message; reads
// never leave the bytes. Everything broken is refused with `err-carillon-protobuf`. Hot kernel.
import { RefusedError } from '../base/errors.ts'

export const VARINT = 0
export const FIXED64 = 1
export const LENGTH = 2
export const FIXED32 = 5

/** Where the last read ended. */
export const cursor = { at: 0 }

export function malformed(text: string): RefusedError {
  return new RefusedError('err-carillon-protobuf', text)
}

export function truncated(): RefusedError {
  return malformed('unexpected EOF')
}

/** An unsigned varint; above 2^53 the number next to it: whether it may be so large is for those to say who know what it counts. */
export function readUvarint(bytes: Uint8Array, at: number, end: number): number {
  let value = 0
  for (let scale = 1; at < end; scale *= 128) {
    const byte = bytes[at++]!
    value += (byte & 127) * scale
    if (byte < 128) {
      cursor.at = at
      return value
    }
    if (scale > 2 ** 56) throw malformed('integer overflow')
  }
  throw truncated()
}

/** An int64, as ten bytes when negative; beyond ±2^53 the number next to it. */
export function readInt64(bytes: Uint8Array, at: number, end: number): number {
  let low = 0 // 28 bits
  let middle = 0 // 28 bits
  let high = 0 // 8 bits, the top one is the sign
  let shift = 0
  for (; ; shift += 7) {
    if (at >= end) throw truncated()
    if (shift > 63) throw malformed('integer overflow')
    const byte = bytes[at++]!
    if (shift < 28) low |= (byte & 127) << shift
    else if (shift < 56) middle |= (byte & 127) << (shift - 28)
    else high |= (byte & 127) << (shift - 56)
    if (byte < 128) break
  }
  cursor.at = at
  return ((high << 24) >> 24) * 2 ** 56 + middle * 2 ** 28 + low
}

/** A sint32 or sint64: zigzag; beyond ±2^53 the number next to it. */
export function readSint(bytes: Uint8Array, at: number, end: number): number {
  if (at >= end) throw truncated()
  const first = bytes[at]!
  cursor.at = at + 1
  const more = first < 128 ? 0 : readUvarint(bytes, at + 1, end)
  const magnitude = more * 64 + ((first & 127) >>> 1)
  return (first & 1) === 1 ? -magnitude - 1 : magnitude
}

/** A field's tag: number × 8 + wire type. */
export function readTag(bytes: Uint8Array, at: number, end: number): number {
  if (at < end) {
    const tag = bytes[at]!
    if (tag < 128 && tag > 7) {
      cursor.at = at + 1
      return tag
    }
  }
  const tag = readUvarint(bytes, at, end)
  if (tag > 0xffffffff || tag < 8) throw malformed(`illegal tag ${tag}`)
  return tag
}

/** The length of a length-delimited field whose bytes all lie before `end`; cursor.at is then their start. */
export function readLength(bytes: Uint8Array, at: number, end: number): number {
  let length = at < end ? bytes[at]! : 128
  if (length < 128) cursor.at = at + 1
  else length = readUvarint(bytes, at, end)
  if (length > end - cursor.at) throw truncated()
  return length
}

/** Skips the value of a field and returns the position after it. */
export function skipField(tag: number, bytes: Uint8Array, at: number, end: number): number {
  const wireType = tag & 7
  let next: number
  if (wireType === VARINT) {
    next = at
    while (next < end && bytes[next]! >= 128) next++
    next++
    if (next - at > 10) throw malformed('integer overflow')
  } else if (wireType === FIXED64) next = at + 8
  else if (wireType === FIXED32) next = at + 4
  else if (wireType === LENGTH) next = readLength(bytes, at, end) + cursor.at
  else throw malformed(`unsupported wire type ${wireType}`)
  if (next > end) throw truncated()
  return next
}

/** Refuses a known field that came with another wire type. */
export function wrongWireType(tag: number, field: string): RefusedError {
  return malformed(`wrong wire type ${tag & 7} for field ${field}`)
}
