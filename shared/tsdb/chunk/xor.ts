// The XOR chunk of floats, byte for byte as Prometheus writes it (docs/formats/chunk.md): encoding id 1.
//
// Hot kernel, hence the long functions: the writer's state of a chunk is a record of 8 words in arrays that the caller owns, so that a
// head can hold millions of open chunks without an object for any.
//
//   floats[f]      time of the last sample           words[w + 4], [w + 5]  last value, low and high word
//   floats[f + 1]  last delta                        words[w + 6]           leading | trailing << 8 | count << 16
//                                                    words[w + 7]           bits written (the 16 of the count included)
// `floats` and `words` view the same buffer and w = 2 f. Times are whole milliseconds within ±2^52.
import { CorruptError } from '../../base/errors.ts'
import { putBits } from './bits.ts'

export const ENCODING_XOR = 1

/** The most bits that one sample can take: 4 + 64 for the time, 2 + 5 + 6 + 64 for the value, or 10 bytes + 64 bits at first. */
export const SAMPLE_BITS_MAX = 152
/** The most bytes that a chunk of `count` samples takes. */
export const xorBytesMax = (count: number): number => 2 + Math.ceil((count * SAMPLE_BITS_MAX) / 8)

export const VALUE_LOW = 4
export const VALUE_HIGH = 5
export const PACKED = 6
export const BITS = 7
/** `words[w + PACKED]` and `words[w + BITS]` of a chunk without samples. */
export const PACKED_EMPTY = 0xff
export const BITS_EMPTY = 16

const TWO_32 = 2 ** 32

/** Appends a sample to the chunk that begins at byte `start`. The caller has made sure of SAMPLE_BITS_MAX bits of room; the count in
 *  the chunk's header is written by `putXorCount`. */
export function xorAppend(
  bytes: Uint8Array,
  start: number,
  floats: Float64Array,
  f: number,
  words: Uint32Array,
  w: number,
  time: number,
  low: number,
  high: number,
): void {
  const count = words[w + PACKED]! >>> 16
  let pos = start * 8 + words[w + BITS]!
  if (count > 1) {
    const delta = time - floats[f]!
    const dod = delta - floats[f + 1]!
    floats[f + 1] = delta
    let prefix = 0
    let prefixBits = 1
    if (dod !== 0) {
      if (dod >= -8191 && dod <= 8192) {
        prefix = (0b10 << 14) | (dod & 0x3fff)
        prefixBits = 16
      } else if (dod >= -65535 && dod <= 65536) {
        prefix = (0b110 << 17) | (dod & 0x1ffff)
        prefixBits = 20
      } else if (dod >= -524287 && dod <= 524288) {
        prefix = (0b1110 << 20) | (dod & 0xfffff)
        prefixBits = 24
      } else {
        putBits(bytes, pos, 0b1111, 4)
        putBits(bytes, pos + 4, Math.floor(dod / TWO_32), 32)
        putBits(bytes, pos + 36, dod % TWO_32, 32)
        pos += 68
        prefixBits = 0
      }
    }
    pos = putValue(bytes, pos, prefix, prefixBits, words, w, low, high)
  } else if (count === 0) {
    pos = putUvarint(bytes, pos, time < 0 ? -2 * time - 1 : 2 * time)
    putBits(bytes, pos, high, 32)
    putBits(bytes, pos + 32, low, 32)
    pos += 64
  } else {
    const delta = time - floats[f]!
    floats[f + 1] = delta
    pos = putUvarint(bytes, pos, delta)
    pos = putValue(bytes, pos, 0, 0, words, w, low, high)
  }
  floats[f] = time
  words[w + VALUE_LOW] = low
  words[w + VALUE_HIGH] = high
  words[w + PACKED] = words[w + PACKED]! + 0x10000
  words[w + BITS] = pos - start * 8
}

