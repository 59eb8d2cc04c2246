// What an owner and a leader believe of a log, and of each other: each rule here is a second wall, tested where the first one does not stand.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Filler } from '../../../services/ingester/log/filler.ts'
import { checkOf } from '../../../services/ingester/log/log-checks.ts'
import type { Owner } from '../../../services/ingester/log/owner.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { createMemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { LogMessage, LogStore } from '../../../shared/bus/port.ts'
import { keyFor } from '../../../shared/bus/record.ts'
import type { Flushed } from '../../../shared/contracts/blocks.ts'
import {
  batchSubject,
  decodeMark,
  encodeFence,
  fenceSubject,
  logConfig,
  logName,
  markRecord,
  markSubject,
} from '../../../shared/contracts/log.ts'
import { SampleColumns } from '../../../shared/tsdb/columns.ts'
import { TENANT } from './log-writer.ts'
import { OwnerGround } from './owner-ground.ts'

let ground: OwnerGround
beforeEach(async () => {
  ground = new OwnerGround()
  await ground.open()
})
afterEach(() => ground.close())

const damageOf = (owner: Owner) =>
  owner.damages.map(({ kind, fromSeq, toSeq, state }) => `${kind} ${fromSeq}-${toSeq} ${state}`)
const samplesOf = (owner: Owner) => [...owner.state.heads.values()].reduce((sum, head) => sum + head.sampleCount, 0)
/** The times of the samples of `a`. */
function timesOf(owner: Owner): number[] {
  const columns = new SampleColumns()
  const head = owner.state.heads.get(TENANT)!
  const range = { startMs: 0, endMs: 1_000 }
  for (const ref of head.select([{ name: '__name__', operator: '=', value: 'a' }], range))
    head.readInto(ref, range, columns)
  return [...columns.times.subarray(0, columns.count)]
}
const incarnation = async () => (await ground.soon(ground.bus.logs.state(logName(0)))).incarnation
const blocksWith = (flushed: Flushed) => ({ flushedRecord: () => flushed, refresh: async () => {} })

/** The marks of the log: number, and milliseconds since the first message was stored. */
function marks(): { number: number; atMs: number }[] {
  const log = ground.hub.log(logName(0))!
  const { firstSeq, lastSeq } = log.state()
  const all = Array.from({ length: lastSeq - firstSeq + 1 }, (_, i) => log.get(firstSeq + i)!)
  return all
    .filter(({ subject }) => subject === markSubject(0))
    .map(({ payload, storedAtMs }) => ({ number: decodeMark(payload).number, atMs: storedAtMs - all[0]!.storedAtMs }))
}

