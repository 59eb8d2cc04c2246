// BLOCK-4: damage is found wherever it is, and never makes an answer smaller.
import { describe, expect, test } from 'vitest'
import { CorruptError } from '../../../../shared/base/errors.ts'
import { labelsFrom } from '../../../../shared/model/labels.ts'
import type { Matcher } from '../../../../shared/model/matcher.ts'
import { BlockCorruptError, META_FILE, memoryFiles } from '../../../../shared/tsdb/block/files.ts'
import { type BlockMeta, fileOf, metaBytes } from '../../../../shared/tsdb/block/meta.ts'
import { BlockReader } from '../../../../shared/tsdb/block/reader.ts'
import { verifyBlock } from '../../../../shared/tsdb/block/verify.ts'
import { allOf, type Block, buildBlock, EVER, floatAt, histogram, type Series, TENANT } from './blocks.ts'

const SERIES: Series[] = [0, 1, 2].map((i) => ({
  labels: labelsFrom({ __name__: i < 2 ? 'm' : 'n', pod: `p${i}`, ...(i === 1 ? { job: 'é' } : {}) }),
  samples: Array.from({ length: 140 }, (_, k) =>
    i === 2 ? { ...floatAt(k, 0), histogram: histogram([k, k + 1]) } : floatAt(k * 1000, (k * i) % 5),
  ),
}))

const QUESTIONS: Matcher[][] = [
  [{ name: '__name__', operator: '=', value: 'm' }],
  [{ name: 'pod', operator: '=~', value: '.+[12]' }],
  [{ name: 'job', operator: '=', value: '' }],
]

/** Everything that a reader can be asked, as one text. */
async function answers(bytes: ReadonlyMap<string, Uint8Array>, meta: BlockMeta): Promise<string> {
  return answersOf(await BlockReader.open(memoryFiles(bytes), meta))
}

async function answersOf(reader: BlockReader): Promise<string> {
  const list: unknown[] = [await allOf(reader.allSeries()), await reader.labelNames([], EVER)]
  for (const question of QUESTIONS) list.push(await allOf(reader.select(question, EVER)))
  for (const name of ['pod', 'job']) list.push(await reader.labelValues(name, [], EVER))
  return JSON.stringify(list)
}

async function expectFound(
  block: Block,
  damaged: ReadonlyMap<string, Uint8Array>,
  meta: BlockMeta,
  wanted: string,
): Promise<void> {
  const metaSha256 = fileOf(META_FILE, block.bytes.get(META_FILE)!).sha256
  const problems = await Array.fromAsync(verifyBlock(memoryFiles(damaged), { tenant: TENANT, metaSha256 }))
  expect(problems.length).toBeGreaterThan(0)
  try {
    expect(await answers(damaged, meta)).toBe(wanted)
  } catch (error) {
    if (!(error instanceof CorruptError)) throw error
    expect(error).toBeInstanceOf(BlockCorruptError)
  }
}

/** The same block as Prometheus would have it: without the section that lists files and their SHA-256. */
function foreign(block: Block): Block {
  const { carillon: _, ...meta } = block.meta
  const bytes = new Map(block.bytes)
  bytes.set(META_FILE, metaBytes(meta))
  return { ...block, meta, bytes, files: memoryFiles(bytes) }
}

describe.each(['ours', 'foreign'])('a block, %s', async (kind) => {
  const ours = await buildBlock(SERIES, 250)
  const block = kind === 'ours' ? ours : foreign(ours)
  const wanted = await answers(block.bytes, block.meta)

  test('is whole', async () => {
    expect(ours.stats.files.length).toBeGreaterThan(2)
    expect(await Array.fromAsync(verifyBlock(block.files))).toEqual([])
  })

  test.each([...block.bytes.keys()])('a flipped bit in %s', async (file) => {
    const good = block.bytes.get(file)!
    for (let at = 0; at < good.length; at++) {
      const bad = Uint8Array.from(good)
      bad[at]! ^= 1 << (at % 8)
      await expectFound(block, new Map(block.bytes).set(file, bad), block.meta, wanted)
    }
  })

  test.each([...block.bytes.keys()])('a truncated %s, or none', async (file) => {
    const good = block.bytes.get(file)!
    for (let length = 0; length < good.length; length += length < 64 || length > good.length - 80 ? 1 : 7) {
      await expectFound(block, new Map(block.bytes).set(file, good.subarray(0, length)), block.meta, wanted)
    }
    const without = new Map(block.bytes)
    without.delete(file)
    await expectFound(block, without, block.meta, wanted)
  })
})

test('a bit that turns after the block was opened', async () => {
  const block = await buildBlock(SERIES)
  const wanted = await answers(block.bytes, block.meta)
  const good = block.bytes.get('index')!
  let found = 0
  for (let at = 0; at < good.length; at++) {
    const bytes = new Map(block.bytes).set('index', Uint8Array.from(good))
    const reader = await BlockReader.open(memoryFiles(bytes), block.meta)
    bytes.get('index')![at]! ^= 1 << (at % 8)
    try {
      expect(await answersOf(reader)).toBe(wanted)
    } catch (error) {
      if (!(error instanceof BlockCorruptError)) throw error
      found++
    }
  }
  expect(found).toBeGreaterThan(good.length / 2)
})

describe('rules that no checksum covers', () => {
  const problemsOf = async (block: Block, meta: object): Promise<string[]> => {
    const bytes = new Map(block.bytes).set(META_FILE, metaBytes({ ...foreign(block).meta, ...meta } as BlockMeta))
    return (await Array.fromAsync(verifyBlock(memoryFiles(bytes)))).map(({ file, text }) => `${file}: ${text}`)
  }

  test('counts and times of meta.json', async () => {
    const block = await buildBlock(SERIES)
    const { stats } = block.meta
    expect(await problemsOf(block, { stats: { ...stats, numSamples: 1 } })).toEqual([
      'meta.json: numSamples is 1, the block has 420',
    ])
    expect(await problemsOf(block, { stats: { ...stats, numSeries: 4 } })).toEqual([
      'index: holds 3 series, meta.json says 4',
    ])
    expect(await problemsOf(block, { maxTime: 130_000 })).toHaveLength(2)
  })

  test('another ULID than the content gives', async () => {
    const block = await buildBlock(SERIES)
    const problems = await Array.fromAsync(verifyBlock(block.files, { tenant: 'team-b' }))
    expect(problems.map(({ text }) => text)).toEqual([expect.stringContaining('the content gives')])
  })
})
