// The part of the bus suite about logs and buckets.
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { CorruptError } from '../../shared/base/errors.ts'
import type { Bus, KvEntry, LogConfig, LogMessage } from '../../shared/bus/port.ts'
import { bytes, type Ground, settle, text, until } from './bus-ground.ts'

const timeoutMs = 5_000

function configOf(name: string, more: Partial<LogConfig> = {}): LogConfig {
  return { name, subjects: [`${name}.>`], bytesMax: 200_000_000, replicas: 1, duplicateWindowMs: 60_000, ...more }
}

export function logTests(ground: Ground): void {
  async function freshLog(more: Partial<LogConfig> = {}): Promise<{ bus: Bus; name: string }> {
    const bus = await ground.connect()
    const name = ground.fresh('log')
    await bus.logs.ensure(configOf(name, more))
    return { bus, name }
  }

  test('ensure makes a log once, lets it grow, and refuses another configuration of it', async () => {
    const { bus, name } = await freshLog()
    await bus.logs.append(name, `${name}.a`, bytes('1'), { timeoutMs })
    const again = await bus.logs.ensure(configOf(name))
    expect(again).toMatchObject({ firstSeq: 1, lastSeq: 1, bytesMax: 200_000_000, replicas: 1 })
    expect((await bus.logs.state(name)).incarnation).toBe(again.incarnation)
    await expect(bus.logs.ensure(configOf(name, { bytesMax: 1_000 }))).rejects.toMatchObject({ code: 'log-config' })
    const grown = await bus.logs.ensure(configOf(name, { bytesMax: 300_000_000 }))
    expect(grown).toMatchObject({ firstSeq: 1, lastSeq: 1, bytesMax: 300_000_000, incarnation: again.incarnation })
    await expect(bus.logs.ensure(configOf(name)), 'never less').rejects.toMatchObject({ code: 'log-config' })
    await expect(
      bus.logs.ensure(configOf(name, { bytesMax: 300_000_000, duplicateWindowMs: 1_000 })),
    ).rejects.toMatchObject({
      kind: 'refused',
    })
  })

  test('a log begins where it was made to; what lies before may be purged without touching it, what lies beyond takes all', async () => {
    const { bus, name } = await freshLog({ originSeq: 500 })
    expect(await bus.logs.state(name)).toMatchObject({ lastSeq: 499, originSeq: 500 })
    for (const seq of [500, 501])
      expect(await bus.logs.append(name, `${name}.a`, bytes('x'), { timeoutMs })).toMatchObject({ seq })
    expect(await bus.logs.purge(name, 400, timeoutMs)).toBe(0)
    expect(await bus.logs.ensure(configOf(name))).toMatchObject({ firstSeq: 500, lastSeq: 501, originSeq: 500 })
    expect(await bus.logs.purge(name, 900, timeoutMs), 'a purge knows no end').toBe(2)
    expect(await bus.logs.append(name, `${name}.a`, bytes('x'), { timeoutMs })).toMatchObject({ seq: 900 })
  })

  test('an empty log has no first and no last message', async () => {
    const { bus, name } = await freshLog()
    expect(await bus.logs.state(name)).toMatchObject({ firstSeq: 0, lastSeq: 0, bytes: 0 })
    expect(await bus.logs.lastPerSubject(name, [`${name}.a`], timeoutMs)).toEqual({ messages: [], upToSeq: 0 })
    expect(await bus.logs.get(name, 1, timeoutMs)).toBeUndefined()
  })

  test('a missing log is unavailable', async () => {
    const bus = await ground.connect()
    const append = bus.logs.append('no-such-log', 'no-such-log.a', bytes(''), { timeoutMs })
    await expect(append).rejects.toMatchObject({ code: 'log-unavailable' })
    await expect(bus.logs.state('no-such-log')).rejects.toMatchObject({ kind: 'unavailable' })
  })

  test('the same message id is stored once', async () => {
    const { bus, name } = await freshLog()
    const options = { timeoutMs, messageId: 'id-1' }
    expect(await bus.logs.append(name, `${name}.a`, bytes('1'), options)).toEqual({ seq: 1, isDuplicate: false })
    await bus.logs.append(name, `${name}.a`, bytes('2'), { timeoutMs, messageId: 'id-2' })
    expect(await bus.logs.append(name, `${name}.a`, bytes('1'), options)).toEqual({ seq: 1, isDuplicate: true })
    expect((await bus.logs.state(name)).lastSeq).toBe(2)
  })

  test('LOG-8: compare-and-set on the last sequence of a subject', async () => {
    const { bus, name } = await freshLog()
    const { logs } = bus
    const mark = `${name}.mark`
    await logs.append(name, `${name}.batch`, bytes('x'), { timeoutMs })
    const first = await logs.append(name, mark, bytes('1'), { timeoutMs, expectedLastSubjectSeq: 0 })
    expect(first.seq).toBe(2)
    await logs.append(name, `${name}.batch`, bytes('y'), { timeoutMs })
    const lost = logs.append(name, mark, bytes('2'), { timeoutMs, expectedLastSubjectSeq: 0 })
    await expect(lost).rejects.toMatchObject({ kind: 'conflict', code: 'log-conflict' })
    const won = await logs.append(name, mark, bytes('2'), { timeoutMs, expectedLastSubjectSeq: 2 })
    expect(won).toEqual({ seq: 4, isDuplicate: false })
  })

  test('of many who compare and set at once, one wins', async () => {
    const { bus, name } = await freshLog()
    const append = (i: number) =>
      bus.logs.append(name, `${name}.mark`, bytes(String(i)), {
        timeoutMs,
        expectedLastSubjectSeq: 0,
        messageId: `m${i}`,
      })
    const settled = await Promise.allSettled(Array.from({ length: 20 }, (_, i) => append(i)))
    expect(settled.filter((result) => result.status === 'fulfilled').length).toBe(1)
  })

  test('a full log refuses what is new and keeps what is old', async () => {
    const { bus, name } = await freshLog({ bytesMax: 100_000 })
    const append = () => bus.logs.append(name, `${name}.a`, new Uint8Array(30_000), { timeoutMs })
    for (let i = 0; i < 3; i++) await append()
    await expect(append()).rejects.toMatchObject({ kind: 'unavailable', code: 'log-full' })
    expect(await bus.logs.state(name)).toMatchObject({ firstSeq: 1, lastSeq: 3 })
    expect(await bus.logs.purge(name, 3, timeoutMs)).toBe(2)
    expect((await append()).seq).toBe(4)
    expect(await bus.logs.state(name)).toMatchObject({ firstSeq: 3, lastSeq: 4 })
  })

  test('LOG-5: the newest message of each subject comes with the position up to which that is exact', async () => {
    const { bus, name } = await freshLog()
    for (let i = 1; i <= 9; i++) await bus.logs.append(name, `${name}.${i % 3}`, bytes(String(i)), { timeoutMs })
    const answer = await bus.logs.lastPerSubject(name, [`${name}.0`, `${name}.2`, `${name}.none`], timeoutMs)
    expect(answer.upToSeq).toBe(9)
    expect(answer.messages.map((m) => [m.seq, m.subject, text(m.payload)])).toEqual([
      [8, `${name}.2`, '8'],
      [9, `${name}.0`, '9'],
    ])
    const nothing = await bus.logs.lastPerSubject(name, [`${name}.none`], timeoutMs)
    expect(nothing).toEqual({ messages: [], upToSeq: 0 })
  })

  test('DELETE-3: what was newest at a sequence is told whatever came since', async () => {
    const { bus, name } = await freshLog()
    for (let i = 1; i <= 9; i++) await bus.logs.append(name, `${name}.${i % 3}`, bytes(String(i)), { timeoutMs })
    const answer = await bus.logs.lastPerSubject(name, [`${name}.0`, `${name}.2`], timeoutMs, 5)
    expect([answer.upToSeq, answer.messages.map(({ seq }) => seq)]).toEqual([5, [3, 5]])
    const beyond = await bus.logs.lastPerSubject(name, [`${name}.0`], timeoutMs, 20)
    expect(beyond, 'where the log does not reach yet').toEqual({ messages: [], upToSeq: 0 })
  })

  test('a message larger than the bus carries is refused', async () => {
    const { bus, name } = await freshLog()
    const fits = new Uint8Array(bus.payloadBytesMax)
    await bus.logs.append(name, `${name}.a`, fits, { timeoutMs, messageId: 'x'.repeat(200), expectedLastSubjectSeq: 0 })
    const tooLarge = bus.logs.append(name, `${name}.a`, new Uint8Array(bus.payloadBytesMax + 1), { timeoutMs })
    await expect(tooLarge).rejects.toMatchObject({ code: 'err-carillon-too-large', status: 413 })
  })

  test('a message is read by its sequence, with its id and its time', async () => {
    const { bus, name } = await freshLog()
    await bus.logs.append(name, `${name}.a`, bytes('one'), { timeoutMs, messageId: 'id-1' })
    const message = await bus.logs.get(name, 1, timeoutMs)
    expect(message).toMatchObject({ seq: 1, subject: `${name}.a`, messageId: 'id-1' })
    expect(text(message?.payload)).toBe('one')
    expect(Math.abs((message?.storedAtMs ?? 0) - Date.now())).toBeLessThan(60_000)
    expect(await bus.logs.get(name, 2, timeoutMs)).toBeUndefined()
  })

  test('a consumer gets everything in order, one at a time, what is there and what comes', async () => {
    const { bus, name } = await freshLog()
    const heard: LogMessage[] = []
    let atWork = 0
    let atWorkMost = 0
    const consumer = bus.logs.consume(
      name,
      1,
      async (message) => {
        atWork += 1
        atWorkMost = Math.max(atWorkMost, atWork)
        if (message.seq % 50 === 0) await sleep(2)
        heard.push(message)
        atWork -= 1
      },
      () => undefined,
    )
    await settle() // begins on an empty log
    for (let i = 0; i < 200; i++) {
      await bus.logs.append(name, `${name}.a`, bytes(String(i)), { timeoutMs, messageId: `id-${i}` })
    }
    await until(() => heard.length === 200, 'all messages')
    expect(heard.map((m) => m.seq)).toEqual(Array.from({ length: 200 }, (_, i) => i + 1))
    expect(heard[7]).toMatchObject({ subject: `${name}.a`, messageId: 'id-7' })
    expect(atWorkMost).toBe(1)
    await consumer.stop()
    await bus.logs.append(name, `${name}.a`, bytes('late'), { timeoutMs })
    await settle()
    expect(heard.length).toBe(200)
  })

  test('a consumer may begin in the middle or beyond the end', async () => {
    const { bus, name } = await freshLog()
    for (let i = 0; i < 5; i++) await bus.logs.append(name, `${name}.a`, bytes(String(i)), { timeoutMs })
    const middle: number[] = []
    const beyond: number[] = []
    const ignore = () => undefined
    const one = bus.logs.consume(name, 4, (m) => void middle.push(m.seq), ignore)
    const two = bus.logs.consume(name, 8, (m) => void beyond.push(m.seq), ignore)
    await until(() => middle.length === 2, 'the tail')
    await settle()
    for (let i = 0; i < 4; i++) await bus.logs.append(name, `${name}.a`, bytes(String(i)), { timeoutMs })
    await until(() => beyond.length === 2 && middle.length === 6, 'what comes beyond')
    expect(middle).toEqual([4, 5, 6, 7, 8, 9])
    expect(beyond).toEqual([8, 9])
    await Promise.all([one.stop(), two.stop()])
  })

  test('a consumer jumps over what was purged', async () => {
    const { bus, name } = await freshLog()
    for (let i = 0; i < 6; i++) await bus.logs.append(name, `${name}.a`, bytes(String(i)), { timeoutMs })
    await bus.logs.purge(name, 5, timeoutMs)
    const heard: number[] = []
    const consumer = bus.logs.consume(
      name,
      1,
      (m) => void heard.push(m.seq),
      () => undefined,
    )
    await until(() => heard.length === 2, 'the rest')
    expect(heard).toEqual([5, 6])
    await consumer.stop()
  })

  test('a handler that throws is told of, and gets the message again', async () => {
    const { bus, name } = await freshLog()
    const heard: number[] = []
    const errors: string[] = []
    const consumer = bus.logs.consume(
      name,
      1,
      (message) => {
        heard.push(message.seq)
        if (heard.length === 2) throw new Error('not now')
      },
      (error) => errors.push(error.message),
    )
    for (let i = 0; i < 3; i++) await bus.logs.append(name, `${name}.a`, bytes(String(i)), { timeoutMs })
    await until(() => heard.length === 4, 'all, one of them twice')
    expect(heard).toEqual([1, 2, 2, 3])
    expect(errors).toEqual(['not now'])
    await consumer.stop()
  })

  test('a message that its handler always throws at is handed over less and less often', async () => {
    const { bus, name } = await freshLog()
    let count = 0
    const consumer = bus.logs.consume(
      name,
      1,
      () => {
        count++
        throw new Error('never')
      },
      () => undefined,
    )
    await bus.logs.append(name, `${name}.a`, bytes('1'), { timeoutMs })
    await sleep(2_500)
    expect(count).toBeGreaterThan(1)
    expect(count).toBeLessThan(10)
    await consumer.stop()
  })

  test('large messages to a slow handler all arrive', async () => {
    const { bus, name } = await freshLog()
    const reader = await ground.connect()
    const payload = new Uint8Array(500_000).fill(3)
    for (let i = 0; i < 80; i++) await bus.logs.append(name, `${name}.a`, payload, { timeoutMs })
    const heard: number[] = []
    const errors: Error[] = []
    const consumer = reader.logs.consume(
      name,
      1,
      async (message) => {
        await sleep(3)
        if (message.payload.length === payload.length) heard.push(message.seq)
      },
      (error) => errors.push(error),
    )
    await until(() => heard.length === 80, 'all messages', 20_000)
    expect(heard).toEqual(Array.from({ length: 80 }, (_, i) => i + 1))
    expect(errors).toEqual([])
    await consumer.stop()
  })

  test('a consumer goes on where it was after the server was lost', async () => {
    const { bus, name } = await freshLog()
    const heard: number[] = []
    const codes: unknown[] = []
    const consumer = bus.logs.consume(
      name,
      1,
      async (message) => {
        await sleep(1)
        heard.push(message.seq)
      },
      (error) => codes.push((error as Partial<CorruptError>).code),
    )
    for (let i = 0; i < 100; i++) await bus.logs.append(name, `${name}.a`, bytes(String(i)), { timeoutMs })
    await until(() => heard.length > 5, 'a beginning')
    await ground.loseServer()
    const append = bus.logs.append(name, `${name}.a`, bytes('x'), { timeoutMs: 500 })
    await expect(append).rejects.toMatchObject({ kind: 'unavailable' })
    await ground.bringBackServer()
    await until(() => bus.isConnected(), 'the connection')
    const { seq } = await bus.logs.append(name, `${name}.a`, bytes('last'), { timeoutMs })
    await until(() => heard.at(-1) === seq, 'the last message', 15_000)
    expect(heard).toEqual(Array.from({ length: seq }, (_, i) => i + 1))
    expect(codes).not.toContain('log-rewound')
    await consumer.stop()
  })
}

