// The part of the bus suite about asking by contract: sizes, errors, deadlines, cancellation, streams.
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { systemClock } from '../../shared/base/clock.ts'
import { ConflictError, CorruptError, RefusedError, UnavailableError } from '../../shared/base/errors.ts'
import { type HandlerContext, hear, serve, serveStream } from '../../shared/bus/actor.ts'
import { ask, askStream, tell } from '../../shared/bus/ask.ts'
import { addressed, cbor, json, question, raw, streamed, topic } from '../../shared/bus/contract.ts'
import { windowBytesMax } from '../../shared/bus/pipe.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { actorOf, bytes, type Ground, running, text, until } from './bus-ground.ts'

const bytesMax = 24_000_000

const echo = question({
  servedBy: 'member',
  askedBy: ['member'],
  name: 'echo',
  subject: 'echo.{tenant}',
  request: raw,
  reply: raw,
  timeoutMs: 10_000,
  requestBytesMax: bytesMax,
  replyBytesMax: bytesMax,
  doc: 'Answers what it was asked.',
})

const talk = question({
  servedBy: 'member',
  askedBy: ['member'],
  name: 'talk',
  subject: 'talk',
  request: cbor<{ want: string; numbers?: Float64Array }>(),
  reply: json<{ said: string }>(),
  timeoutMs: 5_000,
  requestBytesMax: 10_000,
  replyBytesMax: 1_000,
  doc: 'Does what it is told.',
})

const whoAmI = addressed({
  servedBy: 'member',
  askedBy: ['member'],
  name: 'who am I',
  subject: 'who.{id}',
  request: json<null>(),
  reply: json<string>(),
  timeoutMs: 5_000,
  requestBytesMax: 100,
  replyBytesMax: 100,
  doc: 'Answers which instance it is.',
})

const row = streamed({
  servedBy: 'member',
  askedBy: ['member'],
  name: 'row',
  subject: 'row.{tenant}',
  request: raw,
  frame: cbor<{ n: number; filler: Uint8Array }>(),
  timeoutMs: 20_000,
  requestBytesMax: bytesMax,
  frameBytesMax: 3_000_000,
  doc: 'Counts.',
})

const news = topic({
  servedBy: 'member',
  askedBy: ['member'],
  name: 'news',
  subject: 'news.{tenant}',
  value: json<string>(),
  bytesMax: 1_000,
  doc: 'News.',
})

