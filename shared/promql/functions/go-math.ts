// Float operations where JavaScript and Go disagree about special values. Prometheus' results are Go's.

/** 1 to any power is 1, even NaN; so is −1 to an infinite one. */
export function power(base: number, exponent: number): number {
  if (base === 1) return 1
  if (base === -1 && (exponent === Infinity || exponent === -Infinity)) return 1
  return base ** exponent
}

/** An infinity on the winning side beats NaN. */
export function maxOf(a: number, b: number): number {
  return a === Infinity || b === Infinity ? Infinity : Math.max(a, b)
}

export function minOf(a: number, b: number): number {
  return a === -Infinity || b === -Infinity ? -Infinity : Math.min(a, b)
}

// Logarithms and powers of two, by the method (argument reduction and minimax polynomials of FreeBSD's libm) whose last bits
// Prometheus' answers show. JavaScript's own differ from it in about one value of twenty.

const LN2_HIGH = 0.6931471803691238
const LN2_LOW = 1.9082149292705877e-10

const words = new DataView(new ArrayBuffer(8))

/** `fraction` in [0.5, 1) times 2^`exponent`, of a positive finite number. */
function split(value: number): { fraction: number; exponent: number } {
  const isSubnormal = value < 2 ** -1022
  words.setFloat64(0, isSubnormal ? value * 2 ** 52 : value)
  const high = words.getUint32(0)
  const exponent = ((high >>> 20) & 0x7ff) - 1022 - (isSubnormal ? 52 : 0)
  words.setUint32(0, (high & 0x000fffff) | 0x3fe00000)
  return { fraction: words.getFloat64(0), exponent }
}

const isOrdinary = (value: number) => value > 0 && value < Infinity

export function naturalLog(value: number): number {
  if (!isOrdinary(value)) return Math.log(value)
  let { fraction, exponent } = split(value)
  if (fraction < Math.SQRT1_2) {
    fraction *= 2
    exponent--
  }
  const f = fraction - 1
  const s = f / (2 + f)
  const z = s * s
  const w = z * z
  const odd = z * (0.6666666666666735 + w * (0.2857142874366239 + w * (0.1818357216161805 + w * 0.14798198605116586)))
  const even = w * (0.3999999999940942 + w * (0.22222198432149784 + w * 0.15313837699209373))
  const half = 0.5 * f * f
  return exponent * LN2_HIGH - (half - (s * (half + (odd + even)) + exponent * LN2_LOW) - f)
}

export function binaryLog(value: number): number {
  if (!isOrdinary(value)) return Math.log2(value)
  const { fraction, exponent } = split(value)
  if (fraction === 0.5) return exponent - 1 // powers of two come out whole
  return naturalLog(fraction) * (1 / Math.LN2) + exponent
}

export function decimalLog(value: number): number {
  return isOrdinary(value) ? naturalLog(value) * Math.LOG10E : Math.log10(value)
}

export function powerOfTwo(exponent: number): number {
  if (!(exponent > -1022 && exponent < 1023)) return 2 ** exponent
  const whole = Math.trunc(exponent > 0 ? exponent + 0.5 : exponent - 0.5)
  const rest = exponent - whole
  const high = rest * LN2_HIGH
  const low = -rest * LN2_LOW
  const r = high - low
  const t = r * r
  const tail =
    t *
    (0.16666666666666666 +
      t *
        (-0.0027777777777015593 +
          t * (0.00006613756321437934 + t * (-0.0000016533902205465252 + t * 4.1381367970572385e-8))))
  const c = r - tail
  return (1 - (low - (r * c) / (2 - c) - high)) * 2 ** whole
}
