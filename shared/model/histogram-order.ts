// Which of two histograms of one timestamp stays (L11), and which ones mark a series as stale.
import type { Histogram } from './histogram.ts'
import { compareValueBits, STALE_HIGH, STALE_LOW } from './sample.ts'

const QUIET = 0x00080000 // the bit that a NaN gains when the engine passes it through a register the wrong way
const NAN_HIGH = 0x7ff80000
const NAN_LOW = 1

const floats = new Float64Array(2)
const words = new Uint32Array(floats.buffer) // low, high, low, high

/** Positive when `a` is the greater: by count, then sum, then the bytes of the canonical form (wire/histogram.ts). */
export function compareHistograms(a: Histogram, aCanonical: Uint8Array, b: Histogram, bCanonical: Uint8Array): number {
  return compareNumbers(a.count, b.count) || compareNumbers(a.sum, b.sum) || Buffer.compare(aCanonical, bCanonical)
}

/** A stale marker among histograms is one whose sum is the stale marker. */
export function isStaleHistogram(histogram: Histogram): boolean {
  if (!Number.isNaN(histogram.sum)) return false
  floats[0] = histogram.sum
  settleNaN(words, 0)
  return words[0] === STALE_LOW && words[1] === STALE_HIGH
}

/**
 * Gives the NaN in an element of a column one of two forms: the stale marker or the ordinary NaN. Sums are plain numbers in
 * Histogram, where a stale marker may lose its signalling bit but nothing else, so that every NaN of theirs needs this before its
 * bits are compared or kept. `columnWords` is a Uint32Array over the bytes of the column.
 */
export function settleNaN(columnWords: Uint32Array, index: number): void {
  const low = columnWords[2 * index]!
  const high = columnWords[2 * index + 1]!
  const isStale = low === STALE_LOW && (high | QUIET) === (STALE_HIGH | QUIET)
  columnWords[2 * index] = isStale ? STALE_LOW : NAN_LOW
  columnWords[2 * index + 1] = isStale ? STALE_HIGH : NAN_HIGH
}

function compareNumbers(a: number, b: number): number {
  floats[0] = a
  floats[1] = b
  if (Number.isNaN(a)) settleNaN(words, 0)
  if (Number.isNaN(b)) settleNaN(words, 1)
  return compareValueBits(words[1]!, words[0]!, words[3]!, words[2]!)
}
