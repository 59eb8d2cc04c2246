// The rules that every native histogram keeps, with the words in which Prometheus refuses: as many buckets as the spans say, no
// negative counts, counts that add up (of integer histograms), bounds in order.
import { RefusedError } from '../base/errors.ts'
import { CUSTOM_BUCKETS_SCHEMA, type Histogram, type Span } from '../model/histogram.ts'
import { FINE_SCHEMA_MAX, SCHEMA_MAX, SCHEMA_MIN } from '../model/histogram-resolution.ts'

const NEGATIVE_BUCKET = 'histogram has a bucket whose observation count is negative'

/** Refuses a histogram that breaks one of the rules: RefusedError `err-carillon-histogram-invalid`. */
export function validateHistogram(histogram: Histogram): void {
  const { schema } = histogram
  if (schema === CUSTOM_BUCKETS_SCHEMA) checkCustom(histogram)
  else if (schema >= SCHEMA_MIN && schema <= FINE_SCHEMA_MAX) checkExponential(histogram)
  else {
    throw invalidHistogram(
      `histogram has an invalid schema, which must be between ${SCHEMA_MIN} and ${SCHEMA_MAX} for exponential buckets, ` +
        `or ${CUSTOM_BUCKETS_SCHEMA} for custom buckets, got schema ${schema}`,
    )
  }
  checkCount(histogram)
}

function checkCustom(histogram: Histogram): void {
  checkCustomBounds(histogram)
  if (histogram.zeroCount !== 0) throw invalidHistogram('custom buckets: must have zero count of 0')
  if (histogram.zeroThreshold !== 0) throw invalidHistogram('custom buckets: must have zero threshold of 0')
  if (histogram.negativeSpans.length > 0) throw invalidHistogram('custom buckets: must not have negative spans')
  if (histogram.negativeBuckets.length > 0) throw invalidHistogram('custom buckets: must not have negative buckets')
}

function checkExponential({
  positiveSpans,
  positiveBuckets,
  negativeSpans,
  negativeBuckets,
  ...rest
}: Histogram): void {
  checkSpans(positiveSpans, positiveBuckets.length, 'positive side', 1)
  checkSpans(negativeSpans, negativeBuckets.length, 'negative side', 1)
  if (rest.schema > SCHEMA_MAX) for (const spans of [positiveSpans, negativeSpans]) checkReach(spans)
  if (rest.zeroCount < 0) {
    throw invalidHistogram(`zero bucket has observation count of ${rest.zeroCount}: ${NEGATIVE_BUCKET}`)
  }
  if (rest.customValues.length === 0) return
  throw invalidHistogram('histogram with exponential schema must not have custom bounds')
}

function checkCount({ isFloat, count, sum, zeroCount, positiveBuckets, negativeBuckets }: Histogram): void {
  if (count < 0) throw invalidHistogram(`observation count is ${count}: histogram's observation count is negative`)
  const observations =
    sumOfBuckets(negativeBuckets, 'negative side') + sumOfBuckets(positiveBuckets, 'positive side') + zeroCount
  if (isFloat) return // their counts are rounded and need not add up
  const found = `${observations} observations found in buckets, but the Count field is ${count}`
  const rule = "histogram's observation count should"
  if (Number.isNaN(sum)) {
    if (observations <= count) return // observations of NaN lie in no bucket
    throw invalidHistogram(`${found}: ${rule} be at least the number of observations found in the buckets`)
  }
  if (observations === count) return
  throw invalidHistogram(`${found}: ${rule} equal the number of observations found in the buckets (in absence of NaN)`)
}

function checkSpans(spans: readonly Span[], bucketCount: number, side: string, firstChecked: 0 | 1): void {
  let needed = 0
  for (const [i, { offset, length }] of spans.entries()) {
    if (i >= firstChecked && offset < 0) {
      throw invalidHistogram(
        `${side}: span number ${i + 1} with offset ${offset}: histogram has a span whose offset is negative`,
      )
    }
    needed += length
  }
  if (needed === bucketCount) return
  throw invalidHistogram(
    `${side}: spans need ${needed} buckets, have ${bucketCount} buckets: ` +
      'histogram spans specify different number of buckets than provided',
  )
}

/** Indexes of buckets that are to be merged have 32 bits, and so has the one before each. */
function checkReach(spans: readonly Span[]): void {
  const reach = spans.reduce((sum, { offset, length }) => sum + offset + length, 0)
  if (reach > 2 ** 31 - 1 || (spans[0]?.offset ?? 0) <= -(2 ** 31))
    throw invalidHistogram('histogram has a bucket whose index is beyond 32 bits')
}

function checkCustomBounds({ customValues, positiveSpans, positiveBuckets }: Histogram): void {
  let before = -Infinity
  for (const [i, bound] of customValues.entries()) {
    if (Number.isNaN(bound)) throw invalidHistogram('custom buckets: histogram custom bounds must not be NaN')
    if (i > 0 && bound <= before) {
      throw invalidHistogram(
        `custom buckets: previous bound is ${before} and current is ${bound}: ` +
          'histogram custom bounds must be in strictly increasing order',
      )
    }
    before = bound
  }
  if (before === Infinity) {
    throw invalidHistogram(
      'custom buckets: last +Inf bound must not be explicitly defined: histogram custom bounds must be finite',
    )
  }
  checkSpans(positiveSpans, positiveBuckets.length, 'custom buckets', 0)
  const reach = positiveSpans.reduce((sum, { offset, length }) => sum + offset + length, 0)
  if (customValues.length + 1 >= reach) return
  throw invalidHistogram(
    `custom buckets: only ${customValues.length} custom bounds defined which is insufficient to cover ` +
      `total span length of ${reach}: histogram custom bounds are too few`,
  )
}

function sumOfBuckets(buckets: readonly number[], side: string): number {
  let sum = 0
  for (let i = 0; i < buckets.length; i++) {
    const count = buckets[i]!
    if (count < 0)
      throw invalidHistogram(`${side}: bucket number ${i + 1} has observation count of ${count}: ${NEGATIVE_BUCKET}`)
    sum += count
  }
  return sum
}

export function invalidHistogram(text: string): RefusedError {
  return new RefusedError('err-carillon-histogram-invalid', text)
}