describe('OWNER-4', () => {
  /** Marks 1 and 2 with a sample each, then one more: sequences 1 to 5. */
  async function write(): Promise<void> {
    await ground.append(markSubject(0), ground.writer.mark(1))
    await ground.appendSample('a', 1)
    await ground.append(markSubject(0), ground.writer.mark(2))
    await ground.appendSample('a', 2)
    await ground.appendSample('a', 3)
  }

  test('reading begins at the mark that the watermark names', async () => {
    await write()
    const mark = { seq: 3, nonce: 'nonce-2', incarnation: await incarnation() }
    const delivered: number[] = []
    const owner = await ground.owner(
      ground.delivering((message) => {
        delivered.push(message.seq)
        return [message]
      }),
      { blocks: blocksWith({ segment: 1, mark, digests: {} } as Flushed) },
    )
    await ground.pass(1_000)
    expect([delivered, samplesOf(owner), owner.damages]).toEqual([[3, 4, 5], 2, []])
  })

  test('a log that lost its end and was filled again holds another message there: it is read from its beginning', async () => {
    await write()
    const mark = { seq: 5, nonce: 'nonce-1', incarnation: await incarnation() } // as the log was before
    const owner = await ground.owner({}, { blocks: blocksWith({ segment: 1, mark, digests: {} } as Flushed) })
    await ground.pass(1_000)
    expect([samplesOf(owner), owner.state.mark?.number, owner.damages]).toEqual([2, 2, []])
  })

  test('OWNER-3: after a jump that a purge explains it answers only when it has reached an end that was read since', async () => {
    await ground.append(markSubject(0), ground.writer.mark(1))
    await ground.appendSample('a', 1)
    let flushed: Flushed | undefined
    const blocks = { flushedRecord: () => flushed, refresh: async () => {} }
    let gate: Promise<void> | undefined
    const late = ground.delivering((message) => [message])
    const owner = await ground.owner(
      {
        consume: (log, from, onMessage, onError) =>
          late.consume!(
            log,
            from,
            async (message) => {
              if (message.seq === 3 || message.seq === 6) await gate
              if (message.seq !== 3) await onMessage(message)
            },
            onError,
          ),
      },
      { blocks },
    )
    await ground.pass(100)
    expect(owner.isCaughtUp).toBe(true)
    const cutOff = Promise.withResolvers<void>()
    gate = cutOff.promise
    await ground.append(markSubject(0), ground.writer.mark(2))
    await ground.appendSample('a', 2)
    await ground.append(markSubject(0), ground.writer.mark(3))
    await ground.appendSample('a', 3)
    const mark = { seq: 5, nonce: 'nonce-3', incarnation: await incarnation() }
    flushed = { segment: 3, mark, digests: {} } as Flushed
    await ground.soon(ground.bus.logs.purge(logName(0), 5, 1_000))
    const rest = Promise.withResolvers<void>()
    gate = rest.promise
    cutOff.resolve()
    await ground.pass(100)
    expect([owner.appliedSeq, owner.leftBehind.length, owner.isCaughtUp]).toEqual([5, 1, false])
    rest.resolve()
    await ground.pass(100)
    await ground.soon(owner.readEnd())
    expect([owner.appliedSeq, owner.isCaughtUp, damageOf(owner)]).toEqual([6, true, []])
  })

  test('a jump beyond the watermark is a gap, though much was flushed before', async () => {
    await write()
    const mark = { seq: 1, nonce: 'nonce-1', incarnation: await incarnation() }
    const hidden = ground.delivering((message) => (message.seq === 4 ? [] : [message]))
    const owner = await ground.owner(hidden, { blocks: blocksWith({ segment: 1, mark, digests: {} } as Flushed) })
    await ground.pass(1_000)
    expect([damageOf(owner), owner.leftBehind]).toEqual([['gap 4-4 open'], []])
  })

  test('a jump below the watermark of another life of the log is a gap', async () => {
    await write()
    const mark = { seq: 100, nonce: 'nonce-9', incarnation: 'another' }
    const hidden = ground.delivering((message) => (message.seq === 4 ? [] : [message]))
    const owner = await ground.owner(hidden, { blocks: blocksWith({ segment: 1, mark, digests: {} } as Flushed) })
    await ground.pass(1_000)
    expect(damageOf(owner)).toEqual(['gap 4-4 open'])
  })
})

test('OWNER-2: a message that is delivered again with other bytes is no repetition: the owner is silent until it has found where the log agrees', async () => {
  await ground.append(markSubject(0), ground.writer.mark(1))
  for (let i = 1; i <= 3; i++) await ground.appendSample('a', i)
  const other = ground.writer.batch([['b', 9, 9]]).seal()
  let deliver: ((message: LogMessage) => void | Promise<void>) | undefined
  const owner = await ground.owner({
    consume: (log, from, onMessage, onError) => {
      deliver = onMessage
      return ground.bus.logs.consume(log, from, onMessage, onError)
    },
    get: async (log, seq, timeoutMs) => {
      const message = await ground.bus.logs.get(log, seq, timeoutMs)
      return message !== undefined && seq === 4 ? { ...message, payload: other } : message
    },
  })
  await ground.pass(100)
  expect(owner.isCaughtUp).toBe(true)
  const again = (await ground.soon(ground.bus.logs.get(logName(0), 4, 1_000)))!
  void deliver!(again)
  expect(owner.isCaughtUp, 'the same once more').toBe(true)
  void deliver!({ ...again, payload: other })
  expect(owner.isCaughtUp).toBe(false)
  await ground.soon(owner.readEnd())
  expect(damageOf(owner)).toEqual(['rewind 4-4 filled'])
})

