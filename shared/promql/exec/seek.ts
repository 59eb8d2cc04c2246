// Finding one's way in the times of a series: mostly the next sample is the one that is looked for, at times it is a million further on.

/** Looked at one by one. */
const NEAR = 8

/** The first index from `from` on whose time is after `ms`; times rise. */
export function firstAfter(times: Float64Array, from: number, ms: number): number {
  let at = from
  const near = Math.min(times.length, from + NEAR)
  while (at < near && times[at]! <= ms) at++
  if (at < near || at === times.length) return at
  let low = at - 1 // is not after
  let width = NEAR
  while (low + width < times.length && times[low + width]! <= ms) {
    low += width
    width *= 2
  }
  let high = Math.min(times.length, low + width) // is after, or the end
  while (high - low > 1) {
    const middle = (low + high) >>> 1
    if (times[middle]! <= ms) low = middle
    else high = middle
  }
  return high
}
