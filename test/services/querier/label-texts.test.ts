// Label values may hold any character: no answer takes one series for another because of what its labels hold.

import { expect, it } from 'vitest'
import { BlockAnswer } from '../../../services/querier/read/block-answer.ts'
import { united } from '../../../services/querier/split/part-result.ts'
import { UNHURRIED } from '../../../shared/base/breathing.ts'
import type { Labels } from '../../../shared/model/labels.ts'
import { ReadChunk } from '../../../shared/tsdb/block/series.ts'
import { ENCODING_XOR, encodeXor, wordsOf, xorBytesMax } from '../../../shared/tsdb/chunk/xor.ts'

const MINUTE_MS = 60_000
const one: Labels = ['a', '1ÿbÿ2']
const two: Labels = ['a', '1', 'b', '2']

it('a range query in parts joins only equal series', async () => {
  const series = (labels: Labels, value: number) => ({ labels, values: Float64Array.of(value, value) })
  const read = { series: 2, samples: 2, bytes: 0, blockBytes: 0 }
  const parts = [0, 1].map((part) => ({
    steps: { startMs: 2 * part * MINUTE_MS, endMs: (2 * part + 1) * MINUTE_MS, stepMs: MINUTE_MS },
    reply: { annotations: [], warnings: [], read, state: '', series: [series(one, 1), series(two, 2)] },
  }))
  const { value } = await united(parts, 'm', UNHURRIED)
  if (value.type !== 'matrix') throw new Error(`a ${value.type} came`)
  const rows = value.series.map(({ labels, values }) => [labels, [...values]])
  expect(rows).toHaveLength(2)
  expect(rows).toContainEqual([one, [1, 1, 1, 1]])
  expect(rows).toContainEqual([two, [2, 2, 2, 2]])
})

it('a block answers with the projected labels of each series', async () => {
  const hidden = { isEmpty: true, of: () => [] }
  const answer = new BlockAnswer({ range: { startMs: 0, endMs: 10 }, mode: 'all', hidden, names: ['a', 'b'] })
  const source = new Uint8Array(xorBytesMax(1))
  const end = encodeXor(Float64Array.of(5), wordsOf(Float64Array.of(1)), 0, 1, source, 0)
  const chunk = new ReadChunk({ encoding: ENCODING_XOR, source, start: 0, end, count: 1, minTime: 5, maxTime: 5 })
  for (const [ref, labels] of [one, two].entries())
    await answer.add({ labels, ref, hashA: ref, hashB: ref, chunks: [chunk] }, UNHURRIED)
  expect(answer.series.map(({ labels }) => labels)).toEqual([one, two])
})