describe('LOG-10', () => {
  /** Three owners of a log of which message 3 was lost to some. */
  async function write(): Promise<void> {
    await ground.append(markSubject(0), ground.writer.mark(1))
    for (let i = 1; i <= 3; i++) await ground.appendSample('a', i)
  }

  test('an owner with the same hole fills nothing, the next one is asked', async () => {
    await write()
    const [owner, same, whole] = [await ground.hiding(3), await ground.hiding(3), await ground.owner()]
    await ground.serveFill('i2', same)
    await ground.serveFill('i3', whole)
    await ground.pass(1_000)
    await ground.soon(new Filler(owner).fill(ground.filling(owner, 'i2', 'i3')))
    expect([damageOf(owner), timesOf(owner)]).toEqual([['gap 3-3 filled'], [1, 2, 3]])
  })

  test('where all have the same hole it is missing', async () => {
    await write()
    const [owner, same] = [await ground.hiding(3), await ground.hiding(3)]
    await ground.serveFill('i2', same)
    await ground.pass(1_000)
    await ground.soon(new Filler(owner).fill(ground.filling(owner, 'i2')))
    expect(damageOf(owner)).toEqual(['gap 3-3 missing'])
  })

  test('holes in different places fill each other', async () => {
    await write()
    const [owner, other] = [await ground.hiding(3), await ground.hiding(2)]
    await ground.serveFill('i2', other)
    await ground.pass(1_000)
    await ground.soon(new Filler(owner).fill(ground.filling(owner, 'i2')))
    expect(timesOf(owner)).toEqual([1, 2, 3])
  })

  test('an owner that has not come to the hole fills nothing, though the end that was read lies before the hole', async () => {
    await ground.append(markSubject(0), ground.writer.mark(1))
    await ground.appendSample('a', 1)
    let goOn = () => {}
    const later = new Promise<void>((resolve) => {
      goOn = resolve
    })
    const isLost = ({ seq }: LogMessage) => seq === 3
    const behind = await ground.owner({
      consume: (log, from, onMessage, onError) =>
        ground.bus.logs.consume(
          log,
          from,
          async (message) => {
            if (message.seq > 3) await later
            if (!isLost(message)) await onMessage(message)
          },
          onError,
        ),
    })
    const owner = await ground.hiding(3)
    await ground.serveFill('i2', behind)
    await ground.pass(100)
    await ground.appendSample('a', 2)
    await ground.appendSample('a', 3)
    await ground.pass(100)
    expect([owner.end?.lastSeq, owner.appliedSeq, behind.appliedSeq]).toEqual([2, 4, 2])
    const filler = new Filler(owner)
    const filling = filler.fill(ground.filling(owner, 'i2'))
    await expect(ground.soon(filling)).rejects.toMatchObject({ code: 'damage-open' })
    expect(damageOf(owner)).toEqual(['gap 3-3 open'])
    goOn()
    await ground.pass(100)
    await ground.soon(filler.fill(ground.filling(owner, 'i2')))
    expect(damageOf(owner)).toEqual(['gap 3-3 missing'])
  })

  test('FILL-3: by a ring that is not confirmed nothing is missing', async () => {
    await write()
    const owner = await ground.hiding(3)
    await ground.pass(1_000)
    const filling = new Filler(owner).fill({ ...ground.filling(owner), isConfirmed: false })
    await expect(ground.soon(filling)).rejects.toMatchObject({ code: 'damage-open' })
    expect(damageOf(owner)).toEqual(['gap 3-3 open'])
  })
})

test('LOG-20: a fence is applied, so that it can be waited for, and changes nothing; no two are alike', async () => {
  await ground.append(markSubject(0), ground.writer.mark(1))
  await ground.appendSample('a', 1)
  const owner = await ground.owner()
  await ground.pass(100)
  const before = owner.state.digest(1)
  const places: number[] = []
  for (const nonce of ['1', '2']) places.push(await ground.append(fenceSubject(0), encodeFence({ writer: 'q', nonce })))
  await ground.pass(100)
  expect(owner.appliedSeq).toBe(places[1])
  expect(owner.state.digest(1)).toEqual(before)
  expect(damageOf(owner)).toEqual([])
  const stored = await Promise.all(places.map((seq) => ground.soon(ground.bus.logs.get(logName(0), seq, 1_000))))
  expect(new Set(stored.map((message) => checkOf(message!))).size).toBe(2)
})

