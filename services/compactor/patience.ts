// How long an answer waits for work that may take longer than its asker does.
import { type Clock, sleep } from '../../shared/base/clock.ts'
import type { HandlerContext } from '../../shared/bus/actor.ts'

/** The part of the time of who asked that is spent waiting for the outcome. */
const PATIENCE = 0.8

/** Whether the work was done before most of the asker's time was over; it goes on by itself if not. */
export function isDoneInTime(
  working: Promise<void>,
  { deadline, signal }: HandlerContext,
  clock: Clock,
): Promise<boolean> {
  const leftMs = Math.max(0, deadline - clock.monotonic()) * PATIENCE
  const waited = new AbortController()
  return Promise.race([
    working.then(() => true),
    sleep(clock, leftMs, AbortSignal.any([waited.signal, signal])).then(
      () => false,
      () => false, // the asker left, or we stop
    ),
  ]).finally(() => waited.abort())
}
