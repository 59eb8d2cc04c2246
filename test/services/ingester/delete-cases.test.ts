// Deletions whose fences are lost, unreadable, too early or written again; owners that come late with more; tenants that are gone. What is hidden
// follows from the manifest alone, so none of it hides or shows anything (DELETE-3, DELETE-7 to DELETE-9, DELETE-11, DELETE-15).
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { withReplacement, withSettled } from '../../../services/compactor/merge/manifest-changes.ts'
import { hidersOf, isFinal } from '../../../shared/blocks/delete-rules.ts'
import { leaveOut } from '../../../shared/blocks/left-out.ts'
import { ask, askStream } from '../../../shared/bus/ask.ts'
import type { LogMessage } from '../../../shared/bus/port.ts'
import type { DeleteEntry, Manifest } from '../../../shared/contracts/blocks.ts'
import { deleteSubject, encodeDelete, type RemoveRequest } from '../../../shared/contracts/deletes.ts'
import { batchSubject } from '../../../shared/contracts/log.ts'
import { exemplars, metadata, select } from '../../../shared/contracts/read.ts'
import { FlushGround, HOUR_MS } from './flush-ground.ts'
import { TENANT } from './log-writer.ts'

const START_MS = 1_700_000_000_000 - (1_700_000_000_000 % (2 * HOUR_MS))
const everything: RemoveRequest = {
  ...{ tenant: TENANT, id: 'd', kind: 'series', startMs: 0, endMs: 8e15, askedBy: 'test', asOf: 0 },
  selectors: [[{ name: '__name__', operator: '=', value: 'a' }]],
}
let ground: FlushGround
let asker = 0

beforeEach(async () => {
  ground = new FlushGround()
  await ground.open()
})
afterEach(() => {
  leaveOut([])
  ground.close()
})

const manifest = (): Manifest => ground.manifest(TENANT)!
const entry = (): DeleteEntry => manifest().deletes.find(({ id }) => id === 'd')!
const update = (change: Parameters<FlushGround['blocks']['update']>[1]) =>
  ground.soon(ground.blocks.update(TENANT, change))
const shownInBlocks = () => manifest().blocks.filter(({ ulid }) => hidersOf(manifest().deletes, ulid).length === 0)
const countOf = (blocks: Manifest['blocks']) => blocks.reduce((sum, { sampleCount }) => sum + sampleCount, 0)

/** Marks 2 to 5, each behind a sample that was written after the deletion. */
async function goOn(): Promise<void> {
  for (const number of [2, 3, 4, 5]) {
    await ground.batch([['a', START_MS + number * 1000, number]])
    await ground.mark(number)
  }
  await ground.until(() => ground.blocks.flushed(0) === 4, 'the flushes')
  await ground.pass(3_000)
}

/** What compactors do when the window is over, to its end. */
async function removed(): Promise<void> {
  const looker = { nowMs: ground.clock.now() + 100 * HOUR_MS, flushed: (p: number) => ground.blocks.flushed(p) }
  await update((now) => withSettled(now, looker))
  await update((now) => {
    const applied = now.deletes.filter(isFinal).map(({ id }) => id)
    const sources = now.blocks.filter(({ ulid }) =>
      now.deletes.some((each) => isFinal(each) && each.blocks.includes(ulid)),
    )
    if (sources.length === 0) return undefined
    return withReplacement(now, {
      sources,
      results: [],
      applied,
      reason: 'deleted',
      isComplete: false,
      nowMs: looker.nowMs,
    })
  })
  await update((now) => withSettled(now, looker))
  await ground.pass(1_000)
}

