// Waiting for what is about to come true in other processes.
import { setTimeout as sleep } from 'node:timers/promises'

const STEP_MS = 50
/** Long, for a busy machine: whoever promises sooner measures it. */
export const WAIT_MS = 60_000
/** The same for `vi.waitFor`. */
export const WAIT = { timeout: WAIT_MS }

/** Polls until `read` gives something; rejects with what it last met. */
export async function eventually<T>(
  what: string,
  withinMs: number,
  read: () => T | undefined | Promise<T | undefined>,
): Promise<T> {
  const endMs = performance.now() + withinMs
  let failure: unknown
  while (performance.now() < endMs) {
    try {
      const value = await read()
      if (value !== undefined) return value
      failure = undefined
    } catch (error) {
      failure = error
    }
    await sleep(STEP_MS)
  }
  throw new Error(`not within ${withinMs} ms: ${what}`, { cause: failure })
}

/** Polls until `isSo` answers true; rejects with what it last met. */
export async function until(what: string, isSo: () => boolean | Promise<boolean>, waitMs = WAIT_MS): Promise<void> {
  await eventually(what, waitMs, async () => (await isSo()) || undefined)
}
