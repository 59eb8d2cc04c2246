// A stretch of time.

/** Both ends included, ms. */
export interface Interval {
  readonly startMs: number
  readonly endMs: number
}

export const ALL_TIME: Interval = { startMs: Number.NEGATIVE_INFINITY, endMs: Number.POSITIVE_INFINITY }
