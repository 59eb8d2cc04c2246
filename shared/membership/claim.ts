// One id, one process. Two under one id would answer for each other, and each would take the other's heartbeats for its own.
//
// Invariants
//   CLAIM-1  Whoever answers under an id has it. Somebody else is refused it, after a moment in which the former may be about to end.
//   CLAIM-2  Where nobody listens the id is free at once: a process that was killed does not listen.
//   CLAIM-3  One that listens and does not answer hangs, or its machine is gone without a word: it has the id until its record has not changed
//       for as long as makes a member unhealthy.
//   CLAIM-4  Two that come at once, or one that was taken for dead and wakes: the record in the ring decides (MEMBER-6).
import { hostname } from 'node:os'
import { type Clock, sleep } from '../base/clock.ts'
import { UnavailableError } from '../base/errors.ts'
import type { Random } from '../base/random.ts'
import { type ActorLog, type RunningActor, serve } from '../bus/actor.ts'
import { ask } from '../bus/ask.ts'
import type { Bus } from '../bus/port.ts'
import { keyFor } from '../bus/record.ts'
import { runActor } from '../bus/run-actor.ts'
import { type IdentityReply, identity, memberRecord, RING_BUCKET, type Role } from '../contracts/member.ts'

/** How long a former one is waited for that still answers: it has been told to stop, or its launcher has just died. */
const LEAVING_MS_MAX = 3_000
const STEP_MS = 200

export interface ClaimDeps {
  readonly bus: Bus
  readonly clock: Clock
  readonly random: Random
  readonly log: ActorLog
  readonly self: { readonly id: string; readonly role: Role; readonly incarnation: string }
  readonly unhealthyAfterMs: number
  /** Gives up; rejects with its reason. */
  readonly signal: AbortSignal
}

/** Resolves when the id is this process's, which answers under it from now on until it is stopped. Rejects with UnavailableError
 *  `err-carillon-id-taken`. */
export async function claimId(deps: ClaimDeps): Promise<RunningActor> {
  await waitUntilFree(deps)
  const { self } = deps
  const reply: IdentityReply = { role: self.role, incarnation: self.incarnation, host: hostname(), pid: process.pid }
  const running = runActor(
    {
      name: 'identity',
      serves: [serve(identity, async () => reply, { id: self.id })],
      ...{ hears: [], every: [], start: async () => {}, stop: async () => {} },
    },
    deps,
  )
  await running.ready
  return running
}

async function waitUntilFree({ bus, clock, self: { id }, unhealthyAfterMs, signal }: ClaimDeps): Promise<void> {
  const bucket = await bus.bucket(RING_BUCKET)
  const startedMs = clock.monotonic()
  let answeredMs: number | undefined
  let still: { readonly revision: number; readonly sinceMs: number } | undefined
  for (;;) {
    const word = await whoHas(bus, id)
    if (word === 'nobody') return // CLAIM-2
    const nowMs = clock.monotonic()
    if (word !== 'silent') {
      answeredMs ??= nowMs
      if (nowMs - answeredMs >= LEAVING_MS_MAX) throw takenBy(id, word) // CLAIM-1
    } else {
      const revision = (await bucket.get(keyFor(memberRecord, { id })))?.revision ?? 0
      if (still?.revision !== revision) still = { revision, sinceMs: nowMs }
      else if (nowMs - still.sinceMs > unhealthyAfterMs) return // CLAIM-3
      if (nowMs - startedMs > 3 * unhealthyAfterMs)
        throw taken(id, 'a process that does not answer, but writes its heartbeats')
    }
    await sleep(clock, STEP_MS, signal)
  }
}

async function whoHas(bus: Bus, id: string): Promise<IdentityReply | 'nobody' | 'silent'> {
  try {
    return await ask(bus, identity, { id }, {})
  } catch (error) {
    if (!(error instanceof UnavailableError)) throw error
    return error.code === 'bus-no-responders' ? 'nobody' : 'silent'
  }
}

function takenBy(id: string, { role, host, pid }: IdentityReply): UnavailableError {
  return taken(id, `a ${role}, process ${pid} on ${host}`)
}

export function taken(id: string, by: string): UnavailableError {
  const text = `the id ${id} is taken by ${by}: two under one id would answer for each other. Stop that one, or choose another --id (err-carillon-id-taken)`
  return new UnavailableError('err-carillon-id-taken', text)
}