test('a log that was made anew behind what may be purged of the one before is followed from its first message: nothing is missing', async () => {
  await ground.append(markSubject(0), ground.writer.mark(1))
  await ground.appendSample('a', 1)
  await ground.pass(1)
  const { logs } = createMemoryHub({ clock: ground.clock, random: seededRandom(2) }).connect('anew')
  await ground.soon(logs.ensure(logConfig(0, { bytesMax: 1 << 20, replicas: 1, originSeq: 100 })))
  let current = ground.bus.logs
  const view: Partial<LogStore> = {
    state: (log) => current.state(log),
    get: (log, seq, timeoutMs) => current.get(log, seq, timeoutMs),
    consume: (log, from, onMessage, onError) => current.consume(log, from, onMessage, onError),
  }
  const owner = await ground.owner(view, { blocks: { flushedRecord: () => undefined, refresh: async () => {} } })
  await ground.pass(1_000)
  current = logs
  await ground.pass(1_000)
  await ground.soon(owner.readEnd())
  const appended = logs.append(logName(0), markSubject(0), ground.writer.mark(2), { timeoutMs: 1_000 })
  expect((await ground.soon(appended)).seq).toBe(100)
  await ground.pass(1_000)
  await ground.soon(owner.readEnd())
  expect(owner.damages.map(({ kind, fromSeq, toSeq }) => `${kind} ${fromSeq}-${toSeq}`)).toEqual(['rewind 1-2'])
  expect([owner.appliedSeq, owner.isCaughtUp]).toEqual([100, true])
})

describe('LOG-8', () => {
  test('a log that lost its marks is given a number that was never used: the bucket remembers', async () => {
    await ground.soon(ground.bucket.put(keyFor(markRecord, { partition: 0 }), markRecord.format.encode(7)))
    const owner = await ground.owner()
    await ground.pass(100)
    await ground.soon(ground.lead(owner))
    expect(marks()).toMatchObject([{ number: 8 }])
  })

  test('the number that the bucket remembers never falls: another leader may have gone on meanwhile', async () => {
    const owner = await ground.owner()
    await ground.pass(100)
    const key = keyFor(markRecord, { partition: 0 })
    let looks = 0
    const stoodStill = new Proxy(ground.bucket, {
      get(target, name) {
        const value = Reflect.get(target, name) as unknown
        if (typeof value !== 'function') return value
        if (name !== 'newest') return value.bind(target)
        return async (filters: readonly string[]) => {
          if (++looks === 2) await target.put(key, markRecord.format.encode(7)) // behind the own mark
          return target.newest(filters)
        }
      },
    })
    await ground.soon(ground.lead(owner, stoodStill))
    expect(marks()).toMatchObject([{ number: 1 }])
    expect(looks).toBe(2)
    expect(Buffer.from((await ground.soon(ground.bucket.get(key)))!.value!).toString()).toBe('7')
  })

  test('LEADER-1: of two that lead, the second opens no segment right after the first, whose mark came while it waited', async () => {
    await ground.append(markSubject(0), ground.writer.mark(1))
    const owner = await ground.owner()
    await ground.pass(ground.config.segmentMs * 2)
    await ground.soon(owner.readEnd())
    const slow = new Proxy(ground.bucket, {
      get(target, key) {
        const value = Reflect.get(target, key) as unknown
        if (typeof value !== 'function') return value
        if (key !== 'newest') return value.bind(target)
        return async (filters: readonly string[]) => {
          await new Promise<void>((resolve) => ground.clock.after(30, resolve))
          return target.newest(filters)
        }
      },
    })
    const leading = ground.lead(owner, slow)
    await ground.pass(10)
    await ground.append(markSubject(0), ground.writer.mark(2)) // the other leader's
    await ground.soon(leading)
    await ground.pass(ground.config.segmentMinMs / 2)
    expect(marks().map(({ number }) => number)).toEqual([1, 2])
    await ground.pass(ground.config.segmentMs * 2)
    await ground.soon(owner.readEnd())
    await ground.soon(ground.lead(owner))
    const [, second, third] = marks()
    expect(third?.number).toBe(3)
    expect(third!.atMs - second!.atMs).toBeGreaterThanOrEqual(ground.config.segmentMinMs)
  })
})

test('OWNER-6: an owner that is stopped while it starts opens nothing', async () => {
  await ground.append(markSubject(0), ground.writer.mark(1))
  let consumers = 0
  const gate = Promise.withResolvers<void>()
  const starting = ground.owner({
    state: async (log) => {
      await gate.promise
      return ground.bus.logs.state(log)
    },
    consume: (...given) => {
      consumers++
      return ground.bus.logs.consume(...given)
    },
  })
  void starting.catch(() => {})
  await ground.pass(100)
  await ground.append(batchSubject(0), ground.writer.batch([['a', 1, 1]]).seal())
  await ground.soon(ground.owners.at(-1)!.stop())
  gate.resolve()
  await expect(ground.soon(starting)).rejects.toMatchObject({ code: 'owner-stopped' })
  expect(consumers).toBe(0)
})
