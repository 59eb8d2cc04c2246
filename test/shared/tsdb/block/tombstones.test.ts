import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BlockCorruptError } from '../../../../shared/tsdb/block/files.ts'
import { readTombstones, writeTombstones } from '../../../../shared/tsdb/block/tombstones.ts'

const stones = [
  { ref: 16, startMs: -5, endMs: 2 ** 50 },
  { ref: 3, startMs: 10, endMs: 20 },
  { ref: 3, startMs: 21, endMs: 30 },
  { ref: 3, startMs: 40, endMs: 40 },
]

describe('tombstones', () => {
  test('come back by series and time, joined where they touch', () => {
    expect(readTombstones(writeTombstones(stones))).toEqual([
      { ref: 3, startMs: 10, endMs: 30 },
      { ref: 3, startMs: 40, endMs: 40 },
      { ref: 16, startMs: -5, endMs: 2 ** 50 },
    ])
    expect(readTombstones(writeTombstones([]))).toEqual([])
  })

  test('reading what was read writes the same bytes', () => {
    const time = fc.integer({ min: -(2 ** 52), max: 2 ** 52 })
    const stone = fc.record({ ref: fc.nat(), startMs: time, length: fc.nat() })
    fc.assert(
      fc.property(fc.array(stone), (list) => {
        const bytes = writeTombstones(
          list.map(({ ref, startMs, length }) => ({ ref, startMs, endMs: startMs + length })),
        )
        expect(writeTombstones(readTombstones(bytes))).toEqual(bytes)
      }),
    )
  })

  test('a flipped bit and a shorter file are damage', () => {
    const good = writeTombstones(stones)
    for (let at = 0; at < good.length; at++) {
      const bad = Uint8Array.from(good)
      bad[at]! ^= 1 << (at % 8)
      expect(() => readTombstones(bad)).toThrow(BlockCorruptError)
      expect(() => readTombstones(good.subarray(0, at))).toThrow(BlockCorruptError)
    }
  })
})
