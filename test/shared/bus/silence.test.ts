// Nobody waits for long for somebody who says nothing, whatever time the question may take.
import { afterEach, beforeEach, expect, test } from 'vitest'
import { sleep } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { serve, serveStream } from '../../../shared/bus/actor.ts'
import { ask, askStream } from '../../../shared/bus/ask.ts'
import { addressed, cbor, streamed } from '../../../shared/bus/contract.ts'
import { createMemoryHub, type MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { runActor } from '../../../shared/bus/run-actor.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { VirtualClock } from '../../sim/virtual-clock.ts'

const MINUTE = 60_000
const patient = { timeoutMs: 2 * MINUTE, requestBytesMax: 1_000 }
const slow = addressed({
  servedBy: 'member',
  askedBy: ['member'],
  ...{ ...patient, name: 'slow', subject: '{id}.slow', replyBytesMax: 1_000 },
  ...{ request: cbor<number>(), reply: cbor<number>(), doc: 'answers after so many ms' },
})
const slowly = streamed({
  servedBy: 'member',
  askedBy: ['member'],
  ...{ ...patient, kind: 'addressed', name: 'slowly', subject: '{id}.slowly', frameBytesMax: 1_000 },
  ...{ request: cbor<number>(), frame: cbor<number>(), doc: 'the same as a stream' },
})

let clock: VirtualClock
let hub: MemoryHub
let asker: Bus

async function soon<T>(promise: Promise<T>): Promise<T> {
  let isSettled = false
  const settled = () => {
    isSettled = true
  }
  promise.then(settled, settled)
  await clock.run(() => isSettled, clock.monotonic() + 10 * MINUTE)
  return promise
}

beforeEach(async () => {
  clock = new VirtualClock()
  hub = createMemoryHub({ clock, random: seededRandom(1) })
  asker = hub.connect('asker')
  const bus = hub.connect('worker')
  const after = async (ms: number) => sleep(bus.clock, ms).then(() => ms)
  const actor = {
    ...{ name: 'worker', hears: [], every: [], start: async () => {}, stop: async () => {} },
    serves: [
      serve(slow, after, { id: 'worker' }),
      serveStream(
        slowly,
        async function* (ms) {
          yield await after(ms)
        },
        { id: 'worker' },
      ),
    ],
  }
  const world = { bus, clock: bus.clock, random: seededRandom(2), log: silentLog }
  await soon(runActor(actor, { ...world, metrics: undefined, onFailed: () => {} }).ready)
})
afterEach(() => hub.crash('worker'))

const answer = async (ms: number) => ask(asker, slow, { id: 'worker' }, ms)
const frames = async (ms: number) => {
  for await (const frame of askStream(asker, slowly, { id: 'worker' }, ms)) return frame
  throw new Error('no frame')
}

test.each([
  ['answer', answer],
  ['stream', frames],
])(
  'an %s that takes its time is waited for; one whose actor stands still, or whose question is lost, is given up after 10 s',
  async (_, asked) => {
    expect(await soon(asked(MINUTE))).toBe(MINUTE)
    const startedMs = clock.monotonic()
    hub.pause('worker')
    await expect(soon(asked(0))).rejects.toMatchObject({ code: 'bus-silent' })
    expect(clock.monotonic() - startedMs).toBe(10_000)
    hub.resume('worker')
    expect(await soon(asked(100))).toBe(100)
  },
)

test.each([
  ['answer', answer],
  ['stream', frames],
])(
  'PIPE-3: an %s is not called silent for what could not be heard because this very process stood still',
  async (_, asked) => {
    const both = ['asker', 'worker']
    clock.after(1_000, () => both.forEach((name) => void hub.pause(name)))
    clock.after(MINUTE, () => both.forEach((name) => void hub.resume(name)))
    expect(await soon(asked(5_000))).toBe(5_000)
  },
)

test('ACTOR-5: a pipe of which the asker has not heard is offered again', async () => {
  clock.after(40, () => Object.assign(hub.faults, { drop: 1 }))
  clock.after(60, () => Object.assign(hub.faults, { drop: 0 })) // the offer comes after 50 ms
  const startedMs = clock.monotonic()
  expect(await soon(frames(100))).toBe(100)
  expect(clock.monotonic() - startedMs).toBeLessThan(3_000)
})
