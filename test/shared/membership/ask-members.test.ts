// Asking several members at once, on the bus in memory and in virtual time: one answers, one refuses, one takes its time, one is not there.
import { beforeEach, expect, test } from 'vitest'
import { AssertionError } from '../../../shared/base/assert.ts'
import { sleep } from '../../../shared/base/clock.ts'
import { RefusedError } from '../../../shared/base/errors.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { serve } from '../../../shared/bus/actor.ts'
import { addressed, cbor } from '../../../shared/bus/contract.ts'
import { createMemoryHub, type MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { runActor } from '../../../shared/bus/run-actor.ts'
import { askMembers, MEMBERS_MS_MAX, unansweredIn } from '../../../shared/membership/ask-members.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { VirtualClock } from '../../sim/virtual-clock.ts'

const SECOND = 1_000
const word = addressed({
  servedBy: 'member',
  askedBy: ['member'],
  ...{ name: 'word', subject: '{id}.word', timeoutMs: 5 * SECOND, requestBytesMax: 1_000, replyBytesMax: 1_000 },
  ...{ request: cbor<string>(), reply: cbor<string>(), doc: 'says it again' },
})

let clock: VirtualClock
let hub: MemoryHub
let asker: Bus

beforeEach(async () => {
  clock = new VirtualClock()
  hub = createMemoryHub({ clock, random: seededRandom(1) })
  asker = hub.connect('asker')
})

test('ASK-2: each member is among the answers or among the failures, as they were named, and a failure says why', async () => {
  await member('a', 0)
  await member('b', 0, new RefusedError('err-carillon-bad-request', 'b says no'))
  await member('c', 20 * SECOND)
  await member('e', SECOND)
  const members = ['e', 'd', 'c', 'b', 'a'].map((id) => ({ id, role: 'querier' }))
  const found = await soon(askMembers(asker, members, word, 'hello'))
  expect(found.answers).toEqual([
    { member: members[0], reply: 'hello from e' },
    { member: members[4], reply: 'hello from a' },
  ])
  expect(unansweredIn(found)).toEqual(['d', 'c', 'b'])
  expect(found.failures.map(({ reason }) => reason)).toEqual([
    'nobody listens on d.word',
    'no answer on c.word within 5000 ms',
    'b says no',
  ])
})

test.each([
  { named: undefined, afterMs: 5 * SECOND },
  { named: 2 * SECOND, afterMs: 2 * SECOND },
  { named: 2 * MEMBERS_MS_MAX, afterMs: MEMBERS_MS_MAX },
])('ASK-1: who is silent is waited for $afterMs ms where $named are named', async ({ named, afterMs }) => {
  await member('quick', 0)
  await member('slow', 3 * MEMBERS_MS_MAX)
  await member('slower', 4 * MEMBERS_MS_MAX)
  const members = ['slow', 'quick', 'slower'].map((id) => ({ id }))
  const beganMs = clock.monotonic()
  const found = await soon(
    askMembers(asker, members, word, 'hello', { timeoutMs: named, silenceMs: 4 * MEMBERS_MS_MAX }),
  )
  expect(clock.monotonic() - beganMs).toBeLessThan(afterMs + 50)
  expect(clock.monotonic() - beganMs).toBeGreaterThanOrEqual(afterMs)
  expect(unansweredIn(found)).toEqual(['slow', 'slower'])
})

test('nobody to ask is no answer at once', async () => {
  expect(await askMembers(asker, [], word, 'hello')).toEqual({ answers: [], failures: [] })
})

test('ASK-3: a failed assertion is no silence of a member', async () => {
  await member('a', 0)
  const bug = {
    ...word,
    request: {
      ...word.request,
      encode: (): Uint8Array => {
        throw new AssertionError('a bug')
      },
    },
  }
  await expect(soon(askMembers(asker, [{ id: 'a' }], bug, 'hello'))).rejects.toThrow('a bug')
})

/** Answers after so long, or refuses. */
async function member(id: string, afterMs: number, refusal?: RefusedError): Promise<void> {
  const bus = hub.connect(id)
  const onWord = async (said: string) => {
    await sleep(bus.clock, afterMs)
    if (refusal !== undefined) throw refusal
    return `${said} from ${id}`
  }
  const actor = {
    ...{ name: id, hears: [], every: [], start: async () => {}, stop: async () => {} },
    serves: [serve(word, onWord, { id })],
  }
  const world = { bus, clock: bus.clock, random: seededRandom(2), log: silentLog }
  await soon(runActor(actor, { ...world, onFailed: () => {} }).ready)
}

async function soon<T>(promise: Promise<T>): Promise<T> {
  let isSettled = false
  const settled = () => {
    isSettled = true
  }
  promise.then(settled, settled)
  await clock.run(() => isSettled, clock.monotonic() + 2 * MEMBERS_MS_MAX)
  return promise
}
