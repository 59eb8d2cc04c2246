// Random series, as floats with stale markers, and what their windows are held against.
import fc from 'fast-check'
import { STALE_HIGH, STALE_LOW } from '../../shared/model/sample.ts'
import { SampleColumns, type SampleRun } from '../../shared/tsdb/columns.ts'

export const MINUTE = 60_000
export const HOUR = 60 * MINUTE
export const DAY = 24 * HOUR
/** The length of a window. */
export const R = 5 * MINUTE
export const day0 = 19_000 * DAY

export interface Point {
  readonly time: number
  readonly value: number | 'stale'
}

export function runOf(points: readonly Point[]): SampleRun {
  const columns = new SampleColumns(16)
  for (const { time, value } of points) {
    columns.pushBits(time, STALE_LOW, STALE_HIGH)
    if (value !== 'stale') columns.values[columns.count - 1] = value
  }
  return columns.asRun()
}

/** Up to 200 samples at odd times. */
export const anyPoints = (fromMs: number) =>
  fc
    .array(
      fc.record({
        stepMs: fc.integer({ min: 1, max: 3 * MINUTE }),
        value: fc.oneof({ weight: 12, arbitrary: fc.integer({ min: -50, max: 50 }) }, fc.constant('stale' as const)),
      }),
      { minLength: 1, maxLength: 200 },
    )
    .map((steps) => {
      let time = fromMs
      return steps.map(({ stepMs, value }): Point => {
        time += stepMs
        return { time, value }
      })
    })

/** A counter scraped about every half minute, with resets, through midnight. */
export const anyCounter = fc
  .array(
    fc.record({
      stepMs: fc.integer({ min: 20_000, max: 40_000 }),
      growth: fc.integer({ min: 0, max: 20 }),
      resets: fc.integer({ min: 0, max: 60 }),
    }),
    {
      minLength: 200,
      maxLength: 400,
    },
  )
  .map((steps) => {
    let time = day0 + 22 * HOUR
    let value = 1000
    return steps.map(({ stepMs, growth, resets }): Point => {
      time += stepMs
      value = resets === 0 ? growth : value + growth
      return { time, value }
    })
  })

/** Of the samples in [startMs, endMs]. */
export function trueIncrease(points: readonly Point[], startMs: number, endMs: number): number {
  let total = 0
  for (let i = 1; i < points.length; i++) {
    const [before, after] = [points[i - 1]!, points[i]!]
    if (before.time < startMs || after.time > endMs) continue
    const [a, b] = [before.value as number, after.value as number]
    total += b < a ? b : b - a
  }
  return total
}