export function askTests(ground: Ground): void {
  async function pair(): Promise<[Bus, Bus]> {
    return [await ground.connect(), await ground.connect()]
  }

  test('small and large questions get small and large answers, byte for byte', async () => {
    const [here, there] = await pair()
    await running(there, actorOf('echo', [serve(echo, async (request) => request)]))
    for (const size of [0, 1, 200_000, 1_040_000, 1_050_000, 20_000_000]) {
      const request = Buffer.alloc(size, 'abcdefg')
      const reply = await ask(here, echo, { tenant: 't' }, request)
      expect(reply.length).toBe(size)
      expect(Buffer.compare(reply, request)).toBe(0)
    }
  })

  test('many large questions at once do not mix', async () => {
    const [here, there] = await pair()
    await running(there, actorOf('echo', [serve(echo, async (request) => request)]))
    const requests = [1, 2, 3, 4].map((n) => Buffer.alloc(2_500_000 + n, n))
    const replies = await Promise.all(requests.map((request) => ask(here, echo, { tenant: 't' }, request)))
    for (const [i, reply] of replies.entries()) expect(Buffer.compare(reply, requests[i] ?? bytes(''))).toBe(0)
  })

  test('what is larger than its bound is refused with 413, on whichever side it is', async () => {
    const [here, there] = await pair()
    const tooMuch = async ({ want }: { want: string }) => ({ said: want.repeat(2_000) })
    await running(there, actorOf('talk', [serve(talk, tooMuch)]))
    const refused = { kind: 'refused', code: 'err-carillon-too-large', status: 413 }
    await expect(ask(here, talk, {}, { want: 'x'.repeat(20_000) })).rejects.toMatchObject(refused)
    await expect(ask(here, talk, {}, { want: 'x' })).rejects.toMatchObject(refused)
    const claim = await here.request('talk', bytes(''), {
      timeoutMs: 1_000,
      headers: { 'Carillon-Flow': 'upload 99999999' },
    })
    expect(claim.headers['Nats-Service-Error-Code']).toBe('err-carillon-too-large')
    const direct = await here.request('talk', new Uint8Array(20_000), { timeoutMs: 1_000 })
    expect(direct.headers['Nats-Service-Error-Code']).toBe('err-carillon-too-large')
  })

  test('errors arrive as the same class, code, status and text', async () => {
    const [here, there] = await pair()
    const errors: Record<string, Error> = {
      refused: new RefusedError('err-carillon-query-range', 'bad “name”\r\n 100 % wrong ', {
        status: 422,
        retryAfterS: 7,
      }),
      unavailable: new UnavailableError('log-full', 'full'),
      conflict: new ConflictError('kv-conflict', 'lost'),
      corrupt: new CorruptError('bad-checksum', 'broken'),
    }
    const fail = async ({ want }: { want: string }) => {
      throw errors[want] ?? new TypeError(want)
    }
    await running(there, actorOf('talk', [serve(talk, fail)]))
    for (const [want, error] of Object.entries(errors)) {
      const got = await ask(here, talk, {}, { want }).catch((e) => e)
      expect(got).toBeInstanceOf(error.constructor)
      expect(got.message).toBe(error.message)
      expect(got).toMatchObject({ code: (error as RefusedError).code })
    }
    const refused = await ask(here, talk, {}, { want: 'refused' }).catch((e) => e)
    expect([refused.status, refused.retryAfterS]).toEqual([422, 7])
    const internal = await ask(here, talk, {}, { want: 'surprise' }).catch((e) => e)
    expect(internal).toMatchObject({ kind: 'unavailable', code: 'err-carillon-internal' })
  })

  test('junk on a served subject is refused, and the actor goes on', async () => {
    const [here, there] = await pair()
    const run = await running(there, actorOf('talk', [serve(talk, async ({ want }) => ({ said: want }))]))
    const junk = [
      [],
      [0],
      [1],
      [1, 0xff],
      [1, 0x9b, 255, 255, 255, 255, 255, 255, 255, 255],
      [2, 0xa0],
      [1, ...new Uint8Array(5_000).fill(0x81)],
    ]
    for (const body of junk) {
      const reply = await here.request('talk', Uint8Array.from(body), { timeoutMs: 2_000 })
      expect(reply.headers['Nats-Service-Error-Code'], `junk of ${body.length} bytes`).toBeDefined()
      expect(reply.headers['Carillon-Error-Family']).toBe('refused')
    }
    const odd = await here.request('talk', bytes(''), { timeoutMs: 2_000, headers: { 'Carillon-Flow': 'nonsense' } })
    expect(odd.headers['Carillon-Error-Family']).toBe('refused')
    here.publish('talk', bytes('junk')) // nobody to answer to
    expect(await ask(here, talk, {}, { want: 'still here' })).toEqual({ said: 'still here' })
    expect(run.state).toBe('running')
  })

  test('parameters, request id and deadline reach the handler', async () => {
    const [here, there] = await pair()
    const seen: HandlerContext<'tenant'>[] = []
    const look = async (request: Uint8Array, context: HandlerContext<'tenant'>) => {
      seen.push(context)
      return request
    }
    await running(there, actorOf('echo', [serve(echo, look)]))
    await ask(here, echo, { tenant: 'acme' }, bytes('x'), { requestId: 'r-1', timeoutMs: 3_000 })
    await ask(here, echo, { tenant: 'umbrella' }, bytes('x'))
    expect(seen.map((c) => [c.params.tenant, c.requestId])).toEqual([
      ['acme', 'r-1'],
      ['umbrella', undefined],
    ])
    const leftMs = seen.map((c) => c.deadline - systemClock.monotonic())
    expect(leftMs[0]).toBeGreaterThan(1_000)
    expect(leftMs[0]).toBeLessThanOrEqual(3_000)
    expect(leftMs[1]).toBeGreaterThan(5_000)
  })

  test('an addressed question reaches the instance it names, or nobody', async () => {
    const [here, there] = await pair()
    const answerAs = (id: string) => serve(whoAmI, async () => id, { id })
    await running(there, actorOf('one', [answerAs('one')]))
    await running(there, actorOf('two', [answerAs('two')]))
    expect(await ask(here, whoAmI, { id: 'one' }, null)).toBe('one')
    expect(await ask(here, whoAmI, { id: 'two' }, null)).toBe('two')
    await expect(ask(here, whoAmI, { id: 'three' }, null)).rejects.toMatchObject({ code: 'bus-no-responders' })
    for (const id of ['a.b', '*', '>', '', 'a b', 'x\r\ny']) {
      await expect(ask(here, whoAmI, { id }, null)).rejects.toMatchObject({ code: 'err-carillon-bad-subject' })
    }
  })

  test('a deadline ends both sides', async () => {
    const [here, there] = await pair()
    let reason: unknown
    const wait = async (request: Uint8Array, { signal }: HandlerContext) => {
      await sleep(10_000, undefined, { signal }).catch(() => undefined)
      reason = signal.reason
      return request
    }
    await running(there, actorOf('echo', [serve(echo, wait)]))
    const asked = ask(here, echo, { tenant: 't' }, bytes('x'), { timeoutMs: 200 })
    await expect(asked).rejects.toMatchObject({ code: 'bus-timeout' })
    await until(() => reason !== undefined, 'the handler to end')
    expect(reason).toMatchObject({ code: 'bus-timeout' })
    const past = ask(here, echo, { tenant: 't' }, bytes('x'), { deadline: systemClock.monotonic() - 1 })
    await expect(past).rejects.toMatchObject({ code: 'bus-timeout' })
  })

  test.each([10, 2_000_000])('an asker that leaves a question of %d bytes ends its handler', async (size) => {
    const [here, there] = await pair()
    let reason: unknown
    let isAtWork = false
    const wait = async (request: Uint8Array, { signal }: HandlerContext) => {
      isAtWork = true
      await sleep(10_000, undefined, { signal }).catch(() => undefined)
      reason = signal.reason
      return request
    }
    await running(there, actorOf('echo', [serve(echo, wait)]))
    const aborting = new AbortController()
    const asked = ask(here, echo, { tenant: 't' }, new Uint8Array(size), { signal: aborting.signal }).catch((e) => e)
    await until(() => isAtWork, 'the handler to begin')
    aborting.abort(new Error('no longer wanted'))
    expect(await asked).toMatchObject({ message: 'no longer wanted' })
    await until(() => reason !== undefined, 'the handler to end')
    expect(reason).toMatchObject({ code: 'err-carillon-cancelled' })
  })

  test('news reach every listener; a listener that throws hears the next', async () => {
    const [here, there] = await pair()
    const heard: string[] = []
    const listen = hear(news, (value, { params }) => {
      heard.push(`${params.tenant} ${value}`)
      throw new Error('no good')
    })
    await running(there, actorOf('one', [], { hears: [listen] }))
    await running(there, actorOf('two', [], { hears: [listen] }))
    tell(here, news, { tenant: 'a' }, 'first')
    here.publish('news.a', bytes('{junk'))
    tell(here, news, { tenant: 'b' }, 'second')
    await until(() => heard.length === 4, 'two news twice')
    expect(heard.sort()).toEqual(['a first', 'a first', 'b second', 'b second'])
    expect(() => tell(here, news, { tenant: 'a' }, 'x'.repeat(2_000))).toThrow(RefusedError)
  })

  streamTests(pair)
}

