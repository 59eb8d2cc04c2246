// Whether the first histogram of a chunk goes on where the chunk before ended: what Prometheus calls "not a counter reset".
//
// Only what is certain is said. A reset that we find ourselves stays "unknown", and readers find it again: marked as a reset it would
// still count as one when a late sample has come between the two.
import { type Histogram, isStaleHistogram, type Span } from '../../model/histogram.ts'

/** True when no count of `after` is less than in `before`, the sample right before it, and both are of one kind and layout family. */
export function continuesWithoutReset(before: Histogram, after: Histogram): boolean {
  if (before.isFloat !== after.isFloat || before.resetHint === 'gauge' || after.resetHint === 'gauge') return false
  if (after.resetHint === 'reset') return false
  if (isStaleHistogram(after)) return true
  if (isStaleHistogram(before)) return false
  if (before.schema !== after.schema || before.zeroThreshold !== after.zeroThreshold) return false
  if (!sameBounds(before.customValues, after.customValues)) return false
  if (!(after.count >= before.count && after.zeroCount >= before.zeroCount)) return false
  return (
    noBucketFalls(before.positiveSpans, before.positiveBuckets, after.positiveSpans, after.positiveBuckets) &&
    noBucketFalls(before.negativeSpans, before.negativeBuckets, after.negativeSpans, after.negativeBuckets)
  )
}

function sameBounds(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((bound, i) => bound === b[i])
}

function noBucketFalls(
  spansBefore: readonly Span[],
  before: readonly number[],
  spansAfter: readonly Span[],
  after: readonly number[],
): boolean {
  const indexesBefore = bucketIndexes(spansBefore)
  const indexesAfter = bucketIndexes(spansAfter)
  let at = 0
  for (let i = 0; i < before.length; i++) {
    while (at < after.length && indexesAfter[at]! < indexesBefore[i]!) at++
    const isThere = at < after.length && indexesAfter[at] === indexesBefore[i]
    if (!((isThere ? after[at]! : 0) >= before[i]!)) return false
  }
  return true
}

function bucketIndexes(spans: readonly Span[]): number[] {
  const indexes: number[] = []
  let index = 0
  for (const { offset, length } of spans) {
    index += offset
    for (let i = 0; i < length; i++) indexes.push(index++)
  }
  return indexes
}
