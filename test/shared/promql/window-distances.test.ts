// The distance of samples at either end of a range that windows and samples share.
import { describe, expect, test } from 'vitest'
import { distancesAt } from '../../../shared/promql/functions/window-distances.ts'

const span = { startMs: 0, endMs: 3_600_000, lengthMs: 300_000 }
const inWindows = Array.from({ length: 12 }, (_, i) => (i + 1) * 300_000 - 7_000)
const after = Array.from({ length: 40 }, (_, i) => 3_600_000 + 7_000 + i * 30_000)
const before = Array.from({ length: 40 }, (_, i) => -1_200_000 + 7_000 + i * 30_000)
const of = (...parts: number[][]) => Float64Array.from(parts.flat())

describe('distances', () => {
  test.each([
    ['windows, then samples', of(inWindows, after), { atStart: 300, atEnd: 30 }],
    ['samples, then windows', of(before, inWindows), { atStart: 30, atEnd: 300 }],
    ['samples on both sides', of(before, inWindows, after), { atStart: 30, atEnd: 30 }],
    ['windows alone, some of them missing', of(inWindows.filter((_, i) => i % 3 > 0)), { atStart: 300, atEnd: 300 }],
    ['one sample before windows says nothing', of(before.slice(-1), inWindows), { atStart: undefined, atEnd: 300 }],
    ['samples alone', of(after), {}],
  ])('%s', (_, times, wanted) => {
    expect(distancesAt(times, 0, times.length, [span])).toEqual(wanted)
  })

  test('of windows of two lengths each end has its own', () => {
    const long = { startMs: -7_200_000, endMs: 0, lengthMs: 3_600_000 }
    expect(distancesAt(of([-3_600_007, -7], inWindows), 0, 14, [long, span])).toEqual({ atStart: 3_600, atEnd: 300 })
  })

  test('only the samples that are asked for count', () => {
    const times = of(inWindows, after)
    expect(distancesAt(times, 12, times.length, [span])).toEqual({})
    expect(distancesAt(times, 11, times.length, [span])).toEqual({ atStart: 300, atEnd: 30 })
    expect(distancesAt(times, 0, 1, [span])).toEqual({})
    expect(distancesAt(times, 0, 9, undefined)).toEqual({})
  })
})
