// What every bus promises, and what asking and actors promise on any bus. Run on the memory bus and on a real server.
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Bus } from '../../shared/bus/port.ts'
import { actorTests } from './bus-actors.ts'
import { askTests } from './bus-asking.ts'
import { bytes, type Ground, settle, text, until } from './bus-ground.ts'
import { bucketTests, logTests } from './bus-stores.ts'

/** A server to test against. */
export interface BusGround {
  connect(name: string): Promise<Bus>
  /** The server goes away without a word, and comes back with what it had stored. */
  loseServer(): Promise<void>
  bringBackServer(): Promise<void>
  close(): Promise<void>
}

export function busSuite(name: string, open: () => Promise<BusGround>): void {
  describe(name, () => {
    let ground: BusGround | undefined
    let buses: Bus[] = []
    let count = 0
    const here = () => {
      if (ground === undefined) throw new Error('the server is not open')
      return ground
    }
    beforeAll(async () => {
      ground = await open()
    }, 30_000)
    afterEach(async () => {
      await Promise.all(buses.map((bus) => bus.close()))
      buses = []
    })
    afterAll(() => ground?.close())
    const given: Ground = {
      async connect() {
        count += 1
        const bus = await here().connect(`test-${count}`)
        buses.push(bus)
        return bus
      },
      fresh: (kind) => {
        count += 1
        return `${kind}-${count}`
      },
      loseServer: () => here().loseServer(),
      bringBackServer: () => here().bringBackServer(),
    }
    describe('messages', () => messageTests(given))
    describe('logs', () => logTests(given))
    describe('buckets', () => bucketTests(given))
    describe('asking', () => askTests(given))
    describe('actors', () => actorTests(given))
  })
}

