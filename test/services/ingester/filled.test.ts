// An owner that missed a message and was filled holds, and flushes, what one holds that missed nothing: no sample is stored twice for it.
import { afterEach, beforeEach, expect, test } from 'vitest'
import { PartitionState } from '../../../services/ingester/state/partition-state.ts'
import { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import { FlushGround, HOUR_MS } from './flush-ground.ts'
import { LogWriter, TENANT } from './log-writer.ts'

let ground: FlushGround
beforeEach(async () => {
  ground = new FlushGround()
  await ground.open()
})
afterEach(() => ground.close())

const START_MS = 1_700_000_000_000 - (1_700_000_000_000 % (2 * HOUR_MS))
const tenants = ['t0', 't1', 't2', 't3']
const stored = () => tenants.map((tenant) => ground.manifest(tenant)!.blocks.map(({ sampleCount }) => sampleCount))
const placesOf = (id: string, tenant: string) =>
  new Set((ground.owner(id).state.heads.get(tenant)?.partsOf(1) ?? []).map(({ seq }) => seq))
let count = 0
const write = (tenant: string) => ground.batch([['a', START_MS + ++count, count]], tenant)

/** i1 misses nothing, i2 the sixth batch: it is filled. */
async function filledOwner(): Promise<void> {
  await ground.mark(1)
  await ground.start('i1')
  const places: number[] = []
  for (let i = 0; i < 12; i++) places.push(await write(tenants[i % 4]!))
  await ground.start('i2', { hides: [places[5]!] })
  await ground.until(() => ground.owner('i2').damages[0]?.state === 'filled', 'the fill')
  for (const tenant of tenants) await write(tenant) // into what was cut at the hole
}

async function flushAndFree(): Promise<void> {
  await ground.mark(2)
  await ground.until(() => ground.blocks.flushed(0) === 1, 'flush')
  await ground.until(() => ground.owners().every(({ state }) => state.droppedUpTo === 1), 'freed memory')
  await ground.pass(1_000)
}

test('DELETE-7: what both hold is stored once, whoever flushes', async () => {
  await filledOwner()
  expect(ground.owner('i2').state.digest(1)).toBe(ground.owner('i1').state.digest(1))
  await flushAndFree()
  expect(stored()).toEqual([[4], [4], [4], [4]])
})

test('DELETE-7: nor is what the filled one has flushed stored again by one that missed nothing', async () => {
  await filledOwner()
  ground.kill('i1')
  await ground.pass(5_000)
  await ground.mark(2)
  await ground.until(() => ground.blocks.flushed(0) === 1, 'flush')
  await ground.start('i3', { view: (bus) => bus })
  await ground.until(() => ground.owners().every(({ state }) => state.droppedUpTo === 1), 'freed memory')
  expect(stored()).toEqual([[4], [4], [4], [4]])
  expect(ground.manifest('t1')!.blocks[0]!.origin).toMatchObject({ cut: 1 })
})

test('DELETE-7: a fence that stood in the hole cuts where it stood, also where nothing behind it was given', async () => {
  await ground.mark(1)
  await ground.start('i1')
  for (const tenant of tenants) await write(tenant)
  const hidden: number[] = []
  await ground.start('i2', { hears: (message) => (hidden.includes(message.seq) ? undefined : message) })
  await ground.until(() => ground.owner('i2').isCaughtUp, 'all of it')
  const next = ground.lastSeq() + 1
  hidden.push(next, next + 1)
  const times = { startMs: 0, endMs: 9e15 }
  const selectors = [[{ name: '__name__', operator: '=' as const, value: 'a' }]]
  const asked = { tenant: 't1', id: 'd', kind: 'series' as const, ...times, askedBy: 'test', asOf: 0, selectors }
  await ground.soon(ground.deletions().remove(asked))
  await write('t0')
  await write('t1') // behind the fence, and behind the hole
  await ground.until(() => ground.owner('i2').damages[0]?.state === 'filled', 'the fill')
  await write('t1')
  await ground.pass(1_000)
  expect(placesOf('i2', 't1')).toEqual(placesOf('i1', 't1'))
  expect(placesOf('i2', 't1')).toEqual(new Set([1, next]))
  expect(placesOf('i2', 't0'), 'of others nothing').toEqual(new Set([1]))
  await flushAndFree()
  expect(stored()).toEqual([[2], [1, 2], [1], [1]])
  const [before] = ground.manifest('t1')!.blocks
  expect(ground.manifest('t1')!.deletes).toMatchObject([{ state: 'active', blocks: [before!.ulid] }])
})

/** A state that missed sequences 3 to 5 of segment 1, and holds a sample before and behind them. */
function holed() {
  const writer = new LogWriter()
  const state = new PartitionState({ strings: new StringTable(), onDamage() {}, onSkipped() {}, isForgetful: false })
  state.applyMark(1, writer.mark(1))
  state.applyBatch(2, writer.batch([['a', START_MS, 1]]).seal())
  state.noteHole(6)
  state.applyBatch(6, writer.batch([['a', START_MS + 1, 1]]).seal())
  const seqs = () =>
    state.heads
      .get(TENANT)!
      .partsOf(1)
      .map(({ seq }) => seq)
  return { state, writer, seqs, hole: { segment: 1, fromSeq: 3, toSeq: 5 } }
}

test('STATE-5: what is told of the hole, and only that, is taken over', () => {
  const { state, seqs, hole } = holed()
  const cuts = [
    { segment: 1, seq: 1 },
    { segment: 1, seq: 4, tenant: 'another' },
    { segment: 1, seq: 9, tenant: TENANT },
  ]
  state.closeHole(hole, cuts)
  expect(seqs()).toEqual([1, 1])
  const other = holed()
  other.state.closeHole(hole, [...cuts, { segment: 1, seq: 4, tenant: TENANT }])
  expect(other.seqs(), 'a fence in the hole').toEqual([1, 4])
})

test('STATE-5: a hole in which a mark stood stays a cut: nobody knows of which segment that is what came behind it', () => {
  const { state, seqs, hole } = holed()
  state.closeHole(hole, [{ segment: 2, seq: 4 }])
  expect(seqs()).toEqual([1, 6])
})

test('STATE-5: a fence that stands right behind the hole goes on cutting, also one that cannot be read', () => {
  const { state, writer, hole, seqs } = holed()
  state.applyDelete(6, new Uint8Array([9]))
  state.applyBatch(7, writer.batch([['a', START_MS + 2, 1]]).seal())
  state.closeHole(hole, [])
  expect(seqs()).toEqual([1, 6])
})

test('STATE-5: whoever has a hole tells others no cuts, until it is closed, or all that it may hide is dropped', () => {
  const { state, writer, hole } = holed()
  expect(state.cutsTold()).toBeUndefined()
  state.applyMark(7, writer.mark(3)) // mark 2 was lost, too: the hole may hide something of segment 2
  state.dropSegments(1)
  expect(state.cutsTold()).toBeUndefined()
  state.dropSegments(2)
  expect(state.cutsTold()).toEqual([{ segment: 3, seq: 7 }])
  const other = holed()
  other.state.closeHole(hole, [])
  expect(other.state.cutsTold()).toEqual([{ segment: 1, seq: 1 }])
})
