// BLOCK-2, BLOCK-3: writers and readers hold and read little of a block.
import { describe, expect, test } from 'vitest'
import { labelsFrom } from '../../../../shared/model/labels.ts'
import type { Matcher } from '../../../../shared/model/matcher.ts'
import type { BlockFiles } from '../../../../shared/tsdb/block/files.ts'
import { BlockReader } from '../../../../shared/tsdb/block/reader.ts'
import { BlockWriter } from '../../../../shared/tsdb/block/writer.ts'
import { allOf, buildBlock, columnsOf, EVER, floatAt, type Series } from './blocks.ts'

const SERIES: Series[] = Array.from({ length: 20_000 }, (_, i) => ({
  labels: labelsFrom({ __name__: `metric_${String(i % 50)}`, pod: `pod-${i}`, node: `node-${i % 500}` }),
  samples: Array.from({ length: 30 }, (_, k) => floatAt(k * 1000, Math.sqrt(i * k))),
}))
const block = await buildBlock(SERIES)

class CountedFiles implements BlockFiles {
  readonly size = block.files.size
  reads: { file: string; bytes: number }[] = []

  async read(file: string, start: number, end: number): Promise<Uint8Array> {
    this.reads.push({ file, bytes: end - start })
    return block.files.read(file, start, end)
  }

  take(): { count: number; bytes: number; most: number } {
    const reads = this.reads.splice(0)
    const sizes = reads.map(({ bytes }) => bytes)
    return { count: reads.length, bytes: sizes.reduce((a, b) => a + b, 0), most: Math.max(0, ...sizes) }
  }
}

const pod: Matcher = { name: 'pod', operator: '=', value: 'pod-777' }
const node: Matcher = { name: 'node', operator: '=', value: 'node-7' }
const indexBytes = block.bytes.get('index')!.length

describe('BLOCK-3: a reader holds and reads little', () => {
  test('opening reads two tables in windows and keeps a sample', async () => {
    const files = new CountedFiles()
    const reader = await BlockReader.open(files, block.meta)
    const { bytes, most } = files.take()
    expect(most).toBeLessThanOrEqual(256 * 1024)
    expect(bytes).toBeLessThan(indexBytes / 2)
    expect(reader.bytes).toBeLessThan(indexBytes / 20)
  })

  test('one series of many costs a few small reads, and fewer the second time', async () => {
    const files = new CountedFiles()
    const reader = await BlockReader.open(files, block.meta)
    files.take()
    expect(await allOf(reader.select([pod], EVER))).toHaveLength(1)
    const first = files.take()
    expect(first.count).toBeLessThanOrEqual(8)
    expect(first.bytes).toBeLessThan(100_000)
    await allOf(reader.select([pod], EVER))
    expect(files.take().count).toBeLessThanOrEqual(3)
  })

  test('lists that are longer than what they would spare are not read', async () => {
    const files = new CountedFiles()
    const reader = await BlockReader.open(files, block.meta)
    files.take()
    const all: Matcher = { name: 'pod', operator: '=~', value: 'pod-.*' }
    expect(await allOf(reader.select([pod, all], EVER))).toHaveLength(1)
    expect(files.take().bytes).toBeLessThan(100_000)
  })

  test('all series come in batches, neighbours in one read', async () => {
    const files = new CountedFiles()
    const reader = await BlockReader.open(files, block.meta)
    files.take()
    let batches = 0
    for await (const batch of reader.allSeries()) {
      batches++
      expect(batch.length).toBeLessThanOrEqual(512)
    }
    const { count, most } = files.take()
    expect(batches).toBe(40)
    expect(count).toBeLessThan(500)
    expect(most).toBeLessThanOrEqual(1024 * 1024)
  })

  test('what is read together waits together: a slow store is waited for a few times, and is not asked for everything at once', async () => {
    const pieceBytes = 64 * 1024
    let inFlight = 0
    let waits = 0
    let most = 0
    const slow: BlockFiles = {
      size: block.files.size,
      pieceBytes,
      async read(file, start, end) {
        if (inFlight++ === 0) waits++
        most = Math.max(most, inFlight)
        await new Promise<void>((resolve) => setTimeout(resolve, 5))
        inFlight--
        return block.files.read(file, start, end)
      },
    }
    const reader = await BlockReader.open(slow, block.meta)
    const opening = waits
    const metric: Matcher = { name: '__name__', operator: '=~', value: 'metric_1.?' }
    expect(await allOf(reader.select([metric], EVER))).toHaveLength(11 * 400)
    expect(opening).toBeLessThan(10)
    expect(waits - opening).toBeLessThan(20)
    expect(most).toBeLessThanOrEqual(32)
  })

  test('a range outside the block reads nothing', async () => {
    const files = new CountedFiles()
    const reader = await BlockReader.open(files, block.meta)
    files.take()
    expect(await allOf(reader.select([node], { startMs: 1e9, endMs: 2e9 }))).toEqual([])
    expect(await reader.labelNames([], { startMs: -9, endMs: -1 })).toEqual([])
    expect(files.take().count).toBe(0)
  })

  test('who leaves early or is told to stop ends the reading', async () => {
    const files = new CountedFiles()
    const reader = await BlockReader.open(files, block.meta)
    files.take()
    for await (const batch of reader.allSeries()) {
      expect(batch.length).toBeGreaterThan(0)
      break
    }
    expect(files.take().count).toBeLessThan(100)
    const stop = new AbortController()
    const seen = async (): Promise<void> => {
      for await (const _ of reader.allSeries({ signal: stop.signal })) stop.abort(new Error('enough'))
    }
    await expect(seen()).rejects.toThrow('enough')
  })
})

describe('BLOCK-2: a writer lets go of what is full', () => {
  test('chunk files leave while series come, and backlog waits for slow stores', async () => {
    let waiting = 0
    let waitingMax = 0
    const names: string[] = []
    const onFile = async (name: string): Promise<void> => {
      names.push(name)
      waitingMax = Math.max(waitingMax, ++waiting)
      await new Promise(setImmediate)
      waiting--
    }
    const writer = new BlockWriter({ onFile, chunkFileBytesMax: 2000 })
    const sorted = [...SERIES.slice(0, 400)].sort((a, b) => (a.labels.join('\0') < b.labels.join('\0') ? -1 : 1))
    for (const { labels, samples } of sorted) {
      writer.addSeries(labels, columnsOf(samples).asRun())
      await writer.backlog()
    }
    expect(names.length).toBeGreaterThan(20)
    const stats = await writer.finish()
    expect(waitingMax).toBeLessThanOrEqual(5)
    expect(names).toEqual([...stats.files.map(({ name }) => name).filter((name) => name !== 'index'), 'index'])
  })
})
