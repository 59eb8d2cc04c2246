// What an owner believes of the end of its log, of what it applied before, and of a purge: each rule where the one before it has nothing to say.
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Filler } from '../../../services/ingester/log/filler.ts'
import type { Owner } from '../../../services/ingester/log/owner.ts'
import { CorruptError } from '../../../shared/base/errors.ts'
import type { LogMessage, LogStore } from '../../../shared/bus/port.ts'
import { keyFor } from '../../../shared/bus/record.ts'
import type { Flushed } from '../../../shared/contracts/blocks.ts'
import { batchSubject, checkpointRecord, highWaterRecord, logName, markSubject } from '../../../shared/contracts/log.ts'
import { OwnerGround } from './owner-ground.ts'

let ground: OwnerGround
beforeEach(async () => {
  ground = new OwnerGround()
  await ground.open()
})
afterEach(() => ground.close())

const state = () => ground.soon(ground.bus.logs.state(logName(0)))
const samplesOf = (owner: Owner) => [...owner.state.heads.values()].reduce((sum, head) => sum + head.sampleCount, 0)
const damageOf = (owner: Owner) => owner.damages.map(({ kind, fromSeq, toSeq }) => `${kind} ${fromSeq}-${toSeq}`)
const mark = (number: number) => ground.append(markSubject(0), ground.writer.mark(number))

/** Reads the end of the log again and again for so long. */
async function follow(owner: Owner, ms: number): Promise<void> {
  const untilMs = ground.clock.monotonic() + ms
  while (ground.clock.monotonic() < untilMs) {
    await ground.soon(owner.readEnd())
    await ground.pass(200)
  }
}

describe('OWNER-4', () => {
  it('a watermark of another life of the log says nothing about where this one begins, though its mark seems to stand there', async () => {
    await mark(2)
    await ground.appendSample('a', 1)
    await mark(3)
    await ground.appendSample('a', 2)
    const flushed: Flushed = { segment: 1, mark: { seq: 3, nonce: 'nonce-3', incarnation: 'before' }, digests: {} }
    const owner = await ground.owner({}, { blocks: { flushedRecord: () => flushed, refresh: async () => {} } })
    await follow(owner, 1_000)
    expect([samplesOf(owner), damageOf(owner)]).toEqual([2, []])
  })

  it('a jump is judged by the watermark read again: the watch may not have told of the flush that the purge came after', async () => {
    for (const number of [1, 2, 3]) {
      await mark(number)
      await ground.appendSample('a', number)
    }
    const { incarnation } = await state()
    const to = (segment: number): Flushed => {
      return { segment, mark: { seq: 2 * segment - 1, nonce: `nonce-${segment}`, incarnation }, digests: {} }
    }
    let known = to(1)
    const refresh = async () => {
      known = to(3)
    }
    const blocks = { flushedRecord: () => known, refresh }
    let holdsBack: (() => void) | undefined
    const stalled = new Promise<void>((resolve) => {
      holdsBack = resolve
    })
    const consume: LogStore['consume'] = (log, from, onMessage, onError) =>
      ground.bus.logs.consume(
        log,
        from,
        async (message) => {
          if (message.seq > 1) await stalled
          if (message.seq > 1 && message.seq < 5) return // purged meanwhile
          await onMessage(message)
        },
        onError,
      )
    const owner = await ground.owner({ consume }, { blocks })
    holdsBack!()
    await follow(owner, 1_000)
    expect([owner.state.mark?.number, damageOf(owner)]).toEqual([3, []])
  })
})