/** How many samples of `a` an owner shows, that no block holds. */
async function shownBy(id: string, manifestVersion = manifest()?.version ?? 0): Promise<number> {
  const watermark = ground.blocks.watermark(TENANT, 0)
  const asked = { partition: 0, tenant: TENANT, watermark, manifestVersion, minSeq: 0, incarnation: '', waitMs: 1_000 }
  const wanted = { ...asked, matchers: [], startMs: 0, endMs: 9e15, mode: 'all' as const, seriesMax: 100 }
  const bus = ground.hub.connect(`asker-${++asker}`)
  const counted = async () => {
    let count = 0
    for await (const { chunkSamples = [] } of askStream(bus, select, { id }, wanted, {}))
      for (const samples of chunkSamples) count += samples
    return count
  }
  return ground.soon(counted())
}

describe('what is written after the answer is never hidden', () => {
  test('DELETE-3: of a log that has no mark yet, the position lies behind the first one', async () => {
    const { code } = await ground.soon(ground.deletions().remove(everything)).then(
      () => expect.unreachable('no mark'),
      (error) => error,
    )
    expect([code, entry().state]).toEqual(['err-carillon-delete-pending', 'placing'])
    await ground.mark(1)
    await ground.start('i1')
    await ground.start('i2')
    const { entry: placed } = await ground.soon(ground.deletions().remove(everything))
    expect(placed).toMatchObject({ state: 'active', positions: { 0: { segment: 1 } } })
    await goOn()
    expect([manifest().blocks.length, shownInBlocks().length]).toEqual([4, 4])
  })

  test.each(['whole', 'not delivered', 'unreadable'])('DELETE-7: when its fence is %s for all owners', async (how) => {
    const hears = (message: LogMessage) => {
      if (how === 'whole' || !message.subject.includes('.delete.')) return message
      return how === 'unreadable' ? { ...message, payload: Buffer.from('junk') } : undefined
    }
    await ground.start('i1', { hears })
    await ground.start('i2', { hears })
    await ground.mark(1)
    await ground.batch([['a', START_MS, 1]])
    await ground.pass(1_000)
    await ground.soon(ground.deletions().remove(everything))
    await ground.batch([['a', START_MS + 1, 1]])
    await ground.pass(20_000)
    for (const id of ['i1', 'i2']) expect(await shownBy(id)).toBe(1)
    await goOn()
    const hidden = manifest().blocks.filter((block) => !shownInBlocks().includes(block))
    expect(hidden).toMatchObject([{ sampleCount: 1, origin: { segment: 1 } }])
    expect(countOf(shownInBlocks())).toBe(5)
    expect(ground.blocks.flushed(0), 'nothing waits for it').toBe(4)
    await removed()
    expect([entry().state, countOf(manifest().blocks)]).toEqual(['removed', 5])
  })

  test('DELETE-7 is needed: without a cut where it may have stood, what came behind it goes with what came before', async () => {
    leaveOut(['hole-cut'])
    const hears = (message: LogMessage) => (message.subject.includes('.delete.') ? undefined : message)
    await ground.start('i1', { hears })
    await ground.mark(1)
    await ground.batch([['a', START_MS, 1]])
    await ground.soon(ground.deletions().remove(everything))
    await ground.batch([['a', START_MS + 1, 1]])
    await ground.pass(1_000)
    expect(await shownBy('i1')).toBe(0)
  })

  test('DELETE-2: a fence that is written again, by a compactor that stood still, hides nothing', async () => {
    await ground.start('i1')
    await ground.mark(1)
    await ground.batch([['a', START_MS, 1]])
    await ground.soon(ground.deletions().remove(everything))
    await goOn()
    await ground.batch([['a', START_MS + 9_000, 1]])
    await ground.append(deleteSubject(0, 'd'), encodeDelete({ ...everything, ...entry(), tenant: TENANT }))
    await ground.batch([['a', START_MS + 9_001, 1]])
    await ground.pass(1_000)
    expect(await shownBy('i1')).toBe(2)
    await ground.mark(6)
    await ground.until(() => ground.blocks.flushed(0) === 5, 'the flush')
    expect(countOf(shownInBlocks())).toBe(6)
    expect(entry().positions[0]).toMatchObject({ segment: 1 })
  })
})

