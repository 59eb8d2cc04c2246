import { expect, test } from 'vitest'
import { mergeExpositions } from '../../../shared/wire/exposition.ts'

test('EXPOSITION-1: families of several pages stand together', () => {
  const a =
    '# HELP up Is it up.\n# TYPE up gauge\nup 1\n# HELP d D.\n# TYPE d histogram\nd_bucket{le="1"} 2\nd_bucket{le="+Inf"} 3\nd_sum 4\nd_count 3\n'
  const b =
    '# HELP d Other words.\n# TYPE d histogram\nd_bucket{le="+Inf"} 1\nd_sum 1\nd_count 1\n\n# a comment\nup{x="1"} 0 1700000000000\n'
  const merged = mergeExpositions([
    { labels: { role: 'gateway', id: '1' }, text: a },
    { labels: { role: 'ingester' }, text: b },
  ])
  expect(merged).toBe(
    `${[
      '# HELP up Is it up.',
      '# TYPE up gauge',
      'up{role="gateway",id="1"} 1',
      'up{role="ingester",x="1"} 0 1700000000000',
      '# HELP d D.',
      '# TYPE d histogram',
      'd_bucket{role="gateway",id="1",le="1"} 2',
      'd_bucket{role="gateway",id="1",le="+Inf"} 3',
      'd_sum{role="gateway",id="1"} 4',
      'd_count{role="gateway",id="1"} 3',
      'd_bucket{role="ingester",le="+Inf"} 1',
      'd_sum{role="ingester"} 1',
      'd_count{role="ingester"} 1',
    ].join('\n')}\n`,
  )
})

test('EXPOSITION-2: a label of the same name is kept under another one, and values are escaped', () => {
  const text = 'a{role="own",path="C:\\\\x,y=\\"}{",} NaN\n'
  expect(mergeExpositions([{ labels: { role: 'q"\\\n' }, text }])).toBe(
    'a{role="q\\"\\\\\\n",exported_role="own",path="C:\\\\x,y=\\"}{"} NaN\n',
  )
})

test('EXPOSITION-3: broken lines are left out and counted', () => {
  expect(mergeExpositions([{ labels: {}, text: 'a 1\nb{ 2\nc\nd{x=1} 2\n' }])).toBe(
    'a 1\n# 3 lines were not understood and left out\n',
  )
  expect(mergeExpositions([])).toBe('')
})
