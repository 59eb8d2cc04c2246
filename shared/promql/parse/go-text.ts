// Text as Go writes and reads it: quoting, numbers, durations, and strings of bytes that need not be UTF-8.
//
// Invariants
//   TEXT-1  A byte that is not UTF-8 stands in a string as the lone surrogate U+DC00 + byte, so that nothing is lost
//       between reading and printing. Real text holds no lone surrogates: query texts are well-formed Unicode.

const PRINTABLE = /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$/u
const PLAIN_ASCII = /^[ !#-[\]-~]*$/

const SHORT_ESCAPES = new Map([
  [0x07, '\\a'],
  [0x08, '\\b'],
  [0x0c, '\\f'],
  [0x0a, '\\n'],
  [0x0d, '\\r'],
  [0x09, '\\t'],
  [0x0b, '\\v'],
  [0x5c, '\\\\'],
])

/** Double-quoted, with Go's escapes. */
export function quote(text: string): string {
  if (PLAIN_ASCII.test(text)) return `"${text}"`
  let quoted = '"'
  for (const character of text) quoted += escaped(character, '"')
  return `${quoted}"`
}

/** One code point between single quotes; -1 (the end of the text) gives the replacement character. */
export function quoteRune(rune: number): string {
  return `'${escaped(rune < 0 ? '\ufffd' : String.fromCodePoint(rune), "'")}'`
}

/** `U+0078 'x'`. */
export function runeName(rune: number): string {
  const name = `U+${rune.toString(16).toUpperCase().padStart(4, '0')}`
  const character = String.fromCodePoint(rune)
  return PRINTABLE.test(character) ? `${name} '${character}'` : name
}

function escaped(character: string, mark: string): string {
  const rune = character.codePointAt(0)!
  const short = SHORT_ESCAPES.get(rune)
  if (short !== undefined) return short
  if (character === mark) return `\\${mark}`
  if (PRINTABLE.test(character)) return character
  if (rune >= 0xdc80 && rune <= 0xdcff) return `\\x${hex(rune - 0xdc00, 2)}` // TEXT-1
  if (rune < 0x20 || rune === 0x7f) return `\\x${hex(rune, 2)}`
  return rune < 0x10000 ? `\\u${hex(rune, 4)}` : `\\U${hex(rune, 8)}`
}

function hex(value: number, width: number): string {
  return value.toString(16).padStart(width, '0')
}

/** The text as one character a byte. */
export function encodeBytes(text: string): string {
  return Buffer.byteLength(text) === text.length ? text : Buffer.from(text).toString('latin1')
}

/** The other way round; TEXT-1 for what is not UTF-8. */
export function decodeBytes(bytes: string): string {
  const firstHigh = bytes.search(/[\x80-\xff]/)
  return firstHigh < 0 ? bytes : decodeFrom(bytes, firstHigh)
}

function decodeFrom(bytes: string, firstHigh: number): string {
  let text = bytes.slice(0, firstHigh)
  for (let i = firstHigh; i < bytes.length; ) {
    const { rune, width } = runeAt(bytes, i)
    text += rune < 0 ? String.fromCharCode(0xdc00 + bytes.charCodeAt(i)) : String.fromCodePoint(rune)
    i += width
  }
  return text
}

/** The code point at a byte offset; -1 with width 1 where the bytes are not UTF-8. */
export function runeAt(bytes: string, at: number): { rune: number; width: number } {
  const first = bytes.charCodeAt(at)
  if (first < 0x80) return { rune: first, width: 1 }
  const width =
    first >= 0xf0 && first <= 0xf4 ? 4 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xc2 && first < 0xe0 ? 2 : 0
  if (width === 0 || at + width > bytes.length) return { rune: -1, width: 1 }
  let rune = first & (0xff >> (width + 1))
  for (let i = 1; i < width; i++) {
    const next = bytes.charCodeAt(at + i)
    if ((next & 0xc0) !== 0x80) return { rune: -1, width: 1 }
    rune = (rune << 6) | (next & 0x3f)
  }
  const isTooLong = rune < (width === 4 ? 0x10000 : width === 3 ? 0x800 : 0x80)
  const isNoCharacter = rune > 0x10ffff || (rune >= 0xd800 && rune <= 0xdfff)
  return isTooLong || isNoCharacter ? { rune: -1, width: 1 } : { rune, width }
}

const UNITS: readonly (readonly [unit: string, ms: number, onlyWhole: boolean])[] = [
  ['y', 365 * 86_400_000, true],
  ['w', 7 * 86_400_000, true],
  ['d', 86_400_000, false],
  ['h', 3_600_000, false],
  ['m', 60_000, false],
  ['s', 1000, false],
  ['ms', 1, false],
]

/** `1h30m`: years and weeks only where they leave no remainder; fractions of a millisecond are cut off. */
export function formatDuration(durationMs: number): string {
  let rest = Math.trunc(Math.abs(durationMs))
  if (rest === 0) return '0s'
  let text = durationMs < 0 ? '-' : ''
  for (const [unit, ms, onlyWhole] of UNITS) {
    if (onlyWhole && rest % ms !== 0) continue
    const count = Math.floor(rest / ms)
    if (count === 0) continue
    text += `${count}${unit}`
    rest -= count * ms
  }
  return text
}

/** Go's %f: six decimals, every digit of the whole part. */
export function formatFixed(value: number): string {
  if (Number.isNaN(value)) return 'NaN'
  if (!Number.isFinite(value)) return value > 0 ? '+Inf' : '-Inf'
  return Math.abs(value) < 1e21 ? value.toFixed(6) : `${BigInt(value)}.000000`
}
