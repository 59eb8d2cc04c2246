// LOG-2, LOG-3, LOG-4 on the encoder alone: what is in a batch, judged by reading its bytes as an owner would.
import { expect, test } from 'vitest'
import { Dictionary, NONE } from '../../../services/distributor/log/dictionary.ts'
import { Batch, Session } from '../../../services/distributor/log/session.ts'
import { decodeLogBatch } from '../../../shared/wire/log-batch.ts'
import { StartsReader } from '../../../shared/wire/starts-column.ts'
import { Reader } from '../../../shared/wire/varint.ts'

const mark = (number: number) => ({ number, writer: 'test', nonce: `${number}`.repeat(32) })

function world() {
  const dictionary = new Dictionary()
  const tenant = dictionary.intern('acme')
  for (let i = 0; i < 100; i++) {
    const bytes = Buffer.from(`series ${i}`)
    const labels = ['__name__', 'm', 'instance', `host-${i % 10}`, 'n', String(i)]
    dictionary.add(tenant, { bytes, start: 0, end: bytes.length }, { labels, hash: i, partition: 0 }, NONE)
  }
  return {
    dictionary,
    session: (epoch: number) => new Session(new Uint8Array(16).fill(epoch), mark(epoch), dictionary),
  }
}

const words = new Uint32Array(new Float64Array([1.5, -0, Number.NaN]).buffer)

/** Definitions and strings of one message, by number, and the ids its samples use. */
function contents(payload: Uint8Array) {
  const batch = decodeLogBatch(payload)
  const strings = new Map<number, string>()
  for (const reader = new Reader(batch.strings); reader.remaining > 0; ) strings.set(reader.uvarint(), reader.text())
  const defined = new Map<number, (string | undefined)[]>()
  for (const reader = new Reader(batch.definitions); reader.remaining > 0; ) {
    const id = reader.uvarint()
    const tenant = strings.get(reader.uvarint())
    defined.set(id, [tenant, ...Array.from({ length: 2 * reader.uvarint() }, () => strings.get(reader.uvarint()))])
  }
  const ids: number[] = []
  const reader = new Reader(batch.ids)
  for (let id = 0; reader.remaining > 0; ids.push(id)) id += reader.zigzag()
  return { batch, strings, defined, ids }
}

function filled(session: Session, refs: readonly number[]): Batch {
  const batch = new Batch(session)
  for (const ref of refs) batch.addFloat(ref, 1000 + ref, words, 0)
  return batch
}

test('start times are in the batch of the sample, also after a restart under another session and in its parts', () => {
  const { session } = world()
  const startsOf = (bytes: Uint8Array) => {
    const { starts, sampleCount } = decodeLogBatch(bytes)
    const reader = new StartsReader(starts)
    return Array.from({ length: sampleCount }, () => reader.next())
  }
  const batch = filled(session(1), [1])
  for (const startTime of [0, 5, 5, 7]) batch.addFloat(2, 2000, words, 0, startTime)
  expect(startsOf(batch.seal())).toEqual([0, 0, 5, 5, 7])
  batch.restart(session(2))
  expect(startsOf(batch.seal())).toEqual([0, 0, 5, 5, 7])
  expect(batch.split(1).map((part) => startsOf(part.seal()))).toEqual([[0], [0], [5], [5], [7]])
  batch.reuse(session(3))
  batch.addFloat(1, 1000, words, 0)
  expect(batch.seal()[2], 'without start times it is of version 1').toBe(1)
})

test('LOG-3: a definition is repeated in each batch until one that holds it is stored', () => {
  const session = world().session(1)
  const first = filled(session, [1, 2])
  const second = filled(session, [2, 3])
  expect([...contents(first.seal()).defined.keys()]).toEqual([0, 1])
  expect([...contents(second.seal()).defined.keys()], 'the first is not known to be stored').toEqual([1, 2])
  session.markStored(first, 10)
  const third = contents(filled(session, [1, 2, 3]).seal())
  expect(third.ids).toEqual([0, 1, 2])
  expect([...third.defined.keys()], 'only what is not stored yet').toEqual([2])
})

test('LOG-3: strings follow the same rule, and each batch is readable by itself', () => {
  const session = world().session(1)
  for (const refs of [
    [5, 15],
    [5, 25],
  ]) {
    const { defined } = contents(filled(session, refs).seal())
    expect([...defined.values()].flat(), 'every string is in the batch that uses it').not.toContain(undefined)
    expect([...defined.values()][0]).toEqual(['acme', '__name__', 'm', 'instance', 'host-5', 'n', '5'])
  }
})

test('LOG-1: a batch names its session, mark, counter and the newest batch that is known to be stored', () => {
  const session = world().session(7)
  const first = filled(session, [1])
  expect(decodeLogBatch(first.seal())).toMatchObject({
    epoch: 7,
    nonce: '7'.repeat(32),
    counter: 1,
    lastCounter: 0,
    lastSeq: 0,
  })
  session.markStored(first, 41)
  expect(decodeLogBatch(filled(session, [1]).seal())).toMatchObject({ counter: 2, lastCounter: 1, lastSeq: 41 })
})

test('LOG-1: of two batches that were stored in another order than they were sealed the later one is named', () => {
  const session = world().session(7)
  const [first, second] = [filled(session, [1]), filled(session, [2])]
  for (const batch of [first, second]) batch.seal()
  session.markStored(second, 41)
  session.markStored(first, 42)
  expect(decodeLogBatch(filled(session, [1]).seal())).toMatchObject({ counter: 3, lastCounter: 2, lastSeq: 41 })
})

test('LOG-4: a batch that is encoded again under a newer mark defines everything again', () => {
  const { session } = world()
  const old = session(1)
  const batch = filled(old, [4, 5, 4])
  old.markStored(batch, 3)
  const renewed = session(2)
  batch.restart(renewed)
  const { defined, ids, batch: decoded } = contents(batch.seal())
  expect(ids).toEqual([0, 1, 0])
  expect([...defined.keys()]).toEqual([0, 1])
  expect(decoded.epoch).toBe(2)
})

test('LOG-2: a ref that goes to a newer session and back gets a definition that fits its new id', () => {
  const { session } = world()
  const old = session(1)
  const kept = filled(old, [9])
  kept.seal()
  filled(session(2), [9]).seal()
  const late = filled(old, [9])
  const { defined, ids } = contents(late.seal())
  expect([...defined.keys()]).toEqual(ids)
  old.markStored(kept, 1)
  expect([...contents(filled(old, [9]).seal()).defined.keys()], 'the stored batch defined another id').toEqual(ids)
})

test('a batch that outgrew one message is split without losing or doubling a sample', () => {
  const session = world().session(1)
  const refs = Array.from({ length: 100 }, (_, i) => i)
  const parts = filled(session, refs).split(600)
  expect(parts.length).toBeGreaterThan(3)
  expect(parts.reduce((sum, part) => sum + part.count, 0)).toBe(100)
  for (const part of parts) {
    const { defined, ids } = contents(part.seal())
    expect(ids.every((id) => defined.has(id))).toBe(true)
  }
})

test('value bits travel as they are', () => {
  const batch = new Batch(world().session(1))
  const odd = Uint32Array.of(2, 0x7ff00000, 0, 0x80000000, 0xdeadbeef, 0x7ff12345)
  for (let i = 0; i < 3; i++) batch.addFloat(1, i, odd, i)
  const { values } = decodeLogBatch(batch.seal())
  expect([...new Uint32Array(values.buffer, values.byteOffset, 6)]).toEqual([...odd])
})
