// What the parts of the bus suite share: the ground they are given, and ways to wait.
import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '../../shared/base/clock.ts'
import { systemRandom } from '../../shared/base/random.ts'
import type { Actor, Serve } from '../../shared/bus/actor.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { runActor } from '../../shared/bus/run-actor.ts'

/** What the tests are given: connections that are closed after each test, and names not used before. */
export interface Ground {
  connect(): Promise<Bus>
  fresh(kind: string): string
  loseServer(): Promise<void>
  bringBackServer(): Promise<void>
}

/** Waits until `condition` holds. */
export async function until(condition: () => boolean, what: string, waitMs = 10_000): Promise<void> {
  const end = Date.now() + waitMs
  while (!condition()) {
    if (Date.now() > end) throw new Error(`not within ${waitMs} ms: ${what}`)
    await sleep(5)
  }
}

/** Long enough for a subscription or a message to have crossed. */
export const settle = () => sleep(60)

export const bytes = (text: string): Uint8Array => Buffer.from(text)
export const text = (payload: Uint8Array | undefined): string => Buffer.from(payload ?? []).toString()

const silentLog = { debug() {}, info() {}, warn() {}, error() {} }

export function actorOf(name: string, serves: readonly Serve[], more: Partial<Actor> = {}): Actor {
  return { name, serves, hears: [], every: [], start: async () => {}, stop: async () => {}, ...more }
}

export async function running(bus: Bus, actor: Actor, more: { inFlightMax?: number; stallMs?: number } = {}) {
  const run = runActor(actor, { bus, clock: systemClock, random: systemRandom, log: silentLog, ...more })
  await run.ready
  await settle()
  return run
}
