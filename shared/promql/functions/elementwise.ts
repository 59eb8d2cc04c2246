// Functions that turn each float into another, on its own: math, trigonometry, dates. Histograms fall out.
import { binaryLog, decimalLog, naturalLog } from './go-math.ts'

const DAY_S = 86_400

/** Whole days since 1970 to a date of the proleptic Gregorian calendar, for any day that a float can count exactly. */
function dateOf(days: number): { year: number; month: number; day: number } {
  const shifted = days + 719_468 // days since 1 March of year 0
  const era = Math.floor(shifted / 146_097)
  const dayOfEra = shifted - era * 146_097
  const yearOfEra = Math.floor(
    (dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36_524) - Math.floor(dayOfEra / 146_096)) / 365,
  )
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100))
  const shiftedMonth = Math.floor((5 * dayOfYear + 2) / 153)
  const month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
  const day = dayOfYear - Math.floor((153 * shiftedMonth + 2) / 5) + 1
  return { year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day }
}

function isLeap(year: number): boolean {
  return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0)
}

const MONTH_DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

function daysInMonth(year: number, month: number): number {
  return month === 2 && isLeap(year) ? 29 : MONTH_DAYS[month - 1]!
}

/** Whole days since 1970, rounded down, and the seconds after them. What no 64-bit integer holds counts as 2^63, as it does in
 *  Prometheus. */
function splitDays(seconds: number): { days: number; second: number } {
  const whole = Math.abs(seconds) < 2 ** 63 ? Math.trunc(seconds) : 2 ** 63
  if (Number.isSafeInteger(whole)) {
    const days = Math.floor(whole / DAY_S)
    return { days, second: whole - days * DAY_S }
  }
  const exact = BigInt(whole)
  const second = Number(((exact % BigInt(DAY_S)) + BigInt(DAY_S)) % BigInt(DAY_S))
  return { days: Number((exact - BigInt(second)) / BigInt(DAY_S)), second }
}

const ofDay = (pick: (days: number) => number) => (seconds: number) => pick(splitDays(seconds).days)
const ofTime = (pick: (secondOfDay: number) => number) => (seconds: number) => pick(splitDays(seconds).second)

/** Of seconds since 1970, UTC. */
export const DATE_FUNCTIONS: Readonly<Record<string, (seconds: number) => number>> = {
  year: ofDay((days) => dateOf(days).year),
  month: ofDay((days) => dateOf(days).month),
  day_of_month: ofDay((days) => dateOf(days).day),
  day_of_week: ofDay((days) => (((days + 4) % 7) + 7) % 7),
  day_of_year: ofDay((days) => {
    const { year, month, day } = dateOf(days)
    let before = 0
    for (let m = 1; m < month; m++) before += daysInMonth(year, m)
    return before + day
  }),
  days_in_month: ofDay((days) => {
    const { year, month } = dateOf(days)
    return daysInMonth(year, month)
  }),
  hour: ofTime((second) => Math.floor(second / 3600)),
  minute: ofTime((second) => Math.floor(second / 60) % 60),
}

export const FLOAT_FUNCTIONS: Readonly<Record<string, (value: number) => number>> = {
  abs: Math.abs,
  ceil: Math.ceil,
  floor: Math.floor,
  exp: Math.exp,
  sqrt: Math.sqrt,
  ln: naturalLog,
  log2: binaryLog,
  log10: decimalLog,
  sin: Math.sin,
  cos: Math.cos,
  tan: Math.tan,
  asin: Math.asin,
  acos: Math.acos,
  atan: Math.atan,
  sinh: Math.sinh,
  cosh: Math.cosh,
  tanh: Math.tanh,
  asinh: Math.asinh,
  acosh: Math.acosh,
  atanh: Math.atanh,
  rad: (value) => (value * Math.PI) / 180,
  deg: (value) => (value * 180) / Math.PI,
  sgn: (value) => (value < 0 ? -1 : value > 0 ? 1 : value),
}
