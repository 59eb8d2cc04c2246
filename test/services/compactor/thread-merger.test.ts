// Merging in a thread: the same as here, with errors and an end from both sides.

import type { Worker } from 'node:worker_threads'
import { describe, expect, it } from 'vitest'
import type { MergeIo, MergeJob } from '../../../services/compactor/worker/merge-job.ts'
import { fromThread, threadMerger, toThread } from '../../../services/compactor/worker/thread-worker.ts'
import { AssertionError } from '../../../shared/base/assert.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import { labelsFrom, labelsKey } from '../../../shared/model/labels.ts'
import { memoryFiles } from '../../../shared/tsdb/block/files.ts'
import {
  floatValue,
  mergeInMemory,
  type Sample,
  type SeriesMap,
  stale,
  type TestBlock,
  writeBlock,
} from './merge-ground.ts'

const t0 = 1_700_000_000_000
const merger = threadMerger({ heapBytesMax: 256 * 1024 * 1024 })
const never = new AbortController().signal

function block(offset: number): SeriesMap {
  const labels = labelsFrom({ __name__: 'up', job: 'é' })
  const samples = Array.from({ length: 200 }, (_, i): Sample => {
    return { time: t0 + (i * 3 + offset) * 1000, value: i % 50 === 49 ? stale : floatValue(i) }
  })
  return new Map([[labelsKey(labels), { labels, samples }]])
}

function given(blocks: readonly TestBlock[], change: Partial<MergeIo> = {}) {
  const files = new Map(blocks.map(({ meta, files: own }) => [meta.ulid, memoryFiles(own)]))
  const written = new Map<string, Uint8Array>()
  const io: MergeIo = {
    size: (ulid, file) => files.get(ulid)!.size(file),
    read: (ulid, file, start, end) => files.get(ulid)!.read(file, start, end),
    async write(_, file, bytes) {
      written.set(file, bytes)
    },
    ...change,
  }
  const sources = blocks.map(({ meta }) => ({ ulid: meta.ulid, meta, sampleCount: meta.stats.numSamples! }))
  const job: MergeJob = { sources, removals: [], keeps: [], resolutionMs: 0 }
  return { io, job, written }
}

describe('a merge in a thread', () => {
  it('MERGE-2: writes the bytes that a merge here writes', async () => {
    const blocks = await Promise.all([writeBlock(block(0)), writeBlock(block(1), 2)])
    const { io, job, written } = given(blocks)
    const report = await merger.merge(job, io, never)
    const here = await mergeInMemory(blocks)
    expect(report).toMatchObject({
      samplesIn: 400,
      duplicates: 0,
      outputs: [{ name: 'raw', stats: { sampleCount: 400 } }],
    })
    expect(written).toEqual(here.results.get('raw')!.files)
  })

  it('STEP-2: says which source is damaged', async () => {
    const blocks = await Promise.all([writeBlock(block(0)), writeBlock(block(1), 2)])
    const bad = blocks[1]!
    const index = Uint8Array.from(bad.files.get('index')!)
    index[index.length - 60]! ^= 1
    bad.files.set('index', index)
    const { io, job } = given(blocks)
    await expect(merger.merge(job, io, never)).rejects.toMatchObject({ kind: 'corrupt', ulid: bad.meta.ulid })
    await expect(merger.count(job.sources[1]!, io, never)).rejects.toMatchObject({ ulid: bad.meta.ulid })
    expect(await merger.count(job.sources[0]!, io, never)).toMatchObject({ seriesCount: 1, sampleCount: 200 })
  })

  it('a store that is away stays what it is, and is nobody’s damage', async () => {
    const { io, job } = given([await writeBlock(block(0))], {
      read: () => Promise.reject(new UnavailableError('objects-timeout', 'the store is away')),
    })
    await expect(merger.merge(job, io, never)).rejects.toMatchObject({ kind: 'unavailable', code: 'objects-timeout' })
  })

  it('a thread that ends while it waits for an answer fails its merge, and no other', async () => {
    const blocks = [await writeBlock(block(0)), await writeBlock(block(1), 2)]
    const started = new Promise<Worker>((resolve) => process.once('worker', resolve))
    const { io, job } = given(blocks, {
      async read() {
        await (await started).terminate()
        return new Uint8Array(8)
      },
    })
    await expect(merger.merge(job, io, never)).rejects.toMatchObject({ kind: 'unavailable', code: 'merge-thread' })
    const { io: whole } = given(blocks)
    expect(await merger.merge(job, whole, never)).toMatchObject({ samplesIn: 400 })
  })

  it('an assertion that one merge has met ends that merge, not the compactor of all tenants', () => {
    const error = fromThread(toThread(new AssertionError('samples came in that did not come out')))
    expect(error).not.toBeInstanceOf(AssertionError)
    expect(error.message).toContain('samples came in that did not come out')
  })

  it('ends when it is told to', async () => {
    const stopping = new AbortController()
    const { io, job } = given([await writeBlock(block(0))], {
      read: () => {
        stopping.abort(new Error('enough'))
        return new Promise(() => {})
      },
    })
    await expect(merger.merge(job, io, stopping.signal)).rejects.toThrow('enough')
  })
})
