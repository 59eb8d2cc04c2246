// Applying as a pure function of the log (LOG-9), and damage that is named, never passed over (LOG-10).
import fc from 'fast-check'
import { beforeEach, describe, expect, test } from 'vitest'
import { PartitionState } from '../../../services/ingester/state/partition-state.ts'
import { SessionDictionary } from '../../../services/ingester/state/session-dictionary.ts'
import { SampleColumns } from '../../../shared/tsdb/columns.ts'
import { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import { LogWriter, TENANT } from './log-writer.ts'

let damage: string[]
let skipped: number[]
let writer: LogWriter

beforeEach(() => {
  damage = []
  skipped = []
  writer = new LogWriter()
})

function freshState(): PartitionState {
  return new PartitionState({
    strings: new StringTable(),
    onDamage: (kind, seq) => void damage.push(`${kind}@${seq}`),
    onSkipped: (seq) => void skipped.push(seq),
    isForgetful: false,
  })
}

function samplesOf(state: PartitionState): string[] {
  const head = state.heads.get(TENANT)
  const found: string[] = []
  for (let ref = 0; ref < (head?.seriesCount ?? 0); ref++) {
    const columns = new SampleColumns()
    head!.readInto(ref, { startMs: 0, endMs: 1e15 }, columns)
    for (let i = 0; i < columns.count; i++)
      found.push(`${head!.labelsOf(ref)[1]}@${columns.times[i]}=${columns.values[i]}`)
  }
  return found.sort()
}

test('STATE-1, LOG-9: batches in any order and any number of times give one state and one digest', () => {
  const sample = fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.nat(20), fc.nat(5))
  const batches = fc.array(fc.array(sample, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 8 })
  fc.assert(
    fc.property(batches, fc.infiniteStream(fc.nat(1000)), (contents, chance) => {
      const log = new LogWriter()
      const first = log.mark(1)
      const payloads = contents.map((content) => log.batch(content).seal())
      const apply = (order: readonly Uint8Array[]) => {
        const state = freshState()
        state.applyMark(1, first)
        for (const [i, payload] of order.entries()) state.applyBatch(i + 2, payload)
        return { digest: state.digest(1), samples: samplesOf(state) }
      }
      const shuffled = [...payloads, ...payloads].map((payload) => ({ payload, at: chance.next().value as number }))
      shuffled.sort((a, b) => a.at - b.at)
      expect(apply(shuffled.map(({ payload }) => payload))).toEqual(apply(payloads))
    }),
    { numRuns: 200 },
  )
})

test('LOG-10: every bit that flips in a stored batch is noticed, and nothing of that batch is applied', () => {
  const mark = writer.mark(1)
  const payload = writer.batch([['a', 1, 1]]).seal()
  for (let bit = 0; bit < payload.length * 8; bit++) {
    const state = freshState()
    damage = []
    state.applyMark(1, mark)
    const flipped = Uint8Array.from(payload) // not slice(): of a Buffer that is no copy
    flipped[bit >> 3]! ^= 1 << (bit & 7)
    state.applyBatch(2, flipped)
    expect(damage, `bit ${bit}`).toEqual(['bad-checksum@2'])
    expect(samplesOf(state)).toEqual([])
  }
})

test('LOG-3, LOG-10: a batch that leans on a lost one is damage, and nothing is guessed', () => {
  const state = freshState()
  state.applyMark(1, writer.mark(1))
  const lost = writer.batch([['a', 1, 1]])
  lost.seal()
  writer.session!.markStored(lost, 2)
  state.applyBatch(
    3,
    writer
      .batch([
        ['a', 2, 2],
        ['b', 2, 3],
      ])
      .seal(),
  )
  expect(damage).toEqual(['bad-reference@3', 'undefined-id@3'])
  expect(samplesOf(state), 'b shares label strings with what was lost: nothing is guessed').toEqual([])
})

test('LOG-10: a batch that names a later sequence as stored before it is damage', () => {
  const state = freshState()
  state.applyMark(1, writer.mark(1))
  const first = writer.batch([['a', 1, 1]])
  state.applyBatch(2, first.seal())
  writer.session!.markStored(first, 99)
  state.applyBatch(3, writer.batch([['a', 2, 2]]).seal())
  expect(damage).toEqual(['bad-reference@3'])
  expect(samplesOf(state)).toEqual(['a@1=1', 'a@2=2'])
})

