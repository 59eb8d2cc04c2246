// DELETE-1 to DELETE-6, DELETE-12: a deletion that is cut short between any two steps hides nothing until whoever finds it has placed it; only one of taking back
// and removing wins.
import { afterEach, describe, expect, test } from 'vitest'
import { withReplacement, withSettled } from '../../../services/compactor/merge/manifest-changes.ts'
import { Deletions } from '../../../services/compactor/retire/deletions.ts'
import { type Clock, systemClock } from '../../../shared/base/clock.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { DELETES_MAX, hidersOf, withPositions } from '../../../shared/blocks/delete-rules.ts'
import { leaveOut } from '../../../shared/blocks/left-out.ts'
import { openBlocks } from '../../../shared/blocks/open.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import { createMemoryHub, type MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import type { BlockEntry, DeleteEntry } from '../../../shared/contracts/blocks.ts'
import { deleteSubject, type RemoveRequest } from '../../../shared/contracts/deletes.ts'
import { encodeMark, LOG_BUCKET, logConfig, logName, markRecord, markSubject } from '../../../shared/contracts/log.ts'
import { KnownEnds } from '../../../shared/kv/known-ends.ts'
import { readRecord } from '../../../shared/kv/read-records.ts'
import { isBefore } from '../../../shared/model/place.ts'
import { memoryObjects } from '../../../shared/objects/memory-objects.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'

const PARTITIONS = 3
const UNDO_MS = 3_600_000
const APPEND = { timeoutMs: 1_000 }
const asked: RemoveRequest = {
  ...{ tenant: 'acme', id: 'd1', kind: 'series', startMs: 0, endMs: 1000, askedBy: 'test', asOf: 0 },
  selectors: [[{ name: '__name__', operator: '=', value: 'a' }]],
}
const counts = { seriesCount: 1, sampleCount: 7, chunkCount: 1, bytes: 1, metaSha256: 'x', resolutionMs: 0 }
const block: BlockEntry = {
  ...{ ulid: '01HF7YAT00AAAAAAAAAAAAAAAA', minTime: 0, maxTime: 1000, ...counts },
  origin: { kind: 'flush', partition: 0, segment: 1, incarnation: 'x', cut: 1 },
}

interface Compactor {
  /** It dies before its n-th operation, or behind it: that one is done then, and nobody knows. */
  readonly death?: { at: number; isBehind: boolean }
  /** How far its clocks are ahead. */
  readonly aheadMs?: () => number
  readonly isConfirmed?: () => boolean
  readonly partitions?: () => number
}

class Ground {
  private deleterCount = 0
  hub!: MemoryHub
  blocks!: Blocks
  bus!: Bus

  async open({ hasMarks = true } = {}): Promise<this> {
    this.hub = createMemoryHub({ clock: systemClock, random: seededRandom(1) })
    this.bus = this.hub.connect('compactor')
    for (let partition = 0; partition < PARTITIONS; partition++) {
      await this.bus.logs.ensure(logConfig(partition, { bytesMax: 1 << 20, replicas: 1 }))
      if (hasMarks) await this.mark(partition, 1)
    }
    const world = { clock: systemClock, random: seededRandom(2), log: silentLog }
    this.blocks = await openBlocks({ bus: this.bus, objects: memoryObjects(), ...world })
    return this
  }

  async mark(partition: number, number: number, since?: number): Promise<void> {
    const mark = encodeMark({ number, writer: 'test', nonce: `n${number}`, ...(since !== undefined && { since }) })
    await this.bus.logs.append(logName(partition), markSubject(partition), mark, APPEND)
  }

