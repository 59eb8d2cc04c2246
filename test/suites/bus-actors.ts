// The part of the bus suite about running actors: states, bounds, stopping, failing.
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { assert } from '../../shared/base/assert.ts'
import { systemClock } from '../../shared/base/clock.ts'
import { UnavailableError } from '../../shared/base/errors.ts'
import { systemRandom } from '../../shared/base/random.ts'
import { every, serve } from '../../shared/bus/actor.ts'
import { ask } from '../../shared/bus/ask.ts'
import { json, question } from '../../shared/bus/contract.ts'
import { runActor } from '../../shared/bus/run-actor.ts'
import { actorOf, type Ground, running, settle, until } from './bus-ground.ts'

const work = question({
  servedBy: 'member',
  askedBy: ['member'],
  name: 'work',
  subject: 'work',
  request: json<number>(),
  reply: json<number>(),
  timeoutMs: 5_000,
  requestBytesMax: 100,
  replyBytesMax: 100,
  doc: 'Works for so many milliseconds.',
})

const doWork = serve(work, async (ms) => {
  await sleep(ms)
  return ms
})

export function actorTests(ground: Ground): void {
  function recordingLog() {
    const lines: string[] = []
    const line = (level: string) => (_fields: object, text: string) => void lines.push(`${level} ${text}`)
    return { lines, debug: line('debug'), info: line('info'), warn: line('warn'), error: line('error') }
  }

  test('ACTOR-1: nothing is taken before start has resolved', async () => {
    const bus = await ground.connect()
    let begin: () => void = () => undefined
    const start = () =>
      new Promise<void>((resolve) => {
        begin = resolve
      })
    const log = recordingLog()
    const run = runActor(actorOf('late', [doWork], { start }), { bus, clock: systemClock, random: systemRandom, log })
    await settle()
    expect(run.state).toBe('starting')
    await expect(ask(bus, work, {}, 1)).rejects.toMatchObject({ code: 'bus-no-responders' })
    begin()
    await run.ready
    await settle()
    expect(run.state).toBe('running')
    expect(await ask(bus, work, {}, 1)).toBe(1)
    await run.stop()
  })

  test('a start that fails is told of', async () => {
    const bus = await ground.connect()
    const failures: unknown[] = []
    const start = async () => {
      throw new UnavailableError('kv-unavailable', 'no bucket')
    }
    const log = recordingLog()
    const options = {
      bus,
      clock: systemClock,
      random: systemRandom,
      log,
      onFailed: (error: unknown) => failures.push(error),
    }
    const run = runActor(actorOf('broken', [doWork], { start }), options)
    await expect(run.ready).rejects.toThrow('no bucket')
    expect([run.state, failures.length]).toEqual(['failed', 1])
  })

  test('ACTOR-2: beyond the bound the asker is told to come again, at once', async () => {
    const bus = await ground.connect()
    const run = await running(bus, actorOf('busy', [doWork]), { inFlightMax: 3 })
    const asked = await Promise.allSettled([200, 200, 200, 200, 200].map((ms) => ask(bus, work, {}, ms)))
    expect(asked.filter((result) => result.status === 'fulfilled').length).toBe(3)
    for (const result of asked) {
      if (result.status === 'rejected')
        expect(result.reason).toMatchObject({ kind: 'unavailable', code: 'err-carillon-overloaded' })
    }
    expect(await ask(bus, work, {}, 1)).toBe(1)
    await run.stop()
  })

  test('ACTOR-3: stopping lets handlers finish, then stops the actor, and takes nothing new', async () => {
    const [bus, other] = [await ground.connect(), await ground.connect()]
    const order: string[] = []
    const slow = serve(work, async (ms) => {
      await sleep(ms)
      order.push('handled')
      return ms
    })
    const stop = async () => void order.push('stopped')
    const run = await running(bus, actorOf('leaving', [slow], { stop }))
    const asked = ask(other, work, {}, 300)
    await until(() => run.inFlight() === 1, 'the handler to begin')
    const stopping = run.stop()
    expect(run.state).toBe('stopping')
    await settle()
    await expect(ask(other, work, {}, 1)).rejects.toMatchObject({ code: 'bus-no-responders' })
    expect(await asked).toBe(300)
    await stopping
    expect(order).toEqual(['handled', 'stopped'])
    expect(run.state).toBe('stopped')
    await run.stop()
  })

  test('ACTOR-4: a failed assertion ends the actor, and its asker is answered', async () => {
    const bus = await ground.connect()
    const failures: unknown[] = []
    const wrong = serve(work, async (ms) => {
      assert(ms < 5, 'work is small')
      return ms
    })
    const log = recordingLog()
    const options = {
      bus,
      clock: systemClock,
      random: systemRandom,
      log,
      onFailed: (error: unknown) => failures.push(error),
    }
    const run = runActor(actorOf('wrong', [wrong]), options)
    await run.ready
    await settle()
    const answer = { kind: 'refused', status: 500, code: 'err-carillon-bug' } // not to be asked again
    await expect(ask(bus, work, {}, 9)).rejects.toMatchObject(answer)
    expect(run.state).toBe('failed')
    expect(failures).toMatchObject([{ message: 'work is small' }])
  })

  test('what is outside the families is logged as an error and counted', async () => {
    const bus = await ground.connect()
    const log = recordingLog()
    const counted: string[] = []
    let level = 0
    const metrics = {
      handled: (name: string, _seconds: number, outcome: string) => void counted.push(`${name} ${outcome}`),
      inFlight: (_name: string, delta: number) => {
        level += delta
      },
    }
    const odd = serve(work, async (ms) => {
      if (ms === 1) throw new TypeError('odd')
      if (ms === 2) throw new UnavailableError('log-full', 'full')
      return ms
    })
    const run = runActor(actorOf('odd', [odd]), { bus, clock: systemClock, random: systemRandom, log, metrics })
    await run.ready
    await settle()
    for (const ms of [1, 2, 3]) await ask(bus, work, {}, ms).catch(() => undefined)
    await run.stop()
    expect(counted).toEqual(['work internal', 'work unavailable', 'work ok'])
    expect(level).toBe(0)
    expect(log.lines.filter((line) => line.startsWith('error'))).toEqual(['error work: odd'])
  })

  test('what is done by the clock never overlaps itself, outlives its errors, and ends with the actor', async () => {
    const bus = await ground.connect()
    let atWork = 0
    let atWorkMost = 0
    let count = 0
    const tick = every(10, 'tick', async () => {
      atWork += 1
      atWorkMost = Math.max(atWorkMost, atWork)
      count += 1
      await sleep(30)
      atWork -= 1
      throw new Error('again')
    })
    const run = await running(bus, actorOf('clock', [], { every: [tick] }))
    await until(() => count > 3, 'a few times')
    await run.stop()
    expect([atWork, atWorkMost]).toEqual([0, 1])
    const countThen = count
    await sleep(100)
    expect(count).toBe(countThen)
  })
}
