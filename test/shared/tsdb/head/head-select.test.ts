// Selecting: which series pass, which names and values they have, and what is shown of them.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { RefusedError } from '../../../../shared/base/errors.ts'
import { labelOf, labelsFrom } from '../../../../shared/model/labels.ts'
import type { Matcher, MatchOperator } from '../../../../shared/model/matcher.ts'
import { decodeXor } from '../../../../shared/tsdb/chunk/xor.ts'
import { Head } from '../../../../shared/tsdb/head/head.ts'
import { StringTable } from '../../../../shared/tsdb/head/string-table.ts'

const ALWAYS = { startMs: 0, endMs: 1_000_000 }

const SERIES: readonly Record<string, string>[] = [
  { __name__: 'up', job: 'api', instance: 'a:80' },
  { __name__: 'up', job: 'api', instance: 'b:80' },
  { __name__: 'up', job: 'db', instance: 'a:80', zone: 'z1' },
  { __name__: 'http_requests_total', job: 'api', code: '200' },
  { __name__: 'http_requests_total', job: 'api', code: '404' },
  { __name__: 'http_requests_total', job: 'web', code: '500', zone: 'line\nend' },
  { __name__: 'build', version: 'ü😀\uffff' },
]

function headOf(series: readonly Record<string, string>[]): Head {
  const strings = new StringTable()
  const head = new Head(strings)
  series.forEach((labels, i) => {
    const ref = head.series(labelsFrom(labels).map((text) => strings.intern(text)))
    expect(ref).toBe(i)
    head.appendFloat(ref, 1, 1000 * (i + 1), Float64Array.of(i), 0)
  })
  return head
}

function matcher(text: string): Matcher {
  const [, name, operator, value] = /^(\w+)(=~|!~|!=|=)([\s\S]*)$/.exec(text)!
  return { name: name!, operator: operator as MatchOperator, value: value! }
}

describe('select', () => {
  const head = headOf(SERIES)
  test.each<[string, number[]]>([
    ['__name__=up', [0, 1, 2]],
    ['__name__=up job=api', [0, 1]],
    ['__name__=~up|build', [0, 1, 2, 6]],
    ['__name__=~http_.*', [3, 4, 5]],
    ['__name__=~.+ zone=', [0, 1, 3, 4, 6]],
    ['zone!=', [2, 5]],
    ['zone!=z1', [0, 1, 3, 4, 5, 6]],
    ['zone=~.*', [0, 1, 2, 3, 4, 5, 6]],
    ['zone=~.+', [2, 5]],
    ['zone=~line.end', [5]],
    ['zone=~|z1', [0, 1, 2, 3, 4, 6]],
    ['code=~[24]0[04]', [3, 4]],
    ['code!~4.+ job=api', [0, 1, 3]],
    ['code!~.+', [0, 1, 2, 6]],
    ['code=~20', []],
    ['absent=', [0, 1, 2, 3, 4, 5, 6]],
    ['absent!=', []],
    ['absent=x', []],
    ['version=~ü.\uffff', [6]],
    ['job=api job!=api', []],
  ])('%s', (text, wanted) => {
    expect([...head.select(text.split(' ').map(matcher), ALWAYS)]).toEqual(wanted)
  })

  test('only series with chunks in the range pass', () => {
    expect([...head.select([matcher('__name__=up')], { startMs: 1500, endMs: 2000 })]).toEqual([1])
    expect(head.labelNames([], { startMs: 7000, endMs: 7000 })).toEqual(['__name__', 'version'])
    expect(head.labelValues('job', [], { startMs: 3000, endMs: 4000 })).toEqual(['api', 'db'])
  })

  test('equalities intersect lists of any lengths', () => {
    const many = Array.from({ length: 3000 }, (_, i) => ({
      a: String(i % 2),
      b: String(i % 7),
      c: String(Math.floor(i / 900)),
      d: String(Math.floor(Math.sqrt(i))),
      i: String(i),
    }))
    const large = headOf(many)
    for (const text of [
      'a=1 b=3',
      'b=3 c=2',
      'c=0 d=29',
      'a=0 b=6 c=3',
      'd=54 b=5 a=1',
      'c=3 d=3',
      'a=1 c=~1|9 b!=2',
    ]) {
      const matchers = text.split(' ').map(matcher)
      const passes = (labels: Record<string, string>) =>
        matchers.every(({ name, operator, value }) => {
          const isIn = value.split('|').includes(labels[name]!)
          return operator.startsWith('!') ? !isIn : isIn
        })
      const wanted = many.flatMap((labels, ref) => (passes(labels) ? [ref] : []))
      expect([text, ...large.select(matchers, { startMs: 0, endMs: 10_000_000 })]).toEqual([text, ...wanted])
    }
  })

  test('a pattern that RE2 does not take is refused', () => {
    for (const pattern of ['(', 'a(?=b)', '(a)\\1', 'x{2000}']) {
      const select = () => head.select([{ name: 'job', operator: '=~', value: pattern }], ALWAYS)
      expect(select).toThrow(RefusedError)
      expect(select).toThrow(expect.objectContaining({ code: 'err-carillon-bad-matcher' }))
    }
  })

  test('names and values come sorted by bytes, those of the selected series only', () => {
    expect(head.labelNames([], ALWAYS)).toEqual(['__name__', 'code', 'instance', 'job', 'version', 'zone'])
    expect(head.labelNames([matcher('job=db')], ALWAYS)).toEqual(['__name__', 'instance', 'job', 'zone'])
    expect(head.labelValues('job', [], ALWAYS)).toEqual(['api', 'db', 'web'])
    expect(head.labelValues('job', [matcher('code!=')], ALWAYS)).toEqual(['api', 'web'])
    expect(head.labelValues('zone', [matcher('job=api')], ALWAYS)).toEqual([])
    const odd = headOf(['\u{1f600}', '\uffff', 'z', 'ü'].map((value) => ({ odd: value })))
    expect(odd.labelValues('odd', [], ALWAYS)).toEqual(['z', 'ü', '\uffff', '\u{1f600}'])
  })

  test('any labels and matchers select what testing every series selects', () => {
    const value = fc.constantFrom('', 'a', 'b', 'ab', 'c\n')
    const labels = fc.record({ x: value, y: value, z: value })
    const one = fc.record({
      name: fc.constantFrom('x', 'y', 'z', 'w'),
      operator: fc.constantFrom<MatchOperator>('=', '!=', '=~', '!~'),
      value: fc.constantFrom('', 'a', 'b', 'a|b', 'a.*', '.+', '.*', '[ab]+', 'a|', 'c.'),
    })
    fc.assert(
      fc.property(
        fc.uniqueArray(labels, { selector: (l) => JSON.stringify(labelsFrom(l)) }),
        fc.array(one, { maxLength: 4 }),
        (sets, matchers) => {
          const passes = (set: Record<string, string>, { name, operator, value: wanted }: Matcher): boolean => {
            const found = labelOf(labelsFrom(set), name)
            const isMatch = operator.endsWith('~') ? new RegExp(`^(?:${wanted})$`, 's').test(found) : found === wanted
            return operator.startsWith('!') ? !isMatch : isMatch
          }
          const wanted = sets.flatMap((set, ref) => (matchers.every((m) => passes(set, m)) ? [ref] : []))
          expect([...headOf(sets).select(matchers, ALWAYS)]).toEqual(wanted)
        },
      ),
    )
  })

  test('a label set has one ref and gives its labels back', () => {
    const strings = new StringTable()
    const many = new Head(strings)
    const refs = new Map<string, number>()
    for (let i = 0; i < 3000; i++) {
      const labels = labelsFrom({ __name__: `m${i % 7}`, a: `${i % 1000}`, b: `${i % 13}` })
      const numbers = Uint32Array.from([0, ...labels.map((text) => strings.intern(text)), 0])
      const ref = many.series(numbers, 1, numbers.length - 1)
      const key = labels.join()
      expect(refs.get(key) ?? ref).toBe(ref)
      refs.set(key, ref)
      expect(many.labelsOf(ref)).toEqual(labels)
      expect([...many.labelRefsOf(ref)]).toEqual([...numbers.subarray(1, -1)])
    }
    expect(many.seriesCount).toBe(refs.size)
  })
})

