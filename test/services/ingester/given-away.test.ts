// STATE-6, FLUSH-5, FILL-5: a partition that is given away, or begun again, while somebody works on it. What was held is freed only when nobody reads it, its
// numbers name other series from then on, and nothing is listed or written of it any more.
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type AfterFlushDeps, dropFlushed, FlushedSeen } from '../../../services/ingester/flush/after-flush.ts'
import { inlineBuilder } from '../../../services/ingester/flush/block-builder.ts'
import { buildSegment, type FlushDeps, type FlushStep } from '../../../services/ingester/flush/flush.ts'
import { restate } from '../../../services/ingester/flush/restate.ts'
import { LostEnd } from '../../../services/ingester/log/lost-end.ts'
import type { Owner } from '../../../services/ingester/log/owner.ts'
import { Walk } from '../../../services/ingester/read/answers.ts'
import { fillFrames } from '../../../services/ingester/read/fill-frames.ts'
import { hide } from '../../../services/ingester/read/hiding.ts'
import { PartitionState } from '../../../services/ingester/state/partition-state.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { openBlock } from '../../../shared/blocks/stored-blocks.ts'
import { batchSubject, logName, markSubject } from '../../../shared/contracts/log.ts'
import type { FillFrame, OwnerRequest } from '../../../shared/contracts/read.ts'
import { addPartitions } from '../../../shared/membership/bootstrap.ts'
import { BlockReader } from '../../../shared/tsdb/block/reader.ts'
import { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import { FlushGround } from './flush-ground.ts'
import { LogWriter, TENANT } from './log-writer.ts'

let ground: FlushGround
beforeEach(async () => {
  ground = new FlushGround()
  await ground.open()
})
afterEach(() => ground.close())

const T = 1_700_000_000_000
const PARTITIONS = 8

async function namesStored(): Promise<string[]> {
  const found: string[] = []
  for (const entry of ground.manifest(TENANT)?.blocks ?? []) {
    const stored = openBlock(ground.objects, TENANT, entry)
    const reader = await ground.soon(BlockReader.open(stored, await ground.soon(stored.meta())))
    const read = async () => {
      const names: string[] = []
      for await (const batch of reader.series([], { startMs: 0, endMs: 9e15 }))
        for (const { labels } of batch) names.push(labels.join('='))
      return names
    }
    const { partition, segment } = entry.origin as { partition: number; segment: number }
    found.push(`p${partition} s${segment}: ${(await ground.soon(read())).join(' ')}`)
  }
  return found.sort()
}

test('what is flushed carries the labels that were written, though the partition was given away while its block waited to be built', async () => {
  const { logs } = ground.hub.connect('writer')
  await ground.soon(addPartitions(ground.hub.connect('adder'), PARTITIONS - 1))
  const all = Array.from({ length: PARTITIONS }, (_, partition) => partition)
  const writers = all.map(() => new LogWriter())
  const append = (p: number, subject: string, payload: Uint8Array) =>
    ground.soon(logs.append(logName(p), subject, payload, { timeoutMs: 1_000 }))
  for (const p of all) await append(p, markSubject(p), writers[p]!.mark(1))
  await ground.start('i1')
  for (const p of all) await append(p, batchSubject(p), writers[p]!.batch([[`real_${p}`, T, 42]]).seal())
  await append(0, markSubject(0), writers[0]!.mark(2))
  await ground.until(() => ground.blocks.flushed(0) === 1, 'the first')
  const [waiting, later] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  let buildCount = 0
  ground.onBuild = () => (buildCount++ === 0 ? waiting : later).promise // the threads that build are busy
  await append(1, markSubject(1), writers[1]!.mark(2))
  await ground.until(() => buildCount === 1, 'what waits')
  for (const p of all.slice(2)) await append(p, markSubject(p), writers[p]!.mark(2))
  for (const id of ['a2', 'a3', 'a4']) await ground.start(id)
  await ground.pass(30_000)
  const kept = ground.running
    .get('i1')!
    .owners()
    .map(({ partition }) => partition)
  expect(kept, 'another took it over').not.toContain(1)
  expect(kept).not.toEqual([])
  for (const p of kept) {
    const others = Array.from({ length: 50 }, (_, i) => [`other_${p}_${i}`, T + 1000, 7] as const)
    await append(p, batchSubject(p), writers[p]!.batch(others).seal())
  }
  await ground.pass(2_000)
  waiting.resolve()
  await ground.pass(10_000)
  later.resolve()
  await ground.until(() => all.every((p) => ground.blocks.flushed(p) === 1), 'all')
  await ground.pass(10_000)
  expect(await namesStored()).toEqual(all.map((p) => `p${p} s1: __name__=real_${p}`))
  expect(ground.failures).toEqual([])
})

/** A state whose first segment is closed, the strings that it shares with others, and one that others make of numbers that were given back. */
function held() {
  const strings = new StringTable()
  const state = new PartitionState({ strings, onDamage: () => {}, onSkipped: () => {}, isForgetful: false })
  state.applyMark(1, ground.writer.mark(1))
  state.applyBatch(2, ground.writer.batch([['real', T, 1]]).seal())
  state.applyMark(3, ground.writer.mark(2))
  const lostEnd = new LostEnd()
  const owner = { state, partition: 0, damages: [], appliedMax: 3, lostEnd } as unknown as Owner
  const useAgain = () => {
    strings.sweep()
    for (let i = 0; i < 8; i++) strings.use(strings.intern(`other ${i}`))
  }
  return { strings, state, owner, useAgain }
}

const textsIn = (frame: { readonly strings: Uint8Array } | undefined) => Buffer.from(frame?.strings ?? []).toString()

test('STATE-6: what is read is freed when it has been read; nobody begins to read what was given back', async () => {
  const { strings, state, owner, useAgain } = held()
  let isFreed = false
  const head = state.heads.get(TENANT)!
  const walk = new Walk(owner, strings, head, Uint32Array.of(0))
  const other = new Walk(owner, strings, head, Uint32Array.of(0))
  void state.use.end().then(() => {
    isFreed = true
  })
  walk.close()
  walk.close()
  await ground.pass(1)
  useAgain()
  expect(strings.find('real'), 'one reads it').toBeDefined()
  expect(isFreed).toBe(false)
  other.close()
  await ground.pass(1)
  expect(isFreed).toBe(true)
  useAgain()
  expect(strings.find('real')).toBeUndefined()
  expect(() => new Walk(owner, strings, head, Uint32Array.of(0))).toThrow('given away')
  state.dropSegments(1)
  expect(state.droppedUpTo, 'strings are given back once').toBe(0)
})

test('STATE-6: an answer to a fill that was begun is not of other series, whoever took the numbers meanwhile', async () => {
  const { strings, state, owner, useAgain } = held()
  const frames = fillFrames(owner, strings, 1)[Symbol.asyncIterator]()
  expect((await frames.next()).value.held).toEqual([1])
  let isFreed = false
  void state.use.end().then(() => {
    isFreed = true
  })
  useAgain()
  await ground.pass(1)
  expect(isFreed, 'it is under way').toBe(false)
  const rest = async () => {
    const texts: string[] = []
    for (let next = await frames.next(); !next.done; next = await frames.next())
      texts.push(textsIn((next.value as FillFrame).frame))
    return texts.join()
  }
  await expect(rest()).rejects.toMatchObject({ kind: 'unavailable', code: 'given-away' })
  useAgain()
  expect(strings.find('real'), 'nor is it kept for ever').toBeUndefined()
})

test.each(['queued', 'built'] as const)(
  'FLUSH-3, FLUSH-5: a state that was left behind while its block was %s is not what the flush is of',
  async (at) => {
    const { strings, owner, useAgain } = held()
    const inline = inlineBuilder()
    const leave = () => {
      owner.state = held().state
      useAgain()
    }
    const build: typeof inline.build = async (...args) => {
      if (at === 'queued') leave()
      const built = await inline.build(...args)
      if (at === 'built') leave()
      return built
    }
    const deps = { strings, clock: ground.clock, builder: { ...inline, build } } as unknown as FlushDeps
    const of = { tenant: TENANT, segment: 1 }
    await expect(ground.soon(buildSegment(owner, of, deps))).rejects.toMatchObject({ code: 'flush-changed' })
  },
)

/** Stops the owner of `id` at the first of these steps, and waits until what it was at is over. */
const stoppingAt = (id: string, at: FlushStep) => {
  let isDone = false
  return {
    isDone: () => isDone,
    onStep: (step: FlushStep) => {
      if (step !== at || isDone) return
      isDone = true
      void ground.owner(id).stop()
    },
  }
}

test.each(['built', 'uploaded'] as const)(
  'FLUSH-5: a flush whose partition is given away when its block was %s lists nothing',
  async (at) => {
    await ground.mark(1)
    await ground.batch([['a', T, 1]])
    const stopping = stoppingAt('i1', at)
    await ground.start('i1', stopping)
    await ground.mark(2)
    await ground.until(stopping.isDone, at)
    await ground.pass(5_000)
    expect(ground.manifest(TENANT)?.blocks ?? []).toEqual([])
    ground.kill('i1')
    await ground.start('i2')
    await ground.until(() => ground.blocks.flushed(0) === 1, 'the flush of the next')
    expect(await namesStored()).toEqual(['p0 s1: __name__=a'])
  },
)

test('FLUSH-5: nor does one say that all is flushed that was stopped before it had come to every tenant', async () => {
  await ground.mark(1)
  for (let i = 0; i < 9; i++) await ground.batch([['a', T, 1]], `tenant-${i}`)
  const stopping = stoppingAt('i1', 'listed')
  await ground.start('i1', stopping)
  await ground.mark(2)
  await ground.until(stopping.isDone, 'the first')
  await ground.pass(5_000)
  expect(ground.blocks.flushed(0)).toBe(0)
  ground.kill('i1')
  await ground.start('i2')
  await ground.until(() => ground.blocks.flushed(0) === 1, 'the flush of the next')
  for (let i = 0; i < 9; i++) expect(ground.manifest(`tenant-${i}`)?.blocks).toHaveLength(1)
})

test.each(['built', 'uploaded'] as const)(
  'FLUSH-5: what an owner holds more than was flushed it does not add once it is stopped (%s)',
  async (at) => {
    await ground.mark(1)
    await ground.batch([['a', T, 1]])
    await ground.start('i1')
    const stopping = stoppingAt('i2', at)
    await ground.start('i2', stopping)
    await ground.until(() => ground.owner('i2').isCaughtUp, 'both')
    ground
      .owner('i2')
      .state.head(TENANT)
      .appendFloat(0, 1, T + 5, Float64Array.of(7), 0)
    await ground.mark(2)
    await ground.until(stopping.isDone, at)
    await ground.pass(5_000)
    expect(ground.manifest(TENANT)?.blocks).toHaveLength(1)
    expect(ground.failures).toEqual([])
  },
)

test('FLUSH-5, ASIDE-1: nor does it set anything aside', async () => {
  await ground.mark(1)
  await ground.batch([['a', T, 1]])
  ground.poisoned.add(TENANT)
  await ground.start('i1')
  const create = ground.objects.create.bind(ground.objects)
  let hasStopped = false
  ground.objects.create = (name, ...rest) => {
    if (name.includes('aside') && !hasStopped) {
      hasStopped = true
      void ground.owner('i1').stop()
    }
    return create(name, ...rest)
  }
  await ground.mark(2)
  await ground.until(() => hasStopped, 'it is set aside')
  await ground.pass(5_000)
  expect(await ground.soon(ground.blocks.bucket.newest(['aside.>']))).toEqual([])
  expect(ground.blocks.flushed(0)).toBe(0)
})

test('PURGE-3: a stopped owner frees nothing more, and gives no string back twice', async () => {
  const { state, owner, useAgain } = held()
  void state.use.end()
  useAgain()
  const clock = { ...ground.clock, monotonic: () => 10_000 }
  const blocks = {
    flushed: () => 1,
    flushedRecord: () => ({ digests: { 1: state.digest(1) } }),
    manifest: () => undefined,
  }
  const dropped: number[] = []
  const stopped = { ...owner, isStopped: true, leftBehind: [], drop: (upTo: number) => dropped.push(upTo) }
  const deps = { clock, blocks, config: { dropAfterMs: 0 } } as unknown as AfterFlushDeps
  await dropFlushed(stopped as unknown as Owner, new FlushedSeen(), deps)
  expect(dropped).toEqual([])
})

test('STATE-6: a question that waited, and metadata stated again, read nothing of what was given away meanwhile', async () => {
  const writer = new LogWriter()
  const strings = new StringTable()
  const state = new PartitionState({ strings, onDamage() {}, onSkipped() {}, isForgetful: false })
  state.applyMark(1, writer.mark(1))
  const batch = writer.batch([['a', T, 1]])
  batch.addMetadata({ tenant: TENANT, metric: 'a', type: 'gauge', help: '', unit: '' })
  state.applyBatch(2, batch.seal())
  state.applyMark(3, writer.mark(2))
  let stopped = false
  const waitFor = async () => {
    stopped = true
    await state.use.end()
  }
  const owner = { state, partition: 0, waitFor } as unknown as Owner
  const bus = ground.hub.connect('restater')
  const deps = { bus, random: seededRandom(1), clock: ground.clock, blocks: ground.blocks }
  await expect(ground.soon(restate(owner, 2, deps))).rejects.toMatchObject({ code: 'given-away' })
  expect(stopped, 'it had stated something').toBe(true)
  const asked = { tenant: TENANT, partition: 0 } as unknown as OwnerRequest
  expect(() => hide(owner, ground.blocks, asked)).toThrow(/given away/)
})
