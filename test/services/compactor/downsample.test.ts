// Windows: what they hold, and which of them are read. How far answers from them are off: test/services/querier/window-series.test.ts.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { windowsOf } from '../../../services/compactor/merge/downsample.ts'
import { windowDays, windowFor } from '../../../shared/blocks/downsampled.ts'
import type { Aggregate, BlockEntry, Manifest } from '../../../shared/contracts/blocks.ts'
import { isStaleAt } from '../../../shared/model/sample.ts'
import { wordsOf } from '../../../shared/tsdb/chunk/xor.ts'
import { SampleColumns, type SampleRun } from '../../../shared/tsdb/columns.ts'
import {
  anyCounter,
  anyPoints,
  DAY,
  day0,
  HOUR,
  MINUTE,
  type Point,
  R,
  runOf,
  trueIncrease,
} from '../windows-ground.ts'
import { histogramOf } from './merge-ground.ts'

/** Copies that outlive the next call. */
function made(points: readonly Point[], resolutionMs = R): Partial<Record<Aggregate, SampleRun>> {
  const copy = (run: SampleRun): SampleRun => ({ ...run, times: run.times.slice(), values: run.values.slice() })
  return Object.fromEntries(windowsOf(runOf(points), resolutionMs).map(([name, run]) => [name, copy(run)]))
}

const valuesOf = (run: SampleRun | undefined): number[] =>
  run === undefined ? [] : [...run.values.slice(run.start, run.end)]
const timesOf = (run: SampleRun | undefined): number[] =>
  run === undefined ? [] : [...run.times.slice(run.start, run.end)]

describe('making windows', () => {
  it('each holds count, sum, min, max and last of its samples, at the time of its last one', () => {
    fc.assert(
      fc.property(anyPoints(day0), (points) => {
        const { count, sum, min, max, last } = made(points)
        const windows = Map.groupBy(points, ({ time }) => Math.floor(time / R))
        const full = [...windows.values()].map((list) => ({
          time: list.at(-1)!.time,
          list,
          live: list.flatMap(({ value }) => (value === 'stale' ? [] : value)),
        }))
        const live = full.filter((window) => window.live.length > 0)
        expect(timesOf(last)).toEqual(full.map(({ time }) => time))
        expect(timesOf(count)).toEqual(live.map(({ time }) => time))
        expect(valuesOf(count)).toEqual(live.map((window) => window.live.length))
        expect(valuesOf(sum)).toEqual(live.map((window) => window.live.reduce((a, b) => a + b, 0)))
        expect(valuesOf(min)).toEqual(live.map((window) => Math.min(...window.live)))
        expect(valuesOf(max)).toEqual(live.map((window) => Math.max(...window.live)))
        const words = wordsOf(last!.values)
        expect(full.map((_, i) => isStaleAt(words, i))).toEqual(full.map(({ list }) => list.at(-1)!.value === 'stale'))
      }),
      { numRuns: 100 },
    )
  })

  it('a counter never falls, begins with the first sample, and ends with all increases', () => {
    fc.assert(
      fc.property(anyCounter, (points) => {
        const { counter } = made(points)
        const values = valuesOf(counter)
        expect(values[0]).toBe(points[0]!.value)
        expect(values).toEqual(values.toSorted((a, b) => a - b))
        expect(values.at(-1)! - values[0]!).toBe(trueIncrease(points, 0, Infinity))
      }),
      { numRuns: 50 },
    )
  })

  it('histograms have count, sum, last and counter; gauges no counter', () => {
    const columns = new SampleColumns(16)
    for (const [i, counts] of [
      [1, 2],
      [2, 4],
      [1, 1],
      [3, 3],
    ].entries())
      columns.pushHistogram(day0 + i * MINUTE, histogramOf(counts))
    const windows = Object.fromEntries(windowsOf(columns.asRun(), R))
    expect(valuesOf(windows['count'])).toEqual([4])
    expect(windows['sum']!.histograms![0]).toMatchObject({ isFloat: true, count: 17, positiveBuckets: [7, 10] })
    expect(windows['last']!.histograms![0]).toMatchObject({ count: 6 })
    expect(windows['counter']!.histograms!.slice(0, 2)).toMatchObject([{ count: 3 }, { count: 3 + 3 + 2 + 4 }])
    const gauges = new SampleColumns(16)
    gauges.pushHistogram(day0, histogramOf([1], { resetHint: 'gauge' }))
    expect(Object.fromEntries(windowsOf(gauges.asRun(), R))['counter']!.end).toBe(0)
  })
})

describe('choosing', () => {
  it('windows of at most a fifth of the step and of the range, of a hundredth of the range of what is looked at once', () => {
    expect(windowFor({ stepMs: 24 * MINUTE })).toBe(0)
    expect(windowFor({ stepMs: 25 * MINUTE })).toBe(R)
    expect(windowFor({ stepMs: 5 * HOUR })).toBe(HOUR)
    expect(windowFor({ stepMs: 5 * HOUR, rangeMs: HOUR })).toBe(R)
    expect(windowFor({ stepMs: 5 * HOUR, rangeMs: R })).toBe(0)
    expect(windowFor({ stepMs: 0 })).toBe(0)
    expect(windowFor({ stepMs: 0, rangeMs: 100 * R })).toBe(R)
    expect(windowFor({ stepMs: 0, rangeMs: 100 * HOUR })).toBe(HOUR)
    expect(windowFor({ stepMs: MINUTE, rangeMs: DAY }, HOUR)).toBe(HOUR)
    expect(windowFor({ stepMs: MINUTE, rangeMs: HOUR }, HOUR)).toBe(R)
    expect(windowFor({ stepMs: 5 * HOUR }, R)).toBe(R)
  })

  it('LOG-21: a raw block that the windows were not made of switches the day off', () => {
    const entry = (ulid: string, change: Partial<BlockEntry>): BlockEntry => ({
      ...{ ulid, minTime: day0, maxTime: day0 + HOUR, seriesCount: 1, sampleCount: 1, chunkCount: 1, bytes: 1 },
      ...{ metaSha256: '', origin: { kind: 'upload' }, resolutionMs: 0 },
      ...change,
    })
    const windows = entry('w', { resolutionMs: R, aggregate: 'last', rawUlids: ['a', 'b'] })
    const daysOf = (...raw: BlockEntry[]) =>
      windowDays({ blocks: [windows, ...raw], deletes: [] } as unknown as Manifest, R).map(({ startMs }) => startMs)
    expect(daysOf(entry('a', {}), entry('b', {}))).toEqual([day0])
    expect(daysOf()).toEqual([day0])
    expect(daysOf(entry('a', {}), entry('late', {}))).toEqual([])
    expect(daysOf(entry('a', {}), entry('other-day', { minTime: day0 + DAY, maxTime: day0 + 2 * DAY }))).toEqual([day0])
    expect(daysOf(entry('wide', { minTime: day0 - DAY, maxTime: day0 + 2 * DAY }))).toEqual([])
  })
})
