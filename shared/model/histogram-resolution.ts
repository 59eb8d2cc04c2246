// Exponential buckets finer than we keep: OpenTelemetry begins at schema 20, Prometheus lets in up to 52 and keeps 8. Buckets of a finer schema
// are merged by eights, sixteens and so on into those of schema 8, as Prometheus merges them; sums, counts and the zero bucket stay.
import { CUSTOM_BUCKETS_SCHEMA, type Histogram, type Span } from './histogram.ts'

/** The finest and the coarsest schema that are kept. */
export const SCHEMA_MAX = 8
export const SCHEMA_MIN = -4
/** The finest one that is understood, and what Prometheus has set aside below. */
export const FINE_SCHEMA_MAX = 52
const RESERVED_SCHEMA_MIN = -9

export function isKnownSchema(schema: number): boolean {
  return schema === CUSTOM_BUCKETS_SCHEMA || (schema >= RESERVED_SCHEMA_MIN && schema <= FINE_SCHEMA_MAX)
}

/** The histogram in a schema that is kept. It has as many buckets as its spans say, and none has an index beyond 32 bits. */
export function atKeptResolution(histogram: Histogram): Histogram {
  const { schema } = histogram
  if (schema <= SCHEMA_MAX) return histogram
  const positive = coarsened(histogram.positiveSpans, histogram.positiveBuckets, schema - SCHEMA_MAX)
  const negative = coarsened(histogram.negativeSpans, histogram.negativeBuckets, schema - SCHEMA_MAX)
  return {
    ...histogram,
    schema: SCHEMA_MAX,
    ...{ positiveSpans: positive.spans, positiveBuckets: positive.buckets },
    ...{ negativeSpans: negative.spans, negativeBuckets: negative.buckets },
  }
}

/** `levels`: by how many the schema falls. Counts of one bucket are added up in order, which matters where they are floats. */
function coarsened(spans: readonly Span[], counts: readonly number[], levels: number) {
  const coarse: { offset: number; length: number }[] = []
  const buckets: number[] = []
  let index = 0
  let last = 0
  let at = 0
  for (const { offset, length } of spans) {
    index += offset
    for (let i = 0; i < length; i++, index++, at++) {
      const target = ((index - 1) >> Math.min(levels, 31)) + 1 // a shift by 32 would shift by nothing
      if (coarse.length > 0 && target === last) {
        buckets[buckets.length - 1]! += counts[at]!
        continue
      }
      if (coarse.length > 0 && target === last + 1) coarse.at(-1)!.length++
      else coarse.push({ offset: coarse.length === 0 ? target : target - last - 1, length: 1 })
      buckets.push(counts[at]!)
      last = target
    }
  }
  return { spans: coarse, buckets }
}
