// The digest of a segment: sums of hashes of its samples, so that order and repeats of arrival leave no trace.
//
// A sample's hash covers the label texts, the time, the value's bits (of a histogram: two hashes of its canonical bytes) and the start time. Two
// owners that applied the same log agree; it finds accidents, not forgers.

const startScratch = new Float64Array(1)
const startWords = new Uint32Array(startScratch.buffer)

/** The last argument of `tally` for floats (0) or histograms (1) with a start time; unknown ones leave no trace. */
export function kindOf(kind: 0 | 1, startTime: number): number {
  if (startTime === 0) return kind
  startScratch[0] = startTime
  const mixed = Math.imul(startWords[0]! ^ Math.imul(startWords[1]!, 0x9e3779b1), 0x85ebca6b)
  return ((mixed ^ (mixed >>> 15)) & ~1) | kind
}

/** Adds (`sign` 1) or takes away (−1) one sample. `kind` is 0 for floats and 1 for histograms, without start times. */
export function tally(
  sums: Int32Array,
  sign: number,
  seriesA: number,
  seriesB: number,
  timeLow: number,
  timeHigh: number,
  low: number,
  high: number,
  kind: number,
): void {
  let a = seriesA ^ Math.imul(timeLow, 0xcc9e2d51)
  a = Math.imul((a << 13) | (a >>> 19), 0x1b873593) ^ timeHigh
  let b = seriesB ^ Math.imul(low, 0x85ebca6b)
  b = Math.imul((b << 15) | (b >>> 17), 0xc2b2ae35) ^ high ^ kind
  a = Math.imul(a ^ (b >>> 16) ^ (b << 16), 0x7feb352d)
  b = Math.imul(b ^ (a >>> 15) ^ timeLow, 0x846ca68b)
  a = Math.imul(a ^ (a >>> 15) ^ b, 0x2c1b3c6d)
  b = Math.imul(b ^ (b >>> 13) ^ (a >>> 11), 0x297a2d39)
  a ^= a >>> 16
  b ^= b >>> 16
  sums[0] = sums[0]! + (sign < 0 ? -a : a)
  sums[1] = sums[1]! + (sign < 0 ? -b : b)
}

/** What stands for the value of a histogram, by its canonical bytes. */
export function digestsOfHistogram(canonical: Uint8Array): [low: number, high: number] {
  return [hashBytes(canonical, 0x811c9dc5), hashBytes(canonical, 0x9747b28c)]
}

/** One word of hash over bytes. */
function hashBytes(bytes: Uint8Array, seed: number): number {
  let hash = seed ^ bytes.length
  for (let i = 0; i < bytes.length; i++) {
    hash = Math.imul(hash ^ bytes[i]!, 0x01000193)
    hash ^= hash >>> 15
  }
  return hash >>> 0
}

export function digestText(sums: Int32Array): string {
  return [...sums].map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('')
}