describe('chunks', () => {
  test('HEAD-1: chunks end at the count and at the segment, and come by min time', () => {
    const strings = new StringTable()
    const head = new Head(strings)
    const ref = head.series([strings.intern('__name__'), strings.intern('x')])
    const values = Float64Array.of(1, 2, 3)
    for (let i = 0; i < 250; i++) head.appendFloat(ref, 1, 10_000 + i, values, i % 3)
    for (let i = 0; i < 10; i++) head.appendFloat(ref, 2, 10_245 + i, values, i % 3)
    for (let i = 0; i < 5; i++) head.appendFloat(ref, 2, 5_000 - i, values, i % 3)
    const shown: unknown[] = []
    head.chunksOf(ref, { startMs: 0, endMs: 20_000 }, (encoding, bytes, minTime, maxTime, count, segment) => {
      const times = new Float64Array(count)
      decodeXor(bytes, 0, bytes.length, times, new Float64Array(count), 0)
      expect([times[0], times[count - 1]]).toEqual([minTime, maxTime])
      shown.push([encoding, minTime, maxTime, count, segment])
    })
    expect(shown).toEqual([
      [1, 4_996, 5_000, 5, 2],
      [1, 10_000, 10_119, 120, 1],
      [1, 10_120, 10_239, 120, 1],
      [1, 10_240, 10_249, 10, 1],
      [1, 10_245, 10_254, 10, 2],
    ])
  })

  test('exemplars are kept once, the newest of them', () => {
    const strings = new StringTable()
    const head = new Head(strings, { exemplarsMax: 3 })
    for (let round = 0; round < 2; round++) {
      for (let i = 0; i < 5; i++) head.appendExemplar(i % 2, { time: i, value: i, labels: ['trace_id', `t${i}`] })
    }
    expect(head.exemplarsOf(0, ALWAYS).map(({ time }) => time)).toEqual([2, 4])
    expect(head.exemplarsOf(1, ALWAYS).map(({ time }) => time)).toEqual([3])
  })
})