describe('DELETE-8: owners hide by the manifest that the reader has seen, or a newer one', () => {
  test('one that does not know it yet waits, then refuses', async () => {
    await ground.start('i1')
    await ground.mark(1)
    await ground.batch([['a', START_MS, 1]])
    await ground.pass(1_000)
    await ground.soon(ground.deletions().remove(everything))
    const { version } = manifest()
    expect(await shownBy('i1', version)).toBe(0)
    await expect(shownBy('i1', version + 1)).rejects.toMatchObject({ code: 'err-carillon-owner-behind' })
    const waiting = shownBy('i1', version + 1)
    await ground.soon(ground.deletions().undo(everything))
    expect(await waiting).toBe(1)
    leaveOut(['view-rev'])
    expect(await shownBy('i1', version + 9)).toBe(1)
  })

  test('what a replay brings that lies before a deletion is hidden as well, also of series that are new', async () => {
    await ground.mark(1)
    await ground.batch([['a', START_MS, 1]])
    await ground.soon(ground.deletions().remove(everything))
    await ground.batch([['a', START_MS + 1, 1]])
    await ground.start('i1')
    await ground.until(() => ground.owner('i1').isCaughtUp, 'the replay')
    expect(await shownBy('i1')).toBe(1)
  })
})

describe('DELETE-11: an owner that comes late with more than was flushed', () => {
  /** `i2` holds three samples of segment 1, of which `i1`, which flushes, lacks one. */
  async function cutOff(): Promise<void> {
    await ground.mark(1)
    await ground.batch([['a', START_MS, 1]])
    const lost = await ground.batch([['a', START_MS + 1, 1]])
    await ground.batch([['a', START_MS + 2, 1]])
    await ground.start('i2')
    await ground.until(() => ground.owner('i2').isCaughtUp, 'the whole one')
    ground.hub.pause('i2')
    await ground.pass(5_000)
    await ground.start('i1', { hides: [lost] })
    await ground.mark(2)
    await ground.until(() => ground.blocks.flushed(0) === 1, 'the flush')
    await ground.soon(ground.deletions().remove(everything))
    await ground.mark(3)
    await ground.until(() => ground.blocks.flushed(0) === 2, 'the flush of the position')
    await removed()
    expect([entry().state, manifest().blocks]).toEqual(['removed', []])
  }
  const back = async () => {
    ground.hub.resume('i2')
    const isFree = () => ground.owner('i2').state.droppedUpTo >= 2 && ground.owner('i2').leftBehind.length === 0
    await ground.until(isFree, 'freed memory')
    await ground.pass(2_000)
  }

  test('brings nothing back that was removed: the deletion goes on', async () => {
    await cutOff()
    await back()
    expect([entry().state, countOf(manifest().blocks), countOf(shownInBlocks())]).toEqual(['removing', 3, 0])
    await removed()
    expect([entry().state, manifest().blocks]).toEqual(['removed', []])
  })

  test('is refused once the deletion has left the history, and says what is lost', async () => {
    await cutOff()
    await ground.mark(4)
    await ground.until(() => ground.blocks.flushed(0) === 3, 'a flush beyond the position')
    const [old] = manifest().deletes
    const past = Array.from({ length: 250 }, (_, i) => ({ ...old!, id: `p${i}`, endedAtMs: 0 }))
    await update((now) => ({ ...now, deletes: past }))
    await removed()
    expect(manifest()).toMatchObject({ forgotten: { 0: { segment: 2 } } })
    await update((now) => ({ ...now, deletes: [] }))
    await back()
    expect(manifest().blocks).toEqual([])
    expect(await ground.running.get('i2')!.metrics.text()).toMatch(/carillon_flush_refused_blocks_total\S* 1\n/)
  })
})

