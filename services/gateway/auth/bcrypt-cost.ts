// How much work a bcrypt hash is.

/** As a power of two. */
export function costOf(hash: string): number {
  return Number(hash.slice(4, 6))
}

/** Costs of what is done besides a comparison of `cost`, so that all are as much work as one of `costMax`: 2^c + 2^(c+1) + … = 2^max - 2^c.
 *  Without a comparison: all of it. */
export function paddingOf(cost: number | undefined, costMax: number): number[] {
  if (cost === undefined) return [costMax]
  return Array.from({ length: costMax - cost }, (_, index) => cost + index)
}