test('STATE-2: a batch may come one mark late, not two; segments are told by position', () => {
  const state = freshState()
  state.applyMark(1, writer.mark(1))
  const session = writer.session!
  state.applyBatch(2, writer.batch([['a', 1, 1]], session).seal())
  state.applyMark(3, writer.mark(2))
  state.applyBatch(4, writer.batch([['a', 2, 2]], session).seal())
  state.applyMark(5, writer.mark(3))
  state.applyBatch(6, writer.batch([['a', 3, 3]], session).seal())
  expect(skipped).toEqual([6])
  expect(damage).toEqual([])
  expect(samplesOf(state)).toEqual(['a@1=1', 'a@2=2'])
  expect(state.segments()).toEqual([1, 2])
})

test('PURGE-2: what is delivered again stands where it stood before: it is stated anew before its segment goes', () => {
  const state = freshState()
  state.applyMark(1, writer.mark(1))
  const early = writer.batch([['a', 1, 1]])
  early.addExemplar({ ref: writer.refOf('a'), time: 1, value: Float64Array.of(1), labels: ['trace_id', 't'] })
  early.addMetadata({ tenant: TENANT, metric: 'a', type: 'gauge', help: '', unit: '' })
  const bytes = early.seal()
  state.applyBatch(2, bytes)
  state.applyMark(3, writer.mark(2))
  state.applyBatch(2, bytes)
  expect(state.heads.get(TENANT)!.newestExemplars(10)).toMatchObject([{ segment: 1 }])
  expect([...state.metadata.toldBefore(2)]).toHaveLength(1)
})

test('PURGE-2: what a late batch tells is stated anew with its epoch: a replay that begins at the mark before it cannot read it', () => {
  const state = freshState()
  state.applyMark(1, writer.mark(1))
  const session = writer.session!
  const first = writer.batch([['a', 1, 1]], session)
  state.applyBatch(2, first.seal())
  session.markStored(first, 2)
  const second = writer.mark(2)
  state.applyMark(3, second)
  const late = writer.batch([['a', 2, 1]], session)
  late.addExemplar({ ref: writer.refOf('a'), time: 2, value: Float64Array.of(1), labels: ['trace_id', 't'] })
  const bytes = late.seal()
  state.applyBatch(4, bytes)
  expect(state.heads.get(TENANT)!.newestExemplars(10)).toMatchObject([{ segment: 1 }])
  const replayed = freshState()
  replayed.dropSegments(2)
  replayed.applyMark(3, second)
  replayed.applyBatch(4, bytes)
  expect([replayed.heads.size, damage]).toEqual([0, []])
})

test('LOG-10: a lost mark is damage, and later segments go by the marks that their batches name', () => {
  const state = freshState()
  state.applyMark(1, writer.mark(1))
  writer.mark(2)
  state.applyBatch(3, writer.batch([['a', 1, 1]]).seal())
  expect(damage).toEqual(['unknown-epoch@3'])
  state.applyMark(4, writer.mark(3))
  state.applyBatch(5, writer.batch([['a', 2, 2]]).seal())
  expect(damage).toEqual(['unknown-epoch@3'])
  expect(state.segments()).toEqual([2, 3])
})

