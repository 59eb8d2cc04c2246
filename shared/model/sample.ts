// Samples: a time in milliseconds and 64 bits of value.
//
// A stale marker is one NaN among many, told apart by its bits. A value that the engine holds as a number, be it for one line, may come
// out with the quiet bit set (0x7ff8… for 0x7ff0…), once the code is compiled: so values move as words (a Uint32Array over the
// column) or in bulk (`set`, `slice`, `copyWithin`), and staleness is tested on words where a column is at hand.

// Times are whole milliseconds, at most SAMPLE_TIME_MS_MAX from 1970 in either direction. What lies further out is refused at every door
// (distributor, blocks from elsewhere) and passed over where a log has it.

/** 71,000 years. What is computed of times stays exact within ±2^53: the difference of two (of samples, or to a start time) is at most 2^52,
 *  twice that (zigzag), and the difference of two such differences, 2^53. */
export const SAMPLE_TIME_MS_MAX = 2 ** 51

/** Whole counts of integer histograms, for the same reason: chunks keep differences of differences of differences between buckets. */
export const HISTOGRAM_COUNT_MAX = 2 ** 51

export function isStorableTime(timeMs: number): boolean {
  return timeMs >= -SAMPLE_TIME_MS_MAX && timeMs <= SAMPLE_TIME_MS_MAX
}

export const STALE_HIGH = 0x7ff00000
export const STALE_LOW = 0x00000002

/** The bit that makes a NaN a quiet one. */
const QUIET = 0x00080000

/** The ordinary NaN, as Prometheus writes it. */
const NAN_HIGH = 0x7ff80000
const NAN_LOW = 1

const float = new Float64Array(1)
const words = new Uint32Array(float.buffer) // little-endian machines: [0] low, [1] high

/** A one-element column that holds the stale marker: copy it with `column.set(STALE, i)`. */
export const STALE = new Float64Array(Uint32Array.of(STALE_LOW, STALE_HIGH).buffer)

/** True for the stale marker. `words` is a Uint32Array over the same bytes as the column of values. */
export function isStaleAt(valueWords: Uint32Array, index: number): boolean {
  return valueWords[2 * index + 1] === STALE_HIGH && valueWords[2 * index] === STALE_LOW
}

/** True for the stale marker, with or without the quiet bit that a detour through a number may have set. No sender has another use for
 *  that NaN. */
export function isStale(value: number): boolean {
  if (!Number.isNaN(value)) return false
  float[0] = value
  return (words[1]! | QUIET) === (STALE_HIGH | QUIET) && words[0] === STALE_LOW
}

/**
 * Gives the NaN in an element of a column one of two forms: the stale marker or the ordinary NaN. Sums of histograms are plain numbers,
 * where a stale marker may gain its quiet bit but nothing else, so that every NaN of theirs needs this before its bits are compared
 * or kept. `valueWords` is a Uint32Array over the bytes of the column.
 */
export function settleNaN(valueWords: Uint32Array, index: number): void {
  const low = valueWords[2 * index]!
  const high = valueWords[2 * index + 1]!
  const isMarker = low === STALE_LOW && (high | QUIET) === (STALE_HIGH | QUIET)
  valueWords[2 * index] = isMarker ? STALE_LOW : NAN_LOW
  valueWords[2 * index + 1] = isMarker ? STALE_HIGH : NAN_HIGH
}

/** The rank of a float in the total order that decides between two values of one timestamp (LOG-11), as two 32-bit words:
 *  stale marker < other NaNs by bits < −Inf … −0 < +0 … +Inf. Positive when (high, low) of `a` is the greater. */
export function compareValueBits(aHigh: number, aLow: number, bHigh: number, bLow: number): number {
  if (aHigh === bHigh && aLow === bLow) return 0
  const classA = classOf(aHigh, aLow)
  const classB = classOf(bHigh, bLow)
  if (classA !== classB) return classA - classB
  const isNegative = classA === 2 && aHigh >>> 31 === 1 // both numbers; signs may still differ
  if (classA === 2 && aHigh >>> 31 !== bHigh >>> 31) return isNegative ? -1 : 1
  const order = aHigh >>> 0 === bHigh >>> 0 ? (aLow >>> 0) - (bLow >>> 0) : (aHigh >>> 0) - (bHigh >>> 0)
  return isNegative ? -order : order
}

/** 0 stale marker, 1 another NaN, 2 a number. */
function classOf(high: number, low: number): number {
  const isNaNBits = (high & 0x7ff00000) === 0x7ff00000 && ((high & 0x000fffff) !== 0 || low !== 0)
  if (!isNaNBits) return 2
  return high >>> 0 === STALE_HIGH && low >>> 0 === STALE_LOW ? 0 : 1
}