function streamTests(pair: () => Promise<[Bus, Bus]>): void {
  const counting = (count: number, fillerBytes: number, produced: { count: number } = { count: 0 }) =>
    async function* () {
      for (let n = 0; n < count; n++) {
        produced.count += 1
        yield { n, filler: new Uint8Array(fillerBytes).fill(n) }
      }
    }

  test.each([
    [0, 10],
    [1, 0],
    [1_000, 10],
    [60, 300_000],
    [5, 2_900_000],
  ])('a stream of %d frames of %d bytes arrives whole and in order', async (count, fillerBytes) => {
    const [here, there] = await pair()
    await running(there, actorOf('row', [serveStream(row, counting(count, fillerBytes))]))
    const seen: number[] = []
    for await (const frame of askStream(here, row, { tenant: 't' }, bytes('go'))) {
      expect(frame.filler.length).toBe(fillerBytes)
      if (fillerBytes > 0) expect(frame.filler.at(-1)).toBe(frame.n % 256)
      seen.push(frame.n)
    }
    expect(seen).toEqual(Array.from({ length: count }, (_, i) => i))
  })

  test('a stream may answer a large request', async () => {
    const [here, there] = await pair()
    const parrot = serveStream(row, async function* (request) {
      yield { n: request.length, filler: new Uint8Array(0) }
    })
    await running(there, actorOf('row', [parrot]))
    const seen: number[] = []
    for await (const frame of askStream(here, row, { tenant: 't' }, new Uint8Array(5_000_000))) seen.push(frame.n)
    expect(seen).toEqual([5_000_000])
  })

  // A little more than one piece, as the frames of owners are; and more than the window.
  test.each([100_000, 263_000, 1_400_000])(
    'PIPE-2: a reader that does not read stops the writer of frames of %d bytes, and goes on later',
    async (frameBytes) => {
      const [here, there] = await pair()
      const produced = { count: 0 }
      await running(there, actorOf('row', [serveStream(row, counting(100, frameBytes, produced))]), { stallMs: 300 })
      let count = 0
      for await (const _frame of askStream(here, row, { tenant: 't' }, bytes(''), { stallMs: 300 })) {
        count += 1
        if (count > 1) continue
        await sleep(900) // three times the stall limit: a slow reader is not a dead one
        const beforeIt = 3 // read, on its way to be cut into pieces, and made meanwhile
        expect(produced.count).toBeLessThanOrEqual(Math.ceil(windowBytesMax / frameBytes) + beforeIt)
      }
      expect(count).toBe(100)
    },
  )

  test('PIPE-4: leaving the loop ends the writer', async () => {
    const [here, there] = await pair()
    let isLeft = false
    const endless = serveStream(row, async function* (_request, { signal }) {
      try {
        for (let n = 0; ; n++) {
          if (n > 3) await sleep(10_000, undefined, { signal })
          yield { n, filler: new Uint8Array(10) }
        }
      } finally {
        isLeft = true
      }
    })
    const run = await running(there, actorOf('row', [endless]))
    for await (const frame of askStream(here, row, { tenant: 't' }, bytes(''))) if (frame.n === 2) break
    await until(() => isLeft && run.inFlight() === 0, 'the writer to end', 3_000)
  })

  test.each([10, 300_000])(
    'an asker that leaves before the first frame of %d bytes ends the writer at once',
    async (size) => {
      const [here, there] = await pair()
      let isAtWork = false
      const late = serveStream(row, async function* (_request, { signal }) {
        isAtWork = true
        await sleep(10_000, undefined, { signal }).catch(() => undefined)
        yield { n: 1, filler: new Uint8Array(size) }
      })
      const run = await running(there, actorOf('row', [late]), { stallMs: 60_000 })
      const aborting = new AbortController()
      const first = askStream(here, row, { tenant: 't' }, bytes(''), { signal: aborting.signal }).next()
      await until(() => isAtWork, 'the writer to begin')
      aborting.abort(new Error('no longer wanted'))
      await expect(first).rejects.toThrow('no longer wanted')
      await until(() => run.inFlight() === 0, 'the writer to end', 3_000)
    },
  )

  test('PIPE-4: a writer that fails in the middle is heard', async () => {
    const [here, there] = await pair()
    let fillerBytes = 300_000 // a small first frame waits for the next one, and goes down with the answer
    const failing = serveStream(row, async function* () {
      yield { n: 1, filler: new Uint8Array(fillerBytes) }
      throw new RefusedError('err-carillon-query-samples', 'no more', { status: 422 })
    })
    await running(there, actorOf('row', [failing]))
    const seen: number[] = []
    const read = async () => {
      for await (const frame of askStream(here, row, { tenant: 't' }, bytes(''))) seen.push(frame.n)
    }
    await expect(read()).rejects.toMatchObject({ kind: 'refused', code: 'err-carillon-query-samples', status: 422 })
    expect(seen).toEqual([1])
    fillerBytes = 0
    await expect(read()).rejects.toMatchObject({ kind: 'refused', code: 'err-carillon-query-samples', status: 422 })
    expect(seen).toEqual([1])
  })

  test('a streamed answer of one small frame, or of none, is whole', async () => {
    const [here, there] = await pair()
    let count = 1
    const short = serveStream(row, async function* () {
      for (let n = 0; n < count; n++) yield { n, filler: new Uint8Array(10) }
    })
    await running(there, actorOf('row', [short]))
    const read = async () => {
      const seen: number[] = []
      for await (const frame of askStream(here, row, { tenant: 't' }, bytes(''))) seen.push(frame.n)
      return seen
    }
    expect(await read()).toEqual([0])
    count = 0
    expect(await read()).toEqual([])
    count = 2
    expect(await read()).toEqual([0, 1])
  })

  test('a frame beyond its bound is refused', async () => {
    const [here, there] = await pair()
    await running(there, actorOf('row', [serveStream(row, counting(1, 3_100_000))]))
    const read = async () => {
      for await (const _frame of askStream(here, row, { tenant: 't' }, bytes('')));
    }
    await expect(read()).rejects.toMatchObject({ code: 'err-carillon-too-large', status: 413 })
  })

  test('a silent writer is waited for, a dead one is given up, a missing one is known at once', async () => {
    const [here, there] = await pair()
    const read = async (onFrame?: () => void) => {
      const seen: number[] = []
      for await (const frame of askStream(here, row, { tenant: 't' }, bytes(''), { stallMs: 300 })) {
        seen.push(frame.n)
        onFrame?.()
      }
      return seen
    }
    await expect(read()).rejects.toMatchObject({ code: 'bus-no-responders' })
    let [atOnce, sleepMs] = [1, 900]
    const slow = serveStream(row, async function* () {
      for (let n = 1; n <= atOnce; n++) yield { n, filler: new Uint8Array(0) }
      await sleep(sleepMs)
      yield { n: atOnce + 1, filler: new Uint8Array(0) }
    })
    await running(there, actorOf('row', [slow]), { stallMs: 300 })
    expect(await read()).toEqual([1, 2])
    atOnce = 2 // so that the first does not wait for the second to come
    sleepMs = 3_000
    let diedMs = Number.NaN
    const die = () => {
      if (Number.isNaN(diedMs)) void there.close()
      diedMs = performance.now()
    }
    await expect(read(die)).rejects.toMatchObject({ kind: 'unavailable', code: 'bus-timeout' })
    expect(performance.now() - diedMs).toBeLessThan(1_500)
  })

  test('a reader that dies ends the writer', async () => {
    const [here, there] = await pair()
    const run = await running(there, actorOf('row', [serveStream(row, counting(1_000, 100_000))]), { stallMs: 300 })
    const stream = askStream(here, row, { tenant: 't' }, bytes(''))
    await stream.next()
    expect(run.inFlight()).toBe(1)
    await here.close()
    await until(() => run.inFlight() === 0, 'the writer to give up', 3_000)
  })

  test('ACTOR-5: an asker that wants signs of life waits for whoever gives them, and gives up soon on a question that nobody has', async () => {
    const [here, there] = await pair()
    const slow = serve(echo, async (request) => {
      await sleep(1_600)
      return request
    })
    there.subscribe('lost.t', {}, () => {}) // heard by the server before the question that comes later
    await running(there, actorOf('echo', [slow]))
    const patience = { silenceMs: 800 }
    expect(text(await ask(here, echo, { tenant: 'found' }, bytes('hello'), patience))).toBe('hello')
    expect((await here.request('echo.found', bytes('plain'), { timeoutMs: 3_000 })).payload).toHaveLength(5)
    const lost = question({ ...echo, name: 'lost', subject: 'lost.{tenant}' })
    const startedMs = performance.now()
    await expect(ask(here, lost, { tenant: 't' }, bytes('x'), patience)).rejects.toMatchObject({ code: 'bus-silent' })
    expect(performance.now() - startedMs).toBeLessThan(2_500)
  })

  test('a stream has a deadline, and can be aborted', async () => {
    const [here, there] = await pair()
    const slow = serveStream(row, async function* (_request, { signal }) {
      yield { n: 1, filler: new Uint8Array(0) }
      await sleep(10_000, undefined, { signal })
    })
    const run = await running(there, actorOf('row', [slow]))
    const read = async (options: { timeoutMs?: number; signal?: AbortSignal }) => {
      for await (const _frame of askStream(here, row, { tenant: 't' }, bytes(''), options));
    }
    await expect(read({ timeoutMs: 200 })).rejects.toMatchObject({ code: 'bus-timeout' })
    const aborting = new AbortController()
    setTimeout(() => aborting.abort(new Error('enough')), 100)
    await expect(read({ signal: aborting.signal })).rejects.toThrow('enough')
    await until(() => run.inFlight() === 0, 'the writers to end', 3_000)
  })

  test('junk on an open stream ends it with an error', async () => {
    const [here, there] = await pair()
    await running(there, actorOf('row', [serveStream(row, counting(200, 100_000))]))
    const stream = askStream(here, row, { tenant: 't' }, bytes(''))
    const opened = await here.request('row.t', bytes(''), { timeoutMs: 2_000 })
    const inbox = opened.replyTo ?? ''
    here.publish(inbox, bytes('x'), { replyTo: here.inbox() })
    here.publish(inbox, bytes('x'), { headers: { 'Carillon-Flow': 'frame 17' } })
    here.publish(inbox, bytes('x'), { headers: { 'Carillon-Flow': 'credit NaN' } })
    here.publish(inbox, bytes('x'), { headers: { 'Carillon-Flow': 'end' } })
    await stream.next()
    await stream.return()
    expect(text(bytes('still here'))).toBe('still here')
    const seen: number[] = []
    for await (const frame of askStream(here, row, { tenant: 't' }, bytes(''))) seen.push(frame.n)
    expect(seen.length).toBe(200)
  })
}