function messageTests(ground: Ground): void {
  test('a message reaches each subscriber under its relative subject, with headers and reply subject', async () => {
    const [from, to] = [await ground.connect(), await ground.connect()]
    const heard: string[] = []
    to.subscribe('news.*.x', {}, (m) => heard.push(`${m.subject} ${m.headers['A-B']} ${m.replyTo} ${text(m.payload)}`))
    to.subscribe('news.>', {}, (m) => heard.push(m.subject))
    to.subscribe('news.other', {}, () => heard.push('wrong'))
    await settle()
    from.publish('news.1.x', bytes('hello'), { headers: { 'A-B': 'value' }, replyTo: 'inbox.some.where' })
    await until(() => heard.length === 2, 'two deliveries')
    expect(heard.sort()).toEqual(['news.1.x', 'news.1.x value inbox.some.where hello'])
  })

  test('an answer goes to inboxes alone: no asker has others write where only they may', async () => {
    const [asker, answerer] = [await ground.connect(), await ground.connect()]
    const replies: (string | undefined)[] = []
    answerer.subscribe('question', {}, ({ replyTo }) => replies.push(replyTo))
    await settle()
    const subjects = ['log.0.batch', 'log.0.mark', 'push.acme', 'inbox', 'inboxes.x']
    for (const replyTo of subjects) asker.publish('question', bytes('x'), { replyTo })
    asker.publish('question', bytes('x'), { replyTo: asker.inbox() })
    await until(() => replies.length === subjects.length + 1, 'all questions')
    expect(replies.slice(0, -1)).toEqual(subjects.map(() => undefined))
    expect(replies.at(-1)).toMatch(/^inbox\./)
  })

  test('messages of one connection arrive in order, and none after stop', async () => {
    const [from, to] = [await ground.connect(), await ground.connect()]
    const heard: number[] = []
    const subscription = to.subscribe('row', {}, (m) => {
      heard.push(Number(text(m.payload)))
      if (heard.length === 150) subscription.stop()
    })
    await settle()
    for (let i = 0; i < 300; i++) from.publish('row', bytes(String(i)))
    await until(() => heard.length === 150, '150 deliveries')
    await settle()
    expect(heard).toEqual(Array.from({ length: 150 }, (_, i) => i))
  })

  test('within a queue each message goes to one member', async () => {
    const [from, one, two] = [await ground.connect(), await ground.connect(), await ground.connect()]
    const heard: string[] = []
    for (const bus of [one, two]) bus.subscribe('work', { queue: 'q' }, (m) => heard.push(text(m.payload)))
    await settle()
    for (let i = 0; i < 50; i++) from.publish('work', bytes(String(i)))
    await until(() => heard.length >= 50, 'all deliveries')
    await settle()
    expect(new Set(heard).size).toBe(50)
    expect(heard.length).toBe(50)
  })

  test('a request is answered; without listeners it fails at once, without answer in time, when aborted with the reason', async () => {
    const [from, to] = [await ground.connect(), await ground.connect()]
    to.subscribe('echo', {}, (m) => to.publish(m.replyTo ?? '', m.payload))
    to.subscribe('silence', {}, () => undefined)
    await settle()
    const reply = await from.request('echo', bytes('hi'), { timeoutMs: 2_000 })
    expect(text(reply.payload)).toBe('hi')
    const startedMs = performance.now()
    await expect(from.request('nobody', bytes(''), { timeoutMs: 5_000 })).rejects.toMatchObject({
      code: 'bus-no-responders',
    })
    expect(performance.now() - startedMs).toBeLessThan(1_000)
    await expect(from.request('silence', bytes(''), { timeoutMs: 50 })).rejects.toMatchObject({ code: 'bus-timeout' })
    const aborting = new AbortController()
    const asked = from.request('silence', bytes(''), { timeoutMs: 5_000, signal: aborting.signal })
    setTimeout(() => aborting.abort(new Error('enough')), 20)
    await expect(asked).rejects.toThrow('enough')
  })

  test('an inbox is heard by its own connection', async () => {
    const [from, to] = [await ground.connect(), await ground.connect()]
    const inbox = to.inbox()
    const heard: string[] = []
    to.subscribe(inbox, {}, (m) => heard.push(text(m.payload)))
    await settle()
    from.publish(inbox, bytes('1'))
    from.publish(inbox, bytes('2'))
    await until(() => heard.length === 2, 'both')
    expect(heard).toEqual(['1', '2'])
    expect(to.inbox()).not.toBe(inbox)
  })

  test('losing the server fails what waits, refuses what comes, and heals by itself', async () => {
    const [from, to] = [await ground.connect(), await ground.connect()]
    const turns: boolean[] = []
    from.onConnection((isConnected) => turns.push(isConnected))
    const stopped: boolean[] = []
    from.onConnection((isConnected) => stopped.push(isConnected)).stop()
    const heard: string[] = []
    to.subscribe('silence', {}, () => undefined)
    to.subscribe('after', {}, (m) => heard.push(text(m.payload)))
    await settle()
    const waiting = from.request('silence', bytes(''), { timeoutMs: 20_000 }).catch((error) => error)
    await settle()
    await ground.loseServer()
    expect(await waiting).toMatchObject({ code: 'bus-disconnected' })
    expect(from.isConnected()).toBe(false)
    await expect(from.request('silence', bytes(''), { timeoutMs: 100 })).rejects.toMatchObject({
      code: 'bus-disconnected',
    })
    from.publish('after', bytes('lost'))
    await ground.bringBackServer()
    await until(() => from.isConnected() && to.isConnected(), 'both are back')
    await settle()
    from.publish('after', bytes('heard'))
    await until(() => heard.length > 0, 'a message after the reconnect')
    expect(heard).toEqual(['heard'])
    expect(turns).toEqual([false, true])
    expect(stopped).toEqual([])
  })

  test('the server says what it is', async () => {
    const facts = await (await ground.connect()).server()
    expect(facts.version).not.toBe('')
    expect(facts.durabilityReason.length).toBeGreaterThan(10)
  })
}
