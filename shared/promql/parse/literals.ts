// What a number, a duration and a string literal are worth. The rules and the error texts are those of Go's strconv and
// of Prometheus' durations.
import { decodeBytes, quote } from './go-text.ts'

/** A literal that looks right and is not. The message is the part after `parse error: `. */
export class LiteralError extends Error {}

const INT64_MAX = 2n ** 63n - 1n
/** In whatever base. */
const INT64_DIGITS_MAX = 22

/** A number as written: decimal, `0x…`, octal with a leading 0, underscores between digits, Inf, NaN. */
export function numberFrom(text: string): number {
  const whole = wholeFrom(text)
  if (whole !== undefined) return whole
  const lower = text.toLowerCase()
  if (lower === 'inf') return Infinity
  if (lower === 'nan') return NaN
  const isWellFormed = /^(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:e[+-]?\d[\d_]*)?$/i.test(text) && hasGoodUnderscores(text)
  if (!isWellFormed)
    throw new LiteralError(`error parsing number: strconv.ParseFloat: parsing ${quote(text)}: invalid syntax`)
  const value = Number(text.replaceAll('_', ''))
  if (value === Infinity) {
    throw new LiteralError(`error parsing number: strconv.ParseFloat: parsing ${quote(text)}: value out of range`)
  }
  return value
}

/** The value when the text is a whole number that fits 64 bits, by the base that its prefix says. */
function wholeFrom(text: string): number | undefined {
  if (!hasGoodUnderscores(text)) return undefined
  const digits = text.replaceAll('_', '').toLowerCase()
  if (digits.replace(/^0x0*|^0+/, '').length > INT64_DIGITS_MAX) return undefined
  let value: bigint
  if (/^0x[\da-f]+$/.test(digits)) value = BigInt(digits)
  else if (/^0[0-7]+$/.test(digits)) value = BigInt(`0o${digits.slice(1)}`)
  else if (/^(?:0|[1-9]\d*)$/.test(digits)) value = BigInt(digits)
  else return undefined
  return value <= INT64_MAX ? Number(value) : undefined
}

/** Each underscore stands between digits, or between a base prefix and a digit. */
function hasGoodUnderscores(text: string): boolean {
  if (!text.includes('_')) return true
  const isHex = /^0x/i.test(text)
  const rest = isHex ? `0${text.slice(2)}` : text
  return isHex ? /^[\da-f]+(?:_[\da-f]+)*$/i.test(rest) : !/(?:^|[^\d])_|_(?:$|[^\d])/.test(rest)
}

const UNITS: ReadonlyMap<string, readonly [rank: number, ns: bigint]> = new Map([
  ['ms', [7, 1_000_000n]],
  ['s', [6, 1_000_000_000n]],
  ['m', [5, 60_000_000_000n]],
  ['h', [4, 3_600_000_000_000n]],
  ['d', [3, 86_400_000_000_000n]],
  ['w', [2, 604_800_000_000_000n]],
  ['y', [1, 31_536_000_000_000_000n]],
])

/** Seconds of a duration such as `1h30m`: units from the biggest to the smallest, each once. */
export function secondsFrom(text: string): number {
  const wrong = () => new LiteralError(`not a valid duration string: ${quote(text)}`)
  if (!/^\d/.test(text)) throw wrong()
  let totalNs = 0n
  let lastRank = 0
  for (const part of text.match(/\d+\D+/g) ?? []) {
    const [, digits, unit] = /^(\d+)(\D+)$/.exec(part)!
    if (digits!.replace(/^0+/, '').length > INT64_DIGITS_MAX) throw wrong()
    const count = BigInt(digits!)
    if (count >= 2n ** 64n) throw wrong()
    const known = UNITS.get(unit!)
    if (known === undefined) throw new LiteralError(`unknown unit ${quote(unit!)} in duration ${quote(text)}`)
    const [rank, unitNs] = known
    if (rank <= lastRank) throw wrong()
    lastRank = rank
    if (count > 2n ** 63n / unitNs) throw new LiteralError('duration out of range')
    totalNs += count * unitNs
    if (totalNs > INT64_MAX) throw new LiteralError('duration out of range')
  }
  const wholeSeconds = totalNs / 1_000_000_000n
  return Number(wholeSeconds) + Number(totalNs % 1_000_000_000n) / 1e9
}

const ESCAPES = new Map(Object.entries({ a: '\x07', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' }))
const ESCAPE = /\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|([0-7]{3})|(.))/g

/** The escapes of long patterns: `10\\\\.1`. */
const ONLY_BACKSLASHES = /^[^\\]*(?:\\\\[^\\]*)*$/

/** The value of a string literal that the lexer let through; `bytes` has its quotes and one character a byte. */
export function stringFrom(bytes: string): string {
  const inner = bytes.slice(1, -1)
  if (bytes[0] === '`' || !inner.includes('\\')) return decodeBytes(inner)
  if (ONLY_BACKSLASHES.test(inner)) return decodeBytes(inner.replaceAll('\\\\', '\\'))
  return decodeBytes(
    inner.replace(ESCAPE, (_, byte?: string, short?: string, long?: string, octal?: string, letter?: string) => {
      if (byte !== undefined) return String.fromCharCode(Number.parseInt(byte, 16))
      if (octal !== undefined) return String.fromCharCode(Number.parseInt(octal, 8))
      const rune = short ?? long
      if (rune !== undefined) return Buffer.from(String.fromCodePoint(Number.parseInt(rune, 16))).toString('latin1')
      return ESCAPES.get(letter!) ?? letter!
    }),
  )
}