describe('OWNER-2', () => {
  it('a tail that is there and comes late is no gap', async () => {
    await mark(1)
    let goOn = () => {}
    const stalled = new Promise<void>((resolve) => {
      goOn = resolve
    })
    const consume: LogStore['consume'] = (log, from, onMessage, onError) =>
      ground.bus.logs.consume(log, from, (message) => stalled.then(() => onMessage(message)), onError)
    const owner = await ground.owner({ consume })
    await ground.appendSample('a', 1)
    await follow(owner, 8_000)
    expect(damageOf(owner)).toEqual([])
    goOn()
    await follow(owner, 1_000)
    expect([samplesOf(owner), damageOf(owner)]).toEqual([1, []])
  })

  it('a log that ends before what this owner had applied when it ran before is a rewind', async () => {
    await mark(1)
    await ground.appendSample('a', 1)
    const { incarnation } = await state()
    const place = keyFor(checkpointRecord, { partition: 0, ingester: 'i1' })
    await ground.soon(ground.bucket.put(place, checkpointRecord.format.encode({ seq: 5, crc: 7, incarnation })))
    const owner = await ground.owner()
    await follow(owner, 1_000)
    expect(damageOf(owner)).toEqual(['rewind 3-5'])
  })

  it('after a lost connection what was applied is compared with the log: sequences may have been used again', async () => {
    await mark(1)
    await ground.appendSample('a', 1)
    let isAnother = false
    const other = ground.writer.batch([['a', 9, 9]]).seal()
    const get: LogStore['get'] = async (log, seq, timeoutMs) => {
      const message = await ground.bus.logs.get(log, seq, timeoutMs)
      return isAnother && seq === 2 && message !== undefined ? { ...message, payload: other } : message
    }
    const owner = await ground.owner({ get })
    await follow(owner, 1_000)
    expect(owner.isCaughtUp).toBe(true)
    isAnother = true
    ground.hub.disconnect('test')
    ground.hub.reconnect('test')
    await follow(owner, 2_000)
    expect(damageOf(owner)).toContain('rewind 2-2')
  })

  it('a log that was found to be another is not applied any more until it is known where it still agrees', async () => {
    await mark(1)
    let deliver: (message: LogMessage) => void | Promise<void> = () => {}
    let interrupt: (error: Error) => void = () => {}
    const consume: LogStore['consume'] = (log, from, onMessage, onError) => {
      deliver = onMessage
      interrupt = onError
      return ground.bus.logs.consume(log, from, onMessage, onError)
    }
    const owner = await ground.owner({ consume })
    await follow(owner, 1_000)
    interrupt(new CorruptError('log-rewound', 'the server came back with another log'))
    const payload = ground.writer.batch([['a', 1, 1]]).seal()
    await deliver({ seq: 2, subject: batchSubject(0), payload, messageId: undefined, storedAtMs: 0 })
    expect([owner.appliedSeq, owner.isCaughtUp]).toEqual([1, false])
  })

  it('what was applied after a doubt proves nothing: a log that was filled again is read from where it was doubted', async () => {
    await mark(1)
    await ground.appendSample('a', 1)
    await ground.appendSample('a', 2)
    const other = ground.writer.batch([['a', 9, 9]]).seal() // takes the place of the last one, in a log that lost its end
    let isFilledAgain = false
    const asItIs = (message: LogMessage): LogMessage =>
      isFilledAgain && message.seq === 3 ? { ...message, payload: other } : message
    const owner = await ground.owner({
      ...ground.delivering((message) => [asItIs(message)]),
      get: async (log, seq, timeoutMs) => {
        const message = await ground.bus.logs.get(log, seq, timeoutMs)
        return message && asItIs(message)
      },
    })
    await follow(owner, 1_000)
    isFilledAgain = true
    ground.hub.disconnect('test')
    ground.hub.reconnect('test')
    await ground.appendSample('a', 4)
    await ground.pass(500)
    expect(owner.appliedSeq).toBe(4)
    await follow(owner, 2_000)
    expect(samplesOf(owner)).toBe(4)
    expect(owner.appliedSeq).toBe(4)
  })
})

