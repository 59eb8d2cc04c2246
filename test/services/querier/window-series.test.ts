// How far functions over windows are from the same over the samples, through the engine (docs/formats/downsampled.md).

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { windowsOf } from '../../../services/compactor/merge/downsample.ts'
import { uniteWindows, withSpans } from '../../../services/querier/windows/window-series.ts'
import { aggregateOf, besideOf } from '../../../services/querier/windows/windows.ts'
import { UNHURRIED } from '../../../shared/base/breathing.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import type { Aggregate } from '../../../shared/contracts/blocks.ts'
import { createEngine, ENGINE_DEFAULTS } from '../../../shared/promql/engine.ts'
import type { SeriesSamples, SeriesSource, WindowsWanted } from '../../../shared/promql/source.ts'
import type { SampleRun } from '../../../shared/tsdb/columns.ts'
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

const labels = ['__name__', 'x_total']

function seriesOf({ times, values, start, end }: SampleRun): SeriesSamples {
  return { labels, times: times.slice(start, end), values: values.slice(start, end) }
}

const answerOf = (series: SeriesSamples) => ({ series: [series], hashes: [1], otherHashes: [] })

/** A series of which the days in `windowed` are windows, the others samples. */
async function asked(
  points: readonly Point[],
  use: WindowsWanted['use'],
  windowed: readonly number[],
): Promise<SeriesSamples[]> {
  const main = []
  const beside = []
  for (const day of [0, 1, 2]) {
    const own = points.filter(({ time }) => time >= day0 + day * DAY && time < day0 + (day + 1) * DAY)
    if (own.length === 0) continue
    if (!windowed.includes(day)) {
      main.push(answerOf(seriesOf(runOf(own))))
      continue
    }
    const made = new Map<Aggregate, SeriesSamples>(windowsOf(runOf(own), R).map(([name, run]) => [name, seriesOf(run)]))
    const of = (name: Aggregate | undefined) => {
      const found = name && made.get(name)
      return found === undefined || found.times.length === 0 ? [] : [answerOf(found)]
    }
    main.push(...of(aggregateOf(use)))
    beside.push(...of(besideOf(use)))
  }
  const spans = windowed.map((day) => ({ startMs: day0 + day * DAY, endMs: day0 + (day + 1) * DAY, lengthMs: R }))
  const { series } = await uniteWindows({ main, beside }, use, spans, UNHURRIED, () => {})
  return use === 'last' ? withSpans(series, spans) : series
}

const engine = createEngine({ ...ENGINE_DEFAULTS, clock: systemClock, enabledFeatures: new Set() })

/** The value at one time; undefined: none. */
async function at(
  text: string,
  timeMs: number,
  points: readonly Point[],
  windowed: readonly number[],
): Promise<number | undefined> {
  const source: SeriesSource = {
    windowFor: () => R,
    select: async (_, { windows }) => asked(points, windows!.use, windowed),
  }
  const request = { text, startMs: timeMs, endMs: timeMs, stepMs: 0, signal: new AbortController().signal }
  const { value } = await engine.query(request, source)
  return value.type === 'vector' ? value.samples[0]?.value : undefined
}

const aroundMidnight = anyPoints(day0 + 22 * HOUR)

/** Of both days, of one of them, of none. */
const anyDays = fc.constantFrom([0, 1], [0], [1], [])

const mostIn = (points: readonly Point[], spanMs: number) =>
  Math.max(...points.map(({ time }) => trueIncrease(points, time, time + spanMs)))

describe('functions over windows, and over windows and samples', () => {
  it('count, sum, min, max and avg are those of the samples but for one window at either end', async () => {
    await fc.assert(
      fc.asyncProperty(
        ...([aroundMidnight, anyDays, fc.integer({ min: 0, max: 6 * 60 }), fc.integer({ min: 25, max: 300 })] as const),
        async (points, days, from, minutes) => {
          const startMs = day0 + 21 * HOUR + from * MINUTE
          const endMs = startMs + minutes * MINUTE
          const of = (name: string) => at(`${name}_over_time(x_total[${minutes}m])`, endMs, points, days)
          const within = (a: number, b: number) =>
            points.flatMap(({ time, value }) => (time > a && time <= b && value !== 'stale' ? value : []))
          const inner = within(startMs, endMs - R)
          const outer = within(startMs - R, endMs)
          const count = (await of('count')) ?? 0
          expect(count).toBeGreaterThanOrEqual(inner.length)
          expect(count).toBeLessThanOrEqual(outer.length)
          const min = (await of('min')) ?? Infinity
          expect(min).toBeGreaterThanOrEqual(Math.min(...outer))
          expect(min).toBeLessThanOrEqual(Math.min(...inner))
          const max = (await of('max')) ?? -Infinity
          expect(max).toBeLessThanOrEqual(Math.max(...outer))
          expect(max).toBeGreaterThanOrEqual(Math.max(...inner))
          if (count > 0) expect(await of('avg')).toBeCloseTo((await of('sum'))! / count, 12)
        },
      ),
      { numRuns: 150 },
    )
  })

  it('an increase is off by at most what the counter grew in two windows, also across midnight and resets', async () => {
    await fc.assert(
      fc.asyncProperty(
        ...([anyCounter, anyDays, fc.integer({ min: 0, max: 60 }), fc.integer({ min: 25, max: 120 })] as const),
        async (points, days, from, minutes) => {
          const startMs = points[0]!.time + 2 * R + from * MINUTE
          const endMs = startMs + minutes * MINUTE
          if (endMs > points.at(-1)!.time - R) return
          const found = (await at(`increase(x_total[${minutes}m])`, endMs, points, days))!
          const bound = mostIn(points, 2 * R + MINUTE)
          expect(Math.abs(found - trueIncrease(points, startMs, endMs))).toBeLessThanOrEqual(bound * (1 + 1e-9))
        },
      ),
      { numRuns: 150 },
    )
  })

  it('an instant selector has a sample at most one window older than the newest, and none that has ended', async () => {
    await fc.assert(
      fc.asyncProperty(aroundMidnight, anyDays, fc.integer({ min: 0, max: 400 }), async (points, days, from) => {
        const timeMs = day0 + 22 * HOUR + from * MINUTE
        const found = await at('x_total', timeMs, points, days)
        const older = points.filter(({ time }) => time > timeMs - R - ENGINE_DEFAULTS.lookbackMs && time <= timeMs)
        const newest = older.at(-1)
        if (found !== undefined) expect(older.map(({ value }) => value)).toContain(found)
        const isLong = newest !== undefined && older.every(({ value }) => value !== 'stale')
        if (isLong && newest.time > timeMs - ENGINE_DEFAULTS.lookbackMs && points[0]!.time <= timeMs - R) {
          expect(found).toBeDefined()
        }
      }),
      { numRuns: 150 },
    )
  })
})