/** Writes the value's difference, behind `prefixBits` (0…24) bits of time, and returns the position behind it. */
function putValue(
  bytes: Uint8Array,
  pos: number,
  prefix: number,
  prefixBits: number,
  words: Uint32Array,
  w: number,
  low: number,
  high: number,
): number {
  const xorLow = low ^ words[w + VALUE_LOW]!
  const xorHigh = high ^ words[w + VALUE_HIGH]!
  if ((xorLow | xorHigh) === 0) {
    putBits(bytes, pos, prefix << 1, prefixBits + 1)
    return pos + prefixBits + 1
  }
  const packed = words[w + PACKED]!
  let leading = packed & 0xff
  let trailing = (packed >>> 8) & 0xff
  const newLeading = xorHigh === 0 ? 31 : Math.clz32(xorHigh) // 31 is the most that five bits say
  const newTrailing = xorLow !== 0 ? 31 - Math.clz32(xorLow & -xorLow) : 63 - Math.clz32(xorHigh & -xorHigh)
  if (leading !== 0xff && newLeading >= leading && newTrailing >= trailing) {
    putBits(bytes, pos, (prefix << 2) | 0b10, prefixBits + 2)
    pos += prefixBits + 2
  } else {
    leading = newLeading
    trailing = newTrailing
    words[w + PACKED] = (packed & 0xffff0000) | leading | (trailing << 8)
    if (prefixBits > 0) putBits(bytes, pos, prefix, prefixBits)
    pos += prefixBits
    putBits(bytes, pos, (0b11 << 11) | (leading << 6) | ((64 - leading - trailing) & 63), 13) // 64 is written as 0
    pos += 13
  }
  const size = 64 - leading - trailing
  if (trailing >= 32) {
    putBits(bytes, pos, xorHigh >>> (trailing - 32), size)
  } else {
    if (size > 32) putBits(bytes, pos, xorHigh >>> trailing, size - 32)
    const shifted = trailing === 0 ? xorLow : (xorLow >>> trailing) | (xorHigh << (32 - trailing))
    if (size > 32) putBits(bytes, pos + size - 32, shifted, 32)
    else putBits(bytes, pos, shifted, size)
  }
  return pos + size
}

function putUvarint(bytes: Uint8Array, pos: number, value: number): number {
  let rest = value
  while (rest >= 128) {
    putBits(bytes, pos, (rest % 128) | 128, 8)
    rest = Math.floor(rest / 128)
    pos += 8
  }
  putBits(bytes, pos, rest, 8)
  return pos + 8
}

export function putXorCount(bytes: Uint8Array, start: number, count: number): void {
  bytes[start] = count >>> 8
  bytes[start + 1] = count & 0xff
}

/** The samples that the chunk at `start` says it has. */
export function xorCount(bytes: Uint8Array, start: number): number {
  return (bytes[start]! << 8) | bytes[start + 1]!
}

const encodeFloats = new Float64Array(4)
const encodeWords = new Uint32Array(encodeFloats.buffer)

/** Writes a whole chunk of samples [from, to) in rising time order to `out` at `start` and returns its bytes. `valueBits` is the column
 *  of values as words (`wordsOf`). The room needed is at most `xorBytesMax(to - from)`; at most 65535 samples. */
export function encodeXor(
  times: Float64Array,
  valueBits: Uint32Array,
  from: number,
  to: number,
  out: Uint8Array,
  start: number,
): number {
  encodeWords[PACKED] = PACKED_EMPTY
  encodeWords[BITS] = BITS_EMPTY
  for (let i = from; i < to; i++) {
    xorAppend(out, start, encodeFloats, 0, encodeWords, 0, times[i]!, valueBits[2 * i]!, valueBits[2 * i + 1]!)
  }
  putXorCount(out, start, to - from)
  return (encodeWords[BITS]! + 7) >>> 3
}

/** A column of values as words: [2 i] low, [2 i + 1] high. Values travel as words because a float that passes through a variable
 *  loses the stale marker's bits once the engine has compiled the code. */
export function wordsOf(column: Float64Array): Uint32Array {
  return new Uint32Array(column.buffer as ArrayBuffer, column.byteOffset, column.length * 2)
}

/** Decodes the chunk in bytes [start, end) into the columns from element `at` on, and returns the element behind the last one written.
 *  The columns have room for `xorCount` samples; value bits come out as they went in. */
export function decodeXor(
  bytes: Uint8Array,
  start: number,
  end: number,
  timesOut: Float64Array,
  valuesOut: Float64Array,
  at: number,
): number {
  return decodeXorWords(bytes, start, end, timesOut, wordsOf(valuesOut), at)
}

/** The same with the column of values as words, for those who decode many chunks into one column. */
export function decodeXorWords(
  bytes: Uint8Array,
  start: number,
  end: number,
  timesOut: Float64Array,
  wordsOut: Uint32Array,
  at: number,
): number {
  const count = end - start < 2 ? 0 : xorCount(bytes, start)
  if (count === 0) return at
  if (at + count > timesOut.length || 2 * (at + count) > wordsOut.length) {
    throw new CorruptError('err-carillon-corrupt', `a chunk says ${count} samples, more than its reader was told`)
  }
  // A sample that begins inside may end behind the end, which is damage: what it touches must be there.
  const from = bytes.byteOffset
  if (from + end + BYTES_BEHIND <= bytes.buffer.byteLength) {
    return decodeIn(viewOf(bytes), from + start, from + end, count, timesOut, wordsOut, at)
  }
  const size = end - start
  if (tail.length < size + BYTES_BEHIND) tail = new Uint8Array(2 * size + BYTES_BEHIND)
  tail.set(bytes.subarray(start, end))
  tail.fill(0, size, size + BYTES_BEHIND)
  return decodeIn(viewOf(tail), tail.byteOffset, tail.byteOffset + size, count, timesOut, wordsOut, at)
}

