// What goes wrong on the memory bus goes wrong as told, in virtual time, and again for the same seed.
import { describe, expect, test } from 'vitest'
import { sleep } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { every, serve } from '../../../shared/bus/actor.ts'
import { ask } from '../../../shared/bus/ask.ts'
import { json, question } from '../../../shared/bus/contract.ts'
import { createMemoryHub, type Faults, type MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { LogConfig } from '../../../shared/bus/port.ts'
import { runActor } from '../../../shared/bus/run-actor.ts'
import { VirtualClock } from '../../sim/virtual-clock.ts'
import { actorOf, bytes, text } from '../../suites/bus-ground.ts'

const timeoutMs = 1_000
const logConfig: LogConfig = { name: 'log', subjects: ['log.>'], bytesMax: 1e9, replicas: 1, duplicateWindowMs: 60_000 }

const double = question({
  servedBy: 'member',
  askedBy: ['member'],
  name: 'double',
  subject: 'double',
  request: json<number>(),
  reply: json<number>(),
  timeoutMs: 2_000,
  requestBytesMax: 100,
  replyBytesMax: 100,
  doc: 'Doubles.',
})

/** Runs a story in virtual time on a fresh hub. */
async function inVirtualTime<T>(
  story: (hub: MemoryHub, clock: VirtualClock) => Promise<T>,
  faults: Partial<Faults> = {},
  seed = 7,
): Promise<T> {
  const clock = new VirtualClock()
  const hub = createMemoryHub({ clock, random: seededRandom(seed), faults })
  let outcome: (() => T) | undefined
  story(hub, clock).then(
    (value) => {
      outcome = () => value
    },
    (error) => {
      outcome = () => {
        throw error
      }
    },
  )
  await clock.run(() => outcome !== undefined, 3_600_000)
  if (outcome === undefined) throw new Error('the story did not end')
  return outcome()
}

const silentLog = { debug() {}, info() {}, warn() {}, error() {} }

describe('appends', () => {
  test('an append that is stored and not acknowledged times out; repeated with its id it is found', () =>
    inVirtualTime(async (hub) => {
      const bus = hub.connect('a')
      await bus.logs.ensure(logConfig)
      hub.faults.onAppend = () => 'store-but-lose-ack'
      const options = { timeoutMs, messageId: 'm1' }
      await expect(bus.logs.append('log', 'log.a', bytes('1'), options)).rejects.toMatchObject({ code: 'bus-timeout' })
      hub.faults.onAppend = undefined
      expect(await bus.logs.append('log', 'log.a', bytes('1'), options)).toEqual({ seq: 1, isDuplicate: true })
      hub.faults.onAppend = () => 'drop-before-store'
      const dropped = bus.logs.append('log', 'log.a', bytes('2'), { timeoutMs, messageId: 'm2' })
      await expect(dropped).rejects.toMatchObject({ code: 'bus-timeout' })
      expect((await bus.logs.state('log')).lastSeq).toBe(1)
    }))

  test('the duplicate window ends', () =>
    inVirtualTime(async (hub, clock) => {
      const bus = hub.connect('a')
      await bus.logs.ensure(logConfig)
      const append = () => bus.logs.append('log', 'log.a', bytes('1'), { timeoutMs, messageId: 'm1' })
      expect((await append()).seq).toBe(1)
      await sleep(clock, 59_000)
      expect(await append()).toEqual({ seq: 1, isDuplicate: true })
      await sleep(clock, 2_000)
      expect(await append()).toEqual({ seq: 2, isDuplicate: false })
    }))

  test('the payload of an append is the one at the time of the call', () =>
    inVirtualTime(async (hub) => {
      const bus = hub.connect('a')
      await bus.logs.ensure(logConfig)
      const payload = Buffer.from('before')
      const appending = bus.logs.append('log', 'log.a', payload, { timeoutMs })
      payload.write('after!')
      await appending
      expect(text((await bus.logs.get('log', 1, timeoutMs))?.payload)).toBe('before')
    }))

  test('LOG-5: a stale answer says how old it is', () =>
    inVirtualTime(
      async (hub) => {
        const bus = hub.connect('a')
        await bus.logs.ensure(logConfig)
        for (let i = 1; i <= 20; i++) await bus.logs.append('log', 'log.a', bytes(String(i)), { timeoutMs })
        const { messages, upToSeq } = await bus.logs.lastPerSubject('log', ['log.a'], timeoutMs)
        expect(upToSeq).toBeLessThan(20)
        expect(messages[0]?.seq).toBe(upToSeq)
        hub.faults.staleRead = 0
        expect((await bus.logs.lastPerSubject('log', ['log.a'], timeoutMs)).upToSeq).toBe(20)
      },
      { staleRead: 1, staleBehindMax: 5 },
    ))

  test('without a leader logs and buckets are unavailable', () =>
    inVirtualTime(async (hub) => {
      const bus = hub.connect('a')
      await bus.logs.ensure(logConfig)
      const bucket = await bus.bucket('b')
      hub.faults.logsDown = hub.faults.bucketsDown = true
      const append = bus.logs.append('log', 'log.a', bytes('1'), { timeoutMs })
      await expect(append).rejects.toMatchObject({ code: 'log-unavailable' })
      await expect(bucket.put('k', bytes('1'))).rejects.toMatchObject({ code: 'kv-unavailable' })
    }))

  test('a bucket write may be carried out and its answer lost', () =>
    inVirtualTime(
      async (hub) => {
        const bucket = await hub.connect('a').bucket('b')
        await expect(bucket.create('k', bytes('1'))).rejects.toMatchObject({ code: 'bus-timeout' })
        expect(text((await bucket.get('k'))?.value)).toBe('1')
      },
      { kvLoseAck: 1 },
    ))
})

describe('copies that are behind', () => {
  test('a get may be answered by a copy that is behind: with something older, or nothing, never with something else', () =>
    inVirtualTime(
      async (hub) => {
        const bucket = await hub.connect('a').bucket('b')
        await bucket.put('k', bytes('0'))
        for (let i = 1; i <= 5; i++) await bucket.put('k', bytes(String(i)))
        const got = new Set<string>()
        for (let i = 0; i < 50; i++) got.add(text((await bucket.get('k'))?.value))
        expect([...got].sort()).toEqual(['2', '3', '4'])
        hub.faults.isUpToDate = (name) => name === 'a'
        for (let i = 0; i < 20; i++) expect(text((await bucket.get('k'))?.value)).toBe('5')
      },
      { staleGet: 1, staleBehindMax: 3 },
    ))

  test('a watch that is behind shows changes one by one, and is settled only when nothing waits', () =>
    inVirtualTime(
      async (hub, clock) => {
        const bucket = await hub.connect('a').bucket('b')
        const theirs = await hub.connect('b').bucket('b')
        const shown = new Map<string, number>()
        const settled: { a: number; b: number }[] = []
        let isOdd = false
        theirs.watch(
          '>',
          ({ key, value }) => {
            shown.set(key, Number(text(value)))
            isOdd ||= (shown.get('b') ?? 0) > (shown.get('a') ?? 0)
          },
          () => undefined,
          () => settled.push({ a: shown.get('a') ?? 0, b: shown.get('b') ?? 0 }),
        )
        // b = k is written after a >= k: whoever holds b = k without a >= k has no state that ever was.
        for (let k = 1; k <= 200; k++) {
          for (const key of ['a', 'b']) await bucket.put(key, bytes(String(k)))
        }
        await sleep(clock, 2_000)
        expect(settled.at(-1)).toEqual({ a: 200, b: 200 })
        for (const { a, b } of settled) expect(a).toBeGreaterThanOrEqual(b)
        expect(isOdd, 'in between it shows what never was').toBe(true)
      },
      { watchOneByOne: 0.8, watchDelayMs: { minMs: 0, maxMs: 20 }, delayMs: { minMs: 1, maxMs: 5 } },
    ))
})

describe('disks', () => {
  async function filled(hub: MemoryHub, count = 5) {
    const bus = hub.connect('a')
    await bus.logs.ensure(logConfig)
    for (let i = 1; i <= count; i++) await bus.logs.append('log', 'log.a', bytes(String(i)), { timeoutMs })
    const heard: string[] = []
    const errors: unknown[] = []
    const follow = (from = 1) =>
      bus.logs.consume(
        'log',
        from,
        ({ payload }) => void heard.push(text(payload)),
        (error) => errors.push((error as { code?: string }).code),
      )
    return { bus, heard, errors, follow, log: hub.log('log')! }
  }

  test('a message that is lost is jumped over, one that is spoilt has other bytes', () =>
    inVirtualTime(async (hub, clock) => {
      const { bus, log, heard, follow } = await filled(hub)
      const before = log.state().bytes
      log.lose(2)
      log.spoil(4, bytes('bad'))
      follow()
      await sleep(clock, 10)
      expect(heard).toEqual(['1', '3', 'bad', '5'])
      expect(log.state()).toMatchObject({ firstSeq: 1, lastSeq: 5 })
      expect(log.state().bytes).toBeLessThan(before)
      expect(await bus.logs.get('log', 2, timeoutMs)).toBeUndefined()
      log.lose(5)
      expect((await bus.logs.lastPerSubject('log', ['log.a'], timeoutMs)).messages[0]?.seq).toBe(4)
    }))

  test('a log that comes back without its end, or made anew, is told as rewound and followed from there', () =>
    inVirtualTime(async (hub, clock) => {
      const { bus, log, heard, errors, follow } = await filled(hub)
      follow()
      await sleep(clock, 10)
      log.cutTail(3)
      await sleep(clock, 1_000) // what is stored sooner is passed over: whoever is told begins anew by itself
      await bus.logs.append('log', 'log.a', bytes('new 4'), { timeoutMs })
      await sleep(clock, 1_000)
      expect(heard).toEqual(['1', '2', '3', '4', '5', 'new 4'])
      expect(errors).toEqual(['log-rewound'])
      hub.makeAnew('log')
      await sleep(clock, 1_000)
      expect((await bus.logs.append('log', 'log.a', bytes('first'), { timeoutMs })).seq).toBe(1)
      await sleep(clock, 1_000)
      expect(heard.at(-1)).toBe('first')
      expect(errors).toEqual(['log-rewound', 'log-rewound'])
    }))

  test('what is delivered may be kept from one consumer', () =>
    inVirtualTime(async (hub, clock) => {
      const { heard, follow } = await filled(hub)
      hub.faults.onDeliver = ({ message, by }) => (by === 'a' && message.seq === 3 ? undefined : message)
      follow()
      await sleep(clock, 10)
      expect(heard).toEqual(['1', '2', '4', '5'])
    }))

  test('the duplicate window may end sooner than the log says', () =>
    inVirtualTime(
      async (hub, clock) => {
        const bus = hub.connect('a')
        await bus.logs.ensure(logConfig)
        const append = () => bus.logs.append('log', 'log.a', bytes('1'), { timeoutMs, messageId: 'm1' })
        expect((await append()).seq).toBe(1)
        await sleep(clock, 200)
        expect((await append()).seq).toBe(2)
      },
      { duplicateWindowMs: 100 },
    ))
})

describe('processes', () => {
  test('a paused process stands still, timers too, and goes on where it was', () =>
    inVirtualTime(async (hub, clock) => {
      const [a, b] = [hub.connect('a'), hub.connect('b')]
      const heard: string[] = []
      b.subscribe('news', {}, (m) => heard.push(text(m.payload)))
      b.clock.after(500, () => heard.push('timer'))
      await sleep(clock, 10)
      hub.pause('b')
      a.publish('news', bytes('1'))
      await sleep(clock, 5_000)
      expect(heard).toEqual([])
      a.publish('news', bytes('2'))
      hub.resume('b')
      await sleep(clock, 10)
      expect(heard.sort()).toEqual(['1', '2', 'timer'])
    }))

  test('what a paused process was promised fails by its own clock when it wakes', () =>
    inVirtualTime(async (hub, clock) => {
      const [a, b] = [hub.connect('a'), hub.connect('b')]
      b.subscribe('silence', {}, () => undefined)
      await sleep(clock, 10)
      let code = ''
      a.request('silence', bytes(''), { timeoutMs: 100 }).catch((error) => {
        code = error.code
      })
      hub.pause('a')
      await sleep(clock, 10_000)
      expect(code).toBe('')
      hub.resume('a')
      await sleep(clock, 10)
      expect(code).toBe('bus-timeout')
    }))

  test('a crashed process is silent for ever: no message, no timer, no settled promise', () =>
    inVirtualTime(async (hub, clock) => {
      const [a, b] = [hub.connect('a'), hub.connect('b')]
      await a.logs.ensure(logConfig)
      const heard: string[] = []
      b.subscribe('news', {}, () => heard.push('message'))
      b.clock.after(100, () => heard.push('timer'))
      b.logs.consume(
        'log',
        1,
        () => void heard.push('log'),
        () => heard.push('error'),
      )
      await sleep(clock, 10)
      b.logs.state('log').then(
        () => heard.push('answer'),
        () => heard.push('failure'),
      )
      hub.crash('b')
      a.publish('news', bytes('1'))
      await a.logs.append('log', 'log.a', bytes('1'), { timeoutMs })
      await sleep(clock, 60_000)
      expect(heard).toEqual([])
      await expect(a.request('news', bytes(''), { timeoutMs })).rejects.toMatchObject({ code: 'bus-no-responders' })
      expect(hub.connect('b').isConnected()).toBe(true)
    }))

  test('an actor whose process crashes leaves its askers to their timeout, and the next one answers', () =>
    inVirtualTime(async (hub, clock) => {
      const asker = hub.connect('asker')
      const start = async (name: string, delayMs: number) => {
        const bus = hub.connect(name)
        const slow = serve(double, async (n) => {
          await sleep(bus.clock, delayMs)
          return 2 * n
        })
        const run = runActor(actorOf(name, [slow]), { bus, clock: bus.clock, random: seededRandom(1), log: silentLog })
        await run.ready
        await sleep(clock, 10)
      }
      await start('one', 500)
      const asked = ask(asker, double, {}, 21).catch((error) => error.code)
      await sleep(clock, 100)
      hub.crash('one')
      expect(await asked).toBe('bus-timeout')
      await start('two', 1)
      expect(await ask(asker, double, {}, 21)).toBe(42)
    }))
})

describe('messages', () => {
  test('one seed makes one history, another seed another', async () => {
    const faults = { delayMs: { minMs: 1, maxMs: 30 }, drop: 0.1, duplicate: 0.1, reorder: 0.1 }
    const history = (seed: number) =>
      inVirtualTime(
        async (hub, clock) => {
          const [a, b] = [hub.connect('a'), hub.connect('b')]
          const heard: string[] = []
          b.subscribe('news', {}, (m) => heard.push(`${clock.monotonic().toFixed(3)} ${text(m.payload)}`))
          await sleep(clock, 100)
          for (let i = 0; i < 100; i++) a.publish('news', bytes(String(i)))
          await sleep(clock, 5_000)
          return heard
        },
        faults,
        seed,
      )
    const first = await history(3)
    expect(await history(3)).toEqual(first)
    expect(await history(4)).not.toEqual(first)
    const numbers = first.map((line) => Number(line.split(' ')[1]))
    expect(new Set(numbers).size).toBeLessThan(100) // some were dropped
    expect(numbers.length).toBeGreaterThan(new Set(numbers).size) // some came twice
    expect(numbers).not.toEqual([...numbers].sort((x, y) => x - y)) // some overtook
  })

  test('delays alone keep the order', () =>
    inVirtualTime(
      async (hub, clock) => {
        const [a, b] = [hub.connect('a'), hub.connect('b')]
        const heard: number[] = []
        b.subscribe('news', {}, (m) => heard.push(Number(text(m.payload))))
        await sleep(clock, 100)
        for (let i = 0; i < 200; i++) {
          a.publish('news', bytes(String(i)))
          await sleep(clock, 1)
        }
        await sleep(clock, 1_000)
        expect(heard).toEqual(Array.from({ length: 200 }, (_, i) => i))
      },
      { delayMs: { minMs: 0, maxMs: 50 } },
    ))

  test('a consumer and a watch lose nothing to lost connections', () =>
    inVirtualTime(async (hub, clock) => {
      const [a, b] = [hub.connect('a'), hub.connect('b')]
      await a.logs.ensure(logConfig)
      const bucket = await a.bucket('b')
      const seqs: number[] = []
      const values: string[] = []
      b.logs.consume(
        'log',
        1,
        (m) => void seqs.push(m.seq),
        () => undefined,
      )
      const theirs = await b.bucket('b')
      theirs.watch(
        '>',
        (entry) => values.push(text(entry.value)),
        () => undefined,
      )
      for (let i = 1; i <= 300; i++) {
        await a.logs.append('log', 'log.a', bytes(String(i)), { timeoutMs })
        await bucket.put('k', bytes(String(i)))
        await sleep(clock, 20)
        if (i % 50 === 10) hub.disconnect('b')
        if (i % 50 === 30) hub.reconnect('b')
      }
      await sleep(clock, 1_000)
      expect(seqs).toEqual(Array.from({ length: 300 }, (_, i) => i + 1))
      expect(values.at(-1)).toBe('300')
      expect(new Set(values).size).toBe(values.length)
    }))

  test('a watch over a bucket that lost its newest writes shows what stands, once, and what is gone', () =>
    inVirtualTime(async (hub, clock) => {
      const [a, b] = [hub.connect('a'), hub.connect('b')]
      const [bucket, other] = [await a.bucket('k'), await b.bucket('k')]
      const shown: string[] = []
      for (const key of ['older', 'stands']) await bucket.put(key, bytes('1'))
      other.watch(
        '>',
        ({ key, value, revision }) => shown.push(`${key} ${value === undefined ? 'gone' : text(value)} ${revision}`),
        () => undefined,
      )
      await sleep(clock, 100)
      await bucket.put('older', bytes('2'))
      await bucket.put('again', bytes('2'))
      await bucket.put('lost', bytes('2'))
      await sleep(clock, 100)
      expect(shown.splice(0)).toEqual(['older 1 1', 'stands 1 2', 'older 2 3', 'again 2 4', 'lost 2 5'])
      hub.bucket('k')!.cutTail(2)
      await bucket.put('new', bytes('3'))
      await bucket.put('again', bytes('3'))
      await sleep(clock, 5_000)
      expect(shown.splice(0)).toEqual(['older 1 1', 'again gone 0', 'lost gone 0', 'new 3 3', 'again 3 4'])
      await bucket.put('lost', bytes('4'))
      await sleep(clock, 100)
      expect(shown).toEqual(['lost 4 5'])
    }))

  test('what an actor does by the clock follows the clock it was given', () =>
    inVirtualTime(async (hub, clock) => {
      const bus = hub.connect('a')
      let count = 0
      const tick = every(1_000, 'tick', () => void count++, { jitter: 0 })
      const options = { bus, clock: bus.clock, random: seededRandom(1), log: silentLog }
      const run = runActor(actorOf('clock', [], { every: [tick] }), options)
      await sleep(clock, 10_500)
      expect(count).toBe(10)
      await run.stop()
      await sleep(clock, 10_000)
      expect(count).toBe(10)
    }))
})