describe('LOG-10: damage is filled', () => {
  it('in the segments behind it as well, where nobody knows how many marks lay in the hole', async () => {
    await mark(1)
    await ground.appendSample('a', 1)
    const whole = await ground.owner()
    await follow(whole, 1_000)
    const lost = [ground.writer.mark(2), ground.writer.batch([['a', 2, 2]]).seal()] as const
    whole.state.applyMark(3, lost[0])
    whole.state.applyBatch(4, lost[1])
    whole.appliedMax = 4
    const { incarnation } = await state()
    const place = keyFor(checkpointRecord, { partition: 0, ingester: 'i2' })
    await ground.soon(ground.bucket.put(place, checkpointRecord.format.encode({ seq: 4, crc: 7, incarnation })))
    const owner = await ground.owner({}, { id: 'i2' })
    await follow(owner, 1_000)
    expect(damageOf(owner)).toEqual(['rewind 3-4'])
    await ground.serveFill('i1', whole)
    await ground.soon(new Filler(owner).fill(ground.filling(owner, 'i1')))
    expect(owner.state.segments()).toEqual([1, 2])
  })

  it('not by an owner that has dropped the segment: it is in blocks, which will be heard of', async () => {
    await mark(1)
    await ground.appendSample('a', 1)
    await ground.appendSample('a', 2)
    await mark(2)
    await ground.appendSample('a', 3)
    const whole = await ground.owner()
    await follow(whole, 1_000)
    whole.drop(1)
    const owner = await ground.hiding(2)
    await follow(owner, 1_000)
    await ground.serveFill('i1', whole)
    const filling = ground.soon(new Filler(owner).fill(ground.filling(owner, 'i1')))
    await expect(filling).rejects.toMatchObject({ code: 'damage-open' })
    expect(owner.damages.map((damage) => damage.state)).toEqual(['open'])
  })
})

describe('LOG-10: the end of a log that was made anew', () => {
  /** What a distributor says that it has stored. */
  const stored = (distributor: string, seq: number, incarnation: string) => {
    const place = keyFor(highWaterRecord, { partition: 0, distributor })
    const value = { session: 's', counter: 9, seq, epoch: 1, incarnation }
    return ground.soon(ground.bucket.put(place, highWaterRecord.format.encode(value)))
  }

  it('is missed by what distributors had stored in it, whatever those of the life before had stored', async () => {
    await mark(1)
    for (let i = 0; i < 4; i++) await ground.appendSample('a', i)
    await stored('d-now', 12, (await state()).incarnation)
    await stored('d-gone', 1_000, 'the life before')
    const owner = await ground.owner()
    await follow(owner, 6_000)
    expect(owner.isCaughtUp).toBe(true)
    expect(damageOf(owner)).toEqual(['rewind 6-12'])
  })

  it('is missed by an owner that has lived through it, too: that the one before is gone says nothing of this one', async () => {
    await mark(1)
    for (let i = 0; i < 20; i++) await ground.appendSample('a', i)
    const owner = await ground.owner()
    await follow(owner, 1_000)
    ground.hub.makeAnew(logName(0))
    await follow(owner, 3_000)
    await mark(2)
    await ground.appendSample('a', 1)
    await follow(owner, 1_000)
    expect(owner.appliedMax, 'what it tells to those that it fills').toBe(2)
    await stored('d-now', 12, (await state()).incarnation)
    await follow(owner, 3_000)
    expect(damageOf(owner)).toEqual(['rewind 1-21', 'rewind 3-12'])
  })
})

describe('READING-1', () => {
  it('how recent an end is, is counted from when it was asked for', async () => {
    await mark(1)
    let lateMs = 0
    const late: LogStore['state'] = async (log) => {
      const answer = await ground.bus.logs.state(log)
      await new Promise<void>((resolve) => void ground.clock.after(lateMs, resolve))
      return answer
    }
    const owner = await ground.owner({ state: late })
    await follow(owner, 1_000)
    expect(owner.isCaughtUp).toBe(true)
    lateMs = ground.config.staleAfterMs
    await ground.soon(owner.readEnd())
    expect(owner.isCaughtUp, 'what was true so long ago').toBe(false)
  })
})
