// What comes out of an uploaded block is what went in, cut at aligned times.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { importBlock } from '../../../services/compactor/import/import-block.ts'
import type { ImportIo, ImportReport } from '../../../services/compactor/worker/import-job.ts'
import { labelsFrom, labelsKey, METRIC_NAME } from '../../../shared/model/labels.ts'
import { META_FILE, memoryFiles, TOMBSTONES_FILE } from '../../../shared/tsdb/block/files.ts'
import { type BlockMeta, blockMeta, metaBytes } from '../../../shared/tsdb/block/meta.ts'
import { BlockReader } from '../../../shared/tsdb/block/reader.ts'
import { type Tombstone, writeTombstones } from '../../../shared/tsdb/block/tombstones.ts'
import { verifyBlock } from '../../../shared/tsdb/block/verify.ts'
import { staleHistogram } from '../../../shared/tsdb/histogram-order.ts'
import { anyBlock, naiveMerge, plainOf, readBlock, type SeriesMap, type TestBlock, writeBlock } from './merge-ground.ts'

const HOUR_MS = 3_600_000
const BASE = 1_700_000_000_000
const limits = { labelNamesPerSeriesMax: 30, labelNameBytesMax: 100, labelValueBytesMax: 100 }

/** Random series whose times are `factor` times as far apart. */
const anyLongBlock = fc.tuple(anyBlock, fc.constantFrom(1, 7, 40, 600)).map(([block, factor]) => {
  const stretched: SeriesMap = new Map()
  for (const { labels, samples } of block.values()) {
    const named = labelsFrom([...pairsOf(labels).filter(([name]) => name !== METRIC_NAME), [METRIC_NAME, 'm'] as const])
    const later = samples.map(({ time, value }) => ({ time: BASE + (time - BASE) * factor, value }))
    stretched.set(labelsKey(named), { labels: named, samples: later })
  }
  return stretched
})

async function imported(
  { meta, files }: TestBlock,
  change: { ulid?: string; latestMs?: number; earliestMs?: number; bytes?: number } = {},
  thanos: object = {},
): Promise<{ report: ImportReport; results: TestBlock[] }> {
  const local = memoryFiles(new Map([...files, [META_FILE, metaBytes({ ...meta, thanos } as BlockMeta)]]))
  const written = new Map<string, Map<string, Uint8Array>>()
  const io: ImportIo = {
    size: (_, file) => local.size(file),
    read: (_, file, start, end) => local.read(file, start, end),
    async write(startMs, file, bytes) {
      const own = written.get(startMs) ?? new Map<string, Uint8Array>()
      written.set(startMs, own.set(file, bytes))
    },
  }
  const bytes = [...files.values()].reduce((sum, { length }) => sum + length, metaBytes(meta).length)
  const job = {
    bytes,
    ...{ ulid: meta.ulid, hasTombstones: files.has(TOMBSTONES_FILE), limits, latestMs: BASE * 2, ...change },
    ...{ ulid: meta.ulid, hasTombstones: files.has(TOMBSTONES_FILE), limits },
    ...{ latestMs: BASE * 2, earliestMs: Number.NEGATIVE_INFINITY, ...change },
  }
  const report = await importBlock(job, io, new AbortController().signal)
  const results = report.outputs.map(({ startMs, stats }): TestBlock => {
    const own = blockMeta({ tenant: 'acme', stats, origin: { kind: 'upload' }, level: 1 })
    return { meta: own, files: written.get(String(startMs))! }
  })
  return { report, results }
}

const pairsOf = (labels: readonly string[]) =>
  Array.from({ length: labels.length / 2 }, (_, i) => [labels[2 * i]!, labels[2 * i + 1]!] as const)

/** Without Carillon's section, as others write it. */
function foreign({ meta, files }: TestBlock, change: Partial<BlockMeta> = {}): TestBlock {
  const { carillon: _, ...rest } = meta
  return { meta: { ...rest, ...change }, files }
}

