// Reading a block of many series leaves others their turn: each of its loops looks whether it is time.
import { expect, test } from 'vitest'
import { labelsFrom } from '../../../../shared/model/labels.ts'
import { GROUP } from '../../../../shared/tsdb/block/layout.ts'
import { BlockReader } from '../../../../shared/tsdb/block/reader.ts'
import { buildBlock, EVER, floatAt, type Series } from './blocks.ts'

const COUNT = 6_400
const GROUPS = COUNT / GROUP
const block = await buildBlock(
  Array.from(
    { length: COUNT },
    (_, i): Series => ({
      labels: labelsFrom({ __name__: 'wide', pod: `pod-${(i * 7919) % COUNT}` }),
      samples: [floatAt(1_000, i)],
    }),
  ),
)

function looks() {
  let count = 0
  let pauses = 0
  const isDue = () => {
    count++
    return true
  }
  const breathe = async () => {
    pauses++
  }
  return { breath: { isDue, breathe }, counts: () => [count, pauses] as const }
}

test('opening it looks once for each group of symbols, and of values', async () => {
  const { breath, counts } = looks()
  await BlockReader.open(block.files, block.meta, { breath })
  const [count, pauses] = counts()
  expect(pauses).toBe(count)
  expect(count).toBeGreaterThanOrEqual(2 * GROUPS)
})

test('finding its series looks for each list and series, and each group that is decoded', async () => {
  const reader = await BlockReader.open(block.files, block.meta)
  const { breath, counts } = looks()
  const values = Array.from({ length: COUNT }, (_, i) => `pod-${i}`).join('|')
  let found = 0
  for await (const batch of reader.series([{ name: 'pod', operator: '=~', value: values }], EVER, { breath }))
    found += batch.length
  expect(found).toBe(COUNT)
  const [count, pauses] = counts()
  expect(pauses).toBe(count)
  expect(count).toBeGreaterThanOrEqual(2 * COUNT + 2 * GROUPS)
})