describe('STATE-7: what comes where a mark may have been lost is of no segment that was flushed', () => {
  test.each<[string, (state: PartitionState) => void, string[]]>([
    ['none was met', () => {}, ['unknown-epoch@4']],
    [
      'messages are missing',
      (state) => {
        state.applyMark(1, writer.mark(1))
        state.noteHole(4)
      },
      [],
    ],
    [
      'it cannot be read',
      (state) => {
        state.applyMark(1, writer.mark(1))
        state.applyMark(3, Buffer.from('junk'))
      },
      ['bad-mark@3'],
    ],
  ])('%s: it is held, and so is what is older; the next mark may come after all', (_, begin, told) => {
    const state = freshState()
    state.dropSegments(5)
    begin(state)
    if (writer.session === undefined) writer.mark(1)
    state.applyBatch(4, writer.batch([['a', 1, 1]]).seal())
    state.applyMark(5, writer.mark(6))
    state.applyBatch(6, writer.batch([['a', 2, 2]]).seal())
    state.applyMark(7, writer.mark(7))
    state.applyBatch(8, writer.batch([['a', 3, 3]]).seal())
    expect([samplesOf(state), state.segments()]).toEqual([
      ['a@1=1', 'a@2=2', 'a@3=3'],
      [6, 7],
    ])
    expect([damage, skipped]).toEqual([told, []])
  })

  test('where nothing is missing, what is flushed takes nothing more', () => {
    const state = freshState()
    state.dropSegments(1)
    state.applyMark(1, writer.mark(1))
    state.applyBatch(2, writer.batch([['a', 1, 1]]).seal())
    expect(samplesOf(state)).toEqual([])
  })
})

test('LOG-10: junk instead of a mark or batch is damage and harms nothing else', () => {
  const state = freshState()
  state.applyMark(1, writer.mark(1))
  state.applyBatch(2, Buffer.from('junk'))
  state.applyMark(3, Buffer.from('{"v":1,"number":"x"}'))
  state.applyMark(4, Buffer.from([255, 0, 1]))
  state.applyBatch(5, writer.batch([['a', 1, 1]]).seal())
  expect(damage).toEqual(['bad-checksum@2', 'bad-mark@3', 'bad-mark@4'])
  expect(samplesOf(state)).toEqual(['a@1=1'])
})

test.each([0, -1, 1.5, 2 ** 53, '7', null])('LOG-8: a mark with the number %s is none', (number) => {
  const state = freshState()
  state.applyMark(1, writer.mark(1))
  state.applyMark(2, Buffer.from(JSON.stringify({ v: 1, number, writer: 'x', nonce: 'n' })))
  expect(damage).toEqual(['bad-mark@2'])
  expect(state.segment).toBe(1)
})

test('LOG-8, LOG-10: a mark whose number does not rise is damage, and changes nothing', () => {
  const state = freshState()
  state.applyMark(1, writer.mark(3))
  const batch = writer.batch([['a', 1, 1]])
  state.applyMark(2, writer.mark(3))
  state.applyMark(3, writer.mark(2))
  state.applyBatch(4, batch.seal())
  expect(damage).toEqual(['bad-mark@2', 'bad-mark@3'])
  expect([state.segment, state.segments()]).toEqual([3, [3]])
})

test('LOG-10: marks that are missing are named, one for each segment that lacks its beginning', () => {
  const segments: number[] = []
  const state = new PartitionState({
    strings: new StringTable(),
    onDamage: (kind, seq, _, segment) => {
      damage.push(`${kind}@${seq}`)
      segments.push(segment)
    },
    onSkipped: () => {},
    isForgetful: false,
  })
  state.applyMark(1, writer.mark(1))
  state.applyMark(2, writer.mark(4))
  expect(damage).toEqual(['bad-mark@2', 'bad-mark@2'])
  expect(segments).toEqual([2, 3])
  expect(state.segment).toBe(4)
})

test('LOG-9: what is delivered again lies in the segment in which it lay, and never in one that was dropped', () => {
  const state = freshState()
  const first = writer.mark(1)
  state.applyMark(1, first)
  const bytes = writer.batch([['a', 1, 1]]).seal()
  state.applyBatch(2, bytes)
  state.applyMark(3, writer.mark(2))
  const digest = state.digest(1)
  state.applyBatch(2, bytes)
  expect([state.segments(), state.digest(1)]).toEqual([[1], digest])
  state.dropSegments(1)
  state.applyBatch(2, bytes)
  expect(state.segments().filter((segment) => segment <= 1)).toEqual([])
})

test('LOG-2: the first definition of an id stays, also when another comes from another owner', () => {
  const head = freshState().head(TENANT)
  const dictionary = new SessionDictionary(1)
  dictionary.define(7, head, 3)
  dictionary.define(7, head, 4)
  expect(dictionary.refs[7]).toBe(3)
})
