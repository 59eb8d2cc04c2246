// An owner on a log that lies: gaps, rewinds, reused sequences; and what another owner fills. Leaders and their patience.
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ingesterSettings } from '../../../services/ingester/config.ts'
import { leadPartition } from '../../../services/ingester/leader.ts'
import { Filler } from '../../../services/ingester/log/filler.ts'
import { Owner } from '../../../services/ingester/log/owner.ts'
import { ownerMetrics } from '../../../services/ingester/log/owner-metrics.ts'
import { fillFrames } from '../../../services/ingester/read/fill-frames.ts'
import { CorruptError } from '../../../shared/base/errors.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { serveStream } from '../../../shared/bus/actor.ts'
import { createMemoryHub, type MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { Bus, KvBucket, LogMessage, LogStore } from '../../../shared/bus/port.ts'
import { keyFor } from '../../../shared/bus/record.ts'
import { runActor } from '../../../shared/bus/run-actor.ts'
import { defaultsOf } from '../../../shared/config/settings.ts'
import { deleteSubject, encodeDelete } from '../../../shared/contracts/deletes.ts'
import { batchSubject, highWaterRecord, logConfig, logName, markSubject } from '../../../shared/contracts/log.ts'
import { fill } from '../../../shared/contracts/read.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { createMetrics } from '../../../shared/telemetry/metrics.ts'
import { SampleColumns } from '../../../shared/tsdb/columns.ts'
import { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import { VirtualClock } from '../../sim/virtual-clock.ts'
import { LogWriter, TENANT } from './log-writer.ts'

const config = defaultsOf(ingesterSettings, { segmentMinMs: 1_000, segmentMs: 5_000 })
let clock: VirtualClock
let hub: MemoryHub
let bus: Bus
let bucket: KvBucket
let writer: LogWriter
let isOver: boolean
let wholeStrings: StringTable
let ownStrings: StringTable

beforeEach(async () => {
  clock = new VirtualClock()
  hub = createMemoryHub({ clock, random: seededRandom(1) })
  bus = hub.connect('test')
  writer = new LogWriter()
  wholeStrings = new StringTable()
  ownStrings = new StringTable()
  isOver = false
  void clock.run(() => isOver, Number.POSITIVE_INFINITY)
  bucket = await soon(bus.bucket('log'))
  await soon(bus.logs.ensure(logConfig(0, { bytesMax: 1 << 20, replicas: 1 })))
})

afterEach(() => {
  isOver = true
})

/** Virtual time runs only while something waits for it. */
async function soon<T>(promise: Promise<T>): Promise<T> {
  let isSettled = false
  promise.then(
    () => {
      isSettled = true
    },
    () => {
      isSettled = true
    },
  )
  await clock.run(() => isSettled, clock.monotonic() + 60_000)
  return promise
}

async function pass(ms: number): Promise<void> {
  await soon(new Promise<void>((resolve) => clock.after(ms, resolve)))
}

const append = (subject: string, payload: Uint8Array) =>
  soon(bus.logs.append(logName(0), subject, payload, { timeoutMs: 1_000 }))
const appendSample = (name: string, time: number) => append(batchSubject(0), writer.batch([[name, time, time]]).seal())

/** The log as this view changes it: what a server shows after it has lost something. */
function lying(change: Partial<LogStore>): Bus {
  return new Proxy(bus, {
    get(target, key) {
      if (key === 'logs') return { ...bindAll(bus.logs), ...change }
      const value = Reflect.get(target, key) as unknown
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

function bindAll(logs: LogStore): LogStore {
  const { ensure, state, append, lastPerSubject, get, consume } = logs
  return { ...logs, ensure, state, append, lastPerSubject, get, consume }
}

function ownerOn(view: Bus): Owner {
  return new Owner({
    ...{ partition: 0, id: 'i1', bus: view, bucket, clock, log: silentLog, config },
    metrics: ownerMetrics(createMetrics()),
    strings: view === bus ? wholeStrings : ownStrings,
    without: new Set<string>(),
  })
}

/** What a filler of the test's own owner needs, with these to ask. */
const fillingFrom = (...ids: string[]) => ({
  ...{ bus, clock, log: silentLog, metrics: ownerMetrics(createMetrics()), strings: ownStrings },
  others: ids.map((id) => ({ id, holds: true })),
  isConfirmed: true,
})

const damageOf = (owner: Owner) => owner.damages.map(({ kind, fromSeq, toSeq }) => `${kind} ${fromSeq}-${toSeq}`)

test('a sample that no chunk can keep is named and settled at once: no other owner could have it', async () => {
  await append(markSubject(0), writer.mark(1))
  await appendSample('a', -8e15)
  const owner = ownerOn(bus)
  await soon(owner.start())
  await appendSample('a', 5)
  await pass(1_000)
  expect(owner.damages).toMatchObject([{ kind: 'unstorable', segment: 1, state: 'missing' }])
  expect(owner.isCaughtUp).toBe(true)
  expect(owner.state.heads.get(TENANT)!.sampleCount).toBe(1)
})

test('OWNER-2: sequences that are not delivered are a gap with its exact range', async () => {
  await append(markSubject(0), writer.mark(1))
  for (let i = 1; i <= 5; i++) await appendSample('a', i)
  const hidden = (message: LogMessage) => message.seq === 3 || message.seq === 4
  const owner = ownerOn(
    lying({
      consume: (log, from, onMessage, onError) =>
        bus.logs.consume(log, from, (message) => (hidden(message) ? undefined : onMessage(message)), onError),
    }),
  )
  await soon(owner.start())
  await pass(2_000)
  expect(damageOf(owner)).toContain('gap 3-4')
  expect(owner.appliedSeq).toBe(6)
})

test('OWNER-2: a log that is shorter than what was applied is a rewind; new messages on the reused sequences are read', async () => {
  await append(markSubject(0), writer.mark(1))
  for (let i = 1; i <= 4; i++) await appendSample('a', i)
  const other = createMemoryHub({ clock, random: seededRandom(2) }).connect('rewound')
  await soon(other.logs.ensure(logConfig(0, { bytesMax: 1 << 20, replicas: 1 })))
  let current = bus
  const view = lying({
    state: async (log) => ({ ...(await current.logs.state(log)), incarnation: 'same' }),
    get: (log, seq, timeoutMs) => current.logs.get(log, seq, timeoutMs),
    consume: (log, from, onMessage, onError) => current.logs.consume(log, from, onMessage, onError),
  })
  const owner = ownerOn(view)
  await soon(owner.start())
  await pass(2_000)
  expect(owner.appliedSeq).toBe(5)
  for (const seq of [1, 2, 3]) {
    const message = await soon(bus.logs.get(logName(0), seq, 1_000))
    await soon(other.logs.append(logName(0), message!.subject, message!.payload, { timeoutMs: 1_000 }))
  }
  current = other
  await soon(owner.readEnd())
  expect(damageOf(owner), 'not before it goes on saying so').toEqual([])
  await pass(1_000)
  await soon(owner.readEnd())
  expect(damageOf(owner)).toEqual(['rewind 4-5'])
  await soon(other.logs.append(logName(0), batchSubject(0), writer.batch([['b', 9, 9]]).seal(), { timeoutMs: 1_000 }))
  await pass(2_000)
  expect(owner.appliedSeq).toBe(4)
  expect(owner.state.heads.get(TENANT)!.labelValues('__name__', [], { startMs: 0, endMs: 99 })).toEqual(['a', 'b'])
  expect(owner.state.heads.get(TENANT)!.sampleCount, 'what was lost is still in memory').toBe(5)
})

test('OWNER-2: what is applied while the end of the log is being read is no rewind', async () => {
  await append(markSubject(0), writer.mark(1))
  let isGrowing = false
  const owner = ownerOn(
    lying({
      state: async (log) => {
        const state = await bus.logs.state(log)
        if (!isGrowing) return state
        const { seq } = await bus.logs.append(log, batchSubject(0), writer.batch([['a', 1, 1]]).seal(), {
          timeoutMs: 1_000,
        })
        while (owner.appliedSeq < seq) await new Promise<void>((resolve) => clock.after(1, resolve))
        return state
      },
    }),
  )
  await soon(owner.start())
  await pass(2_000)
  isGrowing = true
  for (let i = 0; i < 3; i++) await soon(owner.readEnd())
  expect([owner.appliedSeq, damageOf(owner)]).toEqual([4, []])
})

test('OWNER-2: a leader that is behind the copy which delivered, for a moment, is no rewind', async () => {
  await append(markSubject(0), writer.mark(1))
  for (let i = 1; i <= 4; i++) await appendSample('a', i)
  let behind = 0
  const owner = ownerOn(
    lying({
      state: async (log) => {
        const state = await bus.logs.state(log)
        return { ...state, lastSeq: state.lastSeq - behind }
      },
    }),
  )
  await soon(owner.start())
  await pass(2_000)
  for (const lag of [2, 1, 0, 1, 0]) {
    behind = lag
    await soon(owner.readEnd())
    await pass(900)
  }
  expect(damageOf(owner)).toEqual([])
  expect(owner.isCaughtUp).toBe(true)
})

test('OWNER-2: a tail that the log claims but does not hold is a gap with its exact range, and the owner catches up', async () => {
  await append(markSubject(0), writer.mark(1))
  await appendSample('a', 1)
  const owner = ownerOn(lying({ state: async (log) => ({ ...(await bus.logs.state(log)), lastSeq: 9 }) }))
  await soon(owner.start())
  for (let i = 0; i < 6; i++) {
    await pass(1_000)
    await soon(owner.readEnd())
  }
  expect(damageOf(owner)).toEqual(['gap 3-9'])
  expect(owner.isCaughtUp).toBe(true)
})

test('OWNER-2: a log found to be rewound is not applied, and its owner silent, until it is known where it still agrees', async () => {
  await append(markSubject(0), writer.mark(1))
  for (let i = 1; i <= 4; i++) await appendSample('a', i)
  const other = createMemoryHub({ clock, random: seededRandom(2) }).connect('rewound')
  await soon(other.logs.ensure(logConfig(0, { bytesMax: 1 << 20, replicas: 1 })))
  let current = bus
  const told: ((error: Error) => void)[] = []
  const view = lying({
    state: async (log) => ({ ...(await current.logs.state(log)), incarnation: 'same' }),
    get: (log, seq, timeoutMs) => current.logs.get(log, seq, timeoutMs),
    consume(log, from, onMessage, onError) {
      told.push(onError)
      return current.logs.consume(log, from, onMessage, onError)
    },
  })
  const owner = ownerOn(view)
  await soon(owner.start())
  await pass(2_000)
  expect(owner.isCaughtUp).toBe(true)
  for (const seq of [1, 2, 3]) {
    const message = await soon(bus.logs.get(logName(0), seq, 1_000))
    await soon(other.logs.append(logName(0), message!.subject, message!.payload, { timeoutMs: 1_000 }))
  }
  for (const name of ['b', 'c', 'd', 'e']) {
    const payload = writer.batch([[name, 9, 9]]).seal()
    await soon(other.logs.append(logName(0), batchSubject(0), payload, { timeoutMs: 1_000 }))
  }
  current = other
  told[0]!(new CorruptError('log-rewound', 'ends before what was delivered'))
  expect(owner.isCaughtUp).toBe(false)
  await soon(owner.readEnd())
  await pass(2_000)
  await soon(owner.readEnd())
  expect(damageOf(owner)).toEqual(['rewind 4-5'])
  expect(owner.isCaughtUp).toBe(true)
  const names = owner.state.heads.get(TENANT)!.labelValues('__name__', [], { startMs: 0, endMs: 99 })
  expect(names).toEqual(['a', 'b', 'c', 'd', 'e'])
})

test('OWNER-2: a log that ends before a batch known to be stored is a rewind', async () => {
  await append(markSubject(0), writer.mark(1))
  await appendSample('a', 1)
  const { incarnation } = await soon(bus.logs.state(logName(0)))
  await soon(
    bucket.put(
      keyFor(highWaterRecord, { partition: 0, distributor: 'distributor-1' }),
      highWaterRecord.format.encode({ session: 's', counter: 9, seq: 12, epoch: 1, incarnation }),
    ),
  )
  const owner = ownerOn(bus)
  await soon(owner.start())
  await pass(2_000)
  expect(damageOf(owner)).toEqual(['rewind 3-12'])
})

test('OWNER-2: an owner that comes back finds a log shorter than its checkpoint, or another message at it', async () => {
  await append(markSubject(0), writer.mark(1))
  await appendSample('a', 1)
  const before = ownerOn(bus)
  await soon(before.start())
  await pass(2_000)
  await soon(before.saveCheckpoint())
  await soon(before.stop())
  const changed = lying({
    consume: (log, from, onMessage, onError) => {
      const replaced = writer.batch([['z', 1, 1]]).seal()
      return bus.logs.consume(
        log,
        from,
        (message) => onMessage(message.seq === 2 ? { ...message, payload: replaced } : message),
        onError,
      )
    },
  })
  const owner = ownerOn(changed)
  await soon(owner.start())
  await pass(2_000)
  expect(damageOf(owner)).toContain('rewind 2-2')
})

test('LOG-10: what a gap swallowed, a mark and a dictionary among it, is filled from another owner, segment by segment', async () => {
  await append(markSubject(0), writer.mark(1))
  await appendSample('a', 1)
  await append(markSubject(0), writer.mark(2))
  const lost = writer.batch([
    ['b', 2, 2],
    ['d', 2, 2, 1],
  ])
  await append(batchSubject(0), lost.seal())
  writer.session!.markStored(lost, 4)
  await append(
    batchSubject(0),
    writer
      .batch([
        ['b', 3, 3],
        ['c', 3, 3],
      ])
      .seal(),
  )
  const whole = ownerOn(bus)
  await soon(whole.start())
  const other = hub.connect('other')
  const serves = [serveStream(fill, (asked) => fillFrames(whole, wholeStrings, asked.segment), { id: 'i2' })]
  const actor = { name: 'other', serves, hears: [], every: [], start: async () => {}, stop: async () => {} }
  await soon(runActor(actor, { bus: other, clock, random: seededRandom(4), log: silentLog }).ready)

  const owner = ownerOn(
    lying({
      consume: (log, from, onMessage, onError) =>
        bus.logs.consume(
          log,
          from,
          (message) => (message.seq === 3 || message.seq === 4 ? undefined : onMessage(message)),
          onError,
        ),
    }),
  )
  await soon(owner.start())
  await pass(1_000)
  expect(damageOf(owner)).toEqual(['gap 3-4', 'unknown-epoch 5-5', 'bad-reference 5-5', 'undefined-id 5-5'])
  expect(owner.damages.map(({ segment }) => segment)).toEqual([1, 2, 2, 2])
  await soon(new Filler(owner).fill(fillingFrom('i2')))
  expect(owner.damages.map(({ state }) => state)).toEqual(['filled', 'filled', 'filled', 'filled'])
  expect(owner.state.segments().map((segment) => owner.state.digest(segment))).toEqual(
    whole.state.segments().map((segment) => whole.state.digest(segment)),
  )
  await appendSample('b', 4)
  await pass(1_000)
  expect(owner.damages, 'the dictionary came along').toHaveLength(4)
  expect(owner.state.digest(2)).toBe(whole.state.digest(2))
})

/** As deletions of the manifest do that stand there. */
function hideBefore(owner: Owner, seq: number): void {
  const selectors = [[{ name: '__name__', operator: '=' as const, value: 'a' }]]
  const place = { incarnation: owner.incarnation, segment: 1, seq }
  const head = owner.state.heads.get(TENANT)!
  head.hide(seq, () => [{ id: 'd', selectors, startMs: 0, endMs: 1000, place }])
}

test('DELETE-7: samples on both sides of a fence that a gap swallowed, or that cannot be read, are told apart', async () => {
  const fence = encodeDelete({ id: 'd', tenant: TENANT, kind: 'series', selectors: [[]], startMs: 0, endMs: 100 })
  await append(markSubject(0), writer.mark(1))
  await appendSample('a', 1)
  expect((await append(deleteSubject(0, 'd'), fence)).seq).toBe(3)
  await appendSample('a', 2)
  await appendSample('a', 3)
  expect((await append(deleteSubject(0, 'e'), Buffer.from('junk'))).seq).toBe(6)
  await appendSample('a', 4)
  const whole = ownerOn(bus)
  await soon(whole.start())
  const other = hub.connect('other')
  const serves = [serveStream(fill, (asked) => fillFrames(whole, wholeStrings, asked.segment), { id: 'i2' })]
  const actor = { name: 'other', serves, hears: [], every: [], start: async () => {}, stop: async () => {} }
  await soon(runActor(actor, { bus: other, clock, random: seededRandom(4), log: silentLog }).ready)
  const hidden = (message: LogMessage) => message.seq === 3 || message.seq === 4
  const owner = ownerOn(
    lying({
      consume: (log, from, onMessage, onError) =>
        bus.logs.consume(log, from, (message) => (hidden(message) ? undefined : onMessage(message)), onError),
    }),
  )
  await soon(owner.start())
  await pass(1_000)
  hideBefore(owner, 3)
  expect(shownBy(owner)).toEqual([3, 4])
  await soon(new Filler(owner).fill(fillingFrom('i2')))
  for (const each of [owner, whole]) {
    hideBefore(each, 3)
    expect(shownBy(each), 'before the fence').toEqual([2, 3, 4])
    hideBefore(each, 6)
    expect(shownBy(each), 'before the one that cannot be read').toEqual([4])
    expect(each.damages.filter(({ state }) => state !== 'filled')).toEqual([])
  }
})

test('DELETE-7: what comes after another owner has given what lies behind it does not go behind a fence', async () => {
  await append(markSubject(0), writer.mark(1))
  await appendSample('a', 1)
  await appendSample('a', 2)
  await appendSample('a', 3)
  await append(deleteSubject(0, 'd'), Buffer.from('junk'))
  await appendSample('a', 4)
  const whole = ownerOn(bus)
  await soon(whole.start())
  const other = hub.connect('other')
  const serves = [serveStream(fill, (asked) => fillFrames(whole, wholeStrings, asked.segment), { id: 'i2' })]
  const actor = { name: 'other', serves, hears: [], every: [], start: async () => {}, stop: async () => {} }
  await soon(runActor(actor, { bus: other, clock, random: seededRandom(4), log: silentLog }).ready)
  let mayGoOn = () => {}
  const behind = new Promise<void>((resolve) => {
    mayGoOn = resolve
  })
  const owner = ownerOn(
    lying({
      consume: (log, from, onMessage, onError) =>
        bus.logs.consume(
          log,
          from,
          async (message) => {
            if (message.seq === 2) return // lost here
            if (message.seq > 3) await behind
            await onMessage(message)
          },
          onError,
        ),
    }),
  )
  await soon(owner.start())
  await pass(500)
  await soon(new Filler(owner).fill(fillingFrom('i2')))
  mayGoOn()
  await pass(1_000)
  hideBefore(owner, 5)
  expect(shownBy(owner)).toEqual([4])
})

/** The times of the samples of `a` that an owner shows. */
function shownBy(owner: Owner): number[] {
  const columns = new SampleColumns()
  const range = { startMs: 0, endMs: 1000 }
  const head = owner.state.heads.get(TENANT)!
  for (const ref of head.select([{ name: '__name__', operator: '=', value: 'a' }], range)) {
    head.readInto(ref, range, columns)
  }
  return [...columns.times.subarray(0, columns.count)]
}

test('OWNER-3: an owner that cannot read the end of its log stops answering', async () => {
  await append(markSubject(0), writer.mark(1))
  const owner = ownerOn(bus)
  await soon(owner.start())
  await pass(500)
  expect(owner.isCaughtUp).toBe(true)
  await pass(config.staleAfterMs + 1)
  expect(owner.isCaughtUp).toBe(false)
  const waiting = owner.waitFor(0, 200, new AbortController().signal)
  await expect(soon(waiting)).rejects.toMatchObject({ code: 'err-carillon-owner-behind' })
})

test('LOG-8: a leader opens segments in order, never sooner than segment-min, and knows its own mark after a lost answer', async () => {
  const random = seededRandom(3)
  const metrics = ownerMetrics(createMetrics())
  const owner = ownerOn(bus)
  await soon(owner.start())
  await pass(100)
  const lead = () =>
    soon(leadPartition(owner, { bus, bucket, clock, random, log: silentLog, config, metrics, id: 'i1' }))
  await lead()
  await pass(100)
  expect(owner.state.mark?.number).toBe(1)
  owner.state.segmentBytes = config.segmentBytesMax
  await lead()
  await pass(100)
  expect(owner.state.mark?.number, 'sooner than segment-min').toBe(1)
  await pass(config.segmentMinMs)
  await soon(owner.readEnd())
  hub.faults.storeButLoseAck = 1
  await lead()
  hub.faults.storeButLoseAck = 0
  await pass(100)
  expect(owner.state.mark?.number).toBe(2)
  expect(Buffer.from((await soon(bucket.get('mark.0')))!.value!).toString(), 'the winner was itself').toBe('2')
})