describe('DELETE-15: metadata and exemplars of a tenant that is deleted', () => {
  const tenantAsk: RemoveRequest = { ...everything, kind: 'tenant', selectors: [[]], startMs: 0 }

  async function tell(help: string, time: number): Promise<void> {
    const batch = ground.writer.batch([['a', START_MS + time, 1]])
    batch.addMetadata({ tenant: TENANT, metric: 'm', type: 'counter', help, unit: '' })
    const value = Float64Array.of(1)
    batch.addExemplar({ ref: ground.writer.refOf('a'), time: START_MS + time, value, labels: ['trace_id', help] })
    await ground.append(batchSubject(0), batch.seal())
  }

  /** What an owner says of both. */
  async function told(id: string): Promise<string[]> {
    const watermark = ground.blocks.watermark(TENANT, 0)
    const asked = {
      partition: 0,
      tenant: TENANT,
      watermark,
      manifestVersion: 0,
      minSeq: 0,
      incarnation: '',
      waitMs: 1_000,
    }
    const bus = ground.hub.connect(`asker-${++asker}`)
    const rows = await ground.soon(ask(bus, metadata, { id }, { ...asked, metric: '', limit: 0 }, {}))
    const wanted = { ...asked, selectors: [], startMs: 0, endMs: 9e15, limit: 0 }
    const found = await ground.soon(ask(bus, exemplars, { id }, wanted, {}))
    return [
      ...rows.metadata.map(({ help }) => help),
      ...found.series.flatMap(({ exemplars: of }) => of.map(({ labels }) => labels[1]!)),
    ]
  }
  const flushedTo = (segment: number) => ground.until(() => ground.blocks.flushed(0) === segment, `flush of ${segment}`)

  test('are hidden at once, shown when that is taken back, and never again once it is removed', async () => {
    await ground.start('i1')
    await ground.mark(1)
    await tell('old', 0)
    await ground.mark(2)
    await flushedTo(1) // stated again behind M(2)
    await ground.batch([['a', START_MS + 50, 1]])
    await ground.pass(1_000)
    expect(await told('i1')).toEqual(['old', 'old'])
    await ground.soon(ground.deletions().remove(tenantAsk))
    expect(await told('i1')).toEqual([])
    await ground.batch([['a', START_MS + 51, 1]])
    await ground.mark(3)
    await flushedTo(2) // stated again behind M(3), and behind the deletion: it may be taken back
    await ground.pass(1_000)
    expect(await told('i1'), 'what is stated again says where it was told').toEqual([])
    await ground.soon(ground.deletions().undo(tenantAsk))
    expect(await told('i1')).toEqual(['old', 'old'])
    await ground.soon(ground.deletions().remove({ ...tenantAsk, id: 'e', asOf: manifest().version }))
    await ground.batch([['a', START_MS + 52, 1]])
    await ground.mark(4)
    await flushedTo(3)
    await removed()
    expect(manifest()).toMatchObject({ tomb: { 0: { segment: 3 } } })
    await ground.batch([['a', START_MS + 53, 1]])
    await ground.mark(5)
    await flushedTo(4)
    await update((now) => ({ ...now, deletes: [] })) // as when they have left the history
    await ground.start('i2')
    await ground.until(() => ground.owner('i2').isCaughtUp, 'another owner')
    for (const id of ['i1', 'i2']) expect(await told(id), id).toEqual([])
    expect([...ground.owner('i1').state.metadata.tenantsHeld()], 'it is forgotten').toEqual([])
    await tell('new', 99)
    await ground.pass(1_000)
    for (const id of ['i1', 'i2']) expect(await told(id), id).toEqual(['new', 'new'])
  })

  test('places are needed: without them what is stated again behind the deletion counts as new', async () => {
    leaveOut(['as-of'])
    await ground.start('i1')
    await ground.mark(1)
    await tell('old', 0)
    await ground.soon(ground.deletions().remove(tenantAsk))
    await ground.batch([['a', START_MS + 51, 1]])
    for (const number of [2, 3]) {
      await ground.mark(number)
      await flushedTo(number - 1)
      await ground.batch([['a', START_MS + 60 + number, 1]])
    }
    await ground.pass(1_000)
    await ground.start('i2')
    await ground.until(() => ground.owner('i2').isCaughtUp, 'another owner')
    expect(await told('i2')).toContain('old')
  })
})