  deletions({ death, aheadMs = () => 0, isConfirmed = () => true, partitions }: Compactor = {}): Deletions {
    let operations = 0
    const mortal =
      <Args extends unknown[], Result>(work: (...args: Args) => Promise<Result>) =>
      async (...args: Args): Promise<Result> => {
        const isLast = death !== undefined && ++operations >= death.at
        if (isLast && !death.isBehind) throw new Error('dead')
        const result = await work(...args)
        if (isLast) throw new Error('dead')
        return result
      }
    const { logs } = this.bus
    const bus: Bus = Object.assign(Object.create(this.bus) as Bus, {
      logs: Object.assign(Object.create(logs) as Bus['logs'], {
        append: mortal(logs.append.bind(logs)),
        lastPerSubject: mortal(logs.lastPerSubject.bind(logs)),
      }),
    })
    const blocks = Object.assign(Object.create(this.blocks) as Blocks, {
      update: mortal(this.blocks.update.bind(this.blocks)),
    })
    const clock: Clock = {
      ...systemClock,
      now: () => systemClock.now() + aheadMs(),
      monotonic: () => systemClock.monotonic() + aheadMs(),
    }
    const confirm = async () => {
      if (!isConfirmed()) throw new UnavailableError('err-carillon-ring-unconfirmed', 'cut off')
    }
    return new Deletions({
      ...{ bus, clock, log: silentLog, blocks: () => blocks, config: { undoMs: UNDO_MS } },
      random: seededRandom(++this.deleterCount),
      ends: new KnownEnds({ bus: this.bus, clock, log: silentLog, id: `deleter-${this.deleterCount}` }),
      membership: { partitionCount: partitions ?? (() => PARTITIONS), confirm, isConfirmed },
      onCleaned: () => {},
    })
  }

  async subjectsIn(partition: number): Promise<string[]> {
    const { lastSeq } = await this.bus.logs.state(logName(partition))
    const found: string[] = []
    for (let seq = 1; seq <= lastSeq; seq++) {
      found.push((await this.bus.logs.get(logName(partition), seq, 1_000))!.subject)
    }
    return found
  }

  entry(id = 'd1'): DeleteEntry | undefined {
    return this.blocks.manifest('acme')?.manifest.deletes.find((entry) => entry.id === id)
  }

  async settle(nowMs: number, flushed: number): Promise<void> {
    await this.blocks.update('acme', (manifest) => withSettled(manifest, { nowMs, flushed: () => flushed }))
  }
}

let ground: Ground
afterEach(() => {
  leaveOut([])
  ground.blocks.close()
})

/** As DELETE-5 finds them: seen once, and again when they have been placing for long. */
async function completed(of: Ground): Promise<void> {
  let aheadMs = 0
  const finder = of.deletions({ aheadMs: () => aheadMs })
  await finder.completeAbandoned()
  aheadMs = 61_000
  await finder.completeAbandoned()
}

