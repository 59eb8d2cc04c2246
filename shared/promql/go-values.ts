// The parameters of the HTTP API as Prometheus reads them: Go's numbers, times and durations, with the texts Go refuses them with.
//
// Invariants
//   PARAMETER-1  What Prometheus accepts is accepted with the same meaning, what it refuses is refused with the same text. Known differences:
//       times that are not finite, hexadecimal floats (both refused), and times beyond ±2^53 ms, which are cut to that.
import { RefusedError } from '../base/errors.ts'
import { quote } from './parse/go-text.ts'

export const TIME_MIN_MS = Number.MIN_SAFE_INTEGER
export const TIME_MAX_MS = Number.MAX_SAFE_INTEGER

const INT64_MAX = 2 ** 63
const goFloat = /^[+-]?(\d(_?\d)*(\.(\d(_?\d)*)?)?|\.\d(_?\d)*)([eE][+-]?\d(_?\d)*)?$/
const goInfinity = /^[+-]?inf(inity)?$/i
const rfc3339 = /^(\d{4})-(\d{2})-(\d{2})T(\d{1,2}):(\d{2}):(\d{2})(?:[.,](\d+))?(?:Z|([+-])(\d{2}):(\d{2}))$/
const promDuration = /^(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?$/
const durationUnitsMs = [365 * 86_400_000, 7 * 86_400_000, 86_400_000, 3_600_000, 60_000, 1_000, 1]
const boundaryTimes = new Map([
  ['-292273086-05-16T16:47:06Z', TIME_MIN_MS],
  ['292277025-08-18T07:12:54.999999999Z', TIME_MAX_MS],
])

/** A text that says no value of its kind; `text` tells why, in Go's words. */
export interface Fault {
  readonly fault: string
}

export const isFault = (value: unknown): value is Fault =>
  typeof value === 'object' && value !== null && 'fault' in value

/** `strconv.ParseFloat`; undefined for what it does not take, also for what is too large. */
function parseFloat64(text: string): number | undefined {
  if (goInfinity.test(text)) return text.startsWith('-') ? -Infinity : Infinity
  if (/^nan$/i.test(text)) return Number.NaN
  if (!goFloat.test(text)) return undefined
  const value = Number(text.replaceAll('_', ''))
  return Number.isFinite(value) ? value : undefined
}

/** Seconds or RFC 3339, as milliseconds. */
export function parseTime(text: string): number | Fault {
  const seconds = parseFloat64(text)
  if (seconds !== undefined && Number.isFinite(seconds)) {
    const whole = Math.trunc(seconds)
    const fraction = roundAwayFromZero((seconds - whole) * 1000) / 1000
    return clampTime(whole * 1000 + Math.floor(Math.trunc(fraction * 1e9) / 1e6))
  }
  return parseRfc3339(text) ?? boundaryTimes.get(text) ?? { fault: `cannot parse ${quote(text)} to a valid timestamp` }
}

function roundAwayFromZero(value: number): number {
  return value < 0 ? -Math.round(-value) : Math.round(value)
}

function clampTime(ms: number): number {
  return Math.min(TIME_MAX_MS, Math.max(TIME_MIN_MS, ms))
}

function parseRfc3339(text: string): number | undefined {
  const match = rfc3339.exec(text)
  if (match === null) return undefined
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ]
  const zoneHours = Number(match[9] ?? 0)
  const zoneMinutes = Number(match[10] ?? 0)
  if (hour > 23 || minute > 59 || second > 59 || zoneHours > 24 || zoneMinutes > 59) return undefined
  const date = new Date(0)
  date.setUTCFullYear(year, month - 1, day)
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day) return undefined
  const ms = Number((match[7] ?? '').slice(0, 3).padEnd(3, '0'))
  const zoneMs = (match[8] === '-' ? -1 : 1) * (zoneHours * 60 + zoneMinutes) * 60_000
  return date.getTime() + ((hour * 60 + minute) * 60 + second) * 1000 + ms - zoneMs
}

/** Seconds or a duration such as `1m30s`, as whole nanoseconds. */
export function parseDurationNs(text: string): number | Fault {
  const seconds = parseFloat64(text)
  if (seconds !== undefined) {
    const ns = seconds * 1e9
    if (Math.abs(ns) > INT64_MAX)
      return { fault: `cannot parse ${quote(text)} to a valid duration. It overflows int64` }
    return Number.isNaN(ns) ? -INT64_MAX : Math.trunc(ns)
  }
  const match = text === '' ? null : promDuration.exec(text)
  const ms = match?.slice(1).reduce((sum, count, unit) => sum + Number(count ?? 0) * durationUnitsMs[unit]!, 0)
  if (ms === undefined || ms * 1e6 >= INT64_MAX) return { fault: `cannot parse ${quote(text)} to a valid duration` }
  return ms * 1e6
}

/** `strconv.Atoi`. */
export function parseInteger(text: string): number | Fault {
  if (!/^[+-]?\d+$/.test(text)) return { fault: `strconv.Atoi: parsing ${quote(text)}: invalid syntax` }
  const value = BigInt(text.replace('+', ''))
  if (BigInt.asIntN(64, value) !== value) return { fault: `strconv.Atoi: parsing ${quote(text)}: value out of range` }
  return Number(value)
}

/** A refusal in the words of Prometheus' HTTP API. */
export function badData(text: string): RefusedError {
  return new RefusedError('err-carillon-bad-parameter', text)
}

export function invalidParameter(name: string, text: string): RefusedError {
  return badData(`invalid parameter ${quote(name)}: ${text}`)
}
