// Floats as Go writes them: what Prometheus puts into JSON, into labels (count_values) and into annotations.

/** Decimal digits (no leading zero, no trailing zeros) and the exponent of the first: 0.0123 is {digits: '123', exponent: -2}. */
function decimalsOf(text: string): { digits: string; exponent: number } {
  const [mantissa = '', exponentText = '0'] = text.split('e')
  const [whole = '', fraction = ''] = mantissa.split('.')
  const all = whole + fraction
  const leading = /^0*/.exec(all)![0].length
  const digits = all.slice(leading).replace(/0+$/, '')
  return { digits, exponent: Number(exponentText) + whole.length - 1 - leading }
}

function special(value: number): string | undefined {
  if (Number.isNaN(value)) return 'NaN'
  if (value === Infinity) return '+Inf'
  if (value === -Infinity) return '-Inf'
  if (value === 0) return Object.is(value, -0) ? '-0' : '0'
  return undefined
}

function withExponent(sign: string, digits: string, exponent: number): string {
  const size = Math.abs(exponent)
  const mantissa = digits.length > 1 ? `${digits[0]}.${digits.slice(1)}` : digits
  return `${sign}${mantissa}e${exponent < 0 ? '-' : '+'}${size < 10 ? `0${size}` : size}`
}

function withoutExponent(sign: string, digits: string, exponent: number): string {
  if (exponent < 0) return `${sign}0.${'0'.repeat(-exponent - 1)}${digits}`
  if (digits.length <= exponent + 1) return sign + digits + '0'.repeat(exponent + 1 - digits.length)
  return `${sign}${digits.slice(0, exponent + 1)}.${digits.slice(exponent + 1)}`
}

/** Shortest digits that read back the same, never with an exponent. */
export function formatPlain(value: number): string {
  const known = special(value)
  if (known !== undefined) return known
  const text = String(value)
  if (!text.includes('e')) return text
  const { digits, exponent } = decimalsOf(String(Math.abs(value)))
  return withoutExponent(value < 0 ? '-' : '', digits, exponent)
}

/** As in the JSON of the HTTP API: plain from 1e-6 up to below 1e21, otherwise with an exponent of two digits or more. */
export function formatJsonFloat(value: number): string {
  const size = Math.abs(value)
  if (size >= 1e-6 && size < 1e21) return String(value)
  const known = special(value)
  if (known !== undefined) return known
  const { digits, exponent } = decimalsOf(String(size))
  return withExponent(value < 0 ? '-' : '', digits, exponent)
}

/** Go's %g: an exponent below 1e-4 and from 1e6 on, shortest digits; or, with `precision`, that many digits at most. */
export function formatShort(value: number, precision?: number): string {
  const known = special(value)
  if (known !== undefined) return known
  const size = Math.abs(value)
  const { digits, exponent } = decimalsOf(precision === undefined ? String(size) : size.toExponential(precision - 1))
  const sign = value < 0 ? '-' : ''
  let exponentMax = precision ?? 6
  if (precision !== undefined && exponentMax > digits.length && digits.length > exponent) exponentMax = digits.length
  if (exponent < -4 || exponent >= exponentMax) return withExponent(sign, digits, exponent)
  return withoutExponent(sign, digits, exponent)
}

/** As a label value of OpenMetrics: whole numbers keep a `.0`, and zero has no sign. */
export function formatOpenMetrics(value: number): string {
  if (value === 0) return '0.0'
  const text = formatShort(value)
  return /^-?\d+$/.test(text) ? `${text}.0` : text
}
