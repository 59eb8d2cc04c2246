// Waits that grow, with jitter, up to a bound.
import type { Random } from './random.ts'

export interface BackoffOptions {
  readonly firstMs: number
  readonly maxMs: number
}

/** The wait before attempt `attempt` (0 is the first retry): doubled each time, bounded, jittered by a half. */
export function backoffMs(attempt: number, options: BackoffOptions, random: Random): number {
  const full = Math.min(options.maxMs, options.firstMs * 2 ** Math.min(attempt, 30))
  return full / 2 + (random.next() * full) / 2
}