export function bucketTests(ground: Ground): void {
  const lines = (entries: readonly KvEntry[]) =>
    entries.map((entry) => `${entry.key}=${entry.value === undefined ? 'gone' : text(entry.value)}`)

  test('create, update, put and delete keep revisions and refuse what lost', async () => {
    const bus = await ground.connect()
    const bucket = await bus.bucket(ground.fresh('bucket'))
    expect(await bucket.get('a.b')).toBeUndefined()
    const first = await bucket.create('a.b', bytes('1'))
    await expect(bucket.create('a.b', bytes('2'))).rejects.toMatchObject({ kind: 'conflict', code: 'kv-conflict' })
    const second = await bucket.update('a.b', bytes('2'), first)
    await expect(bucket.update('a.b', bytes('3'), first)).rejects.toMatchObject({ code: 'kv-conflict' })
    expect(second).toBeGreaterThan(first)
    const entry = await bucket.get('a.b')
    expect([text(entry?.value), entry?.revision]).toEqual(['2', second])
    const third = await bucket.put('a.b', bytes('3'))
    expect(third).toBeGreaterThan(second)
    await expect(bucket.delete('a.b', second)).rejects.toMatchObject({ kind: 'conflict', code: 'kv-conflict' })
    await bucket.delete('a.b', third)
    expect((await bucket.get('a.b'))?.value).toBeUndefined()
    expect(await bucket.create('a.b', bytes('4'))).toBeGreaterThan(third)
  })

  test('what is newest is what was stored before it was asked for, of all that match, at one moment', async () => {
    const bucket = await (await ground.connect()).bucket(ground.fresh('bucket'))
    expect(await bucket.newest(['a.*'])).toEqual([])
    for (let i = 0; i < 20; i++) await bucket.put(`a.${i % 3}`, bytes(String(i)))
    await bucket.put('b', bytes('b'))
    await bucket.delete('a.1')
    const newest = async (filters: string[]) => lines(await bucket.newest(filters)).sort()
    expect(await newest(['a.*'])).toEqual(['a.0=18', 'a.1=gone', 'a.2=17'])
    expect(await newest(['a.0', 'b', 'none'])).toEqual(['a.0=18', 'b=b'])
    expect(await newest(['>'])).toEqual(['a.0=18', 'a.1=gone', 'a.2=17', 'b=b'])
    const [b] = await bucket.newest(['b'])
    expect(b?.revision).toBe((await bucket.get('b'))?.revision)
    const seen: KvEntry[] = []
    await new Promise<void>((resolve) => bucket.watch('>', (entry) => seen.push(entry), resolve))
    expect(lines(seen).sort(), 'what the bucket wrote for itself is not shown').toEqual(['a.0=18', 'a.2=17', 'b=b'])
  })

  test('what is newest is told of more keys than a server tells at once', async () => {
    const bucket = await (await ground.connect()).bucket(ground.fresh('bucket'))
    const keys = Array.from({ length: 1_100 }, (_, i) => `a.${i}`)
    await Promise.all(keys.map((key) => bucket.put(key, bytes('old'))))
    await bucket.put('b.1', bytes('b'))
    await Promise.all([bucket.delete('a.7'), bucket.put('a.8', bytes('new'))])
    const newest = async (...filters: string[]) => {
      const found = await bucket.newest(filters)
      const values = new Map(found.map((entry) => [entry.key, text(entry.value)]))
      return [found.length, ...['a.7', 'a.8', 'a.1099', 'b.1'].map((key) => values.get(key))]
    }
    const wanted = [1_100, '', 'new', 'old']
    expect(await newest('a.*')).toEqual([...wanted, undefined])
    expect(await newest(...keys)).toEqual([...wanted, undefined])
    for (const filters of [['>'], ['a.*', 'b.*']])
      expect(await newest(...filters)).toEqual([1_101, ...wanted.slice(1), 'b'])
  })

  test("a bucket tells its server's time", async () => {
    const bucket = await (await ground.connect()).bucket(ground.fresh('bucket'))
    expect(Math.abs((await bucket.serverTimeMs()) - Date.now())).toBeLessThan(60_000)
  })

  test('of many who create a key at once, one wins', async () => {
    const bus = await ground.connect()
    const bucket = await bus.bucket(ground.fresh('bucket'))
    const settled = await Promise.allSettled(Array.from({ length: 10 }, (_, i) => bucket.create('k', bytes(String(i)))))
    expect(settled.filter((result) => result.status === 'fulfilled').length).toBe(1)
  })

  test('a watch tells what is there, then that it has, then every change', async () => {
    const bus = await ground.connect()
    const name = ground.fresh('bucket')
    const bucket = await bus.bucket(name)
    await bucket.put('member.a', bytes('1'))
    await bucket.put('member.b', bytes('1'))
    await bucket.put('member.b', bytes('2'))
    await bucket.put('member.c', bytes('1'))
    await bucket.delete('member.c')
    await bucket.put('other.x', bytes('1'))
    const heard: KvEntry[] = []
    let readyAt = -1
    const other = await (await ground.connect()).bucket(name)
    const watch = other.watch(
      'member.*',
      (entry) => heard.push(entry),
      () => {
        readyAt = heard.length
      },
    )
    await until(() => readyAt >= 0, 'ready')
    expect(lines(heard)).toEqual(['member.a=1', 'member.b=2'])
    expect(readyAt).toBe(2)
    await bucket.put('member.d', bytes('9'))
    await bucket.delete('member.a')
    await bucket.put('other.x', bytes('2'))
    await until(() => heard.length === 4, 'two changes')
    expect(lines(heard.slice(2))).toEqual(['member.d=9', 'member.a=gone'])
    watch.stop()
    await bucket.put('member.d', bytes('10'))
    await settle()
    expect(heard.length).toBe(4)
  })

  test('a watch of an empty bucket is ready at once', async () => {
    const bucket = await (await ground.connect()).bucket(ground.fresh('bucket'))
    let isReady = false
    bucket.watch(
      '>',
      () => undefined,
      () => {
        isReady = true
      },
    )
    await until(() => isReady, 'ready')
  })

  test('a watch is settled when it has shown all that the bucket held: never with a change whose elders are yet to come', async () => {
    const bus = await ground.connect()
    const name = ground.fresh('bucket')
    const bucket = await bus.bucket(name)
    const shown = new Map<string, number>()
    const settled: { a: number; b: number }[] = []
    const other = await (await ground.connect()).bucket(name)
    other.watch(
      '>',
      (entry) => shown.set(entry.key, Number(text(entry.value))),
      () => undefined,
      () => settled.push({ a: shown.get('a') ?? 0, b: shown.get('b') ?? 0 }),
    )
    // b = k is written after a >= k: whoever holds b = k without a >= k has no state that ever was.
    for (let k = 1; k <= 40; k++) {
      await bucket.put('a', bytes(String(k)))
      await bucket.put('b', bytes(String(k)))
    }
    await until(() => settled.at(-1)?.b === 40, 'the last change')
    for (const { a, b } of settled) expect(a).toBeGreaterThanOrEqual(b)
  })

  test('an entry that its handler throws at is shown once, and those behind it are shown', async () => {
    const bus = await ground.connect()
    const bucket = await bus.bucket(ground.fresh('bucket'))
    await bucket.put('bad', bytes('1'))
    await bucket.put('good', bytes('1'))
    const shown: string[] = []
    let isReady = false
    const hear = ({ key, value }: KvEntry) => {
      shown.push(`${key}${text(value)}`)
      if (key === 'bad') throw new Error('a bug')
    }
    const watch = bucket.watch('>', hear, () => {
      isReady = true
    })
    await until(() => isReady, 'the end of what stood there')
    await bucket.put('bad', bytes('2'))
    await bucket.put('good', bytes('2'))
    await until(() => shown.includes('good2'), 'the last change')
    await sleep(300)
    expect(shown).toEqual(['bad1', 'good1', 'bad2', 'good2'])
    watch.stop()
  })

  test('after the server was lost a watch has every newest value', async () => {
    const bus = await ground.connect()
    const name = ground.fresh('bucket')
    const bucket = await bus.bucket(name)
    const newest = new Map<string, string>()
    bucket.watch(
      '>',
      (entry) => newest.set(entry.key, text(entry.value)),
      () => undefined,
    )
    await bucket.put('a', bytes('1'))
    await until(() => newest.size === 1, 'the first value')
    await ground.loseServer()
    await expect(bucket.put('a', bytes('2'))).rejects.toMatchObject({ kind: 'unavailable' })
    await ground.bringBackServer()
    await until(() => bus.isConnected(), 'the connection')
    const again = await bus.bucket(name)
    await again.put('a', bytes('3'))
    await again.put('b', bytes('4'))
    await until(() => newest.get('a') === '3' && newest.get('b') === '4', 'the newest values')
  })
}