describe('an import', () => {
  test('IMPORT-2, IMPORT-3: any block comes out whole, each part within one aligned range', async () => {
    await fc.assert(
      fc.asyncProperty(anyLongBlock, async (series) => {
        const block = await writeBlock(series)
        const { report, results } = await imported(foreign(block))
        const parts: SeriesMap[] = []
        for (const result of results) {
          const all = memoryFiles(new Map([...result.files, [META_FILE, metaBytes(result.meta)]]))
          expect(await Array.fromAsync(verifyBlock(all, { tenant: 'acme' }))).toEqual([])
          parts.push(await readBlock(result))
          const { minTime, maxTime } = result.meta
          const isAligned = [2, 12, 24, 24 * 28].some(
            (hours) => Math.floor(minTime / (hours * HOUR_MS)) === Math.floor((maxTime - 1) / (hours * HOUR_MS)),
          )
          expect(isAligned).toBe(true)
        }
        expect(plainOf(naiveMerge(parts))).toEqual(plainOf(series))
        expect(report.samplesIn).toBe(block.meta.stats.numSamples)
      }),
      { numRuns: 60 },
    )
  })

  test('IMPORT-2: what tombstones take stays out, and nothing else', async () => {
    await fc.assert(
      fc.asyncProperty(
        anyLongBlock,
        fc.array(fc.tuple(fc.nat(5), fc.nat(900), fc.nat(900)), { minLength: 1, maxLength: 4 }),
        async (series, cuts) => {
          const block = await writeBlock(series)
          const refs: { ref: number; key: string }[] = []
          const reader = await BlockReader.open(memoryFiles(block.files), block.meta)
          for await (const batch of reader.allSeries())
            for (const { ref, labels } of batch) refs.push({ ref, key: labelsKey(labels) })
          const stones = cuts.map(([index, start, length]): Tombstone & { key: string } => {
            const startMs = BASE + start * 1000
            return { ...refs[index % refs.length]!, startMs, endMs: startMs + length * 1000 }
          })
          const files = new Map([...block.files, [TOMBSTONES_FILE, writeTombstones(stones)]])
          const { report, results } = await imported({ ...foreign(block), files })
          const left: SeriesMap = new Map()
          for (const [key, { labels, samples }] of series) {
            const own = stones.filter((stone) => stone.key === key)
            const kept = samples.filter(
              ({ time }) => !own.some(({ startMs, endMs }) => time >= startMs && time <= endMs),
            )
            if (kept.length > 0) left.set(key, { labels, samples: kept })
          }
          expect(plainOf(naiveMerge(await Promise.all(results.map(readBlock))))).toEqual(plainOf(left))
          const keptCount = [...left.values()].reduce((sum, { samples }) => sum + samples.length, 0)
          expect(report.removed).toBe(report.samplesIn - keptCount)
        },
      ),
      { numRuns: 40 },
    )
  })

  test.each([
    ['times before any that are kept', -(2 ** 51) - 1, 1],
    ['times behind any that are kept', 2 ** 51 + 1, 1],
    ['counts beyond what chunks keep', BASE, 2 ** 52],
  ])('IMPORT-1: a block with %s is refused before anything is written', async (_, time, count) => {
    const sides = { positiveSpans: [], positiveBuckets: [], negativeSpans: [], negativeBuckets: [], customValues: [] }
    const histogram = {
      ...staleHistogram(false),
      ...sides,
      resetHint: 'gauge',
      sum: 1,
      count,
      zeroCount: count,
    } as const
    const labels = labelsFrom({ [METRIC_NAME]: 'm' })
    const block = await writeBlock(new Map([['m', { labels, samples: [{ time, value: histogram }] }]]))
    const tried = imported(foreign(block), { latestMs: Number.MAX_SAFE_INTEGER })
    await expect(tried).rejects.toThrow(time === BASE ? 'beyond what can be kept' : 'are no dates')
  })

  test('IMPORT-4: labels that stand in every output do not make much of little', async () => {
    const DAYS = 60
    const name = (which: number, label: number) => `${which}-${label}-`.padEnd(100, 'x')
    const series: SeriesMap = new Map()
    for (let which = 0; which < 250; which++) {
      const own = Array.from({ length: 25 }, (_, label) => [`l${label}`, name(which, label)] as const)
      const labels = labelsFrom([[METRIC_NAME, 'm'], ...own])
      const samples = Array.from({ length: DAYS }, (_, day) => ({
        ...{ time: BASE + day * 24 * HOUR_MS, value: { low: 0, high: 0 } },
      }))
      series.set(labelsKey(labels), { labels, samples })
    }
    const block = foreign(await writeBlock(series))
    await expect(imported(block)).rejects.toMatchObject({ code: 'err-carillon-upload-grows' })
  })

  test.each([-(2 ** 51), 2 ** 51])('a block with samples at %i comes in', async (time) => {
    const labels = labelsFrom({ [METRIC_NAME]: 'm' })
    const value = { low: 0, high: 0 }
    const block = await writeBlock(new Map([['m', { labels, samples: [{ time, value }] }]]))
    const { results } = await imported(foreign(block), { latestMs: Number.MAX_SAFE_INTEGER })
    expect(plainOf(await readBlock(results[0]!))).toEqual(plainOf(await readBlock(block)))
  })

  test('EXTERNAL-1: external labels become labels of every series, whatever the order makes of that', async () => {
    const names = fc.constantFrom('aa', 'b', 'cluster', 'k', 'zz')
    const externals = fc.dictionary(names, fc.constantFrom('eu', 'us'), { minKeys: 1, maxKeys: 3 })
    await fc.assert(
      fc.asyncProperty(anyLongBlock, externals, async (series, labels) => {
        const block = foreign(await writeBlock(series))
        const clash = [...series.values()].some((one) => Object.keys(labels).some((name) => one.labels.includes(name)))
        fc.pre(!clash)
        const told = { labels: { ...labels, __org_id__: 'somebody', __compactor_shard_id__: '1_of_4' } }
        const { results } = await imported(block, {}, told)
        const wanted: SeriesMap = new Map()
        for (const one of series.values()) {
          const all = labelsFrom([...pairsOf(one.labels), ...Object.entries(labels)])
          wanted.set(labelsKey(all), { labels: all, samples: one.samples })
        }
        expect(plainOf(naiveMerge(await Promise.all(results.map(readBlock))))).toEqual(plainOf(wanted))
      }),
      { numRuns: 60 },
    )
  })

  test('EXTERNAL-2: an external label that a series has itself is refused by name', async () => {
    const labels = labelsFrom({ [METRIC_NAME]: 'm', cluster: 'own' })
    const block = await writeBlock(new Map([['m', { labels, samples: [{ time: BASE, value: { low: 0, high: 0 } }] }]]))
    const tried = imported(foreign(block), {}, { labels: { cluster: 'eu' } })
    await expect(tried).rejects.toThrow('external label cluster="eu", and m{cluster="own"} has one of that name itself')
    await expect(imported(foreign(block), {}, { labels: { cluster: 1 } })).rejects.toThrow(
      'no object of names and texts',
    )
    const tooLong = imported(foreign(block), {}, { labels: { region: 'x'.repeat(2049) } })
    await expect(tooLong).rejects.toMatchObject({ code: 'err-carillon-label-value-too-long' })
  })

  test('what nobody keeps any more, and windows of Thanos, are refused', async () => {
    const labels = labelsFrom({ [METRIC_NAME]: 'm' })
    const block = await writeBlock(new Map([['m', { labels, samples: [{ time: BASE, value: { low: 0, high: 0 } }] }]]))
    const tooOld = imported(foreign(block), { earliestMs: BASE + 1 })
    await expect(tooOld).rejects.toMatchObject({ code: 'err-carillon-upload-too-old' })
    expect((await imported(foreign(block), { earliestMs: BASE })).report.samplesIn).toBe(1)
    const windows = imported(foreign(block), {}, { downsample: { resolution: 300_000 } })
    await expect(windows).rejects.toMatchObject({ code: 'err-carillon-upload-downsampled' })
  })

  test('a block of ours that says where it is from comes in as others do', async () => {
    const series = fc.sample(anyLongBlock, { numRuns: 1, seed: 7 })[0]!
    const { results } = await imported(await writeBlock(series))
    expect(plainOf(naiveMerge(await Promise.all(results.map(readBlock))))).toEqual(plainOf(series))
  })
})
