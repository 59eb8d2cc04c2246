// Leaders and the marks that they write (LOG-8), each against a log that others write as well.
import { beforeEach, describe, expect, it } from 'vitest'
import { ingesterSettings } from '../../../services/ingester/config.ts'
import { type LeaderDeps, leadPartition } from '../../../services/ingester/leader.ts'
import { Owner } from '../../../services/ingester/log/owner.ts'
import { ownerMetrics } from '../../../services/ingester/log/owner-metrics.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { createMemoryHub, type MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { Bus, KvBucket } from '../../../shared/bus/port.ts'
import { keyFor } from '../../../shared/bus/record.ts'
import { defaultsOf } from '../../../shared/config/settings.ts'
import type { Flushed } from '../../../shared/contracts/blocks.ts'
import {
  decodeMark,
  encodeFence,
  encodeMark,
  fenceSubject,
  highWaterRecord,
  logConfig,
  logName,
  markRecord,
  markSubject,
} from '../../../shared/contracts/log.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { createMetrics } from '../../../shared/telemetry/metrics.ts'
import { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import { withDelivery, withLogs } from '../../altered-bus.ts'
import { VirtualClock } from '../../sim/virtual-clock.ts'

const config = defaultsOf(ingesterSettings, { segmentMinMs: 1_000, segmentMs: 5_000 })
let clock: VirtualClock
let hub: MemoryHub
let bus: Bus
let bucket: KvBucket

beforeEach(async () => {
  clock = new VirtualClock()
  hub = createMemoryHub({ clock, random: seededRandom(1) })
  bus = hub.connect('test')
  bucket = await soon(bus.bucket('log'))
  await soon(bus.logs.ensure(logConfig(0, { bytesMax: 1 << 20, replicas: 1 })))
})

async function soon<T>(promise: Promise<T>): Promise<T> {
  let isSettled = false
  const settled = () => {
    isSettled = true
  }
  promise.then(settled, settled)
  await clock.run(() => isSettled, clock.monotonic() + 60_000)
  return promise
}
const pass = (ms: number) => soon(new Promise<void>((resolve) => void clock.after(ms, resolve)))

interface Leader {
  readonly owner: Owner
  /** Marks that it says it has written. */
  readonly written: () => number
  lead(): Promise<void>
}

async function leader(id: string, { alter = (own: Bus) => own, flushed = undefined as Flushed | undefined } = {}) {
  const own = alter(hub.connect(id))
  let writtenCount = 0
  const counted = ownerMetrics(createMetrics())
  const metrics = { ...counted, marks: { ...counted.marks, inc: () => void writtenCount++ } as typeof counted.marks }
  const owner = new Owner({
    ...{ partition: 0, id, bus: own, bucket, clock, log: silentLog, config, metrics },
    strings: new StringTable(),
    without: new Set<string>(),
  })
  const deps: LeaderDeps = {
    ...{
      bus: own,
      bucket,
      clock,
      random: seededRandom(id.length + id.charCodeAt(1)),
      log: silentLog,
      config,
      metrics,
      id,
    },
    ...(flushed && { blocks: { flushedRecord: () => flushed } }),
  }
  const made: Leader = { owner, written: () => writtenCount, lead: () => soon(leadPartition(owner, deps)) }
  return made
}

async function started(id: string, options?: Parameters<typeof leader>[1]): Promise<Leader> {
  const made = await leader(id, options)
  await soon(made.owner.start())
  await pass(100)
  return made
}

/** The numbers of the marks that stand in the log, in order. */
async function marks(): Promise<number[]> {
  const { lastSeq } = await soon(bus.logs.state(logName(0)))
  const numbers: number[] = []
  for (let seq = 1; seq <= lastSeq; seq++) {
    const message = await soon(bus.logs.get(logName(0), seq, 1_000))
    if (message?.subject === markSubject(0)) numbers.push(decodeMark(message.payload).number)
  }
  return numbers
}

describe('LOG-7: a log that is full but for the room of marks', () => {
  const flushed: Flushed = { segment: 1, mark: { seq: 1, nonce: 'n', incarnation: 'i' }, digests: {} }
  const fill = async (share: number) => {
    const { bytes, bytesMax } = await soon(bus.logs.state(logName(0)))
    const filler = new Uint8Array(share * bytesMax - bytes)
    await soon(bus.logs.append(logName(0), fenceSubject(0), filler, { timeoutMs: 1_000 }))
  }
  const lead = async ({ lead, owner }: Leader, times: number) => {
    for (let i = 0; i < times; i++) {
      await soon(owner.readEnd())
      await lead()
      await pass(config.segmentMs * 1.2)
    }
  }

  it('is given no more marks than its purge needs, however long that cannot be', async () => {
    const leading = await started('i1', { flushed })
    await lead(leading, 1)
    await fill(0.97)
    await lead(leading, 20)
    expect(await marks()).toEqual([2, 3, 4])
  })

  it('is given marks as ever while it has room', async () => {
    const leading = await started('i1', { flushed })
    await lead(leading, 1)
    await fill(0.5)
    await lead(leading, 5)
    expect(await marks()).toEqual([2, 3, 4, 5, 6, 7])
  })
})

describe('LOG-8: the number of a mark', () => {
  it('is one above the newest, and stands in the bucket', async () => {
    const { lead, owner } = await started('i1')
    await lead()
    await pass(100)
    expect(await marks()).toEqual([1])
    expect(Buffer.from((await soon(bucket.get(keyFor(markRecord, { partition: 0 }))))!.value!).toString()).toBe('1')
    owner.wantsMark = true
    await pass(config.segmentMinMs)
    await soon(owner.readEnd())
    await lead()
    expect(await marks()).toEqual([1, 2])
  })

  it('is above one that only the bucket remembers: a log that lost its end would accept it again', async () => {
    await soon(bucket.put(keyFor(markRecord, { partition: 0 }), Buffer.from('7')))
    const { lead } = await started('i1')
    await lead()
    expect(await marks()).toEqual([8])
  })

  it('is none while what the bucket remembers is of a newer version', async () => {
    await soon(bucket.put(keyFor(markRecord, { partition: 0 }), Buffer.from('{"v":2,"number":7}')))
    const { lead } = await started('i1')
    await lead()
    expect(await marks()).toEqual([])
  })

  it('goes by the log where what the bucket remembers is junk', async () => {
    await soon(bucket.put(keyFor(markRecord, { partition: 0 }), Buffer.from('junk')))
    const { lead } = await started('i1')
    await lead()
    await pass(100)
    await lead()
    expect(await marks()).toEqual([1])
  })

  it('is above what is flushed', async () => {
    const flushed = { segment: 9, mark: { seq: 1, nonce: 'n', incarnation: 'of another log' }, digests: {} }
    const { lead } = await started('i1', { flushed })
    await lead()
    expect(await marks()).toEqual([10])
  })
})

describe('LEADER-1, LEADER-2: of two leaders', () => {
  it('that write at once one wins, and the other knows that it has not', async () => {
    const [one, two] = [await started('i1'), await started('i2')]
    await soon(Promise.all([one.lead(), two.lead()]))
    expect(await marks()).toEqual([1])
    expect(one.written() + two.written()).toBe(1)
  })

  it('the one that has not applied what the other wrote writes nothing in its place', async () => {
    const one = await started('i1')
    let stalled: Promise<void> | undefined
    const two = await started('i2', { alter: (own) => withDelivery(own, async () => stalled) })
    stalled = new Promise(() => {})
    await one.lead()
    await two.lead()
    expect(await marks()).toEqual([1])
    expect(two.written()).toBe(0)
  })

  it('one whose answer was lost reads back that it has won', async () => {
    const one = await started('i1')
    hub.faults.storeButLoseAck = 1
    await one.lead()
    hub.faults.storeButLoseAck = 0
    expect(one.written()).toBe(1)
    expect(await marks()).toEqual([1])
  })
})

describe('LEADER-5: a log that has lost its end and gives its sequences again', () => {
  const fence = (writer: string) =>
    soon(bus.logs.append(logName(0), fenceSubject(0), encodeFence({ writer, nonce: 'n' }), { timeoutMs: 1_000 }))
  const look = async ({ lead, owner }: Leader) => {
    await soon(owner.readEnd())
    await pass(100)
    await lead()
    await pass(100)
  }
  /** What each mark in the log says of it. */
  const told = async () => {
    const { lastSeq } = await soon(bus.logs.state(logName(0)))
    const messages = await soon(
      Promise.all(Array.from({ length: lastSeq }, (_, i) => bus.logs.get(logName(0), i + 1, 1_000))),
    )
    const found = messages.filter((message) => message?.subject === markSubject(0))
    return found.map((message) => decodeMark(message!.payload)).map(({ number, since }) => [number, since])
  }
  /** Mark 1 and three messages behind it. */
  async function withThree(): Promise<Leader> {
    const leading = await started('i1')
    await look(leading)
    for (const writer of ['a', 'b', 'c']) await fence(writer)
    await look(leading)
    return leading
  }

  it('is given the next mark at once, though it has kept its newest one, and all marks say so from then on', async () => {
    const leading = await withThree()
    hub.log(logName(0))!.cutTail(2)
    for (let i = 0; i < 3; i++) await look(leading)
    expect(await told()).toEqual([
      [1, undefined],
      [2, 2],
    ])
    leading.owner.wantsMark = true
    await pass(config.segmentMinMs)
    await look(leading)
    expect((await told()).at(-1)).toEqual([3, 2])
  })

  it('so it is where its place was filled with as many other messages by then', async () => {
    const leading = await withThree()
    hub.log(logName(0))!.cutTail(2)
    for (const writer of ['d', 'e', 'f']) await fence(writer)
    for (let i = 0; i < 3; i++) await look(leading)
    expect((await told()).at(-1)).toEqual([2, 2])
  })

  it('so it is by whoever begins to lead it then, when others knew what stood there; once', async () => {
    const before = await withThree()
    const { incarnation } = before.owner
    await soon(before.owner.stop())
    const row = { session: 's', counter: 1, seq: 4, epoch: 1, incarnation }
    await soon(
      bucket.put(keyFor(highWaterRecord, { partition: 0, distributor: 'd1' }), highWaterRecord.format.encode(row)),
    )
    hub.log(logName(0))!.cutTail(2)
    for (const id of ['i2', 'i3']) {
      const leading = await started(id)
      for (let i = 0; i < 3; i++) await look(leading)
      await soon(leading.owner.stop())
      await pass(config.segmentMinMs)
    }
    expect(await told()).toEqual([
      [1, undefined],
      [2, 2],
    ])
  })
})

describe('LEADER-3: a log whose newest mark is not the one that was applied', () => {
  const look = async ({ lead, owner }: Leader) => {
    await pass(100)
    await soon(owner.readEnd())
    await lead()
    await pass(100)
  }

  /** Marks 1 to 3, the last of them a moment ago. */
  async function withThree(alter?: (own: Bus) => Bus): Promise<Leader> {
    const leading = await started('i1', alter && { alter })
    for (let i = 0; i < 3; i++) {
      if (i > 0) await pass(config.segmentMinMs)
      leading.owner.wantsMark = true
      await look(leading)
    }
    expect(await marks()).toEqual([1, 2, 3])
    return leading
  }

  it.each([{ lost: [2, 3] }, { lost: [1, 2, 3] }])(
    'because it lost $lost is given the next at once',
    async ({ lost }) => {
      const leading = await withThree()
      for (const seq of lost) hub.log(logName(0))!.lose(seq)
      for (let i = 0; i < 3; i++) await look(leading)
      expect((await marks()).filter((number) => number > 1)).toEqual([4])
      expect(leading.owner.state.segment).toBe(4)
    },
  )

  it('is given one mark after the other, but not as fast as it loses them', async () => {
    const leading = await withThree()
    let count = 0
    for (let i = 0; i < 25; i++) {
      const { lastSeq } = await soon(bus.logs.state(logName(0)))
      if (hub.log(logName(0))!.get(lastSeq) !== undefined) count++
      hub.log(logName(0))!.lose(lastSeq)
      await look(leading)
    }
    expect(count).toBeGreaterThan(2)
    expect(count).toBeLessThan(8)
  })

  it('because it did not deliver one is given the next, above it', async () => {
    let isHidden = false
    const hides = (own: Bus) =>
      withLogs(own, (logs) => ({
        consume: (log, from, onMessage, onError) =>
          logs.consume(log, from, async (message) => (isHidden ? undefined : onMessage(message)), onError),
      }))
    const leading = await withThree(hides)
    isHidden = true
    await pass(config.segmentMinMs)
    const payload = encodeMark({ number: 4, writer: 'i2', nonce: 'of another' })
    await soon(bus.logs.append(logName(0), markSubject(0), payload, { timeoutMs: 1_000 }))
    await pass(100)
    isHidden = false
    await soon(bus.logs.append(logName(0), fenceSubject(0), new Uint8Array(1), { timeoutMs: 1_000 }))
    await look(leading)
    await look(leading)
    expect(await marks()).toEqual([1, 2, 3, 4, 5])
    expect(leading.owner.state.segment).toBe(5)
  })

  it('because a server is behind that is asked is as it is', async () => {
    let isBehind = false
    const behind = (own: Bus) =>
      withLogs(own, (logs) => ({
        lastPerSubject: async (name, subjects, timeoutMs) => {
          if (!isBehind) return logs.lastPerSubject(name, subjects, timeoutMs)
          return { messages: hub.log(name)!.lastPerSubject(subjects, 2), upToSeq: 2 }
        },
      }))
    const leading = await withThree(behind)
    isBehind = true
    for (let i = 0; i < 3; i++) await look(leading)
    expect(await marks()).toEqual([1, 2, 3])
    expect(leading.owner.state.markSubjectSeq).toBe(3)
  })
})

describe('LEADER-4: the bucket remembers', () => {
  it('all marks but the newest, when the next is written, whoever wrote them', async () => {
    const key = keyFor(markRecord, { partition: 0 })
    const [one, two] = [await started('i1'), await started('i2')]
    await one.lead()
    await soon(bucket.delete(key)) // as if the one had died before
    await pass(config.segmentMinMs)
    await soon(two.owner.readEnd())
    two.owner.wantsMark = true
    hub.faults.onAppend = () => 'drop-before-store'
    await two.lead().catch(() => {})
    expect(Buffer.from((await soon(bucket.get(key)))!.value!).toString()).toBe('1')
  })
})

describe('LEADER-1: a leader waits', () => {
  it('until it has caught up', async () => {
    const { lead } = await leader('i1')
    await lead()
    expect(await marks()).toEqual([])
  })

  it('for segment-min since it saw the last mark, whatever is asked of it', async () => {
    const { lead, owner } = await started('i1')
    await lead()
    await pass(100)
    owner.wantsMark = true
    owner.state.segmentBytes = config.segmentBytesMax
    const ageMs = () => clock.monotonic() - owner.markSeenMs
    let tries = 0
    while (ageMs() < config.segmentMinMs) {
      await lead()
      if (ageMs() < config.segmentMinMs) expect(await marks(), `${ageMs()} ms after the last`).toEqual([1])
      tries++
      await pass(100)
      await soon(owner.readEnd())
    }
    expect(tries).toBeGreaterThan(0)
    await lead()
    expect(await marks()).toEqual([1, 2])
  })

  it('but answers what is no mark with a mark at once: nothing is acknowledged until then', async () => {
    const { lead, owner } = await started('i1')
    await lead()
    await pass(100)
    await soon(bus.logs.append(logName(0), markSubject(0), Buffer.from('junk'), { timeoutMs: 1_000 }))
    await pass(100)
    await soon(owner.readEnd())
    await lead()
    const { lastSeq } = await soon(bus.logs.state(logName(0)))
    const newest = (await soon(bus.logs.get(logName(0), lastSeq, 1_000)))!
    expect(decodeMark(newest.payload).number).toBe(2)
  })
})
