import { expect, it } from 'vitest'
import {
  binaryLog,
  decimalLog,
  maxOf,
  minOf,
  naturalLog,
  power,
  powerOfTwo,
} from '../../../shared/promql/functions/go-math.ts'

// As Prometheus answered `ln(14)` and the like.
it.each<[string, number, number]>([
  ['ln 14', naturalLog(14), 2.639057329615259],
  ['log10 14', decimalLog(14), 1.1461280356782382],
  ['log2 of a power of two', binaryLog(2 ** -40), -40],
  ['log2 0', binaryLog(0), -Infinity],
  ['ln of a subnormal', naturalLog(5e-324), -744.4400719213812],
  ['2^0.5, one unit in the last place below', powerOfTwo(0.5), Math.SQRT2 - 2 ** -52],
  ['2^10', powerOfTwo(10), 1024],
  ['2^1024', powerOfTwo(1024), Infinity],
  ['1^NaN', power(1, Number.NaN), 1],
  ['(−1)^∞', power(-1, Infinity), 1],
  ['max(∞, NaN)', maxOf(Infinity, Number.NaN), Infinity],
  ['max(1, NaN)', maxOf(1, Number.NaN), Number.NaN],
  ['min(−∞, NaN)', minOf(-Infinity, Number.NaN), -Infinity],
])('%s', (_name, got, wanted) => expect(got).toBe(wanted))

it.each([
  ['ln', Math.log, naturalLog] as const,
  ['log2', Math.log2, binaryLog] as const,
  ['2^', (x: number) => 2 ** x, powerOfTwo] as const,
])('%s is never further than a few units in the last place from the machine’s', (_name, machine, ours) => {
  for (let x = 1e-3; x < 900; x *= 1.0123) {
    const wanted = machine(x)
    expect(Math.abs(ours(x) - wanted)).toBeLessThanOrEqual(Math.abs(wanted) * 1e-15 + 1e-16)
  }
})
