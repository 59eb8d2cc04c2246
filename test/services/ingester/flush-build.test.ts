// Blocks of a segment are a pure function of its samples: whichever order they came in, wherever they are built.
import type { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { type BlockBuilder, inlineBuilder, ThreadBuilder } from '../../../services/ingester/flush/block-builder.ts'
import { readSegment } from '../../../services/ingester/flush/flush.ts'
import type { BuiltBlock, FlushOrigin } from '../../../services/ingester/flush/flush-build.ts'
import { FrameBuilder } from '../../../services/ingester/read/frames.ts'
import { PartitionState } from '../../../services/ingester/state/partition-state.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import type { SelectFrame } from '../../../shared/contracts/read.ts'
import { ALL_TIME } from '../../../shared/model/interval.ts'
import { decodeBlockChunk } from '../../../shared/tsdb/block/chunk-samples.ts'
import { memoryFiles } from '../../../shared/tsdb/block/files.ts'
import { parseMeta } from '../../../shared/tsdb/block/meta.ts'
import { BlockReader } from '../../../shared/tsdb/block/reader.ts'
import { verifyBlock } from '../../../shared/tsdb/block/verify.ts'
import { SampleColumns } from '../../../shared/tsdb/columns.ts'
import { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import { LogWriter, TENANT } from './log-writer.ts'

const HOUR_MS = 3_600_000
const START_MS = 472_222 * HOUR_MS

/** The segment's batches, in this order. */
function stateOf(mark: Uint8Array, batches: readonly Uint8Array[]): PartitionState {
  const state = new PartitionState({
    strings: new StringTable(),
    onDamage: (kind, seq, text) => {
      if (kind !== 'bad-reference') throw new Error(`${kind} at ${seq}: ${text}`)
    },
    onSkipped: () => {},
    isForgetful: false,
  })
  state.applyMark(1, mark)
  for (const [i, batch] of batches.entries()) state.applyBatch(2 + i, batch)
  return state
}

async function* framesOf(state: PartitionState): AsyncIterable<SelectFrame> {
  const head = state.heads.get(TENANT)!
  const builder = new FrameBuilder(head, state['options'].strings, 'all')
  for (let ref = 0; ref < head.seriesCount; ref++) {
    builder.add(ref, ALL_TIME, 1)
    if (ref % 3 === 0) yield builder.take()
  }
  yield builder.take()
}

const ask = { tenant: TENANT, origin: { kind: 'flush', partition: 0, segment: 1 } } as const
const build = (state: PartitionState, builder: BlockBuilder = inlineBuilder()) => builder.build(ask, framesOf(state))
const linesOf = (blocks: readonly BuiltBlock[]) =>
  blocks.map(({ entry, files }) => [
    entry,
    files.map(({ name, bytes }) => [name, Buffer.from(bytes).toString('base64')]),
  ])

function someBatches(count: number, timeOf: (i: number) => number): { mark: Uint8Array; batches: Uint8Array[] } {
  const writer = new LogWriter()
  const mark = writer.mark(1)
  const random = seededRandom(3)
  const batches = Array.from({ length: count }, (_, i) => {
    const samples = Array.from({ length: 12 }, (_, k) => {
      const startTime = i % 2 === 0 ? 0 : START_MS - ((i + k) % 17) * 1000
      return [`series_${(i + k) % 17}_é`, timeOf(i) - random.below(900_000), random.below(100), startTime] as const
    })
    return writer.batch(samples).seal()
  })
  return { mark, batches }
}

test('BUILD-1: owners that read a segment in other orders, or twice, build the same bytes', async () => {
  const { mark, batches } = someBatches(120, (i) => START_MS + i * 60_000)
  const random = seededRandom(9)
  const shuffled = [...batches, ...batches.slice(20, 60)].sort(() => random.next() - 0.5)
  const first = await build(stateOf(mark, batches))
  expect(first.length).toBeGreaterThan(1)
  expect(linesOf(await build(stateOf(mark, shuffled)))).toEqual(linesOf(first))
  for (const { entry, files } of first) {
    const problems: unknown[] = []
    for await (const problem of verifyBlock(memoryFiles(new Map(files.map(({ name, bytes }) => [name, bytes]))))) {
      problems.push(problem)
    }
    expect(problems, entry.ulid).toEqual([])
    expect(Math.floor(entry.minTime / (2 * HOUR_MS))).toBe(Math.floor((entry.maxTime - 1) / (2 * HOUR_MS)))
  }
})

test('BUILD-1, DELETE-7: a segment is read in one walk, however often it is cut, and makes of each part the blocks that it makes alone', async () => {
  const { mark, batches } = someBatches(60, (i) => START_MS + i * 60_000)
  /** These batches at their places, and a cut before each fifth. */
  const cutState = (isTaken: (i: number) => boolean) => {
    const state = stateOf(mark, [])
    for (const [i, batch] of batches.entries()) {
      if (i % 5 === 0) state.cut(1, 2 + i, TENANT)
      if (isTaken(i)) state.applyBatch(2 + i, batch)
    }
    return state
  }
  const readOf = (state: PartitionState) => {
    const deps = { clock: systemClock, strings: state['options'].strings }
    return readSegment({ partition: 0, state }, { tenant: TENANT, segment: 1 }, deps)!
  }
  const state = cutState(() => true)
  const head = state.heads.get(TENANT)!
  let visits = 0
  const visit = head.storedChunksOf.bind(head)
  head.storedChunksOf = (ref, segment, fn) => {
    visits++
    visit(ref, segment, fn)
  }
  const read = readOf(state)
  const built = await inlineBuilder().build({ tenant: TENANT, origin: read.origin }, read.frames)
  read.assertSame()
  expect(visits, 'each series once').toBe(head.seriesCount)
  const alone: BuiltBlock[] = []
  for (let part = 0; part < 12; part++) {
    const { origin, frames } = readOf(cutState((i) => Math.floor(i / 5) === part))
    alone.push(...(await inlineBuilder().build({ tenant: TENANT, origin }, frames)))
  }
  expect(linesOf(built)).toEqual(linesOf(alone))
  expect(new Set(built.map(({ entry }) => (entry.origin as FlushOrigin).cut)).size).toBe(12)
})

test('the start times of a segment are in its blocks, and samples without one stay so', async () => {
  const writer = new LogWriter()
  const mark = writer.mark(1)
  const startOf = (i: number) => (i < 100 ? 0 : START_MS - 1000 * Math.floor(i / 50))
  const batch = Array.from({ length: 300 }, (_, i) => ['a', START_MS + 1000 * i, i, startOf(i)] as const)
  const late = [['a', START_MS + 500, 7, START_MS]] as const
  const [built] = await build(stateOf(mark, [writer.batch(batch).seal(), writer.batch(late).seal()]))
  const bytes = new Map(built!.files.map(({ name, bytes: of }) => [name, of]))
  const reader = await BlockReader.open(memoryFiles(bytes), parseMeta(bytes.get('meta.json')!))
  const columns = new SampleColumns()
  for await (const [one] of reader.allSeries()) for (const chunk of one!.chunks) decodeBlockChunk(chunk, columns)
  expect(columns.count).toBe(301)
  const wanted = [0, START_MS, ...batch.slice(1).map(([, , , startTime]) => startTime)]
  expect([...columns.startTimes!.subarray(0, columns.count)]).toEqual(wanted)
})

test('a thread builds what is built here, one build after the other', async () => {
  const { mark, batches } = someBatches(60, (i) => START_MS + i * 60_000)
  const [one, other] = [stateOf(mark, batches), stateOf(mark, batches.slice(0, 10))]
  const builder = new ThreadBuilder(systemClock)
  const built = await Promise.all([build(one, builder), build(other, builder)])
  expect(linesOf(built[0])).toEqual(linesOf(await build(one)))
  expect(linesOf(built[1])).toEqual(linesOf(await build(other)))
  const broken = builder.build(ask, {
    async *[Symbol.asyncIterator]() {
      yield* framesOf(one)
      throw new Error('the head is gone')
    },
  })
  await expect(broken).rejects.toThrow('the head is gone')
  expect(linesOf(await build(other, builder))).toEqual(linesOf(built[1]))
  await builder.close()
})

test.each(['while it is given frames', 'when it has all frames', 'before the build begins'])(
  'a thread that ends %s fails no build but that one',
  async (when) => {
    const { mark, batches } = someBatches(60, (i) => START_MS + i * 60_000)
    const state = stateOf(mark, batches)
    const builder = new ThreadBuilder(systemClock)
    const started = new Promise<Worker>((resolve) => process.once('worker', resolve))
    if (when === 'before the build begins') {
      await build(state, builder)
      await (await started).terminate()
    }
    const failing = builder.build(ask, {
      async *[Symbol.asyncIterator]() {
        const frames = await Array.fromAsync(framesOf(state))
        yield frames[0]!
        if (when === 'while it is given frames') await (await started).terminate()
        yield* frames.slice(1)
        if (when === 'when it has all frames') void (await started).terminate()
      },
    })
    if (when === 'before the build begins') await failing
    else await expect(failing).rejects.toMatchObject({ kind: 'unavailable', code: 'flush-build-failed' })
    expect(linesOf(await build(state, builder))).toEqual(linesOf(await build(state)))
    await builder.close()
  },
)

test.each([
  ['2 h', 20, 2 * HOUR_MS],
  ['24 h', 100, 24 * HOUR_MS],
  ['28 d', 12_000, 28 * 24 * HOUR_MS],
])('BUILD-2: late samples are cut by %s', async (_, spreadHours, widthMs) => {
  const { mark, batches } = someBatches(
    60,
    (i) => START_MS - ((i * spreadHours * HOUR_MS) / 60) * (spreadHours > 1000 ? 2 : 1),
  )
  const dense = spreadHours <= 1000 ? [] : someBatches(900, (i) => START_MS - i * 26 * HOUR_MS).batches
  const built = await build(stateOf(mark, [...batches, ...dense]))
  for (const { entry } of built) {
    expect(Math.floor(entry.minTime / widthMs)).toBe(Math.floor((entry.maxTime - 1) / widthMs))
  }
  const starts = built.map(({ entry }) => Math.floor(entry.minTime / widthMs))
  expect(new Set(starts).size).toBe(built.length)
  expect(starts).toEqual([...starts].sort((a, b) => a - b))
})
