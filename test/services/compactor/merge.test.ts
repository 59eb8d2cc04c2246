// Merging blocks: equal to a merge too simple to be wrong, and chunks go over untouched where they may.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Keep } from '../../../services/compactor/plan-types.ts'
import type { Removal } from '../../../services/compactor/worker/merge-job.ts'
import { labelOf, labelsFrom, labelsKey } from '../../../shared/model/labels.ts'
import { memoryFiles } from '../../../shared/tsdb/block/files.ts'
import { metaBytes } from '../../../shared/tsdb/block/meta.ts'
import { verifyBlock } from '../../../shared/tsdb/block/verify.ts'
import {
  anyBlock,
  floatValue,
  histogramOf,
  isHistogram,
  mergeInMemory,
  naiveMerge,
  plainOf,
  readBlock,
  type Sample,
  type SeriesMap,
  stale,
  type TestBlock,
  writeBlock,
} from './merge-ground.ts'

const t0 = 1_700_000_000_000

async function written(blocks: readonly SeriesMap[]): Promise<TestBlock[]> {
  return Promise.all(blocks.map((block, index) => writeBlock(block, index + 1)))
}

function one(labels: Record<string, string>, samples: readonly Sample[]): SeriesMap {
  const set = labelsFrom(labels)
  return new Map([[labelsKey(set), { labels: set, samples }]])
}

const samplesOf = (block: SeriesMap): number =>
  [...block.values()].reduce((sum, { samples }) => sum + samples.length, 0)
const ramp = (from: number, count: number, stepMs = 15_000): Sample[] =>
  Array.from({ length: count }, (_, i) => ({ time: from + i * stepMs, value: floatValue(i) }))

describe('MERGE-1', () => {
  it('any blocks merge into what a simple merge gives, and the counts add up', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyBlock, { minLength: 1, maxLength: 5 }), async (blocks) => {
        const { report, results } = await mergeInMemory(await written(blocks))
        const expected = naiveMerge(blocks)
        const result = results.get('raw')!
        expect(plainOf(await readBlock(result))).toEqual(plainOf(expected))
        expect(report.samplesIn).toBe(blocks.reduce((sum, block) => sum + samplesOf(block), 0))
        expect(report.samplesIn - report.duplicates).toBe(samplesOf(expected))
        expect(report.outputs[0]!.stats.sampleCount).toBe(samplesOf(expected))
        const problems = []
        for await (const problem of verifyBlock(
          memoryFiles(new Map([...result.files, ['meta.json', metaBytes(result.meta)]])),
        ))
          problems.push(problem)
        expect(problems).toEqual([])
      }),
      { numRuns: 60 },
    )
  })

  it('in any grouping the same samples come out', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyBlock, { minLength: 3, maxLength: 4 }), async (blocks) => {
        const [first, ...rest] = await written(blocks)
        const { results } = await mergeInMemory(rest)
        const nested = await mergeInMemory([first!, results.get('raw')!])
        expect(plainOf(await readBlock(nested.results.get('raw')!))).toEqual(plainOf(naiveMerge(blocks)))
      }),
      { numRuns: 30 },
    )
  })

  it('removals and keeps leave out exactly what they name', async () => {
    const matcher = { name: 'a', operator: '=', value: '1' } as const
    const removal: Removal = { selectors: [[matcher]], startMs: t0 + 100_000, endMs: t0 + 200_000 }
    const keeps: Keep[] = [
      { matchers: [{ name: 'b', operator: '!=', value: '' }], beforeMs: t0 + 300_000 },
      { matchers: [], beforeMs: t0 + 50_000 },
    ]
    await fc.assert(
      fc.asyncProperty(fc.array(anyBlock, { minLength: 1, maxLength: 3 }), async (blocks) => {
        const { report, results } = await mergeInMemory(await written(blocks), { removals: [removal], keeps })
        const merged = naiveMerge(blocks)
        const expected: SeriesMap = new Map()
        for (const [key, { labels, samples }] of merged) {
          const left = samples.filter(({ time }) => {
            if (labelOf(labels, 'a') === '1' && time >= removal.startMs && time <= removal.endMs) return false
            return time >= (labelOf(labels, 'b') === '' ? t0 + 50_000 : t0 + 300_000)
          })
          if (left.length > 0) expected.set(key, { labels, samples: left })
        }
        const result = results.get('raw')
        expect(result === undefined ? {} : plainOf(await readBlock(result))).toEqual(plainOf(expected))
        expect(report.removed).toBe(samplesOf(merged) - samplesOf(expected))
      }),
      { numRuns: 40 },
    )
  })
})

