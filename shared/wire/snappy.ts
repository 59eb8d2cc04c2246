// Snappy's block format, the only compression of remote write. Our own decoder fills a buffer that is used again and again: a
// fresh buffer of that size costs more in page faults than the decoding itself. A hot kernel.
//
// Invariants
//   SNAPPY-1  The declared length is checked against the limit, and against what the body could hold, before anything is allocated.
//   SNAPPY-2  The result has exactly the declared length and every byte of it was written by this call: nothing of an earlier body,
//       perhaps another tenant's, can show through.
//   SNAPPY-3  Literals and copies stay inside input and output; whatever breaks that is refused.
import { snappyCompressor } from 'hysnappy'
import { RefusedError } from '../base/errors.ts'

const CAPACITY_FIRST = 1 << 20

/** No body grows by more: the best tag makes 64 bytes of 3. Keeps a small lie from making a large buffer. */
const GAIN_MAX = 22

/** The length that the header declares: at most 2^32 − 1 by the format. */
export function declaredLength(bytes: Uint8Array): number {
  let length = 0
  for (let i = 0; i < 5 && i < bytes.length; i++) {
    const byte = bytes[i]!
    length += (byte & 127) * 2 ** (7 * i)
    if (byte >= 128) continue
    if (length > 0xffffffff) break
    return length
  }
  throw corrupt()
}

export interface Decompressor {
  /** A view of a reused buffer, valid until the next call. `lengthMax` bounds the decoded length. */
  decompress(body: Uint8Array, lengthMax: number): Uint8Array<ArrayBuffer>
}

/** A decompressor with a buffer of its own, which grows to the largest body seen (at most the largest `lengthMax`). */
export function createDecompressor(): Decompressor {
  let buffer = new Uint8Array(0)
  return {
    decompress(body, lengthMax) {
      const length = declaredLength(body)
      if (length > lengthMax) {
        const text = `snappy: decoded length ${length} exceeds limit ${lengthMax}`
        throw new RefusedError('err-carillon-snappy', text)
      }
      if (length > body.length * GAIN_MAX) throw corrupt()
      if (length + SLACK > buffer.length) buffer = new Uint8Array(capacityFor(length, lengthMax) + SLACK)
      decode(body, buffer, length)
      return buffer.subarray(0, length)
    },
  }
}

let compressor: ((input: Uint8Array) => Uint8Array) | undefined

/** For tests and the bench; nothing that we serve is compressed with it. */
export function compress(bytes: Uint8Array): Uint8Array {
  compressor ??= snappyCompressor()
  return compressor(bytes)
}

function capacityFor(length: number, lengthMax: number): number {
  let capacity = CAPACITY_FIRST
  while (capacity < length) capacity *= 2
  return Math.max(length, Math.min(capacity, lengthMax))
}

/** Bytes behind the result that steps of several bytes may touch. */
const SLACK = 16

/** Writes exactly `length` bytes to the start of `output`, which has SLACK more. Bytes move eight at a time where that
 *  is safe: BigInt64 reads and writes keep every bit, and compiled code makes no BigInt of them. */
function decode(input: Uint8Array, output: Uint8Array, length: number): void {
  const inputEnd = input.length
  const from64 = new DataView(input.buffer, input.byteOffset, inputEnd)
  const to64 = new DataView(output.buffer, output.byteOffset, output.length)
  let from = 1
  while (input[from - 1]! >= 128) from++
  let to = 0
  while (from < inputEnd) {
    const tag = input[from++]!
    let count = (tag >>> 2) + 1
    let offset: number
    if ((tag & 3) === 0) {
      if (count > 60) {
        const width = count - 60
        if (from + width > inputEnd) throw corrupt()
        count = input[from]!
        if (width > 1) count |= input[from + 1]! << 8
        if (width > 2) count |= input[from + 2]! << 16
        if (width > 3) count += input[from + 3]! * 0x1000000
        count++
        from += width
      }
      if (count > inputEnd - from || count > length - to) throw corrupt()
      if (count <= 96 && from + count + 8 <= inputEnd) {
        for (let i = 0; i < count; i += 8) to64.setBigInt64(to + i, from64.getBigInt64(from + i, true), true)
      } else {
        output.set(input.subarray(from, from + count), to)
      }
      from += count
      to += count
      continue
    }
    if ((tag & 3) === 1) {
      if (from >= inputEnd) throw corrupt()
      count = ((tag >>> 2) & 7) + 4
      offset = ((tag & 0xe0) << 3) | input[from]!
      from += 1
    } else if ((tag & 3) === 2) {
      if (from + 2 > inputEnd) throw corrupt()
      offset = input[from]! | (input[from + 1]! << 8)
      from += 2
    } else {
      if (from + 4 > inputEnd) throw corrupt()
      offset = (input[from]! | (input[from + 1]! << 8) | (input[from + 2]! << 16) | (input[from + 3]! << 24)) >>> 0
      from += 4
    }
    if (offset === 0 || offset > to || count > length - to) throw corrupt()
    const source = to - offset
    if (offset >= 8) {
      for (let i = 0; i < count; i += 8) to64.setBigInt64(to + i, to64.getBigInt64(source + i, true), true)
    } else {
      for (let i = 0; i < count; i++) output[to + i] = output[source + i]!
    }
    to += count
  }
  if (to !== length) throw corrupt()
}

function corrupt(): RefusedError {
  return new RefusedError('err-carillon-snappy', 'snappy: corrupt input')
}
