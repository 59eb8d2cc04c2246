// Bounds of exponential buckets: powers of 2^(2^-schema), in the very bits that Prometheus uses, whose table is a few units in the last
// place below the exact values here and there.
import { CUSTOM_BUCKETS_SCHEMA } from '../../model/histogram.ts'

/** For k in 0…255: how many units in the last place Prometheus' 2^(k/256 − 1) lies below the exact one, plus 1. */
const BELOW =
  '1111112111211111112311222222222211211121122211221122102211221122' +
  '1111112222332132112111211112111111121011213311221222112121332222' +
  '2121223322322122222222323233323311221121223321332233212232332232' +
  '2243223233433343333333444455435422322333324422333243223333543344'

const FRACTION_BITS = 200n

function squareRoot(n: bigint): bigint {
  let root = 1n << BigInt((n.toString(2).length + 1) >> 1)
  for (;;) {
    const next = (root + n / root) >> 1n
    if (next >= root) return root
    root = next
  }
}

/** 2^(k/256 − 1) for k in 0…255. */
const FRACTIONS = fractions()

function fractions(): Float64Array {
  let step = 2n << FRACTION_BITS
  for (let m = 256; m > 1; m /= 2) step = squareRoot(step << FRACTION_BITS)
  const table = new Float64Array(256)
  const dropped = FRACTION_BITS - 52n
  let power = 1n << FRACTION_BITS
  for (let k = 0; k < 256; k++) {
    const rounded = (power + (1n << (dropped - 1n))) >> dropped
    table[k] = (Number(rounded) - (Number(BELOW[k]) - 1)) / 2 ** 53
    power = (power * step) >> FRACTION_BITS
  }
  return table
}

function timesPowerOfTwo(fraction: number, exponent: number): number {
  // In two steps, so that neither factor overflows or loses bits that the product keeps.
  const half = Math.trunc(exponent / 2)
  return fraction * 2 ** half * 2 ** (exponent - half)
}

/** The upper bound of bucket `index` (of the positive side). */
export function boundOf(index: number, schema: number, customValues: readonly number[]): number {
  if (schema === CUSTOM_BUCKETS_SCHEMA) {
    if (index < 0) return -Infinity
    return index < customValues.length ? customValues[index]! : Infinity
  }
  return exponentialBound(index, schema)
}

export function exponentialBound(index: number, schema: number): number {
  if (schema < 0) {
    const exponent = index * 2 ** -schema
    return exponent === 1024 ? Number.MAX_VALUE : timesPowerOfTwo(1, exponent)
  }
  const perOctave = 2 ** schema
  const within = ((index % perOctave) + perOctave) % perOctave
  const exponent = (index - within) / perOctave + 1
  const fraction = FRACTIONS[within * (256 / perOctave)]!
  return fraction === 0.5 && exponent === 1025 ? Number.MAX_VALUE : timesPowerOfTwo(fraction, exponent)
}

/** The index of the bucket that holds bucket `index` when the schema is lowered. */
export function indexAtSchema(index: number, schema: number, lower: number): number {
  return Math.floor((index - 1) / 2 ** (schema - lower)) + 1
}