describe('asking and placing', () => {
  test('PLACING-1, PLACING-2, DELETE-5: a deletion that was cut short anywhere hides nothing until whoever finds it has placed it', async () => {
    // The entry; a fence and its place in each partition; the positions.
    for (let at = 1; at <= 2 * PARTITIONS + 2; at++) {
      for (const isBehind of [false, true]) {
        const where = `${isBehind ? 'behind' : 'before'} operation ${at}`
        ground = await new Ground().open()
        await ground.blocks.update('acme', (manifest) => ({ ...manifest, blocks: [block] }))
        await expect(ground.deletions({ death: { at, isBehind } }).remove(asked), where).rejects.toThrow('dead')
        await ground.blocks.refresh(5_000)
        const isDone = at === 2 * PARTITIONS + 2 && isBehind
        const isBegun = at > 1 || isBehind
        expect(ground.entry()?.state, where).toBe(isDone ? 'active' : isBegun ? 'placing' : undefined)
        const hidden = hidersOf(ground.blocks.manifest('acme')!.manifest.deletes, block.ulid)
        expect(hidden.length, where).toBe(isDone ? 1 : 0)
        await completed(ground)
        await ground.blocks.refresh(5_000)
        if (isBegun) expect(ground.entry(), where).toMatchObject({ state: 'active', blocks: [block.ulid] })
        for (const place of Object.values(ground.entry()?.positions ?? {}))
          expect(place, where).toMatchObject({ segment: 1, incarnation: expect.stringContaining('log-') })
        if (isBegun) expect(await ground.deletions().remove(asked), 'asked again').toMatchObject({ position: [] })
        ground.blocks.close()
      }
    }
  })

  test('DELETE-3: a deletion of a log without a mark is in force once there is one, and lies behind it', async () => {
    ground = await new Ground().open({ hasMarks: false })
    const pending = ground.deletions().remove(asked)
    for (let partition = 1; partition < PARTITIONS; partition++) await ground.mark(partition, 4)
    await expect(pending).rejects.toMatchObject({ code: 'err-carillon-delete-pending' })
    await ground.blocks.refresh(5_000)
    expect(ground.entry()).toMatchObject({
      state: 'placing',
      positions: { 0: null, 1: { segment: 4 }, 2: { segment: 4 } },
    })
    await ground.mark(0, 7)
    await ground.bus.logs.append(logName(0), 'log.0.batch', Buffer.from('x'), APPEND)
    const { entry, position } = await ground.deletions().remove(asked)
    expect(entry).toMatchObject({ state: 'active', positions: { 0: { segment: 7 } } })
    const subjects = await ground.subjectsIn(0)
    const at = entry.positions[0]!.seq
    expect([subjects[at - 1], at > subjects.indexOf('log.0.batch') + 1]).toEqual([deleteSubject(0, 'd1'), true])
    expect(position).toEqual([{ partition: 0, incarnation: entry.positions[0]!.incarnation, seq: at }])
  })

  test('a log that is nearly full takes no fence: what is left is for what lets it be purged', async () => {
    ground = await new Ground().open()
    const batch = new Uint8Array(100_000)
    for (let i = 0; i < 9; i++) await ground.bus.logs.append(logName(0), 'log.0.batch', batch, APPEND)
    await ground.bus.logs.append(logName(0), 'log.0.batch', batch.subarray(50_000), APPEND)
    const { lastSeq } = await ground.bus.logs.state(logName(0))
    await expect(ground.deletions().remove(asked)).rejects.toMatchObject({ code: 'err-carillon-delete-pending' })
    expect((await ground.bus.logs.state(logName(0))).lastSeq).toBe(lastSeq)
    await ground.bus.logs.purge(logName(0), lastSeq, 1_000)
    await ground.mark(0, 2)
    expect((await ground.deletions().remove(asked)).entry.state).toBe('active')
  })

  test('DELETE-3: a replica that is behind, and a lost answer, only cost another fence', async () => {
    ground = await new Ground().open()
    Object.assign(ground.hub.faults, { staleRead: 0.3, staleBehindMax: 3, storeButLoseAck: 0.1 })
    let entry: DeleteEntry | undefined
    for (let attempt = 0; entry === undefined; attempt++) {
      expect(attempt).toBeLessThan(20)
      entry = await ground
        .deletions()
        .remove(asked)
        .then(
          (reply) => reply.entry,
          (error) => void expect(error).toBeInstanceOf(UnavailableError),
        )
    }
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const subjects = await ground.subjectsIn(partition)
      expect(subjects[entry.positions[partition]!.seq - 1]).toBe(deleteSubject(partition, 'd1'))
    }
  }, 60_000)

  describe('DELETE-3: in a log that has lost its end and gives its sequences again', () => {
    const cut = async () => {
      ground = await new Ground().open()
      for (let i = 0; i < 30; i++) await ground.bus.logs.append(logName(0), 'log.0.batch', Buffer.from('x'), APPEND)
      await ground.deletions().remove(asked)
      ground.hub.log(logName(0))!.cutTail(2)
    }
    const again = async () => {
      const { version: asOf } = await ground.deletions().list({ tenant: 'acme', isBrief: true })
      return ground.deletions().remove({ ...asked, id: 'd2', asOf })
    }

    test('no deletion is placed before the next mark says so; then what stood there before is taken', async () => {
      await cut()
      await expect(again()).rejects.toMatchObject({ code: 'err-carillon-delete-pending' })
      await ground.mark(0, 2, 2)
      const { entry } = await again()
      expect(entry.positions[0]).toMatchObject({ segment: 2, since: 2 })
      const before = ground.entry()!.positions[0]!
      expect(before.seq).toBeGreaterThan(entry.positions[0]!.seq)
      expect([isBefore(before, entry.positions[0]!), isBefore(entry.positions[0]!, before)]).toEqual([true, false])
    })

    test('the number of the mark before a fence is remembered: none below it is given again', async () => {
      await cut()
      const bucket = await ground.bus.bucket(LOG_BUCKET)
      const kept = await readRecord({ bucket }, markRecord, { partition: 0 })
      expect(kept).toMatchObject({ kind: 'value', value: 1 })
      await bucket.put('mark.0', markRecord.format.encode(3))
      await ground.mark(0, 2, 2)
      await expect(again()).rejects.toMatchObject({ code: 'err-carillon-delete-pending' })
    })
  })

  test('DELETE-4: a position in a segment that is listed already is not taken', async () => {
    ground = await new Ground().open()
    await ground.blocks.update('acme', (manifest) => ({ ...manifest, flushed: { 1: 1 } }))
    await expect(ground.deletions().remove(asked)).rejects.toMatchObject({ code: 'err-carillon-delete-pending' })
    await ground.mark(1, 2)
    const { entry } = await ground.deletions().remove(asked)
    expect(entry).toMatchObject({ positions: { 0: { segment: 1 }, 1: { segment: 2 } } })
  })

  test('DELETE-1: without a confirmed ring nothing is deleted; what was added by then is named', async () => {
    ground = await new Ground().open()
    const cutOff = ground.deletions({ isConfirmed: () => false })
    await expect(cutOff.remove(asked)).rejects.toMatchObject({ code: 'err-carillon-ring-unconfirmed' })
    expect(ground.blocks.manifest('acme')).toBeUndefined()
    let isConfirmed = true
    const late = ground.deletions({ isConfirmed: () => isConfirmed, partitions: () => (isConfirmed ? 2 : 3) })
    expect(Object.keys((await late.remove(asked)).entry.positions)).toEqual(['0', '1'])
    isConfirmed = false
    await expect(late.remove({ ...asked, id: 'd2' })).rejects.toBeInstanceOf(UnavailableError)
  })

  test('DELETE-5: how long one has been placing is measured by the own monotonic clock, not by who asked', async () => {
    ground = await new Ground().open()
    const ahead = { aheadMs: () => 365 * 86_400_000, death: { at: 3, isBehind: false } }
    await expect(ground.deletions(ahead).remove(asked)).rejects.toThrow('dead')
    await completed(ground)
    expect(ground.entry()?.state).toBe('active')
  })

  test('DELETE-6: an id is made once, whatever became of it; one that may have been forgotten is not made', async () => {
    ground = await new Ground().open()
    await ground.deletions().remove(asked)
    await ground.deletions().undo(asked)
    await expect(ground.deletions().remove(asked)).rejects.toMatchObject({ code: 'err-carillon-undone', status: 409 })
    const { manifest } = await ground.blocks.update('acme', (before) => ({
      ...{ ...before, deletes: [], historyCut: before.version + 1 },
    }))
    const old = { ...asked, asOf: manifest.version - 1 }
    await expect(ground.deletions().remove(old)).rejects.toMatchObject({ code: 'err-carillon-ask-again', status: 409 })
    await ground.blocks.refresh(5_000)
    const { version } = await ground.deletions().list({ tenant: 'acme', isBrief: true })
    expect((await ground.deletions().remove({ ...asked, asOf: version })).entry.state).toBe('active')
  })

  test('DELETE-6: one that was not answered and is asked for again takes nothing that was begun after the answer', async () => {
    ground = await new Ground().open({ hasMarks: false })
    await expect(ground.deletions().remove(asked)).rejects.toMatchObject({ code: 'err-carillon-delete-pending' })
    for (let partition = 0; partition < PARTITIONS; partition++) await ground.mark(partition, 1)
    const { version: asOf } = await ground.deletions().list({ tenant: 'acme', isBrief: true })
    await ground.deletions().remove({ ...asked, id: 'again', asOf })
    const { seq } = await ground.bus.logs.append(logName(0), 'log.0.batch', Buffer.from('x'), APPEND)
    await completed(ground)
    await ground.blocks.refresh(5_000)
    expect(ground.entry()).toMatchObject({ state: 'undone', overtakenBy: 'again' })
    expect(ground.entry('again')!.positions[0]!.seq).toBeLessThan(seq)
    expect(await ground.deletions().remove(asked), 'whoever asks with its id').toMatchObject({ entry: { id: 'again' } })
    await ground.deletions().undo({ ...asked, id: 'again' })
    await expect(ground.deletions().remove(asked)).rejects.toMatchObject({ code: 'err-carillon-undone' })
  })

  test('DELETE-6: one that is overtaken while it is being placed is answered as what is in its place', async () => {
    ground = await new Ground().open({ hasMarks: false })
    const first = ground.deletions().remove(asked)
    await expect.poll(() => ground.entry()?.state).toBe('placing')
    const { version: asOf } = await ground.deletions().list({ tenant: 'acme', isBrief: true })
    const again = ground.deletions().remove({ ...asked, id: 'again', asOf })
    await expect.poll(() => ground.entry('again')?.state).toBe('placing')
    const place = { incarnation: 'x', segment: 1, seq: 1 }
    const found = new Map(Array.from({ length: PARTITIONS }, (_, partition) => [partition, place]))
    await ground.blocks.update('acme', (before) => withPositions(before, 'again', { found, nowMs: 1, undoMs: 1 }))
    expect((await Promise.all([first, again])).map(({ entry }) => entry.id)).toEqual(['again', 'again'])
  })

  test('DELETE-6: an ask that comes late, after it was repeated and answered, is not made; nor is an id used twice', async () => {
    ground = await new Ground().open()
    const { version: asOf } = await ground.deletions().list({ tenant: 'acme', isBrief: true })
    await ground.deletions().remove({ ...asked, asOf })
    const late = ground.deletions().remove({ ...asked, id: 'late', asOf })
    await expect(late).rejects.toMatchObject({ code: 'err-carillon-asked-meanwhile', kind: 'unavailable' })
    const other = ground.deletions().remove({ ...asked, endMs: 7 })
    await expect(other).rejects.toMatchObject({ code: 'err-carillon-id-used', status: 409 })
    const { version } = await ground.deletions().list({ tenant: 'acme', isBrief: true })
    expect((await ground.deletions().remove({ ...asked, id: 'late', asOf: version })).entry.state).toBe('active')
    expect((await ground.deletions().list({ tenant: 'acme' })).deletes.map(({ id }) => id)).toEqual(['d1', 'late'])
  })

  test('a manifest takes only so many deletions', async () => {
    ground = await new Ground().open()
    await ground.deletions().remove(asked)
    const { manifest } = await ground.blocks.update('acme', (before) => {
      const [one] = before.deletes
      return { ...before, deletes: Array.from({ length: DELETES_MAX }, (_, i) => ({ ...one!, id: `n${i}` })) }
    })
    const refused = { code: 'err-carillon-too-many-deletes', status: 429 }
    await expect(ground.deletions().remove({ ...asked, id: 'more', asOf: 2 })).rejects.toMatchObject(refused)
    expect((await ground.blocks.update('acme', () => undefined)).manifest.version).toBe(manifest.version)
  })
})

