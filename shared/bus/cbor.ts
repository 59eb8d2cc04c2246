// CBOR as messages carry it. Bytes from outside are walked once before they are decoded: what decoding takes is then bounded by their length.
//
// Invariants
//   CBOR-1  No tag is decoded but those of typed arrays (64 to 87), each of a byte string: a bignum of a megabyte takes minutes to make.
//   CBOR-2  Nothing is nested deeper than DEPTH_MAX, there are no more items than asked for, and every item lies within the bytes.
import { Encoder, setSizeLimits } from 'cbor-x'
import { RefusedError, textOf } from '../base/errors.ts'

const DEPTH_MAX = 64
const ITEMS_MAX = 4_000_000

setSizeLimits({ maxArraySize: ITEMS_MAX, maxMapSize: ITEMS_MAX, maxObjectSize: ITEMS_MAX })

const encoder = new Encoder({ useRecords: false, tagUint8Array: false, variableMapSize: true })

/** Typed arrays keep their bits; a scalar -0 becomes 0. */
export function encodeCbor(value: unknown): Uint8Array {
  return encoder.encode(value)
}

export interface CborBounds {
  /** Of values, names and lists, all told. */
  readonly itemsMax?: number
  readonly hasTypedArrays: boolean
}

/** Throws RefusedError `err-carillon-bad-message`. */
export function decodeCbor(bytes: Uint8Array, bounds: CborBounds): unknown {
  walk(bytes, bounds)
  try {
    return encoder.decode(bytes)
  } catch (error) {
    throw refused(textOf(error), error)
  }
}

const TAG_TYPED_FIRST = 64
const TAG_TYPED_LAST = 87
const ENDLESS = -1

/** Whether the bytes are one item of CBOR that keeps to the bounds. */
function walk(bytes: Uint8Array, { itemsMax = ITEMS_MAX, hasTypedArrays }: CborBounds): void {
  const open: number[] = [] // items to come of each list around; ENDLESS: until a break
  let at = 0
  let isTagged = false
  for (let count = 0; ; count++) {
    if (at >= bytes.length) throw refused('it ends early')
    if (count > itemsMax) throw refused(`it has more than ${itemsMax} items`)
    const initial = bytes[at++]!
    const major = initial >>> 5
    const low = initial & 31
    if (initial === 0xff) {
      if (isTagged || open.pop() !== ENDLESS) throw refused('it has a break where nothing ends')
    } else {
      const isEndless = low === 31 && major >= 2 && major <= 5
      if (low > 27 && !isEndless) throw refused('it has an item of no known length')
      const width = low < 24 || isEndless ? 0 : 1 << (low - 24)
      if (at + width > bytes.length) throw refused('it ends early')
      const number = width === 0 ? low : numberAt(bytes, at, width)
      at += width
      if (isTagged && (major !== 2 || isEndless)) throw refused('it has a typed array that is not of bytes')
      isTagged = major === 6
      if (isTagged) {
        const isTyped = number >= TAG_TYPED_FIRST && number <= TAG_TYPED_LAST
        if (!hasTypedArrays || !isTyped) throw refused(`it has the tag ${number}`)
        continue
      }
      if (isEndless) open.push(ENDLESS)
      else if (major === 2 || major === 3) {
        if (number > bytes.length - at) throw refused('it ends early')
        at += number
      } else if (major === 4 || major === 5) {
        const items = major === 4 ? number : 2 * number
        if (items > bytes.length - at) throw refused('it ends early')
        open.push(items + 1) // with itself
      }
      if (open.length > DEPTH_MAX) throw refused(`it is nested deeper than ${DEPTH_MAX} levels`)
      if (isEndless) continue
    }
    while (open.length > 0 && open[open.length - 1] !== ENDLESS && --open[open.length - 1]! === 0) open.pop()
    if (open.length === 0) break
  }
  if (at !== bytes.length) throw refused('something follows it')
}

function numberAt(bytes: Uint8Array, at: number, width: number): number {
  let number = 0
  for (let i = 0; i < width; i++) number = number * 256 + bytes[at + i]!
  return number
}

function refused(why: string, cause?: unknown): RefusedError {
  return new RefusedError('err-carillon-bad-message', `message is not CBOR that is taken: ${why}`, { cause })
}
