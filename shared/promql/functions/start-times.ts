// What start timestamps tell about counters: resets that the values hide, and starts that contradict the sample before.

/** The counter began anew between two samples. 0 is unknown; a start at or after its own sample says nothing. */
export function isStartReset(beforeStartMs: number, beforeMs: number, startMs: number, timeMs: number): boolean {
  if (startMs === 0 || startMs >= timeMs || startMs < beforeMs) return false
  if (startMs > beforeMs) return true
  // It starts exactly at the sample before: a delta, unless the start of that one is unknown too.
  return beforeStartMs <= beforeMs && beforeStartMs !== 0 && beforeStartMs !== beforeMs
}

/** The sample claims to have started inside the time that the sample before covers. */
export function startsOverlap(beforeStartMs: number, beforeMs: number, startMs: number): boolean {
  return startMs !== 0 && startMs < beforeMs && startMs !== beforeStartMs
}