describe('taking back and removing', () => {
  test('DELETE-12: taken back while it is being placed, it stays so', async () => {
    ground = await new Ground().open()
    const death = { at: 4, isBehind: true }
    await expect(ground.deletions({ death }).remove(asked)).rejects.toThrow('dead')
    expect((await ground.deletions().undo(asked)).entry).toMatchObject({ state: 'undone', blocks: [], endedBy: 'test' })
    expect((await ground.deletions().undo(asked)).entry.state, 'twice is once').toBe('undone')
    await completed(ground)
    await ground.blocks.refresh(5_000)
    expect(ground.entry()?.state).toBe('undone')
    await expect(ground.deletions().undo({ ...asked, id: 'd2' })).rejects.toMatchObject({ status: 404 })
  })

  test('DELETE-12: of two compactors whose clocks differ only one wins: nothing is taken back that is being removed', async () => {
    const removal = { sources: [block], results: [], applied: ['d1'], reason: 'deleted', isComplete: false } as const
    for (const isRemovedFirst of [true, false]) {
      ground = await new Ground().open()
      await ground.blocks.update('acme', (manifest) => ({ ...manifest, blocks: [block] }))
      await ground.deletions().remove(asked)
      const ahead = systemClock.now() + UNDO_MS + 60_000
      const rewrite = () => ground.blocks.update('acme', (now) => withReplacement(now, { ...removal, nowMs: ahead }))
      await expect(rewrite(), 'a window alone removes nothing').rejects.toMatchObject({ code: 'compaction-overtaken' })
      if (isRemovedFirst) {
        await ground.settle(ahead, 0)
        const over = { code: 'err-carillon-undo-over', status: 409 }
        await expect(ground.deletions().undo(asked)).rejects.toMatchObject(over)
        expect((await rewrite()).manifest.blocks).toEqual([])
      } else {
        const behind = ground.deletions({ aheadMs: () => 30 * 86_400_000 })
        expect((await behind.undo(asked)).entry.state).toBe('undone')
        await ground.settle(ahead, 0)
        await expect(rewrite()).rejects.toMatchObject({ code: 'compaction-overtaken' })
        expect((await ground.blocks.update('acme', () => undefined)).manifest.blocks).toEqual([block])
      }
      ground.blocks.close()
    }
  })

  test('clean ends the windows of all that are in force', async () => {
    ground = await new Ground().open()
    await ground.deletions().remove(asked)
    await ground.deletions().remove({ ...asked, id: 'd2', asOf: 2 })
    await ground.deletions().undo({ ...asked, id: 'd2' })
    expect(await ground.deletions().clean(asked)).toEqual({ endedCount: 1 })
    await expect(ground.deletions().undo(asked)).rejects.toMatchObject({ code: 'err-carillon-undo-over' })
    await ground.blocks.refresh(5_000)
    const { deletes } = await ground.deletions().list(asked)
    expect(deletes.map(({ id, state, askedBy }) => [id, state, askedBy])).toEqual([
      ['d1', 'removing', 'test'],
      ['d2', 'undone', 'test'],
    ])
  })
})

