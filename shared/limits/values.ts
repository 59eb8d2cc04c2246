// Values of limits as people write and read them.
import { RefusedError } from '../base/errors.ts'
import { parseBytes, parseDuration, showBytes, showDuration } from '../config/units.ts'
import { LIMITS, type LimitKind, type LimitName } from '../contracts/limits.ts'

export const isLimit = (name: string): name is LimitName => Object.hasOwn(LIMITS, name)

/** A value as a person writes it. Throws RefusedError `err-carillon-bad-limit` for an unknown name or a value that is none. */
export function parseLimit(name: string, text: string): number {
  if (!isLimit(name)) {
    const known = Object.keys(LIMITS).join(', ')
    throw new RefusedError('err-carillon-bad-limit', `there is no limit "${name.slice(0, 100)}"; there are ${known}`)
  }
  const { unit } = LIMITS[name]
  const value = readers[unit](text)
  if (value !== undefined && Number.isSafeInteger(value) && value >= 0) return value
  throw new RefusedError('err-carillon-bad-limit', `${name} wants ${wants[unit]}, not "${text.slice(0, 100)}"`)
}

/** A change as a person writes it: an empty value takes the limit away. Throws as `parseLimit`. */
export function parseLimitChange(name: string, text: string): number | null {
  const value = parseLimit(name, text === '' ? '0' : text)
  return text === '' ? null : value
}

export function showLimit(name: string, value: number): string {
  const unit = isLimit(name) ? LIMITS[name].unit : 'count'
  return unit === 'bytes' ? showBytes(value) : unit === 'duration' ? showDuration(value) : String(value)
}

const readers: Readonly<Record<LimitKind['unit'], (text: string) => number | undefined>> = {
  count: (text) => (/^\d{1,15}$/.test(text) ? Number(text) : undefined),
  bytes: parseBytes,
  duration: parseDuration,
}
const wants = { count: 'a whole number', bytes: 'bytes such as 512MiB', duration: 'a duration such as 90s or 30d' }