/** More than what one sample and a whole word take. */
const BYTES_BEHIND = 32
/** For chunks at the very end of their memory. */
let tail = new Uint8Array(1024)
/** Of the memory that was read last: chunks of one answer stand in one piece of memory. */
let lastView: DataView = new DataView(new ArrayBuffer(0))

function viewOf({ buffer }: Uint8Array): DataView {
  if (lastView.buffer !== buffer) lastView = new DataView(buffer)
  return lastView
}

/** The 32 bits from bit `pos` on, as a signed word. */
function bitsAt(view: DataView, pos: number): number {
  const at = pos >>> 3
  const used = pos & 7
  return (view.getInt32(at) << used) | (view.getUint8(at + 4) >>> (8 - used))
}

function decodeIn(
  view: DataView,
  start: number,
  end: number,
  count: number,
  timesOut: Float64Array,
  wordsOut: Uint32Array,
  at: number,
): number {
  let pos = (start + 2) * 8
  let size = varintBytes(view, pos >>> 3)
  const zigzag = varintAt(view, pos >>> 3, size)
  let time = zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2
  pos += size * 8
  let high = bitsAt(view, pos)
  let low = bitsAt(view, pos + 32)
  pos += 64
  timesOut[at] = time
  wordsOut[2 * at] = low
  wordsOut[2 * at + 1] = high
  let delta = 0
  let leading = 0
  let trailing = 0
  const last = at + count
  const endBits = end * 8
  for (let i = at + 1; i < last && pos <= endBits; i++) {
    let word: number
    if (i === at + 1) {
      size = varintBytes(view, pos >>> 3)
      delta = varintAt(view, pos >>> 3, size)
      pos += size * 8
      word = bitsAt(view, pos)
    } else {
      word = bitsAt(view, pos)
      if (word >>> 30 === 0) {
        // Each pair of zero bits is one more sample after the same time with the same value: up to sixteen in a word.
        const until = Math.min(last, i + (Math.clz32(word) >>> 1))
        pos += 2 * (until - i)
        for (; i < until; i++) {
          time += delta
          timesOut[i] = time
          wordsOut[2 * i] = low
          wordsOut[2 * i + 1] = high
        }
        i--
        continue
      }
      if (word >= 0) {
        pos += 1
        word <<= 1 // 31 good bits are left, the value's control takes 13
      } else {
        const kind = Math.clz32(~word)
        if (kind === 1) {
          const dod = (word << 2) >>> 18
          delta += dod > 8192 ? dod - 16384 : dod
          pos += 16
        } else if (kind === 2) {
          const dod = (word << 3) >>> 15
          delta += dod > 65536 ? dod - 131072 : dod
          pos += 20
        } else if (kind === 3) {
          const dod = (word << 4) >>> 12
          delta += dod > 524288 ? dod - 1048576 : dod
          pos += 24
        } else {
          delta += bitsAt(view, pos + 4) * TWO_32 + (bitsAt(view, pos + 36) >>> 0)
          pos += 68
        }
        word = bitsAt(view, pos)
      }
    }
    time += delta
    if (word >= 0) {
      pos += 1
    } else {
      if ((word & 0x40000000) === 0) {
        pos += 2
      } else {
        leading = (word >>> 25) & 31
        const significant = (word >>> 19) & 63
        trailing = 64 - leading - (significant === 0 ? 64 : significant)
        if (trailing < 0) throw new CorruptError('err-carillon-corrupt', 'a chunk holds a value of more than 64 bits')
        pos += 13
      }
      const bits = 64 - leading - trailing
      if (bits <= 32) {
        const part = bitsAt(view, pos) >>> (32 - bits)
        if (trailing >= 32) {
          high ^= part << (trailing - 32)
        } else {
          low ^= part << trailing
          if (trailing > 0) high ^= part >>> (32 - trailing)
        }
      } else {
        const top = bitsAt(view, pos) >>> (64 - bits)
        const bottom = bitsAt(view, pos + bits - 32)
        low ^= bottom << trailing
        high ^= trailing === 0 ? top : (top << trailing) | (bottom >>> (32 - trailing))
      }
      pos += bits
    }
    timesOut[i] = time
    wordsOut[2 * i] = low
    wordsOut[2 * i + 1] = high
  }
  if (pos > endBits) throw new CorruptError('err-carillon-corrupt', 'a float chunk ends inside a sample')
  return last
}

function varintBytes(view: DataView, at: number): number {
  let size = 1
  while (size < 10 && view.getUint8(at + size - 1) >= 128) size++
  return size
}

function varintAt(view: DataView, at: number, size: number): number {
  let value = 0
  for (let i = size - 1; i >= 0; i--) value = value * 128 + (view.getUint8(at + i) & 127)
  return value
}