describe('each part of the rules is needed: left out, what it prevents comes about', () => {
  const removeOne = () => ground.deletions().remove(asked)

  test('DELETE-1 ring: a view of the ring that is not confirmed misses partitions', async () => {
    ground = await new Ground().open()
    leaveOut(['ring'])
    const cutOff = ground.deletions({ isConfirmed: () => false, partitions: () => 1 })
    expect(Object.keys((await cutOff.remove(asked)).entry.positions)).toEqual(['0'])
  })

  test('DELETE-2 append: what a log says of its end is no place of the deletion', async () => {
    ground = await new Ground().open()
    leaveOut(['append'])
    const { entry } = await removeOne()
    expect((await ground.subjectsIn(0))[entry.positions[0]!.seq - 1]).toBe(markSubject(0))
  })

  test('DELETE-3 exact-mark: a replica that is behind tells an older mark', async () => {
    ground = await new Ground().open()
    for (let partition = 0; partition < PARTITIONS; partition++) await ground.mark(partition, 2)
    Object.assign(ground.hub.faults, { staleRead: 1, staleBehindMax: 2 })
    await expect(removeOne()).rejects.toMatchObject({ code: 'err-carillon-delete-pending' })
    leaveOut(['exact-mark'])
    let areOld = false
    for (let i = 3; i < 13; i++) {
      for (let partition = 0; partition < PARTITIONS; partition++) await ground.mark(partition, i)
      const { entry } = await ground.deletions().remove({ ...asked, id: `d${i}`, endMs: i })
      areOld ||= Object.values(entry.positions).some((place) => place!.segment < i)
    }
    expect(areOld).toBe(true)
  })

  test('DELETE-5 abandoned: one that nobody places waits for ever', async () => {
    ground = await new Ground().open()
    await expect(ground.deletions({ death: { at: 2, isBehind: true } }).remove(asked)).rejects.toThrow('dead')
    leaveOut(['abandoned'])
    await completed(ground)
    expect(ground.entry()?.state).toBe('placing')
  })

  test('DELETE-6 same-id: an ask that is repeated is a second deletion', async () => {
    ground = await new Ground().open()
    leaveOut(['same-id', 'asked-since'])
    await removeOne()
    await new Promise((resolve) => setTimeout(resolve, 5))
    await removeOne()
    await ground.blocks.refresh(5_000)
    expect(ground.blocks.manifest('acme')!.manifest.deletes).toHaveLength(2)
  })

  test('DELETE-12 commit: what was taken back is removed all the same', async () => {
    ground = await new Ground().open()
    await ground.blocks.update('acme', (manifest) => ({ ...manifest, blocks: [block] }))
    await removeOne()
    await ground.deletions().undo(asked)
    leaveOut(['commit'])
    const removal = { sources: [block], results: [], applied: ['d1'], reason: 'deleted', isComplete: false } as const
    const { manifest } = await ground.blocks.update('acme', (now) => withReplacement(now, { ...removal, nowMs: 0 }))
    expect(manifest.blocks).toEqual([])
  })
})
