import { expect, test } from 'vitest'
import { seededRandom } from '../../../shared/base/random.ts'
import { partitionOf, pieOf } from '../../../shared/ring/pie.ts'

function shares(partitionCount: number): number[] {
  const counts = new Array<number>(partitionCount).fill(0)
  for (const partition of pieOf(partitionCount)) counts[partition]!++
  return counts
}

test('PIE-3: partitions hold equally many tokens, one more or less', () => {
  for (const count of [1, 2, 3, 7, 64, 300, 1000, 1024]) {
    const counts = shares(count)
    expect(Math.max(...counts) - Math.min(...counts), `${count} partitions`).toBeLessThanOrEqual(1)
  }
})

test('PIE-2: new partitions take their share, and no token moves between old ones', () => {
  for (const [before, after] of [
    [1, 2],
    [4, 6],
    [4, 5],
    [100, 130],
    [600, 1024],
  ] as const) {
    const old = pieOf(before)
    const grown = pieOf(after)
    let moved = 0
    grown.forEach((partition, token) => {
      if (partition === old[token]) return
      expect(partition).toBeGreaterThanOrEqual(before)
      moved++
    })
    expect(moved / grown.length).toBeCloseTo(1 - before / after, 1)
  }
})

test('series spread evenly over partitions, also hashes that are numbers in a row', () => {
  const random = seededRandom(1)
  for (const hashAt of [(i: number) => i, () => random.below(2 ** 32)]) {
    const pie = pieOf(10)
    const counts = new Array<number>(10).fill(0)
    for (let i = 0; i < 100_000; i++) counts[partitionOf(hashAt(i), pie)]!++
    expect(Math.max(...counts)).toBeLessThan(10_500)
    expect(Math.min(...counts)).toBeGreaterThan(9_500)
  }
})

test('PIE-1: where a series goes never changes with the version', () => {
  expect(Array.from({ length: 12 }, (_, i) => partitionOf(i * 1_000_003, pieOf(6)))).toMatchInlineSnapshot(`
    [
      0,
      5,
      5,
      2,
      0,
      4,
      5,
      2,
      0,
      4,
      4,
      5,
    ]
  `)
})
