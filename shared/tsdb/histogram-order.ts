// The order of histograms at one timestamp (LOG-11), over what a chunk can keep of them: a stale histogram is nothing but its marker, and
// of the reset hints only `gauge` is kept. A sender says "reset" of the sample that it sent before, which need not be the one that stands
// before it here: another replica's, or a late one. So resets are looked for between neighbours, as Prometheus does, and what is compared and
// hashed does not change by being stored.
import { type Histogram, isStaleHistogram } from '../model/histogram.ts'
import { compareValueBits, STALE, settleNaN } from '../model/sample.ts'
import { encodeCanonical } from '../wire/histogram.ts'
import { Writer } from '../wire/varint.ts'

const writer = new Writer(1024)
const floats = new Float64Array(2)
const words = new Uint32Array(floats.buffer) // low, high, low, high

/** What is left of a histogram whose sum is the stale marker. */
export function staleHistogram(isFloat: boolean): Histogram {
  return {
    isFloat,
    resetHint: 'unknown',
    schema: 0,
    zeroThreshold: 0,
    zeroCount: 0,
    count: 0,
    sum: STALE[0]!,
    positiveSpans: [],
    positiveBuckets: [],
    negativeSpans: [],
    negativeBuckets: [],
    customValues: [],
  }
}

/** What a chunk gives back of a histogram. */
export function storedHistogram(histogram: Histogram): Histogram {
  if (isStaleHistogram(histogram)) return staleHistogram(histogram.isFloat)
  const isClaim = histogram.resetHint === 'reset' || histogram.resetHint === 'no-reset'
  return isClaim ? { ...histogram, resetHint: 'unknown' } : histogram
}

/** The canonical form (wire/histogram.ts) of the stored histogram: a copy. */
export function canonicalBytes(histogram: Histogram): Uint8Array {
  writer.reset()
  encodeCanonical(storedHistogram(histogram), writer)
  return writer.finish()
}

/** Positive when `a` is the greater: by count, then sum, then canonical bytes; 0 exactly for the same canonical bytes. */
export function compareHistograms(a: Histogram, b: Histogram): number {
  const [storedA, storedB] = [storedHistogram(a), storedHistogram(b)]
  const order = compareNumbers(storedA.count, storedB.count) || compareNumbers(storedA.sum, storedB.sum)
  return order || Buffer.compare(canonicalBytes(a), canonicalBytes(b))
}

function compareNumbers(a: number, b: number): number {
  floats[0] = a
  floats[1] = b
  if (Number.isNaN(a)) settleNaN(words, 0)
  if (Number.isNaN(b)) settleNaN(words, 1)
  return compareValueBits(words[1]!, words[0]!, words[3]!, words[2]!)
}
