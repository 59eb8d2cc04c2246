import { expect, it } from 'vitest'
import { FrameBuilder } from '../../../services/ingester/read/frames.ts'
import { labelsFrom } from '../../../shared/model/labels.ts'
import { Head } from '../../../shared/tsdb/head/head.ts'
import { StringTable } from '../../../shared/tsdb/head/string-table.ts'

const RANGE = { startMs: 0, endMs: 10 }
const PODS = [
  { __name__: 'up', job: 'a', pod: '1' },
  { __name__: 'up', job: 'b', pod: '2' },
  { __name__: 'up', pod: '3' },
  { __name__: 'up', job: 'a', pod: '4', zone: 'x' },
]

function headOf(series: readonly Record<string, string>[]) {
  const table = new StringTable()
  const head = new Head(table)
  for (const labels of series) {
    const ref = head.series(labelsFrom(labels).map((text) => table.intern(text)))
    head.appendFloat(ref, 0, 5, Float64Array.of(ref), 0)
  }
  return { head, table }
}

it('label sets cut to the names asked for are told once and numbered across frames', () => {
  const { head, table } = headOf(PODS)
  const builder = new FrameBuilder(head, table, 'last', { names: ['job', 'unknown', 'zone'] })
  for (const ref of [0, 1]) builder.add(ref, RANGE)
  const first = builder.take()
  for (const ref of [2, 3, 0]) builder.add(ref, RANGE)
  const second = builder.take()
  expect(Buffer.from(first.strings).toString()).toBe('jobab')
  expect([first.labelCounts, first.labels, first.sets].map((column) => Array.from(column!))).toEqual([
    [1, 1],
    [0, 1, 0, 2],
    [0, 1],
  ])
  expect(Buffer.from(second.strings).toString()).toBe('zonex')
  expect([second.labelCounts, second.labels, second.sets].map((column) => Array.from(column!))).toEqual([
    [0, 2],
    [0, 1, 3, 4],
    [2, 3, 0],
  ])
  expect([first.hashes, second.hashes]).toEqual([undefined, undefined])
})

it('hashes depend on the whole label set and on nothing else', () => {
  const hashesOf = (series: readonly Record<string, string>[]) => {
    const { head, table } = headOf(series)
    const builder = new FrameBuilder(head, table, 'all', { names: [], wantsHashes: true })
    for (let ref = 0; ref < series.length; ref++) builder.add(ref, RANGE)
    const { hashes } = builder.take()
    return series.map((labels, i) => `${JSON.stringify(labels)} ${hashes![2 * i]} ${hashes![2 * i + 1]}`).sort()
  }
  const hashes = hashesOf(PODS)
  expect(hashesOf([...PODS].reverse())).toEqual(hashes)
  expect(new Set(hashes.map((text) => text.slice(text.indexOf('}')))).size).toBe(PODS.length)
})
