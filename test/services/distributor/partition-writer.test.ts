// One batch after the other on its way into a partition's log: what is appended, repeated, written again, and when it counts.
import { beforeEach, describe, expect, it } from 'vitest'
import { distributorSettings } from '../../../services/distributor/config.ts'
import { Dictionary, NONE } from '../../../services/distributor/log/dictionary.ts'
import { PartitionWriter } from '../../../services/distributor/log/partition-writer.ts'
import { writerMetrics } from '../../../services/distributor/log/writer-metrics.ts'
import { sleep, systemClock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { createMemoryHub, type MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { defaultsOf } from '../../../shared/config/settings.ts'
import {
  batchSubject,
  encodeMark,
  FILL_SHARES,
  logConfig,
  logName,
  markSubject,
} from '../../../shared/contracts/log.ts'
import type { Stored } from '../../../shared/kv/known-ends.ts'
import { createMetrics } from '../../../shared/telemetry/metrics.ts'
import { decodeLogBatch } from '../../../shared/wire/log-batch.ts'

const config = defaultsOf(distributorSettings, { lingerMs: 1, appendTimeoutMs: 50, pushTimeoutMs: 10_000 })

let hub: MemoryHub
let bus: Bus
let dictionary: Dictionary
let appendCount: number
/** How long the answer of each append is on its way. */
let answerMs: (count: number) => number
/** The most appends that were under way at once. */
let atOnceMax: number

beforeEach(async () => {
  hub = createMemoryHub({ clock: systemClock, random: seededRandom(1) })
  bus = hub.connect('test')
  dictionary = new Dictionary()
  appendCount = 0
  answerMs = () => 0
  atOnceMax = 0
  await bus.logs.ensure(logConfig(0, { bytesMax: 1 << 24, replicas: 1 }))
})

const nameOf = (number: number) => `nonce-${number}`
const mark = async (number: number) => {
  const payload = encodeMark({ number, writer: 'test', nonce: nameOf(number) })
  return (await bus.logs.append(logName(0), markSubject(0), payload, { timeoutMs: 1_000 })).seq
}

/** A writer whose appends are counted. */
function writerOf(remembered: () => number = () => 0, stored: () => Stored[] = () => []): PartitionWriter {
  let underWay = 0
  const own = hub.connect('distributor')
  const append: Bus['logs']['append'] = async (...args) => {
    const waitMs = answerMs(++appendCount)
    atOnceMax = Math.max(atOnceMax, ++underWay)
    try {
      const stored = await own.logs.append(...args)
      if (waitMs > 0) await sleep(systemClock, waitMs)
      return stored
    } finally {
      underWay--
    }
  }
  const { state, get, lastPerSubject, purge, consume, ensure } = own.logs
  const logs = { state, get, lastPerSubject, purge, consume, ensure, append }
  const watched = { ...own, clock: systemClock, logs } as unknown as Bus
  const metrics = writerMetrics(createMetrics())
  return new PartitionWriter(0, {
    ...{ bus: watched, clock: systemClock, random: seededRandom(2), config, metrics },
    known: async () => ({ markNumber: remembered(), stored: stored() }),
    without: new Set<string>(),
  })
}

function refOf(name: string, within = dictionary): number {
  const bytes = Buffer.from(name)
  const tenant = within.intern('acme')
  const found = within.find(tenant, bytes, 0, bytes.length, NONE)
  if (found !== NONE) return found
  const region = { bytes, start: 0, end: bytes.length }
  return within.add(tenant, region, { labels: ['__name__', name], hash: 1, partition: 0 }, NONE)
}

/** Pushes one sample; resolves with its place when it is acknowledged. */
function push(writer: PartitionWriter, name = 'a', within = dictionary): Promise<number | undefined> {
  writer.begin()
  writer.float(within, refOf(name, within), 1_000, new Uint32Array(2), 0, 0)
  return writer.commit()
}

/** As when the connection is lost and back. */
function interrupt(writer: PartitionWriter): Promise<void> {
  writer.doubt()
  return writer.refresh()
}

interface Standing {
  readonly seq: number
  readonly epoch: number
  readonly session: string
  readonly defines: boolean
}

/** What stands in the log: marks as `M1`, batches as epoch and session. */
async function standing(): Promise<Standing[]> {
  const { lastSeq } = await bus.logs.state(logName(0))
  const batches: Standing[] = []
  for (let seq = 1; seq <= lastSeq; seq++) {
    const message = await bus.logs.get(logName(0), seq, 1_000)
    if (message === undefined || message.subject === markSubject(0)) continue
    const { epoch, nonce, session, definitions } = decodeLogBatch(message.payload)
    expect(nonce).toBe(nameOf(epoch))
    batches.push({ seq, epoch, session: Buffer.from(session).toString('hex'), defines: definitions.length > 0 })
  }
  return batches
}

describe('LOG-5: when a batch counts', () => {
  it('APPEND-1: one that lies behind the mark after next is written again under the newest mark, and only that counts', async () => {
    await mark(1)
    const writer = writerOf()
    await writer.refresh()
    for (const number of [2, 3]) await mark(number) // of which the writer has not heard
    const seq = await push(writer)
    const batches = await standing()
    expect(batches.map(({ epoch }) => epoch)).toEqual([1, 3])
    expect(seq).toBe(batches[1]!.seq)
    expect(batches[0]!.session).not.toBe(batches[1]!.session)
  })

  it('nothing is written before a mark is known', async () => {
    const writer = writerOf()
    expect(writer.refusal()).toMatchObject({ kind: 'unavailable', code: 'err-carillon-no-mark' })
    await mark(1)
    await writer.refresh()
    expect(writer.refusal()).toBeUndefined()
  })
})

describe('APPEND-4: a log that has lost its newest marks', () => {
  const soonAcknowledged = (pushing: Promise<unknown>) =>
    Promise.race([pushing.then(() => true), sleep(systemClock, 100)])
  const loseMark = (number: number) => hub.log(logName(0))!.lose(number)

  beforeEach(async () => {
    for (const number of [1, 2, 3, 4, 5]) await mark(number)
  })

  it('is begun nothing in by who starts anew, before its leader has written the next', async () => {
    for (const number of [3, 4, 5]) loseMark(number)
    const writer = writerOf(() => 5)
    await writer.refresh()
    expect(writer.isMarked).toBe(false)
    expect(writer.refusal()).toMatchObject({ kind: 'unavailable', code: 'err-carillon-no-mark' })
    await mark(6)
    await writer.refresh()
    expect(writer.refusal()).toBeUndefined()
    await push(writer)
    expect((await standing()).at(-1)).toMatchObject({ epoch: 6 })
  })

  it('shows nothing to who knows a newer one', async () => {
    const writer = writerOf()
    await writer.refresh()
    for (const number of [3, 4, 5]) loseMark(number)
    const pushing = push(writer)
    expect(await soonAcknowledged(pushing)).not.toBe(true)
    await mark(6)
    await pushing
  })

  it('shows nothing while nobody knows what the bucket remembers since the connection was interrupted', async () => {
    let newest = 5
    const writer = writerOf(() => newest)
    await writer.refresh()
    newest = 8 // that were written, and lost, while it was cut off
    writer.doubt()
    const pushing = push(writer)
    expect(await soonAcknowledged(pushing)).not.toBe(true)
    await writer.refresh()
    expect(writer.refusal()).toMatchObject({ code: 'err-carillon-no-mark' })
    expect(await soonAcknowledged(pushing)).not.toBe(true)
    await mark(9)
    await writer.refresh()
    const seq = await pushing
    expect((await standing()).at(-1)).toMatchObject({ seq, epoch: 9 })
  })
})

describe('LOG-4: an append without an answer', () => {
  it('APPEND-2: is repeated with the same message id, so that the batch stands in the log once', async () => {
    await mark(1)
    const writer = writerOf()
    await writer.refresh()
    hub.faults.onAppend = () => (appendCount === 1 ? 'store-but-lose-ack' : undefined)
    const seq = await push(writer)
    expect(appendCount).toBe(2)
    expect(await standing()).toMatchObject([{ seq, epoch: 1 }])
  })

  it('is not repeated once a newer mark is known: its samples are encoded again', async () => {
    await mark(1)
    const writer = writerOf()
    await writer.refresh()
    hub.faults.onAppend = ({ subject }) => {
      return subject !== markSubject(0) && appendCount <= 2 ? 'drop-before-store' : undefined
    }
    const pushing = push(writer)
    await expect.poll(() => appendCount).toBeGreaterThan(1)
    await mark(2)
    await writer.refresh()
    const seq = await pushing
    expect(await standing()).toMatchObject([{ seq, epoch: 2 }])
  })
})

describe('APPEND-6: a log that has lost its end and gives its sequences again', () => {
  const isDone = (pushing: Promise<unknown>) => Promise.race([pushing.then(() => true), sleep(systemClock, 100)])
  const known = (...seqs: number[]): Stored[] =>
    seqs.map((seq) => ({ seq, epoch: 1, incarnation: hub.log(logName(0))!.incarnation }))

  it('takes nothing that counts before the next mark: what is stored below what was stored from here is written again behind it', async () => {
    await mark(1)
    const writer = writerOf()
    await writer.refresh()
    for (let i = 0; i < 3; i++) await push(writer)
    hub.log(logName(0))!.cutTail(2) // unnoticed: no connection is interrupted
    const pushing = push(writer)
    expect(await isDone(pushing)).toBeUndefined()
    expect(writer.refusal()).toMatchObject({ code: 'err-carillon-no-mark' })
    expect(writer.refusal()?.message).toContain('has lost its end')
    const markSeq = await mark(2)
    expect(await pushing).toBeGreaterThan(markSeq)
    expect(writer.refusal()).toBeUndefined()
    expect(await push(writer)).toBeGreaterThan(markSeq)
    expect((await standing()).map(({ epoch }) => epoch)).toEqual([1, 1, 2, 2])
  })

  it('so is what is stored below what others knew to be stored', async () => {
    await mark(1)
    const writer = writerOf(undefined, () => known(7))
    await writer.refresh()
    const pushing = push(writer)
    expect(await isDone(pushing)).toBeUndefined()
    await mark(2)
    await pushing
    expect((await standing()).map(({ epoch }) => epoch)).toEqual([1, 2])
  })

  it('what stood there in another life is nothing', async () => {
    await mark(1)
    const writer = writerOf(undefined, () => [{ seq: 9, epoch: 1, incarnation: 'another' }])
    await writer.refresh()
    await push(writer)
    expect((await standing()).map(({ epoch }) => epoch)).toEqual([1])
  })

  it('what stood there before the mark that says that the end was lost is nothing', async () => {
    const since = encodeMark({ number: 2, writer: 'test', nonce: nameOf(2), since: 2 })
    await bus.logs.append(logName(0), markSubject(0), since, { timeoutMs: 1_000 })
    const behind = writerOf(undefined, () => known(9))
    await behind.refresh()
    await push(behind)
    expect((await standing()).map(({ epoch }) => epoch)).toEqual([2])
  })

  it('batches that overtake each other have lost nothing', async () => {
    await mark(1)
    const writer = writerOf()
    await writer.refresh()
    answerMs = (count) => 300 / count
    await Promise.all([0, 50].map((ms) => sleep(systemClock, ms).then(() => push(writer))))
    expect(atOnceMax).toBe(2)
    expect(writer.refusal()).toBeUndefined()
    expect(new Set((await standing()).map(({ epoch }) => epoch))).toEqual(new Set([1]))
  })
})

describe('LOG-1: a session', () => {
  beforeEach(() => mark(1))

  it('goes on from batch to batch, and ends with its mark', async () => {
    const writer = writerOf()
    await writer.refresh()
    for (let i = 0; i < 2; i++) await push(writer)
    await mark(2)
    await writer.refresh()
    await push(writer)
    const sessions = (await standing()).map(({ session }) => session)
    expect(sessions[1]).toBe(sessions[0])
    expect(sessions[2]).not.toBe(sessions[0])
    expect((await standing()).map(({ epoch }) => epoch)).toEqual([1, 1, 2])
  })

  it('DICTIONARY-2: ends with its dictionary: numbers of another mean other series', async () => {
    const writer = writerOf()
    await writer.refresh()
    await push(writer, 'a')
    await push(writer, 'b', new Dictionary())
    const sessions = (await standing()).map(({ session }) => session)
    expect(new Set(sessions).size).toBe(2)
  })

  it('APPEND-5: ends where the connection was interrupted: the log may be back without what the session defined', async () => {
    const writer = writerOf()
    await writer.refresh()
    await push(writer)
    await push(writer)
    expect((await standing()).map(({ defines }) => defines)).toEqual([true, false])
    hub.log(logName(0))!.cutTail(1)
    await interrupt(writer)
    const pushing = push(writer)
    await sleep(systemClock, 20)
    await mark(2) // APPEND-6
    await pushing
    expect((await standing()).map(({ defines }) => defines)).toEqual([true, true])
  })

  it('APPEND-5: what was stored before the interruption and not yet acknowledged is written again with what it names', async () => {
    const writer = writerOf()
    await writer.refresh()
    await push(writer)
    hub.faults.onAppend = () => {
      if (appendCount === 2) void interrupt(writer)
      return undefined
    }
    const seq = await push(writer)
    const batches = await standing()
    expect(batches.map(({ defines }) => defines)).toEqual([true, false, true])
    expect(seq).toBe(batches[2]!.seq)
  })

  it('APPEND-5: what had no answer before the interruption is not repeated as it was', async () => {
    const writer = writerOf()
    await writer.refresh()
    await push(writer)
    hub.faults.onAppend = () => {
      if (appendCount > 3) return undefined
      if (appendCount === 3) void interrupt(writer)
      return 'drop-before-store'
    }
    await push(writer)
    expect((await standing()).map(({ defines }) => defines)).toEqual([true, true])
  })

  it('an older mark that is heard later changes nothing', async () => {
    const writer = writerOf()
    writer.hearMark({ number: 3, writer: 'test', nonce: nameOf(3) })
    writer.hearMark({ number: 2, writer: 'test', nonce: nameOf(2) })
    expect(writer.mark!.number).toBe(3)
  })
})

describe('bounds', () => {
  it('LOG-7: what was appended since the log was read is counted, and refused above the share that batches may fill', async () => {
    await mark(1)
    const writer = writerOf()
    await writer.refresh()
    writer.filled.bytesMax = 10_000
    writer.filled.bytes = 10_000 * config.logFullRatio - 1
    expect(writer.refusal()).toBeUndefined()
    await push(writer)
    expect(writer.refusal()).toMatchObject({ kind: 'unavailable', code: 'err-carillon-log-full' })
  })

  it('LOG-7: what was let in before ends at the share that others need as well, and goes on when there is room', async () => {
    await mark(1)
    const writer = writerOf()
    await writer.refresh()
    writer.filled.bytesMax = 10_000
    writer.filled.bytes = 10_000 * FILL_SHARES.batch - 1
    await expect(push(writer)).rejects.toMatchObject({ kind: 'unavailable', code: 'err-carillon-log-full' })
    expect(appendCount).toBe(0)
    writer.filled.bytes = 0
    await push(writer)
  })

  it('LOG-7: what others appended since the log was read is counted as well, as far as sequences tell', async () => {
    await mark(1)
    const writer = writerOf()
    await writer.refresh()
    const state = () => hub.log(logName(0))!.state()
    writer.filled.hear(state())
    const { bytes, lastSeq } = state()
    for (let i = 0; i < 20; i++)
      await hub
        .connect(`other ${i}`)
        .logs.append(logName(0), batchSubject(0), new Uint8Array(bytes), { timeoutMs: 1_000 })
    await push(writer)
    expect(writer.filled.bytes).toBeGreaterThan(20 * bytes)
    expect(writer.filled.bytes).toBeLessThan(1.5 * state().bytes)
    expect(state().lastSeq).toBe(lastSeq + 21)
  })

  it('APPEND-3: at most batchesInFlightMax appends are under way; what comes meanwhile is grouped', async () => {
    await mark(1)
    hub.faults.appendDelayMs = { minMs: 15, maxMs: 20 }
    const writer = writerOf()
    await writer.refresh()
    const pushes: Promise<number | undefined>[] = []
    for (let i = 0; i < 20; i++) {
      pushes.push(push(writer, `series-${i}`))
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
    await Promise.all(pushes)
    expect(atOnceMax).toBe(config.batchesInFlightMax)
    expect(appendCount).toBeLessThan(20)
  })
})