describe('chunks', () => {
  it('full ones that do not overlap go over byte for byte', async () => {
    const blocks = [one({ a: '1' }, ramp(t0, 240)), one({ a: '1' }, ramp(t0 + 240 * 15_000, 240))]
    const { report } = await mergeInMemory(await written(blocks))
    expect(report).toMatchObject({ chunksIn: 4, chunksPassed: 4, duplicates: 0 })
  })

  it('small ones become chunks of 120', async () => {
    const blocks = [0, 1, 2, 3].map((i) => one({ a: '1' }, ramp(t0 + i * 30 * 60_000, 30, 60_000)))
    const { report } = await mergeInMemory(await written(blocks))
    expect(report).toMatchObject({ chunksIn: 4, chunksPassed: 0 })
    expect(report.outputs[0]!.stats.chunkCount).toBe(1)
  })

  it('the same block twice gives it once', async () => {
    const samples: Sample[] = [...ramp(t0, 100), { time: t0 + 100 * 15_000, value: stale }]
    const blocks = await written([one({ a: '1' }, samples), one({ a: '1' }, samples)])
    const { report, results } = await mergeInMemory(blocks)
    expect(report.duplicates).toBe(101)
    expect(plainOf(await readBlock(results.get('raw')!))).toEqual(plainOf(one({ a: '1' }, samples)))
  })
})

describe('reset hints of histograms', () => {
  const at = (index: number, counts: readonly number[], hint: 'unknown' | 'reset' = 'unknown'): Sample => ({
    time: t0 + index * 1000,
    value: histogramOf(counts, { resetHint: hint }),
  })
  const hintsOf = async (blocks: readonly SeriesMap[]) => {
    const { results } = await mergeInMemory(await written(blocks))
    const [series] = (await readBlock(results.get('raw')!)).values()
    return series!.samples.map(({ value }) => (isHistogram(value) ? value.resetHint : ''))
  }

  it('what a sender announced is not said: it spoke of the sample that it sent before', async () => {
    const hints = await hintsOf([one({ a: '1' }, [at(1, [5]), at(2, [9], 'reset')]), one({ a: '1' }, [at(0, [1])])])
    expect(hints).toEqual(['unknown', 'unknown', 'unknown'])
  })

  it('"no reset" is not said across samples that fell', async () => {
    const rising = Array.from({ length: 150 }, (_, i) => at(2 * i, [i]))
    const hints = await hintsOf([one({ a: '1' }, rising), one({ a: '1' }, [at(239, [0])])])
    const [series] = naiveMerge([one({ a: '1' }, rising), one({ a: '1' }, [at(239, [0])])]).values()
    const fall = series!.samples.findIndex(({ time }) => time === t0 + 239_000)
    expect(hints[fall]).not.toBe('no-reset')
  })
})

describe('damage', () => {
  it('names the source that it found it in', async () => {
    const blocks = await written([one({ a: '1' }, ramp(t0, 100)), one({ a: '1' }, ramp(t0 + 1, 100))])
    const bad = blocks[1]!
    const chunks = Uint8Array.from(bad.files.get('chunks/000001')!)
    chunks[40]! ^= 1
    bad.files.set('chunks/000001', chunks)
    await expect(mergeInMemory(blocks)).rejects.toMatchObject({
      code: 'err-carillon-damaged-source',
      ulid: bad.meta.ulid,
    })
  })
})
